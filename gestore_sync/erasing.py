"""Applies the plan of a deletion, in the caller's transaction: sets links, deletes rows in bulk, logs both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import IntegrityError, connections
from django.db.models import Model

from gestore_sync.adapters import TreeChanges
from gestore_sync.conf import get_option
from gestore_sync.constraints import find_immediate
from gestore_sync.deletionlog import DeletionLog
from gestore_sync.dooming import DeletionPlan
from gestore_sync.exceptions import LinkCycle, WriteFailed
from gestore_sync.failures import Attempts, first_line
from gestore_sync.links import FOREIGN, Link
from gestore_sync.muting import mute
from gestore_sync.ordering import get_links, sort_models
from gestore_sync.progress import Progress
from gestore_sync.reading import (
    KEYS_PER_QUERY,
    find_existing,
    get_keys_per_query,
    get_queryset,
    iter_rows,
    match_keys,
)
from gestore_sync.references import get_set_fields, get_set_value
from gestore_sync.refs import Key, Ref, iter_chunks
from gestore_sync.sending import DELETING, Sender


class Refusals(Attempts):
    """Names the row at which the database refuses a batch."""

    def _explain(self, ref: Ref, using: str, reason: str) -> WriteFailed:
        explained = super()._explain(ref, using, reason)
        return WriteFailed(
            f"The database {using!r} refuses to delete {ref}, or to change it: {reason}. Nothing was deleted.",
            failure=explained.failure,
            ref=ref,
        )

    def check_constraints(self) -> None:
        """Check now what the database would check at the commit."""
        try:
            connections[self.target].check_constraints()
        except IntegrityError as error:
            raise WriteFailed(
                f"The database {self.target!r} refuses the deletion: {first_line(error)}. Nothing was deleted. "
                "Run again if somebody has written that row meanwhile."
            ) from error


class Eraser:
    """Applies one plan."""

    def __init__(self, plan: DeletionPlan, progress: Progress | None = None) -> None:
        self.plan = plan
        self.progress = progress or Progress()
        self.graph = plan.graph
        self.using = plan.graph.using
        self.sender = Sender(self.using, self.graph)
        self.attempts = Refusals(self.using, self.using)
        self.log = DeletionLog(self.using, plan.doomed)
        self._trees: dict[type[Model], TreeChanges] = {}

    def apply(self) -> None:
        """Do everything. Raises :class:`WriteFailed` that names the row that the database or a receiver refuses."""
        if connections[self.using].vendor == "sqlite":
            with connections[self.using].cursor() as cursor:
                cursor.execute("PRAGMA defer_foreign_keys = ON")
        self.progress.start("deleting", sum(self.plan.report.deleted.values()))
        for link, keys in self.plan.released.items():
            self._set(link, keys)
        models = list(self.plan.doomed.keys)
        order = sort_models(models, get_links(self.graph, models), lambda link: int(link.required))
        layered = self._cut_cycles(order)
        for model in reversed(order):
            self._note_tree(model)
            for keys in self._iter_batches(model, layered.get(model)):
                self._delete(model, keys)
        for model, changes in self._trees.items():
            adapter = self.graph.find_adapter(model)
            if adapter is not None:
                adapter.mend(model, self.using, changes)
        if connections[self.using].vendor != "sqlite":
            self.attempts.check_constraints()

    # Links

    def _set(self, link: Link, keys: Sequence[Key]) -> None:
        """Set a link of rows that stay to what its ``on_delete`` says."""
        value = get_set_value(link, self.using)
        self._check_value(link, value)

        def update(some: Sequence[Key]) -> None:
            self._update(link, some, value)

        for chunk in iter_chunks(keys, self._get_batch_size(link.model)):
            self.attempts.write(link.model, chunk, chunk, update)
            self.log.write(self.log.make_changes(link.model, chunk))

    def _check_value(self, link: Link, value: Any) -> None:
        """Raise :class:`WriteFailed` where a link would be set to an object that is not there, or goes."""
        if value is None or link.target is None or hasattr(value, "resolve_expression"):
            return
        name = link.to_field or "pk"
        found = get_queryset(link.target, self.using).filter(**{name: value}).values_list("pk", flat=True).first()
        if found is None or (link.target, found) in self.plan.doomed:
            missing = "is not there" if found is None else "is deleted, too"
            raise WriteFailed(
                f"{link} is to be set to the {link.target._meta.label} {value}, which {missing}. Nothing was deleted. "
                "Let these rows point elsewhere first."
            )

    def _update(self, link: Link, keys: Sequence[Key], value: Any) -> None:
        values = dict.fromkeys(get_set_fields(link), value)
        for chunk in iter_chunks(keys, get_keys_per_query(link.model, self.using)):
            get_queryset(link.model, self.using).filter(match_keys(link.model, chunk)).update(**values)

    def _cut_cycles(self, order: Sequence[type[Model]]) -> dict[type[Model], Link]:
        """Null optional links, among rows that go, that the database would check before both ends are gone.

        Returns the links of models to themselves that are required: rows go before what they point to. Raises
        :class:`LinkCycle` for other required ones.
        """
        place = {model: number for number, model in enumerate(order)}
        against = [
            link
            for model in order
            for link in self.graph.forward[model]
            if link.kind == FOREIGN and link.target in place and place[link.target] >= place[model]
        ]
        layered: dict[type[Model], Link] = {}
        for link in sorted(find_immediate(self.using, against) if against else (), key=lambda link: link.name):
            if not link.required:
                self._null(link)
            elif link.target is link.model:
                layered[link.model] = link
            else:
                raise LinkCycle(
                    f"Required links form a cycle, and {self.using!r} checks them with each statement: "
                    f"{link} is one of them. Nothing was deleted. Make its constraint deferrable, or the field null."
                )
        return layered

    def _null(self, link: Link) -> None:
        """Null a link among rows that go, which is no news."""

        def null(some: Sequence[Key]) -> None:
            self._update(link, some, None)

        with mute(self.using, link.model):
            for chunk in iter_chunks(self.plan.doomed.get(link.model), self._get_batch_size(link.model)):
                self.attempts.write(link.model, chunk, chunk, null)

    # Rows

    def _get_batch_size(self, model: type[Model]) -> int:
        wanted: int = get_option("BATCH_SIZE")
        return min(wanted, get_keys_per_query(model, self.using))

    def _iter_batches(self, model: type[Model], link: Link | None) -> Iterator[list[Key]]:
        """The keys of the rows that go, in batches. ``link``: rows go before what they point to by it."""
        keys = self.plan.doomed.get(model)
        for layer in [keys] if link is None else iter_layers(link, self.using, keys):
            yield from iter_chunks(layer, self._get_batch_size(model))

    def _delete(self, model: type[Model], keys: Sequence[Key]) -> None:
        is_heard = self.sender.is_heard(model, DELETING)
        is_logged = not is_heard and self.log.write_deletions(model, keys)
        entries = [] if is_logged else self.log.make_deletions(model, keys)
        self.sender.around_delete(
            model, keys, lambda: self.attempts.write(model, keys, keys, lambda some: self._erase(model, some))
        )
        self.log.write(entries)
        self.progress.advance(len(keys))

    def _erase(self, model: type[Model], keys: Sequence[Key]) -> None:
        """Delete rows; what a trigger of the database keeps is an error."""
        rows = get_queryset(model, self.using).filter(match_keys(model, keys))
        if rows._raw_delete(self.using) < len(keys) and (kept := find_existing(model, self.using, keys)):
            raise WriteFailed(
                f"The database {self.using!r} keeps {Ref(model, min(kept, key=str))}, without an error: a trigger, a "
                "rule or a policy of its own does that. Nothing was deleted."
            )

    def _note_tree(self, model: type[Model]) -> None:
        """Keep in mind which nodes that stay lose children."""
        adapter = self.graph.find_adapter(model)
        if adapter is not None:
            changes = self._trees[model] = TreeChanges()
            for keys in iter_chunks(self.plan.doomed.get(model), KEYS_PER_QUERY):
                parents = {node.parent for node in adapter.read(model, self.using, keys).values()}
                changes.bereaved += [
                    parent for parent in parents if parent is None or (model, parent) not in self.plan.doomed
                ]


def iter_layers(link: Link, using: str, keys: Sequence[Key]) -> Iterator[list[Key]]:
    """``keys`` in an order in which rows come before what they point to by ``link``; a cycle of rows comes at once."""
    targets: dict[Key, Key] = dict(iter_rows(link.model, using, keys, link.key_paths[:1]))
    pointed = Counter(target for pk, target in targets.items() if target in targets)
    left = dict.fromkeys(targets)
    layer = [key for key in left if not pointed[key]]
    while layer:
        yield layer
        following = []
        for key in layer:
            del left[key]
            target = targets[key]
            pointed[target] -= 1
            if target in left and not pointed[target]:
                following.append(target)
        layer = following
    if left:
        yield list(left)

"""A push in parts: which new objects may be committed after the rest, and applying them part by part.

The first part is the transaction of the plan: all that depends on what the target holds is written in it, and all that
a run afterwards could not complete. What is left are new owned objects whose links lead to what is there by then. A run
that is cut between two parts has left those before it, with their id mappings; the next one finds them and goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Model
from django.utils import timezone

from gestore_sync.constraints import defer_constraints
from gestore_sync.deferral import Deferral
from gestore_sync.executor import Executor
from gestore_sync.generic import find_generic_target
from gestore_sync.identity import has_automatic_key
from gestore_sync.keysets import make_key_list
from gestore_sync.links import Link
from gestore_sync.models import SyncRun
from gestore_sync.needs import REFERRED
from gestore_sync.plan import Create, Operation, Report
from gestore_sync.planner import Planner
from gestore_sync.progress import Progress
from gestore_sync.reading import find_existing, get_queryset, iter_rows
from gestore_sync.references import forget_around
from gestore_sync.refs import NEW, Ref, dump_pk
from gestore_sync.runs import insert_run
from gestore_sync.scope import Role


class Cut:
    """How the new objects of a plan are cut. ``first``: labels of the models all of whose new objects are in the first
    part; ``later``: the other models with new objects.

    The plan was made, and no key was reserved yet.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._forward = planner.subgraph.graph.forward
        created = planner.plan.report.created
        self._targets: dict[type[Model], set[type[Model]]] = {}
        self._created = [model for model in planner.plan.models if created[model._meta.label]]
        together = self._find_together()
        self.first = {model._meta.label for model in together}
        self.later = [model for model in self._created if model not in together]

    def _find_together(self) -> set[type[Model]]:
        """The models of the first part: those with a reason of their own, and whatever these point to."""
        found: set[type[Model]] = set()
        following = {model for model in self._created if self._must_be_first(model)} | self._find_updated_to()
        while following:
            found |= following
            following = {target for model in following for target in self._find_targets_of_new(model)} - found
        return found

    def _must_be_first(self, model: type[Model]) -> bool:
        """Whether objects are referred to, which the next run would leave as they are; stand in a tree; have rows in
        several tables; or point, by whatever links, to others that are written no earlier."""
        graph, counterparts, subgraph = self._planner.subgraph.graph, self._planner.counterparts, self._planner.subgraph
        if graph.find_adapter(model) is not None:
            return True
        if any(link.parent_link and link.target in self._created for link in self._forward[model]):
            return True
        if any(
            subgraph.is_needed(model, key) and counterparts.get(model, key) is NEW
            for key in subgraph.iter_keys(model, *REFERRED)
        ):
            return True
        no_earlier = set(self._created[self._created.index(model) :])
        if self._is_generic(model):
            if any(link.target is model for other in self._created for link in self._forward[other]):
                return True
            no_earlier = {other for other in no_earlier if self._is_generic(other)}
        return bool(self._find_targets_of_new(model) & no_earlier)

    def _find_targets_of_new(self, model: type[Model]) -> set[type[Model]]:
        """The models with new objects to which the new objects of a model lead: by a generic link those of their
        content types."""
        if model not in self._targets:
            links = self._forward[model]
            found = self._find_targets([link for link in links if link.target is not None])
            types = {pk for link in links if link.target is None for pk in self._iter_types_of_new(link)}
            pointed_at = {find_generic_target(self._planner.source, pk) for pk in types}
            self._targets[model] = found | {other for other in self._created if other in pointed_at}
        return self._targets[model]

    def _iter_types_of_new(self, link: Link) -> Iterator[int]:
        """The content types that new objects have in a generic link, again and again."""
        model, planner = link.model, self._planner
        keys = make_key_list(model)
        keys.extend(
            key for key in planner.subgraph.iter_keys(model, *Role) if planner.counterparts.get(model, key) is NEW
        )
        for _, pk in iter_rows(model, planner.source, keys, [link.attnames[0]]):
            if pk is not None:
                yield pk

    def _find_updated_to(self) -> set[type[Model]]:
        """What rows that change may point to, or would if the target's values did not stay."""
        plan = self._planner.plan
        kept = {model for model, _ in plan.account.kept}
        changed = [model for model in plan.models if plan.report.updated[model._meta.label] or model in kept]
        return self._find_targets([link for model in changed for link in self._forward[model]])

    def _find_targets(self, links: Sequence[Link]) -> set[type[Model]]:
        """The models with new objects to which these links may lead: a generic one to any."""
        if any(link.target is None for link in links):
            return set(self._created)
        return {link.target for link in links if link.target is not None} & set(self._created)

    def _is_generic(self, model: type[Model]) -> bool:
        return any(link.target is None for link in self._forward[model])

    def iter_creates(self) -> Iterator[Create]:
        """The new objects of the later parts; those that point by generic links come last."""
        for generic in (False, True):
            labels = {model._meta.label for model in self.later if self._is_generic(model) is generic}
            if labels:
                for made in self._planner.plan.creates:
                    if isinstance(made, Create) and made.label in labels:
                        yield made


def iter_parts(creates: Iterator[Create], size: int) -> Iterator[list[Create]]:
    """The new objects in lists that hold ``size`` rows together, the last one fewer."""
    part: list[Create] = []
    room = size
    for made in creates:
        rows = made.rows
        while rows:
            part.append(Create(made.label, rows[:room]))
            rows = rows[room:]
            room -= len(part[-1].rows)
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part


class PartExecutor(Executor):
    """Applies a plan whose new objects are cut: ``apply`` writes the first part, ``apply_part`` a later one, each in
    the caller's transaction. ``committed`` counts the objects that were created; ``last``: the record of the last part.
    """

    def __init__(self, planner: Planner, progress: Progress, size: int) -> None:
        super().__init__(planner, progress)
        self._cut = Cut(planner)
        self._size = size
        created = planner.plan.report.created
        first = Counter({label: number for label, number in created.items() if label in self._cut.first})
        self.committed: Counter[str] = Counter()
        self.last: UUID | None = None
        self.plan = replace(self.plan, report=replace(self.plan.report, created=first))

    def apply(self, uuid: UUID | None = None, entries: Sequence[list[int]] | None = None) -> None:
        self.last = uuid or uuid4()
        super().apply(self.last, entries)
        for model in self._cut.later:
            if has_automatic_key(model):
                keys = self.counterparts.maps[model].items()
                self.writer.hold(model, max(target for _, target in keys if isinstance(target, int)))
        self.committed = Counter(self.plan.report.created)

    def _iter_operations(self) -> Iterator[Operation]:
        for operation in super()._iter_operations():
            if not isinstance(operation, Create) or operation.label in self._cut.first:
                yield operation

    def iter_parts(self) -> Iterator[list[Create]]:
        """The later parts."""
        return iter_parts(self._cut.iter_creates(), self._size)

    def is_alone(self) -> bool:
        """Whether no other run has written to the target since the last part."""
        found: Any = get_queryset(SyncRun, self.target).order_by("-pk").values_list("uuid", flat=True).first()
        return bool(found == self.last)

    def find_gone(self, part: Sequence[Create]) -> Ref | None:
        """An object of a later part that the source has deleted since the plan was made."""
        for operation in part:
            model, keys = self._models[operation.label], [row[0] for row in operation.rows]
            gone = set(keys) - find_existing(model, self.source, keys)
            if gone:
                return Ref(model, min(gone, key=dump_pk))
        return None

    def apply_part(self, part: Sequence[Create], uuid: UUID) -> None:
        """Write a later part, with a record of its own. Links are checked by the commit: to check them before would
        take longer with each part on databases that look at the whole table."""
        started = timezone.now()
        defer_constraints(self.target)
        self.journal = self._make_journal()
        self.creator.prepare(self.plan.models, self.graph, self.journal)
        self._deferral = Deferral(self.plan.deferred)
        with self.background:
            for operation in part:
                self._create(operation)
                self.journal.flush()
            self.creator.finish()
        self._write_deferred()
        forget_around(self.store, self.graph)
        self.journal.write()
        self.rows.check_doubts(self.counterparts)
        counts = Report(created=count_rows(part))
        insert_run(self.store, replace(self.plan, report=counts), started, uuid, None)

    def note_committed(self, part: Sequence[Create], uuid: UUID) -> None:
        """A later part is committed."""
        self.last = uuid
        self.committed += count_rows(part)


def count_rows(part: Sequence[Create]) -> Counter[str]:
    """How many objects of each model a part creates."""
    counts: Counter[str] = Counter()
    for operation in part:
        counts[operation.label] += len(operation.rows)
    return counts

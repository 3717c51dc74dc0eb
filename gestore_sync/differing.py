"""Compares what belongs to some roots in two databases. Only reads.

Objects are compared by identity, as a push finds them, and links by what they point to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.comparison import FAIL
from gestore_sync.failures import read_natural_keys
from gestore_sync.layouts import Layout, get_batch_size
from gestore_sync.mappings import MappingStore
from gestore_sync.needs import REFERRED
from gestore_sync.places import find_moved_nodes
from gestore_sync.plan import Report
from gestore_sync.planner import Planner
from gestore_sync.policies import Policies
from gestore_sync.progress import Progress
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref, iter_chunks
from gestore_sync.removals import Removals
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.times import Times
from gestore_sync.transactions import read_snapshot
from gestore_sync.translation import LOST

KINDS = ("missing", "extra", "different")
ORDER = "order"
"""Stands for a field where a tree node has another place among its siblings."""


@dataclass
class Differences(Report):
    """What a comparison found: lists of ``{"model", "pk", "natural_key", "fields"}``.

    ``missing``: objects that the target lacks. ``extra``: rows of the target that hang on the root there and that the
    source does not have; their keys are the target's. ``different``: owned objects that differ, with the values of both
    sides by field.
    """

    missing: list[dict[str, Any]] = field(default_factory=list)
    extra: list[dict[str, Any]] = field(default_factory=list)
    different: list[dict[str, Any]] = field(default_factory=list)

    def get_all(self) -> list[dict[str, Any]]:
        """All of them."""
        return [*self.missing, *self.extra, *self.different]

    def as_dict(self) -> dict[str, Any]:
        """What ``--format json`` prints."""
        document = super().as_dict()
        for name in self.COUNTS:
            del document[name]
        return {**document, **{kind: getattr(self, kind) for kind in KINDS}}


Found = dict[tuple[str, type[Model], Key], dict[str, list[Any]]]
"""Differences with their fields, by kind, model and key."""


class Comparer(Planner):
    """One comparison, in the open transactions of both sides."""

    def __init__(self, subgraph: Subgraph, target: str, store: MappingStore, progress: Progress) -> None:
        super().__init__(subgraph, target, store, on_conflict=Policies(FAIL), progress=progress)
        self.found: Found = {}

    def compare(self) -> Found:
        """All differences."""
        order = self.locate()
        self.progress.start("comparing", self.subgraph.count())
        for model in order:
            self._compare_model(model)
        self._find_extra(order)
        return self.found

    def _compare_model(self, model: type[Model]) -> None:
        layout = self.get_layout(model)
        for keys in iter_chunks(list(self.subgraph.iter_keys(model, Role.OWN)), get_batch_size(model)):
            self._compare_batch(layout, keys)
            self.progress.advance(len(keys))
        for key in self.subgraph.iter_keys(model, *REFERRED):
            if self.subgraph.is_needed(model, key) and self.counterparts.get(model, key) is NEW:
                self.found["missing", model, key] = {}
        for key in find_moved_nodes(self.subgraph, model, self.target, self.counterparts):
            self.found.setdefault(("different", model, key), {})[ORDER] = [self.source, self.target]

    def _compare_batch(self, layout: Layout, keys: Sequence[Key]) -> None:
        model = layout.model
        targets = {key: self.counterparts.get(model, key) for key in keys}
        existing = [target for target in targets.values() if target is not NEW]
        theirs = {row[0]: layout.get_values(row) for row in layout.read(self.target, existing, extras=False)}
        for row in layout.read(self.source, keys):
            other = theirs.get(targets[row[0]])
            if other is None:
                self.found["missing", model, row[0]] = {}
                continue
            mine = layout.translate(row, self.counterparts, self.source)
            for number, value in enumerate(mine):
                if value is LOST and other[number] in (None, ""):
                    layout.clear_link(mine, number)
            differing = layout.find_differing(mine, other)
            if differing:
                raw = [*row[1 : len(layout.columns) + 1], *([row[layout.tree_at]] if layout.tree else [])]
                self.found["different", model, row[0]] = {
                    layout.names[at]: [raw[at] if mine[at] in (NEW, LOST) else mine[at], other[at]] for at in differing
                }

    def _find_extra(self, order: Sequence[type[Model]]) -> None:
        """Rows of the target that hang on owned ones there, and what hangs on those."""
        times = Times(self.store, self.find_date)
        removals = Removals(
            self.subgraph, self.target, self.store, self.counterparts, self.get_layout, self.on_conflict, times
        )
        frontier: dict[type[Model], list[Key]] = {}
        for model in order:
            found = (self.counterparts.get(model, key) for key in self.subgraph.iter_keys(model, Role.OWN))
            frontier[model] = [target for target in found if target is not NEW and target is not UNKNOWN]
        while any(frontier.values()):
            following: dict[type[Model], list[Key]] = {}
            for model, keys in frontier.items():
                for child, hanging, _is_member in removals.iter_owned(model, keys) if keys else ():
                    for key in hanging:
                        if not removals.is_claimed(child, key) and ("extra", child, key) not in self.found:
                            self.found["extra", child, key] = {}
                            following.setdefault(child, []).append(key)
            frontier = following


def find_differences(walk: Callable[[], Subgraph], source: str, target: str, progress: Progress) -> Differences:
    """Compare; what differs is looked at once more before it is told, since both sides are live."""
    report = Differences()
    found, report.conflicts = find_once(walk, source, target, progress)
    if found or report.conflicts:
        again, report.conflicts = find_once(walk, source, target, progress)
        found = {at: fields for at, fields in again.items() if at in found}
    for kind in KINDS:
        using = target if kind == "extra" else source
        getattr(report, kind).extend(iter_shown({at[1:]: found[at] for at in found if at[0] == kind}, using))
    number = len(report.get_all())
    report.message = str(_("Both databases have the same."))
    if number:
        text = ngettext("%(number)d object differs.", "%(number)d objects differ.", number)
        report.message = str(text) % {"number": number}
    return report


def find_once(
    walk: Callable[[], Subgraph], source: str, target: str, progress: Progress
) -> tuple[Found, list[dict[str, Any]]]:
    """The differences between one state of each database, and doubts about who is who."""
    with read_snapshot(source), read_snapshot(target):
        comparer = Comparer(walk(), target, MappingStore(source, target), progress)
        try:
            return comparer.compare(), comparer.plan.report.conflicts
        finally:
            comparer.plan.close()


def iter_shown(found: dict[Any, dict[str, list[Any]]], using: str) -> Iterator[dict[str, Any]]:
    """Differences of one kind as a report has them, with natural keys."""
    by_model: dict[type[Model], dict[Key, dict[str, list[Any]]]] = {}
    for (model, key), fields in found.items():
        by_model.setdefault(model, {})[key] = fields
    for model, of_model in sorted(by_model.items(), key=lambda item: item[0]._meta.label):
        natural_keys = read_natural_keys(model, using, list(of_model))
        for key, fields in of_model.items():
            ref = Ref(model, key)
            yield {
                "model": model._meta.label,
                "pk": str(ref).removeprefix(f"{model._meta.label}."),
                "natural_key": list(natural_keys[key]) if key in natural_keys else None,
                "fields": fields,
            }

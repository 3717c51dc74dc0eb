"""Compares what belongs to some roots in two databases. Only reads.

Objects are compared by identity, as a push finds them, and links by what they point to. What differs is kept as keys,
in a few bytes an object; only the first objects of each kind are kept with their fields, for people to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db.models import Model
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.batches import iter_batches
from gestore_sync.failures import read_natural_keys
from gestore_sync.keysets import make_key_list, make_key_set
from gestore_sync.layouts import Layout
from gestore_sync.mappings import MappingStore
from gestore_sync.needs import REFERRED
from gestore_sync.places import find_moved_nodes
from gestore_sync.plan import Account, Report
from gestore_sync.planner import Planner
from gestore_sync.reading import KEYS_PER_QUERY, find_existing
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref, iter_chunks, show_key
from gestore_sync.scope import Role
from gestore_sync.transactions import read_snapshot
from gestore_sync.translation import LOST

KINDS = ("missing", "extra", "different")
KEPT, LEFT = "kept", "left"
"""Further kinds, of a comparison after a push: fields in which it kept the target's values, and rows that should have
been deleted."""
ORDER = "order"
"""Stands for a field where a tree node has another place among its siblings."""
MAX_TOLD = 10_000
"""So many objects of a kind are told one by one; all are counted."""
ROOM = 16 * 1024 * 1024
"""So many characters of values are told whole; longer values are cut from then on."""
CUT = 200
KEYS_AT_ONCE = 1_000


@dataclass
class Differences(Report):
    """What a comparison found: lists of ``{"model", "pk", "natural_key", "fields"}``.

    ``missing``: objects that the target lacks. ``extra``: rows of the target that hang on the root there and that the
    source does not have; their keys are the target's. ``different``: owned objects that differ, with the values of both
    sides by field. The lists hold the first 10,000 objects of a kind; ``totals`` counts all, by kind and model label.
    """

    missing: list[dict[str, Any]] = field(default_factory=list)
    extra: list[dict[str, Any]] = field(default_factory=list)
    different: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Counter[str]] = field(default_factory=dict)

    def get_all(self) -> list[dict[str, Any]]:
        """All of them that are told."""
        return [*self.missing, *self.extra, *self.different]

    def count(self, *kinds: str) -> int:
        """How many objects of these kinds there are."""
        return sum(self.totals[kind].total() for kind in kinds if kind in self.totals)

    def as_dict(self) -> dict[str, Any]:
        """What ``--format json`` prints."""
        document = super().as_dict()
        for name in self.COUNTS:
            del document[name]
        totals = {kind: dict(sorted(self.totals.get(kind, Counter()).items())) for kind in KINDS}
        return {**document, **{kind: getattr(self, kind) for kind in KINDS}, "totals": totals}


class Found:
    """Objects that differ, by kind.

    ``only``: what an earlier look found; what it did not find is left out. ``shows``: keep the first ones' fields.
    """

    def __init__(self, only: Found | None = None, *, shows: bool = True) -> None:
        self._only = only
        self._limit = MAX_TOLD if shows else 0
        self._keys: dict[tuple[str, type[Model]], Any] = {}
        self._room = ROOM
        self.totals: dict[str, Counter[str]] = {}
        self.shown: dict[str, dict[Ref, dict[str, list[Any]]]] = {}

    def has(self, kind: str, ref: Ref) -> bool:
        """Whether the object is one of them."""
        keys = self._keys.get((kind, ref.model))
        return keys is not None and ref.pk in keys

    def add(self, kind: str, ref: Ref, fields: Mapping[str, list[Any]] | None = None) -> None:
        """Take in an object, or further fields of one."""
        if self._only is not None and not self._only.has(kind, ref):
            return
        keys = self._keys.get((kind, ref.model))
        if keys is None:
            keys = self._keys[kind, ref.model] = make_key_set(ref.model)
        shown = self.shown.setdefault(kind, {})
        if keys.add(ref.pk):
            self.totals.setdefault(kind, Counter())[ref.model._meta.label] += 1
            if len(shown) < self._limit:
                shown[ref] = {}
        if ref in shown:
            shown[ref].update({name: [self._fit(value) for value in pair] for name, pair in (fields or {}).items()})

    def _fit(self, value: Any) -> Any:
        """A value as it is told: a long one is cut where much was told already."""
        size = len(value) if isinstance(value, (str, bytes, memoryview, list)) else CUT
        if size <= max(CUT, self._room):
            self._room -= size
            return value
        text = value if isinstance(value, str) else repr(value[:CUT] if not isinstance(value, memoryview) else value)
        return f"{text[:CUT]}… ({size:,})"


class Comparer(Planner):
    """One comparison, in the open transactions of both sides.

    ``account``: of a comparison after a push, what it kept, and what it deleted. Every row is read.
    """

    can_recognize: ClassVar[bool] = False

    def __init__(self, *args: Any, account: Account | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._account = account
        self.found = Found()

    def compare(self, found: Found) -> Found:
        """Add all differences to ``found``."""
        self.found = found
        order = self.locate()
        self.progress.start("comparing", self.subgraph.count())
        for model in order:
            self._compare_model(model)
        self._find_extra(order)
        if self._account is not None:
            self._find_left(self._account)
        return found

    def _compare_model(self, model: type[Model]) -> None:
        layout = self.get_layout(model)
        owned = self.subgraph.members.get((model, Role.OWN))
        for keys in iter_batches(model, self.source, owned.keys if owned else ()):
            self._compare_batch(layout, keys)
            self.progress.advance(len(keys))
        for key in self.subgraph.iter_keys(model, *REFERRED):
            if self.subgraph.is_needed(model, key) and self.counterparts.get(model, key) is NEW:
                self.found.add("missing", Ref(model, key))
        for key in find_moved_nodes(self.subgraph, model, self.target, self.counterparts):
            self.found.add("different", Ref(model, key), {ORDER: [self.source, self.target]})

    def _compare_batch(self, layout: Layout, keys: Sequence[Key]) -> None:
        model = layout.model
        targets = {key: self.counterparts.get(model, key) for key in keys}
        existing = [target for target in targets.values() if target is not NEW]
        theirs = {row[0]: layout.get_values(row) for row in layout.read(self.target, existing, extras=False)}
        for row in layout.read(self.source, keys):
            other = theirs.get(targets[row[0]])
            if other is None:
                self.found.add("missing", Ref(model, row[0]))
                continue
            mine = layout.translate(row, self.counterparts, self.source)
            for number, value in enumerate(mine):
                if value is LOST and other[number] in (None, ""):
                    layout.clear_link(mine, number)
            if differing := layout.find_differing(mine, other):
                self._add_different(layout, row, mine, other, differing)

    def _add_different(
        self, layout: Layout, row: tuple[Any, ...], mine: Sequence[Any], other: Sequence[Any], differing: Sequence[int]
    ) -> None:
        ref = Ref(layout.model, row[0])
        fields: dict[str, dict[str, list[Any]]] = {}
        for at in differing:
            name = layout.names[at]
            kind = KEPT if self._account is not None and self._account.is_kept(ref, name) else "different"
            fields.setdefault(kind, {})[name] = [layout.tell(row, at, mine[at]), other[at]]
        for kind, of_kind in fields.items():
            self.found.add(kind, ref, of_kind)

    def _find_extra(self, order: Sequence[type[Model]]) -> None:
        """Rows of the target that hang on owned ones there, and what hangs on those."""
        removals = self._make_removals()
        seen: dict[type[Model], Any] = {}
        frontier: dict[type[Model], Any] = {}
        for model in order:
            frontier[model] = make_key_list(model)
            for key in self.subgraph.iter_keys(model, Role.OWN):
                target = self.counterparts.get(model, key)
                if target is not NEW and target is not UNKNOWN:
                    frontier[model].append(target)
        while any(frontier.values()):
            following: dict[type[Model], Any] = {}
            for model, keys in frontier.items():
                for link, hanging, _is_member in removals.hanging.iter_owned(model, keys) if keys else ():
                    child = link.model
                    of_child = seen.setdefault(child, make_key_set(child))
                    for key in hanging:
                        if not removals.is_claimed(child, key) and of_child.add(key):
                            self.found.add("extra", Ref(child, key))
                            following.setdefault(child, make_key_list(child)).append(key)
            frontier = following

    def _find_left(self, account: Account) -> None:
        """Rows of the target that a push has deleted and that are there, and those that another one would delete."""
        removals = self._make_removals()
        removals.find(prune=self.prune)
        self.plan.add_conflicts(conflict for conflict in removals.conflicts if conflict.resolved is None)
        for model, due in removals.deleted.items():
            for key in due:
                self.found.add(LEFT, Ref(model, key))
        for model, deleted in account.gone.items():
            for keys in iter_chunks(deleted, KEYS_PER_QUERY):
                for key in find_existing(model, self.target, keys):
                    self.found.add(LEFT, Ref(model, key))


def find_differences(make: Callable[[MappingStore], Comparer], source: str, target: str) -> Differences:
    """Compare; what differs is looked at once more before it is told, since both sides are live."""
    report = Differences()
    found = Found(shows=False)
    report.conflicts = look(make, source, target, found)
    if found.totals or report.conflicts:
        found = Found(found)
        report.conflicts = look(make, source, target, found)
    fill(report, found, source, target)
    return report


def look(make: Callable[[MappingStore], Comparer], source: str, target: str, found: Found) -> list[dict[str, Any]]:
    """Find the differences between one state of each database; the doubts about who is who."""
    with read_snapshot(source), read_snapshot(target):
        comparer = make(MappingStore(source, target))
        try:
            comparer.compare(found)
            return comparer.plan.report.conflicts
        finally:
            comparer.plan.close()


def fill(report: Differences, found: Found, source: str, target: str) -> None:
    """Put what was found into a report."""
    report.totals = found.totals
    for kind in (*KINDS, KEPT, LEFT):
        using = target if kind in ("extra", LEFT) else source
        shown = found.shown.get(kind, {})
        getattr(report, kind).extend(iter_shown(shown, using))
        if (total := report.count(kind)) > len(shown):
            text = _("Only the first %(number)s of %(total)s objects are told (%(kind)s).")
            report.warnings.append(text % {"number": f"{len(shown):,}", "total": f"{total:,}", "kind": kind})
    number = report.count(*KINDS)
    report.message = str(_("Both databases have the same."))
    if number:
        text = ngettext("%(number)d object differs.", "%(number)d objects differ.", number)
        report.message = str(text) % {"number": number}


def iter_shown(found: Mapping[Ref, dict[str, list[Any]]], using: str) -> Iterator[dict[str, Any]]:
    """Differences of one kind as a report has them, with natural keys."""
    by_model: dict[type[Model], list[Key]] = {}
    for ref in found:
        by_model.setdefault(ref.model, []).append(ref.pk)
    for model, every in sorted(by_model.items(), key=lambda item: item[0]._meta.label):
        for keys in iter_chunks(every, KEYS_AT_ONCE):
            natural_keys = read_natural_keys(model, using, keys)
            for key in keys:
                ref = Ref(model, key)
                yield {
                    "model": model._meta.label,
                    "pk": show_key(ref.pk),
                    "natural_key": list(natural_keys[key]) if key in natural_keys else None,
                    "fields": found[ref],
                }

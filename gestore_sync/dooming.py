"""What a deletion would do, as data: the rows that go, the links that are set, and what stands in the way. Only reads.

The owned objects of a walk go, and nothing else. No row that stays may point at one of them, unless its link says what
becomes of it then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.failures import read_natural_keys
from gestore_sync.keysets import make_key_list, make_key_set
from gestore_sync.links import GENERIC, TREE, Link, LinkGraph
from gestore_sync.narration import iter_more_roots
from gestore_sync.orphans import find_orphans
from gestore_sync.plan import Conflict, Report
from gestore_sync.progress import Progress
from gestore_sync.references import (
    HOLDS,
    SETS,
    Reference,
    References,
    describe_setting,
    iter_unknown_pointing,
)
from gestore_sync.refs import Key, Ref, show_key
from gestore_sync.scope import Role, Scope, find_reverse_role
from gestore_sync.subgraph import Subgraph
from gestore_sync.walker import Walker

SHOWN = 100
"""So many rows that stand in the way by one link are named; the others are counted."""


class Doomed:
    """The rows that go, by model."""

    def __init__(self) -> None:
        self.keys: dict[type[Model], Any] = {}
        self._seen: dict[type[Model], Any] = {}

    def add(self, model: type[Model], keys: Iterable[Key]) -> None:
        """Take in rows."""
        new = list(keys)
        if not new:
            return
        seen = self._seen.setdefault(model, make_key_set(model))
        known = self.keys.setdefault(model, make_key_list(model))
        known.extend(key for key in new if seen.add(key))

    def __contains__(self, ref: tuple[type[Model], Key]) -> bool:
        seen = self._seen.get(ref[0])
        return seen is not None and ref[1] in seen

    def get(self, model: type[Model]) -> Sequence[Key]:
        """The keys of the rows of one model."""
        found: Sequence[Key] = self.keys.get(model, ())
        return found


class DeletionPlan:
    """One plan. ``doomed``: what goes. ``released``: by link, the rows outside whose link is set to something else.
    ``report``: the counts, and what a person should know; unresolved conflicts stand in the way."""

    def __init__(self, graph: LinkGraph, scope: Scope, progress: Progress | None = None) -> None:
        self.graph = graph
        self.scope = scope
        self.progress = progress or Progress()
        self.references = References(graph)
        self.subgraph = Subgraph(graph.using, graph, scope)
        self.doomed = Doomed()
        self.released: dict[Link, Any] = {}
        self.report = Report()

    def make(self, roots: Sequence[Ref], *, orphans: bool = False) -> None:
        """Find everything. Raises :class:`UnknownObject` for a root without a row."""
        self.progress.start("walking")
        self.subgraph = Walker(self.graph, self.scope, self.progress.advance, counting=False).walk(roots)
        for model in self.subgraph.get_models():
            self.doomed.add(model, self.subgraph.iter_keys(model, Role.OWN))
        if orphans:
            for model, keys in find_orphans(self.subgraph, self.references).items():
                self.doomed.add(model, keys)
        self.report.deleted.update({model._meta.label: len(keys) for model, keys in self.doomed.keys.items()})
        self._look_around()
        why = self.subgraph.count_why()
        self.report.why = {label: ways for label, ways in why.items() if label in self.report.deleted}
        self.report.warnings += iter_more_roots(self.subgraph)

    # What points inside from outside

    def _look_around(self) -> None:
        left: Counter[str] = Counter()
        for model in list(self.doomed.keys):
            for reference in self.references.get(model):
                if self._is_followed(reference):
                    continue
                pointing = self._iter_outside(reference, model)
                if reference.fate == HOLDS:
                    self._add_conflicts(reference, list(pointing))
                elif reference.fate == SETS:
                    self._release(reference.link, pointing)
                else:
                    left[reference.name] += sum(1 for _ in pointing)
        self._add_unknown()
        self._tell(left)

    def _is_followed(self, reference: Reference) -> bool:
        """Whether the walk has taken every row that points at an owned object in this way. At an orphan none does."""
        link = reference.link
        if link.kind != GENERIC:
            return link.belongs and find_reverse_role(self.graph, self.scope, link, Role.OWN) is Role.OWN
        if reference.fate != HOLDS:
            return False
        role = self.scope.get_reverse_role(link, Role.OWN, (reference.name,), belongs=True)
        return role is Role.OWN

    def _iter_outside(self, reference: Reference, model: type[Model]) -> Iterator[tuple[Key, Ref]]:
        """The rows that stay and point at objects of ``model`` that go, and at which."""
        holder = reference.link.model
        for row, key in self.references.iter_pairs(reference, self.doomed.get(model)):
            if (holder, row) not in self.doomed:
                yield row, Ref(model, key)

    def _release(self, link: Link, pointing: Iterable[tuple[Key, Ref]]) -> None:
        rows = make_key_list(link.model)
        rows.extend(row for row, _ in pointing)
        if rows:
            self.released.setdefault(link, make_key_list(link.model)).extend(rows)

    def _add_conflicts(self, reference: Reference, pointing: Sequence[tuple[Key, Ref]]) -> None:
        model = reference.link.model
        shown = pointing[:SHOWN]
        names = read_natural_keys(model, self.graph.using, [row for row, _ in shown]) if shown else {}
        for row, ref in shown:
            natural_key = names.get(row)
            reason = describe_holding(Ref(model, row), reference, self.describe_path(ref))
            conflict = Conflict(model._meta.label, show_key(row), list(natural_key) if natural_key else None, reason)
            self.report.conflicts.append(conflict.as_dict())
        more = len(pointing) - len(shown)
        if more:
            self.report.warnings.append(
                _("%(number)s more rows hold it by %(link)s.") % {"number": f"{more:,}", "link": reference.name}
            )

    def _add_unknown(self) -> None:
        going = list(self.doomed.keys)
        for table, column, model, value in iter_unknown_pointing(self.graph, self.doomed.get, going):
            reason = (
                f"A row of the table {table!r}, for which there is no model here, points at the {model._meta.label} "
                f"{value} by its column {column!r}. Delete it first, or let it point elsewhere."
            )
            self.report.conflicts.append(asdict(Conflict(table, "", None, reason)))

    def describe_path(self, ref: Ref) -> str:
        """An object that goes, and why: the way to it from a root."""
        return " ← ".join(f"{step} ({name})" for step, name in self.subgraph.get_path(ref)) or str(ref)

    def _tell(self, left: Counter[str]) -> None:
        """Note what is set and what will point at nothing."""
        changed: dict[str, set[Key]] = {}
        for link, rows in sorted(self.released.items(), key=lambda item: item[0].name):
            changed.setdefault(link.model._meta.label, set()).update(rows)
            self.report.mentions[link.name] = len(rows)
            text = ngettext(
                "%(link)s of %(number)s row that stays is set to %(value)s.",
                "%(link)s of %(number)s rows that stay is set to %(value)s.",
                len(rows),
            )
            self.report.warnings.append(
                text % {"link": link.name, "number": f"{len(rows):,}", "value": describe_setting(link)}
            )
        self.report.updated.update({label: len(rows) for label, rows in changed.items()})
        for name, number in sorted((+left).items()):
            self.report.mentions[name] = self.report.mentions.get(name, 0) + number
            text = ngettext(
                "%(number)s row that stays points at what is deleted by %(link)s, and will point at nothing.",
                "%(number)s rows that stay point at what is deleted by %(link)s, and will point at nothing.",
                number,
            )
            self.report.warnings.append(text % {"link": name, "number": f"{number:,}"})

    # Later plans

    def iter_missing_from(self, other: DeletionPlan) -> Iterator[Ref]:
        """What this plan deletes or changes and another one does not."""
        for model, keys in self.doomed.keys.items():
            yield from (Ref(model, key) for key in keys if (model, key) not in other.doomed)
        for link, rows in self.released.items():
            known = set(other.released.get(link, ()))
            yield from (Ref(link.model, row) for row in rows if row not in known)


def describe_holding(ref: Ref, reference: Reference, path: str) -> str:
    """Why a row stands in the way, and what to do."""
    link = reference.link
    on_delete = getattr(getattr(link.field, "remote_field", None), "on_delete", None)
    how = f" ({getattr(on_delete, '__name__', on_delete)})" if on_delete is not None else ""
    take = f" or take it along with --own {reference.name}," if link.kind != TREE else ""
    return (
        f"{ref} is not part of what is deleted and points at it by {reference.name}{how}: {path}. "
        f"Delete it first,{take} or let it point elsewhere."
    )

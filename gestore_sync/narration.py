"""What a person should know of a plan beside its counts: why things are there, what stays behind, what to watch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext as _

from gestore_sync.comparison import Decision, Pair
from gestore_sync.failures import read_natural_keys
from gestore_sync.layouts import Layout
from gestore_sync.mappings import MappingStore
from gestore_sync.needs import REFERRED, count_left_behind
from gestore_sync.plan import Conflict, Plan, Report
from gestore_sync.refs import Key, Ref, show_key
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts

MAX_SHOWN = 1000


def fill_report(report: Report, subgraph: Subgraph, counterparts: Counterparts, store: MappingStore) -> None:
    """Add mentions, reasons, what is left behind and warnings; drop counts of zero."""
    for name in report.COUNTS:
        setattr(report, name, +getattr(report, name))
    report.mentions = dict(subgraph.mentions)
    report.why = subgraph.count_why()
    report.left_behind = count_left_behind(subgraph, counterparts)
    report.warnings += [*iter_more_roots(subgraph), *iter_missing_tables(store)]


def iter_more_roots(subgraph: Subgraph) -> Iterator[str]:
    """A warning where the walk reaches other objects of a root's model."""
    for model in dict.fromkeys(ref.model for ref in subgraph.roots):
        roots = {ref.pk for ref in subgraph.roots if ref.model is model}
        for role in (Role.OWN, *REFERRED):
            others = [key for key in subgraph.iter_keys(model, role) if key not in roots]
            if others:
                path = " ← ".join(f"{ref} ({name})" for ref, name in subgraph.get_path(Ref(model, others[0])))
                text = (
                    _("The walk reaches %(number)d more %(model)s beside the root, to own: %(path)s.")
                    if role is Role.OWN
                    else _("The walk reaches %(number)d more %(model)s beside the root, to refer to: %(path)s.")
                )
                yield text % {"number": len(others), "model": model._meta.label, "path": path}


def iter_missing_tables(store: MappingStore) -> Iterator[str]:
    """A warning where the target cannot keep the id mappings, or the change log."""
    if not store.in_target:
        yield _(
            "The target %(alias)r has no tables of gestore_sync: the id mappings are kept at the source. "
            "Run: manage.py migrate gestore_sync --database %(alias)s"
        ) % {"alias": store.target}
    elif not store.has_target_log:
        yield _(
            "The target %(alias)r has no change log: times cannot be compared. "
            "Run: manage.py migrate gestore_sync --database %(alias)s"
        ) % {"alias": store.target}


def describe_changes(
    layout: Layout, row: tuple[Any, ...], target: Key, pair: Pair, decision: Decision
) -> tuple[dict[str, list[Any]], str]:
    """The values of both sides in the fields that a decision is about, and what has happened to them."""
    numbers = decision.disputed or (*decision.write, *decision.kept)
    fields = {layout.names[at]: [layout.tell(row, at, pair.mine[at]), pair.theirs[at]] for at in numbers}
    ref, other = Ref(layout.model, row[0]), Ref(layout.model, target)
    if decision.known:
        return fields, f"{ref} changed at the source, and {other} on the target, since they were last in step."
    return fields, f"{ref} and {other} of the target are the same object with other content."


def describe_missing(subgraph: Subgraph, ref: Ref) -> str:
    """That an object is not there, to which others lead."""
    path = subgraph.get_path(ref)
    by = f" {path[1][0]} points to it by {path[0][1]}." if len(path) > 1 else ""
    return f"{ref} does not exist at the source.{by} Mend the link there and run again."


class Conflicts:
    """The conflicts of one plan about objects of the source; the first ones get the natural keys of these."""

    def __init__(self, plan: Plan, source: str) -> None:
        self._plan = plan
        self._source = source
        self._named: dict[type[Model], list[tuple[Key, int]]] = {}

    def add(
        self, ref: Ref, reason: str, fields: dict[str, list[Any]] | None = None, resolved: str | None = None
    ) -> None:
        """Note a conflict in the report."""
        conflict = Conflict(ref.model._meta.label, show_key(ref.pk), None, reason, fields or {}, resolved, ref)
        self._named.setdefault(ref.model, []).append((ref.pk, len(self._plan.report.conflicts)))
        self._plan.add_conflicts([conflict])

    def name(self) -> None:
        """Add the natural keys of the first conflicts' objects, in bulk."""
        for model, named in self._named.items():
            found = read_natural_keys(model, self._source, [pk for pk, _ in named[:MAX_SHOWN]])
            for pk, at in named[:MAX_SHOWN]:
                if pk in found:
                    self._plan.report.conflicts[at]["natural_key"] = list(found[pk])

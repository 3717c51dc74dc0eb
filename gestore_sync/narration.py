"""What a person should know of a plan beside its counts: why things are there, what stays behind, what to watch."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _

from gestore_sync.mappings import MappingStore
from gestore_sync.needs import REFERRED, count_left_behind
from gestore_sync.plan import Report
from gestore_sync.refs import Ref
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts


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

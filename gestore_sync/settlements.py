"""Conflicts that a value has lost, as they are listed and resolved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.lostvalues import load_lost
from gestore_sync.models import Conflict
from gestore_sync.progress import Progress
from gestore_sync.settling import list_rows, settle
from gestore_sync.starting import explained, get_database


@dataclass
class Settlement:
    """Conflicts, as dictionaries, and a message about them."""

    conflicts: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What ``--format json`` prints."""
        return {"message": self.message, "conflicts": self.conflicts}


def describe(row: Conflict) -> dict[str, Any]:
    """One conflict for people and scripts; the values are as in bundles, links as keys of the target."""
    fields = {name: [lost.local, lost.remote] for name, lost in load_lost(row.fields).items()}
    return {
        "id": row.pk,
        "model": row.model,
        "pk": row.target_pk,
        "source_pk": row.source_pk,
        "remote": row.remote,
        "fields": fields,
        "resolved": row.resolved,
        "taken": row.taken or None,
        "date": row.date.isoformat(),
        "run": str(row.run),
    }


def make_message(using: str, rows: Sequence[Conflict]) -> str:
    """What is said about these conflicts."""
    number = sum(not row.taken for row in rows)
    if number:
        text = ngettext("%(number)d conflict is open.", "%(number)d conflicts are open.", number)
        return str(text) % {"number": number}
    if rows:
        text = ngettext("%(number)d conflict is resolved.", "%(number)d conflicts are resolved.", len(rows))
        return str(text) % {"number": len(rows)}
    return str(_("The database %(database)s has no open conflicts.") % {"database": repr(using)})


def list_conflicts(
    ids: Collection[int] = (),
    *,
    closed: bool = False,
    database: str | None = None,
    progress: Progress | None = None,
) -> Settlement:
    """The values that lost a conflict: of these, or of all that nobody has resolved. ``closed``: also of the others.

    ``database``: where the runs wrote, "default" if not given. Only reads.
    """
    database = get_database(database)
    with explained(database, database, progress or Progress()):
        rows = list_rows(database, ids, closed=closed)
        return Settlement([describe(row) for row in rows], make_message(database, rows))


def resolve_conflicts(
    ids: Collection[int], take: str, *, database: str | None = None, progress: Progress | None = None
) -> Settlement:
    """Let the rows of these conflicts have the values of one side, "local" or "remote": all or nothing. "merged" leaves
    them as the run decided, where that was for different sides.

    ``database``: where the runs wrote, "default" if not given. Raises
    :class:`~gestore_sync.exceptions.NotRestored` where a row has changed since.
    """
    database = get_database(database)
    with explained(database, database, progress or Progress()):
        rows = settle(database, ids, take)
        return Settlement([describe(row) for row in rows], make_message(database, rows))

"""Logs what an import writes as news of the database too: it came from a file, so all remotes have to hear of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Model

from gestore_sync.deletionlog import DeletionLog, Row, make_row
from gestore_sync.dooming import Doomed
from gestore_sync.fields import now
from gestore_sync.journal import ADDITION, DELETION, FIELDS, Journal
from gestore_sync.mappings import MappingStore
from gestore_sync.models import PENDING
from gestore_sync.reading import iter_rows
from gestore_sync.receivers import make_member_changes
from gestore_sync.recording import is_recording
from gestore_sync.refs import Key, dump_pk
from gestore_sync.watching import find_watched


class News(Journal):
    """The journal of an import, with entries that will be sent."""

    def __init__(self, store: MappingStore, find_date: Callable[[type[Model], Key], datetime | None]) -> None:
        super().__init__(store, find_date)
        self._log = DeletionLog(store.target, Doomed())
        self._is_recording = bool(self._watched) and is_recording(store.target)

    def note(self, model: type[Model], keys: Sequence[tuple[Key, Key | None]], action: int) -> None:
        super().note(model, keys, action)
        if not self._is_recording or action == DELETION:
            return
        if model._meta.auto_created:
            self._add(self._make_member_news(model, [key for key, _ in keys]) if action == ADDITION else [])
            return
        content_type, date = self._find_content_type(model), now()
        if content_type is not None:
            self._add([(content_type, dump_pk(key), date, action, "{}", None, PENDING) for key, _ in keys])

    def note_going(self, model: type[Model], keys: Sequence[Key]) -> None:
        if self._is_recording:
            self._add(self._log.make_deletions(model, keys))

    def _add(self, rows: Sequence[Row]) -> None:
        self._add_columns(*(zip(*rows, strict=True) if rows else [()] * len(FIELDS)))

    def _make_member_news(self, through: type[Model], keys: Sequence[Key]) -> list[Row]:
        """The owners of new automatic many-to-many rows have got members."""
        watched = find_watched()
        fields: Sequence[Any] = watched.members.get(through, ()) if watched is not None else ()
        if not fields or fields[0].name in getattr(fields[0].model, "SYNCHRO_SKIP", ()):
            return []
        field = fields[0]
        paths = [f"{name}__pk" for name in (field.m2m_field_name(), field.m2m_reverse_field_name())]
        pairs = [(own, other) for _, own, other in iter_rows(through, self._target, keys, paths)]
        return [make_row(entry) for entry in make_member_changes(field, pairs, self._target, is_added=True)]

"""Logs on the target what a run writes there: never to be sent, only so that times can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db.models import Model

from gestore_sync.background import Background
from gestore_sync.changelog import find_last_dates, has_entries, has_log
from gestore_sync.fields import now
from gestore_sync.generic import get_type_ids
from gestore_sync.mappings import MappingStore
from gestore_sync.models import ADDITION, CHANGE, DELETION, SKIPPED, ChangeLog
from gestore_sync.refs import Key, dump_pk, get_field
from gestore_sync.watching import find_watched
from gestore_sync.writers import get_writer

__all__ = ["ADDITION", "CHANGE", "DELETION", "Journal"]

FIELDS = ("content_type", "object_id", "date", "action", "data", "origin", "state")
BATCH_SIZE = 10_000


class Journal:
    """The entries of one run on a target. ``find_date`` gives the date of a change that is sent; where it knows none,
    the log of the source is asked."""

    def __init__(self, store: MappingStore, find_date: Callable[[type[Model], Key], datetime | None]) -> None:
        target = store.target
        watched = find_watched()
        self._target = target
        self._store = store
        self._find_date = find_date
        self._watched = frozenset(watched.models) if watched is not None and has_log(target) else frozenset()
        self._type_ids = get_type_ids(target) if self._watched else {}
        self._started = now().astimezone(UTC)  # of this time zone, equal moments are written once
        self._columns: list[list[Any]] = [[] for _ in FIELDS]
        self._writer = get_writer(target)
        self.background = Background()
        self._logged: dict[type[Model], bool] = {}

    def note(self, model: type[Model], keys: Sequence[tuple[Key, Key | None]], action: int) -> None:
        """Log ``(key of the target, key of the source)``. Automatic many-to-many rows are not compared by time."""
        content_type = self._find_content_type(model)
        if content_type is None or model._meta.auto_created:
            return
        dates = self._find_dates(model, [source for _, source in keys if source is not None])
        number = len(keys)
        moments = [dates.get(source, self._started) for _, source in keys] if dates else [self._started] * number
        self._add_columns(
            *([content_type] * number, [dump_pk(target) for target, _ in keys], moments),
            *([value] * number for value in (action, "{}", self._store.uuid, SKIPPED)),
        )

    def make_ready(self) -> None:
        """Ask now what must be known when entries are written."""
        if self._watched:
            self._writer.look_at([ChangeLog])

    def _add_columns(self, *columns: Iterable[Any]) -> None:
        """Note entries, given by what they have in :data:`FIELDS`."""
        for noted, values in zip(self._columns, columns, strict=True):
            noted += values

    def _find_content_type(self, model: type[Model]) -> int | None:
        """The content type of a model that is logged."""
        name = model._meta.app_label, model._meta.model_name or ""
        return self._type_ids.get(name) if model in self._watched else None

    def note_going(self, model: type[Model], keys: Sequence[Key]) -> None:
        """Rows of the target are about to be deleted."""

    def _find_dates(self, model: type[Model], keys: Sequence[Key]) -> dict[Key, datetime]:
        """When objects were changed at the source."""
        known = {key: date for key in keys if (date := self._find_date(model, key)) is not None}
        unknown = [key for key in keys if key not in known]
        if unknown and self._is_logged(model):
            known |= find_last_dates(self._store.source, model, unknown, but=self._store.target_uuid)
        return known

    def _is_logged(self, model: type[Model]) -> bool:
        """Whether the log of the source has any entries of this model."""
        if model not in self._logged:
            source = self._store.source
            self._logged[model] = has_log(source) and has_entries(source, model, but=self._store.target_uuid)
        return self._logged[model]

    def flush(self) -> None:
        """Insert what was noted, if it is much."""
        if len(self._columns[0]) >= BATCH_SIZE:
            self.write()

    def write(self) -> None:
        """Insert what was noted, in the open transaction of the target."""
        if self._columns[0]:
            fields = [get_field(ChangeLog, name) for name in FIELDS]
            self.background.run(self._writer.make_insert(ChangeLog, fields, self._columns))
        self._columns = [[] for _ in FIELDS]

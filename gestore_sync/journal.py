"""Logs on the target what a run writes there: never to be sent, only so that times can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.db.models import Model

from gestore_sync.changelog import has_log
from gestore_sync.fields import now
from gestore_sync.generic import get_type_ids
from gestore_sync.models import ADDITION, CHANGE, DELETION, SKIPPED, ChangeLog
from gestore_sync.refs import Key, dump_pk, get_field
from gestore_sync.watching import find_watched
from gestore_sync.writers import get_writer

__all__ = ["ADDITION", "CHANGE", "DELETION", "Journal"]

FIELDS = ("content_type", "object_id", "date", "action", "data", "origin", "state")
BATCH_SIZE = 10_000


class Journal:
    """The entries of one run on a target. ``find_date`` gives the date of a change at the source, where it is known."""

    def __init__(self, target: str, origin: Any, find_date: Callable[[type[Model], Key], datetime | None]) -> None:
        watched = find_watched()
        self._target = target
        self._origin = origin
        self._find_date = find_date
        self._watched = frozenset(watched.models) if watched is not None and has_log(target) else frozenset()
        self._type_ids = get_type_ids(target) if self._watched else {}
        self._started = now()
        self._rows: list[list[Any]] = []

    def note(self, model: type[Model], keys: Iterable[tuple[Key, Key | None]], action: int) -> None:
        """Log ``(key of the target, key of the source)``. Automatic many-to-many rows are not compared by time."""
        content_type = self._type_ids.get((model._meta.app_label, model._meta.model_name or ""))
        if model not in self._watched or model._meta.auto_created or content_type is None:
            return
        for target, source in keys:
            date = None if source is None else self._find_date(model, source)
            row = [content_type, dump_pk(target), date or self._started, action, "{}", self._origin, SKIPPED]
            self._rows.append(row)
        if len(self._rows) >= BATCH_SIZE:
            self.write()

    def write(self) -> None:
        """Insert what was noted, in the open transaction of the target."""
        if self._rows:
            get_writer(self._target).insert(ChangeLog, [get_field(ChangeLog, name) for name in FIELDS], self._rows)
        self._rows = []

"""Which side changed an object later, as far as the logs of both tell. Only breaks the tie where both sides changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property

from django.db.models import Model

from gestore_sync.changelog import find_last_dates, has_log
from gestore_sync.mappings import MappingStore
from gestore_sync.refs import Key

FindDate = Callable[[type[Model], Key], "datetime | None"]


class Times:
    """Compares the logs of one source and one target. ``find_date``: the date of a change that is being sent."""

    def __init__(self, store: MappingStore, find_date: FindDate) -> None:
        self._store = store
        self._find_date = find_date

    @cached_property
    def _logs(self) -> tuple[bool, bool]:
        return has_log(self._store.source), self._store.in_target and has_log(self._store.target)

    def find_newer(self, model: type[Model], pairs: Mapping[Key, Key]) -> set[Key]:
        """Of ``{key of the source: key of the target}``, the keys of the source whose row the target changed later.

        What this source's own runs wrote there is no change of the target's. Without an entry there the source wins.
        """
        in_source, in_target = self._logs
        if not in_target or not pairs:
            return set()
        theirs = find_last_dates(self._store.target, model, list(pairs.values()), but=self._store.uuid)
        doubtful = [key for key, target in pairs.items() if target in theirs]
        mine = {key: date for key in doubtful if (date := self._find_date(model, key)) is not None}
        unknown = [key for key in doubtful if key not in mine]
        if unknown and in_source:
            mine |= find_last_dates(self._store.source, model, unknown, but=self._store.target_uuid)
        return {key for key in doubtful if key not in mine or theirs[pairs[key]] > mine[key]}

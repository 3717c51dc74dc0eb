"""Links of new rows that are written when both ends exist."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db.models import Model

from gestore_sync.layouts import Layout
from gestore_sync.refs import Key


class Deferral(dict[tuple[type[Model], str], list[tuple[Key, Key, Any]]]):
    """By model and field the links that were left out: keys of both sides and the value. ``links``: the names of those
    that are."""

    def __init__(self, links: Collection[str]) -> None:
        super().__init__()
        self._links = links
        self._places: dict[type[Model], list[tuple[int, str]]] = {}

    def _find_places(self, layout: Layout) -> list[tuple[int, str]]:
        if layout.model not in self._places:
            self._places[layout.model] = layout.find_columns(self._links)
        return self._places[layout.model]

    def concerns(self, layout: Layout) -> bool:
        """Whether rows of a model may have such links."""
        return bool(self._find_places(layout))

    def take(self, layout: Layout, key: Key, target: Key, values: list[Any]) -> bool:
        """Take out of a new row's values what is written later; whether there is anything."""
        late = [(at, name) for at, name in self._find_places(layout) if values[at] is not None]
        for at, name in late:
            self.setdefault((layout.model, name), []).append((key, target, values[at]))
            values[at] = None
        return bool(late)

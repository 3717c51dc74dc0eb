"""The services that django-oscar's signal receivers call; these note what they are given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from haystack.backends.simple_backend import SimpleEngine, SimpleSearchBackend
from oscar.core.thumbnails import AbstractThumbnailer

#: ``(alias, document)`` for each product that came into the search index.
indexed: list[tuple[str, dict[str, Any]]] = []
#: ``(alias, pk)`` for each product that left it.
removed: list[tuple[str, Any]] = []
#: The names of the files whose thumbnails were deleted.
unthumbed: list[str] = []


def forget() -> None:
    """Empty the notes."""
    for notes in (indexed, removed, unthumbed):
        notes.clear()


class NotingSearchBackend(SimpleSearchBackend):
    """Prepares the documents as a real search engine makes it, and keeps them."""

    def update(self, indexer: Any, iterable: Iterable[Any], commit: bool = True) -> None:
        indexed.extend((product._state.db, indexer.full_prepare(product)) for product in iterable)

    def remove(self, obj: Any, commit: bool = True) -> None:
        removed.append((obj._state.db, obj.pk))


class NotingSearchEngine(SimpleEngine):
    backend = NotingSearchBackend


class NotingThumbnailer(AbstractThumbnailer):
    """Makes no thumbnails."""

    def delete_thumbnails(self, source: Any) -> None:
        unthumbed.append(source.name)

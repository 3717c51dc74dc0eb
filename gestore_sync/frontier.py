"""The objects that a walk has found and not yet expanded, with what their links say, where that was read on the way."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import IntegerField, Model

from gestore_sync.keysets import make_key_list
from gestore_sync.links import TREE, LinkGraph
from gestore_sync.refs import Key, get_field, has_integer_key, resolve_key_field

NULL = -(2**63)
"""Stands for null among whole numbers of 64 bits; where it is a value itself, nothing is kept."""
LINKS_AT = 2

Row = tuple[Any, ...]


class Frontier:
    """Objects of one model. ``paths``: the columns of its links, if all hold whole numbers: eight bytes each."""

    def __init__(self, model: type[Model], paths: Sequence[str] | None) -> None:
        self.keys = make_key_list(model)
        self._columns = None if paths is None else [array("q") for _ in paths]

    def add(self, keys: Sequence[Key], rows: Sequence[Row]) -> None:
        """Add objects. ``rows``: ``(key, key of the parent, *values of the links)`` of these and perhaps of others;
        where the values are missing, they will be read."""
        self.keys.extend(keys)
        columns = self._columns
        if columns is None or not keys:
            return
        if not rows or len(rows[0]) != LINKS_AT + len(columns):
            self._columns = None
            return
        if len(keys) < len(rows):
            by_key = {row[0]: row for row in rows}
            rows = [by_key[key] for key in keys]
        for number, column in enumerate(columns, start=LINKS_AT):
            values = [row[number] for row in rows]
            if NULL in values:
                self._columns = None
                return
            column.extend([NULL if value is None else value for value in values] if None in values else values)

    def iter_chunks(self, size: int) -> Iterator[tuple[list[Key], list[Row] | None]]:
        """The objects in lists of at most ``size``, with ``(key, *values of the links)`` of each if that is known."""
        for start in range(0, len(self.keys), size):
            keys = list(self.keys[start : start + size])
            if self._columns is None:
                yield keys, None
                continue
            columns = [list(column[start : start + size]) for column in self._columns]
            for number, column in enumerate(columns):
                if NULL in column:
                    columns[number] = [None if value == NULL else value for value in column]  # type: ignore[misc]
            yield keys, list(zip(keys, *columns, strict=True))


def get_link_paths(graph: LinkGraph, model: type[Model]) -> list[str]:
    """The columns of all links of a model."""
    return list(dict.fromkeys(path for link in graph.forward[model] for path in link.key_paths))


def find_kept_paths(graph: LinkGraph, model: type[Model]) -> list[str] | None:
    """The same where they are kept while rows wait: all hold whole numbers; None where they are not."""
    paths = get_link_paths(graph, model)
    own = {field.attname for field in model._meta.local_concrete_fields}
    is_kept = has_integer_key(model) and all(link.kind != TREE for link in graph.forward[model])
    return paths if is_kept and all(path in own and is_whole(model, path) for path in paths) else None


def is_whole(model: type[Model], path: str) -> bool:
    """Whether a column holds whole numbers, and nothing reads them otherwise."""
    field = resolve_key_field(get_field(model, path))
    return isinstance(field, IntegerField) and not hasattr(field, "from_db_value")

"""How links in a record are rewritten: the counterpart of what each points to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db.models import Model

from gestore_sync.generic import find_generic_target, to_key
from gestore_sync.keysets import HashSet, IntegerBitmap, make_key_set
from gestore_sync.links import GENERIC, Link
from gestore_sync.refs import NEW, UNKNOWN, Key, KeyMap, New, Unknown

MAPPED = "id mapping"


class Lost:
    """A link leads to an object that has no counterpart and will get none."""

    def __repr__(self) -> str:
        return "LOST"


LOST = Lost()


class Counterparts:
    """Where every object of a subgraph is on the target, as far as it is known."""

    def __init__(self) -> None:
        self.maps: dict[type[Model], KeyMap] = {}
        self.values: dict[tuple[type[Model], str], dict[Key, Any]] = {}
        self._ways: dict[type[Model], dict[str, IntegerBitmap | HashSet]] = {}

    def get(self, model: type[Model], key: Key) -> Key | New | Unknown:
        """The counterpart of an object: a key of the target, NEW or UNKNOWN."""
        keys = self.maps.get(model)
        return UNKNOWN if keys is None else keys.get(key)

    def get_all(self, model: type[Model], keys: Sequence[Key]) -> list[Key | New | Unknown]:
        """The counterparts of objects of one model."""
        found = self.maps.get(model)
        return [UNKNOWN] * len(keys) if found is None else found.get_all(keys)

    def has_any(self, model: type[Model] | None) -> bool:
        """Whether any object of a model has a counterpart that is known."""
        found = self.maps.get(model) if model is not None else None
        return found is not None and found.has_any

    def note_way(self, model: type[Model], key: Key, way: str) -> None:
        """Note by what the counterpart of an object was found, where that is not an id mapping."""
        ways = self._ways.setdefault(model, {})
        if way not in ways:
            ways[way] = make_key_set(model)
        ways[way].add(key)

    def get_way(self, model: type[Model], key: Key) -> str:
        """By what the counterpart of an object was found: the name of an identity, or "id mapping"."""
        return next((way for way, keys in self._ways.get(model, {}).items() if key in keys), MAPPED)


@dataclass(frozen=True, slots=True)
class Column:
    """One value of a record.

    ``name`` is the field's name, ``path`` what is read (a name or an expression's alias). ``link``: the value is the
    key of an object; ``part`` says which component of a composite key, whose places in the row are ``parts_at``.
    ``type_at`` (generic keys only) and ``key_at`` (links to a unique field) are the places of content type and key.
    """

    name: str
    field: Any
    path: str
    link: Link | None = None
    part: int | None = None
    is_json: bool = False
    parts_at: tuple[int, ...] = ()
    type_at: int = 0
    key_at: int = 0


Translator: TypeAlias = Callable[[Counterparts, Sequence[tuple[Any, ...]], str], list[Any]]
"""What rewrites one link in rows of the source, whose alias is the last argument: the values for the target."""


def make_key_translator(target: type[Model], at: int) -> Translator:
    """A function that gives the counterparts of the objects whose keys are at place ``at`` of rows."""

    def translate(counterparts: Counterparts, rows: Sequence[tuple[Any, ...]], source: str) -> list[Any]:
        keys = [row[at] for row in rows]
        found = counterparts.get_all(target, keys)
        if UNKNOWN not in found:
            return found
        return [
            value if value is not UNKNOWN else None if key is None else LOST
            for key, value in zip(keys, found, strict=True)
        ]

    return translate


def make_translator(column: Column, at: int) -> Translator:
    """The function that rewrites the link in ``column``, which is at place ``at`` of a row."""
    link = column.link
    assert link is not None
    if link.kind != GENERIC and column.part is None and not link.to_field:
        assert link.target is not None
        return make_key_translator(link.target, at)
    if link.kind == GENERIC:
        return make_generic_translator(column, at)
    translate = make_row_translator(column, link, at)

    def translate_all(counterparts: Counterparts, rows: Sequence[tuple[Any, ...]], source: str) -> list[Any]:
        return [translate(counterparts, row, source) for row in rows]

    return translate_all


RowTranslator: TypeAlias = Callable[[Counterparts, tuple[Any, ...], str], Any]
"""The same for one row."""


def make_row_translator(column: Column, link: Link, at: int) -> RowTranslator:
    """The function for a link to a unique field or to a key of several columns."""
    assert link.target is not None
    if column.part is not None:
        return make_part_translator(column, link.target, column.part)
    return make_unique_translator(link, link.target, at, column.key_at)


def make_unique_translator(link: Link, target: type[Model], at: int, key_at: int) -> RowTranslator:
    """For a link to a unique field: the value that this field has on the target."""
    to_field = link.to_field or ""

    def translate(counterparts: Counterparts, row: tuple[Any, ...], source: str) -> Any:
        value, key = row[at], row[key_at]
        if value is None:
            return None
        if key is None or counterparts.get(target, key) is UNKNOWN:
            return LOST
        return counterparts.values.get((target, to_field), {}).get(key, value)

    return translate


def make_part_translator(column: Column, target: type[Model], part: int) -> RowTranslator:
    """For a component of a key of several columns: the same component of the counterpart's key."""
    at, places = column.parts_at[part], column.parts_at

    def translate(counterparts: Counterparts, row: tuple[Any, ...], source: str) -> Any:
        key = tuple(row[place] for place in places)
        if None in key:
            return row[at]
        found: Any = counterparts.get(target, key)
        if found is UNKNOWN:
            return LOST
        return found if found is NEW else found[part]

    return translate


def make_generic_translator(column: Column, at: int) -> Translator:
    """For the object id of a generic key: the counterpart of what content type and id name together."""

    def translate(counterparts: Counterparts, rows: Sequence[tuple[Any, ...]], source: str) -> list[Any]:
        type_at, to_python = column.type_at, column.field.to_python
        targets = {type_id: find_generic_target(source, type_id) for type_id in {row[type_at] for row in rows} - {None}}
        found: list[Any] = []
        for row in rows:
            value, target = row[at], targets.get(row[type_at])
            if value is None or row[type_at] is None:
                found.append(value)
                continue
            key = None if target is None else to_key(target, value)
            other = UNKNOWN if target is None or key is None else counterparts.get(target, key)
            if other is UNKNOWN:
                found.append(LOST)
            elif other is NEW or other == key:
                found.append(value if other == key else NEW)
            else:
                found.append(to_python(other))
        return found

    return translate

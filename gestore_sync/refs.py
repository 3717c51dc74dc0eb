"""Which object: refs, and compact collections of the primary keys of one model."""

from __future__ import annotations

import csv
import json
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

from django.db.models import CompositePrimaryKey, Field, ForeignObject, IntegerField, Model

Key = Any
"""A primary key value of one database: an int, a string, a UUID, a tuple for a composite key …"""
QUOTE = '"'
SPECIAL = re.compile(r'[,"\r\n]')


class Ref(NamedTuple):
    """The identity of one object on its source."""

    model: type[Model]
    pk: Key

    def __str__(self) -> str:
        return f"{self.model._meta.label}.{show_key(self.pk)}"


def show_key(key: Key) -> str:
    """A primary key as reports have it and people name it; of a composite one the parts with commas between them, in
    quotes where a part has a comma itself, as CSV has them."""
    return ",".join(map(quote_part, map(str, key))) if isinstance(key, tuple) else str(key)


def quote_part(text: str) -> str:
    """A part of a composite key as :func:`show_key` has it."""
    return f'"{text.replace(QUOTE, 2 * QUOTE)}"' if SPECIAL.search(text) else text


def split_key(text: str) -> list[str]:
    """The parts of a composite key that :func:`show_key` shows. Raises ValueError where quotes do not match."""
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def get_field(model: type[Model], name: str) -> Field[Any, Any]:
    """The field of ``model`` called ``name``, which is known to be one."""
    return cast("Field[Any, Any]", model._meta.get_field(name))


def get_table(model: type[Model]) -> str:
    """The name of the model's table, without the schema that some write before it."""
    return model._meta.db_table.split('"."')[-1].strip('"')


def resolve_key_field(field: Field[Any, Any]) -> Field[Any, Any]:
    """The field that a key finally consists of: follows foreign keys to what they point to."""
    while isinstance(field, ForeignObject):
        field = field.target_field
    return field


def has_integer_key(model: type[Model]) -> bool:
    """Whether the primary keys of ``model`` are plain 64-bit integers."""
    pk = model._meta.pk
    if isinstance(pk, CompositePrimaryKey):
        return False
    return isinstance(resolve_key_field(pk), IntegerField) and not hasattr(resolve_key_field(pk), "from_db_value")


def get_key_columns(model: type[Model]) -> tuple[str, ...]:
    """The attnames of the column(s) of the primary key."""
    pk = model._meta.pk
    if isinstance(pk, CompositePrimaryKey):
        return tuple(model._meta.get_field(name).attname for name in pk.field_names)  # type: ignore[union-attr]
    return (pk.attname,)


def dump_pk(key: Key) -> str:
    """A primary key as text; a composite one as a JSON list of texts."""
    return json.dumps([str(part) for part in key]) if isinstance(key, tuple) else str(key)


def load_pk(model: type[Model], text: str) -> Key:
    """The primary key of ``model`` that :func:`dump_pk` made ``text`` of. Raises ValidationError or ValueError."""
    return get_key_parser(model)(text)


@cache
def get_key_parser(model: type[Model]) -> Callable[[str], Key]:
    """What makes a primary key of ``model`` of a text."""
    pk = model._meta.pk
    if not isinstance(pk, CompositePrimaryKey):
        return resolve_key_field(pk).to_python
    fields = [resolve_key_field(get_field(model, name)) for name in pk.field_names]

    def parse(text: str) -> Key:
        return tuple(field.to_python(part) for field, part in zip(fields, json.loads(text), strict=True))

    return parse


class Unknown:
    """No counterpart was looked for or found."""

    def __repr__(self) -> str:
        return "UNKNOWN"


class New:
    """The object has no counterpart yet; it gets a primary key when the plan is applied."""

    def __repr__(self) -> str:
        return "NEW"


UNKNOWN = Unknown()
NEW = New()

_STATES = (UNKNOWN, NEW)
_KNOWN = len(_STATES)


COMPACT_FROM = 100_000
"""From so many keys on a map is kept in two arrays: slower to ask, but an eighth of the memory."""


class KeyMap:
    """Source key → target key (or NEW, or UNKNOWN) for a fixed set of keys of one model.

    ``has_any``: whether any of them got a target key.
    """

    def __init__(self, model: type[Model], keys: Sequence[Key]) -> None:
        self.has_any = False
        self._compact = has_integer_key(model) and len(keys) >= COMPACT_FROM
        self._keys: Any = ()
        self._values: Any
        self._states = bytearray()
        if self._compact:
            self._keys = array("q", sorted(keys))
            self._values = array("q", bytes(8 * len(self._keys)))
            self._states = bytearray(len(self._keys))
        else:
            self._values = dict.fromkeys(sorted(keys) if has_integer_key(model) else keys, UNKNOWN)

    def __len__(self) -> int:
        return len(self._values)

    def _find(self, key: Key) -> int:
        at = bisect_left(self._keys, key)
        return at if at < len(self._keys) and self._keys[at] == key else -1

    def __contains__(self, key: Key) -> bool:
        return self._find(key) >= 0 if self._compact else key in self._values

    def get(self, key: Key) -> Key | New | Unknown:
        """The target key of ``key``; UNKNOWN also where ``key`` is not one of the map's."""
        if not self._compact:
            return self._values.get(key, UNKNOWN)
        at = self._find(key)
        if at < 0:
            return UNKNOWN
        state = self._states[at]
        return self._values[at] if state == _KNOWN else _STATES[state]

    def get_all(self, keys: Iterable[Key]) -> list[Key | New | Unknown]:
        """The same of many keys."""
        if not self._compact:
            get = self._values.get
            return [get(key, UNKNOWN) for key in keys]
        known, values, states, number = self._keys, self._values, self._states, len(self._keys)
        found: list[Key | New | Unknown] = []
        at = -1
        for key in keys:
            at += 1  # most are asked for in their order
            if at >= number or known[at] != key:
                at = number if key is None else bisect_left(known, key)
            if at == number or known[at] != key:
                found.append(UNKNOWN)
            else:
                found.append(values[at] if states[at] == _KNOWN else _STATES[states[at]])
        return found

    def set(self, key: Key, value: Key | New | Unknown) -> None:
        """Note the counterpart of ``key``, which must be one of the map's keys."""
        self.has_any = self.has_any or not (value is NEW or value is UNKNOWN)
        if not self._compact:
            self._values[key] = value
            return
        at = self._find(key)
        self._states[at] = _STATES.index(value) if value is NEW or value is UNKNOWN else _KNOWN
        if self._states[at] == _KNOWN:
            self._values[at] = value

    def set_all(self, pairs: Mapping[Key, Key]) -> None:
        """Note the counterparts of many keys, all of them target keys."""
        self.has_any = self.has_any or bool(pairs)
        if not self._compact:
            self._values.update(pairs)
            return
        known, values, states, number = self._keys, self._values, self._states, len(self._keys)
        at = -1
        for key, value in pairs.items():
            at += 1
            if at >= number or known[at] != key:
                at = bisect_left(known, key)
            values[at], states[at] = value, _KNOWN

    def mark_new(self, keys: Iterable[Key]) -> None:
        """Note that these have no counterpart yet."""
        if not self._compact:
            self._values.update(dict.fromkeys(keys, NEW))
            return
        known, states, new = self._keys, self._states, _STATES.index(NEW)
        for key in keys:
            states[bisect_left(known, key)] = new

    def _iter_all(self) -> Iterator[tuple[Key, Key | New | Unknown]]:
        if not self._compact:
            yield from self._values.items()
            return
        for key, value, state in zip(self._keys, self._values, self._states, strict=True):
            yield key, value if state == _KNOWN else _STATES[state]

    def iter_new(self) -> Iterator[Key]:
        """The keys that are marked NEW, in a fixed order: that of the source's keys where they are integers."""
        return (key for key, value in self._iter_all() if value is NEW)

    def items(self) -> Iterator[tuple[Key, Key]]:
        """``(source key, target key)`` of all that have a counterpart."""
        return ((key, value) for key, value in self._iter_all() if value is not NEW and value is not UNKNOWN)


def iter_chunks(keys: Sequence[Key], size: int) -> Iterator[list[Key]]:
    """``keys`` in lists of at most ``size``."""
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])

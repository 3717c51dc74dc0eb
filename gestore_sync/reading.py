"""Reading rows in bulk: every query of ours on a model goes through here, past all managers, as tuples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from django.db.models import CharField, CompositePrimaryKey, F, IntegerField, Lookup, Model, Q, QuerySet, TextField
from django.db.models.query import ValuesListIterable

from gestore_sync.refs import Key, get_key_columns, iter_chunks, resolve_key_field
from gestore_sync.unreadable import naming_unreadable

if TYPE_CHECKING:
    AnyListIterable = ValuesListIterable[Any]
else:
    AnyListIterable = ValuesListIterable

KEYS_PER_QUERY = 50_000
COMPOSITE_KEYS_PER_QUERY = 250
GAPS_OF_RANGE = 100
"""So many numbers may be missing from a range that is asked for as one."""


NUL = json.dumps("\0")[1:-1]
"""How JSON says the character at which SQLite's ``json_each`` ends a text."""


class AnyOf(Lookup):
    """``lhs`` is one of the values, sent as one array parameter where the database has such a thing.

    On PostgreSQL ``= ANY(array)``, on SQLite ``IN (SELECT value FROM json_each(array))``, elsewhere ``IN (…)``. Whole
    numbers that follow each other, as the keys of what was made together do, are on PostgreSQL asked for as a range,
    less the few that are not meant: an index is searched once for it instead of once for each number. SQLite has
    columns of texts and of fractions where a model has whole numbers, of which a range holds others.
    """

    lookup_name = "gestore_any_of"
    prepare_rhs = False

    def _get_values(self, connection: Any) -> list[Any]:
        field: Any = self.lhs.output_field
        if self._is_all_integers():
            return list(self.rhs)
        if type(field) in (CharField, TextField) and all(type(value) is str for value in self.rhs):
            return list(self.rhs)
        return [field.get_db_prep_value(value, connection, prepared=False) for value in self.rhs]

    def _is_all_integers(self) -> bool:
        is_number = isinstance(resolve_key_field(self.lhs.output_field), IntegerField)
        return is_number and set(map(type, self.rhs)) <= {int}

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        lhs, params = compiler.compile(self.lhs)
        values = self._get_values(connection)
        return f"{lhs} IN ({', '.join(['%s'] * len(values))})", [*params, *values]

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        lhs, params = compiler.compile(self.lhs)
        if self._is_all_integers():
            return self._match_numbers(lhs, params)
        values = self._get_values(connection)
        kinds = set(map(type, values))
        if kinds == {UUID}:
            return f"{lhs} = ANY(%s::uuid[])", [*params, make_array([value.hex for value in values])]
        return f"{lhs} = ANY(%s)", [*params, make_array(values) if kinds == {str} else values]

    def as_sqlite(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        values = self._get_values(connection)
        if not all(isinstance(value, (int, str)) or (type(value) is float and isfinite(value)) for value in values):
            return self.as_sql(compiler, connection)
        lhs, params = compiler.compile(self.lhs)
        array = json.dumps(values)
        if NUL not in array:
            return f"{lhs} IN (SELECT value FROM json_each(%s))", [*params, array]
        mark = find_unused(array)
        text = "CASE type WHEN 'text' THEN REPLACE(value, %s, CHAR(0)) ELSE value END"
        some = [value.replace("\0", mark) if isinstance(value, str) else value for value in values]
        return f"{lhs} IN (SELECT {text} FROM json_each(%s))", [*params, mark, json.dumps(some)]

    def _match_numbers(self, lhs: str, params: Sequence[Any]) -> tuple[str, Any]:
        found = find_range(self.rhs)
        if found is None:
            return f"{lhs} = ANY(%s::bigint[])", [*params, f"{{{','.join(map(str, self.rhs))}}}"]
        numbers, gaps = found
        text, values = f"{lhs} BETWEEN %s AND %s", [*params, numbers[0], numbers[-1]]
        if gaps:
            text = f"({text} AND {lhs} <> ALL(%s::bigint[]))"
            values += [*params, f"{{{','.join(map(str, gaps))}}}"]
        return text, values


def find_unused(array: str) -> str:
    """A character that is in none of the texts of a JSON array."""
    return next(mark for mark in map(chr, range(0xE000, 0xF900)) if json.dumps(mark)[1:-1] not in array)


def find_range(values: Sequence[int]) -> tuple[range, set[int]] | None:
    """The range that the numbers fill, but for the few that are given beside it; None where they lie apart."""
    if len(values) < 2:
        return None
    first, last = min(values), max(values)
    if last - first + 1 - len(values) > GAPS_OF_RANGE:
        return None
    numbers = range(first, last + 1)
    if len(numbers) == len(values) and list(numbers) == values:
        return numbers, set()
    gaps = set(numbers).difference(values)
    return (numbers, gaps) if len(gaps) <= min(GAPS_OF_RANGE, len(numbers) // 10) else None


def make_array(texts: Sequence[str]) -> str:
    """Texts as PostgreSQL writes an array of them, which it reads faster than the driver makes it. Those that hold null
    characters, as none of its texts does, are left out."""
    joined = '","'.join(texts)
    if "\0" in joined:
        return make_array([text for text in texts if "\0" not in text])
    if "\\" in joined or joined.count('"') > 2 * (len(texts) - 1):
        joined = '","'.join(text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return f'{{"{joined}"}}' if texts else "{}"


def get_queryset(model: type[Model], using: str) -> QuerySet[Any]:
    """All rows of ``model`` on ``using``, unordered. No manager is asked: none can hide rows or refuse to work."""
    is_composite = isinstance(model._meta.pk, CompositePrimaryKey)
    return (CompositeQuerySet if is_composite else QuerySet)(model=model, using=using).order_by()


class KeyFirstIterable(AnyListIterable):
    """Rows that begin with the columns of a composite key, which become one value."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        number = len(get_key_columns(self.queryset.model))
        for row in super().__iter__():
            yield row[:number], *row[number:]


class FlatKeyIterable(KeyFirstIterable):
    """The same where there is nothing beside the key."""

    def __iter__(self) -> Iterator[Any]:
        return (key for (key,) in super().__iter__())


class CompositeQuerySet(QuerySet[Any]):
    """Reads a composite key column by column: as ``"pk"`` Django leaves links in it as the database has them, a UUID on
    SQLite as a text."""

    def values_list(self, *fields: Any, flat: bool = False, named: bool = False) -> Any:
        """As Django's; the key comes first."""
        if fields[:1] != ("pk",) or named:
            return super().values_list(*fields, flat=flat, named=named)
        rows: Any = super().values_list(*get_key_columns(self.model), *fields[1:])
        rows._iterable_class = FlatKeyIterable if flat else KeyFirstIterable
        return rows


def list_keys(rows: QuerySet[Any]) -> list[Key]:
    """The primary keys of the rows of any query set."""
    if isinstance(rows.model._meta.pk, CompositePrimaryKey):
        return list(rows.values_list(*get_key_columns(rows.model)))
    return list(rows.values_list("pk", flat=True))


def match(path: str | Any, values: Iterable[Any]) -> Any:
    """The filter "the field or expression at ``path`` is one of ``values``"."""
    return AnyOf(F(path) if isinstance(path, str) else path, list(values))


def get_keys_per_query(model: type[Model], using: str) -> int:
    """How many primary keys of ``model`` go into one query."""
    if isinstance(model._meta.pk, CompositePrimaryKey):
        return COMPOSITE_KEYS_PER_QUERY
    if connections[using].vendor in ("postgresql", "sqlite"):
        return KEYS_PER_QUERY
    return connections[using].features.max_query_params or KEYS_PER_QUERY // 10


def match_keys(model: type[Model], keys: Sequence[Key]) -> Any:
    """The filter "the primary key is one of ``keys``"."""
    if isinstance(model._meta.pk, CompositePrimaryKey):
        return Q(pk__in=[tuple(key) for key in keys])
    return match("pk", keys)


def iter_rows(
    model: type[Model],
    using: str,
    keys: Sequence[Key],
    paths: Sequence[Any],
    narrow: Callable[[QuerySet[Any]], QuerySet[Any]] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """``(pk, *values at paths)`` of the rows with these primary keys, unordered. ``narrow`` may annotate or filter."""
    for chunk in iter_chunks(keys, get_keys_per_query(model, using)):
        rows = make_rows(model, using, chunk, narrow)
        with naming_unreadable(rows, paths):
            found = list(rows.values_list("pk", *paths))
        yield from found


def make_rows(
    model: type[Model],
    using: str,
    keys: Sequence[Key],
    narrow: Callable[[QuerySet[Any]], QuerySet[Any]] | None = None,
) -> QuerySet[Any]:
    """The query for the rows with these primary keys. ``narrow`` may annotate or filter."""
    keys = leave_out_nulls(model, using, keys)
    rows = get_queryset(model, using).filter(match_keys(model, keys))
    return rows if narrow is None else narrow(rows)


def leave_out_nulls(model: type[Model], using: str, keys: Sequence[Key]) -> Sequence[Key]:
    """Composite keys that a database may be asked for: PostgreSQL refuses texts with null characters, and has none.
    Other keys see to that themselves."""
    if connections[using].vendor != "postgresql" or not isinstance(model._meta.pk, CompositePrimaryKey):
        return keys
    return [key for key in keys if not any(isinstance(part, str) and "\0" in part for part in key)]


def iter_pointing(
    model: type[Model],
    using: str,
    path: str,
    keys: Sequence[Key],
    extra: Q | None = None,
    also: Sequence[str] = (),
) -> Iterator[tuple[Any, ...]]:
    """``(pk, value at path, *values at also)`` of the rows whose value at ``path`` is one of ``keys``; read as a
    stream."""
    for chunk in iter_chunks(keys, KEYS_PER_QUERY):
        rows = get_queryset(model, using).filter(match(path, chunk))
        if extra is not None:
            rows = rows.filter(extra)
        yield from rows.values_list("pk", path, *also).iterator(chunk_size=10_000)


def iter_composite_pointing(
    model: type[Model], using: str, paths: Sequence[str], keys: Sequence[Key]
) -> Iterator[tuple[Key, Key]]:
    """The same for keys of several columns, whose values are at ``paths``."""
    for chunk in iter_chunks(keys, COMPOSITE_KEYS_PER_QUERY):
        wanted = Q()
        for key in chunk:
            wanted |= Q(**dict(zip(paths, key, strict=True)))
        for pk, *values in get_queryset(model, using).filter(wanted).values_list("pk", *paths):
            yield pk, tuple(values)


def count_pointing(model: type[Model], using: str, path: str, keys: Sequence[Key], extra: Q | None = None) -> int:
    """How many rows have one of ``keys`` at ``path``."""
    total = 0
    for chunk in iter_chunks(keys, KEYS_PER_QUERY):
        rows = get_queryset(model, using).filter(match(path, chunk))
        total += (rows.filter(extra) if extra is not None else rows).count()
    return total


def find_existing(model: type[Model], using: str, keys: Sequence[Key]) -> set[Key]:
    """Those of ``keys`` that have a row."""
    return {pk for (pk,) in iter_rows(model, using, keys, ())}

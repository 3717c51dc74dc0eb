"""Which rows point at objects, by whatever kind of link, and what becomes of them when the objects are deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.models import Model

from gestore_sync.exceptions import WriteFailed
from gestore_sync.generic import find_type_filter, get_faces, get_object_ids, get_type_ids
from gestore_sync.hanging import iter_linked
from gestore_sync.keysets import make_key_list, make_key_set
from gestore_sync.links import GENERIC, TREE, Link, LinkGraph
from gestore_sync.mappings import MappingStore
from gestore_sync.reading import iter_pointing, iter_rows
from gestore_sync.refs import Key, get_field, get_table, iter_chunks
from gestore_sync.scope import get_default

HOLDS, SETS, LEAVES = "holds", "sets", "leaves"
"""What a row does that points at an object that goes: it holds the object fast, its link is set to something else, or
it is left with a link to nothing."""

SET_NULLS = (models.SET_NULL, getattr(models, "DB_SET_NULL", models.SET_NULL))
SET_DEFAULTS = (models.SET_DEFAULT, getattr(models, "DB_SET_DEFAULT", models.SET_DEFAULT))

KEYS_AT_ONCE = 500
"""How many keys go into one query on a table that Django does not know."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One way in which rows point at objects of a model.

    ``name``: as flags have it, that of the generic relation where there is one. ``faces``: of a generic key, the models
    whose content types count.
    """

    name: str
    link: Link
    fate: str
    faces: tuple[type[Model], ...] = ()


class References:
    """Finds the rows of one database that point at objects."""

    def __init__(self, graph: LinkGraph) -> None:
        self.graph = graph
        self.using = graph.using
        self._found: dict[type[Model], list[Reference]] = {}

    @cached_property
    def _type_ids(self) -> dict[tuple[str, str], int]:
        return get_type_ids(self.using) if ContentType in self.graph else {}

    @cached_property
    def _views(self) -> set[str]:
        with connections[self.using].cursor() as cursor:
            tables = connections[self.using].introspection.get_table_list(cursor)
        return {table.name for table in tables if table.type == "v"}

    def get(self, model: type[Model]) -> list[Reference]:
        """All ways in which rows may point at objects of ``model``. Rows of views are none."""
        if model not in self._found:
            every = [*self._iter_foreign(model), *self._iter_generic(model)]
            self._found[model] = [one for one in every if get_table(one.link.model) not in self._views]
        return self._found[model]

    def _iter_foreign(self, model: type[Model]) -> Iterator[Reference]:
        for link in self.graph.reverse[model]:
            yield Reference(link.name, link, find_fate(link))

    def _iter_generic(self, model: type[Model]) -> Iterator[Reference]:
        """Rows hang on an object by a generic relation; by a generic key alone they only name it."""
        related: dict[Link, list[type[Model]]] = {}
        for relation in self.graph.relations.get(model, ()):
            related.setdefault(relation.link, []).append(relation.content_type_model)
            yield Reference(relation.name, relation.link, HOLDS, (relation.content_type_model,))
        for link in self.graph.generic:
            others = tuple(face for face in get_faces(model) if face not in related.get(link, ()))
            if others:
                yield Reference(link.name, link, LEAVES, others)

    def iter_pairs(self, reference: Reference, keys: Sequence[Key]) -> Iterable[tuple[Key, Key]]:
        """``(key of the row, key of the object)`` of the rows that point at these objects in this way."""
        link = reference.link
        if not len(keys):
            return ()
        if link.kind == GENERIC:
            return self._iter_generic_pairs(reference, keys)
        return iter_linked(self.graph, self.using, link, keys)

    def _iter_generic_pairs(self, reference: Reference, keys: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
        link = reference.link
        of_type = find_type_filter(link, reference.faces, self._type_ids)
        if of_type is None:
            return
        ids = get_object_ids(link, keys)
        for pk, value in iter_pointing(link.model, self.using, link.attnames[1], list(ids), of_type):
            yield pk, ids[value]


def iter_around(
    graph: LinkGraph, objects: Mapping[type[Model], Sequence[Key]]
) -> Iterator[tuple[type[Model], Sequence[Key]]]:
    """By model and way of pointing, the rows that point at these objects, each once."""
    references = References(graph)
    for model, keys in objects.items():
        for reference in references.get(model):
            found, seen = make_key_list(reference.link.model), make_key_set(reference.link.model)
            found.extend(pk for pk, _ in references.iter_pairs(reference, keys) if seen.add(pk))
            yield reference.link.model, found


def forget_around(store: MappingStore, graph: LinkGraph) -> None:
    """Have everything compared again that points to objects whose counterpart is another one after this run, and
    whatever points to what it was on the target."""
    for model, pointing in iter_around(graph, store.unsettled):
        store.forget_imprints(model, pointing)
    there = LinkGraph(store.target, graph.adapters) if store.left else graph
    for model, pointing in iter_around(there, store.left):
        store.forget_imprints_of(model, pointing)
    store.unsettled.clear()
    store.left.clear()


# What becomes of a link


def get_on_delete(link: Link) -> Any:
    """The ``on_delete`` of a foreign key; None for other links."""
    return getattr(getattr(link.field, "remote_field", None), "on_delete", None)


def find_fate(link: Link) -> str:
    """What becomes of a row outside when what ``link`` points to is deleted."""
    on_delete = get_on_delete(link)
    if link.kind == TREE or link.belongs:
        return HOLDS
    if on_delete in (*SET_NULLS, *SET_DEFAULTS) or hasattr(on_delete, "deconstruct"):
        return SETS
    return HOLDS if link.required or link.constrained else LEAVES


def is_nulled(link: Link) -> bool:
    """Whether ``link`` is set to null; asks no function."""
    on_delete = get_on_delete(link)
    if on_delete in SET_DEFAULTS:
        is_called = link.field.has_default() and callable(link.field.default)
        return not is_called and get_default(link) is None
    return on_delete in SET_NULLS or on_delete.deconstruct()[1] == (None,)


def get_set_fields(link: Link) -> list[str]:
    """The names of the fields that are written where ``link`` is set: of a key of several columns those that may be
    null and are no part of the row's own key."""
    if len(link.attnames) == 1:
        return [link.field.name]
    own = {link.model._meta.pk.name, *getattr(link.model._meta.pk, "field_names", ())}
    return [field.name for field in link.field.local_related_fields if field.null and field.name not in own]


def describe_setting(link: Link) -> str:
    """What ``link`` is set to, for people; asks nothing."""
    on_delete = get_on_delete(link)
    if on_delete in SET_NULLS:
        return "null"
    if on_delete in SET_DEFAULTS:
        return "default"
    (value,) = on_delete.deconstruct()[1]
    return "null" if value is None else f"{getattr(value, '__name__', value)}{'()' if callable(value) else ''}"


def get_set_value(link: Link, using: str) -> Any:
    """What ``link`` is set to, as its column holds it. A function that ``SET()`` names is called.

    Raises :class:`WriteFailed` where that gives an object of another database.
    """
    on_delete = get_on_delete(link)
    if on_delete in SET_NULLS:
        return None
    if on_delete in SET_DEFAULTS:
        return get_default(link)
    (given,) = on_delete.deconstruct()[1]
    value = given() if callable(given) else given
    if not isinstance(value, Model):
        return value
    if value._state.db != using:
        raise WriteFailed(
            f"{link} is to be set to {value._meta.label}.{value.pk}, which is an object of the database "
            f"{value._state.db!r}, not of {using!r}: the function of its SET() looks in one database only. "
            "Nothing was deleted. Let these rows point elsewhere first."
        )
    return getattr(value, link.field.target_field.attname)


# Tables that Django does not know


def iter_unknown_pointing(
    graph: LinkGraph, doomed: Callable[[type[Model]], Sequence[Key]], going: Iterable[type[Model]]
) -> Iterator[tuple[str, str, type[Model], Any]]:
    """``(table, column, model, value)`` of rows in tables without a model whose foreign keys point at rows that go.

    ``doomed``: gives the keys of the rows of a model that go; ``going``: the models that have such rows.
    """
    connection = connections[graph.using]
    by_table = {get_table(model): model for model in going}
    known = {get_table(model) for model in graph.models}
    with connection.cursor() as cursor:
        tables = [info.name for info in connection.introspection.get_table_list(cursor) if info.type != "v"]
        for table in sorted(set(tables) - known):
            for column, (to_column, to_table, *_) in connection.introspection.get_relations(cursor, table).items():
                if to_table in by_table:
                    model = by_table[to_table]
                    value = find_pointing_value(graph.using, table, column, model, to_column, doomed(model))
                    if value is not None:
                        yield table, column, model, value


def find_pointing_value(
    using: str, table: str, column: str, model: type[Model], to_column: str, keys: Sequence[Key]
) -> Any:
    """A value of ``column`` that names one of these objects by their ``to_column``; None without one."""
    connection = connections[using]
    quote = connection.ops.quote_name
    field = next((field for field in model._meta.local_concrete_fields if field.column == to_column), None)
    field = field or get_field(model, model._meta.pk.name)
    for chunk in iter_chunks(keys, KEYS_AT_ONCE):
        values = [value for _, value in iter_rows(model, using, chunk, [field.attname]) if value is not None]
        wanted = [field.get_db_prep_value(value, connection, prepared=False) for value in values]
        if not wanted:
            continue
        marks = ", ".join(["%s"] * len(wanted))
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {quote(column)} FROM {quote(table)} WHERE {quote(column)} IN ({marks}) LIMIT 1", wanted
            )
            row = cursor.fetchone()
        if row is not None:
            return row[0]
    return None

"""What a target should hold after a push, worked out object by object in memory.

Rows are described without their primary keys: a row's mark is the part before "/" of its first text, which is
unique in its model; links are described by the marks of the rows that they lead to.
Two databases hold the same graph where these descriptions are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from tests.kinds.pushing import exact, key_columns, rows, take_key

Model = type[models.Model]
Place = tuple[Model, Any]
Key = tuple[str, Any]
State = dict[Key, dict[str, Any]]

TAKEN = (models.CASCADE, models.PROTECT, models.RESTRICT)
NOWHERE = "a row that is not there"


class Database:
    """All rows of some models of one database, in memory."""

    def __init__(self, using: str, tables: Iterable[Model]) -> None:
        self.models = list(tables)
        self.rows: dict[Model, dict[Any, dict[str, Any]]] = {}
        for model in self.models:
            names = [field.attname for field in model._meta.local_concrete_fields]
            places = [names.index(name) for name in key_columns(model)]
            found = rows(model, using).values_list(*names)
            self.rows[model] = {take_key(row, places): dict(zip(names, row, strict=True)) for row in found}
        types = rows(ContentType, using).all()
        self.types = {kind.pk: kind.model_class()._meta.concrete_model for kind in types if kind.model_class()}

    def find(self, model: Model, column: str, value: Any) -> Any:
        """Return the primary key of the row that has this value in a unique column."""
        if column == model._meta.pk.attname:
            return value
        return next(pk for pk, row in self.rows[model].items() if row[column] == value)

    def links(self, place: Place) -> Iterator[tuple[models.Field[Any, Any] | GenericForeignKey, Place | None]]:
        """Yield a row's forward links, with the rows that they lead to."""
        model, pk = place
        row = self.rows[model][pk]
        for field in foreign_keys(model):
            value = row[field.attname]
            to = field.remote_field.model._meta.concrete_model
            yield field, None if value is None else (to, self.find(to, field.target_field.attname, value))
        for field in generic_keys(model):
            kind, value = row[model._meta.get_field(field.ct_field).attname], row[field.fk_field]
            to = None if kind is None else self.types[kind]
            yield field, None if to is None else (to, to._meta.pk.to_python(value))

    def mark(self, place: Place) -> Any:
        """Return what names a row on any database."""
        model, pk = place
        row = self.rows[model][pk]
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.CharField) and field.name not in ("key", "iso"):
                return row[field.attname].split("/")[0]
        linked = {link: to for link, to in self.links(place) if to is not None}
        parents = [to for link, to in linked.items() if is_parent_link(link)]
        return self.mark(parents[0]) if parents else tuple(self.mark(to) for to in linked.values())

    def key(self, place: Place) -> Key:
        """Return a row's model and mark."""
        return place[0]._meta.label, self.mark(place)

    def describe(self, place: Place) -> dict[str, Any]:
        """Return a row's values, with links by their marks and without automatic numbers."""
        model, pk = place
        linked = {field.attname for field in foreign_keys(model)}
        for field in generic_keys(model):
            linked |= {model._meta.get_field(field.ct_field).attname, field.fk_field}
        row = self.rows[model][pk]
        plain = [
            field.attname
            for field in model._meta.local_concrete_fields
            if field.attname not in linked and not isinstance(field, models.AutoField)
        ]
        described = {name: exact(row[name]) for name in plain}
        for link, to in self.links(place):
            if not (isinstance(link, models.ForeignKey) and link.remote_field.model is ContentType):
                described[link.name] = None if to is None else self.key(to) if self.exists(to) else NOWHERE
        return described

    def places(self) -> Iterator[Place]:
        """Yield every row."""
        for model in self.models:
            for pk in self.rows[model]:
                yield model, pk

    def exists(self, place: Place) -> bool:
        """Say whether there is such a row: a generic key may lead to none."""
        return place[1] in self.rows[place[0]]

    def state(self) -> State:
        """Return the descriptions of all rows; two rows with one mark are an AssertionError."""
        found: State = {}
        for place in self.places():
            key = self.key(place)
            assert key not in found, f"{key} is there twice"
            found[key] = self.describe(place)
        return found

    def pointing(self, place: Place) -> Iterator[tuple[Any, Place]]:
        """Yield the links that lead to a row, with the rows that they come from."""
        for other in self.places():
            for link, to in self.links(other):
                if to == place:
                    yield link, other


def foreign_keys(model: Model) -> list[Any]:
    """Return a model's own foreign keys and one-to-one fields, but those to content types."""
    fields = model._meta.local_concrete_fields
    return [field for field in fields if field.remote_field and field.remote_field.model is not ContentType]


def generic_keys(model: Model) -> list[GenericForeignKey]:
    """Return the generic foreign keys whose columns are in a model's own table."""
    return [
        field
        for field in model._meta.private_fields
        if isinstance(field, GenericForeignKey) and model._meta.get_field(field.fk_field) in model._meta.local_fields
    ]


def is_generically_related(model: Model, link: GenericForeignKey) -> bool:
    """Say whether a model has a generic relation for this generic foreign key."""
    return any(
        isinstance(field, GenericRelation)
        and field.related_model is link.model
        and field.object_id_field_name == link.fk_field
        for field in model._meta.private_fields
    )


def belongs(link: Any, to: Model) -> bool:
    """Say whether the rows of a link belong to what the link leads to."""
    if isinstance(link, GenericForeignKey):
        return is_generically_related(to, link)
    return link.remote_field.on_delete in TAKEN


def is_parent_link(link: Any) -> bool:
    """Say whether a link leads to another part of the same object."""
    return bool(getattr(link, "remote_field", None) and getattr(link.remote_field, "parent_link", False))


def owned(source: Database, roots: Iterable[Place]) -> set[Place]:
    """Return the roots and all that belongs to them."""
    found: set[Place] = set()
    waiting = list(roots)
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        found.add(place)
        waiting += [to for link, to in source.links(place) if is_parent_link(link)]
        waiting += [other for link, other in source.pointing(place) if belongs(link, place[0])]
    return found


def is_member_of(link: Any, place: Place) -> bool:
    """Say whether a link comes from the table of a many-to-many field that the row's model declares."""
    fields = [field for field in place[0]._meta.local_many_to_many if field.remote_field.model is not place[0]]
    return any(
        field.remote_field.through is link.model
        and link.model._meta.auto_created
        and link.name == field.m2m_field_name()
        for field in fields
    )


def referred(source: Database, mine: set[Place], held: State) -> set[Place]:
    """Return what has to be created so that owned rows can exist, where the target holds ``held``."""
    found: set[Place] = set()
    waiting = [to for place in mine for link, to in source.links(place) if to is not None]
    while waiting:
        place = waiting.pop()
        if place in found or place in mine or source.key(place) in held:
            continue
        found.add(place)
        waiting += [to for link, to in source.links(place) if to is not None]
        for link, other in source.pointing(place):
            is_extension = getattr(link, "one_to_one", False) and link.remote_field.on_delete is models.CASCADE
            if is_extension or is_member_of(link, place):
                waiting.append(other)
    return found


def is_membership(model: Model) -> bool:
    """Say whether a model is a many-to-many table."""
    declared = [field for other in model._meta.apps.get_models() for field in other._meta.local_many_to_many]
    return any(field.remote_field.through is model for field in declared)


def expect(source: Database, roots: Iterable[Place], held: State, sent: set[Key]) -> State:
    """Return what the target holds after a push, where it held ``held``; add to ``sent`` what is sent."""
    mine = owned(source, roots)
    needed = referred(source, mine, held)
    state = dict(held)
    for place in mine | needed:
        state[source.key(place)] = source.describe(place)
        sent.add(source.key(place))
    there = {source.key(place) for place in source.places()}
    owners = {source.key(place) for place in mine}
    memberships = {model._meta.label for model in source.models if is_membership(model)}
    gone = {key for key in (sent & state.keys()) - there if key[0] in memberships and owners & set(ends(state[key]))}
    return take_out(state, gone)


def take_out(state: State, gone: Set[Key]) -> State:
    """Return what is left without these rows: generic keys that led to them lead nowhere."""
    return {
        key: {name: NOWHERE if is_key(value) and value in gone else value for name, value in row.items()}
        for key, row in state.items()
        if key not in gone
    }


def ends(description: dict[str, Any]) -> list[Key]:
    """Return the rows that a described row links to."""
    return [value for value in description.values() if is_key(value)]


def is_key(value: Any) -> bool:
    """Whether a described value is a row that is linked to."""
    return isinstance(value, tuple) and "." in str(value[0])

"""Reads the values of identities on either side, in bulk, and finds the rows that have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Expression, F, ForeignObject, Model, OrderBy, Q, QuerySet
from django.db.models.constants import LOOKUP_SEP

from gestore_sync.generic import find_generic_target, to_key
from gestore_sync.identity import Identity, has_automatic_key, iter_identities
from gestore_sync.layouts import Layout
from gestore_sync.links import GENERIC, LinkGraph, get_concrete
from gestore_sync.plan import Noted
from gestore_sync.reading import get_queryset, iter_rows, match
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref
from gestore_sync.translation import Counterparts

PLAIN, KEY, OBJECT_ID = "plain", "key", "object id"


def freeze(value: Any) -> Any:
    """A value as something that can be hashed."""
    if isinstance(value, list):
        return tuple(map(freeze, value))
    return bytes(value) if isinstance(value, memoryview) else value


def is_null(field: Any, value: Any) -> bool:
    """Whether the database has null for a value, also where the field reads it as an empty text."""
    return value is None or (value == "" and field is not None and field.get_prep_value(value) is None)


class Doubt(NamedTuple):
    """Why an object's counterpart cannot be told; ``fields``: the values of both sides, where they matter."""

    ref: Ref
    reason: str
    fields: dict[str, list[Any]] = {}


@dataclass(frozen=True, slots=True)
class Component:
    """One of the values of an identity: where it is read, on both sides, and how a link in it is rewritten."""

    path: str
    kind: str = PLAIN
    target: type[Model] | None = None
    type_path: str = ""
    field: Any = None
    expression: Any = None


class UnusableIdentity(Exception):
    """The identity cannot be read as values."""


class IdentityReader:
    """Reads the values of one identity on either side and finds the rows that have them."""

    def __init__(self, identity: Identity, graph: LinkGraph) -> None:
        self.identity = identity
        self.model = identity.model
        self.graph = graph
        self.components = [self._make_component(path) for path in identity.paths]
        self.components += [
            self._make_expression(expression, number) for number, expression in enumerate(identity.expressions)
        ]
        if not self.components:
            raise UnusableIdentity(identity.name)
        self.self_linked = [component.target is self.model for component in self.components]

    def _make_component(self, path: str) -> Component:
        model = self.model
        *before, last = path.split(LOOKUP_SEP)
        try:
            for name in before:
                model = get_concrete(model._meta.get_field(name).related_model)  # type: ignore[arg-type]
            field: Any = model._meta.pk if last == "pk" else model._meta.get_field(last)
        except (FieldDoesNotExist, AttributeError):
            raise UnusableIdentity(path) from None
        prefix = "".join(name + LOOKUP_SEP for name in before)
        if isinstance(field, ForeignObject):
            if len(field.local_related_fields) != 1:
                raise UnusableIdentity(path)
            at = field.attname if field.target_field.primary_key else f"{field.name}{LOOKUP_SEP}pk"
            return Component(prefix + at, KEY, get_concrete(field.remote_field.model))
        if not getattr(field, "concrete", False) or (field.primary_key and has_automatic_key(model)):
            raise UnusableIdentity(path)
        for link in self.graph.forward.get(model, ()):
            if link.kind == GENERIC and link.attnames[1] == field.attname:
                return Component(prefix + field.attname, OBJECT_ID, None, prefix + link.attnames[0], field)
        return Component(prefix + field.attname, field=field)

    def _make_expression(self, expression: Any, number: int) -> Component:
        if isinstance(expression, OrderBy):
            expression = expression.expression
        if isinstance(expression, F):
            return self._make_component(find_references(expression)[0])
        for name in find_references(expression):
            if isinstance(self.model._meta.get_field(name.split(LOOKUP_SEP)[0]), ForeignObject):
                raise UnusableIdentity(self.identity.name)
        return Component(f"gestore_sync_{number}", expression=expression)

    @cached_property
    def paths(self) -> list[str]:
        """What is read: a path for each component, then the content types' paths."""
        types = [component.type_path for component in self.components if component.type_path]
        return [component.path for component in self.components] + types

    def _annotate(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        named = {component.path: component.expression for component in self.components if component.expression}
        rows = rows.annotate(**named) if named else rows
        return rows.filter(self.identity.condition) if self.identity.condition else rows

    def read(self, using: str, keys: Sequence[Key]) -> dict[Key, tuple[Any, ...]]:
        """The values of the rows with these keys; rows to which a condition does not apply are left out."""
        return {row[0]: row[1:] for row in iter_rows(self.model, using, keys, self.paths, self._annotate)}

    def resolve(
        self, values: Sequence[Any], counterparts: Counterparts, source: str, *, without_self: bool = False
    ) -> tuple[Any, ...] | None:
        """Values of the source as they would be on the target; None where one is null or is not known there.

        ``without_self``: None stands for links to the same model.
        """
        found: list[Any] = []
        for at, is_self in enumerate(self.self_linked):
            part = None if without_self and is_self else self._resolve_part(at, values, counterparts, source)
            is_equal_null = self.identity.nulls_equal and values[at] is None
            if part is None and not (without_self and is_self) and not is_equal_null:
                return None
            found.append(part)
        return tuple(found)

    def resolve_all(
        self, rows: Mapping[Key, Sequence[Any]], counterparts: Counterparts, source: str
    ) -> dict[Key, tuple[Any, ...] | None]:
        """The same of many objects, component by component."""
        if self.identity.nulls_equal or not rows:
            return {key: self.resolve(values, counterparts, source) for key, values in rows.items()}
        columns = [
            counterparts.get_all(component.target, list(column))
            if component.kind == KEY and component.target is not None
            else [self._resolve_part(at, values, counterparts, source) for values in rows.values()]
            for at, (component, column) in enumerate(
                zip(self.components, zip(*rows.values(), strict=True), strict=False)
            )
        ]
        found = zip(*columns, strict=True)
        return {
            key: None if None in parts or NEW in parts or UNKNOWN in parts else parts
            for key, parts in zip(rows, found, strict=True)
        }

    def finds_none(self, counterparts: Counterparts) -> bool:
        """Whether the target cannot have any of these values, because nothing that a link in them may lead to is there:
        nobody has to read them."""
        return not self.identity.nulls_equal and any(
            component.kind == KEY and component.target is not self.model and not counterparts.has_any(component.target)
            for component in self.components
        )

    def is_whole(self, values: Sequence[Any]) -> bool:
        """Whether the values of an object identify it: none of them is null."""
        return not any(
            is_null(component.field, value) if component.kind == PLAIN else value is None
            for component, value in zip(self.components, values, strict=False)
        )

    def _resolve_part(self, at: int, values: Sequence[Any], counterparts: Counterparts, source: str) -> Any:
        component, value = self.components[at], values[at]
        if value is None:
            return None
        if component.kind == PLAIN:
            return None if is_null(component.field, value) else freeze(value)
        target, key = component.target, value
        if component.kind == OBJECT_ID:
            content_type = values[self.type_places[at]]
            target = None if content_type is None else find_generic_target(source, content_type)
            key = None if target is None else to_key(target, value)
        found = UNKNOWN if target is None else counterparts.get(target, key)
        if found is NEW or found is UNKNOWN:
            return None
        if component.kind == OBJECT_ID:
            return value if found == key else component.field.to_python(found)
        return found

    @cached_property
    def type_places(self) -> dict[int, int]:
        """By the place of an object id, the place of its content type among the values."""
        ids = [at for at, component in enumerate(self.components) if component.kind == OBJECT_ID]
        return {at: len(self.components) + number for number, at in enumerate(ids)}

    def find(
        self, using: str, wanted: Iterable[tuple[Any, ...]], *, without_self: bool = False
    ) -> dict[tuple[Any, ...], list[Key]]:
        """The rows that have one of the value tuples. ``without_self``: links to the same model are not compared."""
        places = [at for at, is_self in enumerate(self.self_linked) if not (without_self and is_self)]
        rows = self._annotate(get_queryset(self.model, using))
        wanted = {tuple(values[at] for at in places) for values in wanted}
        found: dict[tuple[Any, ...], list[Key]] = {}
        if not places or not wanted:
            return found
        for number, at in enumerate(places):
            values = {parts[number] for parts in wanted}
            path = self.components[at].path
            matched = match(path, values - {None})
            rows = rows.filter(Q(matched) | Q(**{f"{path}__isnull": True}) if None in values else matched)
        paths = [component.path for component in self.components]
        for key, *parts in rows.values_list("pk", *paths).iterator(chunk_size=10_000):
            frozen = tuple(map(freeze, parts))
            if tuple(frozen[at] for at in places) in wanted:
                found.setdefault(frozen, []).append(key)
        return {values: sorted(keys, key=str) if len(keys) > 1 else keys for values, keys in found.items()}

    def sort_parents_first(self, keys: list[Key], values: Mapping[Key, Sequence[Any]]) -> list[Key]:
        """``keys`` with those that they point to among them before them."""
        at = self.self_linked.index(True)
        ordered: dict[Key, None] = {}
        for start in keys:
            path: dict[Key, None] = {}
            key = start
            while key in values and key not in ordered and key not in path:
                path[key] = None
                key = values[key][at]
            ordered.update(dict.fromkeys(reversed(path)))
        ordered.update(dict.fromkeys(keys))
        wanted = set(keys)
        return [key for key in ordered if key in wanted]

    def get_names(self) -> list[str | None]:
        """The names of the model's own fields that the components are; None for others."""
        own = {field.attname: field.name for field in self.model._meta.local_concrete_fields}
        return [own.get(component.path) for component in self.components]


def find_references(expression: Any) -> list[str]:
    """The names of the fields that an expression or condition uses."""
    if isinstance(expression, F):
        return [str(getattr(expression, "name", ""))]
    if isinstance(expression, tuple):
        return [expression[0], *find_references(expression[1])]
    children = getattr(expression, "children", None)
    if children is None:
        children = expression.get_source_expressions() if isinstance(expression, Expression) else ()
    return [name for child in children if child is not None for name in find_references(child)]


def get_readers(model: type[Model], graph: LinkGraph) -> list[IdentityReader]:
    """Readers of all identities of ``model`` that can be read as values."""
    adapter = graph.find_adapter(model)
    readers = []
    for identity in iter_identities(model, adapter.position_fields(model) if adapter else ()):
        try:
            readers.append(IdentityReader(identity, graph))
        except UnusableIdentity:
            continue
    return readers


def get_identity_digests(layout: Layout, values: Sequence[Any], names: Iterable[str]) -> bytes:
    """Digests of the identifying fields only, for objects that are matched and left as they are."""
    wanted = set(names)
    return layout.digest(values, [number for number, name in enumerate(layout.names) if name in wanted])


def describe_matched(layout: Layout, graph: LinkGraph, target: str, pairs: Sequence[tuple[Key, Key]]) -> list[Noted]:
    """The id mappings of objects that were found on the target, with the digests of what identified them."""
    reader = next((reader for reader in get_readers(layout.model, graph) if reader.identity.locates), None)
    names = [name for name in reader.get_names() if name] if reader is not None else []
    rows = {}
    if names:
        rows = {row[0]: row for row in layout.read(target, [theirs for _, theirs in pairs], extras=False)}
    noted = []
    for key, theirs in pairs:
        values = layout.get_values(rows[theirs]) if theirs in rows else []
        noted.append(Noted(key, theirs, False, get_identity_digests(layout, values, names if values else ())))
    return noted

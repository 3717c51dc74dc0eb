"""How a row of a model becomes a record: which columns travel, how they are read, and how links in them are rewritten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import F, Field, JSONField, Model, QuerySet, TextField
from django.db.models.fields.generated import GeneratedField
from django.db.models.functions import Cast

from gestore_sync.digests import WRITERS, canonize_json, get_name_code, make_digest
from gestore_sync.identity import has_automatic_key
from gestore_sync.links import FOREIGN, GENERIC, TREE, Link, LinkGraph, find_generic_target, to_key
from gestore_sync.reading import iter_rows
from gestore_sync.refs import NEW, UNKNOWN, Key, KeyMap, New, Unknown, get_key_columns

TREE_PARENT = "parent"


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

    def get(self, model: type[Model], key: Key) -> Key | New | Unknown:
        """The counterpart of an object: a key of the target, NEW or UNKNOWN."""
        keys = self.maps.get(model)
        return UNKNOWN if keys is None else keys.get(key)


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


class Layout:
    """The columns of one model that travel. A row is ``(key, *column values, *extra values)``."""

    def __init__(self, model: type[Model], graph: LinkGraph) -> None:
        self.model = model
        self.adapter = graph.find_adapter(model)
        self._positions = frozenset(self.adapter.position_fields(model)) if self.adapter else frozenset()
        self.links = graph.forward[model]
        self.tree = next((link for link in self.links if link.kind == TREE), None)
        self.skipped = self._get_skipped()
        self.columns = self._make_columns()

    def _get_skipped(self) -> frozenset[str]:
        """The fields of ``SYNCHRO_SKIP``, which do not travel."""
        names = getattr(self.model, "SYNCHRO_SKIP", ())
        return frozenset(
            field.name
            for field in self.model._meta.local_concrete_fields
            if {field.name, field.attname} & set(names)
        )

    def _make_columns(self) -> list[Column]:
        fields = [
            field
            for field in self.model._meta.local_concrete_fields
            if not (field.primary_key and has_automatic_key(self.model))
            and not isinstance(field, GeneratedField)
            and field.name not in self.skipped
            and field.name not in self._positions
        ]
        single = {
            link.attnames[0]: link for link in self.links if link.kind == FOREIGN and len(link.attnames) == 1
        }
        parts = {
            name: (link, link.key_paths.index(name))
            for link in self.links
            if link.kind == FOREIGN and len(link.attnames) > 1
            for name in link.attnames
        }
        generic = {link.attnames[1]: link for link in self.links if link.kind == GENERIC}
        at = {field.attname: number for number, field in enumerate(fields, start=1)}
        self.extras: list[str] = []
        columns = []
        for field in fields:
            link, part, type_at, key_at = single.get(field.attname), None, 0, 0
            parts_at: tuple[int, ...] = ()
            if link is None and field.attname in parts and set(parts[field.attname][0].key_paths) <= set(at):
                link, part = parts[field.attname]
                parts_at = tuple(at[name] for name in link.key_paths)
            elif link is None and field.attname in generic and generic[field.attname].attnames[0] in at:
                link = generic[field.attname]
                type_at = at[link.attnames[0]]
            elif link is not None and link.to_field:
                self.extras.append(link.key_paths[0])
                key_at = len(fields) + len(self.extras)
            is_json = isinstance(field, JSONField)
            path = f"gestore_sync_{field.attname}" if is_json else field.attname
            columns.append(Column(field.name, field, path, link, part, is_json, parts_at, type_at, key_at))
        return columns

    @cached_property
    def names(self) -> list[str]:
        """The names of the columns, and of the tree's parent where no field shows it."""
        return [column.name for column in self.columns] + ([TREE_PARENT] if self.tree else [])

    @cached_property
    def key_names(self) -> frozenset[str]:
        """The names of those columns that are (part of) the primary key."""
        attnames = get_key_columns(self.model)
        return frozenset(column.name for column in self.columns if column.field.attname in attnames)

    @cached_property
    def tree_at(self) -> int:
        """Where in a row the key of the tree's parent is."""
        return 1 + len(self.columns) + len(self.extras)

    def read(self, using: str, keys: Sequence[Key], *, extras: bool = True) -> Iterator[tuple[Any, ...]]:
        """The rows with these keys, in no order. JSON comes as the text that the database holds."""
        paths = [column.path for column in self.columns] + (self.extras if extras else [])
        rows = iter_rows(self.model, using, keys, paths, self._annotate)
        if self.tree is None:
            yield from rows
            return
        assert self.adapter is not None
        nodes = self.adapter.read(self.model, using, keys)
        padding = (None,) * (0 if extras else len(self.extras))
        for row in rows:
            node = nodes.get(row[0])
            yield (*row, *padding, None if node is None else node.parent)

    def _annotate(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        texts = {
            column.path: Cast(F(column.field.attname), TextField())
            for column in self.columns
            if column.is_json
        }
        return rows.annotate(**texts) if texts else rows

    def get_values(self, row: tuple[Any, ...]) -> list[Any]:
        """The values of a row of the target, in the order of :attr:`names`."""
        values = list(row[1 : len(self.columns) + 1])
        if self.tree is not None:
            values.append(row[self.tree_at])
        return values

    @cached_property
    def _translators(self) -> list[tuple[int, Callable[[Counterparts, tuple[Any, ...], str], Any]]]:
        found = [
            (number, make_translator(column, number + 1))
            for number, column in enumerate(self.columns)
            if column.link is not None
        ]
        if self.tree is not None:
            found.append((len(self.columns), make_key_translator(self.model, self.tree_at)))
        return found

    def translate(self, row: tuple[Any, ...], counterparts: Counterparts, source: str) -> list[Any]:
        """The values of a row of the source as they belong on the target, in the order of :attr:`names`.

        A link to an object that is still to be created is NEW, one to an object without counterpart LOST.
        """
        values = list(row[1 : len(self.columns) + 1])
        if self.tree is not None:
            values.append(None)
        for number, translator in self._translators:
            values[number] = translator(counterparts, row, source)
        return values

    def get_link(self, name: str) -> Link | None:
        """The link that the column called ``name`` is."""
        if name == TREE_PARENT and self.tree is not None:
            return self.tree
        return next((column.link for column in self.columns if column.name == name), None)

    def is_same(self, number: int, mine: Any, theirs: Any) -> bool:
        """Whether two values of the column with this number are equal."""
        if mine is NEW or mine is LOST:
            return False
        if number >= len(self.columns) or mine is None or theirs is None:
            return bool(mine == theirs)
        column = self.columns[number]
        if column.is_json:
            return mine == theirs or canonize_json(mine) == canonize_json(theirs)
        return is_equal(column.field, mine, theirs)

    def find_differing(self, mine: Sequence[Any], theirs: Sequence[Any]) -> list[int]:
        """The numbers of the columns, the primary key's left out, in which the values differ."""
        if mine == theirs:
            return []
        return [
            number
            for number, name in enumerate(self.names)
            if name not in self.key_names and not self.is_same(number, mine[number], theirs[number])
        ]

    def digest(self, values: Sequence[Any], numbers: Iterable[int] | None = None) -> bytes:
        """The digests of the values in these columns (default: all)."""
        if numbers is None:
            digesters = self._digesters
        else:
            numbers = list(numbers)
            digesters = [self._digesters[number] for number in numbers]
            values = [values[number] for number in numbers]
        return b"".join([digester(value) for digester, value in zip(digesters, values, strict=True)])

    @cached_property
    def _digesters(self) -> list[Callable[[Any], bytes]]:
        return [self._make_digester(number, name) for number, name in enumerate(self.names)]

    def _make_digester(self, number: int, name: str) -> Callable[[Any], bytes]:
        code = get_name_code(name)
        if number < len(self.columns) and self.columns[number].is_json:
            return lambda value: code + make_digest(self.normalize(number, value))

        def digest(value: Any) -> bytes:
            return code + make_digest(value if type(value) in WRITERS else self.normalize(number, value))

        return digest

    def normalize(self, number: int, value: Any) -> Any:
        """A value as it goes into digests."""
        if value is not None and number < len(self.columns):
            column = self.columns[number]
            if column.is_json:
                return canonize_json(value)
            if type(value) not in WRITERS and not isinstance(value, PLAIN_TYPES):
                return column.field.get_prep_value(value)
        return value


PLAIN_TYPES = (str, int, float, bytes, memoryview, list, tuple)


def is_equal(field: Field[Any, Any], mine: Any, theirs: Any) -> bool:
    """Whether two values of one field are equal, as Python values or as what the database would get."""
    if isinstance(mine, memoryview) or isinstance(theirs, memoryview):
        return bytes(mine) == bytes(theirs)
    if type(mine) is type(theirs) and mine == theirs:
        return True
    if mine != mine and theirs != theirs:
        return True
    if isinstance(mine, PLAIN_TYPES) and isinstance(theirs, PLAIN_TYPES):
        return bool(mine == theirs)
    try:
        return bool(mine == theirs or field.get_prep_value(mine) == field.get_prep_value(theirs))
    except (TypeError, ValueError, ValidationError):
        return False


def make_key_translator(target: type[Model], at: int) -> Callable[[Counterparts, tuple[Any, ...], str], Any]:
    """A function that gives the counterpart of the object whose key is at place ``at`` of a row."""

    def translate(counterparts: Counterparts, row: tuple[Any, ...], source: str) -> Any:
        key = row[at]
        if key is None:
            return None
        found = counterparts.get(target, key)
        return LOST if found is UNKNOWN else found

    return translate


def make_translator(column: Column, at: int) -> Callable[[Counterparts, tuple[Any, ...], str], Any]:
    """The function that rewrites the link in ``column``, which is at place ``at`` of a row."""
    link = column.link
    assert link is not None
    if link.kind == GENERIC:
        return make_generic_translator(column, at)
    assert link.target is not None
    if column.part is not None:
        return make_part_translator(column, at)
    if link.to_field:
        return make_unique_translator(link, link.target, at, column.key_at)
    return make_key_translator(link.target, at)


def make_unique_translator(
    link: Link, target: type[Model], at: int, key_at: int
) -> Callable[[Counterparts, tuple[Any, ...], str], Any]:
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


def make_part_translator(column: Column, at: int) -> Callable[[Counterparts, tuple[Any, ...], str], Any]:
    """For a component of a key of several columns: the same component of the counterpart's key."""
    assert column.link is not None and column.link.target is not None and column.part is not None
    target, part, places = column.link.target, column.part, column.parts_at

    def translate(counterparts: Counterparts, row: tuple[Any, ...], source: str) -> Any:
        key = tuple(row[place] for place in places)
        if None in key:
            return row[at]
        found = counterparts.get(target, key)
        if found is UNKNOWN:
            return LOST
        return found if found is NEW else found[part]

    return translate


def make_generic_translator(column: Column, at: int) -> Callable[[Counterparts, tuple[Any, ...], str], Any]:
    """For the object id of a generic key: the counterpart of what content type and id name together."""

    def translate(counterparts: Counterparts, row: tuple[Any, ...], source: str) -> Any:
        value, content_type = row[at], row[column.type_at]
        if value is None or content_type is None:
            return value
        target = find_generic_target(source, content_type)
        key = None if target is None else to_key(target, value)
        if target is None or key is None:
            return LOST
        found = counterparts.get(target, key)
        if found is UNKNOWN:
            return LOST
        if found is NEW or found == key:
            return value if found == key else NEW
        return column.field.to_python(found)

    return translate

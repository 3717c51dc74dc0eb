"""How a row of a model becomes a record: which columns travel, and how they are read and compared."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

from django.db import connections
from django.db.models import F, JSONField, Model, QuerySet, TextField
from django.db.models.fields.generated import GeneratedField
from django.db.models.functions import Cast

from gestore_sync.background import read_batches
from gestore_sync.columnvalues import ColumnValues
from gestore_sync.exceptions import UnreadableValue
from gestore_sync.generic import find_generic_target, to_key
from gestore_sync.identity import get_skipped, has_automatic_key
from gestore_sync.imprints import IMPRINT, MAX_COLUMNS, annotate_imprint, read_imprints, takes_imprints
from gestore_sync.links import FOREIGN, GENERIC, TREE, Link, LinkGraph
from gestore_sync.reading import iter_rows
from gestore_sync.refs import NEW, Key, Ref, get_key_columns
from gestore_sync.translation import LOST, Column, Counterparts, Translator, make_key_translator, make_translator

TREE_PARENT = "parent"


class Layout(ColumnValues):
    """The columns of one model that travel. A row is ``(key, *column values, *extra values)``.

    ``skipped``: the names of the fields that do not travel (default: those of ``SYNCHRO_SKIP``).
    """

    def __init__(self, model: type[Model], graph: LinkGraph, skipped: frozenset[str] | None = None) -> None:
        self.model = model
        self.adapter = graph.find_adapter(model)
        self._positions = frozenset(self.adapter.position_fields(model)) if self.adapter else frozenset()
        self.links = graph.forward[model]
        self.tree = next((link for link in self.links if link.kind == TREE), None)
        self.skipped = get_skipped(model) if skipped is None else skipped
        self.columns = self._make_columns()

    def _make_columns(self) -> list[Column]:
        fields = [
            field
            for field in self.model._meta.local_concrete_fields
            if not (field.primary_key and has_automatic_key(self.model))
            and not isinstance(field, GeneratedField)
            and field.name not in self.skipped
            and field.name not in self._positions
        ]
        single = {link.attnames[0]: link for link in self.links if link.kind == FOREIGN and len(link.attnames) == 1}
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

    @cached_property
    def imprint_at(self) -> int:
        """Where in a row its imprint is, if it was asked for."""
        return self.tree_at + (self.tree is not None)

    def takes_imprints(self, *databases: str) -> bool:
        """Whether rows can be recognized by imprints: all that a push says of them is in their own columns."""
        is_plain = self.adapter is None and not self.extras and 0 < len(self.columns) <= MAX_COLUMNS
        return is_plain and all(takes_imprints(using) for using in databases)

    def read_imprints(self, using: str, keys: Sequence[Key]) -> dict[Key, int]:
        """The imprints of the rows with these keys."""
        return read_imprints(self.model, using, keys, [column.field for column in self.columns])

    def read(
        self, using: str, keys: Sequence[Key], *, extras: bool = True, imprints: bool = False
    ) -> Iterator[tuple[Any, ...]]:
        """The rows with these keys, in no order. JSON comes as the text that the database holds. ``imprints``: each
        with its imprint as the last value, which only plain layouts have."""
        paths = [column.path for column in self.columns] + (self.extras if extras else [])
        rows: Iterable[tuple[Any, ...]]
        if imprints:
            rows = iter_rows(self.model, using, keys, [*paths, IMPRINT], self._annotate_all)
        else:
            rows = iter_rows(self.model, using, keys, paths, self._annotate)
        if self._may_hold_no_json(using):
            rows = self._iter_checked(using, rows)
        if self.tree is None:
            yield from rows
            return
        assert self.adapter is not None
        nodes = self.adapter.read(self.model, using, keys)
        padding = (None,) * (0 if extras else len(self.extras))
        for row in rows:
            node = nodes.get(row[0])
            yield (*row, *padding, None if node is None else node.parent)

    def _may_hold_no_json(self, using: str) -> bool:
        """Whether a column for JSON may hold a text that is none, as only SQLite's may."""
        return connections[using].vendor == "sqlite" and any(column.is_json for column in self.columns)

    def _iter_checked(self, using: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Rows that were read. Raises :class:`UnreadableValue` where one for JSON holds none."""
        places = [number for number, column in enumerate(self.columns, start=1) if column.is_json]
        for row in rows:
            for at in places:
                if row[at] not in (None, "{}", "[]"):
                    self._check_json(using, row[0], at - 1, row[at])
            yield row

    def _check_json(self, using: str, key: Key, number: int, text: str) -> None:
        try:
            json.loads(text)
        except ValueError as error:
            ref = Ref(self.model, key)
            raise UnreadableValue(
                f"{ref} of the database {using!r} has a value in {self.names[number]!r} that is no JSON: {error}. "
                "Mend it there. Nothing was written.",
                ref=ref,
                using=using,
            ) from error

    def read_batches(
        self, using: str, batches: Iterable[list[Key]], *, imprints: bool = False
    ) -> AbstractContextManager[Iterable[tuple[list[Key], Iterable[tuple[Any, ...]]]]]:
        """Batches of keys, each with its rows, which may have been read before they are asked for."""
        if self.tree is not None or self._may_hold_no_json(using):
            return nullcontext((keys, self.read(using, keys, imprints=imprints)) for keys in batches)
        paths = [*(column.path for column in self.columns), *self.extras, *([IMPRINT] if imprints else ())]
        return read_batches(self.model, using, batches, paths, self._annotate_all if imprints else self._annotate)

    def _annotate(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        texts = {column.path: Cast(F(column.field.attname), TextField()) for column in self.columns if column.is_json}
        return rows.annotate(**texts) if texts else rows

    def _annotate_all(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return self.add_imprint(self._annotate(rows))

    def add_imprint(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Rows of the model with their imprints as ``gestore_sync_imprint``."""
        return annotate_imprint(rows, [column.field for column in self.columns])

    def get_values(self, row: tuple[Any, ...]) -> list[Any]:
        """The values of a row of the target, in the order of :attr:`names`."""
        values = list(row[1 : len(self.columns) + 1])
        if self.tree is not None:
            values.append(row[self.tree_at])
        return values

    def tell(self, row: tuple[Any, ...], number: int, value: Any) -> Any:
        """A value of a row of the source as reports have it: of a link to what the target lacks, the source's key."""
        return self.get_values(row)[number] if value is NEW or value is LOST else value

    @cached_property
    def _translators(self) -> list[tuple[int, Translator]]:
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
        return self.translate_all([row], counterparts, source)[0]

    def translate_all(
        self, rows: Sequence[tuple[Any, ...]], counterparts: Counterparts, source: str
    ) -> list[list[Any]]:
        """The same of many rows, link by link."""
        end, padding = len(self.columns) + 1, [] if self.tree is None else [None]
        translated = [[*row[1:end], *padding] for row in rows]
        for number, translator in self._translators:
            for values, value in zip(translated, translator(counterparts, rows, source), strict=True):
                values[number] = value
        return translated

    def leads_nowhere(self, rows: Sequence[tuple[Any, ...]], counterparts: Counterparts, source: str) -> bool:
        """Whether a link in these rows of the source is LOST."""
        return any(LOST in translator(counterparts, rows, source) for _, translator in self._translators)

    @cached_property
    def link_numbers(self) -> tuple[int, ...]:
        """The numbers of the columns that are rewritten for the target."""
        return tuple(number for number, _ in self._translators)

    def has_any(self, rows: Sequence[Sequence[Any]], *marks: Any) -> bool:
        """Whether a link in these translated values is one of LOST and NEW."""
        columns = ([values[number] for values in rows] for number in self.link_numbers)
        return any(mark in column for column in columns for mark in marks)

    @cached_property
    def together(self) -> dict[int, tuple[int, ...]]:
        """By the number of a column, those of the columns that make one link with it, where there are several."""
        found: dict[int, tuple[int, ...]] = {}
        for number, column in enumerate(self.columns):
            places = column.parts_at or ((column.type_at, number + 1) if column.type_at else ())
            for at in places:
                found[at - 1] = tuple(sorted({*found.get(at - 1, ()), *(other - 1 for other in places)}))
        return found

    def clear_link(self, values: list[Any], number: int) -> None:
        """Set a link to null: of a generic key both its content type and its object id."""
        values[number] = None
        column = self.columns[number] if number < len(self.columns) else None
        if column is not None and column.link is not None and column.link.kind == GENERIC:
            if not column.field.null:
                values[number] = ""
            if self.columns[column.type_at - 1].field.null:
                values[column.type_at - 1] = None

    def find_linked(self, row: tuple[Any, ...], number: int, source: str) -> Ref | None:
        """The object of the source that the link in a column of a row leads to; None for keys of several columns."""
        if number >= len(self.columns):
            return Ref(self.model, row[self.tree_at])
        column = self.columns[number]
        link = column.link
        if link is None or column.part is not None:
            return None
        if link.kind == GENERIC:
            target = find_generic_target(source, row[column.type_at])
            return None if target is None else Ref(target, to_key(target, row[number + 1]))
        return Ref(link.target, row[column.key_at or number + 1]) if link.target is not None else None

    def get_link(self, name: str) -> Link | None:
        """The link that the column called ``name`` is."""
        if name == TREE_PARENT and self.tree is not None:
            return self.tree
        return next((column.link for column in self.columns if column.name == name), None)

    def find_columns(self, links: Collection[str]) -> list[tuple[int, str]]:
        """The numbers and names of the columns that are one of these links."""
        named = ((at, column) for at, column in enumerate(self.columns) if column.link is not None)
        return [(at, column.name) for at, column in named if str(column.link) in links]

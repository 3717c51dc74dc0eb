"""How the values of a model's columns are compared and digested: one row at a time, or many column by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from typing import Any

from gestore_sync.digests import WRITERS, Digester, canonize_json, get_name_code
from gestore_sync.equality import PLAIN_TYPES, dump_inside, holds_json, is_equal
from gestore_sync.refs import NEW
from gestore_sync.repeating import REPEATING
from gestore_sync.translation import LOST, Column

SIMPLE_TYPES = REPEATING | {type(None)}
"""Types of which equal values are the same value in every column."""


class ColumnValues:
    """Values of one model, each row's in the order of :attr:`names`."""

    columns: list[Column]

    @cached_property
    def names(self) -> list[str]:
        """The names of the columns, and of the tree's parent where no field shows it."""
        raise NotImplementedError

    @cached_property
    def key_names(self) -> frozenset[str]:
        """The names of those columns that are (part of) the primary key."""
        raise NotImplementedError

    @cached_property
    def link_numbers(self) -> tuple[int, ...]:
        """The numbers of the columns that are rewritten for the target."""
        raise NotImplementedError

    @cached_property
    def _json_inside(self) -> frozenset[int]:
        """The numbers of the columns whose values are lists of JSON."""
        return frozenset(number for number, column in enumerate(self.columns) if holds_json(column.field))

    def is_same(self, number: int, mine: Any, theirs: Any) -> bool:
        """Whether two values of the column with this number are equal."""
        if mine is NEW or mine is LOST:
            return False
        if number >= len(self.columns) or mine is None or theirs is None:
            return bool(mine == theirs)
        column = self.columns[number]
        if number in self._json_inside:
            return dump_inside(mine) == dump_inside(theirs)
        if column.is_json:
            return mine == theirs or canonize_json(mine) == canonize_json(theirs)
        return is_equal(column.field, mine, theirs)

    def find_differing(self, mine: Sequence[Any], theirs: Sequence[Any]) -> list[int]:
        """The numbers of the columns, the primary key's left out, in which the values differ."""
        if mine == theirs and not self._json_inside:
            return []
        return [
            number
            for number, name in enumerate(self.names)
            if name not in self.key_names and not self.is_same(number, mine[number], theirs[number])
        ]

    def find_differing_all(self, mine: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> list[list[int]]:
        """The same of many rows, made column by column."""
        differing: list[list[int]] = [[] for _ in mine]
        pairs = list(zip(mine, theirs, differing, strict=True))
        if not self._json_inside:
            pairs = [pair for pair in pairs if pair[0] != pair[1]]
        for number, name in enumerate(self.names) if pairs else ():
            if name in self.key_names:
                continue
            for my_row, their_row, found in pairs:
                my_value, their_value = my_row[number], their_row[number]
                if type(my_value) in SIMPLE_TYPES and type(their_value) is type(my_value) and my_value == their_value:
                    continue
                if not self.is_same(number, my_value, their_value):
                    found.append(number)
        return differing

    def digest(self, values: Sequence[Any], numbers: Iterable[int]) -> bytes:
        """The digests of the values in these columns."""
        return b"".join([self.digesters[number](values[number]) for number in numbers])

    def digest_values(
        self, rows: Sequence[Sequence[Any]], numbers: Iterable[int] | None = None
    ) -> list[tuple[bytes, ...]]:
        """The digests of the values of each of these rows in these columns (default: all), made column by column. That
        of a link that leads nowhere yet stands for nothing."""
        columns = list(zip(*rows, strict=True))
        made = []
        for number in range(len(self.names)) if numbers is None else numbers:
            column = columns[number] if rows else ()
            if number in self.link_numbers and (NEW in column or LOST in column):
                column = tuple(None if value is NEW or value is LOST else value for value in column)
            made.append(self.digesters[number].digest_all(column))
        return list(zip(*made, strict=True)) if made else [()] * len(rows)

    def digest_all(self, rows: Sequence[Sequence[Any]], numbers: Iterable[int] | None = None) -> list[bytes]:
        """The same, those of each row as one."""
        return list(map(b"".join, self.digest_values(rows, numbers)))

    @cached_property
    def codes(self) -> tuple[bytes, ...]:
        """By column, what stands for its name in digests."""
        return tuple(map(get_name_code, self.names))

    @cached_property
    def digesters(self) -> list[Digester]:
        """By column, what makes the digest of a value, with the code of the column's name before it."""
        return [self._make_digester(number) for number in range(len(self.names))]

    def _make_digester(self, number: int) -> Digester:
        is_json = number < len(self.columns) and self.columns[number].is_json
        return Digester(self.codes[number], partial(self.normalize, number), normalizes_all=is_json)

    def normalize(self, number: int, value: Any) -> Any:
        """A value as it goes into digests."""
        if value is not None and number < len(self.columns):
            column = self.columns[number]
            if column.is_json:
                return canonize_json(value)
            if number in self._json_inside:
                return dump_inside(value)
            if type(value) not in WRITERS and not isinstance(value, PLAIN_TYPES):
                return column.field.get_prep_value(value)
        return value

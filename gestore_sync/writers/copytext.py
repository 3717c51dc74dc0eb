"""Rows as COPY reads them, in text form, made column by column; what this does not know is left to the driver."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from gestore_sync.repeating import map_column

SPECIAL = re.compile(r"[\\\t\n\r]")
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
NULL = "\\N"


def escape(text: str) -> str:
    """A text as COPY reads it."""
    return SPECIAL.sub(lambda found: ESCAPES[found[0]], text)


FORMATS: dict[type, Callable[[Any], str]] = {
    int: str,
    str: escape,
    bool: lambda value: "t" if value else "f",
    bytes: lambda value: "\\\\x" + value.hex(),
    memoryview: lambda value: "\\\\x" + value.hex(),
    datetime: str,
    date: str,
    Decimal: str,
    UUID: str,
    type(None): lambda value: NULL,
}
"""By type, what makes the text of a value, as the driver does."""


def format_columns(columns: Iterable[Sequence[Any]]) -> bytes | None:
    """Rows, given column by column, as lines; None where one of the columns holds values of a type, or of several, that
    are not known."""
    formatted = []
    for column in columns:
        texts = format_column(column)
        if texts is None:
            return None
        formatted.append(texts)
    return "\n".join([*map("\t".join, zip(*formatted, strict=True)), ""]).encode() if formatted else None


def format_column(values: Sequence[Any]) -> Sequence[str] | None:
    """The texts of one column; None also where a text holds what the database does not take: the driver says so."""
    kinds = set(map(type, values))
    text = "".join([value for value in values if type(value) is str]) if str in kinds else ""
    if "\0" in text:
        return None
    known = kinds - {type(None)} or kinds
    make = FORMATS.get(*known) if len(known) == 1 else None
    if make is None:
        return None
    if kinds == {str} and not SPECIAL.search(text):
        return values
    return map_column(make if kinds == known else lambda value: NULL if value is None else make(value), values)

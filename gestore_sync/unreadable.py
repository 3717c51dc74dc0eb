"""Names the value of a database that cannot be read, so that a person finds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, DataError, OperationalError
from django.db.models import QuerySet

from gestore_sync.exceptions import UnreadableValue
from gestore_sync.refs import Ref

UNREADABLE = (ValueError, TypeError, ArithmeticError, DatabaseError)
"""What is raised for a value of the database that a field, or the driver, cannot read; see :func:`is_of_value`."""
SQLITE_UNREADABLE = ("Could not decode to UTF-8", "user-defined function raised exception")
"""How SQLite's driver begins to say that a text is none, and that a function of Django's or ours was not given it."""


def is_of_value(error: Exception) -> bool:
    """Whether an error is about a value that was read: one of the database itself has its code; what SQLite's driver
    raises has none, and begins in one of these ways."""
    if isinstance(error, OperationalError):
        return str(error).startswith(SQLITE_UNREADABLE)
    if isinstance(error, DatabaseError):
        said = getattr(error.__cause__, "diag", None)
        return isinstance(error, DataError) and said is not None and said.sqlstate is None
    return True


@contextmanager
def naming_unreadable(rows: QuerySet[Any], paths: Sequence[Any]) -> Iterator[None]:
    """Where a value cannot be read, raise :class:`UnreadableValue` that names it."""
    try:
        yield
    except UNREADABLE as error:
        if is_of_value(error):
            name_unreadable(rows, paths, error)
        raise


def name_unreadable(rows: QuerySet[Any], paths: Sequence[Any], error: Exception) -> None:
    """Raise :class:`UnreadableValue` that names the first row and column that cannot be read."""
    names = [field.attname for field in rows.model._meta.concrete_fields]
    columns = [path for path in paths if path in names]  # what is made of columns comes after them
    ordered = rows.order_by("pk")
    number = rows.count()
    for path in ["pk", *columns, *(path for path in paths if path not in columns)]:
        values = ordered.values_list(path)
        low, high = 0, number
        if can_read(values):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if can_read(values[low:middle]) else (low, middle)
        label, name = rows.model._meta.label, str(path).removeprefix("gestore_sync_")
        ref = None if path == "pk" else find_row(rows, path, low)
        raise UnreadableValue(
            f"{ref or f'A row of {label}'} of the database {rows.db!r} has a value in {name!r} that the field cannot "
            f"read: {error}. Mend it there. Nothing was written.",
            ref=ref,
            using=rows.db,
        ) from error


def find_row(rows: QuerySet[Any], path: Any, place: int) -> Ref | None:
    """The row whose value cannot be read: that at ``place``, or another one, where the path leads through a link that
    leaves out rows."""
    keys = [pk for (pk,) in rows.order_by("pk").values_list("pk")]
    likely = keys[place : place + 1]
    wrong = (pk for pk in [*likely, *keys] if not can_read(rows.filter(pk=pk).values_list(path)))
    return next((Ref(rows.model, pk) for pk in wrong), None)


def can_read(rows: QuerySet[Any]) -> bool:
    """Whether all rows of a query can be read, which it has then."""
    try:
        len(rows)
    except UNREADABLE as error:
        if not is_of_value(error):
            raise
        return False
    return True

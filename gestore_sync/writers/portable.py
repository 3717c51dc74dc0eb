"""Writing in bulk the portable way, for every database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DataError, connections
from django.db.models import DateTimeField, Field, IntegerField, JSONField, Max, Model

from gestore_sync.exceptions import WriteFailed
from gestore_sync.fields import AwareDateTimeField
from gestore_sync.reading import get_keys_per_query, get_queryset, match_keys
from gestore_sync.refs import Key, get_key_columns, iter_chunks, resolve_key_field
from gestore_sync.repeating import map_column

Row = Sequence[Any]
MAX_KEY = 2**63 - 1
UNFIT = (ValidationError, ValueError, TypeError, ArithmeticError)
"""What fields and database drivers raise for values that they cannot take."""


@contextmanager
def refusing_unfit(prefix: str = "") -> Iterator[None]:
    """Let a value that a field or the driver has no form of for this database be an error of the database."""
    try:
        yield
    except UNFIT as error:
        said = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{prefix}{said}") from error


class Writer:
    """Writes to one database, within the transaction that is open there. Values are Python values of the fields, JSON
    excepted, which is given as text."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.connection = connections[using]

    def look_at(self, models: Iterable[type[Model]]) -> None:
        """Ask now what must be known of their tables, so that nothing is asked when rows are written."""

    def quote(self, field: Field[Any, Any]) -> str:
        """The name of the field's column as SQL takes it."""
        return self.connection.ops.quote_name(field.column or field.name)

    def reserve(self, model: type[Model], number: int, *, above: int = 0) -> list[int]:
        """So many automatic primary keys that no row has or will get otherwise, all ``above`` a key that is taken."""
        table, column = model._meta.db_table, model._meta.pk.column or ""
        highest = get_queryset(model, self.using).aggregate(highest=Max("pk"))["highest"] or 0
        if self.connection.vendor == "sqlite":
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT name FROM sqlite_master WHERE name = 'sqlite_sequence'")
                if cursor.fetchone():
                    cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
                    highest = max(highest, *(row[0] for row in cursor.fetchall()), 0)
        elif self.connection.features.has_select_for_update:
            quote = self.connection.ops.quote_name
            with self.connection.cursor() as cursor:
                cursor.execute(f"SELECT MAX({quote(column)}) FROM {quote(table)} FOR UPDATE")
                highest = cursor.fetchone()[0] or 0
                if self.connection.vendor == "mysql":
                    highest = max(highest, self._read_counter(cursor, table) - 1)
        return self.count_on(model, max(highest, above, 0), number)

    def count_on(self, model: type[Model], highest: int, number: int) -> list[int]:
        """The keys that follow ``highest``. Raises :class:`WriteFailed` where no database has such keys."""
        if highest + number > MAX_KEY:
            raise self.make_exhausted(model, number, f"the highest one is {highest}")
        return list(range(highest + 1, highest + 1 + number))

    def make_exhausted(self, model: type[Model], number: int, reason: str) -> WriteFailed:
        """The error that says that there are no keys left."""
        return WriteFailed(
            f"The target {self.using!r} has no {number:,} keys left for new rows of {model._meta.label}: {reason}. "
            "Make room there, as with a larger key. Nothing was written."
        )

    def hold(self, model: type[Model], highest: int) -> None:
        """Let the database count on above ``highest``: keys up to it were reserved and are used after the commit. Where
        the counter is a sequence it has gone on already; MySQL would commit for it."""
        if self.connection.vendor == "sqlite":
            table = model._meta.db_table
            with self.connection.cursor() as cursor:
                cursor.execute("UPDATE sqlite_sequence SET seq = max(seq, %s) WHERE name = %s", [highest, table])
                cursor.execute(
                    "INSERT INTO sqlite_sequence (seq, name) SELECT %s, %s "
                    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = %s)",
                    [highest, table, table],
                )

    def _read_counter(self, cursor: Any, table: str) -> int:
        """The next value of MySQL's or MariaDB's counter, which does not come back to keys of deleted rows."""
        if not getattr(self.connection, "mysql_is_mariadb", False):
            cursor.execute("SET SESSION information_schema_stats_expiry = 0")
        cursor.execute(
            "SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
            [table],
        )
        row = cursor.fetchone()
        return int(row[0] or 0) if row else 0

    plain_types: frozenset[str] = frozenset({"BooleanField", "CharField", "TextField", "SlugField"})

    def takes_plainly(self, field: Field[Any, Any]) -> bool:
        """Whether the driver takes values of ``field`` as they are."""
        field = resolve_key_field(field)
        if isinstance(field, JSONField):
            return True
        is_known = type(field).__module__.startswith("django.db.models.")
        return is_known and (isinstance(field, IntegerField) or field.get_internal_type() in self.plain_types)

    def get_preparer(self, field: Field[Any, Any]) -> Callable[[Any], Any]:
        """The function that makes a value of ``field`` what the database driver takes."""
        connection = self.connection

        def prepare(value: Any) -> Any:
            return None if value is None else field.get_db_prep_save(value, connection)

        def prepare_moment(value: Any) -> Any:
            is_plain = type(value) is datetime and value.tzinfo is UTC
            return str(value.replace(tzinfo=None)) if is_plain else prepare(value)

        is_moment = type(field) in (DateTimeField, AwareDateTimeField)
        # The time zone of a database is None where settings.USE_TZ is off.
        return prepare_moment if is_moment and connection.vendor == "sqlite" and connection.timezone is UTC else prepare

    def prepare(self, fields: Sequence[Field[Any, Any]], rows: Iterable[Row]) -> Iterable[Row]:
        """The rows as the driver takes them."""
        if all(map(self.takes_plainly, fields)):
            return rows
        columns = list(zip(*rows, strict=True))
        return zip(*self.prepare_columns(fields, columns), strict=True) if columns else []

    def prepare_columns(
        self, fields: Sequence[Field[Any, Any]], columns: Sequence[Sequence[Any]]
    ) -> list[Sequence[Any]]:
        """The columns of rows as the driver takes them."""
        return [self._prepare_column(field, values) for field, values in zip(fields, columns, strict=True)]

    def _prepare_column(self, field: Field[Any, Any], values: Sequence[Any]) -> Sequence[Any]:
        if self.takes_plainly(field):
            return values
        with refusing_unfit(f"{field.name}: "):
            return map_column(self.get_preparer(field), values)

    def insert(self, model: type[Model], fields: Sequence[Field[Any, Any]], rows: Sequence[Row]) -> int:
        """Insert rows that hold a value for each of ``fields``; how many the database says it has made."""
        return self._insert_prepared(model, fields, list(self.prepare(fields, rows)))

    def make_insert(
        self, model: type[Model], fields: Sequence[Field[Any, Any]], columns: Sequence[Sequence[Any]]
    ) -> Callable[[], int]:
        """The same as a job, for which fields are asked for nothing more: another thread may do it. ``columns``: the
        values of each of ``fields``, of at least one row."""
        prepared = self.prepare_columns(fields, columns)
        return lambda: self._insert_prepared(model, fields, list(zip(*prepared, strict=True)))

    def _insert_prepared(self, model: type[Model], fields: Sequence[Field[Any, Any]], rows: Sequence[Row]) -> int:
        quote = self.connection.ops.quote_name
        columns = ", ".join(self.quote(field) for field in fields)
        marks = ", ".join(["%s"] * len(fields))
        with refusing_unfit(), self.connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({marks})", rows)
            return int(cursor.rowcount)

    def update(self, model: type[Model], fields: Sequence[Field[Any, Any]], rows: Sequence[tuple[Key, Row]]) -> int:
        """Set ``fields`` of rows, given as ``(primary key, values)``; how many the database says it has changed."""
        quote = self.connection.ops.quote_name
        keys = self.get_key_fields(model)
        setting = ", ".join(f"{quote(field.column or '')} = %s" for field in fields)
        where = " AND ".join(f"{quote(field.column or '')} = %s" for field in keys)
        values = ([*row, *(key if isinstance(key, tuple) else (key,))] for key, row in rows)
        with refusing_unfit(), self.connection.cursor() as cursor:
            cursor.executemany(
                f"UPDATE {quote(model._meta.db_table)} SET {setting} WHERE {where}",
                list(self.prepare([*fields, *keys], values)),
            )
            return int(cursor.rowcount)

    def delete(self, model: type[Model], keys: Sequence[Key]) -> int:
        """Delete rows by primary key, and nothing else; how many the database says it has deleted."""
        number = 0
        for chunk in iter_chunks(keys, get_keys_per_query(model, self.using)):
            rows = get_queryset(model, self.using).filter(match_keys(model, chunk))
            number += rows._raw_delete(self.using)
        return number

    def analyze(self, model: type[Model]) -> None:
        """Let the database count what a table holds, where that helps it to find rows."""

    @staticmethod
    def get_key_fields(model: type[Model]) -> list[Field[Any, Any]]:
        """The field(s) of the primary key that have a column."""
        names = get_key_columns(model)
        return [field for name in names for field in model._meta.concrete_fields if field.attname == name]

"""Writing to PostgreSQL: COPY, and set-based updates from a temporary table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import chain
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Field, Max, Model

from gestore_sync.fields import AwareDateTimeField
from gestore_sync.muting import mute
from gestore_sync.reading import get_queryset
from gestore_sync.refs import Key
from gestore_sync.triggers import has_triggers
from gestore_sync.writers.copytext import format_columns
from gestore_sync.writers.portable import Row, Writer, refusing_unfit

STAGE = "gestore_sync_stage"
ROWS_AT_ONCE = 2_000
"""So many rows are made ready while the server stores those before them."""
SEQUENCE_AT_ITS_END = "2200H"
BYTES_AHEAD = 4 * 2**20
"""About so much is made ready for a job; the rest when its turn comes."""


class PostgreSQLWriter(Writer):
    """COPY where a table takes it; views and tables with row security go the portable way.

    The triggers of the change log are muted: what a run writes is no news of the database it writes to.
    """

    plain_types = Writer.plain_types | {
        "BinaryField",
        "DateField",
        "DateTimeField",
        "DecimalField",
        "DurationField",
        "FileField",
        "FloatField",
        "TimeField",
        "UUIDField",
    }

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._takes_copy: dict[str, bool] = {}

    @cached_property
    def _has_triggers(self) -> bool:
        return has_triggers(self.connection)

    def _muted(self) -> AbstractContextManager[None]:
        return mute(self.using) if self._has_triggers else nullcontext()

    def takes_plainly(self, field: Field[Any, Any]) -> bool:
        return super().takes_plainly(field) or (isinstance(field, AwareDateTimeField) and settings.USE_TZ)

    def look_at(self, models: Iterable[type[Model]]) -> None:
        tables = {model._meta.db_table for model in models} - self._takes_copy.keys()
        names = {self.connection.ops.quote_name(table): table for table in tables}
        if not names:
            return
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT name, relkind IN ('r', 'p') AND NOT relrowsecurity "
                "FROM unnest(%s::text[]) name JOIN pg_class ON pg_class.oid = to_regclass(name)",
                [list(names)],
            )
            self._takes_copy |= {names[name]: takes for name, takes in cursor.fetchall()}

    def takes_copy(self, model: type[Model]) -> bool:
        """Whether COPY can write the table; also where there is none, as it says so."""
        self.look_at([model])
        return self._takes_copy.get(model._meta.db_table, True)

    def reserve(self, model: type[Model], number: int, *, above: int = 0) -> list[int]:
        """Reserve from the sequence; one that lags behind the rows, or ``above``, is set right first."""
        quote = self.connection.ops.quote_name
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_get_serial_sequence(%s, %s)", [quote(model._meta.db_table), model._meta.pk.column]
            )
            sequence = cursor.fetchone()[0] or self._find_sequence(cursor, model)
            if sequence is None:
                cursor.execute(f"LOCK TABLE {quote(model._meta.db_table)} IN SHARE ROW EXCLUSIVE MODE")
                highest = get_queryset(model, self.using).aggregate(highest=Max("pk"))["highest"] or 0
                return self.count_on(model, max(highest, above), number)
            if above > 0:
                cursor.execute(
                    f"SELECT setval(%s::regclass, GREATEST(%s, last_value)) FROM {sequence}", [sequence, above]
                )
            for _ in range(2 if number else 0):
                try:
                    cursor.execute("SELECT nextval(%s::regclass) FROM generate_series(1, %s)", [sequence, number])
                except DatabaseError as error:
                    if getattr(error.__cause__, "sqlstate", None) == SEQUENCE_AT_ITS_END:
                        raise self.make_exhausted(model, number, str(error).splitlines()[0]) from error
                    raise
                reserved = [row[0] for row in cursor.fetchall()]
                highest = get_queryset(model, self.using).aggregate(highest=Max("pk"))["highest"]
                if highest is None or highest < reserved[0]:
                    break
                cursor.execute(
                    f"SELECT setval(%s::regclass, GREATEST(%s, last_value)) FROM {sequence}", [sequence, highest]
                )
        return reserved if number else []

    def _find_sequence(self, cursor: Any, model: type[Model]) -> str | None:
        """The sequence in the column's default, where none belongs to the column."""
        cursor.execute(
            """
            SELECT seq.oid::regclass::text
            FROM pg_attrdef def
            JOIN pg_attribute att ON att.attrelid = def.adrelid AND att.attnum = def.adnum
            JOIN pg_depend dep ON dep.classid = 'pg_attrdef'::regclass AND dep.objid = def.oid
            JOIN pg_class seq ON seq.oid = dep.refobjid AND seq.relkind = 'S'
            WHERE def.adrelid = %s::regclass AND att.attname = %s
            """,
            [self.connection.ops.quote_name(model._meta.db_table), model._meta.pk.column],
        )
        row = cursor.fetchone()
        return None if row is None else str(row[0])

    def _copy(self, table: str, fields: Sequence[Field[Any, Any]], columns: Sequence[Sequence[Any]]) -> int:
        return self._copy_parts(table, fields, self._iter_parts(fields, columns) if columns else ())

    def _copy_parts(
        self, table: str, fields: Sequence[Field[Any, Any]], parts: Iterable[tuple[bytes | None, Sequence[Row]]]
    ) -> int:
        """Copy rows, of which there are lines where they are known; how many the database says it has made."""
        columns = ", ".join(self.quote(field) for field in fields)
        statement = f"COPY {table} ({columns}) FROM STDIN"
        with refusing_unfit(), self.connection.wrap_database_errors, self.connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for lines, rows in parts:
                    if lines is not None:
                        copy.write(lines)
                    else:
                        for row in rows:
                            copy.write_row(row)
            return int(cursor.rowcount)

    def insert(self, model: type[Model], fields: Sequence[Field[Any, Any]], rows: Sequence[Row]) -> int:
        with self._muted():
            if not self.takes_copy(model):
                return super().insert(model, fields, rows)
            table = self.connection.ops.quote_name(model._meta.db_table)
            return self._copy(table, fields, list(zip(*rows, strict=True)))

    def make_insert(
        self, model: type[Model], fields: Sequence[Field[Any, Any]], columns: Sequence[Sequence[Any]]
    ) -> Callable[[], int]:
        if not self.takes_copy(model):
            return super().make_insert(model, fields, columns)
        table, parts = self.connection.ops.quote_name(model._meta.db_table), self._iter_parts(fields, columns)
        ready, size = [], 0
        with refusing_unfit():
            for lines, rows in parts:
                ready.append((lines, rows))
                size += len(lines or ())
                if size > BYTES_AHEAD:
                    break

        def insert() -> int:
            with self._muted():
                return self._copy_parts(table, fields, chain(ready, parts))

        return insert

    def _iter_parts(
        self, fields: Sequence[Field[Any, Any]], columns: Sequence[Sequence[Any]]
    ) -> Iterator[tuple[bytes | None, Sequence[Row]]]:
        """Rows, given by the values of each of ``fields``, in parts: as lines, or where these are not known as rows."""
        prepared = self.prepare_columns(fields, columns)
        for start in range(0, len(prepared[0]), ROWS_AT_ONCE):
            some = [values[start : start + ROWS_AT_ONCE] for values in prepared]
            lines = format_columns(some)
            yield lines, () if lines is not None else list(zip(*some, strict=True))

    def update(self, model: type[Model], fields: Sequence[Field[Any, Any]], rows: Sequence[tuple[Key, Row]]) -> int:
        quote = self.connection.ops.quote_name
        table = quote(model._meta.db_table)
        keys = self.get_key_fields(model)
        staged = [*keys, *fields]
        columns = ", ".join(self.quote(field) for field in staged)
        setting = ", ".join(f"{quote(field.column or '')} = {STAGE}.{quote(field.column or '')}" for field in fields)
        where = " AND ".join(
            f"target.{quote(field.column or '')} = {STAGE}.{quote(field.column or '')}" for field in keys
        )
        values = ([*(key if isinstance(key, tuple) else (key,)), *row] for key, row in rows)
        with self._muted(), self.connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{STAGE}")
            cursor.execute(
                f"CREATE TEMPORARY TABLE {STAGE} ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA"
            )
            self._copy(STAGE, staged, list(zip(*values, strict=True)))
            cursor.execute(f"UPDATE {table} AS target SET {setting} FROM {STAGE} WHERE {where}")
            return int(cursor.rowcount)

    def analyze(self, model: type[Model]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {self.connection.ops.quote_name(model._meta.db_table)}")

    def delete(self, model: type[Model], keys: Sequence[Key]) -> int:
        with self._muted():
            return super().delete(model, keys)

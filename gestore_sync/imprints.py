"""Imprints: what stands for a whole row, made by the database that has it, so that a row need not be read to be known.

A row of which both sides' imprints are what they were when the sides were last in step is in step still. Two imprints
of one row tell only whether it changed in this one database; those of different databases are never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import connections
from django.db.models import BigIntegerField, F, Field, Func, Model, QuerySet, TextField, Value
from django.db.models.base import ModelBase
from django.db.models.functions import Cast

from gestore_sync.reading import iter_rows
from gestore_sync.refs import Key

IMPRINT = "gestore_sync_imprint"
VENDORS = ("postgresql", "sqlite")
TAUGHT = "gestore_sync_taught"
"""The attribute of Django's connection that holds the connection of the driver which has the function."""
MAX_COLUMNS = 99
"""SQLite's functions take no more arguments, beside one that is ours."""


class Imprint(Func):
    """The number of 64 bits that stands for the values of the columns, as the database has them."""

    output_field = BigIntegerField()

    def get_db_converters(self, connection: Any) -> list[Any]:
        """None: the drivers give whole numbers."""
        return []

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        template = "hashtextextended(ROW(%(expressions)s)::text, 0)"
        return super().as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        return super().as_sql(compiler, connection, function=IMPRINT, **context)


def make_imprint(*values: Any) -> int:
    """The same in Python, of values as SQLite has them: numbers, texts, bytes or null."""
    return int.from_bytes(blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)


def takes_imprints(using: str) -> bool:
    """Whether a database makes imprints; SQLite is taught to, once a connection."""
    connection: Any = connections[using]
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        if getattr(connection, TAUGHT, None) is not connection.connection:
            connection.connection.create_function(IMPRINT, -1, make_imprint, deterministic=True)
            setattr(connection, TAUGHT, connection.connection)
    return connection.vendor in VENDORS


def annotate_imprint(rows: QuerySet[Any], fields: Sequence[Field[Any, Any]]) -> QuerySet[Any]:
    """``rows`` with the imprint of these columns as ``gestore_sync_imprint``. What they are called and lead to is part
    of it: other columns with the same values are another row."""
    meaning = blake2b("\0".join(map(describe_column, fields)).encode(), digest_size=6).hexdigest()
    columns = (F(field.attname) for field in fields)
    annotated: QuerySet[Any] = rows.annotate(**{IMPRINT: Imprint(Cast(Value(meaning), TextField()), *columns)})
    return annotated


def describe_column(field: Field[Any, Any]) -> str:
    """What a column is called and leads to, by a foreign key or as a part of generic ones."""
    related = field.related_model
    parts = [field.attname, related._meta.label_lower if isinstance(related, ModelBase) else ""]
    generic = (other for other in field.model._meta.private_fields if isinstance(other, GenericForeignKey))
    parts += [other.name for other in generic if field.name in (other.ct_field, other.fk_field)]
    return " ".join(parts)


def read_imprints(
    model: type[Model], using: str, keys: Sequence[Key], fields: Sequence[Field[Any, Any]]
) -> dict[Key, int]:
    """The imprints of the rows with these keys."""
    return dict(iter_rows(model, using, keys, [IMPRINT], lambda rows: annotate_imprint(rows, fields)))

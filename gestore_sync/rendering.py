"""Records that PostgreSQL makes itself: the same as :mod:`gestore_sync.codecs` would make of its values, and sooner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import CompositePrimaryKey, Field, JSONField, Model, TextField
from django.db.models.expressions import RawSQL

from gestore_sync.refs import resolve_key_field
from gestore_sync.valuekinds import INTEGERS, JSON_MARK, get_kind

IN_JSON = "to_json({0})::text"
JSON_SQL = f"""
    CASE WHEN jsonb_typeof({{0}}) = 'null' OR (
        jsonb_typeof({{0}}) = 'object' AND {{0}} -> '{JSON_MARK}' IS NOT NULL AND {{0}} - '{JSON_MARK}' = '{{{{}}}}'
    ) THEN '{{{{"{JSON_MARK}": ' || {{0}}::text || '}}}}' ELSE {{0}}::text END
"""
"""As ``codecs`` does: what could be taken for no value at all is marked."""

EXPRESSIONS: dict[str, str] = {
    "BinaryField": "'\"' || translate(encode({0}, 'base64'), E'\\n', '') || '\"'",
    "BooleanField": "{0}::text",
    "DecimalField": "'\"' || {0}::text || '\"'",
    "JSONField": JSON_SQL,
    "UUIDField": "'\"' || {0}::text || '\"'",
    **dict.fromkeys(("CharField", "FileField", "FilePathField", "SlugField", "TextField"), IN_JSON),
    "FloatField": "CASE {0}::text WHEN '-0' THEN '-0.0' ELSE to_json({0})::text END",
    **dict.fromkeys(("DateField", "TimeField"), IN_JSON),
    **dict.fromkeys(INTEGERS, "{0}::text"),
}
"""By kind of field, SQL for the JSON of a column that is not null. Kinds that are not here need Python."""


def find_rendered(
    model: type[Model],
    using: str,
    fields: Sequence[Field[Any, Any]],
    make_parts: Callable[[], Sequence[str | int | None]],
) -> RawSQL | None:
    """An expression for the whole record of a row; None where the database cannot make it.

    ``make_parts`` gives what the record consists of: texts, the numbers of fields, and None for the primary key.
    """
    if connections[using].vendor != "postgresql" or isinstance(model._meta.pk, CompositePrimaryKey):
        return None
    values = [make_expression(model, using, field) for field in fields]
    key = make_expression(model, using, model._meta.pk)
    if key is None or any(value is None for value in values):
        return None
    pieces, texts = [], []
    for part in make_parts():
        if isinstance(part, str):
            pieces.append("%s::text")
            texts.append(part)
        else:
            pieces.append(key if part is None else f"COALESCE({values[part]}, 'null')")
    return RawSQL(" || ".join(pieces), texts, TextField())


def make_expression(model: type[Model], using: str, field: Any) -> str | None:
    """SQL for the JSON of one column; None where only Python can make it."""
    resolved = resolve_key_field(field)
    kind = get_kind(field)
    if kind == "DateTimeField":
        template: str | None = IN_JSON if settings.USE_TZ else None
    elif kind == "JSONField":
        template = JSON_SQL if type(resolved) is JSONField and resolved.db_type(connections[using]) == "jsonb" else None
    else:
        template = EXPRESSIONS.get(kind)
    if template is None:
        return None
    quote = connections[using].ops.quote_name
    column = f"{quote(model._meta.db_table)}.{quote(field.column)}"
    return template.format(column).replace("%", "%%")

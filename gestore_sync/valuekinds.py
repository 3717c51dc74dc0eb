"""JSON in which no number loses digits, and the kinds of values that fields have."""

from __future__ import annotations

import json
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from django.core.exceptions import ValidationError
from django.db.models import BinaryField, Field, JSONField

from gestore_sync.exceptions import BundleError
from gestore_sync.refs import resolve_key_field

AnyField: TypeAlias = "Field[Any, Any]"

JSON_MARK = "$json"
"""The only key of an object that stands for a JSON null, or for an object that itself has this only key."""

MARK, BYTES_MARK = "$stored", "$bytes"
"""The only key of an object that holds what the database has for a value of a field of the application's own."""

MOST_DIGITS = 100
"""More than any column of whole numbers has; a few characters of JSON can stand for billions."""

ENCODING = {"encoding": "utf-8", "errors": "backslashreplace"}
"""Half surrogates, which no encoding has, become the escapes that JSON has for them."""

SCALARS = (str, int, float, bool, Decimal)
INVALID = (ValidationError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)


def load_json(text: str) -> Any:
    """JSON in which no number loses digits. Raises :class:`BundleError`."""
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BundleError(f"This is no JSON that can be read: {error}.") from None


def dump_json(value: Any) -> str:
    """The same as text: one line, keys in their order."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode_basestring(key)}: {dump_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump_json, value)) + "]"
    if isinstance(value, Decimal) and value.is_finite():
        return str(value)
    return json.dumps(value, ensure_ascii=False)


SCALAR_KINDS = frozenset(
    f"{kind}Field"
    for kind in (
        *("Boolean", "Char", "Date", "DateTime", "Decimal", "Duration", "File", "FilePath", "Float"),
        *("GenericIPAddress", "Slug", "Text", "Time", "UUID"),
    )
)
INTEGERS = frozenset(
    f"{size}{kind}" for size in ("", "Big", "Small") for kind in ("IntegerField", "AutoField")
) | frozenset({"PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"})


def get_kind(field: AnyField) -> str:
    """The name of the kind of values that a field has; empty where only the field itself can tell them as text."""
    field = resolve_key_field(field)
    if isinstance(field, JSONField):
        return "JSONField"
    if isinstance(field, BinaryField) and not hasattr(field, "from_db_value"):
        return "BinaryField"
    if type(field).__module__ == "django.contrib.postgres.fields.array" or is_kind_of(field, "ArrayField"):
        return "ArrayField"
    if is_kind_of(field, "RangeField"):
        return "RangeField"
    if is_kind_of(field, "HStoreField"):
        return "HStoreField"
    kind = field.get_internal_type()
    is_plain = not hasattr(field, "from_db_value") and type(field).to_python is find_django_method(field)
    return kind if is_plain and (kind in SCALAR_KINDS or kind in INTEGERS) else ""


def is_kind_of(field: AnyField, name: str) -> bool:
    """Whether the class of ``field``, or one it extends, is the one of PostgreSQL's fields with this name."""
    return any(
        base.__name__ == name and base.__module__.startswith("django.contrib.postgres.fields")
        for base in type(field).__mro__
    )


def find_django_method(field: AnyField) -> Any:
    """The ``to_python`` of Django's own class that the class of ``field`` extends."""
    base = next((base for base in type(field).__mro__ if base.__module__.startswith("django.")), Field)
    return base.to_python  # type: ignore[attr-defined]


def get_bound_field(field: Any) -> AnyField:
    """The field of which the bounds of a range are values."""
    bound: AnyField = field.base_field if not isinstance(field.base_field, type) else field.base_field()
    return bound

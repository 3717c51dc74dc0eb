"""What the columns of a staged table take: values within their range, and what stands for those that are not there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db import connections
from django.db.models import JSONField
from django.utils import timezone

from gestore_sync.codecs import Decoder
from gestore_sync.refs import resolve_key_field
from gestore_sync.repeating import map_column
from gestore_sync.valuekinds import INTEGERS, get_kind


def limit(decode: Decoder, field: Any, using: str) -> Decoder:
    """The same function; of whole numbers it takes those only that a column of ``field`` has room for."""
    kind = get_kind(field)
    if kind not in INTEGERS:
        return decode
    lowest, highest = connections[using].ops.integer_field_range(resolve_key_field(field).get_internal_type())

    def decode_within(value: Any) -> Any:
        found = decode(value)
        if (lowest is not None and found < lowest) or (highest is not None and found > highest):
            raise ValueError(f"it is not between {lowest} and {highest}")
        return found

    return decode_within


def decode_column(field: Any, decode: Decoder, values: Sequence[Any]) -> list[Any]:
    """The values of a field in many records; equal ones are read once. Raises one of :data:`INVALID`, also for a null
    that the field does not take."""
    if None not in values:
        return map_column(decode, values)
    if not field.null:
        raise ValueError("null")
    return map_column(lambda value: None if value is None else decode(value), values)


def explain_invalid(error: Exception) -> str:
    """What is wrong with a value."""
    return "; ".join(getattr(error, "messages", [str(error)])).rstrip(".")


def has_filling(field: Any) -> bool:
    """Whether there is a value for a field that a record does not have."""
    is_stamped = getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
    is_empty = field.null or (field.blank and field.empty_strings_allowed)
    return bool(is_stamped or is_empty or field.has_default() or field.has_db_default())


def find_default(field: Any) -> Any:
    """The value, always the same, of a field that a record does not have."""
    if field.has_default():
        return prepare_default(field, field.get_default())
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return field.to_python(timezone.now())
    return None if field.null else ""


def prepare_default(field: Any, value: Any) -> Any:
    """A default as the value of a record: JSON is text."""
    is_json = isinstance(field, JSONField) and value is not None
    return json.dumps(value, cls=field.encoder) if is_json else value

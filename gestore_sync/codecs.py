"""Field values as JSON and back, exactly: microseconds, Decimals, bytes, time zones and JSON of any precision.

A value is what a field gives when it is read, except that the value of a JSONField is its text, as databases hold it.
"""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from json.encoder import encode_basestring
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.db.models import CompositePrimaryKey, JSONField, Model
from django.utils import timezone
from django.utils.duration import duration_iso_string

from gestore_sync.exceptions import BundleError
from gestore_sync.refs import get_field, resolve_key_field
from gestore_sync.valuekinds import (
    BYTES_MARK,
    ENCODING,
    INTEGERS,
    INVALID,
    JSON_MARK,
    MARK,
    MOST_DIGITS,
    SCALARS,
    AnyField,
    dump_json,
    get_bound_field,
    get_kind,
    load_json,
)

Encoder = Callable[[Any], str]
Decoder = Callable[[Any], Any]

# Into JSON


def _encode_float(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else f'"{value}"'


def _encode_json(text: str) -> str:
    """JSON stands as it is; what could be taken for no value at all is marked."""
    value = text.strip()
    may_be_marked = value.startswith("{") and (JSON_MARK in value or "\\u" in value)
    if value == "null" or (may_be_marked and list(load_json(value)) == [JSON_MARK]):
        return f'{{"{JSON_MARK}": {value}}}'
    return " ".join(value.split("\n")) if "\n" in value else value


def _encode_range(encode: Encoder) -> Encoder:
    def encode_range(value: Any) -> str:
        if value.isempty:
            return '{"empty": true}'
        lower, upper = ("null" if bound is None else encode(bound) for bound in (value.lower, value.upper))
        return f'{{"lower": {lower}, "upper": {upper}, "bounds": "{value._bounds}"}}'

    return encode_range


ENCODERS: dict[str, Encoder] = {
    **dict.fromkeys(("CharField", "FilePathField", "SlugField", "TextField"), encode_basestring),
    "GenericIPAddressField": encode_basestring,
    **dict.fromkeys(("DateField", "DateTimeField", "TimeField"), lambda value: f'"{value.isoformat()}"'),
    **dict.fromkeys(("DecimalField", "UUIDField"), lambda value: f'"{value}"'),
    "BooleanField": lambda value: "true" if value else "false",
    "DurationField": lambda value: f'"{duration_iso_string(value)}"',
    "FileField": lambda value: encode_basestring(str(value)),
    "FloatField": _encode_float,
}


def make_encoder(field: AnyField) -> Encoder:
    """The function that makes JSON of a value of ``field`` that is not None."""
    field = resolve_key_field(field)
    kind = get_kind(field)
    if kind == "JSONField":
        return _encode_json
    if kind == "BinaryField":
        return lambda value: f'"{base64.b64encode(bytes(value)).decode()}"'
    if kind in INTEGERS:
        return lambda value: str(int(value))
    if kind == "ArrayField":
        item = make_inner_encoder(field.base_field)  # type: ignore[attr-defined]
        return lambda values: "[" + ", ".join("null" if value is None else item(value) for value in values) + "]"
    if kind == "RangeField":
        return _encode_range(make_encoder(get_bound_field(field)))
    if kind == "HStoreField":
        return dump_json
    if kind:
        return ENCODERS[kind]
    return make_custom_encoder(field)


def make_custom_encoder(field: Any) -> Encoder:
    """The same for a class of the application's own: the text that fixtures have where the field reads it as the same
    value, else what the database is given. Raises :class:`BundleError` where the field reads neither."""
    decode = make_decoder(field)

    def is_read(text: str, value: Any) -> bool:
        try:
            return bool(decode(load_json(text)) == value)
        except INVALID:
            return False

    def encode(value: Any) -> str:
        shown = encode_basestring(str(field.value_to_string(SimpleNamespace(**{field.attname: value}))))
        if is_read(shown, value):
            return shown
        stored = field.get_prep_value(value)
        key, stored = (BYTES_MARK, base64.b64encode(stored).decode()) if isinstance(stored, bytes) else (MARK, stored)
        text = f'{{"{key}": {dump_json(stored)}}}' if isinstance(stored, SCALARS) else ""
        if text and is_read(text, value):
            return text
        raise BundleError(
            f"{field.model._meta.label} has the value {str(value)[:100]!r} in {field.name!r}, which the field does not "
            "read again as it wrote it. Let its value_to_string() and to_python() fit together."
        )

    return encode


def make_inner_encoder(field: AnyField) -> Encoder:
    """The same for the items of an array; the values of JSON among them are read as Python values."""
    if isinstance(field, JSONField):
        return lambda value: _encode_json(json.dumps(value, cls=field.encoder))
    return make_encoder(field)


# And back


def _decode_json(value: Any) -> str:
    if isinstance(value, dict) and list(value) == [JSON_MARK]:
        value = value[JSON_MARK]
    return dump_json(value).encode(**ENCODING).decode()


def _decode_datetime(field: AnyField) -> Decoder:
    def decode(value: Any) -> datetime:
        found: datetime = field.to_python(value)
        if timezone.is_aware(found) is settings.USE_TZ:
            return found
        change = timezone.make_aware if settings.USE_TZ else timezone.make_naive
        return change(found, timezone.get_default_timezone())

    return decode


def _decode_text(field: AnyField) -> Decoder:
    return lambda value: value if isinstance(value, str) else str(field.to_python(value))


def _decode_integer(value: Any) -> int:
    if isinstance(value, Decimal) and value.adjusted() > MOST_DIGITS:
        raise ValueError("a number that is too large")
    if isinstance(value, bool) or (isinstance(value, (float, Decimal)) and value != int(value)):
        raise ValueError("no whole number")
    return int(value)


def _decode_decimal(field: Any) -> Decoder:
    def decode(value: Any) -> Decimal:
        found: Decimal = field.to_python(value)
        digits = None if field.max_digits is None else field.max_digits - field.decimal_places
        if found and found.adjusted() >= (MOST_DIGITS if digits is None else digits):
            raise ValueError("a number that is too large")
        return found

    return decode


def _decode_range(field: Any) -> Decoder:
    decode = make_decoder(get_bound_field(field))

    def decode_range(value: Any) -> Any:
        if isinstance(value, str):
            return field.to_python(value)
        if value.get("empty"):
            return field.range_type(empty=True)
        lower, upper = (None if bound is None else decode(bound) for bound in (value["lower"], value["upper"]))
        return field.range_type(lower, upper, value.get("bounds", "[)"))

    return decode_range


def make_decoder(field: AnyField) -> Decoder:
    """The function that makes a value of ``field`` of parsed JSON that is not None.

    Raises one of :data:`INVALID` where it is none. Values as Django's serializers write them are read as well.
    """
    field = resolve_key_field(field)
    kind = get_kind(field)
    if kind == "JSONField":
        return _decode_json
    if kind == "ArrayField":
        return _decode_array(field.base_field)  # type: ignore[attr-defined]
    if kind == "RangeField":
        return _decode_range(field)
    if kind == "HStoreField":
        return dict
    decode = _only_scalars(make_scalar_decoder(field, kind))
    return decode if kind else _decode_custom(field, decode)


def _decode_custom(field: Any, decode: Decoder) -> Decoder:
    def read(stored: Any) -> Any:
        return field.from_db_value(stored, None, None) if hasattr(field, "from_db_value") else field.to_python(stored)

    def decode_custom(value: Any) -> Any:
        if not isinstance(value, dict):
            return decode(value)
        ((key, stored),) = value.items()
        if key not in (MARK, BYTES_MARK) or not isinstance(stored, SCALARS):
            raise ValueError("an object where a single value belongs")
        return read(base64.b64decode(str(stored), validate=True) if key == BYTES_MARK else stored)

    return decode_custom


def make_scalar_decoder(field: AnyField, kind: str) -> Decoder:
    """The same for fields whose values are no lists or objects in JSON."""
    if kind == "BinaryField":
        return lambda value: base64.b64decode(value, validate=True)
    if kind in INTEGERS:
        return _decode_integer
    if kind == "DateTimeField":
        return _decode_datetime(field)
    if kind == "DecimalField":
        return _decode_decimal(field)
    if kind == "UUIDField":
        return uuid.UUID
    if kind == "FloatField":
        return float
    if ENCODERS.get(kind) is encode_basestring or kind == "FileField":
        return _decode_text(field)
    return field.to_python


def _decode_array(base: AnyField) -> Decoder:
    is_json = isinstance(base, JSONField)
    decode: Decoder = (lambda value: json.loads(_decode_json(value))) if is_json else make_decoder(base)

    def decode_array(values: Any) -> list[Any]:
        if isinstance(values, str):
            values = json.loads(values)
        if not isinstance(values, list):
            raise TypeError("no list")
        return [None if value is None else decode(value) for value in values]

    return decode_array


def _only_scalars(decode: Decoder) -> Decoder:
    def decode_scalar(value: Any) -> Any:
        if not isinstance(value, SCALARS):
            raise TypeError("a list or an object where a single value belongs")
        found = decode(value)
        if found is None:
            raise ValueError("it is read as no value at all")
        return found

    return decode_scalar


# Primary keys


def make_key_encoder(model: type[Model]) -> Encoder:
    """The function that makes JSON of a primary key; of a composite one a list."""
    pk = model._meta.pk
    if not isinstance(pk, CompositePrimaryKey):
        return make_encoder(pk)
    encoders = [make_encoder(get_field(model, name)) for name in pk.field_names]
    return lambda key: "[" + ", ".join(encode(part) for encode, part in zip(encoders, key, strict=True)) + "]"


def make_key_decoder(model: type[Model]) -> Decoder:
    """The function that makes a primary key of parsed JSON. Raises one of :data:`INVALID`."""
    pk = model._meta.pk
    if not isinstance(pk, CompositePrimaryKey):
        return make_decoder(pk)
    decoders = [make_decoder(get_field(model, name)) for name in pk.field_names]

    def decode_key(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise TypeError("no list")
        return tuple(decode(part) for decode, part in zip(decoders, value, strict=True))

    return decode_key

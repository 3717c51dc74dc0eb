"""Digests of field values: what we last left on the target, field by field, in twelve bytes a field.

A record's digests are the concatenation, for each field, of four bytes that stand for its name and eight that stand
for its value; so a field that came or went since does not disturb the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from typing import Any

NAME_SIZE = 4
VALUE_SIZE = 8
SIZE = NAME_SIZE + VALUE_SIZE


@cache
def get_name_code(name: str) -> bytes:
    """The four bytes that stand for a field."""
    return blake2b(name.encode(), digest_size=NAME_SIZE).digest()


def make_digest(value: Any) -> bytes:
    """The eight bytes that stand for a value; equal values of one field have equal digests."""
    return blake2b(to_text(value).encode("utf-8", "surrogatepass"), digest_size=VALUE_SIZE).digest()


def to_text(value: Any) -> str:
    """One text for all values that are equal, however a database gave them."""
    writer = WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
    if isinstance(value, (bytes, memoryview, bytearray)):
        return "b" + bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return "l" + "".join(f"{len(text)}:{text}" for text in map(to_text, value))
    return f"o{value}"


def write_moment(value: datetime) -> str:
    """A moment, in UTC where its time zone is known."""
    return "d" + (value if value.tzinfo is None or value.tzinfo is UTC else value.astimezone(UTC)).isoformat()


def write_decimal(value: Decimal) -> str:
    """A decimal number without needless zeros."""
    return "i" + format(value.normalize(), "f") if value.is_finite() else f"f{value}"


def write_float(value: float) -> str:
    """A float; whole ones as integers, because some databases give them as such."""
    return f"i{int(value)}" if value.is_integer() and abs(value) < 2**53 else f"f{value!r}"


WRITERS: dict[type, Callable[[Any], str]] = {
    type(None): lambda value: "n",
    str: lambda value: "s" + value,
    int: lambda value: f"i{value}",
    bool: lambda value: f"i{value:d}",
    datetime: write_moment,
    Decimal: write_decimal,
    float: write_float,
}


def split_digests(digests: bytes) -> dict[bytes, bytes]:
    """By the code of the field's name, the digest of its value."""
    return {digests[at : at + NAME_SIZE]: digests[at + NAME_SIZE : at + SIZE] for at in range(0, len(digests), SIZE)}


def find_changed(digests: bytes, names: Sequence[str], values: Sequence[Any]) -> set[str] | None:
    """The names of the fields whose value is not what ``digests`` say; a field they do not know is left out.

    None where they know none of the fields.
    """
    known = split_digests(digests)
    codes = [(name, get_name_code(name)) for name in names]
    if not any(code in known for _, code in codes):
        return None
    return {
        name
        for (name, code), value in zip(codes, values, strict=True)
        if code in known and known[code] != make_digest(value)
    }


def canonize_json(text: str) -> str:
    """The same JSON text for all that mean the same; numbers keep every digit, and 1 is neither 1.0 nor true."""
    parsed = json.loads(text, parse_float=canonize_number, parse_int=canonize_number)
    return json.dumps(parsed, sort_keys=True, separators=(",", ":"))


def canonize_number(text: str) -> str:
    """A number of a JSON text as PostgreSQL's jsonb would print it, marked as a number."""
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    is_short = isinstance(exponent, int) and abs(exponent) < 1000
    return "\0" + (format(number, "f") if is_short else text)

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

from gestore_sync.exceptions import UnreadableValue
from gestore_sync.repeating import REPEATING, map_distinct

NAME_SIZE = 4
VALUE_SIZE = 8
SIZE = NAME_SIZE + VALUE_SIZE

DIGESTED_ONCE = REPEATING | {Decimal}
"""Types of which equal values have equal digests."""


@cache
def get_name_code(name: str) -> bytes:
    """The four bytes that stand for a field."""
    return blake2b(name.encode(), digest_size=NAME_SIZE).digest()


def make_digest(value: Any) -> bytes:
    """The eight bytes that stand for a value; equal values of one field have equal digests."""
    return blake2b(to_text(value).encode("utf-8", "surrogatepass"), digest_size=VALUE_SIZE).digest()


class Digester:
    """Makes the digests of one field's values, each after ``code``. ``normalize`` is asked about values of types that
    have no text of their own here; ``normalizes_all``: about all."""

    def __init__(self, code: bytes, normalize: Callable[[Any], Any], *, normalizes_all: bool = False) -> None:
        self._code = code
        self._normalize = normalize
        self._writers = {} if normalizes_all else WRITERS

    def __call__(self, value: Any) -> bytes:
        """The digest of one value."""
        writer = self._writers.get(type(value))
        return self._finish(to_text(self._normalize(value)) if writer is None else writer(value))

    def _finish(self, text: str) -> bytes:
        return self._code + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=VALUE_SIZE).digest()

    def digest_all(self, values: Sequence[Any]) -> list[bytes]:
        """The digests of many values; where these repeat, each is made once."""
        kinds = set(map(type, values))
        digests = map_distinct(self, values, kinds, DIGESTED_ONCE)
        if digests is not None:
            return digests
        writer = self._writers.get(kinds.pop()) if len(kinds) == 1 else None
        if writer is None:
            return list(map(self, values))
        code, encode = self._code, str.encode
        try:
            return [code + blake2b(encode(writer(value)), digest_size=VALUE_SIZE).digest() for value in values]
        except UnicodeEncodeError:
            return list(map(self, values))


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
    """A decimal number without needless zeros, with all its digits."""
    if not value.is_finite():
        return f"f{value}"
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "i0" if text == "-0" else "i" + text


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
    try:
        return text if text in ("{}", "[]") else ENCODER.encode(DECODER.decode(text))
    except ValueError as error:
        raise UnreadableValue(
            f"A column for JSON holds {text[:60]!r}, which is none: {error}. Mend it where it is. Nothing was written."
        ) from error


def canonize_number(text: str) -> str:
    """A number of a JSON text as PostgreSQL's jsonb would print it, marked as a number."""
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    is_short = isinstance(exponent, int) and abs(exponent) < 1000
    return "\0" + (format(number, "f") if is_short else text)


DECODER = json.JSONDecoder(parse_float=canonize_number, parse_int=canonize_number)
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

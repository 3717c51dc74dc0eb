"""Values that a unique field holds for a moment, while rows trade theirs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count, islice
from typing import Any

from django.conf import settings
from django.db import connections, models
from django.db.models import Field, Model

from gestore_sync.exceptions import WriteFailed
from gestore_sync.reading import get_queryset, match
from gestore_sync.refs import resolve_key_field

BLOCK = 1000
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def iter_parking_values(model: type[Model], field: Field[Any, Any], using: str) -> Iterator[Any]:
    """Values of ``field`` that no row of ``model`` has, without end: null where that is allowed.

    Raises :class:`WriteFailed` for a type of field that has no such values.
    """
    if field.null:
        while True:
            yield None
    values = iter_values(resolve_key_field(field), using)
    while block := list(islice(values, BLOCK)):
        taken = set(
            get_queryset(model, using).filter(match(field.attname, block)).values_list(field.attname, flat=True)
        )
        yield from (value for value in block if value not in taken)
    raise WriteFailed(
        f"Rows of {model._meta.label} trade values of the unique field {field.name!r}, which has no spare value "
        "for the time between. Make the change in two steps at the source, with a push after each."
    )


def iter_values(field: Field[Any, Any], using: str) -> Iterator[Any]:
    """Unlikely values of the field's type, one after the other."""
    if isinstance(field, models.UUIDField):
        return (uuid.uuid4() for _ in count())
    if isinstance(field, models.IntegerField):
        _, highest = connections[using].ops.integer_field_range(field.get_internal_type())
        return count(highest if highest is not None else 2**63 - 1, -1)
    if isinstance(field, models.DecimalField):
        top = Decimal(10) ** ((field.max_digits or 15) - (field.decimal_places or 0)) - 1
        return (top - number for number in count())
    if isinstance(field, models.FloatField):
        return (-1e300 - number * 1e290 for number in count())
    if isinstance(field, models.DateTimeField):
        return (make_moment(number) for number in range(3_000_000))
    if isinstance(field, models.DateField):
        return (date(9999, 12, 31) - timedelta(days=number) for number in range(3_000_000))
    if isinstance(field, models.TimeField):
        return (time(23, 59, 59, 999_999 - number) for number in range(1_000_000))
    if isinstance(field, models.DurationField):
        return (timedelta(days=900_000_000, seconds=-number) for number in count())
    if isinstance(field, (models.CharField, models.TextField)):
        return iter_words(field.max_length or 32)
    if isinstance(field, models.BinaryField):
        return (uuid.uuid4().bytes for _ in count())
    return iter(())


def make_moment(number: int) -> datetime:
    """A moment at the end of time."""
    moment = datetime(9999, 12, 30, tzinfo=UTC) - timedelta(minutes=number)
    return moment if settings.USE_TZ else moment.replace(tzinfo=None)


def iter_words(length: int) -> Iterator[str]:
    """Words of at most ``length`` characters: random ones where there is room, else every one there is."""
    if length >= 16:
        while True:
            yield uuid.uuid4().hex[:length]
    for number in range(len(LETTERS) ** min(length, 6)):
        word = ""
        while number or not word:
            number, rest = divmod(number, len(LETTERS))
            word = LETTERS[rest] + word
        yield word

"""Values that a unique field holds for a moment, while rows trade theirs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count, islice
from typing import Any

from django.conf import settings
from django.db import connections, models, transaction
from django.db.models import Field, Max, Min, Model

from gestore_sync.exceptions import WriteFailed
from gestore_sync.reading import get_queryset, match
from gestore_sync.refs import Key, get_field, resolve_key_field

BLOCK = 1000
SPREAD = 100_000
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


def iter_parkings(model: type[Model], field: Field[Any, Any], using: str, number: int) -> Iterator[list[Any]]:
    """Sets of ``number`` values of ``field`` that no row of ``model`` has, the likeliest to be allowed first.

    Null where that may be; numbers beyond those in use, which other constraints allow the likeliest; then gaps between
    them; then the ends of the type.
    """
    if field.null:
        yield [None] * number
    for values in iter_kinds(model, resolve_key_field(field), field.attname, using):
        found = list(islice(iter_free(model, field, using, values), number))
        if len(found) == number:
            yield found


def iter_kinds(model: type[Model], field: Field[Any, Any], name: str, using: str) -> Iterator[Iterator[Any]]:
    """Kinds of unlikely values, one after the other."""
    if isinstance(field, models.IntegerField):
        _, top = connections[using].ops.integer_field_range(field.get_internal_type())
        ends = get_queryset(model, using).aggregate(low=Min(name), high=Max(name))
        low, high = ends["low"] or 0, ends["high"] or 0
        yield iter(range(high + 1, min(high + SPREAD, top if top is not None else 2**63 - 1) + 1))
        yield iter(range(low, min(high, low + SPREAD)))
        yield iter(range(low - 1, low - SPREAD, -1))
    yield iter_values(field, using)


def iter_free(model: type[Model], field: Field[Any, Any], using: str, values: Iterator[Any]) -> Iterator[Any]:
    """Those values that no row has."""
    while block := list(islice(values, BLOCK)):
        rows = get_queryset(model, using).filter(match(field.attname, block))
        taken = set(rows.values_list(field.attname, flat=True))
        yield from (value for value in block if value not in taken)


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


def park(
    model: type[Model], name: str, using: str, keys: Sequence[Key], write: Callable[[Sequence[Any]], None]
) -> None:
    """Have ``write`` give the unique field of these rows, ``(primary key, [value])``, values that nobody else wants.

    Raises :class:`WriteFailed` where the database takes none.
    """
    connection = connections[using]
    unchecked = connection.constraint_checks_disabled() if connection.vendor == "mysql" else nullcontext()
    refused: WriteFailed | None = None
    for values in iter_parkings(model, get_field(model, name), using, len(keys)):
        try:
            with unchecked, transaction.atomic(using=using):
                write([(key, [value]) for key, value in zip(keys, values, strict=True)])
            return
        except WriteFailed as error:
            refused = error
    raise WriteFailed(
        f"Rows of {model._meta.label} trade values of the unique field {name!r}, and no value may stand there for the "
        "time between. Make the change in two steps at the source, with a push after each."
    ) from refused

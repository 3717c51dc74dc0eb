"""How many rows are taken at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any

from django.db.models import BinaryField, Model, QuerySet
from django.db.models.functions import Coalesce, Length

from gestore_sync.conf import get_option
from gestore_sync.reading import KEYS_PER_QUERY, iter_rows
from gestore_sync.refs import Key, iter_chunks

MAX_BYTES = 16 * 2**20
"""So many bytes of binary columns are in one batch, unless one row alone has more, and up to a quarter more in small
values, which are not counted."""
SIZE = "gestore_sync_size"


def iter_batches(model: type[Model], using: str, keys: Sequence[Key]) -> Iterator[list[Key]]:
    """The keys of rows of ``model`` on ``using`` in lists that are compared and written at once: of ``BATCH_SIZE``, and
    fewer where the rows have large values."""
    names = [field.attname for field in model._meta.local_concrete_fields if isinstance(field, BinaryField)]
    size = get_option("BATCH_SIZE")
    if not names:
        yield from iter_chunks(keys, size)
        return
    for chunk in iter_chunks(keys, max(1, KEYS_PER_QUERY // size) * size):
        sizes = measure(model, using, chunk, names, MAX_BYTES // (4 * size))
        for some in iter_chunks(chunk, size):
            yield from split(some, sizes)


def measure(model: type[Model], using: str, keys: Sequence[Key], names: Sequence[str], least: int) -> dict[Key, int]:
    """How many bytes the rows with these keys have in these columns, for those that have more than ``least``."""

    def annotate(rows: QuerySet[Any]) -> QuerySet[Any]:
        sized: QuerySet[Any] = rows.annotate(**{SIZE: reduce(add, (Coalesce(Length(name), 0) for name in names))})
        return sized.filter(**{f"{SIZE}__gt": least})

    return dict(iter_rows(model, using, keys, [SIZE], annotate))


def split(keys: Sequence[Key], sizes: dict[Key, int]) -> Iterator[list[Key]]:
    """The keys in lists of at most ``MAX_BYTES``."""
    batch: list[Key] = []
    total = 0
    for key in keys:
        size = sizes.get(key, 0)
        if batch and total + size > MAX_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(key)
        total += size
    if batch:
        yield batch

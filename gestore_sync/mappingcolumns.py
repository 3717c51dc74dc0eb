"""Id mappings that are to be kept, column by column as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Model

from gestore_sync.exceptions import WriteFailed
from gestore_sync.keytexts import dump_keys
from gestore_sync.models import KEY_LENGTH
from gestore_sync.plan import Noted
from gestore_sync.recall import Mapping as Known
from gestore_sync.refs import Key, Ref

COLUMNS = ("source_pk", "target_pk", "created", "digests", "serial", "source_imprint", "target_imprint")
"""What :func:`make_columns` gives the values of."""
KEPT = COLUMNS[1:]
"""What may change of a mapping."""
NO_IMPRINTS = (None, None)

Columns = list[Sequence[Any]]


def make_columns(
    model: type[Model], rows: Sequence[Noted], known: Mapping[Key, Known], *, with_imprints: bool
) -> Columns:
    """The values of :data:`COLUMNS` for these mappings. ``known``: those there are of the same objects."""
    keys = [row.key for row in rows]
    pairs = [(with_imprints and row.imprints) or NO_IMPRINTS for row in rows]
    return [
        dump_short(model, keys, keys),
        dump_short(model, keys, [row.target for row in rows]),
        [row.created for row in rows],
        [row.digests for row in rows],
        [known[key].serial + 1 if key in known else 1 for key in keys] if known else [1] * len(keys),
        [mine for mine, _ in pairs],
        [theirs for _, theirs in pairs],
    ]


def dump_short(model: type[Model], keys: Sequence[Key], others: Sequence[Key]) -> list[str]:
    """The texts of ``others``, which are keys of one side. Raises :class:`WriteFailed` where one is too long; it names
    the object with the key of ``keys`` in the same place."""
    texts = dump_keys(others)
    for key, text in zip(keys, texts, strict=True) if max(map(len, texts), default=0) > KEY_LENGTH else ():
        if len(text) > KEY_LENGTH:
            raise WriteFailed(
                f"The primary key of {Ref(model, key)} is too long for an id mapping: {KEY_LENGTH} characters fit.",
                ref=Ref(model, key),
            )
    return texts


def split_columns(
    rows: Sequence[Noted], known: Mapping[Key, Known], columns: Columns
) -> tuple[Columns, list[tuple[int, tuple[Any, ...]]]]:
    """The columns of the mappings that are new, and of the others the keys of our rows with the values of
    :data:`KEPT`."""
    if not known:
        return columns, []
    places = [known[row.key].pk if row.key in known else None for row in rows]
    values = list(zip(places, zip(*columns, strict=True), strict=True))
    fresh = [row for pk, row in values if pk is None]
    changed = [(pk, row[1:]) for pk, row in values if pk is not None]
    return list(zip(*fresh, strict=True)) if fresh else [()] * len(COLUMNS), changed

"""Columns of values of which many are the same: what is made of a value is made once for all that are equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from uuid import UUID

Made = TypeVar("Made")

REPEATING: frozenset[type] = frozenset({str, int, bool, datetime, date, UUID})
"""Types of which equal values are the same value."""
SAMPLE = 100
"""Where so many values at the beginning of a column are all different, they are taken for a column of such."""


def map_column(make: Callable[[Any], Made], values: Sequence[Any]) -> list[Made]:
    """What ``make`` gives for each value; where values repeat, it is asked once."""
    made = map_distinct(make, values, set(map(type, values)))
    return list(map(make, values)) if made is None else made


def map_distinct(
    make: Callable[[Any], Made],
    values: Sequence[Any],
    kinds: AbstractSet[type],
    repeating: AbstractSet[type] = REPEATING,
) -> list[Made] | None:
    """What ``make`` gives for each value, asked once for equal ones; None where :func:`find_distinct` finds nothing."""
    distinct = find_distinct(values, kinds, repeating)
    if distinct is None:
        return None
    if len(distinct) == 1:
        return [make(*distinct)] * len(values)
    made = {value: make(value) for value in distinct}
    return [made[value] for value in values]


def find_distinct(
    values: Sequence[Any], kinds: AbstractSet[type], repeating: AbstractSet[type] = REPEATING
) -> set[Any] | None:
    """The values of a column, each once, where that is less than half as many; None where it does not seem so, or where
    equal values may differ. ``kinds``: the types of the values, of which one may be there beside null; ``repeating``:
    those of which equal values are the same.

    Two moments of one zone an hour apart are equal where the clock was set back between them.
    """
    kinds = kinds - {type(None)}
    if not kinds <= repeating or len(kinds) > 1:
        return None
    half, sample = len(values) // 2, values[:SAMPLE]
    if len(sample) < half and len(set(sample)) == len(sample):
        return None
    distinct = set(values)
    if len(distinct) > half:
        return None
    if datetime in kinds and not all(value is None or value.tzinfo in (None, UTC) for value in distinct):
        return None
    return distinct

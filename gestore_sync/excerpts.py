"""Values of rows as a person reads them, cut off where they are long, and as they go into digests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time
from math import isfinite
from typing import Any

from django.db.models import Model

from gestore_sync.failures import read_natural_keys
from gestore_sync.layouts import Layout
from gestore_sync.links import LinkGraph
from gestore_sync.locators import get_readers
from gestore_sync.natural import find_natural_key
from gestore_sync.refs import NEW, Key

SHOWN = 200
"""So many characters of a value are shown."""


def show(value: Any) -> Any:
    """A value as JSON for a person, cut off where it is long."""
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [show(item) for item in value[:SHOWN]]
    if isinstance(value, dict):
        return {str(name): show(item) for name, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        text = bytes(value).hex()
    else:
        text = value.isoformat() if isinstance(value, (date, time)) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def show_value(layout: Layout, at: int, value: Any) -> Any:
    """The value in a column, for a person."""
    is_json = at < len(layout.columns) and layout.columns[at].is_json
    return show(value if is_json else layout.normalize(at, value))


def dump(layout: Layout, values: Sequence[Any]) -> list[Any]:
    """Values in the order of the layout's names, as they go into a digest."""
    return [str(value) if value is NEW else layout.normalize(at, value) for at, value in enumerate(values)]


def dump_row(layout: Layout, row: tuple[Any, ...]) -> list[Any]:
    """The same for a row of the source, with its links as they are there."""
    end = len(layout.columns) + 1
    return [*dump(layout, row[1:end]), *row[end : layout.imprint_at]]


def find_natural_keys(model: type[Model], graph: LinkGraph, using: str, keys: Sequence[Key]) -> dict[Key, Any]:
    """The natural keys of objects, for a person; in bulk where they can be read as fields."""
    reader = next((reader for reader in get_readers(model, graph) if reader.identity.natural), None)
    if reader is not None:
        return {key: show(values[: len(reader.components)]) for key, values in reader.read(using, keys).items()}
    if find_natural_key(model) is None:
        return {}
    return {key: show(values) for key, values in read_natural_keys(model, using, keys).items()}

"""Primary keys on the target for the objects that will be created, before any of them is written."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Model

from gestore_sync.identity import has_automatic_key
from gestore_sync.layouts import Layout
from gestore_sync.planner import Planner
from gestore_sync.refs import Key, get_key_columns
from gestore_sync.scope import Role
from gestore_sync.writers.portable import Writer


def reserve_keys(planner: Planner, model: type[Model], writer: Writer) -> list[Key]:
    """Give every new object of ``model`` its key, in the order of the source's; the objects' keys on the source.

    The models that primary keys point to must come first.
    """
    subgraph = planner.subgraph
    keys = planner.counterparts.maps[model]
    new = [
        key for key in keys.iter_new() if subgraph.is_needed(model, key) or subgraph.find_role(model, key) is Role.OWN
    ]
    if new and has_automatic_key(model):
        kept = planner.lookup.kept.get(model, ())
        own = [key for key in new if key in kept]
        others = [key for key in new if key not in kept] if own else new
        for key, target in zip(others, writer.reserve(model, len(others), above=max(own, default=0)), strict=True):
            keys.set(key, target)
        for key in own:
            keys.set(key, key)
    elif new:
        for key, target in make_keys(planner.get_layout(model), new, planner):
            keys.set(key, target)
    return new


def make_keys(layout: Layout, keys: list[Key], planner: Planner) -> Iterator[tuple[Key, Key]]:
    """``(source key, target key)`` where the database does not count keys out: the same, with links rewritten."""
    names = get_key_columns(layout.model)
    places = [number for name in names for number, column in enumerate(layout.columns) if column.field.attname == name]
    if not any(layout.columns[place].link is not None for place in places):
        yield from zip(keys, keys, strict=True)
        return
    for row in layout.read(planner.source, keys):
        values = layout.translate(row, planner.counterparts, planner.source)
        parts = tuple(values[place] for place in places)
        yield row[0], parts if len(names) > 1 else parts[0]

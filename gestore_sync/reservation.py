"""Primary keys on the target for the objects that will be created, before any of them is written."""

from __future__ import annotations

from django.db.models import Model

from gestore_sync.identity import has_automatic_key
from gestore_sync.layouts import Layout
from gestore_sync.links import FOREIGN
from gestore_sync.planner import Planner
from gestore_sync.refs import Key, get_key_columns
from gestore_sync.scope import Role
from gestore_sync.translation import Counterparts
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
        for key, target in zip(new, writer.reserve(model, len(new)), strict=True):
            keys.set(key, target)
    else:
        layout = planner.get_layout(model)
        for key in new:
            keys.set(key, make_key(layout, key, planner.counterparts))
    return new


def make_key(layout: Layout, key: Key, counterparts: Counterparts) -> Key:
    """A key that the database does not count out, with the links in it rewritten."""
    parts = key if isinstance(key, tuple) else (key,)
    made = []
    for name, part in zip(get_key_columns(layout.model), parts, strict=True):
        link = next(column.link for column in layout.columns if column.field.attname == name)
        if link is not None and link.kind == FOREIGN and link.target is not None and len(link.attnames) == 1:
            part = counterparts.get(link.target, part)
        made.append(part)
    return tuple(made) if isinstance(key, tuple) else made[0]

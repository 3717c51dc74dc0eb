"""Links to unique fields that are no primary keys: the values that these fields have on the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import Model

from gestore_sync.layouts import Layout
from gestore_sync.reading import iter_rows
from gestore_sync.refs import Key
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts


def iter_linked_values(
    subgraph: Subgraph, target: str, counterparts: Counterparts, get_layout: Callable[[type[Model]], Layout]
) -> Iterator[tuple[type[Model], str, dict[Key, Any], bool]]:
    """For each unique field that links lead to: the model, the field's name, its values on the target by key of the
    source, and whether the field travels itself. The values of owned objects that it travels with are left out: they
    will be the source's."""
    wanted = {
        (link.target, link.to_field)
        for model in subgraph.get_models()
        for link in subgraph.graph.forward[model]
        if link.target is not None and link.to_field
    }
    for model, name in wanted:
        if model not in counterparts.maps:
            continue
        is_carried = name in get_layout(model).names
        pairs = {
            theirs: mine
            for mine, theirs in counterparts.maps[model].items()
            if not (is_carried and subgraph.find_role(model, mine) is Role.OWN)
        }
        values = {pairs[theirs]: value for theirs, value in iter_rows(model, target, list(pairs), [name])}
        yield model, name, values, is_carried

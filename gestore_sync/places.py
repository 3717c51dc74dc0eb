"""Tree nodes that stand elsewhere among their siblings on the target than at the source."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from django.db.models import Model

from gestore_sync.refs import NEW, UNKNOWN, Key
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts


def find_moved_nodes(subgraph: Subgraph, model: type[Model], target: str, counterparts: Counterparts) -> list[Key]:
    """The owned nodes, by source key, that must move among their siblings; none where ``model`` is no tree."""
    adapter = subgraph.graph.find_adapter(model)
    if adapter is None or adapter.ordered_by_fields(model):
        return []
    keys = {
        key: found
        for key in subgraph.iter_keys(model, Role.OWN)
        if (found := counterparts.get(model, key)) is not NEW and found is not UNKNOWN
    }
    mine = adapter.read(model, subgraph.source, list(keys))
    theirs = adapter.read(model, target, list(keys.values()))
    families: dict[tuple[Any, Any], list[Key]] = {}
    for key, found in keys.items():
        if key in mine and found in theirs:
            families.setdefault((mine[key].parent, theirs[found].parent), []).append(key)
    return [
        key
        for (parent, their_parent), family in families.items()
        if parent is None or counterparts.get(model, parent) == their_parent
        for key in find_misplaced(
            sorted(family, key=lambda key: mine[key].order),
            sorted(family, key=lambda key: theirs[keys[key]].order),
        )
    ]


def find_misplaced(wanted: Sequence[Key], found: Sequence[Key]) -> list[Key]:
    """The fewest elements that must move to bring ``found`` into the order of ``wanted``."""
    if list(wanted) == list(found):
        return []
    place = {key: number for number, key in enumerate(wanted)}
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for at, key in enumerate(found):
        rank = bisect_left(ends, place[key])
        before.append(last[rank - 1] if rank else -1)
        ends[rank : rank + 1] = [place[key]]
        last[rank : rank + 1] = [at]
    stay = set()
    at = last[-1]
    while at >= 0:
        stay.add(at)
        at = before[at]
    return [key for number, key in enumerate(found) if number not in stay]

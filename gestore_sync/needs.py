"""Which referred objects must really be created: those that something that is written points to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Model

from gestore_sync.generic import find_generic_target, to_key
from gestore_sync.keysets import AT_ONCE, make_key_list
from gestore_sync.links import GENERIC, TREE, Link
from gestore_sync.reading import count_pointing, iter_pointing, iter_rows
from gestore_sync.refs import NEW, Key, iter_chunks
from gestore_sync.scope import Role, find_reverse_role
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts

REFERRED = (Role.REFER, Role.REQUIRE)


def find_needed(
    subgraph: Subgraph, model: type[Model], counterparts: Counterparts
) -> tuple[Sequence[Key], Sequence[Key]]:
    """The referred objects that something written points to: those that will be created, and those that are there."""
    new, there = make_key_list(model), make_key_list(model)
    needed = subgraph.needed.get(model)
    if needed is None:
        return new, there
    for role in REFERRED:
        members = subgraph.members.get((model, role))
        for chunk in iter_chunks(members.keys, AT_ONCE) if members else ():
            others = set(needed.leave_out(chunk))
            keys = [key for key in chunk if key not in others] if others else chunk
            for key, target in zip(keys, counterparts.get_all(model, keys), strict=True):
                (new if target is NEW else there).append(key)
    return new, there


def spread_needs(subgraph: Subgraph, counterparts: Counterparts) -> None:
    """Mark as needed what needed objects without counterpart point to, and the parts that make such an object whole.

    An object that the target has is left as it is; what only such an object points to need not exist there.
    """
    frontier: Mapping[type[Model], Sequence[Key]] = {
        model: find_needed(subgraph, model, counterparts)[0] for model in subgraph.get_models()
    }
    while any(frontier.values()):
        following: dict[type[Model], list[Key]] = {}
        for model, keys in frontier.items():
            for target, key in [*iter_targets(subgraph, model, keys), *iter_parts(subgraph, model, keys)]:
                is_referred = subgraph.find_role(target, key) in REFERRED
                if is_referred and subgraph.add_needed(target, key) and counterparts.get(target, key) is NEW:
                    following.setdefault(target, []).append(key)
        frontier = following


def iter_targets(subgraph: Subgraph, model: type[Model], keys: Sequence[Key]) -> list[tuple[type[Model], Key]]:
    """The objects that these objects point to."""
    if not keys:
        return []
    links = subgraph.graph.forward[model]
    found: list[tuple[type[Model], Key]] = []
    paths = list(dict.fromkeys(path for link in links for path in link.key_paths))
    rows = list(iter_rows(model, subgraph.source, keys, paths)) if paths else []
    at = {path: number for number, path in enumerate(paths, start=1)}
    for link in links:
        if link.kind == TREE:
            adapter = subgraph.graph.find_adapter(model)
            nodes = adapter.read(model, subgraph.source, keys) if adapter else {}
            found += [(model, node.parent) for node in nodes.values() if node.parent is not None]
            continue
        places = [at[path] for path in link.key_paths]
        values = {tuple(row[place] for place in places) for row in rows}
        found += [
            pair for value in values if None not in value and (pair := get_target(subgraph, link, value)) is not None
        ]
    return found


def get_target(subgraph: Subgraph, link: Link, value: tuple[Any, ...]) -> tuple[type[Model], Key] | None:
    """What a link with this value points to."""
    if link.kind == GENERIC:
        target = find_generic_target(subgraph.source, value[0])
        key = None if target is None else to_key(target, value[1])
        return None if target is None or key is None else (target, key)
    assert link.target is not None
    return link.target, value if len(value) > 1 else value[0]


def iter_parts(subgraph: Subgraph, model: type[Model], keys: Sequence[Key]) -> list[tuple[type[Model], Key]]:
    """The referred rows that point at these objects: their members, extensions and multi-table children."""
    found: list[tuple[type[Model], Key]] = []
    for link in subgraph.graph.reverse[model] if keys else ():
        roles = {find_reverse_role(subgraph.graph, subgraph.scope, link, role) for role in REFERRED}
        if link.kind == TREE or len(link.key_paths) > 1 or roles.isdisjoint(REFERRED):
            continue
        for role in REFERRED:
            members = subgraph.members.get((link.model, role))
            if members:
                pairs = iter_pointing(link.model, subgraph.source, link.key_paths[0], keys)
                found += [(link.model, pk) for pk, _ in pairs if pk in members.seen]
    return found


def count_left_behind(subgraph: Subgraph, counterparts: Counterparts) -> dict[str, dict[str, int]]:
    """By model of the referred objects that will be created, the rows that hang on them and stay behind, by link."""
    result: dict[str, dict[str, int]] = {}
    for model in subgraph.get_models():
        keys, _ = find_needed(subgraph, model, counterparts)
        counts: Counter[str] = Counter()
        for link in subgraph.graph.reverse[model] if keys else ():
            if link.kind == TREE or len(link.key_paths) > 1 or subgraph.scope.leaves_out(link.model):
                continue
            if any((link.model, role) in subgraph.members for role in Role):
                pairs = iter_pointing(link.model, subgraph.source, link.key_paths[0], keys)
                counts[link.name] = subgraph.count_outside(link.model, (pk for pk, _ in pairs))
            else:
                counts[link.name] = count_pointing(link.model, subgraph.source, link.key_paths[0], keys)
        if +counts:
            result[model._meta.label] = dict(+counts)
    return result

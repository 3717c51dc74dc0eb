"""Counts the rows that point at owned objects by links that a walk did not follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Q

from gestore_sync.generic import find_type_filter, get_faces, get_object_ids, get_type_ids
from gestore_sync.links import TREE, Link
from gestore_sync.reading import KEYS_PER_QUERY, count_pointing, iter_pointing
from gestore_sync.refs import iter_chunks
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph


def count_mentions(subgraph: Subgraph) -> None:
    """Fill ``subgraph.mentions``; rows that are in the subgraph by another link do not count."""
    type_ids = get_type_ids(subgraph.source)
    for (model, role), members in list(subgraph.members.items()):
        if role is not Role.OWN or not members:
            continue
        for link in subgraph.graph.reverse[model]:
            if link.kind != TREE and is_mention(subgraph, link):
                count(subgraph, link, link.key_paths, members.keys, None)
        for link in subgraph.graph.get_unrelated(model):
            of_type = find_type_filter(link, get_faces(model), type_ids)
            if of_type is not None and is_mention(subgraph, link):
                for keys in iter_chunks(members.keys, KEYS_PER_QUERY):
                    count(subgraph, link, link.attnames[1:], list(get_object_ids(link, keys)), of_type)


def is_mention(subgraph: Subgraph, link: Link) -> bool:
    """Whether rows that point at owned objects by ``link`` are neither followed nor left out by name."""
    names = [membership.name for membership in subgraph.graph.owners.get(link, [])]
    return subgraph.scope.get_reverse_role(link, Role.OWN, names, belongs=link.belongs) is None


def count(subgraph: Subgraph, link: Link, paths: Sequence[str], values: Sequence[Any], extra: Q | None) -> None:
    """Add the number of rows outside the subgraph that have one of ``values``."""
    if len(paths) > 1 or not values:
        return
    if any((link.model, role) in subgraph.members for role in Role):
        pairs = iter_pointing(link.model, subgraph.source, paths[0], values, extra)
        number = sum(subgraph.find_role(link.model, pk) is None for pk, _ in pairs)
    else:
        number = count_pointing(link.model, subgraph.source, paths[0], values, extra)
    if number:
        subgraph.mentions[link.name] += number

"""Which keys that were deleted and added again are two objects, one that goes and one that comes.

They are where keys are automatic, and where a key is, or has as a part, the key of such an object: a multi-table child,
an extension, a row of a composite key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from django.db.models import Model

from gestore_sync.children import iter_parents
from gestore_sync.identity import has_automatic_key
from gestore_sync.links import FOREIGN, Link, LinkGraph
from gestore_sync.reading import KEYS_PER_QUERY, iter_rows
from gestore_sync.refs import Key, Ref, get_key_columns, iter_chunks
from gestore_sync.tombstones import Deletion


class Life(Protocol):
    """The entries of one object: whether they tell of its deletion, and of an addition after that."""

    @property
    def deletion(self) -> Deletion | None: ...

    @property
    def reborn(self) -> bool: ...


Lives = Mapping[type[Model], Mapping[Key, Life]]


def find_replaced(lives: Lives, existing: Mapping[type[Model], set[Key]], graph: LinkGraph) -> set[Ref]:
    """The objects whose key another one had before, as their entries tell. ``existing``: the keys that are there."""
    reborn = find_reborn(lives, existing, graph.using)
    replaced = {ref for ref in reborn if has_automatic_key(ref.model)}
    leading = {
        model: links for model in {ref.model for ref in reborn - replaced} if (links := get_key_links(model, graph))
    }
    ends = [
        (ref, end)
        for model, links in leading.items()
        for ref, end in iter_ends(model, links, [ref.pk for ref in reborn if ref.model is model], graph.using)
    ]
    size = -1
    while len(replaced) > size:
        size = len(replaced)
        replaced |= {ref for ref, end in ends if end in replaced}
    return replaced


def find_reborn(lives: Lives, existing: Mapping[type[Model], set[Key]], using: str) -> set[Ref]:
    """The objects that are there and were added after a deletion. Of a multi-table object that is saved, only the child
    has an entry: its parents were added with it if they were deleted with it."""
    reborn: set[Ref] = set()
    for model, of_model in lives.items():
        there = existing[model]
        keys = [key for key, life in of_model.items() if life.deletion is not None and life.reborn and key in there]
        reborn |= {Ref(model, key) for key in keys}
        for _, parent in iter_parents(model, keys, using) if keys else ():
            before = lives.get(parent.model, {}).get(parent.pk)
            if before is not None and before.deletion is not None and parent.pk in existing[parent.model]:
                reborn.add(parent)
    return reborn


def get_key_links(model: type[Model], graph: LinkGraph) -> list[Link]:
    """The links of which all columns are part of the primary key."""
    key = set(get_key_columns(model))
    return [link for link in graph.forward[model] if link.kind == FOREIGN and link.target and {*link.attnames} <= key]


def iter_ends(model: type[Model], links: list[Link], keys: list[Key], using: str) -> Iterator[tuple[Ref, Ref]]:
    """``(object, what a link of it leads to)``."""
    for link in links:
        for chunk in iter_chunks(keys, KEYS_PER_QUERY):
            for key, *end in iter_rows(model, using, chunk, link.key_paths):
                assert link.target is not None
                yield Ref(model, key), Ref(link.target, tuple(end) if len(end) > 1 else end[0])

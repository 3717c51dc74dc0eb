"""Decides about batches of rows that exist on both sides; where both changed, the logs of both are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Model

from gestore_sync.children import get_policies_of
from gestore_sync.comparison import REMOTE, Decision, Pair, decide
from gestore_sync.digests import split_digests
from gestore_sync.layouts import Layout
from gestore_sync.mappings import MappingStore
from gestore_sync.plan import Noted
from gestore_sync.policies import Policies
from gestore_sync.recall import Mapping as IdMapping
from gestore_sync.refs import Key, Ref
from gestore_sync.subgraph import Subgraph
from gestore_sync.times import Times
from gestore_sync.translation import Counterparts


def decide_all(
    layout: Layout,
    source: str,
    pairs: Mapping[Key, Pair],
    targets: Mapping[Key, Key],
    policies: Policies,
    times: Times,
) -> dict[Key, Decision]:
    """By key of the source, what becomes of the rows. ``targets``: their keys on the target."""
    asked = get_policies_of(policies, layout.model, source, pairs)
    mine, theirs = [pair.mine for pair in pairs.values()], [pair.theirs for pair in pairs.values()]
    differing = dict(zip(pairs, layout.find_differing_all(mine, theirs), strict=True))
    made = dict(zip(pairs, layout.digest_values(mine), strict=True))
    found = {key: decide(layout, pair, asked[key], differing[key], made[key]) for key, pair in pairs.items()}
    doubtful = {key: targets[key] for key, decision in found.items() if decision.newer}
    for key in times.find_newer(layout.model, doubtful) if doubtful else ():
        found[key] = decide(layout, pairs[key], asked[key], differing[key], made[key], REMOTE)
    return found


def can_create_all(
    subgraph: Subgraph, layout: Layout, keys: Sequence[Key], rows: Mapping[Key, Any], counterparts: Counterparts
) -> bool:
    """Whether the rows of all these new objects are there, and can be created with all their links: nothing is left to
    decide. ``rows``: by key of the source."""
    if subgraph.barred or not rows.keys() >= set(keys):
        return False
    return not layout.leads_nowhere(list(rows.values()), counterparts, subgraph.source)


def is_noted(mapping: IdMapping | None, target: Key, known: bytes | None, digests: bytes) -> bool:
    """Whether what is stored already says this; ``known``: the stored digests, as digests of the target's row."""
    if mapping is None or mapping.target != target or known is None or mapping.moved:
        return False
    if mapping.pk is None and not mapping.mirrored:
        return False
    return known == digests or split_digests(known) == split_digests(digests)


def drop_known(store: MappingStore, model: type[Model], notes: list[Noted]) -> list[Noted]:
    """The notes, without those of members that are known by another key: lists of members do not say their keys."""
    if not store.keeps:
        return []
    if not notes or not model._meta.auto_created:
        return notes
    known = store.find_sources(model, [note.target for note in notes])
    return [note for note in notes if all(sent.moved for sent in known.get(note.target, ()))]


def find_fresh(
    store: MappingStore, counterparts: Counterparts, model: type[Model], keys: Sequence[Key]
) -> list[tuple[Key, Any]]:
    """Those of the objects whose id mapping is not what was found, each with its counterpart."""
    known = store.find(model, keys)
    pairs = zip(keys, counterparts.get_all(model, keys), strict=True)
    return [(key, target) for key, target in pairs if key not in known or known[key].target != target]


def find_barred(subgraph: Subgraph, layout: Layout, row: tuple[Any, ...], number: int) -> Ref | None:
    """The object that the link in a column of a row leads to, if it must not be written."""
    found = layout.find_linked(row, number, subgraph.source) if subgraph.barred else None
    return found if found is not None and found.pk in subgraph.barred.get(found.model, {}) else None

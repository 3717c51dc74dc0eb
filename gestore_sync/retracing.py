"""Walks through a bundle as its export walked, so that each object has the role that it had there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial, reduce
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from gestore_sync.columns import limit
from gestore_sync.links import LinkGraph
from gestore_sync.manifests import Manifest, find_model, load_scope
from gestore_sync.naming import parse_key
from gestore_sync.reading import find_existing, get_queryset
from gestore_sync.refs import Key, Ref
from gestore_sync.scope import Role
from gestore_sync.subgraph import TRAVELLING, Subgraph
from gestore_sync.walker import Walker

KEYS_AT_ONCE = 10_000


class Retracing:
    """The walks through one staged bundle.

    ``loaded``: how many objects it has of each model; ``dropped``: models whose rows are not taken. What the export's
    walk would not have reached, because a person added it, is in the bundle all the same, and counts as owned; where
    only dropped rows lead to its model, it is referred to.
    """

    def __init__(
        self,
        graph: LinkGraph,
        manifest: Manifest,
        loaded: Collection[type[Model]],
        dropped: Collection[type[Model]],
        advance: Callable[[int], None],
    ) -> None:
        scope = load_scope(manifest.scope, graph)
        self._graph = graph
        self._referred = {
            membership.other.target
            for memberships in graph.memberships.values()
            for membership in memberships
            if membership.link.model in dropped
        }
        self._scope = replace(scope, excluded=scope.excluded | frozenset(dropped))
        self._loaded = loaded
        self._advance = advance
        self._roots = list(iter_roots(manifest, graph.using, loaded))
        self._whole: Subgraph | None = None
        self._added: dict[type[Model], list[Key]] = {}

    def walk(self, barred: dict[Ref, str]) -> Subgraph:
        """The objects of the bundle without the ``barred`` ones and what is reached through these alone."""
        if self._whole is not None:
            return self._walk(barred)
        self._whole = self._walk({})
        for models in (self._referred, self._loaded):
            found = self._find_unreached(self._whole)
            added = {model: keys for model, keys in found.items() if model in models}
            if added:
                self._added |= added
                self._whole = self._walk({})
        return self._whole

    def _walk(self, barred: dict[Ref, str]) -> Subgraph:
        walker = Walker(self._graph, self._scope, self._advance)
        for ref, reason in barred.items():
            walker.subgraph.barred.setdefault(ref.model, {})[ref.pk] = reason
        added = {
            model: [key for key in keys if not barred or Ref(model, key) not in barred]
            for model, keys in self._added.items()
        }
        referred = {model: keys for model, keys in added.items() if model in self._referred}
        owned = {model: keys for model, keys in added.items() if model not in referred}
        return walker.walk([ref for ref in self._roots if ref not in barred], owned, referred)

    def _find_unreached(self, subgraph: Subgraph) -> dict[type[Model], list[Key]]:
        found = {}
        for model in self._loaded:
            seen: list[Any] = [members.seen for (of, _), members in subgraph.members.items() if of is model]
            keys = get_queryset(model, subgraph.source).values_list("pk", flat=True).iterator(chunk_size=KEYS_AT_ONCE)
            rest: list[Key] = []
            while some := list(islice(keys, KEYS_AT_ONCE)):
                rest += reduce(lambda left, each: each.leave_out(left), seen, some)
            if rest and not self._scope.leaves_out(model):
                found[model] = rest
        return found

    def count_left_out(self, subgraph: Subgraph, barred: Collection[Ref]) -> Counter[str]:
        """By model label, how many objects are barred or, as parts of one that is, not in ``subgraph``."""
        found = Counter(ref.model._meta.label for ref in barred)
        whole = self._whole
        for model in whole.get_models() if whole is not None and barred else ():
            members = [subgraph.members.get((model, role)) for role in TRAVELLING]
            seen = [each.seen for each in members if each is not None]
            for key in whole.iter_keys(model, Role.OWN) if whole is not None else ():
                if not any(key in each for each in seen) and Ref(model, key) not in barred:
                    found[model._meta.label] += 1
        return found


def iter_roots(manifest: Manifest, using: str, loaded: Collection[type[Model]]) -> Iterator[Ref]:
    """The objects that were asked for, as far as the bundle has them."""
    for text in manifest.roots if not manifest.is_ancestor else ():
        app_label, _dot, rest = text.partition(".")
        name, _dot, key = rest.partition(".")
        model = find_model(f"{app_label}.{name}")
        try:
            if model is not None and model in loaded:
                parse = limit(partial(parse_key, model), model._meta.pk, using)
                ref = Ref(model, parse(key))
                yield from [ref] if find_existing(model, using, [ref.pk]) else []
        except (ValidationError, ValueError, TypeError):
            continue

"""Which referred objects nothing uses any more once others are deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.db.models import Model, Q

from gestore_sync.keysets import make_key_set
from gestore_sync.links import Link
from gestore_sync.needs import REFERRED, iter_targets
from gestore_sync.reading import get_keys_per_query, get_queryset, match_keys
from gestore_sync.references import References
from gestore_sync.refs import Key, iter_chunks
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph

Found = dict[type[Model], set[Key]]

SHARED = frozenset({"contenttypes.contenttype", "auth.permission", "auth.group", "sites.site"})
"""Models whose objects are used though no row points at them."""


def find_orphans(subgraph: Subgraph, references: References) -> Found:
    """The referred objects that only rows that go point at, those among each other included.

    An object goes with its parts (extensions, multi-table parents and children, rows of its many-to-many fields), or
    stays with them. What no row that goes has used is no orphan.
    """
    return Search(subgraph, references).run()


class Search:
    """One search. ``left``: the candidates that nothing is known to use."""

    def __init__(self, subgraph: Subgraph, references: References) -> None:
        self.subgraph = subgraph
        self.graph = subgraph.graph
        self.references = references
        self.left: Found = {}
        self._owned: dict[type[Model], Any] = {}

    def run(self) -> Found:
        """Take away what is used from outside, and what that uses; then what was never used; until nothing changes."""
        self._collect()
        self._keep(self._find_used())
        while True:
            idle = self._find_idle()
            if not any(idle.values()):
                break
            self._keep(idle)
        return {model: keys for model, keys in self.left.items() if keys}

    def _collect(self) -> None:
        for model in self.subgraph.get_models():
            self._owned[model] = self.subgraph.get_members(model, Role.OWN).seen
            if model._meta.label_lower not in SHARED:
                keys = set(self.subgraph.iter_keys(model, *REFERRED))
                self.left[model] = keys - self._find_staff(model, keys)

    def _find_staff(self, model: type[Model], keys: set[Key]) -> set[Key]:
        """Accounts of those who run the site."""
        if model._meta.label_lower != settings.AUTH_USER_MODEL.lower():
            return set()
        names = {field.name for field in model._meta.concrete_fields}
        rights = [name for name in ("is_staff", "is_superuser") if name in names]
        has_rights = Q(*((name, True) for name in rights), _connector=Q.OR)
        found: set[Key] = set()
        for chunk in iter_chunks(list(keys) if rights else [], get_keys_per_query(model, self.graph.using)):
            rows = get_queryset(model, self.graph.using).filter(match_keys(model, chunk)).filter(has_rights)
            found.update(rows.values_list("pk", flat=True))
        return found

    def _goes(self, model: type[Model], key: Key) -> bool:
        owned = self._owned.get(model)
        return (owned is not None and key in owned) or key in self.left.get(model, ())

    # What is used

    def _find_used(self) -> Found:
        """The candidates that a row points at which stays, by any link."""
        used: Found = {}
        for model, keys in self.left.items():
            for reference in self.references.get(model) if keys else ():
                pairs = self.references.iter_pairs(reference, list(keys))
                holder = reference.link.model
                used.setdefault(model, set()).update(key for pk, key in pairs if not self._goes(holder, pk))
        return used

    def _keep(self, kept: Found) -> None:
        """Take objects out of the candidates, with all that they use and all that is part of them."""
        frontier = kept
        while any(frontier.values()):
            following: Found = {}
            for model, keys in frontier.items():
                self.left.get(model, set()).difference_update(keys)
            for model, keys in frontier.items():
                for target, key in self._iter_tied(model, list(keys)):
                    if key in self.left.get(target, ()):
                        following.setdefault(target, set()).add(key)
            frontier = following

    def _iter_tied(self, model: type[Model], keys: Sequence[Key]) -> Iterator[tuple[type[Model], Key]]:
        for chunk in iter_chunks(keys, get_keys_per_query(model, self.graph.using)):
            yield from iter_targets(self.subgraph, model, chunk)
            yield from self._iter_parts(model, chunk)

    def _iter_parts(self, model: type[Model], keys: Sequence[Key]) -> Iterator[tuple[type[Model], Key]]:
        for reference in self.references.get(model):
            if self._is_part(reference.link):
                yield from ((reference.link.model, pk) for pk, _ in self.references.iter_pairs(reference, keys))

    def _is_part(self, link: Link) -> bool:
        """Whether the rows of ``link`` are part of what it points to."""
        if link.parent_link or (link.extension and link.cascades):
            return True
        return any(membership.automatic for membership in self.graph.owners.get(link, ()))

    # What was used

    def _find_idle(self) -> Found:
        """The candidates that neither a row that goes nor another one led by it points at."""
        reached: dict[type[Model], Any] = {}
        frontier = self._find_reached_first(reached)
        while any(frontier.values()):
            following: Found = {}
            for model, keys in frontier.items():
                for target, key in self._iter_tied(model, list(keys)):
                    self._reach(target, key, reached, following)
            frontier = following
        return {
            model: {key for key in keys if model not in reached or key not in reached[model]}
            for model, keys in self.left.items()
        }

    def _find_reached_first(self, reached: dict[type[Model], Any]) -> Found:
        first: Found = {}
        for model, keys in self.left.items():
            for reference in self.references.get(model) if keys else ():
                owned = self._owned.get(reference.link.model)
                for pk, key in self.references.iter_pairs(reference, list(keys)) if owned is not None else ():
                    if pk in owned:  # type: ignore[operator]
                        self._reach(model, key, reached, first)
        return first

    def _reach(self, model: type[Model], key: Key, reached: dict[type[Model], Any], following: Found) -> None:
        if key not in self.left.get(model, ()):
            return
        if model not in reached:
            reached[model] = make_key_set(model)
        if reached[model].add(key):
            following.setdefault(model, set()).add(key)

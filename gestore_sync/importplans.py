"""Plans an import: a push from staged rows, where keys are kept, and rights and stored files are seen to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from django.core.files.storage import Storage
from django.db.models import Model

from gestore_sync.identity import get_skipped
from gestore_sync.incoming import DECISIONS, ImportLookup, RestoreStore
from gestore_sync.journal import Journal
from gestore_sync.layouts import Layout
from gestore_sync.lookup import Lookup
from gestore_sync.manifests import Manifest
from gestore_sync.mappings import MappingStore
from gestore_sync.media import Media, get_file_fields
from gestore_sync.news import News
from gestore_sync.plan import Plan
from gestore_sync.planner import Planner
from gestore_sync.policies import Policies
from gestore_sync.privileges import Protection
from gestore_sync.reading import find_existing, iter_rows
from gestore_sync.reattaching import iter_reattached
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.writers import get_writer


class ImportPlanner(Planner):
    """Plans from staged rows: keys are kept, rights and files are seen to."""

    can_recognize: ClassVar[bool] = False

    def __init__(
        self,
        subgraph: Subgraph,
        target: str,
        store: MappingStore,
        *,
        policy: str,
        manifest: Manifest,
        media: Media,
        protection: Protection,
        absent: Mapping[type[Model], frozenset[str]],
        distrusted: Collection[Ref] = (),
        **options: Any,
    ) -> None:
        self.policy = policy
        self._manifest = manifest
        self._media = media
        self._named: dict[tuple[Storage, str], list[tuple[Any, Key]]] = {}
        self._protection = protection
        self._absent = absent
        self._distrusted = distrusted
        self._is_restore = isinstance(store, RestoreStore)
        super().__init__(subgraph, target, store, on_conflict=Policies(DECISIONS[policy]), **options)

    def _make_layout(self, model: type[Model]) -> Layout:
        untaken = self._protection.get_names(model) | self._absent.get(model, frozenset())
        skipped = frozenset() if self._is_restore else get_skipped(model)
        return Layout(model, self.subgraph.graph, skipped | untaken)

    def _make_lookup(self) -> Lookup:
        def find_staged(model: type[Model], keys: list[Key]) -> set[Key]:
            return find_existing(model, self.source, keys)

        return ImportLookup(
            self.subgraph,
            self.target,
            self.store,
            self.get_layout,
            policy=self.policy,
            staged=find_staged,
            distrusted=self._distrusted,
            has_member_keys=bool(self._manifest.members),
        )

    def make_journal(self) -> Journal:
        return News(self.store, self.find_date)

    def make(self) -> Plan:
        plan = super().make()
        self._media.plan_only([place for place, users in self._named.items() if not all(map(self._is_kept, users))])
        if self._is_restore:
            self._reattach(plan)
        return plan

    def _is_kept(self, user: tuple[Any, Key]) -> bool:
        """Whether the target's name stays in a field of an object."""
        field, key = user
        return self.plan.account.is_kept(Ref(field.model, key), field.name)

    def _reattach(self, plan: Plan) -> None:
        """Set links from outside again that a deletion nulled."""
        graph = self.subgraph.graph
        rows: set[tuple[str, Key]] = set()
        for operation in iter_reattached(self._manifest.detached, graph, self.target, self._protection):
            plan.removals.add(operation)
            fresh = {(operation.label, key) for key, _ in operation.rows} - rows
            rows |= fresh
            plan.report.updated[operation.label] += len(fresh)

    def _prepare(self, models: Sequence[type[Model]]) -> None:
        """Find the names of stored files, which may be taken here, and let the staged rows follow."""
        self._media.plan_anew()
        for model in models if self._media else ():
            for field in get_file_fields(model):
                self._name_files(model, field)

    def _name_files(self, model: type[Model], field: Any) -> None:
        keys = list(self.subgraph.iter_keys(model, Role.OWN))
        for role in (Role.REFER, Role.REQUIRE):
            keys += [key for key in self.subgraph.iter_keys(model, role) if self.counterparts.get(model, key) is NEW]
        named = {key: str(name) for key, name in iter_rows(model, self.source, keys, [field.attname]) if name}
        targets = {key: self.counterparts.get(model, key) for key in named}
        known = [target for target in targets.values() if target is not NEW and target is not UNKNOWN]
        current = {key: str(name) for key, name in iter_rows(model, self.target, known, [field.attname]) if name}
        changed = []
        for key, name in named.items():
            target = targets[key]
            original = self._media.originals.get((field, key), name)
            found = self._media.find_name(field, original, None if target is NEW else current.get(target))
            place = (field.storage, found)
            if place in self._media.planned:
                self._named.setdefault(place, []).append((field, key))
            if found != name:
                self._media.originals[field, key] = original
                changed.append((key, [found]))
        if changed:
            get_writer(self.source).update(model, [field], changed)

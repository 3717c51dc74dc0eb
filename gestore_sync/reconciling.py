"""Compares everything that is watched with what was last sent and with what the target has, and logs what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.models import Model

from gestore_sync.changelog import Entry, check_log, find_last_dates, find_taken_out, has_log, iter_pending
from gestore_sync.links import LinkGraph, Membership
from gestore_sync.mappings import MappingStore
from gestore_sync.models import ADDITION, CHANGE, DELETION, M2M_CHANGE
from gestore_sync.plan import Create, Update
from gestore_sync.planner import Planner
from gestore_sync.pushing import Push
from gestore_sync.reading import find_existing, get_queryset, iter_rows
from gestore_sync.recording import NewEntry, make_entry, make_member_change, write_for
from gestore_sync.refs import Key, dump_pk, iter_chunks
from gestore_sync.scope import Scope
from gestore_sync.subgraph import Subgraph
from gestore_sync.tombstones import Tombstones
from gestore_sync.transactions import read_snapshot
from gestore_sync.walker import Walker
from gestore_sync.watching import get_watched

KEYS_AT_ONCE = 50_000


def find_missed(graph: LinkGraph, scope: Scope, target: str, **options: Any) -> list[NewEntry]:
    """Entries, not yet written, for what differs between the two databases and no entry tells of.

    ``options`` are those of :class:`~gestore_sync.pushing.Push`.
    """
    check_log(graph.using)
    return Reconciliation(graph, scope, [], target, **options).find_missed()


def queue_missed(using: str, target: str, entries: Sequence[NewEntry]) -> None:
    """Write entries to the change log, for the remote that was compared."""
    with transaction.atomic(using=using):
        write_for(using, entries, target)


def identify(entry: Entry | NewEntry) -> tuple[Any, ...]:
    """What two entries have in common of which one is enough."""
    action = CHANGE if entry.action == ADDITION else entry.action
    data = json.dumps(entry.data, sort_keys=True) if entry.action == M2M_CHANGE else ""
    return entry.content_type, entry.object_id, action, data


class Reconciliation(Push):
    """A push of everything that is watched, which is only planned."""

    def find_missed(self) -> list[NewEntry]:
        """Entries, not yet written, for what the plan would do and for what is mapped and gone."""
        self._models = sorted(
            (model for model in get_watched().models if model in self.graph), key=lambda model: model._meta.label
        )
        with read_snapshot(self.source), read_snapshot(self.target):
            store = MappingStore(self.source, self.target)
            planner = self.make_planner(store)
            try:
                found = [*self._iter_changed(planner), *self._iter_gone(store)]
            finally:
                planner.plan.close()
            known = {identify(entry) for entry in iter_pending(self.source, self.target)}
            return [entry for entry in found if identify(entry) not in known]

    def make_planner(self, store: MappingStore) -> Planner:
        return self._plan_subgraph(store, self._walk(), tombstones=Tombstones(self.graph, {}))

    def _walk(self) -> Subgraph:
        self.progress.start("walking")
        scope = replace(self.scope, closed=True, connected=False, named=self.scope.named | set(self._models))
        every = {
            model: get_queryset(model, self.source).values_list("pk", flat=True).iterator(chunk_size=10_000)
            for model in self._models
            if not scope.leaves_out(model)
        }
        return Walker(self.graph, scope, self.progress.advance).walk_changes(every, {})

    def _iter_changed(self, planner: Planner) -> Iterator[NewEntry]:
        """Entries for what would be created or changed, and for what is in conflict."""
        models = {model._meta.label: model for model in self._models}
        for operation in (*planner.plan.creates, *planner.plan.changes):
            if isinstance(operation, Create) and operation.label in models:
                model = models[operation.label]
                deleted = self._find_deleted_there(model, [row[0] for row in operation.rows], planner.store)
                keys = [row[0] for row in operation.rows if row[0] not in deleted]
                yield from self._make_entries(model, keys, ADDITION)
            elif isinstance(operation, Update) and operation.label in models:
                keys = [changed.row[0] for changed in operation.rows]
                yield from self._make_entries(models[operation.label], keys, CHANGE)
        for ref, _ in planner.plan.undecided:
            if ref.model in self._models:
                yield from self._make_entries(ref.model, [ref.pk], CHANGE)

    def _find_deleted_there(self, model: type[Model], keys: Sequence[Key], store: MappingStore) -> set[Key]:
        """Those objects whose counterpart the target has deleted itself, as its log tells: that is its news."""
        if not store.in_target or not has_log(self.target):
            return set()
        mappings = store.find(model, keys)
        by_target = {mapping.target: key for key, mapping in mappings.items()}
        membership = self._find_membership(model)
        if membership is None:
            dates = find_last_dates(self.target, model, list(by_target), but=store.uuid, actions=[DELETION])
            return {by_target[target] for target in dates}
        return self._find_taken_out(membership, list(mappings), store)

    def _find_taken_out(self, membership: Membership, keys: Sequence[Key], store: MappingStore) -> set[Key]:
        """Those through rows whose member the target's log says it took out itself."""
        own, other = membership.link, membership.other
        assert own.target is not None
        assert other.target is not None
        pairs = {
            key: pair for key, *pair in iter_rows(own.model, self.source, keys, [own.key_paths[0], other.key_paths[0]])
        }
        owners = store.find(own.target, [owner for owner, _ in pairs.values()])
        members = store.find(other.target, [member for _, member in pairs.values()])
        name = membership.name.rpartition(".")[2]
        taken = find_taken_out(self.target, own.target, [found.target for found in owners.values()], name, store.uuid)
        return {
            key
            for key, (owner, member) in pairs.items()
            if owner in owners
            and member in members
            and (dump_pk(owners[owner].target), dump_pk(members[member].target)) in taken
        }

    def _make_entries(self, model: type[Model], keys: Sequence[Key], action: int) -> Iterator[NewEntry]:
        membership = self._find_membership(model)
        if membership is None:
            for key in keys:
                yield make_entry(self.source, model, key, action)
            return
        for owner, member in self._iter_pairs(membership, self.source, keys):
            yield self._make_member_entry(membership, owner, added=[member])

    def _find_membership(self, model: type[Model]) -> Membership | None:
        """The many-to-many field whose automatic table the model is."""
        if not model._meta.auto_created:
            return None
        every = (membership for of_model in self.graph.memberships.values() for membership in of_model)
        return next((membership for membership in every if membership.link.model is model), None)

    @staticmethod
    def _iter_pairs(membership: Membership, using: str, keys: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
        """Owner and member of through rows."""
        paths = [membership.link.key_paths[0], membership.other.key_paths[0]]
        for _, owner, member in iter_rows(membership.link.model, using, keys, paths):
            yield owner, member

    def _make_member_entry(self, membership: Membership, owner: Key, **changed: Sequence[Key]) -> NewEntry:
        assert membership.link.target is not None
        name = membership.name.rpartition(".")[2]
        return make_member_change(self.source, membership.link.target, owner, name, **changed)

    def _iter_gone(self, store: MappingStore) -> Iterator[NewEntry]:
        """Entries for what was sent, is gone at the source, and is still there on the target."""
        for model in self._models:
            for keys in iter_chunks(list(store.iter_sources(model)), KEYS_AT_ONCE):
                existing = find_existing(model, self.source, keys)
                gone = store.find(model, [key for key in keys if key not in existing])
                there = find_existing(model, self.target, [mapping.target for mapping in gone.values()])
                left = {key: mapping.target for key, mapping in gone.items() if mapping.target in there}
                membership = self._find_membership(model)
                if membership is not None:
                    yield from self._iter_lost_members(membership, list(left.values()), store)
                else:
                    known = find_last_dates(self.source, model, list(left), actions=[DELETION])
                    for key in left:
                        entry = make_entry(self.source, model, key, DELETION)
                        yield entry._replace(date=known.get(key, entry.date))

    def _iter_lost_members(
        self, membership: Membership, targets: Sequence[Key], store: MappingStore
    ) -> Iterator[NewEntry]:
        """Entries for through rows that are gone, by what the rows of the target connect."""
        pairs = list(self._iter_pairs(membership, self.target, targets))
        assert membership.link.target is not None
        assert membership.other.target is not None
        owners = store.find_sources(membership.link.target, [owner for owner, _ in pairs])
        members = store.find_sources(membership.other.target, [member for _, member in pairs])
        for owner, member in pairs:
            for mine in owners.get(owner, ())[:1]:
                removed = [sent.key for sent in members.get(member, ())]
                yield self._make_member_entry(membership, mine.key, removed=removed)

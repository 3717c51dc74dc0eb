"""What the entries of the change log come to, object by object: the rows say what is, the log what was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from gestore_sync.changelog import Entry, find_models
from gestore_sync.identity import has_automatic_key
from gestore_sync.links import LinkGraph, Membership, get_concrete
from gestore_sync.models import ADDITION, CHANGE, DELETION, M2M_CHANGE
from gestore_sync.reading import find_existing, get_queryset, match
from gestore_sync.refs import Key, Ref, load_pk
from gestore_sync.scope import Role, Scope
from gestore_sync.tombstones import Deletion, RemovedMember


@dataclass(slots=True)
class History:
    """The entries of one object, oldest first."""

    ids: list[int] = field(default_factory=list)
    date: datetime | None = None
    born: bool = False
    saved: bool = False
    deletion: Deletion | None = None
    members: dict[str, dict[str, bool]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take in the next entry."""
        if not self.ids:
            self.born = entry.action == ADDITION
        self.ids.append(entry.id)
        self.date = entry.date
        if entry.action in (ADDITION, CHANGE):
            self.saved = True
        elif entry.action == DELETION:
            self.deletion = self.deletion or Deletion(entry.data, entry.date)
            self.members.clear()
        elif entry.action == M2M_CHANGE:
            members = self.members.setdefault(str(entry.data.get("field")), {})
            members.update(dict.fromkeys(map(str, entry.data.get("added") or ()), True))
            members.update(dict.fromkeys(map(str, entry.data.get("removed") or ()), False))


@dataclass
class Changes:
    """What is to be sent. ``saved``: objects that exist and changed, with the date. ``deleted``: those that do not.

    ``removed``: members that owners lost. ``entries``: by object, the log's entries that are handled with it; by
    ``owners``, through rows are handled with the object that they belong to. ``void``: entries that come to nothing.
    ``gone``: objects that were logged and are gone without an entry that says so.
    """

    saved: dict[type[Model], dict[Key, datetime | None]] = field(default_factory=dict)
    deleted: dict[Ref, Deletion] = field(default_factory=dict)
    removed: list[RemovedMember] = field(default_factory=list)
    entries: dict[Ref, list[int]] = field(default_factory=dict)
    owners: dict[Ref, Ref] = field(default_factory=dict)
    void: list[int] = field(default_factory=list)
    gone: list[Ref] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def find_date(self, model: type[Model], key: Key) -> datetime | None:
        """When an object was changed."""
        return self.saved.get(model, {}).get(key)

    def get_ids(self, barred: Iterable[Ref]) -> tuple[list[int], list[int]]:
        """The entries that are handled when all but these objects were sent, and those that are not."""
        kept = {self.owners.get(ref, ref) for ref in barred} | set(barred)
        done = list(self.void)
        left: list[int] = []
        for ref, ids in self.entries.items():
            (left if ref in kept else done).extend(ids)
        return done, left


def squash(entries: Iterable[Entry], graph: LinkGraph, scope: Scope) -> Changes:
    """What the entries come to in the source of ``graph``, as it is now. What ``scope`` leaves out stays pending."""
    changes = Changes()
    histories: dict[type[Model], dict[Key, History]] = {}
    models: dict[int, type[Model] | None] = {}
    unknown: dict[str, int] = {}
    for entry in entries:
        if entry.content_type not in models:
            models |= find_models(graph.using, [entry.content_type])
        model = models[entry.content_type]
        ref = find_ref(model, entry.object_id, graph)
        if ref is None:
            name = model._meta.label if model is not None else f"content type {entry.content_type}"
            unknown[name] = unknown.get(name, 0) + 1
            changes.void.append(entry.id)
            continue
        if scope.leaves_out(ref.model):
            continue
        histories.setdefault(ref.model, {}).setdefault(ref.pk, History()).add(entry)
    for name, number in sorted(unknown.items()):
        changes.warnings.append(f"{number} entries of the change log are of {name}, which is not to be found.")
    for model, of_model in histories.items():
        existing = find_existing(model, graph.using, list(of_model))
        for key, history in of_model.items():
            settle(Ref(model, key), history, key in existing, changes)
    add_members(histories, graph, scope, changes)
    if changes.gone:
        names = ", ".join(map(str, changes.gone[:5])) + (" …" if len(changes.gone) > 5 else "")
        changes.warnings.append(
            f"{len(changes.gone)} objects were logged and are gone without an entry of their deletion: {names}. "
            "Nothing is sent for them; synchronize --reconcile deletes their counterparts."
        )
    return changes


def find_ref(model: type[Model] | None, object_id: str, graph: LinkGraph) -> Ref | None:
    """The object that an entry is of; None where there is no such model or key."""
    if model is None or get_concrete(model) not in graph:
        return None
    try:
        return Ref(get_concrete(model), load_pk(get_concrete(model), object_id))
    except (ValidationError, ValueError, TypeError):
        return None


def settle(ref: Ref, history: History, exists: bool, changes: Changes) -> None:
    """What one object's entries come to.

    What was added and deleted comes to nothing. A key that was deleted and added again is two objects where keys are
    automatic: the old one goes, the new one comes.
    """
    deletion = None if history.born else history.deletion
    if exists:
        if history.saved or history.deletion:
            changes.saved.setdefault(ref.model, {})[ref.pk] = history.date
        if deletion is not None and has_automatic_key(ref.model):
            changes.deleted[ref] = deletion
        changes.entries[ref] = history.ids
    elif deletion is not None:
        changes.deleted[ref] = deletion
        changes.entries[ref] = history.ids
    else:
        changes.void += history.ids
        if history.deletion is None:
            changes.gone.append(ref)
    if not exists:
        history.members.clear()


def add_members(
    histories: dict[type[Model], dict[Key, History]], graph: LinkGraph, scope: Scope, changes: Changes
) -> None:
    """Take in the many-to-many changes: through rows that exist now, and members that were taken out."""
    wanted: dict[str, dict[tuple[Key, Key], datetime | None]] = {}
    memberships: dict[str, Membership] = {}
    for model, of_model in histories.items():
        by_name = {membership.name.rpartition(".")[2]: membership for membership in graph.memberships.get(model, ())}
        for key, history in of_model.items():
            for name, members in history.members.items():
                membership = by_name.get(name)
                if membership is None or membership.other.target is None:
                    continue
                if scope.get_named(membership.name) is Role.LOOK_UP:
                    continue
                memberships[membership.name] = membership
                pairs = wanted.setdefault(membership.name, {})
                for text in members:
                    pairs[key, load_pk(membership.other.target, text)] = history.date
    for name, pairs in wanted.items():
        add_pairs(memberships[name], pairs, graph.using, changes)


def add_pairs(
    membership: Membership, pairs: dict[tuple[Key, Key], datetime | None], using: str, changes: Changes
) -> None:
    """Take in the changes of one many-to-many field, by owner and member."""
    own, other = membership.link, membership.other
    assert own.target is not None
    assert other.target is not None
    found = set()
    for pk, *pair in find_rows(membership, using, list(pairs)):
        owner, member = pair
        if (owner, member) in pairs:
            found.add((owner, member))
            changes.saved.setdefault(own.model, {}).setdefault(pk, pairs[owner, member])
            changes.owners[Ref(own.model, pk)] = Ref(own.target, owner)
    for owner, member in pairs:
        if (owner, member) not in found:
            changes.removed.append(RemovedMember(membership, Ref(own.target, owner), Ref(other.target, member)))


def find_rows(membership: Membership, using: str, pairs: Sequence[tuple[Key, Key]]) -> Iterable[Any]:
    """``(pk, owner, member)`` of the through rows that may connect these pairs."""
    own, other = membership.link.key_paths[0], membership.other.key_paths[0]
    rows = get_queryset(membership.link.model, using)
    rows = rows.filter(match(own, {owner for owner, _ in pairs}), match(other, {member for _, member in pairs}))
    return rows.values_list("pk", own, other).iterator(chunk_size=10_000)

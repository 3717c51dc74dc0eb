"""What the entries of the change log come to, object by object: the rows say what is, the log what was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.translation import gettext, ngettext

from gestore_sync.changelog import Entry, find_models, iter_children
from gestore_sync.children import iter_parents
from gestore_sync.links import LinkGraph, Membership, get_concrete
from gestore_sync.models import ADDITION, CHANGE, DELETION, M2M_CHANGE
from gestore_sync.reading import find_existing, get_queryset, match
from gestore_sync.rebirths import find_replaced
from gestore_sync.refs import Key, Ref, get_key_parser, load_pk
from gestore_sync.scope import Role, Scope
from gestore_sync.tombstones import Deletion, RemovedMember


@dataclass(slots=True)
class History:
    """The entries of one object, oldest first. ``members``: by many-to-many field, the members that changed, and
    whether the first of these changes added them."""

    ids: list[int] = field(default_factory=list)
    date: datetime | None = None
    born: bool = False
    saved: bool = False
    reborn: bool = False
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
            self.reborn |= self.deletion is not None and entry.action == ADDITION
        elif entry.action == DELETION:
            self.deletion = self.deletion or Deletion(entry.data, entry.date)
            self.members.clear()
        elif entry.action == M2M_CHANGE:
            members = self.members.setdefault(str(entry.data.get("field")), {})
            for name, is_added in (("added", True), ("removed", False)):
                for text in map(str, entry.data.get(name) or ()):
                    members.setdefault(text, is_added)


class PairChange(NamedTuple):
    """When a member of an owner changed, and whether the first change added it."""

    date: datetime | None
    was_added: bool


@dataclass
class Changes:
    """What is to be sent. ``saved``: objects that exist and changed, with the date. ``deleted``: those that do not.

    ``replaced``: those of both of which a key was deleted and added again: the old object goes, the new one comes.
    ``removed``: members that owners lost. ``entries``: by object, the log's entries that are handled with it; by
    ``owners``, through rows are handled with the object that they belong to. ``void``: entries that come to nothing.
    ``gone``: objects that were logged and are gone without an entry that says so.
    """

    saved: dict[type[Model], dict[Key, datetime | None]] = field(default_factory=dict)
    deleted: dict[Ref, Deletion] = field(default_factory=dict)
    replaced: dict[Ref, Deletion] = field(default_factory=dict)
    removed: list[RemovedMember] = field(default_factory=list)
    entries: dict[Ref, list[int]] = field(default_factory=dict)
    owners: dict[Ref, Ref] = field(default_factory=dict)
    void: list[int] = field(default_factory=list)
    gone: list[Ref] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def find_date(self, model: type[Model], key: Key) -> datetime | None:
        """When an object was changed or deleted."""
        deletion = self.deleted.get(Ref(model, key))
        return self.saved.get(model, {}).get(key) or (deletion.date if deletion is not None else None)

    def iter_rows(self, ref: Ref, using: str) -> Iterator[Ref]:
        """The rows of an object of the database: itself, its multi-table parents, those of a deleted one too, and its
        children that are deleted."""
        yield ref
        yield from ({Ref(child, ref.pk) for child in iter_children(ref.model)} & self.deleted.keys())
        deletion = self.deleted.get(ref)
        kept = {} if deletion is None else {ref.pk: deletion.data.get("fields") or {}}
        for _, parent in iter_parents(ref.model, [ref.pk], using, kept):
            yield parent

    def get_ids(self, barred: Iterable[Ref]) -> list[int]:
        """The entries that are handled when all but these objects were sent."""
        kept = {self.owners.get(ref, ref) for ref in barred} | set(barred)
        return [*self.void, *(pk for ref, ids in self.entries.items() if ref not in kept for pk in ids)]


def squash(entries: Iterable[Entry], graph: LinkGraph, scope: Scope) -> Changes:
    """What the entries come to in the source of ``graph``, as it is now. What ``scope`` leaves out stays pending."""
    changes = Changes()
    histories: dict[type[Model], dict[Key, History]] = {}
    kinds: dict[int, Kind] = {}
    unknown: Counter[str] = Counter()
    for entry in entries:
        kind = kinds.get(entry.content_type)
        if kind is None:
            kind = kinds[entry.content_type] = make_kind(entry.content_type, graph, scope)
        key = kind.load(entry.object_id)
        if key is None:
            unknown[kind.name] += 1
            continue
        if kind.is_left_out or is_ignored(kind.model, entry, scope):
            continue
        of_model = histories.setdefault(kind.model, {})
        history = of_model.get(key)
        if history is None:
            history = of_model[key] = History()
        history.add(entry)
    existing = {model: find_existing(model, graph.using, list(of_model)) for model, of_model in histories.items()}
    for ref in find_replaced(histories, existing, graph):
        deletion = get_deletion(histories[ref.model][ref.pk])
        assert deletion is not None
        changes.replaced[ref] = changes.deleted[ref] = deletion
    for model, of_model in histories.items():
        for key, history in of_model.items():
            settle(Ref(model, key), history, key in existing[model], changes)
    add_members(histories, graph, changes)
    changes.warnings += iter_warnings(unknown, changes.gone)
    return changes


def iter_warnings(unknown: Mapping[str, int], gone: Sequence[Ref]) -> Iterator[str]:
    """What a person should know of entries that come to nothing. ``unknown``: their numbers by what is missing."""
    for name, number in sorted(unknown.items()):
        yield ngettext(
            "%(number)d entry of the change log is of %(name)s, which is not to be found; it stays pending.",
            "%(number)d entries of the change log are of %(name)s, which is not to be found; they stay pending.",
            number,
        ) % {"number": number, "name": name}
    if gone:
        yield ngettext(
            "%(number)d object was logged and is gone without an entry of its deletion: %(names)s. "
            "Nothing is sent for it; synchronize --reconcile deletes its counterpart.",
            "%(number)d objects were logged and are gone without an entry of their deletion: %(names)s. "
            "Nothing is sent for them; synchronize --reconcile deletes their counterparts.",
            len(gone),
        ) % {"number": len(gone), "names": ", ".join(map(str, gone[:5])) + (" …" if len(gone) > 5 else "")}


class Kind(NamedTuple):
    """What the entries of one content type are of. ``load`` gives the key of an object; None where there is no such
    model or key."""

    name: str
    model: Any
    load: Callable[[str], Key | None]
    is_left_out: bool = False


def make_kind(content_type: int, graph: LinkGraph, scope: Scope) -> Kind:
    """What the entries with this content type are of."""
    model = find_models(graph.using, [content_type])[content_type]
    name = gettext("content type %(pk)s") % {"pk": content_type} if model is None else model._meta.label
    if model is None or get_concrete(model) not in graph:
        return Kind(name, None, lambda text: None)
    concrete = get_concrete(model)
    parse = get_key_parser(concrete)

    def load(text: str) -> Key | None:
        try:
            return parse(text)
        except (ValidationError, ValueError, TypeError):
            return None

    return Kind(name, concrete, load, scope.leaves_out(concrete))


def is_ignored(model: type[Model], entry: Entry, scope: Scope) -> bool:
    """Whether an entry is of a many-to-many field that is not to be followed."""
    if entry.action != M2M_CHANGE:
        return False
    return scope.get_named(f"{model._meta.label}.{entry.data.get('field')}") is Role.LOOK_UP


def settle(ref: Ref, history: History, exists: bool, changes: Changes) -> None:
    """What one object's entries come to.

    What was added and deleted comes to nothing, unless it has come to the target in another way.
    """
    deletion = get_deletion(history)
    if exists:
        if history.saved or history.deletion:
            changes.saved.setdefault(ref.model, {})[ref.pk] = history.date
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


def get_deletion(history: History) -> Deletion | None:
    """The deletion of an object, if there was one. It concerns only a row that is mapped where the target has not been
    told of the object."""
    deletion = history.deletion
    return replace(deletion, mapped_only=True) if deletion is not None and history.born else deletion


def add_members(histories: dict[type[Model], dict[Key, History]], graph: LinkGraph, changes: Changes) -> None:
    """Take in the many-to-many changes: through rows that exist now, and members that were taken out."""
    wanted: dict[str, dict[tuple[Key, Key], PairChange]] = {}
    memberships: dict[str, Membership] = {}
    for model, of_model in histories.items():
        by_name = {membership.name.rpartition(".")[2]: membership for membership in graph.memberships.get(model, ())}
        for key, history in of_model.items():
            for name, members in history.members.items():
                membership = by_name.get(name)
                if membership is None or membership.other.target is None:
                    continue
                memberships[membership.name] = membership
                pairs = wanted.setdefault(membership.name, {})
                for text, is_added in members.items():
                    pairs[key, load_pk(membership.other.target, text)] = PairChange(history.date, is_added)
    for name, pairs in wanted.items():
        add_pairs(memberships[name], pairs, graph.using, changes)


def add_pairs(membership: Membership, pairs: dict[tuple[Key, Key], PairChange], using: str, changes: Changes) -> None:
    """Take in the changes of one many-to-many field, by owner and member."""
    own, other = membership.link, membership.other
    assert own.target is not None
    assert other.target is not None
    found = set()
    for pk, *pair in find_rows(membership, using, list(pairs)):
        owner, member = pair
        if (owner, member) in pairs:
            found.add((owner, member))
            changes.saved.setdefault(own.model, {}).setdefault(pk, pairs[owner, member].date)
            changes.owners[Ref(own.model, pk)] = Ref(own.target, owner)
    for (owner, member), change in pairs.items():
        if (owner, member) not in found:
            ends = Ref(own.target, owner), Ref(other.target, member)
            changes.removed.append(RemovedMember(membership, *ends, mapped_only=change.was_added))


def find_rows(membership: Membership, using: str, pairs: Sequence[tuple[Key, Key]]) -> Iterable[Any]:
    """``(pk, owner, member)`` of the through rows that may connect these pairs."""
    own, other = membership.link.key_paths[0], membership.other.key_paths[0]
    rows = get_queryset(membership.link.model, using)
    rows = rows.filter(match(own, {owner for owner, _ in pairs}), match(other, {member for _, member in pairs}))
    return rows.values_list("pk", own, other).iterator(chunk_size=10_000)

"""What has to be known beside the changes: what they need, what they are part of, what became of them there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model

from gestore_sync.changelog import find_last_dates, has_log
from gestore_sync.children import get_policies_of
from gestore_sync.comparison import LOCAL, REMOTE, get_winner
from gestore_sync.generic import find_generic_target, to_key
from gestore_sync.links import GENERIC, Link, LinkGraph
from gestore_sync.mappings import MappingStore
from gestore_sync.models import DELETION
from gestore_sync.ordering import get_identity_links
from gestore_sync.plan import Conflict
from gestore_sync.planner import Planner
from gestore_sync.policies import Policies
from gestore_sync.reading import find_existing, get_queryset, iter_pointing
from gestore_sync.refs import NEW, Key, Ref, load_pk, show_key
from gestore_sync.scope import Role
from gestore_sync.squashing import Changes
from gestore_sync.subgraph import Subgraph
from gestore_sync.tombstones import Deletion, RemovedMember


def find_looked_up(
    deleted: Mapping[Ref, Deletion], removed: Sequence[RemovedMember], graph: LinkGraph
) -> dict[type[Model], set[Key]]:
    """The objects that must be found on the target so that deleted ones and lost members can be: those that exist."""
    wanted: dict[type[Model], set[Key]] = {}
    for ref, deletion in deleted.items():
        for link in get_identity_links(graph, ref.model):
            key = find_linked(link, deletion)
            if key is not None and link.target is not None:
                wanted.setdefault(link.target, set()).add(key)
    for member in removed:
        for ref in (member.owner, member.member):
            wanted.setdefault(ref.model, set()).add(ref.pk)
    return {model: find_existing(model, graph.using, list(keys)) for model, keys in wanted.items() if model in graph}


def find_linked(link: Link, deletion: Deletion) -> Key | None:
    """What a link of a deleted object led to, as far as the log keeps it."""
    fields = deletion.data.get("fields") or {}
    text = fields.get(link.attnames[0]) if len(link.attnames) == 1 else None
    if text is None or link.target is None or link.to_field:
        return None
    try:
        return load_pk(link.target, text)
    except (ValidationError, ValueError, TypeError):
        return None


def find_members_of_new(planner: Planner, changes: Changes) -> dict[type[Model], dict[Key, Any]]:
    """The automatic many-to-many rows of changed objects that the run creates, as far as they are not part of it."""
    graph, source = planner.subgraph.graph, planner.subgraph.source
    found: dict[type[Model], dict[Key, Any]] = {}
    for model in list(changes.saved):
        new = [key for key in changes.saved[model] if planner.counterparts.get(model, key) is NEW]
        for membership in graph.memberships.get(model, ()) if new else ():
            through = membership.link.model
            if not membership.automatic or planner.subgraph.scope.get_named(membership.name) is Role.LOOK_UP:
                continue
            known = changes.saved.get(through, {})
            rows = [
                pk for pk, _ in iter_pointing(through, source, membership.link.key_paths[0], new) if pk not in known
            ]
            if rows:
                found.setdefault(through, {}).update(dict.fromkeys(rows))
    return found


def limit_to(changes: Changes, subgraph: Subgraph, graph: LinkGraph) -> None:
    """Leave only changes of objects that ``subgraph`` owns, or that belonged to one when they were deleted."""

    def is_inside(model: type[Model], key: Key) -> bool:
        return subgraph.find_role(model, key) is Role.OWN

    changes.saved = {
        model: {key: date for key, date in keys.items() if is_inside(model, key)}
        for model, keys in changes.saved.items()
    }
    inside: set[Ref] = {ref for ref in changes.deleted if is_inside(*ref)}
    more: set[Ref] | None = None
    while more is None or more:
        more = {
            ref
            for ref, deletion in changes.deleted.items()
            if ref not in inside
            and ref not in changes.replaced  # its entries are those of the new object, too
            and any(is_inside(*owner) or owner in inside for owner in iter_owners(ref, deletion, graph))
        }
        inside |= more
    changes.deleted = {ref: deletion for ref, deletion in changes.deleted.items() if ref in inside}
    changes.removed = [member for member in changes.removed if is_inside(*member.owner)]
    changes.entries = {ref: ids for ref, ids in changes.entries.items() if ref in inside or is_inside(*ref)}
    changes.void, changes.gone = [], []


def iter_owners(ref: Ref, deletion: Deletion, graph: LinkGraph) -> Iterable[Ref]:
    """The objects that a deleted one belonged to."""
    fields = deletion.data.get("fields") or {}
    for link in graph.forward[ref.model]:
        text = fields.get(link.attnames[0])
        if link.kind == GENERIC:
            yield from iter_generic_owners(link, fields, graph)
        elif link.belongs and link.to_field and link.target is not None and text is not None:
            owners = get_queryset(link.target, graph.using).filter(**{link.to_field: text})
            yield from (Ref(link.target, pk) for pk in owners.values_list("pk", flat=True))
        elif link.belongs and link.target is not None and (key := find_linked(link, deletion)) is not None:
            yield Ref(link.target, key)


def iter_generic_owners(link: Link, fields: Mapping[str, str | None], graph: LinkGraph) -> Iterable[Ref]:
    """The object that a generic key led to, if a generic relation says that what points to it belongs to it."""
    type_text, id_text = (fields.get(name) for name in link.attnames)
    target = find_generic_target(graph.using, int(type_text)) if type_text is not None else None
    if target is None or id_text is None:
        return
    key = to_key(target, id_text)
    if key is not None and any(relation.link is link for relation in graph.relations.get(target, ())):
        yield Ref(target, key)


def settle_deleted_there(changes: Changes, store: MappingStore, policies: Policies) -> list[Conflict]:
    """Decide about objects that the source changed and the target deleted, as its log tells; those that stay deleted
    are no changes any more."""
    if not store.in_target or not has_log(store.target):
        return []
    conflicts = []
    for model, keys in changes.saved.items():
        same = [key for key in keys if Ref(model, key) not in changes.replaced]
        mappings = store.find(model, same) if model._meta.auto_created is False else {}
        existing = find_existing(model, store.target, [mapping.target for mapping in mappings.values()])
        gone = {mapping.target: key for key, mapping in mappings.items() if mapping.target not in existing}
        if not gone:
            continue
        dates = find_last_dates(store.target, model, list(gone), but=store.uuid, actions=[DELETION])
        asked = get_policies_of(policies, model, store.source, [gone[target] for target in dates])
        for target, date in dates.items():
            key = gone[target]
            mine = keys[key]
            resolved = get_winner(asked[key].get(model), REMOTE if mine is None or date > mine else LOCAL)
            ref, other = Ref(model, key), Ref(model, target)
            reason = (
                f"{ref} changed at the source, and {other} was deleted on the target, since they were last in step."
            )
            conflicts.append(Conflict(model._meta.label, show_key(key), None, reason, {}, resolved, ref))
    for conflict in conflicts:
        if conflict.resolved == REMOTE and conflict.ref is not None:
            del changes.saved[conflict.ref.model][conflict.ref.pk]
    return conflicts


def iter_open(conflicts: Iterable[Conflict]) -> Iterator[tuple[Ref, dict[str, Any]]]:
    """The objects whose conflict no policy resolves."""
    for conflict in conflicts:
        if conflict.resolved is None and conflict.ref is not None:
            yield conflict.ref, conflict.as_dict()

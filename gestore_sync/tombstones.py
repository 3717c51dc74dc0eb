"""Which rows of the target the deletions in the log mean: by id mapping, else by what identifies them, else none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist, ValidationError
from django.db import connections
from django.db.models import Model

from gestore_sync.comparison import is_other_object
from gestore_sync.digests import get_name_code, split_digests
from gestore_sync.identity import has_automatic_key, iter_identities
from gestore_sync.layouts import Layout
from gestore_sync.links import LinkGraph, Membership
from gestore_sync.locators import KEY, OBJECT_ID, IdentityReader, get_readers
from gestore_sync.mappings import MappingStore
from gestore_sync.natural import find_natural_manager
from gestore_sync.ordering import get_identity_links, sort_models
from gestore_sync.reading import KEYS_PER_QUERY, find_existing, get_queryset, match
from gestore_sync.recall import Mapping as IdMapping
from gestore_sync.recall import Sent
from gestore_sync.refs import NEW, UNKNOWN, Key, KeyMap, Ref, get_field, get_table, iter_chunks, resolve_key_field
from gestore_sync.translation import Counterparts


@dataclass(frozen=True, slots=True)
class Deletion:
    """What the log keeps of a deleted object; see :mod:`gestore_sync.recording`. ``mapped_only``: it was added after
    the target was last told of it, so that only a row that is mapped to it can be its counterpart."""

    data: Mapping[str, Any]
    date: datetime
    mapped_only: bool = False


@dataclass(frozen=True, slots=True)
class RemovedMember:
    """A member that an owner lost. ``mapped_only``: it had got it only after the target was last told of it."""

    membership: Membership
    owner: Ref
    member: Ref
    mapped_only: bool = False


class Tombstones:
    """The deletions of one run. ``doomed``: by model, the rows of the target, the objects that they stood for.

    ``held_back``: deletions that the run leaves for a later one, of keys that other objects have by now; ``avoided``:
    their rows and those that are doomed, which are the counterpart of no object.
    ``sent``: what is known of those rows from their id mapping. ``members``: by through model, rows that go, with their
    owners. ``doubts``: deleted objects that could be one of several rows, and why.
    """

    def __init__(
        self,
        graph: LinkGraph,
        deletions: Mapping[Ref, Deletion],
        removed: Sequence[RemovedMember] = (),
        held_back: Mapping[Ref, Deletion] = {},
    ) -> None:
        self._graph = graph
        self._source = graph.using
        self._deletions = {**held_back, **deletions}
        self._held_back = held_back
        self._removed = removed
        self._left: dict[type[Model], list[Key]] = {}
        self.doomed: dict[type[Model], dict[Key, Ref]] = {}
        self.avoided: dict[type[Model], dict[Key, Ref]] = {}
        self.sent: dict[Ref, Sent] = {}
        self.members: dict[type[Model], dict[Key, Ref]] = {}
        self.doubts: dict[Ref, str] = {}

    # By id mapping: before counterparts are looked for, as these rows are none

    def find_mapped(self, store: MappingStore, target: str, get_layout: Callable[[Any], Layout]) -> None:
        """Find the rows by id mapping. One whose row is another object by now leads to none, as one whose object was
        handed over."""
        self._store, self._target = store, target
        self._tables = set(connections[target].introspection.table_names())
        by_model: dict[type[Model], list[Key]] = {}
        for ref in self._deletions:
            if get_table(ref.model) in self._tables:
                by_model.setdefault(ref.model, []).append(ref.pk)
        for model, keys in by_model.items():
            known = store.find(model, keys)
            mappings = {key: mapping for key, mapping in known.items() if not mapping.moved}
            found = dict(self._iter_valid(model, mappings, get_layout(model)))
            rows = self.avoided[model] = {mappings[key].target: Ref(model, key) for key in found}
            self.doomed[model] = {target: ref for target, ref in rows.items() if ref not in self._held_back}
            self.sent |= {Ref(model, key): sent for key, sent in found.items()}
            left = [key for key in keys if key not in known]
            self._left[model] = [key for key in left if self._is_wanted(Ref(model, key))]

    def _is_wanted(self, ref: Ref) -> bool:
        """Whether a deleted object that has no mapping is to be looked for."""
        return ref not in self._held_back and not self._deletions[ref].mapped_only

    def _iter_valid(
        self, model: type[Model], mappings: Mapping[Key, IdMapping], layout: Layout
    ) -> Iterator[tuple[Key, Sent]]:
        held = self._find_held(model, [mapping.target for mapping in mappings.values()])
        held |= self._store.find_replaced(model, [mapping.target for mapping in mappings.values()])
        targets = {mapping.target: key for key, mapping in mappings.items() if mapping.target not in held}
        reader = next((reader for reader in get_readers(model, self._graph) if reader.identity.locates), None)
        identifying = {name for name in reader.get_names() if name} if reader is not None else set()
        for row in layout.read(self._target, list(targets), extras=False):
            key = targets[row[0]]
            mapping = mappings[key]
            digests = drop_links(layout, mapping.digests) if mapping.mirrored else mapping.digests
            if not is_other_object(layout, identifying, digests, layout.get_values(row)):
                yield key, Sent(key, mapping.created, digests)

    def _find_held(self, model: type[Model], targets: Sequence[Key]) -> set[Key]:
        """Rows that are mapped to an object that still exists at the source."""
        sources = self._store.find_sources(model, targets)
        keys = [
            sent.key for of_row in sources.values() for sent in of_row if Ref(model, sent.key) not in self._deletions
        ]
        existing = find_existing(model, self._source, keys)
        return {target for target, of_row in sources.items() if any(sent.key in existing for sent in of_row)}

    # By what identifies them: after the counterparts of the living are known

    def find_unmapped(self, counterparts: Counterparts) -> None:
        """Find the others by natural key, unique values or a primary key that means the same everywhere."""
        known = Counterparts()
        known.maps.update(counterparts.maps)
        models = [model for model, keys in self._left.items() if keys]
        links = [link for model in models for link in get_identity_links(self._graph, model)]
        links = [link for link in links if link.target in models and link.target is not link.model]
        for model in sort_models(models, links, lambda link: 1):
            claimed = (
                {target for _, target in counterparts.maps[model].items()} if model in counterparts.maps else set()
            )
            found = dict(self._iter_identified(model, self._left[model], known))
            free = {target for target in found.values() if target not in claimed}
            free -= self._find_held(model, list(free))
            doomed = self.doomed.setdefault(model, {})
            for key, target in found.items():
                if target in free and target not in doomed:
                    doomed[target] = Ref(model, key)
            known.maps[model] = merge(model, known.maps.get(model), found)
        by_membership: dict[str, list[RemovedMember]] = {}
        for removed in self._removed:
            by_membership.setdefault(removed.membership.name, []).append(removed)
        for of_membership in by_membership.values():
            self._find_member_rows(of_membership[0].membership, of_membership, counterparts)

    def _iter_identified(self, model: type[Model], keys: list[Key], known: Counterparts) -> Iterator[tuple[Key, Key]]:
        left = list(keys)
        for reader in get_readers(model, self._graph):
            if not reader.identity.locates:
                continue
            wanted = {}
            for key in left:
                values = self._read_values(reader, self._deletions[Ref(model, key)].data.get("fields") or {}, known)
                parts = reader.resolve(values, known, self._source) if values is not None else None
                if parts is not None:
                    wanted[key] = parts
            hits = reader.find(self._target, wanted.values()) if wanted else {}
            for key, parts in wanted.items():
                of_key = hits.get(parts, [])
                if len(of_key) > 1 and not reader.identity.allow_many:
                    left.remove(key)
                    self.doubts[Ref(model, key)] = (
                        f"The deleted {Ref(model, key)} has two counterparts by its {reader.identity.name}: "
                        f"{' and '.join(str(Ref(model, hit)) for hit in of_key[:2])} of the target. Delete one there."
                    )
                elif of_key:
                    left.remove(key)
                    yield key, of_key[0]
        yield from self._iter_by_manager(model, left)
        if not has_automatic_key(model) and not get_field(model, model._meta.pk.name).is_relation:
            existing = find_existing(model, self._target, left)
            yield from ((key, key) for key in left if key in existing)

    def _read_values(
        self, reader: IdentityReader, fields: Mapping[str, str | None], known: Counterparts
    ) -> list[Any] | None:
        """The values of an identity as the log keeps them; None where it does not keep all."""
        columns = {field.attname: field for field in reader.model._meta.concrete_fields}
        values = []
        for path in reader.paths:
            text = fields.get(path)
            if path not in columns or path not in fields:
                return None
            field: Any = columns[path]
            try:
                value = None if text is None else load_value(field, text)
            except (ValidationError, ValueError, TypeError):
                return None
            values.append(value)
        for component, value in zip(reader.components, values, strict=False):
            if component.kind == KEY and component.target is not None and value is not None:
                self._add_known(component.target, value, known)
            elif component.kind == OBJECT_ID:
                return None
        return values

    def _add_known(self, model: type[Model], key: Key, known: Counterparts) -> None:
        """Take in the counterpart that an id mapping gives of an object that is not part of the run."""
        if known.get(model, key) is UNKNOWN:
            mapping = self._store.find(model, [key]).get(key)
            if mapping is not None:
                known.maps[model] = merge(model, known.maps.get(model), {key: mapping.target})

    def _iter_by_manager(self, model: type[Model], keys: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
        """Ask the manager for natural keys that cannot be read as fields."""
        if not any(identity.per_object for identity in iter_identities(model)):
            return
        manager = find_natural_manager(model).db_manager(self._target)
        for key in keys:
            natural_key = self._deletions[Ref(model, key)].data.get("natural_key")
            try:
                found = manager.get_by_natural_key(*natural_key) if natural_key else None
            except (ObjectDoesNotExist, MultipleObjectsReturned, ValidationError, ValueError, TypeError):
                continue
            if found is not None:
                yield key, found.pk

    def _find_member_rows(
        self, membership: Membership, removed: Sequence[RemovedMember], counterparts: Counterparts
    ) -> None:
        """Find the rows of the target that connect the counterparts of owners and the members they lost."""
        own, other = membership.link, membership.other
        if get_table(own.model) not in self._tables:
            return
        owners = self._find_ends([member.owner for member in removed], counterparts)
        members = self._find_ends([member.member for member in removed], counterparts)
        wanted = {
            (owners[member.owner], members[member.member]): member
            for member in removed
            if member.owner in owners and member.member in members
        }
        for chunk in iter_chunks(list(wanted), KEYS_PER_QUERY):
            rows = get_queryset(own.model, self._target).filter(
                match(own.key_paths[0], {owner for owner, _ in chunk}),
                match(other.key_paths[0], {member for _, member in chunk}),
            )
            pairs = rows.values_list("pk", own.key_paths[0], other.key_paths[0])
            found = {pk: wanted[owner, member] for pk, owner, member in pairs if (owner, member) in wanted}
            doubtful = [pk for pk, member in found.items() if member.mapped_only]
            sources = self._store.find_sources(own.model, found)
            staying = {pk for pk in doubtful if pk not in sources}
            staying |= {pk for pk, of_row in sources.items() if all(sent.moved for sent in of_row)}
            going = {pk: member.owner for pk, member in found.items() if pk not in staying}
            self.members.setdefault(own.model, {}).update(going)

    def _find_ends(self, refs: Sequence[Ref], counterparts: Counterparts) -> dict[Ref, Key]:
        """The counterparts of objects, of those that are gone by id mapping."""
        found = {ref: counterparts.get(*ref) for ref in refs}
        unknown = [ref.pk for ref, target in found.items() if target is UNKNOWN]
        mappings = self._store.find(refs[0].model, unknown) if unknown else {}
        found |= {ref: mappings[ref.pk].target for ref in refs if ref.pk in mappings and found[ref] is UNKNOWN}
        return {ref: target for ref, target in found.items() if target is not NEW and target is not UNKNOWN}


def load_value(field: Any, text: str) -> Any:
    """A value that :func:`~gestore_sync.recording.dump_value` wrote."""
    return resolve_key_field(field).to_python(text)


def merge(model: type[Model], known: KeyMap | None, found: Mapping[Key, Key]) -> KeyMap:
    """A map with what is known and what was found."""
    pairs = {**(dict(known.items()) if known is not None else {}), **found}
    merged = KeyMap(model, list(pairs))
    for key, target in pairs.items():
        merged.set(key, target)
    return merged


def drop_links(layout: Layout, digests: bytes) -> bytes:
    """Digests without those of links, which stand for keys of the other side."""
    links = {get_name_code(name) for name in layout.names if layout.get_link(name) is not None}
    return b"".join(code + value for code, value in split_digests(digests).items() if code not in links)

"""Finds the counterpart of every object of a subgraph on the target, in bulk: the locator ladder.

1. the id mapping of the origin; 2. the natural key; 3. a unique field or constraint; 4. the primary key where it is not
automatic; 5. otherwise the object is new. Only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from django.db.models import Model

from gestore_sync.asking import ask_manager
from gestore_sync.comparison import is_other_object
from gestore_sync.exceptions import UnreadableValue
from gestore_sync.holding import find_held
from gestore_sync.identity import Identity, has_automatic_key, iter_identities
from gestore_sync.keysets import make_key_set
from gestore_sync.layouts import Layout
from gestore_sync.locators import Doubt, IdentityReader, freeze, get_readers
from gestore_sync.mappings import MappingStore
from gestore_sync.natural import find_natural_manager
from gestore_sync.reading import KEYS_PER_QUERY, find_existing, get_queryset, match_keys
from gestore_sync.recall import Mapping as IdMapping
from gestore_sync.recognition import Untouched
from gestore_sync.refs import NEW, Key, KeyMap, Ref, get_key_columns, iter_chunks
from gestore_sync.scope import Role
from gestore_sync.subgraph import ROLES, Subgraph
from gestore_sync.translation import LOST, Counterparts


class Lookup:
    """Fills ``counterparts`` model by model; the models that identities point to must come first.

    ``doomed``: rows of the target that the run deletes, which are the counterpart of nothing. ``tolerant``: objects
    whose natural key cannot be asked for are noted in ``unreadable``; else the first one raises. ``kept``: new objects
    that keep their automatic primary keys. ``free``: by identity the objects whose values no row of the target has.
    ``untouched``: recognizes rows that nobody has to read.
    """

    def __init__(
        self, subgraph: Subgraph, target: str, store: MappingStore, get_layout: Callable[[Any], Layout]
    ) -> None:
        self.subgraph = subgraph
        self.source = subgraph.source
        self.graph = subgraph.graph
        self.target = target
        self.store = store
        self.counterparts = Counterparts()
        self.doubts: list[Doubt] = []
        self.doomed: dict[type[Model], dict[Key, Ref]] = {}
        self.tolerant = False
        self.unreadable: dict[Ref, str] = {}
        self.kept: dict[type[Model], Any] = {}
        self.free: dict[Identity, Any] = {}
        self.untouched = Untouched(subgraph, target, is_on=False)
        self._get_layout = get_layout

    def locate(self, model: type[Model]) -> None:
        """Find the counterparts of all objects of ``model``."""
        keys = list(self.subgraph.iter_keys(model, *ROLES))
        self.counterparts.maps[model] = KeyMap(model, keys)
        self._taken = make_key_set(model)
        self._stale: set[Key] = set()
        readers = [reader for reader in get_readers(model, self.graph) if reader.identity.locates]
        size = len(keys) if any(any(reader.self_linked) for reader in readers) else KEYS_PER_QUERY
        for chunk in iter_chunks(keys, max(size, 1)):
            self._locate_chunk(model, readers, chunk)

    def _locate_chunk(self, model: type[Model], readers: list[IdentityReader], keys: list[Key]) -> None:
        counterparts = self.counterparts.maps[model]
        mapped = self._find_mapped(model, readers, keys)
        allow_many = any(reader.identity.allow_many for reader in readers)
        rest = [key for key in keys if key not in mapped] if mapped else keys
        self._accept_all(model, mapped, shared=allow_many)
        for reader in readers:
            rest = self._locate_by(reader, rest) if rest else rest
        for face in self._get_children(model):
            for reader in get_readers(face, self.graph) if rest else ():
                if reader.identity.locates:
                    rest = self._locate_by(reader, rest, model)
        if rest:
            rest = self._locate_one_by_one(model, rest)
        if rest and not has_automatic_key(model):
            rest = self._locate_by_key(model, rest)
        members = self.subgraph.members.get((model, Role.LOOK_UP))
        only_looked_up = members.seen if members is not None else ()
        counterparts.mark_new([key for key in rest if key not in only_looked_up] if only_looked_up else rest)

    def _get_children(self, model: type[Model]) -> list[type[Model]]:
        """The multi-table children of ``model`` that have objects in the subgraph, whose natural key may find it."""
        links = [link for link in self.graph.reverse[model] if link.parent_link]
        found = [link.model for link in links if any((link.model, role) in self.subgraph.members for role in Role)]
        return [*found, *(grandchild for child in found for grandchild in self._get_children(child))]

    def _accept(self, model: type[Model], key: Key, target: Key, *, shared: bool = False) -> None:
        """Take ``target`` as the counterpart; no two objects have the same one unless the model allows it."""
        self._accept_all(model, {key: target}, shared=shared)

    def _accept_all(self, model: type[Model], pairs: Mapping[Key, Key], *, shared: bool) -> None:
        """The same of many objects, each with its ``target``."""
        counterparts = self.counterparts.maps[model]
        fresh = self._taken.update(pairs.values())
        if len(fresh) < len(pairs) and not shared:
            left = set(fresh)
            for key, target in pairs.items():
                if target in left:
                    left.remove(target)
                else:
                    every = chain(counterparts.items(), pairs.items())
                    others = (other for other, theirs in every if theirs == target and other != key)
                    both = f"{Ref(model, key)} and {Ref(model, next(others, '?'))} of the source would both be "
                    advice = "Make them one there, or give the model another identity."
                    self.doubts.append(Doubt(Ref(model, key), f"{both}{Ref(model, target)} of the target. {advice}"))
        counterparts.set_all(pairs)

    # 1. the id mapping

    def _find_mapped(self, model: type[Model], readers: list[IdentityReader], keys: list[Key]) -> dict[Key, Key]:
        """The valid mappings. One whose row is gone, or is another object by now, is left out."""
        as_left = self.untouched.find(self._get_layout(model), self.store, keys)
        found = self.store.find(model, [key for key in keys if key not in as_left] if as_left else keys)
        doomed = self.doomed.get(model, ())
        targets = [target for target in as_left.values() if target not in doomed]
        targets += [mapping.target for mapping in found.values() if mapping.target not in doomed]
        replaced = self.store.find_replaced(model, targets)
        self._stale |= replaced
        gone = replaced.union(doomed)
        valid = {key: target for key, target in as_left.items() if target not in gone} if gone else dict(as_left)
        mappings = {key: mapping for key, mapping in found.items() if mapping.target not in gone}
        valid |= self._check_mapped(model, readers, mappings)
        self.untouched.is_complete &= len(valid) == len(as_left) + len(found)
        return valid

    def _check_mapped(
        self, model: type[Model], readers: list[IdentityReader], mappings: dict[Key, IdMapping]
    ) -> dict[Key, Key]:
        """Those of the mappings whose row is there and is no other object by now."""
        if not mappings:
            return {}
        targets = [mapping.target for mapping in mappings.values()]
        reader = next((reader for reader in readers if reader.identity.condition is None), None)
        if reader is None:
            stale = self._find_stale(model, None, mappings)
            return {key: mapping.target for key, mapping in mappings.items() if key not in stale}
        theirs = reader.read(self.target, targets)
        mine = reader.read(self.source, list(mappings))
        doubtful = {
            key: mapping
            for key, mapping in mappings.items()
            if mapping.target in theirs and not self._is_same(reader, mine.get(key), theirs[mapping.target])
        }
        stale = self._find_stale(model, reader, doubtful)
        self._stale |= {mappings[key].target for key in stale}
        return {
            key: mapping.target for key, mapping in mappings.items() if mapping.target in theirs and key not in stale
        }

    def _is_same(self, reader: IdentityReader, mine: Sequence[Any] | None, theirs: Sequence[Any]) -> bool:
        if mine is None:
            return False
        resolved = reader.resolve(mine, self.counterparts, self.source)
        return resolved == tuple(map(freeze, theirs[: len(reader.components)]))

    def _find_stale(
        self, model: type[Model], reader: IdentityReader | None, doubtful: dict[Key, IdMapping]
    ) -> set[Key]:
        """Which of the mappings whose row may be another object lead to one, or to none."""
        if not doubtful:
            return set()
        layout = self._get_layout(model)
        rows = {row[0]: row for row in layout.read(self.target, [m.target for m in doubtful.values()], extras=False)}
        identifying = {name for name in reader.get_names() if name} if reader is not None else set()
        return {
            key
            for key, mapping in doubtful.items()
            if mapping.target not in rows
            or is_other_object(layout, identifying, mapping.digests, layout.get_values(rows[mapping.target]))
        }

    # 2. and 3. natural keys and unique values

    def _locate_by(self, reader: IdentityReader, keys: list[Key], model: type[Model] | None = None) -> list[Key]:
        """Locate by one identity; the keys that it does not find. ``model``: the parent, if it is a child's key."""
        if reader.finds_none(self.counterparts):
            return keys
        model = model or reader.model
        values = reader.read(self.source, keys)
        is_self_linked = any(reader.self_linked)
        resolved: dict[Key, tuple[Any, ...] | None] = {}
        if is_self_linked:
            keys = reader.sort_parents_first(keys, values)
            wanted = [
                reader.resolve(parts, self.counterparts, self.source, without_self=True) for parts in values.values()
            ]
        else:
            resolved = reader.resolve_all(values, self.counterparts, self.source)
            wanted = list(resolved.values())
        found = reader.find(self.target, [parts for parts in wanted if parts], without_self=is_self_linked)
        held, doomed = self._find_held(model, found), self.doomed.get(model, ())
        free = self.free.setdefault(reader.identity, make_key_set(model))
        rest = []
        for key in keys:
            parts = resolved.get(key)
            if is_self_linked and key in values:
                parts = reader.resolve(values[key], self.counterparts, self.source)
            if parts is None or parts not in found:
                rest.append(key)
                if parts is not None:
                    free.add(key)
                continue
            hits = [hit for hit in found[parts] if held.get(hit, key) == key and hit not in doomed]
            if hits:
                self._choose(reader.identity, model, key, hits)
            else:
                rest.append(key)
        return rest

    def _choose(self, identity: Identity, model: type[Model], key: Key, hits: list[Key]) -> None:
        allow_many = identity.allow_many
        self.counterparts.note_way(model, key, identity.name)
        if len(hits) > 1 and not allow_many:
            self.doubts.append(
                Doubt(
                    Ref(model, key),
                    f"{Ref(model, key)} has two counterparts by its {identity.name}: "
                    f"{' and '.join(str(Ref(model, hit)) for hit in hits[:2])} of the target. Make them one, "
                    "or let a natural manager say allow_many=True.",
                )
            )
        free = [hit for hit in hits if hit not in self._taken]
        owned = self.subgraph.find_role(model, key) is Role.OWN
        if allow_many and not free and owned:
            self.counterparts.maps[model].set(key, NEW)
        else:
            self._accept(model, key, (free or hits)[0], shared=allow_many)

    def _find_held(self, model: type[Model], found: Mapping[Any, list[Key]]) -> dict[Key, Key]:
        """Rows that are mapped to an object that still exists at the source: they are no one else's counterpart."""
        hits = [hit for of_values in found.values() for hit in of_values if hit not in self._stale]
        return find_held(self.store, model, hits)

    def _locate_one_by_one(self, model: type[Model], keys: list[Key]) -> list[Key]:
        """Ask the manager for natural keys that cannot be read as fields."""
        identities = iter_identities(model)
        identity = next((identity for identity in identities if identity.per_object), None)
        if identity is None:
            return keys
        barred = self.subgraph.barred.get(model, {})
        rest = [key for key in keys if key in barred]
        keys = [key for key in keys if key not in barred]
        manager = find_natural_manager(model).db_manager(self.target)
        instances = get_queryset(model, self.source).filter(match_keys(model, keys))
        missing = dict.fromkeys(keys)
        for instance in instances.iterator(chunk_size=2000):
            ref = Ref(model, instance.pk)
            missing.pop(ref.pk, None)
            try:
                found = ask_manager(manager, instance, ref)
            except UnreadableValue as error:
                if not self.tolerant:
                    raise
                self.unreadable[ref] = str(error)
                found = None
            if isinstance(found, Doubt):
                self.doubts.append(found)
            if found is None or isinstance(found, Doubt):
                rest.append(ref.pk)
            else:
                self.counterparts.note_way(model, ref.pk, identity.name)
                self._accept(model, ref.pk, found.pk)
        return [*rest, *missing]

    # 4. the primary key

    def _locate_by_key(self, model: type[Model], keys: list[Key]) -> list[Key]:
        """Locate by a primary key that means the same everywhere, links in it rewritten."""
        layout = self._get_layout(model)
        names = get_key_columns(model)
        numbers = [
            number for name in names for number, column in enumerate(layout.columns) if column.field.attname == name
        ]
        wanted: dict[Key, Key] = {}
        for row in layout.read(self.source, keys):
            values = layout.translate(row, self.counterparts, self.source)
            parts = [values[number] for number in numbers]
            if not any(part is NEW or part is LOST or part is None for part in parts):
                wanted[row[0]] = tuple(parts) if len(names) > 1 else parts[0]
        existing = find_existing(model, self.target, list(wanted.values()))
        rest = []
        for key in keys:
            if key in wanted and wanted[key] in existing:
                self.counterparts.note_way(model, key, "primary key")
                self._accept(model, key, wanted[key])
            else:
                rest.append(key)
        return rest

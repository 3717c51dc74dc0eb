"""Finds the counterpart of every object of a subgraph on the target, in bulk: the locator ladder.

1. the id mapping of the origin; 2. the natural key; 3. a unique field or constraint; 4. the primary key where it is not
automatic; 5. otherwise the object is new. Only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.db.models import Model

from gestore_sync.comparison import is_other_object
from gestore_sync.exceptions import UnreadableValue
from gestore_sync.identity import Identity, has_automatic_key, iter_identities
from gestore_sync.layouts import Layout
from gestore_sync.locators import IdentityReader, freeze, get_readers, read_natural_key
from gestore_sync.mappings import Mapping as IdMapping
from gestore_sync.mappings import MappingStore
from gestore_sync.natural import find_natural_manager
from gestore_sync.reading import KEYS_PER_QUERY, find_existing, get_queryset, match_keys
from gestore_sync.refs import NEW, Key, KeyMap, Ref, get_key_columns, iter_chunks, make_key_set
from gestore_sync.scope import Role
from gestore_sync.subgraph import ROLES, Subgraph
from gestore_sync.translation import LOST, Counterparts


class Doubt(NamedTuple):
    """Why an object's counterpart cannot be told; ``fields``: the values of both sides, where they matter."""

    ref: Ref
    reason: str
    fields: dict[str, list[Any]] = {}


class Lookup:
    """Fills ``counterparts`` model by model; the models that identities point to must come first.

    ``doomed``: rows of the target that the run deletes, which are the counterpart of nothing. ``tolerant``: objects
    whose natural key cannot be asked for are noted in ``unreadable``; else the first one raises. ``kept``: new objects
    that keep their automatic primary keys.
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
        rest = []
        for key in keys:
            if key in mapped:
                self._accept(model, key, mapped[key], shared=allow_many)
            else:
                rest.append(key)
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
        for key in rest:
            if self.subgraph.find_role(model, key) is not Role.LOOK_UP:
                counterparts.set(key, NEW)

    def _get_children(self, model: type[Model]) -> list[type[Model]]:
        """The multi-table children of ``model`` that have objects in the subgraph, whose natural key may find it."""
        links = [link for link in self.graph.reverse[model] if link.parent_link]
        found = [link.model for link in links if any((link.model, role) in self.subgraph.members for role in Role)]
        return [*found, *(grandchild for child in found for grandchild in self._get_children(child))]

    def _accept(self, model: type[Model], key: Key, target: Key, *, shared: bool = False) -> None:
        """Take ``target`` as the counterpart; no two objects have the same one unless the model allows it."""
        if not self._taken.add(target) and not shared:
            others = (other for other, theirs in self.counterparts.maps[model].items() if theirs == target)
            self.doubts.append(
                Doubt(
                    Ref(model, key),
                    f"{Ref(model, key)} and {Ref(model, next(others, '?'))} of the source would both be "
                    f"{Ref(model, target)} of the target. Make them one there, or give the model another identity.",
                )
            )
        self.counterparts.maps[model].set(key, target)

    # 1. the id mapping

    def _find_mapped(self, model: type[Model], readers: list[IdentityReader], keys: list[Key]) -> dict[Key, Key]:
        """The valid mappings. One whose row is gone, or is another object by now, is left out."""
        doomed = self.doomed.get(model, {})
        mappings = {
            key: mapping for key, mapping in self.store.find(model, keys).items() if mapping.target not in doomed
        }
        replaced = self.store.find_replaced(model, [mapping.target for mapping in mappings.values()])
        self._stale |= replaced
        mappings = {key: mapping for key, mapping in mappings.items() if mapping.target not in replaced}
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
        model = model or reader.model
        values = reader.read(self.source, keys)
        is_self_linked = any(reader.self_linked)
        if is_self_linked:
            keys = reader.sort_parents_first(keys, values)
        wanted = (
            reader.resolve(parts, self.counterparts, self.source, without_self=is_self_linked)
            for parts in values.values()
        )
        known = [parts for parts in wanted if parts is not None]
        found = reader.find(self.target, known, without_self=is_self_linked)
        held = self._find_held(model, found)
        rest = []
        for key in keys:
            parts = reader.resolve(values[key], self.counterparts, self.source) if key in values else None
            hits = [hit for hit in found.get(parts, ()) if held.get(hit, key) == key] if parts is not None else []
            hits = [hit for hit in hits if hit not in self.doomed.get(model, ())]
            if not hits:
                rest.append(key)
                continue
            self._choose(reader.identity, model, key, hits)
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
        sources = self.store.find_sources(model, hits)
        existing = find_existing(model, self.source, [sent.key for of_row in sources.values() for sent in of_row])
        return {hit: sent.key for hit, of_row in sources.items() for sent in of_row if sent.key in existing}

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
                found = self._ask_manager(manager, instance, ref)
            except UnreadableValue as error:
                if not self.tolerant:
                    raise
                self.unreadable[ref] = str(error)
                found = None
            if found is None:
                rest.append(ref.pk)
            else:
                self.counterparts.note_way(model, ref.pk, identity.name)
                self._accept(model, ref.pk, found.pk)
        return [*rest, *missing]

    def _ask_manager(self, manager: Any, instance: Model, ref: Ref) -> Model | None:
        """The object of the target with the natural key of ``instance``. Raises :class:`UnreadableValue`."""
        natural_key = read_natural_key(instance)
        try:
            found: Model | None = manager.get_by_natural_key(*natural_key) if natural_key else None
        except ObjectDoesNotExist:
            return None
        except MultipleObjectsReturned:
            reason = f"The natural key {natural_key!r} of {ref} matches two rows of the target. Make them one."
            self.doubts.append(Doubt(ref, reason))
            return None
        except Exception as error:
            raise UnreadableValue(
                f"get_by_natural_key{natural_key!r} failed for {ref}: {type(error).__name__}: {error}. "
                'Mend it, or name fields in GESTORE_SYNC["IDENTITY"].',
                ref=ref,
                using=self.source,
            ) from error
        return found

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

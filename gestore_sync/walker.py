"""Walks from root objects over links, set by set, and returns the closed subgraph. Only reads.

What belongs to an object and what it merely needs is decided in :mod:`gestore_sync.scope`. Walking in whole sets with
the distance and the link of each object kept is Jailer's idea (Ralf Wisser).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from django.db import DataError
from django.db.models import Model

from gestore_sync.exceptions import UnknownObject
from gestore_sync.frontier import Frontier, Row, find_kept_paths
from gestore_sync.generic import find_generic_target, find_type_filter, get_faces, get_object_ids, get_type_ids, to_keys
from gestore_sync.links import GENERIC, TREE, Link, LinkGraph
from gestore_sync.mentions import count_mentions
from gestore_sync.ordering import get_identity_links
from gestore_sync.reading import (
    find_existing,
    get_keys_per_query,
    iter_composite_pointing,
    iter_pointing,
    iter_rows,
)
from gestore_sync.refs import Key, Ref
from gestore_sync.scope import Role, Scope, find_reverse_role
from gestore_sync.subgraph import CHANGED, Subgraph

Pairs = Iterable[Row]
Keys = Mapping[type[Model], Iterable[Key]]


PAIRS_AT_ONCE = 10_000


class Walker:
    """One walk on one database. ``advance`` is told how many objects were found, for a progress bar. ``counting``: rows
    that mention owned objects are counted in the end."""

    def __init__(
        self,
        graph: LinkGraph,
        scope: Scope,
        advance: Callable[[int], object] = lambda number: None,
        *,
        counting: bool = True,
    ) -> None:
        self.graph = graph
        self.using = graph.using
        self.scope = scope
        self.subgraph = Subgraph(self.using, graph, scope)
        self._advance = advance
        self._counting = counting
        self._frontiers: dict[tuple[type[Model], Role], Frontier] = {}
        self._ways: dict[tuple[str, type[Model]], int] = {}
        self._distance = 0

    @cached_property
    def _type_ids(self) -> dict[tuple[str, str], int]:
        return get_type_ids(self.using)

    def walk(self, roots: Sequence[Ref], also: Keys | None = None, referred: Keys | None = None) -> Subgraph:
        """The subgraph of ``roots``, and of ``also``, which are owned too; ``referred`` are referred to.

        Raises :class:`UnknownObject` where a root has no row.
        """
        for ref in roots:
            if not self._exists(ref):
                raise UnknownObject(f"There is no {ref} in the database {self.using!r}.")
            if self._seed(ref.model, [ref.pk], Role.OWN):
                self.subgraph.roots.append(ref)
        for role, keys_by_model in ((Role.OWN, also or {}), (Role.REFER, referred or {})):
            for model, keys in keys_by_model.items():
                new = self._seed(model, list(keys), role)
                if role is Role.REFER:
                    self.subgraph.update_needed(model, new)
        return self._walk_on()

    def walk_changes(self, changed: Keys, looked_up: Keys) -> Subgraph:
        """The subgraph of objects that exist and changed, each for itself, with what they need to exist.

        ``looked_up``: objects that only have to be found on the target.
        """
        self.subgraph.ways[0] = (CHANGED, None)
        for role, keys_by_model in ((Role.OWN, changed), (Role.LOOK_UP, looked_up)):
            for model, keys in keys_by_model.items():
                barred = self.subgraph.barred.get(model, {})
                self._seed(model, [key for key in keys if key not in barred], role)
                self._seed(model, [key for key in keys if key in barred], Role.LOOK_UP)
        return self._walk_on()

    def _seed(self, model: type[Model], keys: Sequence[Key], role: Role) -> list[Key]:
        """Begin at objects; those that were new."""
        new = self.subgraph.get_members(model, role).update([(key, 0) for key in keys], 0, 0) if keys else []
        if new:
            self._get_frontier(model, role).add(new, [])
        return new

    def _get_frontier(self, model: type[Model], role: Role) -> Frontier:
        if (model, role) not in self._frontiers:
            paths = find_kept_paths(self.graph, model) if role > Role.LOOK_UP else None
            self._frontiers[model, role] = Frontier(model, paths)
        return self._frontiers[model, role]

    def _walk_on(self) -> Subgraph:
        while self._frontiers:
            self._distance += 1
            role = max(role for _, role in self._frontiers)
            generation = [at for at in self._frontiers if at[1] is role]
            for model, frontier in [(at[0], self._frontiers.pop(at)) for at in generation]:
                for keys, rows in frontier.iter_chunks(get_keys_per_query(model, self.using)):
                    self._expand(model, role, keys, rows)
        self.subgraph.settle()
        if self._counting and not self.scope.connected and not self.scope.closed:
            count_mentions(self.subgraph)
        return self.subgraph

    def _exists(self, ref: Ref) -> bool:
        """Whether there is such a row; a key that the database cannot even compare is none."""
        try:
            return bool(find_existing(ref.model, self.using, [ref.pk]))
        except (DataError, OverflowError):
            return False

    def _expand(self, model: type[Model], role: Role, keys: list[Key], rows: list[Row] | None) -> None:
        if role is Role.LOOK_UP:
            self._follow_forward(model, role, get_identity_links(self.graph, model), keys)
            return
        self._follow_forward(model, role, self.graph.forward[model], keys, rows)
        for link in self.graph.reverse[model]:
            to_role = find_reverse_role(self.graph, self.scope, link, role)
            if to_role is not None:
                self._add_all(link.model, to_role, link.name, model, role, self._iter_reverse(link, model, role, keys))
        for relation in self.graph.relations.get(model, ()):
            to_role = self.scope.get_reverse_role(relation.link, role, (relation.name,), belongs=True)
            if to_role:
                pairs = self._iter_generic_reverse(relation.link, [relation.content_type_model], keys)
                self._add_all(relation.link.model, to_role, relation.name, model, role, pairs)
        for link in self.graph.get_unrelated(model):
            to_role = self.scope.get_reverse_role(link, role, belongs=False)
            if to_role:
                pairs = self._iter_generic_reverse(link, get_faces(model), keys)
                self._add_all(link.model, to_role, link.name, model, role, pairs)

    def _add_all(
        self, model: type[Model], role: Role, name: str, parent: type[Model], parent_role: Role, pairs: Pairs
    ) -> None:
        """Add the objects of ``pairs`` (key, parent's key, perhaps with the values of its links) that are new, and note
        them for the next generation."""
        way = self._ways.setdefault((name, parent), len(self.subgraph.ways))
        if way == len(self.subgraph.ways):
            self.subgraph.ways.append((name, parent))
        found = (self.subgraph.members.get((model, other)) for other in Role if other > role)
        above = [others.seen for others in found if others]
        members = self.subgraph.get_members(model, role)
        is_needed = parent_role is Role.OWN and role in (Role.REFER, Role.REQUIRE)
        barred = self.subgraph.barred.get(model, {}) if role is not Role.LOOK_UP else {}
        stream = iter(pairs)
        while some := list(islice(stream, PAIRS_AT_ONCE)):
            if barred:
                self._seed(model, [row[0] for row in some if row[0] in barred], Role.LOOK_UP)
                some = [row for row in some if row[0] not in barred]
            if is_needed:
                self.subgraph.update_needed(model, [row[0] for row in some])
            for other in above:
                some = [row for row in some if row[0] not in other]
            if new := members.update(some, way, self._distance):
                self._get_frontier(model, role).add(new, some)
                self._advance(len(new))

    # Backwards

    def _iter_reverse(self, link: Link, model: type[Model], role: Role, keys: list[Key]) -> Pairs:
        keys = self._leave_siblings(link, model, role, keys)
        if link.kind == TREE:
            adapter = self.graph.find_adapter(link.model)
            assert adapter is not None
            return adapter.children(link.model, self.using, keys)
        if len(link.key_paths) > 1:
            return iter_composite_pointing(link.model, self.using, link.key_paths, keys)
        also = find_kept_paths(self.graph, link.model) or ()
        return iter_pointing(link.model, self.using, link.key_paths[0], keys, also=also)

    def _leave_siblings(self, link: Link, model: type[Model], role: Role, keys: list[Key]) -> list[Key]:
        """``keys`` without those that an ``--own`` of this very link led to: it must not lead back to the siblings of
        the object it came from, unless these belong to it anyway."""
        way = self._ways.get((link.name, link.model))
        if link.belongs or role is not Role.OWN or link.name not in self.scope.own or way is None:
            return keys
        members = self.subgraph.get_members(model, role)
        return [key for key in keys if (why := members.find_why(key)) is None or why[0] != way]

    def _iter_generic_reverse(self, link: Link, faces: Sequence[type[Model]], keys: Sequence[Key]) -> Iterator[Row]:
        of_type = find_type_filter(link, faces, self._type_ids)
        if of_type is None:
            return
        by_value = get_object_ids(link, keys)
        also = find_kept_paths(self.graph, link.model) or ()
        for pk, value, *rest in iter_pointing(
            link.model, self.using, link.attnames[1], list(by_value), of_type, also=also
        ):
            yield pk, by_value[value], *rest

    # Forwards

    def _follow_forward(
        self, model: type[Model], role: Role, links: Sequence[Link], keys: list[Key], rows: list[Row] | None = None
    ) -> None:
        """Add what these links lead to. ``rows``: the values of all links, if they are known."""
        paths = list(dict.fromkeys(path for link in links for path in link.key_paths))
        if rows is None:
            rows = list(iter_rows(model, self.using, keys, paths)) if paths else []
        at = {path: number for number, path in enumerate(paths, start=1)}
        for link in links:
            columns = [at[path] for path in link.key_paths]
            if link.kind == GENERIC:
                self._follow_generic(link, model, role, rows, *columns)
            elif link.kind == TREE:
                adapter = self.graph.find_adapter(model)
                assert adapter is not None
                nodes = adapter.read(model, self.using, keys).values()
                pairs = [(node.parent, node.pk) for node in nodes if node.parent is not None]
                self._add_forward(link, model, model, role, pairs)
            elif link.target is not None:
                self._add_forward(link, link.target, model, role, pick(rows, columns))

    def _follow_generic(
        self,
        link: Link,
        model: type[Model],
        role: Role,
        rows: Sequence[tuple[Any, ...]],
        type_at: int,
        id_at: int,
    ) -> None:
        by_type: dict[Any, list[tuple[Key, Key]]] = {}
        for row in rows:
            if row[type_at] is not None and row[id_at] is not None:
                by_type.setdefault(row[type_at], []).append((row[id_at], row[0]))
        for type_id, values in by_type.items():
            target = find_generic_target(self.using, type_id)
            keys = [] if target is None else to_keys(target, [value for value, _ in values])
            known = [(key, pk) for key, (_, pk) in zip(keys, values, strict=False) if key is not None]
            if len(known) < len(values):
                self._add_dangling(model, link, {pk for _, pk in values} - {pk for _, pk in known})
            if target is not None:
                self._add_forward(link, target, model, role, known)

    def _add_forward(
        self, link: Link, target: type[Model], model: type[Model], role: Role, pairs: list[tuple[Key, Key]]
    ) -> None:
        if not pairs:
            return
        to_role = Role.LOOK_UP
        if role > Role.LOOK_UP:
            names = [membership.name for membership in self.graph.others.get(link, ())]
            to_role = self.scope.get_forward_role(link, target, role, names)
        distinct = dict(pairs)
        if not link.constrained and link.kind != TREE:
            gone = self._find_gone(target, distinct)
            if gone:
                self._add_dangling(model, link, {pk for key, pk in pairs if key in gone})
                distinct = {key: pk for key, pk in distinct.items() if key not in gone}
        self._add_all(target, to_role, link.name, model, role, distinct.items())

    def _find_gone(self, target: type[Model], keys: Collection[Key]) -> set[Key]:
        """Those of the keys that have no row; what the walk has found before has one."""
        if target not in self.graph:
            return set(keys)
        found = [members.seen for (model, _), members in self.subgraph.members.items() if model is target]
        unknown = set(keys)
        for seen in found:
            unknown = {key for key in unknown if key not in seen}
        return unknown - find_existing(target, self.using, list(unknown)) if unknown else unknown

    def _add_dangling(self, model: type[Model], link: Link, keys: set[Key]) -> None:
        if keys:
            self.subgraph.dangling.setdefault((model, link.name), set()).update(keys)


def pick(rows: Sequence[tuple[Any, ...]], columns: Sequence[int]) -> list[tuple[Key, Key]]:
    """``(key, pk)`` of the rows whose columns hold a key; several columns make a composite one."""
    if len(columns) == 1:
        (column,) = columns
        return [(row[column], row[0]) for row in rows if row[column] is not None]
    keys = ((tuple(row[column] for column in columns), row[0]) for row in rows)
    return [pair for pair in keys if None not in pair[0]]

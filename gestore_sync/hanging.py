"""The rows of the target that point at others there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from django.db import connections
from django.db.models import Model

from gestore_sync.generic import find_type_filter, get_object_ids, get_type_ids
from gestore_sync.links import TREE, Link, LinkGraph, Relation
from gestore_sync.reading import iter_composite_pointing, iter_pointing, iter_rows
from gestore_sync.refs import Key, get_table
from gestore_sync.scope import Role, find_reverse_role
from gestore_sync.subgraph import Subgraph


def iter_linked(graph: LinkGraph, using: str, link: Link, keys: Sequence[Key]) -> Iterable[tuple[Key, Key]]:
    """``(pk, key)`` of the rows of a database that point to one of these keys by ``link``, which is no generic key."""
    if link.kind == TREE:
        adapter = graph.find_adapter(link.model)
        return adapter.children(link.model, using, keys) if adapter else ()
    if len(link.key_paths) > 1:
        return iter_composite_pointing(link.model, using, link.key_paths, keys)
    return iter_pointing(link.model, using, link.key_paths[0], keys)


class Hanging:
    """Finds the rows of the target that hang on others, by the links that a walk at the source knows."""

    def __init__(self, subgraph: Subgraph, target: str) -> None:
        self.graph = subgraph.graph
        self._scope = subgraph.scope
        self.target = target

    def iter_owned(
        self, model: type[Model], keys: list[Key], *, all_kinds: bool = True
    ) -> Iterator[tuple[Link, dict[Key, Key], bool]]:
        """The rows of the target that belong to these, and to which, by the links that the walk followed on the source,
        and whether they are members of many-to-many fields. ``all_kinds``: not only those."""
        for link in self.graph.reverse[model]:
            if find_reverse_role(self.graph, self._scope, link, Role.OWN) is Role.OWN:
                is_member = link in self.graph.owners or link in self.graph.others
                if is_member or all_kinds:
                    yield link, dict(self.iter_pointing(link, keys)), is_member
        for relation in self.graph.relations.get(model, ()) if all_kinds else ():
            if self._scope.get_reverse_role(relation.link, Role.OWN, (relation.name,), belongs=True) is Role.OWN:
                yield relation.link, dict(self.iter_related(relation, keys)), False

    @cached_property
    def _type_ids(self) -> dict[tuple[str, str], int]:
        return get_type_ids(self.target)

    @cached_property
    def _tables(self) -> set[str]:
        return set(connections[self.target].introspection.table_names())

    def iter_pointing(self, link: Link, keys: Sequence[Key]) -> Iterable[tuple[Key, Key]]:
        """``(pk, key)`` of the rows that point to one of these keys by ``link``; none where there is no such table."""
        if get_table(link.model) not in self._tables:
            return ()
        return iter_linked(self.graph, self.target, link, keys)

    def iter_related(self, relation: Relation, keys: Sequence[Key]) -> Iterable[tuple[Key, Key]]:
        """The same by the generic keys of a relation."""
        of_type = find_type_filter(relation.link, [relation.content_type_model], self._type_ids)
        if of_type is None or get_table(relation.link.model) not in self._tables:
            return
        ids, name = get_object_ids(relation.link, keys), relation.link.attnames[1]
        for pk, value in iter_pointing(relation.link.model, self.target, name, list(ids), of_type):
            yield pk, ids[value]

    def find_parts(self, model: type[Model], keys: Sequence[Key]) -> dict[type[Model], dict[Key, Key]]:
        """By table, the rows that are one object with these, and with which of these."""
        parts = {model: {key: key for key in keys}}
        frontier = [(model, list(keys))]
        while frontier:
            table, some = frontier.pop()
            for other, pairs in self._iter_joined(table, some):
                known = parts.setdefault(other, {})
                new = {pk: parts[table][key] for pk, key in pairs if pk not in known}
                known.update(new)
                if new:
                    frontier.append((other, list(new)))
        return parts

    def _iter_joined(
        self, model: type[Model], keys: Sequence[Key]
    ) -> Iterator[tuple[type[Model], Iterable[tuple[Key, Key]]]]:
        """The rows of multi-table parents and children: ``(table, (pk, which of these))``."""
        for link in self.graph.forward[model]:
            if link.parent_link and link.target is not None:
                rows = iter_rows(model, self.target, keys, link.key_paths)
                yield link.target, ((parent, key) for key, parent in rows)
        for link in self.graph.reverse[model]:
            if link.parent_link:
                yield link.model, self.iter_pointing(link, keys)

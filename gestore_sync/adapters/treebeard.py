"""The trees of django-treebeard: materialized paths, nested sets and adjacency lists."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db.models import Max, Model, QuerySet

from gestore_sync.adapters import Adapter, Node, TreeChanges
from gestore_sync.adapters.materialized import PathMending, Paths
from gestore_sync.adapters.nested import NestedSet, NestedSetsAdapter
from gestore_sync.adapters.trees import Siblings, group_children, is_tree, lock, refuse_cycle, update_rows
from gestore_sync.exceptions import UnknownObject
from gestore_sync.reading import get_queryset, iter_pointing, iter_rows, match
from gestore_sync.refs import Key


def refuse_orphan(model: type[Model], pk: Key, using: str) -> UnknownObject:
    """The error to raise where a node's position names a parent that is not there."""
    return UnknownObject(
        f"{model._meta.label}.{pk} has no parent in the database {using!r}, though by its position in the "
        f"tree it has one. {model.__name__}.objects.find_problems() tells more; repair the tree."
    )


class MaterializedPathAdapter(Adapter):
    """Subclasses of MP_Node: the path of a node begins with its parent's."""

    def handles(self, model: type[Model]) -> bool:
        return is_tree(model, "treebeard.mp_tree", "MP_Node", lambda tree: "path")

    def position_fields(self, model: type[Model]) -> tuple[str, ...]:
        return ("path", "depth", "numchild")

    def ordered_by_fields(self, model: type[Any]) -> bool:
        return bool(model.node_order_by)

    def read(self, model: type[Model], using: str, pks: Sequence[Key]) -> Mapping[Key, Node]:
        paths = Paths(model, using)
        found = paths.read(pks)
        parents: dict[str, Key | None] = {"": None}
        parents.update(paths.find({paths.get_parent(path) for path in found.values()} - {""}))
        for pk, path in found.items():
            if paths.get_parent(path) not in parents:
                raise refuse_orphan(model, pk, using)
        return {pk: Node(pk, parents[paths.get_parent(path)], paths.get_step(path)) for pk, path in found.items()}

    def children(self, model: type[Model], using: str, pks: Sequence[Key]) -> Iterable[tuple[Key, Key]]:
        paths = Paths(model, using)
        parents: dict[Key | None, str] = {**paths.read(pks)}
        return ((pk, parent) for pk, _, parent in paths.iter_families(parents))

    def place(self, model: type[Model], using: str, nodes: Sequence[Node]) -> Mapping[Key, tuple[Any, ...]]:
        """New nodes become the last children of their parents; without room there they get a spare path."""
        paths, families = Paths(model, using), group_children(nodes)
        tops = families.keys() - {node.pk for node in nodes}
        above: dict[Key | None, str] = {**paths.read(tops - {None}, locked=True)}
        if None in tops:
            above[None] = ""
        known: dict[Key | None, str | None] = {**above}
        last: dict[Key | None, int] = {}
        for _, path, parent in paths.iter_families(above):
            last[parent] = max(last.get(parent, 0), paths.get_step(path))
        values: dict[Key, tuple[Any, ...]] = {}
        queue = deque(tops)
        while queue:
            parent = queue.popleft()
            base = known[parent]
            for step, node in enumerate(families[parent], start=last.get(parent, 0) + 1):
                found = known[node.pk] = None if base is None else paths.join(base, step)
                path = found or paths.make_spare(len(values), 1)
                depth = len(path) // paths.steplen if found else 1
                values[node.pk] = (path, depth, len(families.get(node.pk, ())))
                if node.pk in families:
                    queue.append(node.pk)
        for node in nodes:
            if node.pk not in values:
                raise refuse_cycle(model, node.pk)
        return values

    def mend(self, model: type[Model], using: str, changes: TreeChanges) -> None:
        """Order the children of parents that got one, rewrite the paths below those that move, and count."""
        PathMending(model, using, changes).run()


# Nested sets


class NestedSetAdapter(NestedSetsAdapter):
    """Subclasses of NS_Node: the parent of a node is the one a level up whose numbers enclose its own."""

    def handles(self, model: type[Model]) -> bool:
        return is_tree(model, "treebeard.ns_tree", "NS_Node", lambda tree: "lft")

    def get_set(self, model: type[Any]) -> NestedSet:
        return NestedSet(("tree_id", "lft", "rgt", "depth"), 1, model.node_order_by or ())

    def read(self, model: type[Model], using: str, pks: Sequence[Key]) -> Mapping[Key, Node]:
        rows = list(iter_rows(model, using, pks, ("tree_id", "lft", "depth")))
        below = [(tree, depth) for _, tree, _, depth in rows if depth > 1]
        above = filter_levels(model, using, {(tree, depth - 1) for tree, depth in below})
        find = make_finder(above.values_list("tree_id", "depth", "lft", "rgt", "pk"))
        nodes = {pk: Node(pk, find(tree, left, depth - 1), (tree, left)) for pk, tree, left, depth in rows}
        for pk, _, _, depth in rows:
            if depth > 1 and nodes[pk].parent is None:
                raise refuse_orphan(model, pk, using)
        return nodes

    def children(self, model: type[Model], using: str, pks: Sequence[Key]) -> Iterator[tuple[Key, Key]]:
        above = get_queryset(model, using).filter(match("pk", pks))
        bounds = list(above.values_list("tree_id", "depth", "lft", "rgt", "pk"))
        find = make_finder(bounds)
        below = filter_levels(model, using, {(tree, depth + 1) for tree, depth, *_ in bounds}).filter(
            lft__gt=min((left for _, _, left, _, _ in bounds), default=0),
            lft__lt=max((right for _, _, _, right, _ in bounds), default=0),
        )
        rows = below.order_by("tree_id", "lft").values_list("pk", "tree_id", "lft", "depth")
        for pk, tree, left, depth in rows.iterator():
            parent = find(tree, left, depth - 1)
            if parent is not None:
                yield pk, parent


def filter_levels(model: type[Model], using: str, levels: Iterable[tuple[int, int]]) -> QuerySet[Any]:
    """The nodes in these trees and at these depths."""
    trees, depths = {tree for tree, _ in levels}, {depth for _, depth in levels}
    rows = get_queryset(model, using).filter(match("tree_id", trees))
    return rows.filter(depth=depths.pop()) if len(depths) == 1 else rows.filter(match("depth", depths))


def make_finder(above: Iterable[tuple[Any, ...]]) -> Callable[[int, int, int], Key | None]:
    """A function of tree, left number and depth: the pk of the one ``above`` that encloses this left number.

    ``above`` are rows of tree, depth, left, right and pk.
    """
    rows = sorted(above, key=lambda row: row[:3])
    starts = [row[:3] for row in rows]

    def find(tree: int, left: int, depth: int) -> Key | None:
        at = bisect_left(starts, (tree, depth, left)) - 1
        if at < 0 or starts[at][:2] != (tree, depth) or rows[at][3] < left:
            return None
        return rows[at][4]

    return find


# Adjacency lists


class AdjacencyListAdapter(Adapter):
    """Subclasses of AL_Node: a foreign key holds the parent, a number the place among the siblings."""

    def handles(self, model: type[Model]) -> bool:
        return is_tree(model, "treebeard.al_tree", "AL_Node", lambda tree: "parent")

    def position_fields(self, model: type[Model]) -> tuple[str, ...]:
        return () if self.ordered_by_fields(model) else ("sib_order",)

    def parent_field(self, model: type[Model]) -> str:
        return "parent"

    def ordered_by_fields(self, model: type[Any]) -> bool:
        return bool(model.node_order_by)

    def read(self, model: type[Model], using: str, pks: Sequence[Key]) -> Mapping[Key, Node]:
        rows = iter_rows(model, using, pks, ("parent_id", *self.position_fields(model)))
        return {pk: Node(pk, parent, *order) for pk, parent, *order in rows}

    def children(self, model: type[Model], using: str, pks: Sequence[Key]) -> Iterable[tuple[Key, Key]]:
        return iter_pointing(model, using, "parent_id", pks)

    def place(self, model: type[Model], using: str, nodes: Sequence[Node]) -> Mapping[Key, tuple[Any, ...]]:
        """New nodes become the last children of their parents."""
        if self.ordered_by_fields(model):
            return {node.pk: () for node in nodes}
        families = group_children(nodes)
        rows = self._filter(model, using, families.keys() - {node.pk for node in nodes})
        last = dict(rows.values_list("parent_id").annotate(last=Max("sib_order")))
        return {
            node.pk: (order,)
            for parent, family in families.items()
            for order, node in enumerate(family, start=(last.get(parent) or 0) + 1)
        }

    def mend(self, model: type[Model], using: str, changes: TreeChanges) -> None:
        """Number the children of each parent that got or moves one."""
        siblings = Siblings(changes)
        families: dict[Key | None, list[Key]] = {parent: [] for parent in siblings.parents.values()}
        if not families or self.ordered_by_fields(model):
            return
        places: dict[Key, int] = {}
        rows = lock(self._filter(model, using, families)).order_by("sib_order", "pk")
        for pk, parent, place in rows.values_list("pk", "parent_id", "sib_order"):
            places[pk] = place
            families[parent].append(pk)
        numbers: dict[Key, int] = {}
        for family in families.values():
            staying = [pk for pk in family if pk not in siblings.parents]
            arranged = siblings.arrange(staying, [pk for pk in family if pk in siblings.parents])
            numbers.update(siblings.assign(arranged, places))
        changed = ((pk, [number]) for pk, number in numbers.items() if number != places[pk])
        update_rows(model, using, ("sib_order",), changed)

    def _filter(self, model: type[Model], using: str, parents: Iterable[Key | None]) -> QuerySet[Any]:
        """The children of these nodes, those of None being the roots."""
        parents = set(parents)
        rows = get_queryset(model, using)
        below = rows.filter(match("parent_id", parents - {None}))
        return below | rows.filter(parent__isnull=True) if None in parents else below

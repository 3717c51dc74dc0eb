"""Nested sets: a node holds the number of its tree, its depth, and two numbers that enclose its descendants'.

Putting one node in place renumbers all that stands to the right of it in the same tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.db.models import Max, Model

from gestore_sync.adapters import Adapter, Node, TreeChanges
from gestore_sync.adapters.trees import Siblings, group_children, lock, rank, refuse_cycle, update_rows
from gestore_sync.reading import get_queryset, iter_rows, match
from gestore_sync.refs import Key

Position = tuple[int, int, int, int]
"""Tree id, left, right, depth."""


@dataclass(frozen=True, slots=True)
class NestedSet:
    """How a model keeps its nested sets.

    ``names`` of the four fields of a :data:`Position`, ``root_depth``, ``order_by``: the fields that sort
    siblings, ``parent``: the path of the parent's key where a field holds it.
    """

    names: tuple[str, str, str, str]
    root_depth: int
    order_by: Sequence[str] = ()
    parent: str | None = None


class NestedSetsAdapter(Adapter):
    """What adapters of nested sets share."""

    def get_set(self, model: type[Model]) -> NestedSet:
        """How ``model`` keeps its nested sets."""
        raise NotImplementedError

    def position_fields(self, model: type[Model]) -> tuple[str, ...]:
        return self.get_set(model).names

    def ordered_by_fields(self, model: type[Model]) -> bool:
        return bool(self.get_set(model).order_by)

    def place(self, model: type[Model], using: str, nodes: Sequence[Node]) -> Mapping[Key, tuple[Any, ...]]:
        """New nodes become the last children of their parents, new roots the last roots."""
        layout = self.get_set(model)
        families = group_children(nodes)
        pks = {node.pk for node in nodes}
        children = {pk: [node.pk for node in family] for pk, family in families.items()}
        values: dict[Key, tuple[Any, ...]] = {}
        roots = get_queryset(model, using).aggregate(last=Max(layout.names[0]))["last"] or 0
        for tree, pk in enumerate(children.pop(None, ()), start=roots + 1):
            values.update(number_nodes([pk], children, tree, 1, layout.root_depth))
        tops = [pk for pk in children if pk not in pks]
        tree_name, _, right_name, depth_name = layout.names
        for pk, tree, right, depth in iter_rows(model, using, tops, (tree_name, right_name, depth_name)):
            values.update(number_nodes(children[pk], children, tree, right, depth + 1))
        for node in nodes:
            if node.pk not in values:
                raise refuse_cycle(model, node.pk)
        return values

    def mend(self, model: type[Model], using: str, changes: TreeChanges) -> None:
        """Renumber the trees that hold a changed node, with their families in the order that is wanted."""
        NestedMending(model, using, self.get_set(model), changes).run()


class NestedMending:
    """One call of :meth:`NestedSetsAdapter.mend`."""

    def __init__(self, model: type[Model], using: str, layout: NestedSet, changes: TreeChanges) -> None:
        self.model = model
        self.using = using
        self.layout = layout
        self.siblings = Siblings(changes)
        self.bereaved = changes.bereaved
        self.positions: dict[Key, Position] = {}
        self.children: dict[Key | None, list[Key]] = {}
        self.tree_name = layout.names[0]
        self.order_now = layout.names[:2]

    def run(self) -> None:
        """Do it."""
        numbers = self._number_roots()
        parents = self.siblings.parents
        touched = {*parents, *parents.values(), *self.bereaved, *numbers} - {None}
        if not touched:
            return
        trees = {tree for _, tree in iter_rows(self.model, self.using, list(touched), (self.tree_name,))}
        self._read(match(self.tree_name, trees))
        self._arrange(match(self.tree_name, trees))
        wanted: dict[Key, Position] = {}
        for root in self.children.get(None, ()):
            tree = numbers.get(root, self.positions[root][0])
            wanted.update(number_nodes([root], self.children, tree, 1, self.layout.root_depth))
        for pk in parents:
            if pk not in wanted:
                raise refuse_cycle(self.model, pk)
        changed = ((pk, at) for pk, at in wanted.items() if at != self.positions[pk])
        update_rows(self.model, self.using, self.layout.names, changed)

    def _number_roots(self) -> dict[Key, int]:
        """The tree ids of those roots that get another one or are new."""
        parents = self.siblings.parents
        if None not in parents.values():
            return {}
        rows = get_queryset(self.model, self.using).filter(**{self.layout.names[3]: self.layout.root_depth})
        trees = dict(lock(rows).order_by(*self.order_now).values_list("pk", self.tree_name))
        staying = {pk: tree for pk, tree in trees.items() if self.siblings.is_child(pk, None)}
        arriving = [pk for pk, parent in parents.items() if parent is None and pk not in staying]
        arranged = self.siblings.arrange(list(staying), arriving)
        if self.layout.order_by:
            ranks = self._rank(match("pk", arranged))
            arranged.sort(key=ranks.__getitem__)
        numbers = self.siblings.assign(arranged, {pk: trees[pk] for pk in arranged if pk in trees})
        return {pk: number for pk, number in numbers.items() if staying.get(pk) != number}

    def _rank(self, condition: Any) -> dict[Key, int]:
        return rank(self.model, self.using, condition, (*self.layout.order_by, *self.order_now))

    def _read(self, condition: Any) -> None:
        """Read the trees, and the children that each node keeps, in their order."""
        rows = lock(get_queryset(self.model, self.using).filter(condition)).order_by(*self.order_now)
        paths = [path for path in (*self.layout.names, self.layout.parent) if path]
        above: list[tuple[Key, int, int]] = []
        for pk, tree, left, right, depth, *parent_key in rows.values_list("pk", *paths):
            self.positions[pk] = tree, left, right, depth
            while above and (above[-1][1] != tree or above[-1][2] < left):
                above.pop()
            parent = above[-1][0] if above else None
            if pk not in self.siblings.placed:
                above.append((pk, tree, right))
            if self.siblings.is_child(pk, parent):
                self.children.setdefault(parent_key[0] if parent_key else parent, []).append(pk)

    def _arrange(self, condition: Any) -> None:
        """Put new and moved nodes among their siblings."""
        there = set(chain.from_iterable(self.children.values()))
        arriving: dict[Key | None, list[Key]] = {}
        for pk, parent in self.siblings.parents.items():
            arriving.setdefault(parent, []).extend([] if pk in there else [pk])
        for parent, pks in arriving.items():
            self.children[parent] = self.siblings.arrange(self.children.get(parent, []), pks)
        if self.layout.order_by:
            ranks = self._rank(condition)
            for family in self.children.values():
                family.sort(key=ranks.__getitem__)


def number_nodes(
    tops: Iterable[Key], children: Mapping[Any, Sequence[Key]], tree: int, left: int, depth: int
) -> Iterator[tuple[Key, Position]]:
    """The positions of these siblings and of all below them, the first with this left number."""
    end = object()
    rest = iter(tops)
    opened: list[tuple[Key, int, Iterator[Key]]] = []
    while True:
        pk = next(rest, end)
        if pk is not end:
            opened.append((pk, left, rest))
            rest = iter(children.get(pk, ()))
        elif opened:
            pk, start, rest = opened.pop()
            yield pk, (tree, start, left, depth + len(opened))
        else:
            return
        left += 1

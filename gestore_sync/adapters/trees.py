"""What the tree adapters share: the order of siblings, places for them, and rows read and written in bulk."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.db import connections
from django.db.models import Model, QuerySet

from gestore_sync.adapters import Node, TreeChanges
from gestore_sync.exceptions import WriteFailed
from gestore_sync.reading import get_queryset
from gestore_sync.refs import Key
from gestore_sync.writers import get_writer


def is_tree(model: type[Model], module: str, base: str, get_field_name: Callable[[Any], str]) -> bool:
    """Whether ``model`` is a subclass of ``module.base`` with the positions in its own table.

    The module is not imported: without it no model can be a subclass. A multi-table child has its positions
    in the table of its parent. ``get_field_name(model)`` is the name of one of the position fields.
    """
    kind = getattr(sys.modules.get(module), base, None)
    if kind is None or not issubclass(model, kind):
        return False
    return bool(model._meta.get_field(get_field_name(model)).model is model._meta.concrete_model)


def lock(rows: QuerySet[Any]) -> QuerySet[Any]:
    """``rows``, locked against other writers until the transaction ends (if there is one, and locks)."""
    connection = connections[rows.db]
    if not connection.in_atomic_block:
        return rows
    return rows.select_for_update(no_key=connection.features.has_select_for_no_key_update)


def update_rows(
    model: type[Model], using: str, names: Sequence[str], rows: Iterable[tuple[Key, Sequence[Any]]]
) -> None:
    """Write the values of the fields ``names`` into rows, given as ``(pk, values)``."""
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    changes = list(rows)
    if changes:
        get_writer(using).update(model, fields, changes)


def rank(model: type[Model], using: str, condition: Any, fields: Sequence[str]) -> dict[Key, int]:
    """The place of each row that meets ``condition`` when the database sorts them by ``fields``."""
    rows = get_queryset(model, using).filter(condition).order_by(*fields)
    return {pk: place for place, pk in enumerate(rows.values_list("pk", flat=True))}


def sort_nodes(nodes: Iterable[Node]) -> list[Node]:
    """``nodes`` by their order on the source; those without one last."""
    return sorted(nodes, key=lambda node: (node.order is None, node.order))


def group_children(nodes: Iterable[Node]) -> dict[Key | None, list[Node]]:
    """The nodes of each parent, sorted."""
    families: dict[Key | None, list[Node]] = {}
    for node in sort_nodes(nodes):
        families.setdefault(node.parent, []).append(node)
    return families


def refuse_cycle(model: type[Model], pk: Key) -> WriteFailed:
    """The error to raise where a node would become its own ancestor."""
    return WriteFailed(
        f"{model._meta.label}.{pk} would stand below itself in its tree. Repair the parents on the source."
    )


class Siblings:
    """Brings the children of one parent into the order that a run wants, moving as few as possible."""

    def __init__(self, changes: TreeChanges) -> None:
        self.parents: dict[Key, Key | None] = {n.pk: n.parent for n in (*changes.moved, *changes.placed)}
        self.placed = {node.pk for node in changes.placed}
        self._orders = {n.pk: n.order for n in (*changes.moved, *changes.placed)} | changes.order

    def is_child(self, pk: Key, parent: Key | None) -> bool:
        """Whether ``pk``, which stands below ``parent`` now, shall stay there."""
        return pk not in self.placed and (pk not in self.parents or self.parents[pk] == parent)

    def arrange(self, staying: Sequence[Key], arriving: Iterable[Key]) -> list[Key]:
        """All siblings in order: those of the run as on the source, those that only the target has as now.

        ``staying`` are in the order that they have now. What must move comes right before the next sibling of
        the run that need not, or to the end.
        """
        orders = {pk: self._orders[pk] for pk in staying if self._orders.get(pk) is not None}
        weights = [1 if pk in self.parents else len(orders) + 1 for pk in orders]
        known = list(orders)
        kept = {known[index] for index in find_heaviest_chain(list(orders.values()), weights)}
        loose = [Node(pk, None, self._orders.get(pk)) for pk in (*known, *arriving) if pk not in kept]
        queue = deque(sort_nodes(loose))
        arranged = []
        for pk in staying:
            while pk in kept and queue and queue[0].order is not None and queue[0].order < orders[pk]:
                arranged.append(queue.popleft().pk)
            if pk in kept or pk not in orders:
                arranged.append(pk)
        return arranged + [node.pk for node in queue]

    def assign(self, arranged: Sequence[Key], places: Mapping[Key, int], high: int | None = None) -> dict[Key, int]:
        """Rising numbers from 1 to ``high`` for siblings in order.

        As many as possible keep the one that they have in ``places``; siblings that only the target has are
        the last to lose theirs. Raises OverflowError with the first sibling for which there is no number.
        """
        low = min([1, *(places[pk] for pk in arranged if pk in places)])
        last = None if high is None else high - len(arranged) + 1
        if last is not None and last < low:
            raise OverflowError(arranged[last - low])
        slack = {pk: places[pk] - index for index, pk in enumerate(arranged) if pk in places}
        able = [pk for pk, free in slack.items() if free >= low and (last is None or free <= last)]
        weights = [self._weigh(pk, len(arranged) + 1) for pk in able]
        kept = {able[index] for index in find_heaviest_chain([slack[pk] for pk in able], weights)}
        numbers: dict[Key, int] = {}
        number = low - 1
        for pk in arranged:
            number = places[pk] if pk in kept else number + 1
            numbers[pk] = number
        return numbers

    def _weigh(self, pk: Key, base: int) -> int:
        if pk in self.placed:
            return 1
        return base if pk in self._orders else base * base


def find_heaviest_chain(values: Sequence[Any], weights: Sequence[int]) -> set[int]:
    """The indices of a subsequence whose values never fall and whose weights add up to the most."""
    ends: list[Any] = []  # rising values, and for each the heaviest chain that ends with it or a lower one
    chains: list[tuple[int, int]] = []  # total weight, index of the last member
    before: list[int | None] = []
    for index, (value, weight) in enumerate(zip(values, weights, strict=True)):
        at = bisect_right(ends, value)
        total, previous = chains[at - 1] if at else (0, None)
        before.append(previous)
        total += weight
        beaten = at
        while beaten < len(chains) and chains[beaten][0] <= total:
            beaten += 1
        ends[at:beaten], chains[at:beaten] = [value], [(total, index)]
    chain: set[int] = set()
    link = chains[-1][1] if chains else None
    while link is not None:
        chain.add(link)
        link = before[link]
    return chain

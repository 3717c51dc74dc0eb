"""What a run does to trees on the target, gathered for their adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from django.db.models import Model

from gestore_sync.adapters import Adapter, Node, TreeChanges
from gestore_sync.layouts import TREE_PARENT, Layout
from gestore_sync.reading import get_queryset
from gestore_sync.refs import UNKNOWN, Key
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts


class Trees:
    """The trees of one run. Models that are no trees are passed over.

    ``is_restore``: source and target are the same database at two times. ``staying``: nodes of the source that keep the
    place that they have on the target.
    """

    def __init__(
        self, subgraph: Subgraph, target: str, counterparts: Counterparts, *, is_restore: bool = False
    ) -> None:
        self.staying: Mapping[type[Model], Set[Key]] = {}
        self._is_restore = is_restore
        self._subgraph = subgraph
        self._target = target
        self._counterparts = counterparts
        self._changes: dict[type[Model], TreeChanges] = {}
        self._positions: dict[type[Model], Mapping[Key, tuple[Any, ...]]] = {}

    def find_adapter(self, model: type[Model]) -> Adapter | None:
        """The adapter of the model, or None."""
        return self._subgraph.graph.find_adapter(model)

    def _get_changes(self, model: type[Model], adapter: Adapter) -> TreeChanges:
        if model not in self._changes:
            staying = self.staying.get(model, ())
            owned = [
                key
                for key in self._subgraph.iter_keys(model, Role.OWN)
                if key not in staying and self._counterparts.get(model, key) is not UNKNOWN
            ]
            mine = self._make_nodes(model, adapter, owned)
            theirs = adapter.read(model, self._target, [node.pk for node in mine])
            # What the target has moved elsewhere has no place among its new siblings that the source could tell.
            order = {
                node.pk: node.order for node in mine if node.pk in theirs and theirs[node.pk].parent == node.parent
            }
            self._changes[model] = TreeChanges(order=order)
        return self._changes[model]

    def _make_nodes(self, model: type[Model], adapter: Adapter, keys: Sequence[Key]) -> list[Node]:
        """Nodes of the source as they stand on the target."""
        return [
            Node(
                self._counterparts.get(model, node.pk),
                None if node.parent is None else self._counterparts.get(model, node.parent),
                (node.order, 0) if self._is_restore and node.order is not None else node.order,
            )
            for node in adapter.read(model, self._subgraph.source, keys).values()
        ]

    def place(self, model: type[Model], keys: Sequence[Key]) -> None:
        """Find places for the new nodes with these keys of the source, whose keys on the target are known."""
        adapter = self.find_adapter(model)
        if adapter is not None and keys:
            nodes = self._make_nodes(model, adapter, keys)
            self._positions[model] = adapter.place(model, self._target, nodes)
            changes = self._get_changes(model, adapter)
            changes.placed += nodes
            changes.order.update((node.pk, node.order) for node in nodes)
            if self._is_restore:
                self._add_siblings(model, adapter, changes)

    def _add_siblings(self, model: type[Model], adapter: Adapter, changes: TreeChanges) -> None:
        """Let nodes come back to where they stood: before siblings that stand there, or further on, by now."""
        parents = {node.parent for node in changes.placed} - {node.pk for node in changes.placed}
        siblings = [child for child, _ in adapter.children(model, self._target, list(parents - {None}))]
        siblings += self._find_roots(model, adapter) if None in parents else []
        for pk, node in adapter.read(model, self._target, siblings).items():
            if node.order is not None:
                changes.order.setdefault(pk, (node.order, 1))

    def _find_roots(self, model: type[Model], adapter: Adapter) -> list[Key]:
        parent = adapter.parent_field(model)
        if parent is None and "depth" not in adapter.position_fields(model):
            return []
        condition: dict[str, Any] = {"depth": 1} if parent is None else {f"{parent}__isnull": True}
        return list(get_queryset(model, self._target).filter(**condition).values_list("pk", flat=True))

    def get_positions(self, model: type[Model], target: Key) -> tuple[Any, ...]:
        """The values of the position fields of a new node."""
        return self._positions.get(model, {}).get(target, ())

    def note_changed(self, layout: Layout, columns: Iterable[int], keys: Sequence[Key]) -> None:
        """Nodes of the source whose columns are written on the target: they may move."""
        adapter = self.find_adapter(layout.model)
        if adapter is None:
            return
        names = {layout.names[number] for number in columns}
        if names & {TREE_PARENT, adapter.parent_field(layout.model)} or adapter.ordered_by_fields(layout.model):
            self.note_moved(layout.model, keys)

    def note_moved(self, model: type[Model], keys: Sequence[Key]) -> None:
        """Nodes of the source that get another place."""
        adapter = self.find_adapter(model)
        if adapter is not None:
            self._get_changes(model, adapter).moved += self._make_nodes(model, adapter, keys)

    def note_deleted(self, model: type[Model], targets: Sequence[Key]) -> None:
        """Nodes of the target that will be deleted; they are still there."""
        adapter = self.find_adapter(model)
        if adapter is not None:
            nodes = adapter.read(model, self._target, targets)
            self._get_changes(model, adapter).bereaved += [node.parent for node in nodes.values()]

    def mend(self) -> None:
        """Bring all trees that were touched into order."""
        for model, changes in self._changes.items():
            adapter = self.find_adapter(model)
            if adapter is not None:
                adapter.mend(model, self._target, changes)

"""Trees of django-mptt: a foreign key names the parent, nested sets repeat that and order the siblings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Model

from gestore_sync.adapters import Node
from gestore_sync.adapters.nested import NestedSet, NestedSetsAdapter
from gestore_sync.adapters.trees import is_tree
from gestore_sync.reading import iter_pointing, iter_rows
from gestore_sync.refs import Key


class MPTTAdapter(NestedSetsAdapter):
    """Models of django-mptt, with any names of the tree's attributes."""

    def handles(self, model: type[Model]) -> bool:
        return is_tree(model, "mptt.models", "MPTTModel", lambda tree: tree._mptt_meta.left_attr)

    def get_set(self, model: type[Any]) -> NestedSet:
        meta = model._mptt_meta
        return NestedSet(
            names=(meta.tree_id_attr, meta.left_attr, meta.right_attr, meta.level_attr),
            root_depth=0,
            order_by=meta.order_insertion_by,
            parent=self._get_parent_path(model),
        )

    def parent_field(self, model: type[Any]) -> str:
        return str(model._mptt_meta.parent_attr)

    def _get_parent_path(self, model: type[Model]) -> str:
        field: Any = model._meta.get_field(self.parent_field(model))
        return str(field.attname)

    def read(self, model: type[Model], using: str, pks: Sequence[Key]) -> Mapping[Key, Node]:
        layout = self.get_set(model)
        rows = iter_rows(model, using, pks, (self._get_parent_path(model), *layout.names[:2]))
        return {pk: Node(pk, parent, (tree, left)) for pk, parent, tree, left in rows}

    def children(self, model: type[Model], using: str, pks: Sequence[Key]) -> Iterable[tuple[Key, Key]]:
        return iter_pointing(model, using, self._get_parent_path(model), pks)

"""The libraries' own way to grow trees, to look at them, and to tell what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import router, transaction
from django.db.models import Model
from django.test import override_settings

from gestore_sync.adapters import Adapter, find_adapter, load_adapters


class OneDatabase:
    """A router that sends all to one database: it is the router that the libraries ask where to work."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return self.alias

    db_for_write = db_for_read


@contextmanager
def working_on(alias: str) -> Iterator[None]:
    """Let the libraries work on this database."""
    with override_settings(DATABASE_ROUTERS=[OneDatabase(alias)]):
        yield


def get_adapter(model: type[Model]) -> Adapter:
    adapter = find_adapter(load_adapters(), model)
    assert adapter is not None
    return adapter


def grow(model: Any, code: str, parent: Any = None, **values: Any) -> Any:
    """Add the last child of ``parent``, or a root, node by node, as an application would."""
    if hasattr(model, "_mptt_meta"):
        values[model._mptt_meta.parent_attr] = parent and model.objects.get(pk=parent.pk)
        return model.objects.create(code=code, **values)
    if parent is None:
        return model.objects.add_root({"code": code, **values})
    return model.objects.add_child(model.objects.get(pk=parent.pk), {"code": code, **values})


def get_families(model: Any) -> dict[str | None, list[str]]:
    """The codes of the children of each node, in order, by the parent's code."""
    is_mptt = hasattr(model, "_mptt_meta")
    families: dict[str | None, list[str]] = {}
    queue = [(None, list(model.objects.root_nodes() if is_mptt else model.objects.get_root_nodes()))]
    for code, children in queue:
        families[code] = [child.code for child in children]
        for child in children:
            below = child.get_children() if is_mptt else model.objects.get_children(child)
            queue.append((child.code, list(below)))
    return {code: children for code, children in families.items() if children}


def get_positions(model: type[Model]) -> dict[str, tuple[Any, ...]]:
    """All that the position fields of each node hold, by code."""
    names = get_adapter(model).position_fields(model)
    return {code: tuple(values) for code, *values in model._base_manager.values_list("code", *names)}


def find_problems(model: Any) -> list[Any]:
    """What the library finds wrong with its trees."""
    if hasattr(model, "_mptt_meta"):
        before = get_positions(model)
        tree = model._mptt_meta.tree_id_attr
        trees = sorted(model.objects.root_nodes().values_list(tree, flat=True))
        assert len(set(trees)) == len(trees)
        with transaction.atomic(using=router.db_for_write(model)):
            for number in trees:
                model.objects.partial_rebuild(number)
            after = get_positions(model)
            transaction.set_rollback(True, using=router.db_for_write(model))
        return [(code, before[code], after[code]) for code in before if before[code] != after[code]]
    if not hasattr(model.objects, "find_problems"):
        return []
    return [problem for problems in model.objects.find_problems() for problem in problems]


def plant(model: Any, *codes: str) -> dict[str, Any]:
    """Grow nodes named after their place: "a", "a.b" below it, "a.b.c" below that."""
    nodes: dict[str, Any] = {}
    for code in codes:
        parent = code.rpartition(".")[0]
        nodes[code] = grow(model, code, nodes.get(parent), name=code)
    return nodes

"""Third-party kinds of model whose rows need more than their fields say: trees whose position is a column.

An adapter does three things for such a model: it names links that no field shows (a treebeard node's children),
gives position columns their value on the target, and mends what the target's neighbours count (``numchild``).
``GESTORE_SYNC["ADAPTERS"]`` lists dotted paths of further :class:`Adapter` classes, asked before the shipped ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model
from django.utils.module_loading import import_string

from gestore_sync.conf import get_option
from gestore_sync.exceptions import WrongSetting

SHIPPED = (
    "gestore_sync.adapters.treebeard.MaterializedPathAdapter",
    "gestore_sync.adapters.treebeard.NestedSetAdapter",
    "gestore_sync.adapters.treebeard.AdjacencyListAdapter",
    "gestore_sync.adapters.mptt.MPTTAdapter",
)


@dataclass(frozen=True, slots=True)
class Node:
    """Where a tree node stands, or shall stand: its pk, its parent's pk (None: a root) and a value that sorts it
    among its siblings. All pks are of one database; ``order`` may come from the other one."""

    pk: Any
    parent: Any
    order: Any = None


@dataclass(slots=True)
class TreeChanges:
    """What a run did to the nodes of one tree model on the target; all pks are the target's.

    ``placed``: nodes that were inserted; ``moved``: nodes that get another parent or another place among their
    siblings; ``bereaved``: the pks of parents that lost a child by deletion, None for a deleted root;
    ``order``: for every node of the run (placed, moved or left where it is) the value that sorts it among its
    siblings on the source.
    """

    placed: list[Node] = field(default_factory=list)
    moved: list[Node] = field(default_factory=list)
    bereaved: list[Any] = field(default_factory=list)
    order: dict[Any, Any] = field(default_factory=dict)


class Adapter(ABC):
    """The base of all adapters. One instance serves one run; it may cache nothing between runs."""

    @abstractmethod
    def handles(self, model: type[Model]) -> bool:
        """Whether ``model`` (concrete) is of this adapter's kind. Must not import the third-party package unless
        it is installed as an app."""

    @abstractmethod
    def position_fields(self, model: type[Model]) -> tuple[str, ...]:
        """Names of the fields whose values are positions: never compared, never an identity, never copied."""

    def parent_field(self, model: type[Model]) -> str | None:
        """The name of the foreign key to the parent, or None where no field shows the parent."""
        return None

    @abstractmethod
    def read(self, model: type[Model], using: str, pks: Sequence[Any]) -> Mapping[Any, Node]:
        """The nodes with these pks, in a number of queries that does not grow with the nodes (up to 50,000)."""

    @abstractmethod
    def children(self, model: type[Model], using: str, pks: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
        """``(child pk, parent pk)`` of all direct children of these nodes, in bulk."""

    def ordered_by_fields(self, model: type[Model]) -> bool:
        """Whether the place among siblings follows from other fields, so that it is not compared."""
        return False

    @abstractmethod
    def place(self, model: type[Model], using: str, nodes: Sequence[Node]) -> Mapping[Any, tuple[Any, ...]]:
        """Values of :meth:`position_fields`, by pk, with which these new nodes can be inserted. Only reads.

        ``nodes`` hold the pks that the rows will have; a parent is among them or exists on ``using``.
        The values must not clash with rows that are there; :meth:`mend` may change them afterwards.
        """

    @abstractmethod
    def mend(self, model: type[Model], using: str, changes: TreeChanges) -> None:
        """Bring every tree that ``changes`` touch into order, in the open transaction, after all rows."""


def load_adapters() -> tuple[Adapter, ...]:
    """A fresh instance of every adapter: those of ``GESTORE_SYNC["ADAPTERS"]`` first, then the shipped ones.

    Raises :class:`WrongSetting` for a path that leads to no adapter.
    """
    return tuple(load_adapter(path) for path in (*get_option("ADAPTERS"), *SHIPPED))


def load_adapter(path: str) -> Adapter:
    """An instance of the adapter class at a dotted path. Raises :class:`WrongSetting`."""
    try:
        found = import_string(path)
    except ImportError as error:
        raise WrongSetting(f'GESTORE_SYNC["ADAPTERS"] names {path!r}, which cannot be imported: {error}.') from error
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        raise WrongSetting(f'GESTORE_SYNC["ADAPTERS"] names {path!r}, which is no subclass of Adapter.')
    adapter: Adapter = found()
    return adapter


def find_adapter(adapters: Iterable[Adapter], model: type[Model]) -> Adapter | None:
    """The first adapter that handles ``model``, or None."""
    return next((adapter for adapter in adapters if adapter.handles(model)), None)

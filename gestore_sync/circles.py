"""Rows that a plan would put below themselves: the source moved one below another, and the target that below the first.

Each of the two moves is right alone, and field by field no side changes what the other one did. Nobody decides then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.db.models import Model

from gestore_sync.digests import find_changed
from gestore_sync.exceptions import PlanError
from gestore_sync.layouts import Layout
from gestore_sync.links import TREE, Link
from gestore_sync.mappings import MappingStore
from gestore_sync.plan import Plan, Update
from gestore_sync.reading import iter_rows
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts

Node = tuple[bool, Key]
"""A row that the target will have: whether it is there already, and its key, there or, of a new one, at the source."""

Found = tuple[Ref, str, dict[str, list[Any]]]
"""An object, what is wrong with it, and its link on both sides."""


def find_circles(
    plan: Plan,
    subgraph: Subgraph,
    target: str,
    counterparts: Counterparts,
    get_layout: Callable[[type[Model]], Layout],
    store: MappingStore | None = None,
) -> Iterator[Found]:
    """The objects whose links to their own model would make a circle that no side has.

    With ``store`` only where the target has moved a row of the circle, too: what the source moved, and did not send,
    comes with a later push.
    """
    for model in plan.models:
        if plan.report.updated[model._meta.label]:
            layout = get_layout(model)
            for number, link in iter_self_links(layout):
                yield from Circles(plan, subgraph.source, target, counterparts, layout, number, link, store).find()


def refuse_circles(found: Iterable[Found]) -> None:
    """Raise :class:`PlanError` where what a person left of a plan makes a circle."""
    for ref, _, fields in found:
        ((name, (above, _)),) = fields.items()
        raise PlanError(
            f"{ref} would stand below itself: its {name} is to be {Ref(ref.model, above)} of the target, and the line "
            f"that moves that, or what it is below, was removed from the plan. Put that back, or remove the line of "
            f"{ref} too. Nothing was written."
        )


def iter_self_links(layout: Layout) -> Iterator[tuple[int, Link]]:
    """The links by which rows of a model stand below others, with the numbers of their columns."""
    for number, name in enumerate(layout.names):
        link = layout.get_link(name)
        if link is None or link.target is not layout.model or link.extension:
            continue
        if link.kind == TREE or len(link.key_paths) == 1:
            yield number, link


class Circles:
    """The rows that change their link, and what stands above them after the run."""

    def __init__(
        self,
        plan: Plan,
        source: str,
        target: str,
        counterparts: Counterparts,
        layout: Layout,
        number: int,
        link: Link,
        store: MappingStore | None,
    ) -> None:
        self._source = source
        self._target = target
        self._counterparts = counterparts
        self._layout = layout
        self._number = number
        self._link = link
        self._store = store
        self._name = layout.names[number]
        self._keys: dict[Node, Key] = {}
        self._above: dict[Node, Node | None] = {}
        for operation in plan.changes:
            if isinstance(operation, Update) and operation.label == layout.model._meta.label:
                for change in operation.rows:
                    if number in change.columns:
                        self._keys[True, change.target] = change.row[0]

    def find(self) -> Iterator[Found]:
        """The objects that would stand below themselves, one of each circle."""
        mine = self._read(self._source, self._keys.values())
        self._above = {node: self._find_node(mine.get(key)) for node, key in self._keys.items()}
        self._climb()
        seen: set[Node] = set()
        for start in self._keys:
            path: list[Node] = []
            node: Node | None = start
            while node is not None and node not in seen:
                seen.add(node)
                path.append(node)
                node = self._above.get(node)
            if node in path:
                circle = path[path.index(node) :]
                if not self._is_at_source(circle) and not self._is_as_left(circle):
                    yield self._describe(circle)

    def _climb(self) -> None:
        """Read what stands above, generation by generation."""
        rising = {node for node in self._above.values() if node is not None} - self._above.keys()
        while rising:
            there = self._read(self._target, [key for is_there, key in rising if is_there])
            new = self._read(self._source, [key for is_there, key in rising if not is_there])
            for is_there, key in rising:
                above = there.get(key) if is_there else new.get(key)
                if is_there:
                    self._above[True, key] = None if above is None else (True, above)
                else:
                    self._above[False, key] = self._find_node(above)
            rising = {above for node in rising if (above := self._above[node]) is not None} - self._above.keys()

    def _read(self, using: str, keys: Iterable[Key]) -> Mapping[Key, Key | None]:
        """What these rows of a database stand below."""
        model, keys = self._layout.model, list(keys)
        if self._link.kind == TREE and self._layout.adapter is not None:
            return {key: node.parent for key, node in self._layout.adapter.read(model, using, keys).items()}
        return dict(iter_rows(model, using, keys, self._link.key_paths))

    def _find_node(self, key: Key | None) -> Node | None:
        """What an object of the source is on the target."""
        found = UNKNOWN if key is None else self._counterparts.get(self._layout.model, key)
        if found is UNKNOWN:
            return None
        return (False, key) if found is NEW else (True, found)

    def _is_at_source(self, circle: list[Node]) -> bool:
        """Whether the source has this very circle: it is wanted there then."""
        staying = {node[1] for node in circle if node[0] and node not in self._keys}
        pairs = self._counterparts.maps[self._layout.model].items() if staying else ()
        keys = {found: key for key, found in pairs if found in staying}
        mine = self._read(self._source, keys.values())
        return keys.keys() == staying and all(
            self._find_node(mine.get(key)) == self._above[True, found] for found, key in keys.items()
        )

    def _is_as_left(self, circle: list[Node]) -> bool:
        """Whether the target has moved no row of the circle since we were last in step with it."""
        staying = {
            key: self._above[True, key] for is_there, key in circle if is_there and (True, key) not in self._keys
        }
        if self._store is None:
            return False
        sent = self._store.find_sources(self._layout.model, staying)
        values = {key: self._layout.normalize(self._number, above and above[1]) for key, above in staying.items()}
        return all(
            any(find_changed(one.digests, [self._name], [value]) == set() for one in sent.get(key, ()))
            for key, value in values.items()
        )

    def _describe(self, circle: list[Node]) -> Found:
        """The first row of a circle that moves, and why it must not."""
        model = self._layout.model
        start = next(node for node in circle if node in self._keys)
        at = circle.index(start)
        others = [*circle[at + 1 :], *circle[:at]]
        names = [f"{Ref(model, key)}{' of the target' if is_there else ''}" for is_there, key in others]
        ref = Ref(model, self._keys[start])
        way = f", by way of {names[1]}" if names[1:] else ""
        reason = (
            f"{ref} would stand below itself by {self._link}: the source moved it below {names[0]}, and the target "
            f"that below it{way}. Move one of them back on its side, or let the source decide (--on-conflict local)."
        )
        theirs = self._read(self._target, [start[1]]).get(start[1])
        above = self._above[start]
        return ref, reason, {self._name: [above[1] if above is not None else None, theirs]}

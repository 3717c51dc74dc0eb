"""The operations of a plan one by one, as a person reads them: what, with which object, why, and both sides' values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

from django.db.models import Model

from gestore_sync.adapters import Node
from gestore_sync.batches import iter_batches
from gestore_sync.digests import make_digest
from gestore_sync.excerpts import dump, dump_row, find_natural_keys, show, show_value
from gestore_sync.layouts import Layout
from gestore_sync.plan import Change, Create, Delete, Detach, Given, Keep, Note, Update
from gestore_sync.planner import Planner
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref, dump_pk, show_key
from gestore_sync.subgraph import TRAVELLING
from gestore_sync.translation import LOST

CREATE, UPDATE, PLACE, NOTE, DETACH, DELETE = "create", "update", "place", "note", "set link", "delete"
KEEP = "keep values"
KINDS = (CREATE, UPDATE, PLACE, NOTE, KEEP, DETACH, DELETE)
MEMBER_WORDS = {CREATE: "add member", DELETE: "remove member"}
"""What is said of rows of automatic many-to-many tables."""

Pair = list[Any]


class Line(NamedTuple):
    """One operation. ``key`` is the object's at the source, ``target`` the row's on the target, each where it is known.
    ``name``: the field of a link that is set. ``document``: what is written of it."""

    kind: str
    model: type[Model]
    key: Key | None
    target: Key | None
    name: str
    document: dict[str, Any]

    @property
    def code(self) -> int:
        """The number that stands for the line."""
        return make_code(self.document)


def make_code(document: Mapping[str, Any]) -> int:
    """The number of 64 bits that stands for what a line says, however it is laid out."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


class Lines:
    """All operations of a plan, in the order in which they are applied.

    Rows that only have to give up values for others for a time are no operations of their own.
    """

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._subgraph = planner.subgraph
        self._counterparts = planner.counterparts
        self._models = {model._meta.label: model for model in planner.subgraph.graph.models}
        self._neighbours: dict[type[Model], dict[Key, Pair]] = {}

    def __iter__(self) -> Iterator[Line]:
        makers: dict[type[Any], Callable[[type[Model], Any], Iterator[Line]]] = {
            Create: self._iter_created,
            Update: self._iter_updated,
            Note: self._iter_noted,
            Keep: self._iter_kept,
            Detach: self._iter_detached,
            Delete: self._iter_deleted,
        }
        plan = self._planner.plan
        for spool in (plan.creates, plan.changes, plan.removals):
            for operation in spool:
                yield from makers[type(operation)](self._models[operation.label], operation)
        for model, keys in plan.places.items():
            yield from self._iter_placed(model, sorted(keys, key=dump_pk))

    def _make(
        self,
        kind: str,
        ref: Ref,
        target: Key | None,
        *,
        natural_keys: Mapping[Key, Any],
        reason: str,
        fields: dict[str, Pair],
        content: Pair,
        name: str = "",
        known: bool = True,
    ) -> Line:
        """``known``: the object has a key at the source; else ``ref`` is the row of the target."""
        model, pk = ref
        key = pk if known else None
        document = {
            "do": MEMBER_WORDS.get(kind, kind) if model._meta.auto_created else kind,
            "model": model._meta.label,
            "pk": None if key is None else show_key(key),
            "target": None if target is None else show_key(target),
            "natural_key": natural_keys.get(pk),
            "reason": reason,
            "fields": fields,
            "content": make_digest([kind, dump_pk(pk), target and dump_pk(target), *content]).hex(),
        }
        return Line(kind, model, key, target, name, document)

    def _name(self, model: type[Model], keys: Sequence[Key]) -> dict[Key, Any]:
        """The natural keys of objects of the source."""
        return find_natural_keys(model, self._subgraph.graph, self._planner.source, keys)

    # What is written

    def _iter_created(self, model: type[Model], operation: Create) -> Iterator[Line]:
        layout = self._planner.get_layout(model)
        natural_keys = self._name(model, [row[0] for row in operation.rows])
        for row in operation.rows:
            mine = self._translate(layout, row)
            yield self._make(
                CREATE,
                Ref(model, row[0]),
                None,
                natural_keys=natural_keys,
                reason="new",
                fields={name: [self._show(layout, row, at, mine[at]), None] for at, name in enumerate(layout.names)},
                content=[*dump_row(layout, row), *dump(layout, mine), *self._find_place(model, row[0])],
            )

    def _iter_updated(self, model: type[Model], operation: Update) -> Iterator[Line]:
        layout = self._planner.get_layout(model)
        natural_keys = self._name(model, [made.row[0] for made in operation.rows])
        found = layout.read(self._planner.target, [made.target for made in operation.rows], extras=False)
        theirs = {row[0]: layout.get_values(row) for row in found}
        for made in operation.rows:
            yield self._make_updated(layout, made, theirs[made.target], natural_keys)

    def _make_updated(
        self, layout: Layout, made: Change, theirs: Sequence[Any], natural_keys: Mapping[Key, Any]
    ) -> Line:
        model, key = layout.model, made.row[0]
        mine = self._translate(layout, made.row)
        content = [*dump_row(layout, made.row), *dump(layout, mine), *dump(layout, theirs)]
        return self._make(
            UPDATE,
            Ref(model, key),
            made.target,
            natural_keys=natural_keys,
            reason=self._counterparts.get_way(model, key),
            fields={
                layout.names[at]: [self._show(layout, made.row, at, mine[at]), show_value(layout, at, theirs[at])]
                for at in made.columns
            },
            content=[*content, list(made.columns), made.digests, made.created, *self._find_place(model, key)],
        )

    def _iter_noted(self, model: type[Model], operation: Note) -> Iterator[Line]:
        natural_keys = self._name(model, [note.key for note in operation.rows])
        for note in operation.rows:
            ref = Ref(model, note.key)
            way = self._counterparts.get_way(*ref)
            content = [note.created, note.digests]
            yield self._make(NOTE, ref, note.target, natural_keys=natural_keys, reason=way, fields={}, content=content)

    def _iter_kept(self, model: type[Model], operation: Keep) -> Iterator[Line]:
        """Values that lose a conflict, which are kept for a person to look at."""
        layout = self._planner.get_layout(model)
        natural_keys = self._name(model, [given.row[0] for given in operation.rows])
        for given in operation.rows:
            mine = self._translate(layout, given.row)
            yield self._make(
                KEEP,
                Ref(model, given.row[0]),
                given.target,
                natural_keys=natural_keys,
                reason=describe_given(layout, given),
                fields={
                    layout.names[at]: [self._show(layout, given.row, at, mine[at]), json.loads(theirs)]
                    for at, (theirs, *_) in given.columns.items()
                },
                content=[*dump_row(layout, given.row), [[at, *said] for at, said in given.columns.items()]],
            )

    def _iter_placed(self, model: type[Model], keys: Sequence[Key]) -> Iterator[Line]:
        natural_keys = self._name(model, keys)
        for key in keys:
            before = self._find_place(model, key)
            yield self._make(
                PLACE,
                Ref(model, key),
                self._counterparts.get(model, key),
                natural_keys=natural_keys,
                reason=self._counterparts.get_way(model, key),
                fields={"after": list(before)},
                content=before,
            )

    # What goes

    def _iter_detached(self, model: type[Model], operation: Detach) -> Iterator[Line]:
        layout = self._planner.get_layout(model)
        for row, natural_keys in self._iter_there(layout, operation.keys):
            at = layout.names.index(operation.name) if operation.name in layout.names else None
            current = None if at is None else show_value(layout, at, layout.get_values(row)[at])
            yield self._make(
                DETACH,
                Ref(model, row[0]),
                row[0],
                natural_keys=natural_keys,
                reason="what it points to is deleted",
                fields={operation.name: [show(operation.value), current]},
                content=[operation.name, show(operation.value), *dump(layout, layout.get_values(row))],
                name=operation.name,
                known=False,
            )

    def _iter_deleted(self, model: type[Model], operation: Delete) -> Iterator[Line]:
        layout = self._planner.get_layout(model)
        for row, natural_keys in self._iter_there(layout, operation.keys):
            theirs = layout.get_values(row)
            yield self._make(
                DELETE,
                Ref(model, row[0]),
                row[0],
                natural_keys=natural_keys,
                reason="the source no longer has it",
                fields={name: [None, show_value(layout, at, theirs[at])] for at, name in enumerate(layout.names)},
                content=dump(layout, theirs),
                known=False,
            )

    def _iter_there(self, layout: Layout, keys: Sequence[Key]) -> Iterator[tuple[tuple[Any, ...], dict[Key, Any]]]:
        """Rows of the target in the order of ``keys``, each with the natural keys of its batch."""
        for chunk in iter_batches(layout.model, self._planner.target, keys):
            natural_keys = find_natural_keys(layout.model, self._subgraph.graph, self._planner.target, chunk)
            rows = {row[0]: row for row in layout.read(self._planner.target, chunk, extras=False)}
            yield from ((rows[key], natural_keys) for key in chunk if key in rows)

    # Values

    def _translate(self, layout: Layout, row: tuple[Any, ...]) -> list[Any]:
        """The values as they are written: a link to what has no counterpart becomes null."""
        values = layout.translate(row, self._counterparts, self._planner.source)
        for number, value in enumerate(values):
            if value is LOST:
                layout.clear_link(values, number)
        return values

    def _show(self, layout: Layout, row: tuple[Any, ...], at: int, value: Any) -> Any:
        """A value of the source; of a link to what is created in the same run, what it points to."""
        if value is not NEW:
            return show_value(layout, at, value)
        return {"new": str(layout.find_linked(row, at, self._planner.source) or show(row[at + 1]))}

    def _find_place(self, model: type[Model], key: Key) -> Pair:
        """The siblings that a tree node comes after, on both sides; nothing where no such place is compared."""
        if model not in self._neighbours:
            self._neighbours[model] = self._find_neighbours(model)
        return self._neighbours[model].get(key, [])

    def _find_neighbours(self, model: type[Model]) -> dict[Key, Pair]:
        adapter = self._subgraph.graph.find_adapter(model)
        if adapter is None or adapter.ordered_by_fields(model):
            return {}
        keys = list(self._subgraph.iter_keys(model, *TRAVELLING))
        targets = {key: self._counterparts.get(model, key) for key in keys}
        known = [target for target in targets.values() if target is not NEW and target is not UNKNOWN]
        mine = find_previous(adapter.read(model, self._planner.source, keys).values())
        theirs = find_previous(adapter.read(model, self._planner.target, known).values())
        return {key: [mine.get(key), theirs.get(target)] for key, target in targets.items()}


def describe_given(layout: Layout, given: Given) -> str:
    """Why values are given up: who changed them, and for which side that was decided."""
    said: dict[tuple[str, str], list[str]] = {}
    for number, (_, side, who) in sorted(given.columns.items()):
        said.setdefault((who, side), []).append(layout.names[number])
    return "; ".join(f"{who} {', '.join(names)}: decided for {side}" for (who, side), names in said.items())


def find_previous(nodes: Iterable[Node]) -> dict[Key, str]:
    """By node the sibling before it, as text, where there is one among ``nodes``."""
    families: dict[Key | None, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: (node.order is None, node.order)):
        families.setdefault(node.parent, []).append(node)
    return {node.pk: show_key(before.pk) for family in families.values() for before, node in pairwise(family)}

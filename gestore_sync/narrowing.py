"""Takes operations out of a plan that a person does not want, or refuses where others need them. Only reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Model

from gestore_sync.circles import find_circles, refuse_circles
from gestore_sync.exceptions import PlanError
from gestore_sync.layouts import Layout
from gestore_sync.needs import iter_targets
from gestore_sync.plan import Create, Delete, Detach, Given, Keep, Note, Operation, Update
from gestore_sync.planlines import CREATE, DELETE, DETACH, KEEP, NOTE, PLACE, UPDATE, Line
from gestore_sync.planner import Planner
from gestore_sync.reading import iter_rows
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref, iter_chunks, show_key
from gestore_sync.spools import Spool

CHUNK = 10_000
Keys = dict[type[Model], set[Key]]


@dataclass
class LeftOut:
    """Operations that shall not be done. ``creates``, ``updates``, ``places``, ``notes`` and ``kept`` hold keys of the
    source, ``stale`` those of the rows of ``updates``, ``deletes`` and ``detached`` (by model and field) keys of the
    target."""

    creates: Keys = field(default_factory=dict)
    updates: Keys = field(default_factory=dict)
    places: Keys = field(default_factory=dict)
    notes: Keys = field(default_factory=dict)
    kept: Keys = field(default_factory=dict)
    stale: Keys = field(default_factory=dict)
    deletes: Keys = field(default_factory=dict)
    detached: dict[tuple[type[Model], str], set[Key]] = field(default_factory=dict)
    number: int = 0

    def add(self, line: Line) -> None:
        """Leave out what a line says."""
        self.number += 1
        if line.kind == DETACH:
            self.detached.setdefault((line.model, line.name), set()).add(line.target)
        elif line.kind == DELETE:
            self.deletes.setdefault(line.model, set()).add(line.target)
        else:
            kinds = {CREATE: self.creates, UPDATE: self.updates, PLACE: self.places, NOTE: self.notes, KEEP: self.kept}
            kinds[line.kind].setdefault(line.model, set()).add(line.key)
        if line.kind == UPDATE:
            self.stale.setdefault(line.model, set()).add(line.target)

    def is_left_out(self, model: type[Model], key: Key) -> bool:
        """Whether the row of an object of the source is not written."""
        return key in self.creates.get(model, ()) or key in self.updates.get(model, ())

    def is_kept_out(self, model: type[Model], key: Key) -> bool:
        """Whether nothing is kept of the values of an object: where it is not written, no value loses."""
        return key in self.kept.get(model, ()) or key in self.updates.get(model, ())


class Narrowing:
    """Takes ``left`` out of the plan that ``planner`` made, before it is applied."""

    def __init__(self, planner: Planner, left: LeftOut) -> None:
        self._planner = planner
        self._plan = planner.plan
        self._left = left
        self._graph = planner.subgraph.graph
        self._counterparts = planner.counterparts
        self._models = {model._meta.label: model for model in self._graph.models}

    def run(self) -> None:
        """Do it. Raises :class:`PlanError` that names both objects where what remains needs what is left out."""
        for model, keys in self._left.creates.items():
            for key in keys:
                self._counterparts.maps[model].set(key, UNKNOWN)
        self._check_links()
        self._check_parts()
        self._check_hanging()
        self._settle()
        self._count()
        self._filter()
        planner = self._planner
        places = (planner.subgraph, planner.target, self._counterparts, planner.get_layout)
        refuse_circles(find_circles(self._plan, *places))

    def _refuse(self, ref: Ref, needs: str, other: Ref, *, there: bool = False) -> PlanError:
        on = " of the target" if there else ""
        return PlanError(
            f"{ref}{on} {needs} {other}{on}, whose line was removed from the plan. Put that back, or remove the line "
            f"of {ref}{on} too. Nothing was written."
        )

    # What is written points only to what exists

    def _check_links(self) -> None:
        carried = self._find_carried()
        for layout, row, numbers, is_created in self._iter_written():
            ref = Ref(layout.model, row[0])
            is_left = self._left.is_left_out(*ref)
            for number in numbers:
                linked = self._find_linked(layout, row, number)
                if linked is None:
                    continue
                name = layout.names[number]
                link = layout.get_link(name)
                if not is_left and linked.pk in self._left.creates.get(linked.model, ()):
                    raise self._refuse(ref, f"points by {name} to", linked)
                if is_left and is_created and link is not None and link.parent_link:
                    self._check_parent(ref, linked)
                to_field = link.to_field if link is not None else None
                if to_field and linked.pk in carried.get((linked.model, to_field), ()):
                    self._check_carried(ref, name, linked, is_left=is_left, is_created=is_created)

    def _iter_written(self) -> Iterator[tuple[Layout, tuple[Any, ...], Sequence[int], bool]]:
        """The rows of the source with the numbers of the columns that are written, and whether they are created."""
        for spool in (self._plan.creates, self._plan.changes):
            for operation in spool:
                if isinstance(operation, Create):
                    layout = self._planner.get_layout(self._models[operation.label])
                    yield from ((layout, row, range(len(layout.names)), True) for row in operation.rows)
                elif isinstance(operation, Update):
                    layout = self._planner.get_layout(self._models[operation.label])
                    yield from ((layout, made.row, made.columns, False) for made in operation.rows)

    def _find_linked(self, layout: Layout, row: tuple[Any, ...], number: int) -> Ref | None:
        column = layout.columns[number] if number < len(layout.columns) else None
        if column is not None and column.part is not None and column.link is not None:
            key = tuple(row[at] for at in column.parts_at)
            return Ref(column.link.target, key) if column.link.target is not None else None
        return layout.find_linked(row, number, self._planner.source)

    def _check_parent(self, ref: Ref, parent: Ref) -> None:
        """An object in several tables is created whole, or not at all."""
        if self._counterparts.get(*parent) is NEW:
            raise self._refuse(parent, "is one object with", ref)

    def _find_carried(self) -> dict[tuple[type[Model], str], set[Key]]:
        """By unique field that links lead to, the objects in which it is changed."""
        wanted = {
            (link.target, link.to_field)
            for model in self._planner.subgraph.get_models()
            for link in self._graph.forward[model]
            if link.target is not None and link.to_field
        }
        found: dict[tuple[type[Model], str], set[Key]] = {}
        for layout, row, numbers, is_created in self._iter_written() if wanted else ():
            for number in numbers if not is_created else ():
                if (layout.model, layout.names[number]) in wanted:
                    found.setdefault((layout.model, layout.names[number]), set()).add(row[0])
        return found

    def _check_carried(self, ref: Ref, name: str, linked: Ref, *, is_left: bool, is_created: bool) -> None:
        """A link to a unique field whose value changes is written together with that, or neither is."""
        if not is_left and self._left.is_left_out(*linked):
            raise self._refuse(ref, f"points by {name} to the new value of", linked)
        if is_left and not is_created and not self._left.is_left_out(*linked):
            raise self._refuse(linked, f"changes the value to which {name} leads of", ref)

    # What goes leaves nothing behind

    def _goes(self, model: type[Model], key: Key) -> bool:
        deleted = self._planner.removals.deleted.get(model, ())
        return key in deleted and key not in self._left.deletes.get(model, ())

    def _check_parts(self) -> None:
        """An object in several tables is deleted whole, or not at all."""
        for model, every in self._planner.removals.deleted.items():
            for link in self._graph.forward[model] if self._left.deletes else ():
                if not link.parent_link or link.target not in self._left.deletes:
                    continue
                keys = [key for key in every if self._goes(model, key)]
                for child, parent in iter_rows(model, self._planner.target, keys, link.attnames):
                    if parent in self._left.deletes[link.target]:
                        raise self._refuse(
                            Ref(model, child), "is one object with", Ref(link.target, parent), there=True
                        )

    def _check_hanging(self) -> None:
        """Nothing that stays as it is may point to a row that is deleted."""
        if not any(self._planner.removals.deleted.values()):
            return
        left = self._left
        detached = ((model, keys) for (model, _), keys in left.detached.items())
        for model, keys in (*left.deletes.items(), *left.stale.items(), *detached):
            for chunk in iter_chunks(list(keys), CHUNK):
                if self._find_going(model, chunk) is not None:
                    self._refuse_hanging(model, chunk)

    def _find_going(self, model: type[Model], keys: Sequence[Key]) -> Ref | None:
        """A row that is deleted and to which one of these rows of the target points."""
        there = replace(self._planner.subgraph, source=self._planner.target)
        return next((Ref(*found) for found in iter_targets(there, model, keys) if self._goes(*found)), None)

    def _refuse_hanging(self, model: type[Model], keys: Sequence[Key]) -> None:
        for key in keys:
            if (going := self._find_going(model, [key])) is not None:
                raise self._refuse(going, "is deleted, which goes only with the change of", Ref(model, key), there=True)

    # Unique values that rows give up for others

    def _settle(self) -> None:
        self._planner.clashes.leave_out(self._left.is_left_out)
        self._plan.early.close()
        self._plan.early = Spool()

        def find_deleted(model: type[Model]) -> set[Key]:
            return set(self._planner.removals.deleted.get(model, ())) - self._left.deletes.get(model, set())

        conflicts = self._planner.clashes.settle(self._plan, find_deleted)
        if conflicts:
            raise PlanError(
                f"{conflicts[0].reason} The line that would make them free was removed from the plan: put it back, or "
                f"remove that of {conflicts[0].ref} too. Nothing was written."
            )

    # What remains

    def _count(self) -> None:
        """Take what is left out from the counts of the report."""
        report, left = self._plan.report, self._left
        updated = {
            Ref(layout.model, row[0])
            for layout, row, _, is_created in (self._iter_written() if self._plan.places else ())
            if not is_created and layout.model in self._plan.places
        }
        for counter, every in ((report.created, left.creates), (report.deleted, left.deletes)):
            counter.subtract({model._meta.label: len(keys) for model, keys in every.items()})
        for model, keys in left.updates.items():
            moved = self._plan.places.get(model, set()) - left.places.get(model, set())
            report.updated[model._meta.label] -= len(keys - moved)
        for model, keys in left.places.items():
            report.updated[model._meta.label] -= sum(Ref(model, key) not in updated for key in keys)
        report.updated.subtract(self._count_detached())
        out = {(model._meta.label, show_key(key)) for model, keys in left.updates.items() for key in keys}
        report.conflicts = [found for found in report.conflicts if (found["model"], found["pk"]) not in out]
        for name in report.COUNTS:
            setattr(report, name, +getattr(report, name))

    def _count_detached(self) -> Counter[str]:
        """By model the rows of which no link is set any more."""
        kept: dict[str, set[Key]] = {}
        for operation in self._plan.removals:
            if isinstance(operation, Detach):
                left = self._left.detached.get((self._models[operation.label], operation.name), set())
                kept.setdefault(operation.label, set()).update(key for key in operation.keys if key not in left)
        gone: dict[str, set[Key]] = {}
        for (model, _), keys in self._left.detached.items():
            gone.setdefault(model._meta.label, set()).update(keys - kept.get(model._meta.label, set()))
        return Counter({label: len(keys) for label, keys in gone.items()})

    def _filter(self) -> None:
        plan = self._plan
        for name in ("creates", "changes", "removals"):
            spool, kept = getattr(plan, name), Spool[Operation]()
            for operation in spool:
                if (rest := self._without(operation)) is not None:
                    kept.add(rest)
            spool.close()
            setattr(plan, name, kept)
        for model, keys in self._left.places.items():
            plan.staying[model] = keys
            plan.places[model] -= keys
        plan.places = {model: keys for model, keys in plan.places.items() if keys}

    def _keep_known(self, model: type[Model], given: Given) -> Given:
        """Without the links to what is not created: that has no key on the target by which they could be kept."""
        layout = self._planner.get_layout(model)
        links = ((number, self._find_linked(layout, given.row, number)) for number in given.columns)
        lost = {number for number, ref in links if ref is not None and ref.pk in self._left.creates.get(ref.model, ())}
        return given._replace(columns={at: said for at, said in given.columns.items() if at not in lost})

    def _without(self, operation: Operation) -> Operation | None:
        """The operation without the rows that are left out; None if nothing remains."""
        model, left = self._models[operation.label], self._left
        rest: list[Any]
        if isinstance(operation, Create):
            rest = [row for row in operation.rows if row[0] not in left.creates.get(model, ())]
            return replace(operation, rows=rest) if rest else None
        if isinstance(operation, Update):
            rest = [made for made in operation.rows if made.row[0] not in left.updates.get(model, ())]
            return replace(operation, rows=rest) if rest else None
        if isinstance(operation, Note):
            rest = [row for row in operation.rows if row[0] not in left.notes.get(model, ())]
            return replace(operation, rows=rest) if rest else None
        if isinstance(operation, Keep):
            given = [self._keep_known(model, row) for row in operation.rows if not left.is_kept_out(model, row.row[0])]
            rest = [row for row in given if row.columns]
            return replace(operation, rows=rest) if rest else None
        if isinstance(operation, Delete):
            rest = [key for key in operation.keys if key not in left.deletes.get(model, ())]
            return replace(operation, keys=rest) if rest else None
        if isinstance(operation, Detach):
            rest = [key for key in operation.keys if key not in left.detached.get((model, operation.name), ())]
            return replace(operation, keys=rest) if rest else None
        return operation

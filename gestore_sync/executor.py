"""Applies a plan to the target: the only room that writes user data. Everything happens in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.db import (
    DatabaseError,
    IntegrityError,
    NotSupportedError,
    OperationalError,
    connections,
    transaction,
)
from django.db.models import Field, Model
from django.db.models.signals import post_save, pre_save
from django.utils import timezone

from gestore_sync.adapters import Adapter, Node, TreeChanges
from gestore_sync.conf import get_signal_mode
from gestore_sync.exceptions import WriteFailed
from gestore_sync.identity import has_automatic_key
from gestore_sync.layouts import LOST, TREE_PARENT, Layout
from gestore_sync.links import FOREIGN
from gestore_sync.models import Origin, SyncRun
from gestore_sync.natural import natural_key_of
from gestore_sync.parking import iter_parking_values
from gestore_sync.plan import Change, Create, Delete, Detach, Note, Operation, Park, Plan, Release, Update
from gestore_sync.planner import Planner, clear_link
from gestore_sync.progress import Progress
from gestore_sync.reading import get_queryset
from gestore_sync.refs import NEW, Key, Ref, get_key_columns
from gestore_sync.scope import Role
from gestore_sync.sending import Sender, make_instance
from gestore_sync.writers import get_writer


class Executor:
    """Applies one plan. The planner that made it knows where everything is."""

    def __init__(self, planner: Planner, progress: Progress | None = None) -> None:
        self.planner = planner
        self.plan: Plan = planner.plan
        self.progress = progress or Progress()
        self.source = planner.source
        self.target = planner.target
        self.counterparts = planner.counterparts
        self.store = planner.store
        self.graph = planner.subgraph.graph
        self.writer = get_writer(self.target)
        self.sender = Sender(self.target, self.graph)
        self._models = {model._meta.label: model for model in self.graph.models}
        self._deferred: dict[tuple[type[Model], str], list[tuple[Key, Any]]] = {}
        self._positions: dict[type[Model], Mapping[Key, tuple[Any, ...]]] = {}
        self._trees: dict[type[Model], TreeChanges] = {}
        self._written: set[str] = set()

    def apply(self) -> None:
        """Write everything. Raises :class:`WriteFailed` that names the object that the target refuses."""
        self.started = timezone.now()
        self._defer_constraints()
        self._make_origin()
        self._reserve()
        steps: dict[type[Any], Callable[[Any], None]] = {
            Park: self._park,
            Release: self._update,
            Create: self._create,
            Update: self._update,
            Note: self._note,
            Detach: self._detach,
            Delete: self._delete,
        }
        self.progress.start(
            "writing", sum(map(sum_counts, (self.plan.report.created, self.plan.report.updated)))
        )
        self._forget_removed()
        self._gather_places()
        for operation in self._iter_operations():
            steps[type(operation)](operation)
        for model, changes in self._trees.items():
            adapter = self.graph.find_adapter(model)
            assert adapter is not None
            adapter.mend(model, self.target, changes)
        self._check_constraints()
        self._record_run()

    def _iter_operations(self) -> Iterator[Operation]:
        yield from self.plan.early
        yield from self.plan.creates
        self._write_deferred()
        yield from self.plan.changes
        yield from self.plan.removals

    # Keys

    def _reserve(self) -> None:
        """Give every object that will be created its primary key on the target, in the order of the source's keys."""
        subgraph = self.planner.subgraph
        for model in self.plan.models:
            keys = self.counterparts.maps[model]
            new = [
                key
                for key in keys.iter_new()
                if subgraph.find_role(model, key) is Role.OWN or subgraph.is_needed(model, key)
            ]
            if new and has_automatic_key(model):
                for key, target in zip(new, self.writer.reserve(model, len(new)), strict=True):
                    keys.set(key, target)
            else:
                layout = self.planner.get_layout(model)
                for key in new:
                    keys.set(key, self._make_key(layout, key))
            if new and self.graph.find_adapter(model) is not None:
                self._place(model, new)

    def _make_key(self, layout: Layout, key: Key) -> Key:
        """A key that the database does not count out, with the links in it rewritten."""
        parts = key if isinstance(key, tuple) else (key,)
        made = []
        for name, part in zip(get_key_columns(layout.model), parts, strict=True):
            column = next(column for column in layout.columns if column.field.attname == name)
            link = column.link
            if (
                link is not None
                and link.kind == FOREIGN
                and link.target is not None
                and len(link.attnames) == 1
            ):
                part = self.counterparts.get(link.target, part)
            made.append(part)
        return tuple(made) if isinstance(key, tuple) else made[0]

    # Rows

    def _translate(self, layout: Layout, row: tuple[Any, ...]) -> list[Any]:
        values = layout.translate(row, self.counterparts, self.source)
        for number, value in enumerate(values):
            if value is LOST:
                clear_link(layout, values, number)
            elif value is NEW:
                link = layout.get_link(layout.names[number])
                raise WriteFailed(
                    f"{Ref(layout.model, row[0])} needs {link}, whose object is not part of the plan."
                )
        return values

    def _create(self, operation: Create) -> None:
        model = self._models[operation.label]
        layout = self.planner.get_layout(model)
        fields, fill = self._get_insert_fields(layout)
        keys, rows, notes = [], [], []
        for row in operation.rows:
            values = self._translate(layout, row)
            target = self.counterparts.get(model, row[0])
            notes.append((row[0], target, True, layout.digest(values)))
            self._defer(layout, target, values)
            keys.append((row[0], target))
            rows.append([*values[: len(layout.columns)], *fill(target)])
        self._insert(model, keys, fields, rows)
        self._note(Note(operation.label, notes))
        self.progress.advance(len(rows))

    def _insert(
        self,
        model: type[Model],
        keys: list[tuple[Key, Key]],
        fields: list[Field[Any, Any]],
        rows: list[list[Any]],
    ) -> None:
        if get_signal_mode(model._meta.label) == "save":
            self._each(model, keys, rows, lambda key, row: save_instance(model, self.target, fields, row))
            return

        def write() -> None:
            self._try(model, keys, rows, lambda some: self.writer.insert(model, fields, some))

        names = [field.attname for field in fields]
        instances = [dict(zip(names, row, strict=True)) for row in rows] if self._is_heard(model) else []
        self.sender.around_save(model, instances, write, created=True)

    def _is_heard(self, model: type[Model]) -> bool:
        return self.sender.is_heard(model, pre_save, post_save)

    def _get_insert_fields(self, layout: Layout) -> tuple[list[Field[Any, Any]], Callable[[Key], list[Any]]]:
        """The fields to insert, and what comes after a record's values: key, tree position, fields that do not travel."""
        model = layout.model
        automatic = [model._meta.pk] if has_automatic_key(model) else []
        adapter = self.graph.find_adapter(model)
        names = adapter.position_fields(model) if adapter else ()
        positions = [model._meta.get_field(name) for name in names]
        skipped = [
            field
            for field in model._meta.local_concrete_fields
            if field.name in layout.skipped and not field.has_db_default()
        ]
        placed = self._positions.get(model, {})

        def fill(target: Key) -> list[Any]:
            blank = model() if skipped else None
            return [
                *([target] if automatic else []),
                *placed.get(target, ()),
                *(field.pre_save(blank, True) for field in skipped),
            ]

        return [*(column.field for column in layout.columns), *automatic, *positions, *skipped], fill  # type: ignore[list-item]

    def _update(self, operation: Update | Release) -> None:
        model = self._models[operation.label]
        layout = self.planner.get_layout(model)
        by_columns: dict[tuple[int, ...], list[tuple[Change, list[Any]]]] = {}
        for change in operation.rows:
            values = self._translate(layout, change.row)
            by_columns.setdefault(change.columns, []).append((change, values))
        for columns, changes in by_columns.items():
            numbers = [number for number in columns if number < len(layout.columns)]
            if layout.tree is not None or self._is_parent_changed(layout, columns):
                self._note_moved(model, layout, columns, changes)
            if numbers:
                self._write_changes(layout, numbers, changes)
        if isinstance(operation, Update):
            self._note(
                Note(
                    operation.label,
                    [
                        (
                            change.row[0],
                            change.target,
                            change.created,
                            change.digests + layout.digest(values, columns),
                        )
                        for columns, changes in by_columns.items()
                        for change, values in changes
                    ],
                )
            )
            self.progress.advance(len(operation.rows))

    def _write_changes(
        self, layout: Layout, numbers: list[int], changes: list[tuple[Change, list[Any]]]
    ) -> None:
        model = layout.model
        fields = [layout.columns[number].field for number in numbers]
        keys = [(change.row[0], change.target) for change, _ in changes]
        rows = [(change.target, [values[number] for number in numbers]) for change, values in changes]
        if get_signal_mode(model._meta.label) == "save":
            self._each(model, keys, rows, lambda key, row: change_instance(model, self.target, fields, *row))
            return
        instances = []
        if self._is_heard(model):
            key_fields = self.writer.get_key_fields(model)
            for change, values in changes:
                parts = change.target if isinstance(change.target, tuple) else (change.target,)
                instance = {
                    column.field.attname: value for column, value in zip(layout.columns, values, strict=False)
                }
                kept = set(range(len(layout.columns))) - set(change.columns)
                instance = {
                    name: value for number, (name, value) in enumerate(instance.items()) if number not in kept
                }
                instance |= {field.attname: part for field, part in zip(key_fields, parts, strict=True)}
                instances.append(instance)

        def write() -> None:
            self._try(model, keys, rows, lambda some: self.writer.update(model, fields, some))

        self.sender.around_save(model, instances, write, created=False)

    # Links that are written after both rows exist

    def _defer(self, layout: Layout, target: Key, values: list[Any]) -> None:
        for number, column in enumerate(layout.columns):
            if (
                column.link is not None
                and column.link.name in self.plan.deferred
                and values[number] is not None
            ):
                self._deferred.setdefault((layout.model, column.name), []).append((target, values[number]))
                values[number] = None

    def _write_deferred(self) -> None:
        for (model, name), rows in self._deferred.items():
            field: Any = model._meta.get_field(name)
            keys = [(target, target) for target, _ in rows]
            changes = [(target, [value]) for target, value in rows]
            self._try(model, keys, changes, lambda some, m=model, f=field: self.writer.update(m, [f], some))

    # Values that others need, links from outside, deletions

    def _park(self, operation: Park) -> None:
        model = self._models[operation.label]
        field: Any = model._meta.get_field(operation.name)
        values = iter_parking_values(model, field, self.target)
        rows = [(key, [value]) for key, value in zip(operation.keys, values, strict=False)]
        self._try(
            model,
            [(key, key) for key in operation.keys],
            rows,
            lambda some: self.writer.update(model, [field], some),
        )

    def _detach(self, operation: Detach) -> None:
        model = self._models[operation.label]
        field: Any = model._meta.get_field(operation.name)
        rows = [(key, [operation.value]) for key in operation.keys]
        keys = [(key, key) for key in operation.keys]
        self._try(model, keys, rows, lambda some: self.writer.update(model, [field], some))

    def _delete(self, operation: Delete) -> None:
        model = self._models[operation.label]
        keys = [(key, key) for key in operation.keys]

        def write() -> None:
            self._try(model, keys, operation.keys, lambda some: self.writer.delete(model, some))

        self.sender.around_delete(model, operation.keys, write)

    def _forget_removed(self) -> None:
        """Drop the id mappings of rows that will be deleted, and remember the trees that lose nodes."""
        for operation in self.plan.removals:
            if isinstance(operation, Delete):
                model = self._models[operation.label]
                self.store.forget(model, operation.keys)
                adapter = self.graph.find_adapter(model)
                if adapter is not None:
                    nodes = adapter.read(model, self.target, operation.keys)
                    self._get_tree(model).bereaved += [node.parent for node in nodes.values()]
                self._written.add(model._meta.db_table)

    # Trees

    def _get_tree(self, model: type[Model]) -> TreeChanges:
        """What this run does to the tree; it is made with the order of all nodes of the run."""
        if model not in self._trees:
            changes = self._trees[model] = TreeChanges()
            adapter = self._get_adapter(model)
            keys = list(self.planner.subgraph.iter_keys(model, Role.OWN))
            for key, node in adapter.read(model, self.source, keys).items():
                target = self.counterparts.get(model, key)
                changes.order[target] = node.order
        return self._trees[model]

    def _get_adapter(self, model: type[Model]) -> Adapter:
        adapter = self.graph.find_adapter(model)
        assert adapter is not None
        return adapter

    def _place(self, model: type[Model], keys: list[Key]) -> None:
        """Find places for the new nodes of a tree."""
        adapter = self._get_adapter(model)
        nodes = [self._make_node(model, node) for node in adapter.read(model, self.source, keys).values()]
        self._positions[model] = adapter.place(model, self.target, nodes)
        changes = self._get_tree(model)
        changes.placed += nodes
        changes.order.update((node.pk, node.order) for node in nodes)

    def _make_node(self, model: type[Model], node: Node) -> Node:
        """A node of the source as it stands on the target."""
        parent = None if node.parent is None else self.counterparts.get(model, node.parent)
        return Node(self.counterparts.get(model, node.pk), parent, node.order)

    def _is_parent_changed(self, layout: Layout, columns: Sequence[int]) -> bool:
        adapter = self.graph.find_adapter(layout.model)
        name = adapter.parent_field(layout.model) if adapter is not None else None
        return name is not None and any(layout.names[number] == name for number in columns)

    def _note_moved(
        self,
        model: type[Model],
        layout: Layout,
        columns: Sequence[int],
        changes: list[tuple[Change, list[Any]]],
    ) -> None:
        adapter = self._get_adapter(model)
        names = {layout.names[number] for number in columns}
        if names & {TREE_PARENT, adapter.parent_field(model)} or adapter.ordered_by_fields(model):
            nodes = adapter.read(model, self.source, [change.row[0] for change, _ in changes])
            self._get_tree(model).moved += [self._make_node(model, node) for node in nodes.values()]

    def _gather_places(self) -> None:
        for model, keys in self.plan.places.items():
            nodes = self._get_adapter(model).read(model, self.source, keys)
            self._get_tree(model).moved += [self._make_node(model, node) for node in nodes.values()]

    # Id mappings and the record of the run

    def _make_origin(self) -> None:
        """The origin that mappings are kept for, in the place where they are kept."""
        origin, _ = Origin.objects.using(self.store.place).get_or_create(uuid=self.store.uuid)
        self.store.origin = origin.pk

    def _note(self, operation: Note) -> None:
        model = self._models[operation.label]
        self.store.save(model, operation.rows)

    def _record_run(self) -> None:
        report = self.plan.report
        SyncRun.objects.using(self.store.place).create(
            origin_id=self.store.origin,
            remote=self.store.remote,
            roots=[str(ref) for ref in self.plan.roots],
            counts={name: dict(getattr(report, name)) for name in report.COUNTS},
            started=self.started,
            finished=timezone.now(),
        )

    # Constraints and failures

    def _defer_constraints(self) -> None:
        if connections[self.target].vendor == "sqlite":
            with connections[self.target].cursor() as cursor:
                cursor.execute("PRAGMA defer_foreign_keys = ON")

    def _check_constraints(self) -> None:
        """Check now what the database would check at the commit, so that what is wrong can be named."""
        try:
            connections[self.target].check_constraints(table_names=sorted(self._written))
        except IntegrityError as error:
            raise WriteFailed(f"The target {self.target!r} refuses the rows: {first_line(error)}.") from error

    def _each(
        self,
        model: type[Model],
        keys: list[tuple[Key, Key]],
        rows: Sequence[Any],
        write: Callable[[Key, Any], None],
    ) -> None:
        for (key, _), row in zip(keys, rows, strict=True):
            self._try(model, [(key, key)], [row], lambda some, key=key: write(key, some[0]))

    def _try(
        self,
        model: type[Model],
        keys: Sequence[tuple[Key, Key]],
        rows: Sequence[Any],
        write: Callable[[Sequence[Any]], None],
    ) -> None:
        """Write a batch; where the database refuses it, find the first row that is at fault and name it."""
        self._written.add(model._meta.db_table)
        try:
            with transaction.atomic(using=self.target):
                write(rows)
        except DatabaseError as error:
            if not is_refusal(error):
                raise
            if len(rows) > 1:
                half = len(rows) // 2
                self._try(model, keys[:half], rows[:half], write)
                self._try(model, keys[half:], rows[half:], write)
                raise WriteFailed(
                    f"The target {self.target!r} refuses rows of {model._meta.label} together: {first_line(error)}."
                ) from error
            raise WriteFailed(
                f"The target {self.target!r} refuses {self._describe(Ref(model, keys[0][0]))}: {first_line(error)}. "
                "Mend the object at the source or what it clashes with on the target, then run again."
            ) from error

    def _describe(self, ref: Ref) -> str:
        instance = get_queryset(ref.model, self.source).filter(pk=ref.pk).first()
        natural_key = natural_key_of(instance) if instance is not None else None
        return f"{ref} {natural_key!r}" if natural_key else str(ref)


def is_refusal(error: DatabaseError) -> bool:
    """Whether the database is there and says no to a row."""
    return not isinstance(error, (OperationalError, NotSupportedError))


def first_line(error: Exception) -> str:
    """What a database error says, on one line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".")


def sum_counts(counts: Mapping[str, int]) -> int:
    """All objects in one of a report's counts."""
    return sum(counts.values())


def save_instance(
    model: type[Model], using: str, fields: Sequence[Field[Any, Any]], row: Sequence[Any]
) -> None:
    """Create a row through ``save()``."""
    values = {field.attname: value for field, value in zip(fields, row, strict=True)}
    for link, parent in model._meta.parents.items():
        if parent is not None:
            row_of_parent = get_queryset(link, using).filter(pk=values[parent.attname]).values().first() or {}
            values = {**row_of_parent, **values}
    instance = make_instance(model, using, values)
    instance._state.adding = True
    instance.save(using=using, force_insert=False)


def change_instance(
    model: type[Model], using: str, fields: Sequence[Field[Any, Any]], key: Key, row: Sequence[Any]
) -> None:
    """Change a row through ``save()``."""
    instance = get_queryset(model, using).get(pk=key)
    for field, value in zip(fields, row, strict=True):
        setattr(instance, field.attname, value)
    instance.save(using=using)

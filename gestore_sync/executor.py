"""Applies a plan to the target: the only room that writes user data. Everything happens in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Model
from django.utils import timezone

from gestore_sync.background import Background
from gestore_sync.constraints import defer_constraints
from gestore_sync.creating import Batch, Creator
from gestore_sync.deferral import Deferral
from gestore_sync.exceptions import WriteFailed
from gestore_sync.failures import Attempts, Refused
from gestore_sync.inserting import get_insert_rows
from gestore_sync.journal import CHANGE, DELETION, Journal
from gestore_sync.keeping import keep
from gestore_sync.layouts import Layout
from gestore_sync.origins import get_origin
from gestore_sync.parking import park
from gestore_sync.plan import (
    Attach,
    Change,
    Create,
    Delete,
    Detach,
    Keep,
    Note,
    Noted,
    Operation,
    Park,
    Plan,
    Release,
    Update,
)
from gestore_sync.planner import Planner
from gestore_sync.progress import Progress
from gestore_sync.recognition import Imprinter
from gestore_sync.references import forget_around
from gestore_sync.refs import NEW, Key, Ref
from gestore_sync.reservation import reserve_keys
from gestore_sync.rows import Rows
from gestore_sync.runs import insert_run
from gestore_sync.sending import Sender
from gestore_sync.translation import LOST
from gestore_sync.trees import Trees
from gestore_sync.writers import get_writer


class Executor:
    """Applies one plan. The planner that made it knows where everything is.

    ``tolerant``: raise :class:`Refused` with all refused rows of an operation, not :class:`WriteFailed` with the first.
    ``checks_early``: find the deletion at fault where the end of the transaction said that there is one.
    ``guards_signals``: a receiver with a database error does not break the transaction.
    """

    def __init__(
        self,
        planner: Planner,
        progress: Progress | None = None,
        *,
        tolerant: bool = False,
        checks_early: bool = False,
        guards_signals: bool = False,
    ) -> None:
        self.planner = planner
        self.plan: Plan = planner.plan
        self.progress = progress or Progress()
        self.source = planner.source
        self.target = planner.target
        self.counterparts = planner.counterparts
        self.store = planner.store
        self.graph = planner.subgraph.graph
        self.writer = get_writer(self.target)
        self.sender = Sender(self.target, self.graph, tolerant=tolerant, guarded=guards_signals)
        self.attempts = Attempts(self.source, self.target, tolerant=tolerant)
        self.rows = Rows(self.writer, self.sender, self.attempts)
        self.imprinter = Imprinter(self.target)
        self._checks_early = checks_early
        self.background = self.store.background = Background(self.target if self.store.place == self.target else None)
        self.creator = Creator(self.rows, self.writer, self.imprinter, self.store, self.background, self.progress)
        self.journal = self._make_journal()
        self.trees = Trees(planner.subgraph, self.target, self.counterparts, is_restore=not self.store.keeps)
        self.trees.staying = self.plan.staying
        self._models = {model._meta.label: model for model in self.graph.models}
        self._deferral = Deferral(self.plan.deferred)
        self._cleared: set[tuple[type[Model], Key]] = set()

    def _make_journal(self) -> Journal:
        journal = self.planner.make_journal()
        journal.background = self.background
        return journal

    def apply(self, uuid: UUID | None = None, entries: Sequence[list[int]] | None = None) -> None:
        """Write everything. Raises :class:`WriteFailed` that names the object that the target refuses.

        ``uuid``: the identity of the run; ``entries``: the ranges of the change log that it handles, if it is of that.
        """
        started = timezone.now()
        self.uuid = uuid or uuid4()
        defer_constraints(self.target)
        self.store.origin = get_origin(self.store.place, self.store.uuid)
        self.creator.prepare(self.plan.models, self.graph, self.journal)
        for model in self.plan.models:
            self.trees.place(model, reserve_keys(self.planner, model, self.writer))
        for model, keys in self.plan.places.items():
            self.trees.note_moved(model, sorted(keys, key=str))
        counts = (*self.plan.report.created.values(), *self.plan.report.updated.values())
        self.progress.start("writing", sum(counts))
        steps: dict[type[Any], Callable[[Any], None]] = {
            Park: self._park,
            Release: self._update,
            Create: self._create,
            Update: self._update,
            Note: self._note,
            Keep: self._keep,
            Detach: self._detach,
            Attach: self._attach,
            Delete: self._delete,
        }
        with self.background:
            for operation in self._iter_operations():
                if not isinstance(operation, (Create, Update, Release)):
                    self.background.join()
                steps[type(operation)](operation)
                self._check_refused()
                self.journal.flush()
        self.trees.mend()
        forget_around(self.store, self.graph)
        self.journal.write()
        self.rows.check_doubts(self.counterparts)
        self._check_refused()
        self.attempts.check_constraints()
        insert_run(self.store, self.plan, started, self.uuid, entries)

    def _check_refused(self) -> None:
        if refused := [*self.attempts.refused, *self.sender.refused]:
            raise Refused(refused)

    def _iter_operations(self) -> Iterator[Operation]:
        yield from self.plan.early
        yield from self.plan.creates
        self.creator.finish()
        self._check_refused()
        self.background.join()
        self._write_deferred()
        yield from self.plan.changes
        yield from self.plan.removals

    # Rows

    def _translate(self, layout: Layout, row: tuple[Any, ...]) -> list[Any]:
        return self._translate_all(layout, [row])[0]

    def _translate_all(self, layout: Layout, rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
        translated = layout.translate_all(rows, self.counterparts, self.source)
        settled = not layout.has_any(translated, LOST, NEW)
        for row, values in () if settled else zip(rows, translated, strict=True):
            for number in layout.link_numbers:
                if values[number] is LOST:
                    layout.clear_link(values, number)
                    self._cleared.add((layout.model, row[0]))
                elif values[number] is NEW:
                    link = layout.get_link(layout.names[number])
                    ref = Ref(layout.model, row[0])
                    raise WriteFailed(f"{ref} needs {link}, whose object is not part of the plan.", ref=ref)
        return translated

    def _create(self, operation: Create) -> None:
        model = self._models[operation.label]
        layout = self.planner.get_layout(model)
        keys = [row[0] for row in operation.rows]
        targets = self.counterparts.get_all(model, keys)
        translated = self._translate_all(layout, operation.rows)
        digests = layout.digest_all(translated)
        written = dict(zip(targets, operation.rows, strict=True))
        may_be_late = self._cleared or self._deferral.concerns(layout)
        for key, target, values in zip(keys, targets, translated, strict=True) if may_be_late else ():
            if self._deferral.take(layout, key, target, values) or (model, key) in self._cleared:
                del written[target]
        self._cleared.clear()
        fields, rows = get_insert_rows(layout, self.graph, self.trees, targets, translated)
        self.creator.create(Batch(layout, keys, targets, fields, rows, digests, written))

    def _update(self, operation: Update | Release) -> None:
        model = self._models[operation.label]
        layout = self.planner.get_layout(model)
        by_columns: dict[tuple[int, ...], list[tuple[Change, list[Any]]]] = {}
        translated = self._translate_all(layout, [changed.row for changed in operation.rows])
        for changed, values in zip(operation.rows, translated, strict=True):
            by_columns.setdefault(changed.columns, []).append((changed, values))
        digests = {
            columns: layout.digest_all([values for _, values in changes], columns)
            for columns, changes in by_columns.items()
        }
        imprints: dict[Key, tuple[int, int]] = {}
        self.background.join()
        for columns, changes in by_columns.items():
            self.trees.note_changed(layout, columns, [changed.row[0] for changed, _ in changes])
            numbers = [number for number in columns if number < len(layout.columns)]
            if numbers:
                self._write_changes(layout, numbers, changes, imprints)
        if isinstance(operation, Update):
            notes = [
                Noted(made.row[0], made.target, made.created, made.digests + digest, imprints.get(made.target))
                for columns, changes in by_columns.items()
                for (made, _), digest in zip(changes, digests[columns], strict=True)
            ]
            self.journal.note(model, [(note.target, note.key) for note in notes], CHANGE)
            self._note(Note(operation.label, notes))
            self.progress.advance(len(operation.rows))

    def _write_changes(
        self,
        layout: Layout,
        numbers: list[int],
        changes: list[tuple[Change, list[Any]]],
        imprints: dict[Key, tuple[int, int]],
    ) -> None:
        fields = [layout.columns[number].field for number in numbers]
        keys = [changed.row[0] for changed, _ in changes]
        rows = [(changed.target, [values[number] for number in numbers]) for changed, values in changes]
        same: set[Key] = set()

        def note() -> None:
            stayed = [made for made, _ in changes if made.target in same]
            whole = {made.target: made.row for made in stayed if (layout.model, made.row[0]) not in self._cleared}
            imprints.update(self.imprinter.read(layout, whole))

        self.rows.update(
            *(layout.model, keys, fields, rows),
            first=lambda: same.update(self.imprinter.find_as_planned(layout, [made for made, _ in changes])),
            then=note,
        )

    # Single fields: links that are written after both rows exist, values that others need

    def _write_deferred(self) -> None:
        for (model, name), rows in self._deferral.items():
            self._set(model, name, [key for key, _, _ in rows], [(target, [value]) for _, target, value in rows])

    def _set(
        self,
        model: type[Model],
        name: str,
        keys: Sequence[Key],
        rows: Sequence[Any],
        using: str | None = None,
    ) -> None:
        field: Any = model._meta.get_field(name)
        self.attempts.write(model, keys, rows, lambda some: self.writer.update(model, [field], some), using=using)

    def _park(self, operation: Park) -> None:
        model = self._models[operation.label]

        def write(rows: Sequence[Any]) -> None:
            self._set(model, operation.name, operation.keys, rows, using=self.target)

        park(model, operation.name, self.target, operation.keys, write)

    def _detach(self, operation: Detach) -> None:
        self._attach(Attach(operation.label, operation.name, [(key, operation.value) for key in operation.keys]))

    def _attach(self, operation: Attach) -> None:
        model, keys = self._models[operation.label], [key for key, _ in operation.rows]
        self._set(model, operation.name, keys, [(key, [value]) for key, value in operation.rows], using=self.target)
        self.journal.note(model, [(key, None) for key in keys], CHANGE)

    def _delete(self, operation: Delete) -> None:
        model = self._models[operation.label]

        def delete(some: Sequence[Key]) -> None:
            self.rows.note_count(model, some, self.writer.delete(model, some), are_there=False)
            if self._checks_early:
                self.attempts.check_everything()

        def write() -> None:
            self.attempts.write(model, operation.keys, operation.keys, delete, using=self.target)

        self.trees.note_deleted(model, operation.keys)
        self.journal.note_going(model, operation.keys)
        self.sender.around_delete(model, operation.keys, write)
        self.store.forget(model, operation.keys, only_ours=True)
        causes = [self.planner.removals.find_cause(Ref(model, key)) for key in operation.keys]
        gone = [cause.pk if cause is not None and cause.model is model else None for cause in causes]
        self.journal.note(model, list(zip(operation.keys, gone, strict=True)), DELETION)

    # Id mappings, and values that lost a conflict

    def _note(self, operation: Note) -> None:
        self.store.save(self._models[operation.label], operation.rows)
        self._cleared.clear()

    def _keep(self, operation: Keep) -> None:
        layout = self.planner.get_layout(self._models[operation.label])
        keep(self.store, layout, operation.rows, self._translate, self.uuid)

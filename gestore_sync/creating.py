"""Creates the rows of one run: each batch is sent by a second thread while the next one is made ready."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from django.db import DatabaseError, DataError, InterfaceError, OperationalError, connections, transaction
from django.db.models import Field, Model

from gestore_sync.background import Background
from gestore_sync.constraints import find_checkable
from gestore_sync.failures import is_refusal
from gestore_sync.journal import ADDITION, Journal
from gestore_sync.layouts import Layout
from gestore_sync.links import LinkGraph
from gestore_sync.mappings import MappingStore
from gestore_sync.plan import Noted
from gestore_sync.progress import Progress
from gestore_sync.recall import Mapping as Known
from gestore_sync.recognition import Imprinter
from gestore_sync.refs import Key
from gestore_sync.rows import Rows
from gestore_sync.writers.portable import Writer

CHECKED_AT_ONCE = 20_000
"""After so many new rows the target checks where their links lead."""


class Batch(NamedTuple):
    """New rows of one model. ``keys`` and ``targets``: those of both sides; ``rows``: the values of ``fields``;
    ``digests`` of each; ``sources``: by key of the target, the rows of the source that are sent as they are."""

    layout: Layout
    keys: Sequence[Key]
    targets: Sequence[Key]
    fields: list[Field[Any, Any]]
    rows: list[list[Any]]
    digests: Sequence[bytes]
    sources: Mapping[Key, Sequence[Any]]


class Created(NamedTuple):
    """What the target says of a batch that is there: imprints by key of the target, and what id mappings the objects
    have, which led elsewhere."""

    imprints: Mapping[Key, tuple[int, int]]
    known: Mapping[Key, Known]


class Creator:
    """Inserts batches of one run, and what is kept of them: id mappings and entries of the log.

    Where the target takes a second thread and nobody is told of the rows, a batch may be on its way when
    :meth:`create` returns; :meth:`finish` waits for it. Links are checked meanwhile, not all at the end.
    """

    def __init__(
        self,
        rows: Rows,
        writer: Writer,
        imprinter: Imprinter,
        store: MappingStore,
        background: Background,
        progress: Progress,
    ) -> None:
        self.target = writer.using
        self._rows = rows
        self._writer = writer
        self._imprinter = imprinter
        self._store = store
        self._background = background
        self._progress = progress
        self._checkable: Mapping[type[Model], Sequence[str]] = {}
        self._unchecked: Counter[type[Model]] = Counter()
        self._sent: tuple[Batch, Future[Created | None]] | None = None

    def prepare(self, models: Sequence[type[Model]], graph: LinkGraph, journal: Journal) -> None:
        """Begin a transaction. ``models``: in the order of their rows."""
        self._journal = journal
        self._rows.begin()
        self._sent = None
        self._unchecked.clear()
        self._checkable = find_checkable(self.target, models, graph)
        self._writer.look_at(models)
        journal.make_ready()
        self._store.make_ready(models)

    def is_beside(self, layout: Layout) -> bool:
        """Whether rows of a model are sent beside: all that they hold is known without the target, and all that must
        be known of their id mappings is there."""
        is_plain = layout.adapter is None and not layout.skipped and self._has_plain_key(layout.model)
        is_possible = self._background.is_on and self._store.is_only_one
        return is_possible and is_plain and self._rows.is_silent(layout.model)

    def _has_plain_key(self, model: type[Model]) -> bool:
        """Whether nothing is asked of the fields of the primary key when rows are looked for by it."""
        return all(map(self._writer.takes_plainly, self._writer.get_key_fields(model)))

    def create(self, batch: Batch) -> None:
        """Insert rows. A row that is refused may be told by the next call only."""
        insert = self._make_insert(batch) if self.is_beside(batch.layout) else None
        if insert is None:
            self.finish()
            self._background.join()
            self._note(batch, self._insert(batch))
            return
        before = self._wait()
        # Mappings are asked for in the second thread: it must not be while they are noted.
        is_apart = self._store.is_blank(batch.layout.model)
        if before is not None and not is_apart:
            self._note(*before)
        self._sent = batch, self._background.start(lambda: self._send(batch, insert))
        if before is not None and is_apart:
            self._note(*before)

    def _make_insert(self, batch: Batch) -> Callable[[], int] | None:
        """The job that inserts rows; None where one holds what the target has no form of."""
        try:
            return self._writer.make_insert(batch.layout.model, batch.fields, list(zip(*batch.rows, strict=True)))
        except DataError:
            return None

    def finish(self) -> None:
        """Wait for what is on its way."""
        if (before := self._wait()) is not None:
            self._note(*before)

    def _wait(self) -> tuple[Batch, Created] | None:
        """The batch that was on its way. One that is refused is written anew, so that the row at fault is named."""
        if self._sent is None:
            return None
        (batch, future), self._sent = self._sent, None
        created = future.result()
        if created is None:
            self._background.join()
            created = self._insert(batch)
        return batch, created

    def _insert(self, batch: Batch) -> Created:
        """Insert rows in this thread, with their signals."""
        layout = batch.layout
        imprints: dict[Key, tuple[int, int]] = {}
        self._rows.insert(
            *(layout.model, list(batch.keys), batch.targets, batch.fields, batch.rows),
            then=lambda: imprints.update(self._imprinter.read(layout, batch.sources)),
        )
        return Created(imprints, self._find_known(batch))

    def _send(self, batch: Batch, insert: Callable[[], int]) -> Created | None:
        """Insert rows, in the second thread; None where the target refuses them, and none are there."""
        try:
            with transaction.atomic(using=self.target):
                number = insert()
        except DatabaseError as error:
            if not is_refusal(error):
                raise
            return None
        self._rows.note_count(batch.layout.model, batch.targets, number)
        imprints = self._imprinter.read(batch.layout, batch.sources)
        known = self._find_known(batch)
        self._check(batch)
        return Created(imprints, known)

    def _find_known(self, batch: Batch) -> Mapping[Key, Known]:
        """The id mappings of objects whose rows have just been made; what led to these rows before is dropped."""
        model = batch.layout.model
        if self._store.is_blank(model):
            return {}
        self._store.forget(model, batch.targets)
        return self._store.find(model, batch.keys, shared=False)

    def _check(self, batch: Batch) -> None:
        """Have the target check links of rows that it has, where many are not checked. What leads nowhere yet is left
        to the end of the run, and all the rest with it."""
        self._unchecked[batch.layout.model] += len(batch.rows)
        if self._unchecked.total() < CHECKED_AT_ONCE:
            return
        names = ", ".join(name for model in self._unchecked for name in self._checkable.get(model, ()))
        self._unchecked.clear()
        if not names:
            return
        try:
            with transaction.atomic(using=self.target), connections[self.target].cursor() as cursor:
                cursor.execute(f"SET CONSTRAINTS {names} IMMEDIATE")
                cursor.execute(f"SET CONSTRAINTS {names} DEFERRED")
        except (OperationalError, InterfaceError):
            raise
        except DatabaseError:
            self._checkable = {}

    def _note(self, batch: Batch, created: Created) -> None:
        """Keep the id mappings of rows that are there, and log them."""
        imprints, model = created.imprints, batch.layout.model
        notes = [
            Noted(key, target, True, digest, imprints.get(target))
            for key, target, digest in zip(batch.keys, batch.targets, batch.digests, strict=True)
        ]
        self._journal.note(model, list(zip(batch.targets, batch.keys, strict=True)), ADDITION)
        self._store.save(model, notes, created.known)
        self._progress.advance(len(batch.rows))

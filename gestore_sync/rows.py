"""Writes rows of one database in bulk, with the signals that are asked for; a row that is refused is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from django.db import DatabaseError
from django.db.models import Field, Model

from gestore_sync.conf import get_signal_mode
from gestore_sync.exceptions import GestoreSyncError, WriteFailed
from gestore_sync.failures import Attempts
from gestore_sync.keysets import make_key_list
from gestore_sync.reading import find_existing
from gestore_sync.refs import Key, Ref
from gestore_sync.sending import SAVING, Sender
from gestore_sync.translation import Counterparts
from gestore_sync.writers.portable import Writer
from gestore_sync.writers.saving import change, create, load_instances, make_instances

AnyField: TypeAlias = "Field[Any, Any]"
LEFT_OUT = "it is not there after it was written without an error: a trigger, a rule, a policy or a save() does that"
KEPT = "it is there after it was deleted without an error: a trigger, a rule or a policy does that"


class Rows:
    """The rows that one run writes."""

    def __init__(self, writer: Writer, sender: Sender, attempts: Attempts) -> None:
        self.using = writer.using
        self._writer = writer
        self._sender = sender
        self._attempts = attempts
        self._doubts: list[tuple[type[Model], Any, bool]] = []

    def is_silent(self, model: type[Model]) -> bool:
        """Whether rows of ``model`` are written in bulk, and nobody is told."""
        return get_signal_mode(model._meta.label) != "save" and not self._sender.is_heard(model, SAVING)

    def begin(self) -> None:
        """Begin a transaction."""
        self._doubts.clear()

    def insert(
        self,
        model: type[Model],
        keys: list[Key],
        targets: Sequence[Key],
        fields: list[AnyField],
        rows: list[list[Any]],
        *,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Insert rows. ``keys``: those of their objects, by which they are named; ``targets``: those of the rows.
        ``then`` is called when they are there, before anyone is told."""
        names = [field.attname for field in fields]
        made = 0

        def make() -> list[Model]:
            return make_instances(model, self.using, [dict(zip(names, row, strict=True)) for row in rows])

        def insert(some: Sequence[list[Any]]) -> None:
            nonlocal made
            made += self._writer.insert(model, fields, some)

        def write() -> None:
            self._attempts.write(model, keys, rows, insert)
            then()

        self._write(model, keys, make, write, created=True)
        self.note_count(model, targets, made)

    def note_count(self, model: type[Model], targets: Sequence[Key], number: int, *, are_there: bool = True) -> None:
        """Note rows for :meth:`check_doubts` where the database says that it has written, or deleted, ``number``, and
        that is not all. ``are_there``: they should be there then."""
        if number != len(targets):
            keys = make_key_list(model)
            keys.extend(targets)
            self._doubts.append((model, keys, are_there))

    def update(
        self,
        model: type[Model],
        keys: list[Key],
        fields: list[AnyField],
        rows: list[tuple[Key, list[Any]]],
        *,
        first: Callable[[], None] = lambda: None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Set fields of rows, ``(primary key, values)``. ``first`` is called just before it, ``then`` after it, before
        anyone is told."""
        names = [field.attname for field in fields]

        def make() -> list[Model]:
            wanted = [(target, dict(zip(names, values, strict=True))) for target, values in rows]
            return load_instances(model, self.using, wanted)

        def change_all(some: Sequence[tuple[Key, list[Any]]]) -> None:
            self.note_count(model, [target for target, _ in some], self._writer.update(model, fields, some))

        def write() -> None:
            first()
            self._attempts.write(model, keys, rows, change_all)
            then()

        self._write(model, keys, make, write, created=False)

    def check_doubts(self, counterparts: Counterparts) -> None:
        """Look for rows that the database has left out, or kept, without an error, when everything is written: it may
        put them elsewhere, or there later. They are refused as those with an error are."""
        for model, targets, are_there in self._doubts:
            found = find_existing(model, self.using, targets)
            wrong = [key for key in targets if (key in found) is not are_there]
            known = counterparts.maps.get(model) if wrong and are_there else None
            sources = {target: key for key, target in known.items()} if known is not None else {}
            for target in wrong:
                reason = LEFT_OUT if are_there else KEPT
                if target in sources:
                    self._attempts.refuse(Ref(model, sources[target]), self._attempts.source, reason)
                else:
                    self._attempts.refuse(Ref(model, target), self.using, reason)
        self._doubts.clear()

    def _write(
        self,
        model: type[Model],
        keys: Sequence[Key],
        make: Callable[[], list[Model]],
        write: Callable[[], None],
        *,
        created: bool,
    ) -> None:
        """Write a batch in bulk with its signals, or save its instances one by one where the settings want that."""
        if get_signal_mode(model._meta.label) == "save":
            self._each(model, keys, make(), create if created else change)
        else:
            self._sender.around_save(model, make, write, created=created)

    def _each(
        self,
        model: type[Model],
        keys: Sequence[Key],
        instances: Sequence[Model],
        save: Callable[[Model, str], None],
    ) -> None:
        """Save object by object; what a ``save()`` raises is told with the object's name."""

        def write(some: Sequence[Model]) -> None:
            try:
                save(some[0], self.using)
            except (DatabaseError, GestoreSyncError):
                raise
            except Exception as error:
                raise WriteFailed(
                    f"save() failed for {Ref(model, some[0].pk)} of the target {self.using!r}: "
                    f"{type(error).__name__}: {error}. Nothing was written."
                ) from error

        for key, instance in zip(keys, instances, strict=True):
            self._attempts.write(model, [key], [instance], write)

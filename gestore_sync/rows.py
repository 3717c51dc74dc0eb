"""Writes rows of one database in bulk, with the signals that are asked for; a row that is refused is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from django.db import DatabaseError
from django.db.models import Field, Model

from gestore_sync.conf import get_signal_mode
from gestore_sync.exceptions import GestoreSyncError, WriteFailed
from gestore_sync.failures import Attempts
from gestore_sync.refs import Key, Ref
from gestore_sync.sending import SAVING, Sender
from gestore_sync.translation import Counterparts
from gestore_sync.writers.portable import Writer
from gestore_sync.writers.saving import change, create, load_instances, make_instances

AnyField: TypeAlias = "Field[Any, Any]"


class Rows:
    """The rows that one run writes."""

    def __init__(self, writer: Writer, sender: Sender, attempts: Attempts) -> None:
        self.using = writer.using
        self._writer = writer
        self._sender = sender
        self._attempts = attempts

    def is_silent(self, model: type[Model]) -> bool:
        """Whether rows of ``model`` are written in bulk, and nobody is told."""
        return get_signal_mode(model._meta.label) != "save" and not self._sender.is_heard(model, SAVING)

    def insert(
        self,
        model: type[Model],
        keys: list[Key],
        fields: list[AnyField],
        rows: list[list[Any]],
        *,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Insert rows. ``keys``: those of their objects, by which they are named. ``then`` is called when they are
        there, before anyone is told."""
        names = [field.attname for field in fields]

        def make() -> list[Model]:
            return make_instances(model, self.using, [dict(zip(names, row, strict=True)) for row in rows])

        def write() -> None:
            self._attempts.write(model, keys, rows, lambda some: self._writer.insert(model, fields, some))
            then()

        self._write(model, keys, make, write, created=True)

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

        def write() -> None:
            first()
            self._attempts.write(model, keys, rows, lambda some: self._writer.update(model, fields, some))
            then()

        self._write(model, keys, make, write, created=False)

    def check_unwritten(self, counterparts: Counterparts) -> None:
        """Raise :class:`WriteFailed` for a row that the database left out, or kept, without an error."""
        for model, target, is_written in self._writer.iter_unwritten():
            keys = counterparts.maps[model].items() if is_written and model in counterparts.maps else ()
            ref = next((Ref(model, key) for key, found in keys if found == target), None)
            said = f"does not take {ref or Ref(model, target)}" if is_written else f"keeps {Ref(model, target)}"
            raise WriteFailed(
                f"The target {self.using!r} {said}, without an error: a trigger, a rule or a policy of its own does "
                "that. Nothing was written.",
                ref=ref,
                target_ref=Ref(model, target),
            )

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

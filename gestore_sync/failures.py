"""Writing rows so that the one that the target refuses can be named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    connections,
    transaction,
)
from django.db.models import Model

from gestore_sync.databases import can_connect
from gestore_sync.exceptions import DatabaseUnavailable, GestoreSyncError, WriteFailed
from gestore_sync.natural import natural_key_of
from gestore_sync.plan import Failure
from gestore_sync.reading import get_queryset, match_keys
from gestore_sync.refs import Key, Ref, show_key
from gestore_sync.unreadable import can_read

logger = logging.getLogger(__name__)
METHOD_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, ObjectDoesNotExist)
"""What a ``natural_key()`` raises that meets a null link or an odd value; a message must not fail over it."""


class Refused(Exception):
    """A tolerant run has found rows that the target refuses: it must begin anew without them."""

    def __init__(self, refused: list[WriteFailed]) -> None:
        super().__init__(str(refused[0]))
        self.refused = refused


class Attempts:
    """Writes batches on ``target``; where one is refused, finds the first row at fault.

    ``tolerant``: finds all of them and keeps them in ``refused``, for the caller to begin anew without them.
    """

    def __init__(self, source: str, target: str, *, tolerant: bool = False) -> None:
        self.source = source
        self.target = target
        self.tolerant = tolerant
        self.refused: list[WriteFailed] = []
        self._tables: set[str] = set()

    def write(
        self,
        model: type[Model],
        keys: Sequence[Key],
        rows: Sequence[Any],
        write: Callable[[Sequence[Any]], object],
        *,
        using: str | None = None,
    ) -> None:
        """Call ``write`` with ``rows``. ``keys`` are their objects' keys on ``using`` (default: the source).

        Raises :class:`WriteFailed` that names the object; a lost connection is passed on as it is.
        """
        self._tables.add(model._meta.db_table)
        try:
            with transaction.atomic(using=self.target):
                write(rows)
        except DatabaseError as error:
            if not is_refusal(error):
                raise
            if len(rows) > 1:
                half = len(rows) // 2
                self.write(model, keys[:half], rows[:half], write, using=using)
                self.write(model, keys[half:], rows[half:], write, using=using)
                if self.refused:
                    return
                raise WriteFailed(
                    f"The target {self.target!r} refuses rows of {model._meta.label} together: {first_line(error)}."
                ) from error
            self.refuse(Ref(model, keys[0]), using or self.source, first_line(error), error)
        except WriteFailed as refusal:
            if not self.tolerant or len(keys) != 1:
                raise
            refusal.ref = Ref(model, keys[0])
            self.refused.append(refusal)

    def refuse(self, ref: Ref, using: str, reason: str, cause: DatabaseError | None = None) -> None:
        """Note that an object, of ``using``, was refused, perhaps by an error of the database."""
        refusal = self._explain(ref, using, reason)
        if not self.tolerant:
            raise refusal from cause
        self.refused.append(refusal)

    def _explain(self, ref: Ref, using: str, reason: str) -> WriteFailed:
        failure = make_failure(ref, using, reason)
        named = f"{ref} {tuple(failure.natural_key)!r}" if failure.natural_key else str(ref)
        return WriteFailed(
            f"The target {self.target!r} refuses {named}: {reason}. "
            "Mend the object, or what it clashes with on the target.",
            failure=asdict(failure),
            ref=ref if using == self.source else None,
            target_ref=ref if using == self.target else None,
        )

    def check_everything(self) -> None:
        """Check now what the database would check at the commit, tables that Django does not know too."""
        connection = connections[self.target]
        if connection.vendor != "sqlite":
            connection.check_constraints()
            return
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA foreign_key_check")
            row = cursor.fetchone()
        if row is not None:
            raise IntegrityError(f"a row of the table {row[0]!r} points to one of {row[2]!r} that is not there")

    def check_constraints(self) -> None:
        """Check now what the database would check at the commit, so that what is wrong can be named."""
        try:
            connections[self.target].check_constraints(table_names=sorted(self._tables))
        except IntegrityError as error:
            raise WriteFailed(f"The target {self.target!r} refuses the rows: {first_line(error)}.") from error


REFUSING_CLASSES = ("22", "23", "54")
"""The classes of PostgreSQL's error codes that are about a row, not about the server: data, constraints, limits."""
REFUSING_CODES = (3819, 4025)
"""CHECK constraints of MySQL and MariaDB."""


def is_refusal(error: DatabaseError) -> bool:
    """Whether a database refuses a row; otherwise it cannot go on at all."""
    if isinstance(error, OperationalError):
        code = str(getattr(error.__cause__, "sqlstate", None) or "")
        return code[:2] in REFUSING_CLASSES or (bool(error.args) and error.args[0] in REFUSING_CODES)
    return not isinstance(error, NotSupportedError)


def make_failure(ref: Ref, using: str, reason: str) -> Failure:
    """What a report says of an object, of ``using``, that is refused."""
    natural_key = read_natural_keys(ref.model, using, [ref.pk]).get(ref.pk)
    return Failure(ref.model._meta.label, show_key(ref.pk), list(natural_key or ()) or None, reason)


def read_natural_keys(model: type[Model], using: str, keys: Sequence[Key]) -> dict[Key, tuple[Any, ...]]:
    """The natural keys of objects, for messages: one that cannot be told is left out."""
    found: dict[Key, tuple[Any, ...]] = {}
    instances = get_queryset(model, using).filter(match_keys(model, keys))
    if not can_read(instances):
        half = len(keys) // 2
        for some in (keys[:half], keys[half:]) if half else ():
            found |= read_natural_keys(model, using, some)
        return found
    for instance in instances:
        try:
            natural_key = natural_key_of(instance)
        except METHOD_ERRORS as error:
            logger.debug("natural_key() of %s failed: %s", Ref(model, instance.pk), error)
            continue
        if natural_key:
            found[instance.pk] = natural_key
    return found


def first_line(error: Exception) -> str:
    """What a database error says, on one line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " ".join(lines[:2]).rstrip(".")


def explain(error: Exception, source: str, target: str) -> GestoreSyncError:
    """A database's error as one of ours, with what to do."""
    for alias in (target, source):
        connection = connections[alias]
        if connection.connection is not None and not connection.in_atomic_block and connection.is_usable():
            continue
        if isinstance(error, (OperationalError, InterfaceError)) and not can_connect(alias):
            return DatabaseUnavailable(
                f"The database {alias!r} cannot be reached: {first_line(error)}. "
                "Nothing was written on the target; run again when it is back."
            )
    if isinstance(error, (OperationalError, InterfaceError)):
        return DatabaseUnavailable(
            f"A database broke the run off: {first_line(error)}. Nothing was written; run again."
        )
    return WriteFailed(f"A database refused the run: {first_line(error)}. Nothing was written.")

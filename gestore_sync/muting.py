"""Muting the triggers of the change log, statement by statement.

A trigger logs nothing while the session's variable ``gestore_sync.muted`` names it. The variable is set right before
a statement and cleared right after it, for the current transaction only: the database itself forgets it at the end of
the transaction, however that ends, and no savepoint is made while it is set, so that none can bring it back. Nothing of
it reaches the next user of a connection, be it a persistent one or one of a pool.

Every cursor of a connection that was prepared does this: ``execute``, ``executemany``, ``copy``, ``stream`` and
``callproc``, also where Django's wrappers see nothing. Outside of a transaction the statement gets one of its own. Not
muted there are ``CALL`` and ``DO``, which may commit, and strings of several statements that begin with DDL: put them
into ``transaction.atomic()``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from django.db import connections
from django.db.models import Model

from gestore_sync.conf import TRIGGERS, get_option
from gestore_sync.disabling import is_muted
from gestore_sync.exceptions import WrongSetting
from gestore_sync.links import get_concrete

EVERYTHING = "*"
SET_SQL = "SELECT set_config('gestore_sync.muted', %s, true)"

VERB = re.compile(r"(?:[\s(]|--[^\n]*\n|/\*.*?\*/)*([a-z]+)", re.IGNORECASE | re.DOTALL)
CONTROL = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE"})
"""What begins and ends transactions, and makes savepoints."""

MAY_BE_WRAPPED = frozenset(
    {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE", "COPY", "EXECUTE", "EXPLAIN"}
    | {"TRUNCATE", "SET"}
)
"""What may change rows and runs in any transaction."""

_muted: ContextVar[tuple[tuple[str, frozenset[str]], ...]] = ContextVar("gestore_sync_muted_triggers", default=())


@contextmanager
def mute(using: str, *models: type[Model]) -> Iterator[None]:
    """The triggers of one database log no change that is made inside; with ``models``: none of these, their multi-table
    parents included, so that what handlers of signals change meanwhile is logged.

    For statements of this thread or task only. Nothing happens on other databases than PostgreSQL.
    """
    prepare_connection(connections[using])
    muted = [table for model in models for table in (get_concrete(model), *model._meta.all_parents)]
    labels = frozenset(model._meta.label_lower for model in muted) or frozenset({EVERYTHING})
    token = _muted.set((*_muted.get(), (using, labels)))
    try:
        yield
    finally:
        _muted.reset(token)


def get_muted(using: str) -> str:
    """What the variable must say for a statement that is executed now; empty where all is logged."""
    labels = {EVERYTHING} if is_muted() else {label for alias, some in _muted.get() if alias == using for label in some}
    return ",".join(sorted(labels))


def is_wanted() -> bool:
    """Whether the settings say that triggers write the log."""
    try:
        return bool(get_option("CAPTURE") == TRIGGERS)
    except WrongSetting:
        return False


def prepare_new_connection(connection: Any, **kwargs: Any) -> None:
    """The receiver of ``connection_created``."""
    if is_wanted() or any(alias == connection.alias for alias, _ in _muted.get()):
        prepare_connection(connection)


def prepare_open_connections(*, setting: str, **kwargs: Any) -> None:
    """The receiver of Django's ``setting_changed``: tests change settings while they run."""
    if setting == "GESTORE_SYNC" and is_wanted():
        for connection in connections.all(initialized_only=True):
            if connection.connection is not None:
                prepare_connection(connection)


def prepare_connection(connection: Any) -> None:
    """Let the cursors of a PostgreSQL connection mute the triggers when they have to."""
    if connection.vendor != "postgresql" or connection.Database.__name__ != "psycopg":
        return
    if connection.connection is None:
        connection.ensure_connection()
    raw = connection.connection
    factory: Any = raw.cursor_factory
    if not issubclass(factory, MutingCursor):
        raw.cursor_factory = make_cursor_class(factory, connection.alias)


@cache
def make_cursor_class(factory: Any, using: str) -> type:
    """A subclass of a class of cursors that mutes the triggers of one database when it has to."""
    return type(f"Muting{factory.__name__}", (MutingCursor, factory), {"using": using})


class MutingCursor:
    """What is added to a psycopg cursor."""

    using: str
    connection: Any

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        """Execute a statement."""
        with self.muting(query):
            return super().execute(query, *args, **options)  # type: ignore[misc]

    def executemany(self, query: Any, *args: Any, **options: Any) -> Any:
        """Execute a statement with many parameters."""
        with self.muting(query):
            return super().executemany(query, *args, **options)  # type: ignore[misc]

    def stream(self, query: Any, *args: Any, **options: Any) -> Iterator[Any]:
        """Execute a statement and read its rows one by one."""
        with self.muting(query):
            yield from super().stream(query, *args, **options)  # type: ignore[misc]

    @contextmanager
    def copy(self, statement: Any, *args: Any, **options: Any) -> Iterator[Any]:
        """COPY."""
        with self.muting(statement), super().copy(statement, *args, **options) as copy:  # type: ignore[misc]
            yield copy

    @contextmanager
    def muting(self, query: Any) -> Iterator[None]:
        """Set the variable for one statement, if it has to be."""
        muted = get_muted(self.using)
        if not muted:
            yield
            return
        state = self.connection.info.transaction_status
        verb = find_verb(query, self.connection)
        if state.name in ("INERROR", "UNKNOWN") or verb in CONTROL:
            yield
        elif not (self.connection.autocommit and state.name == "IDLE"):
            with tell(self.connection, muted):
                yield
        elif verb in MAY_BE_WRAPPED:
            with self.connection.transaction(), tell(self.connection, muted):
                yield
        else:
            yield


@contextmanager
def tell(connection: Any, muted: str) -> Iterator[None]:
    """Set the variable, and clear it in the end, unless that is left to the end of a transaction that is broken."""
    from psycopg import ClientCursor

    ClientCursor(connection).execute(SET_SQL, [muted])
    try:
        yield
    finally:
        if connection.info.transaction_status.name in ("INTRANS", "ACTIVE"):
            ClientCursor(connection).execute(SET_SQL, [""])


def find_verb(query: Any, connection: Any) -> str:
    """The first word of a statement, in capitals."""
    if isinstance(query, bytes):
        query = query.decode(errors="replace")
    text = query if isinstance(query, str) else query.as_string(connection)
    found = VERB.match(text)
    return found[1].upper() if found else ""

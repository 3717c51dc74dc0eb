"""Transactions as a run needs them: one snapshot of the source, all or nothing on the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from django.db import DatabaseError, connections, transaction

from gestore_sync.exceptions import GestoreSyncError, HookFailed, WrongDatabase
from gestore_sync.tuning import reading_moments_fast

Result = TypeVar("Result")
TRIES = 3


@contextmanager
def read_snapshot(using: str) -> Iterator[None]:
    """A transaction in which every query sees the same state (repeatable read on PostgreSQL).

    Within a transaction that is already open, that one's isolation holds, and what is written is undone on an error.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        with transaction.atomic(using=using):
            yield
        return
    with transaction.atomic(using=using):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with reading_moments_fast(connection):
            yield


@contextmanager
def write_all_or_nothing(using: str, lock: str | None = None) -> Iterator[None]:
    """A transaction for writing what was planned in it: rows that others change meanwhile make it fail, not lose.

    Repeatable read on PostgreSQL, after waiting for other runs, which hold the table ``lock``; on SQLite the write lock
    is taken at the beginning. Raises :class:`HookFailed` for what fails after the commit.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        with read_snapshot(using):
            yield
        return
    mode = getattr(connection, "transaction_mode", None)
    if connection.vendor == "sqlite":
        connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]
    try:
        with committing(using):
            if connection.vendor == "sqlite":
                connection.transaction_mode = mode  # type: ignore[attr-defined]
            elif connection.vendor == "postgresql":
                begin_alone(using, lock)
            with reading_moments_fast(connection):
                yield
    finally:
        if connection.vendor == "sqlite":
            connection.transaction_mode = mode  # type: ignore[attr-defined]


@contextmanager
def committing(using: str) -> Iterator[None]:
    """A transaction that tells what fails in it from what fails after its commit: that undoes nothing."""
    committed: list[str] = []
    try:
        with transaction.atomic(using=using):
            transaction.on_commit(lambda: committed.append(using), using=using)
            yield
    except BaseException as error:
        if not committed or isinstance(error, GestoreSyncError):
            raise
        raise HookFailed(
            f"What was written to {using!r} is committed and stays. After the commit the application failed, in a "
            f"function that it has given to transaction.on_commit(): {type(error).__name__}: {error}.",
            using=using,
        ) from error


@contextmanager
def write_with(using: str, lock: str | None, others: Iterable[str]) -> Iterator[None]:
    """The same for several databases. ``using`` keeps account of what is in the others, and is committed after them,
    also where a hook of the application fails meanwhile."""
    failed: list[HookFailed] = []
    with write_all_or_nothing(using, lock), ExitStack() as stack:
        for alias in others:
            stack.enter_context(outliving_hooks(alias, failed))
            stack.enter_context(write_all_or_nothing(alias))
        yield
    if failed:
        raise failed[0]


@contextmanager
def outliving_hooks(using: str, failed: list[HookFailed]) -> Iterator[None]:
    """Put aside what a hook raises after the commit of a database."""
    try:
        yield
    except HookFailed as error:
        if error.using != using:
            raise
        failed.append(error)


def check_transactions(*aliases: str) -> None:
    """Raise :class:`WrongDatabase` where the caller has a transaction open, which it may still undo."""
    for alias in aliases:
        blocks: list[Any] = connections[alias].atomic_blocks
        if blocks and not blocks[-1]._from_testcase:
            raise WrongDatabase(
                f"The change log cannot be sent within a transaction of {alias!r} that the caller may undo: one side "
                "would know of it, the other would not. Call it outside of transaction.atomic()."
            )


def begin_alone(using: str, lock: str | None) -> None:
    """Let one run write at a time. LOCK TABLE takes no snapshot: what is read after it is what the last run left."""
    with connections[using].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        if lock is not None:
            cursor.execute(f"LOCK TABLE {connections[using].ops.quote_name(lock)} IN SHARE ROW EXCLUSIVE MODE")


def may_be_repeated(error: DatabaseError) -> bool:
    """Whether the database broke the transaction off because of others at work: serialization failure or deadlock."""
    code = getattr(error.__cause__, "sqlstate", None)
    return code in ("40001", "40P01") or (error.args and error.args[0] in (1205, 1213)) is True


def repeat(run: Callable[[], Result], using: str) -> Result:
    """What ``run`` returns; once more from the beginning where the database broke it off because of others at work,
    three times in all. Within a transaction that is open on ``using`` already it is not tried again."""
    for attempt in range(1, TRIES):
        try:
            return run()
        except DatabaseError as error:
            if not may_be_repeated(error) or connections[using].in_atomic_block:
                raise
            time.sleep(0.1 * attempt)
    return run()

"""Statements that a database carries out while the next batch is made ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from itertools import chain
from threading import get_ident
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from django.db import DatabaseError, connections
from django.db.models import CompositePrimaryKey, Model, QuerySet
from django.db.models.sql.constants import MULTI

from gestore_sync.reading import iter_rows, make_rows
from gestore_sync.refs import Key
from gestore_sync.triggers import has_triggers
from gestore_sync.unreadable import naming_unreadable

T = TypeVar("T")


def read_beside(rows: QuerySet[Any], meanwhile: Callable[[], T]) -> tuple[T, list[tuple[Any, ...]]]:
    """What ``meanwhile`` gives, which asks another database, and the rows of a query of values, which a second thread
    reads at the same time where the database takes that."""
    connection: Any = connections[rows.db]
    compiler = rows.query.get_compiler(connection=connection)  # a thread of its own would be given another connection

    def read() -> list[tuple[Any, ...]]:
        return list(compiler.results_iter(tuple_expected=True))

    if connection.vendor != "postgresql":
        return meanwhile(), read()
    connection.ensure_connection()
    connection.inc_thread_sharing()
    try:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="gestore_sync") as pool:
            reading = pool.submit(read)
            return meanwhile(), reading.result()
    finally:
        connection.dec_thread_sharing()


class ReadAhead:
    """Gives each batch of keys with ``(pk, *values at paths)`` of the rows of the query that ``make`` gives for it. A
    second thread asks for those of the next batch while the caller has this one, on a connection to PostgreSQL; what
    fields make of the values of the database they make in the caller's thread.

    As a context manager it waits at the end. Where the caller ends with an error of the database, and the reading has
    failed before it, its error is raised: the other one follows from it.
    """

    def __init__(
        self, batches: Iterable[list[Key]], using: str, make: Callable[[list[Key]], QuerySet[Any]], paths: Sequence[str]
    ) -> None:
        self._batches = batches
        self._make = make
        self._paths = paths
        self._connection: Any = connections[using]
        self._started: deque[Reading] = deque()

    def __enter__(self) -> ReadAhead:
        self._connection.ensure_connection()
        self._connection.inc_thread_sharing()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gestore_sync")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        futures = [reading.raw for reading in self._started]
        try:
            shut_down(self._pool, self._connection, futures, error)
        finally:
            self._connection.dec_thread_sharing()
        raise_cause(futures, error)

    def __iter__(self) -> Iterator[tuple[list[Key], list[tuple[Any, ...]]]]:
        for batch in chain(self._batches, [None]):
            if batch is not None:
                self._start(batch)
            while len(self._started) > (batch is not None):
                yield self._finish()

    def _start(self, keys: list[Key]) -> None:
        rows = self._make(keys)
        compiler = rows.values_list("pk", *self._paths).query.get_compiler(connection=self._connection)
        raw = self._pool.submit(copy_context().run, compiler.execute_sql, MULTI)
        self._started.append(Reading(keys, rows, compiler, raw))

    def _finish(self) -> tuple[list[Key], list[tuple[Any, ...]]]:
        reading = self._started[0]
        with naming_unreadable(reading.rows, self._paths):
            raw = reading.raw.result()
            found = list(reading.compiler.results_iter(results=raw, tuple_expected=True))
        self._started.popleft()
        return reading.keys, found


def read_batches(
    model: type[Model],
    using: str,
    batches: Iterable[list[Key]],
    paths: Sequence[str],
    narrow: Callable[[QuerySet[Any]], QuerySet[Any]] | None = None,
) -> AbstractContextManager[Iterable[tuple[list[Key], Iterable[tuple[Any, ...]]]]]:
    """Batches of keys of rows, each with ``(pk, *values at paths)`` of its rows, read before they are asked for where
    the database takes that. ``narrow`` may annotate, filter or sort."""
    if connections[using].vendor != "postgresql" or isinstance(model._meta.pk, CompositePrimaryKey):
        return nullcontext((keys, iter_rows(model, using, keys, paths, narrow)) for keys in batches)
    return ReadAhead(batches, using, lambda keys: make_rows(model, using, keys, narrow), paths)


class Reading(NamedTuple):
    """Rows that are being read: the query, what makes Python values of what the database says, and that."""

    keys: list[Key]
    rows: QuerySet[Any]
    compiler: Any
    raw: Future[Any]


def shut_down(
    pool: ThreadPoolExecutor, connection: Any, futures: Sequence[Future[Any]], error: BaseException | None
) -> None:
    """End a second thread. Where the caller was interrupted, nobody waits for its statement any more."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)) and not all(future.done() for future in futures):
        connection.connection.cancel()
    pool.shutdown(cancel_futures=error is not None)


def raise_cause(futures: Sequence[Future[Any]], error: BaseException | None) -> None:
    """Where the caller ends with an error of the database, raise that of the second thread from which it follows."""
    for future in futures if isinstance(error, DatabaseError) else ():
        failed = None if future.cancelled() else future.exception()
        if failed is not None and failed is not error and not is_aborted(failed):
            raise failed from error


def is_over(future: Future[Any]) -> bool:
    """Whether a job has ended well."""
    return future.done() and not future.cancelled() and future.exception() is None


def is_aborted(error: BaseException) -> bool:
    """Whether the database says only that another statement of the transaction has failed."""
    return getattr(error.__cause__, "sqlstate", None) == "25P02"


class Background:
    """Runs jobs one after the other in a second thread, on the connection of the first one, whose own statements wait
    for them; COPY does not: :meth:`join` comes before it. Where a database does not take that, jobs run at once.

    In jobs the alias of the database means this connection; those of others would mean new ones. As a context manager
    it waits at the end. An error of a job is raised; also where another one of the database is under way, which follows
    from it.
    """

    def __init__(self, using: str | None = None) -> None:
        self._using = using or ""
        self._connection: Any = None
        connection: Any = connections[using] if using is not None else None
        if connection is not None and connection.vendor == "postgresql" and not has_triggers(connection):
            self._connection = connection
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: list[Future[object]] = []
        self._futures: list[Future[Any]] = []
        self._thread = 0

    def __enter__(self) -> Background:
        if self._connection is not None:
            self._pool = ThreadPoolExecutor(1, "gestore_sync", self._lend)
            self._connection.inc_thread_sharing()
            self._connection.execute_wrappers.append(self._wait)
        return self

    def _lend(self) -> None:
        self._thread = get_ident()
        connections[self._using] = self._connection

    def _wait(self, carry_out: Callable[..., Any], *arguments: Any) -> Any:
        """Let a statement of the first thread wait for the jobs, as one connection carries out one at a time."""
        if self._futures and get_ident() != self._thread:
            wait(self._futures[-1:])
        return carry_out(*arguments)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        futures, self._futures = self._futures, []
        try:
            shut_down(pool, self._connection, futures, error)
        finally:
            self._connection.execute_wrappers.remove(self._wait)
            self._connection.dec_thread_sharing()
        if kind is None:
            self.join()
        self._jobs.clear()
        raise_cause(futures, error)

    @property
    def is_on(self) -> bool:
        """Whether there is a second thread."""
        return self._pool is not None

    def run(self, job: Callable[[], object]) -> None:
        """Run a job, now or while the caller goes on."""
        if self._pool is None:
            job()
        else:
            self._jobs.append(self.start(job))

    def start(self, job: Callable[[], T]) -> Future[T]:
        """Run a job while the caller goes on, who asks for what it gives, and for its error."""
        assert self._pool is not None
        started = self._pool.submit(copy_context().run, job)
        self._futures = [*(future for future in self._futures if not is_over(future)), started]
        return started

    def join(self) -> None:
        """Wait for all jobs. Raises what the first one raised that failed."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.result()

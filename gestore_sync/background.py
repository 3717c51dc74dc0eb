"""Statements that a database carries out while the next batch is made ready."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from django.db import DatabaseError, connections
from django.db.models import QuerySet

from gestore_sync.triggers import has_triggers

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


class Background:
    """Runs jobs one after the other in a second thread, on a connection that the first one leaves alone until it has
    called :meth:`join`. Where a database does not take that, they run at once.

    As a context manager it waits at the end. An error of a job is raised; also where another one of the database is
    under way, which follows from it.
    """

    def __init__(self, using: str | None = None) -> None:
        self._connection: Any = None
        connection: Any = connections[using] if using is not None else None
        if connection is not None and connection.vendor == "postgresql" and not has_triggers(connection):
            self._connection = connection
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: list[Future[None]] = []

    def __enter__(self) -> Background:
        if self._connection is not None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gestore_sync")
            self._connection.inc_thread_sharing()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        self._pool.shutdown(cancel_futures=kind is not None)
        self._connection.dec_thread_sharing()
        self._pool = None
        if kind is None:
            self.join()
            return
        jobs, self._jobs = self._jobs, []
        failed = next((job.exception() for job in jobs if not job.cancelled() and job.exception()), None)
        if failed is not None and failed is not error and isinstance(error, DatabaseError):
            raise failed from error

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, now or while the caller goes on. It must ask for no connection by its alias: those of another
        thread are others."""
        if self._pool is None:
            job()
        else:
            self._jobs.append(self._pool.submit(job))

    def join(self) -> None:
        """Wait for all jobs. Raises what the first one raised that failed."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.result()

"""What the benchmarks have in common: databases, steps in processes of their own, and what is measured of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django

from testproject.databases import ALIASES, create_databases, drop_databases

LOCAL, REMOTE = "default", "remote"
PUSH, FIXTURE = f"campus_bench_{os.getpid()}", f"campus_bench_fixture_{os.getpid()}"
"""The first parts of databases' names: two benchmarks of one server are not in each other's way."""


@dataclass(frozen=True)
class Measure:
    """What one step took."""

    objects: int
    seconds: float
    queries: int
    memory: int

    @property
    def rate(self) -> float:
        """Objects per second."""
        return self.objects / self.seconds

    def __add__(self, other: Measure) -> Measure:
        """Return the two steps as one, after each other."""
        return Measure(
            max(self.objects, other.objects),
            self.seconds + other.seconds,
            self.queries + other.queries,
            max(self.memory, other.memory),
        )


@contextmanager
def temporary_databases(kind: str, *, durable: bool = False) -> Iterator[dict[str, str]]:
    """Yield the environment that names empty databases, which are removed afterwards. ``durable``: commits of
    PostgreSQL wait for the disk."""
    environ = {name: value for name, value in os.environ.items() if name != "POSTGRES_URL"}
    environ |= {"DJANGO_SETTINGS_MODULE": "testproject.settings", "CAMPUS_DEBUG": "0"}
    with ExitStack() as stack:
        environ["CAMPUS_DATA"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="campus_bench_"))
        if kind == "postgresql":
            from tests.postgres import running_server

            url = environ["POSTGRES_URL"] = stack.enter_context(running_server(durable=durable))
            names = [f"{name}_{side}" for name in (PUSH, FIXTURE) for side in ALIASES.values()]
            create_databases(url, names, anew=True)
            stack.callback(drop_databases, url, names)
        yield environ


def start(module: str, step: str, argument: str, environ: dict[str, str]) -> Measure:
    """Run one step of a benchmark in its own process; return what it measured."""
    command = [sys.executable, "-m", module, "--step", step, "--argument", argument]
    folder = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, env=environ, cwd=folder, check=True, capture_output=True, text=True)
    return Measure(**json.loads(done.stdout.splitlines()[-1]))


def run(prepare: Callable[[], Callable[[], Any]], finish: Callable[[], int]) -> int:
    """Do one step in this process and print its measure as JSON, on the last line.

    What ``prepare`` does is not measured, what the function that it returns does is; ``finish`` checks what came of it
    and returns how many objects it was.
    """
    django.setup()
    action = prepare()
    connect()
    memory = forget_peak()
    with counted_queries() as queries:
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
    memory = peak_memory() - memory
    print(json.dumps({"objects": finish(), "seconds": seconds, "queries": len(queries), "memory": memory}))
    return 0


def step_prepare(learners: str) -> Callable[[], Any]:
    """Migrate both databases and seed LOCAL with one organization, unless it has no learners."""
    from django.core.management import call_command
    from django.db import connections

    def prepare() -> None:
        for alias in (LOCAL, REMOTE):
            call_command("migrate", database=alias, verbosity=0)
        if int(learners):
            call_command("seedcampus", learners=int(learners), organizations=1)
        with connections[LOCAL].cursor() as cursor:
            cursor.execute("ANALYZE")

    return prepare


def step_dumpdata(path: str) -> Callable[[], Any]:
    """Dump the tables of LOCAL into a file."""
    from django.core.management import call_command

    return lambda: call_command("dumpdata", "campus", database=LOCAL, output=path, verbosity=0)


def step_loaddata(path: str) -> Callable[[], Any]:
    """Load a file into REMOTE."""
    from django.core.management import call_command

    return lambda: call_command("loaddata", path, database=REMOTE, verbosity=0)


def count_rows(using: str) -> int:
    """Return how many rows the platform has, without its audit log, which belongs to no organization."""
    from django.apps import apps

    models = apps.get_app_config("campus").get_models(include_auto_created=True)
    return sum(model._base_manager.using(using).count() for model in models if model._meta.label != "campus.AuditEntry")


def connect() -> None:
    from django.db import connections

    for connection in connections.all():
        connection.ensure_connection()


@contextmanager
def counted_queries() -> Iterator[list[None]]:
    """Yield a list that grows by one with every call of a cursor, on all databases."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    calls: list[None] = []

    def count(execute: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(None)
        return execute(*arguments)

    def watch(connection: Any, **_: Any) -> None:
        if count not in connection.execute_wrappers:
            connection.execute_wrappers.append(count)

    with ExitStack() as stack:
        connection_created.connect(watch)
        stack.callback(connection_created.disconnect, watch)
        for connection in connections.all():
            watch(connection)
        if connections[REMOTE].vendor == "postgresql":
            stack.enter_context(counted_copies(calls))
        yield calls


@contextmanager
def counted_copies(calls: list[None]) -> Iterator[None]:
    """Count COPY, which does not pass through Django's wrappers."""
    import psycopg

    original = psycopg.Cursor.copy

    def copy(cursor: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(None)
        return original(cursor, *arguments, **options)

    psycopg.Cursor.copy = copy  # type: ignore[method-assign]
    try:
        yield
    finally:
        psycopg.Cursor.copy = original  # type: ignore[method-assign]


def forget_peak() -> int:
    """Forget what memory this process has had; return what it has."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        with suppress(OSError):
            clear.write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

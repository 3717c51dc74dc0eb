"""The benchmark: an organization moves between two databases, beside `dumpdata | loaddata` of its tables.

`python -m testproject.bench` seeds LOCAL with one organization of about ten objects for each learner,
pushes it to an empty REMOTE and pushes it again. Then it moves a smaller organization with `dumpdata` and
`loaddata` between two more databases: their objects/s do not depend on the size, and `--fixture-learners`
makes it as large.

Each step runs in a process of its own. An object is a row, rows of many-to-many tables included. A query
is one call of a database cursor, COPY included. Memory is how far the peak of the process rose above what
it had before the step, with everything imported and connected.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
from rich.console import Console
from rich.table import Table

from testproject.databases import ALIASES, create_databases, drop_databases

LOCAL, REMOTE = "default", "remote"
PUSH, FIXTURE = "campus_bench", "campus_bench_fixture"

console = Console(highlight=False)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one step of it; return the exit code."""
    options = _parse(arguments)
    if options.step:
        return _run_step(options.step, options.argument)
    kinds = ["sqlite", "postgresql"] if options.databases == "both" else [options.databases]
    try:
        for kind in kinds:
            with temporary_databases(kind) as environ:
                _show(kind, options, _measure_all(kind, options, environ))
    except subprocess.CalledProcessError as error:
        console.print(f"[red bold]Failed:[/] {' '.join(error.cmd)}\n{error.stderr or ''}")
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testproject.bench", description=__doc__)
    parser.add_argument("--learners", type=int, default=10_000, metavar="N", help="default: 10,000")
    parser.add_argument("--fixture-learners", type=int, default=2_000, metavar="N", help="default: 2,000")
    parser.add_argument("--databases", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--argument", default="", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


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


def _measure_all(kind: str, options: argparse.Namespace, environ: dict[str, str]) -> dict[str, Measure]:
    fixture = str(Path(environ["CAMPUS_DATA"]) / "campus.json")
    found = {}
    for name, title, step, argument in [
        (PUSH, "", "prepare", str(options.learners)),
        (PUSH, "first push", "push", ""),
        (PUSH, "second push", "push", ""),
        (FIXTURE, "", "prepare", str(options.fixture_learners)),
        (FIXTURE, "dumpdata", "dumpdata", fixture),
        (FIXTURE, "loaddata", "loaddata", fixture),
    ]:
        with console.status(f"{kind}: {title or step}"):
            measure = _start(step, argument, {**environ, "CAMPUS_NAME": name})
        if title:
            found[title] = measure
    found["dumpdata | loaddata"] = found["dumpdata"] + found["loaddata"]
    return found


def _start(step: str, argument: str, environ: dict[str, str]) -> Measure:
    """Run one step in its own process; return what it measured."""
    command = [sys.executable, "-m", "testproject.bench", "--step", step, "--argument", argument]
    folder = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, env=environ, cwd=folder, check=True, capture_output=True, text=True)
    return Measure(**json.loads(done.stdout.splitlines()[-1]))


def _show(kind: str, options: argparse.Namespace, measures: dict[str, Measure]) -> None:
    reference = measures["dumpdata | loaddata"].rate
    title = f"{kind}: {options.learners:,} learners pushed, {options.fixture_learners:,} as a fixture"
    table = Table("", title=title, title_justify="left", box=None, padding=(0, 1))
    for heading in ("objects", "seconds", "objects/s", "queries\n/object", "added\nMB", "times\ndump | load"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step, measure in measures.items():
        table.add_row(
            step,
            f"{measure.objects:,}",
            f"{measure.seconds:.2f}",
            f"{measure.rate:,.0f}",
            f"{measure.queries / measure.objects:.4f}",
            f"{measure.memory / 2**20:.0f}",
            f"{measure.rate / reference:.1f}",
        )
    console.print(table)
    console.print()


def _run_step(step: str, argument: str) -> int:
    """Do one step in this process and print its measure as JSON, on the last line."""
    django.setup()
    action = STEPS[step](argument)
    _connect()
    memory = _peak_memory()
    with _counted_queries() as queries:
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
    memory = _peak_memory() - memory
    if step == "push":
        _check_arrived()
    side = LOCAL if step in ("prepare", "dumpdata") else REMOTE
    measure = {"objects": _count_rows(side), "seconds": seconds, "queries": len(queries), "memory": memory}
    print(json.dumps(measure))
    return 0


def _step_prepare(learners: str) -> Callable[[], Any]:
    from django.core.management import call_command
    from django.db import connections

    def prepare() -> None:
        for alias in (LOCAL, REMOTE):
            call_command("migrate", database=alias, verbosity=0)
        call_command("seedcampus", learners=int(learners), organizations=1)
        with connections[LOCAL].cursor() as cursor:
            cursor.execute("ANALYZE")

    return prepare


def _step_push(_: str) -> Callable[[], Any]:
    from gestore_sync import api
    from testproject.campus.models import Organization

    root = Organization.objects.using(LOCAL).get()

    return lambda: api.synchronize([root], source=LOCAL, remote=REMOTE)


def _step_dumpdata(path: str) -> Callable[[], Any]:
    from django.core.management import call_command

    return lambda: call_command("dumpdata", "campus", database=LOCAL, output=path, verbosity=0)


def _step_loaddata(path: str) -> Callable[[], Any]:
    from django.core.management import call_command

    return lambda: call_command("loaddata", path, database=REMOTE, verbosity=0)


STEPS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "prepare": _step_prepare,
    "push": _step_push,
    "dumpdata": _step_dumpdata,
    "loaddata": _step_loaddata,
}


def _count_rows(using: str) -> int:
    """Return how many rows the platform has, without its audit log, which belongs to no organization."""
    from django.apps import apps

    models = apps.get_app_config("campus").get_models(include_auto_created=True)
    return sum(model._base_manager.using(using).count() for model in models if model._meta.label != "campus.AuditEntry")


def _check_arrived() -> None:
    from testproject.campus.models import Organization
    from testproject.campus.portrait import owned_rows

    code = Organization.objects.using(LOCAL).get().code
    if owned_rows(code, LOCAL) != owned_rows(code, REMOTE):
        sys.exit(f"What {code} owns is not the same on both sides.")


def _connect() -> None:
    from django.db import connections

    for connection in connections.all():
        connection.ensure_connection()


@contextmanager
def _counted_queries() -> Iterator[list[None]]:
    """Yield a list that grows by one with every call of a cursor, on all databases."""
    from django.db import connections

    calls: list[None] = []

    def count(execute: Callable[..., Any], *arguments: Any) -> Any:
        calls.append(None)
        return execute(*arguments)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(count))
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


def _peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())

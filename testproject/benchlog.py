"""The benchmark of the change log: what logging costs, and how fast `synchronize` sends what was logged.

`python -m testproject.benchlog` seeds LOCAL, pushes everything to REMOTE, and then
- saves objects with and without the log, and prints what an entry costs;
- changes objects of five models, sends the changes with `synchronize`, and compares the rate with one
  `save(using="remote")` for each object, not logged: in autocommit, as a loop would do it, and in one transaction;
- lets the databases write the same number of rows by themselves, one statement for each table, with nothing read,
  carried or decided: the limit.

Each step runs in a process of its own. Queries are counted on each side. PostgreSQL waits for the disk at commits, as
a server in use does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import django
from rich.console import Console
from rich.table import Table

from testproject.measuring import LOCAL, PUSH, REMOTE, counted_copies, temporary_databases

console = Console(highlight=False, width=120)
FIELDS = {
    "Person": "first_name",
    "Profile": "headline",
    "Comment": "text",
    "Enrolment": "progress",
    "Certificate": "issued",
}
"""The models of which objects change, and what changes of each."""
REPEATS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one step of it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testproject.benchlog", description=__doc__)
    parser.add_argument("--learners", type=int, default=10_000, metavar="N", help="default: 10,000")
    parser.add_argument("--changes", type=int, default=10_000, metavar="N", help="default: 10,000")
    parser.add_argument("--databases", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        django.setup()
        print(json.dumps(STEPS[options.step](options.number)))
        return 0
    for kind in ["sqlite", "postgresql"] if options.databases == "both" else [options.databases]:
        try:
            with temporary_databases(kind, durable=True) as environ:
                show(kind, measure(options, {**environ, "CAMPUS_NAME": PUSH}))
        except subprocess.CalledProcessError as error:
            console.print(f"[red bold]Failed:[/] {' '.join(error.cmd)}\n{error.stderr or ''}")
            return 1
    return 0


def measure(options: argparse.Namespace, environ: dict[str, str]) -> dict[str, Any]:
    """Run all steps; what each of them found."""
    found = {}
    for step, number in (("prepare", options.learners), ("log", options.changes // 5), ("send", options.changes)):
        command = [sys.executable, "-m", "testproject.benchlog", "--step", step, "--number", str(number)]
        folder = Path(__file__).resolve().parent.parent
        with console.status(step):
            done = subprocess.run(command, env=environ, cwd=folder, check=True, capture_output=True, text=True)
        found[step] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(kind: str, found: dict[str, Any]) -> None:
    """Print what was found."""
    log, send = found["log"], found["send"]
    table = Table(title=f"{kind}: the change log", title_justify="left", box=None, padding=(0, 1))
    table.add_column("", no_wrap=True)
    for heading in ("objects", "objects/s", "queries/object\nLOCAL", "queries/object\nREMOTE", "times"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("save(), not logged", f"{log['number']:,}", f"{log['plain']:,.0f}", "", "", "1.0")
    times = f"{log['plain'] / log['logged']:.2f} the time"
    table.add_row("save(), logged", f"{log['number']:,}", f"{log['logged']:,.0f}", "", "", times)
    for title, name in (("", "autocommit"), (", one transaction", "transaction")):
        times = f"{send['rate'] / send[name]:.1f} times slower"
        table.add_row(f'save(using="remote"){title}', f"{send['sample']:,}", f"{send[name]:,.0f}", "", "", times)
    per_object = [f"{send['queries'][alias] / send['number']:.4f}" for alias in (LOCAL, REMOTE)]
    table.add_row("synchronize", f"{send['number']:,}", f"{send['rate']:,.0f}", *per_object, "1.0")
    times = f"{send['alone'] / send['rate']:.1f} times faster"
    table.add_row("statements alone", f"{send['number']:,}", f"{send['alone']:,.0f}", "", "", times)
    console.print(table)
    console.print()


def prepare(learners: int) -> dict[str, Any]:
    """Make both databases, and push everything once."""
    from django.core.management import call_command

    from gestore_sync import DisableSynchroLog, api
    from testproject.campus.models import Organization

    for alias in (LOCAL, REMOTE):
        call_command("migrate", database=alias, verbosity=0)
    with DisableSynchroLog():
        call_command("seedcampus", learners=learners, organizations=1, verbosity=0)
    api.synchronize([Organization.objects.get()])
    return {}


def log(number: int) -> dict[str, Any]:
    """Save objects with and without the log, by turns; objects/s of the fastest of each."""
    from django.db import transaction

    from gestore_sync import DisableSynchroLog
    from testproject.campus.models import Enrolment

    objects = list(Enrolment.objects.all()[:number])

    def save() -> None:
        with transaction.atomic():
            for enrolment in objects:
                enrolment.save()

    def save_unlogged() -> None:
        with DisableSynchroLog():
            save()

    save_unlogged()
    logged = max(len(objects) / timed(save) for _ in range(REPEATS))
    plain = max(len(objects) / timed(save_unlogged) for _ in range(REPEATS))
    return {"number": len(objects), "logged": logged, "plain": plain}


def send(number: int) -> dict[str, Any]:
    """Change objects, send them; objects/s and queries beside one save for each object on REMOTE."""
    from django.apps import apps
    from django.db import transaction

    from gestore_sync import DisableSynchroLog, api

    api.synchronize()
    objects: list[Any] = []
    for name in FIELDS:
        model = apps.get_model("campus", name)
        objects += model._default_manager.order_by("pk")[: number // len(FIELDS)]

    def save_there() -> None:
        with DisableSynchroLog():
            for instance in sample:
                instance.save(using=REMOTE)

    def save_there_at_once() -> None:
        with transaction.atomic(using=REMOTE):
            save_there()

    sample = objects[:: max(1, len(objects) // 2000)]
    autocommit = len(sample) / min(timed(save_there) for _ in range(REPEATS))
    at_once = len(sample) / min(timed(save_there_at_once) for _ in range(REPEATS))
    seconds, alone, changed = [], [], 0
    for turn in range(REPEATS):
        change(objects, turn)
        alone.append(timed(lambda: write_alone(len(objects) // len(FIELDS))))
        with counted() as queries:
            seconds.append(timed(lambda: reports.append(api.synchronize())))
        changed = sum(reports[-1].updated.values())
        if changed != len(objects):
            sys.exit(f"{changed} of {len(objects)} changes were sent: {reports[-1].as_dict()}")
    rates = {"rate": changed / min(seconds), "autocommit": autocommit, "transaction": at_once}
    rates["alone"] = changed / min(alone)
    return {"number": changed, "sample": len(sample), "queries": queries, **rates}


reports: list[Any] = []


def write_alone(number: int) -> None:
    """Write what a run writes for ``number`` changes of each model, by statements alone, and take it back.

    That are rows, id mappings and entries on REMOTE, and marks on LOCAL.
    """
    from django.apps import apps
    from django.db import connections, transaction
    from django.db.models import F

    from gestore_sync.models import HANDLED, PENDING, ChangeLog, IdMapping

    def write_again(model: Any, rows: Any, *names: str) -> None:
        some = rows.order_by("pk")[:number].values("pk")
        written = model._base_manager.using(REMOTE).filter(pk__in=some).update(**{name: F(name) for name in names})
        if written != number:
            sys.exit(f"{written} rows of {model._meta.label} were written, not {number}.")

    columns = "content_type_id, object_id, date, action, data, origin, state"
    copy = f"INSERT INTO {ChangeLog._meta.db_table} ({columns}) SELECT {columns} FROM {ChangeLog._meta.db_table}"
    with transaction.atomic(using=LOCAL), transaction.atomic(using=REMOTE):
        for name, changing in FIELDS.items():
            model = apps.get_model("campus", name)
            write_again(model, model._base_manager.using(REMOTE), changing)
            mappings = IdMapping.objects.using(REMOTE).filter(model=model._meta.label_lower)
            write_again(IdMapping, mappings, "digests", "serial", "source_imprint", "target_imprint")
        with connections[REMOTE].cursor() as cursor:
            cursor.execute(f"{copy} ORDER BY id DESC LIMIT {number * len(FIELDS)}")
        ChangeLog.objects.using(LOCAL).filter(state=PENDING).update(state=HANDLED)
        for alias in (LOCAL, REMOTE):
            transaction.set_rollback(True, using=alias)


def change(objects: Sequence[Any], turn: int) -> None:
    """Give every object another value, and save it."""
    from datetime import timedelta

    from django.db import transaction

    with transaction.atomic():
        for instance in objects:
            name = FIELDS[type(instance).__name__]
            if name == "progress":
                instance.progress = turn + 1
            elif name == "issued":
                instance.issued += timedelta(days=1)
            else:
                setattr(instance, name, f"changed {turn}")
            instance.save(using=LOCAL)


def timed(action: Callable[[], Any]) -> float:
    """How many seconds an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Count the calls of cursors by database; COPY on REMOTE, which wrappers do not see, too."""
    from django.db import connections

    calls = {LOCAL: 0, REMOTE: 0}
    copies: list[None] = []

    def count(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        calls[context["connection"].alias] += 1
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(count))
        if connections[REMOTE].vendor == "postgresql":
            stack.enter_context(counted_copies(copies))
        yield calls
    calls[REMOTE] += len(copies)


STEPS: dict[str, Callable[[int], dict[str, Any]]] = {"prepare": prepare, "log": log, "send": send}


if __name__ == "__main__":
    sys.exit(main())

"""The benchmark of bundles and deletion, beside Django's own ways on the same data.

`python -m testproject.benchbundles` seeds LOCAL with one organization of about ten objects for each learner. It is
exported into a bundle, imported into an empty REMOTE and deleted there; and its tables go through `dumpdata` and
`loaddata` into another REMOTE, where `root.delete()` deletes it. The rates are told side by side.

Each step runs in a process of its own; objects, queries and memory are counted as in `testproject.bench`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from testproject.measuring import (
    FIXTURE,
    LOCAL,
    PUSH,
    REMOTE,
    Measure,
    count_rows,
    run,
    start,
    step_dumpdata,
    step_loaddata,
    step_prepare,
    temporary_databases,
)

MODULE = "testproject.benchbundles"
PAIRS = (
    ("export", "dumpdata", 3),
    ("import", "loaddata", 8),
    ("deleteobjects", "root.delete()", 10),
)
"""What is compared: our step, Django's, and how many times as fast it should be at least."""

DELETIONS = ("delete", "delete_root")

console = Console(highlight=False, width=120)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one step of it; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--learners", type=int, default=10_000, metavar="N", help="default: 10,000")
    parser.add_argument("--databases", choices=["sqlite", "postgresql", "both"], default="postgresql")
    parser.add_argument("--format", default=".tar.zst", help="default: .tar.zst")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--argument", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        return run_step(options.step, options.argument)
    for kind in ["sqlite", "postgresql"] if options.databases == "both" else [options.databases]:
        try:
            with temporary_databases(kind) as environ:
                show(kind, options, measure_all(options, environ))
        except subprocess.CalledProcessError as error:
            console.print(f"[red bold]Failed:[/] {' '.join(error.cmd)}\n{error.stderr or ''}")
            return 1
    return 0


def measure_all(options: argparse.Namespace, environ: dict[str, str]) -> dict[str, Measure]:
    """Run all steps; what each of them took."""
    folder = Path(environ["CAMPUS_DATA"])
    bundle, fixture = str(folder / f"bundle{options.format}"), str(folder / "campus.json")
    found = {}
    for name, title, step, argument in [
        (PUSH, "", "prepare", str(options.learners)),
        (FIXTURE, "", "prepare", "0"),
        (PUSH, "export", "export", bundle),
        (PUSH, "dumpdata", "dumpdata", fixture),
        (PUSH, "import", "import", bundle),
        (FIXTURE, "loaddata", "loaddata", fixture),
        (PUSH, "deleteobjects", "delete", ""),
        (FIXTURE, "root.delete()", "delete_root", ""),
    ]:
        with console.status(title or step):
            measured = start(MODULE, step, argument, {**environ, "CAMPUS_NAME": name})
        if title:
            found[title] = measured
    return found


def show(kind: str, options: argparse.Namespace, measures: dict[str, Measure]) -> None:
    """Print our steps and Django's side by side."""
    table = Table("", title=f"{kind}: {options.learners:,} learners, {options.format}", title_justify="left", box=None)
    for heading in ("objects", "seconds", "objects/s", "queries", "added MB", "times as fast", "asked"):
        table.add_column(heading, justify="right", no_wrap=True)
    for ours, theirs, asked in PAIRS:
        for step in (ours, theirs):
            measured = measures[step]
            times = f"{measured.rate / measures[theirs].rate:.1f}" if step == ours else ""
            table.add_row(
                step,
                f"{measured.objects:,}",
                f"{measured.seconds:.2f}",
                f"{measured.rate:,.0f}",
                f"{measured.queries:,}",
                f"{measured.memory / 2**20:.0f}",
                times,
                str(asked) if times else "",
            )
    console.print(table)
    console.print()


def run_step(step: str, argument: str) -> int:
    """Do one step in this process. Deletions leave nothing, so that what they deleted is counted before them."""
    counted: list[int] = []

    def prepare() -> Callable[[], Any]:
        action = STEPS[step](argument)
        counted.append(count_rows(REMOTE) if step in DELETIONS else 0)
        return action

    def finish() -> int:
        left = count_rows(REMOTE)
        if step in DELETIONS:
            return counted[0] - left
        return count_rows(LOCAL) if step in ("prepare", "export", "dumpdata") else left

    return run(prepare, finish)


def get_root(using: str) -> Any:
    """The organization that moves."""
    from testproject.campus.models import Organization

    return Organization.objects.using(using).get()


def step_export(path: str) -> Callable[[], Any]:
    """Export the organization of LOCAL."""
    from gestore_sync import api

    root = get_root(LOCAL)
    return lambda: api.export_objects([root], path, database=LOCAL, files=False)


def step_import(path: str) -> Callable[[], Any]:
    """Import a bundle into REMOTE."""
    from gestore_sync import api

    return lambda: api.import_objects(path, database=REMOTE)


def step_delete(_: str) -> Callable[[], Any]:
    """Delete the organization of REMOTE."""
    from gestore_sync import api

    root = get_root(REMOTE)
    return lambda: api.delete_objects([root], database=REMOTE)


def step_delete_root(_: str) -> Callable[[], Any]:
    """Delete the organization of REMOTE as Django does, what protects it first."""
    from django.db import transaction
    from django.db.models import ProtectedError, RestrictedError

    root = get_root(REMOTE)

    def delete(instance: Any) -> None:
        try:
            instance.delete()
        except ProtectedError as error:
            delete_all(error.protected_objects)
            delete(instance)
        except RestrictedError as error:
            delete_all(error.restricted_objects)
            delete(instance)

    def delete_all(instances: Any) -> None:
        for instance in instances:
            delete(instance)

    def delete_root() -> None:
        with transaction.atomic(using=REMOTE):
            delete(root)

    return delete_root


STEPS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "prepare": step_prepare,
    "export": step_export,
    "import": step_import,
    "dumpdata": step_dumpdata,
    "loaddata": step_loaddata,
    "delete": step_delete,
    "delete_root": step_delete_root,
}


if __name__ == "__main__":
    sys.exit(main())

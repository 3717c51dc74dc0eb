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

console = Console(highlight=False)


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
            measure = start("testproject.bench", step, argument, {**environ, "CAMPUS_NAME": name})
        if title:
            found[title] = measure
    found["dumpdata | loaddata"] = found["dumpdata"] + found["loaddata"]
    return found


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
    """Do one step in this process."""

    def finish() -> int:
        if step == "push":
            _check_arrived()
        return count_rows(LOCAL if step in ("prepare", "dumpdata") else REMOTE)

    return run(lambda: STEPS[step](argument), finish)


def _step_push(_: str) -> Callable[[], Any]:
    from gestore_sync import api
    from testproject.campus.models import Organization

    root = Organization.objects.using(LOCAL).get()

    return lambda: api.synchronize([root], source=LOCAL, remote=REMOTE)


STEPS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "prepare": step_prepare,
    "push": _step_push,
    "dumpdata": step_dumpdata,
    "loaddata": step_loaddata,
}


def _check_arrived() -> None:
    from testproject.campus.models import Organization
    from testproject.campus.portrait import owned_rows

    code = Organization.objects.using(LOCAL).get().code
    if owned_rows(code, LOCAL) != owned_rows(code, REMOTE):
        sys.exit(f"What {code} owns is not the same on both sides.")


if __name__ == "__main__":
    sys.exit(main())

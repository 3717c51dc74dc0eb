"""The benchmark at scale: a large organization on two PostgreSQL databases of one server, beside the anchors.

`python -m testproject.benchscale` seeds LOCAL with one organization of about a million objects and REMOTE with another
one, and measures, each several times: the first push, the second one, `synchronize` after a hundred logged changes, an
export and its import into an empty database, `deleteobjects`. Beside them stand what a database or Django does with the
same kind of rows: COPY of the same tables piped from one database into the other; a DELETE for each table; `dumpdata`,
`loaddata` and `root.delete()` of a smaller organization, whose rates count. Then how the first push grows from a
thousand objects on, and what it takes among other organizations of the same size.

All is printed as tables and drawn as a PNG. Each step runs in a process of its own. Medians are told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from testproject.databases import copy_database, create_databases, drop_databases
from testproject.measuring import Measure, start, temporary_databases

MODULE = "testproject.benchsteps"
PER_LEARNER = 10
"""About so many objects there are for each learner."""

LARGE, SMALL, FIXTURE, GROWTH, CROWD = "scale", "scale_small", "scale_fixture", "scale_growth", "scale_crowd"
EMPTY = "empty"
FIRST = "first push"
SQLITE = "SQLite: "
console = Console(highlight=False, width=120)


@dataclass(frozen=True)
class Figure:
    """One figure that is asked: what it is of, what was found, what is asked, and whether more is better."""

    name: str
    found: float
    asked: float
    at_most: bool
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is reached."""
        return self.found <= self.asked if self.at_most else self.found >= self.asked


@dataclass
class Found:
    """What one run of the benchmark measured: by step the medians; by number of objects the first push's seconds."""

    steps: dict[str, Measure] = field(default_factory=dict)
    growth: dict[int, float] = field(default_factory=dict)
    crowd: tuple[float, float] | None = None
    saves: dict[str, float] = field(default_factory=dict)


class Bench:
    """The databases of one run, and its steps."""

    def __init__(self, url: str, environ: dict[str, str], runs: int) -> None:
        self.url = url
        self.environ = environ
        self.runs = runs
        self.folder = Path(environ["CAMPUS_DATA"])

    def make(self, name: str, learners: int, *, remote: int = 0, others: int = 0) -> None:
        """A pair of databases: LOCAL with an organization, and ``others`` of the same size; REMOTE with ``remote``
        people of another one. A copy of REMOTE is kept for :meth:`renew`."""
        create_databases(self.url, [f"{name}_local", f"{name}_remote"], anew=True)
        plan = {"learners": learners, "remote": remote, "others": others}
        self.step(name, "prepare", json.dumps(plan))
        copy_database(self.url, f"{name}_remote", f"{name}_remote_{EMPTY}")

    def renew(self, name: str) -> None:
        """REMOTE as it was when it was made."""
        copy_database(self.url, f"{name}_remote_{EMPTY}", f"{name}_remote")

    def drop(self, name: str) -> None:
        """Remove a pair of databases."""
        drop_databases(self.url, [f"{name}_{side}" for side in ("local", "remote", f"remote_{EMPTY}")])

    def step(self, name: str, step: str, argument: str = "") -> Measure:
        """One step in a process of its own."""
        with console.status(f"{name}: {step}"):
            return start(MODULE, step, argument, {**self.environ, "CAMPUS_NAME": name})

    def repeat(self, name: str, *steps: str, argument: str = "", renews: bool = True) -> list[Measure]:
        """Steps after each other, as often as asked, each time on a REMOTE as it was made; their medians."""
        found: list[list[Measure]] = [[] for _ in steps]
        for _ in range(self.runs):
            if renews:
                self.renew(name)
            for measures, step in zip(found, steps, strict=True):
                measures.append(self.step(name, step, argument))
        return [get_median(measures) for measures in found]


def get_median(measures: Sequence[Measure]) -> Measure:
    """The median time, with the largest of the rest."""
    return Measure(
        objects=measures[0].objects,
        seconds=median(measure.seconds for measure in measures),
        queries=max(measure.queries for measure in measures),
        memory=max(measure.memory for measure in measures),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testproject.benchscale", description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000, metavar="N", help="default: 1,000,000")
    parser.add_argument("--sample", type=int, default=50_000, metavar="N", help="objects for Django (default: 50,000)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="how often each step runs (default: 3)")
    parser.add_argument("--others", type=int, default=10, metavar="N", help="other organizations (default: 10)")
    parser.add_argument("--crowd", type=int, default=100_000, metavar="N", help="objects of each (default: 100,000)")
    parser.add_argument("--only", nargs="*", choices=[*PARTS], default=[*PARTS], help="only these parts")
    parser.add_argument("--plot", type=Path, default=Path("bench.png"), metavar="FILE", help="default: bench.png")
    options = parser.parse_args(arguments)
    found = Found()
    try:
        with temporary_databases("postgresql") as environ:
            bench = Bench(environ["POSTGRES_URL"], environ, options.runs)
            for part in options.only:
                PARTS[part](bench, options, found)
                show_steps(found)
    except subprocess.CalledProcessError as error:
        console.print(f"[red bold]Failed:[/] {' '.join(error.cmd)}\n{error.stderr or ''}")
        return 1
    figures = make_figures(found)
    show_figures(figures)
    show_growth(found)
    from testproject.benchplot import draw

    draw(found, options.plot)
    console.print(f"Drawn: {options.plot}")
    return 0


def measure_pushes(bench: Bench, options: argparse.Namespace, found: Found) -> None:
    """First and second push, COPY of the same tables; changes, and the bundle, of the same data."""
    learners = options.objects // PER_LEARNER
    bench.make(LARGE, learners, remote=learners // 10)
    found.steps |= measure_beside_copy(bench)
    found.steps["100 changes"] = bench.repeat(LARGE, "synchronize", renews=False)[0]
    found.steps["deleteobjects"], found.steps["DELETE"] = measure_deletion(bench)
    bundle = str(bench.folder / "bundle.tar.zst")
    found.steps["export"] = bench.repeat(LARGE, "export", argument=bundle, renews=False)[0]
    found.steps["import"] = bench.repeat(LARGE, "empty", "import", argument=bundle)[1]
    bench.drop(LARGE)


def measure_beside_copy(bench: Bench) -> dict[str, Measure]:
    """First and second push, and COPY, by turns: a machine is not equally fast all the time."""
    measures: dict[str, list[Measure]] = {}
    for _ in range(bench.runs):
        for steps in ({"empty": "", "pipe": "COPY | COPY"}, {"push": FIRST, "push_again": "second push"}):
            bench.renew(LARGE)
            for step, title in steps.items():
                measure = bench.step(LARGE, step)
                if title:
                    measures.setdefault(title, []).append(measure)
    return {title: get_median(measures[title]) for title in (FIRST, "second push", "COPY | COPY")}


def measure_deletion(bench: Bench) -> tuple[Measure, Measure]:
    """The root deleted on REMOTE, as it was after the pushes, and the same rows by statements alone, by turns."""
    copy_database(bench.url, f"{LARGE}_remote", f"{LARGE}_remote_full")
    measures: dict[str, list[Measure]] = {"delete": [], "delete_bare": []}
    for _ in range(bench.runs):
        for step, found in measures.items():
            copy_database(bench.url, f"{LARGE}_remote_full", f"{LARGE}_remote")
            found.append(bench.step(LARGE, step))
    drop_databases(bench.url, [f"{LARGE}_remote_full"])
    ours, bare = map(get_median, measures.values())
    if ours.objects != bare.objects:
        sys.exit(f"deleteobjects deleted {ours.objects:,} rows, the statements {bare.objects:,}.")
    return ours, bare


def measure_small(bench: Bench, options: argparse.Namespace, found: Found) -> None:
    """The same number of changes on a hundredth of the objects."""
    bench.make(SMALL, options.objects // 100 // PER_LEARNER)
    bench.step(SMALL, "push")
    found.steps["100 changes of few"] = bench.repeat(SMALL, "synchronize", renews=False)[0]
    bench.drop(SMALL)


def measure_django(bench: Bench, options: argparse.Namespace, found: Found) -> None:
    """What Django does with fewer objects of the same kind."""
    bench.make(FIXTURE, options.sample // PER_LEARNER)
    fixture = str(bench.folder / "campus.json")
    dumped, loaded, deleted = bench.repeat(FIXTURE, "dumpdata", "loaddata", "delete_root", argument=fixture)
    found.steps |= {"dumpdata": dumped, "loaddata": loaded, "root.delete()": deleted}
    found.saves = dict(json.loads((bench.folder / "saves.json").read_text())) if save_all(bench) else {}
    bench.drop(FIXTURE)


def save_all(bench: Bench) -> bool:
    """What logging costs, in a file that the step writes."""
    bench.step(FIXTURE, "saves", str(bench.folder / "saves.json"))
    return True


def measure_growth(bench: Bench, options: argparse.Namespace, found: Found) -> None:
    """The first push of ever more objects; that of all was measured, unless only this part is run."""
    objects = 1_000
    while objects < options.objects or (objects == options.objects and FIRST not in found.steps):
        learners = objects // PER_LEARNER
        bench.make(GROWTH, learners, remote=learners // 10)
        measure = bench.repeat(GROWTH, "push")[0]
        found.growth[measure.objects] = measure.seconds
        bench.drop(GROWTH)
        objects *= 10
    if FIRST in found.steps:
        found.growth[found.steps[FIRST].objects] = found.steps[FIRST].seconds


def measure_crowd(bench: Bench, options: argparse.Namespace, found: Found) -> None:
    """The first push of one organization alone and among others of its size."""
    times = []
    for others in (0, options.others):
        bench.make(CROWD, min(options.objects, options.crowd) // PER_LEARNER, others=others)
        times.append(bench.repeat(CROWD, "push")[0])
        bench.drop(CROWD)
    found.crowd = (times[0].seconds / times[0].objects, times[1].seconds / times[1].objects)


def measure_sqlite(bench: Bench, options: argparse.Namespace, found: Found) -> None:
    """The first push on SQLite, and Django's way with a part of that."""
    with temporary_databases("sqlite") as environ:
        fixture = str(Path(environ["CAMPUS_DATA"]) / "campus.json")
        for name, objects, steps in (
            ("lite", options.sample, ["push"]),
            ("lite_fixture", options.sample // 5, ["dumpdata", "loaddata"]),
        ):
            measures: dict[str, list[Measure]] = {step: [] for step in steps}
            for number in range(bench.runs):
                named = {**environ, "CAMPUS_NAME": f"{name}_{number}"}
                plan = {"learners": objects // PER_LEARNER, "remote": 0, "others": 0}
                start(MODULE, "prepare", json.dumps(plan), named)
                for step in steps:
                    with console.status(f"{name}: {step}"):
                        measures[step].append(start(MODULE, step, fixture, named))
            found.steps |= {f"{SQLITE}{step}": get_median(of_step) for step, of_step in measures.items()}


PARTS: dict[str, Callable[[Bench, argparse.Namespace, Found], None]] = {
    "pushes": measure_pushes,
    "small": measure_small,
    "django": measure_django,
    "sqlite": measure_sqlite,
    "growth": measure_growth,
    "crowd": measure_crowd,
}


def make_figures(found: Found) -> list[Figure]:
    """The figures that are asked, as far as they were measured."""
    steps = found.steps
    figures = []

    def add(name: str, needs: Sequence[str], find: Callable[..., float], asked: float, *, at_most: bool) -> None:
        if all(need in steps for need in needs):
            figures.append(Figure(name, find(*(steps[need] for need in needs)), asked, at_most))

    def compare_rates(ours: Measure, *theirs: Measure) -> float:
        return ours.rate / (1 / sum(1 / their.rate for their in theirs))

    def compare_times(ours: Measure, theirs: Measure) -> float:
        return ours.seconds / theirs.seconds

    add("first push: time / COPY", [FIRST, "COPY | COPY"], compare_times, 4, at_most=True)
    add(
        "first push: rate / dumpdata, loaddata",
        [FIRST, "dumpdata", "loaddata"],
        compare_rates,
        40,
        at_most=False,
    )
    add("second push: time / first push", ["second push", FIRST], compare_times, 0.25, at_most=True)
    add("100 changes: time on all / on few", ["100 changes", "100 changes of few"], compare_times, 1.5, at_most=True)
    add("export: rate / dumpdata", ["export", "dumpdata"], compare_rates, 6, at_most=False)
    add("import: rate / loaddata", ["import", "loaddata"], compare_rates, 30, at_most=False)
    add("deleteobjects: rate / root.delete()", ["deleteobjects", "root.delete()"], compare_rates, 30, at_most=False)
    names = [f"{SQLITE}{name}" for name in ("push", "dumpdata", "loaddata")]
    add("SQLite, first push: rate / dumpdata, loaddata", names, compare_rates, 10, at_most=False)
    ours = [steps[name] for name in OURS if name in steps]
    if ours:
        memory = max(measure.memory for measure in ours) / 2**20
        figures.append(Figure("most memory added, MB", memory, 200, at_most=True))
        figures.append(Figure("most queries", max(measure.queries for measure in ours), 2_000, at_most=True))
    for name, asked in (("save(): logged / not", 1.6), ("bulk_create: with triggers / without", 1.5)):
        if name in found.saves:
            figures.append(Figure(name, found.saves[name], asked, at_most=True))
    if found.crowd is not None:
        alone, among = found.crowd
        figures.append(Figure("among others: time / alone", among / alone, 1.1, at_most=True))
    return figures


OURS = (FIRST, "second push", "100 changes", "export", "import", "deleteobjects", f"{SQLITE}push")


def show_steps(found: Found) -> None:
    """Print what was measured."""
    table = Table("", title="medians", title_justify="left", box=None, padding=(0, 1))
    for heading in ("objects", "seconds", "objects/s", "queries", "added MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, measure in found.steps.items():
        rate = f"{measure.rate:,.0f}"
        memory = f"{measure.memory / 2**20:.0f}"
        table.add_row(name, f"{measure.objects:,}", f"{measure.seconds:.2f}", rate, f"{measure.queries:,}", memory)
    console.print(table)
    console.print()


def show_figures(figures: Sequence[Figure]) -> None:
    """Print what was found beside what is asked."""
    table = Table("", title="figures", title_justify="left", box=None, padding=(0, 1))
    for heading in ("found", "asked", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for figure in figures:
        asked = f"{'at most' if figure.at_most else 'at least'} {figure.asked:,g}"
        table.add_row(figure.name, f"{figure.found:,.2f}", asked, "[green]yes[/]" if figure.holds else "[red]no[/]")
    console.print(table)
    console.print()


def show_growth(found: Found) -> None:
    """Print how the first push grows."""
    if not found.growth:
        return
    table = Table("objects", title="first push", title_justify="left", box=None, padding=(0, 1))
    for heading in ("seconds", "µs/object"):
        table.add_column(heading, justify="right", no_wrap=True)
    for objects, seconds in found.growth.items():
        table.add_row(f"{objects:,}", f"{seconds:.2f}", f"{seconds / objects * 1e6:.0f}")
    console.print(table)
    console.print()


if __name__ == "__main__":
    sys.exit(main())

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testproject.benchscale import Figure, Found, get_median, make_figures
from testproject.measuring import Measure

PROJECT = Path(__file__).resolve().parent.parent
FIGURES = (
    "first push: time / COPY",
    "first push: rate / dumpdata, loaddata",
    "second push: time / first push",
    "100 changes: time on all / on few",
    "export: rate / dumpdata",
    "import: rate / loaddata",
    "deleteobjects: rate / root.delete()",
    "SQLite, first push: rate / dumpdata, loaddata",
    "most memory added, MB",
    "most queries",
    "save(): logged / not",
    "bulk_create: with triggers / without",
    "among others: time / alone",
)


def measure(objects: int, seconds: float, queries: int = 0, memory: int = 0) -> Measure:
    return Measure(objects, seconds, queries, memory)


def test_figures_are_what_was_measured_beside_the_anchors() -> None:
    found = Found(
        steps={
            "first push": measure(1000, 8, queries=300, memory=50 * 2**20),
            "second push": measure(1000, 2, queries=100),
            "COPY | COPY": measure(1000, 2),
            "100 changes": measure(100, 3),
            "100 changes of few": measure(100, 2),
            "export": measure(1000, 1, memory=60 * 2**20),
            "import": measure(1000, 10),
            "deleteobjects": measure(800, 4),
            "dumpdata": measure(100, 0.5),
            "loaddata": measure(100, 2),
            "root.delete()": measure(100, 1),
        },
        crowd=(0.5, 0.6),
        saves={"save(): logged / not": 1.5},
    )

    figures = {figure.name: round(figure.found, 3) for figure in make_figures(found)}

    assert figures == {
        "first push: time / COPY": 4,
        "first push: rate / dumpdata, loaddata": 125 / 40,
        "second push: time / first push": 0.25,
        "100 changes: time on all / on few": 1.5,
        "export: rate / dumpdata": 5,
        "import: rate / loaddata": 2,
        "deleteobjects: rate / root.delete()": 2,
        "most memory added, MB": 60,
        "most queries": 300,
        "save(): logged / not": 1.5,
        "among others: time / alone": 1.2,
    }


@pytest.mark.parametrize(("found", "at_most", "holds"), [(4, True, True), (4.01, True, False), (3.9, False, False)])
def test_a_figure_holds_where_it_is_on_its_side_of_what_is_asked(found: float, at_most: bool, holds: bool) -> None:
    assert Figure("", found, 4, at_most).holds == holds


def test_of_several_runs_the_median_time_and_the_most_of_the_rest_count() -> None:
    runs = [measure(10, 3, 7, 1), measure(10, 1, 5, 9), measure(10, 2, 6, 2)]

    assert get_median(runs) == measure(10, 2, 7, 9)


def run_bench(*options: str, module: str = "benchscale") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"testproject.{module}", *options],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "160", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=900,
    )


def find_figures(text: str) -> list[str]:
    """Return the figures of which a line of the text tells."""
    lines = [line.strip() for line in text.splitlines()]
    return [name for name in FIGURES if any(line.startswith(name) for line in lines)]


@pytest.mark.heavy
def test_the_benchmark_prints_every_figure_and_draws_them(tmp_path: Path) -> None:
    plot = tmp_path / "bench.png"

    done = run_bench("--objects", "3000", "--sample", "500", "--runs", "1", "--others", "1", "--plot", str(plot))

    assert done.returncode == 0, done.stdout + done.stderr
    assert find_figures(done.stdout) == list(FIGURES)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.heavy
def test_a_part_of_the_benchmark_can_be_run_alone(tmp_path: Path) -> None:
    plot = tmp_path / "bench.png"

    done = run_bench("--sample", "500", "--runs", "1", "--only", "sqlite", "--plot", str(plot))

    assert done.returncode == 0, done.stdout + done.stderr
    assert find_figures(done.stdout) == [
        "SQLite, first push: rate / dumpdata, loaddata",
        "most memory added, MB",
        "most queries",
    ]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_benchmark_of_the_log_sets_its_rates_beside_those_of_saves_and_statements(kind: str) -> None:
    done = run_bench("--learners", "100", "--changes", "100", "--databases", kind, module="benchlog")

    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    titles = ["save(), logged", 'save(using="remote")', "synchronize", "statements alone"]
    assert [title for title in titles if any(line.startswith(title) for line in lines)] == titles

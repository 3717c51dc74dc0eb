from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def run_bench(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "testproject.benchscale", *options],
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
    assert find_figures(done.stdout) == ["SQLite, first push: rate / dumpdata, loaddata"]
    assert plot.read_bytes().startswith(b"\x89PNG")

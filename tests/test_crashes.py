"""Processes that are killed, databases that go away or are full: the next run makes of it what one in peace would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from gestore_sync.exceptions import DatabaseUnavailable
from tests.conftest import Pair
from tests.kinds.making import make, make_many
from tests.policies.models import Depot, Parcel
from tests.policies.watching import execute, pairings, watched

ROOT = Path(__file__).resolve().parent.parent
EVERYWHERE = [
    *(("sqlite", scenario) for scenario in ("first push", "second push", "log", "import", "delete")),
    *(("postgresql", scenario) for scenario in ("in parts", "second push", "log", "import", "delete")),
]
BOTH = pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])


def sweep(folder: Path, vendor: str, places: str, *scenarios: str) -> dict[str, int]:
    """Let runs die at these places, repair each, and compare; return how many places there were by scenario."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crashes.sweep", places, *scenarios],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.crashes.settings",
            "CRASH_FOLDER": str(folder),
            "CRASH_VENDOR": vendor,
            "CRASH_NAME": f"crash_{uuid.uuid4().hex[:12]}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found: dict[str, int] = json.loads(done.stdout)
    return found


# A place is before or after a statement; see tests.crashes.sweep.


@pytest.mark.heavy
@pytest.mark.parametrize(("vendor", "scenario"), EVERYWHERE)
def test_a_run_that_is_killed_between_statements_or_at_a_commit_and_done_again_ends_like_one_in_peace(
    tmp_path: Path, vendor: str, scenario: str
) -> None:
    places = sweep(tmp_path, vendor, "statements", scenario)

    assert places[scenario] > 20


@pytest.mark.heavy
@BOTH
def test_longer_runs_that_are_killed_before_or_after_a_commit_and_done_again_end_like_those_in_peace(
    tmp_path: Path, vendor: str
) -> None:
    places = sweep(tmp_path, vendor, "commits", "first log", "move")

    assert all(number >= 8 for number in places.values())


@BOTH
def test_a_run_that_is_killed_before_or_after_a_commit_and_done_again_ends_like_one_in_peace(
    tmp_path: Path, vendor: str
) -> None:
    scenarios = {"sqlite": ["second push", "import", "delete"], "postgresql": ["log"]}[vendor]

    places = sweep(tmp_path, vendor, "commits", *scenarios)

    assert all(number >= 2 for number in places.values())


# Databases that go away, or are full


@pytest.mark.heavy
def test_a_run_whose_target_ends_the_session_in_the_midst_says_so_and_the_next_one_is_fine(tmp_path: Path) -> None:
    places = sweep(tmp_path, "postgresql", "sessions", "log")

    assert places["log"] > 20


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite", live=True), indirect=True)
def test_a_full_disk_is_told_and_nothing_was_written(pair: Pair) -> None:
    with watched(pair) as watch:
        depot = make(Depot, watch.source)
        make_many(Parcel, watch.source, 100, depot=depot, text="x" * 50_000)
        make(Depot, watch.target)
        (pages,) = execute(watch.target, "PRAGMA page_count")[0]
        try:
            execute(watch.target, f"PRAGMA max_page_count = {pages + 100}")
            error = watch.refuse(depot)
        finally:
            execute(watch.target, "PRAGMA max_page_count = 1073741823")

        assert isinstance(error, DatabaseUnavailable)
        assert "full" in str(error)
        assert "Nothing was written" in str(error)
        watch.push(depot)
        assert watch.on_target(Parcel).count() == 100

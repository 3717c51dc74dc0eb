"""Processes that are killed, databases that go away or are full: a run afterwards makes of it what one in peace would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ["first push", "second push", "first log", "log", "import", "delete", "move"]
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
@pytest.mark.parametrize("scenario", SCENARIOS)
@BOTH
def test_a_run_that_is_killed_at_any_statement_and_done_again_ends_like_one_in_peace(
    tmp_path: Path, vendor: str, scenario: str
) -> None:
    places = sweep(tmp_path, vendor, "statements", scenario)

    assert places[scenario] > 20


@BOTH
def test_a_run_that_is_killed_before_or_after_a_commit_and_done_again_ends_like_one_in_peace(
    tmp_path: Path, vendor: str
) -> None:
    scenarios = {"sqlite": ["second push", "import"], "postgresql": ["log", "delete"]}[vendor]

    places = sweep(tmp_path, vendor, "commits", *scenarios)

    assert all(number >= 2 for number in places.values())

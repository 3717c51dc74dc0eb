"""Others at work on both sides while runs are under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 20


@pytest.mark.heavy
def test_while_both_sides_are_written_and_synchronized_nothing_is_lost_and_every_difference_is_accounted_for(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.crashes.traffic", str(SECONDS)],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.crashes.settings",
            "CRASH_FOLDER": str(tmp_path),
            "CRASH_VENDOR": "postgresql",
            "CRASH_NAME": f"traffic_{uuid.uuid4().hex[:12]}",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads(done.stdout)
    assert all(found[name]["written"] > 10 for name in ("local 1", "local 2", "remote"))
    assert all(found[name]["sent"] > 0 for name in ("log", "roots"))

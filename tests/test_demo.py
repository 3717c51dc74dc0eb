from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def run_demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "POSTGRES_URL"}
    return subprocess.run(
        [sys.executable, "-m", "testproject.demo", *arguments],
        cwd=PROJECT,
        env={**inherited, "COLUMNS": "160", "PYTHONIOENCODING": "utf-8", **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_demo_proves_its_claims(kind: str, tmp_path: Path) -> None:
    variables = {"POSTGRES_URL": os.environ["POSTGRES_URL"]} if kind == "postgresql" else {}

    done = run_demo("--learners", "60", **variables, TMPDIR=str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 8 claims hold." in done.stdout
    assert "✘" not in done.stdout
    assert "Synchronization performed successfully." in done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_demo_keeps_its_databases_in_the_folder_given(tmp_path: Path) -> None:
    done = run_demo("--learners", "20", "--data", str(tmp_path / "kept"))
    again = run_demo("--learners", "20", "--data", str(tmp_path / "kept"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "campus_demo_local.sqlite3",
        "campus_demo_remote.sqlite3",
    }
    assert again.returncode == 1
    assert "name a new folder" in again.stderr

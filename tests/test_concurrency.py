"""Others at work on both sides while runs are under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tests.conftest import Pair
from tests.kinds.making import make
from tests.logged.sites import in_thread
from tests.policies.models import Depot, Parcel, Scan
from tests.policies.watching import pairings, watched

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
    assert all(sum(found[name].values()) > 0 for name in ("log", "roots"))
    assert sum(found[name].get("sent", 0) for name in ("log", "roots")) > 0


@pytest.mark.parametrize("pair", pairings("postgresql-postgresql", "postgresql-sqlite", live=True), indirect=True)
def test_a_push_reads_one_state_of_the_source_whatever_is_committed_meanwhile(pair: Pair) -> None:
    with watched(pair) as watch:
        depot = make(Depot, watch.source)
        for number in ("1", "2", "3"):
            make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot, number=number), text=number)
        disturbed: list[str] = []

        def change() -> None:
            watch.on_source(Scan).filter(text="1").delete()
            watch.on_source(Parcel).filter(number="1").delete()
            watch.on_source(Scan).update(text="changed")
            make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot, number="4"), text="new")

        def disturb(execute: Any, sql: str, *args: Any) -> Any:
            result = execute(sql, *args)
            if not disturbed and 'FROM "policies_parcel"' in sql:
                disturbed.append(sql)
                in_thread(change)
            return result

        with connections[watch.source].execute_wrapper(disturb):
            watch.push(depot)

        assert disturbed
        assert sorted(watch.on_target(Scan).values_list("parcel__number", "text")) == [
            ("1", "1"),
            ("2", "2"),
            ("3", "3"),
        ]
        watch.push(depot, prune=True)
        there = sorted(watch.on_target(Scan).values_list("parcel__number", "text"))
        assert there == [("2", "changed"), ("3", "changed"), ("4", "new")]

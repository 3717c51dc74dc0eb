from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.models.query import QuerySet
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from tests.conftest import Pair
from tests.kinds.making import make
from tests.policies.models import Article, Brand, Depot, Parcel, Remark, Scan, Shift, Truck, Vehicle, Worker
from tests.policies.watching import Watch, watched

FEW, MANY = 16, 1700
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair) as watch:
        make_depot(watch.source, "warm", 2)
        watch.synchronize(watch.on_source(Depot).get(name="warm"))
        yield watch


def make_depot(using: str, name: str, size: int) -> Depot:
    """Make a depot with this many rows of each of six models, and a worker and a remark for each."""

    def add(model: type[models.Model], **values: Any) -> list[Any]:
        rows = [model(**{key: make(i) for key, make in values.items()}) for i in range(size)]
        return QuerySet(model, using=using).bulk_create(rows)

    depot = make(Depot, using, name=name)
    kind = ContentType.objects.db_manager(using).get_for_model(Parcel)
    brands = add(Brand, name=lambda i: f"{name} {i}")
    start = QuerySet(Worker, using=using).count()
    workers = add(Worker, email=lambda i: f"{name} {i}", badge=lambda i: start + i)
    number = {"number": lambda i: str(i), "text": lambda i: f"text {i}"}
    parcels = add(Parcel, depot=lambda i: depot, brand=lambda i: brands[i], **number)
    add(Scan, parcel=lambda i: parcels[i])
    add(Article, depot=lambda i: depot, code=lambda i: str(i))
    add(Shift, depot=lambda i: depot, worker=lambda i: workers[i], hours=lambda i: i)
    add(Remark, content_type=lambda i: kind, object_id=lambda i: parcels[i].pk, text=lambda i: "text")
    return depot


def count_queries(watch: Watch, depot: Depot, **options: Any) -> tuple[int, int]:
    """Push; return how many queries source and target were asked."""
    with (
        CaptureQueriesContext(connections[watch.source]) as of_source,
        CaptureQueriesContext(connections[watch.target]) as of_target,
    ):
        watch.synchronize(depot, **options)
    return len(of_source), len(of_target)


def change(watch: Watch, depot: Depot) -> None:
    """Change every row that belongs to the depot."""
    for model, path in ((Parcel, "depot"), (Article, "depot"), (Shift, "depot"), (Scan, "parcel__depot")):
        name = {Article: "stock", Parcel: "weight", Shift: "hours", Scan: "text"}[model]
        watch.on_source(model).filter(**{path: depot}).update(**{name: 99})


def test_many_objects_take_as_many_queries_as_few(watch: Watch) -> None:
    counts: dict[int, dict[str, tuple[int, int]]] = {}
    for size in (FEW, MANY):
        depot = make_depot(watch.source, f"of {size}", size)
        of_size = counts[size] = {}
        of_size["dry run"] = count_queries(watch, depot, dry_run=True)
        of_size["first push"] = count_queries(watch, depot)
        assert watch.on_target(Parcel).filter(depot__name=f"of {size}").count() == size
        of_size["second push"] = count_queries(watch, depot)
        of_size["second dry run"] = count_queries(watch, depot, dry_run=True)
        change(watch, depot)
        of_size["push of changes"] = count_queries(watch, depot)
        watch.on_source(Parcel).filter(depot=depot).delete()
        of_size["push with prune"] = count_queries(watch, depot, prune=True)
        assert not watch.on_target(Scan).filter(parcel__depot__name=f"of {size}").exists()

    assert counts[FEW] == counts[MANY]


def test_queries_grow_with_batches(watch: Watch) -> None:
    depot = make_depot(watch.source, "ours", 60)
    with override_settings(GESTORE_SYNC={"BATCH_SIZE": 60}):
        whole = sum(count_queries(watch, depot, dry_run=True))

    with override_settings(GESTORE_SYNC={"BATCH_SIZE": 6}):
        tenths = sum(count_queries(watch, depot, dry_run=True))

    assert whole < tenths < 10 * whole


@pytest.mark.parametrize("size", [1, 3, 7, 50])
def test_the_size_of_batches_changes_nothing_but_the_cost(watch: Watch, size: int) -> None:
    depot = make_depot(watch.source, "ours", 7)

    with override_settings(GESTORE_SYNC={"BATCH_SIZE": size}):
        report = watch.push(depot)
        watch.push_nothing(depot)

    assert report.created["policies.Parcel"] == report.created["policies.Worker"] == 7
    mine = watch.on_source(Parcel).filter(depot=depot).values_list("number", "text", "brand__name")
    theirs = watch.on_target(Parcel).filter(depot__name="ours").values_list("number", "text", "brand__name")
    assert sorted(mine) == sorted(theirs)


def test_rows_that_have_nothing_to_do_with_the_push_are_not_read(watch: Watch) -> None:
    depot = make_depot(watch.source, "ours", 5)
    make_depot(watch.source, "theirs", 5)
    read: list[type[models.Model]] = []

    def note(sender: type[models.Model], **kwargs: Any) -> None:
        read.append(sender)

    models.signals.post_init.connect(note)
    try:
        watch.synchronize(depot)
    finally:
        models.signals.post_init.disconnect(note)

    assert not {Parcel, Scan, Article, Shift, Brand, Worker, Truck, Vehicle} & set(read)


# Memory, in a process of its own

SETTINGS = """
from tests.settings import *
from tests.settings import sqlite

DATABASES = {
    alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"%s/{alias}.sqlite3"}
    for alias in ("default", "remote")
}
DATABASE_ROUTERS = []
"""
SCRIPT = """
import json, resource, sys
import django

django.setup()

from django.db import connections
from django.db.models.query import QuerySet
from gestore_sync import api
from tests.policies.models import Depot


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


warm, depot = QuerySet(Depot).order_by("pk")
options = json.loads(sys.argv[1])
api.synchronize([warm], **options)
before = peak()
report = api.synchronize([depot], **options)
print(json.dumps({"megabytes": peak() - before, "created": report.created}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings and the empty databases of the processes below."""
    folder = tmp_path_factory.mktemp("memory")
    (folder / "memory_settings.py").write_text(SETTINGS % folder)
    for alias in ("default", "remote"):
        run(folder, "-m", "django", "migrate", "--run-syncdb", "--database", alias, "--verbosity", "0")
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run Python with the settings of the folder; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "DJANGO_SETTINGS_MODULE": "memory_settings"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fill(folder: Path, parcels: int, scans: int, length: int) -> None:
    """Give the source one depot with a row of each kind and one with many rows; the target is emptied."""
    import sqlite3

    counter = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    with sqlite3.connect(folder / "default.sqlite3") as source:
        for table in ("scan", "parcel", "depot"):
            source.execute(f"DELETE FROM policies_{table}")
        source.execute("INSERT INTO policies_depot (id, name, city) VALUES (1, 'warm', ''), (2, 'ours', '')")
        into = "INSERT INTO policies_parcel (id, depot_id, number, text, weight) "
        source.execute(into + "VALUES (1, 1, '', '', 0)")
        source.execute(
            counter.format(parcels)
            + into.replace("INSERT", "INSERT")
            + f"SELECT i + 1, 2, i, printf('%.*c', {length}, 'x'), 0 FROM n"
        )
        into = "INSERT INTO policies_scan (id, parcel_id, text) "
        source.execute(into + "VALUES (1, 1, '')")
        if scans:
            source.execute(counter.format(scans) + into + f"SELECT i + 1, i % {parcels} + 2, '' FROM n")
    source.close()

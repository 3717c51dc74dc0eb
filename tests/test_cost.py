from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.models import Value
from django.db.models.functions import Concat
from django.db.models.query import QuerySet
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from gestore_sync.reading import match
from tests.conftest import Pair
from tests.kinds.making import make
from tests.policies.models import Article, Brand, Depot, Parcel, Remark, Scan, Shift, Truck, Vehicle, Worker
from tests.policies.watching import Watch, pairings, watched

FEW, MANY = 15, 1500  # about 100 and 10,000 objects
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair) as watch:
        make_depot(watch.source, "warm", 2)
        watch.synchronize(watch.on_source(Depot).get(name="warm"))
        yield watch


def make_depot(using: str, name: str, size: int) -> Depot:
    """Make a depot with this many rows of each of seven models."""

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
    for model, name in ((Parcel, "weight"), (Article, "stock"), (Shift, "hours")):
        watch.on_source(model).filter(depot=depot).update(**{name: 99})
    # By key: the database may not know yet how many rows there are, and join them one by one.
    parcels = watch.on_source(Parcel).filter(depot=depot).values_list("pk", flat=True)
    watch.on_source(Scan).filter(match("parcel_id", parcels)).update(text=99)


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


@pytest.mark.parametrize("policy", ["newer", "remote"])
def test_many_conflicts_take_as_many_queries_as_few(watch: Watch, policy: str) -> None:
    counts = {}
    for size in (3, 300):
        depot = make_depot(watch.source, f"of {size}", size)
        watch.synchronize(depot)
        watch.on_source(Article).filter(depot=depot).update(title="ours")
        watch.on_target(Article).filter(depot__name=depot.name).update(title="theirs")
        counts[size] = count_queries(watch, depot, on_conflict=policy)

    assert counts[3] == counts[300]


def test_many_rows_that_the_target_changed_take_as_many_queries_as_few(watch: Watch) -> None:
    counts = {}
    for size in (3, 300):
        depot = make_depot(watch.source, f"of {size}", size)
        watch.synchronize(depot)
        watch.on_target(Article).filter(depot__name=depot.name).update(title="theirs", code=Concat("code", Value("x")))
        watch.on_target(Worker).filter(email__startswith=depot.name).update(name="theirs")
        counts[size] = count_queries(watch, depot)

    assert counts[3] == counts[300]


def count_rows_read(watch: Watch, depot: Depot) -> int:
    """Change some parcels of the depot, send the change log; return how many rows both databases gave, as PostgreSQL
    tells."""
    read = 0

    def count(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        nonlocal read
        result = execute(sql, *arguments)
        read += max(arguments[-1]["cursor"].rowcount, 0) if sql.lstrip().startswith("SELECT") else 0
        return result

    for parcel in watch.on_source(Parcel).filter(depot=depot).order_by("pk")[:5]:
        parcel.weight += 1
        parcel.save()
    with connections[watch.source].execute_wrapper(count), connections[watch.target].execute_wrapper(count):
        report = watch.synchronize()
    assert report.updated == {"policies.Parcel": 5}
    return read


@pytest.mark.parametrize("pair", pairings("postgresql-postgresql"))
def test_as_many_rows_are_read_for_changes_among_many_objects_as_among_few(watch: Watch, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("policies",)
    depot = make_depot(watch.source, "few", FEW)
    watch.synchronize(depot)
    count_rows_read(watch, depot)

    few = count_rows_read(watch, depot)
    watch.synchronize(make_depot(watch.source, "many", MANY))
    many = count_rows_read(watch, depot)

    assert 0 < many <= few


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


def test_no_model_instance_is_made_of_a_row_that_travels(watch: Watch) -> None:
    depot = make_depot(watch.source, "ours", 5)
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

DATABASES = {{
    alias: {{"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/{{alias}}.sqlite3"}}
    for alias in ("default", "remote")
}}
GESTORE_SYNC = {{"BATCH_SIZE": 1000}}
"""

PEAK = """
import re
import resource
from pathlib import Path


def peak():
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
"""

PUSH = (
    PEAK
    + """

import django

django.setup()

from gestore_sync import api


api.synchronize(["policies.Depot.1"], dry_run=True)
before = peak()
report = api.synchronize(["policies.Depot.2"])
print(report.created["policies.Parcel"], report.created["policies.Scan"], peak() - before)
"""
)

WALK = (
    PEAK
    + """

import django

django.setup()

from gestore_sync.naming import find_ref
from gestore_sync.links import LinkGraph
from gestore_sync.scope import make_scope
from gestore_sync.walker import Walker


def walk(name):
    graph = LinkGraph("default")
    ref = find_ref(name, "default")
    return Walker(graph, make_scope(graph, roots=[ref.model])).walk([ref])


walk("policies.Depot.1")
before = peak()
subgraph = walk("policies.Depot.2")
print(subgraph.count(), 0, peak() - before)
"""
)


DIFF = (
    PEAK
    + """

import django

django.setup()

from gestore_sync import api


api.diff_objects(["policies.Depot.1"])
before = peak()
found = api.diff_objects(["policies.Depot.2"])
print(found.count("missing"), found.count("different"), peak() - before)
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with settings and two migrated databases."""
    folder = tmp_path_factory.mktemp("memory")
    (folder / "memory_settings.py").write_text(SETTINGS.format(folder=folder))
    for alias in ("default", "remote"):
        run(folder, "-m", "django", "migrate", "--run-syncdb", "--database", alias, "--verbosity", "0")
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run Python with the settings of the folder; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "DJANGO_SETTINGS_MODULE": "memory_settings"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def measure(folder: Path, script: str) -> tuple[int, int, float]:
    """Run a script; return the two numbers that it prints, and how many megabytes it has added."""
    first, second, megabytes = run(folder, "-c", script).split()
    return int(first), int(second), float(megabytes)


def fill(folder: Path, *, parcels: int, scans: int = 0, length: int = 1) -> None:
    """Give the source a depot with one parcel and one with many; the target has nothing."""
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"
    parcel = "INSERT INTO policies_parcel (id, depot_id, number, text, weight)"
    scan = "INSERT INTO policies_scan (id, parcel_id, text)"
    with closing(sqlite3.connect(folder / "default.sqlite3")) as source, source:
        for table in ("scan", "parcel", "depot"):
            source.execute(f"DELETE FROM policies_{table}")
        source.execute("INSERT INTO policies_depot (id, name, city) VALUES (1, 'one', ''), (2, 'many', '')")
        source.execute(f"{parcel} VALUES (1, 1, '', '', 0)")
        source.execute(f"{scan} VALUES (1, 1, '')")
        source.execute(f"{count.format(parcels)} {parcel} SELECT i + 1, 2, i, printf('%.*c', {length}, 'x'), 0 FROM n")
        if scans:
            source.execute(f"{count.format(scans)} {scan} SELECT i + 1, i % {parcels} + 2, '' FROM n")
    with closing(sqlite3.connect(folder / "remote.sqlite3")) as target, target:
        for table in ("policies_scan", "policies_parcel", "policies_depot", "gestore_sync_idmapping"):
            target.execute(f"DELETE FROM {table}")


def test_a_walk_over_a_million_rows_would_add_less_than_150_megabytes(folder: Path) -> None:
    fill(folder, parcels=50_000, scans=50_000)
    few, _, small = measure(folder, WALK)
    fill(folder, parcels=50_000, scans=150_000)

    many, _, large = measure(folder, WALK)

    assert (few, many) == (100_001, 200_001)
    assert large + (large - small) / (many - few) * (1_000_000 - many) < 150


def test_memory_does_not_grow_with_the_size_of_rows(folder: Path) -> None:
    added = {}
    for length in (1, 5_000):
        fill(folder, parcels=20_000, length=length)
        parcels, _, added[length] = measure(folder, PUSH)
        assert parcels == 20_000

    assert added[5_000] - added[1] < 30  # the rows are 100 megabytes


@pytest.mark.heavy
def test_a_comparison_where_a_million_rows_are_missing_would_add_less_than_250_megabytes(folder: Path) -> None:
    fill(folder, parcels=100_000)
    few, _, small = measure(folder, DIFF)
    fill(folder, parcels=160_000)

    many, _, large = measure(folder, DIFF)

    assert (few, many) == (100_001, 160_001)
    assert large + (large - small) / (many - few) * (1_000_000 - many) < 250


def test_the_values_that_differ_are_not_kept_in_memory(folder: Path) -> None:
    fill(folder, parcels=12_000, length=5_000)
    assert measure(folder, PUSH)[0] == 12_000
    with closing(sqlite3.connect(folder / "remote.sqlite3")) as target, target:
        target.execute("UPDATE policies_parcel SET text = text || 'y'")

    _, different, added = measure(folder, DIFF)

    assert different == 12_000
    assert added < 100  # the values are 120 megabytes

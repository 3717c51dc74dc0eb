"""Documents that gestore 0.1.0 wrote."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from gestore_sync.exceptions import BundleError
from testproject.campus.models import Category, Course, Person
from tests.bundling import Document, load, read_all, record, refuse, write_document
from tests.conftest import Pair
from tests.kinds.making import make
from tests.kinds.models import Values
from tests.policies.models import Area, Brand, Colour, Depot, Parcel, Worker
from tests.policies.watching import Watch, paired, watched

pair = paired("sqlite-sqlite", "postgresql-postgresql")


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair, "policies", "campus", "auth", "contenttypes", "sites", "kinds") as watch:
        yield watch


def make_ancestor(*objects: Document, **head: Any) -> Document:
    """Return a document with the keys that gestore wrote."""
    return {
        "date": "2021-05-04 11:22:33.123456",
        "host_name": "web-1",
        "ip_address": "10.0.0.7",
        "libraries": {"Django": "3.2.2", "gestore": "0.1.0", "psycopg2": "2.8.6"},
        "objects": list(objects),
        "provided_objects": ["policies.Depot.1"],
        "version": "0.1.0",
        **head,
    }


OBJECTS = (
    record("policies.depot", 1, name="ours", city="Łódź", riddle=None, boss=3, colours=[5, 6]),
    record("policies.parcel", 2, depot=1, number="one", text="", weight=7, brand=None, colour=5),
    record("policies.worker", 3, email="a@example.com", badge=12, name="Ann"),
    record("policies.colour", 5, name="red", shade=""),
    record("policies.colour", 6, name="blue", shade="dark"),
    record("policies.area", 8, depot=1, parent=9, name="child"),
    record("policies.area", 9, depot=1, parent=None, name="top"),
    record("policies.area", 10, depot=1, parent=10, name="its own parent"),
    record("policies.area", 11, depot=1, parent=12, name="there"),
    record("policies.area", 12, depot=1, parent=11, name="and back"),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_document(tmp_path / "gestore.json", make_ancestor(*OBJECTS))


def read_tree(watch: Watch) -> dict[str, str | None]:
    return {area.name: area.parent and area.parent.name for area in watch.on_target(Area).select_related("parent")}


TREE = {"child": "top", "top": None, "its own parent": "its own parent", "there": "and back", "and back": "there"}


def test_objects_come_with_links_members_and_cycles(watch: Watch, path: Path) -> None:
    report = load(watch, path)

    assert sum(report.created.values()) == 12
    assert report.message == 'Successfully imported "12" objects.'
    depot = watch.on_target(Depot).get()
    assert (depot.name, depot.city, depot.riddle, depot.boss.name) == ("ours", "Łódź", None, "Ann")
    assert sorted(depot.colours.values_list("name", flat=True)) == ["blue", "red"]
    assert watch.on_target(Parcel).values_list("weight", "brand", "colour__name").get() == (7, None, "red")
    assert read_tree(watch) == TREE


def test_keys_that_are_free_are_kept(watch: Watch, path: Path) -> None:
    load(watch, path)

    assert sorted(watch.on_target(Area).values_list("pk", flat=True)) == [8, 9, 10, 11, 12]
    assert make(Area, watch.target, depot_id=1, parent=None).pk > 12


def test_importing_it_twice_changes_nothing(watch: Watch, path: Path) -> None:
    load(watch, path)
    before = watch.picture()

    report = load(watch, path)

    assert report.created == report.updated == report.deleted == {}
    assert watch.picture() == before


def test_keys_that_others_hold_are_conflicts_or_get_new_ones_with_all_links(watch: Watch, path: Path) -> None:
    theirs = make(Depot, watch.target, pk=1, name="theirs")
    for number in (8, 11, 12):
        make(Area, watch.target, pk=number, depot=theirs, parent=None, name=f"their {number}")

    message = str(refuse(watch, path))
    assert "primary key" in message
    load(watch, path, on_conflict="remap")

    ours = watch.on_target(Depot).get(name="ours")
    assert ours.pk != 1
    assert {area.name: area.parent and area.parent.name for area in watch.on_target(Area).filter(depot=ours)} == TREE
    assert set(watch.on_target(Area).filter(depot=theirs).values_list("name", flat=True)) == {
        "their 8",
        "their 11",
        "their 12",
    }


def test_an_object_that_is_here_under_another_key_is_the_same(watch: Watch, path: Path) -> None:
    make(Worker, watch.target, pk=77, email="a@example.com", badge=12, name="Ann")
    make(Worker, watch.target, pk=3, email="b@example.com", badge=13, name="Bob")

    load(watch, path)

    assert watch.on_target(Depot).get().boss_id == 77
    assert watch.on_target(Worker).count() == 2


def test_a_newer_document_of_the_same_host_is_an_update(watch: Watch, path: Path) -> None:
    load(watch, path)
    objects = copy.deepcopy(OBJECTS)
    objects[1]["fields"]["text"] = "new"
    objects[0]["fields"]["colours"] = [6]
    write_document(path, make_ancestor(*objects, date="2021-06-01 00:00:00"))

    load(watch, path)

    assert watch.on_target(Parcel).get().text == "new"
    assert [colour.name for colour in watch.on_target(Depot).get().colours.all()] == ["blue"]


def test_documents_of_two_hosts_are_of_two_origins(watch: Watch, path: Path) -> None:
    load(watch, path)
    objects = copy.deepcopy(OBJECTS)
    objects[1]["fields"]["text"] = "other"
    write_document(path, make_ancestor(*objects, host_name="web-2"))

    assert refuse(watch, path)


@pytest.mark.parametrize(
    "head",
    [
        {"libraries": []},
        {"provided_objects": "policies.Depot.1"},
        {"provided_objects": []},
        {"version": "0.0.9"},
        {"date": None},
        {"host_name": None},
        {"ip_address": "unknown"},
    ],
    ids=str,
)
def test_small_differences_of_the_head_do_no_harm(tmp_path: Path, head: Document) -> None:
    path = write_document(tmp_path / "a.json", make_ancestor(*OBJECTS, **head))

    assert len(read_all(path).records) == len(OBJECTS)


@pytest.mark.parametrize("head", [{"provided_objects": 5}, {"objects": None}, {"objects": {}}], ids=str)
def test_a_broken_head_is_refused(tmp_path: Path, head: Document) -> None:
    with pytest.raises(BundleError):
        read_all(write_document(tmp_path / "a.json", make_ancestor(*OBJECTS, **head)))


def test_values_as_djangos_serializers_write_them_are_read(watch: Watch, tmp_path: Path) -> None:
    fields = {
        "decimal": "1.5",
        "date": "2021-01-02",
        "time": "03:04:05.123",
        "moment": "2021-01-02T03:04:05.123Z",
        "duration": "P1DT02H03M04.500000S",
        "uuid": "5b1f1d2c-8f2b-4a8e-9b39-0d6f1f0f5a11",
        "json": {"a": [1, None]},
        "binary": "AP8=",
        "file": "values/2021/a.png",
        "boolean": True,
        "real": 1.25,
    }
    path = write_document(
        tmp_path / "a.json",
        make_ancestor(record("kinds.box", 1, name="a"), record("kinds.values", 1, box=1, mark="m", **fields)),
    )

    load(watch, path)

    found = watch.on_target(Values).get()
    assert found.moment.isoformat() == "2021-01-02T03:04:05.123000+00:00"
    assert found.duration.total_seconds() == 93784.5
    assert bytes(found.binary) == b"\x00\xff"
    assert (str(found.decimal), found.real, found.json) == ("1.5000000000", 1.25, {"a": [1, None]})
    assert found.file.name == "values/2021/a.png"


def test_rights_are_dropped_from_it_too(watch: Watch, tmp_path: Path) -> None:
    user = record(
        "auth.user", 1, username="eve", password="!", is_superuser=True, is_staff=True, groups=[1], user_permissions=[]
    )
    path = write_document(tmp_path / "a.json", make_ancestor(user, record("auth.group", 1, name="all", permissions=[])))

    report = load(watch, path)

    eve = watch.on_target(User).get()
    assert (eve.is_superuser, eve.is_staff, eve.groups.count()) == (False, False, 0)
    assert any("auth.User.is_superuser" in warning for warning in report.warnings)
    assert watch.on_target(Group).count() == 1


def test_models_with_natural_keys_and_trees_of_one_app_come_in(watch: Watch, tmp_path: Path) -> None:
    path = write_document(
        tmp_path / "a.json",
        make_ancestor(
            record("campus.category", 4, code="b", name="B", parent=3, organization=None),
            record("campus.category", 3, code="a", name="A", parent=None, organization=None),
            record("policies.brand", 1, name="known", motto="theirs"),
        ),
    )
    make(Brand, watch.target, name="known", motto="theirs")
    known = make(Category, watch.target, code="a", name="A")

    load(watch, path)

    assert watch.on_target(Category).get(code="b").parent == known
    assert watch.on_target(Brand).count() == 1
    assert not watch.on_target(Course).exists()
    assert not watch.on_target(Person).exists()
    assert not watch.on_target(Colour).exists()

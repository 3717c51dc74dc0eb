"""Bundles of a project whose models were others."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps

from gestore_sync.columns import find_default, has_filling
from gestore_sync.exceptions import BundleError, WrongSetting
from testproject.campus.models import Person, Profile
from tests.bundling import (
    ARCHIVES,
    Document,
    edit_records,
    export,
    find_record,
    get_ending,
    load,
    make_document,
    read_document,
    read_members,
    record,
    refuse,
    write_document,
    write_members,
)
from tests.conftest import Pair
from tests.kinds.making import make
from tests.kinds.models import Box, Defaulted, Device, Stamped, Values
from tests.policies.models import Article, Brand, Depot, Parcel, Scan
from tests.policies.watching import CROSSED, Watch, paired, pairings, watched

every_shape = pytest.mark.parametrize("ending", [".json", ".tar.gz"])
one_target = pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)

pair = paired(*CROSSED)


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair, "policies", "campus", "auth", "contenttypes", "sites", "kinds") as watch:
        yield watch


@pytest.fixture
def depot(watch: Watch) -> Depot:
    depot = make(Depot, watch.source, name="ours", city="Łódź")
    make(Parcel, watch.source, depot=depot, number="one", text="old", weight=5)
    return depot


def edit_manifest(path: Path, edit: Callable[[Document], Any]) -> Path:
    """Let ``edit`` change the manifest of any bundle."""
    if get_ending(path) not in ARCHIVES:
        document = read_document(path)
        edit(document)
        return write_document(path, document)
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    edit(manifest)
    return write_members(path, {**members, "manifest.json": json.dumps(manifest).encode()})


def drop_field(path: Path, label: str, name: str) -> Path:
    """Make the bundle one of a project whose model had no such field."""
    edit_records(path, lambda records: [one["fields"].pop(name, 0) for one in records if one["model"] == label.lower()])
    return edit_manifest(path, lambda head: head["schema"][label]["fields"].pop(name))


def add_field(path: Path, label: str, name: str, value: Any) -> Path:
    """Make the bundle one of a project whose model had this field, too."""
    edit_records(
        path, lambda records: [one["fields"].update({name: value}) for one in records if one["model"] == label.lower()]
    )
    return edit_manifest(path, lambda head: head["schema"][label]["fields"].update({name: "CharField"}))


def add_model(path: Path, label: str) -> Path:
    """Make the bundle one of a project that had this model, too."""
    fields = {"fields": {"name": "CharField"}, "migration": None}
    edit_manifest(path, lambda head: (head["schema"].update({label: fields}), head["counts"].update({label: 1})))
    if get_ending(path) not in ARCHIVES:
        edit_records(path, lambda records: records.append(record(label.lower(), 1, name="a")))
    return path


# What is gone


@every_shape
def test_all_models_and_fields_that_are_gone_are_told_in_one_error(
    watch: Watch, depot: Depot, tmp_path: Path, ending: str
) -> None:
    path = export(watch, tmp_path / f"a{ending}", depot)
    add_field(path, "policies.Depot", "fax", "1")
    add_field(path, "policies.Parcel", "stamp", "2")
    add_model(path, "policies.Courier")
    add_model(path, "oldshop.Basket")

    message = str(refuse(watch, path))

    for name in ("policies.Depot.fax", "policies.Parcel.stamp", "policies.Courier", "oldshop.Basket"):
        assert name in message
    assert "-i" in message
    assert "UPGRADERS" in message


@every_shape
def test_what_is_gone_is_left_out_where_that_is_said(watch: Watch, depot: Depot, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", depot)
    add_field(path, "policies.Depot", "fax", "1")
    add_model(path, "oldshop.Basket")

    report = load(watch, path, ignorenonexistent=True)

    assert report.created == {"policies.Depot": 1, "policies.Parcel": 1}
    assert any("policies.Depot.fax" in warning for warning in report.warnings)
    assert any("oldshop" in warning for warning in report.warnings) == (ending == ".json")


@pytest.mark.parametrize("version", ["one by one", "without a schema"])
@one_target
def test_a_field_that_is_gone_is_told_without_a_fingerprint_too(
    watch: Watch, depot: Depot, tmp_path: Path, version: str
) -> None:
    path = export(watch, tmp_path / "a.json", depot)
    edit_records(path, lambda records: find_record(records, "policies.depot")["fields"].update(fax="1"))
    if version == "without a schema":
        edit_manifest(path, lambda head: head.pop("schema"))

    message = str(refuse(watch, path))

    assert f"policies.Depot.{depot.pk}" in message
    assert "'fax'" in message


# What is new


@every_shape
@pytest.mark.parametrize(
    ("label", "name", "expected"),
    [
        ("kinds.Device", "battery", 100),
        ("kinds.Values", "boolean", None),
        ("kinds.Defaulted", "level", 7),
    ],
)
def test_a_new_field_gets_its_default(
    watch: Watch, tmp_path: Path, ending: str, label: str, name: str, expected: Any
) -> None:
    box = make(Box, watch.source)
    model = {"kinds.Device": Device, "kinds.Values": Values, "kinds.Defaulted": Defaulted}[label]
    make(model, watch.source, box=box, **{name: 3 if name != "boolean" else True})
    path = drop_field(export(watch, tmp_path / f"a{ending}", box), label, name)

    report = load(watch, path)

    assert getattr(watch.on_target(model).get(), name) == expected
    assert any(f"{label}.{name}" in warning for warning in report.warnings)


@pytest.mark.parametrize("ending", [".json"])
def test_new_fields_are_filled_by_the_database_and_by_functions(watch: Watch, tmp_path: Path, ending: str) -> None:
    box = make(Box, watch.source)
    for model in (Defaulted, Defaulted, Device, Device, Stamped):
        make(model, watch.source, box=box)
    path = export(watch, tmp_path / f"a{ending}", box)
    for label, name in (("kinds.Defaulted", "since"), ("kinds.Device", "token"), ("kinds.Stamped", "created")):
        drop_field(path, label, name)
    began = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)

    load(watch, path)

    assert len(set(watch.on_target(Device).values_list("token", flat=True))) == 2
    assert all(since > began for since in watch.on_target(Defaulted).values_list("since", flat=True))
    assert watch.on_target(Stamped).get().created > began


def test_a_field_that_only_some_records_lack_gets_its_default_there(watch: Watch, tmp_path: Path) -> None:
    box = make(Box, watch.source)
    first, second = (
        make(Defaulted, watch.source, box=box, level=3, since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) for _ in "ab"
    )
    path = export(watch, tmp_path / "a.json", box)
    fields = edit_records(
        path,
        lambda records: [
            find_record(records, "kinds.defaulted", first.pk)["fields"].pop(name) for name in ("level", "since")
        ],
    )
    assert fields

    load(watch, path)

    rows = {row.pk: row for row in watch.on_target(Defaulted)}
    assert (rows[first.pk].level, rows[second.pk].level) == (7, 3)
    assert rows[second.pk].since == dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    assert abs(rows[first.pk].since - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)


@every_shape
def test_an_object_that_exists_keeps_what_the_bundle_does_not_have(
    watch: Watch, depot: Depot, tmp_path: Path, ending: str
) -> None:
    load(watch, export(watch, tmp_path / f"a{ending}", depot))
    watch.on_source(Parcel).update(text="new", weight=8)
    path = drop_field(export(watch, tmp_path / f"b{ending}", depot), "policies.Parcel", "weight")

    load(watch, path)

    assert watch.on_target(Parcel).values_list("text", "weight").get() == ("new", 5)


@every_shape
def test_a_new_field_that_is_required_is_told_by_name(watch: Watch, depot: Depot, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", depot)
    drop_field(path, "policies.Depot", "name")
    drop_field(path, "policies.Parcel", "number")

    message = str(refuse(watch, path, ignorenonexistent=True))

    assert "policies.Depot.name" in message
    assert "policies.Parcel.number" in message
    assert "UPGRADERS" in message


@one_target
def test_a_required_field_that_a_record_lacks_is_told_by_name(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    path = export(watch, tmp_path / "a.json", depot)
    edit_records(path, lambda records: find_record(records, "policies.depot")["fields"].pop("name"))

    message = str(refuse(watch, path))

    assert "policies.Depot" in message
    assert "'name'" in message


def make_settings() -> dict[str, int]:
    """Return a new dictionary."""
    return {"a": 1}


@isolate_apps("tests.policies")
def test_json_has_its_default_as_text() -> None:
    class Page(models.Model):
        made = models.JSONField(default=make_settings)
        empty = models.JSONField(null=True)
        fixed = models.JSONField(default="x")
        bare = models.TextField(blank=True)
        required = models.TextField()
        number = models.IntegerField(blank=True)

        class Meta:
            app_label = "policies"

    def get(name: str) -> Any:
        return find_default(Page._meta.get_field(name))

    assert [get(name) for name in ("made", "empty", "fixed", "bare")] == ['{"a": 1}', None, '"x"', ""]
    assert not has_filling(Page._meta.get_field("required"))
    assert not has_filling(Page._meta.get_field("number"))


def test_json_of_a_function_is_kept_where_some_records_lack_it(watch: Watch, tmp_path: Path) -> None:
    people = [make(Person, watch.source) for _ in range(2)]
    for person in people:
        make(Profile, watch.source, person=person, photo="", preferences={"a": 1})
    path = export(watch, tmp_path / "a.json", *people)
    edit_records(
        path,
        lambda records: next(one for one in records if one["model"] == "campus.profile")["fields"].pop("preferences"),
    )

    load(watch, path)

    found = watch.on_target(Profile).values_list("preferences", flat=True)
    assert sorted(found, key=len) == [{}, {"a": 1}]


# Upgraders


def with_upgrader(name: str, label: str = "policies.Parcel") -> Any:
    return override_settings(GESTORE_SYNC={"UPGRADERS": {label: f"{__name__}.{name}"}})


def rename(values: Document) -> Document:
    """Map a parcel of old to one of today."""
    values["fields"]["text"] = values["fields"].pop("note").upper()
    return values


def drop(values: Document) -> None:
    """Take no parcel."""


def split(values: Document) -> list[Document]:
    """Make two of one: the parcel and a scan of it."""
    return [values, record("policies.scan", 7, parcel=values["pk"], text=values["fields"].pop("note"))]


def fail(values: Document) -> None:
    """Fail as code does."""
    raise KeyError("nothing of that name")


def make_number(values: Document) -> int:
    """Return what is no record."""
    return 5


def make_half(values: Document) -> Document:
    """Return what is half a record."""
    return {"model": "policies.Parcel"}


def make_nameless(values: Document) -> Document:
    """Return a record without a key."""
    return record("policies.parcel", None)


@every_shape
def test_an_upgrader_maps_an_old_record_to_a_new_one(watch: Watch, depot: Depot, tmp_path: Path, ending: str) -> None:
    path = add_field(export(watch, tmp_path / f"a{ending}", depot), "policies.Parcel", "note", "hello")

    with with_upgrader("rename", "policies.PARCEL"):
        load(watch, path)

    assert watch.on_target(Parcel).get().text == "HELLO"


@every_shape
def test_an_upgrader_drops_records_and_makes_several(watch: Watch, depot: Depot, tmp_path: Path, ending: str) -> None:
    path = add_field(export(watch, tmp_path / f"a{ending}", depot), "policies.Parcel", "note", "hello")

    with with_upgrader("split"):
        load(watch, path)

    assert watch.on_target(Scan).get().text == "hello"

    with with_upgrader("drop"):
        report = load(watch, path)
    assert report.created == report.updated == report.deleted == {}


@every_shape
def test_an_upgrader_takes_the_records_of_a_model_that_is_gone(
    watch: Watch, depot: Depot, tmp_path: Path, ending: str
) -> None:
    path = export(watch, tmp_path / f"a{ending}", depot)
    add_model(path, "oldshop.Basket")

    with with_upgrader("drop", "oldshop.Basket"):
        load(watch, path)

    assert watch.on_target(Parcel).count() == 1


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fail", "KeyError"),
        ("make_number", "no record"),
        ("make_half", "no record"),
        ("make_nameless", "primary key"),
    ],
)
@one_target
def test_what_is_wrong_in_an_upgrader_is_told(watch: Watch, depot: Depot, tmp_path: Path, name: str, told: str) -> None:
    path = export(watch, tmp_path / "a.json", depot)

    with with_upgrader(name):
        error = refuse(watch, path)

    assert isinstance(error, BundleError)
    assert told in str(error)
    assert "policies.Parcel" in str(error) or "policies.parcel" in str(error)


@pytest.mark.parametrize("path", ["nowhere.nothing", "tests.test_import_schema.nothing", "nothing"])
@one_target
def test_an_upgrader_that_does_not_exist_is_told(watch: Watch, depot: Depot, tmp_path: Path, path: str) -> None:
    bundle = export(watch, tmp_path / "a.json", depot)

    with override_settings(GESTORE_SYNC={"UPGRADERS": {"policies.Parcel": path}}):
        error = refuse(watch, bundle)

    assert isinstance(error, WrongSetting)
    assert path in str(error)


# Edited by hand


def test_a_document_that_was_edited_by_hand_is_imported(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    make(Article, watch.source, depot=depot, code="gone")
    path = export(watch, tmp_path / "a.json", depot)

    def edit(records: list[Document]) -> None:
        records.remove(find_record(records, "policies.article"))
        find_record(records, "policies.depot")["fields"]["city"] = "Gdynia"
        parcel = find_record(records, "policies.parcel")
        records.insert(0, {**parcel, "pk": 4711, "fields": {**parcel["fields"], "number": "two"}})

    load(watch, edit_records(path, edit))

    assert watch.on_target(Depot).get().city == "Gdynia"
    assert sorted(watch.on_target(Parcel).values_list("number", flat=True)) == ["one", "two"]
    assert not watch.on_target(Article).exists()


def test_models_of_other_letters_are_the_same(watch: Watch, tmp_path: Path) -> None:
    document = make_document(record("policies.BRAND", 1, name="a"), record("policies.Brand", 2, name="b"))

    load(watch, write_document(tmp_path / "a.json", document))

    assert watch.on_target(Brand).count() == 2

"""The command exportobjects."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from gestore_sync.plan import Report
from gestore_sync.terminal import PHASES, print_report
from tests.bundling import FORMATS, find_record, get_ending, read_all, read_document, read_members
from tests.conftest import Pair
from tests.kinds.making import make, make_many
from tests.kinds.models import Box, Values
from tests.policies.models import Area, Article, Brand, Claim, Colour, Depot, Parcel, Scan
from tests.policies.watching import Watch, paired, pairings, unread, watched

ROOT = Path(__file__).resolve().parent.parent
ONE = pairings("sqlite-sqlite")

pair = paired("sqlite-sqlite", "postgresql-sqlite")


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair, "policies", "campus", "auth", "contenttypes", "sites", "kinds") as watch:
        yield watch


@pytest.fixture
def depot(watch: Watch) -> Depot:
    depot = make(Depot, watch.source, name="Żółw")
    parcel = make(Parcel, watch.source, depot=depot, number="one", brand=make(Brand, watch.source, name="known"))
    make_many(Scan, watch.source, 2, parcel=parcel)
    depot.colours.add(*make_many(Colour, watch.source, 2))
    return depot


def export(watch: Watch, *arguments: str) -> str:
    """Run the command; return what it prints on standard output."""
    output = io.StringIO()
    try:
        call_command("exportobjects", "--database", watch.source, *arguments, stdout=output, stderr=io.StringIO())
    except (CommandError, SystemExit) as error:
        error.output = output.getvalue()  # type: ignore[union-attr]
        raise
    return output.getvalue()


def fail(watch: Watch, *arguments: str) -> tuple[str, str]:
    """Run the command, which must fail; return its error and what it prints on standard output."""
    with pytest.raises(CommandError) as caught:
        export(watch, *arguments)
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
    return str(caught.value), caught.value.output  # type: ignore[attr-defined]


def name(instance: models.Model) -> str:
    return f"{instance._meta.label}.{instance.pk}"


def lines(output: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in output.splitlines()]


# What is written


def test_a_document_has_gestores_shape(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    export(watch, name(depot), "-o", str(tmp_path / "a.json"))

    document = read_document(tmp_path / "a.json")
    assert list(document) == sorted(document)
    assert set(document) == {"version", "date", "provided_objects", "objects", "origin", "scope", "counts", "schema"}
    assert document["version"] == "1"
    assert document["provided_objects"] == [name(depot)]
    assert document["counts"] == {
        "policies.Depot": 1,
        "policies.Parcel": 1,
        "policies.Brand": 1,
        "policies.Scan": 2,
        "policies.Colour": 2,
    }
    assert document["schema"]["policies.Depot"]["fields"]["colours"] == "ManyToManyField"
    parcel = find_record(document["objects"], "policies.parcel")
    assert list(parcel) == ["fields", "model", "pk"]
    assert parcel["fields"]["depot"] == depot.pk
    assert find_record(document["objects"], "policies.depot") == {
        "model": "policies.depot",
        "pk": depot.pk,
        "fields": {
            "name": "Żółw",
            "city": "",
            "riddle": None,
            "boss": None,
            "colours": sorted(watch.on_source(Colour).values_list("pk", flat=True)),
        },
    }


def test_a_document_is_text_for_people(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    export(watch, name(depot), "-o", str(tmp_path / "a.json"))

    text = (tmp_path / "a.json").read_text(encoding="utf-8")

    assert "Żółw" in text
    assert '  "objects": [\n    {\n      "fields": {\n' in text
    assert text.endswith("\n}\n")


@pytest.mark.parametrize("ending", FORMATS)
def test_the_name_tells_the_format(watch: Watch, depot: Depot, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"deep/er/a{ending}"

    export(watch, name(depot), "-o", str(path))

    assert get_ending(path) == ending
    assert len(read_all(path).records) == (9 if "tar" in ending else 7)


@pytest.mark.parametrize("ending", ["", "/", ".zip", ".JSONL"])
def test_every_other_name_is_that_of_a_folder(watch: Watch, depot: Depot, tmp_path: Path, ending: str) -> None:
    folder = tmp_path / f"new{ending}"

    export(watch, name(depot), "-o", str(folder))

    (path,) = folder.iterdir()
    assert path.name.endswith(".json")
    assert len(read_all(path).records) == 7


def test_the_folder_is_exports_by_default(
    watch: Watch, depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    export(watch, name(depot))

    assert [path.suffix for path in (tmp_path / "exports").iterdir()] == [".json"]


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_models_of_an_archive_come_in_the_order_in_which_they_need_each_other(
    watch: Watch, depot: Depot, tmp_path: Path
) -> None:
    export(watch, name(depot), "-o", str(tmp_path / "a.tar.gz"))

    labels = [name.split(".", 1)[1] for name in read_members(tmp_path / "a.tar.gz") if name.startswith("data/")]

    def at(label: str) -> int:
        return labels.index(f"policies.{label}.jsonl")

    assert at("brand") < at("parcel") < at("scan")
    assert at("depot") < at("parcel")
    assert max(at("colour"), at("depot")) < at("depot_colours")


def test_roots_that_overlap_are_exported_once(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    parcel = watch.on_source(Parcel).get()

    export(watch, name(parcel), name(depot), name(depot), "-o", str(tmp_path / "a.json"))

    document = read_document(tmp_path / "a.json")
    assert len(document["objects"]) == 7
    assert document["provided_objects"] == [name(parcel), name(depot)]


def test_an_export_only_reads(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    with CaptureQueriesContext(connections[watch.source]) as queries:
        export(watch, name(depot), "-o", str(tmp_path / "a.tar.gz"))

    assert not unread(queries)


# What is taken


@pytest.mark.parametrize(
    ("arguments", "missing", "more"),
    [
        (["-r", "Parcel"], [Scan], []),
        (["-r", "policies.Parcel", "Brand"], [Scan], []),
        (["-r", "parcel", "-r", "Brand"], [Scan], []),
        (["--root", "policies.parcel"], [Scan], []),
        (["--stop", "policies.Parcel"], [Scan], []),
        (["--own", "policies.Claim.parcel"], [], [Claim]),
        (["--refer", "policies.Parcel.depot"], [Scan], []),
        (["--ignore", "policies.Scan"], [Scan], []),
        (["--ignore", "policies.Parcel.depot", "--ignore", "policies.Scan"], [Parcel, Scan], []),
        (["--reach", "connected"], [], [Claim]),
    ],
)
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_each_flag_of_the_scope_is_heard_before_and_behind_the_object(
    watch: Watch, depot: Depot, tmp_path: Path, arguments: list[str], missing: list[Any], more: list[Any], before: bool
) -> None:
    make(Claim, watch.source, parcel=watch.on_source(Parcel).get())
    words = [*arguments, name(depot)] if before else [name(depot), *arguments]

    export(watch, *words, "-o", str(tmp_path / "a.json"))

    found = {record["model"] for record in read_document(tmp_path / "a.json")["objects"]}
    for model in (Depot, Parcel, Scan, Claim):
        expected = model not in missing and (model is not Claim or model in more)
        assert (model._meta.label_lower in found) == expected, model


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_manifest_says_what_was_asked_for(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    export(watch, name(depot), "-r", "Parcel", "--ignore", "policies.Scan", "-o", str(tmp_path / "a.json"))

    scope = read_document(tmp_path / "a.json")["scope"]

    assert scope["stop"] == ["policies.Parcel"]
    assert scope["excluded"] == ["policies.Scan"]
    assert scope["reach"] == "owned"


def test_an_object_is_named_by_a_unique_field_too(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    export(watch, f"policies.Depot.id={depot.pk}", "-o", str(tmp_path / "a.json"))

    assert read_document(tmp_path / "a.json")["provided_objects"] == [name(depot)]


# What is said


def test_an_export_says_what_is_in_it_and_where_it_is(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"

    output = export(watch, name(depot), "-o", str(path))

    assert output.splitlines()[-1] == "Objects successfully exported!"
    assert ["model", "exported", "through"] in lines(output)
    assert ["policies.Scan", "2", "policies.Scan.parcel"] in lines(output)
    assert ["all", "9"] in lines(output)
    assert f"Written to {path}." in output


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_an_export_says_how_many_files_are_in_it(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a")
    values = make(Values, watch.source, file="a.txt")

    with override_settings(MEDIA_ROOT=str(tmp_path)):
        output = export(watch, name(values.box), "-o", str(tmp_path / "a.tar.gz"))
        without = export(watch, name(values.box), "--no-files", "-o", str(tmp_path / "b.tar.gz"))

    assert "1 stored file " in output
    assert "stored file" not in without


def test_a_password_in_a_location_is_not_shown() -> None:
    output = io.StringIO()
    print_report(Report(location="sftp://me:secret@host/a.json"), output)

    assert "secret" not in output.getvalue()


@pytest.mark.parametrize("phase", ["exporting", "reading", "reading files"])
def test_each_phase_has_a_name_for_people(phase: str) -> None:
    assert str(PHASES[phase]) != phase


def test_mentions_are_told(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    make_many(Claim, watch.source, 3, parcel=watch.on_source(Parcel).get())

    output = export(watch, name(depot), "-o", str(tmp_path / "a.json"))

    assert any("--own policies.Claim.parcel" in line for line in output.splitlines())


def test_debug_prints_the_document_and_writes_nothing(
    watch: Watch, depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    printed = json.loads(export(watch, name(depot), "-d"))
    also = json.loads(export(watch, name(depot), "--debug", "-o", str(tmp_path / "a.tar.gz")))

    assert printed["objects"] == also["objects"]
    assert len(printed["objects"]) == 7
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")

    document = json.loads(export(watch, name(depot), "-o", path, "--format", "json"))

    assert document["message"] == "Objects successfully exported!"
    assert document["exported"]["policies.Scan"] == 2
    assert document["location"] == path
    assert document["created"] == document["updated"] == {}


def test_json_with_debug_is_one_object_with_the_document_in_it(watch: Watch, depot: Depot) -> None:
    document = json.loads(export(watch, name(depot), "-d", "--format", "json"))

    assert len(json.loads(document["document"])["objects"]) == 7
    assert document["exported"]["policies.Scan"] == 2


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_text_that_no_encoding_has_is_printed(watch: Watch, tmp_path: Path) -> None:
    values = make(Values, watch.source, json={"a": "\ud800"})

    output = export(watch, name(values.box), "-d", "--format", "json")

    assert output.encode()
    record = find_record(json.loads(json.loads(output)["document"])["objects"], "kinds.values")
    assert record["fields"]["json"] == {"a": "\ud800"}


# Mistakes


MISTAKES = [
    [],
    ["nowhere.Nothing.1"],
    ["policies.Nothing.1"],
    ["policies.Depot.999999"],
    ["policies.Depot.x"],
    ["policies.Depot"],
    ["x"],
    [""],
    ["policies.Depot.name=x"],
    ["policies.Depot.1", "-r", "Nothing"],
    ["policies.Depot.1", "-r", "Comment"],
    ["policies.Depot.1", "--own", "policies.Depot.nothing"],
    ["policies.Depot.1", "--ignore", "nothing"],
    ["policies.Depot.1", "--stop", "nothing"],
    ["policies.Depot.1", "--database", "nowhere"],
    ["policies.Depot.1", "-o", "/proc/nowhere/a.json"],
    ["policies.Depot.1", "-o", "nothing://host/a.json"],
    ["policies.Depot.1", "-b"],
    ["policies.Depot.1", "-b", "-d", "--own", "x"],
]


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_mistake_is_told_on_one_line_without_a_traceback(
    watch: Watch, depot: Depot, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    error, output = fail(watch, *arguments)

    assert error
    assert output == ""
    assert list(tmp_path.rglob("*.*")) == []

    error, output = fail(watch, *arguments, "--format", "json")
    assert json.loads(output)["error"] == error


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_signature_needs_a_key(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    with override_settings(SECRET_KEY=""):
        error, _ = fail(watch, name(depot), "--sign", "-o", str(tmp_path / "a.json"))

    assert "SIGNING_KEY" in error
    assert list(tmp_path.iterdir()) == []


def test_the_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    for words, code in ((["policies.Depot.1", "--database", "nowhere"], 1), (["--help"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "django", "exportobjects", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_the_api_takes_instances_and_names(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    for roots in (depot, [depot], name(depot), [name(depot), depot]):
        report = api.export_objects(roots, str(tmp_path / "a.json"), database=watch.source)
        assert report.exported["policies.Depot"] == 1
        assert report.location == str(tmp_path / "a.json")


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_trees_and_parts_with_keys_of_their_own_are_taken(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    top = make(Area, watch.source, depot=depot, parent=None)
    make(Area, watch.source, depot=depot, parent=top)
    make(Article, watch.source, depot=depot, code="a")
    make(Box, watch.source)

    report = api.export_objects(depot, str(tmp_path / "a.json"), database=watch.source)

    assert report.exported["policies.Area"] == 2
    assert report.exported["policies.Article"] == 1
    assert "kinds.Box" not in report.exported

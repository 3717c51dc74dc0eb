"""The command importobjects."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tests.bundling import FORMATS, edit_records, export, find_record, make_document, record, write_document
from tests.kinds.making import make
from tests.policies.models import Brand, Depot, Parcel, Worker
from tests.policies.watching import Watch, paired, pairings, read_only, unread

ROOT = Path(__file__).resolve().parent.parent
ONE = pairings("sqlite-sqlite")

pair = paired("sqlite-sqlite", "sqlite-postgresql")


@pytest.fixture
def depot(watch: Watch) -> Depot:
    depot = make(Depot, watch.source, name="Żółw")
    make(Parcel, watch.source, depot=depot, number="one", brand=make(Brand, watch.source, name="known"))
    make(Brand, watch.target, name="known")
    return depot


@pytest.fixture
def path(watch: Watch, depot: Depot, tmp_path: Path) -> Path:
    return export(watch, tmp_path / "a.json", depot)


def load(watch: Watch, *arguments: Any) -> str:
    """Run the command; return what it prints on standard output."""
    output = io.StringIO()
    words = ["--database", watch.target, *map(str, arguments)]
    try:
        call_command("importobjects", *words, stdout=output, stderr=io.StringIO())
    except (CommandError, SystemExit) as error:
        error.output = output.getvalue()  # type: ignore[union-attr]
        raise
    return output.getvalue()


def fail(watch: Watch, *arguments: Any) -> tuple[str, str]:
    """Run the command, which must fail and write nothing; return its error and what it prints."""
    before = watch.picture()
    with pytest.raises(CommandError) as caught:
        load(watch, *arguments)
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
    assert watch.picture() == before
    return str(caught.value), caught.value.output  # type: ignore[attr-defined]


def lines(output: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in output.splitlines()]


def change(watch: Watch) -> None:
    """Let both sides differ since they were last in step."""
    watch.on_source(Parcel).update(text="ours")
    watch.on_target(Parcel).update(text="theirs")


# What is done and said


@pytest.mark.parametrize("ending", FORMATS)
def test_an_import_says_what_it_did(watch: Watch, depot: Depot, tmp_path: Path, ending: str) -> None:
    output = load(watch, export(watch, tmp_path / f"a{ending}", depot))

    assert output.splitlines()[-1] == 'Successfully imported "2" objects.'
    assert ["policies.Parcel", "1", "policies.Parcel.depot"] in lines(output)
    assert ["model", "created", "matched", "through"] in lines(output)
    assert watch.on_target(Parcel).get().brand.name == "known"


def test_importing_twice_says_that_nothing_was_imported(watch: Watch, path: Path) -> None:
    load(watch, path)
    before = watch.picture()

    output = load(watch, path)

    assert output.splitlines()[-1] == 'Successfully imported "0" objects.'
    assert watch.picture() == before


def test_json_is_one_object(watch: Watch, path: Path) -> None:
    document = json.loads(load(watch, path, "--format", "json"))

    assert document["message"] == 'Successfully imported "2" objects.'
    assert document["created"] == {"policies.Depot": 1, "policies.Parcel": 1}
    assert document["matched"] == {"policies.Brand": 1}
    assert document["conflicts"] == document["failures"] == []
    assert "error" not in document


def test_debug_shows_the_plan_and_writes_nothing(watch: Watch, path: Path) -> None:
    before = watch.picture()

    with CaptureQueriesContext(connections[watch.target]) as queries, read_only(watch.target):
        output = load(watch, path, "-d")

    assert not unread(queries)
    assert watch.picture() == before
    assert ["policies.Parcel", "1", "policies.Parcel.depot"] in lines(output)
    assert "Successfully" not in output


def test_debug_asks_nothing_and_shows_what_would_be_overwritten(watch: Watch, depot: Depot, path: Path) -> None:
    load(watch, path)
    change(watch)
    export(watch, path, depot)

    output = load(watch, path, "-d", "-o")

    assert "'ours'" in output
    assert "'theirs'" in output
    assert watch.on_target(Parcel).get().text == "theirs"


def test_a_plan_with_conflicts_that_nothing_resolves_ends_with_1(watch: Watch, depot: Depot, path: Path) -> None:
    load(watch, path)
    change(watch)
    export(watch, path, depot)

    with pytest.raises(SystemExit) as caught:
        load(watch, path, "-d")

    assert caught.value.code == 1


def test_every_conflict_is_listed_with_both_sides_before_anything_is_written(
    watch: Watch, depot: Depot, path: Path
) -> None:
    make(Parcel, watch.source, depot=depot, number="two", text="first")
    load(watch, export(watch, path, depot))
    watch.on_source(Parcel).update(text="ours", weight=1)
    watch.on_target(Parcel).update(text="theirs", weight=2)
    export(watch, path, depot)

    error, output = fail(watch, path, "--format", "json")

    document = json.loads(output)
    assert document["error"] == error
    assert [(conflict["fields"], conflict["resolved"]) for conflict in document["conflicts"]] == [
        ({"text": ["ours", "theirs"], "weight": [1, 2]}, None)
    ] * 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--on-conflict", "override", "--noinput"], "ours"),
        (["--override", "--noinput"], "ours"),
        (["-o", "--no-input"], "ours"),
        (["--on-conflict", "skip"], "theirs"),
        (["--on-conflict", "newer"], "ours"),
    ],
)
def test_the_policy_is_heard(watch: Watch, depot: Depot, path: Path, arguments: list[str], expected: str) -> None:
    load(watch, path)
    change(watch)
    export(watch, path, depot)

    load(watch, path, *arguments)

    assert watch.on_target(Parcel).get().text == expected


def test_remap_gives_new_keys(watch: Watch, depot: Depot, path: Path) -> None:
    make(Depot, watch.target, pk=depot.pk, name="other")

    fail(watch, path)
    load(watch, path, "--on-conflict", "remap")

    assert watch.on_target(Depot).count() == 2
    assert watch.on_target(Parcel).get().depot.name == "Żółw"


def test_what_does_not_exist_here_is_left_out_where_that_is_said(watch: Watch, path: Path) -> None:
    edit_records(path, lambda records: find_record(records, "policies.parcel")["fields"].update(stamp=1))

    error, _ = fail(watch, path)
    assert "-i" in error
    output = load(watch, path, "-i")

    assert "policies.Parcel.stamp" in output
    assert watch.on_target(Parcel).count() == 1


def test_verify_is_heard(watch: Watch, depot: Depot, path: Path) -> None:
    error, _ = fail(watch, path, "--verify")
    assert "not signed" in error

    load(watch, export(watch, path, depot, sign=True), "--verify")
    assert watch.on_target(Depot).count() == 1


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_privileges_are_heard(watch: Watch, depot: Depot, path: Path) -> None:
    with override_settings(GESTORE_SYNC={"PROTECTED_FIELDS": ["policies.Depot.name"]}):
        output = load(watch, path)
        assert "policies.Depot.name" in output
        assert "--allow-privileged" in output
        watch.on_target(Depot).update(name="")
        load(watch, path, "--allow-privileged", "-o", "--noinput")

    assert watch.on_target(Depot).get().name == "Żółw"


# Mistakes


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere.json"],
        ["nowhere.zip"],
        ["."],
        ["folder.json"],
        ["nothing://host/a.json"],
        ["empty.json"],
        ["text.tar.gz"],
        ["-b", "a.json"],
        ["good.json", "--database", "nowhere"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_mistake_is_told_on_one_line_without_a_traceback(
    watch: Watch, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "text.tar.gz").write_text("hello")
    write_document(tmp_path / "good.json", make_document(record("policies.depot", 1, name="a")))

    error, output = fail(watch, *arguments)
    assert error
    assert output == ""

    error, output = fail(watch, *arguments, "--format", "json")
    assert json.loads(output)["error"] == error


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_json_holds_text_that_no_encoding_has(watch: Watch, tmp_path: Path) -> None:
    path = write_document(
        tmp_path / "a.json", make_document(record("policies.\ud800", 1), counts={"policies.\ud800": 1})
    )

    _, output = fail(watch, path, "--format", "json")

    assert "\ud800" in json.loads(output.encode())["error"]


# Confirmation


@contextmanager
def typing(text: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a person type at a terminal; without a text there is no terminal."""
    if text is None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
        yield
        return
    ours, theirs = pty.openpty()
    os.write(ours, text.encode())
    with os.fdopen(theirs) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield
    os.close(ours)


@pytest.mark.parametrize("arguments", [["-o"], ["--override"], ["--on-conflict", "override"]])
@pytest.mark.parametrize("text", [None, "no\n", "\n", "y\n", "yes please\n"])
@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_what_is_not_confirmed_is_not_overwritten(
    watch: Watch, path: Path, text: str | None, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with typing(text, monkeypatch):
        error, output = fail(watch, path, *arguments)

    assert "Nothing was written" in error
    assert output == ""
    if text is None:
        assert "--noinput" in error


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_what_is_not_confirmed_is_one_object_of_json(watch: Watch, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with typing(None, monkeypatch):
        error, output = fail(watch, path, "-o", "--format", "json")

    assert json.loads(output)["error"] == error


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_what_is_confirmed_is_overwritten(
    watch: Watch, depot: Depot, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(watch, path)
    change(watch)
    export(watch, path, depot)

    with typing("yes\n", monkeypatch):
        load(watch, path, "-o")

    assert watch.on_target(Parcel).get().text == "ours"


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_other_policies_ask_nothing(watch: Watch, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with typing(None, monkeypatch):
        load(watch, path, "--on-conflict", "skip")

    assert watch.on_target(Depot).count() == 1
    assert not watch.on_target(Worker).exists()


def test_the_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 1_000_000)
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    for words, code in (([str(tmp_path / "a.json")], 1), ([str(tmp_path / "b.json")], 1), (["--help"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "django", "importobjects", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from tests.kinds.making import make, make_many
from tests.policies.models import Article, Brand, Claim, Colour, Depot, Parcel, Scan, Shift, Worker
from tests.policies.watching import CROSSED, Watch, execute, paired, pairings, read_only, refuse_text, unread

ROOT = Path(__file__).resolve().parent.parent
COUNTS = ("created", "updated", "unchanged", "matched", "deleted", "skipped")
ONE = pairings("sqlite-postgresql")

pair = paired(*CROSSED)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    depot = make(Depot, watch.source, name="ours")
    parcel = make(Parcel, watch.source, depot=depot, number="one", brand=make(Brand, watch.source, name="known"))
    make_many(Scan, watch.source, 2, parcel=parcel)
    make(Brand, watch.target, name="known")
    return depot


def synchronize(watch: Watch, *arguments: str) -> str:
    """Run the command; return what it prints on standard output."""
    output = io.StringIO()
    words = ["--source", watch.source, "--remote", watch.target, *arguments]
    try:
        call_command("synchronize", *words, stdout=output, stderr=io.StringIO())
    except (CommandError, SystemExit) as error:
        error.output = output.getvalue()  # type: ignore[union-attr]
        raise
    return output.getvalue()


def fail(watch: Watch, *arguments: str) -> tuple[str, str]:
    """Run the command, which must fail; return its error and what it prints on standard output."""
    with pytest.raises(CommandError) as caught:
        synchronize(watch, *arguments)
    assert caught.value.returncode == 1
    return str(caught.value), caught.value.output  # type: ignore[attr-defined]


def name(instance: models.Model) -> str:
    return f"{instance._meta.label}.{instance.pk}"


def lines(output: str) -> list[list[str]]:
    """Return the words of each line."""
    return [line.split() for line in output.splitlines()]


# Text


def test_a_push_says_what_it_did(watch: Watch, depot: Depot) -> None:
    output = synchronize(watch, "--root", name(depot))

    assert output.splitlines()[-1] == "Synchronization performed successfully."
    assert ["model", "created", "matched", "through"] in lines(output)
    assert ["policies.Scan", "2", "policies.Scan.parcel"] in lines(output)
    assert ["policies.Brand", "1", "policies.Parcel.brand"] in lines(output)
    assert watch.on_target(Scan).count() == 2


def test_a_push_with_nothing_to_do_says_so(watch: Watch, depot: Depot) -> None:
    synchronize(watch, "--root", name(depot))

    output = synchronize(watch, "--root", name(depot))

    assert output.splitlines()[-1] == "No changes since last synchronization."


def test_objects_are_named_after_one_flag_or_several(watch: Watch, depot: Depot) -> None:
    other, third = make_many(Depot, watch.source, 2)

    synchronize(watch, "--root", name(depot), name(other), "--root", name(third))

    assert watch.on_target(Depot).count() == 3


@pytest.mark.parametrize(
    ("arguments", "missing", "more"),
    [
        (["--own", "policies.Claim.parcel", "--own", "policies.Claim.value"], [], [Claim]),
        (["--own", "policies.Claim.parcel", "policies.Claim.value"], [], [Claim]),
        (["--refer", "policies.Parcel.depot"], [Scan], []),
        (["--ignore", "policies.Scan"], [Scan], []),
        (["--ignore", "policies.Parcel.depot"], [Parcel, Scan], []),
        (["--stop", "policies.Parcel"], [Scan], []),
        (["--reach", "connected"], [], [Claim]),
    ],
)
@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_each_scope_flag_is_heard(
    watch: Watch, depot: Depot, arguments: list[str], missing: list[Any], more: list[Any]
) -> None:
    make(Claim, watch.source, parcel=watch.on_source(Parcel).get())

    synchronize(watch, "--root", name(depot), *arguments)

    for model in (Depot, Parcel, Scan, Claim):
        expected = model not in missing and (model is not Claim or model in more)
        assert watch.on_target(model).exists() == expected, model


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_policy_and_prune_are_heard(watch: Watch, depot: Depot) -> None:
    synchronize(watch, "--root", name(depot))
    watch.on_target(Depot).update(name="theirs")
    watch.on_source(Scan).first().delete()

    synchronize(watch, "--root", name(depot), "--on-conflict", "local", "--prune")

    assert watch.on_target(Depot).get().name == "ours"
    assert watch.on_target(Scan).count() == 1


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)
def test_the_databases_are_those_of_the_settings_by_default(watch: Watch) -> None:
    depot = make(Depot, "default", name="ours")

    call_command("synchronize", "--root", name(depot), stdout=io.StringIO())

    assert watch.on_target(Depot).get().name == "ours"


# A dry run


def test_a_dry_run_shows_the_plan_and_writes_nothing(watch: Watch, depot: Depot) -> None:
    before = watch.picture()

    with CaptureQueriesContext(connections[watch.target]) as queries, read_only(watch.target):
        output = synchronize(watch, "--root", name(depot), "--dry-run")

    assert not unread(queries)
    assert watch.picture() == before
    assert ["policies.Scan", "2", "policies.Scan.parcel"] in lines(output)
    assert "Synchronization performed successfully." not in output


def test_a_dry_run_writes_nothing_at_the_source_either(watch: Watch, depot: Depot) -> None:
    with CaptureQueriesContext(connections[watch.source]) as queries, read_only(watch.source):
        synchronize(watch, "--root", name(depot), "--dry-run")

    assert not unread(queries)


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql", "postgresql-postgresql"), indirect=True)
def test_a_dry_run_takes_no_number_of_a_sequence(watch: Watch, depot: Depot) -> None:
    query = "SELECT sequencename, last_value FROM pg_sequences ORDER BY sequencename"
    before = execute(watch.target, query)
    assert any("policies_scan" in row[0] for row in before)

    synchronize(watch, "--root", name(depot), "--dry-run")

    assert execute(watch.target, query) == before


def test_a_dry_run_counts_what_would_happen_by_model(watch: Watch, depot: Depot) -> None:
    for code in ("same", "changed", "kept", "fought", "gone"):
        make(Article, watch.source, depot=depot, code=code, title="first")
    synchronize(watch, "--root", name(depot))
    watch.on_source(Article).filter(code="changed").update(title="ours")
    watch.on_target(Article).filter(code="kept").update(title="theirs")
    watch.on_source(Article).filter(code="gone").delete()
    make(Article, watch.source, depot=depot, code="new")

    output = synchronize(watch, "--root", name(depot), "--dry-run", "--prune")

    assert ["model", "created", "updated", "unchanged", "matched", "deleted", "skipped", "through"] in lines(output)
    assert ["policies.Article", "1", "1", "2", "1", "1", "policies.Article.depot"] in lines(output)


def test_a_dry_run_counts_conflicts_by_model(watch: Watch, depot: Depot) -> None:
    for code in "AB":
        make(Article, watch.source, depot=depot, code=code, title="first")
    synchronize(watch, "--root", name(depot))
    watch.on_source(Article).update(title="ours")
    watch.on_target(Article).update(title="theirs")

    output = synchronize(watch, "--root", name(depot), "--dry-run")

    header = next(words for words in lines(output) if words and words[0] == "model")
    row = next(words for words in lines(output) if words and words[0] == "policies.Article")
    assert "conflicts" in header
    assert row.count("2") >= 1


def test_a_dry_run_shows_conflicts_with_both_sides(watch: Watch, depot: Depot) -> None:
    synchronize(watch, "--root", name(depot))
    watch.on_source(Depot).update(name="mine")
    watch.on_target(Depot).update(name="yours")

    output = synchronize(watch, "--root", name(depot), "--dry-run")

    assert name(depot) in output
    assert "'mine'" in output
    assert "'yours'" in output


def test_a_dry_run_with_conflicts_that_nothing_resolves_ends_with_1(watch: Watch, depot: Depot) -> None:
    synchronize(watch, "--root", name(depot))
    watch.on_source(Depot).update(name="mine")
    watch.on_target(Depot).update(name="yours")

    with pytest.raises((SystemExit, CommandError)) as caught:
        synchronize(watch, "--root", name(depot), "--dry-run", "--on-conflict", "fail")

    assert getattr(caught.value, "code", None) == 1 or getattr(caught.value, "returncode", None) == 1


def test_a_dry_run_shows_mentions_and_what_stays_behind(watch: Watch, depot: Depot) -> None:
    make_many(Claim, watch.source, 3, parcel=watch.on_source(Parcel).get())
    worker = make(Worker, watch.source)
    make(Shift, watch.source, depot=depot, worker=worker)
    make_many(Shift, watch.source, 2, worker=worker)

    output = synchronize(watch, "--root", name(depot), "--dry-run")

    (mention,) = [line for line in output.splitlines() if "--own policies.Claim.parcel" in line]
    assert mention.startswith("3 policies.Claim")
    (left,) = [line for line in output.splitlines() if "policies.Shift.worker" in line and "without" in line]
    assert left.startswith("policies.Worker")
    assert "2" in left.split()


def test_a_dry_run_warns_of_other_objects_of_the_roots_model(watch: Watch, depot: Depot) -> None:
    worker = make(Worker, watch.source)
    make(Shift, watch.source, depot=depot, worker=worker)
    other = make(Shift, watch.source, worker=worker).depot

    output = synchronize(watch, "--root", name(depot), "--dry-run", "--reach", "connected")

    assert any(line.startswith("Warning") and name(other) in line for line in output.splitlines())


def test_long_names_are_shown_whole(watch: Watch, depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    depot.colours.add(make(Colour, watch.source))
    synchronize(watch, "--root", name(depot))
    watch.on_source(Depot).update(name="changed")
    watch.on_target(Parcel).update(text="theirs")
    watch.on_source(Scan).first().delete()
    make(Scan, watch.source, parcel=watch.on_source(Parcel).get())

    output = synchronize(watch, "--root", name(depot), "--prune")

    for label in ("policies.Depot_colours", "policies.Parcel", "policies.Scan"):
        assert any(words[:1] == [label] for words in lines(output))


# JSON


def test_json_is_one_object_with_all_counts(watch: Watch, depot: Depot) -> None:
    document = json.loads(synchronize(watch, "--root", name(depot), "--format", "json"))

    assert document["message"] == "Synchronization performed successfully."
    assert document["created"] == {"policies.Depot": 1, "policies.Parcel": 1, "policies.Scan": 2}
    assert document["matched"] == {"policies.Brand": 1}
    assert all(isinstance(document[key], dict) for key in COUNTS)
    assert document["conflicts"] == document["failures"] == []
    assert "error" not in document


def test_json_of_a_dry_run_is_one_object(watch: Watch, depot: Depot) -> None:
    make(Claim, watch.source, parcel=watch.on_source(Parcel).get())

    document = json.loads(synchronize(watch, "--root", name(depot), "--format", "json", "--dry-run"))

    assert document["created"]["policies.Scan"] == 2
    assert document["mentions"] == {"policies.Claim.parcel": 1}
    assert document["message"]


def test_json_lists_conflicts_with_both_sides_and_how_they_were_resolved(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="known", motto="first")
    watch.push(brand)
    watch.on_source(Brand).update(motto="ours")
    watch.on_target(Brand).update(motto="theirs")

    (conflict,) = json.loads(synchronize(watch, "--root", name(brand), "--format", "json"))["conflicts"]

    assert conflict.pop("reason")
    assert conflict == {
        "model": "policies.Brand",
        "pk": str(brand.pk),
        "natural_key": ["known"],
        "fields": {"motto": ["ours", "theirs"]},
        "resolved": "local",
    }


def test_json_is_one_object_where_a_conflict_is_not_resolved(watch: Watch, depot: Depot) -> None:
    watch.push(depot)
    watch.on_source(Depot).update(name="mine")
    watch.on_target(Depot).update(name="yours")

    error, output = fail(watch, "--root", name(depot), "--format", "json", "--on-conflict", "fail")

    document = json.loads(output)
    assert document["error"] == error
    assert [(c["fields"], c["resolved"]) for c in document["conflicts"]] == [({"name": ["mine", "yours"]}, None)]
    assert set(COUNTS) <= document.keys()


def test_json_is_one_object_where_the_target_refuses_a_row(watch: Watch, depot: Depot) -> None:
    bad = make(Article, watch.source, depot=depot, code="bad", title="refused")
    refuse_text(watch.target, "policies_article", "title", "refused")

    error, output = fail(watch, "--root", name(depot), "--format", "json")

    document = json.loads(output)
    assert document["error"] == error
    (failure,) = document["failures"]
    assert failure.keys() == {"model", "pk", "natural_key", "reason"}
    assert (failure["model"], failure["pk"]) == ("policies.Article", str(bad.pk))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--root", "nowhere.Nothing.1"],
        ["--root", "policies.Depot.999999"],
        ["--root", "policies.Depot.1", "--own", "nothing"],
        ["--changes"],
    ],
)
@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_json_is_one_object_where_the_input_is_wrong(watch: Watch, arguments: list[str]) -> None:
    error, output = fail(watch, *arguments, "--format", "json")

    document = json.loads(output)
    assert document["error"] == error
    assert document["created"] == {}


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_json_holds_values_of_every_kind(watch: Watch) -> None:
    from tests.kinds.models import Box, Values

    box = make(Box, watch.source)
    values = make(Values, watch.source, box=box, binary=b"\x00\xff", json={"a": 1}, text="ü")
    watch.synchronize(box)
    exotic = {
        "binary": b"\x01",
        "json": {"b": [1]},
        "text": "ö",
        "decimal": "1.5",
        "moment": "2024-01-02T03:04:05Z",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "duration": None,
    }
    watch.on_source(Values).update(**exotic)
    watch.on_target(Values).update(**dict.fromkeys(exotic) | {"text": "ä"})

    _, output = fail(watch, "--root", name(box), "--format", "json", "--on-conflict", "fail")

    (conflict,) = json.loads(output)["conflicts"]
    assert (conflict["model"], conflict["pk"]) == ("kinds.Values", str(values.pk))
    assert conflict["fields"]["text"] == ["ö", "ä"]


# Errors


def test_an_error_says_what_is_wrong_on_one_line(watch: Watch) -> None:
    error, output = fail(watch, "--root", "policies.Depot.999999")

    assert "policies.Depot.999999" in error
    assert "\n" not in error
    assert output == ""


def test_conflicts_that_nothing_resolves_are_shown(watch: Watch, depot: Depot) -> None:
    watch.push(depot)
    watch.on_source(Depot).update(name="mine")
    watch.on_target(Depot).update(name="yours")

    error, output = fail(watch, "--root", name(depot), "--on-conflict", "fail")

    assert name(depot) in error
    assert "'mine'" in output
    assert "'yours'" in output


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_no_remote_is_an_error_that_scripts_know(watch: Watch, depot: Depot) -> None:
    with override_settings(SYNCHRO_REMOTE=None), pytest.raises(CommandError) as caught:
        call_command("synchronize", "--root", name(depot), stdout=io.StringIO())

    assert str(caught.value).startswith("No REMOTE database specified in settings.")


# From the shell


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the databases of the test project, LOCAL with two organizations."""
    folder = tmp_path_factory.mktemp("site")
    for alias in ("default", "remote"):
        assert manage(folder, "migrate", "--database", alias, "--verbosity", "0").returncode == 0
    assert manage(folder, "seedcampus", "--learners", "10", "--verbosity", "0").returncode == 0
    return folder


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Path:
    """A folder with databases of its own."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path


def environment(folder: Path, settings: str = "testproject.settings") -> dict[str, str]:
    """Return the environment of a process that works on the databases of the folder, which are SQLite's."""
    inherited = {key: value for key, value in os.environ.items() if key != "POSTGRES_URL"}
    return {
        **inherited,
        "CAMPUS_DATA": str(folder),
        "DJANGO_SETTINGS_MODULE": settings,
        "PYTHONPATH": f"{folder}:{ROOT}",
    }


def manage(folder: Path, *arguments: str, settings: str = "") -> subprocess.CompletedProcess[str]:
    """Run manage.py of the test project on the databases of the folder. ``settings``: what is added to its own."""
    if settings:
        (folder / "more_settings.py").write_text(f"from testproject.settings import *\n{settings}\n")
    return subprocess.run(
        [sys.executable, str(ROOT / "testproject" / "manage.py"), *arguments],
        env=environment(folder, "more_settings" if settings else "testproject.settings"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a process ended in one clear error."""
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def remote(folder: Path) -> bytes:
    """Return every byte of the remote database."""
    return (folder / "campus_remote.sqlite3").read_bytes()


def test_the_shell_gets_the_whole_story_of_a_push(site: Path) -> None:
    root = "campus.Organization.code=acme"

    first = manage(site, "synchronize", "--root", root)
    written = remote(site)
    second = manage(site, "synchronize", "--root", root)
    planned = manage(site, "synchronize", "--root", root, "--dry-run", "--format", "json")

    assert (first.returncode, second.returncode, planned.returncode) == (0, 0, 0)
    assert first.stdout.endswith("Synchronization performed successfully.\n")
    assert second.stdout.endswith("No changes since last synchronization.\n")
    assert json.loads(planned.stdout)["unchanged"]["campus.Organization"] == 1
    assert (first.stderr, second.stderr, planned.stderr) == ("", "", "")
    assert remote(site) == written


def test_the_shell_gets_json_alone_on_standard_output(site: Path) -> None:
    done = manage(site, "synchronize", "--root", "campus.Organization.1", "--format", "json")

    assert json.loads(done.stdout)["created"]["campus.Organization"] == 1
    assert (done.returncode, done.stderr) == (0, "")


def test_a_dry_run_from_the_shell_leaves_every_byte_of_the_remote_file(site: Path) -> None:
    before = remote(site)

    done = manage(site, "synchronize", "--root", "campus.Organization.1", "--dry-run")

    assert done.returncode == 0
    assert "campus.Enrolment" in done.stdout
    assert remote(site) == before


def test_an_unknown_object_ends_in_one_line_and_exit_code_1(site: Path) -> None:
    done = manage(site, "synchronize", "--root", "campus.Organization.77")

    assert_error(done, "campus.Organization.77")
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)


def test_an_error_with_json_is_on_both_streams(site: Path) -> None:
    done = manage(site, "synchronize", "--root", "campus.Organization.77", "--format", "json")

    assert_error(done, "campus.Organization.77")
    assert json.loads(done.stdout)["error"] in done.stderr


def test_a_conflict_ends_with_1_and_leaves_the_remote_file(site: Path) -> None:
    manage(site, "synchronize", "--root", "campus.Organization.1")
    for file, title in (("campus_local", "ours"), ("campus_remote", "theirs")):
        with closing(sqlite3.connect(site / f"{file}.sqlite3")) as database, database:
            database.execute("UPDATE campus_organization SET name = ?", [title])
    before = remote(site)

    done = manage(site, "synchronize", "--root", "campus.Organization.1", "--on-conflict", "fail")

    assert_error(done, "campus.Organization.1")
    assert remote(site) == before


def test_migrations_that_the_target_has_not_run_are_named(site: Path) -> None:
    manage(site, "migrate", "campus", "zero", "--database", "remote", "--verbosity", "0")
    before = remote(site)

    done = manage(site, "synchronize", "--root", "campus.Organization.1")

    assert_error(done, "'campus_organization'", "manage.py migrate campus 0001_initial --database remote")
    assert remote(site) == before


def test_a_target_without_our_migrations_works_and_is_warned_of(site: Path) -> None:
    manage(site, "migrate", "gestore_sync", "zero", "--database", "remote", "--verbosity", "0")

    first = manage(site, "synchronize", "--root", "campus.Organization.1")
    written = remote(site)
    second = manage(site, "synchronize", "--root", "campus.Organization.1")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "migrate gestore_sync --database remote" in first.stdout
    assert second.stdout.endswith("No changes since last synchronization.\n")
    assert remote(site) == written


def test_an_empty_target_ends_in_an_error_that_names_a_table(site: Path) -> None:
    (site / "campus_remote.sqlite3").unlink()

    done = manage(site, "synchronize", "--root", "campus.Organization.1")

    assert_error(done, "has no table", "--database remote")


def test_a_target_that_cannot_be_reached_is_an_error(site: Path) -> None:
    settings = "DATABASES['remote']['NAME'] = '/nowhere/at/all.sqlite3'"

    done = manage(site, "synchronize", "--root", "campus.Organization.1", settings=settings)

    assert_error(done, "'remote'")


def test_a_target_that_somebody_has_locked_is_an_error(site: Path) -> None:
    settings = "DATABASES['remote']['OPTIONS'] = {'timeout': 0.1}"
    before = remote(site)
    with closing(sqlite3.connect(site / "campus_remote.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        done = manage(site, "synchronize", "--root", "campus.Organization.1", settings=settings)

    assert_error(done, "locked")
    assert remote(site) == before


@pytest.mark.parametrize("side", ["default", "remote"])
def test_a_database_that_is_away_or_locked_is_told_with_a_plan_as_with_a_root(site: Path, side: str) -> None:
    root, plan = ("--root", "campus.Organization.1"), ("--apply", str(site / "plan.jsonl"))
    away = f"DATABASES['{side}']['NAME'] = '/nowhere/at/all.sqlite3'"
    soon = f"DATABASES['{side}']['OPTIONS'] = {{'timeout': 0.1}}"
    locked = site / f"campus_{'local' if side == 'default' else 'remote'}.sqlite3"
    manage(site, "synchronize", *root, "--plan", plan[1])

    gone = [manage(site, "synchronize", *asked, settings=away) for asked in (plan, root)]
    with closing(sqlite3.connect(locked, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waited = [manage(site, "synchronize", *asked, settings=soon) for asked in (plan, root)]

    for done in gone:
        assert_error(done, f"The database '{side}' cannot be reached", "run again")
    for done in waited:
        assert_error(done, "database is locked", "run again")


def test_one_file_by_two_names_is_an_error(site: Path) -> None:
    (site / "other.sqlite3").symlink_to(site / "campus_local.sqlite3")
    before = (site / "campus_local.sqlite3").read_bytes()
    settings = f"DATABASES['remote']['NAME'] = r'{site / 'other.sqlite3'}'"

    done = manage(site, "synchronize", "--root", "campus.Organization.1", settings=settings)

    assert_error(done, "same database")
    assert (site / "campus_local.sqlite3").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ("GESTORE_SYNC = {'OWNED': []}", "OWNED"),
        ("GESTORE_SYNC = ['OWN']", "GESTORE_SYNC"),
        ("GESTORE_SYNC = {'BATCH_SIZE': 0}", "BATCH_SIZE"),
        ("SYNCHRO_REMOTE = 'nowhere'", "nowhere"),
        ("SYNCHRO_REMOTE = None", "No REMOTE database specified in settings."),
    ],
)
def test_a_wrong_setting_ends_in_an_error(site: Path, settings: str, word: str) -> None:
    done = manage(site, "synchronize", "--root", "campus.Organization.1", settings=settings)

    assert_error(done, word)


@pytest.mark.parametrize(
    "arguments", [["--on-conflict", "newest"], ["--reach", "far"], ["--format", "xml"], ["--nonsense"]]
)
def test_a_wrong_word_on_the_command_line_is_told(site: Path, arguments: list[str]) -> None:
    done = manage(site, "synchronize", "--root", "campus.Organization.1", *arguments)

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert arguments[-1] in done.stderr


KILLED = """
import os, signal, sys
from django.db.models.signals import post_save
from testproject.campus import models

count = 0

def receive(sender, **kwargs):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)

post_save.connect(receive, sender=models.{model}, weak=False)
"""


@pytest.mark.parametrize(("model", "at"), [("Organization", 1), ("Course", 2), ("Enrolment", 5), ("Certificate", 1)])
def test_a_push_that_is_killed_half_way_leaves_nothing_and_can_be_run_again(site: Path, model: str, at: int) -> None:
    root = ["synchronize", "--root", "campus.Organization.1"]
    (site / "killing").mkdir()
    (site / "killing" / "__init__.py").write_text("")
    (site / "killing" / "apps.py").write_text(
        "from django.apps import AppConfig\n\nclass Killing(AppConfig):\n    name = 'killing'\n\n"
        "    def ready(self):\n        import killing.receivers\n"
    )
    (site / "killing" / "receivers.py").write_text(KILLED.format(model=model, at=at))

    killed = manage(site, *root, settings="INSTALLED_APPS += ['killing.apps.Killing']")
    assert killed.returncode == -9
    assert count_rows(site) == 0
    again = manage(site, *root, "--format", "json")

    assert again.returncode == 0
    assert sum(json.loads(again.stdout)["created"].values()) == count_rows(site)
    assert manage(site, *root).stdout.endswith("No changes since last synchronization.\n")


def count_rows(folder: Path) -> int:
    """Return how many rows the platform has on the target."""
    with closing(sqlite3.connect(folder / "campus_remote.sqlite3")) as database:
        tables = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'campus!_%' ESCAPE '!'"
        )
        return sum(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for (table,) in tables.fetchall())


def on_terminal(folder: Path, *arguments: str) -> str:
    """Run manage.py with a terminal for what it shows beside its output; return what it shows there."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "testproject" / "manage.py"), *arguments],
        env={**environment(folder), "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    with suppress(OSError):
        while chunk := os.read(leader, 65536):
            shown += chunk
    os.close(leader)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode()


def test_a_terminal_shows_progress_while_walking_and_while_writing(site: Path) -> None:
    shown = on_terminal(site, "synchronize", "--root", "campus.Organization.1")

    assert "Walking" in shown
    assert "Writing" in shown


def test_no_progress_is_shown_where_it_is_not_wanted(site: Path) -> None:
    assert on_terminal(site, "synchronize", "--root", "campus.Organization.1", "--no-progress") == ""


def test_the_help_names_every_flag(site: Path) -> None:
    shown = manage(site, "synchronize", "--help").stdout

    flags = "--root --source --remote --on-conflict --prune --dry-run --reach --own --refer --ignore --stop --format"
    for flag in [*flags.split(), "--no-progress", "--noinput"]:
        assert flag in shown

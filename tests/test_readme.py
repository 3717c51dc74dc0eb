from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from argparse import Action
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.contenttypes.fields import GenericRelation, create_generic_related_manager
from django.contrib.contenttypes.models import ContentType
from django.core.management import BaseCommand, call_command, execute_from_command_line, load_command_class
from django.db import connections
from django.db.models.signals import post_save
from django.test import override_settings
from django.test.utils import isolate_apps
from django.urls import path, reverse
from docutils import nodes
from docutils.core import publish_doctree

import gestore_sync
from gestore_sync import exceptions
from gestore_sync.adapters import Adapter
from gestore_sync.conf import OPTIONS, find_setting_errors
from gestore_sync.exportadmin import export_bundle
from gestore_sync.models import ChangeLog, SyncRun
from gestore_sync.plan import Report
from gestore_sync.progress import Progress
from gestore_sync.triggers import forget_captured, update_triggers
from gestore_sync.watching import get_watched
from tests.logged.sites import undone

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.rst"
COMMANDS = [path.stem for path in (ROOT / "gestore_sync/management/commands").glob("[!_]*.py")]

# What is read here is done on one campus site, in the order in which it stands in README.rst.
STORY = (
    *("guide-sites", "guide-team", "guide-organization", "guide-scope", "settings-example", "settings-identity"),
    *("settings-decided", "undecided"),
    *("conflict-push", "diff", "verify", "conflict-changes", "conflict-told", "conflict-resolve"),
    *("settings-conflicts", "prune-changes", "prune-push"),
    *("plan-changes", "plan-write", "plan-edit", "plan-apply", "plan-repair"),
    *("settings-models", "not-logged", "log-changes", "log-send"),
    *("log-trouble", "log-trouble-told", "log-mended", "log-mended-sent", "checkpoint", "checkpoint-again"),
    *("report-json", "api", "overview", "adapter", "settings-import", "export", "import", "move", "delete"),
)
FIRST_PUSH = ("first-install", "first-settings", "first-push")
STEP = ("step-settings", "step-first")
MODELS = ("natural-keys", "logged-managers", "skip")
OTHERS = (
    *("make", "install-extras", "settings-bucket", "settings-signing", "admin-export"),
    *("settings-triggers", "receiver", "admin-urls", "copied", "synchro-references"),
)


@dataclass(frozen=True)
class Block:
    """A block of code in README.rst."""

    name: str
    language: str
    text: str


def read(path: Path) -> nodes.document:
    """The document; what docutils has to say about it is kept as nodes."""
    settings = {"report_level": 2, "halt_level": 5, "warning_stream": io.StringIO(), "syntax_highlight": "none"}
    return publish_doctree(path.read_text(), source_path=str(path), settings_overrides=settings)


DOCUMENT = read(README)
BLOCKS = {
    block["names"][0]: Block(block["names"][0], block["classes"][-1], block.astext())
    for block in DOCUMENT.findall(nodes.literal_block)
    if block["names"]
}
LITERALS = {literal.astext() for literal in DOCUMENT.findall(nodes.literal)}


def find_table(title: str, *, with_title: bool = False) -> list[list[nodes.entry]]:
    """The rows of the table whose first column has this title."""
    for table in DOCUMENT.findall(nodes.table):
        rows = [list(row.findall(nodes.entry)) for row in table.findall(nodes.row)]
        if rows[0][0].astext() == title:
            return rows if with_title else rows[1:]
    raise LookupError(title)


def find_literals(entry: nodes.Node) -> list[str]:
    return [literal.astext() for literal in entry.findall(nodes.literal)]


def split_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """``(command, lines that it prints)`` of a block of ``$`` lines."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *printed = part.strip().splitlines()
        yield command, printed


def find_deviation(shown: Sequence[str], printed: str) -> str | None:
    """The first line shown that was not printed, widths apart; dots stand for any lines, at an end for its rest."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    at, is_gap = 0, False
    for line in (" ".join(line.split()) for line in shown):
        if line == "…":
            is_gap = True
            continue
        rest = lines[at:] if is_gap else lines[at : at + 1]
        found = [number for number, other in enumerate(rest) if is_same(line, other)]
        if not found:
            return line
        at += found[0] + 1
        is_gap = False
    return None if is_gap or not any(lines[at:]) else f"(nothing after) {lines[at]}"


def is_same(shown: str, printed: str) -> bool:
    return printed.startswith(shown.removesuffix("…").rstrip()) if shown.endswith("…") else shown == printed


# The site on which the story is played, in a process of its own


def play() -> None:
    """Play the blocks given on standard input; print what each of their parts printed and its exit code."""
    done = []
    for language, text in json.load(sys.stdin):
        steps = [shlex.split(command) for command, _ in split_commands(text)] if language == "console" else [text]
        done.append([play_step(step) for step in steps])
    print(json.dumps(done))


def play_step(step: list[str] | str) -> tuple[str, int]:
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            if isinstance(step, list):
                execute_from_command_line(step)
            elif "(Adapter)" in step:
                play_adapter(step)
            elif step.startswith(("SYNCHRO_", "GESTORE_SYNC")):
                play_settings(step)
            else:
                exec(step, {})
        except SystemExit as end:
            code = int(end.code or 0)
    return printed.getvalue(), code


def play_settings(text: str) -> None:
    given: dict[str, Any] = {}
    exec(text, given)
    with override_settings(**{name: value for name, value in given.items() if name.isupper()}):
        execute_from_command_line(["manage.py", "check", "--fail-level=WARNING", "--tag=gestore_sync_settings"])
        execute_from_command_line(["manage.py", "synchronize", "--root", "campus.Organization.1", "--dry-run"])


def play_adapter(text: str) -> None:
    """Push folders that campus does not have, with an adapter of the project's own, three times."""
    from django.db import connections, models

    module = sys.modules["testproject.campus.adapters"] = ModuleType("testproject.campus.adapters")
    exec(text, vars(module))

    class Folder(models.Model):
        slug = models.CharField(max_length=20)
        parent = models.ForeignKey("self", models.CASCADE, null=True)
        full_path = models.CharField(max_length=100, unique=True)

        class Meta:
            app_label = "campus"

    for using in ("default", "remote"):
        with connections[using].schema_editor() as editor:
            editor.create_model(Folder)
    Folder.objects.using("remote").create(slug="maps", full_path="maps")
    books = Folder.objects.create(pk=11, slug="books", full_path="books")
    old = Folder.objects.create(pk=12, slug="old", parent=books, full_path="books/old")
    new = Folder.objects.create(pk=13, slug="new", parent=books, full_path="books/new")
    Folder.objects.create(pk=14, slug="europe", parent=old, full_path="books/old/europe")

    def push() -> None:
        print(gestore_sync.api.synchronize([books]).message)
        print(*Folder.objects.using("remote").order_by("pk").values_list("full_path", flat=True))

    with override_settings(GESTORE_SYNC={"ADAPTERS": ["testproject.campus.adapters.FolderAdapter"]}):
        push()
        Folder.objects.filter(pk=new.pk).update(full_path="-")
        Folder.objects.filter(pk=old.pk).update(slug="new", full_path="books/new")
        Folder.objects.filter(pk=new.pk).update(slug="old", full_path="books/old")
        Folder.objects.filter(pk=14).update(full_path="books/new/europe")
        push()
        push()


PLAY = "import django; django.setup(); from tests.test_readme import play; play()"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, int]]]:
    """What the blocks of the story print on a campus site of two SQLite files."""
    inherited = {name: value for name, value in os.environ.items() if name != "POSTGRES_URL"}
    done = subprocess.run(
        [sys.executable, "-c", PLAY],
        cwd=tmp_path_factory.mktemp("exports"),
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "CAMPUS_DATA": str(tmp_path_factory.mktemp("campus")),
            "COLUMNS": "110",
            "PYTHONIOENCODING": "utf-8",
        },
        input=json.dumps([(BLOCKS[name].language, BLOCKS[name].text) for name in STORY]),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(STORY, json.loads(done.stdout.splitlines()[-1]), strict=True))


# The examples


def test_every_block_is_run_by_a_test() -> None:
    assert set(BLOCKS) == {*STORY, *FIRST_PUSH, *STEP, *MODELS, *OTHERS}
    assert len(list(DOCUMENT.findall(nodes.literal_block))) == len(BLOCKS)


@pytest.mark.parametrize("name", STORY)
def test_the_guide_shows_what_happens(name: str, story: dict[str, list[tuple[str, int]]]) -> None:
    block = BLOCKS[name]
    if block.language == "python":
        [(printed, code)] = story[name]
        assert code == 0, printed
        return
    for (command, shown), (printed, code) in zip(split_commands(block.text), story[name], strict=True):
        fails = any(line.startswith("CommandError:") or line.endswith(("pending.", " differs.")) for line in shown)
        assert code == int(fails), f"{command}\n{printed}"
        if shown:
            assert find_deviation(shown, printed) is None, f"{command}\n{printed}"


@pytest.mark.parametrize(
    ("shown", "printed", "deviation"),
    [
        (["a  b"], "a b  \n", None),
        (["…", "c"], "a\nb\nc", None),
        (["a", "…"], "a\nb\nc", None),
        (["a"], "b", "a"),
        (["a", "c"], "a\nb\nc", "c"),
        (["…", "d"], "a\nb\nc", "d"),
        (["a"], "a\nb", "(nothing after) b"),
        (["b", "a"], "a\nb", "b"),
        (["a b …"], "a b c", None),
        (["a c …"], "a b c", "a c …"),
    ],
)
def test_what_is_shown_is_compared_line_by_line(shown: list[str], printed: str, deviation: str | None) -> None:
    assert find_deviation(shown, printed) == deviation


def test_the_example_in_python_prints_what_it_did(story: dict[str, list[tuple[str, int]]]) -> None:
    [(printed, _)] = story["api"]

    first, last = printed.splitlines()
    assert first == "6 {}"
    assert last == "No changes since last synchronization. {}"


def test_json_has_the_keys_that_are_named(story: dict[str, list[tuple[str, int]]]) -> None:
    [(printed, _)] = story["report-json"]

    assert set(json.loads(printed)) <= LITERALS
    assert "error" in LITERALS


@dataclass(frozen=True)
class NewProject:
    """A new project with the settings of some blocks, as the commands of the README find it."""

    folder: Path

    def run(self, *command: str) -> str:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "POSTGRES_"))}
        arguments = [sys.executable, *command[command[0] == "python" :]]
        done = subprocess.run(arguments, cwd=self.folder, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def execute(self, database: str, statement: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.folder / database)) as connection, connection:
            return connection.execute(statement).fetchall()


def start_project(folder: Path, *settings: str) -> NewProject:
    project = NewProject(folder)
    project.run("-m", "django", "startproject", "site_of_mine", str(folder))
    with (folder / "site_of_mine" / "settings.py").open("a") as file:
        file.writelines("\n" + BLOCKS[name].text + "\n" for name in settings)
    return project


def split_block(name: str) -> list[list[str]]:
    return [shlex.split(command) for command, _ in split_commands(BLOCKS[name].text)]


def test_the_first_push_works_in_a_new_project(tmp_path: Path) -> None:
    project = start_project(tmp_path, "first-settings")
    migrate, migrate_remote, plan, push = split_block("first-push")
    project.run(*migrate)
    project.run(*migrate_remote)
    project.execute("db.sqlite3", "INSERT INTO auth_group (id, name) VALUES (1, 'editors')")

    shown = project.run(*plan)
    first = project.run(*push)
    second = project.run(*push)

    assert project.execute("remote.sqlite3", "SELECT name FROM auth_group") == [("editors",)]
    assert "Nothing was written" in shown
    assert "Synchronization performed successfully." in first
    assert "No changes since last synchronization." in second


def test_two_sites_are_in_step_in_a_new_project(tmp_path: Path) -> None:
    project = start_project(tmp_path, "first-settings", "step-settings")
    migrate, migrate_remote, plan, begin, go_on = split_block("step-first")
    project.run(*migrate)
    project.run(*migrate_remote)
    project.execute("db.sqlite3", "INSERT INTO auth_group (id, name) VALUES (7, 'there already')")

    project.run("manage.py", "check", "--tag", "gestore_sync_settings", "--fail-level", "WARNING")
    shown = project.run(*plan)
    first = project.run(*begin)
    before = project.execute("remote.sqlite3", "SELECT name FROM auth_group ORDER BY name")
    idle = project.run(*go_on)
    make_user = "from django.contrib.auth.models import Group, User; "
    make_user += "User.objects.create(username='ann').groups.add(Group.objects.get())"
    project.run("manage.py", "shell", "-c", make_user)
    second = project.run(*go_on)

    assert "Nothing was written" in shown
    assert before == [("there already",)]
    assert "Synchronization performed successfully." in first
    assert "No changes since last synchronization." in idle
    assert "Synchronization performed successfully." in second
    users = "SELECT u.username, g.name FROM auth_user u JOIN auth_user_groups m ON m.user_id = u.id "
    users += "JOIN auth_group g ON g.id = m.group_id"
    assert project.execute("remote.sqlite3", users) == [("ann", "there already")]


def test_the_first_push_takes_ten_lines() -> None:
    assert sum(len(BLOCKS[name].text.splitlines()) for name in FIRST_PUSH) <= 10


def test_what_is_installed_is_this_package_and_its_extra() -> None:
    [(command, _)] = split_commands(BLOCKS["first-install"].text)

    assert command == "python -m pip install path/to/checkout"
    for extra in ("postgres", "triggers"):
        assert f"'path/to/checkout[{extra}]'" in LITERALS
        assert re.search(rf"^{extra} =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", [command for command, _ in split_commands(BLOCKS["make"].text)])
def test_the_make_targets_exist(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "-m " in done.stdout


def make_models(name: str) -> dict[str, Any]:
    """The models that a block defines, as if they were campus'."""
    defined = {"__name__": "testproject.campus.examples"}
    exec(BLOCKS[name].text, defined)
    return defined


@isolate_apps("testproject.campus")
def test_the_example_of_natural_keys_makes_natural_keys() -> None:
    defined = make_models("natural-keys")

    room, word = defined["Room"](building="A", number=5), defined["Word"](text="tree")

    assert isinstance(room, gestore_sync.NaturalKeyModel)
    assert room.natural_key() == ("A", 5)
    assert word.natural_key() == ("tree",)
    for model in (defined["Room"], defined["Word"]):
        assert isinstance(model.objects, gestore_sync.NaturalManager)
        assert model.check(databases=[]) == []


@isolate_apps("testproject.campus")
def test_the_example_of_logged_managers_makes_managers_that_log() -> None:
    defined = make_models("logged-managers")

    sensor, reading = defined["Sensor"], defined["Reading"]

    assert isinstance(sensor.objects, gestore_sync.NaturalManager)
    assert isinstance(reading.objects.all(), defined["ReadingQuerySet"])
    for model in (sensor, reading):
        assert isinstance(model.objects.all(), gestore_sync.LoggedQuerySetMixin)
        assert model.check(databases=[]) == []


@isolate_apps("testproject.campus")
def test_the_example_of_skipped_fields_names_fields() -> None:
    model = make_models("skip")["Machine"]

    assert {model._meta.get_field(name).name for name in model.SYNCHRO_SKIP} == {"status", "address"}
    assert model.check(databases=[]) == []


def test_the_example_of_an_adapter_keeps_paths_right(story: dict[str, list[tuple[str, int]]]) -> None:
    [(printed, _)] = story["adapter"]

    assert printed.splitlines() == [
        "Synchronization performed successfully.",
        "maps books books/old books/new books/old/europe",
        "Synchronization performed successfully.",
        "maps books books/new books/old books/new/europe",
        "No changes since last synchronization.",
        "maps books books/new books/old books/new/europe",
    ]


def test_every_method_of_an_adapter_is_named() -> None:
    methods = [name for name in vars(Adapter) if not name.startswith("_")]

    assert sorted(row[0].astext() for row in find_table("method")) == sorted(methods)


@pytest.mark.django_db(databases=["default", "remote", "pg_local", "pg_remote"])
@pytest.mark.parametrize(
    "name",
    [
        *("settings-example", "settings-identity", "settings-models", "settings-triggers"),
        *("settings-import", "settings-bucket", "settings-signing", "settings-decided"),
    ],
)
def test_the_examples_of_settings_are_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE_KEY", "secret")
    given: dict[str, Any] = {"os": os}
    exec(BLOCKS[name].text, given)

    with override_settings(**{key: value for key, value in given.items() if key.isupper()}):
        assert find_setting_errors() == []
        watched = {model._meta.label for model in get_watched().models}

    expected = {"campus.Course_tags", "sites.Site", "auth.User", "auth.Group", "auth.User_groups"}
    assert name != "settings-models" or expected < watched


def test_the_action_of_the_admin_is_there() -> None:
    given: dict[str, Any] = {"Customer": apps.get_model("sites.Site")}
    site = admin.AdminSite()

    exec(BLOCKS["admin-export"].text.replace("@admin.register(Customer)", ""), given)

    assert export_bundle in given["CustomerAdmin"](given["Customer"], site).actions


def test_the_overview_tells_that_nothing_is_left(story: dict[str, list[tuple[str, int]]]) -> None:
    [(printed, _)] = story["overview"]

    assert printed.splitlines()[:2] == ["No changes since last synchronization.", "remote {} "]


@pytest.mark.django_db(databases=["default", "remote"])
def test_the_example_of_a_receiver_makes_one_certificate_on_each_side() -> None:
    campus = apps.get_app_config("campus")
    enrolment, certificate = campus.get_model("Enrolment"), campus.get_model("Certificate")
    now = datetime.datetime.now(datetime.UTC)
    defined: dict[str, Any] = {"__name__": "testproject.campus.receivers"}
    exec(BLOCKS["receiver"].text, defined)
    try:
        with override_settings(SYNCHRO_MODELS=["campus"]):
            school = campus.get_model("Organization").objects.create(code="acme", name="Acme", created=now)
            course = school.courses.create(code="1", title="One")
            person = campus.get_model("Person").objects.create(email="ann@example.com", joined=now)
            enrolment.objects.create(course=course, person=person, enrolled_at=now, progress=100)
            report = gestore_sync.api.synchronize()
    finally:
        post_save.disconnect(defined["certify"], sender=enrolment)

    assert (report.failures, report.conflicts) == ([], [])
    assert certificate.objects.using("remote").get().serial == certificate.objects.using("default").get().serial


def test_the_page_is_where_the_example_includes_it() -> None:
    urls = ModuleType("urls_of_the_example")
    urls.urlpatterns = [path("admin/", admin.site.urls)]  # type: ignore[attr-defined]
    exec(BLOCKS["admin-urls"].text, vars(urls))

    assert reverse("synchro:synchro", urlconf=urls) == "/synchro/"
    assert "synchro:synchro" in LITERALS
    assert f"gestore_sync.{SyncRun._meta.permissions[0][0]}" in LITERALS


@pytest.mark.django_db(databases=["default", "remote"])
@override_settings(SYNCHRO_MODELS=["campus"])
def test_a_copy_becomes_a_site_of_its_own() -> None:
    origins = apps.get_model("gestore_sync.Origin").objects
    make_organization("remote")
    before = origins.using("default").get(is_own=True).uuid
    origins.using("remote").filter(is_own=True).update(uuid=before)
    make_organization("default")
    with pytest.raises(exceptions.WrongDatabase):
        gestore_sync.api.synchronize()

    exec(BLOCKS["copied"].text, {})
    nothing = gestore_sync.api.synchronize()
    change("default")
    gestore_sync.api.synchronize()

    assert origins.using("default").get(is_own=True).uuid != before
    assert nothing.message == "No changes since last synchronization."
    assert read_name("remote") == "changed in default"


@pytest.mark.django_db(databases=["default", "remote"])
def test_what_django_synchro_knew_is_taken_over() -> None:
    product = apps.get_model("logged.Product")
    mine = [product.objects.using("default").create(name=name) for name in ("a", "b")]
    product.objects.using("remote").create(name="theirs")
    theirs = [product.objects.using("remote").create(name=name) for name in ("a", "b")]
    content_type = apps.get_model("contenttypes.ContentType").objects.get_for_model(product).pk
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "CREATE TABLE synchro_reference (id integer PRIMARY KEY, content_type_id integer, "
            "local_object_id varchar(20), remote_object_id varchar(20))"
        )
        for number, (local, remote) in enumerate(zip(mine, theirs, strict=True)):
            row = [number, content_type, str(local.pk), str(remote.pk)]
            cursor.execute("INSERT INTO synchro_reference VALUES (%s, %s, %s, %s)", row)

    for _ in range(2):
        exec(BLOCKS["synchro-references"].text, {})
    with override_settings(SYNCHRO_MODELS=[("logged", "Product")]):
        report = gestore_sync.api.synchronize(reconcile=True)
        mine[0].delete()
        gestore_sync.api.synchronize()

    assert not report.created
    assert sorted(product.objects.using("remote").values_list("name", flat=True)) == ["b", "theirs"]


def test_what_came_in_the_place_of_django_synchro_can_be_imported() -> None:
    places = [row[1].astext() for row in find_table("django-synchro") if row[0].astext().startswith("from ")]

    assert len(places) == 8
    for place in places:
        exec(place, {})
        if place.startswith("from gestore_sync import"):
            exec(place.replace("gestore_sync", "gestore_sync.core"), {})


# What is told of


def find_outcomes() -> list[Any]:
    """``(roots, situation, policy, who is later, who wins)`` of each cell of the table of conflicts.

    Where the later one wins, there are three: the later one is the source, or the target, or the target logs nothing.
    A push of roots knows nothing of deletions, nor does anybody of one that the target has not logged.
    """
    title = "since both were last in step"
    policies = find_table(title, with_title=True)[0][1:]
    found = []
    for row in find_table(title):
        for policy, cell in zip(policies, row[1:], strict=True):
            outcomes = {"target": cell.astext(), "source": cell.astext()}
            if cell.astext() == "the later":
                outcomes = {"target": "target", "source": "source", "nobody knows": "source"}
            steps = SITUATIONS[row[0].astext()]
            for later, outcome in outcomes.items():
                values = (row[0].astext(), policy.astext(), later, outcome)
                if later != "nobody knows" or steps[1] is not delete:
                    found.append(pytest.param([], *values, id=f"log-{'-'.join(values)}"))
                if delete not in steps:
                    found.append(
                        pytest.param(["campus.Organization.code=acme"], *values, id=f"root-{'-'.join(values)}")
                    )
    return found


def find_organization(using: str) -> Any:
    return apps.get_model("campus.Organization").objects.using(using).first()


def read_name(using: str) -> str | None:
    found = find_organization(using)
    return None if found is None else found.name


def make_organization(using: str) -> None:
    model = apps.get_model("campus.Organization")
    model(code="acme", name=f"first of {using}", created=datetime.datetime.now(datetime.UTC)).save(using=using)


def touch(using: str) -> None:
    find_organization(using).save()


def change(using: str) -> None:
    found = find_organization(using)
    found.name = f"changed in {using}"
    found.save()


def delete(using: str) -> None:
    find_organization(using).delete()


SITUATIONS: dict[str, tuple[Callable[[str], None], Callable[[str], None]]] = {
    "only the source changed a field": (change, touch),
    "only the target changed it": (touch, change),
    "both changed it": (change, change),
    "first contact, and it differs": (make_organization, make_organization),
    "the source deleted it, the target changed it": (delete, change),
    "the source changed it, the target deleted it": (change, delete),
}


@pytest.mark.django_db(databases=["default", "remote"])
@override_settings(SYNCHRO_MODELS=["campus"])
@pytest.mark.parametrize(("roots", "situation", "policy", "later", "outcome"), find_outcomes())
def test_the_table_of_conflicts_is_right(
    roots: list[str], situation: str, policy: str, later: str, outcome: str
) -> None:
    steps = SITUATIONS[situation]
    if steps != (make_organization, make_organization):
        make_organization("default")
        gestore_sync.api.synchronize()
    sides = dict(zip(("default", "remote"), steps, strict=True))
    for using in ["default", "remote"] if later == "target" else ["remote", "default"]:
        sides[using](using)
    if later == "nobody knows":
        ChangeLog.objects.using("remote").all().delete()
    before = {using: read_name(using) for using in ("default", "remote")}

    with pytest.raises(exceptions.UnresolvedConflicts) if outcome == "conflict" and roots else contextlib.nullcontext():
        report = gestore_sync.api.synchronize(roots, on_conflict=policy)
        assert bool(report.get_unresolved()) == (outcome == "conflict")

    assert read_name("default") == before["default"]
    assert read_name("remote") == before["default" if outcome == "source" else "remote"]
    assert before["default"] != before["remote"]


@dataclass(frozen=True)
class Scene:
    """A database with one object of each watched model. Most acts are done to ``model``; ``name`` is a number of it."""

    using: str
    model: Any
    name: str

    def get_rows(self, label: str = "") -> Any:
        model = apps.get_model(f"logged.{label}") if label else self.model
        return model.objects.using(self.using)

    def get(self, label: str = "") -> Any:
        return self.get_rows(label).get()

    def save(self, label: str = "", name: str = "") -> None:
        found = self.get(label)
        setattr(found, name or self.name, 2)
        found.save()

    def update_in_bulk(self) -> None:
        found = self.get()
        setattr(found, self.name, 2)
        self.get_rows().bulk_update([found], [self.name])

    def load(self) -> None:
        fields = {"name": "loaded", "code": "loaded"}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump([{"model": self.model._meta.label_lower, "fields": fields}], file)
            file.flush()
            call_command("loaddata", file.name, database=self.using, ignore=True, verbosity=0)

    def add_member(self) -> None:
        tag = apps.get_model("logged.Tag")(name="new")
        tag.save(using=self.using)
        self.get("Article").tags.add(tag)

    def get_members(self) -> Any:
        return self.get_rows("Article").model.tags.through.objects.using(self.using)

    def execute(self) -> None:
        with connections[self.using].cursor() as cursor:
            cursor.execute(f"UPDATE {self.model._meta.db_table} SET {self.name} = 2")

    @property
    def employee(self) -> Any:
        """The model with a link to itself whose manager is of the kind that the model's is."""
        is_logged = isinstance(self.model.objects, gestore_sync.LoggedManager)
        return apps.get_model("logged.Sample" if is_logged else "logged.Employee")

    def get_parts(self) -> Any:
        """The related manager of a reverse foreign key."""
        owner = self.employee.objects.using(self.using).get(name="owner")
        return owner.parts if hasattr(owner, "parts") else owner.employee_set

    def get_part(self, name: str) -> Any:
        return self.employee.objects.using(self.using).get(name=name)

    def get_comments(self) -> Any:
        """The related manager that a GenericRelation of articles would have."""
        comment = apps.get_model("logged.Comment")
        field = GenericRelation(comment)
        field.attname = "comments"
        manager = create_generic_related_manager(type(self.model.objects), SimpleNamespace(model=comment, field=field))
        return manager(self.get("Article"))

    def get_comment(self, text: str) -> Any:
        return self.get_rows("Comment").get(text=text)

    def change_unlogged(self) -> None:
        with gestore_sync.DisableSynchroLog():
            self.save()
            self.execute()
            self.get_rows().update(**{self.name: 3})
            self.get("Article").tags.clear()


OF_MEMBERS = ("logged.Article", "logged.Article_tags")
OF_PARTS = ("logged.Employee", "logged.Sample", "logged.Comment")

# By what the table of what is caught says: what is done, and one of which labels must be told of (default: the model).
ACTS: dict[str, list[tuple[Callable[[Scene], object], tuple[str, ...]]]] = {
    "save(), create(), get_or_create(), the admin": [
        (lambda scene: scene.save(), ()),
        (lambda scene: scene.get_rows().create(**{scene.name: 7}), ()),
        (lambda scene: scene.get_rows().get_or_create(**{scene.name: 8}), ()),
    ],
    "save() of a proxy or a multi-table child": [
        (lambda scene: scene.save("Offer", "price"), ("logged.Product",)),
        (lambda scene: scene.save("Opera", "seats"), ("logged.Theatre",)),
    ],
    "delete(), and what it cascades to": [
        (lambda scene: scene.get().delete(), ()),
        (lambda scene: scene.get_rows().all().delete(), ()),
        (lambda scene: scene.get("Shelf").delete(), ("logged.Book",)),
    ],
    "add(), remove(), set(), clear() of many-to-many": [
        (lambda scene: scene.add_member(), OF_MEMBERS),
        (lambda scene: scene.get("Article").tags.remove(scene.get("Tag")), OF_MEMBERS),
        (lambda scene: scene.get("Article").tags.set([]), OF_MEMBERS),
        (lambda scene: scene.get("Tag").articles.clear(), OF_MEMBERS),
    ],
    "add(), set() of a reverse foreign key or a generic relation": [
        (lambda scene: scene.get_parts().add(scene.get_part("free")), OF_PARTS),
        (lambda scene: scene.get_parts().set([scene.get_part("part"), scene.get_part("free")]), OF_PARTS),
        (lambda scene: scene.get_comments().add(scene.get_comment("free")), OF_PARTS),
        (lambda scene: scene.get_comments().set([scene.get_comment("part"), scene.get_comment("free")]), OF_PARTS),
    ],
    "remove(), clear() of a reverse foreign key": [
        (lambda scene: scene.get_parts().remove(scene.get_part("part")), OF_PARTS),
        (lambda scene: scene.get_parts().clear(), OF_PARTS),
        (lambda scene: scene.get_parts().set([]), OF_PARTS),
    ],
    "remove(), clear() of a generic relation": [
        (lambda scene: scene.get_comments().remove(scene.get_comment("part")), OF_PARTS),
        (lambda scene: scene.get_comments().clear(), OF_PARTS),
        (lambda scene: scene.get_comments().set([]), OF_PARTS),
    ],
    "the three rows above, with bulk=False": [
        (lambda scene: scene.get_parts().add(scene.get_part("free"), bulk=False), OF_PARTS),
        (lambda scene: scene.get_parts().remove(scene.get_part("part"), bulk=False), OF_PARTS),
        (lambda scene: scene.get_parts().clear(bulk=False), OF_PARTS),
        (lambda scene: scene.get_parts().set([scene.get_part("free")], bulk=False), OF_PARTS),
        (lambda scene: scene.get_comments().add(scene.get_comment("free"), bulk=False), OF_PARTS),
        (lambda scene: scene.get_comments().remove(scene.get_comment("part"), bulk=False), OF_PARTS),
        (lambda scene: scene.get_comments().clear(bulk=False), OF_PARTS),
        (lambda scene: scene.get_comments().set([scene.get_comment("free")], bulk=False), OF_PARTS),
    ],
    "loaddata": [(lambda scene: scene.load(), ())],
    "update()": [(lambda scene: scene.get_rows().update(**{scene.name: 2}), ())],
    "bulk_create()": [(lambda scene: scene.get_rows().bulk_create([scene.model()]), ())],
    "bulk_update()": [(lambda scene: scene.update_in_bulk(), ())],
    "_raw_delete()": [(lambda scene: scene.get_rows().all()._raw_delete(scene.using), ())],
    "through.objects of an automatic many-to-many table": [
        (lambda scene: scene.get_members().all().delete(), OF_MEMBERS),
        (lambda scene: scene.get_members().all()._raw_delete(scene.using), OF_MEMBERS),
    ],
    "raw SQL, other programs": [(lambda scene: scene.execute(), ())],
    "anything inside DisableSynchroLog": [(lambda scene: scene.change_unlogged(), ())],
}


def find_catches() -> list[Any]:
    """``(what happens, by what it is caught, whether it is)`` of each cell of the table of what is caught."""
    title = "what happens"
    ways = [entry.astext() for entry in find_table(title, with_title=True)[0][1:]]
    return [
        pytest.param(row[0].astext(), way, cell.astext() == "yes", id=f"{row[0].astext()}-{way}")
        for row in find_table(title)
        for way, cell in zip(ways, row[1:], strict=True)
    ]


@pytest.fixture
def watched() -> Iterator[None]:
    """Some models are watched; no trigger and no content type is remembered when the test ends."""
    models = (
        "logged",
        "Product",
        "Reading",
        "Theatre",
        "Article",
        "Tag",
        "Shelf",
        "Book",
        "Employee",
        "Sample",
        "Comment",
    )
    with override_settings(SYNCHRO_MODELS=[models]):
        ContentType.objects.clear_cache()
        yield
    forget_captured()
    ContentType.objects.clear_cache()


@pytest.mark.django_db(databases=["default", "remote", "pg_local"])
@pytest.mark.parametrize(("what", "way", "is_caught"), find_catches())
def test_the_table_of_what_is_caught_is_right(what: str, way: str, is_caught: bool, watched: None) -> None:
    using = "pg_local" if way == "triggers" else "default"
    for act, labels in ACTS[what]:
        with undone(using), undone("remote"):
            assert is_told(act, labels, way, using) == is_caught


def is_told(act: Callable[[Scene], object], labels: tuple[str, ...], way: str, using: str) -> bool:
    """Whether the log tells of an act; for ``--reconcile``: whether a run finds it that no entry tells of."""
    scene = Scene(using, apps.get_model("logged.Product"), "price")
    if way == "LoggedManager":
        scene = Scene(using, apps.get_model("logged.Reading"), "value")
    labels = labels or (scene.model._meta.label,)
    make_objects(scene)
    with override_settings(GESTORE_SYNC={"CAPTURE": "triggers" if way == "triggers" else "signals"}):
        update_triggers(using)
        if way == "--reconcile":
            gestore_sync.api.synchronize()
        take_log(using)
        act(scene)
        told = take_log(using)
    if way != "--reconcile":
        return bool(told & set(labels))
    report = gestore_sync.api.synchronize(reconcile=True)
    written = report.created + report.updated + report.deleted
    return any(written[label] for label in labels)


def make_objects(scene: Scene) -> None:
    logged = apps.get_app_config("logged")
    shelf, tag = logged.get_model("Shelf")(), logged.get_model("Tag")(name="old")
    article = logged.get_model("Article")()
    objects = [shelf, tag, article, logged.get_model("Product")(), logged.get_model("Opera")()]
    if not isinstance(objects[3], scene.model):
        objects.append(scene.model(code="old"))
    for instance in objects:
        instance.save(using=scene.using)
    logged.get_model("Book")(shelf=shelf).save(using=scene.using)
    article.tags.add(tag)
    link = next(field.name for field in scene.employee._meta.fields if field.related_model is scene.employee)
    owner = scene.employee(name="owner")
    owner.save(using=scene.using)
    comment = logged.get_model("Comment")
    for part in (scene.employee(name="part", **{link: owner}), scene.employee(name="free")):
        part.save(using=scene.using)
    for subject, text in ((article, "part"), (tag, "free")):
        comment(subject=subject, text=text).save(using=scene.using)


def take_log(using: str) -> set[str]:
    """The labels of the models that the log tells of. It is empty afterwards."""
    entries = list(ChangeLog.objects.using(using))
    ChangeLog.objects.using(using).all()._raw_delete(using)
    return {entry.content_type.model_class()._meta.label for entry in entries}


@pytest.mark.parametrize("name", ["README.rst", "CHANGES.rst"])
def test_it_is_valid_restructuredtext(name: str) -> None:
    messages = [message.astext() for message in read(ROOT / name).findall(nodes.system_message)]

    assert messages == []


def find_actions(command: str) -> list[Action]:
    """The options of a command that Django's own do not have."""
    parser = load_command_class("gestore_sync", command).create_parser("manage.py", command)
    djangos = BaseCommand().create_parser("manage.py", command)
    known = {name for action in djangos._actions for name in action.option_strings}
    return [action for action in parser._actions if not known & set(action.option_strings)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_named_with_every_option_and_choice(command: str) -> None:
    own = f"option of {command}"
    rows = [*find_table("option"), *(find_table(own) if command != "synchronize" else ())]
    options = {literal.split()[0] for row in rows for literal in find_literals(row[0])}
    text = DOCUMENT.astext()

    assert f"manage.py {command}" in text
    for action in find_actions(command):
        assert set(action.option_strings) <= options
        assert all(str(choice) in text for choice in action.choices or ())


def test_no_option_is_named_that_does_not_exist() -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", DOCUMENT.astext()))
    ours = {name for command in COMMANDS for action in find_actions(command) for name in action.option_strings}
    of_others = {"--tag", "--fail-level", "--database", "--learners", "--organizations", "--first-organization"}

    assert named - of_others <= ours


def test_every_setting_is_named_with_its_default() -> None:
    named = {row[0].astext(): row[1].astext() for row in find_table("key")}
    defaults = {
        key: f'"{option.default}"' if isinstance(option.default, str) else repr(option.default)
        for key, option in OPTIONS.items()
    }

    assert named == {key: default.removeprefix("datetime.") for key, default in defaults.items()}
    assert {"SYNCHRO_REMOTE", "SYNCHRO_MODELS", "SYNCHRO_SKIP"} <= LITERALS
    assert {"SYNCHRO_ALLOW_RESET = False", "SYNCHRO_DEBUG = True"} <= LITERALS


def test_every_error_is_named() -> None:
    named = [row[0].astext() for row in find_table("error")]
    known = [
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, exceptions.GestoreSyncError)
    ]

    assert "gestore_sync.exceptions.GestoreSyncError" in LITERALS
    assert sorted([*named, "GestoreSyncError"]) == sorted(known)


def test_every_count_of_a_report_is_named() -> None:
    assert tuple(row[0].astext() for row in find_table("count")) == Report.COUNTS


def test_every_system_check_is_named() -> None:
    sources = [path.read_text() for path in (ROOT / "gestore_sync").rglob("*.py")]
    ids = {found for source in sources for found in re.findall(r"\"(gestore_sync\.[EW]\d{3})\"", source)}

    assert {"gestore_sync.E001", "gestore_sync.E020"} <= ids
    assert ids <= LITERALS


def test_every_promise_names_the_tests_that_hold_it() -> None:
    (chapter,) = (found for found in DOCUMENT.findall(nodes.section) if found[0].astext() == "What is guaranteed")
    promises = [part for part in chapter if isinstance(part, nodes.paragraph) and part.children[0].tagname == "strong"]
    lists = [part for part in chapter if isinstance(part, nodes.bullet_list)]

    assert len(promises) == len(lists) > 10
    for promise, named in zip(promises, lists, strict=True):
        assert promise.next_node(descend=False, siblings=True) is named
        for item in named:
            file, _, test = item.astext().partition("::")
            assert f"\ndef {test}(" in (ROOT / file).read_text(), item.astext()


def test_the_class_for_progress_is_where_it_is_said_to_be() -> None:
    assert f"{Progress.__module__}.{Progress.__qualname__}" in LITERALS

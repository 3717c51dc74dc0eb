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
from argparse import Action
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.apps import apps
from django.core.management import BaseCommand, execute_from_command_line, load_command_class
from django.test import override_settings
from django.test.utils import isolate_apps
from docutils import nodes
from docutils.core import publish_doctree

import gestore_sync
from gestore_sync import exceptions
from gestore_sync.adapters import Adapter
from gestore_sync.conf import OPTIONS, find_setting_errors
from gestore_sync.plan import Report
from gestore_sync.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.rst"
COMMANDS = [path.stem for path in (ROOT / "gestore_sync/management/commands").glob("[!_]*.py")]

# What is read here is done on one campus site, in the order in which it stands in README.rst.
STORY = (
    *("guide-sites", "guide-team", "guide-organization", "guide-scope", "settings-example", "settings-identity"),
    *("conflict-push", "conflict-changes", "conflict-told", "prune-changes", "prune-push", "report-json", "api"),
    "adapter",
)
FIRST_PUSH = ("first-install", "first-settings", "first-push")
MODELS = ("natural-keys", "skip")
OTHERS = ("make",)


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
    import django

    django.setup()
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
            elif "GESTORE_SYNC" in step:
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
        execute_from_command_line(["manage.py", "check", "--fail-level=WARNING"])
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


if __name__ == "__main__":
    play()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, int]]]:
    """What the blocks of the story print on a campus site of two SQLite files."""
    inherited = {name: value for name, value in os.environ.items() if name != "POSTGRES_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_readme"],
        cwd=ROOT,
        env={
            **inherited,
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
    assert set(BLOCKS) == {*STORY, *FIRST_PUSH, *MODELS, *OTHERS}
    assert len(list(DOCUMENT.findall(nodes.literal_block))) == len(BLOCKS)


@pytest.mark.parametrize("name", STORY)
def test_the_guide_shows_what_happens(name: str, story: dict[str, list[tuple[str, int]]]) -> None:
    block = BLOCKS[name]
    if block.language == "python":
        [(printed, code)] = story[name]
        assert code == 0, printed
        return
    for (command, shown), (printed, code) in zip(split_commands(block.text), story[name], strict=True):
        fails = any(line.startswith("CommandError:") for line in shown)
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


def test_the_first_push_works_in_a_new_project(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "POSTGRES_"))}

    def run(*command: str) -> str:
        arguments = [sys.executable, *command] if command[0] != "python" else [sys.executable, *command[1:]]
        done = subprocess.run(arguments, cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    run("-m", "django", "startproject", "site_of_mine", str(tmp_path))
    with (tmp_path / "site_of_mine" / "settings.py").open("a") as settings:
        settings.write("\n" + BLOCKS["first-settings"].text)
    (migrate, migrate_remote, plan, push) = [command for command, _ in split_commands(BLOCKS["first-push"].text)]
    run(*shlex.split(migrate))
    run(*shlex.split(migrate_remote))
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3")) as local, local:
        local.execute("INSERT INTO auth_group (id, name) VALUES (1, 'editors')")

    shown = run(*shlex.split(plan))
    first = run(*shlex.split(push))
    second = run(*shlex.split(push))

    with contextlib.closing(sqlite3.connect(tmp_path / "remote.sqlite3")) as remote:
        assert remote.execute("SELECT name FROM auth_group").fetchall() == [("editors",)]
    assert "Nothing was written" in shown
    assert "Synchronization performed successfully." in first
    assert "No changes since last synchronization." in second


def test_the_first_push_takes_ten_lines() -> None:
    assert sum(len(BLOCKS[name].text.splitlines()) for name in FIRST_PUSH) <= 10


def test_what_is_installed_is_this_package_and_its_extra() -> None:
    [(command, _)] = split_commands(BLOCKS["first-install"].text)

    assert command == "python -m pip install path/to/checkout"
    assert "'path/to/checkout[postgres]'" in LITERALS
    assert re.search(r"^postgres =$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)


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


@pytest.mark.parametrize("name", ["settings-example", "settings-identity"])
def test_the_examples_of_settings_are_right(name: str) -> None:
    given: dict[str, Any] = {}
    exec(BLOCKS[name].text, given)

    with override_settings(GESTORE_SYNC=given["GESTORE_SYNC"]):
        assert find_setting_errors() == []


# What is told of


def find_outcomes() -> list[Any]:
    """``(situation, policy, who wins)`` of each cell of the table of conflicts."""
    title = "since the last push"
    policies = find_table(title, with_title=True)[0][1:]
    return [
        pytest.param(row[0].astext(), policy.astext(), cell.astext(), id=f"{row[0].astext()}-{policy.astext()}")
        for row in find_table(title)
        for policy, cell in zip(policies, row[1:], strict=True)
    ]


def change(using: str, name: str) -> None:
    apps.get_model("campus.Organization").objects.using(using).update(name=name)


def make_organization(using: str, name: str) -> None:
    model = apps.get_model("campus.Organization")
    model.objects.using(using).create(code="acme", name=name, created=datetime.datetime.now(datetime.UTC))


@pytest.mark.django_db(databases=["default", "remote"])
@pytest.mark.parametrize(("situation", "policy", "outcome"), find_outcomes())
def test_the_table_of_conflicts_is_right(situation: str, policy: str, outcome: str) -> None:
    root = "campus.Organization.code=acme"
    make_organization("default", "ours")
    if situation.startswith("first contact"):
        make_organization("remote", "theirs")
    else:
        gestore_sync.api.synchronize([root])
        steps = {
            "only the source changed a field": ["default"],
            "only the target changed it": ["remote"],
            "both changed it": ["default", "remote"],
        }
        for using in steps[situation]:
            change(using, "of the source" if using == "default" else "of the target")
    before = {using: read_name(using) for using in ("default", "remote")}

    with pytest.raises(exceptions.UnresolvedConflicts) if outcome == "conflict" else contextlib.nullcontext():
        gestore_sync.api.synchronize([root], on_conflict=policy)

    assert read_name("default") == before["default"]
    assert read_name("remote") == before["default" if outcome == "source" else "remote"]
    assert before["default"] != before["remote"]


def read_name(using: str) -> str:
    return apps.get_model("campus.Organization").objects.using(using).get().name


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
    options = {literal.split()[0] for row in find_table("option") for literal in find_literals(row[0])}
    text = DOCUMENT.astext()

    assert f"manage.py {command}" in text
    for action in find_actions(command):
        assert set(action.option_strings) <= options
        assert all(str(choice) in text for choice in action.choices or ())


def test_no_option_is_named_that_does_not_exist() -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", DOCUMENT.astext()))
    ours = {name for command in COMMANDS for action in find_actions(command) for name in action.option_strings}
    of_others = {"--database", "--learners", "--organizations", "--first-organization"}

    assert named - of_others <= ours


def test_every_setting_is_named_with_its_default() -> None:
    named = {row[0].astext(): row[1].astext() for row in find_table("key")}
    defaults = {
        key: f'"{option.default}"' if isinstance(option.default, str) else repr(option.default)
        for key, option in OPTIONS.items()
    }

    assert named == defaults
    assert "SYNCHRO_REMOTE" in LITERALS


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


def test_the_class_for_progress_is_where_it_is_said_to_be() -> None:
    assert f"{Progress.__module__}.{Progress.__qualname__}" in LITERALS

"""The demonstration: one organization is pushed from LOCAL to REMOTE, and the data prove what came of it.

`python -m testproject.demo` makes two databases in a temporary folder (on PostgreSQL where `POSTGRES_URL` is
set), and ends with exit code 1 if one of the proofs fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.core.management import CommandError, call_command
from rich.console import Console
from rich.table import Table

from testproject.databases import ALIASES, create_databases, drop_databases

if TYPE_CHECKING:
    from testproject.campus.portrait import Rows

LOCAL, REMOTE = "default", "remote"
NAME = "campus_demo"
PUSHED, OTHER = "acme", "globex"

console = Console(highlight=False)

Snapshot = dict[str, dict[Any, tuple[Any, ...]]]


@dataclass
class Demo:
    """What was seen on the way: LOCAL and REMOTE before the push, REMOTE after each step."""

    local: Snapshot = field(default_factory=dict)
    before: Snapshot = field(default_factory=dict)
    planned: Snapshot = field(default_factory=dict)
    pushed: Snapshot = field(default_factory=dict)
    again: Snapshot = field(default_factory=dict)
    people_before: set[str] = field(default_factory=set)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; return the exit code."""
    options = _parse(arguments)
    with _databases(options.data):
        django.setup()
        try:
            demo = _prepare(options.learners)
            _push(demo)
        except CommandError as error:
            console.print(f"[red bold]Failed:[/] {error}")
            return 1
        return _prove(demo)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testproject.demo", description=__doc__)
    parser.add_argument("--learners", type=int, default=200, metavar="N", help="people of the organization")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keep the databases in this new folder")
    return parser.parse_args(arguments)


@contextmanager
def _databases(folder: Path | None) -> Iterator[None]:
    """Name two empty databases in the environment, and remove them afterwards unless a folder was given."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"
    os.environ["CAMPUS_NAME"] = NAME
    url = os.environ.get("POSTGRES_URL")
    names = [f"{NAME}_{side}" for side in ALIASES.values()]
    with tempfile.TemporaryDirectory(prefix="campus_demo_") as temporary:
        os.environ["CAMPUS_DATA"] = str(folder or temporary)
        if folder and list(folder.glob("*.sqlite3")):
            sys.exit(f"There are databases in {folder} already: name a new folder.")
        if url:
            create_databases(url, names, anew=True)
        try:
            yield
        finally:
            _close_connections()
            if url:
                drop_databases(url, names)


def _close_connections() -> None:
    from django.db import connections

    connections.close_all()


def _prepare(learners: int) -> Demo:
    """Make two live sites, and show them."""
    from testproject.campus.models import Person

    _say(
        "Two sites",
        "LOCAL has two organizations; REMOTE is live, with another one, and knows some of the people.",
    )
    for alias in (LOCAL, REMOTE):
        _run("migrate", "--database", alias, quiet=True)
    known = max(1, learners // 5)
    _run("seedcampus", "--learners", str(learners), "--first-person", str(known), quiet=True)
    _run(
        *("seedcampus", "--database", REMOTE, "--learners", str(2 * known)),
        *("--organizations", "1", "--first-organization", "2"),
        quiet=True,
    )
    demo = Demo(local=_snapshot(LOCAL, "campus"), before=_snapshot(REMOTE))
    demo.people_before = set(Person.objects.using(REMOTE).values_list("email", flat=True))
    _show_sites(demo)
    return demo


def _push(demo: Demo) -> None:
    """Plan, push, push again."""
    from testproject.campus.models import Organization

    root = f"campus.Organization.{Organization.objects.using(LOCAL).get(code=PUSHED).pk}"
    _say("The plan", "What a push would do, and why; nothing is written.")
    _run("synchronize", "--root", root, "--dry-run")
    demo.planned = _snapshot(REMOTE)
    _say("The push", "One organization goes to REMOTE, with all that belongs to it.")
    _run("synchronize", "--root", root)
    demo.pushed = _snapshot(REMOTE)
    _say("The same push again", "There is nothing to do.")
    _run("synchronize", "--root", root)
    demo.again = _snapshot(REMOTE)


def _prove(demo: Demo) -> int:
    """Check every claim on the data, show the results, return the exit code."""
    _say("The proof", "Read from both databases, compared without primary keys.")
    _show_arrived()
    table = Table("", "Claim", "Seen", box=None, padding=(0, 1))
    failed = 0
    for claim, proof in PROOFS.items():
        try:
            seen, mark = proof(demo), "[green bold]✔[/]"
        except AssertionError as error:
            seen, mark, failed = f"[red]{error}[/]", "[red bold]✘[/]", failed + 1
        table.add_row(mark, claim, seen)
    console.print(table)
    console.print()
    if failed:
        console.print(f"[red bold]{failed} of {len(PROOFS)} claims do not hold.[/]")
        return 1
    console.print(f"[green bold]All {len(PROOFS)} claims hold.[/]")
    return 0


def _prove_arrived(demo: Demo) -> str:
    from testproject.campus.portrait import owned_rows

    here, there = owned_rows(PUSHED, LOCAL), owned_rows(PUSHED, REMOTE)
    for label, rows in here.items():
        lacking, surplus = rows - there[label], there[label] - rows
        assert not lacking, f"{lacking.total()} {label} are not there, such as {_example(lacking)}"
        assert not surplus, f"{surplus.total()} {label} are too many, such as {_example(surplus)}"
    return f"{sum(rows.total() for rows in here.values()):,} rows, all columns the same"


def _prove_people(demo: Demo) -> str:
    from testproject.campus.portrait import needed_people, people

    needed = needed_people(PUSHED, LOCAL)
    new = needed - demo.people_before
    there = people(needed, REMOTE)
    assert {row[0] for row in there} == needed, "some people of the organization are not on REMOTE"
    assert people(new, LOCAL) == people(new, REMOTE), "a person or profile arrived with other content"
    assert new, "no person was new to REMOTE"
    assert needed & demo.people_before, "no person was known to REMOTE"
    return f"{len(new):,} new people with profiles, {len(needed) - len(new):,} were known"


def _prove_no_leak(demo: Demo) -> str:
    from testproject.campus.models import Category, Organization, Person
    from testproject.campus.portrait import needed_people, owned_rows

    other = owned_rows(OTHER, LOCAL)
    for label, rows in owned_rows(OTHER, REMOTE).items():
        assert not rows, f"{rows.total()} {label} of {OTHER} are on REMOTE"
    assert not Organization.objects.using(REMOTE).filter(code=OTHER).exists(), f"{OTHER} is on REMOTE"
    assert not Category.objects.using(REMOTE).filter(code__startswith=OTHER).exists(), "a category leaked"
    strangers = set(Person.objects.using(LOCAL).values_list("email", flat=True))
    strangers -= needed_people(PUSHED, LOCAL) | demo.people_before
    assert strangers, "nobody is only at the other organization"
    leaked = Person.objects.using(REMOTE).filter(email__in=strangers).count()
    assert not leaked, f"{leaked} people of {OTHER} alone are on REMOTE"
    _assert_no_surplus(demo)
    total = sum(rows.total() for rows in other.values())
    return f"none of its {total:,} rows and {len(strangers):,} own people"


def _assert_no_surplus(demo: Demo) -> None:
    """What cannot be shared is on REMOTE if it was there before or if the organization owns it."""
    from testproject.campus.portrait import owned_rows

    owned = owned_rows(PUSHED, LOCAL)
    shared = {f"campus.{name}" for name in ("Category", "Person", "Profile", "Tag")}
    for label in demo.local.keys() - shared:
        expected = len(demo.before[label]) + (owned[label].total() if label in owned else 0)
        found = len(demo.pushed[label])
        assert found == expected, f"{found} {label} are on REMOTE instead of {expected}"


def _prove_untouched(demo: Demo) -> str:
    for label, rows in demo.before.items():
        changed = [pk for pk, row in rows.items() if demo.pushed[label].get(pk) != row]
        assert label.startswith("gestore_sync.") or not changed, f"{label} {changed[:3]} changed"
    return f"{_count(demo.before, 'campus.'):,} rows under the same keys, unchanged"


def _prove_no_duplicates(demo: Demo) -> str:
    from testproject.campus.models import Category, Person, Profile, Tag
    from testproject.campus.portrait import needed_categories, needed_people, needed_tags

    emails = demo.people_before | needed_people(PUSHED, LOCAL)
    assert Person.objects.using(REMOTE).count() == len(emails), "a person is there twice, or too many"
    assert Profile.objects.using(REMOTE).count() == len(emails), "a person has not just one profile"
    tags = {row[1] for row in demo.before["campus.Tag"].values()} | needed_tags(PUSHED, LOCAL)
    assert Tag.objects.using(REMOTE).count() == len(tags), "a tag is there twice, or too many"
    categories = {row[1] for row in demo.before["campus.Category"].values()}
    categories |= needed_categories(PUSHED, LOCAL)
    assert Category.objects.using(REMOTE).count() == len(categories), "a category is there twice, or too many"
    return f"{len(emails):,} people, {len(tags)} tags, {len(categories)} categories, each once"


def _prove_dry_run(demo: Demo) -> str:
    _assert_same(demo.before, demo.planned)
    return f"{_count(demo.planned):,} rows in all tables of REMOTE, unchanged"


def _prove_again(demo: Demo) -> str:
    _assert_same(demo.pushed, demo.again)
    return f"{_count(demo.again):,} rows in all tables of REMOTE, unchanged"


def _prove_local(demo: Demo) -> str:
    _assert_same(demo.local, _snapshot(LOCAL, "campus"))
    return f"{_count(demo.local):,} rows, unchanged"


PROOFS: dict[str, Callable[[Demo], str]] = {
    "The plan wrote nothing": _prove_dry_run,
    f"All that {PUSHED} owns arrived": _prove_arrived,
    "The people it needs are there": _prove_people,
    f"Nothing of {OTHER} leaked": _prove_no_leak,
    "REMOTE's own rows are as they were": _prove_untouched,
    "Shared people, tags, categories are no duplicates": _prove_no_duplicates,
    "The second push wrote nothing": _prove_again,
    "LOCAL's data are as they were": _prove_local,
}


def _assert_same(before: Snapshot, after: Snapshot) -> None:
    for label in before.keys() | after.keys():
        assert before.get(label) == after.get(label), f"{label} changed"


def _snapshot(using: str, app: str | None = None) -> Snapshot:
    """Return all rows of all tables (of one app) of a database."""
    from django.apps import apps

    from testproject.campus.portrait import all_rows

    models = (apps.get_app_config(app) if app else apps).get_models(include_auto_created=True)
    return {
        model._meta.label: all_rows(model, using) for model in models if model._meta.managed and not model._meta.proxy
    }


def _example(rows: Rows) -> str:
    return ", ".join(str(value) for value in next(iter(rows)))


def _count(snapshot: Snapshot, start: str = "") -> int:
    return sum(len(rows) for label, rows in snapshot.items() if label.startswith(start))


def _show_sites(demo: Demo) -> None:
    table = Table("Model", title_justify="left", box=None, padding=(0, 2))
    for title in ("LOCAL", "REMOTE", "pks in both"):
        table.add_column(title, justify="right")
    for label, here in demo.local.items():
        there = demo.before[label]
        table.add_row(label, f"{len(here):,}", f"{len(there):,}", f"{len(here.keys() & there.keys()):,}")
    console.print(table)


def _show_arrived() -> None:
    from testproject.campus.portrait import owned_rows

    columns = [(PUSHED, LOCAL), (PUSHED, REMOTE), (OTHER, LOCAL), (OTHER, REMOTE)]
    found = [owned_rows(code, alias) for code, alias in columns]
    table = Table("Rows owned by", box=None, padding=(0, 2))
    for code, alias in columns:
        table.add_column(f"{code}\n{'LOCAL' if alias == LOCAL else 'REMOTE'}", justify="right")
    for label in found[0]:
        table.add_row(label, *(f"{rows[label].total():,}" for rows in found))
    console.print(table)
    console.print()


def _say(title: str, text: str) -> None:
    console.print()
    console.rule(f"[bold]{title}[/]", align="left")
    console.print(f"[dim]{text}[/]\n")


def _run(command: str, *arguments: str, quiet: bool = False) -> None:
    """Show a management command as one would type it, and run it."""
    console.print(f"[bold cyan]$ manage.py {command} {' '.join(arguments)}[/]", soft_wrap=True)
    if quiet:
        with Path(os.devnull).open("w") as nowhere:
            call_command(command, *arguments, stdout=nowhere)
    else:
        call_command(command, *arguments)
        console.print()


if __name__ == "__main__":
    sys.exit(main())

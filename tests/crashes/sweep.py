"""A program that lets one kind of run die at one place after the other, and repairs it each time by a run in peace.

``python -m tests.crashes.sweep commits|statements|sessions <scenario>…``; with "sessions" the target ends the session
instead, and the run must say so. Prints how many places there were; ends with what is wrong where a state after the
repair is not the one that a run in peace leaves.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import django

django.setup()

import psycopg  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

from gestore_sync.exceptions import DatabaseUnavailable, GestoreSyncError  # noqa: E402
from tests.crashes.children import start, wait  # noqa: E402
from tests.crashes.scenarios import SCENARIOS, Scenario  # noqa: E402
from tests.crashes.settings import FOLDER, SIDES  # noqa: E402
from tests.crashes.sites import Camera, Picture, get_keeper  # noqa: E402
from tests.policies.watching import is_read  # noqa: E402

KILLED = -signal.SIGKILL
PICTURE = Path(FOLDER) / "picture.json"
APART = 1 if "EXAMPLES" in os.environ else 3
"""Every third place is visited, and all around a commit: what is left behind is the same between commits. Where the
environment asks for more EXAMPLES, every place is."""


class Killer:
    """Counts the places at which the process may die, and lets it die at one of them.

    A place is before and after a COMMIT, and if the process may die ``everywhere``, before and after each statement.
    Two places of a database with nothing but reading in between are one: what the process leaves behind is the same at
    both. Threads pass by in any order, but always as often.
    """

    def __init__(self, at: int | None, places: str) -> None:
        self.at = at
        self.count = 0
        self.commits: list[int] = []
        self.everywhere = places != "commits"
        self.happen = end_session if places == "sessions" else die
        self._written = set(SIDES)
        self._lock = Lock()

    def pass_by(self) -> None:
        """Let it happen, if this is the place."""
        with self._lock:
            self.count += 1
            is_here = self.count == self.at
        if is_here:
            self.happen()

    def watch(self) -> None:
        """Stand beside both databases from now on."""
        for side in SIDES:
            connection: Any = connections[side]
            connection._commit = self._around(connection._commit, side)
            if self.everywhere:
                connection.execute_wrappers.append(self._execute)
        if self.everywhere:
            copy = psycopg.Cursor.copy
            cursor: Any = psycopg.Cursor
            names = {connections[side].settings_dict["NAME"]: side for side in SIDES}

            @contextmanager
            def copy_and_die(*args: Any, **options: Any) -> Iterator[Any]:
                self.pass_by()
                with copy(*args, **options) as copying:
                    yield copying
                self.pass_by()
                self._written.discard(names[args[0].connection.info.dbname])

            cursor.copy = copy_and_die

    def _execute(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        side = context["connection"].alias
        if side in self._written:
            self.pass_by()
        (self._written.discard if is_read(sql) else self._written.add)(side)
        return execute(sql, params, many, context)

    def _around(self, act: Callable[[], Any], side: str) -> Callable[[], Any]:
        def acting() -> Any:
            self.pass_by()
            result = act()
            self.pass_by()
            self.commits += [self.count - 1, self.count]
            self._written.discard(side)
            return result

        return acting


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def end_session() -> None:
    """Let the server of the target end the session."""
    connection: Any = connections["remote"].connection
    if connection is not None and not connection.closed:
        with psycopg.connect(get_keeper().dsn, autocommit=True) as beside:
            beside.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])


def in_child(act: Callable[[], Any]) -> int:
    """Do something in a process of its own; return how it ended."""
    return wait(start(act))


def succeed(act: Callable[[], Any], what: str) -> None:
    """Do something in a process of its own, which must not fail."""
    if in_child(act) != 0:
        sys.exit(f"failed: {what}")


def migrate() -> None:
    """Make the tables of both sides."""
    for side in SIDES:
        for with_syncdb in (False, True):  # tables of apps without migrations point to others
            call_command("migrate", run_syncdb=with_syncdb, database=side, verbosity=0)


def run_and_look(scenario: Scenario, killer: Killer | None = None) -> None:
    """Run; leave a picture of both sides, or the places."""
    if killer is not None:
        killer.watch()
    try:
        scenario.run()
    except GestoreSyncError as error:
        if killer is None or killer.happen is die:
            raise
        assert isinstance(error, DatabaseUnavailable), repr(error)
    pictures = {side: Camera(side).take() for side in SIDES} if killer is None else {}
    PICTURE.write_text(json.dumps([pictures, killer.count if killer else 0, killer.commits if killer else []]))


def load() -> tuple[dict[str, Picture], int, list[int]]:
    """Return what the last run has left: pictures, or how many places there were and which are around commits."""
    pictures, count, commits = json.loads(PICTURE.read_text())
    return pictures, count, commits


def compare(expected: dict[str, Picture], found: dict[str, Picture]) -> list[str]:
    """Return what differs, a line for each row."""
    lines = []
    for side in SIDES:
        for table in sorted(expected[side].keys() | found[side].keys()):
            mine, theirs = list(expected[side].get(table, [])), list(found[side].get(table, []))
            for row in list(mine):
                if row in theirs:
                    mine.remove(row)
                    theirs.remove(row)
            lines += [f"{side} {table} lacks {row}" for row in mine] + [f"{side} {table} has {row}" for row in theirs]
    return lines


class Sweep:
    """One scenario, and the states before it. What runs have left behind is repaired once, however often it is left."""

    def __init__(self, name: str, places: str) -> None:
        self.name = name
        self.scenario = SCENARIOS[name]
        self.places = places
        self.keeper = KEEPER

    def prepare(self) -> None:
        """Go through the steps before the run."""
        self.keeper.restore("empty")
        for step in self.scenario.steps:
            succeed(step, f"{step.__name__} before {self.name}")
        self.keeper.keep("before")

    def run(self) -> int:
        """Kill at the places; return how many there were."""
        self.prepare()
        repaired = {self.keeper.read()}
        expected = self.look_after_peace("in peace")
        self.keeper.restore("before")
        succeed(lambda: run_and_look(self.scenario, Killer(None, self.places)), "counting")
        _, count, commits = load()
        for at in sorted({*range(1, count + 1, APART), *commits}):
            self.keeper.restore("before")
            ended = in_child(partial(run_and_look, self.scenario, Killer(at, self.places)))
            wanted = 0 if self.places == "sessions" else KILLED
            if ended != wanted:
                sys.exit(f"{self.name}: ended with {ended} at {at} of {count}")
            left = self.keeper.read()
            if left in repaired:
                continue
            repaired.add(left)
            found = self.look_after_peace(f"after a kill at {at} of {count}")
            if wrong := compare(expected, found):
                sys.exit("\n".join([f"{self.name}: killed at {at} of {count}:", *wrong]))
        return count

    def look_after_peace(self, when: str) -> dict[str, Picture]:
        """Run without disturbance; return what the sides hold."""
        succeed(lambda: run_and_look(self.scenario), f"{self.name} {when}")
        found = load()[0]
        for picture in found.values():
            for table in self.scenario.varying:
                picture.pop(table, None)
        return found


def main(places: str, *names: str) -> None:
    """Sweep over each scenario."""
    KEEPER.create()
    try:
        succeed(migrate, "migrate")
        KEEPER.keep("empty")
        print(json.dumps({name: Sweep(name, places).run() for name in names}))
    finally:
        KEEPER.drop()


KEEPER = get_keeper()

if __name__ == "__main__":
    main(*sys.argv[1:])

"""A program that lets processes change LOCAL and REMOTE while others synchronize, and accounts for every difference.

``python -m tests.crashes.traffic SECONDS``. Prints how many transactions and runs there were.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import DatabaseError, transaction  # noqa: E402

from gestore_sync import api  # noqa: E402
from gestore_sync.exceptions import GestoreSyncError  # noqa: E402
from tests.crashes.children import start, wait  # noqa: E402
from tests.crashes.settings import FOLDER, SIDES  # noqa: E402
from tests.crashes.sites import get_keeper  # noqa: E402
from tests.kinds.pushing import rows  # noqa: E402
from tests.logged.sites import add  # noqa: E402
from tests.policies.models import Article, Colour, Depot, Parcel, Scan, Shift, Worker  # noqa: E402

THEIRS = "R"
"""Begins every text that is written on REMOTE."""

ROOTS = ["policies.Depot.1", "policies.Depot.2"]


class Writer:
    """Changes the rows of one side at random, in transactions of any length."""

    def __init__(self, using: str, seed: int) -> None:
        self.using = using
        self.random = Random(seed)
        self.sign = f"{THEIRS if using == 'remote' else 'L'}{seed}"
        self.number = 0

    def write(self) -> str:
        """One transaction; returns how it ended."""
        acts = [self.create, self.create, self.change, self.change, self.change, self.move, self.join, self.delete]
        try:
            with transaction.atomic(using=self.using):
                for act in self.random.choices(acts, k=self.random.randint(1, 4)):
                    act()
        except DatabaseError:
            return "broken off"  # another writer, or a run, was first
        return "written"

    def pick(self, model: Any) -> Any:
        """Any row of a model, or None."""
        keys = list(rows(model, self.using).values_list("pk", flat=True))
        return rows(model, self.using).filter(pk=self.random.choice(keys)).first() if keys else None

    def say(self) -> str:
        """A text that nobody else writes."""
        self.number += 1
        return f"{self.sign}-{self.number}"

    def create(self) -> None:
        """Add parts to a depot."""
        depot = self.pick(Depot)
        parcel = add(Parcel, self.using, depot=depot, number=self.say(), text=self.say())
        add(Scan, self.using, parcel=parcel, text=self.say())
        add(Article, self.using, depot=depot, code=self.say())

    def change(self) -> None:
        """Change one field of a part."""
        model, name = self.random.choice([(Parcel, "text"), (Scan, "text"), (Article, "title"), (Depot, "city")])
        row = self.pick(model)
        if row is not None:
            setattr(row, name, self.say())
            row.save(update_fields=[name])

    def move(self) -> None:
        """Let a part belong to another."""
        parcel, scan = self.pick(Parcel), self.pick(Scan)
        if self.using == "remote" or parcel is None or scan is None:
            return
        parcel.depot = self.pick(Depot)
        parcel.save(update_fields=["depot"])
        scan.parcel = self.pick(Parcel)
        scan.save(update_fields=["parcel"])

    def join(self) -> None:
        """Let members come and go."""
        depot, colour = self.pick(Depot), self.pick(Colour)
        if self.using == "remote":
            depot.colours.add(add(Colour, self.using, name=self.say()))
            return
        act: Callable[..., None] = self.random.choice([depot.colours.add, depot.colours.remove])
        act(colour)
        shift = self.pick(Shift)
        if shift is not None and self.random.random() < 0.5:
            shift.delete()
        else:
            add(Shift, self.using, depot=depot, worker=self.pick(Worker), hours=1)

    def delete(self) -> None:
        """Delete a part with all that is its own; on REMOTE one that was made there."""
        found = rows(Parcel, self.using)
        found = found.filter(number__startswith=THEIRS) if self.using == "remote" else found
        keys = list(found.values_list("pk", flat=True))
        if keys:
            found.filter(pk=self.random.choice(keys)).get().delete()


def keep_writing(using: str, seed: int, until: float) -> Counter[str]:
    """Write until the time has come."""
    writer = Writer(using, seed)
    ends: Counter[str] = Counter()
    while time.time() < until:
        ends[writer.write()] += 1
        time.sleep(0.01)
    return ends


def keep_sending(roots: list[str], until: float) -> Counter[str]:
    """Synchronize until the time has come. What a run says must be what runs may say."""
    ends: Counter[str] = Counter()
    while time.time() < until:
        try:
            api.synchronize(roots, remote="remote")
            ends["sent"] += 1
        except GestoreSyncError as error:
            ends[f"refused: {type(error).__name__}: {error}"[:200]] += 1
    return ends


def begin(act: Callable[[], Counter[str]], name: str) -> int:
    """Do something in a process of its own, which leaves what it returns in a file."""
    return start(lambda: find_file(name).write_text(json.dumps(act())))


def find_file(name: str) -> Path:
    """Where a process leaves what it returns."""
    return Path(FOLDER) / f"{name}.json"


def prepare() -> Counter[str]:
    """Make the tables and something to begin with."""
    for side in SIDES:
        for with_syncdb in (False, True):
            call_command("migrate", run_syncdb=with_syncdb, database=side, verbosity=0)
    for number in range(3):
        add(Colour, "default", name=f"L{number}")
        add(Worker, "default", email=f"{number}@example.org", badge=number)
    for number in range(2):
        depot = add(Depot, "default", name=f"L{number}")
        for count in range(5):
            parcel = add(Parcel, "default", depot=depot, number=f"L{count}")
            add(Scan, "default", parcel=parcel)
    api.synchronize(remote="remote")
    return Counter()


def is_theirs(row: Any) -> bool:
    """Whether a row of REMOTE, or what it is part of or leads to, has a text that was written there."""
    texts = (getattr(row, name, "") for name in ("text", "number", "title", "code", "name"))
    parts = {Scan: "parcel", Depot.colours.through: "colour"}
    return any(str(text).startswith(THEIRS) for text in texts) or (
        type(row) in parts and is_theirs(getattr(row, parts[type(row)]))
    )


def is_kept(model: str, pk: str) -> bool:
    """Whether a row of REMOTE stays because of what was written there: to it, or to what hangs on it."""
    row = rows(apps.get_model(model), "remote").get(pk=pk)
    return is_theirs(row) or (isinstance(row, Parcel) and any(is_theirs(scan) for scan in row.scan_set.all()))


def find_unexplained(differences: Any) -> Iterator[str]:
    """The differences that REMOTE's writers have not made, and those that a run should have taken away."""
    for found in differences.missing:
        yield f"missing: {found}"
    for found in differences.extra:
        if not is_kept(found["model"], found["pk"]):
            yield f"extra: {found}"
    for found in differences.different:
        if not all(str(theirs).startswith(THEIRS) for _, theirs in found["fields"].values()):
            yield f"different: {found}"


def finish() -> Counter[str]:
    """One last run of the log and one of the roots; then every difference is explained, and nothing is left to do."""
    last = [api.synchronize(remote="remote"), api.synchronize(ROOTS, remote="remote")]
    wrong = [str(problem) for report in last for problem in report.failures]
    open_conflicts = [conflict for report in last for conflict in report.get_unresolved()]
    wrong += [str(conflict) for conflict in open_conflicts if not is_kept(conflict["model"], conflict["pk"])]
    differences = api.diff_objects(ROOTS, remote="remote")
    wrong += find_unexplained(differences)
    for report in (api.synchronize(remote="remote"), api.synchronize(ROOTS, remote="remote")):
        if any(sum(counts.values()) for counts in (report.created, report.updated, report.deleted)):
            wrong.append(f"another run does more: {report.as_dict()}")
    if wrong:
        sys.exit("\n".join(wrong))
    found = {kind: len(getattr(differences, kind)) for kind in ("missing", "extra", "different")}
    return Counter({**found, "conflicts": len(open_conflicts)})


def wait_for(children: dict[str, int]) -> dict[str, Any]:
    """What the processes have left behind; all must end well."""
    failed = [name for name, child in children.items() if wait(child) != 0]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    return {name: json.loads(find_file(name).read_text()) for name in children}


def main(seconds: str) -> None:
    """Prepare, disturb, and look."""
    keeper = get_keeper()
    keeper.create()
    try:
        wait_for({"prepare": begin(prepare, "prepare")})
        until = time.time() + float(seconds)
        acts = {
            "local 1": partial(keep_writing, "default", 1, until),
            "local 2": partial(keep_writing, "default", 2, until),
            "remote": partial(keep_writing, "remote", 3, until),
            "log": partial(keep_sending, [], until),
            "roots": partial(keep_sending, ROOTS, until),
        }
        found = wait_for({name: begin(act, name) for name, act in acts.items()})
        found |= wait_for({"end": begin(finish, "end")})
        print(json.dumps(found))
    finally:
        keeper.drop()


if __name__ == "__main__":
    main(*sys.argv[1:])

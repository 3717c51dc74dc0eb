"""What is done while a process is killed: for each kind of run what was there before it, and the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.db.models.query import QuerySet

from gestore_sync import api
from gestore_sync.exceptions import UnknownObject
from tests.crashes.settings import FOLDER
from tests.kinds.pushing import rows
from tests.logged.models import Employee, Team, Theatre
from tests.logged.sites import add, change
from tests.policies.models import Article, Brand, Claim, Colour, Depot, Parcel, Remark, Scan, Shift, Truck, Worker

DEPOT, TEAM, THEATRE = "policies.Depot.1", "logged.Team.1", "logged.Venue.1"
BUNDLE = f"{FOLDER}/bundle.json.gz"


@dataclass(frozen=True)
class Scenario:
    """``steps``: what happened before, each in a process of its own; ``run``: what is killed, and then done again.

    ``varying``: tables that may tell how often a run was begun.
    """

    run: Callable[[], Any]
    steps: tuple[Callable[[], Any], ...] = ()
    varying: tuple[str, ...] = ()


def here(model: type[Model]) -> QuerySet[Any]:
    """All rows that LOCAL has of a model."""
    return rows(model, "default")


def there(model: type[Model]) -> QuerySet[Any]:
    """All rows that REMOTE has of a model."""
    return rows(model, "remote")


def make_objects() -> None:
    """Let LOCAL have objects of many kinds, and REMOTE others, one of which is the same."""
    local = "default"
    anna = add(Worker, local, email="anna@example.org", badge=1, name="Anna")
    bert = add(Worker, local, email="bert@example.org", badge=2, name="Bert")
    brand, colour = add(Brand, local, name="Ace"), add(Colour, local, name="red")
    depot = add(Depot, local, name="North", boss=anna)
    depot.colours.add(colour, add(Colour, local, name="blue"))
    for worker in (anna, bert):
        add(Shift, local, depot=depot, worker=worker, hours=worker.badge)
    parcels = [add(Parcel, local, depot=depot, number=str(number), brand=brand, colour=colour) for number in range(3)]
    add(Scan, local, parcel=parcels[0], text="in")
    add(Scan, local, parcel=parcels[1], text="out")
    kind = ContentType.objects.db_manager(local).get_for_model(Parcel)
    add(Remark, local, content_type=kind, object_id=parcels[0].pk, text="heavy")
    add(Truck, local, name="Tim", depot=depot, load=5)
    team = add(Team, local, name="Blue")
    boss = add(Employee, local, name="Carl", team=team)
    change(team, lead=add(Employee, local, name="Dora", team=team, boss=boss))
    add(Theatre, local, name="Globe", seats=9)
    add(Worker, "remote", email="bert@example.org", badge=2, name="Bertram")
    for number in range(3):
        far = add(Depot, "remote", name=f"Far {number}")
        add(Parcel, "remote", depot=far, number="x")
        add(Employee, "remote", name=f"Emil {number}")


def change_objects() -> None:
    """Let LOCAL change, delete and add objects, and REMOTE change another field of one and point at one that goes."""
    depot = here(Depot).get()
    change(depot, name="North-East", boss=here(Worker).get(badge=2))
    depot.colours.remove(here(Colour).get(name="blue"))
    depot.colours.add(add(Colour, "default", name="green"))
    gone, kept = here(Parcel).get(number="0"), here(Parcel).get(number="1")
    gone.delete()
    change(kept, number="1a", text="changed")
    add(Parcel, "default", depot=depot, number="9")
    here(Shift).get(worker__badge=1).delete()
    change(here(Truck).get(), name="Tom", load=7)
    team = here(Team).get()
    change(here(Employee).get(name="Carl"), boss=team.lead)
    change(team, lead=here(Employee).get(name="Carl"))
    theirs = there(Parcel).get(number="1")
    change(theirs, weight=8)
    add(Claim, "remote", parcel=there(Parcel).get(number="0"), text="lost")
    add(Article, "default", depot=depot, code="a")


def swap_badges() -> None:
    """Let two rows trade a unique value."""
    first, second = here(Worker).get(badge=1), here(Worker).get(badge=2)
    for worker, badge in ((first, 3), (second, 1), (first, 2)):
        change(worker, badge=badge)


def push(**options: Any) -> None:
    """Push the roots."""
    api.synchronize([DEPOT, TEAM, THEATRE], remote="remote", **options)


def push_in_parts() -> None:
    """Push the roots, and commit the new objects three at a time."""
    push(commit_every=3)


def push_and_prune() -> None:
    """Push the roots; what LOCAL no longer has goes."""
    push(prune=True)


def send_log() -> None:
    """Send what the change log holds."""
    report = api.synchronize(remote="remote")
    assert (report.failures, report.get_unresolved()) == ([], [])


def export() -> None:
    """Write a bundle."""
    api.export_objects([DEPOT, TEAM, THEATRE], BUNDLE)


def take_in() -> None:
    """Import the bundle."""
    api.import_objects(BUNDLE, database="remote", on_conflict="remap")


def finding_them(run: Callable[[], Any]) -> Callable[[], Any]:
    """A run whose object may be gone: then it says so."""

    def run_if_there() -> None:
        if here(Depot).exists():
            run()
            return
        try:
            run()
        except UnknownObject:
            return
        raise AssertionError("a run whose object is gone says nothing")

    return run_if_there


def delete() -> None:
    """Delete an object with all that belongs to it, after a backup."""
    api.delete_objects([DEPOT], backup=f"{FOLDER}/backup.json.gz")


def move() -> None:
    """Push an object, and delete it here."""
    api.synchronize([DEPOT], remote="remote", move=True, backup=f"{FOLDER}/moved.json.gz")


SCENARIOS = {
    "first push": Scenario(push, (make_objects,)),
    "in parts": Scenario(push_in_parts, (make_objects,), varying=("runs",)),
    "second push": Scenario(push_and_prune, (make_objects, push, change_objects, swap_badges)),
    "log": Scenario(send_log, (make_objects, send_log, change_objects, swap_badges)),
    "first log": Scenario(send_log, (make_objects,)),
    "import": Scenario(take_in, (make_objects, export)),
    "delete": Scenario(finding_them(delete), (make_objects,)),
    "move": Scenario(finding_them(move), (make_objects,), varying=("runs", "serials")),
}

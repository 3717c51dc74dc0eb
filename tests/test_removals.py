"""What goes from the target, goes whole; what hangs on it, or belongs to another by now, is not lost with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db.models import Model

from gestore_sync.exceptions import UnresolvedConflicts
from tests.conftest import Pair
from tests.kinds.models import Truck as PlatedTruck
from tests.kinds.models import Vehicle as Plated
from tests.logged.models import Booking, Opera, Theatre, Venue
from tests.logged.sites import Sites, add, change, ready
from tests.policies.models import Depot, Truck, Vehicle
from tests.policies.watching import paired

pair = paired("sqlite-sqlite", "postgresql-postgresql")


@pytest.fixture
def sites(pair: Pair, settings: Any) -> Iterator[Sites]:
    settings.SYNCHRO_MODELS = ("logged", "policies")
    with ready(pair) as sites:
        yield sites


# Objects in several tables


def edit(sites: Sites, model: type[Model], **values: Any) -> None:
    """Change one table's row on the target."""
    assert sites.there(model).update(**values) == 1


@pytest.mark.parametrize("edited", [(Venue, {"name": "t"}), (Theatre, {"seats": 9}), (Opera, {"composer": "t"})])
@pytest.mark.parametrize("logged", [None, [Venue], [Opera]])
def test_an_object_in_several_tables_stays_whole_where_the_target_s_change_of_it_wins(
    sites: Sites, settings: Any, edited: tuple[type[Model], dict[str, Any]], logged: list[type[Model]] | None
) -> None:
    opera = add(Opera, sites.local, name="o", seats=3, composer="c")
    sites.send()
    edit(sites, edited[0], **edited[1])
    if logged:
        settings.SYNCHRO_MODELS = [("logged", *(model.__name__ for model in logged))]
    opera.delete()

    report = sites.send(on_conflict="remote")

    assert [conflict["resolved"] for conflict in report.conflicts] == ["remote"]
    assert sites.arrived(Opera, "name", "seats", "composer") == [
        tuple({"name": "o", "seats": 3, "composer": "c", **edited[1]}.values())
    ]
    assert report.deleted == {}
    assert report.skipped.total() == 1
    assert sites.get_pending() == {}


@pytest.mark.parametrize("edited", [(Venue, {"name": "t"}), (Theatre, {"seats": 9}), (Opera, {"composer": "t"})])
def test_an_object_in_several_tables_goes_whole_where_the_source_s_deletion_wins(
    sites: Sites, edited: tuple[type[Model], dict[str, Any]]
) -> None:
    opera = add(Opera, sites.local, name="o", seats=3, composer="c")
    sites.send()
    edit(sites, edited[0], **edited[1])
    opera.delete()

    report = sites.send(on_conflict="local")

    assert [conflict["resolved"] for conflict in report.conflicts] == ["local"]
    assert report.deleted == {"logged.Opera": 1, "logged.Theatre": 1, "logged.Venue": 1}
    assert not sites.there(Venue).exists()


def test_a_later_change_of_a_part_that_the_log_tells_of_the_child_keeps_the_object(sites: Sites) -> None:
    opera = add(Opera, sites.local, name="o", seats=3)
    sites.send()
    opera.delete()
    change(sites.there(Opera).get(), name="changed")

    report = sites.send()

    assert [conflict["resolved"] for conflict in report.conflicts] == ["remote"]
    assert sites.arrived(Opera, "name", "seats") == [("changed", 3)]


def test_an_object_in_several_tables_of_which_one_is_in_conflict_is_told_once(sites: Sites) -> None:
    opera = add(Opera, sites.local, name="o", seats=3)
    sites.send()
    edit(sites, Theatre, seats=9)
    edit(sites, Venue, name="t")
    opera.delete()

    report = sites.send(on_conflict="fail")

    assert [conflict["resolved"] for conflict in report.conflicts] == [None]
    assert "(name, seats)" in report.conflicts[0]["reason"]
    assert sites.arrived(Opera, "name", "seats") == [("t", 9)]
    assert sites.get_pending().keys() == {"logged.Venue", "logged.Theatre", "logged.Opera"}


def test_an_object_in_several_tables_waits_whole_for_what_hangs_on_one_of_them(sites: Sites) -> None:
    opera = add(Opera, sites.local, name="o", seats=3)
    sites.send()
    theirs = add(Booking, sites.remote, venue_id=sites.there(Venue).get().pk, text="theirs")
    opera.delete()

    report = sites.send()

    assert len(report.conflicts) == 1
    assert sites.arrived(Opera, "name", "seats") == [("o", 3)]
    theirs.delete()
    sites.send()
    assert not sites.there(Venue).exists()
    assert sites.get_pending() == {}


def test_a_child_that_is_deleted_without_its_parents_goes_alone(sites: Sites) -> None:
    opera = add(Opera, sites.local, name="o", seats=3)
    sites.send()
    edit(sites, Venue, name="t")
    opera.delete(keep_parents=True)

    report = sites.send(on_conflict="remote")

    assert report.conflicts == []
    assert sites.arrived(Venue, "name") == ["t"]
    assert sites.arrived(Theatre, "seats") == [3]
    assert sites.arrived(Opera, "composer") == []


def test_an_object_that_the_target_had_goes_whole_where_only_the_child_is_logged(sites: Sites, settings: Any) -> None:
    settings.SYNCHRO_MODELS = [("kinds", "Truck")]
    add(PlatedTruck, sites.remote, plate="p", load=1)
    truck = add(PlatedTruck, sites.local, plate="p", load=2)
    sites.send()
    assert sites.arrived(PlatedTruck, "plate", "load") == [("p", 2)]
    truck.delete()

    report = sites.send()

    assert report.deleted == {"kinds.Truck": 1, "kinds.Vehicle": 1}
    assert not sites.there(Plated).exists()


@pytest.mark.parametrize("edited", [(Vehicle, {"name": "t"}), (Truck, {"load": 9})])
@pytest.mark.parametrize("policy", ["remote", "local"])
def test_pruning_takes_an_object_in_several_tables_whole_or_not_at_all(
    sites: Sites, edited: tuple[type[Model], dict[str, Any]], policy: str
) -> None:
    depot = add(Depot, sites.local, name="d")
    truck = add(Truck, sites.local, depot=depot, name="o", load=3)
    sites.send(depot)
    edit(sites, edited[0], **edited[1])
    truck.delete()

    report = sites.send(depot, prune=True, on_conflict=policy)

    assert [conflict["resolved"] for conflict in report.conflicts] == [policy]
    left = [tuple({"name": "o", "load": 3, **edited[1]}.values())] if policy == "remote" else []
    assert sites.arrived(Truck, "name", "load") == left
    assert sites.there(Vehicle).count() == len(left)


def test_pruning_leaves_an_object_in_several_tables_that_is_in_conflict(sites: Sites) -> None:
    depot = add(Depot, sites.local, name="d")
    truck = add(Truck, sites.local, depot=depot, name="o", load=3)
    sites.send(depot)
    edit(sites, Vehicle, name="t")
    edit(sites, Truck, load=9)
    truck.delete()

    with pytest.raises(UnresolvedConflicts) as caught:
        sites.send(depot, prune=True, on_conflict="fail")

    assert caught.value.report is not None
    assert len(caught.value.report.conflicts) == 1
    assert sites.arrived(Truck, "name", "load") == [("t", 9)]

"""What goes from the target, goes whole; what hangs on it, or belongs to another by now, is not lost with it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from django.db.models import Model

from gestore_sync import api
from gestore_sync.exceptions import UnresolvedConflicts
from tests.conftest import Pair
from tests.kinds.making import make
from tests.kinds.models import Truck as PlatedTruck
from tests.kinds.models import Vehicle as Plated
from tests.logged.models import Booking, Opera, Theatre, Venue
from tests.logged.sites import Sites, add, change, ready
from tests.policies.models import Claim, Depot, Lending, Parcel, Remark, Scan, Shift, Truck, Vehicle, Worker
from tests.policies.watching import Watch, paired
from tests.trees.growing import find_problems, get_families, plant, working_on
from tests.trees.models import ListNode, PathNode, SetNode

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


# What the target has moved to what goes


@pytest.fixture
def parcels(watch: Watch) -> tuple[Depot, Parcel, Parcel]:
    """A depot of the source with a parcel that stays and one that goes, and the latter's counterpart."""
    depot = make(Depot, watch.source, name="ours")
    stays, goes = (make(Parcel, watch.source, depot=depot, number=number) for number in ("stays", "goes"))
    watch.push(depot)
    return depot, stays, goes


def find_there(watch: Watch, number: str) -> Parcel:
    """The counterpart of a parcel."""
    return watch.on_target(Parcel).get(number=number)


def test_a_row_that_the_target_moved_to_one_that_goes_is_a_conflict(
    watch: Watch, parcels: tuple[Depot, Parcel, Parcel]
) -> None:
    depot, stays, goes = parcels
    make(Scan, watch.source, parcel=stays, text="ours")
    watch.push(depot)
    watch.on_target(Scan).update(parcel=find_there(watch, "goes"))
    goes.delete()

    error = watch.refuse(depot, prune=True)

    assert f"policies.Scan.{watch.on_target(Scan).get().pk} of the target hangs on policies.Parcel" in str(error)
    assert watch.push(depot, prune=True, on_conflict="local").deleted == {"policies.Parcel": 1}
    assert watch.on_target(Scan).get().parcel.number == "stays"


def test_a_generic_row_that_the_target_moved_to_one_that_goes_is_a_conflict(
    watch: Watch, parcels: tuple[Depot, Parcel, Parcel]
) -> None:
    depot, stays, goes = parcels
    make(Remark, watch.source, subject=stays, text="ours")
    watch.push(depot)
    watch.on_target(Remark).update(object_id=find_there(watch, "goes").pk)
    goes.delete()

    error = watch.refuse(depot, prune=True)

    assert "hangs on policies.Parcel" in str(error)
    assert watch.push(depot, prune=True, on_conflict="local").deleted == {"policies.Parcel": 1}
    assert watch.on_target(Remark).get().object_id == find_there(watch, "stays").pk


def test_a_generic_row_that_the_source_moves_away_leaves_what_goes(
    watch: Watch, parcels: tuple[Depot, Parcel, Parcel]
) -> None:
    depot, stays, goes = parcels
    remark = make(Remark, watch.source, subject=goes, text="ours")
    watch.push(depot)
    change(remark, subject=stays)
    goes.delete()

    report = watch.push(depot, prune=True)

    assert (report.updated, report.deleted) == ({"policies.Remark": 1}, {"policies.Parcel": 1})
    assert watch.on_target(Remark).get().object_id == find_there(watch, "stays").pk


@pytest.mark.parametrize("text", ["", "changed"])
@pytest.mark.parametrize("link", ["parcel", "default", "value"])
def test_an_optional_link_that_the_target_moved_to_what_goes_is_cleared(
    watch: Watch, parcels: tuple[Depot, Parcel, Parcel], link: str, text: str
) -> None:
    depot, stays, goes = parcels
    claim = make(Claim, watch.source, **{"parcel": stays, link: stays}, text="")
    own = ["policies.Claim.parcel"]
    watch.push(depot, own=own)
    watch.on_target(Claim).update(**{link: find_there(watch, "goes")})
    goes.delete()
    change(claim, text=text)

    report = watch.push(depot, own=own, prune=True)

    assert (report.updated, report.deleted) == ({"policies.Claim": 1}, {"policies.Parcel": 1})
    left = watch.on_target(Claim).get()
    assert (getattr(left, link), left.text) == (None, text)
    watch.push_nothing(depot, own=own, prune=True)


def test_what_the_log_deletes_waits_for_a_row_that_the_target_moved_to_it(
    sites: Sites, parcels: tuple[Depot, Parcel, Parcel]
) -> None:
    _, stays, goes = parcels
    scan = add(Scan, sites.local, parcel=stays, text="ours")
    sites.send()
    sites.there(Scan).update(parcel=sites.there(Parcel).get(number="goes"))
    goes.delete()
    change(scan, text="changed")

    report = sites.send()

    assert len(report.get_unresolved()) == 1
    assert sites.arrived(Scan, "parcel__number", "text") == [("goes", "changed")]
    assert sites.get_pending() == {"policies.Parcel": 1}
    sites.there(Scan).update(parcel=sites.there(Parcel).get(number="stays"))
    sites.send()
    assert sites.arrived(Parcel, "number") == ["stays"]
    assert sites.get_pending() == {}


def test_the_log_clears_an_optional_link_that_the_target_moved_to_what_goes(
    sites: Sites, parcels: tuple[Depot, Parcel, Parcel]
) -> None:
    _, stays, goes = parcels
    claim = add(Claim, sites.local, parcel=stays)
    sites.send()
    sites.there(Claim).update(parcel=sites.there(Parcel).get(number="goes"))
    goes.delete()
    change(claim, text="changed")

    report = sites.send()

    assert report.get_unresolved() == report.failures == []
    assert sites.arrived(Claim, "parcel__number", "text") == [(None, "changed")]


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode])
def test_a_node_that_the_target_moved_below_one_that_goes_is_a_conflict(pair: Pair, model: Any) -> None:
    with working_on(pair.source):
        nodes = plant(model, "a", "a.b", "a.c", "a.c.d")
    synchronize = partial(api.synchronize, [nodes["a"]], source=pair.source, remote=pair.target, prune=True)
    synchronize()
    with working_on(pair.target):
        node, other = model.objects.get(code="a.c"), model.objects.get(code="a.b")
        model.objects.move(node, other, pos="first-child")
        moved = get_families(model)
    with working_on(pair.source):
        model.objects.get(code="a.b").delete()

    with pytest.raises(UnresolvedConflicts):
        synchronize()

    with working_on(pair.target):
        assert get_families(model) == moved
    synchronize(on_conflict="local")
    with working_on(pair.target):
        assert get_families(model) == {None: ["a"], "a": ["a.c"], "a.c": ["a.c.d"]}
        assert find_problems(model) == []


# Members that the source still has


@pytest.fixture
def shift(watch: Watch) -> Shift:
    """A shift of the source that is pushed with its depot; the target knows the worker, and another depot."""
    shift = make(Shift, watch.source, depot=make(Depot, watch.source, name="one"), worker=make(Worker, watch.source))
    watch.push(shift.depot)
    return shift


def test_a_member_that_the_target_gave_to_another_owner_stays_there(watch: Watch, shift: Shift) -> None:
    other = make(Depot, watch.source, name="other")
    watch.push(other)
    watch.on_target(Shift).update(depot=watch.on_target(Depot).get(name="other"))

    watch.push_nothing(other)
    watch.push_nothing(other, prune=True)

    assert watch.on_target(Shift).get().depot.name == "other"
    assert watch.push(shift.depot, on_conflict="local").updated == {"policies.Shift": 1}
    assert watch.on_target(Shift).get().depot.name == "one"


def test_a_member_that_both_sides_gave_to_other_owners_stays(watch: Watch, shift: Shift) -> None:
    other, third = (make(Depot, watch.source, name=name) for name in ("other", "third"))
    watch.push(other)
    watch.push(third)
    watch.on_target(Shift).update(depot=watch.on_target(Depot).get(name="other"))
    change(shift, depot=third)

    watch.push_nothing(other)

    assert watch.on_target(Shift).get().depot.name == "other"


@pytest.mark.parametrize("known", [False, True])
def test_a_member_that_the_source_gave_to_another_owner_is_taken_out(
    watch: Watch, shift: Shift, *, known: bool
) -> None:
    depot, other = shift.depot, make(Depot, watch.source, name="other")
    if known:
        watch.push(other)
    change(shift, depot=other)

    report = watch.push(depot)

    assert report.deleted == {"policies.Shift": 1}
    watch.push(other)
    assert watch.on_target(Shift).get().depot.name == "other"


@pytest.mark.parametrize("prune", [False, True])
def test_a_row_of_a_many_to_many_table_whose_member_is_another_stays(
    watch: Watch, shift: Shift, *, prune: bool
) -> None:
    worker = shift.worker
    watch.push(worker)
    change(shift, worker=make(Worker, watch.source, name="other"))

    watch.push_nothing(worker, prune=prune)

    assert watch.on_target(Shift).get().worker.name == ""
    watch.push(shift.depot)
    assert watch.on_target(Shift).get().worker.name == "other"


@pytest.mark.parametrize("prune", [False, True])
def test_a_row_of_a_many_to_many_table_whose_optional_member_is_gone_stays(watch: Watch, *, prune: bool) -> None:
    depot, worker = make(Depot, watch.source), make(Worker, watch.source)
    lending = make(Lending, watch.source, depot=depot, worker=worker)
    own = ["policies.Lending.worker"]
    watch.push(worker, own=own)
    change(lending, worker=None)

    watch.push_nothing(worker, own=own, prune=prune)

    assert watch.on_target(Lending).exists()
    watch.push(depot)
    assert watch.on_target(Lending).get().worker is None


def test_a_member_that_has_no_owner_at_the_source_is_taken_out(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    lending = make(Lending, watch.source, depot=depot, worker=make(Worker, watch.source))
    watch.push(depot)
    change(lending, depot=None)

    assert watch.push(depot).deleted == {"policies.Lending": 1}

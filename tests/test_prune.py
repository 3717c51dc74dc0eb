from __future__ import annotations

import pytest
from django.db.models.query import QuerySet
from django.test import override_settings

from gestore_sync.models import IdMapping, Origin
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make, make_many
from tests.policies.models import (
    Area,
    Article,
    Brand,
    Claim,
    Colour,
    Depot,
    Parcel,
    Remark,
    Scan,
    Shift,
    ShiftReport,
    Trace,
    Trip,
    Truck,
    Vehicle,
    Worker,
)
from tests.policies.watching import CROSSED, Watch, paired, read_only

pair = paired(*CROSSED)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot of the source with two parcels, which the target has under other numbers."""
    make_many(Parcel, watch.target, 3)
    depot = make(Depot, watch.source, name="ours")
    for number in ("stays", "goes"):
        parcel = make(Parcel, watch.source, depot=depot, number=number)
        make_many(Scan, watch.source, 2, parcel=parcel)
    watch.push(depot)
    return depot


def remove(watch: Watch, **lookups: str) -> None:
    """Delete parcels of the source, with what hangs on them."""
    Parcel.objects.using(watch.source).filter(**lookups).delete()


def numbers(watch: Watch) -> set[str]:
    """Return the numbers of the parcels that the target has in the depot."""
    return set(watch.on_target(Parcel).filter(depot__name="ours").values_list("number", flat=True))


# What goes


def test_objects_stay_without_prune(watch: Watch, depot: Depot) -> None:
    remove(watch, number="goes")

    report = watch.push_nothing(depot)

    assert report.deleted == {}
    assert numbers(watch) == {"stays", "goes"}


def test_objects_that_the_source_no_longer_has_go_with_their_parts(watch: Watch, depot: Depot) -> None:
    remove(watch, number="goes")

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Parcel": 1, "policies.Scan": 2}
    assert numbers(watch) == {"stays"}
    watch.push_nothing(depot, prune=True)


def test_a_part_goes_where_its_parent_stays(watch: Watch, depot: Depot) -> None:
    watch.on_source(Scan).filter(parcel__number="goes")._raw_delete(watch.source)

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Scan": 2}
    assert numbers(watch) == {"stays", "goes"}


def test_the_id_mappings_of_what_goes_go_with_it(watch: Watch, depot: Depot) -> None:
    remove(watch, number="goes")

    watch.push(depot, prune=True)

    left = QuerySet(IdMapping, using=watch.target).values_list("model", "target_pk")
    kept = watch.on_target(Parcel).filter(number="stays").values_list("pk", flat=True)
    scans = watch.on_target(Scan).filter(parcel__number="stays").values_list("pk", flat=True)
    assert {pk for model, pk in left if model == "policies.parcel"} == set(map(str, kept))
    assert {pk for model, pk in left if model == "policies.scan"} == set(map(str, scans))


def test_a_dry_run_tells_what_would_go_and_deletes_nothing(watch: Watch, depot: Depot) -> None:
    remove(watch, number="goes")

    with read_only(watch.target):
        report = watch.synchronize(depot, prune=True, dry_run=True)

    assert report.deleted == {"policies.Parcel": 1, "policies.Scan": 2}
    assert numbers(watch) == {"stays", "goes"}


def test_a_part_that_moves_survives_its_old_parent(watch: Watch, depot: Depot) -> None:
    stays = watch.on_source(Parcel).get(number="stays")
    watch.on_source(Scan).filter(parcel__number="goes").update(parcel=stays)
    remove(watch, number="goes")

    report = watch.push(depot, prune=True)

    assert (report.updated, report.deleted) == ({"policies.Scan": 2}, {"policies.Parcel": 1})
    assert watch.on_target(Scan).filter(parcel__number="stays").count() == 4


def test_a_branch_of_a_tree_goes(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    top = make(Area, watch.source, depot=depot, name="top")
    middle = make(Area, watch.source, depot=depot, name="middle", parent=top)
    make(Area, watch.source, depot=depot, name="bottom", parent=middle)
    watch.push(depot)
    Area.objects.using(watch.source).filter(name="middle").delete()

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Area": 2}
    assert set(watch.on_target(Area).values_list("name", flat=True)) == {"top"}


def test_an_object_in_two_tables_goes_from_both(watch: Watch) -> None:
    make(Truck, watch.target, depot=make(Depot, watch.target), name="theirs")
    make(Vehicle, watch.target, name="no truck")
    depot = make(Depot, watch.source)
    truck = make(Truck, watch.source, depot=depot, name="goes")
    make(Trip, watch.source, vehicle=truck)
    watch.push(depot)
    truck.delete()

    report = watch.push(depot, prune=True)

    assert report.deleted["policies.Trip"] == 1
    assert set(watch.on_target(Vehicle).values_list("name", flat=True)) == {"theirs", "no truck"}
    assert not watch.on_target(Trip).exists()
    assert set(watch.on_target(Truck).values_list("name", flat=True)) == {"theirs"}
    watch.push_nothing(depot, prune=True)


def test_remarks_go_that_a_generic_relation_led_to(watch: Watch, depot: Depot) -> None:
    stays = watch.on_source(Parcel).get(number="stays")
    remark = make(Remark, watch.source, subject=stays, text="goes")
    make(Remark, watch.source, subject=stays, text="stays")
    watch.push(depot)
    remark.delete()

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Remark": 1}
    assert set(watch.on_target(Remark).values_list("text", flat=True)) == {"stays"}


def test_remarks_go_with_what_they_are_about(watch: Watch, depot: Depot) -> None:
    make(Remark, watch.source, subject=watch.on_source(Parcel).get(number="goes"))
    watch.push(depot)
    remove(watch, number="goes")
    assert not watch.on_source(Remark).exists()

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Parcel": 1, "policies.Scan": 2, "policies.Remark": 1}


def test_rows_taken_out_of_a_many_to_many_table_go_without_prune(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    goes, stays = make_many(Worker, watch.source, 2)
    for worker in (goes, stays):
        make(Shift, watch.source, depot=depot, worker=worker)
    watch.push(depot)
    watch.on_source(Shift).filter(worker=goes).delete()

    report = watch.push(depot)

    assert report.deleted == {"policies.Shift": 1}
    assert watch.on_target(Worker).count() == 2
    watch.push_nothing(depot)


# What stays


def test_objects_that_only_the_target_has_stay(watch: Watch, depot: Depot) -> None:
    theirs = make(Parcel, watch.target, depot=watch.on_target(Depot).get(name="ours"), number="theirs")
    make(Scan, watch.target, parcel=theirs)
    make(Scan, watch.target, parcel=watch.on_target(Parcel).get(number="stays"), text="theirs")

    watch.push_nothing(depot, prune=True)

    assert numbers(watch) == {"stays", "goes", "theirs"}
    assert watch.on_target(Scan).filter(text="theirs").exists()


def test_objects_that_were_found_on_the_target_stay(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    watch.push(depot)
    make(Article, watch.target, depot=watch.on_target(Depot).get(name="ours"), code="A", title="theirs")
    article = make(Article, watch.source, depot=depot, code="A", title="ours")
    assert watch.push(depot).updated == {"policies.Article": 1}
    article.delete()

    watch.push_nothing(depot, prune=True)

    assert watch.on_target(Article).get(code="A").title == "ours"


def test_objects_that_belong_to_another_root_by_now_stay(watch: Watch, depot: Depot) -> None:
    other = make(Depot, watch.source, name="other")
    watch.on_source(Parcel).filter(number="goes").update(depot=other)

    watch.push_nothing(depot, prune=True)

    assert numbers(watch) == {"stays", "goes"}


def test_what_another_origin_has_sent_stays(watch: Watch, depot: Depot) -> None:
    other = next(using for using in DATABASES if using not in (watch.source, watch.target))
    theirs = make(Depot, other, pk=depot.pk, name="theirs")
    make_many(Parcel, other, 2, depot=theirs)
    Watch(Pair(other, watch.target)).push(theirs)
    Parcel.objects.using(watch.source).all().delete()

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Parcel": 2, "policies.Scan": 4}
    assert watch.on_target(Parcel).filter(depot__name="theirs").count() == 2


@pytest.mark.parametrize(
    "options",
    [
        {"ignore": ["policies.Parcel.depot"]},
        {"ignore": ["policies.Parcel"]},
        {"refer": ["policies.Parcel.depot"]},
    ],
    ids=["ignored link", "ignored model", "referred link"],
)
def test_objects_that_the_scope_leaves_out_stay(watch: Watch, depot: Depot, options: dict[str, list[str]]) -> None:
    remove(watch, number="goes")

    watch.push_nothing(depot, prune=True, **options)

    assert numbers(watch) == {"stays", "goes"}


def test_referred_objects_stay(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    parcel = make(Parcel, watch.source, depot=depot, brand=make(Brand, watch.source, name="ours"))
    watch.push(depot)
    watch.on_source(Parcel).filter(pk=parcel.pk).update(brand=None)
    watch.on_source(Brand).filter(name="ours").delete()

    report = watch.push(depot, prune=True)

    assert (report.updated, report.deleted) == ({"policies.Parcel": 1}, {})
    assert watch.on_target(Brand).filter(name="ours").exists()


def test_a_row_that_took_the_number_of_one_that_we_sent_stays(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Article, watch.source, depot=depot, code="A", title="ours", stock=1)
    watch.push(depot)
    arrived = watch.on_target(Article).get(code="A")
    number = arrived.pk
    arrived.delete()
    make(Article, watch.target, pk=number, depot=arrived.depot, code="Z", title="theirs", stock=9)
    watch.on_source(Article).filter(code="A").delete()

    report = watch.synchronize(depot, prune=True)

    assert report.deleted == {}
    assert watch.on_target(Article).get(pk=number).title == "theirs"


# What hangs on it


def test_a_row_of_the_target_that_hangs_on_one_that_goes_is_a_conflict(watch: Watch, depot: Depot) -> None:
    goes = watch.on_target(Parcel).get(number="goes")
    theirs = make(Scan, watch.target, parcel=goes, text="theirs")
    remove(watch, number="goes")
    make(Parcel, watch.source, depot=depot, number="new")

    error = watch.refuse(depot, prune=True)

    assert f"policies.Scan.{theirs.pk}" in str(error)
    assert f"policies.Parcel.{goes.pk}" in str(error)
    assert error.report is not None
    assert [conflict["resolved"] for conflict in error.report.conflicts] == [None]


@pytest.mark.parametrize("policy", ["newer", "local", "remote", "fail"])
def test_a_row_that_hangs_on_one_that_goes_is_a_conflict_under_every_policy(
    watch: Watch, depot: Depot, policy: str
) -> None:
    make(Scan, watch.target, parcel=watch.on_target(Parcel).get(number="goes"))
    remove(watch, number="goes")

    watch.refuse(depot, prune=True, on_conflict=policy)


def test_a_row_that_hangs_two_levels_below_is_a_conflict(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    top = make(Area, watch.source, depot=depot, name="top")
    make(Area, watch.source, depot=depot, name="middle", parent=top)
    watch.push(depot)
    middle = watch.on_target(Area).get(name="middle")
    theirs = make(Area, watch.target, depot=make(Depot, watch.target), parent=middle, name="theirs")
    Area.objects.using(watch.source).all().delete()

    error = watch.refuse(depot, prune=True)

    assert f"policies.Area.{theirs.pk}" in str(error)
    assert f"policies.Area.{middle.pk}" in str(error)


@override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Depot": ["name"], "policies.Parcel": ["depot", "number"]}})
def test_a_row_of_another_origin_that_hangs_on_one_that_goes_is_a_conflict(watch: Watch, depot: Depot) -> None:
    other = next(using for using in DATABASES if using not in (watch.source, watch.target))
    theirs = make(Depot, other, name="ours")
    make(Scan, other, parcel=make(Parcel, other, depot=theirs, number="goes"), text="theirs")
    assert Watch(Pair(other, watch.target)).push(theirs).created == {"policies.Scan": 1}
    remove(watch, number="goes")

    error = watch.refuse(depot, prune=True)

    assert f"policies.Scan.{watch.on_target(Scan).get(text='theirs').pk}" in str(error)


def test_a_row_that_does_nothing_when_its_parcel_goes_is_a_conflict(watch: Watch, depot: Depot) -> None:
    theirs = make(Trace, watch.target, parcel=watch.on_target(Parcel).get(number="goes"))
    remove(watch, number="goes")

    error = watch.refuse(depot, prune=True)

    assert f"policies.Trace.{theirs.pk}" in str(error)


def test_a_remark_of_the_target_about_one_that_goes_is_a_conflict(watch: Watch, depot: Depot) -> None:
    goes = watch.on_target(Parcel).get(number="goes")
    theirs = make(Remark, watch.target, subject=goes)
    remove(watch, number="goes")

    error = watch.refuse(depot, prune=True)

    assert f"policies.Remark.{theirs.pk}" in str(error)
    assert f"policies.Parcel.{goes.pk}" in str(error)


def test_a_row_that_the_source_still_has_is_not_deleted_with_its_old_parent(watch: Watch, depot: Depot) -> None:
    elsewhere = make(Parcel, watch.source, depot=make(Depot, watch.source), number="elsewhere")
    watch.on_source(Scan).filter(parcel__number="goes").update(parcel=elsewhere)
    remove(watch, number="goes")

    error = watch.refuse(depot, prune=True)

    assert "policies.Scan." in str(error)


def test_a_row_of_the_target_on_a_many_to_many_row_that_is_taken_out_is_a_conflict(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    shift = make(Shift, watch.source, depot=depot, worker=make(Worker, watch.source))
    watch.push(depot)
    arrived = watch.on_target(Shift).get()
    theirs = make(ShiftReport, watch.target, shift=arrived)
    shift.delete()

    error = watch.refuse(depot)

    assert f"policies.ShiftReport.{theirs.pk}" in str(error)
    assert f"policies.Shift.{arrived.pk}" in str(error)


@pytest.mark.parametrize("link", ["parcel", "default", "value"])
def test_a_row_that_survives_what_goes_loses_its_link(watch: Watch, depot: Depot, link: str) -> None:
    goes = watch.on_target(Parcel).get(number="goes")
    stays = watch.on_target(Parcel).get(number="stays")
    claim = make(Claim, watch.target, **{"parcel": stays, link: goes}, text="theirs")
    remove(watch, number="goes")
    with read_only(watch.target):
        planned = watch.synchronize(depot, prune=True, dry_run=True)

    report = watch.push(depot, prune=True)

    assert planned.updated == report.updated == {"policies.Claim": 1}
    left = watch.on_target(Claim).get(pk=claim.pk)
    assert (getattr(left, link), left.text) == (None, "theirs")
    assert numbers(watch) == {"stays"}


def test_a_row_that_loses_two_links_is_one_change(watch: Watch, depot: Depot) -> None:
    goes = watch.on_target(Parcel).get(number="goes")
    make(Claim, watch.target, parcel=goes, default=goes)
    remove(watch, number="goes")

    report = watch.push(depot, prune=True)

    assert report.updated == {"policies.Claim": 1}


def test_what_the_target_keeps_about_a_remote_of_its_own_says_nothing_of_its_rows(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    depot.colours.add(*make_many(Colour, watch.source, 2))
    watch.push(depot)
    through = Depot.colours.through
    label, origin = through._meta.label_lower, Origin.objects.using(watch.target).create()
    for row in watch.on_target(through):
        kept = {"origin": origin, "remote": "bare", "model": label, "source_pk": str(row.pk), "target_pk": str(row.pk)}
        IdMapping.objects.using(watch.target).create(**kept)

    depot.colours.remove(depot.colours.first())
    watch.push(depot)

    assert watch.on_target(through).count() == 1

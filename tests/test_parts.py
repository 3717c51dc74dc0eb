"""Pushes that are committed in parts."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models.signals import post_save, pre_save

from gestore_sync.exceptions import GestoreSyncError, PartlyWritten, WrongSetting
from gestore_sync.lostvalues import load_lost
from gestore_sync.models import Conflict, IdMapping, SyncRun
from tests.conftest import Pair
from tests.kinds.making import make, make_many
from tests.kinds.pushing import rows
from tests.logged.models import Comment, Employee, Team
from tests.logged.sites import NO_CHANGES, in_thread, receiving
from tests.policies.models import (
    Area,
    Brand,
    Colour,
    Depot,
    Parcel,
    Remark,
    Scan,
    Shift,
    Truck,
    Vehicle,
    Worker,
)
from tests.policies.watching import Watch, pairings, watched

LIVE = pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-postgresql", live=True), indirect=True)
LIVE_ON_POSTGRESQL = pytest.mark.parametrize("pair", pairings("postgresql-postgresql", live=True), indirect=True)
SIZE = 3


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair, "policies", "logged") as watch:
        yield watch


def make_depot(watch: Watch, name: str = "North") -> Depot:
    """A depot with parts of its own, and with what it refers to."""
    depot = make(Depot, watch.source, name=name)
    brand = make(Brand, watch.source, name=name)
    parcels = [make(Parcel, watch.source, depot=depot, number=str(number), brand=brand) for number in range(5)]
    for parcel in parcels:
        make(Scan, watch.source, parcel=parcel, text=parcel.number)
    make_many(Truck, watch.source, 2, depot=depot, name="Tim")
    make(Shift, watch.source, depot=depot, worker=make(Worker, watch.source, email=name), hours=1)
    rows(Depot.colours.through, watch.source).create(depot=depot, colour=make(Colour, watch.source, name="red"))
    return depot


def describe(watch: Watch, using: str) -> dict[str, Any]:
    """What a database has of the depots, without its numbers."""
    return {
        "parcels": sorted(rows(Parcel, using).values_list("depot__name", "number", "brand__name", "text")),
        "scans": sorted(rows(Scan, using).values_list("parcel__number", "text")),
        "trucks": sorted(rows(Truck, using).values_list("depot__name", "name")),
        "shifts": sorted(rows(Shift, using).values_list("depot__name", "worker__email")),
        "colours": sorted(rows(Depot.colours.through, using).values_list("depot__name", "colour__name")),
    }


def assert_done(watch: Watch, *roots: Any, **options: Any) -> None:
    """Another push has nothing to do."""
    before = watch.picture()
    assert watch.synchronize(*roots, **options).message == NO_CHANGES
    assert watch.picture() == before


def count_runs(watch: Watch) -> list[int]:
    """How many objects each run on record has created on the target."""
    runs = rows(SyncRun, watch.target).order_by("pk").values_list("counts", flat=True)
    return [sum(counts["created"].values()) for counts in runs]


@LIVE
def test_a_link_that_loses_to_the_target_is_kept_once_whatever_was_cut(watch: Watch) -> None:
    def fail(instance: Any, **kwargs: Any) -> None:
        if instance.number == "new 1":
            raise RuntimeError("cut")

    depot = make_depot(watch)
    watch.push(depot)
    new = [make(Parcel, watch.source, depot=depot, number=f"new {number}") for number in range(4)]
    rows(Scan, watch.source).filter(text="1").update(parcel=new[2])
    rows(Scan, watch.target).filter(text="1").update(parcel=rows(Parcel, watch.target).get(number="3"))
    with receiving(pre_save, fail, Parcel), pytest.raises(GestoreSyncError):
        watch.synchronize(depot, commit_every=1, on_conflict="remote")

    watch.synchronize(depot, commit_every=1, on_conflict="remote")

    (conflict,) = rows(Conflict, watch.target)
    arrived = rows(Parcel, watch.target).get(number="new 2")
    assert load_lost(conflict.fields)["parcel"].local == arrived.pk


@LIVE
def test_new_objects_are_committed_in_parts_with_their_mappings_and_a_record_of_each(watch: Watch) -> None:
    depot = make_depot(watch)
    seen: list[tuple[int, int]] = []

    def look() -> None:
        there = rows(Parcel, watch.target).count() + rows(Scan, watch.target).count()
        labels = ["policies.parcel", "policies.scan"]
        seen.append((there, rows(IdMapping, watch.target).filter(model__in=labels).count()))

    def watch_commit(using: str, **kwargs: Any) -> None:
        transaction.on_commit(look, using=using)

    with receiving(post_save, watch_commit, Depot, Scan):
        report = watch.push(depot, commit_every=SIZE)

    assert report.created["policies.Parcel"] == report.created["policies.Scan"] == 5
    assert describe(watch, watch.target) == describe(watch, watch.source)
    first, *later = count_runs(watch)
    assert sum([first, *later]) == report.created.total()
    assert len(later) > 2
    assert set(later[:-1]) == {SIZE}
    assert later[-1] <= SIZE
    assert seen[0][0] < seen[-1][0] == 10
    assert all(there == mapped for there, mapped in seen)
    assert_done(watch, depot, commit_every=SIZE)


@LIVE
@pytest.mark.parametrize("at", ["0", "2", "4"])
def test_a_run_that_was_cut_leaves_what_it_had_committed_and_the_next_one_goes_on_from_there(
    watch: Watch, at: str
) -> None:
    depot = make_depot(watch)

    def fail(instance: Scan, **kwargs: Any) -> None:
        if instance.text == at:
            raise ValueError("no power")

    with receiving(pre_save, fail, Scan), pytest.raises(PartlyWritten) as caught:
        watch.synchronize(depot, commit_every=SIZE)
    there = sum(count_runs(watch))
    assert 0 < there < caught.value.report.created.total() + 1
    assert f"{there} new objects were committed before and stay" in str(caught.value)
    assert "no power" in str(caught.value)
    assert "Nothing was written" not in str(caught.value)
    assert caught.value.report.created.total() == there
    connections[watch.target].check_constraints()
    report = watch.push(depot, commit_every=SIZE)

    assert report.updated == {}
    assert describe(watch, watch.target) == describe(watch, watch.source)
    assert_done(watch, depot)


@LIVE
def test_changes_deletions_and_traded_values_come_with_the_first_part(watch: Watch) -> None:
    depot = make_depot(watch)
    other = make(Worker, watch.source, email="b", badge=99)
    make(Shift, watch.source, depot=depot, worker=other, hours=2)
    watch.push(depot, own=["policies.Shift.worker"])
    first = watch.on_source(Worker).get(email="North")
    badge = first.badge
    watch.on_source(Worker).filter(pk=first.pk).update(badge=-1)
    watch.on_source(Worker).filter(pk=other.pk).update(badge=badge)
    watch.on_source(Worker).filter(pk=first.pk).update(badge=99)
    watch.on_source(Scan).filter(text="0").delete()
    brand = make(Brand, watch.source, name="new")
    watch.on_source(Parcel).filter(number="1").update(brand=brand)
    for number in range(10, 17):
        make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot, number=str(number)), text="new")

    report = watch.push(depot, own=["policies.Shift.worker"], prune=True, commit_every=SIZE)

    assert (report.deleted, report.updated["policies.Worker"]) == ({"policies.Scan": 1}, 2)
    assert describe(watch, watch.target) == describe(watch, watch.source)
    assert watch.on_target(Worker).get(email="b").badge == badge
    first_run = rows(SyncRun, watch.target).order_by("pk")[1]
    assert first_run.counts["updated"] == report.updated
    assert first_run.counts["created"] == {"policies.Brand": 1}
    assert_done(watch, depot, own=["policies.Shift.worker"], prune=True)


@LIVE
def test_objects_in_circles_and_what_is_referred_to_are_whole_in_the_first_part(watch: Watch) -> None:
    team = make(Team, watch.source, name="blue")
    boss = make(Employee, watch.source, name="Carl", team=team)
    for number in range(6):
        boss = make(Employee, watch.source, name=f"{number}", team=team, boss=boss)
    watch.on_source(Team).update(lead=boss)

    watch.push(team, own=["logged.Employee.team"], commit_every=SIZE)

    assert count_runs(watch) == [8]
    assert watch.on_target(Team).get().lead.name == "5"


@LIVE
def test_trees_come_parents_and_children_together(watch: Watch) -> None:
    depot = make_depot(watch)
    area = make(Area, watch.source, depot=depot, name="a")
    for number in range(5):
        area = make(Area, watch.source, depot=depot, name=str(number), parent=area)

    seen: list[int] = []

    def watch_commit(using: str, **kwargs: Any) -> None:
        transaction.on_commit(lambda: seen.append(rows(Area, using).count()), using=using)

    with receiving(post_save, watch_commit, Depot, Area, Scan):
        watch.push(depot, commit_every=SIZE)

    assert len(count_runs(watch)) > 2
    assert set(seen) == {6}
    assert watch.on_target(Area).filter(parent=None).count() == 1


GENERIC_LINKS = ["logged.Comment.subject", "policies.Remark.subject"]


@LIVE
@pytest.mark.parametrize("model", [Remark, Comment])
def test_rows_about_other_new_rows_do_not_come_before_them(watch: Watch, model: Any) -> None:
    def fail(instance: Remark, **kwargs: Any) -> None:
        if instance.text == "fail":
            raise ValueError("no power")

    depot = make_depot(watch)
    parcel = watch.on_source(Parcel).get(number="1")
    chain: Any = make(model, watch.source, text="above")
    below = make(Remark, watch.source, subject=parcel, text="fail")
    model.objects.using(watch.source).filter(pk=chain.pk).update(
        content_type=ContentType.objects.db_manager(watch.source).get_for_model(Remark), object_id=below.pk
    )
    chain.refresh_from_db()
    with receiving(pre_save, fail, Remark), pytest.raises(GestoreSyncError):
        watch.synchronize(chain, depot, own=GENERIC_LINKS, commit_every=1)
    make(Remark, watch.target, subject=make(Parcel, watch.target, depot=make(Depot, watch.target)), text="theirs")

    watch.synchronize(chain, depot, own=GENERIC_LINKS, commit_every=1)

    there = watch.on_target(model).get(text="above")
    assert there.subject == watch.on_target(Remark).get(text="fail")
    assert_done(watch, chain, depot, own=GENERIC_LINKS)


@LIVE
def test_rows_about_what_is_written_before_come_in_parts(watch: Watch) -> None:
    depot = make_depot(watch)
    parcel = watch.on_source(Parcel).get(number="1")
    make_many(Remark, watch.source, 7, subject=parcel, text="nice")

    watch.push(depot, commit_every=SIZE)

    assert count_runs(watch)[-1] <= SIZE
    assert all(remark.subject.number == "1" for remark in watch.on_target(Remark))


@LIVE
def test_an_object_of_several_tables_comes_whole(watch: Watch) -> None:
    depot = make_depot(watch)
    seen: set[tuple[int, int]] = set()

    def look() -> None:
        seen.add((watch.on_target(Vehicle).count(), watch.on_target(Truck).count()))

    def watch_commit(using: str, **kwargs: Any) -> None:
        transaction.on_commit(look, using=using)

    with receiving(post_save, watch_commit, Depot, Vehicle, Truck, Scan):
        watch.push(depot, commit_every=1)

    assert seen == {(2, 2)}


@LIVE
def test_a_key_that_is_reserved_for_a_later_part_is_given_to_nobody_else(watch: Watch) -> None:
    depot = make_depot(watch)
    far = make(Depot, watch.target, name="Far")
    make(Parcel, watch.target, depot=far)

    def add_one(using: str, **kwargs: Any) -> None:
        transaction.on_commit(lambda: rows(Parcel, using).create(depot=far, number="theirs"), using=using)

    with receiving(post_save, add_one, Depot):
        watch.synchronize(depot, commit_every=SIZE)

    assert watch.on_target(Parcel).filter(depot=far, number="theirs").count() == 1
    assert watch.on_target(Parcel).filter(depot__name="North").count() == 5
    assert_done(watch, depot)


@LIVE
def test_a_row_that_is_gone_when_a_later_part_needs_it_ends_the_run_and_the_next_one_mends_it(watch: Watch) -> None:
    depot = make_depot(watch)

    def delete(using: str, **kwargs: Any) -> None:
        transaction.on_commit(lambda: rows(Brand, using).all()._raw_delete(using), using=using)

    with receiving(post_save, delete, Brand), pytest.raises(PartlyWritten, match="were committed before and stay"):
        watch.synchronize(depot, commit_every=SIZE)
    connections[watch.target].check_constraints()
    watch.push(depot)

    assert describe(watch, watch.target) == describe(watch, watch.source)


@LIVE_ON_POSTGRESQL
def test_a_run_in_parts_ends_where_another_run_has_written_in_between(watch: Watch) -> None:
    depot, other = make_depot(watch), make_depot(watch, "South")

    def push_other(using: str, **kwargs: Any) -> None:
        transaction.on_commit(lambda: in_thread(lambda: watch.synchronize(other)), using=using)

    def begin(instance: Depot, using: str, **kwargs: Any) -> None:
        if instance.name == "North":
            push_other(using)

    with receiving(post_save, begin, Depot), pytest.raises(PartlyWritten, match="Another run has written"):
        watch.synchronize(depot, commit_every=SIZE)
    watch.push(depot, commit_every=SIZE)

    assert describe(watch, watch.target) == describe(watch, watch.source)
    assert_done(watch, depot, other)


@LIVE_ON_POSTGRESQL
def test_what_is_deleted_at_the_source_between_two_parts_does_not_arrive(watch: Watch, settings: Any) -> None:
    depot = make_depot(watch)
    settings.SYNCHRO_MODELS = (("policies", "depot", "parcel", "scan"),)

    def delete() -> None:
        rows(Parcel, watch.source).get(number="4").delete()
        watch.synchronize()

    def begin(using: str, **kwargs: Any) -> None:
        transaction.on_commit(lambda: in_thread(delete), using=using)

    with receiving(post_save, begin, Depot), pytest.raises(PartlyWritten, match="was deleted at the source"):
        watch.synchronize(depot, commit_every=SIZE)
    watch.push(depot, commit_every=SIZE)

    assert describe(watch, watch.target) == describe(watch, watch.source)
    assert_done(watch, depot)


@LIVE
def test_what_fits_into_one_part_is_one_transaction(watch: Watch) -> None:
    depot = make_depot(watch)

    watch.push(depot, commit_every=1000)

    assert len(count_runs(watch)) == 1


@pytest.mark.parametrize("number", [0, -1, True, 2.5])
def test_parts_of_no_objects_are_refused(watch: Watch, number: Any) -> None:
    depot = make(Depot, watch.source)

    with pytest.raises(WrongSetting, match="--commit-every takes a whole number"):
        watch.synchronize(depot, commit_every=number)


def test_the_change_log_is_not_sent_in_parts(watch: Watch) -> None:
    for words in ([], ["--root", f"policies.Depot.{make(Depot, watch.source).pk}", "--changes"]):
        with pytest.raises(CommandError, match="--commit-every goes with whole objects, --root"):
            call_command(
                "synchronize",
                *words,
                "--commit-every=10",
                source=watch.source,
                remote=watch.target,
                stdout=io.StringIO(),
                stderr=io.StringIO(),
            )

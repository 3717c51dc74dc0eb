from __future__ import annotations

from typing import Any

import pytest

from gestore_sync import api
from gestore_sync.exceptions import UnresolvedConflicts, WrongSetting
from gestore_sync.models import SyncRun
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make
from tests.kinds.pushing import rows
from tests.policies.disputing import arrived, change_source, change_target, push_parcel
from tests.policies.models import Area, Brand, Depot, Parcel, Worker
from tests.policies.watching import CROSSED, Watch, paired, read_only

POLICIES = ["newer", "local", "remote", "fail"]

pair = paired(*CROSSED)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot with one parcel, that was pushed to a target where other numbers are taken."""
    return push_parcel(watch)


def resolutions(report: api.Report | None) -> list[tuple[str, dict[str, list[Any]], str | None]]:
    """Return what each conflict is about and how it was resolved."""
    assert report is not None
    return [(conflict["model"], conflict["fields"], conflict["resolved"]) for conflict in report.conflicts]


# Only one side changed


@pytest.mark.parametrize("policy", POLICIES)
def test_what_only_the_source_changed_arrives_under_every_policy(watch: Watch, depot: Depot, policy: str) -> None:
    change_source(watch, text="ours")

    report = watch.push(depot, on_conflict=policy)

    assert (report.updated, report.conflicts) == ({"policies.Parcel": 1}, [])
    assert arrived(watch) == ("ours", 1)


@pytest.mark.parametrize("policy", ["newer", "remote", "fail"])
def test_what_only_the_target_changed_stays_and_is_no_conflict(watch: Watch, depot: Depot, policy: str) -> None:
    change_target(watch, text="theirs")

    report = watch.push_nothing(depot, on_conflict=policy)

    assert (report.skipped, report.conflicts) == ({"policies.Parcel": 1}, [])
    assert report.unchanged == {"policies.Depot": 1}
    assert arrived(watch) == ("theirs", 1)


def test_what_only_the_target_changed_is_brought_back_under_local(watch: Watch, depot: Depot) -> None:
    change_target(watch, text="theirs")

    report = watch.push(depot, on_conflict="local")

    assert (report.updated, report.skipped) == ({"policies.Parcel": 1}, {})
    assert arrived(watch) == ("first", 1)
    watch.push_nothing(depot, on_conflict="local")


def test_what_the_target_changed_and_changed_back_is_unchanged(watch: Watch, depot: Depot) -> None:
    change_target(watch, text="theirs")
    watch.push_nothing(depot)
    change_target(watch, text="first")

    report = watch.push_nothing(depot, on_conflict="fail")

    assert (report.unchanged, report.skipped) == ({"policies.Depot": 1, "policies.Parcel": 1}, {})


def test_a_part_that_moved_on_the_target_alone_stays_where_it_is(watch: Watch, depot: Depot) -> None:
    elsewhere = make(Depot, watch.target, name="theirs")
    change_target(watch, depot=elsewhere)

    report = watch.push_nothing(depot)

    assert report.skipped == {"policies.Parcel": 1}
    assert watch.on_target(Parcel).get(number="one").depot_id == elsewhere.pk


# Links


@pytest.mark.parametrize("policy", POLICIES)
def test_a_link_to_what_is_new_is_told_by_the_key_of_the_source(watch: Watch, depot: Depot, policy: str) -> None:
    mine, theirs = make(Brand, watch.source, name="mine"), make(Brand, watch.target, name="theirs")
    change_source(watch, brand=mine)
    change_target(watch, brand=theirs)

    for options in ({"dry_run": True}, {}):
        try:
            report = watch.synchronize(depot, on_conflict=policy, **options)
        except UnresolvedConflicts as error:
            report = error.report
        ((_, fields, _),) = resolutions(report)
        assert fields == {"brand": [mine.pk, theirs.pk]}


# Both sides changed the same


@pytest.mark.parametrize(
    ("policy", "resolved", "kept"),
    [("newer", "local", "ours"), ("local", "local", "ours"), ("remote", "remote", "theirs")],
)
def test_a_field_that_both_sides_changed_is_resolved_by_the_policy(
    watch: Watch, depot: Depot, policy: str, resolved: str, kept: str
) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs")

    report = watch.push(depot, on_conflict=policy)

    assert resolutions(report) == [("policies.Parcel", {"text": ["ours", "theirs"]}, resolved)]
    assert arrived(watch) == (kept, 1)


@pytest.mark.parametrize(("policy", "again"), [("newer", []), ("local", []), ("remote", ["remote"])])
def test_a_resolved_conflict_is_nothing_to_do_the_next_time(
    watch: Watch, depot: Depot, policy: str, again: list[str]
) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs")
    watch.push(depot, on_conflict=policy)

    report = watch.push_nothing(depot, on_conflict=policy)

    assert {conflict["resolved"] for conflict in report.conflicts} <= set(again)


def test_a_conflict_under_fail_writes_nothing_at_all(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs")
    make(Parcel, watch.source, depot=depot, number="new")

    error = watch.refuse(depot, on_conflict="fail")

    assert isinstance(error, UnresolvedConflicts)
    assert resolutions(error.report) == [("policies.Parcel", {"text": ["ours", "theirs"]}, None)]
    assert f"policies.Parcel.{watch.on_source(Parcel).get(number='one').pk}" in str(error)


def test_a_conflict_names_the_object_of_the_source(watch: Watch) -> None:
    worker = make(Brand, watch.source, name="ours", motto="first")
    watch.push(worker)
    watch.on_source(Brand).update(motto="ours")
    watch.on_target(Brand).filter(name="ours").update(motto="theirs")

    (conflict,) = watch.push(worker).conflicts

    assert (conflict["model"], conflict["pk"]) == ("policies.Brand", str(worker.pk))
    assert conflict["natural_key"] == ["ours"]
    assert f"policies.Brand.{worker.pk}" in conflict["reason"]


def test_every_conflict_is_listed(watch: Watch, depot: Depot) -> None:
    for number in ("two", "three"):
        make(Parcel, watch.source, depot=depot, number=number)
    watch.push(depot)
    watch.on_source(Parcel).update(text="ours")
    watch.on_target(Parcel).filter(depot__name="ours").update(text="theirs")

    error = watch.refuse(depot, on_conflict="fail")

    assert error.report is not None
    pks = watch.on_source(Parcel).values_list("pk", flat=True)
    assert sorted(conflict["pk"] for conflict in error.report.conflicts) == sorted(map(str, pks))


def test_a_dry_run_shows_conflicts_and_raises_nothing(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs")

    with read_only(watch.target):
        report = watch.synchronize(depot, on_conflict="fail", dry_run=True)

    assert resolutions(report) == [("policies.Parcel", {"text": ["ours", "theirs"]}, None)]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_change_on_both_sides_is_no_conflict(watch: Watch, depot: Depot, policy: str) -> None:
    change_source(watch, text="same")
    change_target(watch, text="same")

    report = watch.push(depot, on_conflict=policy)

    assert (report.updated, report.skipped, report.conflicts) == ({}, {}, [])
    watch.push_nothing(depot, on_conflict=policy)


def test_what_was_the_same_on_both_sides_is_in_step_from_then_on(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="same")
    change_target(watch, text="same")
    watch.push(depot)
    change_target(watch, text="theirs")

    report = watch.push_nothing(depot, on_conflict="fail")

    assert (report.skipped, report.conflicts) == ({"policies.Parcel": 1}, [])


def test_a_change_after_one_that_was_left_alone_is_a_conflict(watch: Watch, depot: Depot) -> None:
    change_target(watch, text="theirs")
    watch.push_nothing(depot)
    change_source(watch, text="ours")

    error = watch.refuse(depot, on_conflict="fail")

    assert resolutions(error.report) == [("policies.Parcel", {"text": ["ours", "theirs"]}, None)]


def test_a_part_that_moved_differently_on_both_sides_is_a_conflict(watch: Watch, depot: Depot) -> None:
    other = make(Depot, watch.source, name="other")
    watch.push(depot, other)
    change_source(watch, depot=other)
    change_target(watch, depot=make(Depot, watch.target, name="theirs"))

    error = watch.refuse(depot, other, on_conflict="fail")

    assert error.report is not None
    assert [set(conflict["fields"]) for conflict in error.report.conflicts] == [{"depot"}]


# Both sides changed different fields


@pytest.mark.parametrize("policy", ["newer", "remote"])
def test_changes_of_different_fields_are_merged(watch: Watch, depot: Depot, policy: str) -> None:
    change_source(watch, text="ours")
    change_target(watch, weight=9)

    report = watch.push(depot, on_conflict=policy)

    assert [conflict["resolved"] for conflict in report.conflicts] == ["merged"]
    assert arrived(watch) == ("ours", 9)


def test_a_merged_row_is_as_its_target_left_it_the_next_time(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, weight=9)
    watch.push(depot)

    report = watch.push_nothing(depot)

    assert (report.skipped, report.conflicts) == ({"policies.Parcel": 1}, [])


def test_a_field_that_was_kept_by_a_merge_can_be_a_conflict_later(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, weight=9)
    watch.push(depot)
    change_source(watch, weight=5)

    error = watch.refuse(depot, on_conflict="fail")

    assert resolutions(error.report) == [("policies.Parcel", {"weight": [5, 9]}, None)]


def test_a_field_that_both_changed_beside_others_leaves_the_others_alone(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs", weight=9)

    watch.push(depot)

    assert arrived(watch) == ("ours", 9)


def test_the_source_wins_every_field_under_local_and_the_conflict_is_listed(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, weight=9)

    report = watch.push(depot, on_conflict="local")

    assert arrived(watch) == ("ours", 1)
    assert [conflict["resolved"] for conflict in report.conflicts] == ["local"]


# First contact


@pytest.fixture
def strangers(watch: Watch) -> Worker:
    """A worker of the source, whom the target has by the same unique columns with another name."""
    make(Worker, watch.target, email="a@b.c", badge=7, name="theirs")
    return make(Worker, watch.source, email="a@b.c", badge=7, name="ours")


@pytest.mark.parametrize("policy", ["newer", "local"])
def test_the_source_wins_at_first_contact(watch: Watch, strangers: Worker, policy: str) -> None:
    report = watch.push(strangers, on_conflict=policy)

    assert (report.created, report.updated) == ({}, {"policies.Worker": 1})
    assert watch.on_target(Worker).get(badge=7).name == "ours"
    watch.push_nothing(strangers, on_conflict=policy)


def test_the_target_wins_at_first_contact_under_remote(watch: Watch, strangers: Worker) -> None:
    report = watch.push(strangers, on_conflict="remote")

    assert (report.created, report.updated) == ({}, {})
    assert watch.on_target(Worker).get(badge=7).name == "theirs"
    watch.push_nothing(strangers, on_conflict="remote")


def test_other_content_at_first_contact_is_a_conflict_under_fail(watch: Watch, strangers: Worker) -> None:
    error = watch.refuse(strangers, on_conflict="fail")

    assert resolutions(error.report) == [("policies.Worker", {"name": ["ours", "theirs"]}, None)]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_content_at_first_contact_is_no_conflict(watch: Watch, policy: str) -> None:
    for using in (watch.target, watch.source):
        worker = make(Worker, using, email="a@b.c", badge=7, name="same")

    report = watch.push(worker, on_conflict=policy)

    assert (report.unchanged, report.conflicts) == ({"policies.Worker": 1}, [])
    watch.push_nothing(worker, on_conflict=policy)


def test_what_was_matched_as_it_was_is_in_step_from_then_on(watch: Watch) -> None:
    for using in (watch.target, watch.source):
        worker = make(Worker, using, email="a@b.c", badge=7, name="same")
    watch.push(worker)
    watch.on_target(Worker).update(name="theirs")

    report = watch.push_nothing(worker)

    assert report.skipped == {"policies.Worker": 1}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_referred_object_with_other_content_is_no_conflict(
    watch: Watch, depot: Depot, strangers: Worker, policy: str
) -> None:
    watch.on_source(Depot).update(boss=strangers)

    report = watch.push(depot, on_conflict=policy)

    assert (report.matched, report.conflicts) == ({"policies.Worker": 1}, [])
    assert watch.on_target(Worker).get(badge=7).name == "theirs"


# Two origins


def test_what_another_origin_sent_since_is_a_change_of_the_target(watch: Watch, strangers: Worker) -> None:
    other = next(using for using in DATABASES if using not in (watch.source, watch.target))
    third = make(Worker, other, email="a@b.c", badge=7, name="third")
    watch.push(strangers)
    Watch(Pair(other, watch.target)).push(third)

    report = watch.push_nothing(strangers)

    assert report.skipped == {"policies.Worker": 1}
    assert watch.on_target(Worker).get(badge=7).name == "third"


# What a run with a conflict leaves


def test_a_run_that_fails_leaves_no_record(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs")
    before = SyncRun.objects.using(watch.target).count()

    watch.refuse(depot, on_conflict="fail")

    assert SyncRun.objects.using(watch.target).count() == before


def test_an_unknown_policy_is_told(watch: Watch, depot: Depot) -> None:
    error = watch.refuse(depot, on_conflict="newest")

    assert isinstance(error, WrongSetting)
    assert "'newest'" in str(error)
    assert all(policy in str(error) for policy in POLICIES)


# Links that would make a circle


@pytest.fixture
def areas(watch: Watch) -> list[Area]:
    """Two areas, each beside the other, on both sides."""
    depot = make(Depot, watch.source, name="ours")
    areas = [make(Area, watch.source, depot=depot, name=name) for name in ("a", "b")]
    watch.push(depot)
    return areas


def put_below(watch: Watch, using: str, name: str, above: str) -> None:
    """Let an area stand below another one."""
    areas = rows(Area, using)
    assert areas.filter(name=name).update(parent=areas.get(name=above)) == 1


@pytest.mark.parametrize("policy", ["newer", "remote", "fail"])
def test_what_each_side_has_put_below_the_other_is_a_conflict_that_names_both(
    watch: Watch, areas: list[Area], policy: str
) -> None:
    put_below(watch, watch.source, "a", "b")
    put_below(watch, watch.target, "b", "a")

    error = watch.refuse(areas[0].depot, on_conflict=policy)

    assert isinstance(error, UnresolvedConflicts)
    there = watch.on_target(Area).get(name="b")
    assert f"policies.Area.{areas[0].pk} would stand below itself by policies.Area.parent" in str(error)
    assert f"below policies.Area.{there.pk} of the target" in str(error)


def test_the_source_decides_about_what_each_side_has_put_below_the_other(watch: Watch, areas: list[Area]) -> None:
    put_below(watch, watch.source, "a", "b")
    put_below(watch, watch.target, "b", "a")

    watch.push(areas[0].depot, on_conflict="local")

    assert set(watch.on_target(Area).values_list("name", "parent__name")) == {("a", "b"), ("b", None)}


def test_what_is_put_below_a_new_row_below_itself_is_a_conflict(watch: Watch, areas: list[Area]) -> None:
    make(Area, watch.source, depot=areas[0].depot, name="new", parent=areas[1])
    put_below(watch, watch.source, "a", "new")
    put_below(watch, watch.target, "b", "a")

    error = watch.refuse(areas[0].depot)

    assert "would stand below itself" in str(error)


def test_a_circle_that_the_source_has_arrives(watch: Watch, areas: list[Area]) -> None:
    put_below(watch, watch.source, "b", "a")
    watch.push(areas[0].depot)
    put_below(watch, watch.source, "a", "b")

    watch.push(areas[0].depot, on_conflict="fail")

    assert set(watch.on_target(Area).values_list("name", "parent__name")) == {("a", "b"), ("b", "a")}

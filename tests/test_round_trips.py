"""Pushes in both directions between two sites, and mappings that outlive what they were made for."""

from __future__ import annotations

import pytest
from django.db import connections

from gestore_sync import api
from gestore_sync.models import IdMapping, Origin, SyncRun
from tests.conftest import Pair
from tests.kinds.making import make
from tests.policies.models import (
    Article,
    Complaint,
    Depot,
    Parcel,
    Scan,
    Seal,
    SealMark,
    Shift,
    Ticket,
    Van,
    Vehicle,
    Worker,
)
from tests.policies.watching import CROSSED, Watch, pairings

crossed = pytest.mark.parametrize("pair", pairings(*CROSSED), indirect=True)
to_postgresql = pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)


@pytest.fixture
def watch(pair: Pair) -> Watch:
    return Watch(pair)


@pytest.fixture
def back(pair: Pair, watch: Watch) -> Watch:
    return Watch(Pair(pair.target, pair.source))


# Both directions


@crossed
def test_a_push_back_finds_what_has_no_identity(watch: Watch, back: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, text="x")
    watch.push(depot)

    report = back.synchronize(back.on_source(Depot).get(name="ours"))

    assert report.created == {}
    assert watch.on_source(Parcel).count() == 1


@crossed
def test_what_only_the_target_changed_after_a_round_trip_stays(watch: Watch, back: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, text="x")
    watch.push(depot)
    there = watch.on_target(Depot).get(name="ours")
    watch.on_target(Parcel).update(text="y")
    back.push(there)
    watch.on_target(Parcel).update(text="z")

    report = watch.synchronize(depot)

    assert report.skipped == {"policies.Parcel": 1}
    assert watch.on_target(Parcel).get().text == "z"
    assert watch.on_source(Parcel).get().text == "y"


@crossed
def test_what_only_the_source_changed_after_a_round_trip_is_no_conflict(watch: Watch, back: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, text="x")
    watch.push(depot)
    watch.on_target(Parcel).update(text="y")
    back.push(watch.on_target(Depot).get(name="ours"))
    watch.on_source(Parcel).update(text="z")

    report = watch.push(depot, on_conflict="fail")

    assert report.conflicts == []
    assert watch.on_target(Parcel).get().text == "z"


@crossed
def test_a_push_after_a_round_trip_has_nothing_to_do(watch: Watch, back: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, text="x")
    watch.push(depot)
    watch.on_target(Parcel).update(text="y")
    back.push(watch.on_target(Depot).get(name="ours"))

    watch.push_nothing(depot)


# Mappings


@pytest.fixture
def late_tables(watch: Watch) -> None:
    """The target gets our tables only after the first push."""
    connection = connections[watch.target]
    with connection.schema_editor(atomic=False) as editor:
        for model in (IdMapping, SyncRun, Origin):
            editor.delete_model(model)


@to_postgresql
@pytest.mark.usefixtures("late_tables")
def test_tables_that_come_later_take_over_the_mappings(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot)
    watch.synchronize(depot)
    with connections[watch.target].schema_editor(atomic=False) as editor:
        for model in (Origin, SyncRun, IdMapping):
            editor.create_model(model)
    watch.on_source(Parcel).update(text="changed")

    report = watch.synchronize(depot)

    assert (report.created, report.updated) == ({}, {"policies.Parcel": 1})
    assert watch.on_target(Parcel).get().text == "changed"


@crossed
def test_a_mapping_to_a_row_in_which_nothing_is_left_is_not_written_through(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, number="1", text="ours", weight=5)
    watch.push(depot)
    number = watch.on_target(Parcel).get().pk
    watch.on_target(Parcel).all().delete()
    other = make(Depot, watch.target, name="theirs")
    make(Parcel, watch.target, pk=number, depot=other, number="9", text="theirs", weight=7)
    watch.on_source(Parcel).update(text="changed")

    report = watch.synchronize(depot)

    assert report.created == {"policies.Parcel": 1}
    assert watch.on_target(Parcel).get(pk=number).text == "theirs"
    assert watch.on_target(Parcel).exclude(pk=number).get().text == "changed"


@crossed
def test_a_row_that_the_target_renamed_and_edited_is_the_same_row(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Article, watch.source, depot=depot, code="A", title="t", stock=5)
    watch.push(depot)
    watch.on_target(Article).update(code="B", title="edited")

    report = watch.synchronize(depot)

    assert (report.created, report.skipped) == ({}, {"policies.Article": 1})


@crossed
def test_a_number_that_does_not_travel_identifies_nothing(watch: Watch) -> None:
    theirs = make(Ticket, watch.target, number=1, text="theirs")
    depot = make(Depot, watch.source, name="ours")
    make(Ticket, watch.source, depot=depot, number=1, text="ours")

    report = watch.synchronize(depot)

    assert report.created["policies.Ticket"] == 1
    assert watch.on_target(Ticket).get(pk=theirs.pk).text == "theirs"


@crossed
def test_a_through_row_that_was_given_to_another_owner_is_taken_out(watch: Watch) -> None:
    depot, other = make(Depot, watch.source, name="ours"), make(Depot, watch.source, name="other")
    make(Shift, watch.source, depot=depot, worker=make(Worker, watch.source), hours=3)
    watch.push(depot)
    watch.on_source(Shift).update(depot=other)

    report = watch.push(depot)

    assert report.deleted == {"policies.Shift": 1}


# Deletions


@crossed
def test_a_function_that_says_what_a_link_becomes_is_never_called(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot)
    watch.push(depot)
    complaint = make(Complaint, watch.target, parcel=watch.on_target(Parcel).get())
    watch.on_source(Parcel).all().delete()

    report = watch.synchronize(depot, prune=True, dry_run=True)

    assert f"policies.Complaint.{complaint.pk}" in report.get_unresolved()[0]["reason"]
    assert not watch.on_source(Parcel).filter(number="lost").exists()


@to_postgresql
def test_children_are_pruned_before_their_parents_where_constraints_are_immediate(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    for _ in range(2):
        make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot))
    watch.push(depot)
    with connections[watch.target].cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SELECT conname FROM pg_constraint WHERE conrelid = 'policies_scan'::regclass AND contype = 'f'")
        ((name,),) = cursor.fetchall()
        cursor.execute(f'ALTER TABLE policies_scan ALTER CONSTRAINT "{name}" NOT DEFERRABLE')
    watch.on_source(Scan).all().delete()
    watch.on_source(Parcel).all().delete()

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Parcel": 2, "policies.Scan": 2}


# Keys


@crossed
def test_a_multi_table_child_found_by_its_own_unique_field_brings_its_parent_along(watch: Watch) -> None:
    make(Vehicle, watch.target, name="crowd")
    there = make(Van, watch.target, plate="X 1", name="theirs")
    depot = make(Depot, watch.source, name="ours")
    make(Van, watch.source, plate="X 1", name="ours", depot=depot)

    report = watch.synchronize(depot)

    assert report.created == {"policies.Depot": 1}
    assert watch.on_target(Van).get(pk=there.pk).name == "ours"


@crossed
def test_a_key_that_is_a_link_to_a_unique_field_is_right_for_those_that_point_at_it(watch: Watch) -> None:
    make(Worker, watch.target, badge=1)
    worker = make(Worker, watch.source, badge=77)
    make(SealMark, watch.source, seal=make(Seal, watch.source, worker=worker))

    watch.push(worker)

    assert watch.on_target(SealMark).get().seal.worker.badge == 77
    watch.push_nothing(worker)


@to_postgresql
@pytest.mark.parametrize("default", ["nextval('loose')", "0"])
def test_keys_are_reserved_where_no_sequence_belongs_to_the_column(watch: Watch, default: str) -> None:
    make(Scan, watch.target)
    with connections[watch.target].cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("ALTER TABLE policies_scan ALTER COLUMN id DROP IDENTITY")
        cursor.execute("CREATE SEQUENCE loose START 500")
        cursor.execute(f"ALTER TABLE policies_scan ALTER COLUMN id SET DEFAULT {default}")
    depot = make(Depot, watch.source, name="ours")
    make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot), text="ours")

    watch.push(depot)

    assert watch.on_target(Scan).get(text="ours").parcel.depot.name == "ours"


@to_postgresql
def test_one_name_is_one_root(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")

    report = api.synchronize(f"policies.Depot.{depot.pk}", source=watch.source, remote=watch.target)

    assert report.created == {"policies.Depot": 1}

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import models
from django.test import override_settings
from django.utils import timezone

from gestore_sync.exceptions import GestoreSyncError, UnresolvedConflicts
from gestore_sync.models import Conflict, IdMapping, Origin, SyncRun
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make, make_many
from tests.policies.models import Article, Brand, Colour, Depot, Parcel, Scan, Worker
from tests.policies.watching import CROSSED, Watch, execute, paired, refuse_text

pair = paired(*CROSSED)


@pytest.fixture
def other(watch: Watch) -> Watch:
    """Pushes from another database to the same target."""
    return Watch(Pair(third_database(watch), watch.target))


def third_database(watch: Watch) -> str:
    """Return a database that is neither source nor target."""
    return next(using for using in DATABASES if using not in (watch.source, watch.target))


def of_target(watch: Watch, model: type[models.Model], *names: str) -> list[tuple[Any, ...]]:
    """Return these values of every row that the target has of a model, sorted."""
    return sorted(watch.on_target(model).values_list(*names))


# The ladder


def test_an_object_without_any_identity_is_new_once(watch: Watch) -> None:
    make(Depot, watch.target, name="same")
    depot = make(Depot, watch.source, name="same")

    assert watch.push(depot).created == {"policies.Depot": 1}

    watch.push_nothing(depot)
    assert watch.on_target(Depot).filter(name="same").count() == 2


def test_a_natural_key_that_matches_two_rows_is_a_conflict_that_names_both(watch: Watch) -> None:
    hits = [make(Brand, watch.target, name="twice", motto=motto) for motto in "ab"]
    brand = make(Brand, watch.source, name="twice")

    error = watch.refuse(brand)

    assert isinstance(error, UnresolvedConflicts)
    for hit in hits:
        assert f"policies.Brand.{hit.pk}" in str(error)
    assert error.report is not None
    (conflict,) = error.report.conflicts
    assert (conflict["pk"], conflict["natural_key"], conflict["resolved"]) == (str(brand.pk), ["twice"], None)


def test_a_referred_object_that_matches_two_rows_is_a_conflict(watch: Watch) -> None:
    make_many(Brand, watch.target, 2, name="twice")
    brand = make(Brand, watch.source, name="twice")
    parcel = make(Parcel, watch.source, brand=brand)

    error = watch.refuse(parcel)

    assert f"policies.Brand.{brand.pk}" in str(error)


def test_a_model_that_allows_many_takes_the_first(watch: Watch) -> None:
    first, _ = [make(Colour, watch.target, name="red", shade=shade) for shade in ("first", "second")]
    parcel = make(Parcel, watch.source, number="ours", colour=make(Colour, watch.source, name="red"))

    report = watch.push(parcel)

    assert (report.matched, report.conflicts) == ({"policies.Colour": 1}, [])
    assert watch.on_target(Parcel).get(number="ours").colour_id == first.pk
    watch.push_nothing(parcel)


def test_two_objects_for_one_row_are_a_conflict_that_names_both(watch: Watch) -> None:
    hit = make(Brand, watch.target, name="same")
    brands = make_many(Brand, watch.source, 2, name="same")
    depot = make(Depot, watch.source)
    for brand in brands:
        make(Parcel, watch.source, depot=depot, brand=brand)

    error = watch.refuse(depot)

    for brand in brands:
        assert f"policies.Brand.{brand.pk}" in str(error)
    assert f"policies.Brand.{hit.pk} of the target" in str(error)


def test_two_objects_may_be_one_row_of_a_model_that_allows_many(watch: Watch) -> None:
    hit = make(Colour, watch.target, name="red")
    depot = make(Depot, watch.source)
    for colour in make_many(Colour, watch.source, 2, name="red"):
        make(Parcel, watch.source, depot=depot, number="ours", colour=colour)

    report = watch.push(depot)

    assert "policies.Colour" not in report.created
    assert set(watch.on_target(Parcel).filter(number="ours").values_list("colour", flat=True)) == {hit.pk}
    watch.push_nothing(depot)


def test_two_unique_columns_that_lead_to_two_rows_are_a_conflict_that_names_both(watch: Watch) -> None:
    by_email = make(Worker, watch.target, email="a@b.c", badge=1)
    by_badge = make(Worker, watch.target, email="x@y.z", badge=7)
    worker = make(Worker, watch.source, email="a@b.c", badge=7)

    error = watch.refuse(worker)

    for hit in (by_email, by_badge):
        assert f"policies.Worker.{hit.pk}" in str(error)


def test_a_column_that_is_unique_there_but_free_here_leads_to_the_row(watch: Watch) -> None:
    make(Worker, watch.target, email="old@b.c", badge=7)
    worker = make(Worker, watch.source, email="new@b.c", badge=7)

    report = watch.push(worker)

    assert report.updated == {"policies.Worker": 1}
    assert of_target(watch, Worker, "email", "badge") == [("new@b.c", 7)]


def test_a_nested_natural_key_is_found_below_the_counterpart_of_its_parent(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    watch.push(depot)
    mine, theirs = watch.on_target(Depot).get(name="ours"), make(Depot, watch.target, name="theirs")
    for parent in (theirs, mine):
        make(Article, watch.target, depot=parent, code="A", title="old")
    make(Article, watch.source, depot=depot, code="A", title="new")

    report = watch.push(depot)

    assert (report.created, report.updated) == ({}, {"policies.Article": 1})
    assert of_target(watch, Article, "depot__name", "title") == [("ours", "new"), ("theirs", "old")]


# What settings say


@override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Parcel": ["depot", "number"], "policies.Depot": ["name"]}})
def test_fields_that_the_settings_name_are_the_identity(watch: Watch) -> None:
    for using in (watch.target, watch.source):
        depot = make(Depot, using, name="same")
        make(Parcel, using, depot=depot, number="one", text=using)

    report = watch.push(depot)

    assert (report.created, report.updated) == ({}, {"policies.Parcel": 1})
    assert of_target(watch, Parcel, "number", "text") == [("one", watch.source)]


@override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Worker": ["badge"]}})
def test_fields_that_the_settings_name_come_before_unique_columns(watch: Watch) -> None:
    by_badge = make(Worker, watch.target, email="x@y.z", badge=7)
    make(Worker, watch.target, email="a@b.c", badge=1)
    parcel = make(Depot, watch.source, name="ours", boss=make(Worker, watch.source, email="a@b.c", badge=7))

    watch.push(parcel)

    assert watch.on_target(Depot).get(name="ours").boss_id == by_badge.pk


@override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Brand": ["motto"]}})
def test_fields_that_the_settings_name_come_before_the_natural_key(watch: Watch) -> None:
    make(Brand, watch.target, name="same", motto="theirs")
    brand = make(Brand, watch.source, name="same", motto="ours")

    assert watch.push(brand).created == {"policies.Brand": 1}


@pytest.mark.parametrize(
    ("identity", "named", "check"),
    [
        ({"policies.Parcel": ["serial"]}, "serial", "gestore_sync.E003"),
        ({"policies.Nothing": ["code"]}, "policies.Nothing", "gestore_sync.E003"),
        ({"policies.Parcel": "number"}, "IDENTITY", "gestore_sync.E001"),
        ({"policies.Parcel": []}, "IDENTITY", "gestore_sync.E001"),
    ],
)
def test_a_wrong_identity_is_told_by_a_system_check(identity: Any, named: str, check: str) -> None:
    with override_settings(GESTORE_SYNC={"IDENTITY": identity}):
        found = run_checks()

    (error,) = [error for error in found if str(error.id).startswith("gestore_sync.E")]
    assert named in error.msg
    assert error.hint


def test_an_identity_of_a_field_that_is_not_there_is_told_by_a_push(watch: Watch) -> None:
    parcel = make(Parcel, watch.source)

    with override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Parcel": ["serial"]}}):
        error = watch.refuse(parcel)

    assert "serial" in str(error)


@override_settings(GESTORE_SYNC={"IDENTITY": {"POLICIES.parcel": ["number"]}})
def test_the_settings_name_models_in_any_letter_case(watch: Watch) -> None:
    make(Parcel, watch.target, number="one", text="theirs")
    parcel = make(Parcel, watch.source, number="one", text="ours")

    assert watch.push(parcel).updated["policies.Parcel"] == 1


# What becomes of a mapping


def test_a_row_that_the_target_lost_is_created_anew(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    for number in ("one", "two"):
        make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot, number=number))
    watch.push(depot)
    watch.on_target(Parcel).filter(number="one").get().delete()

    report = watch.push(depot)

    assert report.created == {"policies.Parcel": 1, "policies.Scan": 1}
    assert of_target(watch, Scan, "parcel__number") == [("one",), ("two",)]
    watch.push_nothing(depot)


def test_a_referred_row_that_the_target_lost_is_created_anew(watch: Watch) -> None:
    parcel = make(Parcel, watch.source, number="ours", brand=make(Brand, watch.source, name="ours"))
    watch.push(parcel)
    watch.on_target(Parcel).update(brand=None)
    watch.on_target(Brand).get(name="ours").delete()

    report = watch.push(parcel, on_conflict="local")

    assert report.created == {"policies.Brand": 1}
    assert watch.on_target(Parcel).get(number="ours").brand.name == "ours"
    watch.push_nothing(parcel)


@pytest.mark.parametrize("policy", ["newer", "local"])
def test_a_row_that_took_a_number_is_never_written(watch: Watch, policy: str) -> None:
    brand = make(Brand, watch.source, name="ours", motto="first")
    watch.push(brand)
    arrived = watch.on_target(Brand).get(name="ours")
    arrived.delete()
    make(Brand, watch.target, pk=arrived.pk, name="theirs", motto="unrelated")
    watch.on_source(Brand).update(motto="second")

    report = watch.push(brand, on_conflict=policy)

    assert report.created == {"policies.Brand": 1}
    assert of_target(watch, Brand, "name", "motto") == [("ours", "second"), ("theirs", "unrelated")]
    watch.push_nothing(brand)


def test_a_referred_row_that_took_a_number_is_not_pointed_at(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="ours", motto="first")
    depot = make(Depot, watch.source)
    make(Parcel, watch.source, depot=depot, number="one", brand=brand)
    watch.push(depot)
    arrived = watch.on_target(Brand).get(name="ours")
    watch.on_target(Parcel).update(brand=None)
    arrived.delete()
    make(Brand, watch.target, pk=arrived.pk, name="theirs", motto="unrelated")
    make(Parcel, watch.source, depot=depot, number="two", brand=brand)

    watch.push(depot, on_conflict="local")

    assert of_target(watch, Parcel, "number", "brand__name") == [("one", "ours"), ("two", "ours")]


def test_a_row_that_took_a_number_gives_way_to_the_one_with_the_natural_key(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="ours", motto="first")
    watch.push(brand)
    arrived = watch.on_target(Brand).get(name="ours")
    arrived.delete()
    make(Brand, watch.target, pk=arrived.pk, name="theirs", motto="unrelated")
    again = make(Brand, watch.target, name="ours", motto="first")

    report = watch.push(brand)

    assert (report.created, report.updated) == ({}, {})
    assert of_target(watch, Brand, "name", "motto") == [("ours", "first"), ("theirs", "unrelated")]
    assert again.pk != arrived.pk
    watch.push_nothing(brand)


def test_a_part_below_a_row_that_took_a_number_is_not_put_there(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    with override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Depot": ["name"]}}):
        watch.push(depot)
        arrived = watch.on_target(Depot).get(name="ours")
        arrived.delete()
        make(Depot, watch.target, pk=arrived.pk, name="theirs", city="unrelated")
        make(Parcel, watch.source, depot=depot, number="new")

        watch.push(depot)

    assert of_target(watch, Parcel, "number", "depot__name") == [("new", "ours")]


def test_an_object_renamed_at_the_source_is_renamed_on_the_target(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="old", motto="same")
    watch.push(brand)
    watch.on_source(Brand).update(name="new")

    report = watch.push(brand)

    assert (report.created, report.updated) == ({}, {"policies.Brand": 1})
    assert of_target(watch, Brand, "name") == [("new",)]
    watch.push_nothing(brand)


def test_a_parent_renamed_at_the_source_keeps_its_parts(watch: Watch) -> None:
    with override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Depot": ["name"]}}):
        depot = make(Depot, watch.source, name="old")
        make(Article, watch.source, depot=depot, code="A")
        watch.push(depot)
        watch.on_source(Depot).update(name="new")

        report = watch.push(depot)

    assert (report.created, report.updated) == ({}, {"policies.Depot": 1})
    assert of_target(watch, Article, "depot__name", "code") == [("new", "A")]


def test_a_name_that_another_row_of_the_target_has_is_a_conflict_that_names_both(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="old")
    watch.push(brand)
    theirs = make(Brand, watch.target, name="new")
    watch.on_source(Brand).update(name="new")

    error = watch.refuse(brand)

    assert f"policies.Brand.{theirs.pk}" in str(error)
    assert f"policies.Brand.{watch.on_target(Brand).get(name='old').pk}" in str(error)


@pytest.mark.parametrize("policy", ["newer", "remote", "fail"])
def test_a_row_renamed_on_the_target_stays_renamed(watch: Watch, policy: str) -> None:
    brand = make(Brand, watch.source, name="ours", motto="same")
    watch.push(brand)
    watch.on_target(Brand).update(name="theirs")

    report = watch.push_nothing(brand, on_conflict=policy)

    assert report.skipped == {"policies.Brand": 1}
    assert of_target(watch, Brand, "name") == [("theirs",)]


def test_a_row_renamed_on_the_target_gets_its_name_back_under_local(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="ours", motto="same")
    watch.push(brand)
    watch.on_target(Brand).update(name="theirs")

    watch.push(brand, on_conflict="local")

    assert of_target(watch, Brand, "name") == [("ours",)]


def test_a_referred_row_renamed_on_the_target_is_still_the_one(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="ours", motto="same")
    depot = make(Depot, watch.source)
    make(Parcel, watch.source, depot=depot, number="one", brand=brand)
    watch.push(depot)
    watch.on_target(Brand).update(name="theirs")
    make(Parcel, watch.source, depot=depot, number="two", brand=brand)

    report = watch.push(depot)

    assert report.created == {"policies.Parcel": 1}
    assert of_target(watch, Parcel, "number", "brand__name") == [("one", "theirs"), ("two", "theirs")]


def test_an_object_renamed_differently_on_both_sides_is_a_conflict(watch: Watch) -> None:
    brand = make(Brand, watch.source, name="old", motto="same")
    watch.push(brand)
    watch.on_source(Brand).update(name="ours")
    watch.on_target(Brand).update(name="theirs")

    error = watch.refuse(brand, on_conflict="fail")

    assert error.report is not None
    assert [conflict["fields"] for conflict in error.report.conflicts] == [{"name": ["ours", "theirs"]}]


def test_names_that_moved_on_the_target_never_lead_to_a_second_row(watch: Watch) -> None:
    first = make(Brand, watch.source, name="a", motto="of a")
    watch.push(first)
    watch.on_target(Brand).filter(name="a").update(name="b", motto="of b")
    make(Brand, watch.target, name="a", motto="of a")
    second = make(Brand, watch.source, name="b", motto="of b")

    watch.synchronize(first, second)

    assert of_target(watch, Brand, "name", "motto") == [("a", "of a"), ("b", "of b")]


def test_an_object_made_anew_at_the_source_is_the_same_by_its_natural_key(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make(Article, watch.source, depot=depot, code="A", title="first")
    watch.push(depot)
    arrived = watch.on_target(Article).get(code="A")
    Article.objects.using(watch.source).all().delete()
    make(Article, watch.source, pk=99, depot=depot, code="A", title="second")

    report = watch.push(depot, prune=True)

    assert (report.created, report.updated, report.deleted) == ({}, {"policies.Article": 1}, {})
    assert of_target(watch, Article, "pk", "title") == [(arrived.pk, "second")]
    watch.push_nothing(depot, prune=True)


def test_an_object_made_anew_and_pushed_can_be_pruned_later(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make(Article, watch.source, depot=depot, code="A")
    watch.push(depot)
    Article.objects.using(watch.source).all().delete()
    make(Article, watch.source, pk=99, depot=depot, code="A", title="second")
    watch.push(depot)
    Article.objects.using(watch.source).all().delete()

    report = watch.push(depot, prune=True)

    assert report.deleted == {"policies.Article": 1}


def test_names_that_trade_places_at_the_source_trade_places_on_the_target(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    for code in "AB":
        make(Article, watch.source, depot=depot, code=code, title=f"was {code}")
    watch.push(depot)
    before = of_target(watch, Article, "title", "pk")
    for old, new in (("A", "C"), ("B", "A"), ("C", "B")):
        watch.on_source(Article).filter(code=old).update(code=new)

    report = watch.push(depot)

    assert report.updated == {"policies.Article": 2}
    assert of_target(watch, Article, "title", "code") == [("was A", "B"), ("was B", "A")]
    assert of_target(watch, Article, "title", "pk") == before


def test_a_new_object_may_take_the_name_that_another_gave_up(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    old = make(Article, watch.source, depot=depot, code="A", title="old")
    watch.push(depot)
    arrived = watch.on_target(Article).get()
    watch.on_source(Article).filter(pk=old.pk).update(code="B")
    make(Article, watch.source, depot=depot, code="A", title="new")

    report = watch.push(depot)

    assert (report.created, report.updated) == ({"policies.Article": 1}, {"policies.Article": 1})
    assert of_target(watch, Article, "title", "code") == [("new", "A"), ("old", "B")]
    assert watch.on_target(Article).get(title="old").pk == arrived.pk


# Several origins


def test_equal_numbers_of_two_origins_are_two_objects(watch: Watch, other: Watch) -> None:
    for push, name in ((watch, "first"), (other, "second")):
        depot = make(Depot, push.source, pk=5, name=name)
        make(Parcel, push.source, pk=5, depot=depot, number=name)
        push.push(depot)
    for push, name in ((watch, "first"), (other, "second")):
        push.push_nothing(f"policies.Depot.{depot.pk}")
        push.on_source(Parcel).update(text=f"changed {name}")

    for push in (watch, other):
        assert push.push("policies.Depot.5").updated == {"policies.Parcel": 1}

    expected = [("first", "changed first"), ("second", "changed second")]
    assert of_target(watch, Parcel, "depot__name", "text") == expected


def test_each_database_has_an_identity_of_its_own(watch: Watch) -> None:
    own = [Origin.objects.using(using).filter(is_own=True).values_list("uuid", flat=True) for using in DATABASES]

    assert len({uuid for (uuid,) in map(tuple, own)}) == len(DATABASES)


def test_a_database_without_an_identity_gets_one(watch: Watch) -> None:
    Origin.objects.using(watch.source).all().delete()
    depot = make(Depot, watch.source)

    watch.push(depot)

    uuid = Origin.objects.using(watch.source).get(is_own=True).uuid
    assert Origin.objects.using(watch.target).filter(uuid=uuid, is_own=False).exists()
    watch.push_nothing(depot)


# The record of a run


def test_a_run_is_recorded_with_its_origin_roots_counts_and_times(watch: Watch) -> None:
    depot = make(Depot, watch.source, boss=make(Worker, watch.source))
    make_many(Parcel, watch.source, 2, depot=depot)
    before = timezone.now()

    watch.push(depot)

    run = SyncRun.objects.using(watch.target).get()
    assert run.origin.uuid == Origin.objects.using(watch.source).get(is_own=True).uuid
    assert run.roots == [f"policies.Depot.{depot.pk}"]
    assert run.counts["created"] == {"policies.Depot": 1, "policies.Parcel": 2, "policies.Worker": 1}
    assert before <= run.started <= run.finished <= timezone.now() + dt.timedelta(seconds=1)
    assert not SyncRun.objects.using(watch.source).exists()


def test_each_run_that_writes_is_recorded_and_no_other(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="first")
    watch.push(depot)
    watch.push_nothing(depot)
    watch.on_source(Depot).update(name="second")
    watch.push(depot)
    watch.synchronize(depot, dry_run=True)

    runs = SyncRun.objects.using(watch.target).order_by("started")

    assert [run.counts["created"] for run in runs] == [{"policies.Depot": 1}, {}]
    assert [run.counts["updated"] for run in runs] == [{}, {"policies.Depot": 1}]


def test_mappings_and_record_are_undone_with_the_rows(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make(Parcel, watch.source, depot=depot, text="refused")
    refuse_text(watch.target, "policies_parcel", "text", "refused")

    watch.refuse(depot)

    assert not IdMapping.objects.using(watch.target).exists()
    assert not SyncRun.objects.using(watch.target).exists()


# A target without our tables


@pytest.fixture
def bare(watch: Watch) -> Watch:
    """Pushes to a target that has no gestore_sync tables."""
    tables = [model._meta.db_table for model in (Conflict, IdMapping, SyncRun, Origin)]
    execute(watch.target, *(f"DROP TABLE {table}" for table in tables))
    watch.ours = ()
    return watch


def test_mappings_are_kept_at_the_source_where_the_target_has_no_tables(bare: Watch) -> None:
    make(Parcel, bare.target)
    depot = make(Depot, bare.source, name="ours")
    make_many(Parcel, bare.source, 2, depot=depot)

    report = bare.push(depot)

    assert report.created == {"policies.Depot": 1, "policies.Parcel": 2}
    assert IdMapping.objects.using(bare.source).filter(model="policies.parcel").count() == 2
    assert SyncRun.objects.using(bare.source).get().roots == [f"policies.Depot.{depot.pk}"]
    (warning,) = report.warnings
    assert repr(bare.target) in warning
    assert f"migrate gestore_sync --database {bare.target}" in warning


def test_a_target_without_tables_is_kept_in_step(bare: Watch) -> None:
    depot = make(Depot, bare.source, name="ours")
    goes, _ = make_many(Parcel, bare.source, 2, depot=depot)
    bare.push(depot)
    bare.push_nothing(depot)
    goes.delete()
    bare.on_source(Depot).update(name="new")

    report = bare.push(depot, prune=True)

    assert (report.updated, report.deleted) == ({"policies.Depot": 1}, {"policies.Parcel": 1})
    bare.push_nothing(depot, prune=True)


def test_a_target_without_tables_can_have_conflicts(bare: Watch) -> None:
    depot = make(Depot, bare.source, name="first")
    bare.push(depot)
    bare.on_target(Depot).update(name="theirs")

    assert bare.push_nothing(depot).skipped == {"policies.Depot": 1}

    bare.on_source(Depot).update(name="ours")
    error = bare.refuse(depot, on_conflict="fail")
    assert error.report is not None
    assert [conflict["fields"] for conflict in error.report.conflicts] == [{"name": ["ours", "theirs"]}]


def test_mappings_at_the_source_are_undone_where_the_target_refuses(bare: Watch) -> None:
    depot = make(Depot, bare.source)
    make(Parcel, bare.source, depot=depot, text="refused")
    refuse_text(bare.target, "policies_parcel", "text", "refused")

    bare.refuse(depot)

    assert not IdMapping.objects.using(bare.source).exists()
    assert not SyncRun.objects.using(bare.source).exists()


def test_mappings_to_two_targets_without_tables_are_kept_apart(bare: Watch) -> None:
    third = Watch(Pair(bare.source, third_database(bare)))
    execute(third.target, *(f"DROP TABLE {m._meta.db_table}" for m in (Conflict, IdMapping, SyncRun, Origin)))
    third.ours = ()
    make(Depot, third.target, name="theirs")
    depot = make(Depot, bare.source, name="ours")

    for push in (bare, third):
        assert push.push(depot).created == {"policies.Depot": 1}

    for push in (bare, third):
        push.push_nothing(depot)


def test_a_source_without_tables_is_told_with_the_command_to_run(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    execute(watch.source, *(f"DROP TABLE {m._meta.db_table}" for m in (Conflict, IdMapping, SyncRun, Origin)))

    for options in ({}, {"dry_run": True}):
        with pytest.raises(GestoreSyncError) as caught:
            watch.synchronize(depot, **options)

        assert f"migrate gestore_sync --database {watch.source}" in str(caught.value)

"""Policies by model and field, the values that lose a conflict, and how a person takes one side."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gestore_sync import api
from gestore_sync.exceptions import NotRestored, UnresolvedConflicts, WrongSetting
from gestore_sync.lostvalues import load_lost
from gestore_sync.models import ChangeLog, Conflict, IdMapping, SyncRun
from gestore_sync.policies import get_policies
from tests.kinds.making import make, make_many
from tests.kinds.models import Values
from tests.logged.sites import undone
from tests.policies.disputing import arrived, change_source, change_target, push_parcel
from tests.policies.models import Area, Brand, Depot, Parcel, Remark, Truck, Van, Vehicle
from tests.policies.watching import CROSSED, Watch, execute, paired, pairings, watched

pair = paired(*CROSSED)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot with one parcel, that was pushed to a target where other numbers are taken."""
    return push_parcel(watch)


def policies(**rules: str) -> override_settings:
    """Set rules for the fields of a parcel."""
    return override_settings(
        GESTORE_SYNC={"CONFLICTS": {f"policies.Parcel.{name}": policy for name, policy in rules.items()}}
    )


def kept(using: str) -> list[Conflict]:
    """Return the rows about values that lost, in the order in which they came."""
    return list(Conflict.objects.using(using).order_by("pk"))


def told(using: str) -> list[tuple[dict[str, list[Any]], str]]:
    """Return what these rows say: both values by field, and how the run decided."""
    return [(conflict["fields"], conflict["resolved"]) for conflict in api.list_conflicts(database=using).conflicts]


def dispute(watch: Watch, depot: Depot, policy: str, **options: Any) -> Conflict:
    """Let both sides change the text, and push."""
    change_source(watch, text="ours")
    change_target(watch, text="theirs")
    watch.push(depot, on_conflict=policy, **options)
    (row,) = kept(watch.target)
    return row


# Policies by model and field


def test_a_field_goes_before_its_model_and_that_before_the_run(watch: Watch, depot: Depot) -> None:
    rules = {"policies.Parcel.text": "remote", "policies.Parcel": "local", "*": "fail"}
    change_source(watch, text="ours", weight=5)
    change_target(watch, text="theirs", weight=9)

    with override_settings(GESTORE_SYNC={"CONFLICTS": rules}):
        report = watch.push(depot, on_conflict="fail")

    assert arrived(watch) == ("theirs", 5)
    (conflict,) = report.conflicts
    assert (conflict["fields"], conflict["resolved"]) == ({"text": ["ours", "theirs"], "weight": [5, 9]}, "merged")


@pytest.mark.parametrize(("rules", "on_conflict"), [("remote", None), ({"*": "remote"}, None), ("local", "remote")])
def test_the_option_goes_before_the_rule_for_all_models(
    watch: Watch, depot: Depot, rules: Any, on_conflict: str | None
) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs")

    with override_settings(GESTORE_SYNC={"CONFLICTS": rules}):
        report = watch.push(depot, on_conflict=on_conflict)

    assert [conflict["resolved"] for conflict in report.conflicts] == ["remote"]
    assert arrived(watch) == ("theirs", 1)


def test_one_field_that_no_policy_decides_holds_up_the_object(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours", weight=5)
    change_target(watch, text="theirs", weight=9)

    with policies(text="fail", weight="local"):
        error = watch.refuse(depot)

    assert isinstance(error, UnresolvedConflicts)
    assert kept(watch.target) == []


def test_a_rule_for_one_field_leaves_merging_alone(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, weight=9)

    with policies(weight="remote"):
        report = watch.push(depot, on_conflict="local")

    assert [conflict["resolved"] for conflict in report.conflicts] == ["merged"]
    assert arrived(watch) == ("ours", 9)
    assert kept(watch.target) == []


def test_newer_asks_the_logs_for_its_fields_alone(live_watch: Watch) -> None:
    watch = live_watch
    with override_settings(SYNCHRO_MODELS=["policies"]):
        depot = make(Depot, watch.source)
        make(Parcel, watch.source, depot=depot, number="one", text="first", weight=1)
        watch.push(depot)
        for using, text, weight in ((watch.source, "ours", 5), (watch.target, "theirs", 9)):
            parcel = Parcel.objects.using(using).get(number="one")
            parcel.text, parcel.weight = text, weight
            parcel.save()
        ChangeLog.objects.using(watch.target).filter(origin=None).update(date=timezone.now() + timedelta(hours=1))

        with policies(text="newer", weight="local"):
            watch.push(depot, on_conflict="fail")

    assert arrived(watch) == ("theirs", 5)


@pytest.fixture(params=pairings("sqlite-postgresql", live=True))
def live_watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    with watched(request.param) as watch:
        yield watch


@pytest.mark.parametrize(("policy", "goes"), [("local", True), ("remote", False)])
def test_the_policy_of_the_model_decides_about_deleted_rows(
    watch: Watch, depot: Depot, policy: str, goes: bool
) -> None:
    change_target(watch, text="theirs")
    watch.on_source(Parcel).all().delete()

    with override_settings(GESTORE_SYNC={"CONFLICTS": {"policies.parcel": policy}}):
        report = watch.push(depot, on_conflict="fail", prune=True)

    assert [conflict["resolved"] for conflict in report.conflicts] == [policy]
    assert watch.on_target(Parcel).filter(number="one").exists() is not goes


def test_a_generic_key_is_decided_as_one() -> None:
    with override_settings(GESTORE_SYNC={"CONFLICTS": {"policies.Remark.subject": "remote"}}):
        found = get_policies("local").get_all(Remark, ["content_type", "object_id", "text"])

    assert found == ["remote", "remote", "local"]


@pytest.mark.parametrize(("policy", "stands"), [("local", "depot"), ("newer", "depot"), ("remote", "two")])
def test_a_generic_key_is_never_half_of_one_side_and_half_of_the_other(
    watch: Watch, depot: Depot, policy: str, stands: str
) -> None:
    one, two = (make(Parcel, watch.source, depot=depot, number=f"remarked {number}") for number in (1, 2))
    kinds = {using: ContentType.objects.db_manager(using) for using in (watch.source, watch.target)}
    remark = make(
        Remark, watch.source, content_type=kinds[watch.source].get_for_model(Parcel), object_id=one.pk, text="fragile"
    )
    watch.push(depot)
    watch.on_source(Remark).filter(pk=remark.pk).update(
        content_type=kinds[watch.source].get_for_model(Depot), object_id=depot.pk
    )
    watch.on_target(Remark).update(object_id=watch.on_target(Parcel).get(number=two.number).pk)
    there = watch.on_target(Depot).get(name=depot.name), watch.on_target(Parcel).get(number=two.number)

    with pytest.raises(UnresolvedConflicts, match="Remark"):
        watch.synchronize(remark, on_conflict="fail")
    watch.push(remark, on_conflict=policy)

    assert watch.on_target(Remark).get().subject == there[stands == "two"]


def test_a_field_is_named_with_the_model_that_has_it_in_its_table() -> None:
    with (
        override_settings(GESTORE_SYNC={"CONFLICTS": {"policies.Truck.name": "remote"}}),
        pytest.raises(WrongSetting, match=r"is a field of policies\.Vehicle"),
    ):
        get_policies()
    with override_settings(GESTORE_SYNC={"CONFLICTS": {"policies.Vehicle.name": "remote"}}):
        assert get_policies("fail").get_all(Vehicle, ["name"]) == ["remote"]
        assert get_policies("fail").get_all(Truck, ["load"]) == ["fail"]


@pytest.mark.parametrize(
    ("rules", "stands"),
    [
        ({"policies.Truck": "remote"}, "theirs"),
        ({"policies.Truck": "remote", "policies.Vehicle": "local"}, "theirs"),
        ({"policies.Truck": "remote", "policies.Vehicle.name": "local"}, "ours"),
        ({"policies.Van": "remote"}, "ours"),
    ],
    ids=str,
)
def test_the_rule_of_a_child_decides_for_what_it_inherits(
    watch: Watch, depot: Depot, rules: dict[str, str], stands: str
) -> None:
    make(Vehicle, watch.target)
    for model in (Truck, Van):
        make(model, watch.source, depot=depot, name="first")
    watch.push(depot)
    watch.on_source(Vehicle).update(name="ours")
    watch.on_target(Vehicle).update(name="theirs")

    with override_settings(GESTORE_SYNC={"CONFLICTS": rules}):
        watch.push(depot, on_conflict="local")

    assert watch.on_target(Truck).get().name == stands
    assert watch.on_target(Van).get().name == ("theirs" if "policies.Van" in rules else "ours")


@pytest.mark.parametrize(("rule", "stays"), [("remote", True), ("local", False)])
def test_the_rule_of_a_child_decides_whether_its_row_of_the_parent_goes(
    watch: Watch, depot: Depot, rule: str, stays: bool
) -> None:
    make(Truck, watch.source, depot=depot, name="first")
    watch.push(depot)
    watch.on_source(Truck).get().delete()
    there = watch.on_target(Truck).get()
    watch.on_target(Truck).filter(pk=there.pk).update(load=9)
    watch.on_target(Vehicle).filter(pk=there.pk).update(name="theirs")

    with override_settings(GESTORE_SYNC={"CONFLICTS": {"policies.Truck": rule}}):
        watch.push(depot, prune=True, on_conflict="remote" if rule == "local" else "local")

    assert watch.on_target(Vehicle).filter(pk=there.pk).exists() is stays
    assert watch.on_target(Truck).exists() is stays


def test_a_rule_for_what_does_not_exist_ends_a_run(watch: Watch, depot: Depot) -> None:
    with policies(txet="remote"):
        error = watch.refuse(depot)

    assert "'policies.Parcel.txet'" in str(error)


# What is kept


@pytest.mark.parametrize(("policy", "stands"), [("local", "ours"), ("newer", "ours"), ("remote", "theirs")])
def test_the_value_that_loses_is_kept_with_the_one_that_wins(
    watch: Watch, depot: Depot, policy: str, stands: str
) -> None:
    row = dispute(watch, depot, policy)

    assert told(watch.target) == [({"text": ["ours", "theirs"]}, "remote" if stands == "theirs" else "local")]
    assert row.model == "policies.Parcel"
    assert row.source_pk == str(watch.on_source(Parcel).get(number="one").pk)
    assert row.target_pk == str(watch.on_target(Parcel).get(number="one").pk)
    assert row.run == SyncRun.objects.using(watch.target).latest("pk").uuid
    assert not Conflict.objects.using(watch.source).exists()


def test_a_conflict_that_stands_is_kept_once(watch: Watch, depot: Depot) -> None:
    dispute(watch, depot, "remote")

    report = watch.push_nothing(depot, on_conflict="remote")

    assert [conflict["resolved"] for conflict in report.conflicts] == ["remote"]
    assert len(kept(watch.target)) == 1


def test_of_a_conflict_that_grows_only_what_is_new_is_kept(watch: Watch, depot: Depot) -> None:
    dispute(watch, depot, "remote")
    change_source(watch, weight=5)
    change_target(watch, weight=9)

    watch.push(depot, on_conflict="remote")

    assert [fields for fields, _ in told(watch.target)] == [{"text": ["ours", "theirs"]}, {"weight": [5, 9]}]


def test_what_local_brings_back_is_kept(watch: Watch, depot: Depot) -> None:
    change_target(watch, text="theirs")

    report = watch.push(depot, on_conflict="local")

    assert report.conflicts == []
    assert told(watch.target) == [({"text": ["first", "theirs"]}, "local")]


def test_nothing_is_kept_where_nothing_loses(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, weight=9)
    watch.push(depot)
    watch.push_nothing(depot)

    assert kept(watch.target) == []


def test_a_dry_run_keeps_nothing(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours")
    change_target(watch, text="theirs")

    watch.synchronize(depot, dry_run=True)

    assert kept(watch.target) == []


def test_links_are_kept_as_keys_of_the_target(watch: Watch, depot: Depot) -> None:
    make(Brand, watch.target, name="other")
    mine, theirs = make(Brand, watch.source, name="mine"), make(Brand, watch.target, name="theirs")
    change_source(watch, brand=mine)
    change_target(watch, brand=theirs)

    watch.push(depot)

    came = watch.on_target(Brand).get(name="mine")
    assert told(watch.target) == [({"brand": [came.pk, theirs.pk]}, "local")]


# Resolving


def resolve(watch: Watch, row: Conflict, side: str) -> None:
    api.resolve_conflicts([row.pk], side, database=watch.target)


@pytest.mark.parametrize("policy", ["local", "remote"])
@pytest.mark.parametrize("side", ["local", "remote"])
def test_the_row_gets_the_value_of_the_side_that_is_taken_and_keeps_it(
    watch: Watch, depot: Depot, policy: str, side: str
) -> None:
    row = dispute(watch, depot, policy)

    resolve(watch, row, side)

    assert arrived(watch) == ("ours" if side == "local" else "theirs", 1)
    row.refresh_from_db()
    assert row.taken == side
    assert row.taken_date is not None
    assert watch.push_nothing(depot, on_conflict="fail").conflicts == []
    assert arrived(watch) == ("ours" if side == "local" else "theirs", 1)


@pytest.mark.parametrize("side", ["local", "remote"])
def test_what_the_source_changes_after_a_restoration_arrives_or_is_a_conflict(
    watch: Watch, depot: Depot, side: str
) -> None:
    resolve(watch, dispute(watch, depot, "remote"), side)
    change_source(watch, text="later")

    if side == "remote":
        assert isinstance(watch.refuse(depot, on_conflict="fail"), UnresolvedConflicts)
    else:
        assert watch.push(depot, on_conflict="fail").conflicts == []
        assert arrived(watch) == ("later", 1)


def test_a_source_that_took_the_value_over_since_does_not_undo_a_restoration(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "remote")
    change_source(watch, text="theirs")
    watch.push(depot)

    resolve(watch, row, "local")

    watch.push_nothing(depot)
    assert arrived(watch) == ("ours", 1)


def test_an_older_conflict_does_not_speak_for_a_later_one(watch: Watch, depot: Depot) -> None:
    first = dispute(watch, depot, "remote")
    change_source(watch, text="second")
    watch.push(depot, on_conflict="remote")

    resolve(watch, first, "remote")

    assert isinstance(watch.refuse(depot, on_conflict="fail"), UnresolvedConflicts)


def test_a_row_that_has_changed_since_is_refused_and_named(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "local")
    change_target(watch, text="later")

    with pytest.raises(NotRestored) as caught:
        resolve(watch, row, "remote")

    assert f"policies.Parcel.{row.target_pk}" in str(caught.value)
    assert "'later'" in str(caught.value)
    row.refresh_from_db()
    assert row.taken == ""


def test_what_stands_can_be_taken_whatever_has_changed_since(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "local")
    watch.on_target(Parcel).filter(number="one").delete()

    resolve(watch, row, "local")

    assert api.list_conflicts(database=watch.target).conflicts == []


def test_a_conflict_that_both_sides_won_can_be_closed_whatever_has_changed_since(watch: Watch, depot: Depot) -> None:
    change_source(watch, text="ours", weight=5)
    change_target(watch, text="theirs", weight=9)
    with policies(text="local", weight="remote"):
        watch.push(depot)
    (row,) = kept(watch.target)
    change_target(watch, text="later", weight=7)

    for side, name in (("local", "weight"), ("remote", "text")):
        with pytest.raises(NotRestored, match=f"in {name!r} by now.* take merged"):
            resolve(watch, row, side)
    resolve(watch, row, "merged")

    assert arrived(watch) == ("later", 7)
    assert api.list_conflicts(database=watch.target).conflicts == []
    row.refresh_from_db()
    assert row.taken == "merged"


def test_only_a_conflict_that_both_sides_won_is_left_as_merged(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "remote")

    with pytest.raises(NotRestored, match="take remote to leave it so"):
        resolve(watch, row, "merged")


def test_a_row_that_is_gone_is_refused(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "local")
    watch.on_target(Parcel).filter(number="one").delete()

    with pytest.raises(NotRestored, match="does not exist any more"):
        resolve(watch, row, "remote")


def test_a_link_to_what_is_gone_is_refused(watch: Watch, depot: Depot) -> None:
    mine, theirs = make(Brand, watch.source, name="mine"), make(Brand, watch.target, name="theirs")
    change_source(watch, brand=mine)
    change_target(watch, brand=theirs)
    watch.push(depot)
    theirs.delete()
    (row,) = kept(watch.target)

    with pytest.raises(NotRestored, match=r"'brand' to policies\.Brand .* gone"):
        resolve(watch, row, "remote")


def test_a_generic_key_is_restored_whole_or_not_at_all(watch: Watch, depot: Depot) -> None:
    parcels = {"one": watch.on_source(Parcel).get(number="one")}
    parcels |= {number: make(Parcel, watch.source, depot=depot, number=number) for number in ("two", "three")}
    remark = make(Remark, watch.source, content_type=get_type(watch.source), object_id=parcels["one"].pk)
    watch.push(depot)
    theirs = dict(watch.on_target(Parcel).filter(depot__name="ours").values_list("number", "pk"))
    watch.on_source(Remark).update(object_id=parcels["two"].pk)
    watch.on_target(Remark).update(object_id=theirs["three"])
    watch.push(depot, on_conflict="local")
    (row,) = kept(watch.target)
    make_many(Depot, watch.target, 5)
    watch.on_target(Remark).update(content_type=get_type(watch.target, Depot))
    before = watch.picture()

    with pytest.raises(NotRestored, match=f"policies.Remark.{watch.on_target(Remark).get().pk}"):
        resolve(watch, row, "remote")

    assert watch.picture() == before
    watch.on_target(Remark).update(content_type=get_type(watch.target))
    resolve(watch, row, "remote")
    assert watch.on_target(Remark).get().object_id == theirs["three"]
    assert remark.text == watch.on_target(Remark).get().text


def get_type(using: str, model: Any = Parcel) -> ContentType:
    """Return the content type of a model."""
    return ContentType.objects.db_manager(using).get_for_model(model)


def test_a_restored_row_does_not_stand_below_itself(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    a, b, c = (make(Area, watch.source, depot=depot, name=name) for name in "abc")
    watch.push(depot)
    there = dict(watch.on_target(Area).values_list("name", "pk"))
    watch.on_source(Area).filter(name="a").update(parent=c)
    watch.on_target(Area).filter(name="a").update(parent=there["b"])
    watch.push(depot, on_conflict="local")
    watch.on_source(Area).filter(name="b").update(parent=a)
    watch.push(depot)
    (row,) = kept(watch.target)

    with pytest.raises(NotRestored, match="below itself"):
        resolve(watch, row, "remote")

    above = dict(watch.on_target(Area).values_list("name", "parent__name"))
    assert above == {"a": "c", "b": "a", "c": None}
    assert b.pk


def test_all_are_resolved_or_none(watch: Watch, depot: Depot) -> None:
    make(Parcel, watch.source, depot=depot, number="two", text="first")
    watch.push(depot)
    watch.on_source(Parcel).update(text="ours")
    watch.on_target(Parcel).filter(depot__name="ours").update(text="theirs")
    watch.push(depot)
    rows = kept(watch.target)
    watch.on_target(Parcel).filter(pk=rows[1].target_pk).update(text="later")

    with pytest.raises(NotRestored):
        api.resolve_conflicts([row.pk for row in rows], "remote", database=watch.target)

    assert watch.on_target(Parcel).get(pk=rows[0].target_pk).text == "ours"
    assert [row.taken for row in kept(watch.target)] == ["", ""]


def test_a_conflict_is_resolved_once(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "local")
    resolve(watch, row, "local")

    with pytest.raises(NotRestored, match="resolved already"):
        resolve(watch, row, "remote")


def test_a_restored_value_is_news_of_the_target(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "local")
    with override_settings(SYNCHRO_MODELS=["policies"]):
        resolve(watch, row, "remote")

    entries = ChangeLog.objects.using(watch.target).filter(origin=None, object_id=row.target_pk)
    assert [entry.action for entry in entries] == [2]


@contextmanager
def without_our_tables(using: str) -> Iterator[None]:
    """Let a database have none of our tables in the block."""
    tables = [model._meta.db_table for model in (Conflict, IdMapping)]
    execute(using, *(f"ALTER TABLE {table} RENAME TO {table}_away" for table in tables))
    try:
        yield
    finally:
        execute(using, *(f"ALTER TABLE {table}_away RENAME TO {table}" for table in tables))


@pytest.mark.parametrize("side", ["local", "remote"])
def test_conflicts_are_kept_at_the_source_where_the_target_has_no_tables_of_ours(watch: Watch, side: str) -> None:
    for model in (Conflict, IdMapping, SyncRun):
        model.objects.using(watch.target).all().delete()
    with without_our_tables(watch.target):
        depot = make(Depot, watch.source, name="ours")
        make(Parcel, watch.source, depot=depot, number="one", text="first", weight=1)
        watch.synchronize(depot)
        change_source(watch, text="ours")
        change_target(watch, text="theirs")
        watch.synchronize(depot, on_conflict="remote")
        (row,) = kept(watch.source)

        api.resolve_conflicts([row.pk], side, database=watch.source)

        assert arrived(watch)[0] == ("ours" if side == "local" else "theirs")
        assert watch.synchronize(depot, on_conflict="fail").conflicts == []


# Values are exact


EXACT: dict[str, tuple[Any, Any]] = {
    "boolean": (True, False),
    "big": (2**63 - 1, -(2**63)),
    "decimal": (Decimal("1.1000000000"), Decimal("-1234.0000000001")),
    "real": (0.1, 1e300),
    "text": ('<b>"quoted"</b>\n', "théirs \\ \u2603"),
    "date": (date(2024, 2, 29), date(1, 1, 1)),
    "moment": (datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=UTC), datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    "duration": (timedelta(days=-1, microseconds=1), timedelta(days=400)),
    "binary": (b"\x00\xff", b"theirs"),
    "uuid": (UUID(int=1), UUID(int=2**128 - 1)),
    "json": ({"a": [1, 1.5, None, True]}, [{"$text": "é\u2028"}]),
}


@pytest.mark.parametrize("side", ["local", "remote"])
def test_restored_values_are_what_they_were(watch: Watch, side: str) -> None:
    source = make(Values, watch.source, mark="first")
    watch.synchronize(source)
    for at, rows in enumerate((watch.on_source(Values), watch.on_target(Values))):
        rows.filter(mark="first").update(**{name: sides[at] for name, sides in EXACT.items()})
    watch.synchronize(source, on_conflict="remote" if side == "local" else "local")
    (row,) = kept(watch.target)

    resolve(watch, row, side)

    came = watch.on_target(Values).get(mark="first")
    found = {name: getattr(came, name) for name in EXACT} | {"binary": bytes(came.binary)}
    assert found == {name: sides[side == "remote"] for name, sides in EXACT.items()}
    assert watch.synchronize(source, on_conflict="fail").message == "No changes since last synchronization."


# The command


def call(*arguments: str) -> tuple[str, str]:
    """Return what the command prints on standard output, and its error."""
    output = io.StringIO()
    try:
        call_command("resolveconflicts", *arguments, stdout=output, stderr=io.StringIO())
    except CommandError as error:
        return output.getvalue(), str(error)
    return output.getvalue(), ""


def test_the_command_lists_what_is_open_and_takes_a_side(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "local")
    using = ("--database", watch.target, "--noinput", "--no-progress")

    listed, _ = call(*using)
    done, _ = call(str(row.pk), "--take", "remote", *using)
    left, _ = call(*using)
    every, _ = call("--all", *using)

    assert f"{row.pk}: policies.Parcel.{row.target_pk} (local)" in listed
    assert '    text: "ours" | "theirs"' in listed
    assert listed.endswith("1 conflict is open.\n")
    assert done.endswith("1 conflict is resolved.\n")
    assert left == f"The database {watch.target!r} has no open conflicts.\n"
    assert f"{row.pk}: policies.Parcel.{row.target_pk} (remote)" in every
    assert arrived(watch) == ("theirs", 1)


def test_json_is_one_object(watch: Watch, depot: Depot) -> None:
    row = dispute(watch, depot, "local")

    output, _ = call("--format", "json", "--database", watch.target)

    document = json.loads(output)
    assert document["message"] == "1 conflict is open."
    [conflict] = document["conflicts"]
    assert (conflict["id"], conflict["fields"], conflict["taken"]) == (row.pk, {"text": ["ours", "theirs"]}, None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["7"], "has no conflict 7"),
        (["7", "--take", "local"], "has no conflict 7"),
        (["--take", "local"], "Name the conflicts"),
        (["--database", "nowhere"], "no database 'nowhere'"),
    ],
)
@pytest.mark.django_db
def test_a_mistake_is_told_without_a_traceback(arguments: list[str], told: str) -> None:
    output, error = call(*arguments, "--format", "json")

    assert told in error
    assert told in json.loads(output)["error"]


@pytest.mark.parametrize("arguments", [[], ["--all"], ["1"], ["1", "--take", "local"]], ids=str)
@pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)
def test_of_a_database_that_keeps_no_conflicts_it_is_told_where_they_are(watch: Watch, arguments: list[str]) -> None:
    with without_our_tables(watch.target):
        _, error = call(*arguments, "--database", watch.target)

    assert f"The database {watch.target!r} keeps no conflicts" in error
    assert "kept at the source: name that one with --database" in error
    assert f"migrate gestore_sync --database {watch.target}" in error
    assert "--ignore" not in error


def test_there_are_two_sides(watch: Watch, depot: Depot) -> None:
    with pytest.raises(WrongSetting, match="'newer'"):
        resolve(watch, dispute(watch, depot, "local"), "newer")


# Whatever both sides change, and whatever decides


FIELDS = ("text", "weight")  # the number stays: a row of which all has changed is another object
VALUES = {"text": ["a", "b", "c"], "weight": [1, 2, 3]}
edits = st.fixed_dictionaries({}, optional={name: st.sampled_from(VALUES[name]) for name in FIELDS})
rules = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, st.sampled_from(["newer", "local", "remote"])))
steps = st.lists(st.tuples(edits, edits, rules, st.sampled_from(["newer", "local", "remote"])), min_size=1, max_size=4)


@given(steps=steps)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_field_ends_as_its_policy_says_and_every_value_that_loses_is_kept_once(watch: Watch, steps: Any) -> None:
    with ExitStack() as stack:
        for using in (watch.source, watch.target):
            stack.enter_context(undone(using))
        depot = make(Depot, watch.source, name="ours")
        mine = make(Parcel, watch.source, depot=depot, number="one", text="a", weight=1)
        watch.push(depot)
        theirs = watch.on_target(Parcel).get(depot__name="ours")
        base = {name: getattr(mine, name) for name in FIELDS}
        here, there = dict(base), dict(base)
        expected: set[tuple[str, Any, Any, str]] = set()
        for changed_here, changed_there, rule, otherwise in steps:
            here, there = here | changed_here, there | changed_there
            watch.on_source(Parcel).filter(pk=mine.pk).update(**here)
            watch.on_target(Parcel).filter(pk=theirs.pk).update(**there)
            for name in FIELDS:
                policy = rule.get(name, otherwise)
                is_mine, is_theirs = here[name] != base[name], there[name] != base[name]
                if here[name] == there[name]:
                    base[name] = here[name]
                    continue
                wins = (is_mine and not is_theirs) or (policy != "remote" and is_mine) or policy == "local"
                if is_theirs and (is_mine or wins):
                    expected.add((name, here[name], there[name], "local" if wins else "remote"))
                if wins:
                    base[name] = there[name] = here[name]
            with policies(**rule):
                watch.push(depot, on_conflict=otherwise)
                watch.push_nothing(depot, on_conflict=otherwise)

            found = watch.on_target(Parcel).values(*FIELDS).get(pk=theirs.pk)
            assert found == there
        lines = [
            (name, lost.local, lost.remote, lost.resolved)
            for row in kept(watch.target)
            for name, lost in load_lost(row.fields).items()
        ]
        assert len(lines) == len(set(lines))
        assert set(lines) == expected

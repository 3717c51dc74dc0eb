"""``synchronize --verify``: what was sent is compared with the source, after the push has been committed."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.models import Model

from gestore_sync.exceptions import NotVerified, WrongSetting
from testproject.campus.models import Course, Organization
from tests.conftest import Pair
from tests.kinds.making import make
from tests.logged.sites import add
from tests.policies.models import Article, Depot, Parcel
from tests.policies.watching import Watch, execute, pairings, refuse_text

ONE = pairings("postgresql-sqlite")
BOTH = pairings("sqlite-postgresql", "postgresql-sqlite")
TARGETS = pairings("sqlite-sqlite", "postgresql-postgresql")


@pytest.fixture
def watch(pair: Pair) -> Watch:
    return Watch(pair)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot with an article and two parcels; the target has another one."""
    make(Depot, watch.target, name="in the way")
    depot = make(Depot, watch.source, name="ours")
    make(Article, watch.source, depot=depot, code="a")
    make(Parcel, watch.source, depot=depot, text="x")
    make(Parcel, watch.source, depot=depot, text="y")
    return depot


def names(items: list[dict[str, Any]]) -> list[str]:
    return sorted(f"{item['model']}.{item['pk']}" for item in items)


def spoil(using: str, table: str, event: str, action: str) -> None:
    """Let the database itself do something else than it is told when a row of a table is written: it does ``action``
    after that, or skips changes."""
    if connections[using].vendor == "postgresql":
        when = "BEFORE" if event == "UPDATE" else "AFTER"
        execute(
            using,
            f"CREATE FUNCTION spoil() RETURNS trigger AS $$ BEGIN {action}; RETURN NULL; END $$ LANGUAGE plpgsql",
            f"CREATE TRIGGER spoil {when} {event} ON {table} FOR EACH ROW EXECUTE FUNCTION spoil()",
        )
    elif event == "UPDATE":
        execute(using, f"CREATE TRIGGER spoil BEFORE UPDATE ON {table} BEGIN SELECT RAISE(IGNORE); END")
    else:
        execute(using, f"CREATE TRIGGER spoil AFTER {event} ON {table} BEGIN {action}; END")


def make_insert_again(model: type[Model]) -> str:
    """The statement with which a trigger brings a row back that was deleted."""
    columns = [str(field.column) for field in model._meta.concrete_fields]
    old = ", ".join(f"OLD.{column}" for column in columns)
    return f"INSERT INTO {model._meta.db_table} ({', '.join(columns)}) VALUES ({old})"


def test_a_push_that_brought_everything_is_verified(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, verify=True)

    assert report.verification == {"missing": [], "extra": [], "different": [], "kept": []}
    assert report.failures == []
    assert report.message == "Synchronization performed successfully."


@pytest.mark.parametrize("pair", BOTH, indirect=True)
def test_a_push_with_nothing_to_do_is_verified_too(watch: Watch, depot: Depot) -> None:
    watch.push(depot)

    report = watch.push_nothing(depot, verify=True)

    assert report.verification is not None


@pytest.mark.parametrize("pair", TARGETS, indirect=True)
def test_a_row_that_the_target_did_not_keep_is_a_failure(watch: Watch, depot: Depot) -> None:
    spoil(watch.target, "policies_parcel", "INSERT", "DELETE FROM policies_parcel WHERE text = 'y'")
    lost = watch.on_source(Parcel).get(text="y")

    report = watch.synchronize(depot, verify=True)

    [failure] = report.failures
    assert (failure["model"], failure["pk"]) == ("policies.Parcel", str(lost.pk))
    assert failure["reason"] == f"policies.Parcel.{lost.pk} is not on {watch.target!r}."
    assert report.verification is not None
    assert names(report.verification["missing"]) == [f"policies.Parcel.{lost.pk}"]
    assert report.message == "The push is done, but 1 object is not on the target as it should be."


@pytest.mark.parametrize("pair", TARGETS, indirect=True)
def test_a_value_that_the_target_changed_on_its_way_is_a_failure(watch: Watch, depot: Depot) -> None:
    spoil(watch.target, "policies_parcel", "INSERT", "UPDATE policies_parcel SET text = 'Y' WHERE text = 'y'")
    changed = watch.on_source(Parcel).get(text="y")

    report = watch.synchronize(depot, verify=True)

    [failure] = report.failures
    assert failure["pk"] == str(changed.pk)
    assert "other values: text" in failure["reason"]
    assert report.verification is not None
    assert report.verification["different"][0]["fields"] == {"text": ["y", "Y"]}


@pytest.mark.parametrize("pair", BOTH, indirect=True)
def test_rows_that_only_the_target_has_are_told_and_are_no_failure(watch: Watch, depot: Depot) -> None:
    watch.push(depot)
    theirs = make(Parcel, watch.target, depot=watch.on_target(Depot).get(name="ours"), text="theirs")

    report = watch.push(depot, verify=True)

    assert report.failures == []
    assert report.verification is not None
    assert names(report.verification["extra"]) == [f"policies.Parcel.{theirs.pk}"]


@pytest.mark.parametrize("pair", BOTH, indirect=True)
@pytest.mark.parametrize("policy", ["newer", "remote"])
def test_values_that_the_policy_kept_are_told_and_are_no_failure(watch: Watch, depot: Depot, policy: str) -> None:
    watch.push(depot)
    watch.on_target(Parcel).filter(text="x").update(weight=7)
    parcel = watch.on_source(Parcel).get(text="x")
    if policy == "remote":
        watch.on_source(Parcel).filter(text="x").update(weight=8)

    report = watch.push(depot, verify=True, on_conflict=policy)

    assert report.failures == []
    assert report.verification is not None
    assert report.verification["different"] == []
    [kept] = report.verification["kept"]
    assert (kept["pk"], list(kept["fields"])) == (str(parcel.pk), ["weight"])


@pytest.mark.parametrize("pair", TARGETS, indirect=True)
def test_a_row_that_pruning_did_not_get_rid_of_is_a_failure(watch: Watch, depot: Depot) -> None:
    watch.push(depot)
    kept = watch.on_target(Parcel).get(text="y")
    watch.on_source(Parcel).filter(text="y").delete()
    spoil(watch.target, "policies_parcel", "DELETE", make_insert_again(Parcel))

    report = watch.synchronize(depot, verify=True, prune=True)

    assert [failure["reason"] for failure in report.failures] == [
        f"policies.Parcel.{kept.pk} is still on {watch.target!r}, though the source has deleted it."
    ]


@pytest.mark.parametrize("pair", BOTH, indirect=True)
def test_without_pruning_a_row_that_the_source_deleted_may_stay(watch: Watch, depot: Depot) -> None:
    watch.push(depot)
    watch.on_source(Parcel).filter(text="y").delete()

    report = watch.push_nothing(depot, verify=True)

    assert report.failures == []
    assert report.verification is not None
    assert len(report.verification["extra"]) == 1


# The change log


@pytest.fixture
def logged(watch: Watch, settings: Any) -> Depot:
    """A depot with two parcels that were sent, and one beside them whose changes are logged from now on."""
    settings.SYNCHRO_MODELS = ["policies"]
    depot = add(Depot, watch.source, name="ours")
    add(Parcel, watch.source, depot=depot, text="x")
    add(Parcel, watch.source, depot=depot, text="y")
    watch.synchronize()
    return depot


@pytest.mark.parametrize("pair", BOTH, indirect=True)
def test_what_the_log_sent_is_verified(watch: Watch, logged: Depot) -> None:
    parcel = watch.on_source(Parcel).get(text="x")
    parcel.text = "changed"
    parcel.save(using=watch.source)
    watch.on_source(Parcel).get(text="y").delete(using=watch.source)
    add(Parcel, watch.source, depot=logged, text="new")

    report = watch.synchronize(verify=True)

    assert report.message == "Synchronization performed successfully."
    assert (+report.created, +report.updated, +report.deleted) == ({"policies.Parcel": 1},) * 3
    assert report.verification == {"missing": [], "extra": [], "different": [], "kept": []}


@pytest.mark.parametrize("pair", TARGETS, indirect=True)
def test_a_new_object_of_the_log_that_the_target_did_not_keep_is_a_failure(watch: Watch, logged: Depot) -> None:
    spoil(watch.target, "policies_parcel", "INSERT", "DELETE FROM policies_parcel WHERE text = 'new'")
    new = add(Parcel, watch.source, depot=logged, text="new")

    report = watch.synchronize(verify=True)

    assert names(report.failures) == [f"policies.Parcel.{new.pk}"]


@pytest.mark.parametrize("pair", TARGETS, indirect=True)
def test_a_deletion_of_the_log_that_the_target_did_not_do_is_a_failure(watch: Watch, logged: Depot) -> None:
    kept = watch.on_target(Parcel).get(text="y")
    watch.on_source(Parcel).get(text="y").delete(using=watch.source)
    spoil(watch.target, "policies_parcel", "DELETE", make_insert_again(Parcel))

    report = watch.synchronize(verify=True)

    assert [failure["reason"] for failure in report.failures] == [
        f"policies.Parcel.{kept.pk} is still on {watch.target!r}, though the source has deleted it."
    ]


@pytest.mark.parametrize("pair", BOTH, indirect=True)
def test_an_object_that_the_log_could_not_send_is_told_once(watch: Watch, logged: Depot) -> None:
    refuse_text(watch.target, "policies_parcel", "text", "refused")
    refused = add(Parcel, watch.source, depot=logged, text="refused")
    add(Parcel, watch.source, depot=logged, text="new")

    report = watch.synchronize(verify=True)

    assert names(report.failures) == [f"policies.Parcel.{refused.pk}"]
    assert "stays pending" in report.message
    assert watch.on_target(Parcel).filter(text="new").exists()


# What it cannot do


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_dry_run_has_nothing_to_verify(watch: Watch, depot: Depot) -> None:
    error = watch.refuse(depot, verify=True, dry_run=True)

    assert isinstance(error, WrongSetting)
    assert "--verify" in str(error)


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_where_it_cannot_be_told_the_error_says_that_the_push_is_done(watch: Watch) -> None:
    organization = make(Organization, watch.source, code="ours", logo="")
    make(Course, watch.source, organization=organization, code="c", price=0, published=False, starts=date(2025, 1, 1))
    spoil(watch.target, "campus_course", "INSERT", "UPDATE campus_course SET starts = '2025-13-45'")

    with pytest.raises(NotVerified) as caught:
        watch.synchronize(organization, verify=True)

    assert str(caught.value).startswith("Synchronization performed successfully. But it could not be verified")
    assert "campus.Course" in str(caught.value)
    assert caught.value.report is not None
    assert caught.value.report.created["campus.Course"] == 1
    assert watch.on_target(Organization).filter(code="ours", logo="").exists()


# The command


def run(watch: Watch, *arguments: str) -> int:
    """The exit code."""
    try:
        call_command("synchronize", *arguments, "--source", watch.source, "--remote", watch.target)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_command_says_that_it_has_looked(watch: Watch, depot: Depot, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(watch, "--root", f"policies.Depot.{depot.pk}", "--verify")

    assert code == 0
    assert capsys.readouterr().out.endswith(
        "Verified: the target has everything.\nSynchronization performed successfully.\n"
    )


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_command_ends_with_1_where_something_is_not_as_it_should_be(
    watch: Watch, depot: Depot, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(watch.target, "policies_parcel", "INSERT", "DELETE FROM policies_parcel WHERE text = 'y'")
    lost = watch.on_source(Parcel).get(text="y")

    code = run(watch, "--root", f"policies.Depot.{depot.pk}", "--verify", "--format", "json")

    document = json.loads(capsys.readouterr().out)
    assert code == 1
    assert names(document["missing"]) == names(document["failures"]) == [f"policies.Parcel.{lost.pk}"]
    assert document["created"]["policies.Parcel"] == 2
    assert (document["extra"], document["different"], document["kept"]) == ([], [], [])

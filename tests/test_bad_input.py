from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models
from django.db.models.signals import post_save, pre_save
from django.test import override_settings

from gestore_sync import api
from gestore_sync.exceptions import (
    DatabaseUnavailable,
    GestoreSyncError,
    SchemaMismatch,
    UnknownLink,
    UnknownObject,
    UnresolvedConflicts,
    WriteFailed,
    WrongDatabase,
    WrongSetting,
)
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make, make_many
from tests.kinds.models import Asset, Currency, Page, Shop, Slot, Values
from tests.pgkinds.models import Crate
from tests.policies.models import Article, Depot, Parcel, Scan, Shift, Worker
from tests.policies.watching import CROSSED, Watch, execute, paired, pairings, refuse_text, watched

ONE = pairings("sqlite-postgresql")
LIVE_TO_POSTGRESQL = pairings("sqlite-postgresql", "postgresql-postgresql", live=True)

pair = paired(*CROSSED)


def push(root: Any, pair: Pair, **options: Any) -> api.Report:
    return api.synchronize([root], **{"source": pair.source, "remote": pair.target, **options})


# Objects


def test_arguments_may_be_none_generators_and_paths(pair: Pair, tmp_path: Path) -> None:
    depot = make(Depot, pair.source, name="ours")
    make(Depot, pair.source, name="not asked for")

    api.synchronize((root for root in [depot]), source=pair.source, remote=pair.target, own=None, ignore=None)
    with pytest.raises(UnknownObject, match="Name the objects"):
        api.synchronize((root for root in ()), source=pair.source, remote=pair.target, changes=True)
    api.export_objects([depot], tmp_path / "depot.json", database=pair.source)
    report = api.delete_objects([depot], database=pair.source, backup=tmp_path / "backup.tar.gz")
    api.import_objects(tmp_path / "backup.tar.gz", database=pair.source)

    assert report.deleted == {"policies.Depot": 1}
    assert list(Depot.objects.using(pair.target).values_list("name", flat=True)) == ["ours"]
    assert Depot.objects.using(pair.source).filter(name="ours").exists()


def test_an_instance_that_was_read_from_another_database_is_refused(pair: Pair, tmp_path: Path) -> None:
    make(Depot, pair.source, pk=1, name="of somebody else")
    theirs = make(Depot, pair.target, pk=1, name="theirs")
    doors: list[Callable[[], Any]] = [
        lambda: push(theirs, pair),
        lambda: push(theirs, pair, changes=True),
        lambda: api.diff_objects(theirs, source=pair.source, remote=pair.target),
        lambda: api.delete_objects(theirs, database=pair.source),
        lambda: api.export_objects(theirs, str(tmp_path / "a.json"), database=pair.source),
    ]

    for door in doors:
        with pytest.raises(WrongDatabase, match=f"policies.Depot.1 was read from the database '{pair.target}'"):
            door()

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "root",
    [
        "nowhere.Depot.1",
        "policies.Nothing.1",
        "policies.Depot",
        "policies.Depot.",
        "policies",
        "",
        "Depot.1",
        ".Depot.1",
        "policies..1",
        "policies.Depot.999999",
        "policies.Depot.one",
        "policies.Depot.1.5",
        "policies.Depot. ",
        "policies.Depot.99999999999999999999999999",
        "policies.Depot.-99999999999999999999999999",
        "policies.Depot.nothing=1",
        "policies.Depot.name=ours",
        "policies.Depot.id=one",
        "policies.Depot.id=99999999999999999999999999",
        "policies.Worker.email=nobody",
        "policies.Worker.badge=one",
        "policies.Worker.name__contains=x",
        "kinds.Asset.not-a-uuid",
        "kinds.Page./nowhere",
        "kinds.Page.with a \x00",
        "kinds.Slot.2024-01-01",
        "kinds.Slot.2024-01-01,8,9",
        "kinds.Slot.yesterday,8",
        "kinds.Slot.",
    ],
)
def test_an_unknown_object_is_named(watch: Watch, root: str) -> None:
    make(Depot, watch.source, name="ours")

    error = watch.refuse(root)

    assert isinstance(error, UnknownObject)
    assert root.strip() in str(error) or repr(root) in str(error)
    assert "\n" not in str(error)


def test_an_object_that_was_never_saved_is_told(watch: Watch) -> None:
    error = watch.refuse(Depot(name="ours"))

    assert isinstance(error, UnknownObject)
    assert "policies.Depot" in str(error)


def test_one_unknown_object_among_others_writes_nothing(watch: Watch) -> None:
    error = watch.refuse(make(Depot, watch.source), "policies.Depot.999999")

    assert "policies.Depot.999999" in str(error)


def test_changes_of_no_object_are_told(watch: Watch) -> None:
    error = watch.refuse(changes=True)

    assert isinstance(error, UnknownObject)
    assert "--root" in str(error)


@pytest.mark.parametrize(
    ("model", "values", "name"),
    [
        (Page, {"path": "/a.b/c.html"}, "kinds.Page./a.b/c.html"),
        (Page, {"path": "/search?q=1"}, "kinds.Page./search?q=1"),
        (Asset, {"uid": uuid.UUID(int=5)}, "kinds.Asset.00000000-0000-0000-0000-000000000005"),
        (Asset, {"uid": uuid.UUID(int=5)}, "kinds.Asset.uid=00000000000000000000000000000005"),
        (Currency, {"code": "E.R"}, "kinds.Currency.code=E.R"),
        (Currency, {"code": "E=R"}, "kinds.Currency.code=E=R"),
        (Slot, {"day": "2024-01-02", "hour": 8}, "kinds.Slot.2024-01-02,8"),
        (Worker, {"badge": 7}, "policies.worker.badge=7"),
    ],
)
@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_an_object_is_named_by_its_key_or_a_unique_field(
    pair: Pair, model: type[models.Model], values: dict[str, Any], name: str
) -> None:
    make(model, pair.source, **values)

    with watched(pair, "kinds", "policies") as watch:
        report = watch.push(name)

    assert report.created[model._meta.label] == 1


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_an_object_named_twice_travels_once(watch: Watch) -> None:
    depot = make(Depot, watch.source)

    report = watch.push(depot, f"policies.Depot.{depot.pk}", f"policies.depot.id={depot.pk}")

    assert report.created == {"policies.Depot": 1}


# Databases


@pytest.mark.parametrize("pair", ONE, indirect=True)
class TestDatabases:
    def test_an_unknown_alias_is_named(self, watch: Watch) -> None:
        depot = make(Depot, watch.source)

        for options in ({"source": "nowhere"}, {"remote": "nowhere"}):
            with pytest.raises(WrongDatabase, match="'nowhere'"):
                push(depot, Pair(watch.source, watch.target), **options)

    def test_one_alias_for_both_sides_is_told(self, watch: Watch) -> None:
        depot = make(Depot, watch.source)

        with pytest.raises(WrongDatabase, match="'default'"):
            push(depot, Pair("default", "default"))

    def test_two_aliases_of_one_database_are_told(self, watch: Watch, twin: Any) -> None:
        depot = make(Depot, watch.source)

        for alias in ("default", "pg_remote"):
            twin(alias)
            with pytest.raises(WrongDatabase, match="'twin'"):
                push(depot, Pair(alias, "twin"))

    def test_no_remote_is_told(self, watch: Watch) -> None:
        with override_settings(SYNCHRO_REMOTE=None), pytest.raises(WrongDatabase) as caught:
            api.synchronize([make(Depot, "default")])

        assert str(caught.value).startswith("No REMOTE database specified in settings.")

    def test_a_missing_remote_is_told_and_warned_of(self, watch: Watch) -> None:
        with override_settings():
            del settings.SYNCHRO_REMOTE
            with pytest.warns(RuntimeWarning, match="SYNCHRO_REMOTE"), pytest.raises(WrongDatabase) as caught:
                api.synchronize([make(Depot, "default")])

        assert str(caught.value).startswith("No REMOTE database specified in settings.")

    def test_a_remote_that_is_no_database_is_told(self, watch: Watch) -> None:
        with override_settings(SYNCHRO_REMOTE="nowhere"), pytest.raises(ImproperlyConfigured, match="'nowhere'"):
            api.synchronize([make(Depot, "default")])


@pytest.mark.parametrize("pair", LIVE_TO_POSTGRESQL, indirect=True)
@pytest.mark.parametrize(
    "changes", [{"HOST": "127.0.0.1", "PORT": "1"}, {"NAME": "no_such_database"}], ids=["server", "name"]
)
def test_a_target_that_does_not_answer_is_named(pair: Pair, changes: dict[str, str]) -> None:
    depot = make(Depot, pair.source)

    with changed_settings(pair.target, **changes), pytest.raises(DatabaseUnavailable) as caught:
        push(depot, pair)

    assert repr(pair.target) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pair", pairings("postgresql-sqlite", live=True), indirect=True)
def test_a_source_that_does_not_answer_is_named(pair: Pair) -> None:
    depot = make(Depot, pair.source)

    with changed_settings(pair.source, HOST="127.0.0.1", PORT="1"), pytest.raises(DatabaseUnavailable) as caught:
        push(depot, pair)

    assert repr(pair.source) in str(caught.value)


@pytest.mark.parametrize("pair", pairings("postgresql-postgresql", live=True), indirect=True)
def test_two_spellings_of_one_database_are_told(pair: Pair) -> None:
    depot = make(Depot, pair.source)
    of_source = connections[pair.source].settings_dict
    spelling = {"NAME": of_source["NAME"], "OPTIONS": {**of_source["OPTIONS"], "application_name": "x"}}

    with (
        changed_settings(pair.target, **spelling, HOST=f"{of_source['HOST']}/"),
        pytest.raises(WrongDatabase),
    ):
        push(depot, pair)

    assert make(Depot, pair.source).pk == depot.pk + 1


@contextmanager
def changed_settings(alias: str, **changes: Any) -> Iterator[None]:
    """Connect to a database with other settings meanwhile."""
    connection = connections[alias]
    before = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(changes)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Add the database alias ``twin``: the settings of another one, with changes."""

    def add(alias: str, **changes: Any) -> None:
        forget()
        copy = {**connections[alias].settings_dict, **changes}
        monkeypatch.setitem(connections.settings, "twin", copy)
        monkeypatch.setitem(settings.DATABASES, "twin", copy)

    def forget() -> None:
        if "twin" in connections.settings and hasattr(connections._connections, "twin"):
            connections["twin"].close()
            del connections["twin"]

    yield add
    forget()


# Scope and settings


@pytest.mark.parametrize("pair", ONE, indirect=True)
@pytest.mark.parametrize("flag", ["own", "refer", "ignore"])
@pytest.mark.parametrize(
    "name",
    [
        "policies.Parcel.nothing",
        "policies.Nothing.depot",
        "nowhere.Parcel.depot",
        "policies.Parcel.text",
        "policies.Parcel.id",
        "Parcel.depot.x",
        "depot",
        "",
        "...",
        "policies.Depot.parcel_set",
    ],
)
def test_an_unknown_link_is_named(watch: Watch, flag: str, name: str) -> None:
    error = watch.refuse(make(Depot, watch.source), **{flag: [name]})

    assert isinstance(error, UnknownLink)
    assert repr(name) in str(error)


@pytest.mark.parametrize("pair", ONE, indirect=True)
@pytest.mark.parametrize("flag", ["ignore", "stop"])
@pytest.mark.parametrize("name", ["policies.Nothing", "nowhere.Parcel"])
def test_an_unknown_model_is_named(watch: Watch, flag: str, name: str) -> None:
    error = watch.refuse(make(Depot, watch.source), **{flag: [name]})

    assert isinstance(error, UnknownLink)
    assert repr(name) in str(error)


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_message_for_an_unknown_link_offers_those_that_there_are(watch: Watch) -> None:
    error = watch.refuse(make(Depot, watch.source), own=["policies.Parcel.depott"])

    assert "policies.Parcel.depot" in str(error).replace("policies.Parcel.depott", "")


@pytest.mark.parametrize("pair", ONE, indirect=True)
@pytest.mark.parametrize("key", ["OWN", "REFER", "IGNORE", "STOP"])
def test_an_unknown_name_in_the_settings_is_named(watch: Watch, key: str) -> None:
    name = "policies.Nothing" if key == "STOP" else "policies.Parcel.nothing"

    with override_settings(GESTORE_SYNC={key: [name]}):
        error = watch.refuse(make(Depot, watch.source))

    assert name in str(error)


@pytest.mark.parametrize("pair", ONE, indirect=True)
@pytest.mark.parametrize(
    "value",
    [
        {"OWN": "policies.Parcel.depot"},
        {"OWN": 5},
        {"REACH": "everything"},
        {"BATCH_SIZE": 0},
        {"BATCH_SIZE": "many"},
        {"SIGNALS": "loud"},
        {"SIGNALS": {"policies.Parcel": "loud"}},
        {"ADAPTERS": ["nowhere.Adapter"]},
        ["OWN"],
        "OWN",
    ],
)
def test_a_wrong_setting_is_an_error_of_ours(watch: Watch, value: Any) -> None:
    with override_settings(GESTORE_SYNC=value):
        error = watch.refuse(make(Depot, watch.source))

    assert isinstance(error, WrongSetting)
    assert "GESTORE_SYNC" in str(error)


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_an_unknown_reach_is_told(watch: Watch) -> None:
    error = watch.refuse(make(Depot, watch.source), reach="everything")

    assert "'everything'" in str(error)


# The target's tables


def test_a_missing_column_is_named_with_what_to_run(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make(Parcel, watch.source, depot=depot)
    execute(watch.target, "ALTER TABLE policies_parcel DROP COLUMN weight")
    watch.labels = ("auth",)

    for options in ({}, {"dry_run": True}):
        error = watch.refuse(depot, **options)

        assert isinstance(error, SchemaMismatch)
        assert "'policies_parcel'" in str(error)
        assert "'weight'" in str(error)
        assert "policies.Parcel.weight" in str(error)
        assert f"migrate policies --database {watch.target}" in str(error)


def test_a_missing_table_is_named_with_what_to_run(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot))
    execute(watch.target, "DROP TABLE policies_scan")
    watch.labels = ("auth",)

    error = watch.refuse(depot)

    assert isinstance(error, SchemaMismatch)
    assert "'policies_scan'" in str(error)
    assert f"migrate policies --database {watch.target}" in str(error)


def test_a_missing_many_to_many_table_is_named(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make(Shift, watch.source, depot=depot)
    execute(watch.target, "DROP TABLE policies_shiftreport", "DROP TABLE policies_shift")
    watch.labels = ("auth",)

    error = watch.refuse(depot)

    assert isinstance(error, SchemaMismatch)
    assert "'policies_shift'" in str(error)


def test_a_table_that_the_push_has_no_rows_for_may_be_missing(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make(Parcel, watch.source, depot=depot)
    execute(watch.target, "DROP TABLE policies_scan", "DROP TABLE policies_claim")
    watch.labels = ("auth",)

    report = watch.synchronize(depot, prune=True)

    assert report.created == {"policies.Depot": 1, "policies.Parcel": 1}
    assert watch.synchronize(depot, prune=True).unchanged == report.created


def test_a_missing_column_of_a_model_that_only_the_target_needs_is_no_raw_error(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    parcel = make(Parcel, watch.source, depot=depot)
    watch.push(depot)
    parcel.delete()
    execute(watch.target, "DROP TABLE policies_scan", "DROP TABLE policies_claim")
    watch.labels = ("auth",)

    report = watch.synchronize(depot, prune=True)

    assert report.deleted == {"policies.Parcel": 1}


@pytest.mark.parametrize("pair", pairings("postgresql-sqlite"), indirect=True)
def test_a_model_that_the_router_keeps_off_the_target_is_named(watch: Watch) -> None:
    error = watch.refuse(make(Crate, watch.source))

    assert isinstance(error, SchemaMismatch)
    assert "pgkinds.Crate" in str(error)
    assert "--ignore pgkinds.Crate" in str(error)


@pytest.mark.parametrize("table", ["gestore_sync_idmapping", "gestore_sync_syncrun", "gestore_sync_origin"])
def test_tables_of_ours_that_are_not_up_to_date_are_named_with_what_to_run(watch: Watch, table: str) -> None:
    column = {
        "gestore_sync_idmapping": "created",
        "gestore_sync_syncrun": "finished",
        "gestore_sync_origin": "created",
    }[table]
    execute(watch.target, f"ALTER TABLE {table} DROP COLUMN {column}")
    watch.ours = ()

    error = watch.refuse(make(Depot, watch.source))

    assert isinstance(error, SchemaMismatch)
    assert repr(table) in str(error)
    assert f"migrate gestore_sync --database {watch.target}" in str(error)


# Rows that the target refuses


def test_a_row_that_the_target_refuses_is_named(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    for number in range(7):
        make(Article, watch.source, depot=depot, code=f"C{number}")
    bad = make(Article, watch.source, depot=depot, code="bad", title="refused")
    for number in range(7, 12):
        make(Article, watch.source, depot=depot, code=f"C{number}")
    refuse_text(watch.target, "policies_article", "title", "refused")

    error = watch.refuse(depot)

    assert isinstance(error, WriteFailed)
    assert f"policies.Article.{bad.pk}" in str(error)
    assert "'bad'" in str(error)
    assert "no_such_text" in str(error).lower()
    assert "\n" not in str(error)


def test_a_row_that_the_target_refuses_is_listed_as_a_failure(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    bad = make(Article, watch.source, depot=depot, code="bad", title="refused")
    refuse_text(watch.target, "policies_article", "title", "refused")

    error = watch.refuse(depot)

    assert error.report is not None
    (failure,) = error.report.failures
    assert (failure["model"], failure["pk"]) == ("policies.Article", str(bad.pk))
    assert "bad" in failure["natural_key"]
    assert failure["reason"]


def test_a_change_that_the_target_refuses_is_named(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    for number in "abcdefg":
        make(Parcel, watch.source, depot=depot, number=number)
    watch.push(depot)
    watch.on_source(Parcel).update(weight=5)
    watch.on_source(Parcel).filter(number="d").update(text="refused")
    refuse_text(watch.target, "policies_parcel", "text", "refused")

    error = watch.refuse(depot)

    assert isinstance(error, WriteFailed)
    assert f"policies.Parcel.{watch.on_source(Parcel).get(number='d').pk}" in str(error)


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
def test_a_value_that_does_not_fit_is_named(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    make_many(Parcel, watch.source, 5, depot=depot)
    bad = make(Parcel, watch.source, depot=depot, text="x" * 51)
    watch.labels = ("policies",)

    error = watch.refuse(depot)

    assert f"policies.Parcel.{bad.pk}" in str(error)


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
def test_a_text_that_the_target_cannot_hold_is_named(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    bad = make(Parcel, watch.source, depot=depot, text="a\x00b")

    error = watch.refuse(depot)

    assert f"policies.Parcel.{bad.pk}" in str(error)


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
@pytest.mark.parametrize("weight", ["3000000000", "'heavy'"])
def test_a_number_that_the_target_cannot_hold_is_named(watch: Watch, weight: str) -> None:
    depot = make(Depot, watch.source)
    bad = make(Parcel, watch.source, depot=depot)
    execute(watch.source, f"UPDATE policies_parcel SET weight = {weight} WHERE id = {bad.pk}")

    error = watch.refuse(depot)

    assert f"policies.Parcel.{bad.pk}" in str(error)


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
@pytest.mark.parametrize("column", ["uuid", "decimal", "duration"])
def test_a_value_that_cannot_be_read_at_the_source_is_named(watch: Watch, column: str) -> None:
    values = make(Values, watch.source)
    execute(watch.source, f"UPDATE kinds_values SET {column} = 'nonsense' WHERE id = {values.pk}")

    error = watch.refuse(values)

    assert "kinds.Values" in str(error)


def test_a_column_that_must_not_be_null_on_the_target_is_named(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    bad = make(Article, watch.source, depot=depot, code="bad")
    other = {"postgresql": "ALTER TABLE policies_article ADD CONSTRAINT filled CHECK (title <> '')"}
    statement = other.get(
        connections[watch.target].vendor,
        "CREATE TRIGGER filled BEFORE INSERT ON policies_article WHEN NEW.title = '' "
        "BEGIN SELECT RAISE(FAIL, 'filled'); END",
    )
    execute(watch.target, statement)

    error = watch.refuse(depot)

    assert f"policies.Article.{bad.pk}" in str(error)


def test_a_unique_value_of_a_row_that_does_not_take_part_is_named(watch: Watch) -> None:
    shop = make(Shop, watch.source)
    taken = make(Worker, watch.target, email="a@b.c", badge=1)
    worker = make(Worker, watch.source, email="x@y.z", badge=7)
    watch.push(worker)
    watch.on_source(Worker).update(email="a@b.c")
    assert shop.pk

    error = watch.refuse(worker)

    assert isinstance(error, UnresolvedConflicts)
    assert f"policies.Worker.{worker.pk}" in str(error)
    assert f"policies.Worker.{taken.pk}" in str(error)


@pytest.mark.django_db(databases=DATABASES)
@pytest.mark.parametrize("asked", [["key"], ["key", "other"]])
def test_a_key_that_the_source_takes_for_another_text_is_told(asked: list[str]) -> None:
    execute(
        "default",
        "DROP TABLE logged_page",
        "CREATE TABLE logged_page (path text NOT NULL PRIMARY KEY COLLATE NOCASE, title varchar(50) NOT NULL)",
        "INSERT INTO logged_page VALUES ('KEY', ''), ('other', '')",
    )

    with pytest.raises(UnresolvedConflicts, match=r"logged.Page.key does not exist at the source"):
        api.synchronize([f"logged.Page.{key}" for key in asked], source="default", remote="remote")


def test_a_link_to_nothing_at_the_source_is_named_with_its_link(watch: Watch) -> None:
    parcel = make(Parcel, watch.source)

    with broken_link(watch.source, parcel):
        error = watch.refuse(parcel)

    assert f"policies.Parcel.{parcel.pk}" in str(error)
    assert "policies.Parcel.depot" in str(error)


@contextmanager
def broken_link(using: str, parcel: Parcel) -> Iterator[None]:
    """Let the required link of a parcel point at nothing meanwhile."""
    if connections[using].vendor == "postgresql":
        execute(using, "SET CONSTRAINTS ALL IMMEDIATE", "SET session_replication_role = replica")
    execute(using, f"UPDATE policies_parcel SET depot_id = 424242 WHERE id = {parcel.pk}")
    yield
    execute(using, f"UPDATE policies_parcel SET depot_id = {parcel.depot_id} WHERE id = {parcel.pk}")
    if connections[using].vendor == "postgresql":
        execute(using, "SET session_replication_role = origin")


# A target that goes away, and others at work


def dsn(alias: str) -> str:
    """Return how to reach a database beside Django."""
    of = connections[alias].settings_dict
    parts = {"host": of["HOST"], "port": of["PORT"], "user": of["USER"], "password": of["PASSWORD"]}
    parts = {name: str(value) for name, value in parts.items() if value}
    return psycopg.conninfo.make_conninfo(dbname=of["NAME"], **parts, **of["OPTIONS"])


@pytest.fixture
def receive() -> Iterator[Any]:
    """Connect receivers for the length of a test."""
    connected: list[tuple[Any, Any]] = []

    def connect(signal: Any, receiver: Any, sender: type[models.Model]) -> None:
        signal.connect(receiver, sender=sender, weak=False)
        connected.append((signal, (receiver, sender)))

    yield connect
    for signal, (receiver, sender) in connected:
        signal.disconnect(receiver, sender=sender)


@pytest.mark.parametrize("pair", LIVE_TO_POSTGRESQL, indirect=True)
def test_a_target_that_goes_away_half_way_is_named_and_as_it_was(watch: Watch, receive: Any) -> None:
    depot = make(Depot, watch.source)
    make_many(Parcel, watch.source, 3, depot=depot)
    make(Depot, watch.target)
    written = []

    def end_session(**kwargs: Any) -> None:
        written.append(watch.on_target(Depot).count())
        pid = execute(watch.target, "SELECT pg_backend_pid()")[0][0]
        with psycopg.connect(dsn(watch.target), autocommit=True) as beside:
            beside.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    receive(pre_save, end_session, Parcel)
    try:
        error = watch.refuse(depot)
    finally:
        connections[watch.target].close()

    assert isinstance(error, DatabaseUnavailable)
    assert "Nothing was written" in str(error)
    assert written == [2]


@pytest.mark.parametrize("pair", pairings("postgresql-sqlite", live=True), indirect=True)
def test_a_source_that_goes_away_half_way_leaves_all_or_nothing(watch: Watch, receive: Any) -> None:
    depot = make(Depot, watch.source)
    make_many(Parcel, watch.source, 3, depot=depot)

    def end_session(**kwargs: Any) -> None:
        pid = execute(watch.source, "SELECT pg_backend_pid()")[0][0]
        with psycopg.connect(dsn(watch.source), autocommit=True) as beside:
            beside.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    receive(post_save, end_session, Depot)
    before = watch.picture()
    try:
        watch.synchronize(depot)
    except GestoreSyncError:
        assert watch.picture() == before
    else:
        assert (watch.on_target(Depot).count(), watch.on_target(Parcel).count()) == (1, 3)
    finally:
        connections[watch.source].close()


@pytest.mark.parametrize("pair", LIVE_TO_POSTGRESQL, indirect=True)
def test_a_push_is_repeated_where_somebody_changed_a_row_meanwhile(watch: Watch, receive: Any) -> None:
    depot = make(Depot, watch.source, name="first", city="first")
    watch.push(depot)
    watch.on_source(Depot).update(name="ours")
    tries = []

    def meddle(**kwargs: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            with psycopg.connect(dsn(watch.target), autocommit=True) as beside:
                beside.execute("UPDATE policies_depot SET city = 'theirs'")

    receive(pre_save, meddle, Depot)

    report = watch.synchronize(depot)

    assert len(tries) == 2
    assert watch.on_target(Depot).values_list("name", "city").get() == ("ours", "theirs")
    assert [conflict["resolved"] for conflict in report.conflicts] == ["merged"]
    watch.push_nothing(depot)


@pytest.mark.parametrize("pair", LIVE_TO_POSTGRESQL, indirect=True)
def test_a_push_that_is_disturbed_again_and_again_gives_up(watch: Watch, receive: Any) -> None:
    depot = make(Depot, watch.source, name="first")
    watch.push(depot)
    watch.on_source(Depot).update(name="ours")
    tries = []

    def meddle(**kwargs: Any) -> None:
        tries.append(1)
        assert len(tries) < 20
        with psycopg.connect(dsn(watch.target), autocommit=True) as beside:
            beside.execute("UPDATE policies_depot SET city = %s", [f"theirs {len(tries)}"])

    receive(pre_save, meddle, Depot)

    with pytest.raises(GestoreSyncError) as caught:
        watch.synchronize(depot)

    assert "\n" not in str(caught.value)
    assert watch.on_target(Depot).values_list("name", "city").get() == ("first", f"theirs {len(tries)}")


@pytest.mark.parametrize("pair", LIVE_TO_POSTGRESQL, indirect=True)
def test_a_row_that_somebody_made_meanwhile_is_an_error_and_found_the_next_time(watch: Watch, receive: Any) -> None:
    worker = make(Worker, watch.source, email="a@b.c", badge=7, name="ours")
    made = []

    def meddle(**kwargs: Any) -> None:
        if not made:
            made.append(1)
            with psycopg.connect(dsn(watch.target), autocommit=True) as beside:
                beside.execute("INSERT INTO policies_worker (email, badge, name) VALUES ('a@b.c', 7, 'theirs')")

    receive(pre_save, meddle, Worker)

    with pytest.raises(GestoreSyncError) as caught:
        watch.synchronize(worker)

    assert f"policies.Worker.{worker.pk}" in str(caught.value)
    watch.synchronize(worker)
    assert watch.on_target(Worker).values_list("email", "badge", "name").get() == ("a@b.c", 7, "ours")


@pytest.mark.parametrize("pair", LIVE_TO_POSTGRESQL, indirect=True)
def test_a_push_is_repeated_after_a_deadlock(watch: Watch, receive: Any) -> None:
    depot = make(Depot, watch.source, name="first")
    worker = make(Worker, watch.source, email="a@b.c", badge=7, name="first")
    watch.push(depot, worker)
    for model in (Depot, Worker):
        watch.on_source(model).update(name="ours")
    beside = psycopg.connect(dsn(watch.target))
    crossing: list[threading.Thread] = []

    def lock(table: str) -> None:
        beside.execute(f"SELECT 1 FROM {table} FOR UPDATE")

    def cross(table: str) -> None:
        time.sleep(0.4)  # the push must be the one that has waited longer, for that one is broken off
        lock(table)
        beside.rollback()

    def before(sender: type[models.Model], **kwargs: Any) -> None:
        if not crossing:
            lock((Worker if sender is Depot else Depot)._meta.db_table)
            crossing.append(threading.Thread(target=cross, args=[sender._meta.db_table]))

    def after(sender: type[models.Model], **kwargs: Any) -> None:
        if crossing[0].ident is None:
            crossing[0].start()

    for model in (Depot, Worker):
        receive(pre_save, before, model)
        receive(post_save, after, model)

    report = watch.synchronize(depot, worker)
    crossing[0].join(10)
    beside.close()

    assert report.updated == {"policies.Depot": 1, "policies.Worker": 1}
    for model in (Depot, Worker):
        assert watch.on_target(model).get().name == "ours"


@pytest.mark.parametrize("pair", LIVE_TO_POSTGRESQL, indirect=True)
def test_nobody_sees_anything_of_a_push_before_all_of_it_is_there(watch: Watch, receive: Any) -> None:
    depot = make(Depot, watch.source)
    make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot))
    tables = ["policies_depot", "policies_parcel", "policies_scan", "gestore_sync_idmapping", "gestore_sync_syncrun"]
    seen: list[list[int]] = []

    def look(**kwargs: Any) -> None:
        with psycopg.connect(dsn(watch.target), autocommit=True) as beside:
            counts = [beside.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables]
            seen.append([count[0] for count in counts if count])

    receive(post_save, look, Scan)

    watch.synchronize(depot)

    assert seen == [[0] * len(tables)]


@pytest.mark.parametrize("pair", pairings("postgresql-postgresql", live=True), indirect=True)
def test_two_pushes_of_one_object_at_a_time_make_it_once(watch: Watch, receive: Any) -> None:
    depot = make(Depot, watch.source)
    make_many(Parcel, watch.source, 3, depot=depot)
    errors: list[BaseException] = []

    def push_too() -> None:
        try:
            watch.synchronize(depot)
        except GestoreSyncError as error:
            errors.append(error)
        finally:
            connections.close_all()

    second = threading.Thread(target=push_too)

    def begin(**kwargs: Any) -> None:
        if second.ident is None:
            second.start()
            time.sleep(0.5)

    receive(post_save, begin, Parcel)

    watch.synchronize(depot)
    second.join(30)

    assert not second.is_alive()
    assert (watch.on_target(Depot).count(), watch.on_target(Parcel).count()) == (1, 3)
    assert all("\n" not in str(error) for error in errors)
    watch.push_nothing(depot)

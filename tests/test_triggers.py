"""The change log written by database triggers: ``GESTORE_SYNC["CAPTURE"] = "triggers"`` on PostgreSQL."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from decimal import Decimal
from typing import Any

import pgtrigger
import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.contrib.contenttypes.models import ContentType
from django.core.management.sql import emit_post_migrate_signal
from django.db import IntegrityError, connections, models, transaction
from django.test import override_settings
from django.test.utils import isolate_apps
from psycopg import sql

from gestore_sync import DisableSynchroLog, api, disable_synchro_log
from gestore_sync.captures import NAME_PATTERN, iter_captures
from gestore_sync.checks import check_settings
from gestore_sync.exceptions import WrongSetting
from gestore_sync.models import ADDITION, CHANGE, DELETION, M2M_CHANGE, ChangeLog
from gestore_sync.muting import MutingCursor, mute
from gestore_sync.recording import describe_deleted, dump_object_id, get_deletion_fields
from gestore_sync.refs import load_pk
from gestore_sync.triggers import (
    find_live,
    find_missing_extra,
    forget_captured,
    install_triggers,
    is_capturing,
    update_triggers,
)
from gestore_sync.watching import Watched, get_watched
from tests.conftest import DATABASES
from tests.kinds import models as kinds
from tests.kinds.models.values import ColourField
from tests.kinds.pushing import forget_caches
from tests.logged import models as logged

HERE, THERE = "pg_local", "pg_remote"
ROLLED_BACK = pytest.mark.django_db(databases=DATABASES)
COMMITTED = pytest.mark.django_db(databases=["default", HERE], transaction=True)
COMMITTED_ON_BOTH = pytest.mark.django_db(databases=DATABASES, transaction=True)

Watch = Callable[..., None]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """A function that lets triggers log an app's models on a database, until the test ends."""
    used: set[str] = set()
    with ExitStack() as settings:

        def begin(*entries: Any, using: str = HERE, **options: Any) -> None:
            settings.enter_context(override_settings(SYNCHRO_MODELS=entries, GESTORE_SYNC=make_options(**options)))
            used.add(using)
            update_triggers(using)

        forget_caches()
        yield begin
    for using in used:
        if not connections[using].in_atomic_block:
            update_triggers(using)
            ChangeLog.objects.using(using).all()._raw_delete(using)
    forget_captured()
    forget_caches()


def make_options(**options: Any) -> dict[str, Any]:
    return {"CAPTURE": "triggers", **options}


def run(statement: str, params: Any = None, using: str = HERE) -> list[tuple[Any, ...]]:
    """Execute SQL past the ORM."""
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


def take_log(using: str = HERE) -> list[tuple[str, str, int]]:
    """``(model, primary key, action)`` of all entries, sorted. They are removed: the next call sees later ones."""
    return sorted((label, object_id, action) for label, object_id, action, _ in take_entries(using))


def take_entries(using: str = HERE) -> list[tuple[str, str, int, dict[str, Any]]]:
    """The same with the data, the oldest first."""
    entries = list(ChangeLog.objects.using(using).order_by("pk"))
    ChangeLog.objects.using(using).all()._raw_delete(using)
    return [(entry.content_type.model, entry.object_id, entry.action, entry.data) for entry in entries]


def take_members(using: str = HERE) -> list[tuple[str, str, list[str], list[str]]]:
    """``(owner's key, field, added, removed)`` of all entries about members."""
    return [
        (object_id, data["field"], data["added"], data["removed"])
        for _, object_id, action, data in take_entries(using)
        if action == M2M_CHANGE
    ]


def find_triggers(using: str = HERE) -> dict[str, int]:
    """The triggers of the change log that a database has."""
    return dict(run("SELECT tgname, oid FROM pg_trigger WHERE tgname ~ %s", [NAME_PATTERN], using))


def find_functions(using: str = HERE) -> set[str]:
    return {name for (name,) in run("SELECT proname FROM pg_proc WHERE proname ~ %s", [NAME_PATTERN], using)}


def make_pages(*paths: str, using: str = HERE) -> None:
    kinds.Page.objects.using(using).bulk_create([kinds.Page(path=path, title="a") for path in paths])


@contextmanager
def having_tables(*tables: type[models.Model], using: str = HERE) -> Iterator[None]:
    """Create tables, and install triggers for their models, which no app has."""
    with connections[using].schema_editor() as editor:
        for table in tables:
            if table._meta.managed:
                editor.create_model(table)
    with override_settings(GESTORE_SYNC=make_options()):
        install_triggers(using, Watched(frozenset(tables), {}, {}))
        yield


# What is seen


@ROLLED_BACK
def test_update_of_a_queryset_is_logged_for_the_rows_that_it_changed(watch: Watch) -> None:
    watch(("kinds", "Page"))
    make_pages("/a", "/b", "/c")
    kinds.Page.objects.using(HERE).filter(path="/b").update(title="b")
    take_log()

    kinds.Page.objects.using(HERE).update(title="b")

    assert take_log() == [("page", "/a", CHANGE), ("page", "/c", CHANGE)]


@ROLLED_BACK
def test_bulk_operations_are_logged(watch: Watch) -> None:
    watch(("kinds", "Page"))
    pages = kinds.Page.objects.using(HERE)

    made = pages.bulk_create([kinds.Page(path=path) for path in ("/a", "/b")])
    assert take_log() == [("page", "/a", ADDITION), ("page", "/b", ADDITION)]

    made[0].title = "new"
    pages.bulk_update(made, ["title"])
    assert take_log() == [("page", "/a", CHANGE)]

    pages.all()._raw_delete(HERE)
    assert take_log() == [("page", "/a", DELETION), ("page", "/b", DELETION)]


@ROLLED_BACK
def test_raw_sql_is_logged(watch: Watch) -> None:
    watch(("kinds", "Page"))

    run("INSERT INTO kinds_page (path, title) SELECT '/' || n, '' FROM generate_series(1, 3) n")
    assert take_log() == [("page", f"/{n}", ADDITION) for n in (1, 2, 3)]

    run("UPDATE kinds_page SET title = 'new' WHERE path <> '/2'")
    assert take_log() == [("page", "/1", CHANGE), ("page", "/3", CHANGE)]

    run("WITH gone AS (DELETE FROM kinds_page WHERE path = '/1' RETURNING path) SELECT * FROM gone")
    assert take_log() == [("page", "/1", DELETION)]


@ROLLED_BACK
def test_copy_is_logged(watch: Watch) -> None:
    watch(("kinds", "Page"))

    with connections[HERE].cursor() as cursor, cursor.copy("COPY kinds_page (path, title) FROM STDIN") as copy:
        copy.write_row(["/a", "x"])
        copy.write_row(["/b", "y"])

    assert take_log() == [("page", "/a", ADDITION), ("page", "/b", ADDITION)]


@ROLLED_BACK
def test_an_upsert_is_logged_as_what_it_did_to_each_row(watch: Watch) -> None:
    watch(("kinds", "Page"))
    make_pages("/old", "/same")
    take_log()
    fresh = [
        kinds.Page(path="/new", title="n"),
        kinds.Page(path="/old", title="o"),
        kinds.Page(path="/same", title="a"),
    ]

    kinds.Page.objects.using(HERE).bulk_create(
        fresh, update_conflicts=True, unique_fields=["path"], update_fields=["title"]
    )
    assert take_log() == [("page", "/new", ADDITION), ("page", "/old", CHANGE)]

    kinds.Page.objects.using(HERE).bulk_create(
        [kinds.Page(path="/new"), kinds.Page(path="/newer")], ignore_conflicts=True
    )
    assert take_log() == [("page", "/newer", ADDITION)]


@ROLLED_BACK
def test_merge_is_logged(watch: Watch) -> None:
    if connections[HERE].pg_version < 150000:
        pytest.skip("PostgreSQL has MERGE since version 15.")
    watch(("kinds", "Page"))
    make_pages("/a", "/b")
    take_log()

    run(
        "MERGE INTO kinds_page USING (VALUES ('/a'), ('/c')) AS given(path) ON given.path = kinds_page.path "
        "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT (path, title) VALUES (given.path, '')"
    )

    assert take_log() == [("page", "/a", DELETION), ("page", "/c", ADDITION)]


@ROLLED_BACK
def test_rows_that_the_database_deletes_with_others_are_logged(watch: Watch) -> None:
    watch(("kinds", "Hall", "Slot"))
    hall = kinds.Hall.objects.using(HERE).create(name="a")
    kinds.Slot.objects.using(HERE).create(day="2026-01-31", hour=3, hall=hall)
    run("SET CONSTRAINTS ALL IMMEDIATE")
    run("ALTER TABLE kinds_slot ADD FOREIGN KEY (hall_id) REFERENCES kinds_hall ON DELETE CASCADE")
    name = run("SELECT conname FROM pg_constraint WHERE conrelid = 'kinds_slot'::regclass AND confdeltype = 'a'")[0][0]
    run(f'ALTER TABLE kinds_slot DROP CONSTRAINT "{name}"')
    take_log()

    run("DELETE FROM kinds_hall")

    assert take_log() == [("hall", str(hall.pk), DELETION), ("slot", '["2026-01-31", "3"]', DELETION)]


@ROLLED_BACK
def test_truncate_is_logged_as_the_deletion_of_each_row(watch: Watch) -> None:
    watch(("kinds", "Shelf", "Asset"))
    shelf = kinds.Shelf.objects.using(HERE).create(name="a")
    asset = kinds.Asset.objects.using(HERE).create(title="a")
    shelf.assets.add(asset)
    run("SET CONSTRAINTS ALL IMMEDIATE")
    take_log()

    run("TRUNCATE kinds_shelf, kinds_asset CASCADE")

    entries = take_entries()
    assert sorted(entry[:3] for entry in entries) == [
        ("asset", str(asset.pk), DELETION),
        ("shelf", str(shelf.pk), DELETION),
        ("shelf", str(shelf.pk), M2M_CHANGE),
    ]
    assert [data["removed"] for *_, data in entries if "removed" in data] == [[str(asset.pk)]]


@ROLLED_BACK
def test_the_log_can_be_truncated_together_with_watched_tables(watch: Watch) -> None:
    watch(("kinds", "Page"))
    make_pages("/a")

    run("TRUNCATE kinds_page, gestore_sync_changelog, django_content_type CASCADE")

    assert run("SELECT count(*) FROM gestore_sync_changelog") == [(0,)]


@ROLLED_BACK
def test_a_primary_key_that_changes_is_a_deletion_and_an_addition(watch: Watch) -> None:
    watch(("kinds", "Star"))
    kinds.Star.objects.using(HERE).bulk_create([kinds.Star(number=n, name=str(n)) for n in (1, 2)])
    take_log()

    run("UPDATE kinds_star SET number = number + 10 WHERE number = 1")
    assert take_log() == [("star", "1", DELETION), ("star", "11", ADDITION)]

    run("SET CONSTRAINTS ALL IMMEDIATE")
    run("UPDATE kinds_star SET name = CASE name WHEN '1' THEN '2' ELSE '1' END")
    assert take_log() == [("star", "11", CHANGE), ("star", "2", CHANGE)]


@ROLLED_BACK
def test_the_deletion_of_a_changed_key_says_what_the_object_was(watch: Watch) -> None:
    watch(("kinds", "Currency"))
    currency = kinds.Currency.objects.using(HERE).create(code="EUR")
    take_log()

    run("UPDATE kinds_currency SET id = id + 1000, code = 'USD'")

    by_action = {action: (key, data) for _, key, action, data in take_entries()}
    assert by_action == {
        DELETION: (str(currency.pk), {"fields": {"code": "EUR"}}),
        ADDITION: (str(currency.pk + 1000), {}),
    }


@ROLLED_BACK
def test_an_entry_is_local_news_of_this_moment(watch: Watch) -> None:
    watch(("kinds", "Page"))
    before = dt.datetime.now(dt.UTC)

    run("INSERT INTO kinds_page (path, title) SELECT 'x', '' FROM pg_sleep(0.05)")

    entry = ChangeLog.objects.using(HERE).get()
    assert (entry.origin, entry.state, entry.data) == (None, 0, {})
    assert before + dt.timedelta(seconds=0.05) <= entry.date <= dt.datetime.now(dt.UTC)


@ROLLED_BACK
def test_what_is_rolled_back_is_not_logged(watch: Watch) -> None:
    watch(("kinds", "Page"))

    with pytest.raises(IntegrityError), transaction.atomic(using=HERE):
        make_pages("/a", "/a")

    assert take_log() == []


@ROLLED_BACK
def test_a_model_that_is_not_watched_is_not_logged(watch: Watch) -> None:
    watch(("kinds", "Page"))

    kinds.Star.objects.using(HERE).create(number=1)

    assert take_log() == []


# Many-to-many


@ROLLED_BACK
def test_members_are_logged_once_for_each_owner_and_statement(watch: Watch) -> None:
    watch(("kinds", "Shop", "Tag"))
    currency = kinds.Currency.objects.using(HERE).create(code="EUR")
    shops = [kinds.Shop.objects.using(HERE).create(name=name, currency=currency) for name in "ab"]
    tags = [kinds.Tag.objects.using(HERE).create(name=name) for name in "abc"]
    one, two = (str(shop.pk) for shop in shops)
    a, b, c = (str(tag.pk) for tag in tags)
    take_log()

    shops[0].tags.add(*tags)
    assert take_members() == [(one, "tags", [a, b, c], [])]

    shops[0].tags.remove(tags[1])
    assert take_members() == [(one, "tags", [], [b])]

    shops[0].tags.set(tags[1:])
    assert take_members() == [(one, "tags", [], [a]), (one, "tags", [b], [])]

    tags[0].shop_set.add(*shops)
    assert sorted(take_members()) == [(one, "tags", [a], []), (two, "tags", [a], [])]

    shops[0].tags.clear()
    assert take_members() == [(one, "tags", [], [a, b, c])]


@ROLLED_BACK
def test_members_that_sql_moves_to_another_owner_are_logged_for_both(watch: Watch) -> None:
    watch(("kinds", "Shelf"))
    shelves = [kinds.Shelf.objects.using(HERE).create(name=name) for name in "ab"]
    asset = kinds.Asset.objects.using(HERE).create(title="a")
    shelves[0].assets.add(asset)
    one, two = (str(shelf.pk) for shelf in shelves)
    take_log()

    run("UPDATE kinds_shelf_assets SET shelf_id = %s", [shelves[1].pk])
    assert sorted(take_members()) == [(one, "assets", [], [str(asset.pk)]), (two, "assets", [str(asset.pk)], [])]

    run("UPDATE kinds_shelf_assets SET shelf_id = shelf_id, id = id + 100")
    assert take_members() == []


@ROLLED_BACK
def test_members_of_the_same_model_are_logged_for_both_ends_where_both_see_them(watch: Watch) -> None:
    watch(("kinds", "Person"))
    ann, bob = (kinds.Person.objects.using(HERE).create(name=name) for name in ("Ann", "Bob"))
    a, b = str(ann.pk), str(bob.pk)
    take_log()

    ann.friends.add(bob)
    assert sorted(take_members()) == [(a, "friends", [b], []), (b, "friends", [a], [])]

    bob.followers.add(ann)
    assert take_members() == [(a, "follows", [b], [])]


@ROLLED_BACK
def test_rows_of_an_explicit_many_to_many_table_are_logged_as_objects(watch: Watch) -> None:
    watch(("kinds", "Club"))
    club = kinds.Club.objects.using(HERE).create(name="a")
    person = kinds.Person.objects.using(HERE).create(name="b")
    take_log()

    club.members.add(person, through_defaults={"role": "x", "joined": "2026-01-31"})

    row = kinds.Membership.objects.using(HERE).get()
    assert take_log() == [("membership", str(row.pk), ADDITION)]


# Multi-table inheritance


@ROLLED_BACK
def test_each_table_of_a_child_logs_what_changed_in_it(watch: Watch) -> None:
    watch(("kinds", "Place", "Restaurant", "Pizzeria"))
    pizzeria = kinds.Pizzeria.objects.using(HERE).create(name="a", oven="b")
    key = str(pizzeria.pk)
    assert take_log() == [("pizzeria", key, ADDITION), ("place", key, ADDITION), ("restaurant", key, ADDITION)]

    pizzeria.name = "new"
    pizzeria.save()
    assert take_log() == [("place", key, CHANGE)]

    pizzeria.delete()
    assert take_log() == [("pizzeria", key, DELETION), ("place", key, DELETION), ("restaurant", key, DELETION)]


@ROLLED_BACK
def test_a_child_is_changed_by_a_change_of_a_parent_that_is_not_watched_itself(watch: Watch) -> None:
    watch(("kinds", "Pizzeria"))
    pizzeria = kinds.Pizzeria.objects.using(HERE).create(name="a", oven="b")
    kinds.Place.objects.using(HERE).create(name="no pizzeria")
    key = str(pizzeria.pk)
    assert take_log() == [("pizzeria", key, ADDITION)]

    run("UPDATE kinds_place SET name = 'new'")
    assert take_log() == [("pizzeria", key, CHANGE)]

    run("UPDATE kinds_restaurant SET stars = 3")
    assert take_log() == [("pizzeria", key, CHANGE)]

    run("UPDATE kinds_restaurant SET stars = 3")
    run("INSERT INTO kinds_place (name) VALUES ('other')")
    assert take_log() == []


@ROLLED_BACK
def test_a_child_of_two_parents_is_found_from_either(watch: Watch) -> None:
    watch(("kinds", "Amphibian"))
    kinds.Boat.objects.using(HERE).create(sails=9)
    amphibian = kinds.Amphibian.objects.using(HERE).create(name="a", wheels=4, sails=1)
    key = str(amphibian.car_number)
    assert amphibian.boat_number != amphibian.car_number
    take_log()

    run("UPDATE kinds_boat SET sails = sails + 1")
    assert take_log() == [("amphibian", key, CHANGE)]

    run("UPDATE kinds_car SET wheels = 6")
    assert take_log() == [("amphibian", key, CHANGE)]


@ROLLED_BACK
def test_the_deletion_of_a_child_says_what_its_parents_hold(watch: Watch) -> None:
    watch(("kinds", "Truck"))
    truck = kinds.Truck.objects.using(HERE).create(plate="WAW 1")
    key = str(truck.pk)
    take_log()

    truck.delete(keep_parents=True)

    assert take_entries() == [("truck", key, DELETION, {"fields": {"plate": "WAW 1"}})]


# Texts of keys and fields


def make_keys() -> dict[str, models.Model]:
    hall = kinds.Hall(pk=7, name="a")
    return {
        "automatic": kinds.Gadget(number=2**31 - 1),
        "big": kinds.Star(number=-(2**63)),
        "uuid": kinds.Asset(uid=uuid.UUID(int=0xABC)),
        "text": kinds.Page(path="é' \" \\ \n\t%s $$ {} 💣"),
        "empty": kinds.Page(path=""),
        "moment": kinds.Moment(at=dt.datetime(2026, 7, 31, 12, 0, tzinfo=dt.UTC)),
        "microseconds": kinds.Moment(at=dt.datetime(999, 1, 31, 12, 0, 0, 120, tzinfo=dt.UTC)),
        "composite": kinds.Slot(day=dt.date(2026, 1, 31), hour=3, hall=hall),
        "composite of a link": kinds.Seat(hall=hall, number=3),
        "composite of odd characters": logged.Seat(row='é"\\', number=-1),
    }


@ROLLED_BACK
@pytest.mark.parametrize("what", make_keys())
def test_a_primary_key_is_logged_as_python_writes_it(watch: Watch, what: str) -> None:
    watch("kinds", "logged")
    kinds.Hall(pk=7, name="a").save(using=HERE)
    instance = make_keys()[what]
    model = type(instance)
    take_log()
    run("SET LOCAL timezone = 'Asia/Tokyo'")
    run("SET LOCAL datestyle = 'German, DMY'")

    model.objects.using(HERE).bulk_create([instance])  # type: ignore[attr-defined]

    run("SET LOCAL datestyle = 'ISO'")
    ((name, object_id, action, _),) = take_entries()
    assert (name, action) == (model._meta.model_name, ADDITION)
    assert load_pk(model, object_id) == instance.pk
    if object_id.isascii():
        assert object_id == dump_object_id(model, instance.pk)


@isolate_apps("tests.kinds")
def make_dated() -> type[models.Model]:
    class Dated(models.Model):
        day = models.DateField(primary_key=True)

        class Meta:
            app_label = "kinds"

    return Dated


@ROLLED_BACK
@pytest.mark.parametrize("day", ["2026-01-31", "0099-12-01", "infinity"])
def test_a_date_is_logged_as_iso_8601_however_the_session_writes_dates(day: str) -> None:
    with having_tables(make_dated()):
        run("SET LOCAL datestyle = 'German, DMY'")
        run("INSERT INTO kinds_dated (day) VALUES (%s)", [day])

    assert run("SELECT object_id FROM gestore_sync_changelog") == [(day,)]


@ROLLED_BACK
def test_a_moment_without_a_time_zone_is_logged_as_the_clock_on_the_wall_showed_it(watch: Watch) -> None:
    watch(("kinds", "Moment"))

    with override_settings(USE_TZ=False):
        update_triggers(HERE)
        kinds.Moment(at=dt.datetime(2026, 7, 31, 12, 0)).save(using=HERE)

    assert ChangeLog.objects.using(HERE).values_list("object_id", flat=True).get() == "2026-07-31 12:00:00"


TOLD = ("boolean", "small", "integer", "big", "decimal", "real", "char", "text", "slug", "url", "email", "date", "time")
TOLD += ("moment", "binary", "uuid", "address", "file", "path")
VALUES: list[dict[str, Any]] = [
    {},
    {
        "boolean": True,
        "small": -1,
        "integer": 2**31 - 1,
        "big": -(2**63),
        "decimal": Decimal("-12.3400000000"),
        "real": 0.1,
        "char": "é' \" \\ \n%s",
        "text": "",
        "slug": "a-b",
        "url": "https://example.org/?a=b&c",
        "email": "a@example.org",
        "date": dt.date(2026, 1, 31),
        "time": dt.time(23, 59, 59, 5),
        "moment": dt.datetime(2026, 7, 31, 12, 30, 0, 500_000, tzinfo=dt.UTC),
        "binary": bytes(range(256)),
        "uuid": uuid.UUID(int=5),
        "address": "10.1.2.3",
        "file": "a/é.txt",
        "path": "/tmp",
    },
    {
        "boolean": False,
        "real": 3.0,
        "time": dt.time(1, 2),
        "moment": dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC),
        "address": "::ffff:10.1.2.3",
        "binary": b"",
    },
    {"real": float("-inf"), "address": "2001:db8::1"},
]


@ROLLED_BACK
@pytest.mark.parametrize("values", VALUES)
def test_a_deletion_keeps_the_texts_that_signals_keep(watch: Watch, values: dict[str, Any]) -> None:
    get_deletion_fields.cache_clear()
    watch(("kinds", "Values"), IDENTITY={"kinds.Values": TOLD})
    box = kinds.Box.objects.using(HERE).create(name="a")
    pk = kinds.Values.objects.using(HERE).create(box=box, **values).pk
    expected = describe_deleted(kinds.Values, kinds.Values.objects.using(HERE).get(pk=pk))["fields"]
    run("SET LOCAL timezone = 'Asia/Tokyo'")
    run("SET LOCAL datestyle = 'SQL, MDY'")
    run("SET LOCAL bytea_output = 'escape'")

    run("DELETE FROM kinds_values")

    run("SET LOCAL datestyle = 'ISO'")
    assert take_entries()[-1] == ("values", str(pk), DELETION, {"fields": expected})
    assert set(expected) == {*TOLD, "box_id"}
    get_deletion_fields.cache_clear()


# Odd tables


@ROLLED_BACK
def test_names_that_need_quotes_are_quoted(watch: Watch) -> None:
    watch(("kinds", "Quoted"))
    box = kinds.Box.objects.using(HERE).create(name="a")

    row = kinds.Quoted.objects.using(HERE).create(order=box, select="a", user=5)
    kinds.Quoted.objects.using(HERE).update(select="b")
    run('DELETE FROM "kinds Quoted-Rows"')

    assert [entry[2:] for entry in take_entries()] == [
        (ADDITION, {}),
        (CHANGE, {}),
        (DELETION, {"fields": {"order_id": str(box.pk), "user": "5"}}),
    ]
    assert is_capturing(HERE, type(row))


@ROLLED_BACK
@pytest.mark.parametrize(
    "table",
    ['triggered"."Cups', '"triggered"."cups"', "cups_" * 20, "Cups and é saucers", "cup's $ {0}"],
    ids=["schema", "quoted schema", "long", "mixed case", "odd"],
)
@isolate_apps("tests.kinds")
def test_tables_of_any_name_are_logged(table: str) -> None:
    class Cup(models.Model):
        name = models.CharField(max_length=50, unique=True)

        class Meta:
            app_label = "kinds"
            db_table = table

    run("CREATE SCHEMA triggered")
    watched = Watched(frozenset({Cup}), {}, {})
    with having_tables(Cup):
        cup = Cup(name="a")
        cup.save(using=HERE)
        Cup.objects.using(HERE).update(name="b")
        cup.delete()

        assert find_live(HERE, iter_captures(Cup, watched)) == set(iter_captures(Cup, watched))

    assert take_log() == [("cup", "1", ADDITION), ("cup", "1", CHANGE), ("cup", "1", DELETION)]


@ROLLED_BACK
@isolate_apps("tests.kinds")
def test_columns_of_any_name_are_told_from_what_the_function_itself_names() -> None:
    names = ("found", "tg_op", "line", "image", "absent", "object_id", "action", "data", "old_rows", "new_rows")
    names += ("gestore_sync_type", "kind", "before", "after", "c0", "gestore_sync_row", "entries", "new", "old")

    class Trap(models.Model):
        owner = models.CharField(max_length=50, primary_key=True, db_column="found")

        class Meta:
            app_label = "kinds"

    for name in names[1:]:
        models.CharField(max_length=50, unique=True, default=name).contribute_to_class(Trap, name)
    with having_tables(Trap):
        trap = Trap(owner="key")
        trap.save(using=HERE)
        Trap.objects.using(HERE).update(kind="changed")
        trap.delete()

    *others, deletion = take_entries()
    assert [entry[:3] for entry in others] == [("trap", "key", ADDITION), ("trap", "key", CHANGE)]
    assert deletion == ("trap", "key", DELETION, {"fields": {name: name for name in names[1:]} | {"kind": "changed"}})


@ROLLED_BACK
def test_columns_that_cannot_be_compared_are_no_hindrance(watch: Watch) -> None:
    run("ALTER TABLE kinds_page ADD COLUMN shape json, ADD COLUMN place point")
    watch(("kinds", "Page"))
    make_pages("/a")
    take_log()

    run("UPDATE kinds_page SET shape = '{}', place = '(1,2)'")
    assert take_log() == [("page", "/a", CHANGE)]

    run("UPDATE kinds_page SET shape = '{}', place = '(1,2)'")
    assert take_log() == []


@ROLLED_BACK
def test_a_table_may_have_more_columns_than_a_function_takes_arguments() -> None:
    fields = {f"field_{n}": models.IntegerField(unique=True, null=True) for n in range(120)}
    with isolate_apps("tests.kinds"):
        meta = type("Meta", (), {"app_label": "kinds"})
        wide = type("Wide", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
    with having_tables(wide):
        run("INSERT INTO kinds_wide (field_7) VALUES (7)")
        run("DELETE FROM kinds_wide")

    data = take_entries()[-1][3]
    assert data == {"fields": dict.fromkeys(fields) | {"field_7": "7"}}


@ROLLED_BACK
@isolate_apps("tests.kinds")
def test_the_rows_of_a_partitioned_table_are_logged() -> None:
    class Era(models.Model):
        day = models.DateField(primary_key=True)

        class Meta:
            app_label = "kinds"
            managed = False

    run("CREATE TABLE kinds_era (day date PRIMARY KEY) PARTITION BY RANGE (day)")
    run("CREATE TABLE kinds_era_new PARTITION OF kinds_era FOR VALUES FROM ('2020-01-01') TO (MAXVALUE)")
    with having_tables(Era):
        run("INSERT INTO kinds_era VALUES ('2026-01-31')")

    assert take_log() == [("era", "2026-01-31", ADDITION)]


# No statement fails for it


@ROLLED_BACK
def test_without_the_log_rows_are_written_as_ever(watch: Watch) -> None:
    watch(("kinds", "Page"))
    run("ALTER TABLE gestore_sync_changelog RENAME TO gone")

    make_pages("/a")
    run("UPDATE kinds_page SET title = 'b'")
    run("DELETE FROM kinds_page")

    assert run("SELECT count(*) FROM gone") == [(0,)]


@ROLLED_BACK
def test_a_type_of_content_that_is_missing_is_added(watch: Watch) -> None:
    watch(("kinds", "Page"))
    ContentType.objects.using(HERE).filter(app_label="kinds", model="page").update(model="leaf")
    ContentType.objects.clear_cache()

    make_pages("/a")

    assert take_log() == [("page", "/a", ADDITION)]
    ContentType.objects.clear_cache()


@ROLLED_BACK
def test_columns_that_a_migration_has_renamed_make_no_statement_fail(watch: Watch) -> None:
    watch(("kinds", "Currency", "Page", "Truck", "Shelf"))
    kinds.Currency.objects.using(HERE).create(pk=1, code="EUR")
    kinds.Truck.objects.using(HERE).create(pk=2, plate="WAW 1")
    make_pages("/a")
    run("SET CONSTRAINTS ALL IMMEDIATE")
    take_log()
    run("ALTER TABLE kinds_currency RENAME code TO sign")
    run("ALTER TABLE kinds_vehicle RENAME plate TO number")
    run("ALTER TABLE kinds_page RENAME path TO way")
    run("ALTER TABLE kinds_shelf_assets DROP COLUMN asset_id")

    run("UPDATE kinds_currency SET sign = 'USD'")
    run("DELETE FROM kinds_currency")
    run("DELETE FROM kinds_truck")
    run("UPDATE kinds_page SET title = 'new'")
    run("DELETE FROM kinds_page")
    run("DELETE FROM kinds_shelf_assets")

    assert take_entries() == [
        ("currency", "1", CHANGE, {}),
        ("currency", "1", DELETION, {"fields": {"code": None}}),
        ("truck", "2", DELETION, {"fields": {"plate": None}}),
    ]


@ROLLED_BACK
def test_a_column_that_comes_later_is_no_hindrance(watch: Watch) -> None:
    watch(("kinds", "Page"))
    make_pages("/a")
    run("UPDATE kinds_page SET title = 'b'")
    take_log()

    run("ALTER TABLE kinds_page ADD COLUMN later integer")
    run("UPDATE kinds_page SET later = 1")

    assert take_log() == [("page", "/a", CHANGE)]


@ROLLED_BACK
def test_who_may_write_a_table_need_not_have_rights_on_the_log(watch: Watch) -> None:
    watch(("kinds", "Page"))
    role = f"writer_{uuid.uuid4().hex}"
    run(f"CREATE ROLE {role}")
    run(f"GRANT ALL ON kinds_page TO {role}")

    run(f"SET ROLE {role}")
    make_pages("/a")
    run("RESET ROLE")

    assert take_log() == [("page", "/a", ADDITION)]


@ROLLED_BACK
def test_the_search_path_of_the_session_does_not_matter(watch: Watch) -> None:
    watch(("kinds", "Page"))

    run("SET LOCAL search_path = ''")
    run("INSERT INTO public.kinds_page (path, title) VALUES ('/a', '')")
    run("SET LOCAL search_path = public")

    assert take_log() == [("page", "/a", ADDITION)]


# Signals and triggers


@ROLLED_BACK
def test_what_triggers_log_signals_do_not_log_again(watch: Watch) -> None:
    watch("kinds", "logged")
    shelf = kinds.Shelf(name="a")
    shelf.save(using=HERE)
    asset = kinds.Asset(title="a")
    asset.save(using=HERE)
    reading = logged.Reading(code="a")
    reading.save(using=HERE)
    assert len(take_log()) == 3

    shelf.assets.add(asset)
    assert len(take_log()) == 1
    logged.Reading.objects.using(HERE).update(value=1)
    assert len(take_log()) == 1
    logged.Reading.objects.using(HERE).bulk_create([logged.Reading(code="b")])
    assert len(take_log()) == 1
    shelf.delete()
    assert len(take_log()) == 2


@ROLLED_BACK
def test_a_table_without_triggers_is_left_to_the_signals(watch: Watch) -> None:
    run("ALTER TABLE kinds_page RENAME TO kinds_page_rows")
    run("CREATE VIEW kinds_page AS SELECT * FROM kinds_page_rows")
    watch(("kinds", "Page", "Star"))

    kinds.Page(path="/a").save(using=HERE)

    assert not is_capturing(HERE, kinds.Page)
    assert is_capturing(HERE, kinds.Star)
    assert take_log() == [("page", "/a", ADDITION)]


@ROLLED_BACK
def test_where_a_trigger_is_disabled_signals_are_heard_again(watch: Watch) -> None:
    watch(("kinds", "Page"))
    run("ALTER TABLE kinds_page DISABLE TRIGGER USER")
    forget_captured()

    kinds.Page(path="/a").save(using=HERE)

    assert take_log() == [("page", "/a", ADDITION)]


@ROLLED_BACK
def test_a_model_that_was_watched_after_the_last_migration_is_left_to_the_signals(watch: Watch) -> None:
    watch(("kinds", "Star"))

    with override_settings(SYNCHRO_MODELS=("kinds",)):
        kinds.Page(path="/a").save(using=HERE)
        kinds.Star(number=1).save(using=HERE)

    assert take_log() == [("page", "/a", ADDITION), ("star", "1", ADDITION)]


@ROLLED_BACK
def test_asking_whether_triggers_capture_is_no_query_of_the_application(
    watch: Watch, django_assert_num_queries: Any
) -> None:
    watch(("kinds", "Star"))
    forget_captured()

    with django_assert_num_queries(1, using=HERE):
        kinds.Star(number=1).save(using=HERE, force_insert=True)


@isolate_apps("tests.kinds")
def test_keys_of_a_type_that_python_reads_in_its_own_way_are_left_to_the_signals() -> None:
    class Shade(models.Model):
        colour = ColourField(primary_key=True)

        class Meta:
            app_label = "kinds"

    assert list(iter_captures(Shade, Watched(frozenset({Shade}), {}, {}))) == []


@pytest.mark.django_db(databases=DATABASES)
def test_on_other_databases_signals_are_heard_as_ever(watch: Watch) -> None:
    watch(("kinds", "Page"), using="default")

    kinds.Page(path="/a").save(using="default")

    assert not is_capturing("default")
    assert take_log("default") == [("page", "/a", ADDITION)]


# Installation


@ROLLED_BACK
def test_all_triggers_of_a_site_are_installed_once(watch: Watch) -> None:
    watch("kinds", "logged", "auth")
    before = find_triggers()

    update_triggers(HERE)

    assert find_triggers() == before
    assert set(before) == find_functions()
    assert [model._meta.label for model in get_watched().models if not is_capturing(HERE, model)] == []


@ROLLED_BACK
def test_a_trigger_that_is_not_up_to_date_is_installed_again(watch: Watch) -> None:
    watch(("kinds", "Page"))
    before = find_triggers()
    one, *others = before
    run(f"COMMENT ON TRIGGER {one} ON kinds_page IS 'another version'")

    update_triggers(HERE)

    after = find_triggers()
    assert after[one] != before[one]
    assert [after[name] for name in others] == [before[name] for name in others]


@ROLLED_BACK
def test_a_trigger_that_was_lost_is_installed_again(watch: Watch) -> None:
    watch(("kinds", "Page"))
    one = next(iter(find_triggers()))
    run(f"DROP TRIGGER {one} ON kinds_page")

    update_triggers(HERE)

    assert one in find_triggers()


@ROLLED_BACK
def test_models_that_are_not_watched_any_more_lose_their_triggers(watch: Watch) -> None:
    watch(("kinds", "Page", "Star"))
    with override_settings(SYNCHRO_MODELS=(("kinds", "Star"),)):
        update_triggers(HERE)

        assert {table for (table,) in run(TABLES_SQL, [NAME_PATTERN])} == {"kinds_star"}
        assert find_functions() == set(find_triggers())


TABLES_SQL = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname ~ %s"


@ROLLED_BACK
@pytest.mark.parametrize("settings", [{"GESTORE_SYNC": {}}, {"SYNCHRO_MODELS": ()}])
def test_the_triggers_go_when_the_settings_want_none(watch: Watch, settings: dict[str, Any]) -> None:
    watch(("kinds", "Page"))
    with override_settings(**settings):
        update_triggers(HERE)

    assert find_triggers() == {}
    assert find_functions() == set()


@ROLLED_BACK
def test_until_the_triggers_are_removed_changes_are_logged_twice_rather_than_not_at_all(watch: Watch) -> None:
    watch(("kinds", "Page"))

    with override_settings(GESTORE_SYNC={}):
        kinds.Page(path="/a").save(using=HERE)
        update_triggers(HERE)
        kinds.Page(path="/b").save(using=HERE)

    assert take_log() == [("page", "/a", ADDITION), ("page", "/a", ADDITION), ("page", "/b", ADDITION)]


@ROLLED_BACK
def test_functions_of_tables_that_are_gone_are_removed(watch: Watch) -> None:
    watch(("kinds", "PageLink", "Star"))
    run("SET CONSTRAINTS ALL IMMEDIATE")
    run("DROP TABLE kinds_pagelink CASCADE")

    update_triggers(HERE)

    assert find_functions() == set(find_triggers())
    assert is_capturing(HERE, kinds.Star)


@ROLLED_BACK
def test_a_database_without_the_log_gets_no_triggers(watch: Watch) -> None:
    watch(("kinds", "Page"))
    run("ALTER TABLE gestore_sync_changelog RENAME TO gone")

    update_triggers(HERE)

    assert find_triggers() == {}


@ROLLED_BACK
def test_a_table_of_somebody_else_is_left_to_the_signals_with_a_warning(watch: Watch) -> None:
    role = f"other_{uuid.uuid4().hex}"
    run(f"CREATE ROLE {role}")
    run(f"GRANT ALL ON SCHEMA public TO {role}")
    run(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    run(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    run(f"ALTER TABLE kinds_star OWNER TO {role}")
    run(f"SET ROLE {role}")

    with pytest.warns(RuntimeWarning, match=r"'pg_local' does not let us install triggers for kinds.Page"):
        watch(("kinds", "Page", "Star"))

    assert is_capturing(HERE, kinds.Star)
    assert not is_capturing(HERE, kinds.Page)
    kinds.Page(path="/a").save(using=HERE)
    assert take_log() == [("page", "/a", ADDITION)]


@ROLLED_BACK
def test_the_commands_of_django_pgtrigger_leave_our_triggers_alone(watch: Watch) -> None:
    watch(("kinds", "Page"))
    before = find_triggers()

    pgtrigger.install(database=HERE)
    pgtrigger.prune(database=HERE)
    pgtrigger.uninstall(database=HERE)
    make_pages("/a")

    assert find_triggers() == before
    assert take_log() == [("page", "/a", ADDITION)]


@ROLLED_BACK
def test_no_app_needs_a_migration_for_the_triggers(watch: Watch) -> None:
    watch("kinds", "campus")

    assert pgtrigger.registered() == []
    assert [model for model in get_watched().models if "triggers" in model._meta.original_attrs] == []


@ROLLED_BACK
def test_without_the_extra_the_error_names_it(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pgtrigger", None)

    with pytest.raises(WrongSetting, match=r'pip install "gestore-sync\[triggers\]"'):
        watch(("kinds", "Page"))

    assert find_missing_extra()


@override_settings(GESTORE_SYNC=make_options())
def test_a_check_tells_that_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_settings(None) == []
    monkeypatch.setitem(sys.modules, "pgtrigger", None)

    (error,) = check_settings(None)

    assert (error.id, error.hint) == ("gestore_sync.E006", 'Run: pip install "gestore-sync[triggers]"')


@override_settings(GESTORE_SYNC=make_options())
def test_a_check_tells_that_no_database_can_have_triggers() -> None:
    databases = {alias: connections.settings[alias] for alias in ("default", "remote")}
    with warnings.catch_warnings(action="ignore"), override_settings(DATABASES=databases):
        (warning,) = check_settings(None)

    assert warning.id == "gestore_sync.W002"


@ROLLED_BACK
def test_without_the_extra_old_triggers_are_still_removed(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch(("kinds", "Page"))
    monkeypatch.setitem(sys.modules, "pgtrigger", None)

    with override_settings(GESTORE_SYNC={}):
        update_triggers(HERE)

    assert find_triggers() == {}


@COMMITTED
def test_migrating_installs_and_removes_the_triggers(watch: Watch) -> None:
    watch(("kinds", "Star"))
    with override_settings(SYNCHRO_MODELS=(("kinds", "Page"),)):
        emit_post_migrate_signal(verbosity=0, interactive=False, db=HERE)
        make_pages("/a")
        assert take_log() == [("page", "/a", ADDITION)]
    with override_settings(GESTORE_SYNC={}):
        emit_post_migrate_signal(verbosity=0, interactive=False, db=HERE)

    assert find_triggers() == {}


# Muting


def insert_by_orm(path: str) -> None:
    kinds.Page(path=path).save(using=HERE, force_insert=True)


def insert_by_bulk(path: str) -> None:
    make_pages(path)


def insert_by_sql(path: str) -> None:
    run("/* a comment */ -- another\n INSERT INTO kinds_page (path, title) VALUES (%s, '')", [path])


def insert_by_bytes(path: str) -> None:
    with connections[HERE].cursor() as cursor:
        cursor.execute(b"INSERT INTO kinds_page (path, title) VALUES (%s, '')", [path])


def insert_by_composed_sql(path: str) -> None:
    with connections[HERE].cursor() as cursor:
        table = sql.Identifier("kinds_page")
        cursor.execute(sql.SQL("INSERT INTO {} (path, title) VALUES ({}, '')").format(table, sql.Literal(path)))


def insert_by_executemany(path: str) -> None:
    with connections[HERE].cursor() as cursor:
        cursor.executemany("INSERT INTO kinds_page (path, title) VALUES (%s, %s)", [[path, "a"]])


def insert_by_copy(path: str) -> None:
    with connections[HERE].cursor() as cursor, cursor.copy("COPY kinds_page (path, title) FROM STDIN") as copy:
        copy.write_row([path, "a"])


def insert_by_callproc(path: str) -> None:
    with connections[HERE].cursor() as cursor:
        cursor.callproc("add_page", [path])


def insert_by_stream(path: str) -> None:
    with connections[HERE].cursor() as cursor:
        assert list(cursor.stream("INSERT INTO kinds_page (path, title) VALUES (%s, '') RETURNING path", [path]))


def insert_by_cte(path: str) -> None:
    run("WITH made AS (INSERT INTO kinds_page (path, title) VALUES (%s, '') RETURNING 1) SELECT * FROM made", [path])


def insert_by_explain(path: str) -> None:
    run("EXPLAIN ANALYZE INSERT INTO kinds_page (path, title) VALUES (%s, '')", [path])


def insert_by_psycopg(path: str) -> None:
    """Past all of Django."""
    connections[HERE].connection.execute("INSERT INTO kinds_page (path, title) VALUES (%s, '')", [path])


def insert_by_pipeline(path: str) -> None:
    with connections[HERE].connection.pipeline():
        insert_by_psycopg(path)


WAYS = [
    insert_by_orm,
    insert_by_bulk,
    insert_by_sql,
    insert_by_bytes,
    insert_by_composed_sql,
    insert_by_executemany,
    insert_by_copy,
    insert_by_callproc,
    insert_by_stream,
    insert_by_cte,
    insert_by_explain,
    insert_by_psycopg,
    insert_by_pipeline,
]

ADD_PAGE = """
    CREATE FUNCTION add_page(given text) RETURNS integer LANGUAGE sql
    AS $$ INSERT INTO kinds_page (path, title) VALUES (given, '') RETURNING 1 $$
"""


@pytest.fixture
def pages(watch: Watch) -> Iterator[None]:
    """Pages are watched, and can be added by a function."""
    watch(("kinds", "Page", "Star"))
    run(ADD_PAGE)
    yield
    run("DROP FUNCTION add_page")


def assert_all_is_logged() -> None:
    """Nothing of a mute is left: not in the session, and not for the next change."""
    assert run("SELECT coalesce(current_setting('gestore_sync.muted', true), '')") == [("",)]
    path = f"/{uuid.uuid4()}"
    take_log()
    insert_by_orm(path)
    assert take_log() == [("page", path, ADDITION)]


@COMMITTED
@pytest.mark.parametrize("insert", WAYS)
def test_what_happens_with_the_log_disabled_is_not_logged(pages: None, insert: Callable[[str], None]) -> None:
    with DisableSynchroLog():
        insert("/muted")

    assert take_log() == []
    assert kinds.Page.objects.using(HERE).filter(path="/muted").exists()
    insert("/after")
    assert take_log() == [("page", "/after", ADDITION)]
    assert_all_is_logged()


@COMMITTED
@pytest.mark.parametrize("insert", WAYS)
def test_in_a_transaction_only_the_statements_inside_are_not_logged(pages: None, insert: Callable[[str], None]) -> None:
    with transaction.atomic(using=HERE):
        insert("/before")
        with DisableSynchroLog():
            insert("/muted")
        insert("/between")
        with DisableSynchroLog(), transaction.atomic(using=HERE):
            insert("/muted too")
        insert("/after")

    assert take_log() == [("page", path, ADDITION) for path in ("/after", "/before", "/between")]
    assert_all_is_logged()


@COMMITTED
def test_a_block_may_span_transactions(pages: None) -> None:
    with DisableSynchroLog():
        insert_by_orm("/a")
        with transaction.atomic(using=HERE):
            insert_by_orm("/b")
            with transaction.atomic(using=HERE):
                insert_by_copy("/c")
        insert_by_orm("/d")

    assert take_log() == []
    assert_all_is_logged()


@COMMITTED
def test_without_autocommit_the_block_leaves_the_transaction_as_it_is(pages: None) -> None:
    transaction.set_autocommit(False, using=HERE)
    try:
        with DisableSynchroLog():
            insert_by_sql("/gone")
        transaction.rollback(using=HERE)
        with DisableSynchroLog():
            insert_by_sql("/a")
        insert_by_sql("/b")
        transaction.commit(using=HERE)
    finally:
        transaction.set_autocommit(True, using=HERE)

    assert take_log() == [("page", "/b", ADDITION)]
    assert not kinds.Page.objects.using(HERE).filter(path="/gone").exists()
    assert_all_is_logged()


@COMMITTED
def test_blocks_may_be_nested(pages: None) -> None:
    @disable_synchro_log
    def add() -> None:
        insert_by_orm("/inner")

    with DisableSynchroLog():
        add()
        insert_by_orm("/outer")

    assert take_log() == []
    assert_all_is_logged()


@COMMITTED
@pytest.mark.parametrize(
    "action", ["UPDATE kinds_page SET title = 'new'", "DELETE FROM kinds_page", "TRUNCATE kinds_page CASCADE"]
)
def test_updates_and_deletions_are_muted_too(pages: None, action: str) -> None:
    insert_by_orm("/a")
    take_log()

    with DisableSynchroLog():
        run(action)

    assert take_log() == []


@COMMITTED
def test_after_a_rollback_inside_the_block_all_is_logged(pages: None) -> None:
    with transaction.atomic(using=HERE):
        with DisableSynchroLog():
            insert_by_orm("/a")
            with pytest.raises(IntegrityError), transaction.atomic(using=HERE):
                insert_by_orm("/a")
            insert_by_orm("/b")
        insert_by_orm("/c")

    assert take_log() == [("page", "/c", ADDITION)]
    assert_all_is_logged()


@COMMITTED
def test_after_a_rollback_of_the_block_all_is_logged(pages: None) -> None:
    insert_by_orm("/a")
    take_log()
    with transaction.atomic(using=HERE):
        with pytest.raises(IntegrityError), transaction.atomic(using=HERE), DisableSynchroLog():
            make_pages("/b", "/a")
        insert_by_orm("/c")
    with pytest.raises(IntegrityError), transaction.atomic(using=HERE), DisableSynchroLog():
        insert_by_orm("/a")
    insert_by_orm("/d")

    assert take_log() == [("page", "/c", ADDITION), ("page", "/d", ADDITION)]
    assert_all_is_logged()


@COMMITTED
def test_a_statement_that_fails_on_its_own_leaves_nothing_behind(pages: None) -> None:
    insert_by_orm("/a")
    take_log()

    for insert in WAYS:
        with pytest.raises((IntegrityError, psycopg.errors.UniqueViolation)), DisableSynchroLog():
            insert("/a")

    assert_all_is_logged()


@COMMITTED
def test_a_savepoint_of_the_block_does_not_bring_it_back(pages: None) -> None:
    with transaction.atomic(using=HERE):
        with DisableSynchroLog():
            insert_by_orm("/a")
            run("SAVEPOINT one")
            run("SAVEPOINT two")
        insert_by_orm("/b")
        run("ROLLBACK TO SAVEPOINT two")
        insert_by_orm("/c")
        run("ROLLBACK TO SAVEPOINT one")
        insert_by_orm("/d")

    assert take_log() == [("page", "/d", ADDITION)]
    assert_all_is_logged()


@COMMITTED
def test_a_broken_transaction_can_be_mended_inside_the_block(pages: None) -> None:
    with transaction.atomic(using=HERE), DisableSynchroLog():
        insert_by_orm("/a")
        run("SAVEPOINT one")
        with pytest.raises(IntegrityError):
            run("INSERT INTO kinds_page (path, title) VALUES ('/a', '')")
        run("ROLLBACK TO SAVEPOINT one")
        insert_by_orm("/b")

    assert take_log() == []
    assert sorted(kinds.Page.objects.using(HERE).values_list("path", flat=True)) == ["/a", "/b"]
    assert_all_is_logged()


@COMMITTED
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_cursor_of_the_server_can_be_read_while_rows_are_written(pages: None, in_transaction: bool) -> None:
    make_pages(*(f"/{number}" for number in range(5)))
    take_log()

    with transaction.atomic(using=HERE) if in_transaction else nullcontext(), DisableSynchroLog():
        for page in kinds.Page.objects.using(HERE).filter(title="a").order_by("path").iterator(chunk_size=2):
            page.title = "new"
            page.save()

    assert take_log() == []
    assert kinds.Page.objects.using(HERE).filter(title="new").count() == 5
    assert_all_is_logged()


@COMMITTED
def test_what_runs_in_no_transaction_runs_inside_the_block(pages: None) -> None:
    with DisableSynchroLog():
        run("VACUUM kinds_page")
        run("CREATE INDEX CONCURRENTLY passing ON kinds_page (title)")
        run("DROP INDEX CONCURRENTLY passing")
        run("BEGIN")
        insert_by_sql("/a")
        run("COMMIT")

    assert take_log() == []
    assert_all_is_logged()


@COMMITTED
def test_procedures_and_blocks_of_code_are_muted_in_a_transaction_only(pages: None) -> None:
    run("CREATE PROCEDURE put_page(given text) LANGUAGE sql AS $$ INSERT INTO kinds_page VALUES (given, '') $$")
    calls = "CALL put_page('{0}')", "DO $$ BEGIN INSERT INTO kinds_page VALUES ('{0} by do', ''); END $$"

    with DisableSynchroLog():
        for call in calls:
            run(call.format("/alone"))
        with transaction.atomic(using=HERE):
            for call in calls:
                run(call.format("/in a transaction"))
    run("DROP PROCEDURE put_page")

    assert take_log() == [("page", "/alone", ADDITION), ("page", "/alone by do", ADDITION)]


@COMMITTED
def test_other_threads_log_meanwhile(pages: None) -> None:
    muted, done = threading.Event(), threading.Event()

    def add() -> None:
        try:
            assert muted.wait(10)
            insert_by_orm("/other thread")
        finally:
            connections[HERE].close()
            done.set()

    thread = threading.Thread(target=add)
    thread.start()
    with transaction.atomic(using=HERE), DisableSynchroLog():
        insert_by_orm("/a")
        muted.set()
        assert done.wait(10)
        insert_by_orm("/b")
    thread.join()

    assert take_log() == [("page", "/other thread", ADDITION)]
    assert_all_is_logged()


@COMMITTED
def test_other_tasks_log_meanwhile_on_the_same_connection(pages: None) -> None:
    async def run_both() -> None:
        muted, added = asyncio.Event(), asyncio.Event()

        async def mute_and_add() -> None:
            async with DisableSynchroLog():
                await kinds.Page(path="/a").asave(using=HERE)
                muted.set()
                await added.wait()
                await kinds.Page(path="/b").asave(using=HERE)

        async def add() -> None:
            await muted.wait()
            await kinds.Page(path="/other task").asave(using=HERE)
            added.set()

        await asyncio.gather(mute_and_add(), add())

    async_to_sync(run_both)()

    assert take_log() == [("page", "/other task", ADDITION)]
    assert_all_is_logged()


@COMMITTED
def test_a_connection_that_is_opened_inside_is_muted(pages: None) -> None:
    connections[HERE].close()

    with DisableSynchroLog():
        insert_by_orm("/a")

    assert take_log() == []
    assert_all_is_logged()


@COMMITTED
def test_parameters_may_be_bound_by_the_server(pages: None) -> None:
    given = connections[HERE].settings_dict
    other = connections[HERE].copy()
    other.settings_dict = {**given, "OPTIONS": {**given["OPTIONS"], "server_side_binding": True}}
    try:
        with DisableSynchroLog(), other.cursor() as cursor:
            cursor.execute("INSERT INTO kinds_page (path, title) VALUES (%s, '')", ["/muted"])
        with other.cursor() as cursor:
            cursor.execute("INSERT INTO kinds_page (path, title) VALUES (%s, '')", ["/after"])
    finally:
        other.close()

    assert take_log() == [("page", "/after", ADDITION)]


@COMMITTED
def test_muting_is_no_query_of_the_application(pages: None, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1, using=HERE), DisableSynchroLog():
        insert_by_orm("/a")


@COMMITTED
@override_settings(GESTORE_SYNC={})
def test_without_triggers_cursors_are_those_of_django() -> None:
    connections[HERE].close()

    with connections[HERE].cursor() as cursor:
        assert not isinstance(cursor.cursor, MutingCursor)


# Muting for what a run writes


@COMMITTED_ON_BOTH
def test_a_database_can_be_muted_alone(watch: Watch, pages: None) -> None:
    watch(("kinds", "Page", "Star"), using=THERE)

    with mute(HERE):
        make_pages("/a", using=HERE)
        make_pages("/a", using=THERE)
        insert_by_copy("/b")

    assert take_log(HERE) == []
    assert take_log(THERE) == [("page", "/a", ADDITION)]
    assert_all_is_logged()


@COMMITTED
def test_models_can_be_muted_alone(pages: None) -> None:
    with mute(HERE, kinds.Page), mute(HERE, kinds.Currency):
        insert_by_orm("/a")
        run("INSERT INTO kinds_star (number, name) VALUES (1, '')")

    assert take_log() == [("star", "1", ADDITION)]
    assert_all_is_logged()


@ROLLED_BACK
def test_parents_are_muted_with_a_child(watch: Watch) -> None:
    watch("kinds")

    with mute(HERE, kinds.Pizzeria):
        kinds.Pizzeria.objects.using(HERE).create(name="a")

    assert take_log() == []


@COMMITTED
def test_a_muted_database_stays_muted_after_a_nested_block(pages: None) -> None:
    with mute(HERE):
        with DisableSynchroLog():
            insert_by_orm("/a")
        insert_by_orm("/b")
        with mute(HERE, kinds.Star):
            insert_by_orm("/c")
        insert_by_orm("/d")

    assert take_log() == []
    assert_all_is_logged()


@COMMITTED
@override_settings(GESTORE_SYNC={})
def test_a_target_with_triggers_is_muted_by_a_site_that_has_none(watch: Watch) -> None:
    with override_settings(SYNCHRO_MODELS=(("kinds", "Page"),), GESTORE_SYNC=make_options()):
        update_triggers(HERE)
    connections[HERE].close()

    with mute(HERE), transaction.atomic(using=HERE):
        make_pages("/a")
    make_pages("/b")
    entries = take_log()
    update_triggers(HERE)

    assert entries == [("page", "/b", ADDITION)]


def test_muting_does_nothing_where_there_are_no_triggers() -> None:
    with mute("default"):
        pass


# Synchronization


@COMMITTED_ON_BOTH
@pytest.mark.parametrize("mode", ["raw", "save"])
def test_what_sql_changed_is_sent_and_does_not_come_back(watch: Watch, mode: str) -> None:
    watch(("kinds", "Shelf", "Asset", "Place", "Restaurant"), using=HERE, SIGNALS=mode)
    watch(("kinds", "Shelf", "Asset", "Place", "Restaurant"), using=THERE, SIGNALS=mode)
    keys = [uuid.uuid4() for _ in range(3)]
    run("INSERT INTO kinds_asset (uid, title) SELECT unnest(%s), 'old'", [keys])
    run("INSERT INTO kinds_shelf (id, name) VALUES (7, 'a')")
    run("INSERT INTO kinds_shelf_assets (shelf_id, asset_id) SELECT 7, unnest(%s)", [keys[:2]])
    kinds.Restaurant.objects.using(HERE).create(name="a", stars=1)
    api.synchronize(source=HERE, remote=THERE)
    run("UPDATE kinds_asset SET title = 'new'")
    run("UPDATE kinds_place SET name = 'b'")
    run("DELETE FROM kinds_shelf_assets WHERE asset_id = %s", [keys[0]])
    run("INSERT INTO kinds_shelf_assets (shelf_id, asset_id) VALUES (7, %s)", [keys[2]])
    run("DELETE FROM kinds_asset WHERE uid = %s", [keys[0]])

    api.synchronize(source=HERE, remote=THERE)

    shelf = kinds.Shelf.objects.using(THERE).get(name="a")
    assert sorted(shelf.assets.values_list("uid", "title")) == sorted((key, "new") for key in keys[1:])
    assert not kinds.Asset.objects.using(THERE).filter(pk=keys[0]).exists()
    assert kinds.Restaurant.objects.using(THERE).values_list("name", "stars").get() == ("b", 1)
    assert not ChangeLog.objects.using(THERE).filter(origin=None).exists()
    assert api.synchronize(source=HERE, remote=THERE).message == "No changes since last synchronization."

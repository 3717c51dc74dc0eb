from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connections, transaction
from django.db.backends.postgresql.psycopg_any import register_tzloader
from django.db.models import CharField
from django.test.utils import CaptureQueriesContext
from django.utils.translation import get_language, override
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gestore_sync import api, runs
from gestore_sync.background import ReadAhead
from gestore_sync.exceptions import UnknownObject, UnreadableValue, WriteFailed
from gestore_sync.generic import get_object_ids, to_key, to_keys, to_object_id
from gestore_sync.layouts import Layout
from gestore_sync.links import LinkGraph
from gestore_sync.models import DELETION, ChangeLog, IdMapping, Origin
from gestore_sync.reading import GAPS_OF_RANGE, find_range, get_queryset, iter_pointing, iter_rows, make_rows, match
from gestore_sync.refs import NEW
from gestore_sync.transactions import read_snapshot
from gestore_sync.translation import LOST
from gestore_sync.tuning import ALLOCATIONS, SWITCH_INTERVAL, FastMoments, reading_moments_fast, tuned
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make
from tests.policies.models import Brand, Depot, Parcel, Remark, Trace, Worker
from tests.policies.watching import watched

BADGES = range(-20, 400)
SIDES = ["remote", "pg_remote"]

in_all = pytest.mark.django_db(databases=DATABASES)
drawn = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def numbers(draw: st.DrawFn) -> list[int]:
    """Numbers that follow each other, but for some, in some order."""
    first = draw(st.integers(-40, 300))
    run = list(range(first, first + draw(st.integers(0, 250))))
    gaps = draw(st.sets(st.sampled_from(run), max_size=30)) if run else set()
    found = [number for number in run if number not in gaps] + draw(st.lists(st.integers(-60, 460), max_size=3))
    draw(st.randoms(use_true_random=False)).shuffle(found)
    return found


@pytest.fixture(params=SIDES)
def workers(request: pytest.FixtureRequest, db: None) -> str:
    using: str = request.param
    rows = [Worker(email=str(badge), badge=badge) for badge in BADGES]
    get_queryset(Worker, using).bulk_create(rows)
    return using


@in_all
@given(wanted=numbers())
@drawn
def test_rows_are_found_by_whole_numbers_that_follow_each_other_or_do_not(workers: str, wanted: list[int]) -> None:
    found = get_queryset(Worker, workers).filter(match("badge", wanted)).values_list("badge", flat=True)

    assert sorted(found) == sorted(set(wanted).intersection(BADGES))


@in_all
def test_an_index_is_searched_once_for_keys_that_follow_each_other() -> None:
    def ask(keys: list[int]) -> str:
        with CaptureQueriesContext(connections["pg_remote"]) as queries:
            list(iter_rows(Worker, "pg_remote", keys, ["badge"]))
        return str(queries[0]["sql"])

    some = list(range(1, 2001))

    assert "BETWEEN 1 AND 2000" in ask(some)
    assert "BETWEEN 1 AND 2000" in ask([key for key in some if key % 30])
    assert "BETWEEN" not in ask([key for key in some if key % 2])
    assert "BETWEEN" not in ask([7])


@in_all
@pytest.mark.parametrize("using", SIDES)
def test_keys_that_lie_far_apart_are_found(using: str) -> None:
    keys = [-(2**63), -7, 7, 2**63 - 1]
    get_queryset(Brand, using).bulk_create([Brand(pk=key, name=str(key)) for key in keys])

    assert sorted(pk for (pk,) in iter_rows(Brand, using, keys, ())) == keys
    assert list(iter_rows(Brand, using, [keys[0], keys[-1]], ["name"], lambda rows: rows.filter(pk__gt=0))) == [
        (2**63 - 1, str(2**63 - 1))
    ]


@in_all
def test_whole_numbers_that_a_table_keeps_as_texts_are_not_taken_for_others() -> None:
    with connections["remote"].cursor() as cursor:
        cursor.execute("DROP TABLE policies_trace")
        cursor.execute("CREATE TABLE policies_trace (id integer PRIMARY KEY, parcel_id varchar(20), text varchar(50))")
        cursor.execute("INSERT INTO policies_trace VALUES (1, '7', ''), (2, '8', ''), (3, '70', ''), (4, '77', '')")

    found = [pk for pk, *_ in iter_pointing(Trace, "remote", "parcel_id", [7, 8])]

    assert not {3, 4} & set(found)


@given(wanted=numbers())
def test_a_range_less_its_gaps_is_what_was_asked_for(wanted: list[int]) -> None:
    found = find_range(wanted)

    if found is not None:
        run, gaps = found
        assert set(run) - gaps == set(wanted)
        assert len(gaps) <= GAPS_OF_RANGE


# Moments

zones = st.sampled_from(["UTC", "Europe/London", "Asia/Kathmandu", "America/St_Johns"])
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))
hours_that_come_twice = st.datetimes(
    datetime(2024, 10, 26, 23), datetime(2024, 10, 27, 3), allow_imaginary=False, timezones=st.just(UTC)
)


@in_all
@given(
    moment=moments | moments.map(lambda moment: moment.replace(microsecond=0)) | hours_that_come_twice,
    zone=zones,
    is_aware=st.booleans(),
)
@drawn
def test_moments_are_read_within_a_run_as_they_are_outside(moment: datetime, zone: str, is_aware: bool) -> None:
    connection: Any = connections["pg_remote"]
    connection.ensure_connection()
    before = get_loader(connection)
    of_django = UTC if zone == "UTC" else ZoneInfo(zone)

    with transaction.atomic(using="pg_remote"), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        try:
            register_tzloader(of_django if is_aware else None, connection.connection)
            outside = read(connection.connection, moment)
            with reading_moments_fast(connection):
                is_fast = issubclass(get_loader(connection), FastMoments)
                within = read(connection.connection, moment)
        finally:
            connection.connection.adapters.register_loader("timestamptz", before)

    assert is_fast == (zone == "UTC" and is_aware)
    assert within == outside


def read(session: Any, moment: datetime) -> str:
    """What the driver makes of a moment, of none, and of a list."""
    row = session.execute("SELECT %s::timestamptz, NULL::timestamptz, ARRAY[%s::timestamptz]", [moment] * 2).fetchone()
    return repr(row)


def get_loader(connection: Any) -> Any:
    """What reads moments of a connection."""
    adapters = connection.connection.adapters
    return adapters.get_loader(adapters.types["timestamptz"].oid, 0)


@in_all
def test_a_moment_that_python_does_not_have_is_refused_within_a_run_too() -> None:
    connection: Any = connections["pg_remote"]
    connection.ensure_connection()

    def read(text: str) -> None:
        with (
            transaction.atomic(using="pg_remote"),
            reading_moments_fast(connection),
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT %s::timestamptz", [text])
            cursor.fetchone()

    for text in ("infinity", "12026-01-01 00:00:00+00"):
        with pytest.raises(DatabaseError):
            read(text)


@pytest.mark.django_db(databases=DATABASES, transaction=True)
def test_a_snapshot_reads_moments_fast_and_leaves_the_connection_as_it_was() -> None:
    connection: Any = connections["pg_remote"]
    connection.ensure_connection()
    before = get_loader(connection)

    with read_snapshot("pg_remote"):
        within = get_loader(connection)

    assert within is not before
    assert issubclass(within, before)
    assert get_loader(connection) is before


# Garbage


@pytest.fixture
def thresholds() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield gc.get_threshold()
    gc.set_threshold(*before)


def test_garbage_is_collected_rarely_during_a_run_and_as_before_afterwards(thresholds: tuple[int, int, int]) -> None:
    with tuned(), tuned():
        within = gc.get_threshold()

    assert within == (ALLOCATIONS, *thresholds[1:])
    assert gc.get_threshold() == thresholds


def test_runs_of_two_threads_end_in_any_order(thresholds: tuple[int, int, int]) -> None:
    first_has_begun, second_has_begun, first_has_ended = threading.Event(), threading.Event(), threading.Event()
    seen = []

    def run_first() -> None:
        with tuned():
            first_has_begun.set()
            second_has_begun.wait(10)
        seen.append(gc.get_threshold()[0])
        first_has_ended.set()

    thread = threading.Thread(target=run_first)
    thread.start()
    first_has_begun.wait(10)
    with tuned():
        second_has_begun.set()
        first_has_ended.wait(10)
    thread.join()

    assert seen == [ALLOCATIONS]
    assert gc.get_threshold() == thresholds


@pytest.mark.parametrize("given", [(0, 10, 10), (ALLOCATIONS * 2, 10, 10)], ids=["switched off", "rarer"])
def test_what_the_application_set_for_garbage_stays(
    thresholds: tuple[int, int, int], given: tuple[int, int, int]
) -> None:
    gc.set_threshold(*given)

    with tuned():
        within = gc.get_threshold()

    assert (within, gc.get_threshold()) == (given, given)


def test_what_is_set_for_garbage_during_a_run_stays(thresholds: tuple[int, int, int]) -> None:
    with tuned():
        gc.set_threshold(5000, 5, 5)

    assert gc.get_threshold() == (5000, 5, 5)


# Turns


@pytest.fixture
def interval() -> Iterator[float]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def test_threads_take_turns_more_often_during_a_run_and_as_before_afterwards(interval: float) -> None:
    with tuned(), tuned():
        within = sys.getswitchinterval()

    assert within == pytest.approx(SWITCH_INTERVAL)
    assert sys.getswitchinterval() == interval


@pytest.mark.parametrize("given", [0.0001, 0.02])
def test_what_the_application_set_for_turns_is_there_after_a_run(interval: float, given: float) -> None:
    sys.setswitchinterval(given)
    before = sys.getswitchinterval()

    for _ in range(3):
        with tuned():
            within = sys.getswitchinterval()

    assert within == pytest.approx(min(before, SWITCH_INTERVAL))
    assert sys.getswitchinterval() == before


def test_a_run_takes_turns_often_and_ends_as_it_began_also_with_an_error(pair: Pair, interval: float) -> None:
    depot = make(Depot, pair.source)
    seen: list[float] = []

    def look(execute: Any, sql: str, *arguments: Any) -> Any:
        seen.append(sys.getswitchinterval())
        return execute(sql, *arguments)

    with connections[pair.target].execute_wrapper(look):
        api.synchronize([depot], source=pair.source, remote=pair.target)
    with pytest.raises(UnknownObject):
        api.synchronize(["policies.Depot.0"], source=pair.source, remote=pair.target)

    assert min(seen) == pytest.approx(SWITCH_INTERVAL)
    assert sys.getswitchinterval() == interval


# Rows that are read ahead


@pytest.fixture
def parcels(db: None) -> list[Parcel]:
    depot = make(Depot, "pg_local", name="ours")
    return [make(Parcel, "pg_local", depot=depot, number=str(number)) for number in range(9)]


def read_numbers(parcels: list[Parcel], size: int) -> ReadAhead:
    keys = [parcel.pk for parcel in parcels]
    batches = [keys[at : at + size] for at in range(0, len(keys), size)]
    return ReadAhead(batches, "pg_local", lambda some: make_rows(Parcel, "pg_local", some), ["number"])


@in_all
@pytest.mark.parametrize("size", [1, 4, 9, 100])
def test_batches_that_are_read_ahead_come_in_their_order_with_their_rows(parcels: list[Parcel], size: int) -> None:
    with read_numbers(parcels, size) as stream:
        found = list(stream)
    with read_numbers([], size) as empty:
        nothing = list(empty)

    assert [key for keys, _ in found for key in keys] == [parcel.pk for parcel in parcels]
    assert all(sorted(pk for pk, _ in rows) == sorted(keys) for keys, rows in found)
    assert dict(row for _, rows in found for row in rows) == {parcel.pk: parcel.number for parcel in parcels}
    assert nothing == []


@in_all
def test_the_caller_may_ask_the_same_database_while_rows_are_read_ahead(parcels: list[Parcel]) -> None:
    with read_numbers(parcels, 2) as stream:
        counts = [get_queryset(Parcel, "pg_local").count() for _ in stream]

    assert counts == [9] * 5


class Reading(CharField):
    """Refuses the value 5, and says where it is read."""

    def from_db_value(self, value: Any, *_: Any) -> Any:
        if value == "5":
            raise ValueError("not five")
        return f"{value} {threading.current_thread().name} {get_language()}"


@in_all
def test_a_value_that_cannot_be_read_ahead_is_named(parcels: list[Parcel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parcel._meta.get_field("number"), "__class__", Reading)

    with (
        pytest.raises(UnreadableValue, match=rf"policies.Parcel.{parcels[5].pk} .*'number'.*not five"),
        read_numbers(parcels, 2) as stream,
    ):
        list(stream)


@in_all
def test_fields_read_values_where_the_caller_is(parcels: list[Parcel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parcel._meta.get_field("number"), "__class__", Reading)

    with override("pl"), read_numbers(parcels[:5], 2) as stream:
        found = [number for _, rows in stream for _, number in rows]

    assert {number.partition(" ")[2] for number in found} == {f"{threading.current_thread().name} pl"}


def end_after_the_first(parcels: list[Parcel], error: BaseException, broken: str) -> None:
    """Raise an error when the first batch is there; what is read ahead after it is ``broken``."""
    keys = [parcel.pk for parcel in parcels]

    def make_broken(some: list[Any]) -> Any:
        rows = make_rows(Parcel, "pg_local", some)
        return rows if keys[0] in some else rows.extra(where=[broken])

    batches = [keys[:4], keys[4:]]
    with transaction.atomic(using="pg_local"), ReadAhead(batches, "pg_local", make_broken, []) as stream:
        for _ in stream:
            time.sleep(0.1)
            raise error


@in_all
def test_the_error_of_reading_ahead_is_raised_not_the_one_that_follows_from_it(parcels: list[Parcel]) -> None:
    with pytest.raises(DatabaseError, match="no_such_column"):
        end_after_the_first(parcels, DatabaseError("because of that"), "no_such_column = 1")


@in_all
@pytest.mark.parametrize("error", [WriteFailed("A row."), ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_an_error_of_the_caller_stays_whatever_became_of_reading_ahead(
    parcels: list[Parcel], error: BaseException
) -> None:
    with pytest.raises(type(error)):
        end_after_the_first(parcels, error, "no_such_column = 1")

    assert not connections["pg_local"].allow_thread_sharing


@in_all
def test_who_breaks_off_does_not_wait_for_what_is_read_ahead(parcels: list[Parcel]) -> None:
    begun = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        end_after_the_first(parcels, KeyboardInterrupt(), "pg_sleep(30) IS NOT NULL")

    assert time.monotonic() - begun < 15


@in_all
def test_an_error_that_made_reading_ahead_fail_is_the_one_that_is_raised(parcels: list[Parcel]) -> None:
    def fail() -> None:
        keys = [parcel.pk for parcel in parcels]
        with transaction.atomic(using="pg_local"):
            stream = ReadAhead([keys[:4], keys[4:]], "pg_local", lambda some: make_rows(Parcel, "pg_local", some), [])
            with stream as batches:
                for _ in batches:
                    with connections["pg_local"].cursor() as cursor:
                        cursor.execute("SELECT 1 / 0")

    with pytest.raises(DatabaseError, match="division by zero"):
        fail()


# Many values as one

values = st.none() | st.integers(-3, 3)
depots = st.sampled_from([1, 2, NEW, LOST, None])
texts = st.sampled_from(["", "a", "1", None])
parcel_rows = st.lists(st.tuples(depots, values, texts, texts), max_size=6)


@in_all
@given(mine=parcel_rows, chosen=st.randoms(use_true_random=False))
@drawn
def test_rows_are_compared_and_digested_together_as_they_are_one_by_one(mine: Any, chosen: random.Random) -> None:
    layout = Layout(Parcel, LinkGraph("default"))
    width = len(layout.names)
    ours = [[*row, *["same"] * width][:width] for row in mine]
    theirs = [[chosen.choice([value, "a", 1, None]) for value in row] for row in ours]
    theirs = [[None if value is NEW or value is LOST else value for value in row] for row in theirs]

    differing = layout.find_differing_all(ours, theirs)
    digests = layout.digest_all(ours)
    some = layout.digest_all(ours, [1, 0])
    blank = [[None if value is NEW or value is LOST else value for value in row] for row in ours]

    assert differing == [layout.find_differing(*pair) for pair in zip(ours, theirs, strict=True)]
    assert digests == [layout.digest(row, range(width)) for row in blank]
    assert some == [layout.digest(row, [1, 0]) for row in blank]


@in_all
@given(keys=st.lists(st.integers(-(2**70), 2**70) | st.integers(-5, 5) | st.sampled_from(["7", "x", None])))
@drawn
def test_generic_keys_of_many_objects_are_those_of_each(keys: list[Any]) -> None:
    (link,) = (link for link in LinkGraph("default").forward[Remark] if len(link.attnames) == 2)
    field = Remark._meta.get_field("object_id")
    whole = [key for key in keys if type(key) is int]

    assert to_keys(Parcel, keys) == [to_key(Parcel, key) for key in keys]
    assert get_object_ids(link, whole) == {
        value: key
        for key in whole
        if (value := to_object_id(field, key)) is not None  # type: ignore[arg-type]
    }


# Our own tables


@pytest.mark.parametrize("many", [3, 300])
@pytest.mark.parametrize("has_log", [True, False])
def test_the_database_counts_our_tables_after_many_rows(
    live_pair: Pair, monkeypatch: pytest.MonkeyPatch, many: int, has_log: bool
) -> None:
    monkeypatch.setattr(runs, "MANY", many)
    with watched(live_pair) as watch:
        depot = make(Depot, watch.source, name="ours")
        for number in range(9):
            make(Parcel, watch.source, depot=depot, number=str(number))
        if not has_log:
            monkeypatch.setattr(runs, "has_log", lambda using: False)

        with CaptureQueriesContext(connections[watch.target]) as queries:
            watch.push(depot)
            watch.push(depot)

        counted = [query["sql"] for query in queries if query["sql"].startswith("ANALYZE")]
        is_done = connections[watch.target].vendor == "postgresql" and many == 3
        tables = [IdMapping, ChangeLog] if has_log else [IdMapping]
        assert counted == [f'ANALYZE "{model._meta.db_table}"' for model in tables] * is_done


def test_the_database_counts_our_tables_after_many_rows_that_it_had_already(
    live_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MANY", 3)
    with watched(live_pair) as watch:
        for using in (watch.source, watch.target):
            get_queryset(Worker, using).bulk_create([Worker(email=str(at), badge=at) for at in range(9)])

        with CaptureQueriesContext(connections[watch.target]) as queries:
            watch.synchronize(*watch.on_source(Worker))

        counted = [query["sql"] for query in queries if query["sql"].startswith("ANALYZE")]
        assert len(counted) == 2 * (connections[watch.target].vendor == "postgresql")


@pytest.mark.parametrize("has_others", [False, True])
def test_the_database_counts_our_tables_after_fewer_rows_of_a_model_that_had_none(
    live_pair: Pair, monkeypatch: pytest.MonkeyPatch, has_others: bool
) -> None:
    monkeypatch.setattr(runs, "MANY_OF_NEW", 3)
    with watched(live_pair) as watch:
        if has_others:
            watch.synchronize(make(Worker, watch.source, email="other"))
        workers = [make(Worker, watch.source, email=str(number)) for number in range(9)]

        with CaptureQueriesContext(connections[watch.target]) as queries:
            watch.synchronize(*workers)

        counted = [query["sql"] for query in queries if query["sql"].startswith("ANALYZE")]
        is_due = connections[watch.target].vendor == "postgresql" and not has_others
        assert len(counted) == 2 * is_due


@in_all
def test_id_mappings_are_found_by_indexes_of_their_own() -> None:
    using = "pg_remote"
    origins = [Origin.objects.using(using).create() for _ in range(3)]
    mappings = [
        IdMapping(origin=origin, model="an.example", source_pk=str(number), target_pk=str(number + 7))
        for origin in origins
        for number in range(5000)
    ]
    IdMapping.objects.using(using).bulk_create(mappings)
    with connections[using].cursor() as cursor:
        cursor.execute("ANALYZE gestore_sync_idmapping")
    rows = get_queryset(IdMapping, using)
    mine = rows.filter(origin=origins[1], remote="", model="an.example")

    plans = [
        mine.filter(match("source_pk", ["5", "77"])).explain(),
        mine.filter(match("target_pk", ["5", "77"])).explain(),
        rows.filter(remote="", model="nothing").explain(),
        rows.filter(origin__uuid=origins[1].uuid, remote="elsewhere").exclude(remote="").explain(),
    ]

    names = ["source_pk", "target_pk", "target_pk", "kept_apart"]
    assert [f"gestore_sync_{name}" in plan for name, plan in zip(names, plans, strict=True)] == [True] * 4, plans


@in_all
def test_deletions_of_the_log_are_found_by_an_index_of_their_own() -> None:
    connection = connections["pg_remote"]
    kind = ContentType.objects.db_manager("pg_remote").get_for_model(Parcel)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO gestore_sync_changelog (content_type_id, object_id, date, action, data, state) "
            "SELECT %s, n::text, now(), 2, '{}', 2 FROM generate_series(1, 20000) n",
            [kind.pk],
        )
        cursor.execute("ANALYZE gestore_sync_changelog")

    plan = get_queryset(ChangeLog, "pg_remote").filter(content_type=kind, action=DELETION).explain()

    assert "gestore_sync_deletions" in plan

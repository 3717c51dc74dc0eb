from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.db import DatabaseError, IntegrityError, connections, models, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gestore_sync.background import Background
from gestore_sync.digests import Digester
from gestore_sync.models import IdMapping
from gestore_sync.reading import get_queryset, make_array, match
from gestore_sync.refs import get_field
from gestore_sync.repeating import map_column
from gestore_sync.writers import get_writer
from gestore_sync.writers.copytext import format_columns
from tests.kinds.making import make
from tests.logged.models import Ticket
from tests.policies.models import Brand, Depot, Parcel

if TYPE_CHECKING:
    from gestore_sync.writers.postgresql import PostgreSQLWriter

THERE = "pg_remote"

pytestmark = pytest.mark.django_db(databases=["default", THERE])

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(
    ["", "\\N", "\\.", "a\tb", "a\nb", "a\rb", "\\", "{}", '","', "NULL"]
)
moments = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])
)
COLUMNS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "whole": ("bigint", st.integers(-(2**63), 2**63 - 1)),
    "text": ("text", texts),
    "flag": ("boolean", st.booleans()),
    "bytes": ("bytea", st.binary()),
    "moment": ("timestamptz", moments),
    "day": ("date", st.dates()),
    "number": ("numeric", st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20)),
    "uuid": ("uuid", st.uuids()),
    "float": ("double precision", st.floats(allow_nan=False)),
}
some_rows = st.lists(st.tuples(*(st.none() | kind for _, kind in COLUMNS.values())), min_size=1, max_size=8)
repeated = st.tuples(*(st.none() | kind for _, kind in COLUMNS.values())).map(lambda row: [row] * 3)


class Anything(models.Model):
    """A table with a column of each type that COPY takes."""

    whole = models.BigIntegerField(null=True)
    text = models.TextField(null=True)
    flag = models.BooleanField(null=True)
    bytes = models.BinaryField(null=True)
    moment = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    number = models.DecimalField(null=True, max_digits=60, decimal_places=30)
    uuid = models.UUIDField(null=True)
    float = models.FloatField(null=True)

    class Meta:
        app_label = "nowhere"
        db_table = "anything"
        managed = False


@pytest.fixture
def table() -> None:
    columns = ", ".join(f'"{name}" {kind}' for name, (kind, _) in COLUMNS.items())
    with connections[THERE].cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE anything (place serial, {columns}) ON COMMIT DROP")


def as_plain(row: Any) -> list[Any]:
    return [bytes(value) if isinstance(value, memoryview) else value for value in row]


@given(rows=some_rows | repeated)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_stored_as_they_are(table: None, rows: list[tuple[Any, ...]]) -> None:
    fields: list[Any] = [Anything._meta.get_field(name) for name in COLUMNS]

    with connections[THERE].cursor() as cursor:
        cursor.execute("TRUNCATE anything")
        get_writer(THERE).insert(Anything, fields, rows)
        cursor.execute("SELECT * FROM anything ORDER BY place")
        found = [as_plain(row[1:]) for row in cursor.fetchall()]

    assert found == [list(row) for row in rows]


def test_equal_numbers_keep_their_digits(table: None) -> None:
    numbers = [Decimal("1.0"), Decimal("1.00"), Decimal("1.0")]

    get_writer(THERE).insert(Anything, [Anything._meta.get_field("number")], [[number] for number in numbers])  # type: ignore[list-item]

    with connections[THERE].cursor() as cursor:
        cursor.execute("SELECT number FROM anything ORDER BY place")
        assert [str(number) for (number,) in cursor.fetchall()] == ["1.0", "1.00", "1.0"]


@given(rows=st.lists(st.tuples(st.integers(), st.dates() | st.integers())))
def test_values_of_several_types_are_left_to_the_driver(rows: list[tuple[Any, ...]]) -> None:
    kinds = {type(value) for _, value in rows}

    found = format_columns(zip(*rows, strict=True))

    assert (found is None) == (len(kinds) != 1)


@given(values=st.lists(texts))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_are_found_whatever_is_in_them(values: list[str]) -> None:
    with connections[THERE].cursor() as cursor:
        cursor.execute("SELECT %s::text[]", [make_array(values)])
        (found,) = cursor.fetchone()

    assert found == values


def test_jobs_in_the_background_use_the_connection_of_the_run() -> None:
    fields: list[Any] = [Brand._meta.get_field(name) for name in ("name", "motto")]
    writer = get_writer(THERE)
    threads: list[int] = []

    def job() -> None:
        threads.append(threading.get_ident())
        writer.insert(Brand, fields, [("in the background", "")])

    with Background(THERE) as background:
        background.run(job)
        background.join()
        seen = Brand.objects.using(THERE).filter(name="in the background").count()

    assert seen == 1
    assert threads != [threading.get_ident()]
    assert not connections[THERE].allow_thread_sharing


@pytest.mark.parametrize("joins", [True, False])
def test_an_error_in_the_background_is_the_run_s(joins: bool) -> None:
    writer = get_writer(THERE)
    fields: list[Any] = [IdMapping._meta.get_field("model")]

    def run() -> None:
        with transaction.atomic(using=THERE), Background(THERE) as background:
            background.run(lambda: writer.insert(IdMapping, fields, [("a",)]))
            if joins:
                background.join()
                pytest.fail("The error was not raised.")

    with pytest.raises(IntegrityError, match="null value"):
        run()
    assert not connections[THERE].allow_thread_sharing


def test_another_error_is_not_hidden_by_one_in_the_background() -> None:
    writer = get_writer(THERE)
    fields: list[Any] = [IdMapping._meta.get_field("model")]

    def run() -> None:
        with transaction.atomic(using=THERE), Background(THERE) as background:
            background.run(lambda: writer.insert(IdMapping, fields, [("a",)]))
            raise LookupError("the first one")

    with pytest.raises(LookupError, match="the first one"):
        run()


def test_jobs_run_at_once_where_a_database_takes_no_second_thread() -> None:
    threads: list[int] = []

    with Background("default") as background:
        background.run(lambda: threads.append(threading.get_ident()))

    assert threads == [threading.get_ident()]


def test_rows_of_many_keys_are_found_by_one_parameter() -> None:
    parcels = [make(Parcel, THERE, number=number) for number in ("a", 'b"', "c\\", "{d,e}", "")]

    rows = get_queryset(Parcel, THERE).filter(match("number", [parcel.number for parcel in parcels]))

    assert set(rows.values_list("pk", flat=True)) == {parcel.pk for parcel in parcels}


@pytest.mark.parametrize("number", [1, 3])
def test_rows_are_found_by_uuids(number: int) -> None:
    tickets = [make(Ticket, THERE) for _ in range(3)]

    rows = get_queryset(Ticket, THERE).filter(match("pk", [*(ticket.pk for ticket in tickets[:number]), uuid4()]))

    assert set(rows.values_list("pk", flat=True)) == {ticket.pk for ticket in tickets[:number]}


# Tables that COPY cannot write


@pytest.fixture
def guarded(db: None) -> None:
    with connections[THERE].cursor() as cursor:
        cursor.execute("ALTER TABLE policies_depot ENABLE ROW LEVEL SECURITY")


def test_each_table_is_written_as_it_can_be(guarded: None) -> None:
    writer = cast("PostgreSQLWriter", get_writer(THERE))
    writer.look_at([Parcel, Depot])

    with CaptureQueriesContext(connections[THERE]) as queries:
        writer.insert(Depot, [get_field(Depot, name) for name in ("name", "city")], [("north", "")])

    assert (writer.takes_copy(Parcel), writer.takes_copy(Depot)) == (True, False)
    assert any("INSERT" in query["sql"] for query in queries.captured_queries)
    assert list(get_queryset(Depot, THERE).values_list("name", flat=True)) == ["north"]


def test_a_table_that_is_not_there_does_not_stand_in_the_way_of_others() -> None:
    with connections[THERE].cursor() as cursor:
        cursor.execute("ALTER TABLE policies_parcel RENAME TO policies_parcel_gone")
    writer = cast("PostgreSQLWriter", get_writer(THERE))

    writer.look_at([Parcel, Depot])

    assert writer.takes_copy(Depot)
    with pytest.raises(DatabaseError, match="policies_parcel"), transaction.atomic(using=THERE):
        writer.insert(Parcel, [get_field(Parcel, "number")], [("7",)])


# Moments that Python calls equal

ROME = ZoneInfo("Europe/Rome")
TWINS = [datetime(2026, 10, 25, 2, 30, tzinfo=ROME, fold=fold) for fold in (0, 1, 0, 1)]
"""Half past two came twice."""


def test_moments_an_hour_apart_stay_two_where_the_clock_was_set_back() -> None:
    digester = Digester(b"code", lambda value: value)

    formatted = format_columns([TWINS])

    assert TWINS[0] == TWINS[1]
    assert formatted == "".join(f"{moment}\n" for moment in TWINS).encode()
    assert digester.digest_all(TWINS) == [digester(moment) for moment in TWINS]
    assert map_column(str, TWINS) == [str(moment) for moment in TWINS]


def test_a_column_is_made_ready_as_its_values_are_one_by_one() -> None:
    for values in ([1, True, 1, True], ["a", None, "a", "a"], [UUID(int=1)] * 5, [Decimal("1.0"), Decimal(1)] * 3):
        assert map_column(repr, values) == list(map(repr, values))


def test_decimal_numbers_are_told_apart_by_every_digit_and_by_nothing_else() -> None:
    digester = Digester(b"code", lambda value: value)
    long = "1.234567890123456789012345678901234567"

    assert digester(Decimal(long + "1")) != digester(Decimal(long + "2"))
    assert digester(Decimal("-0.00")) == digester(Decimal(0))
    assert digester(Decimal("1E+2")) == digester(Decimal("100.0")) == digester(100)


def test_what_was_left_to_do_in_the_background_is_dropped_with_an_error() -> None:
    background = Background(THERE)
    done: list[int] = []

    def break_off() -> None:
        with background:
            background.run(lambda: time.sleep(0.2))
            background.run(lambda: done.append(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with background:
        background.run(lambda: done.append(2))

    assert done == [2]


def test_the_error_of_the_background_is_raised_not_the_one_that_follows_from_it() -> None:
    def fail() -> None:
        raise IntegrityError("at first")

    def go_on() -> None:
        with Background(THERE) as background:
            background.run(fail)
            time.sleep(0.1)
            raise DatabaseError("because of that")

    with pytest.raises(IntegrityError, match="at first"):
        go_on()

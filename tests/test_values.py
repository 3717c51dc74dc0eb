from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.db import connections, models
from django.utils import timezone, translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.range import Range

from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make, make_crowd, make_many, renumber_content_types
from tests.kinds.models import (
    Banner,
    Box,
    Colour,
    Decoded,
    Defaulted,
    Device,
    Painted,
    Picture,
    Quoted,
    Rect,
    Rule,
    Stamped,
    Tag,
    Values,
)
from tests.kinds.pushing import Sync, content, exact, rolled_back, watched
from tests.pgkinds.models import Crate, Sample

POSTGRESQL = pytest.param(
    Pair("pg_local", "pg_remote"),
    id="postgresql-postgresql",
    marks=pytest.mark.django_db(databases=DATABASES),
)


@pytest.fixture
def sync(pair: Pair) -> Iterator[Sync]:
    with watched(pair) as sync:
        yield sync


@pytest.fixture(params=[POSTGRESQL])
def pg_pair(request: pytest.FixtureRequest) -> Pair:
    """The pairing in which both sides are PostgreSQL."""
    return request.param


@pytest.fixture(
    params=[
        pytest.param(
            Pair("default", "pg_remote"),
            id="sqlite-postgresql",
            marks=pytest.mark.django_db(databases=DATABASES),
        )
    ]
)
def to_pg_sync(request: pytest.FixtureRequest) -> Iterator[Sync]:
    """The pairing whose source holds values that its target refuses."""
    with watched(request.param) as sync:
        yield sync


@pytest.fixture
def pg_sync(pg_pair: Pair) -> Iterator[Sync]:
    with watched(pg_pair) as sync:
        yield sync


def push_values(sync: Sync, values: dict[str, tuple[str, Any]]) -> dict[str, tuple[Any, Any, bool]]:
    """Push a row for each column and value, and return by its mark what source and target give for it.

    The last part says whether the value is null on the target.
    """
    make_crowd(sync.target, Values, Box)
    box = make(Box, sync.source, name="ours")
    for mark, (column, value) in values.items():
        make(Values, sync.source, box=box, mark=mark)
        sync.on_source(Values).filter(mark=mark).update(**{column: value})
    sync.push(box)
    sync.assert_nothing_to_do(box)
    found = {}
    for mark, (column, _) in values.items():
        sent, arrived = (rows.get(mark=mark) for rows in (sync.on_source(Values), sync.on_target(Values)))
        is_null = sync.on_target(Values).filter(mark=mark, **{f"{column}__isnull": True}).exists()
        found[mark] = (exact(getattr(sent, column)), exact(getattr(arrived, column)), is_null)
    return found


def push_value(sync: Sync, column: str, value: Any) -> tuple[Any, Any, bool]:
    """Push a row with one value, and return what the source and the target give for it."""
    return push_values(sync, {"ours": (column, value)})["ours"]


# Values, one by one

TEXTS = {
    "empty": "",
    "spaces": "  a  b  ",
    "control characters": "tab\tnewline\nreturn\r\nbell\x07vertical\x0b",
    "what COPY escapes": "\\N \\. \\\\ \\t \\x00 '\" | , ;",
    "the mark of null in COPY": "\\N",
    "the end of COPY": "\\.",
    "format characters": "%s %% {} {0} $1 $$ ? :name",
    "other scripts": "zażółć 漢字 العربية 🇵🇱👩‍👩‍👧 e\u0301",
    "line separators": "a\u2028b\u2029c\x85d\ufeffe",
    "SQL": "'; DROP TABLE kinds_box; --",
    "JSON": '{"a": [null, true]}',
    "a number": "0012",
    "null": "NULL",
    "long": "ä" * 100_000,
}


def test_any_text_arrives_exactly(sync: Sync) -> None:
    found = push_values(sync, {mark: ("text", text) for mark, text in TEXTS.items()})

    assert found == {mark: (exact(text), exact(text), False) for mark, text in TEXTS.items()}


VALUES = [
    ("boolean", True),
    ("boolean", False),
    ("small", -(2**15)),
    ("integer", 2**31 - 1),
    ("big", 2**63 - 1),
    ("big", -(2**63)),
    ("decimal", Decimal("0E-10")),
    ("decimal", Decimal("1.1000000000")),
    ("decimal", Decimal("-99999.9999999999")),
    ("real", 0.1 + 0.2),
    ("real", 5e-324),
    ("real", 1.7976931348623157e308),
    ("char", ""),
    ("slug", "a-b_c"),
    ("url", "https://example.org/?a=%20&b=ü"),
    ("email", "ann@example.org"),
    ("date", dt.date(1, 1, 1)),
    ("date", dt.date(9999, 12, 31)),
    ("date", dt.date(2024, 2, 29)),
    ("time", dt.time(0, 0)),
    ("time", dt.time(23, 59, 59, 999_999)),
    ("moment", dt.datetime(2026, 11, 21, 10, 9, 8, 123_456, tzinfo=dt.UTC)),
    ("moment", dt.datetime(2026, 3, 29, 2, 30, fold=1, tzinfo=ZoneInfo("America/New_York"))),
    ("moment", dt.datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Warsaw"))),
    ("moment", dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Warsaw"))),
    ("moment", dt.datetime(1600, 2, 29, 23, 59, 59, 1, tzinfo=dt.timezone(dt.timedelta(hours=-11)))),
    ("duration", dt.timedelta(0)),
    ("duration", dt.timedelta(days=-3, microseconds=1)),
    ("duration", dt.timedelta(days=100_000, seconds=86_399, microseconds=999_999)),
    ("binary", b""),
    ("binary", bytes(range(256))),
    ("binary", b"\\x00\\N\n\x00"),
    ("uuid", uuid.UUID("00000000-0000-0000-0000-00000000000a")),
    ("json", {}),
    ("json", []),
    ("json", ""),
    ("json", 0),
    ("json", False),
    ("json", 1),
    ("json", True),
    ("json", [1, True, 0, False, "1", 1.5, None]),
    ("json", {"b": {"": [{}, []]}, "a": None, 'ü\\"\n': "\u2028"}),
    ("json", 2**200),
    ("json", -(2**53) - 1),
    ("json", "\\N"),
    ("json", {"same": 1, "Same": 2}),
    ("address", "10.0.0.1"),
    ("address", "2001:db8::1"),
    ("path", "/srv/data/a b"),
]


def test_any_value_arrives_exactly(sync: Sync) -> None:
    values = {f"{number}: {column}": (column, value) for number, (column, value) in enumerate(VALUES)}

    found = push_values(sync, values)

    expected = {mark: exact(value) for mark, (column, value) in values.items()}
    assert {mark: sent for mark, (sent, _, _) in found.items()} == expected
    assert {mark: arrived for mark, (_, arrived, _) in found.items()} == expected


def test_a_null_arrives_as_a_null_in_any_column(sync: Sync) -> None:
    columns = [field.name for field in Values._meta.fields if field.null]

    found = push_values(sync, {column: (column, None) for column in columns})

    assert [column for column, (_, _, is_null) in found.items() if not is_null] == []


def test_a_json_null_and_a_sql_null_are_kept_apart(sync: Sync) -> None:
    json_null = models.Value(None, models.JSONField())

    found = push_values(sync, {"JSON": ("json", json_null), "SQL": ("json", None)})

    assert {mark: is_null for mark, (_, _, is_null) in found.items()} == {"JSON": False, "SQL": True}


def test_a_value_that_becomes_another_of_the_same_worth_is_a_change(sync: Sync) -> None:
    make_crowd(sync.target, Values, Box)
    box = make(Box, sync.source, name="ours")
    row = make(Values, sync.source, box=box, mark="ours", json=[1, 0])
    sync.push(box)
    row.json = [True, False]
    row.save()

    report = sync.push(box)

    assert report.updated == {"kinds.Values": 1}
    assert exact(sync.on_target(Values).get(mark="ours").json) == exact([True, False])
    sync.assert_nothing_to_do(box)


CHANGES = [
    ("json", {"a": 1}, None),
    ("json", None, models.Value(None, models.JSONField())),
    ("json", models.Value(None, models.JSONField()), None),
    ("text", "", None),
    ("text", None, ""),
    ("text", "a", "a "),
    ("text", "a", "A"),
    ("text", "\u00e9", "e\u0301"),
    ("binary", b"", None),
    ("binary", b"a", b"a\x00"),
    ("real", 0.1, 0.1 + 2**-56),
    (
        "moment",
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC),
    ),
    ("decimal", Decimal("1.0"), Decimal("1.0000000001")),
    ("boolean", None, False),
    ("integer", None, 0),
]


def test_the_smallest_change_of_any_value_is_followed(sync: Sync) -> None:
    make_crowd(sync.target, Values, Box)
    box = make(Box, sync.source, name="ours")
    for number, (column, old, _) in enumerate(CHANGES):
        make(Values, sync.source, box=box, mark=str(number), **{column: old})
    sync.push(box)
    for number, (column, _, new) in enumerate(CHANGES):
        sync.on_source(Values).filter(mark=str(number)).update(**{column: new})

    report = sync.push(box)

    assert report.updated == {"kinds.Values": len(CHANGES)}
    for number, (column, _, new) in enumerate(CHANGES):
        sent, arrived = (rows.get(mark=str(number)) for rows in (sync.on_source(Values), sync.on_target(Values)))
        assert exact(getattr(arrived, column)) == exact(getattr(sent, column)), CHANGES[number]
        null = sync.on_target(Values).filter(mark=str(number), **{f"{column}__isnull": True})
        assert null.exists() == (new is None), CHANGES[number]
    sync.assert_nothing_to_do(box)


def test_more_digits_than_the_target_can_hold_are_no_endless_change(sync: Sync) -> None:
    make_crowd(sync.target, Values, Box)
    box = make(Box, sync.source, name="ours")
    make(Values, sync.source, box=box, mark="ours", decimal=Decimal("12345678901234567890.0123456789"))

    sync.push(box)

    if connections[sync.target].vendor == "postgresql":
        sent = sync.on_source(Values).get(mark="ours").decimal
        assert sync.on_target(Values).get(mark="ours").decimal == sent
    sync.assert_nothing_to_do(box)


def test_a_float_that_is_no_number_arrives(pg_sync: Sync) -> None:
    values = {str(value): ("real", value) for value in (math.inf, -math.inf, math.nan)}

    found = push_values(pg_sync, values)

    assert found == {mark: (exact(value), exact(value), False) for mark, (_, value) in values.items()}


def test_a_number_in_json_is_worth_the_same(sync: Sync) -> None:
    numbers = (1e20, 1.0, 100, 1e-7, 2**70)

    push_values(sync, {str(number): ("json", [number]) for number in numbers})

    found = dict(sync.on_target(Values).filter(mark__in=map(str, numbers)).values_list("mark", "json"))
    assert found == {str(number): [number] for number in numbers}


def test_values_arrive_whatever_the_active_language_and_time_zone(sync: Sync, settings: Any) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    moment = dt.datetime(2026, 7, 1, 12, 0, tzinfo=dt.UTC)

    with timezone.override("Asia/Kathmandu"), translation.override("de"):
        found = push_value(sync, "moment", moment)

    assert found == (exact(moment), exact(moment), False)


@pytest.mark.parametrize(
    ("column", "value"), [("char", "x" * 201), ("integer", 2**40), ("small", 2**15), ("text", "a\x00b")]
)
def test_a_value_that_the_target_refuses_is_an_error_that_names_its_row(
    to_pg_sync: Sync, column: str, value: Any
) -> None:
    sync = to_pg_sync
    box = make(Box, sync.source, name="ours")
    make_many(Values, sync.source, 20, box=box)
    bad = make(Values, sync.source, box=box, **{column: value})
    make_many(Values, sync.source, 20, box=box)
    before = content(sync.target)

    with pytest.raises(GestoreSyncError) as error:
        sync.synchronize(box)

    assert f"kinds.Values.{bad.pk}" in str(error.value)
    assert content(sync.target) == before


# Values, by the hundred

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | TEXT | st.floats(-1e9, 1e9).map(lambda x: x or 0.0),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ROWS = st.fixed_dictionaries(
    {
        "boolean": st.booleans(),
        "small": st.integers(-(2**15), 2**15 - 1),
        "integer": st.integers(-(2**31), 2**31 - 1),
        "big": INTEGERS,
        "decimal": st.integers(-(10**15), 10**15).map(lambda n: Decimal(n).scaleb(-10)),
        "real": st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x or 0.0),
        "char": TEXT,
        "text": TEXT,
        "date": st.dates(),
        "time": st.times(),
        "moment": st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 12, 31), timezones=st.just(dt.UTC)),
        "duration": st.timedeltas(dt.timedelta(days=-100_000), dt.timedelta(days=100_000)),
        "binary": st.binary(max_size=40),
        "uuid": st.uuids(),
        "json": JSON.filter(lambda value: value is not None),
        "address": st.ip_addresses().map(str),
        "file": TEXT,
    }
).flatmap(
    lambda row: st.sets(st.sampled_from(sorted(row))).map(
        lambda nulls: {name: None if name in nulls else value for name, value in row.items()}
    )
)
EXAMPLES = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@EXAMPLES
@given(old=st.lists(ROWS, min_size=1, max_size=6), new=st.lists(ROWS, min_size=6, max_size=6))
def test_any_values_arrive_exactly_and_change_exactly(
    pair: Pair, old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> None:
    with rolled_back(pair.source, pair.target), watched(pair) as sync:
        make_crowd(sync.target, Values, Box)
        box = make(Box, sync.source, name="ours")
        objects = [make(Values, sync.source, box=box, mark=f"ours {i}", **row) for i, row in enumerate(old)]
        sync.push(box)
        assert arrived(sync.target) == arrived(sync.source)
        sync.assert_nothing_to_do(box)
        for instance, row in zip(objects, new, strict=False):
            sync.on_source(Values).filter(pk=instance.pk).update(**row)

        sync.push(box)

        assert arrived(sync.target) == arrived(sync.source)
        sync.assert_nothing_to_do(box)


def arrived(using: str) -> dict[str, Any]:
    """Return the exact values of our rows on a database, by their marks."""
    names = ["mark", *(field.name for field in Values._meta.fields if field.null)]
    rows = Values.objects.using(using).filter(mark__startswith="ours").values_list(*names)
    return {row[0]: [loosely_exact(value) for value in row[1:]] for row in rows}


def loosely_exact(value: Any) -> Any:
    """Return an exact value, but numbers in JSON by their worth, since PostgreSQL writes 1e20 in full."""
    if isinstance(value, dict):
        return {key: loosely_exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [loosely_exact(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return ("number", int(value))
    if type(value) is int:
        return ("number", value)
    return exact(value)


# Columns of the application's own


def test_values_of_a_field_class_of_the_application_arrive(sync: Sync) -> None:
    make_crowd(sync.target, Box)
    box = make(Box, sync.source)
    painted = make(Painted, sync.source, box=box, colour=Colour(1, 2, 255))
    sync.push(box)
    painted.shade = Colour(0, 0, 0)
    painted.save()

    report = sync.push(box)

    assert report.updated == {"kinds.Painted": 1}
    arrived = sync.on_target(Painted).get()
    assert (arrived.colour, arrived.shade) == (Colour(1, 2, 255), Colour(0, 0, 0))
    sync.assert_nothing_to_do(box)


def test_json_with_an_encoder_and_a_decoder_arrives(sync: Sync) -> None:
    make_crowd(sync.target, Box)
    box = make(Box, sync.source)
    make(Decoded, sync.source, box=box, json={"price": Decimal("1.50"), "list": [Decimal("0.10"), "1.50"]})

    sync.push(box)

    arrived = sync.on_target(Decoded).get().json
    assert exact(arrived) == exact({"price": Decimal("1.50"), "list": [Decimal("0.10"), "1.50"]})
    sync.assert_nothing_to_do(box)


def test_the_name_of_a_file_arrives_exactly(sync: Sync) -> None:
    names = ["values/2026/ü a.pdf", "../up", "", "same", "same"]

    found = push_values(sync, {str(number): ("file", name) for number, name in enumerate(names)})

    assert [arrived for _, arrived, _ in found.values()] == [("file", name) for name in names]


def test_an_image_arrives_with_its_measures_where_there_is_no_file(sync: Sync) -> None:
    make_crowd(sync.target, Box)
    box = make(Box, sync.source)
    make(Picture, sync.source, box=box, image="pictures/gone ü.png", width=640, height=480)

    sync.push(box)

    found = sync.on_target(Picture).values_list("image", "width", "height").get()
    assert found == ("pictures/gone ü.png", 640, 480)
    sync.assert_nothing_to_do(box)


def test_names_that_need_quotes_are_quoted(sync: Sync) -> None:
    make_crowd(sync.target, Quoted, Box)
    box = make(Box, sync.source, name="ours")
    first, second = (make(Quoted, sync.source, order=box, select=text, user=n) for n, text in enumerate("ab"))
    sync.push(box)
    for instance, number in ((first, 9), (second, 0), (first, 1)):
        instance.user = number
        instance.save()

    report = sync.push(box)

    assert report.updated == {"kinds.Quoted": 2}
    ours = sync.on_target(Quoted).filter(order__name="ours")
    assert dict(ours.values_list("select", "user")) == {"a": 1, "b": 0}
    sync.on_source(Quoted).filter(select="a").delete()
    sync.push(box, prune=True)
    assert set(ours.values_list("select", "user")) == {("b", 0)}
    sync.assert_nothing_to_do(box, prune=True)


# Columns that fill themselves


def test_a_generated_column_is_computed_by_the_target(sync: Sync) -> None:
    make_crowd(sync.target, Rect, Box)
    box = make(Box, sync.source, name="ours")
    rect = make(Rect, sync.source, box=box, width=3, height=4)
    sync.push(box)
    assert sync.on_target(Rect).get(box__name="ours").area == 12
    rect.width = 5
    rect.save()

    report = sync.push(box)

    assert report.updated == {"kinds.Rect": 1}
    assert sync.on_target(Rect).get(box__name="ours").area == 20
    sync.assert_nothing_to_do(box)


def test_a_default_of_the_database_does_not_replace_a_value(sync: Sync) -> None:
    make_crowd(sync.target, Defaulted, Box)
    box = make(Box, sync.source, name="ours")
    moment = dt.datetime(2001, 2, 3, 4, 5, 6, 789_012, tzinfo=dt.UTC)
    make(Defaulted, sync.source, box=box, level=0, since=moment)

    sync.push(box)

    found = sync.on_target(Defaulted).filter(box__name="ours").values_list("level", "since").get()
    assert found == (0, moment)
    sync.assert_nothing_to_do(box)


def test_what_the_source_filled_by_default_arrives(sync: Sync) -> None:
    make_crowd(sync.target, Defaulted, Box)
    box = make(Box, sync.source, name="ours")
    make(Defaulted, sync.source, box=box)

    sync.push(box)

    sent = sync.on_source(Defaulted).values_list("level", "since").get()
    assert sync.on_target(Defaulted).filter(box__name="ours").values_list("level", "since").get() == sent
    sync.assert_nothing_to_do(box)


def test_moments_of_saving_are_not_stamped_anew(sync: Sync) -> None:
    make_crowd(sync.target, Stamped, Box)
    box = make(Box, sync.source, name="ours")
    make(Stamped, sync.source, box=box, text="old")
    old = dt.datetime(2001, 2, 3, 23, 59, 59, 999_999, tzinfo=dt.UTC)
    sync.on_source(Stamped).update(created=old, changed=old, day=old.date())
    sync.push(box)
    names = ("created", "changed", "day")
    assert sync.on_target(Stamped).filter(text="old").values_list(*names).get() == (old, old, old.date())
    new = old + dt.timedelta(days=400, microseconds=1)
    sync.on_source(Stamped).update(text="new", changed=new, day=new.date())

    sync.push(box)

    assert sync.on_target(Stamped).filter(text="new").values_list(*names).get() == (old, new, new.date())
    sync.assert_nothing_to_do(box)


# SYNCHRO_SKIP


def test_columns_that_do_not_travel_take_their_defaults_on_a_new_row(sync: Sync) -> None:
    make_crowd(sync.target, Device, Tag)
    favourite = make(Tag, sync.source, name="favourite")
    devices = [
        make(Device, sync.source, serial=serial, name="ours", battery=5, token="secret", favourite=favourite)
        for serial in ("S-1", "S-2")
    ]

    report = sync.push(*devices)

    assert report.created == {"kinds.Device": 2}
    ours = sync.on_target(Device).filter(name="ours")
    assert set(ours.values_list("battery", "favourite")) == {(100, None)}
    tokens = {device.token for device in ours}
    assert len(tokens) == 2
    assert all(token.startswith("fresh-") for token in tokens)
    sync.assert_nothing_to_do(*devices)


def test_columns_that_do_not_travel_keep_the_value_of_the_target(sync: Sync) -> None:
    make_crowd(sync.target, Device)
    tag = make(Tag, sync.target, name="theirs")
    theirs = make(Device, sync.target, serial="S-1", name="old", battery=55, token="theirs", favourite=tag)
    sync.expect_change(theirs)
    device = make(Device, sync.source, serial="S-1", name="new", battery=5, token="secret")

    report = sync.push(device)

    assert (report.created, report.updated) == ({}, {"kinds.Device": 1})
    names = ("name", "battery", "token", "favourite__name")
    assert sync.on_target(Device).filter(pk=theirs.pk).values_list(*names).get() == (
        "new",
        55,
        "theirs",
        "theirs",
    )
    sync.assert_nothing_to_do(device)


def test_members_that_do_not_travel_stay_as_the_target_has_them(sync: Sync) -> None:
    make_crowd(sync.target, Device, Tag)
    theirs = make(Device, sync.target, serial="S-1", name="old")
    theirs.tags.add(make(Tag, sync.target, name="theirs"))
    sync.expect_change(theirs)
    known, new = (make(Device, sync.source, serial=serial, name="new") for serial in ("S-1", "S-2"))
    for device in (known, new):
        device.tags.add(make(Tag, sync.source))

    report = sync.push(known, new)

    assert (report.created, report.updated) == ({"kinds.Device": 1}, {"kinds.Device": 1})
    ours = sync.on_target(Device).filter(name="new").values_list("serial", "tags__name")
    assert dict(ours) == {"S-1": "theirs", "S-2": None}
    sync.assert_nothing_to_do(known, new)


def test_columns_that_do_not_travel_are_no_change(sync: Sync) -> None:
    make_crowd(sync.target, Device)
    device = make(Device, sync.source, serial="S-1", name="ours")
    sync.push(device)
    device.battery, device.token = 1, "changed"
    device.favourite = make(Tag, sync.source, name="favourite")
    device.save()

    sync.assert_nothing_to_do(device)

    assert sync.on_target(Device).get(serial="S-1").battery == 100


# Models of Django's own


def test_a_content_type_is_matched_by_its_name(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Box)
    box = make(Box, sync.source)
    sent = ContentType.objects.db_manager(sync.source).get_for_model(Tag)
    make(Rule, sync.source, box=box, content_type=sent, text="ours")

    report = sync.push(box)

    found = sync.on_target(Rule).get(text="ours").content_type
    assert (found.app_label, found.model) == ("kinds", "tag")
    assert found.pk != sent.pk
    assert report.matched == {"contenttypes.ContentType": 1}
    sync.assert_nothing_to_do(box)


def permissions(using: str, *codenames: str) -> list[Permission]:
    """Return the permissions of the test app with these names."""
    found = Permission.objects.using(using).filter(content_type__app_label="kinds", codename__in=codenames)
    return list(found.order_by("codename"))


def names_of(using: str, owner: Any) -> set[tuple[str, str]]:
    """Return the content types and names of a group's permissions."""
    return set(owner.permissions.using(using).values_list("content_type__model", "codename"))


def test_a_group_is_created_with_its_permissions(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Group)
    user = User.objects.db_manager(sync.source).create_user("ann")
    group = make(Group, sync.source, name="editors")
    group.permissions.set(permissions(sync.source, "add_tag", "change_box"))
    user.groups.add(group)
    user.user_permissions.set(permissions(sync.source, "delete_shop"))

    report = sync.push(user)

    assert report.created["auth.Group"] == 1
    found = sync.on_target(User).get(username="ann")
    assert names_of(sync.target, found.groups.get()) == {("tag", "add_tag"), ("box", "change_box")}
    assert [permission.codename for permission in found.user_permissions.all()] == ["delete_shop"]
    sync.assert_nothing_to_do(user)


def test_a_group_that_the_target_has_keeps_its_permissions(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Group)
    theirs = make(Group, sync.target, name="editors")
    theirs.permissions.set(permissions(sync.target, "view_tag"))
    user = User.objects.db_manager(sync.source).create_user("ann")
    group = make(Group, sync.source, name="editors")
    group.permissions.set(permissions(sync.source, "add_tag"))
    user.groups.add(group)

    report = sync.push(user)

    assert report.matched["auth.Group"] == 1
    assert sync.on_target(User).get(username="ann").groups.get() == theirs
    assert names_of(sync.target, theirs) == {("tag", "view_tag")}
    sync.assert_nothing_to_do(user)


def test_a_user_is_the_one_with_that_name(sync: Sync) -> None:
    make_many(User, sync.target, 3)
    theirs = make(User, sync.target, username="ann", email="old@example.org")
    sync.expect_change(theirs)
    ann = make(User, sync.source, username="ann", email="new@example.org", password="md5$a$b")

    report = sync.push(ann)

    assert (report.created, report.updated) == ({}, {"auth.User": 1})
    found = sync.on_target(User).get(pk=theirs.pk)
    assert (found.username, found.email, found.password) == ("ann", "new@example.org", "md5$a$b")
    sync.assert_nothing_to_do(ann)


def test_a_permission_of_the_root_is_matched_by_its_name(sync: Sync) -> None:
    renumber_content_types(sync.target)
    group = make(Group, sync.source, name="editors")
    group.permissions.set(permissions(sync.source, "add_tag", "delete_tag"))

    report = sync.push(group)

    assert report.created == {"auth.Group": 1, "auth.Group_permissions": 2}
    assert report.matched["auth.Permission"] == 2
    assert names_of(sync.target, sync.on_target(Group).get()) == {("tag", "add_tag"), ("tag", "delete_tag")}
    sync.assert_nothing_to_do(group)


def test_a_site_is_the_one_with_that_domain(sync: Sync) -> None:
    make_crowd(sync.target, Box)
    for domain in ("theirs.example.org", "shop.example.org"):
        make(Site, sync.target, domain=domain, name="theirs")
    box = make(Box, sync.source)
    for domain in ("shop.example.org", "new.example.org"):
        make(
            Banner,
            sync.source,
            box=box,
            site=make(Site, sync.source, domain=domain, name="ours"),
            text=domain,
        )

    report = sync.push(box)

    assert (report.created["sites.Site"], report.matched) == (1, {"sites.Site": 1})
    assert set(sync.on_target(Banner).values_list("text", "site__domain", "site__name")) == {
        ("shop.example.org", "shop.example.org", "theirs"),
        ("new.example.org", "new.example.org", "ours"),
    }
    sync.assert_nothing_to_do(box)


# PostgreSQL's own

TENTHS = st.integers(-(10**6), 10**6).map(lambda n: Decimal(n) / 1000)
MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))


def ranges(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw ranges: bounded, half open, unbounded and empty."""
    bounds = st.lists(st.none() | values, min_size=2, max_size=2).map(
        lambda pair: sorted(pair) if None not in pair else pair
    )
    return st.just(Range(empty=True)) | st.builds(
        lambda pair, edges: Range(pair[0], pair[1], edges), bounds, st.sampled_from(["[)", "(]", "()", "[]"])
    )


SAMPLES = st.fixed_dictionaries(
    {
        "integers": st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=5),
        "texts": st.lists(st.none() | TEXT | st.sampled_from(["NULL", "{}", '"', ",", "\\", ""]), max_size=5),
        "matrix": st.integers(1, 3).flatmap(
            lambda width: st.lists(st.lists(TENTHS, min_size=width, max_size=width), max_size=3)
        ),
        "moments": st.lists(MOMENTS, max_size=3),
        "uuids": st.lists(st.uuids(), max_size=3),
        "documents": st.lists(JSON.filter(lambda value: value is not None), max_size=3),
        "integer_range": ranges(st.integers(-1000, 1000)),
        "big_range": ranges(st.integers(-(2**60), 2**60)),
        "decimal_range": ranges(TENTHS),
        "date_range": ranges(st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1))),
        "moment_range": ranges(MOMENTS),
    }
).flatmap(
    lambda row: st.sets(st.sampled_from(sorted(row))).map(
        lambda nulls: {name: None if name in nulls else value for name, value in row.items()}
    )
)


def test_json_in_an_array_that_becomes_another_of_the_same_worth_is_a_change(pg_sync: Sync) -> None:
    crate = make(Crate, pg_sync.source, name="ours")
    make(Sample, pg_sync.source, crate=crate, mark="ours", documents=[1, {"a": 0}])
    pg_sync.push(crate)
    pg_sync.on_source(Sample).update(documents=[True, {"a": False}])

    report = pg_sync.push(crate)

    assert report.updated == {"pgkinds.Sample": 1}
    assert exact(pg_sync.on_target(Sample).get().documents) == exact([True, {"a": False}])
    pg_sync.assert_nothing_to_do(crate)


@EXAMPLES
@given(old=st.lists(SAMPLES, min_size=1, max_size=4), new=SAMPLES)
def test_any_arrays_and_ranges_arrive_exactly(pg_pair: Pair, old: list[dict[str, Any]], new: dict[str, Any]) -> None:
    with rolled_back(pg_pair.source, pg_pair.target), watched(pg_pair) as sync:
        make_crowd(sync.target, Sample, Crate)
        crate = make(Crate, sync.source, name="ours")
        for row in old:
            make(Sample, sync.source, crate=crate, mark="ours", **row)
        sync.push(crate)
        assert samples(sync.target) == samples(sync.source)
        sync.assert_nothing_to_do(crate)
        sync.on_source(Sample).update(**new)

        sync.push(crate)

        assert samples(sync.target) == samples(sync.source)
        sync.assert_nothing_to_do(crate)


def samples(using: str) -> list[Any]:
    """Return the exact arrays and ranges of our rows on a database."""
    names = [field.name for field in Sample._meta.fields if field.null]
    rows = Sample.objects.using(using).filter(mark="ours").order_by("pk").values_list(*names)
    return [loosely_exact(list(row)) for row in rows]

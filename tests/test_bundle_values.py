from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import models
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gestore_sync import api
from gestore_sync.codecs import make_decoder, make_encoder
from gestore_sync.exceptions import BundleError
from gestore_sync.valuekinds import load_json
from tests.carrying import FORMATS, Courier, carried, edit
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make, make_crowd
from tests.kinds.models import (
    Badge,
    BadgeHolder,
    Box,
    Colour,
    Decoded,
    Defaulted,
    Device,
    Event,
    Galaxy,
    Hall,
    Moment,
    Painted,
    Person,
    Picture,
    Planet,
    Quoted,
    Rect,
    Seat,
    Slot,
    Stamped,
    Star,
    Tag,
    Ticket,
    Values,
)
from tests.kinds.pushing import exact, rolled_back, rows
from tests.pgkinds.models import Crate, Sample
from tests.test_values import ROWS, SAMPLES, TEXTS, VALUES, arrived, loosely_exact, samples

EXAMPLES = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
LABELS = ("kinds", "pgkinds", "auth", "contenttypes", "sites")


@pytest.fixture
def courier(pair: Pair, tmp_path: Path) -> Iterator[Courier]:
    with carried(pair, tmp_path, *LABELS) as courier:
        yield courier


def one_pairing(source: str, target: str) -> pytest.MarkDecorator:
    """Take one pairing of databases instead of all."""
    marks = pytest.mark.django_db(databases=DATABASES)
    return pytest.mark.parametrize("pair", [pytest.param(Pair(source, target), marks=marks)], indirect=True)


to_itself = one_pairing("default", "remote")
to_postgresql = one_pairing("pg_local", "pg_remote")


def carry(courier: Courier, root: models.Model, *, first: str = ".json") -> None:
    """Import a root in one format; in the others, and for a push, there is nothing left to do."""
    courier.ending = first
    courier.push(root, on_conflict="remap")
    for courier.ending in FORMATS:
        courier.take_nothing(courier.export(root))
    courier.live_nothing(root)


def carry_values(courier: Courier, values: dict[str, tuple[str, Any]], first: str) -> dict[str, tuple[Any, Any, bool]]:
    """Carry a row for each column and value; return by its mark what both sides give, and whether it came as null."""
    make_crowd(courier.target, Values, Box)
    box = make(Box, courier.source, name="ours")
    for mark, (column, value) in values.items():
        make(Values, courier.source, box=box, mark=mark)
        courier.on_source(Values).filter(mark=mark).update(**{column: value})
    carry(courier, box, first=first)
    found = {}
    for mark, (column, _) in values.items():
        sent, came = (rows(Values, using).get(mark=mark) for using in (courier.source, courier.target))
        is_null = courier.on_target(Values).filter(mark=mark, **{f"{column}__isnull": True}).exists()
        found[mark] = (exact(getattr(sent, column)), exact(getattr(came, column)), is_null)
    return found


MORE = [
    ("duration", dt.timedelta(microseconds=-1)),
    ("duration", dt.timedelta(days=-100_000, seconds=1, microseconds=1)),
    ("json", {"$json": None}),
    ("json", {"$json": {"$json": 1}}),
    ("json", {"$stored": 1}),
    ("json", {"deep": [[[[{"": {"": [1.5e-300, 0.1]}}]]]]}),
    ("text", "\u2028 { } {0} {{pk}} %s \\ud800 \x7f"),
]


@pytest.mark.parametrize("first", [".json", ".tar.zst"])
def test_any_value_arrives_exactly_in_any_format(courier: Courier, first: str) -> None:
    values = {f"{number}: {column}": (column, value) for number, (column, value) in enumerate([*VALUES, *MORE])}
    values |= {f"text: {name}": ("text", text) for name, text in TEXTS.items()}

    found = carry_values(courier, values, first)

    expected = {mark: (exact(value), exact(value), False) for mark, (_, value) in values.items()}
    assert found == expected


def test_nulls_arrive_as_what_they_are(courier: Courier) -> None:
    columns = {field.name: (field.name, None) for field in Values._meta.fields if field.null}
    columns["JSON null"] = ("json", models.Value(None, models.JSONField()))

    found = carry_values(courier, columns, ".json")

    assert {name for name, (_, _, is_null) in found.items() if not is_null} == {"JSON null"}


@to_postgresql
def test_floats_that_are_no_numbers_arrive(courier: Courier) -> None:
    values = {str(value): ("real", value) for value in (math.inf, -math.inf, math.nan)}

    found = carry_values(courier, values, ".json")

    assert found == {mark: (exact(value), exact(value), False) for mark, (_, value) in values.items()}


@to_itself
def test_half_surrogates_in_json_arrive(courier: Courier) -> None:
    value = {"\ud800": ["\udfff", "a\udc00b"], "whole": "\U0001f600"}

    found = carry_values(courier, {"ours": ("json", value)}, ".json")

    assert found["ours"][1] == exact(value)


@pytest.mark.parametrize("pair", [pytest.param(Pair("default", "default"), id="sqlite")], indirect=True)
@pytest.mark.django_db(databases=DATABASES)
def test_a_text_that_is_longer_than_its_column_says_is_restored_where_the_database_has_room(courier: Courier) -> None:
    box = make(Box, courier.source)
    make(Values, courier.source, box=box, char="x" * 500, mark="ours")
    path = courier.export(box)
    rows(Values, courier.source)._raw_delete(courier.source)

    courier.take(path)

    assert rows(Values, courier.source).get().char == "x" * 500


@EXAMPLES
@given(some=st.lists(ROWS, min_size=1, max_size=6), ending=st.sampled_from(FORMATS))
def test_any_values_arrive(pair: Pair, tmp_path: Path, some: list[dict[str, Any]], ending: str) -> None:
    with rolled_back(pair.source, pair.target), carried(pair, tmp_path, *LABELS, ending=ending) as courier:
        make_crowd(courier.target, Values, Box)
        box = make(Box, courier.source, name="ours")
        for number, row in enumerate(some):
            make(Values, courier.source, box=box, mark=f"ours {number}", **row)

        courier.take(courier.export(box, files=False), on_conflict="remap")

        assert arrived(courier.target) == arrived(courier.source)
        courier.take_nothing(courier.export(box, files=False))
        courier.live_nothing(box)


@pytest.mark.parametrize("pair", [pytest.param(Pair("pg_local", "pg_remote"), id="postgresql")], indirect=True)
@pytest.mark.django_db(databases=DATABASES)
@EXAMPLES
@given(some=st.lists(SAMPLES, min_size=1, max_size=4), ending=st.sampled_from(FORMATS))
def test_any_arrays_and_ranges_arrive(pair: Pair, tmp_path: Path, some: list[dict[str, Any]], ending: str) -> None:
    with rolled_back(pair.source, pair.target), carried(pair, tmp_path, *LABELS, ending=ending) as courier:
        make_crowd(courier.target, Sample, Crate)
        crate = make(Crate, courier.source, name="ours")
        for row in some:
            make(Sample, courier.source, crate=crate, mark="ours", **row)

        courier.push(crate, on_conflict="remap")

        assert sorted(map(repr, samples(courier.target))) == sorted(map(repr, samples(courier.source)))
        courier.take_nothing(courier.export(crate))
        courier.live_nothing(crate)


# Columns of the application's own, and columns that fill themselves


def test_columns_of_every_kind_arrive(courier: Courier) -> None:
    make_crowd(courier.target, Box, Rect, Defaulted, Stamped, Quoted)
    box = make(Box, courier.source, name="ours")
    painted = make(Painted, courier.source, box=box, colour=Colour(1, 2, 255))
    make(Decoded, courier.source, box=box, json={"price": Decimal("1.50"), "list": [Decimal("0.10"), "1.50"]})
    make(Rect, courier.source, box=box, width=3, height=4)
    moment = dt.datetime(2001, 2, 3, 4, 5, 6, 789_012, tzinfo=dt.UTC)
    make(Defaulted, courier.source, box=box, level=0, since=moment)
    make(Stamped, courier.source, box=box, text="ours")
    courier.on_source(Stamped).update(created=moment, changed=moment, day=moment.date())
    make(Quoted, courier.source, order=box, select="it's", user=7)
    make(Picture, courier.source, box=box, image="", width=640, height=480)

    carry(courier, box)

    theirs = courier.on_target(Box).get(name="ours")
    arrived = courier.on_target(Painted).get(box=theirs)
    assert (arrived.colour, arrived.shade) == (painted.colour, None)
    assert exact(courier.on_target(Decoded).get(box=theirs).json) == exact(courier.on_source(Decoded).get().json)
    assert courier.on_target(Rect).get(box=theirs).area == 12
    assert courier.on_target(Defaulted).values_list("level", "since").get(box=theirs) == (0, moment)
    stamps = courier.on_target(Stamped).values_list("created", "changed", "day").get(box=theirs)
    assert stamps == (moment, moment, moment.date())
    assert courier.on_target(Quoted).values_list("select", "user").get(order=theirs) == ("it's", 7)
    assert courier.on_target(Picture).values_list("width", "height").get(box=theirs) == (640, 480)


def test_columns_that_do_not_travel_take_their_defaults(courier: Courier) -> None:
    make_crowd(courier.target, Box, Tag)
    box = make(Box, courier.source, name="ours")
    tag = make(Tag, courier.source, name="red")
    device = make(Device, courier.source, box=box, serial="1", battery=5, token="ours", favourite=tag)
    device.tags.add(tag)

    courier.push(box, on_conflict="remap")

    arrived = courier.on_target(Device).get()
    assert (arrived.battery, arrived.favourite, list(arrived.tags.all())) == (100, None, [])
    assert arrived.token.startswith("fresh-")
    courier.take_nothing(courier.export(box))


def test_primary_keys_of_every_kind_arrive(courier: Courier) -> None:
    hall = make(Hall, courier.source, name="ours")
    make_crowd(courier.target, Hall, Seat, Slot, Galaxy, Planet, Event, Badge)
    make(Seat, courier.source, hall=hall, number=3, name="front")
    make(Ticket, courier.source, hall=hall, seat_number=3, text="ours")
    make(Slot, courier.source, hall=hall, day=dt.date(2026, 1, 2), hour=-5, name="ours")
    star = make(Star, courier.source, number=2**62 + 1, name="ours")
    make(Planet, courier.source, star=star, name="ours")
    moment = make(Moment, courier.source, at=dt.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC), name="ours")
    make(Event, courier.source, moment=moment, name="ours")
    person = make(Person, courier.source, name="ours")
    badge = make(Badge, courier.source, person=person, text="ours")
    make(BadgeHolder, courier.source, badge=badge, neighbour=badge, text="ours")
    big = make(Galaxy, courier.source, pk=2**53 + 1, name="big")
    make(Galaxy, courier.source, name="below", parent=big)

    for root in (hall, star, moment, person, big):
        carry(courier, root)

    ours = courier.on_target(Hall).get(name="ours")
    assert courier.on_target(Ticket).get(text="ours").seat.name == "front"
    assert courier.on_target(Seat).filter(hall=ours, number=3, name="front").exists()
    assert courier.on_target(Slot).get(day=dt.date(2026, 1, 2), hour=-5).hall == ours
    assert courier.on_target(Planet).get(name="ours").star_id == 2**62 + 1
    assert courier.on_target(Event).get(name="ours").moment_id == moment.pk
    holder = courier.on_target(BadgeHolder).get(text="ours")
    assert holder.neighbour_id == holder.pk == courier.on_target(Person).get(name="ours").pk
    assert courier.on_target(Galaxy).get(name="below").parent_id == 2**53 + 1


# Moments with and without time zones

NAIVE, AWARE = dt.datetime(2026, 7, 1, 12, 0, 0, 1), dt.datetime(2026, 7, 1, 10, 0, 0, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("use_tz", "text", "expected"),
    [
        (True, "2026-07-01T10:00:00.000001+00:00", AWARE),
        (True, "2026-07-01T12:00:00.000001", AWARE),
        (False, "2026-07-01T12:00:00.000001", NAIVE),
        (False, "2026-07-01T10:00:00.000001+00:00", NAIVE),
    ],
)
def test_moments_are_those_of_the_settings_time_zone(use_tz: bool, text: str, expected: dt.datetime) -> None:
    decode = make_decoder(Values._meta.get_field("moment"))

    with override_settings(USE_TZ=use_tz, TIME_ZONE="Europe/Warsaw"), timezone.override("Asia/Kathmandu"):
        found = decode(text)

    assert found == expected and timezone.is_aware(found) is use_tz


@pytest.mark.parametrize("moment", [NAIVE, AWARE, AWARE.astimezone(ZoneInfo("America/New_York"))])
def test_a_moment_is_written_as_it_is(moment: dt.datetime) -> None:
    field = Values._meta.get_field("moment")

    with override_settings(USE_TZ=timezone.is_aware(moment)):
        assert make_decoder(field)(load_json(make_encoder(field)(moment))) == moment


# What is no value


@to_itself
@pytest.mark.parametrize("column", ["small", "integer", "big", "decimal", "real", "boolean", "date", "uuid", "moment"])
@pytest.mark.parametrize("text", ["1e1000000000", '"abc"', "[1]", "{}", '{"$stored": 1}', '{"$bytes": "AA=="}'])
def test_what_is_no_value_of_a_column_is_refused(courier: Courier, column: str, text: str) -> None:
    if (column, text) == ("real", "1e1000000000"):
        return  # infinity is a value
    courier.ending = ".json"
    box = make(Box, courier.source)
    make(Values, courier.source, box=box, mark="ours")
    path = Path(courier.export(box))
    document = json.loads(path.read_text())
    next(record for record in document["objects"] if record["model"] == "kinds.values")["fields"][column] = "HERE"
    path.write_text(json.dumps(document).replace('"HERE"', text))

    error = courier.turn_away(str(path))

    assert isinstance(error, BundleError)
    assert column in str(error) and "kinds.Values" in str(error)


def test_json_of_great_depth_or_size_is_an_error_or_a_value_and_never_a_crash(courier: Courier) -> None:
    courier.ending = ".json"
    box = make(Box, courier.source)
    make(Values, courier.source, box=box, mark="ours", json="HERE")
    path = Path(courier.export(box))
    text = path.read_text()
    for value in ("[" * 600 + "]" * 600, "1e1000000000", "9" * 10_000):
        path.write_text(text.replace('"HERE"', value))
        try:
            api.import_objects(str(path), database=courier.target)
        except BundleError as error:
            assert "Values" in str(error) or "the document is broken" in str(error).lower()


def test_a_field_that_does_not_read_what_it_writes_is_an_error(courier: Courier) -> None:
    class Secretive(models.Field):
        def get_prep_value(self, value: Any) -> Any:
            return "hidden"

    field = Secretive()
    field.set_attributes_from_name("secret")
    field.model = Values

    with pytest.raises(BundleError, match=r"kinds\.Values has the value 'open' in 'secret'"):
        make_encoder(field)(object_named("open"))


def object_named(name: str) -> Any:
    """Return an object that is shown by this name."""

    class Named:
        def __str__(self) -> str:
            return name

    return Named()


def test_a_value_edited_by_hand_is_taken(courier: Courier) -> None:
    courier.ending = ".json"
    box = make(Box, courier.source)
    make(Values, courier.source, box=box, mark="ours")
    changes = {"decimal": 1.5, "integer": "7", "real": 3, "date": "2026-01-02", "json": [1.50], "boolean": True}

    def change(document: dict[str, Any]) -> None:
        record = next(record for record in document["objects"] if record["model"] == "kinds.values")
        record["fields"].update(changes)

    courier.take(edit(courier.export(box), change))

    found = courier.on_target(Values).get()
    assert (found.decimal, found.integer, found.real) == (Decimal("1.5"), 7, 3.0)
    assert (found.date, loosely_exact(found.json), found.boolean) == (dt.date(2026, 1, 2), loosely_exact([1.5]), True)

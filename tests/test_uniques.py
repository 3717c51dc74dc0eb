from __future__ import annotations

import uuid
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from django.db import models
from django.db.models import Value
from django.test import override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make, make_crowd, make_many
from tests.kinds.models import (
    Address,
    Booking,
    Contact,
    Coupon,
    Floor,
    Husband,
    Isbn,
    Letterbox,
    License,
    Queue,
    Rank,
    Seal,
    Shop,
    Token,
    Topic,
    Turn,
    Wagon,
    Wife,
)
from tests.kinds.pushing import Sync, content, restart_numbers, rolled_back, rows, watched
from tests.pgkinds.models import Berth, Crate, Step

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
def pg_sync(request: pytest.FixtureRequest) -> Iterator[Sync]:
    with watched(request.param) as sync:
        yield sync


def positions(sync: Sync, model: type[models.Model] = Turn) -> dict[str, int]:
    """Return the positions on the target by the names of our things."""
    ours = sync.on_target(model).filter(queue__name="ours")
    return dict(ours.values_list("name", "position"))


def move(sync: Sync, model: type[models.Model], **new_positions: int) -> None:
    """Give things new positions on the source, by way of free ones."""
    for free, name in enumerate(new_positions, start=20_000):
        sync.on_source(model).filter(name=name).update(position=free)
    for name, position in new_positions.items():
        sync.on_source(model).filter(name=name).update(position=position)


# Unique values that trade places

EXCHANGES = {
    "two trade": {"a": 2, "b": 1},
    "three rotate": {"a": 2, "b": 3, "c": 1},
    "two pairs trade": {"a": 2, "b": 1, "c": 4, "d": 3},
    "all shift up": {"a": 2, "b": 3, "c": 4, "d": 5},
    "all shift down": {"a": 0, "b": 1, "c": 2, "d": 3},
    "all turn round": {"a": 4, "b": 3, "c": 2, "d": 1},
}


@pytest.mark.parametrize("batch_size", [2, 10_000])
@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES.keys())
def test_unique_positions_that_trade_places_do_not_clash(
    sync: Sync, settings: Any, exchange: dict[str, int], batch_size: int
) -> None:
    settings.GESTORE_SYNC = {"BATCH_SIZE": batch_size}
    make_crowd(sync.target, Turn, Queue)
    queue = make(Queue, sync.source, name="ours")
    before = {"a": 1, "b": 2, "c": 3, "d": 4}
    for name, position in before.items():
        make(Turn, sync.source, queue=queue, name=name, position=position)
    sync.push(queue)
    pks = dict(sync.on_target(Turn).filter(queue__name="ours").values_list("name", "pk"))
    move(sync, Turn, **exchange)

    report = sync.push(queue)

    assert (report.created, report.updated) == ({}, {"kinds.Turn": len(exchange)})
    assert positions(sync) == before | exchange
    assert dict(sync.on_target(Turn).filter(queue__name="ours").values_list("name", "pk")) == pks
    sync.assert_nothing_to_do(queue)


@pytest.mark.parametrize(
    "exchange",
    [{"a": 2, "b": 1}, {"a": 2, "b": 3, "c": 1}, {"a": 2, "b": 3, "c": 4}],
    ids=["two trade", "three rotate", "all shift up"],
)
def test_positions_that_a_check_keeps_positive_trade_places(sync: Sync, exchange: dict[str, int]) -> None:
    make_crowd(sync.target, Rank, Queue)
    make(Rank, sync.target, position=32_767)
    queue = make(Queue, sync.source, name="ours")
    before = {"a": 1, "b": 2, "c": 3}
    for name, position in before.items():
        make(Rank, sync.source, queue=queue, name=name, position=position)
    sync.push(queue)
    move(sync, Rank, **exchange)

    report = sync.push(queue)

    assert (report.created, report.updated) == ({}, {"kinds.Rank": len(exchange)})
    assert positions(sync, Rank) == before | exchange
    sync.assert_nothing_to_do(queue)


@pytest.mark.parametrize("exchange", [{"a": 2, "b": 1}, {"a": 2, "b": 3, "c": 1}], ids=["two trade", "three rotate"])
def test_positions_trade_places_where_a_check_leaves_few_of_them(sync: Sync, exchange: dict[str, int]) -> None:
    make_crowd(sync.target, Queue)
    for position in (7, 8, 9):
        make(Floor, sync.target, position=position)
    queue = make(Queue, sync.source, name="ours")
    before = {"a": 1, "b": 2, "c": 3}
    for name, position in before.items():
        make(Floor, sync.source, queue=queue, name=name, position=position)
    sync.push(queue)
    for free, name in enumerate(exchange, start=4):
        sync.on_source(Floor).filter(name=name).update(position=free)
    for name, position in exchange.items():
        sync.on_source(Floor).filter(name=name).update(position=position)

    report = sync.push(queue)

    assert report.updated == {"kinds.Floor": len(exchange)}
    assert positions(sync, Floor) == before | exchange
    sync.assert_nothing_to_do(queue)


def test_optional_values_trade_places_where_a_check_wants_one_of_them(sync: Sync) -> None:
    make_crowd(sync.target, Queue)
    queue = make(Queue, sync.source, name="ours")
    for name, phone in {"a": "111", "b": "222"}.items():
        make(Contact, sync.source, queue=queue, name=name, phone=phone)
    sync.push(queue)
    for name, phone in (("a", "333"), ("b", "111"), ("a", "222")):
        sync.on_source(Contact).filter(name=name).update(phone=phone)

    report = sync.push(queue)

    assert report.updated == {"kinds.Contact": 2}
    ours = sync.on_target(Contact).filter(queue__name="ours")
    assert dict(ours.values_list("name", "phone")) == {"a": "222", "b": "111"}
    sync.assert_nothing_to_do(queue)


def test_places_rotate_where_two_nulls_are_one_too_many(pg_sync: Sync) -> None:
    sync = pg_sync
    make_crowd(sync.target, Berth, Crate)
    crate = make(Crate, sync.source, name="ours")
    for name, place in {"a": 1, "b": 2, "c": 3, "d": None}.items():
        make(Berth, sync.source, crate=crate, name=name, place=place)
    sync.push(crate)
    for name, place in (("d", 9), ("a", 8), ("b", 7), ("c", 1), ("a", 2), ("b", None), ("d", 3)):
        sync.on_source(Berth).filter(name=name).update(place=place)

    report = sync.push(crate)

    assert report.updated == {"pgkinds.Berth": 4}
    ours = sync.on_target(Berth).filter(crate__name="ours")
    assert dict(ours.values_list("name", "place")) == {"a": 2, "b": None, "c": 1, "d": 3}
    sync.assert_nothing_to_do(crate)


def test_a_new_row_takes_the_position_that_others_make_free(sync: Sync) -> None:
    make_crowd(sync.target, Turn, Queue)
    queue = make(Queue, sync.source, name="ours")
    for position, name in enumerate("abc", start=1):
        make(Turn, sync.source, queue=queue, name=name, position=position)
    sync.push(queue)
    move(sync, Turn, a=2, b=3, c=4)
    make(Turn, sync.source, queue=queue, name="new", position=1)

    report = sync.push(queue)

    assert (report.created, report.updated) == ({"kinds.Turn": 1}, {"kinds.Turn": 3})
    assert positions(sync) == {"new": 1, "a": 2, "b": 3, "c": 4}
    sync.assert_nothing_to_do(queue)


def test_a_row_takes_the_position_that_a_pruned_one_makes_free(sync: Sync) -> None:
    make_crowd(sync.target, Turn, Queue)
    queue = make(Queue, sync.source, name="ours")
    for position, name in enumerate("abc", start=1):
        make(Turn, sync.source, queue=queue, name=name, position=position)
    sync.push(queue)
    sync.on_source(Turn).filter(name="a").delete()
    move(sync, Turn, b=1, c=2)

    report = sync.push(queue, prune=True)

    assert (report.updated, report.deleted) == ({"kinds.Turn": 2}, {"kinds.Turn": 1})
    assert positions(sync) == {"b": 1, "c": 2}
    sync.assert_nothing_to_do(queue, prune=True)


def test_unique_positions_trade_places_across_their_parents(sync: Sync) -> None:
    make_crowd(sync.target, Turn, Queue)
    left, right = (make(Queue, sync.source, name=name) for name in ("left", "right"))
    first = make(Turn, sync.source, queue=left, name="a", position=1)
    second = make(Turn, sync.source, queue=right, name="b", position=1)
    sync.push(left, right)
    first.queue, first.position = right, 2
    first.save()
    second.queue = left
    second.save()
    first.position = 1
    first.save()

    report = sync.push(left, right)

    assert report.updated == {"kinds.Turn": 2}
    ours = sync.on_target(Turn).filter(queue__name__in=["left", "right"])
    assert set(ours.values_list("queue__name", "name", "position")) == {("right", "a", 1), ("left", "b", 1)}
    sync.assert_nothing_to_do(left, right)


def test_unique_letters_trade_places(sync: Sync) -> None:
    make_crowd(sync.target, Queue)
    theirs = make(Queue, sync.target)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        make(Letterbox, sync.target, queue=theirs, letter=letter)
    queue = make(Queue, sync.source, name="ours")
    boxes = [make(Letterbox, sync.source, queue=queue, name=letter, letter=letter) for letter in "XYZ"]
    sync.push(queue)
    for box, letter in zip(boxes, "123", strict=True):
        sync.on_source(Letterbox).filter(pk=box.pk).update(letter=letter)
    for box, letter in zip(boxes, "YZX", strict=True):
        sync.on_source(Letterbox).filter(pk=box.pk).update(letter=letter)

    report = sync.push(queue)

    assert report.updated == {"kinds.Letterbox": 3}
    ours = sync.on_target(Letterbox).filter(queue__name="ours")
    assert dict(ours.values_list("name", "letter")) == {"X": "Y", "Y": "Z", "Z": "X"}
    sync.assert_nothing_to_do(queue)


def test_unique_uuids_and_optional_texts_trade_places(sync: Sync) -> None:
    make_crowd(sync.target, Token, Queue)
    queue = make(Queue, sync.source, name="ours")
    values = [uuid.uuid4(), uuid.uuid4()]
    for name, value in zip("ab", values, strict=True):
        make(Token, sync.source, queue=queue, name=name, value=value, nickname=name)
    sync.push(queue)
    tokens = sync.on_source(Token)
    tokens.filter(name="a").update(value=uuid.uuid4(), nickname=None)
    tokens.filter(name="b").update(value=values[0], nickname="a")
    tokens.filter(name="a").update(value=values[1], nickname="b")

    report = sync.push(queue)

    assert report.updated == {"kinds.Token": 2}
    ours = sync.on_target(Token).filter(queue__name="ours")
    assert set(ours.values_list("name", "value", "nickname")) == {
        ("a", values[1], "b"),
        ("b", values[0], "a"),
    }
    sync.assert_nothing_to_do(queue)


def test_many_unique_positions_shift_at_once(sync: Sync) -> None:
    make_crowd(sync.target, Turn, Queue)
    queue = make(Queue, sync.source, name="ours")
    turns = [Turn(queue=queue, name=str(number), position=number) for number in range(3000)]
    sync.on_source(Turn).bulk_create(turns)
    sync.push(queue)
    sync.on_source(Turn).update(position=models.F("position") + 10_000)
    sync.on_source(Turn).update(position=models.F("position") - 9_999)
    make(Turn, sync.source, queue=queue, name="new", position=0)

    report = sync.push(queue)

    assert (report.created, report.updated) == ({"kinds.Turn": 1}, {"kinds.Turn": 3000})
    assert positions(sync) == {"new": 0} | {str(number): number + 1 for number in range(3000)}
    sync.assert_nothing_to_do(queue)


def test_positions_trade_places_under_a_deferred_constraint(pg_sync: Sync) -> None:
    sync = pg_sync
    make_crowd(sync.target, Step, Crate)
    crate = make(Crate, sync.source, name="ours")
    for position, name in enumerate("abc", start=1):
        make(Step, sync.source, crate=crate, name=name, position=position)
    sync.push(crate)
    move(sync, Step, a=2, b=3, c=1)

    report = sync.push(crate)

    assert report.updated == {"pgkinds.Step": 3}
    ours = sync.on_target(Step).filter(crate__name="ours")
    assert dict(ours.values_list("name", "position")) == {"a": 2, "b": 3, "c": 1}
    sync.assert_nothing_to_do(crate)


# Conditions


@pytest.mark.parametrize("reverse", [False, True])
def test_a_default_flag_passes_from_one_row_to_another(sync: Sync, reverse: bool) -> None:
    make_crowd(sync.target, Address, Queue)
    queue = make(Queue, sync.source, name="ours")
    streets = ["new", "old"] if reverse else ["old", "new"]
    for street in streets:
        make(Address, sync.source, queue=queue, street=street, is_default=street == "old")
    sync.push(queue)
    sync.on_source(Address).filter(street="old").update(is_default=False)
    sync.on_source(Address).filter(street="new").update(is_default=True)

    report = sync.push(queue)

    assert report.updated == {"kinds.Address": 2}
    ours = sync.on_target(Address).filter(queue__name="ours")
    assert dict(ours.values_list("street", "is_default")) == {"old": False, "new": True}
    sync.assert_nothing_to_do(queue)


def test_a_new_row_takes_the_default_flag(sync: Sync) -> None:
    make_crowd(sync.target, Address, Queue)
    queue = make(Queue, sync.source, name="ours")
    make(Address, sync.source, queue=queue, street="old", is_default=True)
    sync.push(queue)
    sync.on_source(Address).update(is_default=False)
    make(Address, sync.source, queue=queue, street="new", is_default=True)

    sync.push(queue)

    ours = sync.on_target(Address).filter(queue__name="ours")
    assert dict(ours.values_list("street", "is_default")) == {"old": False, "new": True}
    sync.assert_nothing_to_do(queue)


def test_codes_trade_places_under_a_condition(sync: Sync) -> None:
    make_crowd(sync.target, Coupon, Queue)
    queue = make(Queue, sync.source, name="ours")
    first, second = (make(Coupon, sync.source, queue=queue, code=code) for code in ("A", "B"))
    sync.push(queue)
    pks = dict(sync.on_target(Coupon).filter(queue__name="ours").values_list("code", "pk"))
    for coupon, code in ((first, "C"), (second, "A"), (first, "B")):
        coupon.code = code
        coupon.save()

    sync.push(queue)

    ours = sync.on_target(Coupon).filter(queue__name="ours")
    assert dict(ours.values_list("code", "pk")) == {"B": pks["A"], "A": pks["B"]}
    sync.assert_nothing_to_do(queue)


def test_a_constraint_with_a_condition_is_no_identity(sync: Sync) -> None:
    make_crowd(sync.target, Coupon, Queue)
    make(Coupon, sync.target, code="SALE", active=False)
    queue = make(Queue, sync.source, name="ours")
    make(Coupon, sync.source, queue=queue, code="SALE", active=True)

    report = sync.push(queue)

    assert report.created == {"kinds.Queue": 1, "kinds.Coupon": 1}
    assert set(sync.on_target(Coupon).filter(code="SALE").values_list("active")) == {(True,), (False,)}
    sync.assert_nothing_to_do(queue)


def test_a_clash_under_a_condition_is_an_error_that_writes_nothing(sync: Sync) -> None:
    make_crowd(sync.target, Coupon, Queue)
    make(Coupon, sync.target, code="SALE", active=True)
    queue = make(Queue, sync.source, name="ours")
    coupon = make(Coupon, sync.source, queue=queue, code="SALE", active=True)
    before = content(sync.target)

    with pytest.raises(GestoreSyncError) as error:
        sync.synchronize(queue)

    assert f"kinds.Coupon.{coupon.pk}" in str(error.value)
    assert content(sync.target) == before


def test_a_key_with_a_null_in_it_is_no_identity(sync: Sync) -> None:
    make_crowd(sync.target, Booking, Queue)
    make(Booking, sync.target, day=1, room=None)
    queue = make(Queue, sync.source, name="ours")
    make_many(Booking, sync.source, 2, queue=queue, day=1, room=None)

    report = sync.push(queue)

    assert report.created == {"kinds.Queue": 1, "kinds.Booking": 2}
    sync.assert_nothing_to_do(queue)


def test_a_key_of_several_columns_without_a_null_is_an_identity(sync: Sync) -> None:
    make_crowd(sync.target, Booking, Queue)
    theirs = make(Booking, sync.target, day=1, room=7)
    sync.expect_change(theirs)
    queue = make(Queue, sync.source, name="ours")
    make(Booking, sync.source, queue=queue, day=1, room=7)

    report = sync.push(queue)

    assert (report.created, report.updated) == ({"kinds.Queue": 1}, {"kinds.Booking": 1})
    assert sync.on_target(Booking).get(pk=theirs.pk).queue.name == "ours"
    sync.assert_nothing_to_do(queue)


# Expressions


def test_a_constraint_on_an_expression_is_an_identity(sync: Sync) -> None:
    make_crowd(sync.target, Isbn, Queue)
    theirs = make(Isbn, sync.target, code="ABC-1", title="old")
    sync.expect_change(theirs)
    isbn = make(Isbn, sync.source, code="abc-1", title="new")

    report = sync.push(isbn)

    assert (report.created, report.updated) == ({}, {"kinds.Isbn": 1})
    ours = sync.on_target(Isbn).get(pk=theirs.pk)
    assert (ours.code, ours.title) == ("abc-1", "new")
    sync.assert_nothing_to_do(isbn)


def test_codes_trade_places_under_an_expression(sync: Sync) -> None:
    make_crowd(sync.target, Isbn, Queue)
    queue = make(Queue, sync.source, name="ours")
    first, second = (make(Isbn, sync.source, queue=queue, code=code, title=code) for code in ("a", "b"))
    sync.push(queue)
    for isbn, code in ((first, "free"), (second, "A"), (first, "B")):
        isbn.code = code
        isbn.save()

    report = sync.push(queue)

    assert report.updated == {"kinds.Isbn": 2}
    ours = sync.on_target(Isbn).filter(queue__name="ours")
    assert dict(ours.values_list("title", "code")) == {"a": "B", "b": "A"}
    sync.assert_nothing_to_do(queue)


def test_a_unique_generated_column_is_an_identity(sync: Sync) -> None:
    make_crowd(sync.target, Topic, Queue)
    theirs = make(Topic, sync.target, title="HELLO", text="old")
    sync.expect_change(theirs)
    topic = make(Topic, sync.source, title="Hello", text="new")

    report = sync.push(topic)

    assert (report.created, report.updated) == ({}, {"kinds.Topic": 1})
    ours = sync.on_target(Topic).get(pk=theirs.pk)
    assert (ours.title, ours.slug, ours.text) == ("Hello", "hello", "new")
    sync.assert_nothing_to_do(topic)


def test_titles_trade_places_under_a_unique_generated_column(sync: Sync) -> None:
    make_crowd(sync.target, Topic, Queue)
    queue = make(Queue, sync.source, name="ours")
    topics = [make(Topic, sync.source, queue=queue, title=title, text=title) for title in ("A", "B")]
    sync.push(queue)
    for topic, title in zip([*topics[:1], *topics[::-1]], ["free", "a", "b"], strict=True):
        sync.on_source(Topic).filter(pk=topic.pk).update(title=title)

    report = sync.push(queue)

    assert report.updated == {"kinds.Topic": 2}
    ours = sync.on_target(Topic).filter(queue__name="ours")
    assert set(ours.values_list("text", "slug")) == {("A", "b"), ("B", "a")}
    sync.assert_nothing_to_do(queue)


# One-to-one


def marry(using: str, queue: Queue, name: str) -> Husband:
    """Make a husband and a wife who are each other's."""
    husband = make(Husband, using, queue=queue, name=name)
    husband.wife = make(Wife, using, husband=husband, name=name)
    husband.save()
    return husband


def couples(sync: Sync) -> set[tuple[str, str, str]]:
    """Return our husbands on the target with their wives, and whose wives they are."""
    ours = sync.on_target(Husband).filter(queue__name="ours")
    return set(ours.values_list("name", "wife__name", "wife__husband__name"))


def test_a_unique_one_to_one_link_inside_a_cycle_arrives(sync: Sync) -> None:
    make_crowd(sync.target, Queue, Wife, Husband)
    marry(sync.target, make(Queue, sync.target), "theirs")
    queue = make(Queue, sync.source, name="ours")
    for name in ("Adam", "Bob"):
        marry(sync.source, queue, name)
    make(Husband, sync.source, queue=queue, name="Cid")

    report = sync.push(queue)

    assert report.created == {"kinds.Queue": 1, "kinds.Husband": 3, "kinds.Wife": 2}
    assert couples(sync) == {("Adam", "Adam", "Adam"), ("Bob", "Bob", "Bob"), ("Cid", None, None)}
    sync.assert_nothing_to_do(queue)


def test_unique_one_to_one_links_inside_a_cycle_trade_places(sync: Sync) -> None:
    make_crowd(sync.target, Queue, Wife, Husband)
    queue = make(Queue, sync.source, name="ours")
    adam, bob = (marry(sync.source, queue, name) for name in ("Adam", "Bob"))
    sync.push(queue)
    wives = (adam.wife, bob.wife)
    sync.on_source(Husband).update(wife=None)
    spare = make(Husband, sync.source, name="spare")
    for wife, husband in ((wives[0], spare), (wives[1], adam), (wives[0], bob)):
        sync.on_source(Wife).filter(pk=wife.pk).update(husband=husband)
    for wife, husband in ((wives[1], adam), (wives[0], bob)):
        sync.on_source(Husband).filter(pk=husband.pk).update(wife=wife)

    report = sync.push(queue)

    assert report.updated == {"kinds.Husband": 2, "kinds.Wife": 2}
    assert couples(sync) == {("Adam", "Bob", "Adam"), ("Bob", "Adam", "Bob")}
    sync.assert_nothing_to_do(queue)


def test_optional_one_to_one_links_trade_places(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Seal)
    left, right = (make(Seal, sync.source, title=title) for title in ("left", "right"))
    first = make(Shop, sync.source, name="first", seal=left)
    second = make(Shop, sync.source, name="second", seal=right)
    sync.push(first, second)
    for shop, seal in ((first, None), (second, left), (first, right)):
        shop.seal = seal
        shop.save()

    report = sync.push(first, second)

    assert report.updated == {"kinds.Shop": 2}
    ours = sync.on_target(Shop).filter(name__in=["first", "second"])
    assert dict(ours.values_list("name", "seal__title")) == {"first": "right", "second": "left"}
    sync.assert_nothing_to_do(first, second)


def test_required_one_to_one_links_trade_places(sync: Sync) -> None:
    make_crowd(sync.target, Shop, License)
    first, second, spare = (make(Shop, sync.source, name=name) for name in ("first", "second", "spare"))
    left, right = (make(License, sync.source, shop=shop, number=shop.name) for shop in (first, second))
    sync.push(first, second)
    pks = dict(sync.on_target(License).values_list("number", "pk"))
    for license_, shop in ((left, spare), (right, first), (left, second)):
        license_.shop = shop
        license_.save()

    report = sync.push(first, second)

    assert report.updated == {"kinds.License": 2}
    ours = sync.on_target(License).filter(shop__name__in=["first", "second"])
    assert set(ours.values_list("pk", "number", "shop__name")) == {
        (pks["first"], "first", "second"),
        (pks["second"], "second", "first"),
    }
    sync.assert_nothing_to_do(first, second)


@pytest.mark.parametrize("batch_size", [2, 10_000])
@pytest.mark.parametrize("order", ["abc", "cba", "bca", "xabc", "axbc", "abcx"])
def test_a_chain_of_unique_links_to_its_own_model_is_rearranged(
    sync: Sync, settings: Any, order: str, batch_size: int
) -> None:
    settings.GESTORE_SYNC = {"BATCH_SIZE": batch_size}
    make_crowd(sync.target, Queue, Wagon)
    queue = make(Queue, sync.source, name="ours")
    chain(sync, queue, "abc")
    sync.push(queue)
    chain(sync, queue, order)

    sync.push(queue)

    ours = sync.on_target(Wagon).filter(queue__name="ours")
    assert set(ours.values_list("name", "behind__name")) == {*zip(order[1:], order, strict=False), (order[0], None)}
    sync.assert_nothing_to_do(queue)


def chain(sync: Sync, queue: Queue, order: str) -> None:
    """Put wagons into this order on the source, and make those that are not there."""
    wagons = {name: sync.on_source(Wagon).filter(name=name).first() for name in order}
    sync.on_source(Wagon).update(behind=None)
    before = None
    for name in order:
        wagon = wagons[name] or make(Wagon, sync.source, queue=queue, name=name)
        sync.on_source(Wagon).filter(pk=wagon.pk).update(behind=before)
        before = wagon


# Anything at all

LETTERS = "abcdefgh"
UNIQUE = {Turn: "position", Rank: "position", Letterbox: "letter", Isbn: "code", Topic: "title"}


def draw_values(random: Random, model: type[models.Model], number: int) -> list[Any]:
    """Return values that are unique for a model."""
    places = random.sample(range(1, 9), number)
    if UNIQUE[model] == "position":
        return places
    letters = [LETTERS[place - 1] for place in places]
    return letters if model is Letterbox else [random.choice([str.lower, str.upper])(letter) for letter in letters]


def rearrange(random: Random, sync: Sync, queue: Queue) -> None:
    """Give unique values anew to what a queue has on the source, and add and remove some of it."""
    for model, column in UNIQUE.items():
        for instance in sync.on_source(model).order_by("pk"):
            if random.random() < 0.2:
                instance.delete()
        kept = list(sync.on_source(model).order_by("pk"))
        for number, instance in enumerate(kept):
            free = 20_000 + number if column == "position" else chr(0x4E00 + number)
            sync.on_source(model).filter(pk=instance.pk).update(**{column: free})
        values = draw_values(random, model, min(8, len(kept) + random.randint(0, 3)))
        for instance, value in zip(kept, values, strict=False):
            sync.on_source(model).filter(pk=instance.pk).update(**{column: value})
        for value in values[len(kept) :]:
            make(model, sync.source, queue=queue, **{column: value})
    sync.on_source(Address).update(is_default=False)
    addresses = [*sync.on_source(Address), make(Address, sync.source, queue=queue)]
    sync.on_source(Address).filter(pk=random.choice(addresses).pk).update(is_default=True)


def arrangement(using: str) -> set[tuple[Any, ...]]:
    """Return what our queue has on a database."""
    found = set(rows(Address, using).filter(queue__name="ours").values_list("street", "is_default"))
    for model, column in UNIQUE.items():
        texts = [field.name for field in model._meta.fields if field.name in ("name", "text")]
        names = (Value(model.__name__), column, *texts)
        found |= set(rows(model, using).filter(queue__name="ours").values_list(*names))
    return found


@hypothesis_settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10**9), batch_size=st.sampled_from([1, 3, 10_000]))
def test_unique_values_can_be_rearranged_in_any_way(pair: Pair, seed: int, batch_size: int) -> None:
    random = Random(seed)
    with (
        rolled_back(pair.source, pair.target),
        watched(pair) as sync,
        override_settings(GESTORE_SYNC={"BATCH_SIZE": batch_size}),
    ):
        make_crowd(sync.target, Queue, Turn, Rank, Isbn, Topic, Address)
        queue = make(Queue, sync.source, name="ours")
        for _ in range(3):
            rearrange(random, sync, queue)

            sync.push(queue, prune=True)

            assert arrangement(sync.target) == arrangement(sync.source)
            sync.assert_nothing_to_do(queue, prune=True)


# Numbers


def test_automatic_numbers_go_on_after_a_push(sync: Sync) -> None:
    make_crowd(sync.target, Queue)
    queues = [make(Queue, sync.source, pk=pk, name="ours") for pk in (700, 800, 900)]
    restart_numbers(sync.source)
    sync.push(*queues)

    theirs = make_many(Queue, sync.target, 3, name="later")

    assert len({queue.pk for queue in theirs}) == 3
    assert sync.on_target(Queue).filter(name="ours").count() == 3
    sync.assert_nothing_to_do(*queues)


def test_automatic_numbers_that_lag_behind_the_rows_are_set_right(sync: Sync) -> None:
    for pk in range(1, 6):
        make(Queue, sync.target, pk=pk)
    queues = make_many(Queue, sync.source, 3, name="ours")

    sync.push(*queues)

    make_many(Queue, sync.target, 3, name="later")
    assert sync.on_target(Queue).filter(name="ours").count() == 3
    assert sync.on_target(Queue).count() == 11
    sync.assert_nothing_to_do(*queues)

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from django.db import connections, models
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext

from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import Pair
from tests.kinds.making import make, make_crowd, make_many
from tests.kinds.models import (
    Asset,
    Badge,
    BadgeHolder,
    Bare,
    BareChild,
    Box,
    Club,
    Colour,
    Currency,
    Decoded,
    Defaulted,
    Device,
    Hall,
    Isbn,
    Kiosk,
    Line,
    Loud,
    Membership,
    Order,
    Page,
    Painted,
    Picture,
    Pizzeria,
    Player,
    Rect,
    Robot,
    Seat,
    Shop,
    Slot,
    Stamped,
    Star,
    Tag,
    Team,
    Topic,
)
from tests.kinds.pushing import Sync, content, models_on, rows, watched


@pytest.fixture
def sync(pair: Pair) -> Iterator[Sync]:
    with watched(pair) as sync:
        yield sync


class Heard(NamedTuple):
    """One call of a receiver."""

    signal: str
    sender: type[models.Model]
    pk: Any
    raw: bool | None
    using: str
    created: bool | None
    present: bool
    instance: models.Model


@contextmanager
def connected(signal: Signal, receiver: Callable[..., None], **options: Any) -> Iterator[None]:
    """Connect a receiver for the time of the block."""
    signal.connect(receiver, weak=False, **options)
    try:
        yield
    finally:
        signal.disconnect(receiver, **options)


@contextmanager
def listening() -> Iterator[list[Heard]]:
    """Hear what is sent for any model of the test app, as receivers without a sender do."""
    heard: list[Heard] = []

    def hear(signal: str, **sent: Any) -> None:
        sender, instance, using = sent["sender"], sent["instance"], sent["using"]
        if sender._meta.app_label == "kinds" and not sender._meta.auto_created:
            present = instance.pk is not None and rows(sender, using).filter(pk=instance.pk).exists()
            raw, created = sent.get("raw"), sent.get("created")
            heard.append(Heard(signal, sender, instance.pk, raw, using, created, present, instance))

    def before_save(*, sender: Any, instance: Any, raw: bool, using: str, update_fields: Any, **_: Any) -> None:
        hear("pre_save", sender=sender, instance=instance, raw=raw, using=using)

    def after_save(
        *, sender: Any, instance: Any, created: bool, raw: bool, using: str, update_fields: Any, **_: Any
    ) -> None:
        hear("post_save", sender=sender, instance=instance, raw=raw, using=using, created=created)

    def before_delete(*, sender: Any, instance: Any, using: str, origin: Any, **_: Any) -> None:
        hear("pre_delete", sender=sender, instance=instance, using=using)

    def after_delete(*, sender: Any, instance: Any, using: str, origin: Any, **_: Any) -> None:
        hear("post_delete", sender=sender, instance=instance, using=using)

    with ExitStack() as stack:
        stack.enter_context(connected(pre_save, before_save))
        stack.enter_context(connected(post_save, after_save))
        stack.enter_context(connected(pre_delete, before_delete))
        stack.enter_context(connected(post_delete, after_delete))
        yield heard


def make_shop(using: str, orders: int = 2, lines: int = 2) -> Shop:
    """Make a shop with orders and their lines."""
    shop = make(Shop, using, name="ours")
    for order in make_many(Order, using, orders, shop=shop, number="ours"):
        make_many(Line, using, lines, order=order, text="ours")
    return shop


def counted(heard: list[Heard]) -> Counter[tuple[str, type[models.Model]]]:
    """Return how many times each signal was heard for each model."""
    return Counter((call.signal, call.sender) for call in heard)


# What is sent


def test_each_created_object_is_told_to_receivers_of_every_model(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)

    with listening() as heard:
        sync.push(shop)

    sent = {Currency: 1, Shop: 1, Order: 2, Line: 4}
    assert counted(heard) == Counter(
        {(signal, model): n for signal in ("pre_save", "post_save") for model, n in sent.items()}
    )
    assert {(call.raw, call.using) for call in heard} == {(True, sync.target)}
    assert {call.created for call in heard if call.signal == "post_save"} == {True}
    told = {call.pk for call in heard if (call.signal, call.sender) == ("post_save", Line)}
    assert told == set(sync.on_target(Line).filter(text="ours").values_list("pk", flat=True))


def test_each_updated_object_is_told_and_no_other_is(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)
    sync.push(shop)
    changed = sync.on_source(Line).first()
    changed.text = "changed"
    sync.on_source(Line).filter(pk=changed.pk).update(text="changed")

    with listening() as heard:
        sync.push(shop)

    assert [(call.signal, call.sender, call.raw, call.created) for call in heard] == [
        ("pre_save", Line, True, None),
        ("post_save", Line, True, False),
    ]
    assert {call.pk for call in heard} == {sync.on_target(Line).get(text="changed").pk}


def test_a_push_with_nothing_to_do_tells_nothing(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)
    sync.push(shop)

    with listening() as heard:
        sync.assert_nothing_to_do(shop)

    assert heard == []


def test_a_matched_object_is_not_told(sync: Sync) -> None:
    make(Currency, sync.target, code="EUR")
    shop = make(Shop, sync.source, currency=make(Currency, sync.source, code="EUR"))

    with listening() as heard:
        sync.push(shop)

    assert counted(heard) == {("pre_save", Shop): 1, ("post_save", Shop): 1}


def test_a_dry_run_tells_nothing(sync: Sync) -> None:
    shop = make_shop(sync.source)

    with listening() as heard:
        sync.synchronize(shop, dry_run=True)

    assert heard == []


def test_receivers_are_told_before_and_after_the_row_is_written(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)

    with listening() as heard:
        sync.push(shop)

    assert {(call.signal, call.present) for call in heard} == {("pre_save", False), ("post_save", True)}


def test_the_instance_has_the_values_and_links_of_the_target(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source, orders=1, lines=1)
    seen = []

    def see(*, instance: Any, using: str, **_: Any) -> None:
        seen.append((instance.text, instance.order.number, instance.order.shop.name, instance._state.db, using))

    with connected(post_save, see, sender=Line):
        sync.push(shop)

    assert seen == [("ours", "ours", "ours", sync.target, sync.target)]


def test_an_object_in_a_cycle_is_told_once(sync: Sync) -> None:
    make_crowd(sync.target, Team, Player)
    team = make(Team, sync.source, name="ours")
    team.captain = make(Player, sync.source, team=team)
    team.save()

    with listening() as heard:
        sync.push(team)

    assert counted(heard) == {
        ("pre_save", Team): 1,
        ("post_save", Team): 1,
        ("pre_save", Player): 1,
        ("post_save", Player): 1,
    }
    assert {call.created for call in heard if call.signal == "post_save"} == {True}


def test_a_pruned_object_is_told(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source, orders=1, lines=3)
    sync.push(shop)
    gone = set(sync.on_target(Line).filter(text="ours").values_list("pk", flat=True))
    sync.on_source(Line).delete()

    with listening() as heard:
        sync.push(shop, prune=True)

    assert counted(heard) == {("pre_delete", Line): 3, ("post_delete", Line): 3}
    assert {call.pk for call in heard if call.signal == "pre_delete"} == gone
    assert {(call.signal, call.present) for call in heard} == {("pre_delete", True), ("post_delete", False)}
    assert {call.using for call in heard} == {sync.target}


def test_an_explicit_through_row_that_is_taken_out_is_told(sync: Sync) -> None:
    make_crowd(sync.target, Club, Membership)
    club = make(Club, sync.source, name="ours")
    make(Membership, sync.source, club=club, joined=dt.date(2020, 1, 1)).delete()
    membership = make(Membership, sync.source, club=club)
    sync.push(club)
    membership.delete()

    with listening() as heard:
        sync.push(club)

    assert counted(heard) == {("pre_delete", Membership): 1, ("post_delete", Membership): 1}


def test_a_receiver_for_one_model_hears_that_model_alone(sync: Sync) -> None:
    shop = make_shop(sync.source)
    heard = []

    def hear(*, sender: type[models.Model], **_: Any) -> None:
        heard.append(sender)

    with connected(post_save, hear, sender=Order):
        sync.push(shop)

    assert heard == [Order, Order]


# How rows are written meanwhile


def queries_of_a_push(sync: Sync, lines: int) -> int:
    """Push a shop with so many lines, and return the number of queries on both sides."""
    shop = make_shop(sync.source, orders=1, lines=lines)
    with (
        CaptureQueriesContext(connections[sync.source]) as reads,
        CaptureQueriesContext(connections[sync.target]) as writes,
    ):
        sync.synchronize(shop)
    return len(reads) + len(writes)


def test_rows_go_in_bulk_past_receivers_of_every_model(sync: Sync) -> None:
    calls = []

    def hear(*, sender: type[models.Model], **_: Any) -> None:
        calls.append(sender)

    with connected(pre_save, hear), connected(post_save, hear):
        queries_of_a_push(sync, 5)
        few = queries_of_a_push(sync, 5)
        many = queries_of_a_push(sync, 50)

    assert many == few
    assert calls.count(Line) == 2 * (5 + 5 + 50)


def test_updates_go_in_bulk_past_receivers_of_every_model(sync: Sync) -> None:
    calls = []

    def hear(*, sender: type[models.Model], **_: Any) -> None:
        calls.append(sender)

    def updates(lines: int) -> int:
        shop = make_shop(sync.source, orders=1, lines=lines)
        sync.synchronize(shop)
        sync.on_source(Line).filter(order__shop=shop).update(text="changed")
        calls.clear()
        with CaptureQueriesContext(connections[sync.target]) as queries, connected(post_save, hear):
            sync.synchronize(shop)
        assert calls.count(Line) == lines
        return len(queries)

    updates(5)
    assert updates(5) == updates(50)


def test_deletions_go_in_bulk_past_receivers_of_every_model(sync: Sync) -> None:
    calls = []

    def hear(*, sender: type[models.Model], **_: Any) -> None:
        calls.append(sender)

    def deletions(lines: int) -> int:
        shop = make_shop(sync.source, orders=1, lines=lines)
        sync.synchronize(shop)
        sync.on_source(Line).filter(order__shop=shop).delete()
        calls.clear()
        with CaptureQueriesContext(connections[sync.target]) as queries, connected(post_delete, hear):
            sync.synchronize(shop, prune=True)
        assert calls.count(Line) == lines
        return len(queries)

    deletions(5)
    assert deletions(5) == deletions(50)


def test_what_a_receiver_does_to_the_instance_is_not_written(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)

    def spoil(*, instance: Any, **_: Any) -> None:
        instance.text = "spoilt"

    with connected(pre_save, spoil, sender=Line), connected(post_save, spoil, sender=Line):
        sync.push(shop)

    assert sync.on_target(Line).filter(text="ours").count() == 4
    assert not sync.on_target(Line).filter(text="spoilt").exists()
    sync.assert_nothing_to_do(shop)


def test_a_receiver_that_raises_undoes_the_push_and_is_an_error_that_names_the_object(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)
    before = content(sync.target)

    def write(*, using: str, **_: Any) -> None:
        make(Tag, using)

    def refuse(**_: Any) -> None:
        raise ValueError("no more lines today")

    with (
        connected(post_save, write, sender=Order),
        connected(post_save, refuse, sender=Line),
        pytest.raises(GestoreSyncError, match="no more lines today") as error,
    ):
        sync.synchronize(shop)

    assert "kinds.Line" in str(error.value)
    assert content(sync.target) == before


def test_what_a_receiver_writes_on_the_target_is_kept(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source, orders=2)

    def write(*, instance: Order, using: str, **_: Any) -> None:
        make(Tag, using, name=f"order {instance.pk}")

    with connected(post_save, write, sender=Order):
        sync.synchronize(shop)

    expected = {f"order {pk}" for pk in sync.on_target(Order).filter(number="ours").values_list("pk", flat=True)}
    assert set(sync.on_target(Tag).values_list("name", flat=True)) == expected
    sync.assert_nothing_to_do(shop)


# The setting


def test_no_signal_is_sent_where_the_setting_says_none(sync: Sync, settings: Any) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": "none"}
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)

    with listening() as heard:
        sync.push(shop)
        sync.on_source(Line)._raw_delete(sync.source)
        sync.push(shop, prune=True)

    assert heard == []


def test_objects_are_saved_one_by_one_where_the_setting_says_save(sync: Sync, settings: Any) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": "save"}
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)

    with listening() as heard:
        sync.push(shop)
        sync.on_source(Line).update(text="changed")
        sync.push(shop)

    assert {(call.raw, call.using) for call in heard} == {(False, sync.target)}
    told = Counter((call.sender, call.created) for call in heard if call.signal == "post_save")
    assert told == {(Currency, True): 1, (Shop, True): 1, (Order, True): 2, (Line, True): 4, (Line, False): 4}
    sync.assert_nothing_to_do(shop)


def test_save_is_not_called_by_default(sync: Sync) -> None:
    make_crowd(sync.target, Box, Loud)
    box = make(Box, sync.source, name="ours")
    make(Loud, sync.source, box=box, text="quiet")

    with listening():
        sync.push(box)

    assert sync.on_target(Loud).get(box__name="ours").text == "quiet"
    sync.assert_nothing_to_do(box)


def test_save_is_called_where_the_setting_says_save(sync: Sync, settings: Any) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": {"kinds.Loud": "save"}}
    make_crowd(sync.target, Box, Loud)
    box = make(Box, sync.source, name="ours")
    make(Loud, sync.source, box=box, text="quiet")

    sync.push(box)

    assert sync.on_target(Loud).get(box__name="ours").text == "QUIET"
    sync.assert_nothing_to_do(box)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"kinds.Order": "none"}, {Currency: True, Shop: True, Line: True}),
        ({"kinds.Order": "none", "*": "save"}, {Currency: False, Shop: False, Line: False}),
        ({"kinds.Order": "raw", "*": "none"}, {Order: True}),
        ({"kinds.Order": "save", "*": "raw"}, {Currency: True, Shop: True, Order: False, Line: True}),
    ],
)
def test_the_setting_can_differ_by_model(
    sync: Sync, settings: Any, setting: dict[str, str], expected: dict[type[models.Model], bool]
) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": setting}
    make_crowd(sync.target, Line, Order, Shop)
    shop = make_shop(sync.source)

    with listening() as heard:
        sync.push(shop)

    assert {call.sender: call.raw for call in heard} == expected
    sync.assert_nothing_to_do(shop)


# Every kind of model


def make_one_of_each(using: str) -> list[models.Model]:
    """Make objects whose instances are not easily built from their rows."""
    hall, box = make(Hall, using), make(Box, using)
    make(Seat, using, hall=hall, number=1)
    make(Slot, using, hall=hall, day=dt.date(2026, 1, 1), hour=1)
    make(Rect, using, box=box, width=2, height=3)
    make(Picture, using, box=box, image="pictures/gone.png", width=640, height=480)
    make(Painted, using, box=box, colour=Colour(1, 2, 3))
    make(Decoded, using, box=box, json={"price": 1})
    make(Defaulted, using, box=box)
    make(Device, using, box=box)
    make(Stamped, using, box=box)
    roots = [hall, box, make(Pizzeria, using), make(Kiosk, using), make(Robot, using), make(BareChild, using)]
    roots += [make(model, using) for model in (Bare, Asset, Page, Star, Isbn, Topic)]
    badge = make(Badge, using)
    return [*roots, make(BadgeHolder, using, badge=badge)]


@pytest.mark.parametrize("setting", ["raw", "save", "none"])
def test_every_kind_of_model_arrives_past_receivers(sync: Sync, settings: Any, setting: str) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": setting}
    make_crowd(sync.target, Hall, Box, Pizzeria, BareChild, BadgeHolder)
    roots = make_one_of_each(sync.source)
    kinds = [model for model in models_on(sync.source) if model._meta.app_label == "kinds"]
    expected = {model: sync.on_target(model).count() + sync.on_source(model).count() for model in kinds}

    with listening() as heard:
        sync.push(*roots)

    assert bool(heard) == (setting != "none")
    assert {model: sync.on_target(model).count() for model in kinds} == expected
    assert sync.on_target(Rect).get().area == 6
    assert sync.on_target(Painted).get().colour == Colour(1, 2, 3)
    sync.assert_nothing_to_do(*roots)

"""Orders and users of a django-oscar shop."""

from __future__ import annotations

from typing import Any

import pytest

from gestore_sync.exceptions import UnresolvedConflicts
from tests.conftest import Pair
from tests.shop.observe import ORDER, USER, describe, find_lost, read_all
from tests.shop.pushes import (
    LIGHTHOUSE,
    assert_nothing_to_do,
    crosswise,
    get_order,
    get_product,
    get_user,
    push,
)
from tests.shop.routers import shop_at
from tests.shop.seed import Group, Order, Product, User, UserAddress, fill_basket, place_order


def test_an_order_arrives_with_all_that_belongs_to_it(pair: Pair) -> None:
    push(pair, get_order(pair.source))

    arrived = get_order(pair.target)
    assert describe(arrived, ORDER) == describe(get_order(pair.source), ORDER)
    assert arrived.lines.count() == 2
    assert arrived.shipping_events.get().lines.count() == 2
    assert arrived.payment_events.get().shipping_event == arrived.shipping_events.get()
    assert arrived.sources.get().transactions.count() == 2
    assert arrived.shipping_address.phone_number == "+48583221111"
    assert arrived.site.domain == "example.com"


@crosswise
def test_the_products_of_an_order_that_the_shop_has_stay_as_they_are(pair: Pair) -> None:
    push(pair, get_product(pair.source))
    Product.objects.using(pair.target).filter(title=LIGHTHOUSE).update(description="Ours")
    pk = get_product(pair.target).pk

    push(pair, get_order(pair.source))

    sent, arrived = (get_order(alias).lines.get(title=LIGHTHOUSE) for alias in (pair.source, pair.target))
    assert (arrived.product_id, arrived.product.description) == (pk, "Ours")
    assert arrived.stockrecord == get_product(pair.target).stockrecords.get(partner_sku=sent.partner_sku)
    assert arrived.partner.code == sent.partner.code
    assert get_product(pair.target).stockrecords.count() == 2


@crosswise
def test_other_orders_of_the_customer_stay(pair: Pair) -> None:
    push(pair, get_order(pair.source))

    numbers = Order.objects.using(pair.target).values_list("number", flat=True)
    assert sorted(numbers) == ["GS-1", "GS-2", "GS-3", "HB-1001"]


@crosswise
def test_an_order_whose_number_another_order_has_is_a_conflict_where_the_number_identifies_nothing(
    pair: Pair, settings: Any
) -> None:
    settings.GESTORE_SYNC = {"IDENTITY": {"order.Order": ["number", "date_placed"]}}
    Order.objects.using(pair.source).filter(number="HB-1001").update(number="GS-1")
    before = read_all(pair.target)

    with pytest.raises(UnresolvedConflicts) as caught:
        push(pair, get_order(pair.source, "GS-1"))

    there = get_order(pair.target, "GS-1")
    assert f"order.Order.{get_order(pair.source, 'GS-1').pk}" in str(caught.value)
    assert f"order.Order.{there.pk}" in str(caught.value)
    assert "number" in str(caught.value)
    assert read_all(pair.target) == before


@crosswise
def test_changes_of_an_order_follow(pair: Pair) -> None:
    sent = get_order(pair.source, "HB-1002")
    push(pair, sent)
    pk = get_order(pair.target, "HB-1002").pk

    with shop_at(pair.source):
        sent = Order.objects.get(number="HB-1002")
        sent.set_status("Cancelled")
        sent.notes.create(message="Never mind", note_type="Info", user=sent.user)
        sent.lines.update(quantity=3)
    report = push(pair, sent)

    arrived = get_order(pair.target, "HB-1002")
    assert describe(arrived, ORDER) == describe(sent, ORDER)
    assert (arrived.pk, arrived.status) == (pk, "Cancelled")
    assert report.updated == {"order.Order": 1, "order.Line": 1}
    assert report.created == {"order.OrderNote": 1, "order.OrderStatusChange": 1}
    assert_nothing_to_do(pair, sent)


def test_a_user_arrives_with_all_that_belongs_to_them(pair: Pair) -> None:
    push(pair, get_user(pair.source))

    arrived = get_user(pair.target)
    assert describe(arrived, USER) == describe(get_user(pair.source), USER)
    assert (arrived.addresses.count(), arrived.wishlists.count(), arrived.bankcards.count()) == (2, 1, 1)
    assert arrived.check_password("secret of anna")


@crosswise
def test_the_orders_of_a_user_are_mentioned_and_travel_when_they_are_owned(pair: Pair) -> None:
    bert = get_user(pair.source, "bert")

    report = push(pair, bert)
    assert report.mentions["order.Order.user"] == 1
    assert not Order.objects.using(pair.target).filter(number="HB-1003").exists()

    report = push(pair, bert, own=["order.Order.user"])
    assert "order.Order.user" not in report.mentions
    arrived = get_order(pair.target, "HB-1003")
    assert describe(arrived, ORDER) == describe(get_order(pair.source, "HB-1003"), ORDER)
    assert arrived.user == get_user(pair.target, "bert")


def test_a_user_whom_the_shop_knows_is_updated_and_keeps_what_only_the_target_has(pair: Pair) -> None:
    bert = get_user(pair.target, "bert")
    before = read_all(pair.target)

    report = push(pair, get_user(pair.source, "bert"))

    arrived = get_user(pair.target, "bert")
    assert (arrived.pk, arrived.email, arrived.last_name) == (bert.pk, "bert@books.example", "Brandt")
    assert sorted(arrived.addresses.values_list("line4", flat=True)) == ["Kiel", "Lund"]
    assert arrived.orders.filter(number="GS-2").exists()
    lost = find_lost(before, read_all(pair.target))
    assert {table: len(rows) for table, rows in lost.items()} == {"auth_user": 1, "analytics_userrecord": 1}
    assert report.updated == {"auth.User": 1, "analytics.UserRecord": 1}
    assert_nothing_to_do(pair, get_user(pair.source, "bert"))


@crosswise
def test_a_user_whom_the_shop_knows_stays_as_it_is_where_the_remote_side_wins(pair: Pair) -> None:
    report = push(pair, get_user(pair.source, "bert"), on_conflict="remote")

    bert = get_user(pair.target, "bert")
    assert (bert.email, bert.last_name) == ("bert@garden.example", "Björk")
    assert sorted(bert.addresses.values_list("line4", flat=True)) == ["Kiel", "Lund"]
    assert report.skipped == {"auth.User": 1, "analytics.UserRecord": 1}
    assert report.updated == {}


@crosswise
def test_a_user_whom_the_shop_knows_is_a_conflict_where_none_may_be_resolved(pair: Pair) -> None:
    before = read_all(pair.target)

    with pytest.raises(UnresolvedConflicts) as caught:
        push(pair, get_user(pair.source, "bert"), on_conflict="fail")

    found = {conflict["model"]: conflict for conflict in caught.value.report.conflicts}
    assert sorted(found) == ["analytics.UserRecord", "auth.User"]
    assert found["auth.User"]["natural_key"] == ["bert"]
    assert found["auth.User"]["fields"]["email"] == ["bert@books.example", "bert@garden.example"]
    assert found["auth.User"]["resolved"] is None
    assert read_all(pair.target) == before


@crosswise
def test_groups_and_permissions_are_those_of_the_target_by_name(pair: Pair) -> None:
    group = Group.objects.using(pair.target).create(name="Partner staff")

    push(pair, get_user(pair.source, "petra"))

    assert [one.pk for one in get_user(pair.target, "petra").groups.all()] == [group.pk]
    assert group.permissions.count() == 0


@crosswise
def test_changes_of_a_user_follow(pair: Pair) -> None:
    anna = get_user(pair.source)
    push(pair, anna)

    with shop_at(pair.source):
        User.objects.filter(pk=anna.pk).update(email="anna@new.example")
        anna.wishlists.get().add(Product.objects.get(title="Poems of the Fjord"))
        UserAddress.objects.filter(user=anna, line4="Bergen").update(line1="Torget 99")
        fill_basket(anna, [Product.objects.get(title="Crossing Europe")])
        anna.groups.add(Group.objects.get(name="Partner staff"))
    anna.refresh_from_db()
    push(pair, anna)

    assert describe(get_user(pair.target), USER) == describe(anna, USER)
    assert_nothing_to_do(pair, anna)


@crosswise
def test_orders_that_are_placed_later_follow(pair: Pair) -> None:
    anna = get_user(pair.source)
    push(pair, anna, own=["order.Order.user"])

    with shop_at(pair.source):
        place_order("HB-1004", get_user(pair.source), fill_basket(anna, [Product.objects.get(title=LIGHTHOUSE)]))
    push(pair, anna, own=["order.Order.user"])

    for sent in anna.orders.all():
        assert describe(get_order(pair.target, sent.number), ORDER) == describe(sent, ORDER)
    assert get_order(pair.target, "HB-1004").user == get_user(pair.target)

"""A shop made by django-oscar: a schema that nobody here wrote, pushed into another live shop.

::

    bookshop (source)                     garden shop (target), before
    Books            Clothing             Garden              Media
      Fiction          Shirts               Tools               Music
        Nordic crime                          Spades
        Poetry                                Rakes
      Travel                                Seeds
        Europe                                Flowers

Categories have the same treebeard paths on both sides, products and orders the same primary keys; the partner
``nordwind``, the product class ``book``, two of its attributes and the customer ``bert`` are on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core import mail
from django.core.management import call_command

from tests.conftest import DATABASES, Pair
from tests.shop import services
from tests.shop.observe import (
    ORDER,
    PRODUCT,
    USER,
    count_new,
    describe,
    find_lost,
    get_tree,
    read_all,
    read_sequences,
)
from tests.shop.pushes import (
    GARDEN,
    WITH_PRODUCTS,
    assert_nothing_to_do,
    assert_trees_are_sound,
    crosswise,
    get_category,
    get_order,
    get_product,
    get_user,
    push,
)
from tests.shop.seed import Category, Order, Partner, Product, ProductClass, User


def test_the_two_shops_clash(pair: Pair) -> None:
    for model, name in [(Category, "path"), (Product, "pk"), (Order, "pk"), (User, "pk"), (Partner, "pk")]:
        sent = set(model.objects.using(pair.source).values_list(name, flat=True))
        present = set(model.objects.using(pair.target).values_list(name, flat=True))
        assert sent <= present, model
    for model, name in [(Partner, "code"), (ProductClass, "slug"), (User, "username")]:
        sent = model.objects.using(pair.source).values_list(name, "pk")
        assert set(model.objects.using(pair.target).values_list(name, "pk")).isdisjoint(sent), model
        present = set(model.objects.using(pair.target).values_list(name, flat=True))
        assert present & {value for value, _ in sent}, model
    assert get_tree(pair.target) == GARDEN
    assert_trees_are_sound(pair)


ROOTS: dict[str, tuple[Callable[[str], Any], dict[str, Any]]] = {
    "product": (get_product, {}),
    "parent product": (lambda alias: get_product(alias, "Harbour Shirt"), {}),
    "category with its products": (lambda alias: get_category(alias, "books"), {"own": WITH_PRODUCTS}),
    "subcategory": (lambda alias: get_category(alias, "nordic-crime"), {}),
    "order": (get_order, {}),
    "user with orders": (get_user, {"own": ["order.Order.user"]}),
}
every_root = pytest.mark.parametrize(("get_root", "options"), ROOTS.values(), ids=ROOTS.keys())


@every_root
def test_a_push_into_another_shop_changes_nothing_of_what_is_there(
    pair: Pair, get_root: Callable[[str], Any], options: dict[str, Any]
) -> None:
    before = read_all(pair.target)

    report = push(pair, get_root(pair.source), **options)

    after = read_all(pair.target)
    assert find_lost(before, after) == {}
    created = {apps.get_model(label)._meta.db_table: number for label, number in report.created.items()}
    assert created == count_new(before, after)
    assert (report.updated, report.deleted, report.skipped) == ({}, {}, {})
    assert (report.conflicts, report.failures) == ([], [])
    assert get_tree(pair.target)[:2] == GARDEN
    assert_trees_are_sound(pair)


@every_root
def test_a_second_push_writes_nothing(pair: Pair, get_root: Callable[[str], Any], options: dict[str, Any]) -> None:
    root = get_root(pair.source)
    push(pair, root, **options)

    assert_nothing_to_do(pair, root, **options)


@crosswise
@every_root
def test_a_dry_run_writes_nothing(pair: Pair, get_root: Callable[[str], Any], options: dict[str, Any]) -> None:
    rows = read_all(pair.source), read_all(pair.target)
    sequences = read_sequences(pair.source), read_sequences(pair.target)

    report = push(pair, get_root(pair.source), dry_run=True, **options)

    assert (read_all(pair.source), read_all(pair.target)) == rows
    assert (read_sequences(pair.source), read_sequences(pair.target)) == sequences
    assert report.created == push(pair, get_root(pair.source), **options).created


@crosswise
def test_products_that_arrive_are_handed_to_the_search_index(pair: Pair) -> None:
    push(pair, get_product(pair.source, "Harbour Shirt"))

    found = {document["title"] for alias, document in services.indexed if alias == pair.target}
    assert found == {"Harbour Shirt", "Harbour Shirt S", "Harbour Shirt M", "Harbour Shirt L"}
    assert {alias for alias, _ in services.indexed} == {pair.target}


@crosswise
def test_a_second_push_leaves_the_search_index_alone(pair: Pair) -> None:
    push(pair, get_product(pair.source))
    services.forget()

    push(pair, get_product(pair.source))

    assert services.indexed == []


@crosswise
def test_receivers_that_know_a_copy_raise_no_alerts_and_send_no_mail(pair: Pair) -> None:
    sent = get_product(pair.source)
    push(pair, sent)
    sent.stockrecords.update(num_in_stock=1, low_stock_threshold=9)
    before = {alias: read_all(alias) for alias in DATABASES}
    mail.outbox.clear()

    report = push(pair, sent)

    assert report.updated == {"partner.StockRecord": 2}
    assert mail.outbox == []
    for alias in DATABASES:
        after = read_all(alias)
        assert count_new(before[alias], after) == {}
        lost = {table for table in find_lost(before[alias], after) if not table.startswith("gestore_sync_")}
        assert lost == ({"partner_stockrecord"} if alias == pair.target else set())


@crosswise
def test_the_whole_bookshop_moves_in_beside_the_garden_shop(pair: Pair) -> None:
    roots = [
        *Category.objects.using(pair.source).filter(depth=1),
        *User.objects.using(pair.source).exclude(username="bert"),
    ]
    own = [*WITH_PRODUCTS, "order.Order.user"]
    before = read_all(pair.target)

    push(pair, *roots, own=own)

    assert find_lost(before, read_all(pair.target)) == {}
    assert get_tree(pair.target) == [*GARDEN, *get_tree(pair.source)]
    for sent in Product.objects.using(pair.source).all():
        assert describe(get_product(pair.target, sent.title), PRODUCT) == describe(sent, PRODUCT)
    for root in roots:
        if isinstance(root, User):
            assert describe(get_user(pair.target, root.username), USER) == describe(root, USER)
            for sent in root.orders.all():
                assert describe(get_order(pair.target, sent.number), ORDER) == describe(sent, ORDER)
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, *roots, own=own)


@crosswise
def test_the_command_pushes_a_product_by_its_upc(pair: Pair) -> None:
    output = StringIO()

    call_command(
        "synchronize",
        "--root",
        "catalogue.Product.upc=9788300000017",
        "--source",
        pair.source,
        "--remote",
        pair.target,
        "--format",
        "json",
        "--no-progress",
        stdout=output,
    )

    report = json.loads(output.getvalue())
    assert report["message"] == "Synchronization performed successfully."
    assert report["created"]["catalogue.ProductImage"] == 2
    assert describe(get_product(pair.target), PRODUCT) == describe(get_product(pair.source), PRODUCT)

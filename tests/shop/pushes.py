"""What the tests of the shop have in common: the push, the look-ups by code, and what must always hold."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Model

from gestore_sync import api
from tests.conftest import DATABASES, Pair
from tests.shop.observe import find_tree_problems, read_all
from tests.shop.routers import shop_at
from tests.shop.seed import Category, Order, Product, User

LIGHTHOUSE = "The Lighthouse Keeper"
WITH_PRODUCTS = ["catalogue.ProductCategory.product"]
GARDEN = [
    ["Garden", [["Tools", [["Spades", []], ["Rakes", []]]], ["Seeds", [["Flowers", []]]]]],
    ["Media", [["Music", []]]],
]


_databases = pytest.mark.django_db(databases=DATABASES)
crosswise = pytest.mark.parametrize(
    "pair",
    [
        pytest.param(Pair("default", "pg_remote"), id="sqlite-postgresql", marks=_databases),
        pytest.param(Pair("pg_local", "remote"), id="postgresql-sqlite", marks=_databases),
    ],
    indirect=True,
)
"""Instead of all four pairings: each kind of database is a source once and a target once."""


def push(pair: Pair, *roots: Model, **options: Any) -> Any:
    return api.synchronize(list(roots), source=pair.source, remote=pair.target, **options)


def get_product(alias: str, title: str = LIGHTHOUSE) -> Any:
    return Product.objects.using(alias).get(title=title)


def get_category(alias: str, code: str) -> Any:
    return Category.objects.using(alias).get(code=code)


def get_order(alias: str, number: str = "HB-1001") -> Any:
    return Order.objects.using(alias).get(number=number)


def get_user(alias: str, username: str = "anna") -> Any:
    return User.objects.using(alias).get(username=username)


def move(alias: str, code: str, target: str, position: str) -> None:
    with shop_at(alias):
        Category.objects.move(Category.objects.get(code=code), Category.objects.get(code=target), position)


def assert_trees_are_sound(pair: Pair) -> None:
    assert find_tree_problems(pair.source) == []
    assert find_tree_problems(pair.target) == []


def assert_nothing_to_do(pair: Pair, *roots: Model, **options: Any) -> None:
    """Pushing the same again writes nothing at all on the target and says so."""
    before = read_all(pair.target)
    report = push(pair, *roots, **options)
    assert (report.created, report.updated, report.deleted) == ({}, {}, {})
    assert (report.conflicts, report.failures) == ([], [])
    assert report.message == "No changes since last synchronization."
    assert read_all(pair.target) == before

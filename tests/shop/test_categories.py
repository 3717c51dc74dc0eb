"""Categories of a django-oscar shop: treebeard trees whose paths are taken on the target."""

from __future__ import annotations

from typing import Any

import pytest

from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import Pair
from tests.shop.observe import PRODUCT, describe, get_branch, get_parent, get_tree, read_all
from tests.shop.pushes import (
    GARDEN,
    LIGHTHOUSE,
    WITH_PRODUCTS,
    assert_nothing_to_do,
    assert_trees_are_sound,
    crosswise,
    get_category,
    get_product,
    move,
    push,
)
from tests.shop.routers import shop_at
from tests.shop.seed import Category, Product, ProductCategory


def test_a_category_arrives_with_its_whole_subtree(pair: Pair) -> None:
    report = push(pair, get_category(pair.source, "books"))

    assert get_tree(pair.target)[:3] == [*GARDEN, get_branch(pair.source, "books")]
    assert report.why["catalogue.Category"]["catalogue.Category.parent"] >= 5
    for code in ("books", "fiction", "nordic-crime", "poetry", "travel", "travel-europe"):
        assert describe(get_category(pair.target, code), {}) == describe(get_category(pair.source, code), {})
    assert_trees_are_sound(pair)


@crosswise
def test_the_products_of_a_category_exist_on_the_target_without_their_parts(pair: Pair) -> None:
    report = push(pair, get_category(pair.source, "fiction"))

    for code, title in [
        ("nordic-crime", LIGHTHOUSE),
        ("poetry", "Poems of the Fjord"),
        ("fiction", "The Bookshop at Sea"),
    ]:
        assert [one.title for one in get_category(pair.target, code).product_set.all()] == [title]
        assert get_product(pair.target, title).stockrecords.count() == 0
    assert report.left_behind["catalogue.Product"]["partner.StockRecord.product"] == 4
    assert report.left_behind["catalogue.Product"]["catalogue.ProductImage.product"] == 6


@crosswise
def test_the_other_categories_of_a_range_with_a_pushed_one_come_with_their_parents_alone(pair: Pair) -> None:
    with shop_at(pair.source):
        Category.objects.add_child(
            Category.objects.get(code="clothing"),
            create_kwargs={"name": "Hats", "slug": "hats", "code": "hats"},
        )

    push(pair, get_category(pair.source, "travel"))

    reads = get_category(pair.target, "travel").includes.get()
    assert (reads.name, reads.included_products.count()) == ("Summer reads", 0)
    assert [one.code for one in reads.excluded_categories.all()] == ["shirts"]
    assert get_branch(pair.target, "clothing") == ["Clothing", [["Shirts", []]]]
    assert get_branch(pair.target, "books") == ["Books", [["Travel", [["Europe", []]]]]]
    assert_trees_are_sound(pair)


def test_a_category_brings_its_products_whole_where_they_are_owned(pair: Pair) -> None:
    push(pair, get_category(pair.source, "books"), own=WITH_PRODUCTS)

    for title in (LIGHTHOUSE, "Poems of the Fjord", "Crossing Europe", "The Bookshop at Sea"):
        assert describe(get_product(pair.target, title), PRODUCT) == describe(get_product(pair.source, title), PRODUCT)
    assert get_tree(pair.target)[2] == get_branch(pair.source, "books")
    assert_trees_are_sound(pair)


@crosswise
def test_the_products_of_a_subtree_are_what_oscar_finds_in_it(pair: Pair) -> None:
    push(pair, get_category(pair.source, "books"))

    with shop_at(pair.target):
        books = Category.objects.get_tree(Category.objects.get(code="books"))
        found = set(Product.objects.filter(categories__in=books).values_list("title", flat=True))
    assert found == {LIGHTHOUSE, "Poems of the Fjord", "Crossing Europe", "The Bookshop at Sea"}


@crosswise
def test_a_subcategory_comes_below_the_parent_that_the_target_has(pair: Pair) -> None:
    with shop_at(pair.target):
        media = Category.objects.get(code="media")
        literature = Category.objects.add_child(
            media, create_kwargs={"name": "Literature", "slug": "literature", "code": "fiction"}
        )
        Category.objects.add_child(literature, create_kwargs={"name": "Classics", "slug": "classics"})

    report = push(pair, get_category(pair.source, "nordic-crime"))

    assert get_branch(pair.target, "media") == [
        "Media",
        [["Music", []], ["Literature", [["Classics", []], ["Nordic crime", []]]]],
    ]
    assert report.created["catalogue.Category"] == 1
    assert report.matched["catalogue.Category"] == 1
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, get_category(pair.source, "nordic-crime"))


@crosswise
def test_a_subcategory_brings_the_parents_that_the_target_lacks_but_not_their_children(pair: Pair) -> None:
    report = push(pair, get_category(pair.source, "nordic-crime"))

    assert get_tree(pair.target) == [*GARDEN, ["Books", [["Fiction", [["Nordic crime", []]]]]]]
    assert report.created["catalogue.Category"] == 3
    assert_trees_are_sound(pair)


@crosswise
def test_subcategories_that_are_pushed_one_by_one_come_together_in_one_tree(pair: Pair) -> None:
    for code in ("travel-europe", "poetry", "nordic-crime"):
        push(pair, get_category(pair.source, code))

    found = get_branch(pair.target, "books")
    assert sort_tree(found) == sort_tree(get_branch(pair.source, "books"))
    assert_trees_are_sound(pair)

    push(pair, get_category(pair.source, "books"))
    assert get_branch(pair.target, "books") == get_branch(pair.source, "books")
    assert_trees_are_sound(pair)


def sort_tree(node: list[Any]) -> list[Any]:
    return [node[0], sorted(sort_tree(child) for child in node[1])]


@crosswise
def test_categories_without_a_code_are_new_even_where_one_of_the_same_name_and_slug_exists(
    pair: Pair,
) -> None:
    with shop_at(pair.target):
        Category.objects.add_root(create_kwargs={"name": "Books", "slug": "books"})
    Category.objects.using(pair.source).update(code=None)
    root = Category.objects.using(pair.source).get(name="Books")

    push(pair, root)

    assert [name for name, _ in get_tree(pair.target)] == [
        "Garden",
        "Media",
        "Books",
        "Books",
        "Clothing",
    ]
    assert Category.objects.using(pair.target).filter(name="Poetry").count() == 1
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, root)


@crosswise
def test_a_renamed_category_keeps_its_place_and_its_key(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    pk = get_category(pair.target, "fiction").pk

    Category.objects.using(pair.source).filter(code="fiction").update(name="Novels", slug="novels", code="novels")
    report = push(pair, books)

    renamed = get_category(pair.target, "novels")
    assert (renamed.pk, renamed.name, renamed.slug) == (pk, "Novels", "novels")
    assert get_branch(pair.target, "books") == get_branch(pair.source, "books")
    assert report.updated == {"catalogue.Category": 1}
    assert report.created == {}
    assert_nothing_to_do(pair, books)


@crosswise
@pytest.mark.parametrize(
    ("code", "target", "position"),
    [
        pytest.param("poetry", "travel", "last-child", id="to another parent"),
        pytest.param("nordic-crime", "travel", "first-child", id="before another parent's children"),
        pytest.param("fiction", "travel-europe", "last-child", id="a subtree below a leaf"),
        pytest.param("travel-europe", "books", "first-child", id="up"),
        pytest.param("poetry", "nordic-crime", "left", id="among its siblings"),
        pytest.param("travel", "fiction", "left", id="a subtree among its siblings"),
    ],
)
def test_a_category_that_moves_within_the_subtree_moves_on_the_target(
    pair: Pair, code: str, target: str, position: str
) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    pk = get_category(pair.target, code).pk

    move(pair.source, code, target, position)
    books.refresh_from_db()
    report = push(pair, books)

    assert get_tree(pair.target) == [*GARDEN, *get_tree(pair.source)]
    assert get_category(pair.target, code).pk == pk
    assert (report.created, report.deleted) == ({}, {})
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, books)


@crosswise
def test_a_category_that_moves_to_the_top_moves_to_the_top_on_the_target(pair: Pair) -> None:
    push(pair, get_category(pair.source, "books"))

    move(pair.source, "travel", "clothing", "left")
    push(pair, get_category(pair.source, "travel"))

    assert get_parent(pair.target, "travel") == ""
    assert get_branch(pair.target, "travel") == ["Travel", [["Europe", []]]]
    assert get_branch(pair.target, "books") == get_branch(pair.source, "books")
    assert get_tree(pair.target)[:2] == GARDEN
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, get_category(pair.source, "travel"))


@crosswise
def test_a_category_that_moves_below_one_that_the_target_lacks_brings_it(pair: Pair) -> None:
    push(pair, get_category(pair.source, "books"))
    with shop_at(pair.source):
        Category.objects.add_root(create_kwargs={"name": "Leisure", "slug": "leisure", "code": "leisure"})

    move(pair.source, "travel", "leisure", "last-child")
    report = push(pair, get_category(pair.source, "travel"))

    assert get_tree(pair.target) == [*GARDEN, *get_tree(pair.source)]
    assert get_parent(pair.target, "travel") == "Leisure"
    assert report.created["catalogue.Category"] == 1
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, get_category(pair.source, "travel"))


@crosswise
def test_a_new_category_within_the_subtree_follows(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    with shop_at(pair.source):
        fiction = Category.objects.get(code="fiction")
        Category.objects.add_child(fiction, create_kwargs={"name": "Fantasy", "slug": "fantasy", "code": "fantasy"})

    report = push(pair, books)

    assert get_tree(pair.target) == [*GARDEN, *get_tree(pair.source)]
    assert report.created == {"catalogue.Category": 1}
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, books)


@crosswise
def test_a_product_that_is_taken_out_of_a_category_is_taken_out_on_the_target(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)

    ProductCategory.objects.using(pair.source).get(product__title=LIGHTHOUSE, category__code="nordic-crime").delete()
    report = push(pair, books)

    assert get_category(pair.target, "nordic-crime").product_set.count() == 0
    assert [one.code for one in get_product(pair.target).categories.all()] == ["travel-europe"]
    assert report.deleted == {"catalogue.ProductCategory": 1}
    assert_nothing_to_do(pair, books)


@crosswise
def test_a_product_that_the_target_put_into_a_pushed_category_stays_there(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    with shop_at(pair.target):
        travel, spade = Category.objects.get(code="travel"), Product.objects.get(title="Spade")
        ProductCategory.objects.create(product=spade, category=travel)

    push(pair, books)

    assert [one.title for one in get_category(pair.target, "travel").product_set.all()] == ["Spade"]


@crosswise
def test_a_category_that_the_source_deleted_goes_only_when_pruned(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    with shop_at(pair.source):
        Category.objects.get(code="travel").delete()
    books.refresh_from_db()

    push(pair, books)
    assert get_branch(pair.target, "travel") == ["Travel", [["Europe", []]]]
    assert_trees_are_sound(pair)

    report = push(pair, books, prune=True)
    assert get_tree(pair.target) == [*GARDEN, *get_tree(pair.source)]
    assert report.deleted["catalogue.Category"] == 2
    assert get_product(pair.target, "Crossing Europe").categories.count() == 0
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, books, prune=True)


@crosswise
def test_a_category_of_the_target_below_a_pushed_one_is_neither_moved_nor_pruned(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    with shop_at(pair.target):
        fiction = Category.objects.get(code="fiction")
        Category.objects.add_child(
            fiction, create_kwargs={"name": "Gardening", "slug": "gardening", "code": "gardening"}
        )
    with shop_at(pair.source):
        Category.objects.get(code="poetry").delete()
    move(pair.source, "travel-europe", "fiction", "last-child")
    books.refresh_from_db()

    push(pair, books, prune=True)

    assert get_parent(pair.target, "gardening") == "Fiction"
    assert get_parent(pair.target, "travel-europe") == "Fiction"
    assert not Category.objects.using(pair.target).filter(code="poetry").exists()
    assert_trees_are_sound(pair)


@crosswise
def test_a_category_of_the_target_below_one_to_be_pruned_is_a_conflict_that_names_both(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    with shop_at(pair.target):
        travel = Category.objects.get(code="travel")
        asia = Category.objects.add_child(travel, create_kwargs={"name": "Asia", "slug": "asia", "code": "asia"})
    with shop_at(pair.source):
        Category.objects.get(code="travel").delete()
    books.refresh_from_db()
    before = read_all(pair.target)

    with pytest.raises(GestoreSyncError) as caught:
        push(pair, books, prune=True)

    named = str(caught.value)
    assert f"catalogue.Category.{travel.pk}" in named
    assert f"catalogue.Category.{asia.pk}" in named
    assert read_all(pair.target) == before


@crosswise
def test_a_category_that_the_target_knows_by_its_code_takes_its_place_with_all_that_is_below_it(
    pair: Pair,
) -> None:
    with shop_at(pair.target):
        literature = Category.objects.add_child(
            Category.objects.get(code="media"),
            create_kwargs={"name": "Literature", "slug": "literature", "code": "fiction"},
        )
        Category.objects.add_child(literature, create_kwargs={"name": "Classics", "slug": "classics"})

    push(pair, get_category(pair.source, "books"))

    assert get_category(pair.target, "fiction").pk == literature.pk
    assert get_branch(pair.target, "media") == ["Media", [["Music", []]]]
    assert sort_tree(get_branch(pair.target, "fiction")) == [
        "Fiction",
        [["Classics", []], ["Nordic crime", []], ["Poetry", []]],
    ]
    assert get_parent(pair.target, "fiction") == "Books"
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, get_category(pair.source, "books"))


@crosswise
def test_codes_that_trade_places_do_so_on_the_target(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books, own=WITH_PRODUCTS)
    pks = {code: get_category(pair.target, code).pk for code in ("poetry", "nordic-crime")}

    categories = Category.objects.using(pair.source)
    categories.filter(code="poetry").update(code="swap")
    categories.filter(code="nordic-crime").update(code="poetry")
    categories.filter(code="swap").update(code="nordic-crime")
    products = Product.objects.using(pair.source)
    products.filter(title=LIGHTHOUSE).update(upc="swap")
    products.filter(title="The Bookshop at Sea").update(upc="9788300000017")
    products.filter(title=LIGHTHOUSE).update(upc="9788300000024")
    report = push(pair, books, own=WITH_PRODUCTS)

    assert {code: get_category(pair.target, code).pk for code in ("nordic-crime", "poetry")} == {
        "nordic-crime": pks["poetry"],
        "poetry": pks["nordic-crime"],
    }
    assert get_product(pair.target, LIGHTHOUSE).upc == "9788300000024"
    assert get_product(pair.target, "The Bookshop at Sea").upc == "9788300000017"
    assert report.updated == {"catalogue.Category": 2, "catalogue.Product": 2}
    assert report.created == {}
    assert_nothing_to_do(pair, books, own=WITH_PRODUCTS)


@crosswise
def test_a_code_that_passes_to_a_new_category_does_not_take_the_old_ones_row(pair: Pair) -> None:
    books = get_category(pair.source, "books")
    push(pair, books)
    pk = get_category(pair.target, "poetry").pk

    Category.objects.using(pair.source).filter(code="poetry").update(code="verse", name="Verse")
    with shop_at(pair.source):
        travel = Category.objects.get(code="travel")
        Category.objects.add_child(travel, create_kwargs={"name": "Poetry abroad", "slug": "abroad", "code": "poetry"})
    push(pair, books)

    assert get_category(pair.target, "verse").pk == pk
    assert get_category(pair.target, "poetry").name == "Poetry abroad"
    assert get_tree(pair.target) == [*GARDEN, *get_tree(pair.source)]
    assert_trees_are_sound(pair)
    assert_nothing_to_do(pair, books)


@crosswise
def test_a_private_category_hides_its_subtree_on_the_target_as_well(pair: Pair) -> None:
    with shop_at(pair.source):
        fiction = Category.objects.get(code="fiction")
        fiction.is_public = False
        fiction.save()

    push(pair, get_category(pair.source, "books"))

    hidden = Category.objects.using(pair.target).filter(ancestors_are_public=False)
    assert sorted(hidden.values_list("code", flat=True)) == ["nordic-crime", "poetry"]

"""Products of a django-oscar shop: what travels with them, what is found, and what follows later."""

from __future__ import annotations

from tests.conftest import Pair
from tests.shop import services
from tests.shop.observe import PRODUCT, count_new, describe, find_lost, read_all
from tests.shop.pushes import (
    LIGHTHOUSE,
    assert_nothing_to_do,
    assert_trees_are_sound,
    crosswise,
    get_product,
    get_user,
    push,
)
from tests.shop.routers import shop_at
from tests.shop.seed import AttributeOption, Category, Group, Partner, Product, ProductCategory, ProductClass


def test_a_product_arrives_with_all_that_belongs_to_it(pair: Pair) -> None:
    push(pair, get_product(pair.source))

    arrived = get_product(pair.target)
    assert describe(arrived, PRODUCT) == describe(get_product(pair.source), PRODUCT)
    assert arrived.stockrecords.count() == 2
    assert arrived.images.count() == 2
    assert arrived.attribute_values.count() == 12
    assert arrived.reviews.count() == 3
    assert arrived.basket_lines.count() == 3


def test_the_values_of_all_kinds_of_attributes_arrive(pair: Pair) -> None:
    push(pair, get_product(pair.source))

    sent, arrived = get_product(pair.source).attr, get_product(pair.target).attr
    for code in (
        "subtitle",
        "pages",
        "signed",
        "weight",
        "blurb",
        "published",
        "printed",
        "excerpt",
        "endpaper",
    ):
        assert getattr(arrived, code) == getattr(sent, code), code
    assert arrived.printer == Partner.objects.using(pair.target).get(code="nordwind")
    assert arrived.language.group.code == "languages"
    assert arrived.language.option == "Norwegian"
    assert sorted(option.option for option in arrived.formats) == ["E-book", "Hardback"]


@crosswise
def test_what_the_product_refers_to_is_found_by_its_code_and_left_as_it_is(pair: Pair) -> None:
    kind = ProductClass.objects.using(pair.target).get(slug="book")
    partner = Partner.objects.using(pair.target).get(code="nordwind")
    pages = kind.attributes.get(code="pages")

    report = push(pair, get_product(pair.source))

    arrived = get_product(pair.target)
    assert arrived.product_class == kind
    assert arrived.stockrecords.get(partner_sku="NW-001").partner == partner
    assert arrived.attribute_values.get(value_integer=312).attribute == pages
    kind.refresh_from_db()
    partner.refresh_from_db()
    assert (kind.name, partner.name) == ("Book on gardening", "Nordwind of Lund")
    assert [option.code for option in kind.options.all()] == ["gift-message"]
    assert [one.username for one in partner.users.all()] == ["tom"]
    assert report.matched["catalogue.ProductClass"] == 1
    assert report.matched["partner.Partner"] == 1
    assert report.matched["catalogue.ProductAttribute"] == 2


@crosswise
def test_what_the_product_refers_to_and_the_shop_lacks_comes_as_well(pair: Pair) -> None:
    report = push(pair, get_product(pair.source))

    alpine = Partner.objects.using(pair.target).get(code="alpine-supply")
    assert [one.username for one in alpine.users.all()] == ["petra"]
    assert [group.name for group in get_user(pair.target, "petra").groups.all()] == ["Partner staff"]
    permissions = Group.objects.using(pair.target).get(name="Partner staff").permissions.all()
    assert [one.natural_key() for one in permissions] == [("dashboard_access", "partner", "partner")]
    assert alpine.addresses.count() == 0
    assert report.left_behind["partner.Partner"]["partner.PartnerAddress.partner"] == 1
    language = AttributeOption.objects.using(pair.target).filter(group__code="languages")
    assert sorted(language.values_list("option", flat=True)) == ["German", "Norwegian", "Swedish"]


@crosswise
def test_a_recommended_product_comes_as_a_shell(pair: Pair) -> None:
    report = push(pair, get_product(pair.source))

    poems = get_product(pair.target, "Poems of the Fjord")
    assert poems.description == "<p>Poems of the Fjord</p>"
    assert (poems.stockrecords.count(), poems.images.count()) == (0, 0)
    assert report.left_behind["catalogue.Product"]["catalogue.ProductImage.product"] == 4


@crosswise
def test_orders_and_wish_lists_with_the_product_are_mentioned_and_stay(pair: Pair) -> None:
    before = read_all(pair.target)

    report = push(pair, get_product(pair.source))

    new = count_new(before, read_all(pair.target))
    assert not {"order_order", "order_line", "wishlists_wishlist", "wishlists_line"} & set(new)
    assert report.mentions == {
        "order.Line.product": 2,
        "order.Line.stockrecord": 2,
        "wishlists.Line.product": 1,
    }


@crosswise
def test_a_customer_who_is_merely_referred_to_brings_nothing_along(pair: Pair) -> None:
    report = push(pair, get_product(pair.source))

    anna = get_user(pair.target)
    assert anna.password == get_user(pair.source).password
    assert anna.userrecord.num_orders == 2
    for accessor in ("addresses", "wishlists", "bankcards", "notifications", "emails", "orders"):
        assert getattr(anna, accessor).count() == 0, accessor
    assert report.left_behind["auth.User"]["address.UserAddress.user"] == 2
    assert report.left_behind["auth.User"]["payment.Bankcard.user"] == 1


@crosswise
def test_models_that_are_ignored_do_not_travel(pair: Pair) -> None:
    ignored = [
        "basket.Line",
        "reviews.ProductReview",
        "customer.ProductAlert",
        "analytics.UserProductView",
        "partner.Partner.users",
    ]
    before = read_all(pair.target)

    push(pair, get_product(pair.source), ignore=ignored)

    new = count_new(before, read_all(pair.target))
    assert not {"auth_user", "basket_basket", "basket_line", "reviews_productreview"} & set(new)
    assert get_product(pair.target).stockrecords.count() == 2


@crosswise
def test_a_parent_product_brings_its_children(pair: Pair) -> None:
    push(pair, get_product(pair.source, "Harbour Shirt"))

    shirt = get_product(pair.target, "Harbour Shirt")
    assert describe(shirt, PRODUCT) == describe(get_product(pair.source, "Harbour Shirt"), PRODUCT)
    assert sorted(child.attr.size.option for child in shirt.children.all()) == ["L", "M", "S"]


@crosswise
def test_a_child_product_brings_its_parent_but_not_its_siblings(pair: Pair) -> None:
    push(pair, get_product(pair.source, "Harbour Shirt S"))

    shirts = Product.objects.using(pair.target).filter(title__startswith="Harbour")
    assert sorted(shirts.values_list("title", flat=True)) == ["Harbour Shirt", "Harbour Shirt S"]
    assert get_product(pair.target, "Harbour Shirt S").parent == get_product(pair.target, "Harbour Shirt")


@crosswise
def test_products_without_a_code_are_never_taken_for_each_other(pair: Pair) -> None:
    Product.objects.using(pair.target).filter(title__in=["Spade", "Rake"]).update(upc=None)
    titles = ["Poems of the Fjord", "Crossing Europe"]
    roots = [get_product(pair.source, title) for title in titles]

    push(pair, *roots)

    assert Product.objects.using(pair.target).filter(title__in=[*titles, "Spade", "Rake"]).count() == 4
    assert Product.objects.using(pair.target).filter(upc__isnull=True, title__in=titles).count() == 2
    assert_nothing_to_do(pair, *roots)


@crosswise
def test_a_product_that_the_shop_knows_by_its_upc_is_brought_up_to_date(pair: Pair) -> None:
    spade = get_product(pair.target, "Spade")
    Product.objects.using(pair.target).filter(pk=spade.pk).update(upc="9788300000017")

    report = push(pair, get_product(pair.source))

    arrived = get_product(pair.target)
    assert arrived.pk == spade.pk
    assert arrived.description == f"<p>{LIGHTHOUSE}</p>"
    assert sorted(arrived.stockrecords.values_list("partner_sku", flat=True)) == ["AS-001", "GC-0", "NW-001"]
    assert report.updated == {"analytics.ProductRecord": 1, "catalogue.Product": 1}
    assert_nothing_to_do(pair, get_product(pair.source))


@crosswise
def test_a_product_that_is_pushed_back_is_the_one_it_was(pair: Pair) -> None:
    sent = get_product(pair.source, "Poems of the Fjord")
    push(pair, sent)
    before = read_all(pair.source)

    report = push(Pair(pair.target, pair.source), get_product(pair.target, "Poems of the Fjord"))

    assert (report.created, report.updated, report.deleted) == ({}, {}, {})
    after = read_all(pair.source)
    assert count_new(before, after) == {}
    assert {table for table in find_lost(before, after) if not table.startswith("gestore_sync_")} == set()


def test_changes_of_a_product_follow(pair: Pair) -> None:
    sent = get_product(pair.source)
    push(pair, sent)
    arrived = get_product(pair.target)

    sent.title, sent.upc = "The Lighthouse Keepers", "9788300000031"
    with shop_at(pair.source):
        sent.attr.pages = 320
        sent.attr.formats = AttributeOption.objects.filter(option="Paperback")
        sent.save()
        sent.images.create(original="images/products/spine.jpg", caption="Spine", display_order=2)
        sent.images.filter(display_order=0).update(caption="The front")
        sent.stockrecords.filter(partner_sku="NW-001").update(price="18.50", num_in_stock=11)
        ProductCategory.objects.get(product=sent, category__code="travel-europe").delete()
        ProductCategory.objects.create(product=sent, category=Category.objects.get(code="poetry"))
        sent.primary_recommendations.filter(ranking=1).delete()
    report = push(pair, sent)

    assert describe(get_product(pair.target, "The Lighthouse Keepers"), PRODUCT) == describe(sent, PRODUCT)
    assert get_product(pair.target, "The Lighthouse Keepers").pk == arrived.pk
    assert report.updated == {
        "catalogue.Product": 1,
        "catalogue.ProductAttributeValue": 1,
        "catalogue.ProductImage": 1,
        "partner.StockRecord": 1,
    }
    assert report.created["catalogue.ProductImage"] == 1
    assert report.created["catalogue.ProductCategory"] == 1
    assert report.deleted == {
        "catalogue.ProductAttributeValue_value_multi_option": 2,
        "catalogue.ProductCategory": 1,
        "catalogue.ProductRecommendation": 1,
    }
    assert_nothing_to_do(pair, sent)
    assert_trees_are_sound(pair)


@crosswise
def test_an_image_that_the_source_deleted_goes_only_when_pruned(pair: Pair) -> None:
    sent = get_product(pair.source)
    push(pair, sent)
    with shop_at(pair.source):
        sent.images.filter(caption="Back").delete()
    services.forget()

    push(pair, sent)
    assert get_product(pair.target).images.count() == 2

    report = push(pair, sent, prune=True)
    assert [image.caption for image in get_product(pair.target).images.all()] == ["Front"]
    assert report.deleted == {"catalogue.ProductImage": 1}
    assert services.unthumbed == ["images/products/the-lighthouse-keeper-1.jpg"]
    assert get_product(pair.target, "Spade").images.count() == 2


@crosswise
def test_categories_that_only_the_target_has_put_a_product_into_stay(pair: Pair) -> None:
    sent = get_product(pair.source)
    push(pair, sent)
    with shop_at(pair.target):
        music = Category.objects.get(code="music")
        ProductCategory.objects.create(product=Product.objects.get(title=LIGHTHOUSE), category=music)

    assert_nothing_to_do(pair, sent)

    assert sorted(get_product(pair.target).categories.values_list("code", flat=True)) == [
        "music",
        "nordic-crime",
        "travel-europe",
    ]

"""Two shops that know nothing of each other, made through django-oscar's own models and functions.

The bookshop is pushed from, the garden shop is pushed into. Their primary keys, their treebeard paths and
some of their codes are the same; what they sell is not.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.db import transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils import timezone
from oscar.apps.basket.signals import basket_addition
from oscar.apps.catalogue.categories import create_from_breadcrumbs
from oscar.apps.catalogue.signals import product_viewed
from oscar.apps.checkout.calculators import OrderTotalCalculator
from oscar.apps.offer.applicator import Applicator
from oscar.apps.order.processing import EventHandler
from oscar.apps.order.utils import OrderCreator
from oscar.apps.partner.strategy import Default
from oscar.apps.search.signals import user_search
from oscar.apps.shipping.methods import FixedPrice
from oscar.core.loading import get_model

from tests.shop.routers import shop_at

AttributeOption = get_model("catalogue", "AttributeOption")
AttributeOptionGroup = get_model("catalogue", "AttributeOptionGroup")
Basket = get_model("basket", "Basket")
Benefit = get_model("offer", "Benefit")
BillingAddress = get_model("order", "BillingAddress")
Category = get_model("catalogue", "Category")
CommunicationEventType = get_model("communication", "CommunicationEventType")
Condition = get_model("offer", "Condition")
ConditionalOffer = get_model("offer", "ConditionalOffer")
Country = get_model("address", "Country")
Email = get_model("communication", "Email")
Notification = get_model("communication", "Notification")
Option = get_model("catalogue", "Option")
Order = get_model("order", "Order")
Partner = get_model("partner", "Partner")
PaymentEventType = get_model("order", "PaymentEventType")
Product = get_model("catalogue", "Product")
ProductAlert = get_model("customer", "ProductAlert")
ProductClass = get_model("catalogue", "ProductClass")
ProductCategory = get_model("catalogue", "ProductCategory")
Range = get_model("offer", "Range")
ShippingAddress = get_model("order", "ShippingAddress")
ShippingEventType = get_model("order", "ShippingEventType")
SourceType = get_model("payment", "SourceType")
UserAddress = get_model("address", "UserAddress")
Voucher = get_model("voucher", "Voucher")
VoucherSet = get_model("voucher", "VoucherSet")
WishList = get_model("wishlists", "WishList")


def open_bookshop(alias: str) -> None:
    """Fill the database ``alias`` with a shop of books: its catalogue, offers, customers, orders."""
    with shop_at(alias), transaction.atomic(using=alias):
        _add_countries("DE", "NO", "PL")
        anna, bert, petra = _add_book_people()
        nordwind = _add_partner("Nordwind", petra)
        alpine = _add_partner("Alpine Supply", petra)
        _add_books(_add_book_class(), nordwind, alpine)
        _add_shirts(_add_shirt_class(), alpine)
        _add_recommendations()
        voucher = _add_book_offers(petra)
        _add_traces(anna, bert, petra)
        _add_orders(anna, bert, voucher)


def _get_product(title: str) -> Any:
    """The product of this title. Within :func:`shop_at`."""
    return Product.objects.get(title=title)


def _add_countries(*codes: str, prefix: str = "") -> None:
    names = {"DE": "Germany", "NO": "Norway", "PL": "Poland", "SE": "Sweden"}
    for code in codes:
        Country.objects.create(
            iso_3166_1_a2=code,
            printable_name=prefix + names[code],
            name=prefix + names[code],
            is_shipping_country=True,
        )


def _add_user(username: str, domain: str, **fields: Any) -> User:
    return User.objects.create_user(username, f"{username}@{domain}", f"secret of {username}", **fields)


def _add_book_people() -> tuple[User, User, User]:
    anna = _add_user("anna", "books.example", first_name="Anna", last_name="Nowak")
    bert = _add_user("bert", "books.example", first_name="Bert", last_name="Brandt")
    petra = _add_user("petra", "books.example", first_name="Petra", last_name="Lund", is_staff=True)
    group = Group.objects.create(name="Partner staff")
    group.permissions.add(Permission.objects.get(codename="dashboard_access", content_type__app_label="partner"))
    petra.groups.add(group)
    _add_address(
        anna,
        line1="Długa 1",
        line4="Gdańsk",
        postcode="80-831",
        country_id="PL",
        is_default_for_shipping=True,
    )
    _add_address(anna, line1="Torget 2", line4="Bergen", postcode="5014", country_id="NO", is_default_for_billing=True)
    _add_address(bert, line1="Am Hafen 3", line4="Kiel", postcode="24103", country_id="DE")
    return anna, bert, petra


def _add_address(user: User, **fields: Any) -> Any:
    return UserAddress.objects.create(
        user=user,
        first_name=user.first_name,
        last_name=user.last_name,
        phone_number="+48583221111",
        notes="Ring twice.\nThen wait.",
        **fields,
    )


def _add_partner(name: str, *users: User) -> Any:
    partner = Partner.objects.create(name=name)
    partner.users.add(*users)
    partner.addresses.create(line1="Warehouse 7", line4="Gdynia", postcode="81-335", country=Country.objects.first())
    return partner


def _add_options(name: str, code: str | None, *options: str) -> Any:
    group = AttributeOptionGroup.objects.create(name=name, code=code)
    for option in options:
        group.options.create(option=option)
    return group


def _add_book_class() -> Any:
    kind = ProductClass.objects.create(name="Book", requires_shipping=True, track_stock=True)
    languages = _add_options("Languages", "languages", "English", "German", "Norwegian")
    formats = _add_options("Formats", None, "Hardback", "Paperback", "E-book")
    for code, type_, group in [
        ("subtitle", "text", None),
        ("pages", "integer", None),
        ("signed", "boolean", None),
        ("weight", "float", None),
        ("blurb", "richtext", None),
        ("published", "date", None),
        ("printed", "datetime", None),
        ("language", "option", languages),
        ("formats", "multi_option", formats),
        ("printer", "entity", None),
        ("excerpt", "file", None),
        ("endpaper", "image", None),
    ]:
        kind.attributes.create(name=code.title(), code=code, type=type_, option_group=group)
    kind.options.add(Option.objects.create(name="Gift message", type=Option.TEXT, order=1))
    return kind


def _add_shirt_class() -> Any:
    kind = ProductClass.objects.create(name="Shirt")
    kind.attributes.create(
        name="Size", code="size", type="option", option_group=_add_options("Sizes", "sizes", "S", "M", "L")
    )
    kind.attributes.create(name="Material", code="material", type="text", required=True)
    return kind


def _add_category(breadcrumbs: str, code: str) -> Any:
    category = create_from_breadcrumbs(breadcrumbs)
    category.code = code
    category.description = f"All about {category.name}"
    category.image = f"categories/{code}.jpg"
    category.save()
    return category


def _add_product(title: str, kind: Any, *categories: str, upc: str | None = None, **fields: Any) -> Any:
    product = Product.objects.create(
        title=title,
        product_class=kind,
        upc=upc,
        description=f"<p>{title}</p>",
        priority=len(categories),
        **fields,
    )
    for code in categories:
        ProductCategory.objects.create(product=product, category=Category.objects.get(code=code))
    slug = product.slug
    for order, caption in enumerate(["Front", "Back"]):
        product.images.create(original=f"images/products/{slug}-{order}.jpg", caption=caption, display_order=order)
    return product


def _add_stock(product: Any, partner: Any, sku: str, price: str, number: int, **fields: Any) -> Any:
    return product.stockrecords.create(
        partner=partner,
        partner_sku=sku,
        price_currency="EUR",
        price=Decimal(price),
        num_in_stock=number,
        **fields,
    )


def _set_attributes(product: Any, **values: Any) -> None:
    for code, value in values.items():
        setattr(product.attr, code, value)
    product.save()


def _add_books(kind: Any, nordwind: Any, alpine: Any) -> None:
    for breadcrumbs, code in [
        ("Books", "books"),
        ("Books > Fiction", "fiction"),
        ("Books > Fiction > Nordic crime", "nordic-crime"),
        ("Books > Fiction > Poetry", "poetry"),
        ("Books > Travel", "travel"),
        ("Books > Travel > Europe", "travel-europe"),
        ("Clothing", "clothing"),
        ("Clothing > Shirts", "shirts"),
    ]:
        _add_category(breadcrumbs, code)
    lighthouse = _add_product("The Lighthouse Keeper", kind, "nordic-crime", "travel-europe", upc="9788300000017")
    language = AttributeOption.objects.get(option="Norwegian")
    formats = AttributeOption.objects.filter(option__in=["Hardback", "E-book"])
    _set_attributes(
        lighthouse,
        subtitle="A crime novel",
        pages=312,
        signed=True,
        weight=0.4375,
        blurb="<p>Who put out the <b>light</b>?</p>",
        published=date(2025, 9, 1),
        printed=datetime(2025, 8, 3, 4, 5, 6, 789012, tzinfo=UTC),
        language=language,
        formats=formats,
        printer=nordwind,
    )
    for code in ("excerpt", "endpaper"):
        attribute = kind.attributes.get(code=code)
        lighthouse.attribute_values.create(attribute=attribute, **{f"value_{attribute.type}": f"files/{code}.dat"})
    wrapping = _add_options("Wrappings", "wrappings", "Plain", "Festive")
    lighthouse.product_options.add(
        Option.objects.create(name="Wrapping", type=Option.SELECT, option_group=wrapping, order=2)
    )
    _add_stock(lighthouse, nordwind, "NW-001", "19.90", 12, low_stock_threshold=20)
    _add_stock(lighthouse, alpine, "AS-001", "21.35", 3)
    lighthouse.stockrecords.get(partner=nordwind).save()  # which raises the alert of a low stock
    poems = _add_product("Poems of the Fjord", kind, "poetry")
    _set_attributes(poems, pages=96, language=language)
    _add_stock(poems, nordwind, "NW-002", "12.00", 40)
    crossing = _add_product("Crossing Europe", kind, "travel-europe")
    _set_attributes(crossing, pages=401, formats=AttributeOption.objects.filter(option="Paperback"))
    _add_stock(crossing, nordwind, "NW-003", "24.50", 8)
    bookshop = _add_product("The Bookshop at Sea", kind, "fiction", upc="9788300000024")
    _set_attributes(bookshop, pages=220)
    _add_stock(bookshop, nordwind, "NW-004", "15.75", 5)


def _add_shirts(kind: Any, alpine: Any) -> None:
    shirt = _add_product("Harbour Shirt", kind, "shirts", structure=Product.PARENT)
    for size in ("S", "M", "L"):
        child = Product.objects.create(
            structure=Product.CHILD, parent=shirt, upc=f"SHIRT-{size}", title=f"Harbour Shirt {size}"
        )
        _set_attributes(child, size=AttributeOption.objects.get(option=size), material="Cotton")
        _add_stock(child, alpine, f"AS-SHIRT-{size}", "29.00", 10)


def _add_recommendations() -> None:
    lighthouse, poems = _get_product("The Lighthouse Keeper"), _get_product("Poems of the Fjord")
    bookshop = _get_product("The Bookshop at Sea")
    lighthouse.primary_recommendations.create(recommendation=poems, ranking=2)
    lighthouse.primary_recommendations.create(recommendation=bookshop, ranking=1)
    bookshop.primary_recommendations.create(recommendation=lighthouse, ranking=5)


def _add_offer(name: str, kind: str, range_: Any, benefit_type: str, value: str) -> Any:
    return ConditionalOffer.objects.create(
        name=name,
        offer_type=kind,
        condition=Condition.objects.create(range=range_, type=Condition.COUNT, value=1),
        benefit=Benefit.objects.create(range=range_, type=benefit_type, value=Decimal(value)),
        start_datetime=timezone.now() - timedelta(days=1),
        end_datetime=timezone.now() + timedelta(days=30),
        max_basket_applications=1,
    )


def _add_voucher(name: str, code: str, offer: Any) -> Any:
    span = {
        "start_datetime": timezone.now() - timedelta(days=1),
        "end_datetime": timezone.now() + timedelta(days=30),
    }
    voucher_set = VoucherSet.objects.create(name=f"{name} set", count=1, **span)
    voucher = Voucher.objects.create(name=name, code=code, voucher_set=voucher_set, **span)
    voucher.offers.add(offer)
    return voucher


def _add_book_offers(petra: User) -> Any:
    reads = Range.objects.create(name="Summer reads", description="For the beach")
    reads.add_product(_get_product("The Lighthouse Keeper"), display_order=3)
    reads.add_product(_get_product("Poems of the Fjord"), display_order=1)
    reads.excluded_products.add(_get_product("The Bookshop at Sea"))
    reads.included_categories.add(Category.objects.get(code="travel"))
    reads.excluded_categories.add(Category.objects.get(code="shirts"))
    reads.classes.add(ProductClass.objects.get(slug="book"))
    reads.file_uploads.create(filepath="ranges/summer.csv", size=120, uploaded_by=petra)
    summer = _add_offer("Summer sale", ConditionalOffer.SITE, reads, Benefit.PERCENTAGE, "10")
    everything = Range.objects.create(name="Everything", includes_all_products=True)
    welcome = _add_offer("Welcome", ConditionalOffer.VOUCHER, everything, Benefit.FIXED, "5")
    welcome.combinations.add(summer)
    return _add_voucher("Welcome", "welcome", welcome)


def _add_traces(anna: User, bert: User, petra: User) -> None:
    """What customers leave without buying: reviews, wish lists, alerts, views, searches, messages, cards."""
    lighthouse, crossing = _get_product("The Lighthouse Keeper"), _get_product("Crossing Europe")
    review = lighthouse.reviews.create(user=anna, score=5, title="Dark", body="And wet.", status=1)
    review.vote_up(bert)
    review.vote_up(petra)
    lighthouse.reviews.create(user=bert, score=2, title="Long", body="Too long.", status=1).vote_down(anna)
    lighthouse.reviews.create(name="Nobody", email="n@n.example", score=4, title="Fine", body="Yes.", status=1)
    for product in (lighthouse, crossing):
        visit = {"request": RequestFactory().get("/"), "response": HttpResponse()}
        product_viewed.send(sender=Product, product=product, user=anna, **visit)
    user_search.send(sender=Product, session=None, user=anna, query="light")
    wishes = WishList.objects.create(owner=anna, name="Christmas", visibility=WishList.SHARED)
    wishes.add(lighthouse)
    wishes.add(crossing)
    wishes.shared_emails.create(email="grandma@books.example")
    ProductAlert.objects.create(product=lighthouse, user=bert)
    Notification.objects.create(recipient=anna, sender=petra, subject="Back in stock", body="Hurry.")
    Email.objects.create(user=anna, email=anna.email, subject="Hello", body_text="Hello", body_html="<p>Hello</p>")
    anna.bankcards.create(name="A NOWAK", number="4111111111111111", expiry_date=date(2029, 12, 31))
    fill_basket(bert, [lighthouse], gift_message="For Berta")


def fill_basket(owner: User, products: list[Any], *, gift_message: str = "", quantity: int = 1) -> Any:
    """A new open basket; the first product carries the gift message. Within :func:`shop_at`."""
    basket = Basket.objects.create(owner=owner)
    basket.strategy = Default()
    for product in products:
        options = []
        if gift_message and product == products[0]:
            options = [{"option": Option.objects.get(code="gift-message"), "value": gift_message}]
        basket.add_product(product, quantity=quantity, options=options)
        basket_addition.send(sender=Basket, product=product, user=owner, request=None)
    return basket


def _add_orders(anna: User, bert: User, voucher: Any) -> None:
    lighthouse, small = _get_product("The Lighthouse Keeper"), _get_product("Harbour Shirt S")
    basket = fill_basket(anna, [lighthouse, small], gift_message="For Anna's aunt", quantity=2)
    basket.vouchers.add(voucher)
    _handle(place_order("HB-1001", anna, basket))
    place_order("HB-1002", anna, fill_basket(anna, [_get_product("Crossing Europe")]))
    place_order("HB-1003", bert, fill_basket(bert, [lighthouse]))


def place_order(number: str, user: User, basket: Any) -> Any:
    """An order of what is in the basket, with discounts and addresses. Within :func:`shop_at`."""
    Applicator().apply(basket, user)
    address = {
        "first_name": user.first_name,
        "last_name": user.last_name,
        "line1": "Długa 1",
        "line4": "Gdańsk",
        "postcode": "80-831",
        "country": Country.objects.order_by("pk").first(),
    }
    shipping = FixedPrice(Decimal("4.00"), Decimal("4.92"))
    charge = shipping.calculate(basket)
    order = OrderCreator().place_order(
        order_number=number,
        basket=basket,
        user=user,
        site=Site.objects.get(),
        total=OrderTotalCalculator().calculate(basket, charge),
        shipping_method=shipping,
        shipping_charge=charge,
        shipping_address=ShippingAddress.objects.create(phone_number="+48583221111", **address),
        billing_address=BillingAddress.objects.create(**address),
    )
    basket.submit()
    return order


def _handle(order: Any) -> None:
    """Everything that happens to an order until it is complete."""
    handler = EventHandler(order.user)
    lines = list(order.lines.order_by("pk"))
    quantities = [line.quantity for line in lines]
    shipped = ShippingEventType.objects.create(name="Shipped")
    settled = PaymentEventType.objects.create(name="Settled")
    shipping = handler.create_shipping_event(order, shipped, lines, quantities, reference="DHL 123")
    payment = handler.create_payment_event(order, settled, order.total_incl_tax, lines, quantities, reference="P-1")
    payment.shipping_event = shipping
    payment.save()
    source = order.sources.create(source_type=SourceType.objects.create(name="Card"), reference="4711", label="X-1111")
    source.allocate(order.total_incl_tax, reference="A-1")
    source.debit(reference="D-1")
    order.surcharges.create(name="Small order", code="small", excl_tax=Decimal("1.50"), incl_tax=Decimal("1.50"))
    placed = CommunicationEventType.objects.create(name="Order placed")
    handler.create_communication_event(order, placed)
    handler.handle_order_status_change(order, "Complete", "Sent with care")


def open_garden_shop(alias: str) -> None:
    """Fill the database ``alias`` with a live shop of garden tools.

    Its primary keys and treebeard paths are those of the bookshop; some codes, a user and a country, too.
    """
    with shop_at(alias), transaction.atomic(using=alias):
        _shift_content_types()
        _add_countries("SE", "DE", prefix="Garden ")
        olga = _add_user("olga", "garden.example", first_name="Olga", last_name="Berg")
        tom = _add_user("tom", "garden.example", first_name="Tom", last_name="Falk", is_staff=True)
        bert = _add_user("bert", "garden.example", first_name="Bert", last_name="Björk")
        Group.objects.create(name="Gardeners").user_set.add(tom)
        for user in (olga, bert, tom):
            _add_address(user, line1="Storgatan 1", line4="Lund", postcode="222 22", country_id="SE")
        centre = _add_partner("Garden Centre", tom)
        nordwind = _add_partner("Nordwind", tom)
        Partner.objects.filter(pk=nordwind.pk).update(name="Nordwind of Lund")
        _add_garden_classes()
        _add_tools(centre, nordwind)
        voucher = _add_garden_offers()
        tools = list(Product.objects.order_by("pk"))
        wishes = WishList.objects.create(owner=olga, name="Spring")
        wishes.add(tools[0])
        tools[0].reviews.create(user=olga, score=4, title="Sturdy", body="Digs.", status=1)
        place_order("GS-1", olga, _with_voucher(fill_basket(olga, tools[:2], gift_message="Dig!"), voucher))
        place_order("GS-2", bert, fill_basket(bert, tools[2:4]))
        place_order("GS-3", olga, fill_basket(olga, tools[4:5]))
        fill_basket(bert, tools[:1])


def _shift_content_types() -> None:
    """Two live sites never number their content types alike."""
    for content_type in ContentType.objects.filter(app_label__in=["partner", "catalogue"]):
        old, new = content_type.pk, content_type.pk + 1000
        ContentType.objects.filter(pk=old).update(id=new)
        Permission.objects.filter(content_type_id=old).update(content_type_id=new)
    ContentType.objects.clear_cache()


def _add_garden_classes() -> None:
    tool = ProductClass.objects.create(name="Tool")
    handles = _add_options("Handles", "handles", "Ash", "Beech", "Steel")
    tool.attributes.create(name="Handle", code="handle", type="option", option_group=handles)
    tool.options.add(Option.objects.create(name="Engraving", type=Option.TEXT))
    book = ProductClass.objects.create(name="Book")
    ProductClass.objects.filter(pk=book.pk).update(name="Book on gardening")
    languages = _add_options("Tongues", "languages", "Swedish", "German")
    book.attributes.create(name="Number of pages", code="pages", type="integer")
    book.attributes.create(name="Tongue", code="language", type="option", option_group=languages)
    book.options.add(Option.objects.create(name="Gift message", type=Option.TEXT, help_text="Be kind", order=9))


def _add_tools(centre: Any, nordwind: Any) -> None:
    for breadcrumbs, code in [
        ("Garden", "garden"),
        ("Garden > Tools", "tools"),
        ("Garden > Tools > Spades", "spades"),
        ("Garden > Tools > Rakes", "rakes"),
        ("Garden > Seeds", "seeds"),
        ("Garden > Seeds > Flowers", "flowers"),
        ("Media", "media"),
        ("Media > Music", "music"),
    ]:
        _add_category(breadcrumbs, code)
    tool = ProductClass.objects.get(slug="tool")
    titles = [
        "Spade",
        "Rake",
        "Trowel",
        "Hoe",
        "Watering can",
        "Lawn mower",
        "Edging iron",
        "Sickle",
        "Garden hose",
    ]
    for number, title in enumerate(titles):
        product = _add_product(title, tool, "spades" if number % 2 else "rakes", upc=f"TOOL-{number}")
        _set_attributes(product, handle=AttributeOption.objects.get(option="Ash"))
        _add_stock(product, centre if number % 2 else nordwind, f"GC-{number}", "49.50", 30)
    spade, rake = _get_product("Spade"), _get_product("Rake")
    spade.primary_recommendations.create(recommendation=rake, ranking=1)
    record = spade.stockrecords.get()
    record.low_stock_threshold = 50
    record.save()


def _add_garden_offers() -> Any:
    digging = Range.objects.create(name="For digging")
    digging.add_product(_get_product("Spade"))
    digging.included_categories.add(Category.objects.get(code="seeds"))
    spring = _add_offer("Spring sale", ConditionalOffer.SITE, digging, Benefit.PERCENTAGE, "20")
    loyal = _add_offer("Loyal", ConditionalOffer.VOUCHER, digging, Benefit.FIXED, "2")
    loyal.combinations.add(spring)
    return _add_voucher("Loyal", "loyal", loyal)


def _with_voucher(basket: Any, voucher: Any) -> Any:
    basket.vouchers.add(voucher)
    return basket

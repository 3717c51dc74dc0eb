"""What is in a shop, read without gestore_sync.

Whole tables, for "nothing else changed"; and descriptions of objects that name other objects by what people
call them, so that they are the same in every database.
"""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import connections
from django.db.models import Model
from treebeard.mp_tree import MP_Node

from tests.shop.routers import shop_at
from tests.shop.seed import Category

Rows = dict[str, list[tuple[Any, ...]]]

#: What is described with an object, and in turn with it: the accessors of what belongs to it.
STOCK_RECORD: dict[str, Any] = {"alerts": {}, "basket_lines": {"attributes": {}}}
PRODUCT: dict[str, Any] = {
    "stockrecords": STOCK_RECORD,
    "images": {},
    "attribute_values": {},
    "productcategory_set": {},
    "primary_recommendations": {},
    "productrecommendation_set": {},
    "reviews": {"votes": {}},
    "productalert_set": {},
    "userproductview_set": {},
    "rangeproduct_set": {},
    "excludes": None,
    "stats": {},
}
PRODUCT["children"] = {**PRODUCT}
ORDER: dict[str, Any] = {
    "lines": {"prices": {}, "attributes": {}, "discounts": {}},
    "line_prices": {},
    "discounts": {"discount_lines": {}},
    "notes": {},
    "status_changes": {},
    "communication_events": {},
    "shipping_events": {"line_quantities": {}},
    "payment_events": {"line_quantities": {}},
    "sources": {"transactions": {}},
    "surcharges": {},
    "voucherapplication_set": {},
}
USER: dict[str, Any] = {
    "addresses": {},
    "baskets": {"lines": {"attributes": {}}},
    "wishlists": {"lines": {}, "shared_emails": {}},
    "reviews": {"votes": {}},
    "review_votes": {},
    "alerts": {},
    "notifications": {},
    "emails": {},
    "bankcards": {},
    "userrecord": {},
    "userproductview_set": {},
    "usersearch_set": {},
    "voucherapplication_set": {},
    "ordernote_set": {},
    "notification_set": {},
    "partners": None,
}

#: What people call an object of these models; others are called by all their values.
NAMES: dict[str, Any] = {
    "auth.User": lambda user: user.username,
    "auth.Group": lambda group: group.name,
    "auth.Permission": lambda permission: permission.natural_key(),
    "sites.Site": lambda site: site.domain,
    "address.Country": lambda country: country.pk,
    "catalogue.AttributeOption": lambda option: (option.group.code or option.group.name, option.option),
    "catalogue.Category": lambda category: category.name,
    "catalogue.Option": lambda option: option.code,
    "catalogue.Product": lambda product: (product.title, product.upc),
    "catalogue.ProductAttribute": lambda attribute: (attribute.product_class.slug, attribute.code),
    "catalogue.ProductClass": lambda kind: kind.slug,
    "communication.CommunicationEventType": lambda kind: kind.code,
    "offer.ConditionalOffer": lambda offer: offer.slug,
    "offer.Range": lambda range_: range_.slug,
    "order.PaymentEventType": lambda kind: kind.code,
    "order.ShippingEventType": lambda kind: kind.code,
    "partner.Partner": lambda partner: partner.code,
    "payment.SourceType": lambda kind: kind.code,
    "partner.StockRecord": lambda record: (record.partner.code, record.partner_sku),
    "voucher.Voucher": lambda voucher: voucher.code,
}


def get_name(obj: Model | None) -> Any:
    """What people call an object, in every database."""
    if obj is None:
        return None
    named = NAMES.get(obj._meta.label)
    return named(obj) if named else (get_values(obj), get_links(obj))


def get_values(obj: Model) -> dict[str, Any]:
    """The object's own values, without primary key, foreign keys and place in a tree."""
    skipped = {"id", "path", "depth", "numchild"} if isinstance(obj, MP_Node) else {"id"}
    for field in obj._meta.private_fields:
        if isinstance(field, GenericForeignKey):
            skipped.add(field.fk_field)
    fields = [field for field in obj._meta.concrete_fields if not field.is_relation]
    return {field.name: str_of_file(getattr(obj, field.name)) for field in fields if field.name not in skipped}


def str_of_file(value: Any) -> Any:
    return value.name if hasattr(value, "storage") else value


def get_links(obj: Model) -> dict[str, Any]:
    """The names of what the object's foreign keys and generic keys point to."""
    generic = [field for field in obj._meta.private_fields if isinstance(field, GenericForeignKey)]
    skipped = {field.ct_field for field in generic}
    foreign = [field for field in obj._meta.concrete_fields if field.is_relation and field.name not in skipped]
    return {field.name: get_name(getattr(obj, field.name)) for field in (*foreign, *generic)}


def describe(obj: Model, parts: dict[str, Any]) -> dict[str, Any]:
    """The object's values, links, many-to-many members and ``parts``: the same in every database."""
    members = [field for field in obj._meta.many_to_many if field.remote_field.through._meta.auto_created]
    found: dict[str, Any] = {
        "values": get_values(obj),
        "links": get_links(obj),
        "members": {field.name: sort(get_name(one) for one in getattr(obj, field.name).all()) for field in members},
    }
    for accessor, below in parts.items():
        found[accessor] = sort(describe_part(part, below) for part in get_parts(obj, accessor))
    return found


def describe_part(part: Model, below: dict[str, Any] | None) -> Any:
    return get_name(part) if below is None else describe(part, below)


def get_parts(obj: Model, accessor: str) -> list[Model]:
    related = getattr(obj, accessor, None)
    if related is None:
        return []
    return list(related.all()) if hasattr(related, "all") else [related]


def sort(values: Any) -> list[Any]:
    return sorted(values, key=repr)


def get_tree(alias: str) -> list[Any]:
    """All categories as nested lists ``[name, [children]]``, by their paths alone."""
    return _read_nodes(alias)[""][1]


def get_branch(alias: str, code: str) -> list[Any]:
    """``[name, [children]]`` of the category with this code."""
    return _read_nodes(alias)[Category.objects.using(alias).get(code=code).path]


def get_parent(alias: str, code: str) -> str:
    """The name of the parent of the category with this code; nothing for a root."""
    path = Category.objects.using(alias).get(code=code).path
    return _read_nodes(alias)[path[: -Category.steplen]][0]


def _read_nodes(alias: str) -> dict[str, list[Any]]:
    at: dict[str, list[Any]] = {"": ["", []]}
    for path, name in Category.objects.using(alias).order_by("path").values_list("path", "name"):
        at[path] = [name, []]
        at[path[: -Category.steplen]][1].append(at[path])
    return at


def find_tree_problems(alias: str) -> list[Any]:
    """What treebeard itself finds wrong with the categories: nothing, where all is well."""
    with shop_at(alias):
        return [problem for problems in Category.objects.find_problems() for problem in problems]


def read_all(alias: str) -> Rows:
    """Every row of every table of the database."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        found = {}
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = sorted(cursor.fetchall(), key=repr)
    return found


def read_sequences(alias: str) -> Any:
    """Where the database's counters stand."""
    connection = connections[alias]
    query = {
        "sqlite": "SELECT name, seq FROM sqlite_sequence ORDER BY name",
        "postgresql": "SELECT sequencename, last_value FROM pg_sequences ORDER BY sequencename",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def find_lost(before: Rows, after: Rows) -> Rows:
    """The rows that are no longer there as they were, by table."""
    lost = {}
    for table, rows in before.items():
        kept = set(map(repr, after.get(table, [])))
        missing = [row for row in rows if repr(row) not in kept]
        if missing:
            lost[table] = missing
    return lost


def count_new(before: Rows, after: Rows) -> dict[str, int]:
    """How many rows came to each table, gestore_sync's own left out."""
    tables = [table for table in after if not table.startswith("gestore_sync_")]
    counts = {table: len(after[table]) - len(before[table]) for table in tables}
    return {table: number for table, number in counts.items() if number}

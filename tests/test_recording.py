from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.core import checks, serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections, models, transaction
from django.db.models.functions import Upper
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gestore_sync import DisableSynchroLog, LoggedQuerySet, api, disable_synchro_log
from gestore_sync.models import ADDITION, CHANGE, DELETION, M2M_CHANGE, ChangeLog
from tests.conftest import DATABASES
from tests.kinds.pushing import forget_caches, rolled_back, rows
from tests.logged.models import (
    Account,
    Agency,
    Article,
    Author,
    Authorship,
    Book,
    City,
    Country,
    Gauge,
    Oddity,
    Offer,
    Opera,
    Page,
    Product,
    Reading,
    Riddle,
    Sample,
    Seat,
    Shelf,
    Tag,
    Theatre,
    Ticket,
    Venue,
)
from tests.logged.sites import (
    ONE_DATABASE,
    add,
    change,
    drop_our_tables,
    forget_log,
    in_thread,
    read_log,
    receiving,
)

LONG = "long/" * 600


@pytest.fixture(params=ONE_DATABASE)
def using(request: pytest.FixtureRequest, settings: Any) -> Iterator[str]:
    """The alias of a database; the changes of all models of the app are logged."""
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    yield request.param
    forget_caches()


@pytest.fixture
def live(settings: Any) -> str:
    """The alias of a PostgreSQL database to which several threads connect."""
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    return "pg_local"


several_threads = pytest.mark.django_db(databases=["default", "pg_local"], transaction=True)


def actions(using: str, model: type[models.Model]) -> list[int]:
    """The actions that are logged for the objects of a model."""
    return [action for label, _, action in read_log(using) if label == model._meta.label]


def count_queries(using: str, act: Callable[[], Any]) -> int:
    """How many queries something takes."""
    with CaptureQueriesContext(connections[using]) as queries:
        act()
    return len(queries)


def count_log_inserts(using: str, act: Callable[[], Any]) -> int:
    """How many statements write to the change log while something is done."""
    with CaptureQueriesContext(connections[using]) as queries:
        act()
    table = ChangeLog._meta.db_table
    return sum(table in query["sql"] and query["sql"].startswith(("INSERT", "COPY")) for query in queries)


# What is logged


def test_the_life_of_an_object_is_logged(using: str) -> None:
    product = add(Product, using, name="lamp")
    pk = str(product.pk)
    change(product, price=2)
    product.delete()

    assert read_log(using) == [
        ("logged.Product", pk, ADDITION),
        ("logged.Product", pk, CHANGE),
        ("logged.Product", pk, DELETION),
    ]


def test_an_entry_knows_its_object_and_when_it_changed(using: str) -> None:
    before = timezone.now()

    product = add(Product, using, name="lamp")

    entry = ChangeLog.objects.using(using).get()
    assert entry.object == product
    assert entry.content_type == ContentType.objects.db_manager(using).get_for_model(Product)
    assert timezone.is_aware(entry.date)
    assert before <= entry.date <= timezone.now()


def test_an_entry_is_in_the_database_of_the_object_and_in_no_other(using: str) -> None:
    add(Product, using, name="lamp")

    assert {alias: ChangeLog.objects.using(alias).count() for alias in DATABASES if alias != using} == dict.fromkeys(
        (alias for alias in DATABASES if alias != using), 0
    )
    assert len(read_log(using)) == 1


@pytest.mark.parametrize("act", ["create", "get_or_create", "update_or_create"])
def test_what_managers_save_one_by_one_is_logged(using: str, act: str) -> None:
    getattr(Product.objects.using(using), act)(name="lamp")

    assert actions(using, Product) == [ADDITION]


def test_a_save_of_some_fields_is_logged(using: str) -> None:
    product = add(Product, using, name="lamp")

    product.save(update_fields=["price"])

    assert actions(using, Product) == [ADDITION, CHANGE]


def test_what_a_fixture_brings_is_logged(using: str) -> None:
    text = '[{"model": "logged.product", "pk": 5, "fields": {"name": "lamp"}}]'

    for deserialized in serializers.deserialize("json", text, using=using):
        deserialized.save(using=using)

    assert read_log(using) == [("logged.Product", "5", ADDITION)]


def test_a_save_through_a_proxy_is_logged_for_the_model_behind_it(using: str, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "product"),)
    offer = add(Offer, using, name="lamp")
    change(offer, price=2)
    offer.delete()

    assert {label for label, _, _ in read_log(using)} == {"logged.Product"}
    assert actions(using, Product) == [ADDITION, CHANGE, DELETION]


@pytest.mark.parametrize("level", [Venue, Theatre, Opera])
def test_a_save_of_a_row_in_several_tables_is_logged_whichever_of_them_is_listed(
    using: str, settings: Any, level: type[models.Model]
) -> None:
    settings.SYNCHRO_MODELS = (("logged", level._meta.model_name),)

    opera = add(Opera, using, name="Scala", composer="Verdi")

    assert {pk for _, pk, _ in read_log(using)} == {str(opera.pk)}


def test_what_goes_with_a_deleted_object_is_logged_too(using: str) -> None:
    shelf = add(Shelf, using, name="top")
    book = add(Book, using, shelf=shelf, title="Emma")
    shelf_pk, book_pk = str(shelf.pk), str(book.pk)

    shelf.delete()

    assert ("logged.Book", book_pk, DELETION) in read_log(using)
    assert ("logged.Shelf", shelf_pk, DELETION) in read_log(using)


def test_models_that_are_not_listed_are_not_logged(using: str, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "country"),)

    add(Product, using, name="lamp")
    add(Venue, using, name="Scala")

    assert read_log(using) == []


@pytest.mark.parametrize("value", [None, (), []])
def test_without_models_nothing_is_logged(using: str, settings: Any, value: Any) -> None:
    if value is None:
        del settings.SYNCHRO_MODELS
    else:
        settings.SYNCHRO_MODELS = value

    product = add(Product, using, name="lamp")
    product.delete()

    assert read_log(using) == []


def test_without_a_remote_changes_are_logged_all_the_same(using: str, settings: Any) -> None:
    settings.SYNCHRO_REMOTE = None

    add(Product, using, name="lamp")

    assert actions(using, Product) == [ADDITION]


# In the transaction of the application


def test_what_is_rolled_back_is_not_logged(using: str) -> None:
    add(Product, using, name="lamp")

    with rolled_back(using):
        add(Product, using, name="table")

    assert len(read_log(using)) == rows(Product, using).count() == 1


def test_what_a_savepoint_undoes_is_not_logged_and_the_rest_is(using: str) -> None:
    with transaction.atomic(using=using):
        add(Product, using, name="lamp")
        with rolled_back(using):
            add(Country, using, code="pl")
        add(Tag, using, name="new")

    assert [label for label, _, _ in read_log(using)] == ["logged.Product", "logged.Tag"]


@several_threads
def test_an_entry_is_seen_by_others_when_the_change_is(live: str) -> None:
    seen = []

    def look() -> None:
        seen.append((rows(Product, live).count(), ChangeLog.objects.using(live).count()))

    with transaction.atomic(using=live):
        add(Product, live, name="lamp")
        in_thread(look)
    in_thread(look)

    assert seen == [(0, 0), (1, 1)]


# Many-to-many fields


def make_article(using: str) -> tuple[Article, list[Tag]]:
    """Make an article and three tags, and forget that they were made."""
    article = add(Article, using, title="ours")
    tags = [add(Tag, using, name=name) for name in "abc"]
    forget_log(using)
    return article, tags


@pytest.mark.parametrize("act", ["add", "remove", "set", "clear"])
def test_a_change_of_members_is_logged_on_the_object_that_has_the_field(using: str, act: str) -> None:
    article, tags = make_article(using)
    if act in ("remove", "clear"):
        article.tags.add(*tags)
        forget_log(using)

    arguments = {"add": tags, "remove": tags[:1], "set": [tags], "clear": []}[act]
    getattr(article.tags, act)(*arguments)

    assert set(read_log(using)) == {("logged.Article", str(article.pk), M2M_CHANGE)}


@pytest.mark.parametrize("act", ["add", "remove", "set", "clear"])
def test_a_change_of_members_from_the_other_side_is_logged_on_the_object_that_has_the_field(
    using: str, act: str
) -> None:
    article, (tag, *_) = make_article(using)
    if act in ("remove", "clear"):
        tag.articles.add(article)
        forget_log(using)

    arguments: list[Any] = {"add": [article], "remove": [article], "set": [[article]], "clear": []}[act]
    getattr(tag.articles, act)(*arguments)

    assert set(read_log(using)) == {("logged.Article", str(article.pk), M2M_CHANGE)}


def test_members_that_are_there_already_are_no_news(using: str) -> None:
    article, (tag, *_) = make_article(using)
    article.tags.add(tag)
    forget_log(using)

    article.tags.add(tag)

    assert read_log(using) == []


def test_members_are_logged_where_only_the_model_with_the_field_is_listed(using: str, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "article"),)
    article, tags = make_article(using)

    article.tags.add(*tags)

    assert set(read_log(using)) == {("logged.Article", str(article.pk), M2M_CHANGE)}


def test_rows_of_an_explicit_through_model_are_logged_where_it_is_not_listed(using: str, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "article"),)
    article = add(Article, using, title="ours")
    author = add(Author, using, name="Ann")
    forget_log(using)

    authorship = add(Authorship, using, article=article, author=author)
    added = len(read_log(using))
    change(authorship, share=5)
    changed = len(read_log(using))
    authorship.delete()

    assert 0 < added < changed < len(read_log(using))
    add(Agency, using, name="not listed")
    assert "logged.Agency" not in {label for label, _, _ in read_log(using)}


# What it costs


def acts(using: str) -> dict[str, Callable[[], Any]]:
    """Things that an application does with one object, each twice possible."""
    article, tags = make_article(using)
    product = add(Product, using, name="lamp")
    opera = add(Opera, using, name="Scala")
    spare = [add(Product, using, name="spare") for _ in range(9)]
    fresh = iter(tags)
    return {
        "a new object": lambda: add(Product, using, name="new"),
        "a change": lambda: change(product, price=product.price + 1),
        "a new row in three tables": lambda: add(Opera, using, name="new"),
        "a change of a row in three tables": lambda: change(opera, seats=opera.seats + 1),
        "a deletion": lambda: spare.pop().delete(),
        "a new member": lambda: article.tags.add(next(fresh)),
        "a UUID": lambda: add(Ticket, using),
    }


@pytest.mark.parametrize(
    "what",
    [
        "a new object",
        "a change",
        "a new row in three tables",
        "a change of a row in three tables",
        "a deletion",
        "a new member",
        "a UUID",
    ],
)
def test_logging_a_change_costs_one_query_at_most(using: str, what: str) -> None:
    act = acts(using)[what]
    act()
    with DisableSynchroLog():
        unlogged = count_queries(using, act)
    before = len(read_log(using))

    logged = count_queries(using, act)

    assert len(read_log(using)) > before
    assert logged <= unlogged + 1


def test_a_deletion_of_many_rows_is_logged_in_batches(using: str) -> None:
    count = 1000
    rows(Reading, using).bulk_create([Reading(code=str(number)) for number in range(count)])

    inserts = count_log_inserts(using, lambda: Reading.objects.using(using).all().delete())

    assert actions(using, Reading) == [DELETION] * count
    assert inserts <= count / 50


def test_a_bulk_create_of_many_rows_is_logged_in_batches(using: str) -> None:
    count = 1000
    readings = [Reading(code=str(number)) for number in range(count)]

    inserts = count_log_inserts(using, lambda: Reading.objects.using(using).bulk_create(readings))

    assert actions(using, Reading) == [ADDITION] * count
    assert inserts <= count / 50


def test_an_update_of_many_rows_is_logged_in_batches(using: str) -> None:
    count = 1000
    rows(Reading, using).bulk_create([Reading(code=str(number)) for number in range(count)])

    inserts = count_log_inserts(using, lambda: Reading.objects.using(using).update(value=1))

    assert actions(using, Reading) == [CHANGE] * count
    assert inserts <= count / 50


# Logging never makes a save fail


@pytest.mark.parametrize(
    "instance",
    [
        Ticket(title="a UUID"),
        Page(path=LONG),
        Page(path="Zażółć gęślą 'jaźń' \"\\ % 🦆\n"),
        Page(path=""),
        Seat(row="A", number=1),
        Oddity(name="odd"),
        Riddle(name="riddle"),
        Gauge(level=float("inf")),
        Country(code=LONG * 10),
        Account(name="skips"),
    ],
    ids=lambda instance: type(instance).__name__,
)
def test_objects_of_every_kind_are_saved_and_deleted_and_each_time_logged(using: str, instance: models.Model) -> None:
    model = type(instance)
    values = {field.attname: getattr(instance, field.attname) for field in model._meta.concrete_fields}
    values = {name: value for name, value in values.items() if value is not None}
    saved = add(model, using, **values)
    saved.save()

    saved.delete()

    assert rows(model, using).count() == 0
    assert actions(using, model) == [ADDITION, CHANGE, DELETION]


@pytest.mark.parametrize("path", [LONG, "Zażółć 🦆"])
def test_a_primary_key_is_logged_whole(using: str, path: str) -> None:
    add(Page, using, path=path)

    assert read_log(using) == [("logged.Page", path, ADDITION)]


@pytest.mark.django_db(databases=DATABASES)
def test_a_natural_key_that_json_cannot_hold_does_no_harm(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    gauge = add(Gauge, "pg_local", level=float("nan"))

    gauge.delete()

    assert actions("pg_local", Gauge) == [ADDITION, DELETION]


def test_a_deletion_after_the_parents_of_a_nested_key_is_no_error(using: str) -> None:
    country = add(Country, using, code="pl")
    for name in "ab":
        add(City, using, country=country, name=name)

    country.delete()

    assert sorted(actions(using, City)) == [ADDITION, ADDITION, DELETION, DELETION]


def test_a_database_without_our_tables_is_written_as_if_we_were_not_there(using: str) -> None:
    drop_our_tables(using)

    with transaction.atomic(using=using):
        product = add(Product, using, name="lamp")
        change(product, price=2)
        article = add(Article, using, title="ours")
        article.tags.add(add(Tag, using, name="a"))
        Reading.objects.using(using).bulk_create([Reading(code="a")])
        Reading.objects.using(using).update(value=2)
        Reading.objects.using(using).all().delete()
        add(Country, using, code="pl").delete()

    assert rows(Product, using).get().price == 2
    assert article.tags.count() == 1


def test_a_content_type_that_is_missing_is_no_obstacle(using: str) -> None:
    rows(ContentType, using).filter(app_label="logged").delete()
    forget_caches()

    add(Product, using, name="lamp")

    assert actions(using, Product) == [ADDITION]


def test_values_that_the_database_computes_do_no_harm(using: str) -> None:
    country = add(Country, using, code="pl")
    country.code = Upper("code")
    country.save()

    country.delete()

    assert actions(using, Country) == [ADDITION, CHANGE, DELETION]


def test_a_save_that_fails_by_itself_leaves_nothing_in_the_log(using: str) -> None:
    add(Reading, using, code="a")

    with pytest.raises(Exception, match=r"(?i)unique"), transaction.atomic(using=using):
        add(Reading, using, code="a")

    assert actions(using, Reading) == [ADDITION]


# What signals do not tell: the manager and the queryset that log


def fill(using: str) -> list[Reading]:
    """Make three readings that nobody logs."""
    readings = [Reading(code=code) for code in "abc"]
    rows(Reading, using).bulk_create(readings)
    return list(rows(Reading, using).order_by("code"))


def keys_of(using: str, action: int) -> list[str]:
    """The primary keys of the readings that were logged with this action."""
    return sorted(pk for label, pk, done in read_log(using) if (label, done) == ("logged.Reading", action))


def test_an_update_is_logged_for_each_row_that_it_changes(using: str) -> None:
    first, second, _ = fill(using)

    changed = Reading.objects.using(using).filter(code__in="ab").update(value=7)

    assert changed == 2
    assert keys_of(using, CHANGE) == sorted([str(first.pk), str(second.pk)])
    assert list(rows(Reading, using).order_by("code").values_list("value", flat=True)) == [7, 7, 0]


def test_an_update_of_what_it_is_filtered_by_is_logged(using: str) -> None:
    first, *_ = fill(using)

    Reading.objects.using(using).filter(code="a").update(code="z")

    assert keys_of(using, CHANGE) == [str(first.pk)]


def test_what_such_a_manager_saves_and_deletes_one_by_one_is_logged_once(using: str) -> None:
    reading = Reading.objects.using(using).create(code="a")
    change(reading, value=1)
    reading.delete()

    assert actions(using, Reading) == [ADDITION, CHANGE, DELETION]


def test_an_update_that_finds_no_row_is_not_logged(using: str) -> None:
    fill(using)

    assert Reading.objects.using(using).filter(code="z").update(value=7) == 0

    assert read_log(using) == []


def test_an_update_through_a_queryset_of_the_projects_own_is_logged(using: str) -> None:
    rows(Sample, using).bulk_create([Sample(name="a", value=2)])

    Sample.objects.using(using).double()

    assert actions(using, Sample) == [CHANGE]
    assert rows(Sample, using).get().value == 4


def test_an_update_through_related_objects_is_logged(using: str) -> None:
    parent = add(Sample, using, name="parent")
    part = add(Sample, using, name="part", parent=parent)
    forget_log(using)

    parent.parts.update(value=3)

    assert read_log(using) == [("logged.Sample", str(part.pk), CHANGE)]


def test_what_a_reverse_foreign_key_gets_is_logged_by_the_base_manager(
    using: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, part = (add(Sample, using, name=name) for name in ("parent", "part"))
    forget_log(using)
    monkeypatch.setattr(Sample._meta, "base_manager", Sample._default_manager)

    parent.parts.add(part)

    assert read_log(using) == [("logged.Sample", str(part.pk), CHANGE)]


def test_bulk_create_is_logged(using: str) -> None:
    made = Reading.objects.using(using).bulk_create([Reading(code=code) for code in "abc"])

    assert len(made) == 3
    assert keys_of(using, ADDITION) == sorted(str(pk) for pk in rows(Reading, using).values_list("pk", flat=True))


def test_bulk_create_of_nothing_is_not_logged(using: str) -> None:
    assert Reading.objects.using(using).bulk_create([]) == []

    assert read_log(using) == []


def test_bulk_create_that_leaves_conflicts_out_is_logged_for_what_is_new(using: str) -> None:
    known = fill(using)

    Reading.objects.using(using).bulk_create([Reading(code="a", value=9), Reading(code="d")], ignore_conflicts=True)

    new = rows(Reading, using).get(code="d")
    logged = {pk for _, pk, _ in read_log(using)}
    assert str(new.pk) in logged
    assert logged <= {str(new.pk), str(known[0].pk)}


def test_bulk_create_that_updates_is_logged_for_every_row(using: str) -> None:
    first, *_ = fill(using)

    Reading.objects.using(using).bulk_create(
        [Reading(code="a", value=9), Reading(code="d", value=9)],
        update_conflicts=True,
        update_fields=["value"],
        unique_fields=["code"],
    )

    new = rows(Reading, using).get(code="d")
    assert {pk for _, pk, _ in read_log(using)} == {str(first.pk), str(new.pk)}


def logging_rows(model: type[models.Model], using: str) -> LoggedQuerySet:
    """The rows of a model by a queryset that logs."""
    return LoggedQuerySet(model=model, using=using)


def test_bulk_create_that_updates_is_logged_under_the_keys_that_exist(using: str) -> None:
    first, second, _ = fill(using)

    Reading.objects.using(using).bulk_create(
        [Reading(pk=900, code="a", value=9), Reading(pk=901, code="d"), Reading(pk=second.pk, code="b")],
        update_conflicts=True,
        update_fields=["value"],
        unique_fields=["code"],
    )

    assert {pk for _, pk, _ in read_log(using)} == {str(first.pk), str(second.pk), "901"}


def test_bulk_create_that_leaves_out_a_preset_key_logs_no_such_key(using: str) -> None:
    fill(using)

    Reading.objects.using(using).bulk_create([Reading(pk=900, code="a")], ignore_conflicts=True)

    assert "900" not in {pk for _, pk, _ in read_log(using)}


def test_an_update_of_primary_keys_is_logged_as_deletions_and_additions(using: str) -> None:
    first, second, third = fill(using)

    Reading.objects.using(using).exclude(pk=third.pk).update(id=models.F("id") + 100)

    old = [first.pk, second.pk]
    assert keys_of(using, DELETION) == sorted(map(str, old))
    assert keys_of(using, ADDITION) == sorted(str(pk + 100) for pk in old)
    assert actions(using, Reading) == [DELETION, DELETION, ADDITION, ADDITION]
    going = ChangeLog.objects.using(using).get(object_id=first.pk)
    assert going.data["fields"]["code"] == "a"


def test_an_update_of_a_primary_key_to_itself_is_a_change(using: str) -> None:
    first, *_ = fill(using)

    Reading.objects.using(using).filter(pk=first.pk).update(id=first.pk, value=4)

    assert read_log(using) == [("logged.Reading", str(first.pk), CHANGE)]


def test_an_update_of_a_part_of_a_composite_key_is_a_deletion_and_an_addition(using: str) -> None:
    rows(Seat, using).bulk_create([Seat(row="A", number=1), Seat(row="A", number=2)])

    logging_rows(Seat, using).filter(number=1).update(row="B")

    assert read_log(using) == [("logged.Seat", '["A", "1"]', DELETION), ("logged.Seat", '["B", "1"]', ADDITION)]


def test_an_update_of_very_many_rows_of_a_composite_key_is_logged(using: str) -> None:
    count = 2500
    rows(Seat, using).bulk_create([Seat(row="A", number=number) for number in range(count)])

    changed = logging_rows(Seat, using).update(guest="x")

    assert changed == count
    assert actions(using, Seat) == [CHANGE] * count


def test_a_deletion_of_very_many_rows_of_a_composite_key_is_logged(using: str) -> None:
    count = 2500
    rows(Seat, using).bulk_create([Seat(row="A", number=number) for number in range(count)])

    logging_rows(Seat, using).delete()

    assert actions(using, Seat) == [DELETION] * count


def test_bulk_update_is_logged(using: str) -> None:
    first, second, _ = fill(using)
    first.value = second.value = 4

    changed = Reading.objects.using(using).bulk_update([first, second], ["value"])

    assert changed == 2
    assert keys_of(using, CHANGE) == sorted([str(first.pk), str(second.pk)])


def test_delete_is_logged_once_for_each_row(using: str) -> None:
    keys = sorted(str(reading.pk) for reading in fill(using))

    Reading.objects.using(using).all().delete()

    assert keys_of(using, DELETION) == keys


def test_raw_delete_is_logged(using: str) -> None:
    keys = sorted(str(reading.pk) for reading in fill(using))

    Reading.objects.using(using).filter(code__in="ab")._raw_delete(using)

    assert rows(Reading, using).count() == 1
    assert keys_of(using, DELETION) == keys[:2]


@pytest.mark.parametrize("act", ["aupdate", "abulk_create", "abulk_update", "adelete"])
def test_bulk_operations_are_logged_when_they_are_awaited(using: str, act: str) -> None:
    first, *_ = fill(using)
    queryset = Reading.objects.using(using)

    @async_to_sync
    async def run() -> None:
        if act == "aupdate":
            await queryset.aupdate(value=1)
        elif act == "abulk_create":
            await queryset.abulk_create([Reading(code=code) for code in "xyz"])
        elif act == "abulk_update":
            await queryset.abulk_update([first], ["value"])
        else:
            await queryset.adelete()

    run()

    expected = {"aupdate": (CHANGE, 3), "abulk_create": (ADDITION, 3), "abulk_update": (CHANGE, 1)}
    action, count = expected.get(act, (DELETION, 3))
    assert actions(using, Reading) == [action] * count


def test_bulk_operations_that_are_rolled_back_are_not_logged(using: str) -> None:
    fill(using)

    with rolled_back(using):
        Reading.objects.using(using).update(value=7)

    assert read_log(using) == []


def test_bulk_operations_on_models_that_are_not_listed_are_not_logged(using: str, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "product"),)
    first, *_ = fill(using)

    Reading.objects.using(using).update(value=1)
    Reading.objects.using(using).bulk_create([Reading(code="d")])
    Reading.objects.using(using).bulk_update([first], ["value"])
    Reading.objects.using(using).filter(code="d")._raw_delete(using)
    Reading.objects.using(using).all().delete()

    assert read_log(using) == []


# Not logged, in this thread and task only


def test_nothing_is_logged_inside(using: str) -> None:
    article, (tag, *_) = make_article(using)
    fill(using)

    with DisableSynchroLog():
        product = add(Product, using, name="lamp")
        change(product, price=2)
        product.delete()
        article.tags.add(tag)
        Reading.objects.using(using).update(value=2)
        Reading.objects.using(using).bulk_create([Reading(code="d")])
        Reading.objects.using(using).all().delete()

    assert read_log(using) == []
    add(Product, using, name="after")
    assert actions(using, Product) == [ADDITION]


def test_it_can_be_nested(using: str) -> None:
    with DisableSynchroLog():
        with DisableSynchroLog():
            add(Product, using, name="inner")
        add(Product, using, name="outer")
    add(Product, using, name="after")

    assert len(read_log(using)) == 1


def test_one_of_them_can_be_nested_in_itself(using: str) -> None:
    quiet = DisableSynchroLog()

    with quiet:
        with quiet:
            add(Product, using, name="inner")
        add(Product, using, name="outer")
    add(Product, using, name="after")

    assert len(read_log(using)) == 1


def test_it_ends_with_an_error_too_and_the_error_comes_through(using: str) -> None:
    with pytest.raises(ZeroDivisionError), DisableSynchroLog():
        raise ZeroDivisionError
    add(Product, using, name="after")

    assert len(read_log(using)) == 1


@pytest.mark.parametrize("decorator", [disable_synchro_log, DisableSynchroLog()], ids=["function", "class"])
def test_a_decorated_function_is_not_logged_and_is_itself(using: str, decorator: Any) -> None:
    @decorator
    def make(name: str, *, price: int = 0) -> Product:
        """Make a product."""
        return add(Product, using, name=name, price=price)

    product = make("lamp", price=3)

    assert (product.name, product.price) == ("lamp", 3)
    assert (make.__name__, make.__doc__) == ("make", "Make a product.")
    assert read_log(using) == []
    add(Product, using, name="after")
    assert len(read_log(using)) == 1


def test_a_decorated_function_may_call_itself(using: str) -> None:
    @disable_synchro_log
    def make(depth: int) -> None:
        add(Product, using, name="before")
        if depth:
            make(depth - 1)
        add(Product, using, name="after")

    make(2)

    assert read_log(using) == []
    assert rows(Product, using).count() == 6


@pytest.mark.parametrize("decorator", [disable_synchro_log, DisableSynchroLog()], ids=["function", "class"])
def test_a_decorated_coroutine_is_not_logged_while_it_runs(using: str, decorator: Any) -> None:
    @decorator
    async def make(name: str) -> Product:
        await asyncio.sleep(0)
        product = Product(name=name)
        await product.asave(using=using)
        return product

    @async_to_sync
    async def run() -> Product:
        made = await make("inside")
        await Product(name="after").asave(using=using)
        return made

    assert run().name == "inside"
    assert asyncio.iscoroutinefunction(make)
    assert rows(Product, using).count() == 2
    assert len(read_log(using)) == 1


def test_other_tasks_are_logged_meanwhile(using: str) -> None:
    @async_to_sync
    async def run() -> None:
        inside, done = asyncio.Event(), asyncio.Event()

        async def quiet() -> None:
            with DisableSynchroLog():
                inside.set()
                await done.wait()
                await Product(name="quiet").asave(using=using)

        async def loud() -> None:
            await inside.wait()
            await Product(name="loud").asave(using=using)
            done.set()

        await asyncio.wait_for(asyncio.gather(quiet(), loud()), 30)

    run()

    (entry,) = ChangeLog.objects.using(using)
    assert entry.object.name == "loud"


def test_a_task_stays_quiet_while_others_leave(using: str) -> None:
    @async_to_sync
    async def run() -> None:
        entered, left = asyncio.Event(), asyncio.Event()

        async def long() -> None:
            with DisableSynchroLog():
                entered.set()
                await left.wait()
                await Product(name="quiet").asave(using=using)

        async def short() -> None:
            await entered.wait()
            with DisableSynchroLog():
                await sync_to_async(add)(Product, using, name="quiet")
            left.set()

        await asyncio.wait_for(asyncio.gather(long(), short()), 30)

    run()

    assert read_log(using) == []
    assert rows(Product, using).count() == 2


@several_threads
def test_other_threads_are_logged_meanwhile(live: str) -> None:
    with DisableSynchroLog():
        in_thread(lambda: add(Product, live, name="loud"))
        add(Product, live, name="quiet")

    (entry,) = ChangeLog.objects.using(live)
    assert entry.object.name == "loud"


@several_threads
def test_a_thread_that_leaves_does_not_let_another_one_be_logged(live: str) -> None:
    def be_quiet() -> None:
        with DisableSynchroLog():
            add(Product, live, name="quiet")

    with DisableSynchroLog():
        in_thread(be_quiet)
        add(Product, live, name="quiet")

    assert read_log(live) == []


@pytest.mark.parametrize("decorator", [disable_synchro_log, DisableSynchroLog()], ids=["function", "class"])
def test_a_decorated_handler_is_not_logged_and_what_it_handles_is(using: str, decorator: Any) -> None:
    @decorator
    def handle(using: str, **kwargs: Any) -> None:
        add(Country, using, code="by handler")

    with receiving(post_save, handle, Product):
        product = add(Product, using, name="lamp")
        change(product, price=1)

    assert rows(Country, using).count() == 2
    assert read_log(using) == [
        ("logged.Product", str(product.pk), ADDITION),
        ("logged.Product", str(product.pk), CHANGE),
    ]


# SYNCHRO_MODELS


@pytest.mark.parametrize(
    "value",
    [
        ("logged",),
        ["logged"],
        ("tests.logged",),
        (("logged", "Product", "Country"),),
        (("logged", "product", "COUNTRY"),),
        [["logged", "PRODUCT"], ["logged", "country"]],
        ("auth", ("logged", "product", "country"), "django.contrib.sites"),
        ("logged", ("logged", "product")),
        (("logged",),),
    ],
    ids=str,
)
def test_models_are_listed_in_many_forms(using: str, settings: Any, value: Any) -> None:
    settings.SYNCHRO_MODELS = value

    add(Product, using, name="lamp")
    add(Country, using, code="pl")

    assert [label for label, _, _ in read_log(using)] == ["logged.Product", "logged.Country"]
    assert checks.run_checks(tags=["gestore_sync_settings"]) == []


@pytest.mark.parametrize("name", ["auth", "django.contrib.auth"])
def test_an_app_of_django_is_listed_by_either_name(using: str, settings: Any, name: str) -> None:
    from django.contrib.auth.models import Group, User

    settings.SYNCHRO_MODELS = (name,)

    add(Group, using, name="editors")
    user = add(User, using, username="ann")
    user.groups.add(rows(Group, using).get())

    assert {label for label, _, _ in read_log(using)} == {"auth.Group", "auth.User"}


def test_the_setting_counts_from_the_moment_of_its_change(using: str, settings: Any) -> None:
    add(Product, using, name="logged")
    settings.SYNCHRO_MODELS = (("logged", "country"),)
    add(Product, using, name="not logged")
    settings.SYNCHRO_MODELS = ("logged",)
    add(Product, using, name="logged again")

    assert len(read_log(using)) == 2


WRONG = [
    (("nowhere",), "nowhere"),
    (("logged", "tests.nowhere"), "tests.nowhere"),
    ((("logged", "product", "Nothing"),), "Nothing"),
    ((("nowhere", "product"),), "nowhere"),
    ((5,), "5"),
    ((("logged", 5),), "5"),
    (7, "7"),
    (((),), "()"),
]


@pytest.mark.parametrize(("value", "named"), WRONG, ids=str)
def test_a_wrong_list_breaks_no_save(using: str, settings: Any, value: Any, named: str) -> None:
    settings.SYNCHRO_MODELS = value

    product = add(Product, using, name="lamp")
    change(product, price=2)
    article = add(Article, using, title="ours")
    article.tags.add(add(Tag, using, name="a"))
    Reading.objects.using(using).bulk_create([Reading(code="a")])
    Reading.objects.using(using).update(value=2)
    Reading.objects.using(using).all().delete()
    product.delete()

    assert rows(Article, using).get().tags.count() == 1


@pytest.mark.parametrize(("value", "named"), WRONG, ids=str)
def test_a_wrong_list_is_an_error_of_the_system_check_that_names_what_is_wrong(
    settings: Any, value: Any, named: str
) -> None:
    settings.SYNCHRO_MODELS = value

    errors = checks.run_checks(tags=["gestore_sync"])

    assert [error.is_serious() for error in errors] == [True]
    assert errors[0].id is not None and errors[0].id.startswith("gestore_sync.E")
    assert "SYNCHRO_MODELS" in errors[0].msg
    assert named in errors[0].msg
    assert errors[0].hint


@pytest.mark.parametrize(("value", "named"), WRONG, ids=str)
@pytest.mark.django_db(databases=DATABASES)
def test_a_wrong_list_is_an_error_of_a_run_that_names_what_is_wrong(settings: Any, value: Any, named: str) -> None:
    settings.SYNCHRO_MODELS = value

    with pytest.raises(ImproperlyConfigured, match="SYNCHRO_MODELS") as raised:
        api.synchronize()
    with pytest.raises((CommandError, ImproperlyConfigured), match="SYNCHRO_MODELS") as shown:
        call_command("synchronize")

    assert named in str(raised.value)
    assert named in str(shown.value)

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.test.utils import CaptureQueriesContext

from gestore_sync import DisableSynchroLog, api, call_synchronize
from gestore_sync.exceptions import GestoreSyncError, WrongDatabase
from gestore_sync.models import ChangeLog
from tests.conftest import DATABASES, Pair
from tests.kinds.making import renumber_content_types
from tests.kinds.pushing import forget_caches, rows
from tests.logged.models import (
    Account,
    Agency,
    Article,
    Author,
    Authorship,
    Book,
    City,
    Comment,
    Country,
    Employee,
    Invoice,
    Offer,
    Opera,
    Page,
    Product,
    Reading,
    Sale,
    Seat,
    Shelf,
    Stock,
    Tag,
    Team,
    Theatre,
    Ticket,
    Venue,
)
from tests.logged.sites import (
    DONE,
    NO_CHANGES,
    Sites,
    add,
    ago,
    change,
    date_log,
    drop_our_tables,
    forget_log,
    read_log,
    read_only,
    ready,
    receiving,
    written,
)
from tests.policies.watching import CROSSED, execute, pairings, refuse_text, unread

CROSSED_PAIRS = pairings(*CROSSED)
ONE_PAIR = pairings("sqlite-postgresql")


@pytest.fixture
def sites(pair: Pair, settings: Any) -> Iterator[Sites]:
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(pair) as sites:
        yield sites


crossed = pytest.mark.parametrize("pair", CROSSED_PAIRS, indirect=True)
once = pytest.mark.parametrize("pair", ONE_PAIR, indirect=True)


# What arrives


def test_additions_changes_and_deletions_arrive(sites: Sites) -> None:
    lamp = add(Product, sites.local, name="lamp", price=1)
    table = add(Product, sites.local, name="table")

    first = sites.send()
    change(lamp, price=2)
    second = sites.send()
    table.delete()
    third = sites.send()

    assert [report.message for report in (first, second, third)] == [DONE] * 3
    assert written(first) == {"created": {"logged.Product": 2}}
    assert written(second) == {"updated": {"logged.Product": 1}}
    assert written(third) == {"deleted": {"logged.Product": 1}}
    assert sites.arrived(Product, "name", "price") == [("lamp", 2)]
    sites.send_nothing()


def test_without_changes_the_run_says_so_and_writes_nothing(sites: Sites) -> None:
    sites.send_nothing()
    add(Product, sites.local, name="lamp")
    sites.send()

    sites.send_nothing()


def test_only_what_changed_is_sent(sites: Sites) -> None:
    with DisableSynchroLog():
        add(Product, sites.local, name="not logged")
    add(Product, sites.local, name="logged")

    sites.send()

    assert sites.arrived(Product, "name") == ["logged"]


def test_an_object_does_not_overwrite_another_one_with_its_number(sites: Sites) -> None:
    theirs = add(Product, sites.remote, name="theirs")
    ours = add(Product, sites.local, name="ours")
    assert ours.pk == theirs.pk

    sites.send()
    change(ours, price=3)
    sites.send()

    assert sites.arrived(Product, "name", "price") == [("ours", 3), ("theirs", 0)]


def test_an_object_that_the_remote_has_by_its_key_is_updated(sites: Sites) -> None:
    add(Country, sites.remote, code="de")
    with DisableSynchroLog():
        theirs = add(Country, sites.remote, code="pl", name="Polen")
    add(Country, sites.local, code="pl", name="Polska")

    report = sites.send()

    assert written(report) == {"updated": {"logged.Country": 1}}
    assert sites.there(Country).get(code="pl").pk == theirs.pk
    assert sites.arrived(Country, "code", "name") == [("de", ""), ("pl", "Polska")]


def test_nested_keys_are_found_in_the_order_of_their_links(sites: Sites) -> None:
    for code in ("de", "fr", "pl"):
        country = add(Country, sites.remote, code=code)
    with DisableSynchroLog():
        add(City, sites.remote, country=country, name="Gdynia", motto="old")
    poland = add(Country, sites.local, code="pl")
    city = add(City, sites.local, country=poland, name="Gdynia", motto="new")

    sites.send()
    change(city, motto="newer")
    sites.send()

    assert sites.there(City).get().motto == "newer"
    assert sites.there(City).get().country.code == "pl"


def test_a_changed_key_is_an_update_and_no_second_object(sites: Sites) -> None:
    country = add(Country, sites.local, code="yu", name="Serbia")
    sites.send()

    change(country, code="rs")
    report = sites.send()

    assert written(report) == {"updated": {"logged.Country": 1}}
    assert sites.arrived(Country, "code") == ["rs"]


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Ticket, {"title": "a"}),
        (Page, {"path": "books/travel", "title": "a"}),
        (Page, {"path": "Zażółć 'gęślą' jaźń 🦆", "title": "a"}),
        (Page, {"path": "", "title": "a"}),
    ],
)
@crossed
def test_primary_keys_of_every_kind_travel(sites: Sites, model: type[models.Model], values: dict[str, Any]) -> None:
    instance = add(model, sites.local, **values)
    sites.send()
    change(instance, title="b")
    sites.send()

    assert sites.arrived(model, "pk", "title") == [(instance.pk, "b")]
    instance.delete()
    sites.send()
    assert sites.arrived(model, "pk") == []
    sites.send_nothing()


@crossed
def test_primary_keys_of_several_parts_travel(sites: Sites) -> None:
    add(Seat, sites.local, row="A", number=1, guest="Ann")
    seat = add(Seat, sites.local, row="A", number=2, guest="Bob")
    sites.send()

    change(seat, guest="Bea")
    rows(Seat, sites.local).get(number=1).delete()
    sites.send()

    assert sites.arrived(Seat, "row", "number", "guest") == [("A", 2, "Bea")]
    sites.send_nothing()


@crossed
def test_a_primary_key_may_be_given_in_any_form(sites: Sites) -> None:
    ticket = add(Ticket, sites.local, id="6ba7b8109dad11d180b400c04fd430c8", title="a")
    product = add(Product, sites.local, pk="7", name="lamp")

    sites.send()
    change(ticket, title="b")
    change(product, price=1)
    sites.send()

    assert [str(pk) for pk in sites.arrived(Ticket, "pk")] == ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]
    assert sites.arrived(Ticket, "title") == ["b"]
    assert sites.arrived(Product, "name", "price") == [("lamp", 1)]


@crossed
def test_what_is_saved_through_a_proxy_arrives(sites: Sites, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "product"),)
    offer = add(Offer, sites.local, name="lamp")
    sites.send()
    change(offer, price=4)

    sites.send()

    assert sites.arrived(Product, "name", "price") == [("lamp", 4)]
    offer.delete()
    sites.send()
    assert sites.arrived(Product) == []


@pytest.mark.parametrize("level", [Venue, Theatre, Opera])
@crossed
def test_a_row_in_several_tables_arrives_and_goes_whole(sites: Sites, settings: Any, level: type[models.Model]) -> None:
    settings.SYNCHRO_MODELS = (("logged", level._meta.model_name),)
    for name in "ab":
        add(Venue, sites.remote, name=name)
    opera = add(Opera, sites.local, name="Scala", seats=2, composer="Verdi")
    sites.send()
    change(opera, name="La Scala", seats=3, composer="Puccini")

    sites.send()

    assert sites.arrived(Opera, "name", "seats", "composer") == [("La Scala", 3, "Puccini")]
    assert sites.there(Venue).count() == 3
    opera.delete()
    sites.send()
    assert (sites.arrived(Opera), sites.arrived(Theatre), sites.arrived(Venue, "name")) == ([], [], ["a", "b"])
    sites.send_nothing()


@crossed
def test_generic_keys_lead_to_the_same_object(sites: Sites) -> None:
    renumber_content_types(sites.remote)
    for name in "abc":
        add(Product, sites.remote, name=name)
    product = add(Product, sites.local, name="ours")
    add(Comment, sites.local, subject=product, text="fine")

    sites.send()

    assert sites.there(Comment).get().subject == sites.there(Product).get(name="ours")


def test_what_is_done_in_bulk_arrives(sites: Sites) -> None:
    readings = Reading.objects.using(sites.local)
    readings.bulk_create([Reading(code=code) for code in "abcd"])
    sites.send()
    assert sites.arrived(Reading, "code") == ["a", "b", "c", "d"]

    readings.filter(code__in="ab").update(value=1)
    third = readings.get(code="c")
    third.value = 2
    readings.bulk_update([third], ["value"])
    readings.filter(code="d")._raw_delete(sites.local)
    sites.send()
    assert sites.arrived(Reading, "code", "value") == [("a", 1), ("b", 1), ("c", 2)]

    readings.filter(code__in="ab").delete()
    sites.send()
    assert sites.arrived(Reading, "code") == ["c"]
    sites.send_nothing()


def test_a_generic_key_that_leads_nowhere_is_told_and_blocks_nothing(sites: Sites) -> None:
    product = add(Product, sites.local, name="gone")
    comment = add(Comment, sites.local, subject=product, text="about nothing")
    other = add(Product, sites.local, name="lamp")
    product.delete()

    report = sites.send()

    assert sites.arrived(Product, "name") == ["lamp"]
    (problem,) = [*report.get_unresolved(), *report.failures]
    assert (problem["model"], problem["pk"]) == ("logged.Comment", str(comment.pk))
    assert "logged.Comment.subject" in problem["reason"]
    assert sites.get_pending() == {"logged.Comment": 1}
    change(comment, subject=other)
    sites.send()
    assert sites.there(Comment).get().subject == sites.there(Product).get()


# Repeated changes of one object


def test_many_changes_of_one_object_are_sent_as_one(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    for price in range(1, 6):
        change(product, price=price)
    saved = []

    def hear(instance: Any, **kwargs: Any) -> None:
        saved.append(instance.price)

    with receiving(post_save, hear, Product):
        report = sites.send()

    assert saved == [5]
    assert written(report) == {"updated": {"logged.Product": 1}}


def test_what_was_added_and_deleted_is_not_sent(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    change(product, price=1)
    product.delete()
    calls: list[Any] = []

    def hear(instance: Any, **kwargs: Any) -> None:
        calls.append(instance)

    with (
        receiving(post_save, hear, Product),
        receiving(post_delete, hear, Product),
        CaptureQueriesContext(connections[sites.remote]) as queries,
        read_only(sites.remote),
    ):
        sites.send()

    assert calls == []
    assert not unread(queries)
    sites.send_nothing()


def test_what_was_added_and_deleted_takes_nothing_with_the_same_key_away(sites: Sites) -> None:
    with DisableSynchroLog():
        add(Product, sites.remote, name="theirs")
    product = add(Product, sites.local, name="ours")
    product.delete()

    sites.send()

    assert sites.arrived(Product, "name") == ["theirs"]


def test_what_was_changed_and_deleted_is_deleted(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    saved: list[Any] = []

    def hear(instance: Any, **kwargs: Any) -> None:
        saved.append(instance)

    change(product, price=1)
    product.delete()
    with receiving(post_save, hear, Product):
        report = sites.send()

    assert saved == []
    assert written(report) == {"deleted": {"logged.Product": 1}}
    assert sites.arrived(Product) == []


@pytest.mark.parametrize("sent", [True, False])
def test_a_new_object_in_the_place_of_a_deleted_one_is_another_object(sites: Sites, sent: bool) -> None:
    product = add(Product, sites.local, name="old", text="old")
    if sent:
        sites.send()
    pk = product.pk
    product.delete()
    add(Product, sites.local, pk=pk, name="new", price=7)

    report = sites.send()

    assert sites.arrived(Product, "name", "text", "price") == [("new", "", 7)]
    assert written(report)["created"] == {"logged.Product": 1}
    assert written(report).get("deleted", {}) == ({"logged.Product": 1} if sent else {})
    sites.send_nothing()


def test_a_new_object_under_a_key_that_was_deleted_is_there_afterwards(sites: Sites) -> None:
    add(Country, sites.local, code="pl", name="old")
    sites.send()
    rows(Country, sites.local).get().delete()
    add(Country, sites.local, code="pl", name="new")

    sites.send()

    assert sites.arrived(Country, "code", "name") == [("pl", "new")]
    sites.send_nothing()


def test_a_long_story_ends_as_the_object_is_now(sites: Sites) -> None:
    page = add(Page, sites.local, path="a", title="1")
    change(page, title="2")
    page.delete()
    page = add(Page, sites.local, path="a", title="3")
    sites.send()
    change(page, title="4")
    page.delete()
    page = add(Page, sites.local, path="a", title="5")
    page.delete()
    page = add(Page, sites.local, path="a", title="6")
    change(page, title="7")

    sites.send()

    assert sites.arrived(Page, "path", "title") == [("a", "7")]
    sites.send_nothing()


def test_two_objects_that_trade_a_unique_value_both_arrive(sites: Sites) -> None:
    first = add(Reading, sites.local, code="a", value=1)
    second = add(Reading, sites.local, code="b", value=2)
    sites.send()
    change(first, code="c")
    change(second, code="a")
    change(first, code="b")

    sites.send()

    assert sites.arrived(Reading, "code", "value") == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("batch_size", [1, 2])
@crossed
def test_small_batches_bring_the_same(sites: Sites, settings: Any, batch_size: int) -> None:
    settings.GESTORE_SYNC = {"BATCH_SIZE": batch_size}
    shelves = [add(Shelf, sites.local, name=name) for name in "abc"]
    books = [add(Book, sites.local, shelf=shelf, title=title) for shelf in shelves for title in "xy"]
    article, *_ = make_article(sites)
    for book in books[:4]:
        change(book, text="new")
    for book in books[4:]:
        book.delete()
    article.tags.clear()
    add(Reading, sites.local, code="a").delete()
    for code in "abc":
        add(Reading, sites.local, code=code)

    sites.send()

    names = ("shelf__name", "title", "text")
    assert sites.arrived(Book, *names) == [(shelf, title, "new") for shelf in "ab" for title in "xy"]
    assert sites.arrived(Reading, "code") == ["a", "b", "c"]
    assert tags_there(sites) == []
    sites.send_nothing()


@crossed
def test_a_unique_value_passes_from_a_deleted_object_to_a_new_one(sites: Sites) -> None:
    old = add(Reading, sites.local, code="a", value=1)
    sites.send()
    old.delete()
    add(Reading, sites.local, code="a", value=2)

    sites.send()

    assert sites.arrived(Reading, "code", "value") == [("a", 2)]
    sites.send_nothing()


# What an object needs


def test_parents_that_the_remote_lacks_come_along_though_nobody_logged_them(sites: Sites) -> None:
    with DisableSynchroLog():
        shelf = add(Shelf, sites.local, name="top")
        other = add(Shelf, sites.local, name="low")
    add(Book, sites.local, shelf=shelf, title="Emma")

    report = sites.send()

    assert sites.arrived(Shelf, "name") == ["top"]
    assert sites.there(Book).get().shelf.name == "top"
    assert written(report) == {"created": {"logged.Shelf": 1, "logged.Book": 1}}
    assert other.pk


def test_parents_of_models_that_are_not_listed_come_along(sites: Sites, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "city"),)
    country = add(Country, sites.local, code="pl", name="Polska")
    add(City, sites.local, country=country, name="Gdynia")

    sites.send()

    assert sites.arrived(City, "name", "country__code") == [("Gdynia", "pl")]


def test_a_parent_that_the_remote_has_is_left_as_it_is(sites: Sites) -> None:
    with DisableSynchroLog():
        country = add(Country, sites.local, code="pl", name="ours")
        add(Country, sites.remote, code="pl", name="theirs")
    add(City, sites.local, country=country, name="Gdynia")

    report = sites.send()

    assert sites.arrived(Country, "name") == ["theirs"]
    assert report.matched == {"logged.Country": 1}


def test_parts_that_nobody_logged_stay_behind(sites: Sites) -> None:
    shelf = add(Shelf, sites.local, name="top")
    with DisableSynchroLog():
        add(Book, sites.local, shelf=shelf, title="Emma")

    sites.send()

    assert sites.arrived(Shelf, "name") == ["top"]
    assert sites.arrived(Book) == []


def test_a_link_that_changed_leads_to_the_new_object(sites: Sites) -> None:
    first, second = (add(Shelf, sites.local, name=name) for name in ("top", "low"))
    book = add(Book, sites.local, shelf=first, title="Emma")
    sites.send()

    change(book, shelf=second)
    sites.send()

    assert sites.there(Book).get().shelf.name == "low"


def test_a_part_that_moved_survives_the_deletion_of_its_old_parent(sites: Sites) -> None:
    first, second = (add(Shelf, sites.local, name=name) for name in ("top", "low"))
    book = add(Book, sites.local, shelf=first, title="Emma")
    sites.send()

    change(book, shelf=second)
    first.delete()
    sites.send()

    assert sites.arrived(Book, "title", "shelf__name") == [("Emma", "low")]
    assert sites.arrived(Shelf, "name") == ["low"]


# Many-to-many fields


def make_article(sites: Sites) -> tuple[Article, Tag, Tag]:
    """Make an article with the tags a and b that both sites have."""
    for name in "xyz":
        add(Tag, sites.remote, name=name)
    article = add(Article, sites.local, title="ours")
    tags = [add(Tag, sites.local, name=name) for name in "ab"]
    article.tags.add(*tags)
    sites.send()
    return article, *tags


def tags_there(sites: Sites) -> list[str]:
    """The names of the tags that our article has on the remote."""
    article = sites.there(Article).get(title="ours")
    return sorted(article.tags.values_list("name", flat=True))


def test_members_arrive_and_go(sites: Sites) -> None:
    article, tag, _other = make_article(sites)
    assert tags_there(sites) == ["a", "b"]

    article.tags.remove(tag)
    sites.send()
    assert tags_there(sites) == ["b"]

    article.tags.set([tag])
    sites.send()
    assert tags_there(sites) == ["a"]

    article.tags.clear()
    sites.send()
    assert tags_there(sites) == []
    assert sites.there(Tag).count() == 5
    sites.send_nothing()


def test_members_arrive_and_go_from_the_other_side_of_the_field(sites: Sites) -> None:
    article, tag, other = make_article(sites)
    second = add(Article, sites.local, title="second")

    tag.articles.remove(article)
    other.articles.add(second)
    sites.send()
    assert tags_there(sites) == ["b"]
    assert sites.there(Tag).get(name="b").articles.count() == 2

    other.articles.clear()
    sites.send()
    assert tags_there(sites) == []
    assert sites.there(Tag).get(name="b").articles.count() == 0
    sites.send_nothing()


def test_members_that_only_the_remote_has_stay(sites: Sites) -> None:
    article, tag, _other = make_article(sites)
    sites.there(Article).get().tags.add(sites.there(Tag).get(name="x"))

    article.tags.remove(tag)
    sites.send()
    assert tags_there(sites) == ["b", "x"]

    article.tags.clear()
    sites.send()
    assert tags_there(sites) == ["x"]


def test_a_member_that_the_remote_took_out_itself_is_not_put_back_by_another_change(sites: Sites) -> None:
    article, _tag, _other = make_article(sites)
    there = sites.there(Article).get()
    there.tags.remove(sites.there(Tag).get(name="a"))
    third = add(Tag, sites.local, name="c")

    article.tags.add(third)
    sites.send()

    assert tags_there(sites) == ["b", "c"]


def test_a_member_that_both_sides_have_by_themselves_is_one_member(sites: Sites) -> None:
    article, *_ = make_article(sites)
    third = add(Tag, sites.local, name="x")
    sites.there(Article).get().tags.add(sites.there(Tag).get(name="x"))

    article.tags.add(third)
    sites.send()

    assert tags_there(sites) == ["a", "b", "x"]
    sites.send_nothing()


def test_a_member_that_was_added_and_taken_out_again_is_not_sent(sites: Sites) -> None:
    article, *_ = make_article(sites)
    third = add(Tag, sites.local, name="c")
    sites.send()

    article.tags.add(third)
    article.tags.remove(third)
    report = sites.send()

    assert written(report) == {}
    assert tags_there(sites) == ["a", "b"]


def test_members_that_the_remote_lacks_come_along(sites: Sites) -> None:
    article, *_ = make_article(sites)
    with DisableSynchroLog():
        third = add(Tag, sites.local, name="c")

    article.tags.add(third)
    sites.send()

    assert tags_there(sites) == ["a", "b", "c"]


def test_a_change_of_members_alone_leaves_the_fields_of_the_object(sites: Sites) -> None:
    article, *_ = make_article(sites)
    change(sites.there(Article).get(), text="theirs")

    article.tags.add(add(Tag, sites.local, name="c"))
    sites.send()

    assert sites.arrived(Article, "title", "text") == [("ours", "theirs")]
    assert tags_there(sites) == ["a", "b", "c"]


def test_members_of_an_object_that_only_changed_its_fields_stay(sites: Sites) -> None:
    article, *_ = make_article(sites)
    sites.there(Article).get().tags.add(sites.there(Tag).get(name="x"))

    change(article, text="new")
    sites.send()

    assert tags_there(sites) == ["a", "b", "x"]
    assert sites.arrived(Article, "text") == ["new"]


def test_members_of_a_deleted_object_go_with_it(sites: Sites) -> None:
    article, *_ = make_article(sites)

    article.delete()
    sites.send()

    assert sites.arrived(Article) == []
    assert sites.there(Article.tags.through).count() == 0
    assert sites.there(Tag).count() == 5


def test_a_member_that_is_deleted_goes(sites: Sites) -> None:
    _article, tag, _ = make_article(sites)

    tag.delete()
    sites.send()

    assert tags_there(sites) == ["b"]
    assert sites.arrived(Tag, "name") == ["b", "x", "y", "z"]


@crossed
def test_links_among_objects_of_one_model_keep_their_direction(sites: Sites) -> None:
    first, second, third = (add(Article, sites.local, title=title) for title in "abc")
    first.see_also.add(second)
    first.twins.add(third)
    sites.send()

    there = {article.title: article for article in sites.there(Article)}
    assert list(there["a"].see_also.all()) == [there["b"]]
    assert list(there["b"].see_also.all()) == []
    assert list(there["a"].twins.all()) == [there["c"]]
    assert list(there["c"].twins.all()) == [there["a"]]

    third.twins.remove(first)
    second.seen_from.clear()
    sites.send()

    assert list(there["a"].see_also.all()) == list(there["a"].twins.all()) == list(there["c"].twins.all()) == []
    sites.send_nothing()


@crossed
def test_rows_of_an_explicit_through_model_travel_with_their_columns(sites: Sites, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "article"),)
    article = add(Article, sites.local, title="ours")
    author = add(Author, sites.local, name="Ann")
    agency = add(Agency, sites.local, name="far away")

    authorship = add(Authorship, sites.local, article=article, author=author, agency=agency, share=3)
    sites.send()
    names = ("article__title", "author__name", "agency__name", "share")
    assert sites.arrived(Authorship, *names) == [("ours", "Ann", "far away", 3)]

    change(authorship, share=4)
    sites.send()
    assert sites.arrived(Authorship, *names) == [("ours", "Ann", "far away", 4)]

    article.authors.clear()
    sites.send()
    assert sites.arrived(Authorship) == []
    assert sites.arrived(Author, "name") == ["Ann"]

    article.authors.add(author, through_defaults={"share": 5})
    author.articles.add(add(Article, sites.local, title="second"), through_defaults={"share": 6})
    sites.send()
    assert sites.arrived(Authorship, "article__title", "share") == [("ours", 5), ("second", 6)]
    sites.send_nothing()


@crossed
def test_rows_of_an_explicit_through_model_that_only_the_remote_has_stay(sites: Sites) -> None:
    article = add(Article, sites.local, title="ours")
    author = add(Author, sites.local, name="Ann")
    add(Authorship, sites.local, article=article, author=author)
    sites.send()
    theirs = add(Author, sites.remote, name="Bob")
    add(Authorship, sites.remote, article=sites.there(Article).get(), author=theirs, share=9)

    rows(Authorship, sites.local).get().delete()
    sites.send()

    assert sites.arrived(Authorship, "author__name", "share") == [("Bob", 9)]


# Deletions


def test_an_object_that_was_sent_is_deleted_by_its_mapping(sites: Sites) -> None:
    add(Product, sites.remote, name="theirs")
    product = add(Product, sites.local, name="ours")
    sites.send()

    product.delete()
    sites.send()

    assert sites.arrived(Product, "name") == ["theirs"]


def test_an_object_that_was_never_sent_is_deleted_by_its_key(sites: Sites) -> None:
    with DisableSynchroLog():
        for code in ("de", "pl"):
            add(Country, sites.remote, code=code)
        country = add(Country, sites.local, code="pl")

    country.delete()
    report = sites.send()

    assert sites.arrived(Country, "code") == ["de"]
    assert written(report) == {"deleted": {"logged.Country": 1}}


def test_an_object_that_was_never_sent_is_deleted_by_its_nested_key(sites: Sites) -> None:
    with DisableSynchroLog():
        for using in (sites.local, sites.remote):
            for code in ("pl", "de") if using == sites.local else ("de", "pl"):
                country = add(Country, using, code=code)
                add(City, using, country=country, name="Frankfurt")

    City.objects.using(sites.local).get(country__code="pl").delete()
    sites.send()

    assert sites.arrived(City, "country__code") == ["de"]


def test_an_object_goes_by_its_nested_key_though_the_parent_went_with_it(sites: Sites) -> None:
    with DisableSynchroLog():
        for using in (sites.local, sites.remote):
            for code in ("pl", "de") if using == sites.local else ("de", "pl"):
                add(City, using, country=add(Country, using, code=code), name="Frankfurt")

    Country.objects.using(sites.local).get(code="pl").delete()
    sites.send()

    assert sites.arrived(City, "country__code") == ["de"]
    assert sites.arrived(Country, "code") == ["de"]


def test_an_object_of_which_little_was_read_is_deleted_by_its_key(sites: Sites) -> None:
    with DisableSynchroLog():
        for using in (sites.local, sites.remote):
            add(Country, using, code="pl", name="Polska")

    Country.objects.using(sites.local).only("name").get().delete()
    sites.send()

    assert sites.arrived(Country) == []


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_key_that_two_objects_of_the_remote_have_is_a_conflict_and_no_guess(sites: Sites, is_deleted: bool) -> None:
    with DisableSynchroLog():
        for code in ("pl", "pl"):
            add(Country, sites.remote, code=code, name="theirs")
        add(Country, sites.local, code="unknown")
        country = add(Country, sites.local, code="pl", name="ours")
    pk = str(country.pk)
    if is_deleted:
        country.delete()
    else:
        country.save()
    add(Tag, sites.local, name="good")

    report = sites.send()

    assert sites.arrived(Country, "code", "name") == [("pl", "theirs"), ("pl", "theirs")]
    assert sites.arrived(Tag, "name") == ["good"]
    (problem,) = [*report.get_unresolved(), *report.failures]
    assert (problem["model"], problem["pk"]) == ("logged.Country", pk)
    assert all(f"logged.Country.{there.pk}" in problem["reason"] for there in sites.there(Country))
    assert sites.get_pending() == {"logged.Country": 1}


def test_an_object_that_was_never_sent_and_has_no_key_is_not_deleted(sites: Sites) -> None:
    with DisableSynchroLog():
        add(Product, sites.remote, name="lamp")
        product = add(Product, sites.local, name="lamp")

    product.delete()
    report = sites.send()

    assert sites.arrived(Product, "name") == ["lamp"]
    assert written(report) == {}
    assert report.failures == []
    sites.send_nothing()


def test_an_object_that_the_remote_does_not_have_is_deleted_without_a_word(sites: Sites) -> None:
    with DisableSynchroLog():
        country = add(Country, sites.local, code="pl")
        product = add(Product, sites.local, name="lamp")

    country.delete()
    product.delete()
    report = sites.send()

    assert written(report) == {}
    assert (report.failures, report.conflicts) == ([], [])
    assert sites.get_pending() == {}


def test_what_hangs_on_a_deleted_object_goes_with_it_if_we_sent_it(sites: Sites) -> None:
    shelf = add(Shelf, sites.local, name="top")
    for title in "ab":
        add(Book, sites.local, shelf=shelf, title=title)
    sites.send()

    shelf.delete()
    report = sites.send()

    assert written(report) == {"deleted": {"logged.Shelf": 1, "logged.Book": 2}}
    assert (sites.arrived(Shelf), sites.arrived(Book)) == ([], [])


def test_a_row_that_only_the_remote_has_is_not_deleted_with_what_it_hangs_on(sites: Sites) -> None:
    shelf = add(Shelf, sites.local, name="top")
    add(Book, sites.local, shelf=shelf, title="ours")
    other = add(Product, sites.local, name="lamp")
    sites.send()
    add(Book, sites.remote, shelf=sites.there(Shelf).get(), title="theirs")

    shelf.delete()
    change(other, price=5)
    report = sites.send()

    assert sites.arrived(Shelf, "name") == ["top"]
    assert "theirs" in sites.arrived(Book, "title")
    (conflict,) = report.get_unresolved()
    assert "logged.Shelf" in conflict["reason"]
    assert "logged.Book" in conflict["reason"]
    assert sites.arrived(Product, "price") == [5]


def test_an_optional_link_to_a_deleted_object_becomes_null(sites: Sites) -> None:
    boss = add(Employee, sites.local, name="Ann")
    add(Employee, sites.local, name="Bob", boss=boss)
    sites.send()
    add(Employee, sites.remote, name="Carl", boss=sites.there(Employee).get(name="Ann"))

    boss.delete()
    sites.send()

    assert sites.arrived(Employee, "name") == ["Bob", "Carl"]
    assert set(sites.there(Employee).values_list("boss", flat=True)) == {None}


def test_an_optional_link_to_a_deleted_object_becomes_null_in_a_row_that_another_object_needs(sites: Sites) -> None:
    boss = add(Employee, sites.local, name="Ann")
    clerk = add(Employee, sites.local, name="Bob", boss=boss)
    sites.send()

    boss.delete()
    clerk.refresh_from_db()
    add(Team, sites.local, name="red", lead=clerk)
    report = sites.send()

    assert (report.failures, report.get_unresolved()) == ([], [])
    assert sites.arrived(Employee, "name", "boss") == [("Bob", None)]
    assert sites.arrived(Team, "name", "lead__name") == [("red", "Bob")]
    sites.send_nothing()


# Fields that do not travel


def test_a_field_that_does_not_travel_gets_its_default_when_the_object_is_created(sites: Sites) -> None:
    account = add(Account, sites.local, name="ann", cash=7, visits=42)

    sites.send()

    assert sites.arrived(Account, "cash", "visits") == [(7, 5)]
    account.refresh_from_db()
    assert account.visits == 42


def test_a_field_that_does_not_travel_keeps_the_value_of_the_remote(sites: Sites) -> None:
    account = add(Account, sites.local, name="ann", cash=7)
    sites.send()
    change(sites.there(Account).get(), visits=11)

    change(account, cash=8, visits=42)
    sites.send()

    assert sites.arrived(Account, "cash", "visits") == [(8, 11)]


def test_a_field_that_does_not_travel_keeps_the_value_of_an_object_that_is_found_by_its_key(sites: Sites) -> None:
    with DisableSynchroLog():
        add(Account, sites.remote, name="ann", cash=1, visits=11)
    add(Account, sites.local, name="ann", cash=7, visits=42)

    sites.send()

    assert sites.arrived(Account, "cash", "visits") == [(7, 11)]


def test_a_change_of_nothing_but_what_does_not_travel_sends_nothing(sites: Sites) -> None:
    account = add(Account, sites.local, name="ann", cash=7)
    sites.send()

    change(account, visits=42)
    report = sites.send()

    assert written(report) == {}
    assert sites.arrived(Account, "cash", "visits") == [(7, 5)]


# Which side is the newer one


def both_sides(sites: Sites, *, local: dt.datetime, remote: dt.datetime) -> None:
    """Make a country on both sites by itself, and say when."""
    add(Country, sites.local, code="pl", name="ours")
    add(Country, sites.remote, code="pl", name="theirs")
    date_log(sites.local, local)
    date_log(sites.remote, remote)


@pytest.mark.parametrize(("is_older", "kept"), [(True, "theirs"), (False, "ours")])
def test_at_first_contact_the_newer_object_wins(sites: Sites, is_older: bool, kept: str) -> None:
    moments = [ago(hours=1), ago(hours=2)]
    both_sides(sites, local=moments[is_older], remote=moments[not is_older])

    report = sites.send()

    assert sites.arrived(Country, "name") == [kept]
    assert written(report) == ({} if kept == "theirs" else {"updated": {"logged.Country": 1}})
    sites.send_nothing()


def test_at_first_contact_an_object_that_the_remote_did_not_log_loses(sites: Sites) -> None:
    both_sides(sites, local=ago(days=1000), remote=ago(hours=1))
    forget_log(sites.remote)

    sites.send()

    assert sites.arrived(Country, "name") == ["ours"]


@pytest.mark.parametrize(("policy", "kept"), [("local", "ours"), ("remote", "theirs")])
@pytest.mark.parametrize("is_older", [True, False])
@crossed
def test_other_policies_ask_for_no_dates(sites: Sites, policy: str, kept: str, is_older: bool) -> None:
    moments = [ago(hours=1), ago(hours=2)]
    both_sides(sites, local=moments[is_older], remote=moments[not is_older])

    sites.send(on_conflict=policy)

    assert sites.arrived(Country, "name") == [kept]


@pytest.mark.parametrize(("is_older", "kept", "resolved"), [(True, "theirs", "remote"), (False, "ours", "local")])
def test_of_two_changes_of_one_field_the_newer_one_wins(sites: Sites, is_older: bool, kept: str, resolved: str) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    last = {using: ChangeLog.objects.using(using).latest("pk").pk for using in (sites.local, sites.remote)}
    change(product, text="ours")
    change(sites.there(Product).get(), text="theirs")
    moments = [dt.datetime.now(tz=dt.UTC) + dt.timedelta(minutes=5), dt.datetime.now(tz=dt.UTC)]
    date_log(sites.local, moments[is_older], pk__gt=last[sites.local])
    date_log(sites.remote, moments[not is_older], pk__gt=last[sites.remote])

    report = sites.send()

    assert sites.arrived(Product, "text") == [kept]
    (conflict,) = report.conflicts
    assert (conflict["model"], conflict["pk"]) == ("logged.Product", str(product.pk))
    assert (conflict["fields"], conflict["resolved"]) == ({"text": ["ours", "theirs"]}, resolved)
    assert (sites.get_pending(), report.failures) == ({}, [])
    sites.send_nothing()


def test_a_change_that_the_remote_did_not_log_loses(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    with DisableSynchroLog():
        change(sites.there(Product).get(), text="theirs")
    change(product, text="ours")

    sites.send()

    assert sites.arrived(Product, "text") == ["ours"]


def test_only_fields_that_changed_here_are_sent(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp", text="a", price=1)
    sites.send()
    change(sites.there(Product).get(), text="theirs")

    change(product, price=2)
    report = sites.send()

    assert sites.arrived(Product, "text", "price") == [("theirs", 2)]
    assert {conflict["resolved"] for conflict in report.conflicts} <= {"merged"}
    sites.send_nothing()


def test_a_save_that_changes_nothing_overwrites_nothing(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    change(sites.there(Product).get(), text="theirs")

    product.save()
    report = sites.send()

    assert sites.arrived(Product, "text") == ["theirs"]
    assert (written(report), report.skipped) == ({}, {"logged.Product": 1})


@pytest.mark.django_db(databases=DATABASES)
def test_of_two_sites_that_send_to_a_third_the_newer_change_wins(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    add(Country, "default", code="pl", name="newer")
    add(Country, "pg_local", code="pl", name="older")
    date_log("default", ago(hours=1))
    date_log("pg_local", ago(hours=2))

    Sites("default", "remote").send()
    report = Sites("pg_local", "remote").send()

    assert written(report) == {}
    assert [country.name for country in rows(Country, "remote")] == ["newer"]
    forget_caches()


def move_apart(sites: Sites, *, local: dt.datetime, remote: dt.datetime) -> None:
    """Let the last entries of both logs be of these moments."""
    for using, moment in ((sites.local, local), (sites.remote, remote)):
        date_log(using, moment, pk=ChangeLog.objects.using(using).latest("pk").pk)


SOONER, LATER = ago(seconds=-60), ago(seconds=-120)


@pytest.mark.parametrize(
    ("policy", "is_older", "is_kept"),
    [("newer", True, True), ("newer", False, False), ("local", True, False), ("remote", False, True)],
)
def test_an_object_that_was_deleted_here_and_changed_there_is_decided_by_the_policy(
    sites: Sites, policy: str, is_older: bool, is_kept: bool
) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    product.delete()
    change(sites.there(Product).get(), text="theirs")
    move_apart(sites, local=SOONER if is_older else LATER, remote=LATER if is_older else SOONER)

    report = sites.send(on_conflict=policy)

    assert sites.arrived(Product, "text") == (["theirs"] if is_kept else [])
    assert [conflict["resolved"] for conflict in report.conflicts] == ["remote" if is_kept else "local"]
    assert sites.get_pending() == {}
    sites.send_nothing(on_conflict=policy)


@pytest.mark.parametrize(
    ("policy", "is_older", "is_there"),
    [("newer", True, False), ("newer", False, True), ("local", True, True), ("remote", False, False)],
)
def test_an_object_that_was_changed_here_and_deleted_there_is_decided_by_the_policy(
    sites: Sites, policy: str, is_older: bool, is_there: bool
) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    change(product, text="ours")
    sites.there(Product).get().delete()
    move_apart(sites, local=SOONER if is_older else LATER, remote=LATER if is_older else SOONER)

    sites.send(on_conflict=policy)

    assert sites.arrived(Product, "text") == (["ours"] if is_there else [])
    assert sites.get_pending() == {}
    sites.send_nothing(on_conflict=policy)


# Conflicts that no policy resolves


@crossed
def test_first_contact_with_other_content_under_fail_stays_pending(sites: Sites) -> None:
    both_sides(sites, local=ago(hours=1), remote=ago(hours=2))
    add(Tag, sites.local, name="good")

    report = sites.send(on_conflict="fail")

    assert [conflict["model"] for conflict in report.get_unresolved()] == ["logged.Country"]
    assert (sites.arrived(Country, "name"), sites.arrived(Tag, "name")) == (["theirs"], ["good"])
    assert sites.get_pending() == {"logged.Country": 1}


@crossed
def test_a_deletion_of_what_the_remote_changed_under_fail_stays_pending(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    change(sites.there(Product).get(), text="theirs")
    pk = product.pk
    product.delete()

    report = sites.send(on_conflict="fail")

    assert [conflict["pk"] for conflict in report.get_unresolved()] == [str(pk)]
    assert sites.arrived(Product, "text") == ["theirs"]
    assert sites.get_pending() == {"logged.Product": 1}


def test_a_conflict_under_fail_stays_pending_and_the_rest_arrives(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    other = add(Product, sites.local, name="table")
    sites.send()
    change(product, text="ours")
    change(other, text="new")
    change(sites.there(Product).get(name="lamp"), text="theirs")

    report = sites.send(on_conflict="fail")

    (conflict,) = report.get_unresolved()
    assert (conflict["pk"], conflict["fields"]) == (str(product.pk), {"text": ["ours", "theirs"]})
    assert sites.arrived(Product, "name", "text") == [("lamp", "theirs"), ("table", "new")]
    assert sites.get_pending() == {"logged.Product": 1}
    sites.send(on_conflict="local")
    assert sites.arrived(Product, "name", "text") == [("lamp", "ours"), ("table", "new")]
    assert sites.get_pending() == {}


def test_a_unique_number_that_another_object_of_the_remote_has_is_a_conflict_of_one_object(
    sites: Sites, settings: Any
) -> None:
    settings.GESTORE_SYNC = {"IDENTITY": {"logged.Invoice": ["code"]}}
    add(Invoice, sites.remote, code="theirs", number=1)
    bad = add(Invoice, sites.local, code="bad", number=1)
    add(Invoice, sites.local, code="good", number=2)

    report = sites.send()

    assert sites.arrived(Invoice, "code", "number") == [("good", 2), ("theirs", 1)]
    problems = [*report.get_unresolved(), *report.failures]
    assert [(problem["model"], problem["pk"]) for problem in problems] == [("logged.Invoice", str(bad.pk))]
    assert sites.get_pending() == {"logged.Invoice": 1}

    change(bad, number=3)
    sites.send()

    assert sites.arrived(Invoice, "code", "number") == [("bad", 3), ("good", 2), ("theirs", 1)]
    assert sites.get_pending() == {}


# One bad object


def refuse(sites: Sites) -> None:
    """Let the remote refuse books and products with the text "bad"."""
    refuse_text(sites.remote, "logged_product", "text", "bad")


def test_one_bad_object_does_not_block_the_rest(sites: Sites) -> None:
    refuse(sites)
    add(Country, sites.local, code="first")
    good = [add(Product, sites.local, name=f"good {number}") for number in range(3)]
    bad = add(Product, sites.local, name="bad", text="bad")
    good.append(add(Product, sites.local, name="good 3"))
    add(Tag, sites.local, name="last")

    report = sites.send()

    assert sites.arrived(Product, "name") == [product.name for product in good]
    assert (sites.there(Country).count(), sites.there(Tag).count()) == (1, 1)
    (failure,) = report.failures
    assert (failure["model"], failure["pk"]) == ("logged.Product", str(bad.pk))
    assert "no_such_text" in failure["reason"]
    assert report.created["logged.Product"] == 4


def test_a_bad_object_stays_pending_until_it_is_mended(sites: Sites) -> None:
    refuse(sites)
    bad = add(Product, sites.local, name="bad", text="bad")
    add(Product, sites.local, name="good")
    sites.send()
    assert sites.get_pending() == {"logged.Product": 1}

    again = sites.send()
    assert [failure["pk"] for failure in again.failures] == [str(bad.pk)]
    assert written(again) == {}

    change(bad, text="mended")
    report = sites.send()

    assert report.failures == []
    assert sites.arrived(Product, "name", "text") == [("bad", "mended"), ("good", "")]
    assert sites.get_pending() == {}
    sites.send_nothing()


def test_a_bad_object_that_is_deleted_again_is_forgotten(sites: Sites) -> None:
    refuse(sites)
    bad = add(Product, sites.local, name="bad", text="bad")
    sites.send()

    bad.delete()
    report = sites.send()

    assert (report.failures, sites.get_pending()) == ([], {})
    sites.send_nothing()


def test_many_bad_objects_are_all_named_and_the_rest_arrives(sites: Sites) -> None:
    refuse(sites)
    everyone = [add(Product, sites.local, name=f"{n:02}", text="bad" if n % 3 == 0 else "") for n in range(30)]

    report = sites.send()

    assert sites.arrived(Product, "name") == [f"{n:02}" for n in range(30) if n % 3]
    assert sorted(int(failure["pk"]) for failure in report.failures) == [everyone[n].pk for n in range(0, 30, 3)]
    assert sites.get_pending() == {"logged.Product": 10}


def test_members_of_a_bad_object_wait_with_it(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_article", "text", "bad")
    bad, good = (add(Article, sites.local, title=text, text=text) for text in ("bad", "good"))
    tag = add(Tag, sites.local, name="a")
    tag.articles.add(bad, good)

    report = sites.send()

    assert [failure["pk"] for failure in report.failures if failure["model"] == "logged.Article"] == [str(bad.pk)]
    assert [article.title for article in sites.there(Tag).get().articles.all()] == ["good"]
    change(bad, text="mended")
    sites.send()
    assert sorted(article.title for article in sites.there(Tag).get().articles.all()) == ["bad", "good"]
    assert sites.get_pending() == {}


def test_a_bad_change_leaves_the_object_as_the_remote_has_it(sites: Sites) -> None:
    bad, good = (add(Product, sites.local, name=name) for name in ("bad", "good"))
    sites.send()
    refuse(sites)
    change(bad, text="bad", price=1)
    change(good, price=1)

    report = sites.send()

    assert [failure["pk"] for failure in report.failures] == [str(bad.pk)]
    assert sites.arrived(Product, "name", "text", "price") == [("bad", "", 0), ("good", "", 1)]


def test_objects_that_need_a_bad_one_wait_with_it(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_shelf", "name", "bad")
    bad, good = (add(Shelf, sites.local, name=name) for name in ("bad", "good"))
    waiting = add(Book, sites.local, shelf=bad, title="waiting")
    add(Book, sites.local, shelf=good, title="arrives")

    report = sites.send()

    assert sites.arrived(Shelf, "name") == ["good"]
    assert sites.arrived(Book, "title") == ["arrives"]
    told = {(problem["model"], problem["pk"]) for problem in [*report.failures, *report.get_unresolved()]}
    assert ("logged.Shelf", str(bad.pk)) in told
    assert told <= {("logged.Shelf", str(bad.pk)), ("logged.Book", str(waiting.pk))}

    change(bad, name="mended")
    sites.send()

    assert sites.arrived(Book, "title", "shelf__name") == [("arrives", "good"), ("waiting", "mended")]
    assert sites.get_pending() == {}


def test_a_receiver_that_fails_for_one_object_does_not_block_the_rest(sites: Sites) -> None:
    bad = add(Product, sites.local, name="bad")
    for name in ("good", "better"):
        add(Product, sites.local, name=name)

    def fail(instance: Any, using: str, **kwargs: Any) -> None:
        if using == sites.remote and instance.name == "bad":
            raise RuntimeError("not this one")

    with receiving(post_save, fail, Product):
        report = sites.send()

    assert sites.arrived(Product, "name") == ["better", "good"]
    (failure,) = report.failures
    assert failure["pk"] == str(bad.pk)
    assert "not this one" in failure["reason"]
    sites.send()
    assert sites.arrived(Product, "name") == ["bad", "better", "good"]


def test_a_deletion_that_is_refused_does_not_block_the_rest(sites: Sites) -> None:
    bad, good = (add(Product, sites.local, name=name) for name in ("bad", "good"))
    sites.send()
    number = str(bad.pk)
    bad.delete()
    good.delete()

    def fail(instance: Any, using: str, **kwargs: Any) -> None:
        if using == sites.remote and instance.name == "bad":
            raise RuntimeError("not this one")

    with receiving(pre_delete, fail, Product):
        report = sites.send()

    assert sites.arrived(Product, "name") == ["bad"]
    assert [failure["pk"] for failure in report.failures] == [number]
    sites.send()
    assert sites.arrived(Product, "name") == []


def test_strict_writes_nothing_where_one_object_is_bad(sites: Sites) -> None:
    refuse(sites)
    bad = add(Product, sites.local, name="bad", text="bad")
    add(Product, sites.local, name="good")
    add(Tag, sites.local, name="good")

    with pytest.raises(GestoreSyncError, match=f"logged.Product.{bad.pk}"):
        sites.send(strict=True)

    assert (sites.arrived(Product), sites.arrived(Tag)) == ([], [])
    assert sites.get_pending() == {"logged.Product": 2, "logged.Tag": 1}
    change(bad, text="mended")
    sites.send(strict=True)
    assert sites.arrived(Product, "name") == ["bad", "good"]
    sites.send_nothing(strict=True)


def test_strict_writes_nothing_where_there_is_a_conflict(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    other = add(Product, sites.local, name="table")
    sites.send()
    change(product, text="ours")
    change(other, text="new")
    change(sites.there(Product).get(name="lamp"), text="theirs")

    with pytest.raises(GestoreSyncError, match=f"logged.Product.{product.pk}"):
        sites.send(strict=True, on_conflict="fail")

    assert sites.arrived(Product, "name", "text") == [("lamp", "theirs"), ("table", "")]


def test_a_run_without_its_bad_objects_is_all_or_nothing_as_well(sites: Sites) -> None:
    for name in "ab":
        add(Product, sites.local, name=name)
    stop = KeyboardInterrupt()

    def fail(instance: Any, using: str, **kwargs: Any) -> None:
        if using == sites.remote and instance.name == "b":
            raise stop

    with receiving(post_save, fail, Product), pytest.raises(KeyboardInterrupt):
        sites.send()

    assert sites.arrived(Product) == []
    sites.send()
    assert sites.arrived(Product, "name") == ["a", "b"]


@contextmanager
def refusing(using: str) -> Iterator[None]:
    """Let a database refuse products with the text "bad", for the time of the block."""
    refuse_text(using, "logged_product", "text", "bad")
    try:
        yield
    finally:
        if connections[using].vendor == "postgresql":
            execute(using, "ALTER TABLE logged_product DROP CONSTRAINT no_such_text")
        else:
            execute(using, "DROP TRIGGER no_such_text_INSERT", "DROP TRIGGER no_such_text_UPDATE")


def test_one_bad_object_does_not_block_the_rest_with_real_commits(live_pair: Pair, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(live_pair) as sites, refusing(sites.remote):
        bad = add(Product, sites.local, name="bad", text="bad")
        for name in ("good", "better"):
            add(Product, sites.local, name=name)
        add(Shelf, sites.local, name="top")

        report = sites.send()

        assert [failure["pk"] for failure in report.failures] == [str(bad.pk)]
        assert sites.arrived(Product, "name") == ["better", "good"]
        assert sites.arrived(Shelf, "name") == ["top"]
        assert sites.get_pending() == {"logged.Product": 1}
        with pytest.raises(GestoreSyncError, match=f"logged.Product.{bad.pk}"):
            sites.send(strict=True)
        change(bad, text="mended")
        assert sites.send().message == DONE
        assert sites.arrived(Product, "name") == ["bad", "better", "good"]
        assert sites.send().message == NO_CHANGES
        assert sites.back.send().message == NO_CHANGES


# Roots


def make_shelves(sites: Sites) -> tuple[Shelf, Shelf]:
    """Make two shelves with a book each, on both sites."""
    shelves = tuple(add(Shelf, sites.local, name=name) for name in ("mine", "other"))
    for shelf in shelves:
        add(Book, sites.local, shelf=shelf, title=shelf.name)
    sites.send()
    return shelves  # type: ignore[return-value]


@crossed
def test_changes_of_a_root_are_those_that_the_log_holds_inside_it(sites: Sites) -> None:
    mine, other = make_shelves(sites)
    for book in rows(Book, sites.local):
        change(book, text="new")
    add(Book, sites.local, shelf=mine, title="added")
    add(Book, sites.local, shelf=other, title="added elsewhere")
    with DisableSynchroLog():
        change(mine, name="not logged")
        add(Book, sites.local, shelf=mine, title="not logged")

    report = sites.send(mine, changes=True)

    assert sites.arrived(Book, "title", "text") == [("added", ""), ("mine", "new"), ("other", "")]
    assert sites.arrived(Shelf, "name") == ["mine", "other"]
    assert written(report) == {"created": {"logged.Book": 1}, "updated": {"logged.Book": 1}}
    assert sites.get_pending() == {"logged.Book": 2}
    sites.send()
    assert sites.arrived(Book, "title", "text") == [
        ("added", ""),
        ("added elsewhere", ""),
        ("mine", "new"),
        ("other", "new"),
    ]
    sites.send_nothing()


@crossed
def test_changes_of_a_root_include_what_was_deleted_inside_it(sites: Sites) -> None:
    mine, _other = make_shelves(sites)
    for book in rows(Book, sites.local):
        book.delete()

    sites.send(mine, changes=True)

    assert sites.arrived(Book, "title") == ["other"]
    sites.send()
    assert sites.arrived(Book, "title") == []


@crossed
def test_changes_of_a_root_include_its_members(sites: Sites) -> None:
    article, tag, other = make_article(sites)
    second = add(Article, sites.local, title="second")
    second.tags.add(tag, other)
    sites.send()
    article.tags.remove(tag)
    second.tags.remove(tag)

    sites.send(article, changes=True)

    assert tags_there(sites) == ["b"]
    assert sites.there(Article).get(title="second").tags.count() == 2


@crossed
def test_a_root_is_pushed_whole_by_default(sites: Sites) -> None:
    mine, other = make_shelves(sites)
    with DisableSynchroLog():
        add(Book, sites.local, shelf=mine, title="not logged")
        add(Book, sites.local, shelf=other, title="elsewhere")

    sites.send(mine)

    assert sites.arrived(Book, "title") == ["mine", "not logged", "other"]


@crossed
def test_what_was_pushed_with_a_root_is_not_written_again(sites: Sites) -> None:
    mine, other = make_shelves(sites)
    for shelf in (mine, other):
        change(shelf, name=f"{shelf.name}!")
        add(Book, sites.local, shelf=shelf, title="new")

    sites.send(mine)
    report = sites.send()

    assert written(report) == {"created": {"logged.Book": 1}, "updated": {"logged.Shelf": 1}}
    assert sites.arrived(Shelf, "name") == ["mine!", "other!"]
    assert sites.there(Book).filter(title="new").count() == 2
    sites.send_nothing()


@crossed
def test_a_root_without_changes_is_nothing_to_do(sites: Sites) -> None:
    mine, other = make_shelves(sites)
    change(other, name="changed")

    report = sites.send(mine, changes=True)

    assert (report.message, written(report)) == (NO_CHANGES, {})
    assert sites.get_pending() == {"logged.Shelf": 1}


# What every other way missed


@crossed
def test_reconcile_finds_what_nobody_logged(sites: Sites) -> None:
    with DisableSynchroLog():
        add(Product, sites.remote, name="theirs")
    for name in ("changed", "deleted", "same"):
        add(Product, sites.local, name=name)
    sites.send()
    table = Product._meta.db_table
    execute(sites.local, f"UPDATE {table} SET price = 5 WHERE name = 'changed'")
    execute(sites.local, f"DELETE FROM {table} WHERE name = 'deleted'")
    execute(sites.local, f"INSERT INTO {table} (name, text, price) VALUES ('added', '', 6)")
    sites.send_nothing()

    sites.send(reconcile=True)

    assert sites.arrived(Product, "name", "price") == [("added", 6), ("changed", 5), ("same", 0), ("theirs", 0)]
    sites.send_nothing()
    sites.send_nothing(reconcile=True)


@crossed
def test_reconcile_finds_members_that_nobody_logged(sites: Sites) -> None:
    article, tag, _other = make_article(sites)
    sites.there(Article).get().tags.add(sites.there(Tag).get(name="x"))
    third = add(Tag, sites.local, name="c")
    sites.send()
    with DisableSynchroLog():
        article.tags.remove(tag)
        article.tags.add(third)
    sites.send_nothing()

    sites.send(reconcile=True)

    assert tags_there(sites) == ["b", "c", "x"]
    sites.send_nothing()


@crossed
def test_reconcile_keeps_what_the_remote_changed(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    change(sites.there(Product).get(), text="theirs")
    with DisableSynchroLog():
        change(product, price=2)

    sites.send(reconcile=True)

    assert sites.arrived(Product, "text", "price") == [("theirs", 2)]


@crossed
def test_reconcile_keeps_what_the_remote_changed_after_it_was_deleted_here(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    product.delete()
    change(sites.there(Product).get(), text="theirs")
    move_apart(sites, local=ago(seconds=120), remote=ago(seconds=60))
    sites.send()

    report = sites.send(reconcile=True)

    assert [conflict["resolved"] for conflict in report.conflicts] == ["remote"]
    assert sites.arrived(Product, "text") == ["theirs"]


@crossed
def test_reconcile_looks_at_listed_models_only(sites: Sites, settings: Any) -> None:
    settings.SYNCHRO_MODELS = (("logged", "tag"),)
    with DisableSynchroLog():
        add(Product, sites.local, name="lamp")
        add(Tag, sites.local, name="a")

    sites.send(reconcile=True)

    assert (sites.arrived(Product), sites.arrived(Tag, "name")) == ([], ["a"])


@once
def test_reconcile_can_be_asked_for_on_the_command_line(sites: Sites) -> None:
    with DisableSynchroLog():
        add(Product, sites.local, name="lamp")

    output = command(sites, "--reconcile")

    assert output.splitlines()[-1] == DONE
    assert sites.arrived(Product, "name") == ["lamp"]


# A dry run


@crossed
def test_a_dry_run_writes_nothing_and_says_what_would_be_done(sites: Sites) -> None:
    lamp, table = (add(Product, sites.local, name=name) for name in ("lamp", "table"))
    sites.send()
    change(lamp, price=1)
    table.delete()
    add(Product, sites.local, name="chair")
    before = sites.get_pending()

    with (
        CaptureQueriesContext(connections[sites.remote]) as remote,
        CaptureQueriesContext(connections[sites.local]) as local,
        read_only(sites.remote),
        read_only(sites.local),
    ):
        report = sites.send(dry_run=True)

    assert not unread(remote)
    assert not unread(local)
    assert written(report) == {kind: {"logged.Product": 1} for kind in ("created", "updated", "deleted")}
    assert report.message not in (DONE, NO_CHANGES)
    assert sites.get_pending() == before
    assert sites.arrived(Product, "name", "price") == [("lamp", 0), ("table", 0)]
    assert written(sites.send()) == written(report)


@once
def test_a_dry_run_tells_conflicts(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    change(product, text="ours")
    change(sites.there(Product).get(), text="theirs")

    report = sites.send(dry_run=True, on_conflict="fail")

    assert [(conflict["pk"], conflict["resolved"]) for conflict in report.conflicts] == [(str(product.pk), None)]


@once
def test_a_dry_run_of_reconcile_queues_nothing(sites: Sites) -> None:
    with DisableSynchroLog():
        add(Product, sites.local, name="lamp")

    with read_only(sites.local), read_only(sites.remote):
        report = sites.send(reconcile=True, dry_run=True)

    assert written(report) == {"created": {"logged.Product": 1}}
    assert sites.get_pending() == {}


# The command


def command(sites: Sites, *arguments: str) -> str:
    """Run the command; return what it prints on standard output."""
    output = io.StringIO()
    words = ["--source", sites.local, "--remote", sites.remote, *arguments]
    try:
        call_command("synchronize", *words, stdout=output, stderr=io.StringIO())
    except (CommandError, SystemExit) as error:
        error.output = output.getvalue()  # type: ignore[union-attr]
        raise
    return output.getvalue()


def fail(sites: Sites, *arguments: str) -> str:
    """Run the command, which must end with the exit code 1; return what it prints on standard output."""
    with pytest.raises((CommandError, SystemExit)) as caught:
        command(sites, *arguments)
    assert getattr(caught.value, "returncode", None) == 1 or getattr(caught.value, "code", None) == 1
    return str(caught.value.output)  # type: ignore[attr-defined,union-attr]


@crossed
def test_the_command_says_what_it_did(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")

    first, second = command(sites), command(sites)

    assert first.splitlines()[-1] == DONE
    assert "logged.Product" in first
    assert second.splitlines()[-1] == NO_CHANGES
    assert sites.arrived(Product, "name") == ["lamp"]


@crossed
def test_the_command_prints_json_alone(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")

    first, second = (json.loads(command(sites, "--format", "json")) for _ in range(2))

    assert (first["message"], first["created"]) == (DONE, {"logged.Product": 1})
    assert (second["message"], second["created"]) == (NO_CHANGES, {})
    assert first["failures"] == first["conflicts"] == []
    assert "error" not in first


@crossed
def test_a_bad_object_ends_the_command_with_1_after_the_rest_was_sent(sites: Sites) -> None:
    refuse(sites)
    add(Country, sites.local, code="good")
    bad = add(Product, sites.local, name="bad", text="bad")

    document = json.loads(fail(sites, "--format", "json"))

    (failure,) = document["failures"]
    assert failure.keys() >= {"model", "pk", "natural_key", "reason"}
    assert (failure["model"], failure["pk"], failure["natural_key"]) == ("logged.Product", str(bad.pk), None)
    assert document["created"] == {"logged.Country": 1}
    assert sites.arrived(Country, "code") == ["good"]
    assert f"logged.Product.{bad.pk}" in fail(sites)


@crossed
def test_a_failure_has_the_natural_key_of_its_object(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_country", "name", "bad")
    add(Country, sites.local, code="pl", name="bad")

    (failure,) = sites.send().failures

    assert failure["natural_key"] == ["pl"]


@crossed
def test_a_conflict_that_is_not_resolved_ends_the_command_with_1(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    change(product, text="ours")
    change(sites.there(Product).get(), text="theirs")

    document = json.loads(fail(sites, "--format", "json", "--on-conflict", "fail"))
    (conflict,) = document["conflicts"]
    assert conflict["resolved"] is None

    resolved = json.loads(command(sites, "--format", "json", "--on-conflict", "local"))
    assert [conflict["resolved"] for conflict in resolved["conflicts"]] == ["local"]


@crossed
def test_strict_on_the_command_line_writes_nothing(sites: Sites) -> None:
    refuse(sites)
    bad = add(Product, sites.local, name="bad", text="bad")
    add(Product, sites.local, name="good")

    document = json.loads(fail(sites, "--strict", "--format", "json"))

    assert f"logged.Product.{bad.pk}" in document["error"]
    assert [failure["pk"] for failure in document["failures"]] == [str(bad.pk)]
    assert sites.arrived(Product) == []


@crossed
def test_changes_of_a_root_on_the_command_line(sites: Sites) -> None:
    mine, other = make_shelves(sites)
    change(mine, name="mine too")
    change(other, name="other too")

    command(sites, "--root", f"logged.Shelf.{mine.pk}", "--changes")

    assert sites.arrived(Shelf, "name") == ["mine too", "other"]


@once
def test_a_dry_run_on_the_command_line_shows_the_plan(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")

    output = command(sites, "--dry-run")

    assert "logged.Product" in output
    assert DONE not in output
    assert sites.arrived(Product) == []


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)
def test_the_sites_are_those_of_the_settings_by_default(sites: Sites) -> None:
    add(Product, "default", name="lamp")

    call_command("synchronize", stdout=io.StringIO())

    assert sites.arrived(Product, "name") == ["lamp"]


@crossed
def test_call_synchronize_does_what_the_command_does(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")

    messages = [call_synchronize(source=sites.local, remote=sites.remote) for _ in range(2)]

    assert messages == [DONE, NO_CHANGES]
    assert sites.arrived(Product, "name") == ["lamp"]


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)
def test_without_a_remote_there_is_one_clear_error(sites: Sites, settings: Any) -> None:
    settings.SYNCHRO_REMOTE = None
    add(Product, sites.local, name="lamp")

    with pytest.raises(WrongDatabase, match=r"No REMOTE database specified in settings\."):
        api.synchronize()
    with pytest.raises(CommandError, match=r"No REMOTE database specified in settings\."):
        call_command("synchronize", stdout=io.StringIO())

    sites.send()
    assert sites.arrived(Product, "name") == ["lamp"]


# Several sites


@pytest.mark.django_db(databases=DATABASES)
def test_each_remote_gets_every_change_once(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    first, second = Sites("default", "remote"), Sites("default", "pg_remote")
    lamp = add(Product, "default", name="lamp")
    table = add(Product, "default", name="table")

    first.send()
    assert (first.get_pending(), second.get_pending()) == ({}, {"logged.Product": 2})
    change(lamp, price=1)
    first.send()
    second.send()

    assert first.arrived(Product, "name", "price") == second.arrived(Product, "name", "price")
    table.delete()
    second.send()
    assert second.arrived(Product, "name") == ["lamp"]
    assert first.arrived(Product, "name") == ["lamp", "table"]
    first.send()
    assert first.arrived(Product, "name") == ["lamp"]
    first.send_nothing()
    second.send_nothing()
    forget_caches()


@pytest.mark.django_db(databases=DATABASES)
def test_an_object_that_went_before_a_remote_heard_of_it_is_never_sent_there(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    first, second = Sites("default", "remote"), Sites("default", "pg_remote")
    product = add(Product, "default", name="lamp")
    first.send()
    product.delete()

    first.send()
    report = second.send()

    assert first.arrived(Product) == second.arrived(Product) == []
    assert (written(report), report.failures) == ({}, [])
    forget_caches()


@pytest.mark.django_db(databases=DATABASES)
def test_several_sites_send_to_one_remote(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    first, second = Sites("default", "remote"), Sites("pg_local", "remote")
    for site in (first, second):
        add(Product, site.local, name=f"of {site.local}")
        add(Country, site.local, code="pl", name="Polska")
        site.send()
    for site in (first, second):
        change(rows(Product, site.local).get(), price=5)
        site.send()

    assert first.arrived(Product, "name", "price") == [("of default", 5), ("of pg_local", 5)]
    assert first.arrived(Country, "code") == ["pl"]
    first.send_nothing()
    second.send_nothing()
    forget_caches()


# Both directions


def test_what_arrived_is_not_sent_back(sites: Sites) -> None:
    article, tag, _ = make_article(sites)
    product = add(Product, sites.local, name="lamp")
    add(Opera, sites.local, name="Scala")
    sites.send()
    change(product, price=1)
    article.tags.remove(tag)
    add(Product, sites.local, name="short").delete()
    sites.back.send()
    change(product, price=2)
    sites.send()

    sites.back.send_nothing()

    assert sites.back.get_pending() == {}
    assert read_log(sites.remote, "logged.Product")


def test_both_sites_send_what_they_have(sites: Sites) -> None:
    lamp = add(Product, sites.local, name="lamp")
    table = add(Product, sites.remote, name="table")
    add(Country, sites.local, code="pl", name="Polska")
    add(Country, sites.remote, code="de", name="Deutschland")
    assert lamp.pk == table.pk

    sites.send()
    sites.back.send()

    for site in (sites, sites.back):
        assert site.arrived(Product, "name") == ["lamp", "table"]
        assert site.arrived(Country, "code") == ["de", "pl"]
        site.send_nothing()


def test_an_object_is_changed_on_either_site_in_turn(sites: Sites) -> None:
    ours = add(Product, sites.local, name="lamp")
    sites.send()
    theirs = sites.there(Product).get()

    for price in range(1, 4):
        change(theirs, price=price)
        assert written(sites.back.send()) == {"updated": {"logged.Product": 1}}
        sites.send_nothing()
        ours.refresh_from_db()
        assert ours.price == price
        change(ours, text=f"text {price}")
        assert written(sites.send()) == {"updated": {"logged.Product": 1}}
        sites.back.send_nothing()
        theirs.refresh_from_db()
        assert theirs.text == f"text {price}"


def test_an_object_is_deleted_where_it_did_not_come_from(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")
    add(Country, sites.local, code="pl")
    sites.send()

    sites.there(Product).get().delete()
    sites.there(Country).get().delete()
    sites.back.send()

    assert (list(sites.here(Product)), list(sites.here(Country))) == ([], [])
    sites.send_nothing()
    sites.back.send_nothing()


def test_members_change_on_either_site(sites: Sites) -> None:
    article, _tag, other = make_article(sites)
    sites.back.send()
    theirs = sites.there(Article).get()

    theirs.tags.remove(sites.there(Tag).get(name="a"))
    theirs.tags.add(sites.there(Tag).get(name="x"))
    article.tags.remove(other)
    article.tags.add(Tag.objects.using(sites.local).get(name="y"))
    sites.back.send()
    sites.send()

    assert sorted(article.tags.values_list("name", flat=True)) == ["x", "y"]
    assert tags_there(sites) == ["x", "y"]
    sites.send_nothing()
    sites.back.send_nothing()


def test_a_change_of_one_field_on_each_site_ends_with_both_on_both(sites: Sites) -> None:
    ours = add(Product, sites.local, name="lamp")
    sites.send()
    change(sites.there(Product).get(), price=9)
    change(ours, text="ours")

    sites.send()
    sites.back.send()

    for site in (sites, sites.back):
        assert site.arrived(Product, "text", "price") == [("ours", 9)]
        site.send_nothing()


def test_a_change_that_lost_is_replaced_on_the_way_back(sites: Sites) -> None:
    ours = add(Product, sites.local, name="lamp")
    sites.send()
    change(ours, text="older")
    change(sites.there(Product).get(), text="newer")
    date_log(sites.local, ago(seconds=-60), pk=ChangeLog.objects.using(sites.local).latest("pk").pk)
    date_log(sites.remote, ago(seconds=-120), pk=ChangeLog.objects.using(sites.remote).latest("pk").pk)

    sites.send()
    sites.back.send()

    for site in (sites, sites.back):
        assert site.arrived(Product, "text") == ["newer"]
        site.send_nothing()


# A remote without our tables


def test_a_remote_without_our_tables_gets_everything_too(sites: Sites) -> None:
    drop_our_tables(sites.remote)
    product = add(Product, sites.local, name="lamp")
    country = add(Country, sites.local, code="pl")
    article = add(Article, sites.local, title="ours")
    article.tags.add(add(Tag, sites.local, name="a"))

    first = sites.send()
    sites.send_nothing()
    change(product, price=1)
    country.delete()
    article.tags.clear()
    sites.send()

    assert any("migrate gestore_sync" in warning for warning in first.warnings)
    assert sites.arrived(Product, "name", "price") == [("lamp", 1)]
    assert sites.arrived(Country) == []
    assert tags_there(sites) == []
    sites.send_nothing()


# Signals on the remote


def listen(sites: Sites, heard: list[Any]) -> Any:
    """A handler that keeps what it hears of the remote."""

    def hear(sender: Any, instance: Any, using: str, **kwargs: Any) -> None:
        if using == sites.remote:
            heard.append((instance.name, using, instance._state.db, kwargs.get("created")))

    return hear


@pytest.mark.parametrize("signals", ["raw", "save"])
@crossed
def test_handlers_are_called_for_the_objects_of_the_remote(sites: Sites, settings: Any, signals: str) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": signals}
    product = add(Product, sites.local, name="lamp")
    heard: list[Any] = []
    hear = listen(sites, heard)

    with receiving(post_save, hear, Product), receiving(post_delete, hear, Product):
        sites.send()
        change(product, price=1)
        sites.send()
        product.delete()
        sites.send()

    assert heard == [("lamp", sites.remote, sites.remote, created) for created in (True, False, None)]


@crossed
def test_handlers_are_told_that_an_object_is_a_copy(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")
    told: list[Any] = []

    def hear(using: str, raw: bool, **kwargs: Any) -> None:
        told.append((using, raw))

    with receiving(pre_save, hear, Product), receiving(post_save, hear, Product):
        sites.send()

    assert told == [(sites.remote, True), (sites.remote, True)]


@crossed
def test_handlers_of_members_are_called(sites: Sites) -> None:
    article, tag, _ = make_article(sites)
    heard: list[Any] = []

    def hear(action: str, using: str, pk_set: Any, **kwargs: Any) -> None:
        heard.append((action, using, pk_set))

    article.tags.remove(tag)
    with receiving(m2m_changed, hear, Article.tags.through):
        sites.send()

    there = sites.there(Tag).get(name="a").pk
    assert ("post_remove", sites.remote, {there}) in heard


def increment(sender: Any, using: str, **kwargs: Any) -> None:
    """The handler of django-synchro's bad scenario."""
    stock = Stock.objects.using(using).get()
    stock.bar += 1
    stock.save(using=using)


@pytest.mark.parametrize("signals", ["raw", "save"])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_handler_that_saves_another_object_overwrites_nothing_on_the_remote(
    sites: Sites, settings: Any, signals: str, is_new: bool
) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": signals}
    add(Stock, sites.local)
    if not is_new:
        sale = add(Sale, sites.local, name="old")
    sites.send()
    change(sites.there(Stock).get(), foo=42)

    with receiving(post_save, increment, Sale):
        if is_new:
            add(Sale, sites.local, name="X")
        else:
            change(sale, name="X")
        sites.send()

    assert (sites.here(Stock).get().foo, sites.here(Stock).get().bar) == (1, 2)
    assert (sites.there(Stock).get().foo, sites.there(Stock).get().bar) == (42, 2)
    assert sites.arrived(Sale, "name") == ["X"]
    sites.send_nothing()


@crossed
def test_a_handler_that_is_not_logged_works_on_both_sites_by_itself(sites: Sites) -> None:
    add(Stock, sites.local)
    sites.send()
    change(sites.there(Stock).get(), foo=42)

    def quiet(**kwargs: Any) -> None:
        with DisableSynchroLog():
            increment(**kwargs)

    with receiving(post_save, quiet, Sale):
        add(Sale, sites.local, name="X")
        sites.send()

    assert sites.here(Stock).get().bar == 2
    assert (sites.there(Stock).get().foo, sites.there(Stock).get().bar) == (42, 2)


@crossed
def test_a_handler_that_a_site_has_for_itself_is_news_of_that_site(sites: Sites) -> None:
    """What a handler adds on the remote by itself is not lost for the way back."""
    add(Product, sites.local, name="lamp")

    def note(using: str, instance: Any, **kwargs: Any) -> None:
        if using == sites.remote:
            add(Tag, using, name=f"saw {instance.name}")

    with receiving(post_save, note, Product):
        sites.send()
    sites.back.send()

    assert sites.arrived(Tag, "name") == ["saw lamp"]
    assert [tag.name for tag in sites.here(Tag)] == ["saw lamp"]


# What a site can tell


@crossed
def test_the_overview_tells_what_is_pending_and_what_was_done(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")
    add(Product, sites.local, name="table")
    add(Country, sites.local, code="pl")
    before = api.get_overview(sites.local, sites.remote)
    assert {label: number for label, number in before.pending.items() if number} == {
        "logged.Product": 2,
        "logged.Country": 1,
    }

    sites.send()
    after = api.get_overview(sites.local, sites.remote)

    assert not any(after.pending.values())
    assert (after.source, after.remote, str(after.problem)) == (sites.local, sites.remote, "")
    assert after.runs[0].counts["created"] == {"logged.Product": 2, "logged.Country": 1}
    assert after.checkpoint > before.checkpoint


@crossed
def test_a_run_that_sent_something_is_on_record_on_both_sites(sites: Sites) -> None:
    from gestore_sync.models import SyncRun

    add(Product, sites.local, name="lamp")
    sites.send()
    sites.send_nothing()

    assert SyncRun.objects.using(sites.remote).get().counts["created"] == {"logged.Product": 1}
    assert api.get_overview(sites.local, sites.remote).runs[0].uuid == SyncRun.objects.using(sites.remote).get().uuid


# How much it asks


@pytest.mark.parametrize("model", [Product, Country])
@crossed
def test_queries_grow_with_batches_and_not_with_objects(sites: Sites, model: type[models.Model]) -> None:
    name = "code" if model is Country else "name"

    def count(number: int, prefix: str) -> list[int]:
        for index in range(number):
            add(model, sites.local, **{name: f"{prefix}{index}"})
        with (
            CaptureQueriesContext(connections[sites.local]) as local,
            CaptureQueriesContext(connections[sites.remote]) as remote,
        ):
            sites.send()
        return [len(local), len(remote)]

    count(1, "first")
    few, many = count(5, "few"), count(80, "many")

    assert all(b <= a + 3 for a, b in zip(few, many, strict=True)), (few, many)


def test_cycles_of_links_arrive_as_they_are(sites: Sites) -> None:
    team = add(Team, sites.local, name="red")
    boss = add(Employee, sites.local, name="Ann", team=team)
    clerk = add(Employee, sites.local, name="Bob", team=team, boss=boss)
    change(team, lead=boss)
    change(boss, boss=clerk)

    sites.send()

    there = sites.there(Team).get()
    assert (there.lead.name, there.lead.boss.name, there.lead.boss.boss.name) == ("Ann", "Bob", "Ann")
    assert there.employee_set.count() == 2
    sites.send_nothing()

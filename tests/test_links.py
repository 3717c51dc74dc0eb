from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import models

from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import Pair
from tests.kinds.making import make, make_crowd, make_many, renumber_content_types
from tests.kinds.models import (
    Album,
    Alpha,
    Artist,
    Asset,
    Beta,
    Bookmark,
    Chicken,
    City,
    Club,
    Clue,
    Country,
    Currency,
    Delta,
    Dish,
    Egg,
    Gamma,
    Invoice,
    Label,
    License,
    Line,
    Membership,
    Mentoring,
    Mirror,
    Node,
    Note,
    Order,
    Page,
    Person,
    Player,
    Rating,
    Restaurant,
    Rumour,
    Seal,
    Secret,
    Shop,
    Song,
    Tag,
    Team,
    Visit,
)
from tests.kinds.pushing import Sync, content, restart_numbers, watched

Graph = list[tuple[Any, ...]]


@pytest.fixture
def sync(pair: Pair) -> Iterator[Sync]:
    with watched(pair) as sync:
        yield sync


def pairs(sync: Sync, model: type[models.Model], *names: str) -> set[tuple[Any, ...]]:
    """Return these values of every row that the target has of a model."""
    return set(sync.on_target(model).values_list(*names))


# Foreign keys


def test_rows_behind_required_foreign_keys_travel_with_their_root(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order, Shop)
    shop = make(Shop, sync.source, name="ours")
    first = make(Order, sync.source, shop=shop, number="first")
    second = make(Order, sync.source, shop=shop, number="second")
    for text in ("a", "b"):
        make(Line, sync.source, order=first, text=text)
    make(Line, sync.source, order=second, text="c")
    make(Line, sync.source, text="of another shop")

    report = sync.push(shop)

    assert report.created == {"kinds.Currency": 1, "kinds.Shop": 1, "kinds.Order": 2, "kinds.Line": 3}
    lines = sync.on_target(Line).filter(order__shop__name="ours").values_list("order__number", "text")
    assert sorted(lines) == [("first", "a"), ("first", "b"), ("second", "c")]
    assert not sync.on_target(Line).filter(text="of another shop").exists()
    sync.assert_nothing_to_do(shop)


def test_an_optional_foreign_key_arrives_set_or_null_as_it_was(sync: Sync) -> None:
    make_crowd(sync.target, Order, Shop, Currency)
    shop = make(Shop, sync.source)
    make(Order, sync.source, shop=shop, number="with", currency=make(Currency, sync.source, code="EUR"))
    make(Order, sync.source, shop=shop, number="without", currency=None)

    sync.push(shop)

    ours = sync.on_target(Order).filter(number__in=("with", "without"))
    assert dict(ours.values_list("number", "currency__code")) == {"with": "EUR", "without": None}
    sync.assert_nothing_to_do(shop)


def test_an_optional_foreign_key_that_is_set_or_emptied_later_follows(sync: Sync) -> None:
    make_crowd(sync.target, Order, Shop, Currency)
    shop = make(Shop, sync.source)
    euro = make(Currency, sync.source, code="EUR")
    emptied = make(Order, sync.source, shop=shop, number="emptied", currency=euro)
    filled = make(Order, sync.source, shop=shop, number="filled", currency=None)
    sync.push(shop)
    emptied.currency, filled.currency = None, euro
    emptied.save()
    filled.save()

    report = sync.push(shop)

    assert report.updated == {"kinds.Order": 2}
    ours = sync.on_target(Order).filter(number__in=("emptied", "filled"))
    assert dict(ours.values_list("number", "currency__code")) == {"emptied": None, "filled": "EUR"}
    sync.assert_nothing_to_do(shop)


def test_two_links_to_one_model_are_kept_apart(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Currency)
    first, second = make(Currency, sync.source, code="ONE"), make(Currency, sync.source, code="TWO")
    shop = make(Shop, sync.source, name="ours", currency=first, second_currency=second)

    sync.push(shop)

    assert pairs(sync, Shop, "name", "currency__code", "second_currency__code") >= {("ours", "ONE", "TWO")}
    sync.assert_nothing_to_do(shop)


def test_a_referred_row_that_the_target_has_is_left_as_it_is(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Currency)
    make(Currency, sync.target, code="EUR", title="theirs")
    shop = make(Shop, sync.source, name="ours", currency=make(Currency, sync.source, code="EUR", title="ours"))

    report = sync.push(shop)

    assert report.created == {"kinds.Shop": 1}
    assert report.matched == {"kinds.Currency": 1}
    assert pairs(sync, Shop, "name", "currency__title") >= {("ours", "theirs")}
    sync.assert_nothing_to_do(shop)


def test_what_hangs_on_a_referred_row_stays_behind(sync: Sync) -> None:
    make_crowd(sync.target, Shop)
    currency = make(Currency, sync.source, code="EUR")
    shop = make(Shop, sync.source, name="ours", currency=currency)
    make_many(Shop, sync.source, 2, currency=currency)

    report = sync.push(shop)

    assert sync.on_target(Shop).filter(currency__code="EUR").count() == 1
    assert report.left_behind["kinds.Currency"] == {"kinds.Shop.currency": 2}
    sync.assert_nothing_to_do(shop)


def test_a_referred_row_is_created_whole(sync: Sync) -> None:
    make_crowd(sync.target, Order, Shop, License, Tag)
    shop = make(Shop, sync.source, name="ours", seal=make(Seal, sync.source, title="seal"))
    make(License, sync.source, shop=shop, number="L-1")
    shop.tags.add(make(Tag, sync.source, name="tag"))
    make(Invoice, sync.source, shop=shop, number="left behind")
    order = make(Order, sync.source, shop=shop, number="ours")

    report = sync.push(order)

    ours = sync.on_target(Order).get(number="ours").shop
    assert (ours.seal.title, ours.license.number, ours.tags.get().name) == ("seal", "L-1", "tag")
    assert report.left_behind["kinds.Shop"] == {"kinds.Invoice.shop": 1}
    sync.assert_nothing_to_do(order)


def test_what_only_a_matched_row_points_to_stays_behind(sync: Sync) -> None:
    make_crowd(sync.target, Order, Shop)
    shop = make(Shop, sync.source, name="ours")
    order = make(Order, sync.source, shop=shop, number="ours")
    sync.push(order)
    shop.seal = make(Seal, sync.source, title="seal")
    shop.save()
    shop.tags.add(make(Tag, sync.source, name="tag"))

    sync.assert_nothing_to_do(order)

    assert not sync.on_target(Seal).exists()
    assert not sync.on_target(Tag).exists()


def test_what_only_a_matched_row_points_to_stays_behind_though_it_shares_a_new_row(sync: Sync) -> None:
    first, other = (make(Restaurant, sync.source, name=name) for name in ("first", "other"))
    dish = make(Dish, sync.source, restaurant=first, name="soup")
    ours = make(Restaurant, sync.source, name="ours", speciality=dish)
    sync.push(ours)
    currency = make(Currency, sync.source, code="EUR")
    Restaurant.objects.using(sync.source).filter(pk__in=[ours.pk, other.pk]).update(currency=currency)
    dish.restaurant = other
    dish.save()

    report = sync.push(ours)

    assert report.created == {"kinds.Currency": 1}
    assert set(sync.on_target(Restaurant).values_list("name", flat=True)) == {"first", "ours"}
    sync.assert_nothing_to_do(ours)


def test_a_row_that_moves_to_another_parent_moves_on_the_target(sync: Sync) -> None:
    make_crowd(sync.target, Line, Order)
    shop = make(Shop, sync.source)
    old, new = (make(Order, sync.source, shop=shop, number=number) for number in ("old", "new"))
    line = make(Line, sync.source, order=old, text="moving")
    sync.push(shop)
    line.order = new
    line.save()

    report = sync.push(shop)

    assert (report.created, report.updated) == ({}, {"kinds.Line": 1})
    assert list(sync.on_target(Line).filter(text="moving").values_list("order__number")) == [("new",)]
    sync.assert_nothing_to_do(shop)


def test_a_link_without_an_accessor_is_followed_backwards(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Secret)
    shop = make(Shop, sync.source, name="ours")
    make_many(Secret, sync.source, 2, shop=shop, text="hush")

    report = sync.push(shop)

    assert report.created["kinds.Secret"] == 2
    assert list(sync.on_target(Secret).filter(shop__name="ours").values_list("text", flat=True)) == ["hush"] * 2
    sync.assert_nothing_to_do(shop)


def test_protected_rows_belong_to_what_they_protect(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Invoice)
    shop = make(Shop, sync.source, name="ours")
    make(Invoice, sync.source, shop=shop, number="2026/1")

    sync.push(shop)

    assert pairs(sync, Invoice, "number", "shop__name") >= {("2026/1", "ours")}
    sync.assert_nothing_to_do(shop)


def test_restricted_rows_belong_to_what_they_restrict(sync: Sync) -> None:
    make_crowd(sync.target, Artist, Album, Song)
    album = make(Album, sync.source, artist=make(Artist, sync.source, name="ours"), title="album")
    make(Song, sync.source, artist=album.artist, album=album, title="song")
    guest = make(Artist, sync.source, name="guest")
    make(Song, sync.source, artist=guest, album=album, title="by the guest")

    sync.push(album)

    ours = sync.on_target(Song).filter(album__title="album", album__artist__name="ours")
    assert set(ours.values_list("title", "artist__name")) == {("song", "ours"), ("by the guest", "guest")}
    sync.assert_nothing_to_do(album)


def test_rows_restricted_inside_the_owned_set_travel_from_the_top(sync: Sync) -> None:
    make_crowd(sync.target, Song, Album, Artist)
    artist = make(Artist, sync.source, name="ours")
    for title in ("one", "two"):
        make(
            Song,
            sync.source,
            artist=artist,
            album=make(Album, sync.source, artist=artist, title=title),
            title=title,
        )

    report = sync.push(artist)

    assert report.created == {"kinds.Artist": 1, "kinds.Album": 2, "kinds.Song": 2}
    ours = sync.on_target(Song).filter(artist__name="ours", album__artist__name="ours")
    assert set(ours.values_list("title", "album__title")) == {("one", "one"), ("two", "two")}
    sync.assert_nothing_to_do(artist)


# Rows that survive what they link to


@pytest.mark.parametrize("model", [Visit, Bookmark, Rumour, Rating])
def test_rows_that_survive_the_root_are_mentioned_and_not_taken(sync: Sync, model: type[models.Model]) -> None:
    make_crowd(sync.target, Shop, model)
    shop = make(Shop, sync.source)
    make_many(model, sync.source, 3, shop=shop, text="ours")
    make(model, sync.source, text="of another shop")

    report = sync.push(shop)

    assert report.mentions == {f"{model._meta.label}.shop": 3}
    assert not sync.on_target(model).filter(text="ours").exists()
    sync.assert_nothing_to_do(shop)


@pytest.mark.parametrize("model", [Visit, Bookmark, Rumour, Rating])
def test_rows_that_survive_the_root_are_taken_on_demand(sync: Sync, model: type[models.Model]) -> None:
    make_crowd(sync.target, Shop, model)
    shop = make(Shop, sync.source, name="ours")
    make_many(model, sync.source, 3, shop=shop, text="ours")
    make(model, sync.source, text="of another shop")

    report = sync.push(shop, own=[f"{model._meta.label}.shop"])

    assert report.mentions == {}
    assert list(sync.on_target(model).filter(text="ours").values_list("shop__name", flat=True)) == ["ours"] * 3
    assert not sync.on_target(model).filter(text="of another shop").exists()
    sync.assert_nothing_to_do(shop, own=[f"{model._meta.label}.shop"])


# Links that the database does not enforce


def test_a_link_without_a_constraint_is_rewritten_like_any_other(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Seal, Clue)
    shop = make(Shop, sync.source, name="ours")
    make(Clue, sync.source, shop=shop, seal=make(Seal, sync.source, title="seal"), text="clue")

    sync.push(shop)

    assert pairs(sync, Clue, "text", "shop__name", "seal__title") >= {("clue", "ours", "seal")}
    sync.assert_nothing_to_do(shop)


def test_an_optional_link_to_nothing_never_points_at_an_unrelated_row(sync: Sync) -> None:
    seals = make_many(Seal, sync.target, 3)
    shop = make(Shop, sync.source, name="ours")
    make(Clue, sync.source, shop=shop, seal_id=seals[1].pk, text="clue")

    sync.push(shop)

    clue = sync.on_target(Clue).get(text="clue")
    assert clue.shop.name == "ours"
    assert clue.seal_id is None or not sync.on_target(Seal).filter(pk=clue.seal_id).exists()
    sync.assert_nothing_to_do(shop)


# Columns other than the primary key


def test_a_link_to_a_unique_column_arrives_at_the_same_row(sync: Sync) -> None:
    make_crowd(sync.target, City, Country)
    country = make(Country, sync.source, name="Poland", iso="PL")
    make(City, sync.source, name="Lublin", country=country, twin=None)
    make(
        City,
        sync.source,
        name="Gdynia",
        country=country,
        twin=make(Country, sync.source, name="Malta", iso="MT"),
    )
    make(City, sync.source, name="elsewhere")

    report = sync.push(country)

    assert report.created == {"kinds.Country": 2, "kinds.City": 2}
    ours = sync.on_target(City).filter(country__name="Poland")
    assert set(ours.values_list("name", "twin__name")) == {("Lublin", None), ("Gdynia", "Malta")}
    sync.assert_nothing_to_do(country)


def test_a_link_to_a_unique_column_takes_the_value_that_the_target_has(sync: Sync) -> None:
    make_crowd(sync.target, City, Country)
    make(Country, sync.target, name="Poland", iso="POL")
    city = make(City, sync.source, name="Lublin", country=make(Country, sync.source, name="Poland", iso="PL"))

    report = sync.push(city)

    assert report.matched == {"kinds.Country": 1}
    assert sync.on_target(City).get(name="Lublin").country_id == "POL"
    sync.assert_nothing_to_do(city)


def test_a_changed_unique_column_is_followed_by_the_links_to_it(sync: Sync) -> None:
    make_crowd(sync.target, City, Country)
    country = make(Country, sync.source, name="Poland", iso="PL")
    make(City, sync.source, name="Lublin", country=country)
    sync.push(country)
    sync.on_source(City).filter(name="Lublin").delete()
    country.iso = "POL"
    country.save()
    make(City, sync.source, name="Gdynia", country=country)

    report = sync.push(country, prune=True)

    assert report.deleted == {"kinds.City": 1}
    assert pairs(sync, City, "name", "country__iso") >= {("Gdynia", "POL")}
    sync.assert_nothing_to_do(country)


def test_a_unique_column_changes_together_with_the_links_to_it(sync: Sync) -> None:
    make_crowd(sync.target, City, Country)
    country = make(Country, sync.source, name="Poland", iso="PL")
    make(City, sync.source, name="Lublin", country=country)
    sync.push(country)
    sync.on_source(Country).update(iso="POL")
    sync.on_source(City).update(country="POL")

    report = sync.push(country)

    assert report.updated == {"kinds.Country": 1, "kinds.City": 1}
    assert pairs(sync, City, "name", "country__iso") >= {("Lublin", "POL")}
    sync.assert_nothing_to_do(country)


# One-to-one


def test_a_required_one_to_one_extension_travels_with_its_root(sync: Sync) -> None:
    make_crowd(sync.target, Shop, License)
    shop = make(Shop, sync.source, name="ours")
    make(License, sync.source, shop=shop, number="L-1")
    make(License, sync.source, number="of another shop")

    report = sync.push(shop)

    assert report.created["kinds.License"] == 1
    assert pairs(sync, License, "number", "shop__name") >= {("L-1", "ours")}
    sync.assert_nothing_to_do(shop)


def test_a_one_to_one_extension_is_found_by_what_it_extends(sync: Sync) -> None:
    make_crowd(sync.target, Shop, License)
    shop = make(Shop, sync.source, name="ours")
    sync.push(shop)
    theirs = make(License, sync.target, shop=sync.on_target(Shop).get(name="ours"), number="old")
    make(License, sync.source, shop=shop, number="new")

    report = sync.push(shop)

    assert (report.created, report.updated) == ({}, {"kinds.License": 1})
    assert sync.on_target(License).get(pk=theirs.pk).number == "new"
    sync.assert_nothing_to_do(shop)


def test_a_one_to_one_field_of_the_root_is_followed(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Seal)
    shop = make(Shop, sync.source, name="ours", seal=make(Seal, sync.source, title="seal"))
    make(Seal, sync.source, title="unused")

    report = sync.push(shop)

    assert report.created["kinds.Seal"] == 1
    assert pairs(sync, Shop, "name", "seal__title") >= {("ours", "seal")}
    sync.assert_nothing_to_do(shop)


def test_a_protecting_one_to_one_field_is_followed_from_its_far_end(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Seal)
    seal = make(Seal, sync.source, title="seal")
    shop = make(Shop, sync.source, name="ours", seal=seal)
    make(License, sync.source, shop=shop, number="L-1")

    sync.push(seal)

    assert pairs(sync, License, "number", "shop__name", "shop__seal__title") >= {("L-1", "ours", "seal")}
    sync.assert_nothing_to_do(seal)


# Many-to-many


def members(sync: Sync, name: str) -> set[str]:
    """Return the names of the tags that a shop has on the target."""
    return set(sync.on_target(Shop).get(name=name).tags.values_list("name", flat=True))


def test_members_of_a_many_to_many_field_are_matched_or_created(sync: Sync) -> None:
    make_crowd(sync.target, Tag, Shop)
    theirs = make(Tag, sync.target, name="common")
    make(Shop, sync.target, name="theirs").tags.add(theirs)
    shop = make(Shop, sync.source, name="ours")
    shop.tags.add(make(Tag, sync.source, name="rare"), make(Tag, sync.source, name="common"))
    make(Shop, sync.source, name="another").tags.add(*shop.tags.all())

    report = sync.push(shop)

    assert members(sync, "ours") == {"rare", "common"}
    assert report.created == {"kinds.Currency": 1, "kinds.Shop": 1, "kinds.Tag": 1, "kinds.Shop_tags": 2}
    assert report.matched == {"kinds.Tag": 1}
    sync.assert_nothing_to_do(shop)


def test_members_added_and_removed_on_the_source_follow(sync: Sync) -> None:
    make_crowd(sync.target, Tag, Shop)
    shop = make(Shop, sync.source, name="ours")
    kept, removed, added = (make(Tag, sync.source, name=name) for name in ("kept", "removed", "added"))
    shop.tags.add(kept, removed)
    sync.push(shop)
    shop.tags.set([kept, added])

    report = sync.push(shop)

    assert members(sync, "ours") == {"kept", "added"}
    assert report.created == {"kinds.Tag": 1, "kinds.Shop_tags": 1}
    assert report.deleted == {"kinds.Shop_tags": 1}
    assert sync.on_target(Tag).filter(name="removed").exists()
    sync.assert_nothing_to_do(shop)


def test_members_that_only_the_target_has_stay(sync: Sync) -> None:
    make_crowd(sync.target, Tag, Shop)
    shop = make(Shop, sync.source, name="ours")
    shop.tags.add(make(Tag, sync.source, name="removed"))
    sync.push(shop)
    sync.on_target(Shop).get(name="ours").tags.add(make(Tag, sync.target, name="theirs"))
    shop.tags.clear()

    report = sync.push(shop)

    assert members(sync, "ours") == {"theirs"}
    assert report.deleted == {"kinds.Shop_tags": 1}
    sync.assert_nothing_to_do(shop)


def test_a_member_that_both_sides_have_added_is_one_member(sync: Sync) -> None:
    make_crowd(sync.target, Tag, Shop)
    shop = make(Shop, sync.source, name="ours")
    sync.push(shop)
    sync.on_target(Shop).get(name="ours").tags.add(make(Tag, sync.target, name="both"))
    shop.tags.add(make(Tag, sync.source, name="both"))

    report = sync.push(shop)

    assert report.created == {}
    assert members(sync, "ours") == {"both"}
    sync.assert_nothing_to_do(shop)


def test_the_far_end_of_a_many_to_many_field_owns_its_memberships_too(sync: Sync) -> None:
    make_crowd(sync.target, Shop, Tag)
    tag = make(Tag, sync.source, name="ours")
    make(Shop, sync.source, name="one").tags.add(tag, make(Tag, sync.source, name="another"))

    sync.push(tag)

    assert set(sync.on_target(Shop).filter(tags__name="ours").values_list("name", flat=True)) == {"one"}
    sync.assert_nothing_to_do(tag)


def test_a_symmetrical_link_arrives_both_ways(sync: Sync) -> None:
    make_crowd(sync.target, Person)
    person, friend = make(Person, sync.source, name="ours"), make(Person, sync.source, name="friend")
    person.friends.add(friend)

    sync.push(person)

    ours = sync.on_target(Person).get(name="ours")
    assert [friend.name for friend in ours.friends.all()] == ["friend"]
    assert [person.name for person in sync.on_target(Person).get(name="friend").friends.all()] == ["ours"]
    sync.assert_nothing_to_do(person)


def test_a_symmetrical_link_is_removed_both_ways(sync: Sync) -> None:
    make_crowd(sync.target, Person)
    person, friend = make(Person, sync.source, name="ours"), make(Person, sync.source, name="friend")
    person.friends.add(friend)
    sync.push(person)
    person.friends.remove(friend)

    report = sync.push(person)

    assert report.deleted == {"kinds.Person_friends": 2}
    assert sync.on_target(Person).filter(friends__isnull=False).count() == 0
    sync.assert_nothing_to_do(person)


def test_a_row_that_is_its_own_friend_stays_so(sync: Sync) -> None:
    make_crowd(sync.target, Person)
    person = make(Person, sync.source, name="ours")
    person.friends.add(person)

    report = sync.push(person)

    assert report.created == {"kinds.Person": 1, "kinds.Person_friends": 1}
    assert [friend.name for friend in sync.on_target(Person).get(name="ours").friends.all()] == ["ours"]
    sync.assert_nothing_to_do(person)


def test_a_one_way_link_to_its_own_model_keeps_its_direction(sync: Sync) -> None:
    make_crowd(sync.target, Person)
    person = make(Person, sync.source, name="ours")
    person.follows.add(make(Person, sync.source, name="idol"))
    person.followers.add(make(Person, sync.source, name="fan"))

    sync.push(person)

    ours = sync.on_target(Person).get(name="ours")
    assert [person.name for person in ours.follows.all()] == ["idol"]
    assert [person.name for person in ours.followers.all()] == ["fan"]
    assert sync.on_target(Person.follows.through).count() == 2
    sync.assert_nothing_to_do(person)


def test_an_explicit_through_row_keeps_its_required_values(sync: Sync) -> None:
    make_crowd(sync.target, Club, Person, Membership)
    club, person = make(Club, sync.source, name="ours"), make(Person, sync.source, name="Ann")
    make(Membership, sync.source, club=club, person=person, role="chair", joined=dt.date(2001, 2, 3))
    make(Membership, sync.source, person=person, role="guest elsewhere")

    report = sync.push(club)

    assert report.created == {"kinds.Club": 1, "kinds.Person": 1, "kinds.Membership": 1}
    assert pairs(sync, Membership, "club__name", "person__name", "role", "joined") >= {
        ("ours", "Ann", "chair", dt.date(2001, 2, 3))
    }
    sync.assert_nothing_to_do(club)


def test_an_explicit_through_row_is_updated_and_taken_out_with_its_source(sync: Sync) -> None:
    make_crowd(sync.target, Club, Person, Membership)
    club = make(Club, sync.source, name="ours")
    changed = make(Membership, sync.source, club=club, person=make(Person, sync.source, name="Ann"), role="guest")
    removed = make(Membership, sync.source, club=club, person=make(Person, sync.source, name="Bob"))
    sync.push(club)
    theirs = sync.on_target(Club).get(name="ours")
    make(Membership, sync.target, club=theirs, person=make(Person, sync.target, name="Cid"), role="theirs")
    changed.role = "chair"
    changed.save()
    removed.delete()

    report = sync.push(club)

    assert (report.updated, report.deleted) == ({"kinds.Membership": 1}, {"kinds.Membership": 1})
    roles = sync.on_target(Membership).filter(club=theirs).values_list("person__name", "role")
    assert dict(roles) == {"Ann": "chair", "Cid": "theirs"}
    assert sync.on_target(Person).filter(name="Bob").exists()
    sync.assert_nothing_to_do(club)


def test_one_person_can_have_two_rows_in_an_explicit_table(sync: Sync) -> None:
    make_crowd(sync.target, Club, Person, Membership)
    club, person = make(Club, sync.source, name="ours"), make(Person, sync.source, name="Ann")
    for role in ("chair", "treasurer"):
        make(Membership, sync.source, club=club, person=person, role=role)

    sync.push(club)

    assert pairs(sync, Membership, "club__name", "person__name", "role") >= {
        ("ours", "Ann", "chair"),
        ("ours", "Ann", "treasurer"),
    }
    assert sync.on_target(Person).filter(name="Ann").count() == 1
    sync.assert_nothing_to_do(club)


def test_an_explicit_table_between_one_model_keeps_all_its_links(sync: Sync) -> None:
    make_crowd(sync.target, Person, Mentoring)
    pupil, mentor, witness = (make(Person, sync.source, name=name) for name in ("pupil", "mentor", "witness"))
    day = dt.date(2020, 2, 29)
    make(Mentoring, sync.source, pupil=pupil, mentor=mentor, witness=witness, since=day)
    make(Mentoring, sync.source, pupil=pupil, mentor=pupil, witness=None, since=day)

    sync.push(pupil)

    found = sync.on_target(Mentoring).filter(since=day)
    assert set(found.values_list("pupil__name", "mentor__name", "witness__name")) == {
        ("pupil", "mentor", "witness"),
        ("pupil", "pupil", None),
    }
    sync.assert_nothing_to_do(pupil)


# Generic links


def test_a_generic_relation_is_followed_and_its_links_are_rewritten(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Note, Shop)
    make_many(Note, sync.target, 2, subject=make(Shop, sync.target))
    shop = make(Shop, sync.source, name="ours")
    make_many(Note, sync.source, 2, subject=shop, text="ours")
    make(
        Note,
        sync.source,
        content_type=ContentType.objects.db_manager(sync.source).get_for_model(Order),
        object_id=shop.pk,
    )

    report = sync.push(shop)

    assert report.created["kinds.Note"] == 2
    notes = sync.on_target(Note).filter(text="ours")
    assert [note.subject for note in notes] == [sync.on_target(Shop).get(name="ours")] * 2
    sync.assert_nothing_to_do(shop)


def test_a_generic_link_with_a_text_key_and_other_names_is_rewritten(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Shop, Order)
    shop = make(Shop, sync.source, name="ours")
    make(Label, sync.source, subject=shop, text="label")

    sync.push(shop)

    label = sync.on_target(Label).get(text="label")
    ours = sync.on_target(Shop).get(name="ours")
    assert (label.key, label.subject) == (str(ours.pk), ours)
    sync.assert_nothing_to_do(shop)


@pytest.mark.parametrize(
    ("model", "values"),
    [(Asset, {"uid": "7d2c0f3e-4a87-4c1b-8a55-0123456789ab"}), (Page, {"path": "shop/v1.2/ü"}), (Shop, {})],
)
def test_the_subject_of_a_generic_link_is_referred_to(
    sync: Sync, model: type[models.Model], values: dict[str, Any]
) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, model, Order)
    label = make(Label, sync.source, subject=make(model, sync.source, **values), text="label")

    report = sync.push(label)

    assert report.created[model._meta.label] == 1
    subject = sync.on_target(Label).get(text="label").subject
    assert isinstance(subject, model)
    assert all(str(getattr(subject, name)) == value for name, value in values.items())
    sync.assert_nothing_to_do(label)


def test_a_text_key_of_a_generic_link_stays_as_it_is_written(sync: Sync) -> None:
    renumber_content_types(sync.target)
    asset = make(Asset, sync.source)
    kind = ContentType.objects.db_manager(sync.source).get_for_model(Asset)
    label = make(Label, sync.source, kind=kind, key=asset.uid.hex, text="label")

    sync.push(label)

    ours = sync.on_target(Label).get(text="label")
    assert (ours.key, ours.subject.pk) == (asset.uid.hex, asset.uid)
    sync.assert_nothing_to_do(label)


def test_a_generic_link_without_a_generic_relation_is_a_mention(sync: Sync) -> None:
    make_crowd(sync.target, Order, Note)
    order = make(Order, sync.source, number="ours")
    make_many(Note, sync.source, 2, subject=order, text="ours")

    report = sync.push(order)

    assert report.mentions == {"kinds.Note.subject": 2}
    assert not sync.on_target(Note).filter(text="ours").exists()
    sync.assert_nothing_to_do(order)


def test_a_generic_link_without_a_generic_relation_is_taken_on_demand(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Order, Note)
    order = make(Order, sync.source, number="ours")
    make_many(Note, sync.source, 2, subject=order, text="ours")
    make(Note, sync.source, subject=make(Order, sync.source), text="another")

    sync.push(order, own=["kinds.Note.subject"])

    assert [note.subject.number for note in sync.on_target(Note).filter(text="ours")] == ["ours", "ours"]
    assert not sync.on_target(Note).filter(text="another").exists()
    sync.assert_nothing_to_do(order, own=["kinds.Note.subject"])


def test_one_generic_table_links_to_several_models(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Shop, Order, Tag, Note)
    shop = make(Shop, sync.source, name="ours")
    order = make(Order, sync.source, shop=shop, number="ours")
    for subject in (shop, order):
        make(Note, sync.source, subject=subject, text=type(subject).__name__)

    sync.push(shop, own=["kinds.Note.subject"])

    found = {note.text: note.subject for note in sync.on_target(Note).filter(text__in=["Shop", "Order"])}
    assert found == {
        "Shop": sync.on_target(Shop).get(name="ours"),
        "Order": sync.on_target(Order).get(number="ours"),
    }
    sync.assert_nothing_to_do(shop, own=["kinds.Note.subject"])


def test_a_generic_link_that_moves_to_a_row_of_another_model_follows(sync: Sync) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Order, Tag, Note)
    note = make(Note, sync.source, subject=make(Order, sync.source, number="old"), text="ours")
    sync.push(note)
    note.subject = make(Tag, sync.source, name="new")
    note.save()

    report = sync.push(note)

    assert report.updated == {"kinds.Note": 1}
    assert sync.on_target(Note).get(text="ours").subject == sync.on_target(Tag).get(name="new")
    sync.assert_nothing_to_do(note)


def test_an_empty_generic_link_stays_empty(sync: Sync) -> None:
    make_crowd(sync.target, Note)
    note = make(Note, sync.source, content_type=None, object_id=None, text="ours")

    sync.push(note)

    assert pairs(sync, Note, "text", "content_type", "object_id") >= {("ours", None, None)}
    sync.assert_nothing_to_do(note)


def test_a_generic_link_to_nothing_never_points_at_an_unrelated_row(sync: Sync) -> None:
    strangers = make_many(Order, sync.target, 3)
    content_type = ContentType.objects.db_manager(sync.source).get_for_model(Order)
    note = make(Note, sync.source, content_type=content_type, object_id=strangers[1].pk, text="ours")

    sync.push(note)

    assert sync.on_target(Note).get(text="ours").subject is None
    sync.assert_nothing_to_do(note)


def test_a_generic_link_to_a_model_that_is_no_more_does_not_stop_a_push(sync: Sync) -> None:
    strangers = make_many(Note, sync.target, 2)
    ghost = make(ContentType, sync.source, app_label="gone", model="ghost")
    note = make(Note, sync.source, content_type=ghost, object_id=strangers[0].pk, text="ours")

    sync.push(note)

    ours = sync.on_target(Note).get(text="ours")
    assert ours.content_type is None or ours.content_type.model == "ghost"
    sync.assert_nothing_to_do(note)


def test_a_required_generic_link_to_nothing_is_an_error_that_names_it(sync: Sync) -> None:
    strangers = make_many(Order, sync.target, 3)
    kind = ContentType.objects.db_manager(sync.source).get_for_model(Order)
    label = make(Label, sync.source, kind=kind, key=strangers[1].pk, text="ours")
    before = content(sync.target)

    with pytest.raises(GestoreSyncError) as error:
        sync.synchronize(label)

    assert f"kinds.Label.{label.pk}" in str(error.value)
    assert "kinds.Label.subject" in str(error.value)
    assert content(sync.target) == before


# Self links and trees


def test_a_row_that_links_to_itself_does_so_on_the_target(sync: Sync) -> None:
    make_crowd(sync.target, Node)
    node = make(Node, sync.source, name="ours")
    node.parent = node
    node.save()

    report = sync.push(node)

    assert report.created == {"kinds.Node": 1}
    ours = sync.on_target(Node).get(name="ours")
    assert ours.parent_id == ours.pk
    sync.assert_nothing_to_do(node)


def test_a_row_that_must_link_to_itself_does_so_on_the_target(sync: Sync) -> None:
    for pk in (1, 2):
        make(Mirror, sync.target, pk=pk, image_id=pk)
    mirror = make(Mirror, sync.source, pk=2, name="ours", image_id=2)
    restart_numbers(sync.target)

    sync.push(mirror)

    ours = sync.on_target(Mirror).get(name="ours")
    assert (ours.image_id, ours.pk not in (1, 2)) == (ours.pk, True)
    sync.assert_nothing_to_do(mirror)


def test_a_tree_travels_from_its_top_without_the_siblings_of_the_top(sync: Sync) -> None:
    make_crowd(sync.target, Node)
    trunk = make(Node, sync.source, name="trunk")
    top = make(Node, sync.source, name="top", parent=trunk)
    make(Node, sync.source, name="sibling", parent=trunk)
    branch = make(Node, sync.source, name="branch", parent=top)
    for name in ("leaf 1", "leaf 2"):
        make(Node, sync.source, name=name, parent=branch)

    report = sync.push(top)

    assert report.created == {"kinds.Node": 5}
    found = dict(sync.on_target(Node).exclude(parent=None).values_list("name", "parent__name"))
    assert found == {"top": "trunk", "branch": "top", "leaf 1": "branch", "leaf 2": "branch"}
    sync.assert_nothing_to_do(top)


def test_a_subtree_that_moves_follows(sync: Sync) -> None:
    make_crowd(sync.target, Node)
    top = make(Node, sync.source, name="top")
    left, right = (make(Node, sync.source, name=name, parent=top) for name in ("left", "right"))
    leaf = make(Node, sync.source, name="leaf", parent=left)
    sync.push(top)
    leaf.parent, right.parent = right, left
    leaf.save()
    right.save()

    sync.push(top)

    found = dict(sync.on_target(Node).exclude(parent=None).values_list("name", "parent__name"))
    assert found == {"left": "top", "right": "left", "leaf": "right"}
    sync.assert_nothing_to_do(top)


@pytest.mark.parametrize(("end", "depth"), [("top", 5000), ("bottom", 1500)])
def test_a_deep_tree_travels_from_either_end(sync: Sync, end: str, depth: int) -> None:
    make_crowd(sync.target, Node)
    numbers = list(range(1, depth + 1))
    random.Random(1).shuffle(numbers)
    parents = [None, *numbers]
    nodes = [Node(pk=pk, name=f"{level}", parent_id=parents[level]) for level, pk in enumerate(numbers)]
    sync.on_source(Node).bulk_create(nodes)
    root = nodes[0] if end == "top" else nodes[-1]

    report = sync.push(root)

    assert report.created == {"kinds.Node": depth}
    found = dict(sync.on_target(Node).exclude(parent=None).values_list("name", "parent__name"))
    assert found == {str(level): str(level - 1) for level in range(1, depth)}
    sync.assert_nothing_to_do(root)


# Cycles


@pytest.mark.parametrize("start", [Team, Player])
def test_a_cycle_over_two_models_arrives_closed(sync: Sync, start: type[models.Model]) -> None:
    make_crowd(sync.target, Player, Team)
    team = make(Team, sync.source, name="team")
    players = [make(Player, sync.source, team=team, name=name) for name in ("captain", "other")]
    team.captain = players[0]
    team.save()
    root = sync.on_source(start).get(name__in=["team", "captain"])

    sync.push(root)

    ours = sync.on_target(Player).get(name="captain")
    assert ours.team.name == "team"
    assert ours.team.captain == ours
    sync.assert_nothing_to_do(root)


def test_an_optional_link_in_a_cycle_that_changes_follows(sync: Sync) -> None:
    make_crowd(sync.target, Player, Team)
    team = make(Team, sync.source, name="team")
    team.captain = make(Player, sync.source, team=team, name="old")
    team.save()
    sync.push(team)
    team.captain = make(Player, sync.source, team=team, name="new")
    team.save()

    report = sync.push(team)

    assert (report.created, report.updated) == ({"kinds.Player": 1}, {"kinds.Team": 1})
    assert sync.on_target(Team).get(name="team").captain.name == "new"
    sync.assert_nothing_to_do(team)


def ring(using: str, name: str) -> dict[type[models.Model], Any]:
    """Make alpha ⇢ beta → gamma → alpha."""
    alpha = make(Alpha, using, name=name)
    gamma = make(Gamma, using, name=name, alpha=alpha)
    beta = make(Beta, using, name=name, gamma=gamma)
    alpha.beta = beta
    alpha.save()
    return {Alpha: alpha, Beta: beta, Gamma: gamma}


@pytest.mark.parametrize("start", [Alpha, Beta, Gamma])
def test_a_cycle_over_three_models_arrives_closed(sync: Sync, start: type[models.Model]) -> None:
    ring(sync.target, "theirs")
    make_crowd(sync.target, Alpha, Gamma, Beta)
    objects = ring(sync.source, "ours")
    ring(sync.source, "another")

    report = sync.push(objects[start])

    assert report.created == {"kinds.Alpha": 1, "kinds.Beta": 1, "kinds.Gamma": 1}
    alpha = sync.on_target(Alpha).get(name="ours")
    assert (alpha.beta.name, alpha.beta.gamma.name, alpha.beta.gamma.alpha) == ("ours", "ours", alpha)
    sync.assert_nothing_to_do(objects[start])


@pytest.mark.parametrize("start", [Alpha, Beta, Gamma, Delta])
def test_two_cycles_that_share_a_link_arrive_closed(sync: Sync, start: type[models.Model]) -> None:
    make_crowd(sync.target, Alpha, Gamma, Beta, Delta)
    objects = ring(sync.source, "ours")
    objects[Delta] = objects[Beta].delta = make(Delta, sync.source, name="ours", alpha=objects[Alpha])
    objects[Beta].save()

    report = sync.push(objects[start])

    assert report.created == {"kinds.Alpha": 1, "kinds.Beta": 1, "kinds.Gamma": 1, "kinds.Delta": 1}
    alpha = sync.on_target(Alpha).get(name="ours")
    assert (alpha.beta.gamma.alpha, alpha.beta.delta.alpha) == (alpha, alpha)
    sync.assert_nothing_to_do(objects[start])


def test_a_cycle_of_required_links_arrives_closed(sync: Sync) -> None:
    hatch(sync.target, 1, "theirs")
    hatch(sync.target, 2, "theirs too")
    chicken = hatch(sync.source, 2, "ours")
    hatch(sync.source, 1, "another")
    restart_numbers(sync.target)

    report = sync.push(chicken)

    assert report.created == {"kinds.Chicken": 1, "kinds.Egg": 1}
    ours = sync.on_target(Chicken).get(name="ours")
    assert (ours.egg.name, ours.egg.chicken) == ("ours", ours)
    sync.assert_nothing_to_do(chicken)


def test_a_cycle_of_required_links_over_four_rows_arrives_closed(sync: Sync) -> None:
    hatch(sync.target, 1, "theirs")
    chicken = make(Chicken, sync.source, pk=1, name="first", egg_id=1)
    make(Egg, sync.source, pk=1, name="first", chicken_id=2)
    make(Chicken, sync.source, pk=2, name="second", egg_id=2)
    make(Egg, sync.source, pk=2, name="second", chicken_id=1)
    restart_numbers(sync.target)

    sync.push(chicken)

    ours = sync.on_target(Chicken).get(name="first")
    assert (ours.egg.name, ours.egg.chicken.name, ours.egg.chicken.egg.name) == ("first", "second", "second")
    assert ours.egg.chicken.egg.chicken == ours
    sync.assert_nothing_to_do(chicken)


def hatch(using: str, number: int, name: str) -> Chicken:
    """Make a chicken and an egg that came from each other."""
    chicken = make(Chicken, using, pk=number, name=name, egg_id=number)
    make(Egg, using, pk=number, name=name, chicken=chicken)
    return chicken

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import models

from gestore_sync.exceptions import UnresolvedConflicts
from tests.conftest import Pair
from tests.kinds.making import make, make_crowd, make_many, renumber_content_types
from tests.kinds.models import (
    Amphibian,
    Asset,
    AssetFile,
    Badge,
    BadgeHolder,
    Bar,
    Bare,
    BareChild,
    BareUnique,
    Battery,
    Boat,
    Car,
    Currency,
    Dish,
    Document,
    Event,
    Folder,
    Gadget,
    GadgetPart,
    Galaxy,
    Hall,
    Hotel,
    Kiosk,
    Legacy,
    LegacyTable,
    Letter,
    Machine,
    Memo,
    Moment,
    Note,
    Page,
    PageLink,
    Paragraph,
    Person,
    Pizzeria,
    Place,
    Planet,
    Restaurant,
    Review,
    Robot,
    ScopedBase,
    Seat,
    Shelf,
    Shop,
    Slot,
    Star,
    Sticker,
    Ticket,
    Trattoria,
    Trip,
    Truck,
    Vehicle,
)
from tests.kinds.pushing import Sync, watched


@pytest.fixture
def sync(pair: Pair) -> Iterator[Sync]:
    with watched(pair) as sync:
        yield sync


def pairs(sync: Sync, model: type[models.Model], *names: str) -> set[tuple[Any, ...]]:
    """Return these values of every row that the target has of a model."""
    return set(sync.on_target(model).values_list(*names))


# Multi-table inheritance


def make_pizzeria(using: str) -> Pizzeria:
    """Make a pizzeria with something that hangs on each of its three levels."""
    pizzeria = make(Pizzeria, using, name="ours", stars=3, currency=make(Currency, using, code="EUR"), oven="stone")
    pizzeria.cooks.add(make(Person, using, name="Ann"))
    make(Review, using, place=pizzeria.place_ptr, text="fine")
    make(Dish, using, restaurant=pizzeria.restaurant_ptr, name="calzone")
    return pizzeria


@pytest.mark.parametrize("level", [Place, Restaurant, Pizzeria])
def test_an_object_over_three_tables_is_whole_from_whichever_level_it_is_named(
    sync: Sync, level: type[models.Model]
) -> None:
    make_crowd(sync.target, Place, Bar, Restaurant, Pizzeria, Dish, Review)
    make_crowd(sync.source, Place, Pizzeria)
    pizzeria = make_pizzeria(sync.source)
    root = sync.on_source(level).get(pk=pizzeria.pk)

    sync.push(root)

    ours = sync.on_target(Pizzeria).get(name="ours")
    assert (ours.stars, ours.currency.code, ours.oven) == (3, "EUR", "stone")
    assert ours.place_ptr_id == ours.restaurant_ptr.place_ptr_id
    assert [cook.name for cook in ours.cooks.all()] == ["Ann"]
    assert [review.text for review in sync.on_target(Review).filter(place_id=ours.pk)] == ["fine"]
    assert [dish.name for dish in sync.on_target(Dish).filter(restaurant_id=ours.pk)] == ["calzone"]
    assert sync.on_target(Place).filter(name="ours").count() == 1
    sync.assert_nothing_to_do(root)


@pytest.mark.parametrize("level", [Place, Restaurant, Pizzeria])
def test_a_change_at_each_level_of_an_object_is_followed(sync: Sync, level: type[models.Model]) -> None:
    make_crowd(sync.target, Place, Restaurant, Pizzeria)
    pizzeria = make_pizzeria(sync.source)
    root = sync.on_source(level).get(pk=pizzeria.pk)
    sync.push(root)
    pizzeria.name, pizzeria.stars, pizzeria.oven = "renamed", 4, "electric"
    pizzeria.save()

    sync.push(root)

    assert pairs(sync, Pizzeria, "name", "stars", "oven") >= {("renamed", 4, "electric")}
    assert not sync.on_target(Place).filter(name="ours").exists()
    sync.assert_nothing_to_do(root)


@pytest.mark.parametrize("level", [Place, Restaurant, Pizzeria])
def test_generic_relations_of_a_parent_are_those_of_each_level(sync: Sync, level: type[models.Model]) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Place, Restaurant, Pizzeria)
    pizzeria = make_pizzeria(sync.source)
    for subject in (pizzeria, pizzeria.restaurant_ptr, pizzeria.restaurant_ptr.place_ptr):
        make(Note, sync.source, subject=subject, text=type(subject).__name__)
    root = sync.on_source(level).get(pk=pizzeria.pk)

    sync.push(root)

    subjects = {note.text: note.subject for note in sync.on_target(Note)}
    assert {name: (type(subject).__name__, subject.name) for name, subject in subjects.items()} == {
        name: (name, "ours") for name in ("Place", "Restaurant", "Pizzeria")
    }
    sync.assert_nothing_to_do(root)


@pytest.mark.parametrize("start", [Place, Restaurant, Dish])
def test_a_cycle_through_the_levels_of_an_object_arrives_closed(sync: Sync, start: type[models.Model]) -> None:
    make_crowd(sync.target, Place, Dish, Restaurant)
    restaurant = make(Restaurant, sync.source, name="ours")
    restaurant.speciality = make(Dish, sync.source, restaurant=restaurant, name="ours")
    restaurant.save()
    root = sync.on_source(start).get(name="ours")

    sync.push(root)

    dish = sync.on_target(Place).get(name="ours").speciality
    assert (dish.name, dish.restaurant.name, dish.restaurant.speciality) == ("ours", "ours", dish)
    sync.assert_nothing_to_do(root)


def test_a_referred_parent_brings_its_children(sync: Sync) -> None:
    make_crowd(sync.target, Place, Restaurant, Review)
    pizzeria = make_pizzeria(sync.source)
    review = make(Review, sync.source, place=pizzeria.place_ptr, text="root")

    sync.push(review)

    place = sync.on_target(Review).get(text="root").place
    assert place.restaurant.pizzeria.oven == "stone"
    assert not sync.on_target(Review).filter(text="fine").exists()
    assert not sync.on_target(Dish).filter(name="calzone").exists()
    sync.assert_nothing_to_do(review)


def test_a_referred_child_brings_its_parents(sync: Sync) -> None:
    make_crowd(sync.target, Place, Restaurant, Dish)
    dish = make(Dish, sync.source, restaurant=make(Restaurant, sync.source, name="ours", stars=2), name="soup")

    sync.push(dish)

    assert pairs(sync, Dish, "name", "restaurant__name", "restaurant__stars") >= {("soup", "ours", 2)}
    sync.assert_nothing_to_do(dish)


def test_one_parent_with_two_children_keeps_both(sync: Sync) -> None:
    make_crowd(sync.target, Place, Bar, Restaurant)
    restaurant = make(Restaurant, sync.source, name="both", stars=2)
    bar = Bar(place_ptr=restaurant.place_ptr, name="both", drinks=40)
    bar.save(using=sync.source)

    sync.push(bar)

    place = sync.on_target(Place).get(name="both")
    assert (place.bar.drinks, place.restaurant.stars) == (40, 2)
    sync.assert_nothing_to_do(bar)


def test_a_child_that_a_known_parent_gets_later_is_added_to_it(sync: Sync) -> None:
    make_crowd(sync.target, Place, Bar, Restaurant)
    place = make(Place, sync.source, name="ours")
    sync.push(place)
    Bar(place_ptr=place, name="ours", drinks=7).save(using=sync.source)

    sync.push(place)

    assert sync.on_target(Place).get(name="ours").bar.drinks == 7
    sync.assert_nothing_to_do(place)


def test_a_child_is_added_to_the_parent_that_the_target_has(sync: Sync) -> None:
    make_crowd(sync.target, Vehicle, Truck)
    theirs = make(Vehicle, sync.target, plate="L-1", colour="old")
    sync.expect_change(theirs)
    truck = make(Truck, sync.source, plate="L-1", colour="new", load=7)

    sync.push(truck)

    ours = sync.on_target(Truck).get(plate="L-1")
    assert (ours.pk, ours.colour, ours.load) == (theirs.pk, "new", 7)
    sync.assert_nothing_to_do(truck)


def test_a_referred_child_is_added_to_the_parent_that_the_target_has(sync: Sync) -> None:
    make_crowd(sync.target, Vehicle, Truck, Trip)
    theirs = make(Vehicle, sync.target, plate="L-1", colour="theirs")
    truck = make(Truck, sync.source, plate="L-1", colour="ours", load=7)
    trip = make(Trip, sync.source, truck=truck, text="ours")

    sync.push(trip)

    found = sync.on_target(Trip).get(text="ours").truck
    assert (found.pk, found.colour, found.load) == (theirs.pk, "theirs", 7)
    sync.assert_nothing_to_do(trip)


@pytest.mark.parametrize("level", [Vehicle, Truck])
def test_an_object_over_two_tables_is_found_by_a_unique_column_of_its_parent(
    sync: Sync, level: type[models.Model]
) -> None:
    make_crowd(sync.target, Vehicle, Truck)
    theirs = make(Truck, sync.target, plate="L-1", colour="old", load=1)
    sync.expect_change(theirs)
    make(Truck, sync.source, plate="L-1", colour="new", load=2)
    root = sync.on_source(level).get(plate="L-1")

    sync.push(root)

    assert sync.on_target(Truck).filter(pk=theirs.pk).values_list("colour", "load").get() == ("new", 2)
    assert sync.on_target(Vehicle).filter(plate="L-1").count() == 1
    sync.assert_nothing_to_do(root)


def test_a_child_without_columns_of_its_own_arrives(sync: Sync) -> None:
    make_crowd(sync.target, Place, Kiosk)
    kiosk = make(Kiosk, sync.source, name="ours")

    sync.push(kiosk)

    assert sync.on_target(Kiosk).filter(name="ours").count() == 1
    sync.assert_nothing_to_do(kiosk)


def test_a_child_that_names_its_link_to_the_parent_arrives(sync: Sync) -> None:
    make_crowd(sync.target, Place, Hotel)
    hotel = make(Hotel, sync.source, name="ours", rooms=9)

    sync.push(hotel.base)

    assert pairs(sync, Hotel, "name", "rooms", "base__name") >= {("ours", 9, "ours")}
    sync.assert_nothing_to_do(hotel.base)


@pytest.mark.parametrize("level", [Car, Boat, Amphibian])
def test_a_child_of_two_parents_arrives_with_both(sync: Sync, level: type[models.Model]) -> None:
    make_crowd(sync.target, Car, Boat, Amphibian)
    make_crowd(sync.source, Boat)
    amphibian = make(Amphibian, sync.source, wheels=41, sails=17, name="ours")
    root = sync.on_source(level).get(**({"wheels": 41} if level is Car else {"sails": 17}))

    sync.push(root)

    ours = sync.on_target(Amphibian).get(name="ours")
    assert (ours.wheels, ours.sails) == (41, 17)
    assert ours.car_number != ours.boat_number
    assert amphibian.car_number != amphibian.boat_number
    sync.assert_nothing_to_do(root)


# Proxies


@pytest.mark.parametrize("as_text", [False, True])
def test_a_proxy_can_be_the_root(sync: Sync, as_text: bool) -> None:
    make_crowd(sync.target, Machine, Battery)
    robot = make(Robot, sync.source, name="ours")
    make(Battery, sync.source, robot=robot, text="full")
    root = f"kinds.Robot.{robot.pk}" if as_text else robot

    report = sync.push(root)

    assert report.created == {"kinds.Machine": 1, "kinds.Battery": 1}
    assert pairs(sync, Battery, "text", "robot__name") >= {("full", "ours")}
    sync.assert_nothing_to_do(root)


def test_links_to_a_proxy_are_links_to_its_concrete_model(sync: Sync) -> None:
    make_crowd(sync.target, Battery, Machine)
    machine = make(Machine, sync.source, name="ours")
    battery = make(Battery, sync.source, robot_id=machine.pk, text="full")

    sync.push(machine)
    sync.push(battery)

    assert sync.on_target(Battery).filter(text="full").values_list("robot__name").get() == ("ours",)
    sync.assert_nothing_to_do(machine, battery)


def test_a_proxy_of_a_child_can_be_the_root(sync: Sync) -> None:
    make_crowd(sync.target, Place, Restaurant)
    trattoria = make(Trattoria, sync.source, name="ours", stars=1)

    sync.push(trattoria)

    assert pairs(sync, Trattoria, "name", "stars") >= {("ours", 1)}
    sync.assert_nothing_to_do(trattoria)


@pytest.mark.parametrize("model", [Machine, Robot])
def test_a_generic_link_keeps_a_proxy_apart_from_its_concrete_model(sync: Sync, model: type[models.Model]) -> None:
    renumber_content_types(sync.target)
    make_crowd(sync.target, Machine, Battery)
    sticker = make(Sticker, sync.source, subject=make(model, sync.source, name="ours"), text="sticker")

    sync.push(sticker)

    subject = sync.on_target(Sticker).get(text="sticker").subject
    assert (type(subject), subject.name) == (model, "ours")
    sync.assert_nothing_to_do(sticker)


# Primary keys


def test_an_automatic_key_with_another_name_is_rewritten(sync: Sync) -> None:
    make_crowd(sync.target, Gadget, GadgetPart)
    gadget = make(Gadget, sync.source, name="ours")
    make_many(GadgetPart, sync.source, 2, gadget=gadget, name="part")

    report = sync.push(f"kinds.Gadget.{gadget.number}")

    assert report.created == {"kinds.Gadget": 1, "kinds.GadgetPart": 2}
    assert [part.gadget.name for part in sync.on_target(GadgetPart).filter(name="part")] == ["ours", "ours"]
    sync.assert_nothing_to_do(gadget)


@pytest.mark.parametrize("level", [Person, Badge, BadgeHolder])
def test_a_key_that_is_a_link_is_rewritten(sync: Sync, level: type[models.Model]) -> None:
    make_crowd(sync.target, Person, Badge, BadgeHolder)
    person = make(Person, sync.source, name="ours")
    badge = make(Badge, sync.source, person=person, text="badge")
    neighbour = make(Badge, sync.source, text="neighbour")
    make(BadgeHolder, sync.source, badge=badge, neighbour=neighbour, text="holder")
    root = sync.on_source(level).get(pk=person.pk)

    sync.push(root)

    holder = sync.on_target(BadgeHolder).get(text="holder")
    assert (holder.badge.text, holder.badge.person.name, holder.neighbour.text) == (
        "badge",
        "ours",
        "neighbour",
    )
    sync.assert_nothing_to_do(root)


def test_a_uuid_is_the_same_on_both_sides(sync: Sync) -> None:
    make_crowd(sync.target, Asset, AssetFile)
    asset = make(Asset, sync.source, title="ours")
    make(AssetFile, sync.source, asset=asset, name="file")

    report = sync.push(f"kinds.Asset.{asset.uid}")

    assert report.created == {"kinds.Asset": 1, "kinds.AssetFile": 1}
    assert pairs(sync, AssetFile, "name", "asset__pk", "asset__title") >= {("file", asset.uid, "ours")}
    sync.assert_nothing_to_do(asset)


def test_an_object_with_the_same_uuid_is_the_same_object(sync: Sync) -> None:
    make_crowd(sync.target, Asset)
    uid = uuid.uuid4()
    sync.expect_change(make(Asset, sync.target, uid=uid, title="old"))
    asset = make(Asset, sync.source, uid=uid, title="new")

    report = sync.push(asset)

    assert (report.created, report.updated) == ({}, {"kinds.Asset": 1})
    assert sync.on_target(Asset).get(pk=uid).title == "new"
    sync.assert_nothing_to_do(asset)


def test_members_with_uuids_are_members_on_the_target(sync: Sync) -> None:
    make_crowd(sync.target, Shelf, Asset)
    shelf = make(Shelf, sync.source, name="ours")
    shelf.assets.set(make_many(Asset, sync.source, 3))
    make(Asset, sync.target, uid=shelf.assets.first().uid, title="theirs")

    report = sync.push(shelf)

    assert report.created == {"kinds.Shelf": 1, "kinds.Asset": 2, "kinds.Shelf_assets": 3}
    found = sync.on_target(Shelf).get(name="ours").assets.values_list("pk", flat=True)
    assert set(found) == {asset.pk for asset in shelf.assets.all()}
    sync.assert_nothing_to_do(shelf)


def test_a_text_is_the_same_on_both_sides(sync: Sync) -> None:
    make_crowd(sync.target, Page, PageLink)
    paths = ["a", "shop/v1.2/index.html", "kinds.Page.1", " ü%_'\"\\", "1", "ABC", "abc", "\n", "x" * 200]
    for path in paths:
        page = make(Page, sync.source, path=path, title="ours")
        make(PageLink, sync.source, page=page, to=make(Page, sync.source, path=f"to{path}"[:200]), text="link")
    roots = [f"kinds.Page.{path}" for path in paths]

    report = sync.push(*roots)

    assert report.created == {"kinds.Page": 2 * len(paths), "kinds.PageLink": len(paths)}
    links = sync.on_target(PageLink).filter(text="link").values_list("page", "to")
    assert set(links) == {(path, f"to{path}"[:200]) for path in paths}
    sync.assert_nothing_to_do(*roots)


def test_a_big_integer_is_the_same_on_both_sides(sync: Sync) -> None:
    make_crowd(sync.target, Star, Planet)
    numbers = [0, -1, 2**31, 2**63 - 1, -(2**63), -(2**63) + 1]
    for number in numbers:
        make(Planet, sync.source, star=make(Star, sync.source, number=number, name="ours"), name="planet")
    roots = [f"kinds.Star.{number}" for number in numbers]

    sync.push(*roots)

    planets = sync.on_target(Planet).filter(name="planet")
    assert set(planets.values_list("star", "star__name")) == {(number, "ours") for number in numbers}
    sync.assert_nothing_to_do(*roots)


def test_a_point_in_time_is_the_same_on_both_sides(sync: Sync) -> None:
    make_crowd(sync.target, Moment, Event)
    at = dt.datetime(2026, 11, 21, 10, 9, 8, 7, tzinfo=dt.UTC)
    theirs = make(Moment, sync.target, at=at, name="old")
    sync.expect_change(theirs)
    moments = [make(Moment, sync.source, at=at + dt.timedelta(microseconds=number), name="new") for number in (0, 1)]
    for moment in moments:
        make(Event, sync.source, moment=moment, name=str(moment.at.microsecond))

    report = sync.push(*moments)

    assert (report.created, report.updated) == ({"kinds.Moment": 1, "kinds.Event": 2}, {"kinds.Moment": 1})
    events = sync.on_target(Event).filter(moment__name="new")
    assert dict(events.values_list("name", "moment")) == {"7": moments[0].at, "8": moments[1].at}
    sync.assert_nothing_to_do(*moments)


def test_automatic_keys_beyond_four_bytes_are_rewritten(sync: Sync) -> None:
    make_crowd(sync.target, Galaxy)
    galaxy = make(Galaxy, sync.source, pk=2**62, name="ours")
    make(Galaxy, sync.source, pk=2**62 + 1, name="moon", parent=galaxy)

    sync.push(galaxy)

    assert pairs(sync, Galaxy, "name", "parent__name") >= {("moon", "ours")}
    sync.assert_nothing_to_do(galaxy)


def test_a_composite_key_with_a_link_in_it_is_rewritten(sync: Sync) -> None:
    make_crowd(sync.target, Hall, Seat)
    hall = make(Hall, sync.source, name="ours")
    for number in (1, 2):
        make(Seat, sync.source, hall=hall, number=number, name=f"seat {number}")
    make(Seat, sync.source, number=1, name="in another hall")

    report = sync.push(hall)

    assert report.created == {"kinds.Hall": 1, "kinds.Seat": 2}
    seats = sync.on_target(Seat).filter(hall__name="ours")
    assert set(seats.values_list("number", "name")) == {(1, "seat 1"), (2, "seat 2")}
    sync.assert_nothing_to_do(hall)


def test_an_object_with_a_composite_key_is_updated_through_it(sync: Sync) -> None:
    make_crowd(sync.target, Hall, Seat)
    hall = make(Hall, sync.source, name="ours")
    seat = make(Seat, sync.source, hall=hall, number=1, name="old")
    sync.push(hall)
    seat.name = "new"
    seat.save()

    report = sync.push(hall)

    assert (report.created, report.updated) == ({}, {"kinds.Seat": 1})
    assert list(sync.on_target(Seat).filter(hall__name="ours").values_list("number", "name")) == [(1, "new")]
    sync.assert_nothing_to_do(hall)


def test_a_conflict_names_a_composite_key_as_people_name_it(sync: Sync) -> None:
    hall = make(Hall, sync.source, name="ours")
    seat = make(Seat, sync.source, hall=hall, number=7, name="old")
    sync.push(hall)
    sync.on_source(Seat).update(name="mine")
    sync.on_target(Seat).update(name="theirs")

    with pytest.raises(UnresolvedConflicts) as caught:
        sync.synchronize(hall, on_conflict="fail")

    assert caught.value.report is not None
    assert [conflict["pk"] for conflict in caught.value.report.conflicts] == [f"{seat.hall_id},7"]


def test_an_object_with_a_composite_key_can_be_the_root(sync: Sync) -> None:
    make_crowd(sync.target, Hall, Seat)
    seat = make(Seat, sync.source, hall=make(Hall, sync.source, name="ours"), number=5, name="seat")
    make(Seat, sync.source, hall=seat.hall, number=6, name="next")

    report = sync.push(seat)

    assert report.created == {"kinds.Hall": 1, "kinds.Seat": 1}
    assert pairs(sync, Seat, "hall__name", "number", "name") >= {("ours", 5, "seat")}
    sync.assert_nothing_to_do(seat)


def test_links_to_a_composite_key_arrive(sync: Sync) -> None:
    make_crowd(sync.target, Hall, Seat)
    hall = make(Hall, sync.source, name="ours")
    seat = make(Seat, sync.source, hall=hall, number=5, name="seat")
    ticket = make(Ticket, sync.source, hall=hall, seat=seat, seat_number=5, text="ticket")

    sync.push(ticket)

    ours = sync.on_target(Ticket).get(text="ticket")
    assert (ours.hall.name, ours.seat.name, ours.seat.hall.name) == ("ours", "seat", "ours")
    sync.assert_nothing_to_do(ticket)


def test_a_composite_key_of_plain_values_is_the_same_on_both_sides(sync: Sync) -> None:
    make_crowd(sync.target, Hall, Slot)
    day = dt.date(2026, 11, 21)
    theirs = make(Slot, sync.target, day=day, hour=8, name="old")
    sync.expect_change(theirs)
    hall = make(Hall, sync.source, name="ours")
    for hour in (8, 9):
        make(Slot, sync.source, day=day, hour=hour, hall=hall, name=f"at {hour}")

    report = sync.push(hall)

    assert (report.created, report.updated) == ({"kinds.Hall": 1, "kinds.Slot": 1}, {"kinds.Slot": 1})
    slots = sync.on_target(Slot).filter(hall__name="ours")
    assert set(slots.values_list("day", "hour", "name")) == {(day, 8, "at 8"), (day, 9, "at 9")}
    sync.assert_nothing_to_do(hall)


# Models with no column but their key


def test_rows_with_no_column_but_their_key_arrive(sync: Sync) -> None:
    make_crowd(sync.target, Bare, BareChild)
    children = [make(BareChild, sync.source, text=f"ours {number}") for number in range(3)]

    report = sync.push(*children)

    assert report.created == {"kinds.Bare": 3, "kinds.BareChild": 3}
    ours = sync.on_target(BareChild).filter(text__startswith="ours")
    assert len(set(ours.values_list("bare", flat=True))) == 3
    sync.assert_nothing_to_do(*children)


def test_a_row_with_no_column_but_its_key_can_be_the_root(sync: Sync) -> None:
    make_crowd(sync.target, Bare)
    bare = make(Bare, sync.source)
    make(BareChild, sync.source, bare=bare, text="ours")

    report = sync.push(bare)

    assert report.created == {"kinds.Bare": 1, "kinds.BareChild": 1}
    sync.assert_nothing_to_do(bare)


def test_a_row_with_no_column_but_a_uuid_is_the_same_on_both_sides(sync: Sync) -> None:
    known, new = make(BareUnique, sync.source), make(BareUnique, sync.source)
    make(BareUnique, sync.target, id=known.pk)

    report = sync.push(known, new)

    assert report.created == {"kinds.BareUnique": 1}
    assert pairs(sync, BareUnique, "pk") == {(known.pk,), (new.pk,)}
    sync.assert_nothing_to_do(known, new)


# Unmanaged models


def test_rows_of_an_unmanaged_model_are_left_out(sync: Sync) -> None:
    make_crowd(sync.target, Shop, LegacyTable)
    shop = make(Shop, sync.source)
    make(Legacy, sync.source, shop=shop, text="ours")

    report = sync.push(shop)

    assert "kinds.Legacy" not in report.created
    assert not sync.on_target(LegacyTable).filter(text="ours").exists()
    sync.assert_nothing_to_do(shop)


def test_rows_of_an_unmanaged_model_travel_when_a_flag_names_their_link(sync: Sync) -> None:
    make_crowd(sync.target, Shop, LegacyTable)
    shop = make(Shop, sync.source, name="ours")
    make(Legacy, sync.source, shop=shop, text="ours")

    sync.synchronize(shop, own=["kinds.Legacy.shop"])

    assert list(sync.on_target(Legacy).filter(text="ours").values_list("shop__name")) == [("ours",)]
    sync.assert_nothing_to_do(shop, own=["kinds.Legacy.shop"])


def test_a_row_of_an_unmanaged_model_travels_when_it_is_the_root(sync: Sync) -> None:
    make_crowd(sync.target, Shop, LegacyTable)
    legacy = make(Legacy, sync.source, shop=make(Shop, sync.source, name="ours"), text="ours")

    sync.synchronize(f"kinds.Legacy.{legacy.pk}")

    assert list(sync.on_target(Legacy).filter(text="ours").values_list("shop__name")) == [("ours",)]
    sync.assert_nothing_to_do(legacy)


# Managers


def test_a_soft_delete_manager_hides_nothing(sync: Sync) -> None:
    make_crowd(sync.target, Folder, Letter)
    folder = make(Folder, sync.source, code="ours", deleted=True)
    letter = make(Letter, sync.source, folder=folder, text="gone", deleted=True)
    make(Letter, sync.source, folder=folder, text="live", deleted=False)
    letter.copies.add(make(Folder, sync.source, code="copy", deleted=True))

    report = sync.push("kinds.Folder.code=ours")

    assert report.created == {"kinds.Folder": 2, "kinds.Letter": 2, "kinds.Letter_copies": 1}
    letters = sync.on_target(Letter).filter(folder__code="ours")
    assert set(letters.values_list("text", "deleted", "copies__code")) == {
        ("gone", True, "copy"),
        ("live", False, None),
    }
    sync.assert_nothing_to_do(folder)


def test_a_row_that_is_soft_deleted_on_the_target_is_found(sync: Sync) -> None:
    make_crowd(sync.target, Folder)
    sync.expect_change(make(Folder, sync.target, code="ours", deleted=True))
    folder = make(Folder, sync.source, code="ours", deleted=False)

    report = sync.push(folder)

    assert (report.created, report.updated) == ({}, {"kinds.Folder": 1})
    sync.assert_nothing_to_do(folder)


def test_a_referred_row_that_is_soft_deleted_on_the_target_is_found(sync: Sync) -> None:
    make_crowd(sync.target, Letter, Folder)
    make(Folder, sync.target, code="ours", deleted=True)
    letter = make(Letter, sync.source, folder=make(Folder, sync.source, code="ours"), text="ours")

    report = sync.push(letter)

    assert report.matched == {"kinds.Folder": 1}
    assert pairs(sync, Letter, "text", "folder__code") >= {("ours", "ours")}
    sync.assert_nothing_to_do(letter)


def test_a_base_manager_that_hides_rows_hides_nothing(sync: Sync) -> None:
    make_crowd(sync.target, Folder, Memo)
    folder = make(Folder, sync.source, code="ours")
    make(Memo, sync.source, folder=folder, text="ours", deleted=True)

    sync.push(folder)

    assert pairs(sync, Memo, "text", "deleted", "folder__code") >= {("ours", True, "ours")}
    sync.assert_nothing_to_do(folder)


@pytest.mark.parametrize("model", [Paragraph, ScopedBase])
def test_a_manager_that_refuses_to_work_is_no_obstacle(sync: Sync, model: type[models.Model]) -> None:
    make_crowd(sync.target, Document, model)
    document = make(Document, sync.source, code="ours")
    make_many(model, sync.source, 2, document=document, text="ours")
    sync.push(f"kinds.Document.{document.pk}")
    sync.on_source(model).filter(document=document).update(text="changed")

    report = sync.push(document)

    assert report.updated == {model._meta.label: 2}
    assert list(sync.on_target(model).filter(document__code="ours").values_list("text")) == [("changed",)] * 2
    sync.assert_nothing_to_do(document)


@pytest.mark.parametrize("model", [Paragraph, ScopedBase])
def test_an_object_whose_manager_refuses_to_work_can_be_the_root(sync: Sync, model: type[models.Model]) -> None:
    make_crowd(sync.target, Document, model)
    root = make(model, sync.source, document=make(Document, sync.source, code="ours"), text="ours")

    sync.push(f"{model._meta.label}.{root.pk}")

    assert pairs(sync, model, "text", "document__code") >= {("ours", "ours")}
    sync.assert_nothing_to_do(root)


@pytest.mark.parametrize("model", [Paragraph, ScopedBase])
def test_an_object_whose_manager_refuses_to_work_can_be_pruned(sync: Sync, model: type[models.Model]) -> None:
    make_crowd(sync.target, Document, model)
    document = make(Document, sync.source, code="ours")
    make_many(model, sync.source, 2, document=document, text="ours")
    sync.push(document)
    sync.on_source(model).filter(document=document)._raw_delete(sync.source)

    report = sync.push(document, prune=True)

    assert report.deleted == {model._meta.label: 2}
    sync.assert_nothing_to_do(document, prune=True)

"""Keys that were deleted and added again: what had them before goes, what has them now comes, and nothing is mixed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Model

from gestore_sync import DisableSynchroLog, api
from gestore_sync.exceptions import WriteFailed
from tests.conftest import Pair
from tests.kinds.models import Amphibian, Badge, Boat, Car, Hall, Person, Seat
from tests.logged.models import Article, Book, Booking, Employee, Opera, Page, Shelf, Tag, Team, Theatre, Venue
from tests.logged.sites import Sites, add, change, ready
from tests.policies.watching import pairings, refuse_text


@pytest.fixture
def sites(pair: Pair, settings: Any) -> Iterator[Sites]:
    settings.SYNCHRO_MODELS = ("logged", "kinds")
    with ready(pair) as sites:
        yield sites


def replace(instance: Model, using: str, **values: Any) -> Any:
    """Delete an object, and add another one with its primary key."""
    pk = instance.pk
    instance.delete()
    return add(type(instance), using, pk=pk, **values)


# What is left out of a run


def test_what_points_to_a_replaced_object_waits_with_it(sites: Sites) -> None:
    shelf = add(Shelf, sites.local, name="old")
    sites.send()
    theirs = add(Book, sites.remote, shelf=sites.there(Shelf).get(), title="theirs")
    new = replace(shelf, sites.local, name="new")
    add(Book, sites.local, shelf=new, title="ours")

    report = sites.send()

    assert sites.arrived(Book, "shelf__name", "title") == [("old", "theirs")]
    assert "points by shelf to logged.Shelf" in report.failures[0]["reason"]
    theirs.delete()
    sites.send()
    assert sites.arrived(Book, "shelf__name", "title") == [("new", "ours")]
    assert sites.get_pending() == {}


def test_what_moves_to_a_replaced_object_waits_with_it(sites: Sites) -> None:
    shelf, other = add(Shelf, sites.local, name="old"), add(Shelf, sites.local, name="other")
    book = add(Book, sites.local, shelf=other, title="ours")
    sites.send()
    add(Book, sites.remote, shelf=sites.there(Shelf).get(name="old"), title="theirs")
    change(book, shelf=replace(shelf, sites.local, name="new"))

    sites.send()

    assert sites.arrived(Book, "shelf__name", "title") == [("old", "theirs"), ("other", "ours")]


def test_what_points_to_a_replaced_object_that_the_target_refuses_waits_with_it(sites: Sites) -> None:
    shelf = add(Shelf, sites.local, name="old")
    sites.send()
    refuse_text(sites.remote, "logged_shelf", "name", "new")
    new = replace(shelf, sites.local, name="new")
    add(Book, sites.local, shelf=new, title="ours")

    report = sites.send()

    assert sites.arrived(Book, "title") == []
    assert sites.arrived(Shelf, "name") == ["old"]
    assert {failure["model"] for failure in report.failures} == {"logged.Shelf", "logged.Book"}


def test_members_of_a_replaced_object_wait_with_it(sites: Sites) -> None:
    article, tag = add(Article, sites.local, title="old"), add(Tag, sites.local, name="t")
    sites.send()
    refuse_text(sites.remote, "logged_article", "title", "new")
    new = replace(article, sites.local, title="new")
    new.tags.add(tag)

    sites.send()

    assert sites.arrived(Article, "title") == ["old"]
    assert sites.arrived(Article.tags.through, "tag__name") == []


def test_changes_of_a_root_wait_for_a_replaced_object_outside_it(sites: Sites) -> None:
    team = add(Team, sites.local, name="old")
    sites.send()
    new = replace(team, sites.local, name="new")
    clerk = add(Employee, sites.local, name="clerk", team=new)

    report = sites.send(clerk, changes=True)

    assert sites.arrived(Employee, "name") == []
    assert "points by team to logged.Team" in report.failures[0]["reason"]
    sites.send()
    assert sites.arrived(Employee, "name", "team__name") == [("clerk", "new")]
    assert sites.arrived(Team, "name") == ["new"]
    assert sites.get_pending() == {}


def test_changes_of_a_root_that_must_wait_end_a_strict_run(sites: Sites) -> None:
    team = add(Team, sites.local, name="old")
    sites.send()
    new = replace(team, sites.local, name="new")
    clerk = add(Employee, sites.local, name="clerk", team=new)

    with pytest.raises(WriteFailed, match=r"logged\.Employee\.\d+ points by team to logged\.Team"):
        sites.send(clerk, changes=True, strict=True)

    assert sites.arrived(Employee, "name") == []


def test_what_the_target_deleted_is_no_matter_of_what_has_its_key_now(sites: Sites) -> None:
    shelf = add(Shelf, sites.local, name="old")
    sites.send()
    sites.there(Shelf).get().delete()
    replace(shelf, sites.local, name="new")

    report = sites.send(on_conflict="remote")

    assert sites.arrived(Shelf, "name") == ["new"]
    assert report.conflicts == []
    assert sites.get_pending() == {}


def test_changes_of_a_root_leave_an_object_outside_it_that_has_the_key_of_one_that_was_inside(sites: Sites) -> None:
    shelf, other = add(Shelf, sites.local, name="shelf"), add(Shelf, sites.local, name="other")
    book = add(Book, sites.local, shelf=shelf, title="old")
    sites.send()
    replace(book, sites.local, shelf=other, title="new")

    sites.send(shelf, changes=True)
    sites.send()

    assert sites.arrived(Book, "shelf__name", "title") == [("other", "new")]
    assert sites.get_pending() == {}


# Keys that are, or contain, the key of another object


def test_a_row_of_a_composite_key_is_replaced_with_the_object_in_its_key(sites: Sites) -> None:
    hall = add(Hall, sites.local, name="old")
    add(Seat, sites.local, hall=hall, number=2, name="old seat")
    sites.send()
    new = replace(hall, sites.local, name="new")
    add(Seat, sites.local, hall=new, number=2, name="new seat")

    report = sites.send()

    assert sites.arrived(Seat, "hall__name", "name") == [("new", "new seat")]
    assert not report.failures
    assert not report.conflicts
    assert sites.get_pending() == {}


def test_a_row_of_a_composite_key_that_is_deleted_and_added_below_the_same_object_is_the_same(sites: Sites) -> None:
    hall = add(Hall, sites.local, name="hall")
    seat = add(Seat, sites.local, hall=hall, number=2, name="old seat")
    sites.send()
    seat.delete()
    add(Seat, sites.local, hall=hall, number=2, name="new seat")

    report = sites.send()

    assert sites.arrived(Seat, "hall__name", "name") == [("hall", "new seat")]
    assert report.updated["kinds.Seat"] == 1


def test_an_object_that_is_added_again_with_a_key_that_means_it_is_the_same(sites: Sites) -> None:
    page = add(Page, sites.local, path="/p", title="title")
    sites.send()
    change(sites.there(Page).get(), title="theirs")
    replace(page, sites.local, title="title")

    sites.send()

    assert sites.arrived(Page, "title") == ["theirs"]


def test_an_extension_is_replaced_with_what_it_extends(sites: Sites) -> None:
    person = add(Person, sites.local, name="old")
    add(Badge, sites.local, person=person, text="old badge")
    sites.send()
    new = replace(person, sites.local, name="new")
    add(Badge, sites.local, person=new, text="new badge")

    report = sites.send()

    assert sites.arrived(Badge, "person__name", "text") == [("new", "new badge")]
    assert not report.failures
    assert sites.get_pending() == {}


@pytest.mark.parametrize("kind", ["extension", "child"])
def test_what_is_deleted_and_restored_is_sent(sites: Sites, tmp_path: Path, kind: str) -> None:
    if kind == "child":
        root: Model = add(Opera, sites.local, name="o", seats=3)
    else:
        root = add(Person, sites.local, name="p")
        add(Badge, sites.local, person=root, text="b")
    sites.send()
    api.delete_objects([root], database=sites.local, backup=str(tmp_path / "backup.json"))
    api.import_objects(str(tmp_path / "backup.json"), database=sites.local)

    report = sites.send()

    assert not report.failures
    assert not report.conflicts
    assert sites.arrived(Opera, "name", "seats") == ([("o", 3)] if kind == "child" else [])
    assert sites.arrived(Badge, "person__name", "text") == ([("p", "b")] if kind == "extension" else [])
    assert sites.get_pending() == {}


def test_a_multi_table_object_is_replaced_with_all_its_rows(sites: Sites) -> None:
    opera = add(Opera, sites.local, name="old", seats=3, composer="x")
    sites.send()
    before = sites.there(Venue).get().pk
    replace(opera, sites.local, name="new", seats=4, composer="y")

    sites.send()

    assert sites.arrived(Opera, "name", "seats", "composer") == [("new", 4, "y")]
    assert sites.there(Venue).get().pk != before
    assert sites.get_pending() == {}


def test_a_row_of_the_target_s_own_keeps_a_multi_table_object_from_being_replaced(sites: Sites) -> None:
    theatre = add(Theatre, sites.local, name="old")
    sites.send()
    add(Booking, sites.remote, venue_id=sites.there(Venue).get().pk, text="theirs")
    replace(theatre, sites.local, name="new")

    report = sites.send()

    assert sites.arrived(Booking, "venue__name", "text") == [("old", "theirs")]
    assert "Only the target has logged.Booking" in report.conflicts[0]["reason"]


def test_a_child_that_is_made_again_of_the_same_parent_is_the_same(sites: Sites) -> None:
    theatre = add(Theatre, sites.local, name="hall", seats=3)
    sites.send()
    before = sites.there(Venue).get().pk
    pk = theatre.pk
    theatre.delete(keep_parents=True)
    again = Theatre(venue_ptr_id=pk, name="hall", seats=4)
    again.save_base(raw=True, using=sites.local)

    sites.send()

    assert sites.arrived(Theatre, "pk", "seats") == [(before, 4)]


# Two parents, whose keys differ


two_parents = pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-postgresql"), indirect=True)


def make_amphibian(sites: Sites, name: str = "frog") -> tuple[Amphibian, Boat]:
    """A row of three tables, and a boat that has the number of its car."""
    boat = add(Boat, sites.local, boat_number=8, sails=1)
    amphibian = add(Amphibian, sites.local, car_number=8, boat_number=9, name=name, wheels=4, sails=5)
    return amphibian, boat


@two_parents
def test_an_object_of_two_parents_waits_with_the_rows_of_both(sites: Sites) -> None:
    refuse_text(sites.remote, "kinds_amphibian", "name", "bad")
    amphibian, _ = make_amphibian(sites, "bad")

    sites.send()

    assert sites.arrived(Boat, "sails") == [1]
    assert sites.arrived(Car, "wheels") == []
    change(amphibian, name="good")
    sites.send()
    assert sites.arrived(Amphibian, "name", "wheels", "sails") == [("good", 4, 5)]
    assert sites.get_pending() == {}


@two_parents
def test_a_deleted_object_of_two_parents_waits_with_the_rows_of_both(sites: Sites) -> None:
    amphibian, boat = make_amphibian(sites)
    sites.send()
    there = sites.there(Amphibian).get()
    with DisableSynchroLog():
        change(there, name="theirs")
    amphibian.delete()
    boat.delete()

    sites.send(on_conflict="fail")

    assert sites.arrived(Boat, "pk") == [there.boat_number]
    assert sites.arrived(Car, "pk") == [there.car_number]
    sites.send(on_conflict="local")
    assert sites.arrived(Boat, "pk") == sites.arrived(Car, "pk") == []


@two_parents
def test_an_object_of_two_parents_is_replaced_with_the_rows_of_both(sites: Sites) -> None:
    amphibian, boat = make_amphibian(sites)
    sites.send()
    before = sites.there(Amphibian).get()
    keys = {"car_number": amphibian.car_number, "boat_number": amphibian.boat_number}
    amphibian.delete()
    add(Amphibian, sites.local, **keys, name="toad", wheels=3, sails=2)
    change(boat, sails=7)

    sites.send()

    assert sites.arrived(Amphibian, "name", "wheels", "sails") == [("toad", 3, 2)]
    assert sites.arrived(Boat, "sails") == [2, 7]
    after = sites.there(Amphibian).get()
    assert after.car_number != before.car_number
    assert after.boat_number != before.boat_number
    assert sites.get_pending() == {}

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.db import connections
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from testproject.campus import models as campus
from tests.deletions import Ground, on_each, standing_on
from tests.kinds import models as kinds
from tests.kinds.making import make, make_many
from tests.policies.watching import execute


@pytest.fixture(params=on_each())
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with standing_on(request.param) as ground:
        yield ground


def make_course(ground: Ground, organization: campus.Organization | None = None) -> campus.Course:
    organization = organization or make(campus.Organization, ground.using, logo="")
    return make(campus.Course, ground.using, organization=organization)


def test_without_the_flag_referred_rows_stay(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using, seal=make(kinds.Seal, ground.using))

    assert ground.delete(shop).deleted == {"kinds.Shop": 1}


def test_a_referred_row_that_only_deleted_rows_use_goes(ground: Ground) -> None:
    used, free = make_many(kinds.Currency, ground.using, 2)
    shop = make(kinds.Shop, ground.using, currency=free, second_currency=used, seal=make(kinds.Seal, ground.using))
    make_many(kinds.Order, ground.using, 2, shop=shop, currency=free)
    make(kinds.Order, ground.using, currency=used)
    tag = make(kinds.Tag, ground.using)
    shop.tags.add(tag)

    report = ground.delete(shop, orphans=True)

    assert report.deleted == {
        "kinds.Shop": 1,
        "kinds.Order": 2,
        "kinds.Shop_tags": 1,
        "kinds.Currency": 1,
        "kinds.Seal": 1,
        "kinds.Tag": 1,
    }
    assert ground.rows(kinds.Currency).filter(pk=used.pk).exists()


def test_what_orphans_alone_use_goes_to_the_end_of_the_chain(ground: Ground) -> None:
    top = make(kinds.Node, ground.using)
    middle = make(kinds.Node, ground.using, parent=top)
    leaf, sister = make_many(kinds.Node, ground.using, 2, parent=middle)

    assert ground.delete(leaf, orphans=True).deleted == {"kinds.Node": 1}
    assert ground.delete(sister, orphans=True).deleted == {"kinds.Node": 3}


def test_a_chain_stops_at_what_something_else_uses(ground: Ground) -> None:
    organization = make(campus.Organization, ground.using, logo="")
    top = make(campus.Category, ground.using, code="top")
    middle = make(campus.Category, ground.using, code="middle", parent=top)
    leaf = make(campus.Category, ground.using, code="leaf", parent=middle)
    make(campus.Category, ground.using, code="other", parent=top)
    make(campus.Course, ground.using, organization=organization, category=leaf)

    api.delete_objects(organization, database=ground.using, orphans=True)

    assert sorted(ground.rows(campus.Category).values_list("code", flat=True)) == ["other", "top"]


@pytest.mark.parametrize("by", ["optional", "mention", "member", "generic", "text", "unmanaged", "skipped"])
def test_any_kind_of_link_from_outside_keeps_a_row(ground: Ground, by: str) -> None:
    currency, tag = make(kinds.Currency, ground.using), make(kinds.Tag, ground.using)
    country = make(kinds.Country, ground.using)
    shop = make(kinds.Shop, ground.using, currency=currency)
    city = make(kinds.City, ground.using, country=country)
    shop.tags.add(tag)
    kept: dict[str, Any] = {"optional": currency, "mention": country, "member": tag, "skipped": tag}
    kind = ContentType.objects.db_manager(ground.using).get_for_model(kinds.Currency)
    if by == "optional":
        make(kinds.Order, ground.using, currency=currency)
    elif by == "mention":
        make(kinds.City, ground.using, twin=country)
    elif by == "member":
        make(kinds.Shop, ground.using).tags.add(tag)
    elif by == "generic":
        make(kinds.Note, ground.using, content_type=kind, object_id=currency.pk)
    elif by == "text":
        make(kinds.Label, ground.using, kind=kind, key=str(currency.pk))
    elif by == "skipped":
        make(kinds.Device, ground.using, favourite=tag)
    else:
        seal = kept["unmanaged"] = make(kinds.Seal, ground.using)
        ground.rows(kinds.Shop).filter(pk=shop.pk).update(seal=seal)
        make(kinds.Clue, ground.using, seal=seal)

    ground.delete(shop, city, orphans=True)

    everything = [currency, tag, country]
    stays = kept.get(by, currency)
    left = [one for one in everything if ground.rows(type(one)).filter(pk=one.pk).exists()]
    assert left == [one for one in everything if one == stays]
    assert ground.rows(type(stays)).filter(pk=stays.pk).exists()


def test_rows_that_use_each_other_alone_go_together(ground: Ground) -> None:
    one, other, used, user = make_many(kinds.Node, ground.using, 4)
    for node, parent in ((one, other), (other, one), (used, user), (user, used)):
        ground.rows(kinds.Node).filter(pk=node.pk).update(parent=parent)
    leaf, sister = make(kinds.Node, ground.using, parent=one), make(kinds.Node, ground.using, parent=used)
    make(kinds.Node, ground.using, parent=user)

    assert ground.delete(leaf, orphans=True).deleted == {"kinds.Node": 3}
    assert ground.delete(sister, orphans=True).deleted == {"kinds.Node": 1}


def test_people_with_ties_to_others_are_in_use(ground: Ground) -> None:
    ann, ben, eve = make_many(kinds.Person, ground.using, 3)
    ann.friends.add(ben)
    club = make(kinds.Club, ground.using)
    for person in (ann, eve):
        make(kinds.Membership, ground.using, club=club, person=person)

    assert ground.delete(club, orphans=True).deleted == {"kinds.Club": 1, "kinds.Membership": 2, "kinds.Person": 1}
    assert not ground.rows(kinds.Person).filter(pk=eve.pk).exists()


def test_an_object_stays_with_its_parts(ground: Ground) -> None:
    organization = make(campus.Organization, ground.using, logo="")
    course = make_course(ground, organization)
    gone, stays = make_many(campus.Person, ground.using, 2)
    for person in (gone, stays):
        make(campus.Profile, ground.using, person=person, photo="")
        make(campus.Enrolment, ground.using, course=course, person=person)
    make(campus.Enrolment, ground.using, course=make_course(ground), person=stays)

    api.delete_objects(organization, database=ground.using, orphans=True)

    assert ground.rows(campus.Person).get() == stays
    assert ground.rows(campus.Profile).get().person_id == stays.pk


def test_members_of_a_row_that_stays_stay(ground: Ground) -> None:
    restaurant = make(kinds.Restaurant, ground.using)
    cook = make(kinds.Person, ground.using)
    restaurant.cooks.add(cook)
    place = make(kinds.Place, ground.using)
    ground.rows(kinds.Place).filter(pk=place.pk).update(
        speciality=make(kinds.Dish, ground.using, restaurant=restaurant)
    )
    make(kinds.Review, ground.using, place=kinds.Place(pk=restaurant.pk))

    assert ground.delete(place, orphans=True).deleted == {"kinds.Place": 1, "kinds.Dish": 1}


def test_an_orphan_in_several_tables_goes_from_all_of_them(ground: Ground) -> None:
    restaurant = make(kinds.Pizzeria, ground.using)
    place = make(kinds.Place, ground.using)
    ground.rows(kinds.Place).filter(pk=place.pk).update(
        speciality=make(kinds.Dish, ground.using, restaurant=restaurant)
    )

    report = ground.delete(place, orphans=True)

    assert report.deleted == {"kinds.Place": 2, "kinds.Dish": 1, "kinds.Restaurant": 1, "kinds.Pizzeria": 1}


def test_what_no_deleted_row_has_used_is_no_orphan(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    make(kinds.Visit, ground.using, shop=shop)
    shared = make(kinds.Seal, ground.using)

    report = ground.delete(shop, refer=["kinds.Visit.shop"], orphans=True)

    assert report.deleted == {"kinds.Shop": 1, "kinds.Currency": 1}
    assert ground.rows(kinds.Seal).get() == shared
    assert ground.rows(kinds.Visit).get().shop_id is None


def test_rows_that_are_used_without_a_link_stay(ground: Ground) -> None:
    box = make(kinds.Box, ground.using)
    site = make(Site, ground.using, domain="example.org", name="example")
    make(kinds.Banner, ground.using, box=box, site=site)
    make(kinds.Rule, ground.using, box=box, content_type=ground.rows(ContentType).first())
    types = ground.rows(ContentType).count()

    assert ground.delete(box, orphans=True).deleted == {"kinds.Box": 1, "kinds.Banner": 1, "kinds.Rule": 1}
    assert (ground.rows(Site).filter(pk=site.pk).count(), ground.rows(ContentType).count()) == (1, types)


def test_accounts_of_those_who_run_the_site_groups_and_permissions_stay(ground: Ground) -> None:
    group = make(Group, ground.using, name="authors")
    group.permissions.add(ground.rows(Permission).first())
    execute(ground.using, "DELETE FROM auth_user")
    names = {"plain": {}, "staff": {"is_staff": True}, "boss": {"is_superuser": True}}
    users = {name: make(User, ground.using, username=name, **rights) for name, rights in names.items()}
    for user in users.values():
        user.groups.add(group)
    through = User.groups.through
    keys = list(ground.rows(through).values_list("pk", flat=True))

    report = ground.delete(*(f"auth.User_groups.{key}" for key in keys), orphans=True)

    assert report.deleted == {"auth.User_groups": 3, "auth.User": 1}
    assert ground.rows(Group).filter(pk=group.pk).exists()


def test_many_candidates_take_as_many_queries_as_few(ground: Ground) -> None:
    counts = []
    for size in (10, 1000):
        shop = make(kinds.Shop, ground.using)
        codes = [kinds.Currency(code=f"{size % 7}{number:x}"[:3]) for number in range(size // 4)]
        currencies = ground.rows(kinds.Currency).bulk_create(codes, ignore_conflicts=True)
        currencies = list(ground.rows(kinds.Currency).filter(order=None, shop=None))
        orders = [kinds.Order(shop=shop, number="1", currency=currency) for currency in currencies]
        ground.rows(kinds.Order).bulk_create(orders)
        with CaptureQueriesContext(connections[ground.using]) as queries:
            report = api.delete_objects(shop, database=ground.using, orphans=True)
        assert report.deleted["kinds.Currency"] >= size // 4
        counts.append(len(queries))
    assert counts[0] == counts[1]

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.db import connections, models
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from gestore_sync.exceptions import (
    LinkCycle,
    UnknownLink,
    UnknownObject,
    UnresolvedConflicts,
    WriteFailed,
    WrongDatabase,
    WrongSetting,
)
from tests.deletions import Ground, on_each, standing_on
from tests.kinds import models as kinds
from tests.kinds.making import make, make_crowd, make_many
from tests.policies import models as policies
from tests.policies.watching import execute

POSTGRESQL = on_each("pg_local")


@pytest.fixture(params=on_each())
def using(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def ground(using: str) -> Iterator[Ground]:
    with standing_on(using) as ground:
        yield ground


def note(ground: Ground, subject: models.Model, model: type[models.Model] = kinds.Note, **values: Any) -> Any:
    """Make a row whose generic key points at ``subject``."""
    face = type(subject) if model is kinds.Sticker else type(subject)._meta.concrete_model
    kind = ContentType.objects.db_manager(ground.using).get_for_model(face, for_concrete_model=False)
    names = ("kind", "key") if model is kinds.Label else ("content_type", "object_id")
    return make(model, ground.using, **{names[0]: kind, names[1]: subject.pk}, **values)


# What goes


def test_what_belongs_to_an_object_goes_with_it_and_nothing_else(ground: Ground) -> None:
    make_crowd(ground.using, kinds.Line, kinds.License, kinds.Invoice, kinds.Secret, kinds.Tag)
    shop, other = make_many(kinds.Shop, ground.using, 2)
    order = make(kinds.Order, ground.using, shop=shop, currency=make(kinds.Currency, ground.using))
    make_many(kinds.Line, ground.using, 3, order=order)
    for model in (kinds.License, kinds.Invoice, kinds.Secret, kinds.Clue):
        make(model, ground.using, shop=shop)
    for one in (shop, other):
        one.tags.add(*ground.rows(kinds.Tag)[:2])
        note(ground, one)
        note(ground, one, kinds.Label)

    report = ground.delete(shop)

    one_each = ("Shop", "Order", "License", "Invoice", "Secret", "Clue", "Note", "Label")
    assert report.deleted == {**{f"kinds.{name}": 1 for name in one_each}, "kinds.Line": 3, "kinds.Shop_tags": 2}
    assert report.why["kinds.Line"] == {"kinds.Line.order": 3}
    assert report.mentions == {}


def test_several_roots_that_overlap_go_once(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    order, other = make_many(kinds.Order, ground.using, 2, shop=shop)

    report = ground.delete(order, shop, f"kinds.Order.{other.pk}")

    assert report.deleted == {"kinds.Shop": 1, "kinds.Order": 2}


def test_an_object_may_be_named_by_a_unique_field(ground: Ground) -> None:
    make(kinds.Currency, ground.using, code="EUR")
    make(kinds.Currency, ground.using, code="PLN")

    ground.delete("kinds.Currency.code=EUR")

    assert list(ground.rows(kinds.Currency).values_list("code", flat=True)) == ["PLN"]


def test_a_member_goes_with_its_memberships_and_not_with_the_owners(ground: Ground) -> None:
    tag, other = make_many(kinds.Tag, ground.using, 2)
    for shop in make_many(kinds.Shop, ground.using, 3):
        shop.tags.add(tag, other)

    report = ground.delete(tag)

    assert report.deleted == {"kinds.Tag": 1, "kinds.Shop_tags": 3}


def test_people_go_with_their_ties_to_each_other(ground: Ground) -> None:
    ann, ben, eve = make_many(kinds.Person, ground.using, 3)
    ann.friends.add(ben)
    ben.friends.add(eve)
    ann.follows.add(eve)
    eve.follows.add(ann)
    for pupil, mentor, witness in ((ann, ben, eve), (ben, eve, ann), (eve, ann, ben)):
        make(kinds.Mentoring, ground.using, pupil=pupil, mentor=mentor, witness=witness)
    make(kinds.Membership, ground.using, person=ann)

    report = ground.delete(ann)

    assert report.deleted == {
        "kinds.Person": 1,
        "kinds.Person_friends": 2,
        "kinds.Person_follows": 2,
        "kinds.Mentoring": 2,
        "kinds.Membership": 1,
    }
    assert report.mentions == {"kinds.Mentoring.witness": 1}


@pytest.mark.parametrize("model", [kinds.Place, kinds.Restaurant, kinds.Pizzeria, kinds.Trattoria])
def test_all_tables_of_an_object_lose_their_row_whichever_is_named(ground: Ground, model: type[Any]) -> None:
    make_crowd(ground.using, kinds.Pizzeria, kinds.Bar)
    pizzeria = make(kinds.Pizzeria, ground.using, currency=make(kinds.Currency, ground.using))
    make(kinds.Bar, ground.using, place_ptr=kinds.Place(pizzeria.place_ptr_id), name="also a bar")
    dish = make(kinds.Dish, ground.using, restaurant=pizzeria)
    ground.rows(kinds.Place).filter(pk=pizzeria.pk).update(speciality=dish)
    make(kinds.Review, ground.using, place=pizzeria)
    pizzeria.cooks.add(make(kinds.Person, ground.using))
    note(ground, kinds.Place(pk=pizzeria.pk))
    note(ground, pizzeria)

    report = ground.delete(f"{model._meta.label}.{pizzeria.pk}")

    assert report.deleted == {
        **{f"kinds.{name}": 1 for name in ("Place", "Restaurant", "Pizzeria", "Bar", "Dish", "Review")},
        "kinds.Restaurant_cooks": 1,
        "kinds.Note": 2,
    }


def test_a_child_of_two_parents_goes_with_both(ground: Ground) -> None:
    make_crowd(ground.using, kinds.Car, kinds.Boat)
    duck = make(kinds.Amphibian, ground.using)

    report = ground.delete(duck)

    assert report.deleted == {"kinds.Amphibian": 1, "kinds.Car": 1, "kinds.Boat": 1}


def test_a_proxy_stands_for_its_model(ground: Ground) -> None:
    robot = make(kinds.Robot, ground.using)
    make(kinds.Battery, ground.using, robot=robot)
    make(kinds.Battery, ground.using)

    report = ground.delete(robot)

    assert report.deleted == {"kinds.Machine": 1, "kinds.Battery": 1}


@pytest.mark.parametrize(
    ("root", "parts"),
    [
        (kinds.Gadget, {kinds.GadgetPart: "gadget"}),
        (kinds.Asset, {kinds.AssetFile: "asset"}),
        (kinds.Page, {kinds.PageLink: "page"}),
        (kinds.Star, {kinds.Planet: "star"}),
        (kinds.Moment, {kinds.Event: "moment"}),
        (kinds.Badge, {kinds.BadgeHolder: "badge"}),
        (kinds.Hall, {kinds.Seat: "hall", kinds.Slot: "hall"}),
        (policies.Worker, {policies.Seal: "worker"}),
    ],
)
def test_primary_keys_of_every_kind_are_deleted_by(
    ground: Ground, root: type[Any], parts: dict[type[Any], str]
) -> None:
    make_crowd(ground.using, root, *parts)
    one = make(root, ground.using)
    for part, name in parts.items():
        make(part, ground.using, **{name: one})

    report = ground.delete(one)

    assert report.deleted == {model._meta.label: 1 for model in (root, *parts)}


def test_rows_with_a_composite_key_are_deleted_by_it(ground: Ground) -> None:
    hall = make(kinds.Hall, ground.using)
    seats = [make(kinds.Seat, ground.using, hall=hall, number=number) for number in range(300)]
    make(kinds.Seat, ground.using, number=7)
    make(kinds.Ticket, ground.using, hall=hall, seat_number=seats[3].number)

    assert ground.delete(f"kinds.Seat.{hall.pk},7").deleted == {"kinds.Seat": 1}
    assert ground.delete(hall).deleted == {"kinds.Hall": 1, "kinds.Seat": 299, "kinds.Ticket": 1}


def test_a_row_with_a_composite_key_that_holds_on_is_named_as_people_name_it(ground: Ground) -> None:
    hall = make(kinds.Hall, ground.using)
    make(kinds.Seat, ground.using, hall=hall, number=7)

    error = ground.refuse(hall, ignore=["kinds.Seat.hall"])

    assert [conflict["pk"] for conflict in error.report.conflicts] == [f"{hall.pk},7"]


def test_what_managers_hide_goes_as_well(ground: Ground) -> None:
    folder = make(kinds.Folder, ground.using, deleted=True)
    for model in (kinds.Letter, kinds.Memo):
        make(model, ground.using, folder=folder, deleted=True)
    document = make(kinds.Document, ground.using)
    make(kinds.Paragraph, ground.using, document=document)
    make(kinds.ScopedBase, ground.using, document=document)

    report = ground.delete(folder, document)

    names = ("Folder", "Letter", "Memo", "Document", "Paragraph", "ScopedBase")
    assert report.deleted == {f"kinds.{name}": 1 for name in names}


def test_links_that_do_not_travel_are_heeded(ground: Ground) -> None:
    tag = make(kinds.Tag, ground.using)
    device, other = make_many(kinds.Device, ground.using, 2, favourite=tag)
    for one in (device, other):
        one.tags.add(tag)

    assert ground.delete(device).deleted == {"kinds.Device": 1, "kinds.Device_tags": 1}
    report = ground.delete(tag)
    assert report.deleted == {"kinds.Tag": 1, "kinds.Device_tags": 1}
    assert report.mentions == {"kinds.Device.favourite": 1}


def test_own_takes_more_and_refer_on_a_mention_takes_nothing(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using, seal=make(kinds.Seal, ground.using))
    make(kinds.Visit, ground.using, shop=shop)
    make(kinds.Bookmark, ground.using, shop=shop)

    report = ground.delete(shop, own=["kinds.Visit.shop", "kinds.Shop.seal"], refer=["kinds.Bookmark.shop"])

    assert report.deleted == {"kinds.Shop": 1, "kinds.Visit": 1, "kinds.Seal": 1}
    assert report.mentions == {"kinds.Bookmark.shop": 1}


# Cycles


def test_cycles_of_links_are_no_hindrance(ground: Ground) -> None:
    make_crowd(ground.using, kinds.Player, kinds.Beta)
    team = make(kinds.Team, ground.using)
    players = make_many(kinds.Player, ground.using, 3, team=team)
    ground.rows(kinds.Team).filter(pk=team.pk).update(captain=players[1])
    alpha = make(kinds.Alpha, ground.using)
    gamma, delta = make(kinds.Gamma, ground.using, alpha=alpha), make(kinds.Delta, ground.using, alpha=alpha)
    beta = make(kinds.Beta, ground.using, gamma=gamma, delta=delta)
    ground.rows(kinds.Alpha).filter(pk=alpha.pk).update(beta=beta)

    report = ground.delete(team, gamma, alpha)

    names = ("Team", "Alpha", "Beta", "Gamma", "Delta")
    assert report.deleted == {**{f"kinds.{name}": 1 for name in names}, "kinds.Player": 3}


def make_ring(ground: Ground) -> None:
    """A ring of three mirrors, and a hen and an egg that need each other."""
    mirrors = [kinds.Mirror(pk=pk, name=str(pk), image_id=pk % 3 + 1) for pk in (1, 2, 3)]
    with connections[ground.using].constraint_checks_disabled():
        ground.rows(kinds.Mirror).bulk_create(mirrors)
        ground.rows(kinds.Chicken).bulk_create([kinds.Chicken(pk=1, name="hen", egg_id=1)])
        ground.rows(kinds.Egg).bulk_create([kinds.Egg(pk=1, name="egg", chicken_id=1)])


def test_cycles_of_required_links_go_together(ground: Ground) -> None:
    make_ring(ground)

    assert ground.delete("kinds.Mirror.2").deleted == {"kinds.Mirror": 3}
    assert ground.delete("kinds.Egg.1").deleted == {"kinds.Egg": 1, "kinds.Chicken": 1}


def test_a_deep_tree_goes_from_its_root(ground: Ground) -> None:
    top = node = make(kinds.Node, ground.using)
    for _ in range(40):
        node = make(kinds.Node, ground.using, parent=node)
    make(kinds.Node, ground.using)

    assert ground.delete(top).deleted == {"kinds.Node": 41}


def check_at_once(ground: Ground, *fields: Any) -> None:
    """Let the database check foreign keys with each statement."""
    for model, name in fields:
        table, column = model._meta.db_table, model._meta.get_field(name).column
        found = execute(
            ground.using,
            f"SELECT con.conname FROM pg_constraint con JOIN pg_attribute att ON att.attrelid = con.conrelid "
            f"AND att.attnum = con.conkey[1] WHERE con.contype = 'f' AND con.conrelid = '{table}'::regclass "
            f"AND att.attname = '{column}'",
        )
        execute(ground.using, f'ALTER TABLE {table} ALTER CONSTRAINT "{found[0][0]}" NOT DEFERRABLE')


@pytest.mark.parametrize("using", POSTGRESQL, indirect=True)
def test_optional_links_in_cycles_are_nulled_first_where_they_are_checked_at_once(
    ground: Ground, settings: Any
) -> None:
    settings.GESTORE_SYNC = {"BATCH_SIZE": 2}
    check_at_once(ground, (kinds.Team, "captain"), (kinds.Player, "team"), (kinds.Node, "parent"))
    team = make(kinds.Team, ground.using)
    players = make_many(kinds.Player, ground.using, 3, team=team)
    ground.rows(kinds.Team).filter(pk=team.pk).update(captain=players[1])
    top = node = make(kinds.Node, ground.using)
    for _ in range(6):
        node = make(kinds.Node, ground.using, parent=node)

    assert ground.delete(team, top).deleted == {"kinds.Team": 1, "kinds.Player": 3, "kinds.Node": 7}


@pytest.mark.parametrize("using", POSTGRESQL, indirect=True)
def test_rows_go_before_what_they_require_where_that_is_checked_at_once(ground: Ground, settings: Any) -> None:
    settings.GESTORE_SYNC = {"BATCH_SIZE": 2}
    ground.rows(kinds.Mirror).bulk_create(
        kinds.Mirror(pk=pk, name=str(pk), image_id=max(pk - 1, 1)) for pk in range(1, 8)
    )
    connections[ground.using].check_constraints()
    check_at_once(ground, (kinds.Mirror, "image"))

    assert ground.delete("kinds.Mirror.4").deleted == {"kinds.Mirror": 4}
    assert sorted(ground.rows(kinds.Mirror).values_list("pk", flat=True)) == [1, 2, 3]


@pytest.mark.parametrize("using", POSTGRESQL, indirect=True)
def test_a_cycle_that_the_database_cannot_delete_is_named(ground: Ground) -> None:
    make_ring(ground)
    connections[ground.using].check_constraints()
    check_at_once(ground, (kinds.Egg, "chicken"), (kinds.Chicken, "egg"))

    error = ground.refuse("kinds.Egg.1")

    assert isinstance(error, LinkCycle)
    assert "kinds.Chicken.egg" in str(error) or "kinds.Egg.chicken" in str(error)


# What stays and points inside


def test_mentions_are_set_as_their_links_say(ground: Ground) -> None:
    shop, other = make_many(kinds.Shop, ground.using, 2)
    for model in (kinds.Visit, kinds.Bookmark, kinds.Rumour):
        make_many(model, ground.using, 2, shop=shop)
        make(model, ground.using, shop=other)

    report = ground.delete(shop)

    mentions = {f"kinds.{name}.shop": 2 for name in ("Visit", "Bookmark", "Rumour")}
    assert report.deleted == {"kinds.Shop": 1}
    assert report.mentions == mentions
    for name in ("Visit", "Rumour"):
        assert f"kinds.{name}.shop of 2 rows that stay is set to null." in report.warnings
    assert "kinds.Bookmark.shop of 2 rows that stay is set to default." in report.warnings
    for model in (kinds.Visit, kinds.Bookmark, kinds.Rumour):
        assert sorted(ground.rows(model).values_list("shop", flat=True), key=str) == [other.pk, None, None]


def test_a_mention_by_a_unique_field_is_nulled(ground: Ground) -> None:
    country = make(kinds.Country, ground.using)
    make(kinds.City, ground.using, twin=country)

    report = ground.delete(country)

    assert report.deleted == {"kinds.Country": 1}
    assert report.mentions == {"kinds.City.twin": 1}


def test_a_mention_of_what_goes_by_what_goes_is_none(ground: Ground) -> None:
    team = make(kinds.Team, ground.using)
    ground.rows(kinds.Team).update(captain=make(kinds.Player, ground.using, team=team))
    make(kinds.Team, ground.using, captain=ground.rows(kinds.Player).get())

    assert ground.delete(team).mentions == {"kinds.Team.captain": 1}


@pytest.mark.parametrize("using", on_each("default"), indirect=True)
def test_what_a_function_gives_is_set(ground: Ground) -> None:
    parcel = make(policies.Parcel, ground.using)
    make(policies.Complaint, ground.using, parcel=parcel)
    lost = policies.get_lost_parcel()

    report = ground.delete(parcel)

    assert report.warnings == ["policies.Complaint.parcel of 1 row that stays is set to get_lost_parcel()."]
    assert ground.rows(policies.Complaint).get().parcel_id == lost.pk


@pytest.mark.parametrize("using", POSTGRESQL, indirect=True)
def test_a_function_that_gives_an_object_of_another_database_stops_it(ground: Ground) -> None:
    parcel = make(policies.Parcel, ground.using)
    make(policies.Complaint, ground.using, parcel=parcel)

    error = ground.refuse(parcel)

    assert isinstance(error, WriteFailed)
    assert "policies.Complaint.parcel is to be set to policies.Parcel." in str(error)
    assert "'default'" in str(error)


@pytest.mark.parametrize("using", on_each("default"), indirect=True)
def test_what_would_be_set_to_an_object_that_goes_stops_it(ground: Ground) -> None:
    lost = policies.get_lost_parcel()
    make(policies.Complaint, ground.using, parcel=lost)

    error = ground.refuse(lost)

    assert f"is to be set to the policies.Parcel {lost.pk}, which is deleted, too" in str(error)


def test_a_row_that_holds_an_object_fast_stops_it_and_is_named_with_the_path(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    order = make(kinds.Order, ground.using, shop=shop)
    line = make(kinds.Line, ground.using, order=order)
    make(kinds.Visit, ground.using, shop=shop)

    error = ground.refuse(shop, refer=["kinds.Line.order"])

    assert isinstance(error, UnresolvedConflicts)
    assert error.report is not None
    [conflict] = error.report.conflicts
    assert (conflict["model"], conflict["pk"], conflict["resolved"]) == ("kinds.Line", str(line.pk), None)
    path = f"kinds.Order.{order.pk} (kinds.Order.shop) ← kinds.Shop.{shop.pk} (root)"
    for text in (f"kinds.Line.{line.pk}", "kinds.Line.order (CASCADE)", path, "--own kinds.Line.order"):
        assert text in conflict["reason"]
    assert conflict["reason"] in str(error)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (kinds.Rating, {}),
        (kinds.Invoice, {"ignore": ["kinds.Invoice.shop"]}),
        (kinds.Secret, {"ignore": ["kinds.Secret"]}),
        (kinds.License, {"refer": ["kinds.License.shop"]}),
        (kinds.Order, {"stop": ["kinds.Order"]}),
        (kinds.Clue, {"ignore": ["kinds.Clue.shop"]}),
        (kinds.Legacy, {}),
    ],
)
def test_every_required_or_protecting_link_from_outside_stops_it(
    ground: Ground, model: type[Any], options: dict[str, Any]
) -> None:
    shop = make(kinds.Shop, ground.using)
    make(model, ground.using, shop=shop)
    make(model, ground.using, shop=make(kinds.Shop, ground.using))

    error = ground.refuse(shop, **options)

    assert isinstance(error, UnresolvedConflicts)
    assert f"by {model._meta.label}.shop" in str(error)
    assert str(error).startswith("Nothing was deleted: 1 row(s) stand in the way.")


@pytest.mark.parametrize("model", [kinds.Rating, kinds.Legacy])
def test_what_holds_an_object_fast_may_be_taken_along(ground: Ground, model: type[Any]) -> None:
    shop = make(kinds.Shop, ground.using)
    make(model, ground.using, shop=shop)

    api.delete_objects(shop, database=ground.using, own=f"{model._meta.label}.shop")

    assert not ground.rows(model).exists()
    assert not ground.rows(kinds.Shop).exists()


def test_rows_of_a_generic_relation_that_stay_stop_it(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    note(ground, shop)

    error = ground.refuse(shop, ignore=["kinds.Shop.notes"])

    assert "by kinds.Shop.notes" in str(error)


def test_what_points_inside_without_a_constraint_or_relation_is_left_and_named(ground: Ground) -> None:
    seal, shop = make(kinds.Seal, ground.using), make(kinds.Shop, ground.using)
    order, robot = make(kinds.Order, ground.using, shop=shop), make(kinds.Robot, ground.using)
    make(kinds.Clue, ground.using, seal=seal)
    note(ground, order)
    note(ground, order, kinds.Label)
    note(ground, robot, kinds.Sticker)
    note(ground, make(kinds.Order, ground.using))

    report = ground.delete(shop, seal, robot)

    names = ("kinds.Clue.seal", "kinds.Note.subject", "kinds.Label.subject", "kinds.Sticker.subject")
    assert report.mentions == dict.fromkeys(names, 1)
    for name in names:
        text = f"1 row that stays points at what is deleted by {name}, and will point at nothing."
        assert text in report.warnings
    assert ground.rows(kinds.Clue).get().seal_id == seal.pk


def test_many_rows_in_the_way_are_counted(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    make_many(kinds.Rating, ground.using, 104, shop=shop)

    error = ground.refuse(shop)

    assert error.report is not None
    assert len(error.report.conflicts) == 100
    assert "4 more rows hold it by kinds.Rating.shop." in error.report.warnings
    assert str(error).endswith("And 95 more.")


def test_a_row_of_a_table_without_a_model_stops_it_and_is_named(ground: Ground) -> None:
    shop, other = make_many(kinds.Shop, ground.using, 2)
    execute(
        ground.using,
        "CREATE TABLE foreign_stamps (number integer, shop bigint REFERENCES kinds_shop (id) ON DELETE CASCADE)",
        f"INSERT INTO foreign_stamps VALUES (1, {shop.pk})",
    )

    error = ground.refuse(shop)

    assert isinstance(error, UnresolvedConflicts)
    assert "'foreign_stamps'" in str(error) and "'shop'" in str(error)
    assert f"kinds.Shop {shop.pk}" in str(error)
    ground.delete(other)


def test_a_view_holds_nothing_fast(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    make(kinds.LegacyTable, ground.using, shop_number=shop.pk)
    execute(
        ground.using,
        "ALTER TABLE kinds_legacy_rows RENAME TO real_rows",
        "CREATE VIEW kinds_legacy_rows AS SELECT * FROM real_rows",
    )

    report = api.delete_objects(shop, database=ground.using)

    assert report.deleted == {"kinds.Shop": 1}


@pytest.mark.parametrize("using", POSTGRESQL, indirect=True)
def test_rows_that_the_database_keeps_are_named(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    order = make(kinds.Order, ground.using, shop=shop)
    execute(
        ground.using,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER keep BEFORE DELETE ON kinds_order FOR EACH ROW EXECUTE FUNCTION keep()",
    )

    error = ground.refuse(shop)

    assert isinstance(error, WriteFailed)
    assert f"keeps kinds.Order.{order.pk}" in str(error)


@pytest.mark.parametrize("using", POSTGRESQL, indirect=True)
def test_a_row_that_the_database_refuses_to_delete_is_named(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    orders = [make(kinds.Order, ground.using, shop=shop, number=str(number)) for number in range(9)]
    execute(
        ground.using,
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF OLD.number = '6' THEN RAISE check_violation USING MESSAGE = 'number six stays'; END IF;
        RETURN OLD; END $$""",
        "CREATE TRIGGER refuse BEFORE DELETE ON kinds_order FOR EACH ROW EXECUTE FUNCTION refuse()",
    )

    error = ground.refuse(shop)

    assert isinstance(error, WriteFailed)
    assert f"refuses to delete kinds.Order.{orders[6].pk}" in str(error)
    assert "number six stays" in str(error)
    assert error.report is not None and error.report.failures[0]["model"] == "kinds.Order"


# What it costs


def count_queries(ground: Ground, size: int) -> int:
    shop = make(kinds.Shop, ground.using)
    orders = [kinds.Order(shop=shop, number=str(number)) for number in range(size)]
    ground.rows(kinds.Order).bulk_create(orders)
    ground.rows(kinds.Line).bulk_create(kinds.Line(order=order, text="") for order in orders)
    ground.rows(kinds.Visit).bulk_create(kinds.Visit(shop=shop, text="") for _ in range(size))
    with CaptureQueriesContext(connections[ground.using]) as queries:
        api.delete_objects(shop, database=ground.using)
    return len(queries)


def test_many_objects_take_as_many_queries_as_few(ground: Ground) -> None:
    assert count_queries(ground, 2000) == count_queries(ground, 20)


# Bad input


@pytest.mark.parametrize(
    ("objects", "options", "kind", "text"),
    [
        ([], {}, UnknownObject, "Name the objects to delete"),
        (["kinds.Shop.4711"], {}, UnknownObject, "There is no kinds.Shop.4711"),
        (["kinds.Shop.one"], {}, UnknownObject, "cannot be a primary key"),
        (["kinds.Nothing.1"], {}, UnknownObject, "There is no model kinds.Nothing"),
        (["gestore_sync.Origin.1"], {}, UnknownObject, "gestore_sync.Origin"),
        (["shop"], {}, UnknownObject, "names no object"),
        (["kinds.Shop.1"], {"own": ["kinds.Shop.nothing"]}, UnknownLink, "kinds.Shop.nothing"),
        (["kinds.Shop.1"], {"reach": "far"}, WrongSetting, "no reach 'far'"),
        (["kinds.Shop.1"], {"database": "nowhere"}, WrongDatabase, "no database 'nowhere'"),
        (["kinds.Shop.1"], {"files": True, "backup": "all.json"}, WrongSetting, ".tar.gz"),
    ],
)
def test_bad_input_is_told(
    ground: Ground, objects: list[str], options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text.replace(".", r"\.")):
        api.delete_objects(objects, **{"database": ground.using, **options})


def test_an_instance_of_another_database_is_refused(ground: Ground) -> None:
    shop = make(kinds.Shop, "remote", pk=1)
    make(kinds.Shop, ground.using, pk=1)

    with pytest.raises(WrongDatabase, match="was read from the database 'remote'"):
        api.delete_objects(shop, database=ground.using)

    assert ground.rows(kinds.Shop).exists()


def test_sites_are_deleted_like_anything_else(ground: Ground) -> None:
    site = make(Site, ground.using, domain="example.org", name="example")
    make(kinds.Banner, ground.using, site=site)

    assert ground.delete(site).deleted == {"sites.Site": 1, "kinds.Banner": 1}

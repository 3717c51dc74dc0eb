from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import models
from django.test import override_settings

from gestore_sync.exceptions import UnknownLink, UnresolvedConflicts
from testproject.campus.models import (
    Category,
    Comment,
    Course,
    Enrolment,
    Lesson,
    Organization,
    Person,
    Profile,
    Tag,
    Team,
)
from testproject.campus.models import Membership as TeamMembership
from tests.kinds.making import make, make_many
from tests.policies.models import (
    Area,
    Article,
    Brand,
    Claim,
    Colour,
    Depot,
    Parcel,
    Remark,
    Scan,
    Shift,
    ShiftReport,
    Trace,
    Worker,
)
from tests.policies.watching import CROSSED, Watch, paired, read_only

pair = paired(*CROSSED)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot with rows by every kind of link, that shares brand, colour, worker and boss with another one."""
    make_many(Parcel, watch.target, 3)
    using = watch.source
    shared = {
        "brand": make(Brand, using, name="shared"),
        "colour": make(Colour, using, name="shared"),
    }
    worker = make(Worker, using, email="worker", name="ours")
    boss = make(Worker, using, email="boss", name="ours")
    for name in ("theirs", "ours"):
        depot = make(Depot, using, name=name, boss=boss)
        depot.colours.add(shared["colour"])
        shift = make(Shift, using, depot=depot, worker=worker)
        make(ShiftReport, using, shift=shift, text=name)
        make(Article, using, depot=depot, code="A", title=name)
        parcel = make(Parcel, using, depot=depot, number=name, **shared)
        make_many(Scan, using, 2, parcel=parcel, text=name)
        make(Remark, using, subject=parcel, text=name)
        make(Claim, using, parcel=parcel, text=name)
        make(Trace, using, parcel=parcel, text=name)
    return depot


OWNED = {
    "policies.Depot": 1,
    "policies.Depot_colours": 1,
    "policies.Shift": 1,
    "policies.ShiftReport": 1,
    "policies.Article": 1,
    "policies.Parcel": 1,
    "policies.Scan": 2,
    "policies.Remark": 1,
}
REFERRED = {"policies.Brand": 1, "policies.Colour": 1, "policies.Worker": 2}


def without(*labels: str, **counts: int) -> dict[str, int]:
    """Return the usual counts without some models."""
    return {label: number for label, number in {**OWNED, **REFERRED}.items() if label not in labels} | counts


def texts(watch: Watch, model: type[models.Model], name: str = "text") -> list[Any]:
    """Return the values that the rows of the target have in a column, without those of the crowd."""
    values = watch.on_target(model).values_list(name, flat=True)
    return sorted(value for value in values if value in ("ours", "theirs", "shared", None))


# Without any flag


def test_what_belongs_to_the_root_travels_with_what_that_needs(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot)

    assert report.created == OWNED | REFERRED
    assert not watch.on_target(Depot).filter(name="theirs").exists()
    assert report.warnings == []


def test_the_report_says_through_which_links_objects_came(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot)

    assert report.why["policies.Depot"] == {"root": 1}
    assert report.why["policies.Parcel"] == {"policies.Parcel.depot": 1}
    assert report.why["policies.Scan"] == {"policies.Scan.parcel": 2}
    assert report.why["policies.Brand"] == {"policies.Parcel.brand": 1}
    assert set(report.why["policies.Worker"]) == {"policies.Depot.boss", "policies.Shift.worker"}
    assert report.why.keys() == OWNED.keys() | REFERRED.keys() | {"contenttypes.ContentType"}


def test_rows_that_survive_what_travels_are_counted_as_mentions(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot)

    assert report.mentions == {"policies.Claim.parcel": 1, "policies.Trace.parcel": 1}
    assert not watch.on_target(Claim).exists()


def test_what_hangs_on_created_referred_objects_is_reported(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot)

    assert report.left_behind["policies.Worker"]["policies.Shift.worker"] == 1


def test_nothing_is_left_behind_of_matched_objects(watch: Watch, depot: Depot) -> None:
    for email in ("worker", "boss"):
        make(Worker, watch.target, email=email)

    report = watch.push(depot)

    assert "policies.Worker" not in report.left_behind


# --own


def test_own_on_a_reverse_link_takes_what_mentions_the_root(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, own=["policies.Claim.parcel"])

    assert report.created == without(**{"policies.Claim": 1})
    assert report.mentions == {"policies.Trace.parcel": 1}
    watch.on_source(Claim).update(text="new")
    assert watch.push(depot, own=["policies.Claim.parcel"]).updated == {"policies.Claim": 1}


def test_own_on_a_forward_link_keeps_its_end_up_to_date(watch: Watch, depot: Depot) -> None:
    make(Worker, watch.target, email="boss", badge=depot.boss.badge, name="theirs")

    report = watch.push(depot, own=["policies.Depot.boss"])

    assert report.updated == {"policies.Worker": 1}
    assert watch.on_target(Worker).get(email="boss").name == "ours"


def test_own_on_a_forward_link_takes_the_parts_of_its_end(watch: Watch, depot: Depot) -> None:
    other = watch.on_source(Depot).get(name="theirs")
    make(Shift, watch.source, depot=other, worker=depot.boss, hours=77)

    report = watch.push(depot, own=["policies.Depot.boss"])

    assert report.created == without(**{"policies.Shift": 2, "policies.Depot": 2, "policies.Depot_colours": 2})
    shift = watch.on_target(Shift).get(hours=77)
    assert (shift.worker.email, shift.depot.name) == ("boss", "theirs")
    assert texts(watch, Parcel, "number") == ["ours"]
    (warning,) = report.warnings
    assert f"policies.Depot.{other.pk}" in warning


@pytest.mark.parametrize("link", ["policies.Depot.workers", "policies.Shift.worker"])
def test_own_on_an_explicit_many_to_many_field_keeps_members_up_to_date(watch: Watch, depot: Depot, link: str) -> None:
    make(Worker, watch.target, email="worker", badge=999_999, name="theirs")

    report = watch.push(depot, own=[link])

    assert report.updated == {"policies.Worker": 1}
    assert watch.on_target(Worker).get(email="worker").name == "ours"


@pytest.mark.parametrize("link", ["policies.Depot.colours", "policies.Depot_colours.colour"])
def test_own_on_an_automatic_many_to_many_field_keeps_members_up_to_date(watch: Watch, depot: Depot, link: str) -> None:
    make(Colour, watch.target, name="shared", shade="theirs")
    watch.on_source(Colour).update(shade="ours")

    report = watch.push(depot, own=[link], ignore=["policies.Parcel.colour"])

    assert report.updated == {"policies.Colour": 1}


# --refer


def test_refer_on_a_reverse_link_takes_rows_without_their_parts(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, refer=["policies.Parcel.depot"])

    assert report.created == without("policies.Scan", "policies.Remark")
    assert report.left_behind["policies.Parcel"]["policies.Scan.parcel"] == 2


def test_refer_on_a_reverse_link_leaves_rows_as_they_are(watch: Watch, depot: Depot) -> None:
    watch.push(depot, refer=["policies.Parcel.depot"])
    watch.on_source(Parcel).update(text="new")

    report = watch.push_nothing(depot, refer=["policies.Parcel.depot"])

    assert report.matched["policies.Parcel"] == 1


def test_refer_on_a_mention_takes_it_without_its_parts(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, refer=["policies.Claim.parcel"])

    assert report.created == without(**{"policies.Claim": 1})
    watch.on_source(Claim).update(text="new")
    watch.push_nothing(depot, refer=["policies.Claim.parcel"])


def test_refer_on_a_many_to_many_field_takes_its_members(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, refer=["policies.Depot.colours"])

    assert report.created == without()


# --ignore


def test_ignore_on_a_reverse_link_leaves_its_rows_out(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, ignore=["policies.Parcel.depot"])

    assert report.created == without("policies.Parcel", "policies.Scan", "policies.Remark", "policies.Brand")


def test_ignore_of_a_model_leaves_its_rows_out(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, ignore=["policies.Scan", "policies.shift"])

    expected = without("policies.Scan", "policies.Shift", "policies.ShiftReport") | {"policies.Worker": 1}
    assert report.created == expected


def test_an_ignored_optional_link_becomes_null(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, ignore=["policies.Parcel.brand"])

    assert report.created == without("policies.Brand")
    assert watch.on_target(Parcel).get(number="ours").brand_id is None
    watch.push_nothing(depot, ignore=["policies.Parcel.brand"])


def test_an_ignored_optional_link_is_kept_where_the_target_has_its_end(watch: Watch, depot: Depot) -> None:
    there = make(Brand, watch.target, name="shared")

    watch.push(depot, ignore=["policies.Parcel.brand"])

    assert watch.on_target(Parcel).get(number="ours").brand_id == there.pk


def test_an_optional_link_to_an_ignored_model_becomes_null(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, ignore=["policies.Brand"])

    assert "policies.Brand" not in report.created
    assert watch.on_target(Parcel).get(number="ours").brand_id is None


def test_an_ignored_required_link_to_nothing_is_a_conflict_that_names_it(watch: Watch, depot: Depot) -> None:
    shift = watch.on_source(Shift).get(depot=depot)

    error = watch.refuse(depot, ignore=["policies.Shift.worker"])

    assert isinstance(error, UnresolvedConflicts)
    assert f"policies.Shift.{shift.pk}" in str(error)
    assert "policies.Shift.worker" in str(error)
    assert error.report is not None
    assert [(c["model"], c["pk"], c["resolved"]) for c in error.report.conflicts] == [
        ("policies.Shift", str(shift.pk), None)
    ]


def test_a_required_link_to_an_ignored_model_is_a_conflict_that_names_it(watch: Watch, depot: Depot) -> None:
    error = watch.refuse(depot, ignore=["policies.Worker"])

    assert "policies.Shift.worker" in str(error)


def test_an_ignored_required_link_is_kept_where_the_target_has_its_end(watch: Watch, depot: Depot) -> None:
    there = make(Worker, watch.target, email="worker", name="theirs")

    report = watch.push(depot, ignore=["policies.Shift.worker"])

    assert report.created == without() | {"policies.Worker": 1}
    assert watch.on_target(Shift).get(depot__name="ours").worker_id == there.pk
    assert watch.on_target(Worker).get(email="worker").name == "theirs"


def test_ignore_on_an_automatic_many_to_many_field_leaves_its_members_out(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, ignore=["policies.Depot.colours", "policies.Parcel.colour"])

    assert report.created == without("policies.Depot_colours", "policies.Colour")
    assert not watch.on_target(Depot).get(name="ours").colours.exists()


def test_ignore_on_an_explicit_many_to_many_field_leaves_its_members_out(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, ignore=["policies.Depot.workers"])

    expected = without("policies.Shift", "policies.ShiftReport") | {"policies.Worker": 1}
    assert report.created == expected


@pytest.mark.parametrize("link", ["policies.Parcel.remarks", "policies.Remark.subject"])
def test_ignore_on_a_generic_link_leaves_its_rows_out(watch: Watch, depot: Depot, link: str) -> None:
    report = watch.push(depot, ignore=[link])

    assert report.created == without("policies.Remark")


def test_an_ignored_link_does_not_take_away_what_is_there(watch: Watch, depot: Depot) -> None:
    watch.push(depot)
    make(Colour, watch.target, name="other")

    watch.push_nothing(depot, ignore=["policies.Depot.colours", "policies.Shift", "policies.Parcel.brand"])


# --stop


def test_stop_takes_objects_without_their_parts_and_optional_links(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, stop=["policies.Parcel"])

    assert report.created == without("policies.Scan", "policies.Remark", "policies.Brand")
    parcel = watch.on_target(Parcel).get(number="ours")
    assert (parcel.brand_id, parcel.depot.name) == (None, "ours")


def test_stop_takes_what_objects_require(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, stop=["policies.Shift"])

    assert report.created == without("policies.ShiftReport")


def test_stop_leaves_objects_as_they_are(watch: Watch, depot: Depot) -> None:
    watch.push(depot, stop=["policies.Parcel"])
    watch.on_source(Parcel).update(text="new")

    report = watch.push_nothing(depot, stop=["policies.Parcel"])

    assert report.matched["policies.Parcel"] == 1


def test_stop_ends_a_walk_that_would_go_on(watch: Watch, depot: Depot) -> None:
    connected = watch.synchronize(depot, reach="connected", dry_run=True)
    assert connected.created["policies.Depot"] == 2

    stopped = watch.synchronize(
        depot,
        reach="connected",
        stop=["policies.Worker", "policies.Brand", "policies.Colour", "contenttypes.ContentType"],
        dry_run=True,
    )

    assert stopped.created["policies.Depot"] == 1


# --reach


def test_reach_connected_follows_links_back_from_referred_objects(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, reach="connected")

    assert texts(watch, Depot, "name") == ["ours", "theirs"]
    assert texts(watch, Scan) == ["ours", "ours", "theirs", "theirs"]
    assert texts(watch, Claim) == ["ours", "theirs"]
    assert report.mentions == {}
    watch.push_nothing(depot, reach="connected")


def test_reach_connected_warns_of_other_objects_of_the_roots_model(watch: Watch, depot: Depot) -> None:
    other = watch.on_source(Depot).get(name="theirs")

    with read_only(watch.target):
        report = watch.synchronize(depot, reach="connected", dry_run=True)

    (warning,) = report.warnings
    assert f"policies.Depot.{other.pk}" in warning


def test_reach_owned_is_the_default(watch: Watch, depot: Depot) -> None:
    assert watch.push(depot, reach="owned").created == OWNED | REFERRED


# The settings


@pytest.mark.parametrize(
    ("setting", "missing", "more"),
    [
        ({"OWN": ["policies.Claim.parcel"]}, [], {"policies.Claim": 1}),
        ({"REFER": ["policies.Parcel.depot"]}, ["policies.Scan", "policies.Remark"], {}),
        ({"IGNORE": ["policies.Scan.parcel"]}, ["policies.Scan"], {}),
        ({"IGNORE": ["policies.Scan"]}, ["policies.Scan"], {}),
        ({"STOP": ["policies.Shift"]}, ["policies.ShiftReport"], {}),
    ],
    ids=["own", "refer", "ignore link", "ignore model", "stop"],
)
def test_the_settings_say_the_same_as_the_flags(
    watch: Watch, depot: Depot, setting: dict[str, list[str]], missing: list[str], more: dict[str, int]
) -> None:
    with override_settings(GESTORE_SYNC=setting):
        report = watch.push(depot)

    assert report.created == without(*missing, **more)


@override_settings(GESTORE_SYNC={"REACH": "connected"})
def test_the_settings_may_say_that_all_is_connected(watch: Watch, depot: Depot) -> None:
    watch.push(depot)

    assert texts(watch, Depot, "name") == ["ours", "theirs"]


@pytest.mark.parametrize(
    ("setting", "flags", "missing", "more"),
    [
        ({"IGNORE": ["policies.Scan.parcel"]}, {"own": ["policies.Scan.parcel"]}, [], {}),
        ({"OWN": ["policies.Claim.parcel"]}, {"ignore": ["policies.Claim.parcel"]}, [], {}),
        ({"REFER": ["policies.Parcel.depot"]}, {"own": ["policies.Parcel.depot"]}, [], {}),
        ({"OWN": ["policies.Claim.parcel"]}, {"refer": ["policies.Claim.parcel"]}, [], {"policies.Claim": 1}),
        ({"REACH": "connected"}, {"reach": "owned"}, [], {}),
        (
            {"OWN": ["policies.Claim.parcel"]},
            {"ignore": ["policies.Scan.parcel"]},
            ["policies.Scan"],
            {"policies.Claim": 1},
        ),
    ],
)
def test_a_flag_wins_over_a_setting_for_the_same_link(
    watch: Watch,
    depot: Depot,
    setting: dict[str, Any],
    flags: dict[str, Any],
    missing: list[str],
    more: dict[str, int],
) -> None:
    with override_settings(GESTORE_SYNC=setting):
        report = watch.push(depot, **flags)

    assert report.created == without(*missing, **more)


def test_a_link_with_two_roles_is_told(watch: Watch, depot: Depot) -> None:
    error = watch.refuse(depot, own=["policies.Claim.parcel"], ignore=["policies.Claim.parcel"])

    assert isinstance(error, UnknownLink)
    assert "policies.Claim.parcel" in str(error)


def test_links_and_models_are_named_in_any_letter_case(watch: Watch, depot: Depot) -> None:
    report = watch.push(depot, own=["policies.claim.parcel"], ignore=["policies.SCAN"])

    assert report.created == without("policies.Scan", **{"policies.Claim": 1})


# Roots


def test_a_root_in_the_middle_refers_upwards(watch: Watch, depot: Depot) -> None:
    make(Parcel, watch.source, depot=depot, number="sibling")

    report = watch.push(watch.on_source(Parcel).get(number="ours"))

    assert report.created == {
        "policies.Depot": 1,
        "policies.Parcel": 1,
        "policies.Scan": 2,
        "policies.Remark": 1,
        "policies.Brand": 1,
        "policies.Colour": 1,
        "policies.Worker": 1,
    } | {"policies.Depot_colours": 1}


def test_a_branch_of_a_tree_refers_to_what_is_above_and_owns_what_is_below(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    areas: dict[str, Area] = {}
    for name, parent in (("top", None), ("uncle", "top"), ("root", "top"), ("brother", "top"), ("child", "root")):
        areas[name] = make(Area, watch.source, depot=depot, name=name, parent=areas.get(parent or ""))

    report = watch.push(areas["root"])

    assert set(watch.on_target(Area).values_list("name", flat=True)) == {"top", "root", "child"}
    assert len(report.warnings) >= 1


def test_two_roots_travel_together(watch: Watch, depot: Depot) -> None:
    other = watch.on_source(Depot).get(name="theirs")

    report = watch.push(depot, other)

    assert report.created == {label: 2 * number for label, number in OWNED.items()} | REFERRED
    assert report.warnings == []


def test_an_object_that_is_both_owned_and_referred_to_is_owned(watch: Watch, depot: Depot) -> None:
    make(Brand, watch.target, name="shared", motto="theirs")
    brand = watch.on_source(Brand).get(name="shared")
    watch.on_source(Parcel).update(brand=None)
    watch.on_source(Parcel).filter(number="ours").update(brand=brand)

    report = watch.push(depot, brand)

    assert report.updated == {"policies.Brand": 1}


# Nothing leaks

HOUR = dt.timedelta(hours=1)


def make_organization(using: str, code: str) -> Organization:
    return make(Organization, using, code=code, logo="")


def test_matched_referred_objects_pull_nothing_in(watch: Watch) -> None:
    tables = {model: watch.on_target(model) for model in (Organization, Profile, Comment, Enrolment)}
    home = make_organization(watch.source, "home")
    person = make(Person, watch.source, email="a@b.c", home_organization=home)
    make(Profile, watch.source, person=person, photo="")
    make(Person, watch.target, email="a@b.c", first_name="theirs")
    course = make(Course, watch.source, organization=make_organization(watch.source, "root"), code="A")
    make(Enrolment, watch.source, course=course, person=person, role="learner")

    report = watch.push("campus.Organization.code=root")

    assert report.matched["campus.Person"] == 1
    assert report.created == {"campus.Organization": 1, "campus.Course": 1, "campus.Enrolment": 1}
    assert not tables[Profile].exists()
    assert watch.on_target(Person).get().home_organization is None


def test_matched_referred_objects_pull_nothing_in_at_two_steps(watch: Watch) -> None:
    top = make(Category, watch.source, code="top", organization=make_organization(watch.source, "theirs"))
    make(Category, watch.source, code="leaf", parent=make(Category, watch.source, code="middle", parent=top))
    make(Category, watch.target, code="leaf")
    leaf = Category.objects.using(watch.source).get(code="leaf")
    course = make(Course, watch.source, organization=make_organization(watch.source, "ours"), category=leaf)

    report = watch.push(course)

    assert report.matched["campus.Category"] == 1
    assert set(watch.on_target(Category).values_list("code", flat=True)) == {"leaf"}
    assert not watch.on_target(Organization).filter(code="theirs").exists()


def test_other_customers_of_referred_objects_never_travel(watch: Watch) -> None:
    people = make_many(Person, watch.source, 2)
    tag = make(Tag, watch.source)
    platform = make(Category, watch.source, code="platform")
    for code in ("acme", "globex"):
        organization = make_organization(watch.source, code)
        category = make(Category, watch.source, code=code, parent=platform, organization=organization)
        course = make(Course, watch.source, organization=organization, code=code, category=category)
        make(Course, watch.source, organization=organization, code=f"{code}2", category=platform)
        course.tags.add(tag)
        lesson = make(Lesson, watch.source, course=course, title=code, slides="", duration=HOUR)
        team = make(Team, watch.source, organization=organization, name=code)
        for person in people:
            make(Enrolment, watch.source, course=course, person=person, role="learner")
            make(TeamMembership, watch.source, team=team, person=person)
            make(Comment, watch.source, subject=lesson, author=person, text=code)

    report = watch.push("campus.Organization.code=acme")

    assert report.warnings == []
    for model, name in ((Organization, "code"), (Team, "name"), (Lesson, "title"), (Comment, "text")):
        assert set(watch.on_target(model).values_list(name, flat=True)) == {"acme"}
    assert set(watch.on_target(Course).values_list("code", flat=True)) == {"acme", "acme2"}
    assert set(watch.on_target(Category).values_list("code", flat=True)) == {"acme", "platform"}
    assert (watch.on_target(Enrolment).count(), watch.on_target(TeamMembership).count()) == (2, 2)
    assert report.left_behind["campus.Person"]["campus.Enrolment.person"] == 2


def test_another_customer_that_a_created_person_is_at_home_with_comes_alone_and_is_warned_of(
    watch: Watch,
) -> None:
    home = make_organization(watch.source, "home")
    make(Course, watch.source, organization=home)
    root = make_organization(watch.source, "root")
    person = make(Person, watch.source, home_organization=home)
    make(TeamMembership, watch.source, team=make(Team, watch.source, organization=root), person=person)

    report = watch.push(root)

    assert report.created["campus.Organization"] == 2
    assert not watch.on_target(Course).exists()
    assert any(f"campus.Organization.{home.pk}" in warning for warning in report.warnings)
    assert report.left_behind["campus.Organization"]["campus.Course.organization"] == 1


def test_another_customer_stays_behind_where_its_link_is_ignored(watch: Watch) -> None:
    root = make_organization(watch.source, "root")
    person = make(Person, watch.source, home_organization=make_organization(watch.source, "home"))
    make(TeamMembership, watch.source, team=make(Team, watch.source, organization=root), person=person)

    report = watch.push(root, ignore=["campus.Person.home_organization"])

    assert report.created["campus.Organization"] == 1
    assert report.warnings == []
    assert watch.on_target(Person).get().home_organization is None

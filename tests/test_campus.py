from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.urls import reverse

from testproject.campus.models import AuditEntry, Comment, Course, Enrolment, Organization, Person, Tag
from testproject.campus.portrait import all_rows, owned_rows, people
from testproject.campus.seed import person_name

MODELS = list(apps.get_app_config("campus").get_models())


def seed(*arguments: Any) -> None:
    call_command("seedcampus", *map(str, arguments), verbosity=0)


def everything(using: str) -> dict[str, Any]:
    emails = Person.objects.using(using).values_list("email", flat=True)
    return {
        "acme": owned_rows("acme", using),
        "globex": owned_rows("globex", using),
        "people": people(emails, using),
        "tags": all_rows(Tag, using),
        "audit": all_rows(AuditEntry, using),
    }


def count_all(using: str) -> int:
    models = apps.get_app_config("campus").get_models(include_auto_created=True)
    return sum(model._base_manager.using(using).count() for model in models)


@pytest.mark.django_db(databases=["default", "pg_local"])
def test_the_same_options_make_the_same_rows_whatever_the_database() -> None:
    seed("--learners", 60, "--database", "default")
    seed("--learners", 60, "--database", "pg_local")

    assert everything("default") == everything("pg_local")


@pytest.mark.django_db(databases=["default", "pg_local"])
def test_the_same_options_give_the_same_pks() -> None:
    seed("--learners", 60, "--database", "default")
    seed("--learners", 60, "--database", "pg_local")

    for model in MODELS:
        if model is not Comment:  # whose content types have other pks
            assert all_rows(model, "default") == all_rows(model, "pg_local")


@pytest.mark.django_db(databases=["default", "remote"])
def test_another_number_of_learners_makes_other_rows() -> None:
    seed("--learners", 60, "--database", "default")
    seed("--learners", 61, "--database", "remote")

    assert everything("default")["acme"] != everything("remote")["acme"]


@pytest.mark.django_db
def test_one_organization_has_about_ten_objects_for_each_learner() -> None:
    seed("--learners", 1000, "--organizations", 1)

    assert Person.objects.count() == 1000
    assert 9_800 <= count_all("default") <= 10_500


@pytest.mark.django_db
def test_the_second_organization_is_a_tenth_and_shares_half_of_its_people_with_the_first() -> None:
    seed("--learners", 200)

    learners = {
        code: set(Enrolment.objects.filter(course__organization__code=code).values_list("person", flat=True))
        for code in ("acme", "globex")
    }

    assert len(learners["acme"]) == 200
    assert len(learners["globex"]) == 20
    assert len(learners["acme"] & learners["globex"]) == 10


@pytest.mark.django_db
def test_organizations_share_tags_and_the_platforms_categories() -> None:
    seed("--learners", 200)

    used = {
        code: {
            name: set(Course.objects.filter(organization__code=code).values_list(name, flat=True))
            for name in ("tags", "category")
        }
        for code in ("acme", "globex")
    }

    assert used["acme"]["tags"] & used["globex"]["tags"]
    assert used["acme"]["category"] & used["globex"]["category"]


@pytest.mark.django_db
def test_people_of_two_organizations_are_at_home_in_none() -> None:
    seed("--learners", 200)

    shared = [
        person
        for person in Person.objects.all()
        if person.enrolments.values("course__organization").distinct().count() == 2
    ]

    assert len(shared) == 10
    assert {person.home_organization for person in shared} == {None}


@pytest.mark.django_db
def test_some_people_are_at_home_in_each_organization() -> None:
    seed("--learners", 200)

    homes = Counter(Person.objects.values_list("home_organization__code", flat=True))

    assert homes["acme"] > 100
    assert homes["globex"] > 5
    assert homes[None] > 10


@pytest.mark.django_db(databases=["default", "remote"])
def test_two_sites_have_the_same_people_under_other_pks() -> None:
    seed("--learners", 40, "--first-person", 10)
    seed("--database", "remote", "--learners", 20, "--organizations", 1, "--first-organization", 2)

    here = dict(Person.objects.values_list("email", "pk"))
    there = dict(Person.objects.using("remote").values_list("email", "pk"))
    uuids_here = dict(Person.objects.values_list("email", "uuid"))
    uuids_there = dict(Person.objects.using("remote").values_list("email", "uuid"))
    same = here.keys() & there.keys()

    assert len(same) == 10
    assert all(here[email] != there[email] for email in same)
    assert all(uuids_here[email] == uuids_there[email] for email in same)
    assert list(Organization.objects.using("remote").values_list("code", flat=True)) == ["initech"]


@pytest.mark.django_db
def test_what_can_be_in_cycles_is_in_cycles() -> None:
    seed("--learners", 60)

    featured = Course.objects.exclude(featured_lesson=None).select_related("featured_lesson")

    assert featured
    assert all(course.featured_lesson.course_id == course.pk for course in featured)


@pytest.mark.django_db
def test_every_table_of_the_platform_gets_rows() -> None:
    seed("--learners", 20)

    models = list(apps.get_app_config("campus").get_models(include_auto_created=True))

    assert [model._meta.label for model in models if not model._base_manager.exists()] == []


@pytest.mark.django_db(databases=["default", "remote", "pg_local", "pg_remote"])
@pytest.mark.parametrize("using", ["default", "pg_local"])
def test_rows_saved_after_seeding_get_the_next_pk(using: str) -> None:
    seed("--learners", 20, "--database", using)
    highest = Enrolment.objects.using(using).order_by("-pk").values_list("pk", flat=True)[0]
    Enrolment.objects.using(using).filter(pk=1).delete()
    tag = Tag.objects.using(using).create(name="handmade")
    course = Course.objects.using(using).order_by("pk")[0]

    person = Person.objects.using(using).create(
        email="new@example.org", first_name="New", last_name="Comer", joined=course.updated
    )
    enrolment = Enrolment.objects.using(using).create(
        course=course, person=person, role="learner", enrolled_at=course.updated
    )

    assert tag.pk == 17
    assert enrolment.pk == highest + 1


@pytest.mark.django_db
def test_a_seeded_database_is_refused_and_left_as_it_is() -> None:
    seed("--learners", 20)
    before = {model: all_rows(model, "default") for model in MODELS}

    with pytest.raises(CommandError, match=r'"default" has data of the platform already .*2 campus\.Organiz'):
        seed("--learners", 20)

    assert {model: all_rows(model, "default") for model in MODELS} == before


@pytest.mark.django_db
def test_a_database_with_a_single_row_is_refused() -> None:
    Tag.objects.create(name="mine")

    with pytest.raises(CommandError, match=r"1 campus\.Tag"):
        seed("--learners", 20)

    assert count_all("default") == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learners", 0], "at least one learner"),
        (["--learners", 5, "--organizations", 0], "12 organizations to choose from"),
        (["--learners", 5, "--organizations", 13], "12 organizations to choose from"),
        (["--learners", 5, "--first-organization", 11], "12 organizations to choose from"),
        (["--learners", 5, "--first-person", -1], "count from 0"),
        (["--learners", 5, "--database", "elsewhere"], 'no database "elsewhere"'),
    ],
)
def test_wrong_options_are_told_and_nothing_is_written(arguments: list[Any], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        seed(*arguments)

    assert count_all("default") == 0


@pytest.mark.django_db
@pytest.mark.parametrize("learners", [1, 2, 3, 7])
def test_few_learners_are_enough(learners: int) -> None:
    seed("--learners", learners, "--organizations", 8)

    assert Organization.objects.count() == 8
    assert Course.objects.filter(enrolments=None).count() == 0


@pytest.mark.django_db
def test_a_course_is_named_by_its_organization_and_its_code() -> None:
    seed("--learners", 20)
    course = Course.objects.get(organization__code="globex", code="BOT-101")

    assert course.natural_key() == (("globex",), "BOT-101")
    assert Course.objects.get_by_natural_key(("globex",), "BOT-101") == course


def test_a_hundred_thousand_people_have_emails_of_their_own() -> None:
    emails = {person_name(number)[2] for number in range(100_000)}

    assert len(emails) == 100_000
    assert all(email.isascii() for email in emails)


@pytest.mark.django_db(databases=["default", "remote", "pg_local", "pg_remote"])
@override_settings(MIGRATION_MODULES={})
def test_the_migrations_of_the_platform_are_complete() -> None:
    call_command("makemigrations", "campus", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db
@pytest.mark.urls("testproject.urls")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_admin_shows_the_platform(model: Any, admin_client: Client) -> None:
    seed("--learners", 3)
    if not admin.site.is_registered(model):
        assert model.__name__ in {"Profile", "Membership"}  # on the page of the person, of the team
        return
    opts = model._meta
    first = model._default_manager.all()[0]

    listed = admin_client.get(reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"))
    opened = admin_client.get(reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[first.pk]))

    assert listed.status_code == 200
    assert opened.status_code == 200

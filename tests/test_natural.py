from __future__ import annotations

import copy
import datetime
import json
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.core.checks import Error
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.core.management import call_command
from django.core.serializers import sort_dependencies
from django.db import connections, models, transaction
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter
from django.db.models.manager import BaseManager
from django.test.utils import isolate_apps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mptt.models import MPTTModel, TreeForeignKey, TreeManager

from gestore_sync.natural import NaturalKeyModel, NaturalManager, find_natural_key, natural_key_of
from tests.conftest import DATABASES, Pair
from tests.naturals import models as naturals
from tests.naturals.models import (
    Badge,
    Booking,
    City,
    Country,
    Course,
    CourseManager,
    Lesson,
    Limited,
    Listed,
    Migrated,
    MigratedManager,
    MigratedNaturalManager,
    Node,
    Note,
    NumberedSheet,
    OnlineCourse,
    OpenCourse,
    Organization,
    Page,
    PageWithout,
    Person,
    Poster,
    PublishedManager,
    Reading,
    Room,
    Sheet,
    Tag,
    Thing,
)

on_all_databases = pytest.mark.django_db(databases=DATABASES)


@pytest.fixture(
    params=[
        pytest.param("default", id="sqlite", marks=on_all_databases),
        pytest.param("pg_local", id="postgresql", marks=on_all_databases),
    ]
)
def alias(request: pytest.FixtureRequest) -> str:
    """A database of each kind in turn."""
    return str(request.param)


def make_course(using: str, slug: str = "acme", code: str = "python") -> Course:
    organization, _ = Organization.objects.using(using).get_or_create(slug=slug)
    return Course.objects.using(using).create(organization=organization, code=code)


def shift_pks(using: str, model: type[models.Model], **values: Any) -> None:
    """Use up a primary key, so that the same objects have other primary keys than elsewhere."""
    model._default_manager.using(using).create(**values).delete()


class TestMakingAManager:
    def test_its_class_extends_the_given_manager(self) -> None:
        manager = NaturalManager("code", manager=CourseManager)

        assert isinstance(manager, NaturalManager)
        assert isinstance(manager, CourseManager)
        assert type(manager).__mro__.index(NaturalManager) < type(manager).__mro__.index(CourseManager)

    def test_methods_of_the_given_manager_win_over_those_of_django(self) -> None:
        class Quiet(models.Manager):
            def none(self) -> Any:
                return "nothing at all"

        assert NaturalManager("code", manager=Quiet).none() == "nothing at all"

    def test_a_subclass_may_name_the_fields(self) -> None:
        class Coded(NaturalManager, CourseManager):
            fields = ("code",)

        manager = Coded()

        assert type(manager) is Coded
        assert manager.fields == ("code",)
        assert manager.allow_many is False

    def test_a_subclass_may_allow_many(self) -> None:
        class Coded(NaturalManager):
            fields = ("code",)
            allow_many = True

        assert Coded().allow_many is True
        assert Coded("number").allow_many is True

    def test_a_subclass_with_fields_can_be_given_others(self) -> None:
        manager = MigratedNaturalManager("number", allow_many=True)

        assert isinstance(manager, MigratedNaturalManager)
        assert (manager.fields, manager.allow_many) == (("number",), True)
        assert MigratedNaturalManager.fields == ("code",)
        assert MigratedNaturalManager(allow_many=True).fields == ("code",)

    @pytest.mark.parametrize(
        "manager",
        [
            NaturalManager("code", "number"),
            NaturalManager("code", "number", allow_many=True, manager=CourseManager),
            Course.objects,
            OpenCourse.objects,
            OnlineCourse.objects,
            Migrated.found,
        ],
        ids=lambda manager: type(manager).__name__,
    )
    def test_its_class_is_made_without_arguments(self, manager: NaturalManager) -> None:
        again = manager.__class__()

        assert type(again) is type(manager)
        assert (again.fields, again.allow_many) == (manager.fields, manager.allow_many)

    def test_a_manager_of_a_natural_manager_is_extended_too(self) -> None:
        manager = NaturalManager("number", manager=MigratedNaturalManager)

        assert isinstance(manager, MigratedNaturalManager)
        assert manager.fields == ("number",)

    def test_without_fields_it_is_an_assertion_error(self) -> None:
        class Bare(NaturalManager):
            pass

        with pytest.raises(AssertionError, match="NaturalManager has no fields"):
            NaturalManager()
        with pytest.raises(AssertionError, match="Bare has no fields"):
            Bare(allow_many=True)

    @pytest.mark.parametrize("manager", [object, BaseManager, CourseManager(), "Manager", {}])
    def test_what_is_no_manager_class_is_a_validation_error(self, manager: Any) -> None:
        with pytest.raises(ValidationError, match="is no subclass of"):
            NaturalManager("code", manager=manager)

    def test_fields_that_are_no_names_are_refused(self) -> None:
        class Letters(NaturalManager):
            fields = "code"

        with pytest.raises(ImproperlyConfigured, match="The natural key of Letters is 'code'"):
            Letters()
        with pytest.raises(ImproperlyConfigured, match="write a tuple of field names"):
            NaturalManager(("code", "number"))

    def test_an_unknown_option_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="no option allow_none"):
            NaturalManager("code", allow_none=True)


class TestFinding:
    def test_it_finds_the_object_in_the_database_of_the_manager(self, pair: Pair) -> None:
        there, here = (Sheet.objects.using(using).create(code="a") for using in (pair.target, pair.source))

        found = [Sheet.objects.db_manager(using).get_by_natural_key("a") for using in (pair.source, pair.target)]

        assert found == [here, there]
        assert [each._state.db for each in found] == [pair.source, pair.target]

    def test_nothing_found_is_does_not_exist(self, alias: str) -> None:
        with pytest.raises(Sheet.DoesNotExist):
            Sheet.objects.db_manager(alias).get_by_natural_key("a")

    def test_several_found_are_an_error(self, alias: str) -> None:
        Sheet.objects.using(alias).bulk_create([Sheet(code="a"), Sheet(code="a")])

        with pytest.raises(Sheet.MultipleObjectsReturned):
            Sheet.objects.db_manager(alias).get_by_natural_key("a")

    def test_where_many_are_allowed_the_first_pk_is_taken_whatever_the_order_of_the_model(self, alias: str) -> None:
        for age in (20, 40, 30):
            Person.objects.using(alias).create(first_name="Ada", last_name="King", age=age)

        found = Person.objects.db_manager(alias).get_by_natural_key("Ada", "King")

        assert Person.objects.using(alias).first().age == 40
        assert found.age == 20

    def test_where_many_are_allowed_nothing_found_is_does_not_exist(self, alias: str) -> None:
        with pytest.raises(Person.DoesNotExist):
            Person.objects.db_manager(alias).get_by_natural_key("Ada", "King")

    @pytest.mark.parametrize("values", [(), ("acme",), ("acme", "python", 1)])
    def test_another_number_of_values_is_a_type_error(self, values: tuple[Any, ...]) -> None:
        with pytest.raises(TypeError, match=r"naturals.Course is \(organization, code\)"):
            Course.objects.get_by_natural_key(*values)

    def test_none_finds_null(self, alias: str) -> None:
        root = Node.objects.using(alias).create(name="a")
        Node.objects.using(alias).create(name="a", parent=root)

        assert Node.objects.db_manager(alias).get_by_natural_key("a", None) == root

    @pytest.mark.parametrize("kind", ["tuple", "list", "object", "pk"])
    def test_a_link_is_given_by_natural_key_object_or_pk(self, alias: str, kind: str) -> None:
        course = make_course(alias)
        make_course(alias, slug="other")
        organization = course.organization
        values = {"tuple": ("acme",), "list": ["acme"], "object": organization, "pk": organization.pk}

        found = Course.objects.db_manager(alias).get_by_natural_key(values[kind], "python")

        assert found == course

    def test_keys_within_keys_are_found_in_the_database_of_the_manager(self, pair: Pair) -> None:
        shift_pks(pair.target, Organization, slug="gone")
        lessons = [
            Lesson.objects.using(using).create(course=make_course(using), number=1)
            for using in (pair.source, pair.target)
        ]
        assert lessons[0].course.organization.pk != lessons[1].course.organization.pk

        found = Lesson.objects.db_manager(pair.target).get_by_natural_key((("acme",), "python"), 1)

        assert found == lessons[1]
        assert found._state.db == pair.target

    def test_a_linked_object_that_is_missing_means_that_the_object_is(self, alias: str) -> None:
        with pytest.raises(Course.DoesNotExist, match=r"organization \('acme',\)"):
            Course.objects.db_manager(alias).get_by_natural_key(("acme",), "python")

    def test_a_link_to_a_model_without_natural_key_is_given_by_pk(self, alias: str) -> None:
        room = Room.objects.using(alias).create(number=5)
        day = datetime.date(2026, 1, 2)
        booking = Booking.objects.using(alias).create(room=room, day=day)

        assert booking.natural_key() == (room.pk, day)
        assert Booking.objects.db_manager(alias).get_by_natural_key(room.pk, day) == booking

    def test_a_link_to_another_column_is_given_by_that_column(self, alias: str) -> None:
        country = Country.objects.using(alias).create(code="PL")
        city = City.objects.using(alias).create(country=country, name="Toruń")

        assert city.natural_key() == ("PL", "Toruń")
        assert City.objects.db_manager(alias).get_by_natural_key("PL", "Toruń") == city

    def test_a_column_of_a_link_is_given_as_it_is(self, alias: str) -> None:
        course = make_course(alias)
        again = naturals.CourseByNumber.objects.using(alias).get()

        assert again.natural_key() == (course.organization.pk, "python")
        assert naturals.CourseByNumber.objects.db_manager(alias).get_by_natural_key(
            *again.natural_key()
        ) == naturals.CourseByNumber(pk=course.pk)

    def test_a_path_leads_through_links(self, alias: str) -> None:
        lesson = Lesson.objects.using(alias).create(course=make_course(alias), number=1)
        room = Room.objects.using(alias).create(number=5)
        badge = Badge.objects.using(alias).create(lesson=lesson, room=room, level=3)
        bare = Badge.objects.using(alias).create(lesson=lesson, level=3)

        assert badge.natural_key() == ("python", 5, 3)
        assert bare.natural_key() == ("python", None, 3)
        assert Badge.objects.db_manager(alias).get_by_natural_key("python", 5, 3) == badge
        assert Badge.objects.db_manager(alias).get_by_natural_key("python", None, 3) == bare


class TestRelatedManagers:
    def test_reverse_foreign_key(self, alias: str) -> None:
        course = make_course(alias)
        lesson = Lesson.objects.using(alias).create(course=course, number=1)
        other = make_course(alias, code="rust")

        assert course.lessons.get_by_natural_key((("acme",), "python"), 1) == lesson
        with pytest.raises(Lesson.DoesNotExist):
            other.lessons.get_by_natural_key((("acme",), "python"), 1)

    def test_both_ends_of_many_to_many(self, alias: str) -> None:
        course, other = make_course(alias), make_course(alias, code="rust")
        tag = Tag.objects.using(alias).create(name="free")
        course.tags.add(tag)

        assert course.tags.get_by_natural_key("free") == tag
        assert tag.courses.get_by_natural_key(("acme",), "python") == course
        with pytest.raises(Tag.DoesNotExist):
            other.tags.get_by_natural_key("free")

    def test_generic_relation(self, alias: str) -> None:
        course = make_course(alias)
        note = course.notes.create(text="hello")

        found = course.notes.get_by_natural_key(("naturals", "course"), course.pk, "hello")

        assert found == note
        assert note.natural_key() == (("naturals", "course"), course.pk, "hello")

    def test_keys_within_keys_are_found_in_the_database_of_the_object(self, pair: Pair) -> None:
        make_course(pair.source)
        shift_pks(pair.target, Organization, slug="gone")
        course = make_course(pair.target)
        lesson = course.lessons.create(number=1)

        assert course.lessons.get_by_natural_key((("acme",), "python"), 1) == lesson

    def test_they_keep_the_methods_of_the_extended_manager(self, alias: str) -> None:
        course = make_course(alias)

        assert list(course.organization.courses.active()) == [course]
        assert list(course.organization.courses.db_manager(alias).active()) == [course]


class TestCopies:
    @pytest.mark.parametrize("model", [Tag, Course, OpenCourse, OnlineCourse, Limited])
    @pytest.mark.parametrize("make", [copy.copy, lambda manager: pickle.loads(pickle.dumps(manager))])
    def test_a_manager_is_copied_and_pickled_whole(self, model: Any, make: Any) -> None:
        again = make(model.objects)

        assert again is not model.objects
        assert type(again) is type(model.objects)
        assert again.__dict__ == model.objects.__dict__
        assert (again.model, again.fields) == (model, model.objects.fields)

    def test_a_copied_related_manager_stays_a_related_manager(self, alias: str) -> None:
        course = make_course(alias)

        assert type(copy.copy(course.lessons)) is type(course.lessons)
        assert copy.copy(course.lessons).instance is course


class TestMigrations:
    def test_a_manager_is_written_into_a_migration_and_read_back(self) -> None:
        manager = Migrated.many

        written, imports = MigrationWriter.serialize(manager)
        names: dict[str, Any] = {}
        exec("\n".join(imports), names)
        again = eval(written, names)

        assert written.startswith("gestore_sync.NaturalManager(")
        assert again == manager
        assert (again.fields, again.allow_many, again.use_in_migrations) == (("number", "code"), True, True)

    def test_a_subclass_is_written_by_its_name(self) -> None:
        written, _ = MigrationWriter.serialize(Migrated.found)

        assert written == "tests.naturals.models.MigratedNaturalManager()"

    def test_historical_models_have_equal_managers(self) -> None:
        state = ModelState.from_model(Migrated)
        project = ProjectState()
        project.add_model(state)

        historical = project.apps.get_model("naturals", "Migrated")

        assert [name for name, _ in state.managers] == ["objects", "found", "many"]
        assert ModelState.from_model(historical).managers == state.managers
        assert historical.objects.fields == ("code",)

    def test_a_manager_that_no_migration_uses_changes_no_migration(self) -> None:
        for model in (Organization, Tag, Course, OnlineCourse, OpenCourse, Person, Poster):
            assert ModelState.from_model(model).managers == []

    def test_managers_are_equal_when_made_with_the_same_arguments(self) -> None:
        made = NaturalManager("code", "number", allow_many=True, manager=MigratedManager)

        assert made == NaturalManager("code", "number", allow_many=True, manager=MigratedManager)
        assert made == type(made)()
        assert made != NaturalManager("number", "code", allow_many=True, manager=MigratedManager)
        assert made != NaturalManager("code", "number", manager=MigratedManager)
        assert made != NaturalManager("code", "number", allow_many=True)

    def test_what_a_migration_cannot_say_is_a_value_error(self) -> None:
        class Local(models.Manager):
            pass

        with pytest.raises(ValueError, match=r"cannot import .*Local"):
            NaturalManager("code", manager=Local).deconstruct()
        with pytest.raises(ValueError, match="cannot import ManagerFromSheetQuerySet"):
            Listed.objects.deconstruct()
        with pytest.raises(ValueError, match="LimitManager with arguments"):
            Limited.objects.deconstruct()


class TestNaturalKeyModel:
    def test_natural_key_holds_the_natural_keys_of_linked_objects(self, alias: str) -> None:
        lesson = Lesson.objects.using(alias).create(course=make_course(alias), number=1)

        assert lesson.natural_key() == ((("acme",), "python"), 1)
        assert natural_key_of(lesson) == ((("acme",), "python"), 1)

    def test_a_link_that_is_null_or_not_set_is_none_in_the_key(self) -> None:
        assert Course(code="a").natural_key() == (None, "a")
        assert Lesson(number=1).natural_key() == (None, 1)
        assert Lesson(course=None, number=1).natural_key() == (None, 1)
        assert Badge(level=1).natural_key() == (None, None, 1)

    def test_the_key_of_an_unsaved_linked_object_is_used(self) -> None:
        course = Course(code="a", organization=Organization(slug="acme"))

        assert Lesson(course=course, number=1).natural_key() == ((("acme",), "a"), 1)

    def test_a_key_may_hold_the_key_of_the_parent_in_a_tree(self, alias: str) -> None:
        nodes = Node.objects.using(alias)
        leaf = nodes.create(name="c", parent=nodes.create(name="b", parent=nodes.create(name="a")))

        assert leaf.natural_key() == ("c", ("b", ("a", None)))
        assert Node.objects.db_manager(alias).get_by_natural_key(*leaf.natural_key()) == leaf

    def test_objects_is_a_natural_manager(self) -> None:
        assert isinstance(Organization.objects, NaturalManager)
        assert Organization.objects.fields == ("slug",)
        assert Organization._default_manager is Organization.objects

    def test_objects_extends_the_objects_of_the_model(self) -> None:
        assert isinstance(Course.objects, CourseManager)
        assert isinstance(Course.objects, NaturalManager)
        assert isinstance(naturals.Box.objects, CourseManager)
        assert naturals.Box.objects.fields == ("code", "label")

    def test_objects_extends_what_a_mixin_brings(self) -> None:
        assert isinstance(naturals.Article.objects, PublishedManager)
        assert naturals.Article.objects.fields == ("code",)

    def test_what_the_manager_was_made_with_is_kept(self) -> None:
        assert Limited.objects.limit == 7
        assert Limited.objects.fields == ("code",)

    def test_a_manager_made_of_a_queryset_is_extended(self, alias: str) -> None:
        listed = Listed.objects.using(alias).create(code="a", number=3)

        assert list(Listed.objects.db_manager(alias).numbered(3)) == [listed]
        assert Listed.objects.db_manager(alias).get_by_natural_key("a") == listed

    def test_the_default_manager_stays_the_same(self) -> None:
        assert Page._default_manager.name == "visible"
        assert Page.objects.fields == ("code",)
        assert PageWithout._default_manager.name == "visible"
        assert PageWithout.objects.fields == ("code",)
        assert Poster._default_manager.name == "objects"

    @isolate_apps("tests.naturals")
    def test_the_default_manager_stays_the_same_where_managers_are_inherited(self) -> None:
        class Visible(models.Model):
            visible = PublishedManager()
            objects = CourseManager()

            class Meta:
                app_label = "naturals"
                abstract = True

        class Shown(Visible, NaturalKeyModel):
            code = models.CharField(max_length=5)
            published = models.BooleanField()
            _natural_key = ("code",)

            class Meta:
                app_label = "naturals"

        class ShownChild(Shown):
            class Meta:
                app_label = "naturals"

        for model in (Shown, ShownChild):
            assert model._default_manager.name == "visible"
            assert isinstance(model.objects, NaturalManager)
            assert isinstance(model.objects, CourseManager)

    @pytest.mark.parametrize("model", [OnlineCourse, OpenCourse])
    def test_children_and_proxies_inherit_key_and_manager(self, alias: str, model: Any) -> None:
        organization = Organization.objects.using(alias).create(slug="acme")
        course = model.objects.using(alias).create(organization=organization, code="python")

        found = model.objects.db_manager(alias).get_by_natural_key(("acme",), "python")

        assert type(found) is model
        assert found == course
        assert course.natural_key() == (("acme",), "python")
        assert type(model.objects) is type(Course.objects)

    def test_a_child_may_have_another_key(self, alias: str) -> None:
        sheet = NumberedSheet.objects.using(alias).create(code="a", number=1)
        NumberedSheet.objects.using(alias).create(code="a", number=2)

        assert sheet.natural_key() == ("a", 1)
        assert NumberedSheet.objects.db_manager(alias).get_by_natural_key("a", 1) == sheet
        assert Sheet.objects.fields == ("code",)
        assert sheet.sheet_ptr.natural_key() == ("a",)

    @isolate_apps("tests.naturals")
    def test_a_child_with_another_key_keeps_the_extended_manager_and_may_have_other_options(self) -> None:
        class Child(Course):
            _natural_key = ("code", "open")
            _natural_manager_kwargs = {"allow_many": True}

            class Meta:
                app_label = "naturals"
                proxy = True

        assert Child.objects.fields == ("code", "open")
        assert Child.objects.allow_many is True
        assert isinstance(Child.objects, CourseManager)
        assert Course.objects.fields == ("organization", "code")
        assert Course.objects.allow_many is False

    @isolate_apps("tests.naturals")
    def test_options_may_name_the_manager(self) -> None:
        class Shown(NaturalKeyModel):
            published = models.BooleanField()
            _natural_key = ("published",)
            _natural_manager_kwargs = {"manager": PublishedManager}

            class Meta:
                app_label = "naturals"

        assert isinstance(Shown.objects, PublishedManager)

    def test_an_own_natural_key_may_build_on_the_inherited_one(self) -> None:
        assert naturals.Described(code="a").natural_key() == ("A",)

    @isolate_apps("tests.naturals", "mptt")
    def test_it_goes_together_with_models_of_another_metaclass(self) -> None:
        class Menu(MPTTModel, NaturalKeyModel):
            name = models.CharField(max_length=5)
            parent = TreeForeignKey("self", models.CASCADE, null=True)
            _natural_key = ("name", "parent")

            class Meta:
                app_label = "naturals"

        assert isinstance(Menu.objects, NaturalManager)
        assert isinstance(Menu.objects, TreeManager)
        assert Menu._tree_manager.tree_model is Menu

    @isolate_apps("tests.naturals")
    def test_a_missing_key_is_an_assertion_error_that_names_the_model(self) -> None:
        class Base(NaturalKeyModel):
            class Meta:
                app_label = "naturals"
                abstract = True

        with pytest.raises(AssertionError, match=r"naturals.Keyless._natural_key has no fields"):

            class Keyless(Base):
                class Meta:
                    app_label = "naturals"

    @isolate_apps("tests.naturals")
    def test_a_key_that_is_no_tuple_of_names_is_refused(self) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"naturals.Lettered._natural_key is 'code'"):

            class Lettered(NaturalKeyModel):
                code = models.CharField(max_length=5)
                _natural_key = "code"

                class Meta:
                    app_label = "naturals"

    @isolate_apps("tests.naturals")
    @pytest.mark.parametrize("field", ["colour", "course__colour", "code__upper", "course__tags", "content"])
    def test_a_field_that_is_none_is_a_system_check_error(self, field: str) -> None:
        class Misnamed(NaturalKeyModel):
            code = models.CharField(max_length=5)
            course = models.ForeignKey(Course, models.CASCADE)
            content = models.ManyToManyField(Tag)
            _natural_key = ("code", field)

            class Meta:
                app_label = "naturals"

        errors = [error for error in Misnamed.check(databases=[]) if error.id == "gestore_sync.E020"]

        assert len(errors) == 1
        assert isinstance(errors[0], Error)
        assert f"naturals.Misnamed names {field!r}" in errors[0].msg
        assert errors[0].hint
        with pytest.raises(FieldDoesNotExist):
            find_natural_key(Misnamed)

    def test_fields_that_exist_pass_the_system_checks(self) -> None:
        for model in apps.get_app_config("naturals").get_models():
            assert [error for error in model.check(databases=[]) if "gestore_sync" in str(error.id)] == []

    def test_dependencies_are_the_models_that_the_key_reads_from(self) -> None:
        assert Organization.natural_key.dependencies == []
        assert Course.natural_key.dependencies == ["naturals.organization"]
        assert Badge.natural_key.dependencies == ["naturals.lesson", "naturals.course", "naturals.room"]
        assert Node.natural_key.dependencies == []

    def test_dumpdata_sorts_by_the_dependencies_again_and_again(self) -> None:
        config = apps.get_app_config("naturals")
        wanted = [Badge, Lesson, Room, Course, Organization]

        for _ in range(2):
            ordered = [model for model in sort_dependencies([(config, wanted)]) if model in wanted]

            assert ordered.index(Badge) == 4
            assert ordered.index(Organization) < ordered.index(Course) < ordered.index(Lesson)


class TestFixtures:
    def test_dumpdata_and_loaddata_work_with_natural_keys(self, pair: Pair, tmp_path: Path) -> None:
        course = make_course(pair.source)
        course.tags.add(Tag.objects.using(pair.source).create(name="free"))
        lesson = Lesson.objects.using(pair.source).create(course=course, number=1)
        Lesson.objects.using(pair.source).create(course=course, number=2, previous=lesson)
        room = Room.objects.using(pair.source).create(pk=77, number=5)
        Badge.objects.using(pair.source).create(lesson=lesson, room=room, level=3)
        root = Node.objects.using(pair.source).create(name="a")
        Node.objects.using(pair.source).create(name="b", parent=root)
        path = tmp_path / "naturals.json"
        names = ["Badge", "Node", "Lesson", "Course", "Tag", "Room", "Organization"]
        shift_pks(pair.target, Organization, slug="gone")
        make_course(pair.target)
        Course.objects.using(pair.target).update(open=False)

        call_command(
            "dumpdata",
            *(f"naturals.{name}" for name in names),
            use_natural_foreign_keys=True,
            use_natural_primary_keys=True,
            database=pair.source,
            output=str(path),
            verbosity=0,
        )
        for _ in range(2):
            call_command("loaddata", str(path), database=pair.target, verbosity=0)

        written = {each["model"]: each["fields"] for each in json.loads(path.read_text())}
        assert written["naturals.course"]["organization"] == ["acme"]
        assert written["naturals.badge"]["lesson"] == [[["acme"], "python"], 1]
        assert written["naturals.lesson"]["previous"] == [[["acme"], "python"], 1]
        assert [model for model in written if model.endswith(("course", "lesson", "badge"))] == [
            "naturals.course",
            "naturals.lesson",
            "naturals.badge",
        ]
        loaded = Course.objects.using(pair.target).get()
        assert (loaded.open, loaded.organization.slug) == (True, "acme")
        assert [tag.name for tag in loaded.tags.all()] == ["free"]
        lessons = loaded.lessons.order_by("number").values_list("number", "previous__number")
        assert list(lessons) == [(1, None), (2, 1)]
        assert Badge.objects.using(pair.target).get().natural_key() == ("python", 5, 3)
        assert Node.objects.using(pair.target).get(name="b").natural_key() == ("b", ("a", None))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
readings = st.builds(
    Reading,
    text=texts,
    count=st.integers(-(2**63), 2**63 - 1),
    moment=st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1), timezones=st.just(datetime.UTC)),
    day=st.none() | st.dates(),
    amount=st.decimals(Decimal("-99999999"), Decimal("99999999"), places=3),
    uuid=st.uuids(),
    flag=st.booleans(),
)
real_values = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class TestRoundTrip:
    @real_values
    @given(reading=readings)
    def test_an_object_is_found_by_its_natural_key(self, alias: str, reading: Reading) -> None:
        with transaction.atomic(using=alias):
            reading.pk = None
            reading.save(using=alias, force_insert=True)
            reading.refresh_from_db(using=alias)

            found = Reading.objects.db_manager(alias).get_by_natural_key(*reading.natural_key())

            assert found.pk == reading.pk
            assert found.natural_key() == reading.natural_key()
            transaction.set_rollback(True, using=alias)

    @real_values
    @given(names=st.lists(texts, min_size=1, max_size=4), other=texts)
    def test_an_object_is_found_by_a_key_of_keys(self, alias: str, names: list[str], other: str) -> None:
        with transaction.atomic(using=alias):
            node = None
            for name in names:
                node = Node.objects.using(alias).create(name=name, parent=node)
            Node.objects.using(alias).create(name=other, parent=node)
            assert node is not None

            found = Node.objects.db_manager(alias).get_by_natural_key(*node.natural_key())

            assert found == node
            transaction.set_rollback(True, using=alias)


READABLE = [
    (ContentType, ("app_label", "model")),
    (Permission, ("codename", "content_type")),
    (Group, ("name",)),
    (User, ("username",)),
    (Site, ("domain",)),
    (Organization, ("slug",)),
    (Tag, ("name",)),
    (Course, ("organization", "code")),
    (OpenCourse, ("organization", "code")),
    (OnlineCourse, ("organization", "code")),
    (Lesson, ("course", "number")),
    (Badge, ("lesson__course__code", "room__number", "level")),
    (Booking, ("room", "day")),
    (City, ("country", "name")),
    (Note, ("content_type", "object_id", "text")),
    (Node, ("name", "parent")),
    (naturals.Branch, ("name", "parent__name")),
    (naturals.CourseByNumber, ("organization", "code")),
    (naturals.Twofold, ("code",)),
    (NumberedSheet, ("code", "number")),
    (Page, ("code",)),
    (naturals.Plain, ("code", "day")),
    (naturals.PlainAsList, ("code", "day")),
    (naturals.ThingChild, ("code", "day")),
    (naturals.Exact, ("code", "organization")),
    (naturals.Through, ("organization", "code")),
    (naturals.PartOfLink, ("course__code", "code")),
    (naturals.Deep, ("course", "code")),
    (naturals.Related, ("code", "organization")),
    (naturals.RelatedGet, ("code", "organization")),
    (naturals.Nested, ("course", "code")),
    (naturals.NestedForOurs, ("course", "code")),
    (naturals.ToField, ("country", "code")),
    (naturals.ToFieldThrough, ("country", "code")),
    (naturals.ToFieldByPk, ("country", "code")),
    (naturals.Hidden, ("code", "day")),
    (naturals.NullTolerant, ("owner", "code")),
    (naturals.NullIntolerant, ("owner", "code")),
    (naturals.Account, ("email",)),
]
UNREADABLE = [
    naturals.Described,
    naturals.Lowered,
    naturals.Guarded,
    naturals.GuardedWholly,
    naturals.Formatted,
    naturals.Conditional,
    naturals.NullConditional,
    naturals.WithConstant,
    naturals.NotATuple,
    naturals.Querying,
    naturals.GuardedQuerying,
    naturals.ReverseQuerying,
    naturals.Endless,
    naturals.OtherOrderForOurs,
    naturals.Iexact,
    naturals.Filtered,
    naturals.FromQuerySet,
    naturals.Fallback,
    naturals.FirstOfMany,
    naturals.NoneWhenMissing,
    naturals.WithConstantLookup,
    naturals.WithCondition,
    naturals.LessThanTheKey,
    naturals.Crossed,
    naturals.OtherArity,
    naturals.OtherModel,
    naturals.OwnGet,
    naturals.OwnQuerySetGet,
    naturals.RelatedFallback,
    naturals.RelatedFilter,
    naturals.SecondFallback,
    naturals.Elsewhere,
    naturals.Climbing,
    naturals.LaxAccount,
]


def get_label(value: Any) -> str | None:
    return value.__name__ if isinstance(value, type) else None


EVERY_KEY = [model for model, _ in READABLE] + UNREADABLE


def find_opened_connections(wanted: list[type[models.Model]]) -> list[str]:
    """The databases that this thread is connected to after the keys of these models were read anew."""
    find_natural_key.cache_clear()
    for model in wanted:
        find_natural_key(model)
    return [connection.alias for connection in connections.all() if connection.connection is not None]


@pytest.fixture
def asked_queries() -> Iterator[list[str]]:
    """Every query to any database is noted and fails, as long as the test runs."""
    asked: list[str] = []

    def refuse(execute: Any, sql: str, *args: Any) -> None:
        asked.append(sql)
        raise RuntimeError(sql)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(refuse))
        yield asked


class TestReadingKeysAsFields:
    @pytest.mark.parametrize(("model", "paths"), READABLE, ids=get_label)
    def test_a_key_that_only_passes_values_is_read_as_fields(
        self, model: type[models.Model], paths: tuple[str, ...]
    ) -> None:
        key = find_natural_key(model)

        assert key is not None
        assert (key.model, key.paths) == (model, paths)

    @pytest.mark.parametrize("model", UNREADABLE, ids=get_label)
    def test_a_key_that_does_more_is_left_to_its_methods(self, model: type[models.Model]) -> None:
        key = find_natural_key(model)

        assert key is not None
        assert (key.model, key.paths, key.allow_many) == (model, None, False)

    @pytest.mark.parametrize("model", [naturals.OnlyKey, naturals.OnlyLookup, Thing, Room])
    def test_a_model_without_one_of_the_methods_has_no_key(self, model: type[models.Model]) -> None:
        assert find_natural_key(model) is None

    def test_it_says_where_many_are_allowed(self) -> None:
        allowing = [model for model, _ in READABLE if find_natural_key(model).allow_many]

        assert allowing == [naturals.NestedForOurs]
        assert find_natural_key(Person).allow_many is True

    @pytest.mark.parametrize("model", EVERY_KEY, ids=get_label)
    @on_all_databases
    def test_no_database_is_asked(self, asked_queries: list[str], model: type[models.Model]) -> None:
        find_natural_key.cache_clear()

        find_natural_key(model)

        assert asked_queries == []

    @on_all_databases
    def test_a_method_that_asks_a_database_would_be_noticed(self, asked_queries: list[str]) -> None:
        with pytest.raises(RuntimeError, match="SELECT COUNT"):
            naturals.Querying().natural_key()

        assert len(asked_queries) == 1

    @on_all_databases
    def test_no_connection_is_opened(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            opened = pool.submit(find_opened_connections, EVERY_KEY).result()

        assert opened == []

    @on_all_databases
    def test_databases_answer_as_before_afterwards(self) -> None:
        find_natural_key.cache_clear()

        find_natural_key(naturals.Querying)
        find_natural_key(naturals.Plain)

        assert [Tag.objects.using(using).count() for using in DATABASES] == [0, 0, 0, 0]

    @pytest.mark.parametrize(
        "model",
        [model for model, _ in READABLE if model._meta.proxy and issubclass(model, Thing)],
        ids=lambda model: model.__name__,
    )
    def test_the_fields_find_what_the_methods_find(self, alias: str, model: Any) -> None:
        things = [
            Thing.objects.using(alias).create(
                code=code,
                day=datetime.date(2026, 1, day),
                organization=Organization.objects.using(alias).create(slug=f"{code}-{day}"),
                owner=Organization.objects.using(alias).create(slug=f"owner-{code}-{day}"),
                course=make_course(alias, slug="acme", code=f"{code}-{day}"),
                country=Country.objects.using(alias).create(code=f"{code}{day}"),
            )
            for code, day in [("a", 1), ("a", 2), ("b", 1)]
        ]
        paths = find_natural_key(model).paths
        rows = models.QuerySet(model, using=alias)

        for thing in things:
            instance = rows.get(pk=thing.pk)
            values = rows.filter(pk=thing.pk).values_list(*paths).get()
            by_fields = rows.get(**dict(zip(paths, values, strict=True)))
            assert by_fields.pk == thing.pk
            if model is not naturals.Hidden:
                found = model.objects.db_manager(alias).get_by_natural_key(*instance.natural_key())
                assert found.pk == thing.pk

    def test_the_key_of_a_model_is_read_once(self) -> None:
        assert find_natural_key(naturals.Plain) is find_natural_key(naturals.Plain)


class TestNamingAnObject:
    def test_an_object_without_natural_key_has_none(self) -> None:
        assert natural_key_of(Room(number=1)) is None

    def test_a_key_is_a_tuple_whatever_the_method_returns(self) -> None:
        assert natural_key_of(Tag(name="free")) == ("free",)
        assert natural_key_of(naturals.PlainAsList(code="a", day=None)) == ("a", None)
        assert natural_key_of(naturals.NotATuple(code="abc")) == ("abc",)

    def test_an_object_whose_linked_object_is_missing_has_none(self, alias: str) -> None:
        lesson = Lesson(course_id=12345, number=1)
        lesson._state.db = alias

        assert natural_key_of(lesson) is None

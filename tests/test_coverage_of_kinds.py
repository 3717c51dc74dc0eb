"""Every kind of field and link that Django has is in a model that some test pushes, or is listed here with the reason.

The idea is Sentry's: a list that has to be complete, so that what is new fails until somebody has decided on it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import django.contrib.postgres.fields
import django.contrib.postgres.search  # noqa: F401
import pytest
from django.apps import apps
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.db import models

TESTS = Path(__file__).resolve().parent
PUSHED = ("kinds", "pgkinds", "naturals", "trees", "policies", "logged", "campus")
MODULES = ("tests.", "testproject.")
DJANGO = ("django.db.models.", "django.contrib.postgres.", "django.contrib.contenttypes.")

LEFT_OUT = {
    "django.contrib.postgres.fields.citext.CICharField": "Django keeps it for old migrations only",
    "django.contrib.postgres.fields.citext.CIEmailField": "Django keeps it for old migrations only",
    "django.contrib.postgres.fields.citext.CITextField": "Django keeps it for old migrations only",
    "django.contrib.postgres.fields.jsonb.JSONField": "Django keeps it for old migrations only",
    "django.db.models.fields.CommaSeparatedIntegerField": "Django keeps it for old migrations only",
    "django.db.models.fields.IPAddressField": "Django keeps it for old migrations only",
    "django.db.models.fields.NullBooleanField": "Django keeps it for old migrations only",
    "django.contrib.postgres.fields.ranges.ContinuousRangeField": "the base of other fields",
    "django.contrib.postgres.fields.ranges.RangeField": "the base of other fields",
    "django.db.models.fields.related.RelatedField": "the base of other fields",
    "django.contrib.postgres.search.SearchQueryField": "of expressions, no column has it",
    "django.contrib.postgres.search._Float4Field": "of expressions, no column has it",
    "django.contrib.postgres.fields.hstore.HStoreField": "not claimed: it needs an extension of the server",
    "django.contrib.postgres.search.SearchVectorField": "not claimed: the database works it out of other columns",
}


class Uses(ast.NodeVisitor):
    """Finds the models that code uses by names which it has imported from where they are; hints are no use."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {}
        self.found: set[type[models.Model]] = set()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module is None or not node.module.startswith(MODULES):
            return
        module = import_module(node.module)
        for alias in node.names:
            self._names[alias.asname or alias.name] = getattr(module, alias.name, None)

    def visit_Name(self, node: ast.Name) -> None:
        self._add(self._names.get(node.id))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        module = self._names.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if isinstance(module, ModuleType):
            self._add(getattr(module, node.attr, None))
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        """What is said of an argument is a hint."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)

    def _add(self, found: Any) -> None:
        if isinstance(found, type) and issubclass(found, models.Model):
            self.found.add(found)


def find_used(*sources: str) -> set[type[models.Model]]:
    """Return the models of the test apps that these modules use."""
    found = set()
    for source in sources:
        uses = Uses()
        uses.visit(ast.parse(source))
        found |= uses.found
    return found


@pytest.fixture(scope="module")
def tested() -> list[type[models.Model]]:
    """The models of the test apps that tests use, and the automatic tables of their many-to-many fields."""
    used = find_used(*(path.read_text() for path in TESTS.glob("test_*.py")))
    return [
        model
        for label in PUSHED
        for model in apps.get_app_config(label).get_models(include_auto_created=True)
        if (model._meta.auto_created or model) in used
    ]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from tests.kinds.models import Person\nmake(Person)", ["kinds.Person"]),
        ("from tests.kinds.models import Person as Human\nmake(Human)", ["kinds.Person"]),
        ("from tests.kinds import models as kinds\nmake(kinds.Person)", ["kinds.Person"]),
        ("from testproject.campus.models import Person\nmake(Person)", ["campus.Person"]),
        ("from tests.kinds.models import Person\ndef test(to=Person): pass", ["kinds.Person"]),
        ("from tests.kinds.models import Person", []),
        ("from tests.kinds import models as kinds", []),
        ('from tests.kinds.models import Person\n"""Person"""', []),
        ("from tests.kinds.models import Person\ndef test(person: Person) -> Person: pass", []),
        ("from tests.kinds.models import Person\nfound: Person = None", []),
        ("from tests.kinds.models import Person\nmake(Human)", []),
        ("from elsewhere import Person\nmake(Person)", []),
        ("make(Person)", []),
    ],
)
def test_a_model_is_used_where_the_name_from_its_own_module_is(code: str, names: list[str]) -> None:
    assert [model._meta.label for model in find_used(code)] == names


def iter_subclasses(cls: type) -> Iterator[type]:
    """Yield the subclasses of a class, and theirs."""
    for subclass in cls.__subclasses__():
        yield subclass
        yield from iter_subclasses(subclass)


def name_of(cls: type) -> str:
    """Return the dotted path of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def iter_fields(models_: list[type[models.Model]]) -> Iterator[Any]:
    """Yield the fields that these models have in their own tables, and those that need no column."""
    for model in models_:
        yield from model._meta.local_fields
        yield from model._meta.local_many_to_many
        yield from model._meta.private_fields


def find_untested(tested: list[type[models.Model]], left_out: dict[str, str]) -> set[str]:
    """Return the field classes of Django that none of these models has and that nobody has decided to leave out."""
    known = {name_of(cls) for cls in iter_subclasses(models.Field) if cls.__module__.startswith(DJANGO)}
    known |= {name_of(GenericForeignKey), name_of(GenericRelation)}
    return known - {name_of(type(field)) for field in iter_fields(tested)} - left_out.keys()


def test_every_field_class_of_django_is_in_a_model_that_a_test_names(tested: list[type[models.Model]]) -> None:
    assert find_untested(tested, LEFT_OUT) == set()


def test_a_field_class_on_which_nobody_has_decided_is_found(tested: list[type[models.Model]]) -> None:
    new = "django.contrib.postgres.fields.hstore.HStoreField"

    assert find_untested(tested, {name: why for name, why in LEFT_OUT.items() if name != new}) == {new}
    assert name_of(models.DurationField) in find_untested([], LEFT_OUT)


def test_no_field_class_is_left_out_that_is_tested(tested: list[type[models.Model]]) -> None:
    assert {name_of(type(field)) for field in iter_fields(tested)} & LEFT_OUT.keys() == set()


# Links, by what tells them apart


def is_link(field: Any) -> bool:
    """Say whether a field is a foreign key or one-to-one field."""
    return isinstance(field, models.ForeignKey)


def leads_to_own_model(field: Any) -> bool:
    """Say whether a field links a model to itself."""
    return bool(field.remote_field and field.remote_field.model is field.model)


def in_cycle(field: Any) -> bool:
    """Say whether a foreign key leads to a model that has one back."""
    back = field.remote_field.model._meta.local_fields if is_link(field) else ()
    return not leads_to_own_model(field) and any(
        is_link(other) and other.remote_field.model is field.model for other in back
    )


def is_members(field: Any, *, automatic: bool = True) -> bool:
    """Say whether a field is a many-to-many field with a table of its own, or with one that has a model."""
    return isinstance(field, models.ManyToManyField) and (
        bool(field.remote_field.through._meta.auto_created) is automatic
    )


def is_deleted_by(on_delete: str) -> Callable[[Any], bool]:
    """Return what says whether a link has this ``on_delete``."""
    return lambda field: is_link(field) and field.remote_field.on_delete is getattr(models, on_delete)


def is_deferrable(model: type[models.Model]) -> bool:
    """Say whether a unique constraint of a model is checked at the end of a transaction."""
    return any(getattr(constraint, "deferrable", None) for constraint in model._meta.constraints)


def is_conditional(model: type[models.Model]) -> bool:
    """Say whether a unique constraint of a model holds for some of its rows."""
    return any(
        isinstance(constraint, models.UniqueConstraint) and constraint.condition
        for constraint in model._meta.constraints
    )


LINKS: dict[str, Callable[[Any], bool]] = {
    "required": lambda field: is_link(field) and not field.null,
    "optional": lambda field: is_link(field) and field.null,
    "one-to-one, required": lambda field: bool(field.one_to_one) and not field.null,
    "one-to-one, optional": lambda field: bool(field.one_to_one) and field.null,
    "primary key": lambda field: is_link(field) and field.primary_key and not field.remote_field.parent_link,
    "to a field that is not the primary key": lambda field: is_link(field) and not field.target_field.primary_key,
    "to its own model": lambda field: is_link(field) and leads_to_own_model(field),
    "in a cycle": in_cycle,
    "without a name backwards": lambda field: is_link(field) and field.remote_field.hidden,
    "without a constraint": lambda field: is_link(field) and not field.db_constraint,
    "to a multi-table parent": lambda field: is_link(field) and field.remote_field.parent_link,
    "to several columns": lambda field: isinstance(field, models.ForeignObject) and len(field.from_fields) > 1,
    "many-to-many": is_members,
    "many-to-many with a model": lambda field: is_members(field, automatic=False),
    "many-to-many to its own model": lambda field: is_members(field) and leads_to_own_model(field),
    "many-to-many with a model to its own model": lambda field: (
        is_members(field, automatic=False) and leads_to_own_model(field)
    ),
    "symmetrical": lambda field: is_members(field) and field.remote_field.symmetrical,
    "generic": lambda field: isinstance(field, GenericForeignKey),
    "generic with an optional object": lambda field: (
        isinstance(field, GenericForeignKey) and field.model._meta.get_field(field.fk_field).null
    ),
    "generic with a text as its object id": lambda field: (
        isinstance(field, GenericForeignKey)
        and isinstance(field.model._meta.get_field(field.fk_field), models.CharField | models.TextField)
    ),
    "generic relation": lambda field: isinstance(field, GenericRelation),
    **{
        f"on_delete={name}": is_deleted_by(name)
        for name in ("CASCADE", "PROTECT", "RESTRICT", "SET_NULL", "SET_DEFAULT", "DO_NOTHING")
    },
    "on_delete=SET()": lambda field: is_link(field) and hasattr(field.remote_field.on_delete, "deconstruct"),
}

MODELS: dict[str, Callable[[type[models.Model]], bool]] = {
    "multi-table child": lambda model: bool(model._meta.parents),
    "multi-table child of two": lambda model: len(model._meta.parents) > 1,
    "multi-table grandchild": lambda model: any(parent._meta.parents for parent in model._meta.parents),
    "proxy": lambda model: bool(model._meta.proxy),
    "not managed": lambda model: not model._meta.managed,
    "automatic key": lambda model: isinstance(model._meta.pk, models.AutoField),
    "UUID as its key": lambda model: isinstance(model._meta.pk, models.UUIDField),
    "text as its key": lambda model: isinstance(model._meta.pk, models.CharField),
    "composite key": lambda model: isinstance(model._meta.pk, models.CompositePrimaryKey),
    "natural key": lambda model: hasattr(model, "natural_key"),
    "unique field": lambda model: any(field.unique and not field.primary_key for field in model._meta.local_fields),
    "unique_together": lambda model: bool(model._meta.unique_together),
    "unique constraint": lambda model: any(
        isinstance(constraint, models.UniqueConstraint) for constraint in model._meta.constraints
    ),
    "conditional constraint": is_conditional,
    "deferrable constraint": is_deferrable,
    "SYNCHRO_SKIP": lambda model: bool(getattr(model, "SYNCHRO_SKIP", ())),
    "default manager that hides rows": lambda model: (
        type(model._default_manager) is not models.Manager and model._default_manager is not model._base_manager
    ),
}


@pytest.mark.parametrize("kind", LINKS)
def test_every_kind_of_link_is_in_a_model_that_a_test_names(tested: list[type[models.Model]], kind: str) -> None:
    assert any(LINKS[kind](field) for field in iter_fields(tested))
    assert not any(LINKS[kind](field) for field in iter_fields([apps.get_model("sessions", "Session")]))


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_is_one_that_a_test_names(tested: list[type[models.Model]], kind: str) -> None:
    assert any(MODELS[kind](model) for model in tested)


def test_every_way_of_django_to_delete_what_links_has_its_line() -> None:
    ways = {name for name in dir(models) if re.fullmatch(r"(DB_)?(CASCADE|PROTECT|RESTRICT|SET.*|DO_NOTHING)", name)}
    listed = {line.removeprefix("on_delete=").removesuffix("()") for line in LINKS if line.startswith("on_delete=")}

    assert ways - {"DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT"} == listed

"""Models of what was drawn, with tables in both databases, for the time of a block."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connections, models, reset_queries

from gestore_sync import NaturalKeyModel
from tests.kinds.pushing import forget_caches
from tests.schemas.drawing import (
    AUTO,
    COMPOSITE,
    CONSTRAINT,
    HOMED,
    LINKED,
    NATURAL,
    NESTED,
    SET,
    SHARED,
    TEXT,
    TOGETHER,
    UNIQUE,
    UUID,
    Drawn,
    Generic,
    Link,
    Members,
    Schema,
)

APP = "schemas"
Model = type[models.Model]


@contextmanager
def built(schema: Schema, *aliases: str) -> Iterator[list[Model]]:
    """Yield all models of a schema, those of many-to-many tables too; their tables go with the open transaction.

    The logs of queries begin anew: they hold no more than some examples take.
    """
    reset_queries()
    try:
        for number, drawn in enumerate(schema):
            build(schema, number, drawn)
        assert not apps._pending_operations
        tables = list(apps.get_app_config(APP).get_models(include_auto_created=True))
        for using in aliases:
            make_tables(tables, using)
        forget_caches()
        yield tables
    finally:
        forget_models()


def build(schema: Schema, number: int, drawn: Drawn) -> None:
    """Make one model, and those between it and its members."""
    attributes: dict[str, Any] = {"text": models.TextField(default="")}
    bases: tuple[Any, ...] = (models.Model,)
    if drawn.parent is not None:
        bases = (apps.get_model(APP, f"M{drawn.parent}"),)
        attributes = {f"text{number}": models.TextField(default="")}
    else:
        attributes = {"mark": models.CharField(max_length=60), **attributes}
    if drawn.key == UUID:
        attributes["id"] = models.UUIDField(primary_key=True, default=uuid.uuid4)
    if drawn.key == TEXT:
        attributes["key"] = models.CharField(primary_key=True, max_length=60)
    if drawn.key in COMPOSITE:
        attributes |= make_composite(number, drawn)
    if drawn.identity:
        attributes[f"code{number}"] = models.TextField(unique=drawn.identity in (UNIQUE, NATURAL))
    for place, link in enumerate(drawn.links):
        is_key = drawn.key == SHARED and place == len(drawn.links) - 1
        attributes[f"link{number}{place}"] = make_link(number, place, link, is_key=is_key)
    for place, members in enumerate(drawn.members):
        attributes[f"members{number}{place}"] = make_members(number, place, members)
    if drawn.generic:
        attributes |= make_generic(number, drawn.generic)
    for to in drawn.related:
        if fits(schema, drawn, schema[to].generic):
            attributes[f"related{number}{to}"] = GenericRelation(
                f"{APP}.M{to}", content_type_field=f"kind{to}", object_id_field=f"key{to}"
            )
    if drawn.identity in (NATURAL, NESTED):
        bases = (NaturalKeyModel,)
        attributes["_natural_key"] = get_identity(number, drawn)
    register(f"M{number}", bases, attributes, make_meta(number, drawn))
    for place, members in enumerate(drawn.members):
        if members.through != AUTO:
            build_through(number, place, members)


def make_composite(number: int, drawn: Drawn) -> dict[str, Any]:
    """Return a composite primary key, with those of its columns that are no link."""
    last = models.IntegerField()
    if drawn.key == LINKED:
        names = f"link{number}{len(drawn.links) - 1}", "number"
        return {"pk": models.CompositePrimaryKey(*names), "number": last}
    return {"pk": models.CompositePrimaryKey("day", "number"), "day": models.DateField(), "number": last}


def fits(schema: Schema, drawn: Drawn, generic: Generic | None) -> bool:
    """Say whether a generic key, if there is one, can lead to an object of a model."""
    top = drawn
    while top.parent is not None:
        top = schema[top.parent]
    return generic is not None and (generic.key == TEXT or top.key == AUTO)


def register(name: str, bases: tuple[Any, ...], attributes: dict[str, Any], meta: dict[str, Any]) -> None:
    """Make a model class."""
    options = type("Meta", (), {"app_label": APP, **meta})
    type(name, bases, {"__module__": __name__, "__qualname__": name, "Meta": options, **attributes})


def get_identity(number: int, drawn: Drawn) -> tuple[str, ...]:
    """Return the names of the fields that identify an object of a model with a code."""
    return (f"code{number}", *([f"link{number}0"] if drawn.identity in HOMED else []))


def make_meta(number: int, drawn: Drawn) -> dict[str, Any]:
    """Return what the model says of its identity."""
    fields = get_identity(number, drawn)
    if drawn.identity in (TOGETHER, NESTED):
        return {"unique_together": [fields]}
    if drawn.identity == CONSTRAINT:
        return {"constraints": [models.UniqueConstraint(fields=fields, name=f"{APP}_code{number}")]}
    return {}


def make_link(number: int, place: int, link: Link, *, is_key: bool) -> Any:
    """Return a foreign key or one-to-one field."""
    options: dict[str, Any] = {"null": link.null, "on_delete": getattr(models, link.on_delete)}
    if link.on_delete == SET:
        options["on_delete"] = models.SET(None)
    if link.null:
        options["default"] = None
    if link.by_code:
        options["to_field"] = f"code{link.to}"
    options["related_name"] = "+" if link.hidden else f"r{number}{place}"
    if is_key:
        options["primary_key"] = True
    return (models.OneToOneField if link.one else models.ForeignKey)(f"{APP}.M{link.to}", **options)


def make_members(number: int, place: int, members: Members) -> models.ManyToManyField[Any, Any]:
    """Return a many-to-many field; those to the own model are not symmetrical."""
    options: dict[str, Any] = {"related_name": f"o{number}{place}"}
    if members.to == number:
        options["symmetrical"] = False
    if members.through != AUTO:
        options |= {"through": f"{APP}.T{number}{place}", "through_fields": ("owner", "member")}
    return models.ManyToManyField(f"{APP}.M{members.to}", **options)


def build_through(number: int, place: int, members: Members) -> None:
    """Make the model of an explicit many-to-many table, with a field more."""
    attributes = {
        "mark": models.CharField(max_length=60),
        "text": models.TextField(default=""),
        "owner": models.ForeignKey(f"{APP}.M{number}", models.CASCADE, related_name=f"t{number}{place}"),
        "member": models.ForeignKey(f"{APP}.M{members.to}", models.CASCADE, related_name=f"u{number}{place}"),
    }
    meta = {"unique_together": [("owner", "member")]} if members.through == UNIQUE else {}
    register(f"T{number}{place}", (models.Model,), attributes, meta)


def make_generic(number: int, generic: Generic) -> dict[str, Any]:
    """Return a generic foreign key with its columns."""
    key = models.TextField(null=generic.null)
    if generic.key == AUTO:
        key = models.PositiveBigIntegerField(null=generic.null)
    return {
        f"kind{number}": models.ForeignKey(ContentType, models.CASCADE, null=generic.null, related_name="+"),
        f"key{number}": key,
        f"subject{number}": GenericForeignKey(f"kind{number}", f"key{number}"),
    }


def make_tables(tables: list[Model], using: str) -> None:
    """Create the tables in the open transaction, in which no other statement of a schema editor is needed."""
    editor = connections[using].schema_editor()
    editor.deferred_sql = []
    for model in tables:
        if not model._meta.auto_created:
            editor.create_model(model)
    for statement in editor.deferred_sql:
        editor.execute(statement, None)


def reset_sequences(tables: list[Model], using: str) -> None:
    """Let the database count on from the rows that it has."""
    with connections[using].cursor() as cursor:
        for statement in connections[using].ops.sequence_reset_sql(no_style(), tables):
            cursor.execute(statement)


def forget_models() -> None:
    """Take all drawn models out of Django's registry, and what Django and the package remember of them."""
    apps.all_models[APP].clear()
    apps._pending_operations.clear()
    apps.clear_cache()
    forget_caches()

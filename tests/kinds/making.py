"""Rows with as little said about them as possible."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from typing import Any, TypeVar

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.query import QuerySet

from tests.kinds.pushing import forget_caches

M = TypeVar("M", bound=models.Model)

CONSONANTS = "0123456789bcdfghjkmnpqrstvwxyz"

_numbers = itertools.count(len(CONSONANTS) ** 2)


def make(model: type[M], using: str, /, **values: Any) -> M:
    """Create a row, with what is not given but required made up; required links get new rows of their own."""
    for field in model._meta.concrete_fields:
        given = field.name in values or field.attname in values
        if not given and is_required(field):
            values[field.name] = made_up(field, using)
    instance = model(**values)
    if model._meta.concrete_model._meta.parents:
        instance.save(using=using)
    else:
        QuerySet(model, using=using).bulk_create([instance])
    return instance


def make_many(model: type[M], using: str, count: int, **values: Any) -> list[M]:
    """Create several rows."""
    return [make(model, using, **values) for _ in range(count)]


def make_crowd(using: str, *kinds: type[models.Model]) -> None:
    """Create rows that have to do with nothing: two of the first model, three of the second, and so on."""
    for position, model in enumerate(kinds):
        make_many(model, using, position + 2)


def is_required(field: models.Field[Any, Any]) -> bool:
    """Say whether a row cannot be made without a value for this column."""
    filled = isinstance(field, models.AutoField) or field.generated or field.db_default is not models.NOT_PROVIDED
    automatic = getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
    parent_link = bool(field.remote_field and getattr(field.remote_field, "parent_link", False))
    return not (filled or automatic or parent_link or field.null or field.has_default())


def made_up(field: models.Field[Any, Any], using: str) -> Any:
    """Return a value that no other row has."""
    number = next(_numbers)
    if isinstance(field, models.ForeignKey):
        return make(field.related_model, using)
    if isinstance(field, models.UUIDField):
        return uuid.uuid4()
    if isinstance(field, models.CharField | models.TextField):
        return letters(number)[: field.max_length]
    if isinstance(field, models.DateTimeField):
        return dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=number)
    if isinstance(field, models.DateField):
        return dt.date(2020, 1, 1) + dt.timedelta(days=number % 3000)
    if isinstance(field, models.IntegerField):
        return 10_000 + number % 20_000
    raise TypeError(f"{field} needs a value")


def letters(number: int) -> str:
    """Return a text of three characters or more without vowels, so that it is no word that a test uses."""
    text = ""
    while number:
        number, digit = divmod(number, len(CONSONANTS))
        text += CONSONANTS[digit]
    return text


def renumber_content_types(using: str) -> None:
    """Give the content types and permissions of the test app other primary keys than before."""
    QuerySet(Permission, using=using).filter(content_type__app_label="kinds").delete()
    QuerySet(ContentType, using=using).filter(app_label="kinds").delete()
    forget_caches()
    config = apps.get_app_config("kinds")
    create_contenttypes(config, verbosity=0, using=using)
    create_permissions(config, verbosity=0, using=using)
    forget_caches()

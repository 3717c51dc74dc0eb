"""Look-up paths from a model, through its links, to a column."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, Model
from django.db.models.constants import LOOKUP_SEP

__all__ = ["canonical_path", "get_linked_model", "resolve_path"]

AnyModel = type[Model]


def resolve_path(model: AnyModel, path: str) -> list[Field[Any, Any]]:
    """The fields along a path from ``model``: links, and at its end a field with a column.

    Raises FieldDoesNotExist, naming the model and the path, where a part is no such field.
    """
    fields: list[Field[Any, Any]] = []
    owner: Any = model
    for part in path.split(LOOKUP_SEP):
        if owner is None:
            raise FieldDoesNotExist(f"{fields[-1]} is no link, so there is nothing at {path!r}")
        try:
            field: Any = owner._meta.pk if part == "pk" else owner._meta.get_field(part)
        except FieldDoesNotExist:
            raise FieldDoesNotExist(f"{owner._meta.label} has no field {part!r}") from None
        if not getattr(field, "concrete", False) or field.many_to_many:
            raise FieldDoesNotExist(f"{owner._meta.label} has no column for {part!r}")
        fields.append(field)
        owner = field.remote_field.model if field.is_relation else None
    return fields


def canonical_path(model: AnyModel, path: str) -> str:
    """The one way to write a path: ``course``, not ``course_id`` or ``course__pk``; ``name``, not
    ``parent_ptr__name``. Raises FieldDoesNotExist.
    """
    fields: list[Any] = resolve_path(model, path)
    while len(fields) > 1 and (fields[-1].primary_key or fields[-1] in fields[-2].foreign_related_fields):
        del fields[-1]
    links = [link.name for link in fields[:-1] if not link.remote_field.parent_link]
    return LOOKUP_SEP.join([*links, fields[-1].name])


def get_linked_model(model: AnyModel, path: str) -> Any:
    """The model that the link at the end of ``path`` leads to; None for a column, ``course_id`` included.

    Raises FieldDoesNotExist.
    """
    field: Any = resolve_path(model, path)[-1]
    is_link = field.is_relation and path.rpartition(LOOKUP_SEP)[2] == field.name
    return field.remote_field.model if is_link else None

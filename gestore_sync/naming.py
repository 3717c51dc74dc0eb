"""How a person names an object: ``app.Model.pk``, or ``app.Model.field=value`` for a unique field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import CompositePrimaryKey, Model

from gestore_sync.exceptions import UnknownObject
from gestore_sync.links import get_concrete
from gestore_sync.reading import get_queryset
from gestore_sync.refs import Ref, get_field, resolve_key_field, split_key


def find_ref(root: Model | str, using: str) -> Ref:
    """The object that a person or a program named. Raises :class:`UnknownObject`."""
    if isinstance(root, Model):
        return Ref(get_concrete(type(root)), root.pk)
    label, dot, rest = root.partition(".")
    model_name, dot, name = rest.partition(".")
    if not dot or not name:
        raise UnknownObject(
            f"{root!r} names no object. Write app.Model.pk, or app.Model.field=value for a unique field."
        )
    try:
        model = get_concrete(apps.get_model(label, model_name))
    except LookupError:
        raise UnknownObject(f"There is no model {label}.{model_name}: {root!r} names no object.") from None
    field_name, equals, value = name.partition("=")
    if equals and has_field(model, field_name):
        return find_by_field(model, field_name, value, root, using)
    try:
        return Ref(model, parse_key(model, name))
    except (ValidationError, ValueError, TypeError):
        if equals and field_name.isidentifier():
            message = f"{model._meta.label} has no field {field_name!r}: {root!r} names no object."
            raise UnknownObject(message) from None
        raise UnknownObject(
            f"{name!r} cannot be a primary key of {model._meta.label}: {root!r} names no object."
        ) from None


def has_field(model: type[Model], name: str) -> bool:
    """Whether ``model`` has a field of this name."""
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True


def parse_key(model: type[Model], text: str) -> Any:
    """A primary key as a person writes it; the parts of a composite one with commas between them."""
    pk = model._meta.pk
    if isinstance(pk, CompositePrimaryKey):
        parts = split_key(text)
        fields = [resolve_key_field(get_field(model, name)) for name in pk.field_names]
        return tuple(field.to_python(part) for field, part in zip(fields, parts, strict=True))
    return resolve_key_field(pk).to_python(text)


def find_by_field(model: type[Model], name: str, value: str, root: str, using: str) -> Ref:
    """The object whose unique field has this value."""
    field: Any = model._meta.get_field(name)
    if not getattr(field, "unique", False):
        raise UnknownObject(
            f"The field {name!r} of {model._meta.label} is not unique: {root!r} names no single object."
        )
    try:
        keys = list(get_queryset(model, using).filter(**{name: value}).values_list("pk", flat=True)[:2])
    except (ValidationError, ValueError, TypeError):
        keys = []
    if len(keys) != 1:
        raise UnknownObject(f"There is no {root} in the database {using!r}.")
    return Ref(model, keys[0])


def find_labels(names: Iterable[str]) -> list[str]:
    """The labels of the models that these names mean: "app.Model", or a class name alone, in any letter case.

    Raises :class:`UnknownObject` for a name that no model has, or several.
    """
    found = []
    for name in names:
        wanted = name.lower()
        models = [
            model
            for model in apps.get_models(include_auto_created=True)
            if wanted in (model._meta.label_lower, model._meta.model_name)
        ]
        if len(models) != 1:
            among = f"; write one of {', '.join(model._meta.label for model in models)}" if models else ""
            raise UnknownObject(f"{name!r} names {len(models) or 'no'} model{'s' if models else ''}{among}.")
        found.append(models[0]._meta.label)
    return found

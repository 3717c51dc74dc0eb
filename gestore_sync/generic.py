"""What generic foreign keys point to: a content type and an object id as a model and a key, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db.models import CompositePrimaryKey, Field, IntegerField, Model, Q

from gestore_sync.links import Link, get_concrete
from gestore_sync.reading import get_queryset
from gestore_sync.refs import Key, get_field, resolve_key_field


def find_generic_target(using: str, content_type: int) -> type[Model] | None:
    """The concrete model that a content type of ``using`` stands for; None where there is none any more."""
    try:
        model = ContentType.objects.db_manager(using).get_for_id(content_type).model_class()
    except ContentType.DoesNotExist:
        return None
    return None if model is None else get_concrete(model)


def to_key(target: type[Model], value: Any) -> Key | None:
    """What the object id of a generic key says, as a primary key of ``target``; None where it cannot be one."""
    field = resolve_key_field(target._meta.pk)
    if isinstance(field, CompositePrimaryKey):
        return None
    try:
        key = field.to_python(value)
    except (ValidationError, ValueError, TypeError):
        return None
    return None if isinstance(key, int) and not -(2**63) <= key < 2**63 else key


def to_keys(target: type[Model], values: Sequence[Any]) -> list[Key | None]:
    """The same of many values."""
    if holds_plain_numbers(target._meta.pk) and are_keys(values):
        return list(values)
    return [to_key(target, value) for value in values]


def holds_plain_numbers(field: Any) -> bool:
    """Whether a field gives whole numbers as they are."""
    return getattr(type(resolve_key_field(field)), "to_python", None) is IntegerField.to_python


def are_keys(values: Sequence[Any]) -> bool:
    """Whether all of these are whole numbers of 64 bits."""
    return set(map(type, values)) == {int} and min(values) >= -(2**63) and max(values) < 2**63


def to_object_id(field: Field[Any, Any], key: Key) -> Any:
    """``key`` as the value of a generic key's object id field; None where the field cannot hold it."""
    if isinstance(field, IntegerField) and not (type(key) is int and -(2**63) <= key < 2**63):
        return None
    try:
        return field.to_python(key)
    except (TypeError, ValueError, ValidationError):
        return None


def get_object_ids(link: Link, keys: Sequence[Key]) -> dict[Any, Key]:
    """By the value that the generic key's object id has, the keys of the objects."""
    field = get_field(link.model, link.attnames[1])
    if holds_plain_numbers(field) and are_keys(keys):
        return dict(zip(keys, keys, strict=True))
    found = {to_object_id(field, key): key for key in keys}
    found.pop(None, None)
    return found


def get_faces(model: type[Model]) -> list[type[Model]]:
    """``model`` and its proxies, whose content types may all stand for it."""
    return [model, *(face for face in model.__subclasses__() if face._meta.proxy and get_concrete(face) is model)]


def get_type_ids(using: str) -> dict[tuple[str, str], int]:
    """The primary keys of all content types of a database, by app label and model name."""
    rows = get_queryset(ContentType, using).values_list("app_label", "model", "pk")
    return {(app_label, name): pk for app_label, name, pk in rows}


def find_type_filter(link: Link, faces: Iterable[type[Model]], type_ids: Mapping[tuple[str, str], int]) -> Q | None:
    """The filter "the content type is one of these models'"; None where the database knows none of them."""
    names = [(face._meta.app_label, face._meta.model_name or "") for face in faces]
    found = [type_ids[name] for name in names if name in type_ids]
    return Q(**{f"{link.attnames[0]}__in": found}) if found else None

"""Writing object by object through ``save()``, for models whose signals mode is "save"."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import NOT_PROVIDED, Field, JSONField, Model

from gestore_sync.muting import mute
from gestore_sync.reading import get_queryset, match_keys
from gestore_sync.recording import mark_own_save
from gestore_sync.refs import Key


def to_python(field: Field[Any, Any], value: Any) -> Any:
    """A value as an instance holds it; JSON is given as text."""
    if isinstance(field, JSONField) and isinstance(value, str):
        return json.loads(value, cls=field.decoder)
    return value


def make_instances(model: type[Model], using: str, rows: Sequence[Mapping[str, Any]]) -> list[Model]:
    """Instances of rows that are to be inserted, given by attname; what multi-table parents hold is read."""
    inherited = read_inherited(model, using, rows)
    made = []
    for row in rows:
        values = {**inherited.get(get_parent_key(model, row), {}), **row}
        fields = [field for field in model._meta.concrete_fields if field.attname in values]
        names = [field.attname for field in fields]
        made.append(model.from_db(using, names, [to_python(field, values[field.attname]) for field in fields]))
    return made


def get_parent_key(model: type[Model], row: Mapping[str, Any]) -> Key:
    """The key of the first multi-table parent, None where there is none."""
    link = next((link for link in model._meta.parents.values() if link is not None), None)
    return None if link is None else row.get(link.attname)


def read_inherited(model: type[Model], using: str, rows: Sequence[Mapping[str, Any]]) -> dict[Key, dict[str, Any]]:
    """By the first parent's key, the values of all fields that parents hold."""
    found: dict[Key, dict[str, Any]] = {}
    keys = [get_parent_key(model, row) for row in rows]
    for parent, link in model._meta.parents.items():
        if link is None:
            continue
        wanted = {row[link.attname]: key for row, key in zip(rows, keys, strict=True) if link.attname in row}
        for instance in get_queryset(parent, using).filter(match_keys(parent, list(wanted))):
            values = {field.attname: getattr(instance, field.attname) for field in parent._meta.concrete_fields}
            found.setdefault(wanted[instance.pk], {}).update(values)
    return found


def load_instances(model: type[Model], using: str, changes: Sequence[tuple[Key, Mapping[str, Any]]]) -> list[Model]:
    """The rows with these keys as they are on ``using``, all fields loaded, with new values (by attname) set."""
    found = {
        instance.pk: instance
        for instance in get_queryset(model, using).filter(match_keys(model, [k for k, _ in changes]))
    }
    fields = {field.attname: field for field in model._meta.concrete_fields}
    for key, values in changes:
        for name, value in values.items():
            setattr(found[key], name, to_python(fields[name], value))
    return [found[key] for key, _ in changes]


def create(instance: Model, using: str) -> None:
    """Insert an instance through ``save()``.

    The rows of its multi-table parents are there. Django would insert them once more where their key has a default and
    the instance is said to be new; of others it tries an update first.
    """
    instance._state.adding = not any(map(has_default_key, type(instance)._meta.all_parents))
    mark_own_save(instance)
    with mute(using, type(instance)):
        instance.save(using=using)


def has_default_key(model: type[Model]) -> bool:
    """Whether a row of this model gets a primary key without being told one, other than by counting."""
    key: Any = model._meta.pk
    return bool(key.has_default() or key.db_default is not NOT_PROVIDED)


def change(instance: Model, using: str) -> None:
    """Save an instance that exists through ``save()``."""
    mark_own_save(instance)
    with mute(using, type(instance)):
        instance.save(using=using)

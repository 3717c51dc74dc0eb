"""What identifies an object of a model, by its fields: the rungs of the locator ladder that a model offers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import AutoField, Model, Q, UniqueConstraint
from django.db.models.constants import LOOKUP_SEP
from django.db.models.fields import AutoFieldMixin

from gestore_sync.conf import get_option
from gestore_sync.exceptions import WrongSetting
from gestore_sync.natural import find_natural_key

__all__ = ["Identity", "has_automatic_key", "iter_identities"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A set of values of which no two objects of ``model`` have the same.

    ``paths`` are look-up paths from the model; ``expressions`` stand where a constraint is on expressions instead.
    ``locates``: an object is found by it; otherwise it only must not clash. ``condition``: it holds for those rows.
    ``natural``: it is the natural key. ``unique``: the database sees to it. ``per_object``: a natural key that can only
    be asked for object by object. ``allow_many``: the first match counts. ``nulls_equal``: two nulls are one value.
    """

    model: type[Model]
    name: str
    paths: tuple[str, ...] = ()
    expressions: tuple[Any, ...] = ()
    condition: Q | None = None
    locates: bool = True
    natural: bool = False
    unique: bool = True
    per_object: bool = False
    allow_many: bool = False
    nulls_equal: bool = False


def has_automatic_key(model: type[Model]) -> bool:
    """Whether the database counts out the primary keys of ``model``, so that they mean nothing elsewhere."""
    return isinstance(model._meta.pk, (AutoField, AutoFieldMixin))


def iter_identities(model: type[Model], positions: Iterable[str] = ()) -> Iterator[Identity]:
    """The identities of ``model`` (concrete) in the order in which they are tried; ``positions`` name fields that are
    positions, not identities. The id mapping comes before all of these, the primary key after them."""
    skipped = get_skipped(model)
    for identity in iter_every_identity(model, positions):
        if not skipped & {path.split(LOOKUP_SEP)[0] for path in identity.paths}:
            yield identity


def get_skipped(model: type[Model]) -> frozenset[str]:
    """The names and attnames of the fields of ``model`` that ``SYNCHRO_SKIP`` names: they do not travel."""
    names = set(getattr(model, "SYNCHRO_SKIP", ()))
    fields = [field for field in model._meta.local_concrete_fields if {field.name, field.attname} & names]
    return frozenset({name for field in fields for name in (field.name, field.attname)})


def iter_every_identity(model: type[Model], positions: Iterable[str] = ()) -> Iterator[Identity]:
    """The same, with those that contain fields which do not travel."""
    configured = find_configured(model)
    natural = None if configured else find_natural_key(model)
    if configured:
        yield Identity(model, "the fields named in GESTORE_SYNC", configured, natural=True, unique=False)
    elif natural is not None:
        yield Identity(
            model,
            "natural key",
            natural.paths or (),
            natural=True,
            unique=False,
            per_object=natural.paths is None,
            allow_many=natural.allow_many,
        )
    for unique in iter_unique(model):
        identifies = not configured and unique.locates and not set(unique.paths) & set(positions)
        if not set(unique.paths) & set(positions):
            yield unique if identifies else set_aside(unique)


def set_aside(identity: Identity) -> Identity:
    """The same, as values that must not clash but identify nothing."""
    return replace(identity, locates=False)


def find_configured(model: type[Model]) -> tuple[str, ...]:
    """The fields that ``GESTORE_SYNC["IDENTITY"]`` names for ``model``. Raises :class:`WrongSetting`."""
    for label, names in get_option("IDENTITY").items():
        if label.lower() == model._meta.label_lower:
            for name in names:
                try:
                    model._meta.get_field(name.split(LOOKUP_SEP)[0])
                except FieldDoesNotExist:
                    raise WrongSetting(
                        f'GESTORE_SYNC["IDENTITY"]["{label}"] names {name!r}, which is no field of the model.'
                    ) from None
            return tuple(names)
    return ()


def iter_unique(model: type[Model]) -> Iterator[Identity]:
    """Unique fields, ``unique_together`` and unique constraints in the table of ``model``, without the primary key.

    A conditional constraint identifies nothing, and neither does an optional one-to-one field: it says what an object
    has at the moment, not which one it is.
    """
    for field in model._meta.local_concrete_fields:
        if field.unique and not field.primary_key:
            locates = not (field.null and field.is_relation)
            yield Identity(model, f"unique {field.name}", (field.name,), locates=locates)
    for names in model._meta.unique_together:
        if all(model._meta.get_field(name) in model._meta.local_fields for name in names):
            yield Identity(model, f"unique {', '.join(names)}", tuple(names))
    for constraint in model._meta.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield Identity(
                model,
                f"constraint {constraint.name}",
                tuple(constraint.fields),
                tuple(constraint.expressions),
                constraint.condition,
                locates=constraint.condition is None,
                nulls_equal=constraint.nulls_distinct is False,
            )

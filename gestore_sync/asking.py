"""Natural keys that only the application's own code knows, asked object by object."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.db.models import Model

from gestore_sync.exceptions import UnreadableValue
from gestore_sync.links import get_concrete
from gestore_sync.locators import Doubt
from gestore_sync.natural import natural_key_of
from gestore_sync.refs import Ref


def read_natural_key(instance: Model) -> tuple[Any, ...] | None:
    """What ``natural_key()`` gives; None where it fails because a link in it is null.

    Raises :class:`UnreadableValue` that names the object where it fails otherwise.
    """
    try:
        return natural_key_of(instance)
    except Exception as error:
        links = (field for field in instance._meta.concrete_fields if field.is_relation)
        if any(getattr(instance, field.attname) is None for field in links):
            return None
        raise UnreadableValue(
            f"natural_key() failed for {Ref(type(instance), instance.pk)}: {type(error).__name__}: {error}. "
            'Mend it, or name fields in GESTORE_SYNC["IDENTITY"].',
            ref=Ref(get_concrete(type(instance)), instance.pk),
            using=instance._state.db,
        ) from error


def ask_manager(manager: Any, instance: Model, ref: Ref) -> Model | Doubt | None:
    """The object of the manager's database with the natural key of ``instance``, or why it cannot be told.

    Raises :class:`UnreadableValue`.
    """
    natural_key = read_natural_key(instance)
    try:
        found: Model | None = manager.get_by_natural_key(*natural_key) if natural_key else None
    except ObjectDoesNotExist:
        return None
    except MultipleObjectsReturned:
        return Doubt(ref, f"The natural key {natural_key!r} of {ref} matches two rows of the target. Make them one.")
    except Exception as error:
        raise UnreadableValue(
            f"get_by_natural_key{natural_key!r} failed for {ref}: {type(error).__name__}: {error}. "
            'Mend it, or name fields in GESTORE_SYNC["IDENTITY"].',
            ref=ref,
            using=instance._state.db,
        ) from error
    return found

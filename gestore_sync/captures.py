"""What the triggers of the change log have to see: one capture for each table and operation of the watched models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import CompositePrimaryKey, Model

from gestore_sync.links import get_concrete
from gestore_sync.refs import get_field, resolve_key_field
from gestore_sync.watching import Watched

INSERT, UPDATE, DELETE, TRUNCATE = "insert", "update", "delete", "truncate"
OPERATIONS = (INSERT, UPDATE, DELETE, TRUNCATE)

NAME_PATTERN = f"^gestore_sync_({'|'.join(OPERATIONS)})_[0-9a-f]{{16}}$"
"""The names of all triggers of the change log and of their functions."""

KEY_TYPES = frozenset(
    {"AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField", "SmallIntegerField"}
    | {"PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField", "CharField", "TextField"}
    | {"SlugField", "FileField", "FilePathField", "UUIDField", "DateField", "DateTimeField", "TimeField"}
    | {"BooleanField", "DecimalField", "FloatField", "GenericIPAddressField"}
)
"""The kinds of key of which the database can tell the text that Python has for them."""


@dataclass(frozen=True)
class Capture:
    """What one trigger logs.

    ``model``: under which changes are logged; of a many-to-many table the model with the rows, whose owner gets the
    entries. ``table``: the model whose table is listened to, which may be a multi-table parent that is not watched
    itself. ``members``: the many-to-many field whose automatic table it is.
    """

    model: type[Model]
    operation: str
    table: type[Model]
    members: Any = None

    @property
    def name(self) -> str:
        """The name of the trigger and of its function: short, and the same every time."""
        what = f"{self.model._meta.label_lower} {self.table._meta.label_lower} {self.table._meta.db_table}"
        return f"gestore_sync_{self.operation}_{hashlib.sha1(what.encode()).hexdigest()[:16]}"

    @property
    def logged(self) -> type[Model]:
        """The model that the entries are about."""
        return self.model if self.members is None else get_concrete(self.members.model)


def iter_captures(model: type[Model], watched: Watched) -> Iterator[Capture]:
    """What must be seen so that nothing of ``model`` is missed; nothing where triggers cannot tell its keys."""
    members = watched.members[model][0] if model._meta.auto_created and model in watched.members else None
    keys = get_key_fields(model) if members is None else get_ends(members)
    if model._meta.swapped or not all(is_plain(field) for field in keys):
        return
    for operation in OPERATIONS:
        yield Capture(model, operation, model, members)
    for parent in dict.fromkeys(get_concrete(parent) for parent in model._meta.all_parents):
        if parent not in watched.models:
            yield Capture(model, UPDATE, parent)


def get_key_fields(model: type[Model]) -> tuple[Any, ...]:
    """The field(s) that the primary key consists of."""
    pk = model._meta.pk
    return tuple(get_field(model, name) for name in pk.field_names) if isinstance(pk, CompositePrimaryKey) else (pk,)


def get_ends(members: Any) -> tuple[Any, Any]:
    """The links of an automatic many-to-many table to the owner and to the member."""
    through = members.remote_field.through
    return get_field(through, members.m2m_field_name()), get_field(through, members.m2m_reverse_field_name())


def is_plain(field: Any) -> bool:
    """Whether the database can tell the text that Python has for a key."""
    field = resolve_key_field(field)
    return field.get_internal_type() in KEY_TYPES and not hasattr(field, "from_db_value")

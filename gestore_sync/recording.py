"""Writes the change log, in the application's own transaction and database.

The log is only ever added to: an entry that was updated in place could make transactions wait for each other, or take
with it a change that commits later. Repeated changes of one object are squashed when the log is read. An entry is one
INSERT without a savepoint; what could go wrong with it is found out before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connections
from django.db.models import Model, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.utils import timezone

from gestore_sync.deliveries import add_deliveries, find_known
from gestore_sync.disabling import is_muted
from gestore_sync.fields import now
from gestore_sync.identity import iter_identities
from gestore_sync.models import DELETION, M2M_CHANGE, PENDING, ChangeLog
from gestore_sync.natural import natural_key_of
from gestore_sync.reading import get_queryset
from gestore_sync.refs import dump_pk, get_field, resolve_key_field

logger = logging.getLogger(__name__)
COLUMNS = ("content_type_id", "object_id", "date", "action", "data", "origin", "state")
ROWS_AT_ONCE = 100


class NewEntry(NamedTuple):
    """An entry that is not written yet; ``content_type`` is that of the database it belongs to."""

    content_type: int
    object_id: str
    date: datetime
    action: int
    data: dict[str, Any]


METHOD_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


_OWN_SAVE = "_gestore_sync_saves"


def mark_own_save(instance: Model) -> None:
    """Let the receiver know that the next ``save()`` of this object is a run's."""
    setattr(instance, _OWN_SAVE, True)


def is_own_save(instance: Model) -> bool:
    """Whether this is the save of a run. The next one of the same object is not."""
    return bool(instance.__dict__.pop(_OWN_SAVE, False))


# Entries


@cache
def get_deletion_fields(model: type[Model]) -> tuple[Any, ...]:
    """The fields by which a deleted object can be found later: what identifies it, and its links."""
    names = {path.split(LOOKUP_SEP)[0] for identity in iter_identities(model) for path in identity.paths}
    names |= {field.fk_field for field in model._meta.private_fields if isinstance(field, GenericForeignKey)}
    return tuple(
        field
        for field in model._meta.concrete_fields
        if (field.unique or field.is_relation or {field.name, field.attname} & names) and not field.primary_key
    )


def dump_value(field: Any, instance: Model) -> str | None:
    """The value of a field as text that ``to_python`` of the field, or of the key it leads to, reads."""
    value = field.value_from_object(instance)
    if value is None:
        return None
    return dump_pk(value) if field.is_relation else str(field.value_to_string(instance))


def describe_deleted(model: type[Model], instance: Model) -> dict[str, Any]:
    """What is kept of a deleted object, whose row is gone or going. Asks no database for fields that were read."""
    data: dict[str, Any] = {}
    try:
        deferred = instance.get_deferred_fields()
        fields = [field for field in get_deletion_fields(model) if field.attname not in deferred]
        texts = {field.attname: dump_value(field, instance) for field in fields}
        data["fields"] = {name: text for name, text in texts.items() if is_storable(text)}
        natural_key = natural_key_of(instance) if is_cheap_key(model, instance) else None
        parts = [str(part) for part in natural_key or ()]
        if parts and all(map(is_storable, parts)):
            data["natural_key"] = parts
    except METHOD_ERRORS as error:
        logger.warning("The natural key of the deleted %s %s cannot be told: %s", model._meta.label, instance.pk, error)
    return data


def load_deferred(model: type[Model], instance: Model, deferred: Collection[str], using: str) -> None:
    """Read fields that will be needed to find the object when it is gone, and that were not read with it."""
    names = [field.attname for field in get_deletion_fields(model) if field.attname in deferred]
    values = QuerySet(model=model, using=using).filter(pk=instance.pk).values_list(*names).first() if names else None
    for name, value in zip(names, values or (), strict=False):
        setattr(instance, name, value)


def is_storable(text: str | None) -> bool:
    """Whether every database takes a text: PostgreSQL has no null character and no half surrogates."""
    return text is None or not ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text))


def is_cheap_key(model: type[Model], instance: Model) -> bool:
    """Whether the natural key can be told without a query, or cannot be told later in any other way."""
    identity = next((identity for identity in iter_identities(model) if identity.natural), None)
    if identity is None or identity.per_object:
        return identity is not None
    fields = [model._meta.get_field(path.split(LOOKUP_SEP)[0]) for path in identity.paths]
    return not any(field.is_relation for field in fields)


def make_entry(using: str, model: type[Model], pk: Any, action: int, data: dict[str, Any] | None = None) -> NewEntry:
    """An entry that is not written yet. ``model``: the concrete model; ``pk``: as it stands in the object."""
    content_type = ContentType.objects.db_manager(using).get_for_model(model).pk
    return NewEntry(content_type, dump_object_id(model, pk), now(), action, data or {})


def dump_object_id(model: type[Model], pk: Any) -> str:
    """The text of a primary key, however the application wrote it."""
    return dump_pk(pk if isinstance(pk, tuple) else resolve_key_field(model._meta.pk).to_python(pk))


def make_deletion(using: str, model: type[Model], instance: Model) -> NewEntry:
    """The entry of an object that is deleted."""
    return make_entry(using, model, instance.pk, DELETION, describe_deleted(model, instance))


def make_member_change(
    using: str, model: type[Model], pk: Any, name: str, *, added: Sequence[Any] = (), removed: Sequence[Any] = ()
) -> NewEntry:
    """The entry of an owner whose many-to-many field ``name`` has got or lost members, by their keys."""
    data = {"field": name, "added": [dump_pk(key) for key in added], "removed": [dump_pk(key) for key in removed]}
    return make_entry(using, model, pk, M2M_CHANGE, data)


# Writing

_ready: set[tuple[str, str]] = set()


class _Buffer:
    """Entries of one database that are not written yet. What is logged under a savepoint that was made meanwhile may be
    undone with it, and is none of them."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.savepoints = self._find_savepoints()
        self.entries: list[NewEntry] = []

    def takes(self, using: str) -> bool:
        """Whether an entry that is made now may wait."""
        return using == self.using and self._find_savepoints() == self.savepoints

    def _find_savepoints(self) -> list[str]:
        return [name for name in connections[self.using].savepoint_ids if name is not None]


_buffer: ContextVar[_Buffer | None] = ContextVar("gestore_sync_buffer", default=None)


def forget_ready(**kwargs: Any) -> None:
    """Look again which databases have the log: the receiver of ``post_migrate``."""
    _ready.clear()


def is_ready(using: str) -> bool:
    """Whether the database has the log with all its columns. One that had it is not asked again."""
    place = (using, str(connections[using].settings_dict["NAME"]))
    if place in _ready:
        return True
    connection = connections[using]
    table = ChangeLog._meta.db_table
    with connection.cursor() as cursor:
        if table not in connection.introspection.table_names(cursor):
            return False
        columns = {info.name for info in connection.introspection.get_table_description(cursor, table)}
    if not set(COLUMNS) <= columns:
        return False
    _ready.add(place)
    return True


def is_recording(using: str) -> bool:
    """Whether changes that are made now on this database are logged."""
    return not is_muted() and is_ready(using)


def record(using: str, entries: Sequence[NewEntry]) -> None:
    """Write entries, or keep them for the end of :func:`in_batches`. An error is logged, not raised."""
    buffer = _buffer.get()
    if buffer is not None and buffer.takes(using):
        buffer.entries += entries
    elif entries:
        try:
            write(using, entries)
        except DatabaseError:
            logger.exception("A change of %s %s was not logged.", entries[0].content_type, entries[0].object_id)


def write(using: str, entries: Sequence[NewEntry], origin: UUID | None = None) -> None:
    """Insert entries without a transaction or savepoint of our own."""
    connection = connections[using]
    quote, is_aware = connection.ops.quote_name, settings.USE_TZ
    columns = ", ".join(quote(name) for name in COLUMNS)
    marks = f"(%s, %s, %s, %s, %s, %s, {PENDING})"
    of_origin = get_field(ChangeLog, "origin").get_db_prep_value(origin, connection)
    for start in range(0, len(entries), ROWS_AT_ONCE):
        values: list[Any] = []
        for entry in entries[start : start + ROWS_AT_ONCE]:
            date = entry.date if is_aware else timezone.make_naive(entry.date, timezone.get_default_timezone())
            data = json.dumps(entry.data) if entry.data else "{}"
            moment = connection.ops.adapt_datetimefield_value(date)
            values += (entry.content_type, entry.object_id, moment, entry.action, data, of_origin)
        rows = ", ".join([marks] * (len(values) // 6))
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {quote(ChangeLog._meta.db_table)} ({columns}) VALUES {rows}", values)


def write_for(using: str, entries: Sequence[NewEntry], remote: str) -> None:
    """Insert entries that are news for one remote, and of which the others that are known need to hear nothing. In the
    caller's transaction."""
    others = find_known(using, but=remote) if entries else []
    mark = uuid4() if others else None
    write(using, entries, mark)
    if others:
        written = get_queryset(ChangeLog, using).filter(origin=mark)
        add_deliveries(using, list(written.values_list("pk", flat=True)), others)
        written.update(origin=None)


@contextmanager
def in_batches(using: str) -> Iterator[None]:
    """What is logged inside is written at the end, in batches; on an error not at all."""
    if _buffer.get() is not None:
        yield
        return
    buffer = _Buffer(using)
    token = _buffer.set(buffer)
    try:
        yield
    finally:
        _buffer.reset(token)
    record(using, buffer.entries)

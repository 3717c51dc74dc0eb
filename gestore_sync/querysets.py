"""Querysets and managers that log what Django tells no signal of: bulk operations, on any database."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from django.db import connections, transaction
from django.db.models import CompositePrimaryKey, ExpressionWrapper, F, Manager, Model, Q, QuerySet, Value
from django.db.models.constants import LOOKUP_SEP

from gestore_sync.identity import iter_identities
from gestore_sync.models import ADDITION, CHANGE
from gestore_sync.reading import (
    COMPOSITE_KEYS_PER_QUERY,
    find_existing,
    get_keys_per_query,
    get_queryset,
    list_keys,
    match_keys,
)
from gestore_sync.recording import NewEntry, in_batches, is_recording, make_deletion, make_entry, record
from gestore_sync.refs import Key, get_key_columns, iter_chunks, resolve_key_field
from gestore_sync.triggers import is_capturing
from gestore_sync.watching import find_watched

logger = logging.getLogger(__name__)


class LoggedQuerySetMixin:
    """For a QuerySet class: ``update``, ``bulk_create``, ``bulk_update``, ``delete`` and ``_raw_delete`` are logged.

    Entries are written in batches, in the transaction of the operation, for models that ``SYNCHRO_MODELS`` names.
    """

    def update(self, **values: Any) -> int:
        """Update the rows that match now, and log them."""
        rows: Any = self
        rows._for_write = True
        model = find_logged(rows.model, rows.db)
        if model is None or rows.query.is_sliced or rows.query.combinator:
            return int(super().update(**values))  # type: ignore[misc]
        with transaction.atomic(using=rows.db):
            keys = find_moves(rows.order_by(), values)
            stay = [old for old, new in keys.items() if old == new]
            entries = [make_entry(rows.db, model, pk, CHANGE) for pk in stay]
            entries += make_deletions(rows.db, model, [old for old, new in keys.items() if old != new])
            entries += [make_entry(rows.db, model, new, ADDITION) for old, new in keys.items() if old != new]
            record(rows.db, entries)
            # A transaction of SQLite has no other writer beside it; elsewhere rows may have come in between.
            is_alone = connections[rows.db].vendor == "sqlite"
            chosen = rows.all() if is_alone else rows.filter(match_keys(rows.model, list(keys)))
            changed = int(super(LoggedQuerySetMixin, chosen).update(**values))  # type: ignore[misc]
        rows._result_cache = None
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Any]:
        """Insert the objects, and log them."""
        rows: Any = self
        rows._for_write = True
        objs = list(objs)
        options = (batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)
        model = find_logged(rows.model, rows.db)
        if model is None:
            return list(super().bulk_create(objs, *options))  # type: ignore[misc]
        preset = [obj.pk for obj in objs if obj.pk is not None]
        with transaction.atomic(using=rows.db):
            made = list(super().bulk_create(objs, *options))  # type: ignore[misc]
            is_new = not (ignore_conflicts or update_conflicts)
            keys = [obj.pk for obj in made if obj.pk is not None]
            keys += find_keys(rows.model, rows.db, [obj for obj in made if obj.pk is None])
            if preset and not is_new:
                fields = [rows.model._meta.get_field(name) for name in unique_fields or () if name != "pk"]
                keys += iter_found(rows.model, rows.db, made, fields) if update_conflicts and fields else []
                there = find_existing(rows.model, rows.db, list(map(rows.model._meta.pk.to_python, keys)))
                keys = sorted(there)
            action = ADDITION if is_new else CHANGE
            record(rows.db, [make_entry(rows.db, model, pk, action) for pk in keys])
        return made

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the rows and what cascades, and log all of it in batches."""
        rows: Any = self
        rows._for_write = True
        with transaction.atomic(using=rows.db), in_batches(rows.db):
            deleted: tuple[int, dict[str, int]] = super().delete()  # type: ignore[misc]
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _raw_delete(self, using: str) -> int:
        rows: Any = self
        model = find_logged(rows.model, using)
        if model is None:
            return int(super()._raw_delete(using))  # type: ignore[misc]
        with transaction.atomic(using=using):
            going = list(rows.using(using).order_by())
            record(using, [make_deletion(using, model, instance) for instance in going])
            return int(super()._raw_delete(using))  # type: ignore[misc]

    _raw_delete.alters_data = True  # type: ignore[attr-defined]


class LoggedQuerySet(LoggedQuerySetMixin, QuerySet):  # type: ignore[type-arg, misc]
    """A QuerySet whose bulk operations are logged."""


class LoggedManager(Manager.from_queryset(LoggedQuerySet)):  # type: ignore[misc]
    """A Manager whose bulk operations are logged."""


def find_logged(model: type[Model], using: str) -> type[Model] | None:
    """The concrete model under which changes of ``model`` are logged now on a database; None where they are not, or
    where triggers do it."""
    watched = find_watched()
    logged = None if watched is None else watched.senders.get(model)
    if logged is None or not is_recording(using) or is_capturing(using, logged):
        return None
    return logged


def find_moves(rows: Any, values: dict[str, Any]) -> dict[Key, Key]:
    """By the key of each row, the key it will have when it is updated with these values."""
    columns = get_key_columns(rows.model)
    fields = [rows.model._meta.get_field(column) for column in columns]
    given = [next((name for name in (field.name, field.attname) if name in values), None) for field in fields]
    if not any(given):
        return {key: key for key in list_keys(rows)}
    news = {
        f"gestore_sync_{field.attname}": make_expression(field, values[name]) if name else F(field.attname)
        for field, name in zip(fields, given, strict=True)
    }
    found = rows.annotate(**news).values_list(*columns, *news)
    is_composite = isinstance(rows.model._meta.pk, CompositePrimaryKey)
    width = len(columns)
    return {row[:width] if is_composite else row[0]: row[width:] if is_composite else row[1] for row in found}


def make_expression(field: Any, value: Any) -> Any:
    """A value that ``update()`` is given for a field, as it can be selected."""
    if hasattr(value, "resolve_expression"):
        return ExpressionWrapper(value, output_field=field)
    key = getattr(value, field.target_field.attname) if isinstance(value, Model) else value
    return Value(key, output_field=resolve_key_field(field))


def make_deletions(using: str, model: type[Model], keys: Sequence[Key]) -> Iterator[NewEntry]:
    """The entries of rows whose keys are about to go."""
    for chunk in iter_chunks(keys, get_keys_per_query(model, using)):
        for instance in get_queryset(model, using).filter(match_keys(model, chunk)):
            yield make_deletion(using, model, instance)


def find_keys(model: type[Model], using: str, objs: Sequence[Any]) -> list[Any]:
    """The keys of objects that were inserted with conflicts ignored, which Django does not tell, by a unique value."""
    identity = next(
        (
            identity
            for identity in iter_identities(model)
            if identity.unique and identity.locates and identity.paths and LOOKUP_SEP not in "".join(identity.paths)
        ),
        None,
    )
    if objs and identity is None:
        logger.warning(
            "%d %s were inserted by bulk_create() with conflicts ignored and are not logged, as Django tells no keys "
            "and they have no unique field. synchronize --reconcile finds them.",
            len(objs),
            model._meta.label,
        )
    if identity is None:
        return []
    return list(iter_found(model, using, objs, [model._meta.get_field(path) for path in identity.paths]))


def iter_found(model: type[Model], using: str, objs: Sequence[Any], fields: Sequence[Any]) -> Iterator[Any]:
    """The keys of the rows that have the objects' values in these fields."""
    for chunk in iter_chunks(objs, COMPOSITE_KEYS_PER_QUERY):
        wanted = Q(pk__in=[])
        for obj in chunk:
            wanted |= Q(**{field.attname: field.value_from_object(obj) for field in fields})
        yield from get_queryset(model, using).filter(wanted).values_list("pk", flat=True)

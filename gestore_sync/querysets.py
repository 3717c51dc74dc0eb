"""Querysets and managers that log what Django tells no signal of: bulk operations, on any database."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Manager, Model, Q, QuerySet
from django.db.models.constants import LOOKUP_SEP

from gestore_sync.identity import iter_identities
from gestore_sync.models import ADDITION, CHANGE
from gestore_sync.reading import COMPOSITE_KEYS_PER_QUERY, get_queryset, list_keys, match_keys
from gestore_sync.recording import in_batches, is_recording, make_deletion, make_entry, record
from gestore_sync.refs import iter_chunks
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
            keys = list(dict.fromkeys(list_keys(rows.order_by())))
            record(rows.db, [make_entry(rows.db, model, pk, CHANGE) for pk in keys])
            chosen = rows.filter(match_keys(rows.model, keys))
            changed = int(super(LoggedQuerySetMixin, chosen).update(**values))  # type: ignore[misc]
        rows._result_cache = None
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[Any], *args: Any, **options: Any) -> list[Any]:
        """Insert the objects, and log them."""
        rows: Any = self
        rows._for_write = True
        objs = list(objs)
        model = find_logged(rows.model, rows.db)
        if model is None:
            return list(super().bulk_create(objs, *args, **options))  # type: ignore[misc]
        with transaction.atomic(using=rows.db):
            made = list(super().bulk_create(objs, *args, **options))  # type: ignore[misc]
            is_new = not (options.get("ignore_conflicts") or options.get("update_conflicts") or len(args) > 1)
            keys = [obj.pk for obj in made if obj.pk is not None]
            keys += find_keys(rows.model, rows.db, [obj for obj in made if obj.pk is None])
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

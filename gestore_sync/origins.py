"""The identity of each database, made when it is migrated."""

from __future__ import annotations

from typing import Any

from django.db import connections, router, transaction

from gestore_sync.checkpoint import seed_checkpoint
from gestore_sync.models import Origin
from gestore_sync.reading import get_queryset


def make_own_origin(using: str) -> None:
    """Give the database its identity if it has none, and our tables."""
    if Origin._meta.db_table not in connections[using].introspection.table_names():
        return
    if not get_queryset(Origin, using).filter(is_own=True).exists():
        Origin.objects.using(using).bulk_create([Origin(is_own=True)])


def renew_origin(using: str) -> None:
    """Give a database that is a copy of another an identity of its own; it knows the other's from then on."""
    with transaction.atomic(using=using):
        get_queryset(Origin, using).filter(is_own=True).update(is_own=False)
        make_own_origin(using)


def get_origin(using: str, uuid: Any) -> int:
    """The primary key of the origin with this identity; it is noted if it is not known yet."""
    known = get_queryset(Origin, using).filter(uuid=uuid).values_list("pk", flat=True)
    if not known:
        Origin.objects.using(using).bulk_create([Origin(uuid=uuid)])
    return int(known.all()[0])


def seed_database(using: str, **kwargs: Any) -> None:
    """The ``post_migrate`` receiver: the database gets its identity, and its log a beginning."""
    if router.allow_migrate_model(using, Origin):
        make_own_origin(using)
        seed_checkpoint(using)

"""The record of a run, written in the transaction of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from gestore_sync.changelog import has_log
from gestore_sync.mappings import MappingStore
from gestore_sync.models import ChangeLog, IdMapping, SyncRun
from gestore_sync.plan import Plan
from gestore_sync.writers import get_writer

MANY = 50_000
"""From so many new id mappings on the database counts anew what is in our tables."""
MANY_OF_NEW = 20_000
"""The same of models that had none, of which it expects a few: it would read all of such a model to find one."""


def insert_run(
    store: MappingStore, plan: Plan, started: datetime, uuid: UUID, entries: Sequence[list[int]] | None
) -> None:
    """Keep what a run did where its id mappings are. ``entries``: the ranges of the log that it handles, None if it is
    not of the log."""
    origin: Any = store.origin
    run = SyncRun(
        uuid=uuid,
        origin_id=origin,
        remote=store.remote,
        roots=[str(ref) for ref in plan.roots],
        counts={name: dict(getattr(plan.report, name)) for name in plan.report.COUNTS},
        of_log=entries is not None,
        entries=list(entries or ()),
        started=started,
        finished=timezone.now(),
    )
    SyncRun.objects.using(store.place).bulk_create([run])
    if store.number_stored >= MANY or store.number_of_new >= MANY_OF_NEW:
        store.number_stored = store.number_of_new = 0
        transaction.on_commit(lambda: analyze(store.place), using=store.place, robust=True)


def analyze(using: str) -> None:
    """Let the database count what our tables hold: until it does, after many rows were added, it may read all id
    mappings of a model to find a few."""
    for model in (IdMapping, ChangeLog) if has_log(using) else (IdMapping,):
        get_writer(using).analyze(model)

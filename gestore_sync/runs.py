"""The record of a run, written in the transaction of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from gestore_sync.mappings import MappingStore
from gestore_sync.models import SyncRun
from gestore_sync.plan import Plan


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

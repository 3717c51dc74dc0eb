"""What both sides know of each other's runs, so that nothing is sent twice and a restored database is noticed.

A run is announced at the source before it can commit at the target (``open_run``), is recorded there in the
transaction of the rows, and is closed at the source afterwards. One that was cut in between is closed by the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from gestore_sync.changelog import find_remote_row, get_pending, has_log, mark_handled, prune_log
from gestore_sync.checkpoint import write_checkpoint
from gestore_sync.exceptions import OutOfStep
from gestore_sync.mappings import MappingStore
from gestore_sync.models import Remote, SyncRun
from gestore_sync.origins import get_origin
from gestore_sync.plan import Report
from gestore_sync.reading import get_queryset
from gestore_sync.transactions import write_all_or_nothing

MAX_PROBLEMS = 100
"""So many conflicts and failures are kept of a run; the report of the run has all."""


def announce(source: str, alias: str, uuid: UUID) -> None:
    """Note at the source that a run may commit at the target from now on."""
    Remote.objects.using(source).get_or_create(alias=alias)
    get_queryset(Remote, source).filter(alias=alias).update(open_run=uuid)


def find_last_run(store: MappingStore) -> SyncRun | None:
    """The last run of the source's log that the target has a record of."""
    if not store.in_target or store.origin is None:
        return None
    runs = get_queryset(SyncRun, store.target).filter(origin=store.origin, of_log=True)
    found: SyncRun | None = runs.order_by("-pk").first()
    return found


def find_cut_run(store: MappingStore) -> SyncRun | None:
    """The run that the target has and the source had not finished when it was cut.

    Raises :class:`OutOfStep` where the records of the two do not match.
    """
    row = find_remote_row(store.source, store.target)
    last = find_last_run(store)
    if row is not None and last is not None and last.uuid == row.open_run and last.uuid != row.last_run:
        return last
    reason = explain_mismatch(store, row, last)
    if reason is not None:
        raise OutOfStep(
            f"{reason} What the change log of {store.source!r} holds is not enough to bring {store.target!r} up to "
            "date. Compare everything and send what is missing: manage.py synchronize --reconcile "
            f"--source {store.source} --remote {store.target}. If {store.source!r} is a copy that lives beside its "
            f'original, give it an identity of its own first: gestore_sync.api.renew_origin("{store.source}").'
        )
    return None


def close_cut_run(store: MappingStore) -> None:
    """Finish at the source what a run that was cut had committed at the target. Raises :class:`OutOfStep`."""
    run = find_cut_run(store)
    if run is not None:
        with write_all_or_nothing(store.source, Remote._meta.db_table):
            mark_handled(store.source, store.target, get_ids(store, run.entries))
            keep_run(store, run.uuid, last_run=run.uuid)


def explain_mismatch(store: MappingStore, row: Remote | None, last: SyncRun | None) -> str | None:
    """Why the two sides do not match; None where they do."""
    source, target = store.source, store.target
    if row is not None and not row.is_known and row.last_run is not None:
        return f"{source!r} has not kept what it logged while its settings did not name {target!r}."
    if row is None or not row.is_known:
        if last is None:
            return None
        return f"{target!r} has a run of {last.finished:%Y-%m-%d %H:%M} from {source!r} that {source!r} does not know."
    if row.origin is not None and row.origin != store.target_uuid:
        return f"{target!r} is another database than the one that was last synchronized under this alias."
    if row.origin is None:
        return None  # the target had no tables of ours: the last run is kept at the source
    if row.last_run is None or not store.in_target or (last is not None and last.uuid == row.last_run):
        return None
    if not get_queryset(SyncRun, target).filter(uuid=row.last_run).exists():
        return f"{target!r} does not have the last run from {source!r}: it was restored from an older state."
    return f"{target!r} has a later run from {source!r} than {source!r} knows: that was restored from an older state."


def get_ids(store: MappingStore, ranges: Sequence[Sequence[int]]) -> list[int]:
    """The entries in ranges of keys that are still pending."""
    pending = get_pending(store.source, store.target)
    return [pk for first, last in ranges for pk in pending.filter(pk__range=(first, last)).values_list("pk", flat=True)]


def make_ranges(ids: Sequence[int]) -> list[list[int]]:
    """Keys as ranges without gaps, ``[[first, last], …]``."""
    ranges: list[list[int]] = []
    for pk in sorted(ids):
        if ranges and pk == ranges[-1][1] + 1:
            ranges[-1][1] = pk
        else:
            ranges.append([pk, pk])
    return ranges


def note_settled(store: MappingStore, ids: Sequence[int]) -> None:
    """Note that the target needs to hear nothing of these entries, in the open transaction of the source."""
    Remote.objects.using(store.source).get_or_create(alias=store.target)
    mark_handled(store.source, store.target, ids)
    unknown = get_queryset(Remote, store.source).filter(alias=store.target, is_known=False, last_run=None)
    unknown.update(is_known=True, origin=store.target_uuid)


def keep_run(store: MappingStore, uuid: UUID, **known: UUID | None) -> None:
    """Note that a run is finished; ``last_run``: the last one that both sides know by now, where that may have changed.

    Where another run has begun meanwhile, it has finished this one, and knows better.
    """
    rows = get_queryset(Remote, store.source).filter(alias=store.target)
    rows.update(is_known=True, origin=store.target_uuid)
    rows.filter(open_run=uuid).update(open_run=None, **known)


def close_run(
    store: MappingStore,
    uuid: UUID,
    handled: Sequence[int],
    checkpoint: datetime | None,
    *,
    written: bool,
    accept: bool = False,
) -> None:
    """Finish a run at the source, after the target committed.

    ``checkpoint``: where it stands now, None to leave it. ``written``: whether the target has a record of the run.
    ``accept``: take what the target has as the last run, whatever was known of it.
    """
    known: dict[str, UUID | None] = {"last_run": uuid} if written else {}
    if accept and not written:
        found = find_last_run(store)
        known = {"last_run": None if found is None else found.uuid}
    with write_all_or_nothing(store.source, Remote._meta.db_table):
        mark_handled(store.source, store.target, handled)
        keep_run(store, uuid, **known)
        prune_log(store.source)
        if checkpoint is not None:
            write_checkpoint(store.source, checkpoint)


def record_run(
    store: MappingStore, uuid: UUID, report: Report, started: datetime, *, roots: Sequence[str] = (), error: str = ""
) -> None:
    """Keep a record of a run of the log at the source, for people to look at."""
    problems = {name: getattr(report, name)[:MAX_PROBLEMS] for name in ("conflicts", "failures")}
    values = {
        "counts": {} if error else {name: dict(getattr(report, name)) for name in report.COUNTS},
        "problems": make_plain({name: found for name, found in problems.items() if found}),
        "error": error,
        "finished": timezone.now(),
    }
    if not get_queryset(SyncRun, store.source).filter(uuid=uuid).update(**values):
        origin: Any = get_origin(store.source, store.uuid)
        begun = started if timezone.is_aware(timezone.now()) else timezone.make_naive(started)
        run = SyncRun(
            uuid=uuid, origin_id=origin, remote=store.target, of_log=True, roots=list(roots), started=begun, **values
        )
        run.save(using=store.source)


def make_plain(value: Any) -> Any:
    """A value of a report as JSON has it."""
    if isinstance(value, dict):
        return {str(key): make_plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_plain(part) for part in value]
    if value is None or isinstance(value, (int, float, bool)):
        return value
    return str(value).replace("\0", "�").encode("utf-8", "replace").decode()


def iter_known(source: str) -> Iterator[Remote]:
    """The remotes to which the log of a database was sent."""
    if has_log(source):
        yield from get_queryset(Remote, source).order_by("alias")

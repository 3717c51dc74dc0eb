"""The front door: what the commands do, as functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, OperationalError, connections
from django.db.models import Model
from django.utils.translation import gettext as _

from gestore_sync import origins
from gestore_sync.adapters import load_adapters
from gestore_sync.changelog import count_pending, has_log
from gestore_sync.checkpoint import read_checkpoint
from gestore_sync.comparison import POLICIES
from gestore_sync.conf import REACHES, find_remote
from gestore_sync.databases import can_connect, get_databases
from gestore_sync.exceptions import (
    DatabaseUnavailable,
    GestoreSyncError,
    UnknownObject,
    WriteFailed,
    WrongDatabase,
    WrongSetting,
)
from gestore_sync.failures import first_line
from gestore_sync.links import LinkGraph
from gestore_sync.models import SyncRun
from gestore_sync.naming import find_ref
from gestore_sync.plan import Report
from gestore_sync.progress import Progress
from gestore_sync.pushing import Push
from gestore_sync.reading import get_queryset
from gestore_sync.reconciling import find_missed, queue_missed
from gestore_sync.replaying import Replay
from gestore_sync.resetting import reset
from gestore_sync.scope import make_scope
from gestore_sync.watching import get_watched

__all__ = ["Overview", "call_synchronize", "get_overview", "renew_origin", "reset_synchro", "synchronize"]

RUNS_SHOWN = 10


def synchronize(
    roots: Sequence[Model | str] | Model | str = (),
    *,
    source: str | None = None,
    remote: str | None = None,
    own: Iterable[str] = (),
    refer: Iterable[str] = (),
    ignore: Iterable[str] = (),
    stop: Iterable[str] = (),
    reach: str | None = None,
    on_conflict: str = "newer",
    prune: bool = False,
    changes: bool = False,
    strict: bool = False,
    reconcile: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Push what the change log holds from one database to another, or objects with everything that belongs to them.

    ``roots``: instances, "app.Model.pk" or "app.Model.field=value" for a unique field; none means: what the change log
    holds. ``source`` and ``remote``: database aliases (default: "default" and ``SYNCHRO_REMOTE``). ``own``, ``refer``,
    ``ignore``: links, "app.Model.field"; ``ignore`` takes models too. ``stop``: models, "app.Model". ``reach``: "owned"
    or "connected". ``on_conflict``: "newer", "local", "remote" or "fail". ``prune``: delete owned objects that this
    source put there and no longer has. ``changes``: of the roots only what the change log holds. ``strict``: all of the
    change log or nothing. ``reconcile``: compare everything first, and log what no entry tells of. ``dry_run``: only
    plan, write nothing at all.

    Returns the :class:`~gestore_sync.plan.Report`; objects of the change log that could not be sent are in its
    ``failures`` and ``conflicts`` and stay pending. Raises subclasses of
    :class:`~gestore_sync.exceptions.GestoreSyncError`; the target is then as it was.
    """
    if isinstance(roots, (str, Model)):
        roots = [roots]
    own, refer, ignore, stop = ([names] if isinstance(names, str) else names for names in (own, refer, ignore, stop))
    source, target = get_databases(source, remote)
    check_options(on_conflict, reach, is_log=changes or not roots, prune=prune)
    if changes and not roots:
        raise UnknownObject("Name the objects whose changes shall be sent, as --root app.Model.pk.")
    progress = progress or Progress()
    try:
        graph = LinkGraph(source, load_adapters())
        refs = [find_ref(root, source) for root in roots]
        for ref in refs:
            if ref.model not in graph:
                raise UnknownObject(f"The database {source!r} has no table for {ref.model._meta.label}.")
        scope = make_scope(
            graph,
            own=own,
            refer=refer,
            ignore=ignore,
            stop=stop,
            reach=reach,
            roots=[ref.model for ref in refs],
        )
        options: dict[str, Any] = {"on_conflict": on_conflict, "prune": prune, "progress": progress}
        missed = find_missed(graph, scope, target, **options) if reconcile else []
        if not dry_run:
            queue_missed(source, missed)
        if roots and not changes:
            push = Push(graph, scope, refs, target, **options)
        else:
            unwritten = missed if dry_run else []
            push = Replay(
                graph, scope, refs, target, strict=strict, reconciled=reconcile, unwritten=unwritten, **options
            )
        return push.plan() if dry_run else push.run()
    except DatabaseError as error:
        raise explain(error, source, target) from error
    except InterfaceError as error:
        raise explain(error, source, target) from error
    finally:
        progress.close()


def check_options(on_conflict: str, reach: str | None, *, is_log: bool, prune: bool) -> None:
    """Raise :class:`WrongSetting` for options, or settings, that a run cannot work with."""
    if on_conflict not in POLICIES:
        raise WrongSetting(
            f"There is no policy {on_conflict!r} for conflicts. The policies are: {', '.join(POLICIES)}."
        )
    if reach not in (None, *REACHES):
        raise WrongSetting(f"There is no reach {reach!r}. It is one of: {', '.join(REACHES)}.")
    if is_log and prune:
        raise WrongSetting("--prune goes with --root: the change log tells itself what was deleted.")
    get_watched()


def call_synchronize(**options: Any) -> str:
    """Do what ``manage.py synchronize`` does with these options; returns what it says, in the active language.

    ``root`` may be used for ``roots``. Raises what :func:`synchronize` raises.
    """
    if "root" in options:
        options["roots"] = options.pop("root")
    return str(synchronize(**options).message)


def reset_synchro(source: str | None = None) -> None:
    """Forget the change log and this installation's id mappings, and set the checkpoint to now.

    ``source``: the database, "default" if not given. The mappings in remotes that can be reached are forgotten too.
    """
    source = source or DEFAULT_DB_ALIAS
    try:
        reset(source)
    except (DatabaseError, InterfaceError) as error:
        raise explain(error, source, source) from error


def renew_origin(database: str) -> None:
    """Give a database that was made as a copy of another an identity of its own, so that both may live side by side.

    ``database``: its alias. What it had sent before is unknown to it afterwards: push roots, or ``reconcile``.
    Raises :class:`~gestore_sync.exceptions.WrongDatabase` for an alias that does not exist.
    """
    if database not in connections:
        raise WrongDatabase(f"There is no database {database!r} in DATABASES.")
    origins.renew_origin(database)


@dataclass(frozen=True)
class Overview:
    """How things stand: the checkpoint, what is pending by model, the last runs, and what stands in the way."""

    source: str
    remote: str | None
    checkpoint: datetime
    pending: dict[str, int] = field(default_factory=dict)
    runs: list[SyncRun] = field(default_factory=list)
    problem: str = ""


def get_overview(source: str | None = None, remote: str | None = None) -> Overview:
    """How things stand between a database and a remote. Only reads, and only in ``source``."""
    source = source or DEFAULT_DB_ALIAS
    problem = ""
    try:
        remote = remote or find_remote()
        get_watched()
    except WrongSetting as error:
        problem = str(error)
    if not has_log(source):
        problem = _("The database %(alias)r has no change log.") % {"alias": source}
        return Overview(source, remote, read_checkpoint(), problem=problem)
    runs = get_queryset(SyncRun, source).exclude(remote="").order_by("-started", "-pk").select_related("origin")
    return Overview(
        source=source,
        remote=remote,
        checkpoint=read_checkpoint(None if source == DEFAULT_DB_ALIAS else source),
        pending=count_pending(source, remote or ""),
        runs=list(runs[:RUNS_SHOWN]),
        problem=problem,
    )


def explain(error: Exception, source: str, target: str) -> GestoreSyncError:
    """A database's error as one of ours, with what to do."""
    for alias in (target, source):
        connection = connections[alias]
        if connection.connection is not None and not connection.in_atomic_block and connection.is_usable():
            continue
        if isinstance(error, (OperationalError, InterfaceError)) and not can_connect(alias):
            return DatabaseUnavailable(
                f"The database {alias!r} cannot be reached: {first_line(error)}. "
                "Nothing was written on the target; run again when it is back."
            )
    if isinstance(error, (OperationalError, InterfaceError)):
        return DatabaseUnavailable(
            f"A database broke the run off: {first_line(error)}. Nothing was written; run again."
        )
    return WriteFailed(f"A database refused the run: {first_line(error)}. Nothing was written.")

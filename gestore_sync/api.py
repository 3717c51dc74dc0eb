"""The front door: what the commands do, as functions."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

from django.utils import timezone

from gestore_sync.buckets import get_bucket_location
from gestore_sync.comparison import LOCAL
from gestore_sync.databases import get_databases
from gestore_sync.deleting import Deletion
from gestore_sync.differing import Differences, find_differences
from gestore_sync.exceptions import WrongSetting
from gestore_sync.exporting import export_roots
from gestore_sync.importing import Import
from gestore_sync.incoming import IMPORT_POLICIES, OVERRIDE
from gestore_sync.locations import DEFAULT_FOLDER, get_export_location
from gestore_sync.moving import move as move_objects
from gestore_sync.naming import find_labels
from gestore_sync.overview import Overview, get_overview
from gestore_sync.plan import Report
from gestore_sync.planned import apply_plan, check_plan_options, write_plan_of
from gestore_sync.policies import Policies, get_policies
from gestore_sync.progress import Progress
from gestore_sync.pushing import Push
from gestore_sync.reconciling import find_missed, queue_missed
from gestore_sync.replaying import Replay
from gestore_sync.resetting import renew_origin, reset_synchro
from gestore_sync.settlements import list_conflicts, resolve_conflicts
from gestore_sync.starting import (
    Names,
    Objects,
    as_list,
    as_objects,
    check_options,
    check_run,
    explained,
    get_database,
    prepare_walk,
)
from gestore_sync.verifying import verify as verify_push

__all__ = [
    "IMPORT_POLICIES",
    "Overview",
    "call_synchronize",
    "delete_objects",
    "diff_objects",
    "export_objects",
    "get_overview",
    "import_objects",
    "list_conflicts",
    "renew_origin",
    "reset_synchro",
    "resolve_conflicts",
    "synchronize",
]


def synchronize(
    roots: Objects = (),
    *,
    source: str | None = None,
    remote: str | None = None,
    own: Names = (),
    refer: Names = (),
    ignore: Names = (),
    stop: Names = (),
    reach: str | None = None,
    on_conflict: str | None = None,
    prune: bool = False,
    changes: bool = False,
    strict: bool = False,
    reconcile: bool = False,
    verify: bool = False,
    move: bool = False,
    backup: str | PathLike[str] | None = None,
    commit_every: int | None = None,
    dry_run: bool = False,
    plan: str | PathLike[str] | None = None,
    apply: str | PathLike[str] | None = None,
    confirm: Callable[[Report], bool] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Push what the change log holds from one database to another, or objects with everything that belongs to them.

    ``roots``: instances, "app.Model.pk" or "app.Model.field=value" for a unique field; none means: what the change log
    holds. ``source`` and ``remote``: database aliases (default: "default" and ``SYNCHRO_REMOTE``). ``own``, ``refer``,
    ``ignore``: links, "app.Model.field"; ``ignore`` takes models too. ``stop``: models, "app.Model". ``reach``: "owned"
    or "connected". ``on_conflict``: "newer" (the default), "local", "remote" or "fail", for what no rule of
    ``GESTORE_SYNC["CONFLICTS"]`` is about. ``prune``: delete owned objects that this source put there and no longer
    has. ``changes``: of the roots only what the change log holds. ``strict``: all of the change log or nothing.
    ``reconcile``: compare everything first, and log what no entry tells of. ``verify``: compare afterwards what was
    sent; what is not as it should be is a failure. ``move``: when the roots have arrived, delete them at the source,
    after a bundle was written to ``backup`` (default: a file in "exports") and ``confirm``, which is shown the
    deletion, has returned True. ``commit_every``: commit the new objects of the roots in parts of so many. ``dry_run``:
    only plan, write nothing. ``plan``: a path or URL: only write the plan there. ``apply``: that of a plan: do what it
    says, and nothing else.

    Returns the :class:`~gestore_sync.plan.Report`; objects of the change log that could not be sent are in its
    ``failures`` and ``conflicts`` and stay pending. Raises subclasses of
    :class:`~gestore_sync.exceptions.GestoreSyncError`; the target is then as it was.
    """
    roots = as_objects(roots)
    given = locals()
    check_plan_options(given)
    if apply is not None:
        return apply_plan(apply, source, remote, progress)
    source, target = get_databases(source, remote)
    check_run(given)
    progress = progress or Progress()
    with explained(source, target, progress):
        graph, refs, scope = prepare_walk(source, roots, own=own, refer=refer, ignore=ignore, stop=stop, reach=reach)
        options: dict[str, Any] = {"on_conflict": get_policies(on_conflict), "prune": prune, "progress": progress}
        missed = find_missed(graph, scope, target, **options) if reconcile else []
        if not dry_run:
            queue_missed(source, target, missed)
        if move and not dry_run:
            push = Push(graph, scope, refs, target, commit_every=commit_every, **options)
            location = get_export_location(backup or f"{DEFAULT_FOLDER}/", timezone.now())
            return move_objects(push, backup=location, confirm=confirm)
        if roots and not changes:
            push = Push(graph, scope, refs, target, commit_every=commit_every, **options)
            if plan is not None:
                return write_plan_of(push, plan)
        else:
            options |= {"strict": strict, "reconciled": reconcile, "unwritten": missed if dry_run else []}
            push = Replay(graph, scope, refs, target, **options)
        if dry_run:
            return push.plan()
        report = push.run()
        if verify:
            verify_push(push, report)
        return report


def export_objects(
    objects: Objects,
    output: str | PathLike[str] | None = None,
    *,
    stop_at: Names = (),
    bucket: bool = False,
    database: str | None = None,
    sign: bool = False,
    files: bool = True,
    debug: bool = False,
    own: Names = (),
    refer: Names = (),
    ignore: Names = (),
    stop: Names = (),
    reach: str | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write objects with everything that belongs to them into a bundle.

    ``output``: a path or URL; a name that ends in .json, .json.gz, .tar.gz or .tar.zst is the file's, another one that
    of a folder (default: "exports"). ``bucket``: into the bucket of the settings. ``stop_at``: names of models ("Model"
    or "app.Model") to stop at, beside ``stop``. ``files``: take stored files along (archives). ``sign``: sign it.
    ``debug``: write nothing, the document is in the report. ``database``: an alias, "default" if not given.

    Returns a Report whose ``exported`` counts the objects and whose ``location`` says where they are. Raises subclasses
    of :class:`~gestore_sync.exceptions.GestoreSyncError`.
    """
    database = get_database(database)
    progress = progress or Progress()
    roots = as_objects(objects, "export")
    with explained(database, database, progress):
        stop = [*as_list(stop), *find_labels(as_list(stop_at))]
        graph, refs, scope = prepare_walk(database, roots, own=own, refer=refer, ignore=ignore, stop=stop, reach=reach)
        location = None if debug else get_export_location(output, timezone.now())
        if bucket and location is not None:
            location = get_bucket_location(location)
        return export_roots(graph, scope, refs, location, files=files, sign=sign, progress=progress)


def import_objects(
    path: str | PathLike[str],
    *,
    on_conflict: str = "fail",
    override: bool = False,
    database: str | None = None,
    ignorenonexistent: bool = False,
    bucket: bool = False,
    verify: bool = False,
    allow_privileged: bool = False,
    debug: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Take in the objects of a bundle: all or nothing.

    ``path``: a path or URL; ``bucket``: a name in the bucket of the settings. ``on_conflict``: "fail", "skip",
    "override" (as ``override``), "remap" or "newer". ``ignorenonexistent``: leave out models and fields that this
    project does not have. ``verify``: refuse bundles without a signature. ``allow_privileged``: take rights too.
    ``debug``: only plan. ``database``: an alias, "default" if not given.

    Returns a Report. Raises subclasses of :class:`~gestore_sync.exceptions.GestoreSyncError`; nothing was written then.
    """
    database = get_database(database)
    policy = OVERRIDE if override else on_conflict
    if policy not in IMPORT_POLICIES:
        raise WrongSetting(
            f"There is no policy {policy!r} for imports. The policies are: {', '.join(IMPORT_POLICIES)}."
        )
    progress = progress or Progress()
    with explained(database, database, progress):
        job = Import(
            get_bucket_location(str(path)) if bucket else str(path),
            database,
            policy=policy,
            leaves_out=ignorenonexistent,
            must_be_signed=verify,
            allow_privileged=allow_privileged,
            progress=progress,
        )
        return job.plan() if debug else job.run()


def delete_objects(
    objects: Objects,
    *,
    database: str | None = None,
    backup: str | PathLike[str] | None = None,
    orphans: bool = False,
    files: bool = False,
    debug: bool = False,
    own: Names = (),
    refer: Names = (),
    ignore: Names = (),
    stop: Names = (),
    reach: str | None = None,
    confirm: Callable[[Report], bool] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Delete objects with everything that belongs to them, in one transaction, and nothing else.

    ``backup``: a path or URL where a bundle of it all is written first. ``orphans``: referred objects that nothing else
    uses go, too. ``files``: so do, after the commit, the stored files that only deleted rows name. ``debug``: only
    plan. ``confirm``: is shown the plan; False from it ends the run. ``database``: an alias, "default" if not given.

    Returns a Report. Raises subclasses of :class:`~gestore_sync.exceptions.GestoreSyncError`; nothing was deleted then,
    but for stored files in FilesLeft. UnresolvedConflicts names rows that stay and hold on to one that would go.
    """
    database = get_database(database)
    roots = as_objects(objects, "delete")
    check_options(None, reach, is_log=False, prune=False)
    progress = progress or Progress()
    with explained(database, database, progress):
        graph, refs, scope = prepare_walk(
            database, roots, own=own, refer=refer, ignore=ignore, stop=stop, reach=reach, skipping=False
        )
        location = get_export_location(backup, timezone.now()) if backup else None
        deletion = Deletion(graph, scope, refs, orphans=orphans, files=files, backup=location, progress=progress)
        return deletion.plan() if debug else deletion.run(confirm)


def call_synchronize(**options: Any) -> str:
    """Do what ``manage.py synchronize`` does with these options; returns what it says, in the active language.

    ``root`` may be used for ``roots``. Raises what :func:`synchronize` raises.
    """
    roots = options.pop("root", options.pop("roots", ()))
    return str(synchronize(roots, **options).message)


def diff_objects(
    objects: Objects,
    *,
    source: str | None = None,
    remote: str | None = None,
    own: Names = (),
    refer: Names = (),
    ignore: Names = (),
    stop: Names = (),
    reach: str | None = None,
    repair: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Differences:
    """Compare objects with everything that belongs to them in two databases. Only reads.

    The arguments are those of :func:`synchronize`. Objects are found as a push finds them, links are compared by what
    they point to, and a difference is looked at twice before it is told. ``repair``: a path or URL: write the plan of a
    push there (``on_conflict="local"``, ``prune=True``), for ``synchronize(apply=…)``.

    Returns a Report with the lists ``missing``, ``extra`` and ``different``. Raises subclasses of
    :class:`~gestore_sync.exceptions.GestoreSyncError`.
    """
    source, target = get_databases(source, remote)
    roots = as_objects(objects, "compare")
    check_options(None, reach, is_log=False, prune=False)
    progress = progress or Progress()
    with explained(source, target, progress):
        graph, refs, scope = prepare_walk(source, roots, own=own, refer=refer, ignore=ignore, stop=stop, reach=reach)
        push = Push(graph, scope, refs, target, on_conflict=Policies(LOCAL), prune=True, progress=progress)
        found = find_differences(push.make_comparer, source, target)
        if repair is not None:
            write_plan_of(push, repair, found)
        return found

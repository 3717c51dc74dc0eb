"""What every run begins with: a database, its links, the scope, and the objects that were named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from django.db.models import Model

from gestore_sync.adapters import load_adapters
from gestore_sync.comparison import POLICIES
from gestore_sync.conf import REACHES
from gestore_sync.exceptions import UnknownObject, WrongDatabase, WrongSetting
from gestore_sync.failures import explain
from gestore_sync.links import LinkGraph
from gestore_sync.naming import find_ref
from gestore_sync.progress import Progress
from gestore_sync.refs import Ref
from gestore_sync.scope import Scope, make_scope
from gestore_sync.tuning import tuned
from gestore_sync.watching import get_watched

Objects = Iterable[Model | str] | Model | str | None
Names = Iterable[str] | str | None


def get_database(alias: str | None) -> str:
    """The alias, or "default". Raises :class:`~gestore_sync.exceptions.WrongDatabase` for one that does not exist."""
    if alias is not None and alias not in connections:
        raise WrongDatabase(
            f"There is no database {alias!r} in DATABASES. The databases are: {', '.join(sorted(connections))}."
        )
    return alias or DEFAULT_DB_ALIAS


@contextmanager
def explained(source: str, target: str, progress: Progress) -> Iterator[None]:
    """Errors of databases become ours; the progress bars end."""
    try:
        with tuned():
            yield
    except (DatabaseError, InterfaceError) as error:
        raise explain(error, source, target) from error
    finally:
        progress.close()


def as_list(names: Names) -> list[str]:
    """A single name as a list, too; none for None."""
    return [names] if isinstance(names, str) else list(names or ())


def as_objects(objects: Objects, what: str = "") -> list[Model | str]:
    """A single object as a list, too. Raises :class:`UnknownObject` where there is none for ``what`` shall be done."""
    found = [objects] if isinstance(objects, (str, Model)) else list(objects or ())
    if what and not found:
        raise UnknownObject(f"Name the objects to {what}, as app.Model.pk.")
    return found


def check_read_from(using: str, objects: Sequence[Model | str]) -> None:
    """Raise :class:`WrongDatabase` for an instance that was read from another database: the same key may be that of
    another object here."""
    for root in objects:
        if isinstance(root, Model) and root._state.db not in (None, using):
            raise WrongDatabase(
                f"{root._meta.label}.{root.pk} was read from the database {root._state.db!r}, not from {using!r}. "
                f"Read it from {using!r}, or say that {root._state.db!r} is meant."
            )


def prepare_walk(
    using: str,
    roots: Sequence[Model | str],
    *,
    own: Names,
    refer: Names,
    ignore: Names,
    stop: Names,
    reach: str | None,
    skipping: bool = True,
) -> tuple[LinkGraph, list[Ref], Scope]:
    """The links of a database, the objects that were named, and the scope that was asked for.

    ``skipping``: without the links that ``SYNCHRO_SKIP`` names.
    """
    check_read_from(using, roots)
    graph = LinkGraph(using, load_adapters(), skipping=skipping)
    refs = [find_ref(root, using) for root in roots]
    for ref in refs:
        if ref.model not in graph:
            raise UnknownObject(f"The database {using!r} has no table for {ref.model._meta.label}.")
    scope = make_scope(
        graph,
        own=as_list(own),
        refer=as_list(refer),
        ignore=as_list(ignore),
        stop=as_list(stop),
        reach=reach,
        roots=[ref.model for ref in refs],
    )
    return graph, refs, scope


def check_options(on_conflict: str | None, reach: str | None, *, is_log: bool, prune: bool) -> None:
    """Raise :class:`WrongSetting` for options, or settings, that a run cannot work with."""
    if on_conflict not in (None, *POLICIES):
        raise WrongSetting(
            f"There is no policy {on_conflict!r} for conflicts. The policies are: {', '.join(POLICIES)}."
        )
    if reach not in (None, *REACHES):
        raise WrongSetting(f"There is no reach {reach!r}. It is one of: {', '.join(REACHES)}.")
    if is_log and prune:
        raise WrongSetting("--prune goes with --root: the change log tells itself what was deleted.")
    get_watched()


def check_run(options: Mapping[str, Any]) -> None:
    """Raise :class:`WrongSetting` or :class:`UnknownObject` for options of ``synchronize`` that do not go together."""
    is_log = options["changes"] or not options["roots"]
    check_options(options["on_conflict"], options["reach"], is_log=is_log, prune=options["prune"])
    if options["move"] and is_log:
        raise UnknownObject("Name the objects to move, whole, as --root app.Model.pk.")
    if options["changes"] and not options["roots"]:
        raise UnknownObject("Name the objects whose changes shall be sent, as --root app.Model.pk.")
    if options["verify"] and options["dry_run"]:
        raise WrongSetting("--verify compares what was written, and --dry-run writes nothing. Leave one of them out.")
    check_parts(options["commit_every"], is_log=is_log)


def check_parts(commit_every: int | None, *, is_log: bool) -> None:
    """Raise :class:`WrongSetting` where a run cannot be committed in such parts."""
    if commit_every is None:
        return
    if isinstance(commit_every, bool) or not isinstance(commit_every, int) or commit_every < 1:
        raise WrongSetting(f"--commit-every takes a whole number from 1 on, not {commit_every!r}.")
    if is_log:
        raise WrongSetting("--commit-every goes with whole objects, --root: the change log is sent in one transaction.")

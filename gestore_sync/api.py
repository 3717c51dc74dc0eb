"""The front door: what the commands do, as functions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DatabaseError, InterfaceError, OperationalError, connections
from django.db.models import CompositePrimaryKey, Model
from django.utils.translation import gettext as _

from gestore_sync.adapters import load_adapters
from gestore_sync.comparison import POLICIES
from gestore_sync.conf import REACHES
from gestore_sync.databases import can_connect, get_databases
from gestore_sync.exceptions import (
    DatabaseUnavailable,
    GestoreSyncError,
    UnknownObject,
    UnresolvedConflicts,
    WriteFailed,
    WrongSetting,
)
from gestore_sync.executor import Executor
from gestore_sync.failures import first_line
from gestore_sync.links import LinkGraph, get_concrete
from gestore_sync.mappings import MappingStore, has_tables
from gestore_sync.models import SyncRun
from gestore_sync.origins import make_own_origin
from gestore_sync.plan import Report
from gestore_sync.planner import Planner
from gestore_sync.progress import Progress
from gestore_sync.reading import get_queryset
from gestore_sync.refs import Ref, get_field, resolve_key_field
from gestore_sync.schema import check_schema
from gestore_sync.scope import Scope, make_scope
from gestore_sync.transactions import may_be_repeated, read_snapshot, write_all_or_nothing
from gestore_sync.walker import Walker

__all__ = ["synchronize"]

TRIES = 3


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
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Push objects, with everything that belongs to them, from one database to another.

    ``roots``: instances, "app.Model.pk" or "app.Model.field=value" for a unique field. ``source`` and ``remote``:
    database aliases (default: "default" and ``SYNCHRO_REMOTE``). ``own``, ``refer``, ``ignore``: links,
    "app.Model.field"; ``ignore`` takes models too. ``stop``: models, "app.Model". ``reach``: "owned" or "connected".
    ``on_conflict``: "newer", "local", "remote" or "fail". ``prune``: delete owned objects that this source put there
    and no longer has. ``dry_run``: only plan, write nothing at all.

    Returns the :class:`~gestore_sync.plan.Report`. Raises subclasses of
    :class:`~gestore_sync.exceptions.GestoreSyncError`; the target is then as it was.
    """
    if isinstance(roots, (str, Model)):
        roots = [roots]
    own, refer, ignore, stop = ([names] if isinstance(names, str) else names for names in (own, refer, ignore, stop))
    source, target = get_databases(source, remote)
    if on_conflict not in POLICIES:
        raise WrongSetting(
            f"There is no policy {on_conflict!r} for conflicts. The policies are: {', '.join(POLICIES)}."
        )
    if reach not in (None, *REACHES):
        raise WrongSetting(f"There is no reach {reach!r}. It is one of: {', '.join(REACHES)}.")
    if not roots:
        raise UnknownObject("Name the objects to push, as app.Model.pk.")
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
        push = Push(graph, scope, refs, target, on_conflict=on_conflict, prune=prune, progress=progress)
        return push.plan() if dry_run else push.run()
    except DatabaseError as error:
        raise explain(error, source, target) from error
    except InterfaceError as error:
        raise explain(error, source, target) from error
    finally:
        progress.close()


class Push:
    """One push: walk, plan, apply."""

    def __init__(
        self,
        graph: LinkGraph,
        scope: Scope,
        roots: Sequence[Ref],
        target: str,
        *,
        on_conflict: str,
        prune: bool,
        progress: Progress,
    ) -> None:
        self.graph = graph
        self.scope = scope
        self.roots = roots
        self.source = graph.using
        self.target = target
        self.on_conflict = on_conflict
        self.prune = prune
        self.progress = progress

    def plan(self) -> Report:
        """What would be done. Writes nothing, sequences included."""
        with read_snapshot(self.source), read_snapshot(self.target):
            planner = self._make_planner()
            report = planner.plan.report
            report.message = str(_("Nothing was written: this is what would be done."))
            planner.plan.close()
            return report

    def run(self) -> Report:
        """Do it; once more from the beginning where the database broke it off because of others at work."""
        make_own_origin(self.source)
        for attempt in range(1, TRIES + 1):
            try:
                return self._run_once()
            except DatabaseError as error:
                if attempt == TRIES or not may_be_repeated(error) or connections[self.target].in_atomic_block:
                    raise
                time.sleep(0.1 * attempt)
        raise AssertionError("unreachable")

    def _run_once(self) -> Report:
        # What is committed last must be what the other depends on: the rows before mappings that are kept at the
        # source, and nothing that can fail after the rows where the mappings are among them.
        in_target = has_tables(self.target)
        reading = read_snapshot(self.source)
        writing = write_all_or_nothing(self.target, SyncRun._meta.db_table if in_target else None)
        first, second = (writing, reading) if in_target else (reading, writing)
        with first, second:
            planner = self._make_planner()
            plan, report = planner.plan, planner.plan.report
            try:
                unresolved = report.get_unresolved()
                if unresolved:
                    raise UnresolvedConflicts(describe_conflicts(unresolved), report=report)
                if not plan.is_empty():
                    Executor(planner, self.progress).apply()
            except WriteFailed as error:
                error.report = report
                report.failures += [error.failure] if error.failure else []
                raise
            finally:
                plan.close()
        if plan.is_empty():
            report.message = str(_("No changes since last synchronization."))
        else:
            report.message = str(_("Synchronization performed successfully."))
        return report

    def _make_planner(self) -> Planner:
        self.progress.start("walking")
        subgraph = Walker(self.graph, self.scope, self.progress.advance).walk(self.roots)
        subgraph.forget_looked_up(connections[self.target].introspection.table_names())
        check_schema(self.target, subgraph.get_models())
        store = MappingStore(self.source, self.target)
        planner = Planner(
            subgraph,
            self.target,
            store,
            on_conflict=self.on_conflict,
            prune=self.prune,
            progress=self.progress,
        )
        try:
            planner.make()
        except BaseException:
            planner.plan.close()
            raise
        return planner


def describe_conflicts(conflicts: Sequence[dict[str, Any]]) -> str:
    """One sentence for each of the first conflicts."""
    lines = [conflict["reason"] for conflict in conflicts[:5]]
    more = f" And {len(conflicts) - 5} more." if len(conflicts) > 5 else ""
    return f"Nothing was written: {len(conflicts)} conflict(s). " + " ".join(lines) + more


def find_ref(root: Model | str, using: str) -> Ref:
    """The object that a person or a program named. Raises :class:`UnknownObject`."""
    if isinstance(root, Model):
        return Ref(get_concrete(type(root)), root.pk)
    label, dot, rest = root.partition(".")
    model_name, dot, name = rest.partition(".")
    if not dot or not name:
        raise UnknownObject(
            f"{root!r} names no object. Write app.Model.pk, or app.Model.field=value for a unique field."
        )
    try:
        model = get_concrete(apps.get_model(label, model_name))
    except LookupError:
        raise UnknownObject(f"There is no model {label}.{model_name}: {root!r} names no object.") from None
    field_name, equals, value = name.partition("=")
    if equals and has_field(model, field_name):
        return find_by_field(model, field_name, value, root, using)
    try:
        return Ref(model, parse_key(model, name))
    except (ValidationError, ValueError, TypeError):
        if equals and field_name.isidentifier():
            message = f"{model._meta.label} has no field {field_name!r}: {root!r} names no object."
            raise UnknownObject(message) from None
        raise UnknownObject(
            f"{name!r} cannot be a primary key of {model._meta.label}: {root!r} names no object."
        ) from None


def has_field(model: type[Model], name: str) -> bool:
    """Whether ``model`` has a field of this name."""
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True


def parse_key(model: type[Model], text: str) -> Any:
    """A primary key as a person writes it; the parts of a composite one with commas between them."""
    pk = model._meta.pk
    if isinstance(pk, CompositePrimaryKey):
        parts = text.split(",")
        fields = [resolve_key_field(get_field(model, name)) for name in pk.field_names]
        return tuple(field.to_python(part) for field, part in zip(fields, parts, strict=True))
    return resolve_key_field(pk).to_python(text)


def find_by_field(model: type[Model], name: str, value: str, root: str, using: str) -> Ref:
    """The object whose unique field has this value."""
    field: Any = model._meta.get_field(name)
    if not getattr(field, "unique", False):
        raise UnknownObject(
            f"The field {name!r} of {model._meta.label} is not unique: {root!r} names no single object."
        )
    try:
        keys = list(get_queryset(model, using).filter(**{name: value}).values_list("pk", flat=True)[:2])
    except (ValidationError, ValueError, TypeError):
        keys = []
    if len(keys) != 1:
        raise UnknownObject(f"There is no {root} in the database {using!r}.")
    return Ref(model, keys[0])


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

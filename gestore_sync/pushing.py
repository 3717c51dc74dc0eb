"""One push: walk, plan, apply, in transactions of both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from django.db import DatabaseError, InterfaceError, connections
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.differing import Comparer
from gestore_sync.exceptions import (
    GestoreSyncError,
    OutOfStep,
    PartlyWritten,
    SchemaMismatch,
    UnresolvedConflicts,
    WriteFailed,
)
from gestore_sync.executor import Executor
from gestore_sync.failures import explain
from gestore_sync.links import LinkGraph
from gestore_sync.mappings import MappingStore, has_tables
from gestore_sync.models import SyncRun
from gestore_sync.origins import make_own_origin
from gestore_sync.parts import PartExecutor
from gestore_sync.plan import Account, Create, Report
from gestore_sync.planner import Planner
from gestore_sync.policies import Policies
from gestore_sync.progress import Progress
from gestore_sync.refs import Ref
from gestore_sync.schema import check_schema
from gestore_sync.scope import Scope
from gestore_sync.subgraph import Subgraph
from gestore_sync.transactions import read_snapshot, repeat, write_all_or_nothing, write_with
from gestore_sync.walker import Walker


class Push:
    """A push of roots, with everything that belongs to them: all or nothing.

    ``commit_every``: new objects are committed in parts of so many, see :mod:`gestore_sync.parts`.
    """

    def __init__(
        self,
        graph: LinkGraph,
        scope: Scope,
        roots: Sequence[Ref],
        target: str,
        *,
        on_conflict: Policies,
        prune: bool = False,
        commit_every: int | None = None,
        progress: Progress,
    ) -> None:
        self.graph = graph
        self.scope = scope
        self.roots = roots
        self.source = graph.using
        self.target = target
        self.on_conflict = on_conflict
        self.prune = prune
        self.commit_every = commit_every
        self.progress = progress
        self.account = Account()

    def plan(self) -> Report:
        """What would be done. Writes nothing, sequences included."""
        with read_snapshot(self.source), read_snapshot(self.target):
            report = self._plan_only()
            report.message = str(_("Nothing was written: this is what would be done."))
            return report

    def _plan_only(self) -> Report:
        planner = self.make_planner(MappingStore(self.source, self.target))
        planner.plan.close()
        return planner.plan.report

    def run(self) -> Report:
        """Do it; once more from the beginning where the database broke it off because of others at work."""
        make_own_origin(self.source)
        return repeat(self._run_once, self.target)

    @contextmanager
    def _both(self) -> Iterator[None]:
        """The transactions of a run. What is committed last is what the other depends on: the rows before mappings
        that are kept at the source, and nothing that can fail after the rows where the mappings are among them.

        Only one run at a time has them: who keeps the mappings is locked.
        """
        lock = SyncRun._meta.db_table
        if has_tables(self.target):
            with write_all_or_nothing(self.target, lock):
                self._begin()
                with read_snapshot(self.source):
                    yield
        else:
            with write_with(self.source, lock, [self.target]):
                self._begin()
                yield

    def _begin(self) -> None:
        """What has to be done when the run is alone."""

    def _run_once(self) -> Report:
        with ExitStack() as stack:
            with self._both():
                planner = self.make_planner(MappingStore(self.source, self.target))
                plan, report = planner.plan, planner.plan.report
                stack.callback(plan.close)
                unresolved = report.get_unresolved()
                if unresolved:
                    raise UnresolvedConflicts(describe_conflicts(unresolved), report=report)
                executor = self._make_executor(planner)
                try:
                    if not plan.is_empty():
                        executor.apply()
                except WriteFailed as error:
                    error.report = report
                    report.failures += [error.failure] if error.failure else []
                    raise
            if isinstance(executor, PartExecutor):
                commit_parts(executor, report)
        report.message = get_message(written=not plan.is_empty())
        return report

    def _make_executor(self, planner: Planner) -> Executor:
        size = self.commit_every
        if size is None or planner.plan.report.created.total() <= size:
            return Executor(planner, self.progress)
        if not planner.store.in_target:
            raise SchemaMismatch(
                f"The target {self.target!r} has no tables of gestore_sync, which keep account of what is committed in "
                f"parts. Run: manage.py migrate gestore_sync --database {self.target}"
            )
        return PartExecutor(planner, self.progress, size)

    def _walk(self) -> Subgraph:
        self.progress.start("walking")
        return Walker(self.graph, self.scope, self.progress.advance).walk(self.roots)

    def make_planner(self, store: MappingStore) -> Planner:
        """The plan of a push, and who made it, in the open transactions."""
        return self._plan_subgraph(store, self._walk())

    def check(self, subgraph: Subgraph) -> Subgraph:
        """The same, as far as the target has tables. Raises :class:`SchemaMismatch` where it lacks a needed one."""
        subgraph.forget_looked_up(connections[self.target].introspection.table_names())
        check_schema(self.target, subgraph.get_models())
        return subgraph

    def _plan_subgraph(self, store: MappingStore, subgraph: Subgraph, **options: Any) -> Planner:
        planner = Planner(
            self.check(subgraph),
            self.target,
            store,
            on_conflict=self.on_conflict,
            prune=self.prune,
            progress=self.progress,
            **options,
        )
        try:
            planner.make()
        except BaseException:
            planner.plan.close()
            raise
        self.account = planner.plan.account
        return planner

    def make_comparer(self, store: MappingStore, account: Account | None = None) -> Comparer:
        """What compares what a run sends, in the open transactions; after the run with its ``account``."""
        return Comparer(
            self.check(self._walk_sent()),
            self.target,
            store,
            on_conflict=self.on_conflict,
            prune=self.prune,
            progress=self.progress,
            account=account,
        )

    def _walk_sent(self) -> Subgraph:
        """What a run sends, for a comparison."""
        return self._walk()


def commit_parts(executor: PartExecutor, report: Report) -> None:
    """Write the later parts of a plan, each in a transaction of its own. Raises :class:`PartlyWritten`."""
    for part in executor.iter_parts():
        uuid = uuid4()
        try:
            repeat(partial(commit_part, executor, part, uuid), executor.target)
        except (GestoreSyncError, DatabaseError, InterfaceError) as error:
            report.created = executor.committed
            known = error if isinstance(error, GestoreSyncError) else explain(error, executor.source, executor.target)
            report.failures += [failure] if (failure := getattr(known, "failure", None)) else []
            reason = re.sub(r" ?Nothing was written[^.]*\.", "", str(known))
            text = _("%(number)s new objects were committed before and stay. Run it again: it goes on from there.")
            text %= {"number": f"{executor.committed.total():,}"}
            raise PartlyWritten(f"{reason} {text}", report=report) from error
        executor.note_committed(part, uuid)


def commit_part(executor: PartExecutor, part: Sequence[Create], uuid: UUID) -> None:
    """Write one part, unless others have written since the last one: what they did is not in the plan. Neither is an
    object that was deleted at the source since: a run of the log may have handled that, and found nothing to delete."""
    with write_all_or_nothing(executor.target, SyncRun._meta.db_table):
        if not executor.is_alone():
            raise OutOfStep(f"Another run has written to the target {executor.target!r} between two parts.")
        gone = executor.find_gone(part)
        if gone is not None:
            raise OutOfStep(f"{gone} was deleted at the source {executor.source!r} between two parts.")
        executor.apply_part(part, uuid)


def get_message(*, written: bool) -> str:
    """What a run says that ended well."""
    if written:
        return str(_("Synchronization performed successfully."))
    return str(_("No changes since last synchronization."))


def describe_conflicts(conflicts: Sequence[dict[str, Any]]) -> str:
    """One sentence for each of the first conflicts."""
    lines = [conflict["reason"] for conflict in conflicts[:5]]
    more = f" And {len(conflicts) - 5} more." if len(conflicts) > 5 else ""
    return f"Nothing was written: {len(conflicts)} conflict(s). " + " ".join(lines) + more


def describe_left(report: Report) -> str:
    """What a run says that could not send everything."""
    number = len({(problem["model"], problem["pk"]) for problem in (*report.failures, *report.get_unresolved())})
    text = ngettext(
        "%(number)d object could not be synchronized and stays pending.",
        "%(number)d objects could not be synchronized and stay pending.",
        number,
    )
    return str(text) % {"number": number}

"""Sends what the change log holds: one object that fails does not hold up the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from typing import Any
from uuid import uuid4

from django.db import DatabaseError, IntegrityError, InterfaceError
from django.db.models import Model

from gestore_sync.changelog import Entry, check_log, iter_pending
from gestore_sync.exceptions import (
    DatabaseUnavailable,
    GestoreSyncError,
    OutOfStep,
    UnreadableValue,
    UnresolvedConflicts,
    WriteFailed,
)
from gestore_sync.executor import Executor
from gestore_sync.failures import Refused, first_line, make_failure
from gestore_sync.fields import now
from gestore_sync.gathering import find_looked_up, find_members_of_new, iter_open, limit_to, settle_deleted_there
from gestore_sync.ledger import announce, close_cut_run, close_run, find_cut_run, get_ids, make_ranges, record_run
from gestore_sync.mappings import MappingStore
from gestore_sync.plan import Conflict, Report
from gestore_sync.planner import Planner
from gestore_sync.pushing import Push, describe_conflicts, describe_left, get_message
from gestore_sync.recording import NewEntry
from gestore_sync.refs import Key, Ref
from gestore_sync.squashing import Changes, squash
from gestore_sync.subgraph import Subgraph
from gestore_sync.tombstones import Tombstones
from gestore_sync.transactions import check_transactions
from gestore_sync.walker import Walker
from gestore_sync.watching import get_watched


class Replay(Push):
    """A push of what the change log holds; with roots, of what it holds inside their subgraphs.

    ``strict``: all or nothing. ``reconciled``: everything was compared before, so that the records of the two sides
    need not match. ``unwritten``: entries to take in as if they were in the log, for a plan.
    """

    def __init__(
        self,
        *args: Any,
        strict: bool = False,
        reconciled: bool = False,
        unwritten: Sequence[NewEntry] = (),
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._unwritten = [Entry(0, *entry) for entry in unwritten]
        self.scope = replace(self.scope, named=self.scope.named | get_watched().models)
        self.strict = strict
        self.reconciled = reconciled
        self._uuid, self._started = uuid4(), now()
        self._carried = Report()
        self._barred: dict[Ref, str] = {}
        self._changes = Changes()
        self._closed: set[int] = set()
        self._checks_early = self._guards = False
        self._planner: Planner | None = None

    def run(self) -> Report:
        """Do it, and keep account of it at the source."""
        check_log(self.source)
        check_transactions(self.source, self.target)
        try:
            return super().run()
        except (GestoreSyncError, DatabaseError, InterfaceError) as error:
            self._record_failure(error)
            raise

    def _record_failure(self, error: Exception) -> None:
        """Keep the error for people to look at, if the source still takes anything."""
        report = getattr(error, "report", None) or Report()
        try:
            store = MappingStore(self.source, self.target)
            self._record(store, report, error=str(error))
        except (GestoreSyncError, DatabaseError, InterfaceError):
            return

    def _record(self, store: MappingStore, report: Report, error: str = "") -> None:
        record_run(store, self._uuid, report, self._started, roots=[*map(str, self.roots)], error=error)

    def _begin(self) -> None:
        try:
            close_cut_run(MappingStore(self.source, self.target))
        except OutOfStep:
            if not self.reconciled:
                raise
        announce(self.source, self.target, self._uuid)

    def _run_once(self) -> Report:
        self._carried, self._barred, self._checks_early, self._guards = Report(), {}, False, False
        while True:
            try:
                return self._run_without_barred()
            except Refused as refusal:
                barred = [self._bar_failed(error) for error in refusal.refused]
                if not any(barred):
                    raise refusal.refused[0] from refusal
                self._guards |= any(isinstance(error.__cause__, DatabaseError) for error in refusal.refused)
            except (WriteFailed, UnreadableValue) as error:
                if self.strict:
                    raise
                self._guards |= isinstance(error.__cause__, DatabaseError)
                if not self._bar_failed(error):
                    if self._checks_early or isinstance(error, UnreadableValue):
                        raise
                    self._checks_early = True
            except IntegrityError:
                if self.strict or self._checks_early:
                    raise
                self._checks_early = True

    def _run_without_barred(self) -> Report:
        with self._both():
            store = MappingStore(self.source, self.target)
            planner = self._planner = self.make_planner(store)
            plan = planner.plan
            handled = self._changes.get_ids(self._barred)
            try:
                if not plan.is_empty():
                    executor = Executor(
                        planner,
                        self.progress,
                        tolerant=not self.strict,
                        checks_early=self._checks_early,
                        guards_signals=self._guards,
                    )
                    executor.apply(self._uuid, make_ranges(handled))
            except WriteFailed as error:
                error.report = plan.report
                if self.strict and error.failure:
                    plan.report.failures.append(error.failure)
                raise
            finally:
                plan.close()
        report, written = plan.report, not plan.is_empty()
        self._close(store, handled, written=written)
        report.message = get_message(written=written)
        if self._barred:
            report.message = describe_left(report)
        if written or self._barred or report.conflicts:
            try:
                self._record(store, report)
            except (DatabaseError, InterfaceError) as error:
                report.warnings.append(f"The run could not be recorded at the source: {first_line(error)}.")
        return report

    def _close(self, store: MappingStore, handled: list[int], *, written: bool) -> None:
        """Keep account at the source of what the target has committed."""
        checkpoint = None if self.roots else self._started
        try:
            close_run(store, self._uuid, handled, checkpoint, written=written, accept=self.reconciled)
        except (DatabaseError, InterfaceError) as error:
            raise DatabaseUnavailable(
                f"The target {self.target!r} has all changes, but the source {self.source!r} could not note it: "
                f"{first_line(error)}. The next run does; nothing is sent twice."
            ) from error

    def _plan_only(self) -> Report:
        check_log(self.source)
        self._carried, self._barred = Report(), {}
        store = MappingStore(self.source, self.target)
        run = None if self.reconciled else find_cut_run(store)
        self._closed = set(get_ids(store, run.entries)) if run is not None else set()
        while True:
            try:
                planner = self.make_planner(store)
            except UnreadableValue as error:
                if self.strict or not self._bar_failed(error):
                    raise
                continue
            planner.plan.close()
            return planner.plan.report

    # The plan, without objects that cannot be sent

    def make_planner(self, store: MappingStore) -> Planner:
        """Plan, again and again without the objects that no policy decides, until none is left."""
        self.progress.start("walking")
        pending = (entry for entry in iter_pending(self.source, self.target) if entry.id not in self._closed)
        entries = chain(pending, self._unwritten)
        self._changes = squash(entries, self.graph, self.scope)
        if self.roots:
            limit_to(self._changes, self._walk(), self.graph)
        there = settle_deleted_there(self._changes, store, self.on_conflict)
        with_members = False
        while True:
            planner = self._plan_changes(store)
            report = planner.plan.report
            undecided = [*planner.plan.undecided, *iter_open(there)]
            undecided = [(ref, conflict) for ref, conflict in undecided if ref not in self._barred]
            waiting = {ref: reason for ref, reason in planner.plan.waiting.items() if ref not in self._barred}
            if (undecided or waiting) and not self.strict:
                self._bar_undecided(undecided, waiting)
            elif waiting:
                planner.plan.close()
                raise WriteFailed(f"{next(iter(waiting.values()))} Nothing was written.")
            elif undecided or report.get_unresolved():
                planner.plan.close()
                self._finish_report(report, there)
                raise UnresolvedConflicts(describe_conflicts(report.get_unresolved()), report=report)
            elif not with_members and self._add_members(planner):
                with_members = True
            else:
                self._finish_report(report, there)
                return planner
            planner.plan.close()

    def _plan_changes(self, store: MappingStore) -> Planner:
        subgraph, options = self._walk_changes()
        return self._plan_subgraph(store, subgraph, **options)

    def _walk_sent(self) -> Subgraph:
        return self._walk_changes()[0]

    def _walk_changes(self) -> tuple[Subgraph, dict[str, Any]]:
        walker = Walker(self.graph, replace(self.scope, closed=True, connected=False), self.progress.advance)
        changes = self._changes
        deleted = {ref: deletion for ref, deletion in changes.deleted.items() if ref not in self._barred}
        held_back = {ref: deletion for ref, deletion in changes.replaced.items() if ref not in deleted}
        barred = {ref: f"{ref} has replaced another object" for ref in held_back} | self._barred
        for ref, reason in barred.items():
            walker.subgraph.barred.setdefault(ref.model, {})[ref.pk] = reason
        removed = [member for member in changes.removed if member.owner not in self._barred]
        saved: Mapping[type[Model], Mapping[Key, Any]] = changes.saved
        subgraph = walker.walk_changes(saved, find_looked_up(deleted, removed, self.graph))
        tombstones = Tombstones(self.graph, deleted, removed, held_back)
        return subgraph, {"tombstones": tombstones, "find_date": changes.find_date, "tolerant": not self.strict}

    def _add_members(self, planner: Planner) -> bool:
        """Take in the many-to-many members of objects that are created, logged or not; whether there are any."""
        found = find_members_of_new(planner, self._changes)
        for model, keys in found.items():
            self._changes.saved.setdefault(model, {}).update(keys)
        return bool(found)

    def _bar_undecided(self, undecided: Iterable[tuple[Ref, dict[str, Any]]], waiting: Mapping[Ref, str]) -> None:
        """Leave out objects with conflicts, which are told as such, and those that depend on what is left out."""
        for ref, conflict in undecided:
            self._bar(ref, conflict["reason"])
            self._carried.conflicts.append(conflict)
        for ref, reason in waiting.items():
            if ref not in self._barred:
                self._add_failure(ref, reason)
                self._bar(ref, reason)

    def _bar_failed(self, error: WriteFailed | UnreadableValue) -> bool:
        """Leave out the object that an error names; whether it names one that was not left out before."""
        ref = self._find_ref(error)
        if ref is None or ref in self._barred:
            return False
        failure = getattr(error, "failure", None)
        self._bar(ref, str(error))
        self._add_failure(ref, failure["reason"] if failure else str(error))
        return True

    def _find_ref(self, error: WriteFailed | UnreadableValue) -> Ref | None:
        """The object of the source that an error is about."""
        if isinstance(error, UnreadableValue):
            return error.ref if error.using == self.source else None
        if error.ref is not None or error.target_ref is None or self._planner is None:
            return error.ref
        model, target = error.target_ref
        cause = self._planner.removals.find_cause(error.target_ref)
        counterparts = self._planner.counterparts.maps.get(model)
        keys = [key for key, found in counterparts.items() if found == target] if counterparts is not None else []
        return cause or (Ref(model, keys[0]) if keys else None)

    def _bar(self, ref: Ref, reason: str) -> None:
        """Leave an object out, with all its rows, as they are one."""
        self._barred |= dict.fromkeys(self._changes.iter_rows(ref, self.source), reason)

    def _add_failure(self, ref: Ref, reason: str) -> None:
        reason = reason.replace(" Nothing was written.", "")
        self._carried.failures.append(asdict(make_failure(ref, self.source, reason)))

    def _finish_report(self, report: Report, there: list[Conflict]) -> None:
        """Add what was left out, and what the log alone tells."""
        report.conflicts += self._carried.conflicts
        carried = {ref for ref, _ in iter_open(there)} & set(self._barred)
        report.conflicts += [conflict.as_dict() for conflict in there if conflict.ref not in carried]
        report.failures += self._carried.failures
        report.warnings += self._changes.warnings
        for conflict in there:
            report.skipped[conflict.model] += conflict.resolved == "remote"
        for ref in self._changes.gone:
            report.skipped[ref.model._meta.label] += 1
        report.skipped = +report.skipped

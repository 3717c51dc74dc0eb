"""Deletes objects with all that belongs to them: walk, plan, back up, apply, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError, connections, transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.codecs import make_encoder, make_key_encoder
from gestore_sync.discarding import StoredFiles
from gestore_sync.dooming import DeletionPlan
from gestore_sync.erasing import Eraser
from gestore_sync.exceptions import GestoreSyncError, NotConfirmed, UnresolvedConflicts, WriteFailed, WrongSetting
from gestore_sync.exporting import write_subgraph
from gestore_sync.failures import explain
from gestore_sync.links import LinkGraph
from gestore_sync.locations import get_format
from gestore_sync.models import SyncRun
from gestore_sync.plan import Report
from gestore_sync.progress import Progress
from gestore_sync.reading import iter_rows
from gestore_sync.references import is_nulled
from gestore_sync.refs import Ref
from gestore_sync.scope import Scope
from gestore_sync.transactions import read_snapshot, repeat, write_all_or_nothing

ARCHIVES = (".tar.gz", ".tar.zst")

Confirm = Callable[[Report], bool]


class Deletion:
    """A deletion of roots, with everything that belongs to them: all or nothing.

    ``orphans``: referred objects that nothing else uses go, too. ``files``: so do their stored files, after the commit.
    ``backup``: where a bundle of it all is written first.
    """

    def __init__(
        self,
        graph: LinkGraph,
        scope: Scope,
        roots: Sequence[Ref],
        *,
        orphans: bool = False,
        files: bool = False,
        backup: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.graph = graph
        self.using = graph.using
        self.scope = scope
        self.roots = roots
        self.orphans = orphans
        self.files = files
        self.backup = backup
        self.progress = progress or Progress()
        self.is_saved = False
        self._stored = StoredFiles()
        if backup is not None and files and get_format(backup) not in ARCHIVES:
            raise WrongSetting(
                f"The backup {backup} could not hold the files that --files deletes. "
                f"Let it end in one of: {', '.join(ARCHIVES)}."
            )

    def plan(self) -> Report:
        """What would be done. Writes nothing."""
        with read_snapshot(self.using):
            report = self._make_plan().report
        report.message = str(_("Nothing was deleted: this is what would be done."))
        return report

    def run(self, confirm: Confirm | None = None) -> Report:
        """Do it; once more from the beginning where the database broke it off because of others at work.

        ``confirm`` is shown the plan first, outside of any transaction; what comes in after that is not deleted with
        the rest: the run ends with :class:`NotConfirmed`. Raises :class:`UnresolvedConflicts` where rows that stay
        stand in the way.
        """
        shown = None if confirm is None else self._show(confirm)
        try:
            return repeat(lambda: self._run_once(shown), self.using)
        except (DatabaseError, InterfaceError) as error:
            explained = explain(error, self.using, self.using)
            raise type(explained)(f"{explained}{self.describe_backup()}") from error
        except GestoreSyncError as error:
            error.args = (f"{error}{self.describe_backup()}",)
            raise

    def _show(self, confirm: Confirm) -> DeletionPlan:
        with read_snapshot(self.using):
            plan = self._make_plan()
        check_plan(plan)
        self.progress.close()
        if not confirm(plan.report):
            raise NotConfirmed(_("Nothing was deleted: it was not confirmed."))
        return plan

    def _run_once(self, shown: DeletionPlan | None) -> Report:
        report = Report()
        try:
            with write_all_or_nothing(self.using, self._find_lock()):
                plan = self._make_plan()
                report = plan.report
                check_plan(plan, shown)
                stored = self._stored
                self._save(plan)
                Eraser(plan, self.progress).apply()
                self._finish(plan)
                transaction.on_commit(lambda: stored.discard(self.using), using=self.using)
        except GestoreSyncError as error:
            error.report = report
            if isinstance(error, WriteFailed) and error.failure:
                report.failures.append(error.failure)
            raise
        report.message = str(_("Objects successfully deleted!"))
        return report

    def _find_lock(self) -> str | None:
        """The table that one run at a time holds, where there is one."""
        table = SyncRun._meta.db_table
        return table if table in connections[self.using].introspection.table_names() else None

    def _make_plan(self) -> DeletionPlan:
        plan = DeletionPlan(self.graph, self.scope, self.progress)
        plan.make(self.roots, orphans=self.orphans)
        self._stored = StoredFiles()
        if self.files:
            self._stored.add_from(self.graph, plan.doomed)
            number = len(self._stored)
            text = ngettext(
                "%(number)s stored file goes, too, if no other row names it.",
                "%(number)s stored files go, too, if no other row names them.",
                number,
            )
            plan.report.warnings += [text % {"number": f"{number:,}"}] if number else []
        return plan

    def _finish(self, plan: DeletionPlan) -> None:
        """What has to be done in the transaction when the rows are gone."""

    # The backup

    def _save(self, plan: DeletionPlan) -> None:
        """Write the backup, of the rows as they are in the open transaction."""
        if self.backup is None:
            return
        saved = write_subgraph(
            plan.subgraph,
            self.backup,
            files=self.files,
            detached=list(iter_detached(plan)),
            progress=self.progress,
        )
        self.is_saved = True
        plan.report.location = saved.location
        plan.report.exported = saved.exported
        plan.report.files = saved.files

    def describe_backup(self) -> str:
        """What an error says of the backup that was written before it; empty without one."""
        return f" The backup {self.backup} was written and remains." if self.is_saved else ""


def check_plan(plan: DeletionPlan, shown: DeletionPlan | None = None) -> None:
    """Raise :class:`UnresolvedConflicts` where something stands in the way, and :class:`NotConfirmed` where the plan
    names more than the one that was shown."""
    conflicts = plan.report.get_unresolved()
    if conflicts:
        lines = " ".join(conflict["reason"] for conflict in conflicts[:5])
        more = f" And {len(conflicts) - 5} more." if len(conflicts) > 5 else ""
        raise UnresolvedConflicts(
            f"Nothing was deleted: {len(conflicts)} row(s) stand in the way. {lines}{more}", report=plan.report
        )
    newcomer = next(plan.iter_missing_from(shown), None) if shown is not None else None
    if newcomer is not None:
        raise NotConfirmed(
            f"Nothing was deleted: {newcomer} came in after the plan was shown. Run again to see what would be deleted."
        )


def iter_detached(plan: DeletionPlan) -> Iterator[dict[str, Any]]:
    """The links from outside that the deletion nulls, as a bundle keeps them."""
    for link, keys in plan.released.items():
        if not is_nulled(link) or len(link.attnames) > 1:
            continue
        encode_key, encode = make_key_encoder(link.model), make_encoder(link.field)
        names = {"model": link.model._meta.label_lower, "field": link.field.name}
        for pk, value in iter_rows(link.model, plan.graph.using, keys, link.attnames):
            yield {**names, "pk": json.loads(encode_key(pk)), "value": json.loads(encode(value))}

"""A move: what a push has brought to the target is deleted at the source, once it was seen to be there.

The look and the deletion happen in one transaction of the source: what changes there meanwhile makes it fail.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.db import DatabaseError, InterfaceError
from django.db.models import Max
from django.utils.translation import gettext as _

from gestore_sync.adapters import load_adapters
from gestore_sync.changelog import get_pending, has_log
from gestore_sync.deleting import Confirm, Deletion
from gestore_sync.differing import Differences, Found, fill
from gestore_sync.dooming import DeletionPlan
from gestore_sync.exceptions import NotArrived
from gestore_sync.generic import get_type_ids
from gestore_sync.handover import hand_over, take_back
from gestore_sync.ledger import note_settled
from gestore_sync.links import LinkGraph
from gestore_sync.mappings import MappingStore
from gestore_sync.models import ChangeLog
from gestore_sync.plan import Account, Report
from gestore_sync.planner import Planner
from gestore_sync.pushing import Push
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, match
from gestore_sync.refs import NEW, UNKNOWN, Ref, dump_pk, iter_chunks
from gestore_sync.transactions import read_snapshot
from gestore_sync.translation import Counterparts
from gestore_sync.verifying import iter_failures

SHOWN = 5


class Departure(Deletion):
    """Deletes at the source what a push has brought to its target.

    ``graph``: all links of the source, those that do not travel too. ``backup``: where a bundle goes first.
    """

    def __init__(self, push: Push, graph: LinkGraph, *, backup: str) -> None:
        super().__init__(graph, push.scope, push.roots, backup=backup, progress=push.progress)
        self.push = push
        self._last_entry = 0
        self._counterparts = Counterparts()
        self._handed_over: DeletionPlan | None = None

    def _save(self, plan: DeletionPlan) -> None:
        self._check_arrived(plan)
        super()._save(plan)
        if has_log(self.using):
            self._last_entry = get_queryset(ChangeLog, self.using).aggregate(last=Max("pk"))["last"] or 0

    def _run_once(self, shown: DeletionPlan | None) -> Report:
        try:
            return super()._run_once(shown)
        except BaseException:
            if self._handed_over is not None:
                with contextlib.suppress(DatabaseError, InterfaceError):  # the first error counts
                    take_back(self._handed_over, MappingStore(self.using, self.push.target), self._counterparts)
            raise

    def _check_arrived(self, plan: DeletionPlan) -> None:
        """Raise :class:`NotArrived` unless the target has what was pushed as it is here, and every row that goes."""
        with read_snapshot(self.push.target):
            comparer = self.push.make_comparer(MappingStore(self.using, self.push.target), Account())
            comparer.plan.close()
            self._counterparts = comparer.counterparts
            found = Differences()
            fill(found, comparer.compare(Found()), self.using, self.push.target)
            conflicts = [conflict["reason"] for conflict in comparer.plan.report.get_unresolved()]
            wrong = [failure["reason"] for failure in iter_failures(found, self.push.target)]
            doubts = [*wrong, *conflicts, *iter_missing(plan, comparer)][: SHOWN + 1]
        if doubts:
            more = " …" if len(doubts) > SHOWN else ""
            raise NotArrived(
                f"Nothing was deleted: {self.push.target!r} does not have all of it as {self.using!r} has it. "
                f"{' '.join(doubts[:SHOWN])}{more}"
            )

    def _finish(self, plan: DeletionPlan) -> None:
        """The target must not hear of it: there the objects live on. What was to be sent of them was sent."""
        store = MappingStore(self.using, self.push.target)
        self._handed_over = plan
        hand_over(plan, store, self._counterparts)
        if not has_log(self.using):
            return
        pending = get_pending(self.using, self.push.target)
        ids = set(pending.filter(pk__gt=self._last_entry).values_list("pk", flat=True))
        types = get_type_ids(self.using)
        for model, keys in plan.doomed.keys.items():
            content_type = types.get((model._meta.app_label, model._meta.model_name or ""))
            for chunk in iter_chunks(keys, KEYS_PER_QUERY) if content_type is not None else ():
                of_model = pending.filter(match("object_id", map(dump_pk, chunk)), content_type=content_type)
                ids.update(of_model.values_list("pk", flat=True))
        if ids:
            note_settled(store, sorted(ids))


def iter_missing(plan: DeletionPlan, planner: Planner) -> Iterator[str]:
    """Rows that the deletion takes and the push did not bring: those that links which do not travel lead to."""
    for model, keys in plan.doomed.keys.items():
        for key in keys:
            if planner.counterparts.get(model, key) in (NEW, UNKNOWN):
                yield f"{Ref(model, key)} is deleted with the rest, and is not on the target."


def move(push: Push, *, backup: str, confirm: Confirm | None) -> Report:
    """Push, look, delete; the push's report, with what was deleted at the source in ``moved``.

    Raises :class:`NotArrived`, and all that a push and a deletion raise; the source is whole then.
    """
    graph = LinkGraph(push.source, load_adapters(), skipping=False)
    departure = Departure(push, graph, backup=backup)
    report = push.run()
    gone = departure.run(confirm)
    report.moved = gone.deleted
    report.location = gone.location
    report.warnings += gone.warnings
    report.message = str(_("Objects successfully moved!"))
    return report

"""Runs of plans that are files: written by one, applied by another."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.adapters import load_adapters
from gestore_sync.comparison import POLICIES
from gestore_sync.databases import get_databases
from gestore_sync.differing import Differences
from gestore_sync.exceptions import PlanError, PlanOutdated, UnresolvedConflicts, WrongDatabase, WrongSetting
from gestore_sync.links import LinkGraph
from gestore_sync.manifests import dump_scope, find_model, load_scope
from gestore_sync.mappings import MappingStore
from gestore_sync.narrowing import LeftOut, Narrowing
from gestore_sync.plan import Report
from gestore_sync.planfiles import CodeSet, PlanFile, write_plan
from gestore_sync.planlines import Line, Lines
from gestore_sync.planner import Planner
from gestore_sync.policies import Policies
from gestore_sync.progress import Progress
from gestore_sync.pushing import Push, describe_conflicts
from gestore_sync.refs import Ref, dump_pk, load_pk
from gestore_sync.starting import explained
from gestore_sync.transactions import read_snapshot

MOST_NAMED = 5

WAYS = frozenset({"dry_run", "plan", "apply"})
"""What is done instead of planning and writing at once."""

BESIDE = frozenset({"source", "remote", "progress"})
PLANNED = frozenset({"roots", "own", "refer", "ignore", "stop", "reach", "on_conflict", "prune"})
"""The options that a plan keeps."""


def check_plan_options(options: Mapping[str, Any]) -> None:
    """Raise :class:`WrongSetting` for options of a push that do not go together with plans."""
    given = find_given(options)
    ways = given & WAYS
    if len(ways) > 1:
        raise WrongSetting(f"{list_flags(ways)} exclude each other: name one of them.")
    beside = given - ways - BESIDE
    if options["apply"] is not None and beside:
        raise WrongSetting(f"--apply stands alone: the plan says what is done. Leave out {list_flags(beside)}.")
    if options["plan"] is not None and beside - PLANNED:
        raise WrongSetting(f"--plan is for a push of whole objects: leave out {list_flags(beside - PLANNED)}.")
    if options["plan"] is not None and "roots" not in given:
        raise WrongSetting(
            "--plan goes with --root: the change log goes on while a plan waits. Name the objects, or see what the log "
            "holds with --dry-run."
        )


def find_given(options: Mapping[str, Any]) -> set[str]:
    """The names of the options that say something; ``confirm`` is a part of ``move``."""
    given = {name for name, value in options.items() if value or (name == "commit_every" and value is not None)}
    return given - {"confirm"} if options["move"] else given


def list_flags(names: Iterable[str]) -> str:
    """Options as they are written on a command line."""
    return ", ".join(sorted(f"--{name.replace('_', '-')}".replace("--roots", "--root") for name in names))


def write_plan_of(push: Push, path: str | PathLike[str], found: Differences | None = None) -> Report:
    """Write what a push would do into a file, and nothing into the databases.

    ``found``: what is compared and shall be mended by it; its warnings say what is not. Raises
    :class:`UnresolvedConflicts` where the push would.
    """
    location = fspath(path)
    with read_snapshot(push.source), read_snapshot(push.target):
        store = MappingStore(push.source, push.target)
        planner = push.make_planner(store)
        report = planner.plan.report if found is None else found
        try:
            unresolved = planner.plan.report.get_unresolved()
            if unresolved:
                raise UnresolvedConflicts(describe_conflicts(unresolved), report=report)
            write_plan(location, Lines(planner), make_header(push, store))
            report.warnings += [] if found is None else find_unmended(planner, found)
        finally:
            planner.plan.close()
    report.location = location
    if found is None:
        report.message = str(_("Only the plan was written: it is what would be done."))
    return report


def make_header(push: Push, store: MappingStore) -> dict[str, Any]:
    """What a plan was made of. Raises :class:`WrongDatabase`."""
    if store.uuid is None:
        raise WrongDatabase(
            f"The database {push.source!r} has no identity yet, which a plan must name. "
            f"Run: manage.py migrate gestore_sync --database {push.source}"
        )
    return {
        "date": timezone.now().isoformat(timespec="seconds"),
        "source": push.source,
        "target": push.target,
        "origins": get_origins(store),
        "roots": tuple(f"{root.model._meta.label}.{dump_pk(root.pk)}" for root in push.roots),
        "scope": dump_scope(push.scope),
        "on_conflict": push.on_conflict.default,
        "conflicts": dict(push.on_conflict.rules),
        "prune": push.prune,
    }


def get_origins(store: MappingStore) -> tuple[str, str | None]:
    """The identities of both databases."""
    return str(store.uuid), None if store.target_uuid is None else str(store.target_uuid)


def find_unmended(planner: Planner, found: Differences) -> list[str]:
    """A warning about rows that only the target has and that the plan does not delete."""
    going = {str(Ref(model, key)) for model, keys in planner.removals.deleted.items() for key in keys}
    names = [f"{item['model']}.{item['pk']}" for item in found.extra]
    left = [name for name in names if name not in going]
    if not left:
        return []
    text = ngettext(
        "%(number)d row that only the target has was not put there by this database, and stays: %(objects)s.",
        "%(number)d rows that only the target has were not put there by this database, and stay: %(objects)s.",
        len(left),
    )
    more = ", …" if len(left) > MOST_NAMED else ""
    return [str(text) % {"number": len(left), "objects": ", ".join(left[:MOST_NAMED]) + more}]


class PlannedPush(Push):
    """A push that does what a file says, and nothing else: all of it or nothing.

    The plan is made once more, and compared with the file. Raises :class:`PlanOutdated` where it is another by now.
    """

    file: PlanFile

    @classmethod
    def load(cls, file: PlanFile, source: str, target: str, progress: Progress) -> PlannedPush:
        """The push that a file describes, between these databases. Raises :class:`PlanError`."""
        header = file.header
        graph = LinkGraph(source, load_adapters())
        scope = load_scope(header.scope, graph)
        roots = [root for text in header.roots if (root := load_root(text)) is not None]
        is_known = len(roots) == len(header.roots) and dump_scope(scope) == header.scope
        if not is_known or not {header.on_conflict, *header.conflicts.values()} <= {*POLICIES}:
            raise PlanError(
                f"{file.shown} was written with a scope or a policy that this project does not have: a link or a model "
                "has gone since. Write the plan again."
            )
        policies = Policies(header.on_conflict, header.conflicts)
        push = cls(graph, scope, roots, target, on_conflict=policies, prune=header.prune, progress=progress)
        push.file = file
        return push

    def make_planner(self, store: MappingStore) -> Planner:
        """The plan, without the operations that are no longer in the file."""
        self._check_databases(store)
        planner = super().make_planner(store)
        try:
            left = self._compare(planner)
            if left.number:
                Narrowing(planner, left).run()
                planner.store.notes_imprints = False
                planner.plan.report.warnings.append(describe_left_out(left.number))
        except BaseException:
            planner.plan.close()
            raise
        return planner

    def _check_databases(self, store: MappingStore) -> None:
        header = self.file.header
        found = get_origins(store)
        known = {"source": (header.source, self.source), "target": (header.target, self.target)}
        for (side, aliases), planned, actual in zip(known.items(), header.origins, found, strict=True):
            if planned != actual or (planned is None and aliases[0] != aliases[1]):
                raise PlanError(
                    f"{self.file.shown} was written for another {side}: {aliases[0]!r} with the identity {planned}, "
                    f"not {aliases[1]!r} with {actual}. Apply it there, or write a plan for this one."
                )

    def _compare(self, planner: Planner) -> LeftOut:
        """The operations of the plan that a person took out of the file."""
        left, done = LeftOut(), array("Q")
        for line in Lines(planner):
            code = line.code
            if code in self.file.codes:
                done.append(code)
            elif code in self.file.header.codes:
                left.add(line)
            else:
                raise PlanOutdated(describe_change(line, planner.target))
        if len(done) < len(self.file.codes):
            fresh = CodeSet(done)
            code = next(code for code in self.file.codes if code not in fresh)
            raise PlanOutdated(
                f"{self.file.find_object(code)} has changed since the plan was written, at the source or on the "
                "target, or the plan was applied already: that is not to be done any more. Nothing was written; write "
                "the plan again."
            )
        return left


def apply_plan(
    path: str | PathLike[str], source: str | None, remote: str | None, progress: Progress | None = None
) -> Report:
    """Do what a file says, between its databases if no others are named. Raises what a push raises, and
    :class:`PlanError`."""
    progress = progress or Progress()
    with PlanFile(fspath(path)) as file:
        source, target = get_databases(source or file.header.source, remote or file.header.target)
        with explained(source, target, progress):
            return PlannedPush.load(file, source, target, progress).run()


def load_root(text: str) -> Ref | None:
    """A root of a header, which is always named by its primary key; None where its model is gone or has other keys."""
    app_label, model_name, key = text.split(".", 2)
    model = find_model(f"{app_label}.{model_name}")
    if model is None:
        return None
    try:
        return Ref(model, load_pk(model, key))
    except (ValidationError, ValueError, TypeError):
        return None


def describe_change(line: Line, target: str) -> str:
    """What is said of an object for which other things would have to be done than were planned."""
    known = line.key is not None
    ref = Ref(line.model, line.key if known else line.target)
    on = "" if known else f" of the target {target!r}"
    return (
        f"{ref}{on} has changed since the plan was written, at the source or on the target: what would be done by now "
        f"({line.document['do']}) is not what the plan says. Nothing was written; write the plan again."
    )


def describe_left_out(number: int) -> str:
    """What is said of lines that were removed."""
    text = ngettext(
        "%(number)d operation was removed from the plan and not done.",
        "%(number)d operations were removed from the plan and not done.",
        number,
    )
    return str(text) % {"number": number}

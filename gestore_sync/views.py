"""The page of the admin that shows how far the change log was handled, and on which a person synchronizes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, resolve, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy
from django.views.decorators.http import require_http_methods

from gestore_sync import api
from gestore_sync.checkpoint import NEVER
from gestore_sync.models import SyncRun

if TYPE_CHECKING:
    from gestore_sync.plan import Report

logger = logging.getLogger(__name__)

PERMISSION = "gestore_sync.synchronize"

SHOWN_PROBLEMS = 100
"""So many conflicts, and so many failures, are shown of a run."""

COUNT_TITLES = {
    "created": pgettext_lazy("objects", "Created"),
    "updated": pgettext_lazy("objects", "Updated"),
    "unchanged": pgettext_lazy("objects", "Unchanged"),
    "matched": pgettext_lazy("objects", "Matched"),
    "deleted": pgettext_lazy("objects", "Deleted"),
    "skipped": pgettext_lazy("objects", "Skipped"),
}

PROBLEM_TITLES = {"conflicts": gettext_lazy("Conflicts"), "failures": gettext_lazy("Failures")}

RESOLUTIONS = {
    "local": gettext_lazy("resolved: the local value was taken"),
    "remote": gettext_lazy("resolved: the remote value was kept"),
    "merged": gettext_lazy("resolved: both were merged"),
}

View = Callable[[HttpRequest], HttpResponse]


@dataclass(frozen=True, slots=True)
class CountTable:
    """Counts by model; a column for each count that is not zero everywhere."""

    titles: list[Any]
    rows: list[tuple[str, list[int]]]
    totals: list[int]


@dataclass(frozen=True, slots=True)
class Problem:
    """A conflict or a failure of one object. ``fields``: ``(name, value of the source, value of the target)``."""

    name: str
    natural_key: str
    reason: str
    fields: list[tuple[str, Any, Any]]
    resolution: Any


@dataclass(frozen=True, slots=True)
class ProblemList:
    """The first problems of one kind, and how many more there are."""

    title: Any
    shown: list[Problem]
    more: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a button that was pressed. ``counts`` is None after an error: nothing was counted."""

    title: str
    counts: CountTable | None
    warnings: list[str]
    problems: list[ProblemList]


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run as a line of a table; ``url`` is empty where the person may not see the run's own page."""

    run: SyncRun
    url: str
    counts: list[int]
    problems: list[int]


def outside_transactions(view: View) -> View:
    """Keep ATOMIC_REQUESTS, of every database, away from a view whose work commits by itself."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def get_site() -> admin.AdminSite:
    """The admin that the project serves, which need not be the default one."""
    site: admin.AdminSite = getattr(resolve(reverse("admin:index")).func, "admin_site", admin.site)
    return site


def find_url(name: str, *args: Any) -> str:
    """The address of a page; empty where the project has none of this name."""
    try:
        return reverse(name, args=args, current_app=get_site().name)
    except NoReverseMatch:
        return ""


@outside_transactions
@require_http_methods(["GET", "HEAD", "POST"])
def synchro(request: HttpRequest) -> HttpResponse:
    """The page. On POST, what the button says: ``preview``, ``synchro`` or ``reset``. GET changes nothing.

    Whoever may not enter the admin is sent to its login. Raises PermissionDenied without the permission, and for a
    reset that ``SYNCHRO_ALLOW_RESET`` rules out. Other errors are shown, and raised where ``SYNCHRO_DEBUG`` is set.
    """
    return get_site().admin_view(answer)(request)


def answer(request: HttpRequest) -> HttpResponse:
    """What the page answers to one who may enter the admin."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    asked = request.POST if request.method == "POST" else request.GET
    if "reset" in asked and not is_reset_allowed():
        raise PermissionDenied(_("SYNCHRO_ALLOW_RESET rules a reset out."))
    if "preview" in request.POST:
        return show_page(request, synchronize(request, _("Preview"), dry_run=True))
    if "synchro" in request.POST:
        return show_page(request, synchronize(request, _("Result")))
    if "reset" in request.POST:
        return reset(request)
    return ask_to_reset(request) if "reset" in asked else show_page(request)


def is_reset_allowed() -> bool:
    """Whether ``SYNCHRO_ALLOW_RESET`` lets people reset."""
    return bool(getattr(settings, "SYNCHRO_ALLOW_RESET", True))


def synchronize(request: HttpRequest, title: str, *, dry_run: bool = False) -> Outcome | None:
    """Synchronize what the log holds, and tell what came of it; None where nothing but an error is known."""
    report, error = attempt(request, lambda: api.synchronize(dry_run=dry_run))
    if report is not None:
        is_trouble = report.failures or report.get_unresolved()
        done = messages.INFO if dry_run else messages.SUCCESS
        messages.add_message(request, messages.WARNING if is_trouble else done, report.message)
        return Outcome(title, tabulate(report.as_dict()), report.warnings, list_problems(report.as_dict()))
    known: Report | None = getattr(error, "report", None)
    return Outcome(title, None, known.warnings, list_problems(known.as_dict())) if known else None


def reset(request: HttpRequest) -> HttpResponse:
    """Reset, and go back to the page: to load that again resets nothing."""
    _nothing, error = attempt(request, api.reset_synchro)
    if error is None:
        messages.success(request, _("Synchronization has been reset."))
    return redirect("synchro:synchro")


def ask_to_reset(request: HttpRequest) -> HttpResponse:
    """The page with the button that resets."""
    context = {"title": _("Reset the synchronization"), "parent": _("Synchronize databases")}
    return render(request, "gestore_sync/reset.html", context)


def attempt(request: HttpRequest, action: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """``(what the action returns, None)`` or ``(None, its error)``.

    The error is shown and logged; where ``SYNCHRO_DEBUG`` is set, it is raised.
    """
    try:
        return action(), None
    except Exception as error:
        if not getattr(settings, "SYNCHRO_DEBUG", False):
            logger.exception("What the synchronization page was asked for ended in an error.")
            messages.error(request, str(error) or type(error).__name__)
            return None, error
        raise


def show_page(request: HttpRequest, outcome: Outcome | None = None) -> HttpResponse:
    """How things stand, below what became of the button that was pressed."""
    overview, _error = attempt(request, api.get_overview)
    context = {
        "title": _("Synchronize databases"),
        "outcome": outcome,
        "reset_allowed": is_reset_allowed(),
        **(describe(request, overview) if overview else {}),
    }
    return render(request, "gestore_sync/synchro.html", context)


def describe(request: HttpRequest, overview: api.Overview) -> dict[str, Any]:
    """An overview as the page shows it."""
    is_linked = may_see_runs(request)
    return {
        "overview": overview,
        "checkpoint": None if overview.checkpoint == NEVER else timezone.localtime(overview.checkpoint),
        "pending": sorted(overview.pending.items()),
        "pending_total": sum(overview.pending.values()),
        "runs": [make_run_line(run, is_linked) for run in overview.runs],
        "last_problems": list_problems(overview.runs[0].problems) if overview.runs else [],
    }


def render(request: HttpRequest, template: str, context: Mapping[str, Any]) -> HttpResponse:
    """A page in the frame of the admin."""
    site = get_site()
    request.current_app = site.name
    frame = {"app_url": find_url("admin:app_list", "gestore_sync"), "breadcrumbs_are_a_list": django.VERSION >= (6, 1)}
    return TemplateResponse(request, template, {**site.each_context(request), **frame, **context})


def may_see_runs(request: HttpRequest) -> bool:
    """Whether the admin has pages of runs for this person."""
    site = get_site()
    return site.is_registered(SyncRun) and site.get_model_admin(SyncRun).has_view_permission(request)


def make_run_line(run: SyncRun, is_linked: bool) -> RunLine:
    """What a table shows of a run."""
    return RunLine(
        run=run,
        url=find_url("admin:gestore_sync_syncrun_change", run.pk) if is_linked else "",
        counts=[sum_count(run, name) for name in ("created", "updated", "deleted")],
        problems=[len(run.problems.get(name, ())) for name in PROBLEM_TITLES],
    )


def sum_count(run: SyncRun, name: str) -> int:
    """How many objects of all models a run created, updated and so on."""
    return sum(run.counts.get(name, {}).values())


def tabulate(counts: Mapping[str, Any]) -> CountTable:
    """The counts of a report or a run, ``{"created": {"app.Model": n}, …}``, as a table."""
    names = [name for name in COUNT_TITLES if any(counts.get(name, {}).values())]
    labels = sorted({label for name in names for label, number in counts[name].items() if number})
    return CountTable(
        titles=[COUNT_TITLES[name] for name in names],
        rows=[(label, [counts[name].get(label, 0) for name in names]) for label in labels],
        totals=[sum(counts[name].values()) for name in names],
    )


def list_problems(problems: Mapping[str, Any]) -> list[ProblemList]:
    """The conflicts and failures of a report or a run, where there are some."""
    return [
        ProblemList(title, make_problems(problems[name][:SHOWN_PROBLEMS]), max(0, len(problems[name]) - SHOWN_PROBLEMS))
        for name, title in PROBLEM_TITLES.items()
        if problems.get(name)
    ]


def make_problems(found: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """What is shown of each conflict or failure."""
    return [
        Problem(
            name=f"{problem['model']}.{problem['pk']}",
            natural_key=", ".join(str(part) for part in problem.get("natural_key") or ()),
            reason=problem["reason"],
            fields=[(name, *values) for name, values in problem.get("fields", {}).items()],
            resolution=RESOLUTIONS.get(problem["resolved"], _("not resolved")) if "resolved" in problem else "",
        )
        for problem in found
    ]

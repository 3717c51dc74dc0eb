"""How commands show progress, plans and reports to a person at a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext, pgettext_lazy
from rich import progress as bars
from rich.console import Console
from rich.table import Table

from gestore_sync.differing import KINDS, Differences
from gestore_sync.locations import hide_password
from gestore_sync.plan import Report
from gestore_sync.progress import Progress
from gestore_sync.settlements import Settlement
from gestore_sync.subgraph import CHANGED, ROOT
from gestore_sync.valuekinds import dump_json
from gestore_sync.verifying import iter_verification_notes

PAGE_WIDTH = 240
"""How wide tables may be in files and pipes, so that no name is cut."""

PHASES = {
    "walking": gettext_lazy("Walking"),
    "locating": gettext_lazy("Looking for counterparts"),
    "comparing": gettext_lazy("Comparing"),
    "writing": gettext_lazy("Writing"),
    "deleting": gettext_lazy("Deleting"),
    "exporting": gettext_lazy("Exporting"),
    "reading": gettext_lazy("Reading"),
    "reading files": gettext_lazy("Reading stored files"),
}

COUNT_TITLES = {
    "created": pgettext_lazy("objects", "created"),
    "updated": pgettext_lazy("objects", "updated"),
    "unchanged": pgettext_lazy("objects", "unchanged"),
    "matched": pgettext_lazy("objects", "matched"),
    "deleted": pgettext_lazy("objects", "deleted"),
    "skipped": pgettext_lazy("objects", "skipped"),
    "conflicts": gettext_lazy("conflicts"),
    "exported": pgettext_lazy("objects", "exported"),
}

KIND_TITLES = {
    "missing": pgettext_lazy("objects", "missing"),
    "extra": pgettext_lazy("objects", "extra"),
    "different": pgettext_lazy("objects", "different"),
}

SHOWN = 50
"""So many objects of a kind are shown; ``--format json`` has all."""

WAYS = {ROOT: gettext_lazy("root"), CHANGED: gettext_lazy("change log")}

RESOLUTIONS = {
    "local": pgettext_lazy("resolution", "local"),
    "remote": pgettext_lazy("resolution", "remote"),
    "merged": pgettext_lazy("resolution", "merged"),
}


class TerminalProgress(Progress):
    """Bars with counts and the time left, on a terminal only."""

    def __init__(self, console: Console) -> None:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: bars.TaskID | None = None
        self._bars.start()

    def start(self, phase: str, total: int | None = None) -> None:
        self._finish()
        self._bars.start()
        self._task = self._bars.add_task(str(PHASES.get(phase, phase)), total=total)

    def advance(self, number: int = 1) -> None:
        if self._task is not None:
            self._bars.advance(self._task, number)

    def _finish(self) -> None:
        if self._task is not None:
            done = self._bars.tasks[-1].completed
            self._bars.update(self._task, total=done, completed=done)

    def close(self) -> None:
        self._finish()
        self._bars.stop()


def ask(question: str, stream: Any) -> str | None:
    """The line that a person types after ``question``, which is written to ``stream``; None where nobody can."""
    if not sys.stdin.isatty():
        return None
    stream.write(question)
    stream.flush()
    try:
        return sys.stdin.readline().strip()
    except KeyboardInterrupt:
        stream.write("\n")
        return ""


def make_progress(stream: Any, *, wanted: bool) -> Progress:
    """Bars on ``stream`` where that is a terminal and they are wanted; else something that keeps quiet."""
    console = Console(file=stream)
    return TerminalProgress(console) if wanted and console.is_terminal else Progress()


def print_report(report: Report, stream: Any) -> None:
    """A table of counts by model, then what a person should know beside it."""
    console = Console(file=stream, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console = Console(file=stream, soft_wrap=True, highlight=False, width=PAGE_WIDTH)
    counts: dict[str, Mapping[str, int]] = {name: getattr(report, name) for name in Report.COUNTS}
    counts["exported"] = report.exported
    counts["conflicts"] = Counter(conflict["model"] for conflict in report.conflicts)
    columns = [name for name, of_model in counts.items() if any(of_model.values())]
    labels = sorted({label for name in columns for label, number in counts[name].items() if number})
    if labels:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(_("model"), no_wrap=True)
        for name in columns:
            table.add_column(str(COUNT_TITLES[name]), justify="right", no_wrap=True)
        table.add_column(_("through"), overflow="fold")
        for label in labels:
            numbers = [f"{counts[name].get(label, 0):,}" if counts[name].get(label) else "" for name in columns]
            ways = [str(WAYS.get(way, way)) for way in report.why.get(label, ())]
            table.add_row(label, *numbers, ", ".join(ways))
        total = [f"{sum(counts[name].values()):,}" for name in columns]
        table.add_section()
        table.add_row(pgettext("sum", "all"), *total, "", style="bold")
        console.print(table)
    for line in iter_notes(report):
        console.print(line, markup=False)


def iter_notes(report: Report) -> Iterator[str]:
    """What a person should know beside the counts, a line each."""
    if report.files:
        text = ngettext("%(number)s stored file is with it.", "%(number)s stored files are with it.", report.files)
        yield text % {"number": f"{report.files:,}"}
    if report.location:
        yield _("Written to %(location)s.") % {"location": hide_password(report.location)}
    for link, number in sorted(report.mentions.items()):
        model = link.rpartition(".")[0]
        yield ngettext(
            "%(number)s %(model)s row mentions it; --own %(link)s takes it.",
            "%(number)s %(model)s rows mention it; --own %(link)s takes them.",
            number,
        ) % {"number": f"{number:,}", "model": model, "link": link}
    for label, links in sorted(report.left_behind.items()):
        yield _("%(model)s objects are created without what hangs on them: %(links)s.") % {
            "model": label,
            "links": ", ".join(
                _("%(number)s by %(link)s") % {"number": f"{number:,}", "link": link}
                for link, number in sorted(links.items())
            ),
        }
    for warning in report.warnings:
        yield _("Warning: %(warning)s") % {"warning": warning}
    for conflict in report.conflicts[:50]:
        yield from iter_conflict_lines(conflict)
    more = len(report.conflicts) - 50
    if more > 0:
        text = ngettext("… and %(number)s more conflict.", "… and %(number)s more conflicts.", more)
        yield text % {"number": f"{more:,}"}
    yield from iter_verification_notes(report)
    for failure in report.failures[:SHOWN]:
        natural_key = f" {failure['natural_key']}" if failure["natural_key"] else ""
        yield _("Failed: %(object)s: %(reason)s") % {
            "object": f"{failure['model']}.{failure['pk']}{natural_key}",
            "reason": failure["reason"],
        }
    if (more := len(report.failures) - SHOWN) > 0:
        text = ngettext("… and %(number)s more failure.", "… and %(number)s more failures.", more)
        yield text % {"number": f"{more:,}"}


def iter_conflict_lines(conflict: Mapping[str, Any]) -> Iterator[str]:
    """A conflict: what it is, how it was resolved, and both sides field by field."""
    resolved = conflict["resolved"]
    yield _("Conflict (%(resolved)s): %(reason)s") % {
        "resolved": RESOLUTIONS.get(resolved, _("not resolved")),
        "reason": conflict["reason"],
    }
    for name, (mine, theirs) in conflict["fields"].items():
        yield f"    {name}: {mine!r} | {theirs!r}"


def write_report(report: Report | None, stream: Any, form: str, *, error: str | None = None) -> None:
    """Print a report in the form "text" or "json". With ``error`` the run failed, and what is known is printed.

    JSON is one object; values that it has no form for are texts.
    """
    if form == "json":
        document = (report or Report()).as_dict()
        if error is not None:
            document["error"] = error
        text = json.dumps(document, default=str, ensure_ascii=False)
        stream.write(text.encode("utf-8", "backslashreplace").decode())
    elif report is not None:
        print_report(report, stream)
        if error is None:
            stream.write(report.message)


def write_differences(found: Differences, stream: Any, form: str) -> None:
    """Print a comparison: a table of counts by model, then the first objects, and their fields on both sides."""
    if form == "json":
        write_report(found, stream, form)
        return
    console = Console(file=stream, soft_wrap=True, highlight=False)
    counts = {kind: found.totals.get(kind, Counter()) for kind in KINDS}
    labels = sorted({label for of_kind in counts.values() for label in of_kind})
    if labels:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(_("model"), no_wrap=True)
        for kind in KINDS:
            table.add_column(str(KIND_TITLES[kind]), justify="right", no_wrap=True)
        for label in labels:
            table.add_row(label, *(f"{of_kind[label]:,}" if of_kind[label] else "" for of_kind in counts.values()))
        console.print(table)
    for kind in KINDS:
        for item in getattr(found, kind)[:SHOWN]:
            natural_key = f" {item['natural_key']}" if item["natural_key"] else ""
            console.print(f"{KIND_TITLES[kind]}: {item['model']}.{item['pk']}{natural_key}", markup=False)
            for name, (mine, theirs) in item["fields"].items():
                console.print(f"    {name}: {mine!r} | {theirs!r}", markup=False)
    for line in iter_notes(found):
        console.print(line, markup=False)
    stream.write(found.message)


def write_settlement(found: Settlement, stream: Any, form: str) -> None:
    """Print values that lost a conflict: a line for each field, with both sides and the one that was kept."""
    if form == "json":
        stream.write(dump_json(found.as_dict()).encode("utf-8", "backslashreplace").decode())
        return
    console = Console(file=stream, soft_wrap=True, highlight=False)
    for conflict in found.conflicts[:SHOWN]:
        side = RESOLUTIONS[conflict["taken"] or conflict["resolved"]]
        named = f"{conflict['id']}: {conflict['model']}.{conflict['pk']}"
        console.print(f"{named} ({side}) {conflict['date']}", markup=False)
        for name, (mine, theirs) in conflict["fields"].items():
            console.print(f"    {name}: {dump_json(mine)} | {dump_json(theirs)}", markup=False)
    more = len(found.conflicts) - SHOWN
    if more > 0:
        text = ngettext("… and %(number)s more conflict.", "… and %(number)s more conflicts.", more)
        console.print(text % {"number": f"{more:,}"}, markup=False)
    stream.write(found.message)

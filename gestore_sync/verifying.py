"""After a push: is everything that it was to bring on the target, and all that it was to delete gone?

The push kept account of the fields in which it left the target's values as they were. Everything else has to be the
same on both sides. Rows that only the target has are none of a push's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from gestore_sync.differing import KEPT, LEFT, Differences, find_differences
from gestore_sync.exceptions import GestoreSyncError, NotVerified
from gestore_sync.failures import first_line
from gestore_sync.plan import Report
from gestore_sync.pushing import Push

WRONG = ("missing", "different", LEFT)


def verify(push: Push, report: Report) -> None:
    """Compare what a push has sent, and add what differs to its report; what should not differ is a failure.

    Raises :class:`NotVerified` where that cannot be told. The target has everything all the same.
    """
    account = push.account
    try:
        found = find_differences(lambda store: push.make_comparer(store, account), push.source, push.target)
    except (GestoreSyncError, DatabaseError, InterfaceError) as error:
        raise NotVerified(
            f"{report.message} But it could not be verified that {push.target!r} has everything: "
            f"{first_line(error)}. Compare both with diffobjects.",
            report=report,
        ) from error
    add_verification(report, found, push.target)


def add_verification(report: Report, found: Differences, target: str) -> None:
    """Put what a comparison after a push has found into the report of the push."""
    left = {(item["model"], item["pk"]) for item in found.left}
    extra = [item for item in found.extra if (item["model"], item["pk"]) not in left]
    report.verification = {
        "missing": found.missing,
        "extra": [*found.left, *extra],
        "different": found.different,
        "kept": found.kept,
    }
    report.warnings += found.warnings
    known = {conflict["reason"] for conflict in report.conflicts}
    report.conflicts += [conflict for conflict in found.conflicts if conflict["reason"] not in known]
    report.failures += iter_failures(found, target)
    if number := found.count(*WRONG):
        text = ngettext(
            "The push is done, but %(number)d object is not on the target as it should be.",
            "The push is done, but %(number)d objects are not on the target as they should be.",
            number,
        )
        report.message = str(text) % {"number": number}


def iter_failures(found: Differences, target: str) -> Iterator[dict[str, Any]]:
    """What should not differ, as failures of a report."""
    for kind in WRONG:
        for item in getattr(found, kind):
            named = {name: item[name] for name in ("model", "pk", "natural_key")}
            yield {**named, "reason": describe(kind, item, target)}


def describe(kind: str, item: Mapping[str, Any], target: str) -> str:
    """What is wrong with an object, in a sentence."""
    name = f"{item['model']}.{item['pk']}"
    if kind == LEFT:
        return f"{name} is still on {target!r}, though the source has deleted it."
    if kind == "missing":
        return f"{name} is not on {target!r}."
    return f"{name} is on {target!r} with other values: {', '.join(item['fields'])}."


def iter_verification_notes(report: Report) -> Iterator[str]:
    """What a person should know of a verification beside its failures."""
    found = report.verification or {}
    if found.get(KEPT):
        text = ngettext(
            "%(number)s object has values of the target that were kept.",
            "%(number)s objects have values of the target that were kept.",
            len(found[KEPT]),
        )
        yield text % {"number": f"{len(found[KEPT]):,}"}
    if found.get("extra"):
        text = ngettext(
            "%(number)s row is only on the target.", "%(number)s rows are only on the target.", len(found["extra"])
        )
        yield text % {"number": f"{len(found['extra']):,}"}
    if report.verification is not None and not report.failures and not report.get_unresolved():
        yield _("Verified: the target has everything.")

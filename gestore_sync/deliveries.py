"""Which remotes have got which entries of the change log, as long as not all have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from gestore_sync.models import HANDLED, PENDING, ChangeLog, Delivery, Remote
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, match
from gestore_sync.refs import iter_chunks


def find_known(using: str, *, but: str = "") -> list[str]:
    """The remotes of which it is noted what they have got, whether the settings name them or not."""
    known = get_queryset(Remote, using).filter(is_known=True).exclude(alias=but)
    return list(known.values_list("alias", flat=True))


def get_delivered(using: str, alias: str) -> QuerySet[Any]:
    """What a remote has got of an entry, for a condition of that."""
    return get_queryset(Delivery, using).filter(entry=OuterRef("pk"), remote=alias)


def add_deliveries(using: str, ids: Sequence[int], aliases: Sequence[str]) -> None:
    """Note which remotes have got these entries."""
    rows = [Delivery(entry_id=pk, remote=alias) for pk in ids for alias in aliases]
    get_queryset(Delivery, using).bulk_create(rows, ignore_conflicts=True, batch_size=5000)


def close_delivered(using: str, aliases: Sequence[str]) -> None:
    """Note that entries are handled that all these remotes have got."""
    has_all = [Exists(get_delivered(using, alias)) for alias in aliases]
    pending = get_queryset(ChangeLog, using).filter(state=PENDING)
    for chunk in iter_chunks(list(pending.filter(*has_all).values_list("pk", flat=True)), KEYS_PER_QUERY):
        pending.filter(match("pk", chunk)).update(state=HANDLED)
        get_queryset(Delivery, using).filter(match("entry_id", chunk))._raw_delete(using)


def give_up_absent(using: str, before: datetime) -> None:
    """Let no remote that the settings do not name hold up what is older than ``before``: it is not known any more, and
    has to be compared if it comes back."""
    absent = [alias for alias in find_known(using) if alias not in settings.DATABASES]
    old = get_queryset(ChangeLog, using).filter(origin=None, state=PENDING, date__lt=before)
    lost = [alias for alias in absent if old.filter(~Exists(get_delivered(using, alias))).exists()]
    if lost:
        get_queryset(Remote, using).filter(alias__in=lost).update(is_known=False)
        get_queryset(Delivery, using).filter(remote__in=lost)._raw_delete(using)
        if left := find_known(using):
            close_delivered(using, left)

"""Reads the change log and keeps account of what was handled, entry by entry and remote by remote.

No mark in time or number says how far the log was sent: an entry that is committed late, or was written by a clock that
stood wrong, is pending like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import Exists, F, Max, Model, OuterRef, Q, QuerySet
from django.db.models.lookups import Exact, IsNull

from gestore_sync.conf import get_option
from gestore_sync.deliveries import add_deliveries, close_delivered, find_known, get_delivered, give_up_absent
from gestore_sync.exceptions import SchemaMismatch
from gestore_sync.fields import Prefix, now
from gestore_sync.models import (
    DELETION,
    HANDLED,
    M2M_CHANGE,
    OBJECT_ID_PREFIX,
    PENDING,
    SKIPPED,
    ChangeLog,
    Delivery,
    Remote,
)
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, match
from gestore_sync.refs import Key, dump_pk, iter_chunks


class Entry(NamedTuple):
    """One entry of the log as it is read."""

    id: int
    content_type: int
    object_id: str
    date: datetime
    action: int
    data: dict[str, Any]


def has_log(using: str) -> bool:
    """Whether the database has the tables of the change log."""
    return {ChangeLog._meta.db_table, Remote._meta.db_table} <= set(connections[using].introspection.table_names())


def check_log(using: str) -> None:
    """Raise :class:`SchemaMismatch` where a database has no change log."""
    if not has_log(using):
        raise SchemaMismatch(
            f"The source {using!r} has no change log. Run: manage.py migrate gestore_sync --database {using}"
        )


def find_remote_row(using: str, alias: str) -> Remote | None:
    """What this database knows of a remote."""
    found: Remote | None = get_queryset(Remote, using).filter(alias=alias).first()
    return found


def get_pending(using: str, alias: str) -> QuerySet[Any]:
    """The entries of a database that a remote still has to get, oldest first; without an alias, that any has to."""
    news = get_queryset(ChangeLog, using).filter(origin=None).order_by("pk")
    if not alias:
        return news.filter(state=PENDING)
    row = find_remote_row(using, alias)
    if row is None or not row.is_known:
        return news.exclude(state=SKIPPED)
    return news.filter(~Exists(get_delivered(using, alias)), state=PENDING)


def iter_pending(using: str, alias: str) -> Iterator[Entry]:
    """The pending entries as values."""
    columns = ("pk", "content_type_id", "object_id", "date", "action", "data")
    for values in get_pending(using, alias).values_list(*columns).iterator(chunk_size=5000):
        yield Entry(*values)


def find_models(using: str, content_types: Iterable[int]) -> dict[int, type[Model] | None]:
    """By content type of a database, its model; None where the code has it no more."""
    rows = get_queryset(ContentType, using).filter(match("pk", content_types))
    found = {content_type.pk: content_type.model_class() for content_type in rows}
    return {pk: found.get(pk) for pk in content_types}


def count_pending(using: str, alias: str) -> dict[str, int]:
    """By model label, how many objects have pending changes."""
    rows = get_pending(using, alias).order_by().values_list("content_type_id", "object_id").distinct()
    counts: dict[int, int] = {}
    for content_type, _ in rows.iterator(chunk_size=5000):
        counts[content_type] = counts.get(content_type, 0) + 1
    models = find_models(using, counts)
    labels = {pk: model._meta.label if model is not None else str(pk) for pk, model in models.items()}
    return {labels[pk]: number for pk, number in sorted(counts.items(), key=lambda item: labels[item[0]])}


# What was handled


def mark_handled(using: str, alias: str, ids: Sequence[int]) -> None:
    """Note that a remote has got these entries. In the caller's transaction, which others wait for.

    What all known remotes have got is handled. A remote that is new has got nothing else.
    """
    others = find_known(using, but=alias)
    deliveries = get_queryset(Delivery, using)
    pending = get_queryset(ChangeLog, using).filter(state=PENDING)
    if not others and not deliveries.exists():
        for chunk in iter_chunks(ids, KEYS_PER_QUERY):
            pending.filter(match("pk", chunk)).update(state=HANDLED)
    else:
        for chunk in iter_chunks(ids, KEYS_PER_QUERY):
            add_deliveries(using, list(pending.filter(match("pk", chunk)).values_list("pk", flat=True)), [alias])
        close_delivered(using, [alias, *others])
    row = find_remote_row(using, alias)
    if row is None or not row.is_known:
        reopen(using, set(ids), others)


def reopen(using: str, ids: Collection[int], have: Sequence[str]) -> None:
    """Make entries pending again that all remotes known so far, ``have``, had got: a new one has only got ``ids``."""
    handled = get_queryset(ChangeLog, using).filter(origin=None, state=HANDLED).values_list("pk", flat=True)
    for chunk in iter_chunks([pk for pk in handled if pk not in ids], KEYS_PER_QUERY):
        add_deliveries(using, chunk, have)
        get_queryset(ChangeLog, using).filter(match("pk", chunk)).update(state=PENDING)


def move_checkpoint(using: str, before: datetime, after: datetime) -> None:
    """The checkpoint was set by hand: earlier queues again what was logged since, later skips what was logged up to
    it."""
    if not has_log(using):
        return
    news = get_queryset(ChangeLog, using).filter(origin=None)
    if after < before:
        again = news.filter(date__gt=after)
        get_queryset(Delivery, using).filter(Exists(again.filter(pk=OuterRef("entry_id"))))._raw_delete(using)
        again.update(state=PENDING)
    elif after > before:
        news.filter(date__lte=after).update(state=SKIPPED)


def prune_log(using: str) -> None:
    """Remove what is older than ``LOG_RETENTION`` and pending for no remote that the settings name.

    Of each object the last entry of every origin stays, as times are compared by those that one origin did not write;
    so does the last deletion of each, which tells that the key is another object's by now.
    """
    retention = get_option("LOG_RETENTION")
    if retention is None:
        return
    before = now() - retention
    give_up_absent(using, before)
    later = (
        get_queryset(ChangeLog, using)
        .annotate(prefix=Prefix("object_id"))
        .filter(
            Q(origin=OuterRef("origin")) | Q(IsNull(F("origin"), True), IsNull(OuterRef("origin"), True)),
            Q(action=DELETION) | ~Q(Exact(OuterRef("action"), DELETION)),
            content_type=OuterRef("content_type"),
            prefix=Prefix(OuterRef("object_id")),
            object_id=OuterRef("object_id"),
            pk__gt=OuterRef("pk"),
        )
    )
    old = get_queryset(ChangeLog, using).filter(Exists(later), date__lt=before)
    superseded = list(old.exclude(state=PENDING).values_list("pk", flat=True))
    for chunk in iter_chunks(superseded, KEYS_PER_QUERY):
        get_queryset(ChangeLog, using).filter(match("pk", chunk))._raw_delete(using)


def forget_log(using: str) -> None:
    """Remove every entry."""
    for model in (Delivery, ChangeLog):
        get_queryset(model, using)._raw_delete(using)


# Times


def find_last_dates(
    using: str, model: type[Model], keys: Sequence[Key], *, but: Any = None, actions: Sequence[int] = ()
) -> dict[Key, datetime]:
    """When each object was last changed, as far as the log of a database tells.

    ``but``: the origin whose runs do not count. ``actions``: only these. Entries of multi-table parents and children
    are of the same object.
    """
    by_text = {dump_pk(key): key for key in keys}
    entries = get_entries(using, model, but)
    found: dict[Key, datetime] = {}
    for chunk in iter_chunks(list(by_text), KEYS_PER_QUERY):
        prefixes = {get_prefix(text, using) for text in chunk}
        rows = entries.filter(match(Prefix("object_id"), prefixes))
        if actions:
            rows = rows.filter(action__in=actions)
        for text, date in rows.values_list("object_id").annotate(Max("date")):
            key = by_text.get(text)
            if key is not None:
                found[key] = date
    return found


def get_prefix(text: str, using: str) -> str:
    """What :class:`~gestore_sync.fields.Prefix` gives; SQLite's function ends at a null character."""
    text = text.partition("\0")[0] if connections[using].vendor == "sqlite" else text
    return text[:OBJECT_ID_PREFIX]


def get_entries(using: str, model: type[Model], but: Any) -> QuerySet[Any]:
    """All entries about objects of ``model``, but for those of the runs of an origin."""
    family = [model, *model._meta.all_parents, *(child for child in iter_children(model))]
    names = [(member._meta.app_label, member._meta.model_name) for member in family]
    types = get_queryset(ContentType, using).filter(model__in=[name for _, name in names])
    type_ids = [pk for pk, *name in types.values_list("pk", "app_label", "model") if tuple(name) in names]
    rows = get_queryset(ChangeLog, using).filter(content_type__in=type_ids)
    return rows if but is None else rows.exclude(origin=but, origin__isnull=False)


def has_entries(using: str, model: type[Model], *, but: Any = None) -> bool:
    """Whether the log of a database has any entries about objects of ``model``; ``but`` as above."""
    return get_entries(using, model, but).exists()


def iter_children(model: type[Model]) -> Iterator[type[Model]]:
    """The multi-table children of ``model``, and theirs."""
    for child in model.__subclasses__():
        if child._meta.concrete_model is child:
            yield child
            yield from iter_children(child)


def find_replaced(using: str, model: type[Model], keys: Sequence[Key], ours: Any) -> set[Key]:
    """Those rows that others deleted, as the log tells, since a run of the origin ``ours`` wrote them: what has their
    key now is another object."""
    types = get_queryset(ContentType, using).filter(app_label=model._meta.app_label, model=model._meta.model_name)
    entries = get_queryset(ChangeLog, using).filter(content_type__in=types.values("pk"))
    deletions = entries.filter(action=DELETION).exclude(origin=ours)
    if not keys or not deletions.exists():
        return set()
    by_text = {dump_pk(key): key for key in keys}
    deleted = find_last_entries(deletions, by_text)
    written = find_last_entries(entries.filter(origin=ours), deleted)
    return {by_text[text] for text, pk in deleted.items() if pk > written.get(text, 0)}


def find_last_entries(entries: QuerySet[Any], texts: Iterable[str]) -> dict[str, int]:
    """By object id, the last of these entries."""
    wanted = set(texts)
    found: dict[str, int] = {}
    for chunk in iter_chunks(sorted(wanted), KEYS_PER_QUERY):
        rows = entries.filter(match(Prefix("object_id"), {text[:OBJECT_ID_PREFIX] for text in chunk}))
        found |= {text: pk for text, pk in rows.values_list("object_id").annotate(Max("pk")) if text in wanted}
    return found


def find_taken_out(using: str, model: type[Model], owners: Sequence[Key], name: str, ours: Any) -> set[tuple[str, str]]:
    """``(owner, member)``, as texts, of the members that others than the origin ``ours`` took out of the many-to-many
    field ``name`` of these owners, and did not put in again."""
    types = get_queryset(ContentType, using).filter(app_label=model._meta.app_label, model=model._meta.model_name)
    entries = get_queryset(ChangeLog, using).filter(content_type__in=types.values("pk"), action=M2M_CHANGE)
    wanted = {dump_pk(owner) for owner in owners}
    prefixes = {text[:OBJECT_ID_PREFIX] for text in wanted}
    rows = entries.exclude(origin=ours).filter(match(Prefix("object_id"), prefixes)).order_by("pk")
    found: set[tuple[str, str]] = set()
    for owner, data in rows.values_list("object_id", "data"):
        if owner in wanted and data.get("field") == name:
            found |= {(owner, member) for member in data.get("removed") or ()}
            found -= {(owner, member) for member in data.get("added") or ()}
    return found

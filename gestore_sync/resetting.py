"""Forgetting what was logged and sent."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections, transaction

from gestore_sync import origins
from gestore_sync.adapters import load_adapters
from gestore_sync.changelog import forget_log
from gestore_sync.checkpoint import write_checkpoint
from gestore_sync.conf import find_remote
from gestore_sync.digests import split_digests
from gestore_sync.exceptions import WrongDatabase
from gestore_sync.failures import explain
from gestore_sync.layouts import Layout
from gestore_sync.ledger import find_last_run, iter_known
from gestore_sync.links import LinkGraph
from gestore_sync.mappings import MappingStore, has_tables
from gestore_sync.models import IdMapping, Origin, Remote
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, match
from gestore_sync.refs import get_field, iter_chunks
from gestore_sync.tombstones import drop_links
from gestore_sync.writers import get_writer

NOTED = ("digests", "serial")
CORRECTED = [get_field(IdMapping, name) for name in (*NOTED, "source_imprint", "target_imprint")]


def find_own(using: str) -> UUID | None:
    """The identity of a database."""
    found: UUID | None = get_queryset(Origin, using).filter(is_own=True).values_list("uuid", flat=True).first()
    return found


def find_remotes(source: str) -> list[str]:
    """The databases that a database has sent to, or is to send to."""
    known = {row.alias for row in iter_known(source)} | {find_remote()}
    return [alias for alias in known if alias is not None and alias in settings.DATABASES and alias != source]


def reset(source: str) -> None:
    """Forget the change log of a database and its id mappings, in it and in its remotes; the checkpoint is now.

    Raises a database error where a remote does not answer: nothing is forgotten then.
    """
    remotes, own = find_remotes(source), find_own(source)
    stores = {alias: MappingStore(source, alias) for alias in remotes}
    last_runs = {alias: find_last_run(store) for alias, store in stores.items()}
    with transaction.atomic(using=source):
        for alias in filter(has_tables, remotes):
            correct_received(source, own, alias, is_last=True)
        for alias in (source, *(alias for alias in remotes if has_tables(alias))):
            get_queryset(IdMapping, alias).filter(origin__uuid=own).delete()
        forget_log(source)
        get_queryset(Remote, source)._raw_delete(source)
        for alias, run in last_runs.items():
            if run is not None:
                row = Remote(alias=alias, is_known=True, last_run=run.uuid, origin=stores[alias].target_uuid)
                row.save(using=source)
        write_checkpoint(source, datetime.now(tz=UTC))


def correct_received(source: str, own: UUID | None, alias: str, *, is_last: bool) -> None:
    """Correct what is kept in ``source`` of pushes from another database, before what it has left there itself since is
    forgotten. ``is_last``: the rows are as it left them; else they may have been left so by another one, of which it is
    a copy, and what both sides had is not known."""
    uuid = find_own(alias)
    if uuid == own:
        return
    graph = LinkGraph(source, load_adapters())
    layouts = {model._meta.label_lower: Layout(model, graph) for model in graph.models}
    theirs = get_queryset(IdMapping, source).filter(origin__uuid=uuid, remote="")
    ours = get_queryset(IdMapping, alias).filter(origin__uuid=own, remote="")
    for label in theirs.order_by().values_list("model", flat=True).distinct():
        layout = layouts.get(label)
        for chunk in iter_chunks(list(theirs.filter(model=label).values_list("pk", flat=True)), KEYS_PER_QUERY):
            rows = list(theirs.filter(match("pk", chunk)).values_list(*("pk", "target_pk", "source_pk", *NOTED)))
            found = ours.filter(match("source_pk", [mine for _, mine, *_ in rows]), model=label)
            last = {row[:2]: row[2:] for row in found.values_list("source_pk", "target_pk", *NOTED)}
            changed = []
            for pk, *pair, digests, serial in rows:
                mine, later = last.get(tuple(pair), (b"", 0))
                if later > serial:
                    mine = b"" if layout is None else drop_links(layout, bytes(mine))
                    values = mine if is_last else keep_same(bytes(digests), mine)
                    changed.append((pk, [values, later, None, None]))
            if changed:
                get_writer(source).update(IdMapping, CORRECTED, changed)


def keep_same(digests: bytes, last: bytes) -> bytes:
    """Those of the digests that are in ``last``, too."""
    known = split_digests(last).items()
    return b"".join(code + value for code, value in split_digests(digests).items() if (code, value) in known)


def reset_synchro(source: str | None = None) -> None:
    """Forget the change log and this installation's id mappings, and set the checkpoint to now.

    ``source``: the database, "default" if not given. The mappings in remotes that can be reached are forgotten too.
    """
    source = source or DEFAULT_DB_ALIAS
    try:
        reset(source)
    except (DatabaseError, InterfaceError) as error:
        raise explain(error, source, source) from error


def renew_origin(database: str) -> None:
    """Give a database that was made as a copy of another an identity of its own, so that both may live side by side.

    ``database``: its alias. What it had sent before is unknown to it afterwards: push roots, or ``reconcile``.
    Raises :class:`~gestore_sync.exceptions.WrongDatabase` for an alias that does not exist,
    and :class:`~gestore_sync.exceptions.DatabaseUnavailable` where a remote does not answer.
    """
    if database not in connections:
        raise WrongDatabase(f"There is no database {database!r} in DATABASES.")
    try:
        with transaction.atomic(using=database):
            own = find_own(database)
            for alias in filter(has_tables, find_remotes(database)):
                correct_received(database, own, alias, is_last=False)
            origins.renew_origin(database)
    except (DatabaseError, InterfaceError) as error:
        raise explain(error, database, database) from error

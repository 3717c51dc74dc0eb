"""Forgetting what was logged and sent."""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections, transaction

from gestore_sync import origins
from gestore_sync.changelog import forget_log
from gestore_sync.checkpoint import write_checkpoint
from gestore_sync.conf import find_remote
from gestore_sync.exceptions import WrongDatabase
from gestore_sync.failures import explain
from gestore_sync.ledger import find_last_run, iter_known
from gestore_sync.mappings import MappingStore, has_tables
from gestore_sync.models import IdMapping, Origin, Remote
from gestore_sync.reading import get_queryset


def reset(source: str) -> None:
    """Forget the change log of a database and its id mappings, in it and in its remotes; the checkpoint is now.

    Raises a database error where a remote does not answer: nothing is forgotten then.
    """
    known = {row.alias for row in iter_known(source)} | {find_remote()}
    remotes = [alias for alias in known if alias is not None and alias in settings.DATABASES and alias != source]
    own = get_queryset(Origin, source).filter(is_own=True).values_list("uuid", flat=True).first()
    stores = {alias: MappingStore(source, alias) for alias in remotes}
    last_runs = {alias: find_last_run(store) for alias, store in stores.items()}
    with transaction.atomic(using=source):
        for alias in (source, *(alias for alias in remotes if has_tables(alias))):
            get_queryset(IdMapping, alias).filter(origin__uuid=own).delete()
        forget_log(source)
        get_queryset(Remote, source)._raw_delete(source)
        for alias, run in last_runs.items():
            if run is not None:
                row = Remote(alias=alias, is_known=True, last_run=run.uuid, origin=stores[alias].target_uuid)
                row.save(using=source)
        write_checkpoint(source, datetime.now(tz=UTC))


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
    Raises :class:`~gestore_sync.exceptions.WrongDatabase` for an alias that does not exist.
    """
    if database not in connections:
        raise WrongDatabase(f"There is no database {database!r} in DATABASES.")
    origins.renew_origin(database)

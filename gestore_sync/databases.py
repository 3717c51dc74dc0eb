"""Which two databases a run is between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections
from django.utils.translation import gettext as _

from gestore_sync.conf import find_remote
from gestore_sync.exceptions import WrongDatabase

SERVER_SQL = """
    SELECT pg_postmaster_start_time(), oid FROM pg_database WHERE datname = current_database()
"""


def get_databases(source: str | None, remote: str | None) -> tuple[str, str]:
    """The aliases of source and target, with the defaults filled in.

    Raises :class:`WrongDatabase` where an alias is unknown, no remote is set, or both name one database.
    """
    target = remote or find_remote()
    if target is None:
        raise WrongDatabase(_("No REMOTE database specified in settings."))
    aliases = (source or DEFAULT_DB_ALIAS, target)
    for alias in aliases:
        if alias not in settings.DATABASES:
            known = ", ".join(sorted(settings.DATABASES))
            raise WrongDatabase(f"There is no database {alias!r} in DATABASES. The databases are: {known}.")
    if are_same(*aliases):
        raise WrongDatabase(
            f"Source {aliases[0]!r} and target {aliases[1]!r} are the same database. Name another one with --remote."
        )
    return aliases


def are_same(one: str, other: str) -> bool:
    """Whether two aliases lead to one database, however their settings spell it."""
    if one == other or get_place(one) == get_place(other):
        return True
    if connections[one].vendor != connections[other].vendor:
        return False
    if connections[one].vendor == "sqlite":
        files = [Path(str(connections[alias].settings_dict["NAME"])) for alias in (one, other)]
        return all(file.exists() for file in files) and bool(files[0].samefile(files[1]))
    if connections[one].vendor == "postgresql" and can_connect(one) and can_connect(other):
        try:
            return bool(ask_server(one) == ask_server(other))
        except (OperationalError, InterfaceError):
            return False  # the run that begins now will say which of them has gone
    return False


def get_place(alias: str) -> tuple[str, ...]:
    """Where the settings say that a database is."""
    of: dict[str, Any] = connections[alias].settings_dict
    options = of.get("OPTIONS") or {}
    place = (of.get("ENGINE"), of.get("NAME"), of.get("HOST"), of.get("PORT"), options.get("service"))
    return tuple(str(part or "") for part in place)


def ask_server(alias: str) -> Any:
    """What tells a PostgreSQL database from all others."""
    with connections[alias].cursor() as cursor:
        cursor.execute(SERVER_SQL)
        return cursor.fetchone()


def can_connect(alias: str) -> bool:
    """Whether the database answers."""
    connection = connections[alias]
    try:
        connection.ensure_connection()
        return bool(connection.is_usable())
    except (OperationalError, InterfaceError):
        return False

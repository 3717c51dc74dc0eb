"""Database triggers that write the change log: ``GESTORE_SYNC["CAPTURE"] = "triggers"``, on PostgreSQL.

They see every change of the watched models' tables, raw SQL and COPY included. They are installed whenever a database
is migrated, and removed by the next ``migrate`` where the setting or the models have changed. A model of which they
cannot tell the keys (a custom type of key), or whose table is a view or is somebody else's, is left to the signals.

What they do not see: changes of a partition that is named itself, and what runs with ``session_replication_role =
replica`` or with the triggers disabled.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import ProgrammingError, connections, router, transaction
from django.db.models import Model

from gestore_sync.captures import NAME_PATTERN, Capture, iter_captures
from gestore_sync.entrysql import Table, quote
from gestore_sync.exceptions import WrongSetting
from gestore_sync.links import get_concrete
from gestore_sync.models import ChangeLog
from gestore_sync.muting import is_wanted, prepare_connection
from gestore_sync.watching import Watched, find_watched

SECONDS_KNOWN = 10
"""So long it is known which triggers a database has: another process may have migrated it."""

INSTALL_HINT = 'Run: pip install "gestore-sync[triggers]"'

LIVE_SQL = """
    SELECT t.tgname FROM unnest(%s::text[], %s::text[]) AS wanted(name, table_name)
    JOIN pg_trigger t ON t.tgname = wanted.name AND t.tgrelid = to_regclass(wanted.table_name)
    WHERE t.tgenabled IN ('O', 'A')
"""
ANY_SQL = "SELECT 1 FROM pg_trigger WHERE tgname ~ %s LIMIT 1"
INSTALLED_SQL = """
    SELECT p.proname, quote_ident(n.nspname), coalesce(obj_description(t.oid, 'pg_trigger'), '')
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    LEFT JOIN pg_trigger t ON t.tgfoid = p.oid AND t.tgname = p.proname
    WHERE p.proname ~ %s AND n.nspname = current_schema()
"""
TABLES_SQL = """
    SELECT wanted.number, n.nspname, c.relname, a.attname, tn.nspname, ty.typname
    FROM unnest(%s::text[]) WITH ORDINALITY AS wanted(name, number)
    JOIN pg_class c ON c.oid = to_regclass(wanted.name) AND c.relkind IN ('r', 'p')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type ty ON ty.oid = a.atttypid
    JOIN pg_namespace tn ON tn.oid = ty.typnamespace
"""


# Whether triggers write the log

_known: dict[tuple[str, str], tuple[float, Watched, frozenset[type[Model]]]] = {}


def is_capturing(using: str, model: type[Model] | None = None) -> bool:
    """Whether triggers log the changes of ``model`` (concrete; by default of any model) on a database by now.

    Where they do, signals need not. False also where the settings want no triggers and some are still there: until
    they are removed by ``migrate`` a change is logged twice, which is better than not at all.
    """
    if connections[using].vendor != "postgresql" or not is_wanted():
        return False
    captured = find_captured(using)
    return bool(captured) if model is None else model in captured


def find_captured(using: str) -> frozenset[type[Model]]:
    """The watched models whose triggers are all there on a PostgreSQL database. It is asked past Django, as this is no
    query of the application."""
    connection = connections[using]
    place = (using, str(connection.settings_dict["NAME"]))
    watched = find_watched()
    if watched is None:
        return frozenset()
    known = _known.get(place)
    if known is not None and known[0] > time.monotonic() and known[1] is watched:
        return known[2]
    by_model = {model: list(iter_captures(model, watched)) for model in watched.models}
    live = find_live(using, [capture for captures in by_model.values() for capture in captures])
    captured = frozenset(model for model, captures in by_model.items() if captures and live.issuperset(captures))
    _known[place] = (time.monotonic() + SECONDS_KNOWN, watched, captured)
    return captured


def find_live(using: str, captures: Iterable[Capture]) -> set[Capture]:
    """Those whose triggers a PostgreSQL database has, and fires."""
    connection = connections[using]
    by_name = {capture.name: capture for capture in captures}
    tables = [connection.ops.quote_name(capture.table._meta.db_table) for capture in by_name.values()]
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.cursor() as cursor:
        cursor.execute(LIVE_SQL, [list(by_name), tables])
        return {by_name[name] for (name,) in cursor.fetchall()}


def has_triggers(connection: Any) -> bool:
    """Whether the PostgreSQL database of a connection has any of our triggers, wanted here or not."""
    with connection.cursor() as cursor:
        cursor.execute(ANY_SQL, [NAME_PATTERN])
        return cursor.fetchone() is not None


def forget_captured(**kwargs: Any) -> None:
    """Look again which triggers there are."""
    _known.clear()


# Installation


def find_missing_extra() -> str | None:
    """What is wrong where the settings want triggers and a package that they need is missing; else None."""
    try:
        import pgtrigger  # noqa: F401
        import psycopg  # noqa: F401
    except ImportError as error:
        return f'GESTORE_SYNC["CAPTURE"] is "triggers", which needs django-pgtrigger and psycopg 3: {error}.'
    return None


def update_triggers(using: str, **kwargs: Any) -> None:
    """The receiver of ``post_migrate``: install what the settings want on a database, and remove the rest.

    Raises :class:`WrongSetting` where a package is missing.
    """
    watched = find_watched()
    if connections[using].vendor == "postgresql" and watched is not None:
        install_triggers(using, watched if is_wanted() else Watched(frozenset(), {}, {}))


def install_triggers(using: str, watched: Watched) -> None:
    """Install the triggers for these models on a PostgreSQL database where they are missing or not up to date, and
    remove all others of ours.

    A table that belongs to somebody else gets none, with a RuntimeWarning. Raises :class:`WrongSetting` where a package
    is missing.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(INSTALLED_SQL, [NAME_PATTERN])
        installed = {name: (schema, version) for name, schema, version in cursor.fetchall()}
    wanted: set[str] = set()
    if watched.models:
        prepare_connection(connections[using])
        for triggers in find_triggers(using, watched):
            install_some(using, triggers, installed)
            wanted |= {trigger.capture.name for trigger in triggers}
    remove(using, [f"{schema}.{name}" for name, (schema, _) in installed.items() if name not in wanted])
    forget_captured()


def find_triggers(using: str, watched: Watched) -> list[list[Any]]:
    """The triggers of each watched model that has a table there. Raises :class:`WrongSetting`."""
    problem = find_missing_extra()
    if problem is not None:
        raise WrongSetting(f"{problem} {INSTALL_HINT}")
    from gestore_sync.triggersql import LogTrigger

    models = [model for model in watched.models if router.allow_migrate_model(using, model)]
    models.sort(key=lambda model: model._meta.label)
    holders = {get_concrete(parent) for model in models for parent in model._meta.all_parents}
    tables = read_tables(using, [ChangeLog, ContentType, *models, *holders])
    if not {ChangeLog, ContentType} <= tables.keys():
        return []
    captures = [list(iter_captures(model, watched)) for model in models]
    return [[LogTrigger(each, tables) for each in some] for some in captures if some and has_columns(some, tables)]


def has_columns(captures: Iterable[Capture], tables: Any) -> bool:
    """Whether the tables are there, with the columns that the models say."""
    listened = {capture.table for capture in captures}
    return listened <= tables.keys() and all(
        field.column is None or field.column in tables[model].columns
        for model in listened
        for field in model._meta.local_concrete_fields
    )


def read_tables(using: str, models: Iterable[type[Model]]) -> dict[type[Model], Table]:
    """The tables of these models that can have triggers."""
    connection = connections[using]
    asked = list(dict.fromkeys(models))
    found: dict[int, tuple[str, dict[str, str]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(TABLES_SQL, [[connection.ops.quote_name(model._meta.db_table) for model in asked]])
        for number, schema, table, column, type_schema, type_name in cursor.fetchall():
            columns = found.setdefault(number, (f"{quote(schema)}.{quote(table)}", {}))[1]
            columns[column] = f"{quote(type_schema)}.{quote(type_name)}"
    return {model: Table(*found[number]) for number, model in enumerate(asked, 1) if number in found}


def install_some(using: str, triggers: Iterable[Any], installed: dict[str, tuple[str, str]]) -> None:
    """Install the triggers of one model, all or none; a warning tells where the database does not allow it."""
    from psycopg.errors import InsufficientPrivilege

    missing = []
    for trigger in triggers:
        label = trigger.capture.model._meta.label
        compiled = trigger.compile(trigger.capture.model)
        if installed.get(trigger.capture.name, ("", ""))[1] != compiled.hash:
            missing.append(compiled.install_sql)
    if not missing:
        return
    try:
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            for statements in missing:
                cursor.execute(statements)
    except ProgrammingError as error:
        if not isinstance(error.__cause__, InsufficientPrivilege):
            raise
        warnings.warn(
            f"The database {using!r} does not let us install triggers for {label}: {error}. Only what Django's signals "
            "tell of its changes is logged.".replace("\n", " "),
            RuntimeWarning,
            stacklevel=2,
        )


def remove(using: str, functions: Iterable[str]) -> None:
    """Remove functions, with the triggers that call them."""
    with connections[using].cursor() as cursor:
        for function in functions:
            cursor.execute(f"DROP FUNCTION {function}() CASCADE")

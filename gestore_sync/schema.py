"""Whether the target has the tables and columns that a run needs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model

from gestore_sync.exceptions import SchemaMismatch
from gestore_sync.refs import get_table

COLUMNS_SQL = """
    SELECT table_name, lower(column_name) FROM information_schema.columns
    WHERE table_schema = ANY(current_schemas(false)) AND table_name = ANY(%s)
"""
SQLITE_COLUMNS_SQL = """
    SELECT found.name, lower(info.name) FROM json_each(%s) AS wanted
    JOIN sqlite_master AS found ON found.name = wanted.value AND found.type IN ('table', 'view')
    JOIN pragma_table_xinfo(found.name) AS info
"""


def check_schema(using: str, models: Sequence[type[Model]]) -> None:
    """Raise :class:`SchemaMismatch` that names the first missing table or column, and the migration to run."""
    columns = read_columns(using, [get_table(model) for model in models])
    for model in models:
        known = columns.get(get_table(model))
        if not known or not router.allow_migrate_model(using, model):
            raise SchemaMismatch(
                f"The database {using!r} has no table {model._meta.db_table!r} for {model._meta.label}. "
                f"{advise(using, model)}"
            )
        for field in model._meta.local_concrete_fields:
            if field.column is not None and field.column.lower() not in known:
                raise SchemaMismatch(
                    f"The table {model._meta.db_table!r} of the database {using!r} has no column {field.column!r} "
                    f"for {model._meta.label}.{field.name}. {advise(using, model)}"
                )


def read_columns(using: str, tables: Sequence[str]) -> dict[str, set[str]]:
    """By table, the names of its columns in small letters; tables that are missing are left out."""
    connection = connections[using]
    found: dict[str, set[str]] = {}
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(COLUMNS_SQL, [list(tables)])
        elif connection.vendor == "sqlite":
            cursor.execute(SQLITE_COLUMNS_SQL, [json.dumps(list(tables))])
        if connection.vendor in ("postgresql", "sqlite"):
            for table, column in cursor.fetchall():
                found.setdefault(table, set()).add(column)
            return found
        existing = {info.name for info in connection.introspection.get_table_list(cursor)}
        for table in existing.intersection(tables):
            described = connection.introspection.get_table_description(cursor, table)
            found[table] = {column.name.lower() for column in described}
    return found


def advise(using: str, model: type[Model]) -> str:
    """What to run so that the target has what is missing."""
    label = model._meta.app_label
    executor = MigrationExecutor(connections[using])
    targets = [key for key in executor.loader.graph.leaf_nodes() if key[0] == label]
    pending = [migration for migration, _ in executor.migration_plan(targets) if migration.app_label == label]
    if pending:
        return f"Run: manage.py migrate {label} {pending[-1].name} --database {using}"
    if not router.allow_migrate_model(using, model):
        return f"The database router does not allow it there; leave it out with --ignore {model._meta.label}."
    return (
        f"Its migrations are recorded as applied there, or the app has none: compare the schema, then run "
        f"manage.py migrate {label} --database {using}. What is no root can be left out: --ignore {model._meta.label}."
    )

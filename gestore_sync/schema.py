"""Whether the target has the tables and columns that a run needs."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model

from gestore_sync.exceptions import SchemaMismatch
from gestore_sync.refs import get_table


def check_schema(using: str, models: Iterable[type[Model]]) -> None:
    """Raise :class:`SchemaMismatch` that names the first missing table or column, and the migration to run."""
    connection = connections[using]
    with connection.cursor() as cursor:
        tables = {info.name for info in connection.introspection.get_table_list(cursor)}
        for model in models:
            table = get_table(model)
            if table not in tables or not router.allow_migrate_model(using, model):
                raise SchemaMismatch(
                    f"The target {using!r} has no table {model._meta.db_table!r} for {model._meta.label}. "
                    f"{advise(using, model)}"
                )
            described = connection.introspection.get_table_description(cursor, model._meta.db_table)
            columns = {column.name.lower() for column in described}
            for field in model._meta.local_concrete_fields:
                if field.column is not None and field.column.lower() not in columns:
                    raise SchemaMismatch(
                        f"The table {model._meta.db_table!r} of the target {using!r} has no column {field.column!r} "
                        f"for {model._meta.label}.{field.name}. {advise(using, model)}"
                    )


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
        f"manage.py migrate {label} --database {using}, or leave it out with --ignore {model._meta.label}."
    )

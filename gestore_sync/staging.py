"""A private database for what a bundle holds, so that it is walked, compared and planned like any other source.

Its tables have the columns of this project's models, no constraints, and live as long as the import: temporary tables
of a second connection on PostgreSQL, a temporary file on SQLite. The same kind of database as the target keeps every
value exactly as the target would.
"""

from __future__ import annotations

import copy
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.db.models import Field, Model
from django.db.models.fields.generated import GeneratedField
from django.db.utils import load_backend

from gestore_sync.adapters import load_adapters
from gestore_sync.exceptions import WrongDatabase
from gestore_sync.links import FOREIGN, LinkGraph
from gestore_sync.models import Origin
from gestore_sync.refs import get_key_columns

OURS = __name__.partition(".")[0]
VENDORS = ("postgresql", "sqlite")
_numbers = itertools.count(1)


@contextmanager
def stage(target: str, models: Sequence[type[Model]], origin: Any) -> Iterator[str]:
    """The alias of an empty database with tables for ``models`` and our own, and the identity ``origin``.

    Only this thread knows the connection; it is not among the databases of the settings.
    """
    vendor = connections[target].vendor
    if vendor not in VENDORS:
        raise WrongDatabase(f"Bundles can be imported into PostgreSQL and SQLite; {target!r} is {vendor}.")
    alias = f"{OURS}_staging_{next(_numbers)}"
    with ExitStack() as stack:
        config = copy.deepcopy(connections[target].settings_dict)
        if vendor == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gestore_sync_"))
            config["NAME"] = str(Path(folder) / "staging.sqlite3")
        config |= {"ATOMIC_REQUESTS": False, "AUTOCOMMIT": True}
        config["OPTIONS"].pop("pool", None)
        connections[alias] = load_backend(config["ENGINE"]).DatabaseWrapper(config, alias)
        stack.callback(forget, alias)
        if vendor == "sqlite":
            prepare_file(alias)
        with transaction.atomic(using=alias):
            if vendor == "postgresql":
                prefer_temporary_tables(alias)
            create_tables(alias, [*models, *apps.get_app_config(OURS).get_models()])
            Origin.objects.using(alias).bulk_create([Origin(uuid=origin, is_own=True)])
            yield alias
            transaction.set_rollback(True, using=alias)


def forget(alias: str) -> None:
    """Close the connection, and leave nothing of it behind."""
    connections[alias].close()
    del connections[alias]
    ContentType.objects._cache.pop(alias, None)  # type: ignore[attr-defined]


def prepare_file(alias: str) -> None:
    """What is in the file is needed once and by nobody else."""
    with connections[alias].cursor() as cursor:
        for pragma in ("foreign_keys = OFF", "journal_mode = MEMORY", "synchronous = OFF"):
            cursor.execute(f"PRAGMA {pragma}")


def prefer_temporary_tables(alias: str) -> None:
    """In this transaction temporary tables come before others of the same names."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT set_config('search_path', "
            "concat_ws(', ', 'pg_temp', nullif(current_setting('search_path'), '')), true)"
        )


def create_tables(alias: str, models: Iterable[type[Model]]) -> None:
    """Create the tables of ``models`` with their columns and nothing else; some models share a table."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    tables: dict[str, dict[str, str]] = {}
    for model in models:
        if '"."' in model._meta.db_table:
            raise WrongDatabase(
                f"The table of {model._meta.label} has a schema in its name, so that no other can stand in for it: "
                "nothing can be imported into this database."
            )
        columns = tables.setdefault(model._meta.db_table, {})
        for field in model._meta.local_concrete_fields:
            if field.column is not None:
                columns.setdefault(field.column, get_type(alias, field))
    kind = "TEMPORARY " if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        for table, columns in tables.items():
            listed = ", ".join(f"{quote(column)} {kind_of}" for column, kind_of in columns.items())
            cursor.execute(f"CREATE {kind}TABLE {quote(table)} ({listed})")


def get_type(alias: str, field: Any) -> str:
    """The type of a column. Automatic keys get room for those that are made of two others."""
    connection = connections[alias]
    parameters = field.db_parameters(connection)
    text = str(parameters["type"])
    if field.model._meta.auto_created and field.primary_key:
        text = "bigint"
    if parameters.get("collation"):
        text += f" COLLATE {connection.ops.quote_name(parameters['collation'])}"
    if isinstance(field, GeneratedField):
        editor: Any = connection.SchemaEditorClass(connection)
        sql, values = field.generated_sql(connection)
        text += f" GENERATED ALWAYS AS ({sql % tuple(map(editor.quote_value, values)) if values else sql}) STORED"
    return text


def add_indexes(alias: str, models: Sequence[type[Model]], graph: LinkGraph) -> None:
    """Index primary keys and what points to them, after the rows are there."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    number = itertools.count(1)
    with connection.cursor() as cursor:
        for model in models:
            columns = [get_key_columns(model)]
            columns += [link.attnames for link in graph.forward[model] if link.kind == FOREIGN]
            for names in dict.fromkeys(columns):
                fields: list[Field[Any, Any]] = [get_by_attname(model, name) for name in names]
                listed = ", ".join(quote(field.column or "") for field in fields)
                name = quote(f"gestore_sync_staging_{next(number)}")
                cursor.execute(f"CREATE INDEX {name} ON {quote(model._meta.db_table)} ({listed})")
            if connection.vendor == "postgresql":
                cursor.execute(f"ANALYZE {quote(model._meta.db_table)}")


def get_by_attname(model: type[Model], attname: str) -> Any:
    """The field whose column is called so."""
    return next(field for field in model._meta.local_concrete_fields if field.attname == attname)


def make_graph(alias: str, models: Sequence[type[Model]], *, skipping: bool) -> LinkGraph:
    """The graph of the staged models. ``skipping``: without links that do not travel."""
    return LinkGraph(alias, load_adapters(), models, skipping=skipping)

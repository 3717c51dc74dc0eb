"""Has PostgreSQL write the log entries of rows that are deleted, from the rows themselves: none of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections
from django.db.models import Model

from gestore_sync.captures import DELETE, Capture, is_plain, iter_captures
from gestore_sync.entrysql import (
    Tables,
    quote,
    read_deleted,
    render_deleted,
    render_key,
    split_deletion_fields,
)
from gestore_sync.fields import now
from gestore_sync.links import get_concrete
from gestore_sync.models import DELETION, PENDING, ChangeLog
from gestore_sync.reading import get_queryset, match_keys
from gestore_sync.recording import get_deletion_fields
from gestore_sync.refs import Key, get_field
from gestore_sync.triggers import read_tables
from gestore_sync.watching import find_watched

CHOSEN = "gestore_sync_chosen"
"""Stands for the condition in a statement that is being made."""


class DeletionStatement:
    """The statement that logs deleted rows of one model on one database, with the ``content_type`` of the entries.

    ``natural``: the fields whose values are the natural key, if it is kept.
    """

    def __init__(self, using: str, model: type[Model], tables: Tables, natural: Sequence[Any]) -> None:
        self._using = using
        self._model = model
        self._sql = self._render(tables, natural)

    def _render(self, tables: Tables, natural: Sequence[Any]) -> str:
        """The statement, which asks for the content type and the date; the condition is to be put in."""
        table = connections[self._using].ops.quote_name(self._model._meta.db_table)
        source = f"(SELECT * FROM {table} WHERE {CHOSEN})"
        rows = read_deleted(Capture(self._model, DELETE, self._model), tables, source)
        data = render_deleted(self._model, rows, tables)
        if natural:
            parts = ", ".join(f"coalesce({rows.tell(field, is_key=True)}, 'None')" for field in natural)
            data = f"{data} || jsonb_build_object('natural_key', jsonb_build_array({parts}))"
        key, data, found = (text.replace("%", "%%") for text in (render_key(self._model, rows), data, str(rows)))
        return f"""
            INSERT INTO {quote(ChangeLog._meta.db_table)}
                (content_type_id, object_id, date, action, data, origin, state)
            SELECT %s, {key}, %s, {DELETION}, {data}, NULL, {PENDING} FROM {found}
            """

    def run(self, keys: Sequence[Key], content_type: int) -> None:
        """Write the entries of the rows with these keys, which are still there."""
        connection: Any = connections[self._using]
        query: Any = get_queryset(self._model, self._using).filter(match_keys(self._model, keys)).query
        where, params = query.get_compiler(self._using).compile(query.where)
        date = get_field(ChangeLog, "date").get_db_prep_value(now(), connection)
        with connection.cursor() as cursor:
            cursor.execute(self._sql.replace(CHOSEN, where), [content_type, date, *params])


def make_statement(using: str, model: type[Model], natural: Sequence[Any]) -> DeletionStatement | None:
    """The statement for a model, where the database can tell what Python would; else None."""
    watched = find_watched()
    if connections[using].vendor != "postgresql" or watched is None or not any(iter_captures(model, watched)):
        return None
    fields = get_deletion_fields(model)
    if not all(map(is_plain, fields)):
        return None
    holders = {get_concrete(field.model) for field in fields}
    tables = read_tables(using, [model, *holders])
    if model not in tables:
        return None
    by_holder = split_deletion_fields(model, tables)
    is_whole = sum(map(len, by_holder.values())) == len(fields) and set(natural) <= set(by_holder[model])
    return DeletionStatement(using, model, tables, natural) if is_whole else None

"""How rows reach a table: in bulk, as tuples, past models and managers."""

from __future__ import annotations

from django.db import connections

from gestore_sync.writers.portable import Writer


def get_writer(using: str) -> Writer:
    """The fastest writer for the database."""
    if connections[using].vendor == "postgresql":
        from gestore_sync.writers.postgresql import PostgreSQLWriter

        return PostgreSQLWriter(using)
    return Writer(using)

from __future__ import annotations

from typing import Any

from django.db import connections


class PostgresOnlyRouter:
    """Makes the tables of the app ``pgkinds`` on PostgreSQL alone."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        if app_label == "pgkinds":
            return bool(connections[db].vendor == "postgresql")
        return None

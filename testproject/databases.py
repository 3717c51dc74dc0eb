"""The two databases of the test project: SQLite files, or databases of one PostgreSQL server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ALIASES = {"default": "local", "remote": "remote"}
DATA_FOLDER = Path(__file__).resolve().parent / "data"


def get_databases(environ: Mapping[str, str] = os.environ) -> dict[str, dict[str, Any]]:
    """Return Django's `DATABASES` for the environment given.

    `POSTGRES_URL` names a PostgreSQL server (a libpq URL; its database is not used); without it the databases
    are SQLite files in the folder `CAMPUS_DATA`. `CAMPUS_NAME` is the first part of their names.
    """
    name = environ.get("CAMPUS_NAME", "campus")
    url = environ.get("POSTGRES_URL")
    if url:
        return {alias: _postgres_database(url, f"{name}_{side}") for alias, side in ALIASES.items()}
    folder = get_data_folder(environ)
    folder.mkdir(parents=True, exist_ok=True)
    return {alias: _sqlite_database(folder / f"{name}_{side}.sqlite3") for alias, side in ALIASES.items()}


def get_data_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the SQLite files and of uploaded files: `CAMPUS_DATA`, or `testproject/data`."""
    return Path(environ.get("CAMPUS_DATA") or DATA_FOLDER)


def create_databases(url: str, names: list[str], *, anew: bool = False) -> None:
    """Create the databases `names` on the PostgreSQL server at `url` where they are missing.

    With `anew` those that exist are dropped first, so that all are empty.
    """
    with _server(url) as server:
        for name in names:
            if anew:
                _drop(server, name)
            if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                server.execute(_statement("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0", name))


def copy_database(url: str, name: str, to: str) -> None:
    """Make the database `to` a copy of the database `name` of the PostgreSQL server at `url`."""
    with _server(url) as server:
        _drop(server, to)
        server.execute(_statement("CREATE DATABASE {} TEMPLATE {}", to, name))


def drop_databases(url: str, names: list[str]) -> None:
    """Drop the databases `names` on the PostgreSQL server at `url`, also while somebody is connected."""
    with _server(url) as server:
        for name in names:
            _drop(server, name)


def _sqlite_database(path: Path) -> dict[str, Any]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": {"timeout": 30}}


def _postgres_database(url: str, name: str) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": parts.get("port", ""),
    }


@contextmanager
def _server(url: str) -> Iterator[Any]:
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    try:
        yield connection
    finally:
        connection.close()


def _drop(server: Any, name: str) -> None:
    server.execute(_statement("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))


def _statement(text: str, *names: str) -> Any:
    from psycopg import sql

    return sql.SQL(text).format(*map(sql.Identifier, names))

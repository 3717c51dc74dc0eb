"""The two databases of a sweep: kept as states that are put back in no time, and pictures of what is in them."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from django.apps import apps
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.query import QuerySet
from psycopg import sql

from gestore_sync.keytexts import dump_key, load_key
from gestore_sync.models import ChangeLog, IdMapping, Origin, Remote, SyncRun
from tests.crashes.settings import SIDES, VENDOR

APPS = ("logged", "policies")

Picture = dict[str, list[str]]


class Files:
    """Databases that are files of SQLite."""

    dsn = ""

    def create(self) -> None:
        """Nothing: SQLite makes the files."""

    def keep(self, state: str) -> None:
        """Remember what the databases hold now."""
        for side in SIDES:
            shutil.copyfile(self._find(side), f"{self._find(side)}.{state}")

    def read(self) -> str:
        """Return a text that is the same where the databases hold the same."""
        found = hashlib.sha256()
        for side in SIDES:
            with closing(sqlite3.connect(self._find(side))) as database:
                for line in database.iterdump():
                    found.update(line.encode())
        return found.hexdigest()

    def restore(self, state: str) -> None:
        """Let the databases hold what they held then."""
        for side in SIDES:
            Path(f"{self._find(side)}-journal").unlink(missing_ok=True)
            shutil.copyfile(f"{self._find(side)}.{state}", self._find(side))

    def drop(self) -> None:
        """Nothing: the folder goes with the test."""

    @staticmethod
    def _find(side: str) -> Path:
        return Path(settings.DATABASES[side]["NAME"])


KEEP = """
    DO $$ DECLARE name text; BEGIN
        DROP SCHEMA IF EXISTS {state} CASCADE;
        CREATE SCHEMA {state};
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('CREATE TABLE {state}.%I AS TABLE public.%I', name, name);
        END LOOP;
        CREATE TABLE {state}.all_sequences AS SELECT * FROM pg_sequences WHERE schemaname = 'public';
    END $$
"""
RESTORE = """
    DO $$ DECLARE name text; value bigint; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('DELETE FROM public.%I', name);
            EXECUTE format('INSERT INTO public.%I SELECT * FROM {state}.%I', name, name);
        END LOOP;
        FOR name, value IN SELECT sequencename, last_value FROM {state}.all_sequences LOOP
            PERFORM setval(format('public.%I', name), coalesce(value, 1), value IS NOT NULL);
        END LOOP;
    END $$
"""
TABLES = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
READ_TABLE = "SELECT '{name}' || string_agg(t::text, '' ORDER BY t::text) FROM public.{name} t"
READ_SEQUENCES = "SELECT string_agg(s::text, '' ORDER BY s::text) FROM pg_sequences s WHERE schemaname = 'public'"


class Server:
    """Databases of a PostgreSQL server; a state is a schema of its own."""

    def __init__(self) -> None:
        of = {**settings.DATABASES["default"], "NAME": "postgres"}
        parts = {"host": of["HOST"], "port": of["PORT"], "user": of["USER"], "password": of["PASSWORD"]}
        parts = {name: str(value) for name, value in parts.items() if value}
        self.dsn = psycopg.conninfo.make_conninfo(dbname=of["NAME"], **parts, **of["OPTIONS"])
        self._restored: tuple[str, str] | None = None

    def create(self) -> None:
        """Make empty databases."""
        for name in self._names():
            self._administer("CREATE DATABASE {} TEMPLATE template0", name)

    def keep(self, state: str) -> None:
        """Remember what the databases hold now."""
        for name in self._names():
            self._execute(name, KEEP.replace("{state}", f"state_{state}"))

    def read(self) -> str:
        """Return a text that is the same where the databases hold the same, sequences included."""
        found = []
        for name in self._names():
            tables = [READ_TABLE.replace("{name}", table) for (table,) in self._execute(name, TABLES)]
            found.append(sorted(map(str, self._execute(name, " UNION ALL ".join([*tables, READ_SEQUENCES])))))
        return hashlib.sha256(str(found).encode()).hexdigest()

    def restore(self, state: str) -> None:
        """Let the databases hold what they held then."""
        if self._restored is not None and self._restored == (state, self.read()):
            return
        for name in self._names():
            self._execute(name, RESTORE.replace("{state}", f"state_{state}"))
        self._restored = (state, self.read())

    def drop(self) -> None:
        """Drop all that was made."""
        for name in self._names():
            self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    @staticmethod
    def _names() -> list[str]:
        return [str(settings.DATABASES[side]["NAME"]) for side in SIDES]

    def _execute(self, name: str, statement: Any) -> list[Any]:
        with psycopg.connect(psycopg.conninfo.make_conninfo(self.dsn, dbname=name)) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _administer(self, statement: Any, name: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def get_keeper() -> Files | Server:
    """Return what keeps the states of the databases."""
    return Files() if VENDOR == "sqlite" else Server()


class Camera:
    """Takes a picture of a database: every row, with each generated key told by its place among the keys.

    Sequences go on where a run was killed, so that the keys themselves are others than without it. What cannot be the
    same is left out: identities of runs and of databases, moments, and the source's records for people to look at.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self._places: dict[type[models.Model], dict[Any, int]] = {}

    def take(self) -> Picture:
        """Return the rows by table."""
        found = {
            model._meta.label: [*map(str, self._iter_rows(model))] for label in APPS for model in find_models(label)
        }
        found["mappings"] = [str(row) for row, _ in self._iter_mappings()]
        found["serials"] = [str((row, serial)) for row, serial in self._iter_mappings()]
        found["log"] = [str(row) for row in self._iter_entries()]
        found["runs"] = [str(row) for row in self._iter_runs()]
        found["remotes"] = [str(row) for row in self._iter_remotes()]
        found["origins"] = [str(row.is_own) for row in self._read(Origin)]
        return {name: sorted(rows) for name, rows in found.items() if rows}

    def _read(self, model: type[models.Model]) -> QuerySet[Any]:
        return QuerySet(model, using=self.using)

    def place(self, model: type[models.Model], key: Any) -> Any:
        """Return which of the model's rows it is, counted; the key itself where there is no such row."""
        model = find_origin(model)
        if model not in self._places:
            keys = self._read(model).order_by("pk").values_list("pk", flat=True)
            self._places[model] = {pk: number for number, pk in enumerate(keys)}
        places = self._places[model]
        return f"no. {places[key]}" if key in places else key

    def _iter_rows(self, model: type[models.Model]) -> Iterator[tuple[Any, ...]]:
        fields = model._meta.local_concrete_fields
        for row in self._read(model).values(*(field.attname for field in fields)):
            values = {field.attname: self._describe(field, row[field.attname]) for field in fields}
            if "content_type_id" in values:
                kind = ContentType.objects.db_manager(self.using).get_for_id(row["content_type_id"])
                values["object_id"] = self._describe_object(kind, row["object_id"])
            yield tuple(values.items())

    def _describe(self, field: models.Field[Any, Any], value: Any) -> Any:
        if field.related_model is ContentType:
            return ContentType.objects.db_manager(self.using).get_for_id(value).natural_key()
        to_key = field.is_relation and field.target_field.primary_key
        model = field.related_model if to_key else field.model
        if value is None or isinstance(model, str) or not (to_key or isinstance(field, models.AutoField)):
            return value
        return self.place(model, value)

    def _describe_object(self, kind: ContentType, key: Any) -> Any:
        model = kind.model_class()
        assert model is not None
        return kind.natural_key(), self.place(model, load_key(model, dump_key(model._meta.pk.to_python(key))))

    def _iter_mappings(self) -> Iterator[tuple[tuple[Any, ...], int]]:
        for row in self._read(IdMapping).select_related("origin"):
            model = apps.get_model(row.model)
            source, target = load_key(model, row.source_pk), load_key(model, row.target_pk)
            target = target if row.remote else self.place(model, target)
            # Links are in digests, so that these are others where the keys are.
            digests = bytes(row.digests).hex() if VENDOR == "sqlite" else len(row.digests)
            said = row.origin.is_own, row.remote, row.model, source, target, row.created, digests, row.moved
            yield said, row.serial

    def _iter_entries(self) -> Iterator[tuple[Any, ...]]:
        for row in self._read(ChangeLog):
            kind = ContentType.objects.db_manager(self.using).get_for_id(row.content_type_id)
            yield self._describe_object(kind, row.object_id), row.action, row.state, row.origin is None

    def _iter_runs(self) -> Iterator[tuple[Any, ...]]:
        for row in self._read(SyncRun).filter(origin__is_own=False):
            yield row.remote, row.roots, sorted(row.counts.items()), row.of_log, row.entries, row.problems, row.error

    def _iter_remotes(self) -> Iterator[tuple[Any, ...]]:
        for row in self._read(Remote):
            there = QuerySet(SyncRun, using=row.alias).filter(of_log=True).order_by("-pk").first()
            same = there.uuid == row.last_run if there else row.last_run is None
            yield row.alias, row.origin is None, row.is_known, row.open_run is None, same


def find_models(label: str) -> list[type[models.Model]]:
    """Return the models of an app that have tables."""
    found = apps.get_app_config(label).get_models(include_auto_created=True)
    return [model for model in found if not model._meta.proxy]


def find_origin(model: type[models.Model]) -> type[models.Model]:
    """Return the model whose keys the keys of a model are: the first parent of a row in several tables."""
    model = model._meta.concrete_model or model
    key = model._meta.pk
    while key.is_relation and key.target_field.primary_key:
        model = key.related_model  # type: ignore[assignment]
        key = model._meta.pk
    return model

"""Pushes whose report is compared with what has happened, and databases that refuse to be written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.core.management.color import no_style
from django.db import connections, models, transaction
from django.db.models.query import QuerySet
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import DATABASES, Pair
from tests.kinds.pushing import Content, content, forget_caches, is_part, models_on, rows

APPS = ("policies", "campus", "auth", "contenttypes", "sites")

READS = re.compile(r"(SELECT|SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT|PRAGMA|SET TRANSACTION|DECLARE|WITH)\b")
HIDDEN_WRITES = re.compile(r"\b(nextval|setval|for update|for share|insert|update|delete)\b", re.IGNORECASE)
PRAGMAS = re.compile(r"PRAGMA (table_info|table_xinfo|index_list|foreign_key_list|foreign_key_check)\b")


def pairings(*names: str, live: bool = False) -> list[Any]:
    """Return parameters for the fixture ``pair``: only these pairings, with real commits or without."""
    sides = {"sqlite": ("default", "remote"), "postgresql": ("pg_local", "pg_remote")}
    marks = pytest.mark.django_db(databases=DATABASES, transaction=live)
    found = []
    for name in names:
        source, target = name.split("-")
        pair = Pair(sides[source][0], sides[target][1])
        found.append(pytest.param(pair, id=name, marks=marks))
    return found


def paired(*names: str) -> Any:
    """Return a fixture ``pair`` with only these pairings, for a module to have under that name."""

    @pytest.fixture(name="pair", params=pairings(*names))
    def pair(request: pytest.FixtureRequest) -> Pair:
        return request.param

    return pair


CROSSED = ("sqlite-postgresql", "postgresql-sqlite")


class Watch:
    """Pushes from one database to another; the report of each is compared with the rows of the target."""

    def __init__(self, pair: Pair, *labels: str) -> None:
        self.labels = labels or APPS
        self.ours: tuple[str, ...] = ("gestore_sync",)
        self.source = pair.source
        self.target = pair.target
        for using in DATABASES:
            restart_numbers(using, self.labels)
        forget_caches()

    def push(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Push; the report's counts are those of the rows that came, changed and went."""
        before = self.picture()
        report = self.synchronize(*roots, **options)
        connections[self.target].check_constraints()
        told, done = counts_of(report), count_changes(before, self.picture())
        assert told == done, f"the report says {told}, the rows say {done}"
        return report

    def synchronize(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Push without any check."""
        return api.synchronize(list(roots), source=self.source, remote=self.target, **options)

    def refuse(self, *roots: models.Model | str, **options: Any) -> GestoreSyncError:
        """Push, which must fail and leave the target as it was; return the error."""
        before = self.picture()
        with pytest.raises(GestoreSyncError) as caught:
            self.synchronize(*roots, **options)
        changes = describe_changes(before, self.picture())
        assert not changes, f"the push has failed and yet the target has changed: {changes}"
        return caught.value

    def push_nothing(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Push to a target that refuses every write; the report says that nothing is to do."""
        with CaptureQueriesContext(connections[self.target]) as queries, read_only(self.target):
            report = self.synchronize(*roots, **options)
        assert not unread(queries), f"more than reads: {unread(queries)}"
        assert report.message == "No changes since last synchronization."
        done = {"created": report.created, "updated": report.updated, "deleted": report.deleted}
        assert not any(done.values()), f"the report says {done}"
        return report

    def picture(self) -> Content:
        """Return every row of the target, our own tables included."""
        return content(self.target, (*self.labels, *self.ours))

    def on_target(self, model: type[models.Model]) -> QuerySet[Any]:
        """Return all rows that the target has of a model."""
        return rows(model, self.target)

    def on_source(self, model: type[models.Model]) -> QuerySet[Any]:
        """Return all rows that the source has of a model."""
        return rows(model, self.source)


@contextmanager
def watched(pair: Pair, *labels: str) -> Iterator[Watch]:
    """Yield a Watch; no content type that is read meanwhile outlives the block in Django's cache."""
    try:
        yield Watch(pair, *labels)
    finally:
        forget_caches()


def counts_of(report: api.Report) -> dict[str, dict[str, int]]:
    """Return what a report says of rows that came, changed and went; objects in several tables are left out."""
    return {
        what: {label: number for label, number in getattr(report, what).items() if not is_part(apps.get_model(label))}
        for what in ("created", "updated", "deleted")
    }


def count_changes(before: Content, after: Content) -> dict[str, dict[str, int]]:
    """Return how many rows of each model came, changed and went."""
    found: dict[str, dict[str, int]] = {"created": {}, "updated": {}, "deleted": {}}
    for model, old in before.items():
        if model._meta.app_label == "gestore_sync" or is_part(model):
            continue
        new = after[model]
        numbers = {
            "created": len(new.keys() - old.keys()),
            "updated": sum(old[pk] != new[pk] for pk in old.keys() & new.keys()),
            "deleted": len(old.keys() - new.keys()),
        }
        for what, number in numbers.items():
            if number:
                found[what][model._meta.label] = number
    return found


def describe_changes(before: Content, after: Content) -> dict[str, list[tuple[Any, Any, Any]]]:
    """Return which rows differ, as ``(pk, before, after)`` by model."""
    found: dict[str, list[tuple[Any, Any, Any]]] = {}
    for model, old in before.items():
        new = after[model]
        for pk in sorted(old.keys() | new.keys(), key=str):
            if old.get(pk) != new.get(pk):
                found.setdefault(model._meta.label, []).append((pk, old.get(pk), new.get(pk)))
    return found


@contextmanager
def read_only(using: str) -> Iterator[None]:
    """Let the database itself refuse whatever is written in the block, numbers of sequences included."""
    connection = connections[using]
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = ON")
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA query_only = OFF")
        return
    with transaction.atomic(using=using):
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        yield
        transaction.set_rollback(True, using=using)


def unread(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements that do more than read."""
    statements = [query["sql"].strip() for query in queries]
    ours = ("PRAGMA query_only", "SET TRANSACTION READ ONLY")
    return [sql for sql in statements if not sql.startswith(ours) and not is_read(sql)]


def is_read(sql: str) -> bool:
    """Say whether a statement only reads, or begins or ends a transaction."""
    if sql.startswith("PRAGMA"):
        return bool(PRAGMAS.match(sql))
    if not READS.match(sql):
        return False
    return not HIDDEN_WRITES.search(re.sub(r"'[^']*'|\"[^\"]*\"", "", sql))


def restart_numbers(using: str, labels: tuple[str, ...]) -> None:
    """Let automatic primary keys begin at 1 on PostgreSQL, as they do on SQLite, so that they clash."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models_on(using, labels)):
            cursor.execute(statement)


def execute(using: str, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements; return the rows of the last one."""
    with connections[using].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def refuse_text(using: str, table: str, column: str, text: str) -> None:
    """Give a table of this database a rule of its own: no row with this text."""
    if connections[using].vendor == "postgresql":
        execute(using, f"ALTER TABLE {table} ADD CONSTRAINT no_such_text CHECK ({column} <> '{text}')")
        return
    for event in ("INSERT", "UPDATE"):
        execute(
            using,
            f"CREATE TRIGGER no_such_text_{event} BEFORE {event} ON {table} WHEN NEW.{column} = '{text}' "
            "BEGIN SELECT RAISE(ABORT, 'no_such_text'); END",
        )

"""Two sites with the models of this app: what each logs, and runs between them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from django.apps import apps
from django.db import connections, models, transaction
from django.db.models.query import QuerySet
from django.db.models.signals import post_migrate
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gestore_sync import api
from gestore_sync.models import ChangeLog, Delivery
from tests.conftest import DATABASES, Pair
from tests.kinds.pushing import forget_caches, rows
from tests.policies.watching import execute, restart_numbers, unread

M = TypeVar("M", bound=models.Model)
T = TypeVar("T")

NO_CHANGES = "No changes since last synchronization."
DONE = "Synchronization performed successfully."
LONG_AGO = dt.datetime(2001, 2, 3, 4, 5, 6, tzinfo=dt.UTC)

ONE_DATABASE = [
    pytest.param(alias, marks=pytest.mark.django_db(databases=DATABASES), id=vendor)
    for alias, vendor in (("default", "sqlite"), ("pg_local", "postgresql"))
]


LIVE = [
    pytest.param(
        Pair("pg_local", "pg_remote"),
        marks=pytest.mark.django_db(databases=["default", "pg_local", "pg_remote"], transaction=True),
        id="postgresql-postgresql",
    )
]
"""A pair of databases to which several processes and threads connect, and no other database."""


class Sites:
    """Two sites: ``local`` sends, ``remote`` receives."""

    def __init__(self, local: str, remote: str) -> None:
        self.local = local
        self.remote = remote

    @property
    def back(self) -> Sites:
        """The same sites, the other way round."""
        return Sites(self.remote, self.local)

    def send(self, *roots: Any, **options: Any) -> api.Report:
        """Synchronize."""
        return api.synchronize(list(roots), source=self.local, remote=self.remote, **options)

    def send_nothing(self, **options: Any) -> api.Report:
        """Synchronize with a remote that refuses every write; there is nothing to do, and the report says so."""
        with CaptureQueriesContext(connections[self.remote]) as queries, read_only(self.remote):
            report = self.send(**options)
        assert report.message == NO_CHANGES
        assert not unread(queries), f"more than reads: {unread(queries)}"
        assert written(report) == {}
        return report

    def here(self, model: type[M]) -> QuerySet[M]:
        """All rows that the local site has of a model."""
        return rows(model, self.local)

    def there(self, model: type[M]) -> QuerySet[M]:
        """All rows that the remote site has of a model."""
        return rows(model, self.remote)

    def arrived(self, model: type[models.Model], *names: str) -> list[Any]:
        """These values of every row that the remote site has of a model, sorted."""
        return sorted(self.there(model).values_list(*names, flat=len(names) == 1))

    def get_pending(self) -> dict[str, int]:
        """What the local site has yet to send, by model."""
        return get_pending(self.local, self.remote)


@contextmanager
def undone(using: str) -> Iterator[None]:
    """Undo what the block writes, within the transaction of a test, without a block of ``atomic``."""
    point = connections[using].savepoint()
    try:
        yield
    finally:
        transaction.set_rollback(False, using=using)
        connections[using].savepoint_rollback(point)


@contextmanager
def read_only(using: str) -> Iterator[None]:
    """Let the database itself refuse whatever is written in the block, within the transaction of a test."""
    if connections[using].vendor == "sqlite":
        execute(using, "PRAGMA query_only = ON")
        try:
            yield
        finally:
            execute(using, "PRAGMA query_only = OFF")
        return
    with undone(using):
        execute(using, "SET TRANSACTION READ ONLY")
        yield


def get_pending(source: str, remote: str | None = None) -> dict[str, int]:
    """What a site has yet to send, by model."""
    return {label: number for label, number in api.get_overview(source, remote).pending.items() if number}


@contextmanager
def ready(pair: Pair) -> Iterator[Sites]:
    """Yield two sites; automatic primary keys begin at 1 on both, so that they clash."""
    for using in (pair.source, pair.target):
        restart_numbers(using, ("logged",))
    forget_caches()
    try:
        yield Sites(pair.source, pair.target)
    finally:
        forget_caches()


def add(model: type[M], using: str, **values: Any) -> M:
    """Save a new object, as an application does."""
    instance = model(**values)
    instance.save(using=using)
    return instance


def change(instance: M, **values: Any) -> M:
    """Change an object and save it, as an application does."""
    for name, value in values.items():
        setattr(instance, name, value)
    instance.save()
    return instance


def read_log(using: str, *labels: str) -> list[tuple[str, str, int]]:
    """``(app.Model, primary key, action)`` of each entry of the change log, the oldest first."""
    entries = ChangeLog.objects.using(using).order_by("pk")
    found = [(label_of(entry), entry.object_id, entry.action) for entry in entries]
    return [entry for entry in found if not labels or entry[0] in labels]


def label_of(entry: ChangeLog) -> str:
    """The label of the model that an entry is about."""
    model: Any = entry.content_type.model_class()
    return str(model._meta.concrete_model._meta.label)


def forget_log(using: str) -> None:
    """Empty the change log of a database."""
    rows(Delivery, using).delete()
    rows(ChangeLog, using).delete()


def drop_our_tables(using: str) -> None:
    """Let a database have no tables of gestore_sync until the test ends."""
    there = connections[using].introspection.table_names()
    ours = [model for model in apps.get_app_config("gestore_sync").get_models() if model._meta.db_table in there]
    cascade = " CASCADE" if connections[using].vendor == "postgresql" else ""
    for model in reversed(ours):
        rows(model, using)._raw_delete(using)
    connections[using].check_constraints()
    for model in reversed(ours):
        execute(using, f"DROP TABLE {model._meta.db_table}{cascade}")
    emit_migrated(using)


def make_our_tables(using: str) -> None:
    """Let a database have the tables of gestore_sync, as ``migrate`` makes them."""
    there = connections[using].introspection.table_names()
    with connections[using].schema_editor() as editor:
        for model in apps.get_app_config("gestore_sync").get_models():
            if model._meta.db_table not in there:
                editor.create_model(model)
    emit_migrated(using)


def emit_migrated(using: str) -> None:
    """Say that the tables of gestore_sync have changed, as ``migrate`` does."""
    config = apps.get_app_config("gestore_sync")
    post_migrate.send(
        config, app_config=config, verbosity=0, interactive=False, using=using, apps=apps, plan=[], stdout=None
    )


def in_thread(act: Callable[[], T]) -> T:
    """Do something in another thread, with connections of its own."""
    with Started(act) as started:
        return started.result()


class Started:
    """Something that is done in another thread, with connections of its own."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(self._run, act)

    @staticmethod
    def _run(act: Callable[[], Any]) -> Any:
        try:
            return act()
        finally:
            connections.close_all()

    def result(self) -> Any:
        """Wait for the end; return what came of it, or raise what was raised."""
        return self._future.result(60)

    def wait(self, seconds: float) -> None:
        """Wait for the end, but not longer than this."""
        wait([self._future], seconds)

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()


def date_log(using: str, when: dt.datetime, **which: Any) -> None:
    """Let entries of the change log look as if they had been written at this moment."""
    assert ChangeLog.objects.using(using).filter(**which).update(date=when)


def ago(**time: float) -> dt.datetime:
    """A moment so long ago."""
    return dt.datetime.now(tz=timezone.get_default_timezone()) - dt.timedelta(**time)


def written(report: api.Report) -> dict[str, dict[str, int]]:
    """What a report says was written, by kind."""
    counts = {what: dict(getattr(report, what)) for what in ("created", "updated", "deleted")}
    counts = {what: {label: n for label, n in of.items() if n} for what, of in counts.items()}
    return {what: of for what, of in counts.items() if of}


@contextmanager
def receiving(signal: Signal, handler: Callable[..., None], *senders: type[models.Model]) -> Iterator[None]:
    """Connect a handler of signals for the time of the block."""
    for sender in senders:
        signal.connect(handler, sender=sender, weak=False)
    try:
        yield
    finally:
        for sender in senders:
            signal.disconnect(handler, sender=sender)

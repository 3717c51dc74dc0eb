"""Pushes that are watched: what a report says is what has happened on the target, and nothing else has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.core.management.color import no_style
from django.db import connections, models, router, transaction
from django.db.models.fields.files import FieldFile
from django.db.models.query import QuerySet
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from tests.conftest import Pair

Rows = dict[Any, tuple[Any, ...]]
Content = dict[type[models.Model], Rows]

APPS = ("kinds", "pgkinds", "schemas", "auth", "contenttypes", "sites", "gestore_sync")
OURS = ("kinds", "pgkinds", "schemas", "auth", "contenttypes", "sites")
PLAIN = (str, int, bool, type(None))
WRITES = ("INSERT", "UPDATE", "DELETE", "COPY", "TRUNCATE")


def rows(model: type[models.Model], using: str) -> QuerySet[Any]:
    """Return all rows of a model, whatever its managers think of them."""
    return QuerySet(model, using=using)


def models_on(using: str, labels: tuple[str, ...] = APPS) -> list[type[models.Model]]:
    """Return every model with a table of its own on a database, automatic many-to-many tables included."""
    return [
        model
        for label in labels
        for model in apps.get_app_config(label).get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and router.allow_migrate_model(using, model)
    ]


def content(using: str, labels: tuple[str, ...] = APPS) -> Content:
    """Return every row of every table, by model and primary key."""
    tables = models_on(using, labels)
    found: Content = {model: {} for model in tables}
    for model in find_filled(using, tables):
        fields = model._meta.local_concrete_fields
        nulls = [is_null(field.attname) for field in fields if isinstance(field, models.JSONField)]
        names = [field.attname for field in fields]
        places = [names.index(name) for name in key_columns(model)]
        values = rows(model, using).values_list(*names, *nulls)
        found[model] = {take_key(row, places): tuple(map(exact, row)) for row in values}
    return found


def key_columns(model: type[models.Model]) -> list[str]:
    """Return the columns of a model's primary key; Django's ``pk`` may leave their values as the database has them."""
    return [field.attname for field in getattr(model._meta.pk, "fields", [model._meta.pk])]


def take_key(row: tuple[Any, ...], places: list[int]) -> Any:
    """Return the primary key in a row."""
    return row[places[0]] if len(places) == 1 else tuple(row[place] for place in places)


def find_filled(using: str, tables: list[type[models.Model]]) -> list[type[models.Model]]:
    """Return the models that have rows, by one query."""
    connection = connections[using]
    names = [connection.ops.quote_name(model._meta.db_table) for model in tables]
    parts = [f"SELECT {number} WHERE EXISTS (SELECT 1 FROM {name})" for number, name in enumerate(names)]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts))
        return [tables[number] for (number,) in cursor.fetchall()]


def is_null(name: str) -> models.ExpressionWrapper:
    """Return an expression that keeps SQL's null apart from JSON's."""
    return models.ExpressionWrapper(models.Q(**{f"{name}__isnull": True}), models.BooleanField())


def exact(value: Any) -> Any:
    """Return a value that is equal to another only where type, sign and digits are those of the other."""
    if type(value) in PLAIN:
        return (type(value), value)
    if isinstance(value, memoryview):
        return ("bytes", bytes(value))
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    if isinstance(value, FieldFile):
        return ("file", value.name)
    if isinstance(value, float):
        return ("float", value.hex())
    if isinstance(value, Decimal):
        return ("decimal", str(value))
    if isinstance(value, dt.datetime):
        return ("datetime", value.astimezone(dt.UTC).isoformat())
    return (type(value), value)


def is_part(model: type[models.Model]) -> bool:
    """Say whether a model's objects are spread over several tables."""
    children = [link for link in model._meta.related_objects if getattr(link, "parent_link", False)]
    return bool(model._meta.parents or children)


@contextmanager
def rolled_back(*aliases: str) -> Iterator[None]:
    """Undo what the block writes on these databases."""
    with transaction.atomic(using=aliases[0]):
        if len(aliases) > 1:
            with rolled_back(*aliases[1:]):
                yield
        else:
            yield
        transaction.set_rollback(True, using=aliases[0])


class Sync:
    """Pushes from one database to another.

    Every push is checked: the report's counts are those of the rows that came, changed and went, and no row
    that was on the target before the first push has changed, unless the test said so with ``expect_change``.
    """

    def __init__(self, pair: Pair) -> None:
        self.source = pair.source
        self.target = pair.target
        self.untouchable: Content | None = None
        self.expected: set[tuple[type[models.Model], Any]] = set()
        for using in (self.source, self.target):
            restart_numbers(using)
        forget_caches()

    def expect_change(self, *objects: models.Model) -> None:
        """Say that pushes may change these objects of the target, which were there before."""
        for instance in objects:
            for model in (type(instance), *instance._meta.get_parent_list()):
                concrete = model._meta.concrete_model
                self.expected.add((concrete, concrete._meta.pk.value_from_object(instance)))

    def push(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Push, check what holds after every push, and return the report."""
        before = content(self.target)
        if self.untouchable is None:
            self.untouchable = {model: before[model] for model in models_on(self.target, OURS)}
        report = self.synchronize(*roots, **options)
        connections[self.target].check_constraints()
        after = content(self.target)
        self.check_counts(before, after, report)
        self.check_untouched(after)
        return report

    def synchronize(self, *roots: models.Model | str, **options: Any) -> api.Report:
        """Push without any check."""
        return api.synchronize(list(roots), source=self.source, remote=self.target, **options)

    def check_counts(self, before: Content, after: Content, report: api.Report) -> None:
        """Check that the report names the rows that came, changed and went, and no others."""
        counts: dict[str, dict[str, int]] = {"created": {}, "updated": {}, "deleted": {}}
        for model in models_on(self.target, OURS):
            old, new = before[model], after[model]
            numbers = {
                "created": len(new.keys() - old.keys()),
                "updated": sum(old[pk] != new[pk] for pk in old.keys() & new.keys()),
                "deleted": len(old.keys() - new.keys()),
            }
            if is_part(model):
                continue
            for what, number in numbers.items():
                if number:
                    counts[what][model._meta.label] = number
        for what, expected in counts.items():
            told = getattr(report, what)
            told = {label: n for label, n in told.items() if not is_part(apps.get_model(label))}
            assert told == expected, f"{what}: the report says {told}, the rows say {expected}"

    def check_untouched(self, after: Content) -> None:
        """Check that the rows that were there before the first push are as they were."""
        assert self.untouchable is not None
        for model, old in self.untouchable.items():
            for pk, row in old.items():
                if (model, pk) not in self.expected:
                    assert after[model].get(pk) == row, f"{model._meta.label} {pk} was touched"

    def assert_nothing_to_do(self, *roots: models.Model | str, **options: Any) -> None:
        """Push once more: the report says that nothing was done, and the target took no write of any kind."""
        before = content(self.target)
        with CaptureQueriesContext(connections[self.target]) as queries:
            report = self.synchronize(*roots, **options)
        done = {"created": report.created, "updated": report.updated, "deleted": report.deleted}
        assert not any(done.values()), f"the second push says {done}"
        assert content(self.target) == before, "the second push has changed rows"
        assert not writes_in(queries), f"the second push has written: {writes_in(queries)}"

    def on_target(self, model: type[models.Model]) -> QuerySet[Any]:
        """Return all rows that the target has of a model."""
        return rows(model, self.target)

    def on_source(self, model: type[models.Model]) -> QuerySet[Any]:
        """Return all rows that the source has of a model."""
        return rows(model, self.source)


def writes_in(queries: CaptureQueriesContext) -> list[str]:
    """Return the statements that write."""
    return [query["sql"] for query in queries if query["sql"].lstrip("( ").upper().startswith(WRITES)]


def restart_numbers(using: str) -> None:
    """Let automatic primary keys begin at 1 on PostgreSQL, as they do on SQLite, so that they clash."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models_on(using)):
            cursor.execute(statement)


def forget_caches() -> None:
    """Forget the content types and sites that Django has read."""
    ContentType.objects.clear_cache()
    Site.objects.clear_cache()


@contextmanager
def watched(pair: Pair) -> Iterator[Sync]:
    """Yield a Sync; no content type that is read meanwhile outlives the block in Django's cache."""
    try:
        yield Sync(pair)
    finally:
        forget_caches()

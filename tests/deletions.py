"""Deletions whose report is compared with what has happened to the rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, models
from django.db.models.query import QuerySet

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from tests.conftest import DATABASES
from tests.kinds.pushing import Content, content, forget_caches, restart_numbers, rows

APPS = ("kinds", "pgkinds", "policies", "logged", "trees", "auth", "contenttypes", "sites")

DELETED = "Objects successfully deleted!"


def on_each(*aliases: str, live: bool = False) -> list[Any]:
    """Parameters for a fixture: these databases, with real commits or without."""
    marks = pytest.mark.django_db(databases=DATABASES, transaction=live)
    names = {"default": "sqlite", "pg_local": "postgresql"}
    return [pytest.param(alias, id=names[alias], marks=marks) for alias in aliases or names]


class Ground:
    """A database on which objects are deleted.

    Every deletion is checked: the rows that went are those that the report counts, and so are those that changed.
    """

    def __init__(self, using: str, *labels: str) -> None:
        self.using = using
        self.labels = labels or APPS
        restart_numbers(using)
        forget_caches()

    def rows(self, model: type[models.Model]) -> QuerySet[Any]:
        """All rows of a model."""
        return rows(model, self.using)

    def picture(self) -> Content:
        """Every row, by model and key; our own tables left out."""
        return content(self.using, self.labels)

    def delete(self, *objects: models.Model | str, **options: Any) -> api.Report:
        """Delete; nothing is counted that did not happen, and nothing happens that is not counted."""
        before = self.picture()
        planned = api.delete_objects(list(objects), database=self.using, debug=True, **options)
        assert self.picture() == before
        report = api.delete_objects(list(objects), database=self.using, **options)
        connections[self.using].check_constraints()
        after = self.picture()
        gone, changed = count_differences(before, after)
        assert dict(report.deleted) == gone
        assert dict(report.updated) == changed
        assert (planned.deleted, planned.updated) == (report.deleted, report.updated)
        assert planned.mentions == report.mentions
        assert report.message == DELETED
        return report

    def refuse(self, *objects: models.Model | str, **options: Any) -> GestoreSyncError:
        """Delete, which must fail and leave everything as it was; return the error."""
        before = self.picture()
        with pytest.raises(GestoreSyncError) as caught:
            api.delete_objects(list(objects), database=self.using, **options)
        assert self.picture() == before
        return caught.value


def count_differences(before: Content, after: Content) -> tuple[dict[str, int], dict[str, int]]:
    """How many rows of each model are gone, and how many have changed; a new one is an AssertionError."""
    gone: dict[str, int] = {}
    changed: dict[str, int] = {}
    for model, old in before.items():
        new = after[model]
        assert not new.keys() - old.keys(), f"{model._meta.label} has got new rows"
        numbers = len(old.keys() - new.keys()), sum(old[pk] != new[pk] for pk in old.keys() & new.keys())
        for number, found in zip(numbers, (gone, changed), strict=True):
            if number:
                found[model._meta.label] = number
    return gone, changed


@contextmanager
def standing_on(using: str, *labels: str) -> Iterator[Ground]:
    """Yield a ground; no content type that is read meanwhile outlives the block in Django's cache."""
    try:
        yield Ground(using, *labels)
    finally:
        forget_caches()

"""Docks whose links say in Python what becomes of them, and others where the database itself does it (Django 6.1)."""

from __future__ import annotations

from typing import Any

from django.db import models


class Yard(models.Model):
    """The root of both."""

    name = models.CharField(max_length=50)


class Dock(models.Model):
    """Belongs to a yard."""

    yard = models.ForeignKey(Yard, on_delete=models.CASCADE)


class Crane(models.Model):
    """Belongs to a dock."""

    dock = models.ForeignKey(Dock, on_delete=models.CASCADE)


class Memo(models.Model):
    """Outlives its dock, without one."""

    dock = models.ForeignKey(Dock, on_delete=models.SET_NULL, null=True)


class Sign(models.Model):
    """Outlives its dock, and goes to that with the number 999."""

    dock = models.ForeignKey(Dock, on_delete=models.SET_DEFAULT, db_default=999)

    @classmethod
    def check(cls, **kwargs: Any) -> list[Any]:
        """Find nothing: some versions of Django want a default beside the database's."""
        return []


KINDS: list[tuple[Any, ...]] = [(Dock, Crane, Memo, Sign)]

if hasattr(models, "DB_CASCADE"):

    class DbDock(models.Model):
        yard = models.ForeignKey(Yard, on_delete=models.DB_CASCADE)

    class DbCrane(models.Model):
        dock = models.ForeignKey(DbDock, on_delete=models.DB_CASCADE)

    class DbMemo(models.Model):
        dock = models.ForeignKey(DbDock, on_delete=models.DB_SET_NULL, null=True)

    class DbSign(models.Model):
        dock = models.ForeignKey(DbDock, on_delete=models.DB_SET_DEFAULT, default=998, db_default=999)

    KINDS.append((DbDock, DbCrane, DbMemo, DbSign))

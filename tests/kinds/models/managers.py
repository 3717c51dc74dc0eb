"""Managers that hide or refuse, unmanaged models, and models with no column but their key."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from tests.kinds.models.links import Shop


class ScopeError(Exception):
    """Raised by a manager that is used outside of a scope."""


class LiveManager(models.Manager):
    """Hides what is marked as deleted."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Return the rows that are not marked as deleted."""
        return super().get_queryset().filter(deleted=False)


class ScopedManager(models.Manager):
    """Refuses every query, as a manager of tenants does outside of a tenant."""

    def get_queryset(self) -> models.QuerySet[Any]:
        """Raise ScopeError."""
        raise ScopeError(f"A scope is required to query {self.model.__name__}.")


class Folder(models.Model):
    """Its default manager hides rows."""

    code = models.CharField(max_length=50, unique=True)
    deleted = models.BooleanField(default=False)

    objects = LiveManager()
    everything = models.Manager()


class Letter(models.Model):
    """Belongs to a folder; its default manager hides rows."""

    folder = models.ForeignKey(Folder, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)
    deleted = models.BooleanField(default=False)
    copies = models.ManyToManyField(Folder, related_name="copied")

    objects = LiveManager()
    everything = models.Manager()


class Memo(models.Model):
    """Its base manager hides rows too."""

    folder = models.ForeignKey(Folder, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)
    deleted = models.BooleanField(default=False)

    objects = LiveManager()
    everything = models.Manager()

    class Meta:
        base_manager_name = "objects"


class Document(models.Model):
    """Its default manager refuses to work."""

    code = models.CharField(max_length=50)

    objects = ScopedManager()
    everything = models.Manager()


class Paragraph(models.Model):
    """Belongs to a document; its default manager refuses to work."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)

    objects = ScopedManager()
    everything = models.Manager()


class ScopedBase(models.Model):
    """Its base manager refuses to work too."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)

    objects = ScopedManager()
    everything = models.Manager()

    class Meta:
        base_manager_name = "objects"


class Bare(models.Model):
    """No column but its key."""


class BareChild(models.Model):
    """Belongs to such a row."""

    bare = models.ForeignKey(Bare, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)


class BareUnique(models.Model):
    """No column but a key that is the same everywhere."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class LegacyTable(models.Model):
    """The table behind Legacy, without a link."""

    shop_number = models.BigIntegerField(db_column="shop_id", db_index=True)
    text = models.CharField(max_length=50)

    class Meta:
        db_table = "kinds_legacy_rows"


class Legacy(models.Model):
    """A model that Django does not manage, on a table that exists."""

    shop = models.ForeignKey(Shop, on_delete=models.CASCADE, db_constraint=False)
    text = models.CharField(max_length=50)

    class Meta:
        managed = False
        db_table = "kinds_legacy_rows"

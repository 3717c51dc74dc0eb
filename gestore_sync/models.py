"""Our tables: who pushed here, what became of whose objects, and what each run did."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

KEY_LENGTH = 500
"""As long a key, with what is beside it in an index, as MySQL and MariaDB take."""


class Origin(models.Model):
    """The identity of one installation's database, so that several can push to one target."""

    uuid = models.UUIDField(_("identity"), unique=True, default=uuid.uuid4, editable=False)
    is_own = models.BooleanField(_("this database"), default=False)
    created = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("origin")
        verbose_name_plural = _("origins")
        constraints = [
            models.UniqueConstraint(
                fields=["is_own"], condition=models.Q(is_own=True), name="gestore_sync_one_own_origin"
            )
        ]

    def __str__(self) -> str:
        return str(self.uuid)


class SyncRun(models.Model):
    """One run that wrote something: what was asked and what was done. Written in the transaction of the rows."""

    origin = models.ForeignKey(Origin, models.CASCADE, verbose_name=_("origin"))
    remote = models.CharField(_("remote"), max_length=64, blank=True)
    roots = models.JSONField(_("roots"), default=list)
    counts = models.JSONField(_("counts"), default=dict)
    started = models.DateTimeField(_("started"))
    finished = models.DateTimeField(_("finished"))

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["-started", "-pk"]

    def __str__(self) -> str:
        return f"{', '.join(self.roots)} {self.started:%Y-%m-%d %H:%M}"


class IdMapping(models.Model):
    """The counterpart of one object of an origin, and what was last left there.

    ``remote`` is empty where the mapping is kept in the target itself, and its alias where the target has no tables
    of ours and the mapping is kept at the source. ``created``: we put the row there. ``digests``: what the fields held
    when both sides were last in step, see :mod:`gestore_sync.digests`. ``serial``: of two mappings of one pair of rows,
    one for each direction, the greater one was written later (a Lamport clock).
    """

    id = models.BigAutoField(primary_key=True)
    origin = models.ForeignKey(Origin, models.CASCADE, verbose_name=_("origin"), db_index=False)
    remote = models.CharField(_("remote"), max_length=64, blank=True)
    model = models.CharField(_("model"), max_length=200)
    source_pk = models.CharField(_("primary key at the origin"), max_length=KEY_LENGTH)
    target_pk = models.CharField(_("primary key here"), max_length=KEY_LENGTH)
    created = models.BooleanField(_("created by a run"), default=False)
    digests = models.BinaryField(_("digests"), default=b"")
    serial = models.PositiveIntegerField(_("serial"), default=0)

    class Meta:
        verbose_name = _("id mapping")
        verbose_name_plural = _("id mappings")
        constraints = [
            models.UniqueConstraint(fields=["origin", "remote", "model", "source_pk"], name="gestore_sync_source_pk")
        ]
        indexes = [models.Index(fields=["origin", "remote", "model", "target_pk"], name="gestore_sync_target_pk")]

    def __str__(self) -> str:
        return f"{self.model} {self.source_pk} → {self.target_pk}"

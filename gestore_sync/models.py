"""Our tables: who pushed here, what became of whose objects, and what each run did."""

from __future__ import annotations

import uuid

import dbsettings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from gestore_sync.checkpoint import CheckpointValue
from gestore_sync.conf import LOCAL, MERGED, REMOTE
from gestore_sync.fields import AwareDateTimeField, Prefix

ADDITION, CHANGE, DELETION, M2M_CHANGE = 1, 2, 3, 4
ACTIONS = (
    (ADDITION, _("addition")),
    (CHANGE, _("change")),
    (DELETION, _("deletion")),
    (M2M_CHANGE, _("many-to-many change")),
)
PENDING, HANDLED, SKIPPED = 0, 1, 2
STATES = ((PENDING, _("pending")), (HANDLED, _("handled")), (SKIPPED, _("not to be sent")))

OBJECT_ID_PREFIX = 64
"""So many characters of an object id are in the index, see Prefix: the rest may be longer than an index takes."""

SIDES = ((LOCAL, pgettext_lazy("resolution", "local")), (REMOTE, pgettext_lazy("resolution", "remote")))
RESOLUTIONS = (*SIDES, (MERGED, pgettext_lazy("resolution", "merged")))

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
    """One run that wrote something: what was asked and what was done. Written in the transaction of the rows.

    The source keeps a record of its own, with the same ``uuid``, of the runs that sent what its change log held
    (``of_log``), also of those that failed. ``entries``: the ranges of the log's keys that the run handled,
    ``[[first, last], …]``. ``problems``: what a report says under "conflicts" and "failures"; ``error``: why the run
    did nothing.
    """

    uuid = models.UUIDField(_("identity"), default=uuid.uuid4, editable=False)
    origin = models.ForeignKey(Origin, models.CASCADE, verbose_name=_("origin"))
    remote = models.CharField(_("remote"), max_length=64, blank=True)
    roots = models.JSONField(_("roots"), default=list)
    counts = models.JSONField(_("counts"), default=dict)
    of_log = models.BooleanField(_("of the change log"), default=False)
    entries = models.JSONField(_("entries"), default=list, blank=True)
    problems = models.JSONField(_("conflicts and failures"), default=dict, blank=True)
    error = models.TextField(_("error"), blank=True)
    started = models.DateTimeField(_("started"))
    finished = models.DateTimeField(_("finished"))

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["-started", "-pk"]
        permissions = [("synchronize", _("Can synchronize databases")), ("export", _("Can export bundles"))]

    def __str__(self) -> str:
        started = timezone.localtime(self.started) if timezone.is_aware(self.started) else self.started
        return f"{', '.join(self.roots) or self.remote} {started:%Y-%m-%d %H:%M}"


class ObjectOfOrigin(models.Model):
    """What is kept of one object of an origin and the row that is its counterpart.

    ``remote`` is empty where it is kept in the target itself, and its alias where the target has no tables of ours and
    it is kept at the source. The reference to the origin has no constraint, which would look it up for each row that is
    pushed: nobody deletes origins but by hand.
    """

    id = models.BigAutoField(primary_key=True)
    origin = models.ForeignKey(Origin, models.CASCADE, verbose_name=_("origin"), db_constraint=False, db_index=False)
    remote = models.CharField(_("remote"), max_length=64, blank=True)
    model = models.CharField(_("model"), max_length=200)
    source_pk = models.CharField(_("primary key at the origin"), max_length=KEY_LENGTH)
    target_pk = models.CharField(_("primary key here"), max_length=KEY_LENGTH)

    class Meta:
        abstract = True


class IdMapping(ObjectOfOrigin):
    """The counterpart of one object of an origin, and what was last left there.

    ``created``: we put the row there. ``digests``: what the fields held when both sides were last in step, see
    :mod:`gestore_sync.digests`. ``serial``: of two mappings of one pair of rows, one for each direction, the greater
    one was written later (a Lamport clock). ``source_imprint`` and ``target_imprint``: what stands for the whole rows
    as they were then, see :mod:`gestore_sync.imprints`; empty where they are to be compared. ``moved``: the object was
    handed over: it is gone at the origin, and the row here is the target's own.

    Each row that is pushed goes into these indexes. They begin with what tells rows apart, which a database compares
    fastest, or are short; few rows are in the one that is for what is kept at the source.
    """

    created = models.BooleanField(_("created by a run"), default=False)
    digests = models.BinaryField(_("digests"), default=b"")
    serial = models.PositiveIntegerField(_("serial"), default=0)
    source_imprint = models.BigIntegerField(_("imprint at the origin"), null=True, editable=False)
    target_imprint = models.BigIntegerField(_("imprint here"), null=True, editable=False)
    moved = models.BooleanField(_("moved"), db_default=False, default=False)

    class Meta:
        verbose_name = _("id mapping")
        verbose_name_plural = _("id mappings")
        constraints = [
            models.UniqueConstraint(fields=["source_pk", "model", "origin", "remote"], name="gestore_sync_source_pk")
        ]
        indexes = [
            models.Index(fields=["model", "target_pk"], name="gestore_sync_target_pk"),
            models.Index(fields=["remote", "origin"], condition=~models.Q(remote=""), name="gestore_sync_kept_apart"),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.source_pk} → {self.target_pk}"


class Conflict(ObjectOfOrigin):
    """Values of one object that a run gave up, because both sides had changed them, with those that stand instead.

    Written in the transaction of the rows. ``fields``: JSON, see :mod:`gestore_sync.lostvalues`.
    ``resolved``: which side the run decided for; ``run``: the run's identity. ``taken``: which side a person decided
    for; empty while nobody has.
    """

    fields = models.TextField(_("values"))
    resolved = models.CharField(_("resolved"), max_length=6, choices=RESOLUTIONS)
    run = models.UUIDField(_("run"))
    date = AwareDateTimeField(_("date"), auto_now_add=True)
    taken = models.CharField(_("taken"), max_length=6, choices=RESOLUTIONS, blank=True, default="")
    taken_date = AwareDateTimeField(_("taken on"), null=True, blank=True)

    class Meta:
        verbose_name = _("conflict")
        verbose_name_plural = _("conflicts")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["origin", "remote", "model", "source_pk"], name="gestore_sync_disputed")]

    def __str__(self) -> str:
        return f"{self.model}.{self.target_pk}"


class ChangeLog(models.Model):
    """A change of one object, written in the transaction of the change.

    ``data``: what will be needed to find the object or its members later, see :mod:`gestore_sync.recording`.
    ``origin``: empty for news of this database, else the origin whose run wrote the row here: such entries are never
    sent, and
    serve to compare times. ``state``: PENDING for some remote, HANDLED for all, or SKIPPED.

    The reference to the content type has no constraint: an entry must not make a save fail.
    """

    id = models.BigAutoField(primary_key=True)
    content_type = models.ForeignKey(
        ContentType, models.CASCADE, verbose_name=_("model"), related_name="+", db_constraint=False, db_index=False
    )
    object_id = models.TextField(_("primary key"))
    object = GenericForeignKey()
    date = AwareDateTimeField(_("date"), auto_now_add=True)
    action = models.PositiveSmallIntegerField(_("action"), choices=ACTIONS)
    data = models.JSONField(_("data"), default=dict, blank=True)
    origin = models.UUIDField(_("origin"), null=True, blank=True)
    state = models.PositiveSmallIntegerField(pgettext_lazy("synchronization", "state"), choices=STATES, default=PENDING)

    class Meta:
        verbose_name = _("change")
        verbose_name_plural = _("change log")
        ordering = ["-pk"]
        indexes = [
            models.Index("content_type", Prefix("object_id"), name="gestore_sync_changed_object"),
            models.Index(fields=["id"], condition=models.Q(state=PENDING), name="gestore_sync_pending"),
            models.Index(fields=["content_type"], condition=models.Q(action=DELETION), name="gestore_sync_deletions"),
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()}: {self.object_id}"


class Delivery(models.Model):
    """An entry of the change log that one remote has and another one lacks."""

    id = models.BigAutoField(primary_key=True)
    entry = models.ForeignKey(
        ChangeLog, models.CASCADE, verbose_name=_("change"), related_name="+", db_constraint=False
    )
    remote = models.CharField(_("remote"), max_length=64)

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [models.UniqueConstraint(fields=["entry", "remote"], name="gestore_sync_one_delivery")]

    def __str__(self) -> str:
        return f"{self.entry_id} → {self.remote}"


class Remote(models.Model):
    """A database to which the change log of this one was sent.

    ``origin``: its identity. ``is_known``: what it has got is noted entry by entry. ``last_run``: the last run that
    both sides know, also of one that is not known any more; ``open_run``: one that had begun to commit there when it
    was last heard of.
    """

    alias = models.CharField(_("alias"), max_length=64, unique=True)
    origin = models.UUIDField(_("origin"), null=True, blank=True)
    is_known = models.BooleanField(_("known"), default=False)
    last_run = models.UUIDField(_("last run"), null=True, blank=True)
    open_run = models.UUIDField(_("run that is not finished"), null=True, blank=True)

    class Meta:
        verbose_name = _("remote")
        verbose_name_plural = _("remotes")

    def __str__(self) -> str:
        return self.alias


class SynchroSettings(dbsettings.Group):  # type: ignore[misc]
    """What may be set by hand while the site runs."""

    last_check = CheckpointValue(_("checkpoint"), _("How far the change log was handled."), required=False)


options = SynchroSettings()

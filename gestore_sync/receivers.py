"""Django's signals become entries of the change log.

Receivers are connected to the watched models one by one: one that listened to every model would take all of them off
Django's fast ways of deleting and of adding members.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from gestore_sync.changelog import move_checkpoint
from gestore_sync.checkpoint import KEY, find_settings, parse_moment
from gestore_sync.links import get_concrete
from gestore_sync.models import ADDITION, CHANGE
from gestore_sync.reading import get_queryset
from gestore_sync.recording import (
    is_own_save,
    is_recording,
    load_deferred,
    make_deletion,
    make_entry,
    make_member_change,
    record,
)
from gestore_sync.triggers import is_capturing
from gestore_sync.watching import Watched, find_watched

_connected: list[tuple[Any, Any, type[Model]]] = []


def connect() -> None:
    """Listen to what ``SYNCHRO_MODELS`` says now, and to nothing else."""
    while _connected:
        signal, receiver, sender = _connected.pop()
        signal.disconnect(receiver, sender=sender)
    watched = find_watched() or Watched(frozenset(), {}, {})
    wanted: list[tuple[Any, Any, type[Model]]] = []
    for sender in watched.senders:
        wanted += [(post_save, log_save, sender), (pre_delete, load_key, sender), (post_delete, log_delete, sender)]
    wanted += [(m2m_changed, log_members, through) for through in watched.members]
    for signal, receiver, sender in wanted:
        signal.connect(receiver, sender=sender)
        _connected.append((signal, receiver, sender))


def reconnect(*, setting: str, **kwargs: Any) -> None:
    """The receiver of Django's ``setting_changed``: tests change settings while they run."""
    if setting in ("SYNCHRO_MODELS", "GESTORE_SYNC") and apps.ready:
        connect()


def find_model(sender: type[Model]) -> type[Model] | None:
    """The concrete model under which changes of ``sender`` are logged."""
    watched = find_watched()
    return None if watched is None else watched.senders.get(sender)


def is_telling(using: str, model: type[Model]) -> bool:
    """Whether changes of ``model`` are logged by what signals tell: not where nothing is, nor where triggers do it."""
    return is_recording(using) and not is_capturing(using, model)


def log_save(sender: type[Model], instance: Model, created: bool, using: str, **kwargs: Any) -> None:
    """``post_save``."""
    model = find_model(sender)
    if model is None or "gestore_sync" in kwargs or is_own_save(instance) or not is_telling(using, model):
        return
    record(using, [make_entry(using, model, get_pk(model, instance), ADDITION if created else CHANGE)])


def load_key(sender: type[Model], instance: Model, using: str, **kwargs: Any) -> None:
    """``pre_delete``: read what the log will need, where the application left it out when it read the object."""
    deferred = instance.get_deferred_fields()
    model = find_model(sender) if deferred and "gestore_sync" not in kwargs else None
    if model is not None and is_telling(using, model):
        load_deferred(model, instance, deferred, using)


def log_delete(sender: type[Model], instance: Model, using: str, **kwargs: Any) -> None:
    """``post_delete``. Parents of a multi-table child are told of one by one."""
    model = find_model(sender)
    if model is None or model is not sender._meta.concrete_model or "gestore_sync" in kwargs:
        return
    if not is_telling(using, model):
        return
    record(using, [make_deletion(using, model, instance)])


def get_pk(model: type[Model], instance: Model) -> Any:
    """The primary key of ``instance`` as an object of ``model``, its class or a multi-table parent of it."""
    return instance.pk if isinstance(instance.pk, tuple) else getattr(instance, model._meta.pk.attname)


def log_members(
    sender: type[Model],
    instance: Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """``m2m_changed``: an entry for each owner whose members changed."""
    watched = find_watched()
    if watched is None or "gestore_sync" in kwargs or action not in ("post_add", "post_remove", "pre_clear"):
        return
    field = next((field for field in watched.members.get(sender, ()) if fits(field, instance, reverse)), None)
    if (
        field is None
        or field.name in getattr(field.model, "SYNCHRO_SKIP", ())
        or not is_telling(using, get_concrete(sender))
    ):
        return
    others = pk_set or set()
    if action == "pre_clear":
        others = set(find_members(field, instance, reverse, using))
    pairs = [(other, instance.pk) for other in others] if reverse else [(instance.pk, other) for other in others]
    if getattr(field.remote_field, "symmetrical", False):
        pairs += [(member, owner) for owner, member in pairs]
    record(using, list(make_member_changes(field, pairs, using, is_added=action == "post_add")))


def make_member_changes(field: Any, pairs: Iterable[tuple[Any, Any]], using: str, *, is_added: bool) -> Iterable[Any]:
    """An entry for each owner of ``(owner, member)`` pairs."""
    by_owner: dict[Any, list[Any]] = {}
    for owner, member in pairs:
        by_owner.setdefault(owner, []).append(member)
    model = field.model._meta.concrete_model
    for owner, members in by_owner.items():
        members = sorted(members, key=str)
        changed = {"added": members} if is_added else {"removed": members}
        yield make_member_change(using, model, owner, field.name, **changed)


def fits(field: Any, instance: Model, reverse: bool) -> bool:
    """Whether a change that was told of ``instance`` is one of this field."""
    end = field.remote_field.model if reverse else field.model
    return isinstance(instance, (end, end._meta.concrete_model))


def find_members(field: Any, instance: Model, reverse: bool, using: str) -> Iterable[Any]:
    """The keys of all that ``instance`` is connected with by this field."""
    own, other = field.m2m_field_name(), field.m2m_reverse_field_name()
    if reverse:
        own, other = other, own
    rows = get_queryset(field.remote_field.through, using).filter(**{own: instance})
    return rows.values_list(f"{other}__pk", flat=True)


def note_checkpoint(sender: type[Model], instance: Any, raw: bool, using: str, **kwargs: Any) -> None:
    """``pre_save`` of django-dbsettings' rows: the checkpoint is set by hand."""
    if raw or (instance.module_name, instance.class_name, instance.attribute_name) != KEY:
        return
    rows = find_settings(using)
    current = rows.first() if rows is not None else None
    if current is not None and instance.pk != current.pk:
        # What django-dbsettings keeps in its cache may be a row that is there no more.
        instance.pk, instance._state.adding = current.pk, False
    move_checkpoint(using, parse_moment(current and current.value), parse_moment(instance.value))


def connect_checkpoint() -> None:
    """Listen to changes of the checkpoint where django-dbsettings is installed."""
    if apps.is_installed("dbsettings"):
        from dbsettings.models import Setting

        pre_save.connect(note_checkpoint, sender=Setting, dispatch_uid="gestore_sync_checkpoint")

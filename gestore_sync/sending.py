"""Django's signals for rows that are written in bulk, so that well-made receivers know a copy: ``raw=True``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.db import DatabaseError
from django.db.models import JSONField, Model
from django.db.models.signals import (
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from django.dispatch import Signal

from gestore_sync.conf import get_signal_mode
from gestore_sync.exceptions import GestoreSyncError, WriteFailed
from gestore_sync.links import LinkGraph, Membership
from gestore_sync.reading import get_queryset, match_keys
from gestore_sync.refs import Key, Ref

OURS = __name__.partition(".")[0]


def has_listeners(signal: Signal, sender: type[Model]) -> bool:
    """Whether anyone but ourselves listens."""
    receivers = signal._live_receivers(sender)  # type: ignore[attr-defined]
    return any(
        getattr(receiver, "__module__", "").partition(".")[0] != OURS
        for kind in receivers
        for receiver in kind
    )


def make_instance(model: type[Model], using: str, values: Mapping[str, Any]) -> Model:
    """An instance with these values by attname; others are read when they are asked for. JSON is given as text."""
    names, given = [], []
    for field in model._meta.concrete_fields:
        if field.attname in values:
            value = values[field.attname]
            if isinstance(field, JSONField) and isinstance(value, str):
                value = json.loads(value, cls=field.decoder)
            names.append(field.attname)
            given.append(value)
    return model.from_db(using, names, given)


class Sender:
    """Sends the signals of one run, where a model has listeners and its mode is ``raw``."""

    def __init__(self, using: str, graph: LinkGraph) -> None:
        self.using = using
        self._by_through: dict[type[Model], Membership] = {
            membership.link.model: membership
            for of_model in graph.memberships.values()
            for membership in of_model
            if membership.automatic
        }

    def is_heard(self, model: type[Model], *signals: Signal) -> bool:
        """Whether one of the signals must be sent for rows of ``model``."""
        if get_signal_mode(model._meta.label) == "none":
            return False
        if model in self._by_through:
            return has_listeners(m2m_changed, model)
        return any(has_listeners(signal, model) for signal in signals)

    def around_save(
        self,
        model: type[Model],
        rows: Sequence[Mapping[str, Any]],
        write: Callable[[], None],
        *,
        created: bool,
    ) -> None:
        """Write a batch and send ``pre_save`` before and ``post_save`` after it for each row (values by attname)."""
        if not self.is_heard(model, pre_save, post_save):
            write()
            return
        if model in self._by_through:
            self._around_members(model, rows, write, "add")
            return
        instances = [make_instance(model, self.using, row) for row in rows]
        for instance in instances:
            instance._state.adding = created
            self._send(pre_save, model, instance, raw=True, update_fields=None)
        write()
        for instance in instances:
            instance._state.adding = False
            self._send(post_save, model, instance, created=created, raw=True, update_fields=None)

    def around_delete(self, model: type[Model], keys: Sequence[Key], write: Callable[[], None]) -> None:
        """Delete a batch and send ``pre_delete`` before and ``post_delete`` after it for each row."""
        if not self.is_heard(model, pre_delete, post_delete):
            write()
            return
        instances = list(get_queryset(model, self.using).filter(match_keys(model, keys)))
        if model in self._by_through:
            rows = [
                {field.attname: getattr(instance, field.attname) for field in model._meta.concrete_fields}
                for instance in instances
            ]
            self._around_members(model, rows, write, "remove")
            return
        for instance in instances:
            self._send(pre_delete, model, instance, origin=instance)
        write()
        for instance in instances:
            self._send(post_delete, model, instance, origin=instance)

    def _send(self, signal: Signal, sender: type[Model], instance: Model, **arguments: Any) -> None:
        try:
            signal.send(sender, instance=instance, using=self.using, **arguments)
        except (DatabaseError, GestoreSyncError):
            raise
        except Exception as error:
            raise WriteFailed(
                f"A receiver of signals failed for {Ref(type(instance), instance.pk)} of the target {self.using!r}: "
                f"{type(error).__name__}: {error}. Nothing was written. Mend the receiver (raw=True tells it a copy), or "
                'set GESTORE_SYNC["SIGNALS"] to "none" for this model.'
            ) from error

    def _around_members(
        self, through: type[Model], rows: Iterable[Mapping[str, Any]], write: Callable[[], None], action: str
    ) -> None:
        membership = self._by_through[through]
        owner, other = membership.link, membership.other
        assert owner.target is not None
        members: dict[Any, set[Any]] = {}
        for row in rows:
            members.setdefault(row[owner.attnames[0]], set()).add(row[other.attnames[0]])
        path = f"{owner.field.target_field.name}__in"
        owners = list(get_queryset(owner.target, self.using).filter(**{path: list(members)}))
        for when in ("pre", "post"):
            for instance in owners:
                self._send(
                    m2m_changed,
                    through,
                    instance,
                    action=f"{when}_{action}",
                    reverse=False,
                    model=other.target,
                    pk_set=members[getattr(instance, owner.field.target_field.attname)],
                )
            if when == "pre":
                write()

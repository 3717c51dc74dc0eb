"""Django's signals for rows that are written in bulk, so that well-made receivers know a copy: ``raw=True``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.dispatch import Signal

from gestore_sync.conf import get_signal_mode
from gestore_sync.exceptions import GestoreSyncError, WriteFailed
from gestore_sync.links import LinkGraph, Membership, get_concrete
from gestore_sync.reading import get_queryset, match_keys
from gestore_sync.refs import Key, Ref

OURS = __name__.partition(".")[0]
SAVING = (pre_save, post_save)
DELETING = (pre_delete, post_delete)


def has_listeners(signal: Signal, sender: type[Model]) -> bool:
    """Whether anyone but ourselves listens."""
    receivers = signal._live_receivers(sender)
    return any(
        str(getattr(receiver, "__module__", "")).partition(".")[0] != OURS for kind in receivers for receiver in kind
    )


class Sender:
    """Sends the signals of one run on the target, where a model has listeners and its mode is ``raw``.

    ``tolerant``: what receivers fail with is kept in ``refused``, so that all such objects are found at once.
    ``guarded``: each signal has a savepoint of its own.
    """

    def __init__(self, using: str, graph: LinkGraph, *, tolerant: bool = False, guarded: bool = False) -> None:
        self.using = using
        self.guarded = guarded
        self.tolerant = tolerant
        self.refused: list[WriteFailed] = []
        self._by_through: dict[type[Model], Membership] = {
            membership.link.model: membership
            for of_model in graph.memberships.values()
            for membership in of_model
            if membership.automatic
        }

    def is_heard(self, model: type[Model], signals: Iterable[Signal]) -> bool:
        """Whether signals must be sent for rows of ``model``; for automatic through rows that is ``m2m_changed``."""
        if get_signal_mode(model._meta.label) == "none":
            return False
        if model in self._by_through:
            return has_listeners(m2m_changed, model)
        return any(has_listeners(signal, model) for signal in signals)

    def around_save(
        self, model: type[Model], make: Callable[[], list[Model]], write: Callable[[], None], *, created: bool
    ) -> None:
        """Write a batch, with ``pre_save`` before and ``post_save`` after it for each instance that ``make`` gives."""
        if not self.is_heard(model, SAVING):
            write()
            return
        if model in self._by_through:
            if created:
                self._around_members(model, make(), write, "add")
            else:
                write()
            return
        instances = make()
        for instance in instances:
            instance._state.adding = created
            self.send(pre_save, model, instance, raw=True, update_fields=None)
        write()
        for instance in instances:
            instance._state.adding = False
            self.send(post_save, model, instance, created=created, raw=True, update_fields=None)

    def around_delete(self, model: type[Model], keys: Sequence[Key], write: Callable[[], None]) -> None:
        """Delete a batch, with ``pre_delete`` before and ``post_delete`` after it for each row."""
        if not self.is_heard(model, DELETING):
            write()
            return
        instances = list(get_queryset(model, self.using).filter(match_keys(model, keys)))
        if model in self._by_through:
            self._around_members(model, instances, write, "remove")
            return
        for instance in instances:
            self.send(pre_delete, model, instance, origin=instance)
        write()
        for instance in instances:
            self.send(post_delete, model, instance, origin=instance)

    def send(self, signal: Signal, sender: type[Model], instance: Model, **arguments: Any) -> None:
        """Send one signal, which says that it comes from us. Raises :class:`WriteFailed` that names the object where a
        receiver fails."""
        try:
            self._send(signal, sender, instance, arguments)
        except WriteFailed as refusal:
            # After an error of the database its transaction is broken: every other receiver would fail too.
            if not self.tolerant or (isinstance(refusal.__cause__, DatabaseError) and not self.guarded):
                raise
            self.refused.append(refusal)

    def _send(self, signal: Signal, sender: type[Model], instance: Model, arguments: dict[str, Any]) -> None:
        try:
            with transaction.atomic(using=self.using) if self.guarded else nullcontext():
                signal.send(sender, instance=instance, using=self.using, gestore_sync=True, **arguments)
        except (OperationalError, InterfaceError, GestoreSyncError):
            raise
        except Exception as error:
            raise WriteFailed(
                f"A receiver of signals failed for {Ref(type(instance), instance.pk)} of the target {self.using!r}: "
                f"{type(error).__name__}: {error}. Nothing was written. Mend the receiver (raw=True means a copy), or "
                'set GESTORE_SYNC["SIGNALS"] to "none" for this model.',
                target_ref=Ref(get_concrete(type(instance)), instance.pk),
            ) from error

    def _around_members(
        self, through: type[Model], rows: Iterable[Model], write: Callable[[], None], action: str
    ) -> None:
        membership = self._by_through[through]
        owner, other = membership.link, membership.other
        assert owner.target is not None
        members: dict[Any, set[Any]] = {}
        for row in rows:
            members.setdefault(getattr(row, owner.attnames[0]), set()).add(getattr(row, other.attnames[0]))
        to_field = owner.field.target_field
        owners = list(get_queryset(owner.target, self.using).filter(**{f"{to_field.name}__in": list(members)}))
        for when in ("pre", "post"):
            for instance in owners:
                self.send(
                    m2m_changed,
                    through,
                    instance,
                    action=f"{when}_{action}",
                    reverse=False,
                    model=other.target,
                    pk_set=members[getattr(instance, to_field.attname)],
                )
            if when == "pre":
                write()

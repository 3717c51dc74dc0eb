"""What ``--prune`` should delete on a target, worked out object by object in memory."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import models

from tests.kinds.oracle import NOWHERE, Database, Key, Place, State, belongs, is_membership, owned
from tests.schemas.drawing import SET

PLAIN = (models.SET_NULL, models.SET_DEFAULT)


def survives(link: object) -> bool:
    """Say whether a row stays without the object that its link leads to."""
    on_delete = getattr(getattr(link, "remote_field", None), "on_delete", None)
    return on_delete in PLAIN or getattr(on_delete, "__qualname__", "").startswith(f"{SET}.")


class Pruning:
    """What goes from a target with a push of ``roots``, and what holds on to it and forbids that.

    ``created``: what pushes put there.
    """

    def __init__(
        self, source: Database, target: Database, roots: Iterable[Place], created: set[Key], *, is_on: bool
    ) -> None:
        self.target = target
        there = {source.key(place) for place in source.places()}
        self.mine = {source.key(place) for place in owned(source, roots)}
        self.removable = {place for place in target.places() if target.key(place) in created - there}
        self.gone: set[Place] = set()
        self.holding: set[Place] = set()
        self.detached: set[tuple[Place, str, str | None]] = set()
        memberships = {model for model in target.models if is_membership(model)}
        waiting = []
        for place in target.places():
            if target.key(place) in self.mine:
                for link, other in target.pointing(place):
                    is_taken = belongs(link, place[0]) and (is_on or other[0] in memberships)
                    if is_taken and other in self.removable:
                        waiting.append(other)
        while waiting:
            place = waiting.pop()
            if place not in self.gone:
                self.gone.add(place)
                waiting += self.spread(place)
        self.holding -= self.gone

    def spread(self, place: Place) -> list[Place]:
        """Return what goes with an object of the target; note what holds on to it, and what is cut off."""
        found = [to for link, to in self.target.links(place) if is_parent(link) and to in self.removable]
        for link, other in self.target.pointing(place):
            if isinstance(link, GenericForeignKey) and not belongs(link, place[0]):
                self.detached.add((other, link.name, NOWHERE))
            elif other in self.removable:
                found.append(other)
            elif survives(link):
                self.detached.add((other, link.name, None))
            elif self.target.key(other) not in self.mine:
                self.holding.add(other)
        return found

    def apply(self, state: State) -> State:
        """Return what the target holds, where it would hold ``state`` without a deletion."""
        left = {key: dict(values) for key, values in state.items()}
        for place in self.gone:
            left.pop(self.target.key(place), None)
        for place, name, value in self.detached:
            key = self.target.key(place)
            if key in left and key not in self.mine:
                left[key][name] = value
        return left


def is_parent(link: object) -> bool:
    """Say whether a link leads to another part of the same object."""
    return bool(getattr(getattr(link, "remote_field", None), "parent_link", False))

"""The waist of the house: the closed set of objects that a walk (or a log, or a file) yields."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from django.db.models import Model

from gestore_sync.keysets import iter_slices, make_key_list, make_key_set
from gestore_sync.links import LinkGraph
from gestore_sync.refs import Key, Ref, get_table
from gestore_sync.scope import Role, Scope

ROOT = "root"
CHANGED = "change log"
ROLES = tuple(sorted(Role, reverse=True))
TRAVELLING = tuple(role for role in ROLES if role > Role.LOOK_UP)


class Members:
    """The objects of one model that have one role, each with why it is there, in a few bytes an object."""

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self.keys = make_key_list(model)
        self.seen = make_key_set(model)
        self._links = array("H")
        self._parents: list[Key] | array[int] = array("q")
        self._distances = array("I")

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: Key, link: int, parent: Key, distance: int) -> bool:
        """Add an object that was reached through the link with number ``link`` from ``parent``; whether it was new."""
        return bool(self.update([(key, parent)], link, distance))

    def update(self, rows: Sequence[tuple[Any, ...]], link: int, distance: int) -> list[Key]:
        """Add objects, ``(key, key of the parent, …)``; those that were new."""
        new: list[Key] = self.seen.update([row[0] for row in rows])
        if not new:
            return new
        parents = [row[1] for row in rows]
        if len(new) < len(rows):
            first = {row[0]: row[1] for row in reversed(rows)}
            parents = [first[key] for key in new]
        self.keys.extend(new)
        self._links.extend(repeat(link, len(new)))
        self._distances.extend(repeat(distance, len(new)))
        if isinstance(self._parents, array):
            try:
                self._parents.extend(array("q", parents))
            except (TypeError, OverflowError):
                self._parents = [*self._parents, *parents]
        else:
            self._parents.extend(parents)
        return new

    def without(self, others: Sequence[Any]) -> Members:
        """The same without the keys that are in one of the other sets."""
        rest = Members(self.model)
        for key, link, parent, distance in zip(self.keys, self._links, self._parents, self._distances, strict=True):
            if not any(key in seen for seen in others):
                rest.add(key, link, parent, distance)
        return rest

    def find_why(self, key: Key) -> tuple[int, Key, int] | None:
        """The number of the link, the parent's key and the distance from the root of ``key``."""
        if key not in self.seen:
            return None
        at = self.keys.index(key)
        return self._links[at], self._parents[at], self._distances[at]

    def count_links(self) -> Counter[int]:
        """How many objects came through each link."""
        return Counter(self._links)


@dataclass
class Subgraph:
    """Which objects, with which roles, and why; rows are read from ``source`` when they are needed.

    ``mentions``: by link name, how many rows point inside by a link that was not followed. ``needed``: the objects
    that an owned object points to, so that they must exist even where what else points to them does not travel.
    ``barred``: objects that must not be written, and why; they are only looked for.
    ``ways``: what the numbers in :class:`Members` mean, ``(link name, model of the parent)``.
    """

    source: str
    graph: LinkGraph
    scope: Scope
    roots: list[Ref] = field(default_factory=list)
    members: dict[tuple[type[Model], Role], Members] = field(default_factory=dict)
    needed: dict[type[Model], Any] = field(default_factory=dict)
    mentions: Counter[str] = field(default_factory=Counter)
    dangling: dict[tuple[type[Model], str], set[Key]] = field(default_factory=dict)
    barred: dict[type[Model], dict[Key, str]] = field(default_factory=dict)
    ways: list[tuple[str, type[Model] | None]] = field(default_factory=lambda: [(ROOT, None)])

    def get_members(self, model: type[Model], role: Role) -> Members:
        """The members with exactly this role; empty ones are made."""
        members = self.members.get((model, role))
        if members is None:
            members = self.members[model, role] = Members(model)
        return members

    def find_role(self, model: type[Model], key: Key) -> Role | None:
        """The role of an object: the greatest by which it was reached."""
        for role in ROLES:
            members = self.members.get((model, role))
            if members is not None and key in members.seen:
                return role
        return None

    def count_outside(self, model: type[Model], keys: Iterable[Key]) -> int:
        """How many of many keys are of no object of the subgraph."""
        found = [members.seen for role in ROLES if (members := self.members.get((model, role))) is not None]
        number = 0
        for some in iter_slices(keys):
            for seen in found:
                some = seen.leave_out(some)
            number += len(some)
        return number

    def settle(self) -> None:
        """Leave each object only in its greatest role. The walk has ended."""
        for (model, role), members in list(self.members.items()):
            above = [
                self.members[model, other].seen for other in Role if other > role and (model, other) in self.members
            ]
            if any(members.seen.meets(seen) for seen in above):
                self.members[model, role] = members.without(above)

    def forget_looked_up(self, tables: Sequence[str]) -> None:
        """Leave out objects that are only looked for where the target has no table (none of ``tables``) for them."""
        for model, role in list(self.members):
            if role is Role.LOOK_UP and get_table(model) not in tables:
                del self.members[model, role]

    def iter_keys(self, model: type[Model], *roles: Role) -> Iterator[Key]:
        """The keys of all objects of ``model`` with one of ``roles``."""
        for role in roles:
            members = self.members.get((model, role))
            if members is not None:
                yield from members.keys

    def get_models(self) -> list[type[Model]]:
        """The models that have objects in the subgraph."""
        return list(dict.fromkeys(model for (model, _), members in self.members.items() if members))

    def is_needed(self, model: type[Model], key: Key) -> bool:
        """Whether an owned object points to this one."""
        seen = self.needed.get(model)
        return seen is not None and key in seen

    def add_needed(self, model: type[Model], key: Key) -> bool:
        """Note that ``key`` must exist on the target; whether that was not known."""
        return bool(self.update_needed(model, [key]))

    def update_needed(self, model: type[Model], keys: Iterable[Key]) -> list[Key]:
        """Note that ``keys`` must exist on the target; those of which that was not known."""
        seen = self.needed.get(model)
        if seen is None:
            seen = self.needed[model] = make_key_set(model)
        found: list[Key] = seen.update(keys)
        return found

    def count(self) -> int:
        """How many objects there are, those that are only looked up not counted."""
        return sum(len(members) for (_, role), members in self.members.items() if role > Role.LOOK_UP)

    def count_why(self) -> dict[str, dict[str, int]]:
        """By model label, how many objects came through each link."""
        found: dict[str, Counter[str]] = {}
        for (model, role), members in self.members.items():
            if role > Role.LOOK_UP and members:
                of_model = found.setdefault(model._meta.label, Counter())
                for link, number in members.count_links().items():
                    of_model[self.ways[link][0]] += number
        return {label: dict(of_model.most_common()) for label, of_model in sorted(found.items())}

    def get_path(self, ref: Ref) -> list[tuple[Ref, str]]:
        """Why an object is there: itself and the link it came through, then the object it came from, up to a root."""
        path: list[tuple[Ref, str]] = []
        model: type[Model] | None = ref.model
        key = ref.pk
        role = self.find_role(ref.model, key)
        while model is not None and role is not None:
            why = self.members[model, role].find_why(key)
            if why is None or len(path) > 10_000:
                break
            name, parent = self.ways[why[0]]
            path.append((Ref(model, key), name))
            model, key = parent, why[1]
            role = None if model is None else self.find_role(model, key)
        return path

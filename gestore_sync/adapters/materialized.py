"""Materialized paths: a node's path is its parent's and, in a fixed length, its number among its siblings."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import count
from operator import or_
from typing import Any

from django.db.models import Q
from django.db.models.functions import Length

from gestore_sync.adapters import TreeChanges
from gestore_sync.adapters.trees import Siblings, lock, rank, refuse_cycle, update_rows
from gestore_sync.exceptions import WriteFailed
from gestore_sync.reading import get_queryset, iter_rows, match
from gestore_sync.refs import Key

LONGEST = 10_000
"""How long a path may get where the column sets no limit."""

MANY = 100
"""From how many separate ranges of paths on all between the first and the last is read."""

EVERY = Q()


class Paths:
    """The paths of one model's nodes on one database."""

    def __init__(self, model: type[Any], using: str) -> None:
        self.model = model
        self.using = using
        self.steplen: int = model.steplen
        self.last_step = len(model.alphabet) ** model.steplen - 1
        self._max_length: int | None = model._meta.get_field("path").max_length
        self._stranger = next(sign for sign in map(chr, count(33)) if sign not in model.alphabet)

    def get_parent(self, path: str) -> str:
        """The path of the parent; empty for a root."""
        return path[: -self.steplen]

    def get_step(self, path: str) -> int:
        """The number of a node among its siblings."""
        return int(self.model._str2int(path[-self.steplen :]))

    def join(self, parent: str, step: int) -> str | None:
        """The path of the child with this number; None where the path or the number would be too long."""
        if step > self.last_step or not self.fits(parent, self.steplen):
            return None
        return parent + str(self.model._int2str(step)).rjust(self.steplen, self.model.alphabet[0])

    def fits(self, path: str, more: int = 0) -> bool:
        """Whether the column can hold ``path`` and so many signs more."""
        return self._max_length is None or len(path) + more <= self._max_length

    def make_spare(self, number: int, kind: int) -> str:
        """A path that no tree has, for the time until the node gets its place."""
        return f"{self._stranger * kind}{number}"

    def is_spare(self, path: str) -> bool:
        """Whether :meth:`make_spare` made this path."""
        return path.startswith(self._stranger)

    def read(self, pks: Iterable[Key], *, locked: bool = False) -> dict[Key, str]:
        """The paths of these nodes."""
        rows = get_queryset(self.model, self.using).filter(match("pk", pks))
        return dict((lock(rows).order_by("pk") if locked else rows).values_list("pk", "path"))

    def find(self, paths: Iterable[str]) -> dict[str, Key]:
        """The nodes with these paths."""
        rows = get_queryset(self.model, self.using).filter(match("path", paths))
        return dict(rows.values_list("path", "pk"))

    def iter_families(self, parents: Mapping[Key | None, str]) -> Iterator[tuple[Key, str, Key | None]]:
        """``(pk, path, parent)`` of the children of nodes with these paths; None, with none, has the roots."""
        below = {path: pk for pk, path in parents.items() if path}
        for tops in (below, {"": None} if None in parents else {}):
            lengths = {len(path) + self.steplen for path in tops}
            for pk, path in self.iter_below(tops, self.steplen, match(Length("path"), lengths)):
                if self.get_parent(path) in tops:
                    yield pk, path, tops[self.get_parent(path)]

    def iter_below(
        self, tops: Iterable[str], reach: int | None = None, condition: Any = EVERY
    ) -> Iterator[tuple[Key, str]]:
        """``(pk, path)`` of what stands below these paths, in the order of the paths, and perhaps of others.

        ``reach``: by how many signs the paths are longer at most; ``condition``: a further filter.
        """
        first = self.model.alphabet[0] * self.steplen
        last = self.model.alphabet[-1] * (reach or self._max_length or LONGEST)
        bounds: list[tuple[str, str]] = []
        for path in sorted(tops):
            if bounds and path <= bounds[-1][1]:
                bounds[-1] = (bounds[-1][0], max(bounds[-1][1], path + last))
            else:
                bounds.append((path + first, path + last))
        if len(bounds) > MANY:
            bounds = [(bounds[0][0], bounds[-1][1])]
        between = reduce(or_, (Q(path__range=bound) for bound in bounds), Q(pk__in=[]))
        rows = get_queryset(self.model, self.using).filter(between, condition).order_by("path")
        yield from rows.values_list("pk", "path").iterator()


def find_above(paths: Iterable[str], tops: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Each of ``paths`` and ``tops`` with the nearest of ``tops`` above it."""
    tops = set(tops)
    opened: list[str] = []
    for path in sorted(tops.union(paths)):
        while opened and not path.startswith(opened[-1]):
            opened.pop()
        yield path, opened[-1] if opened else None
        if path in tops:
            opened.append(path)


class PathMending:
    """One call of :meth:`MaterializedPathAdapter.mend`."""

    def __init__(self, model: type[Any], using: str, changes: TreeChanges) -> None:
        self.model = model
        self.using = using
        self.paths = Paths(model, using)
        self.siblings = Siblings(changes)
        self.bereaved = set(changes.bereaved) - {None}
        self.now: dict[Key, str] = {}
        self.families: dict[Key | None, list[Key]] = {}
        self.parents: dict[Key, Key | None] = {}
        self.steps: dict[Key, int] = {}

    def run(self) -> None:
        """Do it."""
        if not self.siblings.parents and not self.bereaved:
            return
        self._read()
        self._arrange()
        wanted = self._find_paths()
        moves = {pk: (self.now[pk], path) for pk, path in wanted.items() if path != self.now[pk]}
        moves.update(self._move_below(wanted, moves))
        self._write(moves)
        self._count()

    def _count(self) -> None:
        """Write the number of children where it is another one."""
        sizes = {pk: len(family) for pk, family in self.families.items() if pk is not None}
        counts = iter_rows(self.model, self.using, list(sizes), ("numchild",))
        wrong = ((pk, [sizes[pk]]) for pk, count in counts if count != sizes[pk])
        update_rows(self.model, self.using, ("numchild",), wrong)

    def _read(self) -> None:
        """Read the present paths, and the present families of all parents that get or lose a child."""
        wanted, placed = self.siblings.parents, self.siblings.placed
        self.now = self.paths.read({*wanted, *wanted.values(), *self.bereaved} - {None}, locked=True)
        left = self.paths.find({self.paths.get_parent(self.now[pk]) for pk in wanted.keys() - placed})
        self.now.update((pk, path) for path, pk in left.items())
        parents = {*wanted.values(), *(self.bereaved & self.now.keys()), *left.values()}
        self.families = {parent: [] for parent in parents}
        old = {parent: "" if parent is None else self.now[parent] for parent in parents - placed}
        for pk, path, parent in self.paths.iter_families(old):
            self.now[pk] = path
            self.families[parent].append(pk)

    def _arrange(self) -> None:
        """Bring the families into order, and number the children of those that got or move one."""
        arriving: dict[Key | None, list[Key]] = {}
        for pk, parent in self.siblings.parents.items():
            arriving.setdefault(parent, []).append(pk)
        for parent, family in self.families.items():
            staying = [pk for pk in family if self.siblings.is_child(pk, parent)]
            there = set(staying)
            others = [pk for pk in arriving.get(parent, ()) if pk not in there]
            self.families[parent] = self.siblings.arrange(staying, others)
        members = [pk for parent in arriving for pk in self.families[parent]]
        fields = self.model.node_order_by
        ranks = rank(self.model, self.using, match("pk", members), (*fields, "path")) if fields else {}
        for parent in arriving:
            if ranks:
                self.families[parent].sort(key=ranks.__getitem__)
            self._number(parent)

    def _number(self, parent: Key | None) -> None:
        above = "" if parent is None else self.now[parent]
        places = {}
        for pk in self.families[parent]:
            self.parents[pk] = parent
            path = self.now[pk]
            if self.paths.get_parent(path) == above and not self.paths.is_spare(path):
                places[pk] = self.paths.get_step(path)
        try:
            self.steps.update(self.siblings.assign(self.families[parent], places, self.paths.last_step))
        except OverflowError as full:
            raise WriteFailed(
                f"{self.model._meta.label}.{full} finds no room among its siblings: there are "
                f"{len(self.families[parent])}, and a step of {self.paths.steplen} signs numbers "
                f"{self.paths.last_step}. Give {self.model.__name__} a longer steplen on the target."
            ) from None

    def _find_paths(self) -> dict[Key, str]:
        """The wanted path of each numbered node, from the top of the tree down."""
        present = {self.now[pk]: pk for pk in self.parents if pk not in self.siblings.placed}
        fixed = {self.now[pk]: pk for pk in self.families if pk is not None and pk not in self.parents}
        above = {fixed[path]: top for path, top in find_above(fixed, present) if path in fixed and top}
        waiting: dict[Key | None, list[Key]] = {}
        for pk, parent in self.parents.items():
            moving = parent if parent in self.parents else present.get(above.get(parent, ""))
            waiting.setdefault(moving, []).append(pk)
        wanted: dict[Key, str] = {}
        queue = deque(waiting.pop(None, ()))
        while queue:
            pk = queue.popleft()
            parent = self.parents[pk]
            if parent is None or parent in self.parents:
                start = "" if parent is None else wanted[parent]
            else:
                start = self._shift(self.now[parent], above.get(parent), wanted, present)
            wanted[pk] = self._check(pk, self.paths.join(start, self.steps[pk]))
            queue.extend(waiting.pop(pk, ()))
        for pk in self.parents:
            if pk not in wanted:
                raise refuse_cycle(self.model, pk)
        return wanted

    @staticmethod
    def _shift(path: str, top: str | None, wanted: Mapping[Key, str], present: Mapping[str, Key]) -> str:
        """``path`` after the node above it, now at ``top``, has moved."""
        return path if top is None else wanted[present[top]] + path[len(top) :]

    def _check(self, pk: Key, path: str | None) -> str:
        if path is None or not self.paths.fits(path):
            raise WriteFailed(
                f"{self.model._meta.label}.{pk} stands too deep in its tree: its path does not fit into the "
                f"column. Give the field path of {self.model.__name__} a larger max_length on the target."
            )
        return path

    def _move_below(
        self, wanted: Mapping[Key, str], moves: Mapping[Key, tuple[str, str]]
    ) -> Iterator[tuple[Key, tuple[str, str]]]:
        """``(pk, (path now, path wanted))`` of what stands below moving nodes and is not numbered itself."""
        moving = {self.now[pk]: pk for pk in moves if pk not in self.siblings.placed}
        if not moving:
            return
        below = {path: pk for pk, path in self.paths.iter_below(moving) if pk not in self.parents}
        present = {self.now[pk]: pk for pk in wanted if pk not in self.siblings.placed}
        for path, top in find_above(below, present):
            if path in below:
                shifted = self._shift(path, top, wanted, present)
                if self._check(below[path], shifted) != path:
                    yield below[path], (path, shifted)

    def _write(self, moves: Mapping[Key, tuple[str, str]]) -> None:
        """Write the paths, in two steps where one is wanted that another node still has: paths are unique."""
        wanted = {path for _, path in moves.values()}
        busy = [pk for pk, (now, _) in moves.items() if now in wanted]
        spare = ((pk, [self.paths.make_spare(number, 2)]) for number, pk in enumerate(busy))
        update_rows(self.model, self.using, ("path",), spare)
        final = ((pk, [path, len(path) // self.paths.steplen]) for pk, (_, path) in moves.items())
        update_rows(self.model, self.using, ("path", "depth"), final)

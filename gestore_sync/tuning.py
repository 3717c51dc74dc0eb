"""What lets a run take less time, and changes nothing else: how often garbage is looked for, how often threads take
turns, and how moments are read."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")
Thresholds: TypeAlias = "tuple[int, int, int]"

ALLOCATIONS = 100_000
"""So many new objects there are before Python looks for cycles among them; by default it does after 700."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that works lets another one go on; by default it does after 0.005."""
TEXT: Any = 0
"""The format of values, as psycopg calls it."""


class ProcessSetting(Generic[T]):
    """A setting of the whole process that is another one while runs are under way.

    ``choose`` gives what it is then, of what it is otherwise. Runs of several threads end in any order; the last one
    puts back what was before the first, unless somebody else has set it meanwhile.
    """

    def __init__(self, read: Callable[[], T], write: Callable[[T], None], choose: Callable[[T], T]) -> None:
        self._read = read
        self._write = write
        self._choose = choose
        self._lock = Lock()
        self._runs = 0

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Let it be the other one."""
        with self._lock:
            if not self._runs:
                self._before = self._read()
                self._write(self._choose(self._before))
                self._within = self._read()
            self._runs += 1
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1
                if not self._runs and self._read() == self._within:
                    self._write(self._before)


def choose_thresholds(usual: Thresholds) -> Thresholds:
    """How often garbage is looked for: never, or rarely, as is set, else after ``ALLOCATIONS``."""
    return (ALLOCATIONS, *usual[1:]) if 0 < usual[0] < ALLOCATIONS else usual


_garbage: ProcessSetting[Thresholds] = ProcessSetting(
    gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds), choose_thresholds
)
_switching: ProcessSetting[float] = ProcessSetting(
    sys.getswitchinterval,
    lambda seconds: sys.setswitchinterval(seconds + 5e-7),  # it drops what is less than a microsecond
    lambda usual: min(usual, SWITCH_INTERVAL),
)


@contextmanager
def tuned() -> Iterator[None]:
    """Let Python look less often for objects that point to each other: rows, of which a run makes millions, do not. Let
    its threads take turns more often: one that sends or receives waits for the database every hundred kilobytes, and
    then for its turn, by default longer than for the database."""
    with _garbage.changed(), _switching.changed():
        yield


@contextmanager
def reading_moments_fast(connection: Any) -> Iterator[None]:
    """Let Python's own parser read moments where the database gives them in UTC, as most do; the class that Django
    gives the driver for them is written in Python, and takes several times as long. In other time zones an hour may
    come twice, which that class minds."""
    session = connection.connection if connection.vendor == "postgresql" else None
    adapters = getattr(session, "adapters", None)  # psycopg2 has none
    if adapters is None:
        yield
        return
    oid = adapters.types["timestamptz"].oid
    slow: Any = adapters.get_loader(oid, TEXT)
    if getattr(slow, "timezone", None) is not UTC or issubclass(slow, FastMoments):
        yield
        return
    adapters.register_loader(oid, type("MomentLoader", (FastMoments, slow), {}))
    try:
        yield
    finally:
        adapters.register_loader(oid, slow)


class FastMoments:
    """Put before the loader of Django: what ends in ``+00`` is read by :meth:`datetime.fromisoformat`."""

    def load(self, data: Any) -> Any:
        """The moment that a text of the database is."""
        text = str(data, "ascii")
        if text.endswith("+00"):
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                pass
        return super().load(data)  # type: ignore[misc]

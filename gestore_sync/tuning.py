"""What lets a run take less of the processor, and changes nothing else: how often garbage is looked for, and how
moments are read."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any

ALLOCATIONS = 100_000
"""So many new objects there are before Python looks for cycles among them; by default it does after 700."""
TEXT: Any = 0
"""The format of values, as psycopg calls it."""

_lock = Lock()
_runs: list[tuple[int, int, int]] = []
"""For each run that is under way, what was set before it."""


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let Python look less often for objects that point to each other: rows, of which a run makes millions, do not.

    Where it is switched off, or rare enough already, nothing is changed. Runs of several threads end in any order.
    """
    with _lock:
        before = gc.get_threshold()
        _runs.append(_runs[-1] if _runs else before)
        if 0 < before[0] < ALLOCATIONS:
            gc.set_threshold(ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        with _lock:
            first = _runs.pop()
            if not _runs and gc.get_threshold()[0] == ALLOCATIONS:
                gc.set_threshold(*first)


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
        text = bytes(data)
        if text[-3:] == b"+00":
            try:
                return datetime.fromisoformat(text.decode("ascii")).replace(tzinfo=UTC)
            except ValueError:
                pass
        return super().load(data)  # type: ignore[misc]

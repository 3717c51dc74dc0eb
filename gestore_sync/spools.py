"""Batches that one process writes and reads again: in memory while they are few, in a temporary file after."""

from __future__ import annotations

import copyreg
import pickle
import tempfile
from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

T = TypeVar("T")

SPOOL_SIZE = 8 * 1024 * 1024


def make_uuid(number: int) -> UUID:
    """The UUID of 128 bits."""
    return UUID(int=number)


def reduce_uuid(value: UUID) -> tuple[Any, ...]:
    """What of a UUID is written: its number, in a third of the time that its state takes."""
    return make_uuid, (value.int,)


class Spool(Generic[T]):
    """Batches in the order in which they were added."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_SIZE)  # noqa: SIM115
        self.size = 0

    def add(self, batch: T) -> None:
        """Append one batch."""
        pickler = pickle.Pickler(self._file, protocol=pickle.HIGHEST_PROTOCOL)
        pickler.dispatch_table = {**copyreg.dispatch_table, UUID: reduce_uuid}  # a dict: it is asked for each value
        pickler.dump(batch)
        self.size += 1

    def __iter__(self) -> Iterator[T]:
        self._file.seek(0)
        for _ in range(self.size):
            yield cast("T", pickle.load(self._file))  # our own anonymous file

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

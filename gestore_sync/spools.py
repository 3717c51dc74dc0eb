"""Batches that one process writes and reads again: in memory while they are few, in a temporary file after."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

T = TypeVar("T")

SPOOL_SIZE = 8 * 1024 * 1024


class Spool(Generic[T]):
    """Batches in the order in which they were added."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_SIZE)  # noqa: SIM115
        self.size = 0

    def add(self, batch: T) -> None:
        """Append one batch."""
        pickle.dump(batch, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self.size += 1

    def __iter__(self) -> Iterator[T]:
        self._file.seek(0)
        for _ in range(self.size):
            yield cast("T", pickle.load(self._file))  # our own anonymous file

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

"""The parts of a bundle while it is made: temporary files, so that their sizes and checksums are known in time."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from gestore_sync.exceptions import LocationUnavailable
from gestore_sync.manifests import Member
from gestore_sync.valuekinds import ENCODING

CHUNK = 1024 * 1024
RECORDS_AT_ONCE = 100
MAX_NAME = 90
"""As long names as tar takes in a header, without what is added."""


@dataclass
class StoredFile:
    """A stored file in a bundle: of the field ``field`` ("app.Model.field"), by the name in its storage."""

    field: str
    storage_name: str
    size: int
    sha256: str
    stream: IO[bytes]


@contextmanager
def kept_temporarily() -> Iterator[None]:
    """Writing temporary files; where there is no room for them, the error says where that is."""
    try:
        yield
    except OSError as error:
        raise LocationUnavailable(
            f"The folder for temporary files, {os.environ.get('TMPDIR') or '/tmp'}, cannot be written: {error}. "
            "Make room there, or name another one in the environment variable TMPDIR."
        ) from error


class PartFile:
    """A part as it is written: its size and its checksum are known in the end."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._stack = ExitStack()
        with kept_temporarily():
            self._file = self._stack.enter_context(path.open("wb", buffering=CHUNK))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with kept_temporarily():
            self._stack.close()

    def write(self, data: bytes) -> None:
        """Append some bytes."""
        with kept_temporarily():
            self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def hexdigest(self) -> str:
        """The checksum of what was written."""
        return self._digest.hexdigest()


class Parts:
    """A folder of parts; it goes with the ``with`` block."""

    def __init__(self) -> None:
        with kept_temporarily():
            self._folder = tempfile.TemporaryDirectory(prefix="gestore_sync_")
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def get_path(self, member: Member) -> Path:
        """Where the part is now."""
        return self._make_path(member.name)

    def _make_path(self, name: str) -> Path:
        return Path(self._folder.name) / name.replace("/", "_")

    def add_records(self, model: Any, texts: Iterable[str], *, separator: str = "\n") -> Member:
        """Keep the records of one model, each with ``separator`` after it."""
        name = f"data/{len(self.members) + 1:04}.{model._meta.label_lower}"[:MAX_NAME] + ".jsonl"
        count = 0
        with PartFile(self._make_path(name)) as out:
            stream = iter(texts)
            while some := list(islice(stream, RECORDS_AT_ONCE)):
                out.write(separator.join([*some, ""]).encode(**ENCODING))
                count += len(some)
        return self._add(Member(name, out.size, out.hexdigest(), model=model._meta.label, count=count))

    def add_file(self, field: str, storage_name: str, stream: Iterable[bytes]) -> Member:
        """Keep a stored file."""
        name = f"files/{len(self.members) + 1:06}"
        with PartFile(self._make_path(name)) as out:
            for chunk in stream:
                out.write(chunk)
        return self._add(Member(name, out.size, out.hexdigest(), field=field, storage_name=storage_name))

    def _add(self, member: Member) -> Member:
        self.members.append(member)
        return member

    def iter_chunks(self, member: Member) -> Iterator[bytes]:
        """The bytes of a part."""
        with self.get_path(member).open("rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

"""Files that are being written: nothing is at the place itself before all of it is there."""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gestore_sync.exceptions import LocationUnavailable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

logger = logging.getLogger(__name__)

BUFFER_SIZE = 2**18
BLOCK_SIZE = 2**24
"""So much is sent to an object store at once; what it holds in memory."""

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs"})
"""Where an object appears when its upload is completed, whole, and not before."""

ADVICE = {
    errno.ENOSPC: "Make room there, or name another place.",
    errno.EDQUOT: "Make room there, or name another place.",
    errno.EFBIG: "Name a place where files may be larger.",
    errno.EACCES: "Ask for the permission, or name another place.",
    errno.EPERM: "Ask for the permission, or name another place.",
    errno.EROFS: "Name another place.",
    errno.ENOENT: "Check the name.",
    errno.ENOTDIR: "A part of the path is a file: check the name.",
    errno.EEXIST: "A part of the path is a file: check the name.",
    errno.EISDIR: "Name a file in it.",
    errno.ENAMETOOLONG: "Give it a shorter name.",
}
KINDS = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    FileExistsError: errno.EEXIST,
}
OTHER_ADVICE = "Check the address, the credentials and the connection, and run again."


def explain(location: str, done: str, error: Exception) -> LocationUnavailable:
    """An error of a file or of a file system as one of ours, with what to do. ``done``: "read" or "written"."""
    reason = str(error).strip()
    code = None
    if isinstance(error, OSError):
        code = error.errno or next((KINDS[kind] for kind in KINDS if isinstance(error, kind)), None)
        reason = error.strerror or (f"{reason} ({os.strerror(code)})" if code else reason)
    lines = reason.splitlines() or [type(error).__name__]
    advice = ADVICE.get(code or 0, OTHER_ADVICE)
    return LocationUnavailable(f"{location} cannot be {done}: {lines[0].rstrip('.')}. {advice}")


@contextmanager
def explained(location: str, done: str) -> Iterator[None]:
    """Whatever fails inside is a :class:`LocationUnavailable`: a file system's errors are of any class."""
    try:
        yield
    except LocationUnavailable:
        raise
    except Exception as error:
        raise explain(location, done, error) from error


class Guarded(io.RawIOBase):
    """A file of any file system, each error of which is a :class:`LocationUnavailable`.

    Closing it leaves the file open. What is written to an ``abandoned`` one goes nowhere.
    """

    def __init__(self, file: Any, location: str, *, reading: bool) -> None:
        self.file = file
        self.location = location
        self.reading = reading
        self.abandoned = False

    def readable(self) -> bool:
        return self.reading

    def writable(self) -> bool:
        return not self.reading

    def seekable(self) -> bool:
        return self.reading and bool(self.file.seekable())

    def readinto(self, buffer: WriteableBuffer) -> int:
        with memoryview(buffer) as view, explained(self.location, "read"):
            data = self.file.read(len(view))
            view[: len(data)] = data
            return len(data)

    def write(self, data: ReadableBuffer) -> int:
        with memoryview(data) as view:
            if self.abandoned:
                return len(view)
            with explained(self.location, "written"):
                written = self.file.write(bytes(view))
                return len(view) if written is None else int(written)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("seek")
        with explained(self.location, "read"):
            return int(self.file.seek(offset, whence))

    def tell(self) -> int:
        return int(self.file.tell())


class Draft(ABC):
    """A file that is being written. ``file``: where to; then ``publish`` or ``discard``. Subclasses fill ``_raw``."""

    def __init__(self, location: str) -> None:
        self.location = location
        with explained(location, "written"):
            self._raw: Any = self._open()
        self._guarded = Guarded(self._raw, location, reading=False)
        self.file: BinaryIO = io.BufferedWriter(self._guarded, BUFFER_SIZE)

    def publish(self) -> None:
        """Put what was written at its place. Raises :class:`LocationUnavailable`."""
        if not self.file.closed:
            self.file.close()
        with explained(self.location, "written"):
            self._publish()

    def discard(self) -> None:
        """Forget what was written; what cannot be taken away is told in the log, as an error is on its way already."""
        self._guarded.abandoned = True
        self.file.close()
        try:
            with explained(self.location, "written"):
                self._discard()
        except LocationUnavailable as error:
            logger.warning("What was written may be left behind in part. %s", error)

    @abstractmethod
    def _open(self) -> Any:
        """The file to write to."""

    @abstractmethod
    def _publish(self) -> None:
        """Close the file and put it at its place."""

    @abstractmethod
    def _discard(self) -> None:
        """Close the file and take it away."""


class LocalDraft(Draft):
    """A file beside the one that it will become, or replace in one step."""

    def __init__(self, path: Path, location: str) -> None:
        self._path = path
        super().__init__(location)

    def _open(self) -> Any:
        self._path = Path(os.path.realpath(self._path))
        mode = self._find_mode()
        self._draft = self._path.with_name(make_name())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(self._draft, flags, 0o666 if mode is None else 0o600)
        if mode is not None:
            with suppress(OSError):  # a file system without permissions
                self._draft.chmod(mode)
        return os.fdopen(descriptor, "wb", buffering=0)

    def _find_mode(self) -> int | None:
        """The permissions of the file that is replaced."""
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(self._path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return mode & 0o777

    def _publish(self) -> None:
        os.fsync(self._raw.fileno())
        self._raw.close()
        self._draft.replace(self._path)
        sync_folder(self._path.parent)

    def _discard(self) -> None:
        try:
            self._raw.close()
        finally:
            self._draft.unlink(missing_ok=True)


class DeviceDraft(Draft):
    """What is no ordinary file, such as a pipe or ``/dev/stdout``: it takes what it gets as it gets it."""

    def __init__(self, path: Path, location: str) -> None:
        self._path = path
        super().__init__(location)

    def _open(self) -> Any:
        return self._path.open("wb", buffering=0)

    def _publish(self) -> None:
        self._raw.close()

    def _discard(self) -> None:
        self._raw.close()


class MovedDraft(Draft):
    """A file in a folder of an fsspec file system, moved when it is whole."""

    def __init__(self, file_system: Any, path: str, location: str) -> None:
        self._file_system = file_system
        self._path = path
        self._folder, slash, _ = path.rpartition("/")
        self._draft = f"{self._folder}{slash}{make_name()}"
        super().__init__(location)

    def _open(self) -> Any:
        if self._file_system.isdir(self._path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if self._folder:
            self._file_system.makedirs(self._folder, exist_ok=True)
        return self._file_system.open(self._draft, "wb", block_size=BLOCK_SIZE)

    def _publish(self) -> None:
        self._raw.close()
        move(self._file_system, self._draft, self._path)

    def _discard(self) -> None:
        try:
            self._raw.close()
        finally:
            with suppress(FileNotFoundError):
                self._file_system.rm_file(self._draft)


class UploadDraft(Draft):
    """An object of an object store: there is nothing before its upload is completed, which closing it does."""

    def __init__(self, file_system: Any, path: str, location: str) -> None:
        self._file_system = file_system
        self._path = path
        super().__init__(location)

    def _open(self) -> Any:
        return self._file_system.open(self._path, "wb", block_size=BLOCK_SIZE)

    def _publish(self) -> None:
        self._raw.close()

    def _discard(self) -> None:
        try:
            self._raw.discard()
        finally:
            self._raw.closed = True  # or it would be completed when it is collected as garbage


def move(file_system: Any, source: str, target: str) -> None:
    """Move a file. fsspec's own ``mv`` takes names for patterns; a file system that can rename has another one."""
    from fsspec import AbstractFileSystem

    if type(file_system).mv is AbstractFileSystem.mv:
        file_system.copy([source], [target])
        file_system.rm_file(source)
    else:
        file_system.mv(source, target)


def make_name() -> str:
    """The name of a file that is being written; no other process has the same."""
    return f".gestore-{secrets.token_hex(8)}.tmp"


def sync_folder(folder: Path) -> None:
    """Have the name of a new file survive a loss of power, on systems that can be asked for it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

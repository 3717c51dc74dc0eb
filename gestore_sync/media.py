"""Stored files of an import: they go through the storages of the fields, never over another file."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, NamedTuple, Self

from django.core.exceptions import SuspiciousFileOperation
from django.core.files import File
from django.core.files.storage import Storage
from django.core.files.utils import validate_file_name
from django.db.models import FileField, Model
from django.utils.crypto import get_random_string

from gestore_sync.bundles import StoredFile
from gestore_sync.bundles.parts import kept_temporarily
from gestore_sync.exceptions import BundleError, WriteFailed
from gestore_sync.manifests import find_model
from gestore_sync.refs import Key

CHUNK = 1024 * 1024
NAME_KEPT = 40
"""How much of a file's name is kept where another has to be made."""

logger = logging.getLogger(__name__)


class Content(NamedTuple):
    """A file of the bundle, where it is until it is stored."""

    path: Path
    size: int
    sha256: str


class Media:
    """The stored files of one bundle. ``planned``: what will be written, by storage and name. ``originals``: by field
    and object, the name in the bundle of a file that got another one.

    Where its ``with`` block fails, what was stored is taken away again, unless :meth:`keep` was called.
    """

    def __init__(self) -> None:
        with kept_temporarily():
            self._folder = tempfile.TemporaryDirectory(prefix="gestore_sync_")
        self._contents: dict[tuple[Storage, str], Content] = {}
        self._settled: dict[tuple[Storage, str], str] = {}
        self._stored: list[tuple[Storage, str]] = []
        self.planned: dict[tuple[Storage, str], Content] = {}
        self.originals: dict[tuple[FileField, Key], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
        for storage, name in self._stored if kind is not None else ():
            take_away(storage, name)

    def __bool__(self) -> bool:
        return bool(self._contents)

    def load(self, files: Iterable[StoredFile]) -> None:
        """Take the files of a bundle. Raises :class:`BundleError` for a name that leaves its storage."""
        for number, stored in enumerate(files):
            check_name(stored.storage_name)
            path = Path(self._folder.name) / str(number)
            with kept_temporarily(), path.open("wb") as out:
                shutil.copyfileobj(stored.stream, out, CHUNK)
            field = find_file_field(stored.field)
            if field is not None:
                self._contents[field.storage, stored.storage_name] = Content(path, stored.size, stored.sha256)

    def plan_anew(self) -> None:
        """Forget what is planned: objects that were to come may be left out."""
        self.planned.clear()
        self._settled.clear()

    def plan_only(self, wanted: Collection[tuple[Storage, str]]) -> None:
        """Forget the planned files that no row will name."""
        self.planned = {place: content for place, content in self.planned.items() if place in wanted}

    def find_name(self, field: FileField, name: str, current: str | None) -> str:
        """The name under which the file ``name`` of the bundle is, or will be, in the storage of ``field``.

        ``current``: the name that the row on the target has now, if it exists.
        """
        storage = field.storage
        content = self._contents.get((storage, name))
        if content is None:
            return name
        with asked(name):
            if current and is_stored(storage, current, content):
                return current
            if (storage, name) not in self._settled:
                self._settled[storage, name] = self._settle(field, name, content)
        return self._settled[storage, name]

    def _settle(self, field: FileField, name: str, content: Content) -> str:
        storage = field.storage
        if is_stored(storage, name, content):
            return name
        free = name
        if storage.exists(name) or (storage, name) in self.planned:
            free = storage.get_available_name(name, max_length=field.max_length)
        while storage.exists(free) or (storage, free) in self.planned:
            free = make_other_name(name)
        self.planned[storage, free] = content
        return free

    def store(self) -> None:
        """Store what is planned. Raises :class:`WriteFailed`."""
        for (storage, name), content in self.planned.items():
            with asked(name):
                is_there = is_stored(storage, name, content)
            if not is_there:
                self._stored.append((storage, store(storage, name, content)))

    def keep(self) -> None:
        """Leave what was stored where it is, whatever fails from now on: the rows that name it are committed."""
        self._stored.clear()


@contextmanager
def asked(name: str) -> Iterator[None]:
    """Asking a storage, which may raise anything."""
    try:
        yield
    except Exception as error:
        raise WriteFailed(f"The storage cannot be asked for {name!r}: {error}. Nothing was imported.") from error


def store(storage: Storage, name: str, content: Content) -> str:
    """Store one file under its planned name. Raises :class:`WriteFailed`; nothing of the file is left then."""
    with asked(name):
        is_taken = storage.exists(name)
    if is_taken:
        raise WriteFailed(f"Another file was stored as {name!r} in the meantime. Nothing was imported; run again.")
    try:
        with content.path.open("rb") as stream:
            saved = storage.save(name, File(stream))
    except Exception as error:
        take_away(storage, name)
        raise WriteFailed(f"The file {name!r} cannot be stored: {error}. Nothing was imported.") from error
    with asked(name):
        is_there = saved == name or is_stored(storage, name, content)
    if not is_there:
        take_away(storage, saved)
        raise WriteFailed(f"The storage took the file {name!r} as {saved!r} only. Nothing was imported; run again.")
    return saved


def take_away(storage: Storage, name: str) -> None:
    """Delete a file of a run that failed; the log says where that fails as well."""
    try:
        storage.delete(name)
    except (OSError, ValueError, SuspiciousFileOperation) as error:
        logger.warning("The file %r of a failed import cannot be deleted: %s", name, error)


def make_other_name(name: str) -> str:
    """A name like this one that hardly any file has."""
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem[:NAME_KEPT]}_{get_random_string(10)}{path.suffix}"))


def check_name(name: str) -> None:
    """Raise :class:`BundleError` for a name that leaves its storage, or that no storage takes."""
    try:
        validate_file_name(name, allow_relative_path=True)
    except SuspiciousFileOperation as error:
        raise BundleError(f"The bundle has a file that may not be stored: {error}.") from None
    if "\0" in name:
        raise BundleError(f"The bundle has a file that may not be stored: {name!r}.")


def find_file_field(label: str) -> FileField | None:
    """The file field called "app.Model.field"; None where this project has none."""
    model_label, _, name = label.rpartition(".")
    model = find_model(model_label)
    fields = get_file_fields(model) if model is not None else []
    return next((field for field in fields if field.name == name), None)


def get_file_fields(model: type[Model]) -> list[FileField]:
    """The file fields in the table of ``model``."""
    return [field for field in model._meta.local_fields if isinstance(field, FileField)]


def is_stored(storage: Storage, name: str, content: Content) -> bool:
    """Whether the storage has this very content under this name."""
    if not storage.exists(name) or storage.size(name) != content.size:
        return False
    digest: Any = hashlib.sha256()
    with storage.open(name, "rb") as stream:
        for chunk in stream.chunks(CHUNK):
            digest.update(chunk)
    return bool(digest.hexdigest() == content.sha256)

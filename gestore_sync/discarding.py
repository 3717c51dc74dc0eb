"""The stored files of deleted rows."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage, Storage
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.db.models import Model, Q

from gestore_sync.dooming import Doomed
from gestore_sync.exceptions import FilesLeft
from gestore_sync.failures import first_line
from gestore_sync.links import LinkGraph, find_models
from gestore_sync.media import get_file_fields
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, iter_rows, match
from gestore_sync.refs import iter_chunks

FILES_AT_ONCE = 100
"""After so many it is looked whether the storage fails."""

DETOURS = ("//", "./", "/.", "\\")
"""What is only in names that a storage may take for other ones."""


class StoredFiles:
    """The files that rows of one database name. ``names``: by place and by what the storage makes of a name, the names
    of one file."""

    def __init__(self) -> None:
        self.names: dict[Any, dict[str, set[str]]] = {}
        self._storages: dict[tuple[Any, str], Storage] = {}

    def __len__(self) -> int:
        return sum(map(len, self.names.values()))

    def add_from(self, graph: LinkGraph, doomed: Doomed) -> None:
        """Note the files of rows that go."""
        for model, keys in doomed.keys.items():
            fields = get_file_fields(model)
            for _, *names in iter_rows(model, graph.using, keys, [field.attname for field in fields]) if fields else ():
                for field, name in zip(fields, names, strict=True):
                    if name:
                        self._add(field.storage, str(name))

    def _add(self, storage: Storage, name: str) -> None:
        place, file = get_place(storage), find_file(storage, name)
        self._storages.setdefault((place, file), storage)
        self.names.setdefault(place, {}).setdefault(file, set()).add(name)

    def discard(self, using: str) -> None:
        """Delete the files that no row names any more, of this database or of one it is synchronized with.

        Raises :class:`FilesLeft` where a storage fails, or a database cannot be asked.
        """
        aliases = {using, DEFAULT_DB_ALIAS, getattr(settings, "SYNCHRO_REMOTE", None) or using}
        for alias in sorted(aliases.intersection(settings.DATABASES)):
            try:
                self._leave_named(alias)
            except (DatabaseError, InterfaceError) as error:
                raise FilesLeft(
                    f"The rows are deleted, but their {len(self)} stored files are left: the database {alias!r} could "
                    f"not be asked whether its rows name them, too: {first_line(error)}."
                ) from error
        going = [
            (self._storages[place, file], name)
            for place, files in self.names.items()
            for file, names in sorted(files.items())
            for name in sorted(names)
        ]
        for chunk in iter_chunks(going, FILES_AT_ONCE):
            delete_files(chunk)

    def _leave_named(self, using: str) -> None:
        for model in find_models(using):
            for field in get_file_fields(model):
                files = self.names.get(get_place(field.storage))
                if not files:
                    continue
                asked = {find_name(field.storage, file) for file in files}.union(*files.values())
                for name in iter_named(model, field.attname, using, sorted(asked)):
                    files.pop(find_file(field.storage, name), None)


def get_place(storage: Any) -> Any:
    """What is equal for two storages that may keep a file both. In doubt those of one class do."""
    if isinstance(storage, FileSystemStorage):
        return "path"
    location, bucket = str(getattr(storage, "location", "")), str(getattr(storage, "bucket_name", ""))
    return bucket or f"{storage.__class__.__module__}.{storage.__class__.__qualname__}", location


def find_file(storage: Storage, name: str) -> str:
    """What is equal for the names of one file: its path on the disk, or the name without detours."""
    if isinstance(storage, FileSystemStorage):
        try:
            path = Path(storage.path(name))
            return str(path.parent.resolve() / path.name)
        except (SuspiciousFileOperation, RuntimeError, ValueError):
            pass
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/")


def find_name(storage: Storage, file: str) -> str:
    """The plain name in a storage of what :func:`find_file` found."""
    return os.path.relpath(file, os.path.realpath(storage.path(""))) if isinstance(storage, FileSystemStorage) else file


def iter_named(model: type[Model], name: str, using: str, names: Sequence[str]) -> Iterator[str]:
    """Those files that a row still names, and all that rows name with detours."""
    rows = get_queryset(model, using)
    for chunk in iter_chunks(names, KEYS_PER_QUERY):
        yield from map(str, rows.filter(match(name, chunk)).values_list(name, flat=True).iterator())
    wanted = Q(**{f"{name}__startswith": "/"}) | Q(**{f"{name}__endswith": "/"})
    for detour in DETOURS:
        wanted |= Q(**{f"{name}__contains": detour})
    yield from map(str, rows.filter(wanted).values_list(name, flat=True).iterator())


def delete_files(files: Sequence[tuple[Storage, str]]) -> None:
    """Delete files, all of them before the first failure is told. Raises :class:`FilesLeft`."""
    with ExitStack() as stack:
        for storage, name in files:
            stack.callback(delete_file, storage, name)


def delete_file(storage: Storage, name: str) -> None:
    """Delete a file; one that is not there is none. Raises :class:`FilesLeft`, whatever a storage raises."""
    try:
        storage.delete(name)
    except Exception as error:
        raise FilesLeft(
            f"The rows are deleted, but the storage could not delete the file {name!r}: "
            f"{type(error).__name__}: {error}. Delete it there by hand."
        ) from error

"""The stored files of deleted rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.core.files.storage import FileSystemStorage, Storage
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError
from django.db.models import Model

from gestore_sync.dooming import Doomed
from gestore_sync.exceptions import FilesLeft
from gestore_sync.failures import first_line
from gestore_sync.links import LinkGraph, find_models
from gestore_sync.media import get_file_fields
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, iter_rows, match
from gestore_sync.refs import iter_chunks

FILES_AT_ONCE = 100
"""After so many it is looked whether the storage fails."""


class StoredFiles:
    """The files that rows of one database name, by storage. Two storages of one place count as one."""

    def __init__(self) -> None:
        self.names: dict[Any, set[str]] = {}
        self._storages: dict[Any, Storage] = {}

    def __len__(self) -> int:
        return sum(map(len, self.names.values()))

    def add_from(self, graph: LinkGraph, doomed: Doomed) -> None:
        """Note the files of rows that go."""
        for model, keys in doomed.keys.items():
            fields = get_file_fields(model)
            for _, *names in iter_rows(model, graph.using, keys, [field.attname for field in fields]) if fields else ():
                for field, name in zip(fields, names, strict=True):
                    if name:
                        place = get_place(field.storage)
                        self._storages.setdefault(place, field.storage)
                        self.names.setdefault(place, set()).add(str(name))

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
        for place, names in self.names.items():
            for chunk in iter_chunks(sorted(names), FILES_AT_ONCE):
                delete_files(self._storages[place], chunk)

    def _leave_named(self, using: str) -> None:
        for model in find_models(using):
            for field in get_file_fields(model):
                names = self.names.get(get_place(field.storage))
                if names:
                    names.difference_update(iter_named(model, field.attname, using, sorted(names)))


def get_place(storage: Any) -> Any:
    """What is equal for two storages that keep their files in one place. In doubt those of one class do."""
    location, bucket = str(getattr(storage, "location", "")), str(getattr(storage, "bucket_name", ""))
    if isinstance(storage, FileSystemStorage):
        return "path", location
    return bucket or f"{storage.__class__.__module__}.{storage.__class__.__qualname__}", location


def iter_named(model: type[Model], name: str, using: str, names: Sequence[str]) -> Iterator[str]:
    """Those files that a row still names."""
    for chunk in iter_chunks(names, KEYS_PER_QUERY):
        rows = get_queryset(model, using).filter(match(name, chunk))
        yield from map(str, rows.values_list(name, flat=True).iterator())


def delete_files(storage: Storage, names: Sequence[str]) -> None:
    """Delete files, all of them before the first failure is told. Raises :class:`FilesLeft`."""
    with ExitStack() as stack:
        for name in names:
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

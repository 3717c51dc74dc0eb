"""Where files go: paths of this machine, and every URL that fsspec opens."""

from __future__ import annotations

import io
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import unquote

from gestore_sync.drafts import (
    BLOCK_SIZE,
    BUFFER_SIZE,
    OBJECT_STORES,
    DeviceDraft,
    Draft,
    Guarded,
    LocalDraft,
    MovedDraft,
    UploadDraft,
    explained,
)
from gestore_sync.exceptions import LocationUnavailable, WrongSetting

FORMATS = (".json", ".json.gz", ".tar.gz", ".tar.zst")
DEFAULT_FOLDER = "exports"
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "sftp": "sftp", "ssh": "sftp"}
"""The extra that installs what a scheme needs; fsspec itself is in all of them, and in "files"."""

URL = re.compile(r"(?:[a-z][a-z0-9+.-]*::)*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
FILE_URL = re.compile(r"(?:file|local)://(?:localhost(?=/))?(.*)", re.IGNORECASE | re.DOTALL)
PASSWORD = re.compile(r"(://[^/:@]*):[^/]*@")


class Address(str):
    """A location together with what fsspec's file system takes for it, such as credentials."""

    __slots__ = ("options",)
    options: Mapping[str, Any]

    def __new__(cls, location: str, options: Mapping[str, Any]) -> Self:
        address = super().__new__(cls, location)
        address.options = options
        return address


@contextmanager
def open_output(location: str, options: Mapping[str, Any] | None = None) -> Iterator[BinaryIO]:
    """A binary file to write to, which is at its place when the block has ended well, and not at all otherwise.

    ``location``: a path or a URL; missing folders are made; a file that is there is replaced in one step.
    ``options``: what fsspec's file system takes, where the location is no :class:`Address` that has it.
    Raises :class:`~gestore_sync.exceptions.LocationUnavailable`.
    """
    draft = make_draft(location, options)
    try:
        yield draft.file
        draft.publish()
    except BaseException:
        draft.discard()
        raise


@contextmanager
def open_input(location: str, options: Mapping[str, Any] | None = None) -> Iterator[io.BufferedReader]:
    """A binary file to read from, buffered. ``location``: a path or a URL; ``options``: see :func:`open_output`.

    Raises :class:`~gestore_sync.exceptions.LocationUnavailable`.
    """
    shown = hide_password(location)
    with explained(shown, "read"):
        file = _open_to_read(location, options)
    try:
        yield io.BufferedReader(Guarded(file, shown, reading=True), BUFFER_SIZE)
    finally:
        file.close()


def _open_to_read(location: str, options: Mapping[str, Any] | None) -> Any:
    path = find_path(location)
    if path is not None:
        return path.open("rb", buffering=0)
    file_system, name = get_file_system(location, options)
    file_system.invalidate_cache()
    return file_system.open(name, "rb", block_size=BLOCK_SIZE)


def make_draft(location: str, options: Mapping[str, Any] | None = None) -> Draft:
    """What is written before it is at ``location``. Raises :class:`~gestore_sync.exceptions.LocationUnavailable`."""
    shown = hide_password(location)
    path = find_path(location)
    if path is not None:
        return DeviceDraft(path, shown) if is_device(path) else LocalDraft(path, shown)
    with explained(shown, "written"):
        file_system, name = get_file_system(location, options)
        names = file_system.protocol
        is_store = OBJECT_STORES.intersection([names] if isinstance(names, str) else names)
    return (UploadDraft if is_store else MovedDraft)(file_system, name, shown)


def get_file_system(location: str, options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the name of the file in it. Raises what the file system raises."""
    if options is None and isinstance(location, Address):
        options = location.options
    scheme = get_scheme(location)
    extra = EXTRAS.get(scheme, "files")
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise make_missing(location, "fsspec is not installed", extra) from error
    try:
        return url_to_fs(str(location), **(options or {}))  # type: ignore[no-any-return]
    except ImportError as error:
        if scheme not in EXTRAS:
            raise
        raise make_missing(location, str(error), extra) from error


def make_missing(location: str, reason: str, extra: str) -> LocationUnavailable:
    """The error for what needs an extra that is not installed."""
    shown, command = hide_password(location), f'pip install "gestore-sync[{extra}]"'
    return LocationUnavailable(f"{shown} cannot be opened: {reason.rstrip('.')}. Install what it needs: {command}")


def get_scheme(location: str) -> str:
    """The scheme of a URL, in small letters; empty for a path."""
    match = URL.match(location)
    return match[1].lower() if match else ""


def find_path(location: str) -> Path | None:
    """The path of a file of this machine; None for a URL that leads elsewhere."""
    match = FILE_URL.fullmatch(location)
    if match:
        return Path(unquote(match[1]))
    return None if get_scheme(location) else Path(location)


def is_device(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def hide_password(location: str) -> str:
    """A location as it may be shown: without the password of a URL."""
    return PASSWORD.sub(r"\1:***@", location)


def find_format(location: str) -> str | None:
    """The one of ``FORMATS`` that a name ends with, in any letter case; None for other names."""
    name = location.lower()
    return next((ending for ending in FORMATS if name.endswith(ending)), None)


def get_format(location: str) -> str:
    """The format that the name of a bundle tells, one of ``FORMATS``. Raises WrongSetting for other names."""
    found = find_format(location)
    if found is None:
        raise WrongSetting(
            f"The name {hide_password(location)} tells no format of a bundle: it must end in {', '.join(FORMATS)}."
        )
    return found


def get_export_location(output: str | os.PathLike[str] | None, now: datetime) -> str:
    """Where an export goes: a name with the ending of a format is the file's; any other is that of a folder for
    ``<host>_<time>.json``. Without a name the folder is ``exports``.
    """
    folder = os.fspath(output) if output else DEFAULT_FOLDER
    if find_format(folder) is not None:
        return folder
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip("-.") or "localhost"
    slash = "" if folder.endswith("/") else "/"
    return f"{folder}{slash}{host}_{now:%Y-%m-%d_%H-%M-%S-%f}.json"

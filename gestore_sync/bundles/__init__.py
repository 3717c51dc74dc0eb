"""A subgraph as a file, and back: documents for people, archives for everything.

``.json`` and ``.json.gz``: one document in gestore's shape. ``.tar.gz`` and ``.tar.zst``: the manifest, one JSON-lines
file for each model, then stored files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gestore_sync.bundles.archives import ArchiveReader, write_archive
from gestore_sync.bundles.documents import DocumentReader, write_document
from gestore_sync.bundles.parts import Parts, StoredFile
from gestore_sync.bundles.streams import JSON, JSON_GZ
from gestore_sync.locations import get_format, open_input, open_output
from gestore_sync.manifests import Manifest
from gestore_sync.records import Record

__all__ = ["BundleReader", "Parts", "StoredFile", "is_document", "open_bundle", "write_bundle"]


class BundleReader(Protocol):
    """A bundle as it is read: the manifest is known at once, records come before files, each once."""

    manifest: Manifest

    def iter_records(self) -> Iterator[Record]:
        """The records. Raises :class:`~gestore_sync.exceptions.BundleError` where the bundle is broken."""

    def iter_files(self) -> Iterator[StoredFile]:
        """The stored files, each readable until the next one is asked for."""


def is_document(form: str) -> bool:
    """Whether files with this ending are documents; the others are archives."""
    return form in (JSON, JSON_GZ)


def write_bundle(location: str, manifest: Manifest, parts: Parts) -> None:
    """Write the bundle whose parts are ready. It is there whole, or not at all."""
    form = get_format(location)
    with open_output(location) as stream:
        if is_document(form):
            write_document(stream, manifest, parts, form)
        else:
            write_archive(stream, manifest, parts, form)


@contextmanager
def open_bundle(location: str) -> Iterator[BundleReader]:
    """Open a bundle for reading. Raises BundleError, LocationUnavailable."""
    form = get_format(location)
    with open_input(location) as stream:
        if is_document(form):
            with DocumentReader(stream, form) as document:
                yield document
        else:
            with ArchiveReader(stream, form) as archive:
                yield archive

"""Bundles made, taken apart and put together again by hand, with nothing but what Python brings."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard
from django.db import models

from gestore_sync import api
from gestore_sync.bundles import open_bundle
from gestore_sync.exceptions import GestoreSyncError
from tests.policies.watching import Watch, describe_changes

FORMATS = (".json", ".json.gz", ".tar.gz", ".tar.zst")
ARCHIVES = (".tar.gz", ".tar.zst")
DATE = "2026-11-01T12:00:00.123456+00:00"

Document = dict[str, Any]
Members = dict[str, bytes]


class Content(NamedTuple):
    """All that a bundle says."""

    manifest: Document
    records: list[Any]
    files: list[tuple[str, str, bytes]]


def read_all(path: Path) -> Content:
    """Read a bundle with our reader, from its beginning to its end."""
    with open_bundle(str(path)) as bundle:
        records = [tuple(record) for record in bundle.iter_records()]
        files = [(file.field, file.storage_name, file.stream.read()) for file in bundle.iter_files()]
        return Content(bundle.manifest.as_dict(), records, files)


def pack(data: bytes, ending: str) -> bytes:
    """Compress bytes as the ending of a name says."""
    if ending.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.ZstdCompressor().compress(data) if ending.endswith(".zst") else data


def unpack(data: bytes, ending: str) -> bytes:
    """Decompress bytes as the ending of a name says."""
    if ending.endswith(".gz"):
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data) if ending.endswith(".zst") else data


def get_ending(path: Path) -> str:
    """Return the ending that tells the format."""
    return next(ending for ending in FORMATS if path.name.endswith(ending))


def read_members(path: Path) -> Members:
    """Return the members of an archive in their order."""
    with tarfile.open(fileobj=io.BytesIO(unpack(path.read_bytes(), get_ending(path)))) as tar:
        return {header.name: tar.extractfile(header).read() for header in tar}  # type: ignore[union-attr]


def write_members(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write an archive of these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    path.write_bytes(pack(out.getvalue(), get_ending(path)))
    return path


def seal(manifest: Document, members: Members) -> Members:
    """Return the members with a manifest before them whose sizes, counts and checksums are right."""
    for member in manifest.get("members", ()):
        content = members[member["name"]]
        member["size"], member["sha256"] = len(content), hashlib.sha256(content).hexdigest()
        if "model" in member:
            member["count"] = manifest["counts"][member["model"]] = content.count(b"\n")
    rest = {name: content for name, content in members.items() if name != "manifest.json"}
    return {"manifest.json": json.dumps(manifest).encode(), **rest}


def read_document(path: Path) -> Document:
    """Return what a document says."""
    found: Document = json.loads(unpack(path.read_bytes(), get_ending(path)))
    return found


def write_document(path: Path, document: Any) -> Path:
    """Write a document."""
    path.write_bytes(pack(json.dumps(document).encode(), get_ending(path)))
    return path


def edit_records(path: Path, edit: Callable[[list[Document]], Any]) -> Path:
    """Let ``edit`` change the list of the records of any bundle, and make it whole again; no signature is kept."""
    if get_ending(path) not in ARCHIVES:
        document = read_document(path)
        edit(document["objects"])
        return write_document(path, document)
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    names = {member["model"].lower(): member["name"] for member in manifest["members"] if "model" in member}
    records = [json.loads(line) for name in names.values() for line in members[name].splitlines()]
    edit(records)
    for label, name in names.items():
        lines = [json.dumps(record) for record in records if record["model"].lower() == label]
        members[name] = "".join(f"{line}\n" for line in lines).encode()
    return write_members(path, seal(manifest, members))


def find_record(records: list[Document], label: str, pk: Any = None) -> Document:
    """Return the record of an object; without a pk the only one of its model."""
    (found,) = [record for record in records if record["model"] == label and pk in (None, record["pk"])]
    return found


def record(label: str, pk: Any, **fields: Any) -> Document:
    """Return the record of an object."""
    return {"model": label, "pk": pk, "fields": fields}


def make_document(*records: Document, **head: Any) -> Document:
    """Return a document with these records, whose manifest names their models."""
    counts: dict[str, int] = {}
    for one in records:
        counts[one["model"]] = counts.get(one["model"], 0) + 1
    return {
        "version": "1",
        "date": DATE,
        "origin": "00000000-0000-4000-8000-000000000001",
        "provided_objects": [],
        "scope": {},
        "counts": counts,
        "schema": {},
        "objects": list(records),
        **head,
    }


def export(watch: Watch, path: Path, *roots: models.Model | str, **options: Any) -> Path:
    """Export from the source."""
    api.export_objects(list(roots), str(path), database=watch.source, **options)
    return path


def load(watch: Watch, path: Path, **options: Any) -> api.Report:
    """Import into the target."""
    return api.import_objects(str(path), database=watch.target, **options)


def refuse(watch: Watch, path: Path, **options: Any) -> GestoreSyncError:
    """Import into the target, which must fail and leave the target as it was; return the error."""
    before = watch.picture()
    with pytest.raises(GestoreSyncError) as caught:
        load(watch, path, **options)
    changes = describe_changes(before, watch.picture())
    assert not changes, f"the import has failed and yet the target has changed: {changes}"
    return caught.value

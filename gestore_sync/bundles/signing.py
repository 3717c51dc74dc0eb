"""Signatures of bundles: over the manifest with the checksums of an archive's parts, or over all of a document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from functools import partial
from typing import Any

from gestore_sync.bundles.documents import SEPARATOR
from gestore_sync.bundles.parts import Parts
from gestore_sync.bundles.streams import JSON, JSON_GZ
from gestore_sync.exceptions import UntrustedBundle
from gestore_sync.manifests import Manifest
from gestore_sync.records import Record
from gestore_sync.signatures import sign, verify
from gestore_sync.valuekinds import load_json

dump = partial(json.dumps, sort_keys=True, separators=(",", ":"))
"""JSON with sorted keys, of values without Decimals."""


def make_canonical(value: Any) -> bytes:
    """JSON of parsed JSON in one form only, for checksums. Numbers that are no integers keep all their digits."""
    try:
        return dump(value).encode()
    except TypeError:
        return dump_numbers(value).encode()


def dump_numbers(value: Any) -> str:
    """The same where Decimals are among the values: they stand as they were written, as nothing else can."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{dump(key)}:{dump_numbers(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump_numbers, value)) + "]"
    return str(value) if isinstance(value, Decimal) else dump(value)


class ContentDigest:
    """The checksum of the records of a document, in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, record: Record) -> None:
        """Add one record."""
        self._digest.update(make_canonical([record.model, record.pk, dict(record.fields)]) + b"\n")

    def hexdigest(self) -> str:
        """The checksum so far."""
        return self._digest.hexdigest()


def make_payload(manifest: Manifest, content: str) -> bytes:
    """What is signed."""
    head = manifest.as_dict()
    head.pop("signature", None)
    return make_canonical([head, content])


def sign_bundle(manifest: Manifest, parts: Parts, form: str) -> None:
    """Sign a bundle whose parts are ready."""
    content = digest_parts(parts) if form in (JSON, JSON_GZ) else ""
    manifest.signature = sign(make_payload(manifest, content))


def digest_parts(parts: Parts) -> str:
    """The checksum of the records that will be a document's."""
    digest = ContentDigest()
    for member in parts.members:
        for text in iter_texts(parts.iter_chunks(member)):
            values = load_json(text)
            digest.add(Record(values["model"], values["pk"], values["fields"]))
    return digest.hexdigest()


def iter_texts(chunks: Iterable[bytes]) -> Iterable[str]:
    """The texts of indented records, which end with a brace at a place where no other does."""
    end = ("\n    }" + SEPARATOR).encode()
    rest = b""
    for chunk in chunks:
        *texts, rest = (rest + chunk).split(end)
        yield from (text.decode() + "}" for text in texts)


def check_signature(manifest: Manifest, content: str, *, required: bool) -> None:
    """Raise :class:`UntrustedBundle` for a wrong signature, and where one is ``required`` for a missing one."""
    if manifest.signature:
        verify(make_payload(manifest, content), manifest.signature)
    elif required:
        raise UntrustedBundle("The bundle is not signed, and --verify takes only signed ones.")

"""Archives: a tar file with the manifest, one JSON-lines file for each model, then stored files; always a stream.

Nothing is ever unpacked to where an archive says. The manifest tells the size and the checksum of each part before it
is read.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from io import BytesIO
from types import TracebackType
from typing import IO, Any, Self

from gestore_sync.bundles.documents import make_object, read_record
from gestore_sync.bundles.parts import CHUNK, Parts, StoredFile
from gestore_sync.bundles.streams import compress, decompress
from gestore_sync.conf import get_option
from gestore_sync.exceptions import BundleError
from gestore_sync.manifests import Manifest, Member, read_manifest
from gestore_sync.records import Record

MANIFEST = "manifest.json"
MAX_MANIFEST = 256 * 1024 * 1024
MAX_LINE = 256 * 1024 * 1024


def write_archive(stream: IO[bytes], manifest: Manifest, parts: Parts, form: str) -> None:
    """Write the manifest, then the parts that it names."""
    options: dict[str, Any] = {"format": tarfile.GNU_FORMAT, "bufsize": CHUNK, "copybufsize": CHUNK}
    with compress(stream, form) as out, tarfile.open(fileobj=out, mode="w|", **options) as tar:
        text = json.dumps(manifest.as_dict(), indent=2, sort_keys=True, ensure_ascii=True).encode()
        tar.addfile(make_header(MANIFEST, len(text)), BytesIO(text))
        for member in parts.members:
            with parts.get_path(member).open("rb") as content:
                tar.addfile(make_header(member.name, member.size), content)


class PlainHeader(tarfile.TarInfo):
    """The header of an ordinary file. Others have no place in a bundle, nor have headers that announce more of them."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise BundleError(f"The archive holds {header.name!r}, which is no ordinary file: it is no bundle of ours.")
        return header


def make_header(name: str, size: int) -> tarfile.TarInfo:
    """An ordinary file of nobody's."""
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o600
    return header


class MemberStream:
    """The content of one part, checked against the manifest at its end."""

    def __init__(self, stream: IO[bytes], member: Member) -> None:
        self._stream = stream
        self._member = member
        self._left = member.size
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or what is left."""
        wanted = self._left if size < 0 else min(size, self._left)
        with readable():
            data = self._stream.read(wanted) if wanted else b""
        if wanted and not data:
            raise BundleError(f"The bundle is cut off in {self._member.name}.")
        self._digest.update(data)
        self._left -= len(data)
        if not self._left and self._digest.hexdigest() != self._member.sha256:
            raise BundleError(
                f"{self._member.name} of the bundle is not what the manifest says: its checksum differs. "
                "The bundle was changed or damaged."
            )
        return data

    def iter_lines(self) -> Iterator[bytes]:
        """The lines of the part."""
        pieces: list[bytes] = []
        length = 0
        while chunk := self.read(CHUNK):
            first, *others = chunk.split(b"\n")
            pieces.append(first)
            length += len(first)
            if length > MAX_LINE:
                raise BundleError(f"A line of {self._member.name} is longer than {MAX_LINE:,} bytes.")
            if others:
                yield b"".join(pieces)
                yield from others[:-1]
                pieces, length = others[-1:], len(others[-1])
        if length:
            yield b"".join(pieces)

    def finish(self) -> None:
        """Read what is left, for the checksum."""
        while self.read(CHUNK):
            pass
        if not self._member.size and self._digest.hexdigest() != self._member.sha256:
            raise BundleError(f"The manifest has a wrong checksum for {self._member.name}.")


class ArchiveReader:
    """Reads an archive once, from its beginning to its end."""

    def __init__(self, stream: IO[bytes], form: str) -> None:
        self._stack = ExitStack()
        self._stream = stream
        self._form = form
        self._decode = json.JSONDecoder(parse_float=Decimal, object_pairs_hook=make_object).decode
        self.manifest = Manifest()

    def __enter__(self) -> Self:
        unpacked = self._stack.enter_context(decompress(self._stream, self._form))
        if not unpacked.peek(1):
            raise BundleError("The file is empty.")
        with readable():
            self._tar = self._stack.enter_context(tarfile.open(fileobj=unpacked, mode="r|", tarinfo=PlainHeader))
        header, content = self._get_next(MANIFEST)
        if header.size > MAX_MANIFEST:
            raise BundleError(f"The manifest is larger than {MAX_MANIFEST:,} bytes.")
        with readable():
            text = content.read(header.size)
        self.manifest = read_manifest(self._parse(text, MANIFEST))
        check_members(self.manifest.members)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _get_next(self, name: str) -> tuple[tarfile.TarInfo, IO[bytes]]:
        """The next part, which must be called ``name``."""
        header = self._find_next()
        if header is None or header.name != name or not header.isreg():
            found = "its end" if header is None else repr(header.name)
            raise BundleError(f"The bundle has {found} where {name!r} belongs: it is cut off, or no bundle of ours.")
        content = self._tar.extractfile(header)
        assert content is not None
        return header, content

    def _find_next(self) -> tarfile.TarInfo | None:
        """The next part; None at the end."""
        with readable():
            return self._tar.next()

    def _parse(self, text: bytes, name: str) -> Any:
        try:
            return self._decode(text.decode())
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise BundleError(f"{name} of the bundle is no JSON that can be read: {error}.") from None

    def _open(self, member: Member) -> MemberStream:
        header, content = self._get_next(member.name)
        if header.size != member.size:
            raise BundleError(
                f"{member.name} of the bundle has {header.size:,} bytes, the manifest says {member.size:,}. "
                "The bundle was changed or damaged."
            )
        return MemberStream(content, member)

    def iter_records(self) -> Iterator[Record]:
        """The records, model by model."""
        for member in self.manifest.members:
            if not member.model:
                continue
            stream, count = self._open(member), 0
            for line in stream.iter_lines():
                record = read_record(self._parse(line, member.name))
                if record.model.lower() != member.model.lower():
                    raise BundleError(f"{member.name} of the bundle holds an object of {record.model}.")
                yield record
                count += 1
            stream.finish()
            if count != member.count:
                raise BundleError(f"{member.name} has {count:,} objects, the manifest says {member.count:,}.")

    def iter_files(self) -> Iterator[StoredFile]:
        """The stored files. All records must have been read."""
        for member in self.manifest.members:
            if member.model:
                continue
            stream = self._open(member)
            yield StoredFile(member.field, member.storage_name, member.size, member.sha256, stream)  # type: ignore[arg-type]
            stream.finish()
        rest = self._find_next()
        if rest is not None:
            raise BundleError(f"The bundle holds {rest.name!r}, which its manifest does not name.")
        self._read_end()

    def _read_end(self) -> None:
        """Read to the end, so that the checksum of all of it is checked, the manifest's, too."""
        stream: Any = self._tar.fileobj
        while chunk := stream.read(CHUNK):
            if chunk.strip(b"\0"):
                raise BundleError("Something follows the end of the archive.")


@contextmanager
def readable() -> Iterator[None]:
    """What :mod:`tarfile` raises for a broken archive becomes :class:`BundleError`."""
    try:
        yield
    except (tarfile.TarError, ValueError, ArithmeticError) as error:
        raise BundleError(f"The bundle is no archive, or cut off or broken: {error}.") from None


def check_members(members: Sequence[Member]) -> None:
    """Raise :class:`BundleError` for parts that come twice, or are together larger than the setting allows."""
    names = [member.name for member in members]
    if len(set(names)) < len(names):
        raise BundleError("The manifest names a part twice.")
    allowed = get_option("MAX_IMPORT_SIZE")
    size = sum(member.size for member in members)
    if size > allowed:
        raise BundleError(
            f'The bundle holds {size:,} bytes, and GESTORE_SYNC["MAX_IMPORT_SIZE"] allows {allowed:,}. '
            "Raise it if you trust the file."
        )

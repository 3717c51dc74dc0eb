"""Documents: one JSON object in gestore's shape, for people to read and edit; written and read as a stream."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from io import TextIOWrapper
from types import TracebackType
from typing import IO, Any, Self

from gestore_sync.bundles.parts import Parts, StoredFile, kept_temporarily
from gestore_sync.bundles.streams import compress, decompress, limit
from gestore_sync.exceptions import BundleError
from gestore_sync.manifests import Manifest, read_manifest
from gestore_sync.records import Record
from gestore_sync.valuekinds import ENCODING

OBJECTS = "objects"
SEPARATOR = ",\n"
MAX_VALUE = 256 * 1024 * 1024
CHUNK = 256 * 1024
LONGEST_WORD = 20
"""More than the characters of a word or an escape that may be cut at the end of what was read."""


def write_document(stream: IO[bytes], manifest: Manifest, parts: Parts, form: str) -> None:
    """Write the head with sorted keys, and the objects, which are ready and indented, in their place."""
    head = manifest.as_dict()
    head.pop("members", None)
    with compress(stream, form) as out:
        for number, name in enumerate(sorted([*head, OBJECTS])):
            out.write(b"{\n" if number == 0 else SEPARATOR.encode())
            if name == OBJECTS:
                write_objects(out, parts)
            else:
                text = json.dumps(head[name], indent=2, sort_keys=True, ensure_ascii=False).replace("\n", "\n  ")
                out.write(f'  "{name}": {text}'.encode(**ENCODING))
        out.write(b"\n}\n")


def write_objects(out: IO[bytes], parts: Parts) -> None:
    """Write the list of all objects; the last separator is left out."""
    members = [member for member in parts.members if member.count]
    if not members:
        out.write(b'  "objects": []')
        return
    out.write(b'  "objects": [\n')
    for member in members:
        left = member.size - (len(SEPARATOR) if member is members[-1] else 0)
        for chunk in parts.iter_chunks(member):
            out.write(chunk[:left])
            left -= len(chunk[:left])
    out.write(b"\n  ]")


class Scanner:
    """Reads JSON from a stream piece by piece. Only one value is in memory at a time."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._line = 1
        self._is_at_end = False
        self._decode = json.JSONDecoder(parse_float=Decimal, object_pairs_hook=make_object).raw_decode

    def _read(self, size: int) -> None:
        try:
            more = self._stream.read(size)
        except UnicodeDecodeError as error:
            raise BundleError(f"The document is not UTF-8 text: {error}.") from None
        self._is_at_end = not more
        self._line += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + more
        self._at = 0

    def make_error(self, problem: str, at: int | None = None) -> BundleError:
        """What is wrong, and in which line."""
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        return BundleError(f"The document is broken or cut off in line {line:,}: {problem}.")

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if self._is_at_end:
                return ""
            self._read(CHUNK)

    def take(self, expected: str) -> str:
        """The next character, which must be one of ``expected``."""
        found = self.peek()
        if not found or found not in expected:
            what = f"{found!r}" if found else "its end"
            raise self.make_error(f"{what} where one of {expected!r} belongs")
        self._at += 1
        return found

    def read_value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except RecursionError:
                raise self.make_error("it is nested too deep") from None
            except json.JSONDecodeError as error:
                if self._is_at_end or not may_go_on(error, self._text):
                    raise self.make_error(error.msg, error.pos) from None
            except (ValueError, ArithmeticError) as error:
                raise self.make_error(f"a number that cannot be read, {error}") from None
            else:
                if end < len(self._text) or self._is_at_end:
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_VALUE:
                raise self.make_error(f"a value is longer than {MAX_VALUE:,} characters")
            self._read(max(CHUNK, len(self._text) - self._at))

    def iter_list(self) -> Iterator[Any]:
        """The items of the list that comes next."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.read_value()
            if self.take(",]") == "]":
                return

    def iter_keys(self) -> Iterator[str]:
        """The keys of the object that comes next; the value must be read after each."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            key = self.read_value()
            if not isinstance(key, str):
                raise self.make_error("something else where a key belongs")
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return


def may_go_on(error: json.JSONDecodeError, text: str) -> bool:
    """Whether what follows ``text`` may mend it: it ends within a string, or just behind the fault."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - LONGEST_WORD


def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises :class:`BundleError` where a key comes twice: which one counts would be a guess."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)
        raise BundleError(f"The key {twice!r} comes twice in one object of the bundle.")
    return found


def read_record(value: Any) -> Record:
    """The record that these parsed JSON values are. Raises :class:`BundleError`."""
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("model"), str)
        or not isinstance(value.get("fields"), dict)
        or value.get("pk") is None
    ):
        raise BundleError(f'This is no object of a bundle: {str(value)[:200]}. It needs "model", "pk" and "fields".')
    return Record(value["model"], value["pk"], value["fields"])


class DocumentReader:
    """Reads a document twice: its head first, then its objects."""

    def __init__(self, stream: IO[bytes], form: str) -> None:
        self._form = form
        self._stack = ExitStack()
        self._stream = stream
        self.manifest = Manifest()

    def _make_seekable(self, stream: IO[bytes]) -> IO[bytes]:
        if stream.seekable():
            return stream
        with kept_temporarily():
            copy: IO[bytes] = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            shutil.copyfileobj(limit(stream), copy, CHUNK)
        return copy

    def __enter__(self) -> Self:
        try:
            self._stream = self._make_seekable(self._stream)
            self.manifest = self._read_manifest()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _read_manifest(self) -> Manifest:
        head: dict[str, Any] = {}
        self._scan(lambda scanner: sum(1 for _ in scanner.iter_list()), head)
        if "members" in head:
            raise BundleError('The document has "members", which only archives have: it is no bundle of ours.')
        return read_manifest(head)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> Scanner:
        self._stream.seek(0)
        unpacked = self._stack.enter_context(decompress(self._stream, self._form))
        return Scanner(TextIOWrapper(unpacked, encoding="utf-8-sig"))

    def _scan(self, on_objects: Callable[[Scanner], Any], head: dict[str, Any]) -> None:
        scanner = self._open()
        if not scanner.peek():
            raise BundleError("The file is empty.")
        for key in scanner.iter_keys():
            if key in head:
                raise BundleError(f"The key {key!r} comes twice in the document.")
            head[key] = on_objects(scanner) if key == OBJECTS else scanner.read_value()
        if scanner.peek():
            raise BundleError("Something follows the end of the document.")
        if OBJECTS not in head:
            raise BundleError('This file is no bundle of gestore_sync: it has no "objects".')

    def iter_records(self) -> Iterator[Record]:
        """The records in the order of the document."""
        scanner = self._open()
        for key in scanner.iter_keys():
            if key == OBJECTS:
                yield from map(read_record, scanner.iter_list())
            else:
                scanner.read_value()

    def iter_files(self) -> Iterator[StoredFile]:
        """Nothing: documents hold no files."""
        return iter(())

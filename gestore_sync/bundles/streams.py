"""Compressed streams, and a limit to what comes out of them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from typing import IO, Any, cast

from gestore_sync.conf import get_option
from gestore_sync.exceptions import BundleError

JSON, JSON_GZ, TAR_GZ, TAR_ZST = ".json", ".json.gz", ".tar.gz", ".tar.zst"
ZSTD_CHUNK = 1024
"""How many packed bytes are unpacked at once: not more than 32 MiB come out of them."""


class LimitedReader(RawIOBase):
    """Reads from ``stream`` and raises :class:`BundleError` after ``limit`` bytes, or where the data are broken."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except BundleError:
            raise
        except READ_ERRORS as error:
            raise BundleError(f"The bundle is truncated or broken: {error}.") from error
        self._left -= len(data)
        if self._left < 0:
            raise BundleError(
                f'The bundle holds more than {self._limit:,} bytes, which GESTORE_SYNC["MAX_IMPORT_SIZE"] allows. '
                "Raise it if you trust the file."
            )
        buffer[: len(data)] = data
        return len(data)


READ_ERRORS: tuple[type[Exception], ...] = (EOFError, OSError, ValueError)
"""What reading compressed data that are cut or broken ends with; zlib's and zstandard's errors are made such."""


class Checked:
    """A compressed stream whose library's own errors are OSError."""

    def __init__(self, stream: Any, errors: type[Exception]) -> None:
        self._stream = stream
        self._errors = errors

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or fewer."""
        try:
            return cast(bytes, self._stream.read(size))
        except self._errors as error:
            raise OSError(str(error)) from error


class ZstdReader:
    """Unpacks Zstandard frames. Raises EOFError where the last one is cut off.

    It is fed little by little: a byte of a frame can hold thousands.
    """

    def __init__(self, stream: IO[bytes], library: Any) -> None:
        self._stream = stream
        self._decompressor = library.ZstdDecompressor(max_window_size=2**27)
        self._frame: Any = None
        self._packed = b""
        self._found = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer; none at the end."""
        while self._at == len(self._found):
            self._packed = self._packed or self._stream.read(ZSTD_CHUNK)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("it ends within a frame")
                return b""
            self._frame = self._frame or self._decompressor.decompressobj()
            self._found, self._at = self._frame.decompress(self._packed), 0
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        data = self._found[self._at : self._at + size]
        self._at += len(data)
        return data


def get_zstandard() -> Any:
    """The library for .tar.zst. Raises :class:`BundleError` that names the extra."""
    try:
        import zstandard
    except ImportError as error:
        raise BundleError('.tar.zst needs the package zstandard: pip install "gestore-sync[zstd]".') from error
    return zstandard


@contextmanager
def compress(stream: IO[bytes], form: str) -> Iterator[IO[bytes]]:
    """What is written goes compressed into ``stream``, which stays open."""
    if form in (JSON_GZ, TAR_GZ):
        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed:
            yield cast("IO[bytes]", packed)
    elif form == TAR_ZST:
        compressor = get_zstandard().ZstdCompressor(level=3, write_checksum=True)
        with compressor.stream_writer(stream, closefd=False) as packed:
            yield packed
    else:
        yield stream


@contextmanager
def decompress(stream: IO[bytes], form: str) -> Iterator[BufferedReader]:
    """What ``stream`` holds, unpacked, and not more than the setting allows."""
    packed: Any = stream
    if form in (JSON_GZ, TAR_GZ):
        packed = Checked(gzip.GzipFile(fileobj=stream, mode="rb"), zlib.error)
    elif form == TAR_ZST:
        zstandard = get_zstandard()
        packed = Checked(ZstdReader(stream, zstandard), zstandard.ZstdError)
    yield limit(packed)


def limit(stream: Any) -> BufferedReader:
    """What ``stream`` holds, and not more than the setting allows."""
    return BufferedReader(LimitedReader(stream, get_option("MAX_IMPORT_SIZE")), 1024 * 1024)

"""Plans as files: a header, then an operation a line. A file tells what was planned; values never come from it."""

from __future__ import annotations

import base64
import binascii
import json
import sys
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from gestore_sync.exceptions import PlanError, UntrustedBundle
from gestore_sync.locations import hide_password, open_input, open_output
from gestore_sync.manifests import find_model
from gestore_sync.planlines import Line, make_code
from gestore_sync.signatures import sign, verify
from gestore_sync.spools import SPOOL_SIZE

FORMAT = "gestore_sync plan"
VERSION = 1
LONGEST_HEADER = 2**28
LONGEST_LINE = 2**24


class CodeSet:
    """Numbers of lines, sorted: eight bytes each."""

    def __init__(self, codes: Iterable[int] = ()) -> None:
        self._codes = array("Q", sorted(codes))

    def __len__(self) -> int:
        return len(self._codes)

    def __contains__(self, code: int) -> bool:
        at = bisect_left(self._codes, code)
        return at < len(self._codes) and self._codes[at] == code

    def __iter__(self) -> Iterator[int]:
        return iter(self._codes)

    def find_repeated(self) -> int | None:
        """A number that is there twice."""
        return next((code for code, following in pairwise(self._codes) if code == following), None)

    def dump(self) -> str:
        """All numbers as a text."""
        codes = array("Q", self._codes)
        if sys.byteorder == "little":
            codes.byteswap()
        return base64.b64encode(codes.tobytes()).decode()

    @classmethod
    def load(cls, text: str) -> CodeSet:
        """What :meth:`dump` made ``text`` of. Raises ValueError."""
        codes = array("Q")
        try:
            codes.frombytes(base64.b64decode(text, validate=True))
        except binascii.Error as error:
            raise ValueError(str(error)) from None
        if sys.byteorder == "little":
            codes.byteswap()
        return cls(codes)


@dataclass(frozen=True)
class Header:
    """What a plan was made of. ``origins``: the identities of source and target, the target's None where it has no
    tables of ours; ``on_conflict`` and ``conflicts``: the policy, and those by model and field; ``codes``: the numbers
    of all operations that were planned."""

    date: str
    source: str
    target: str
    origins: tuple[str, str | None]
    roots: tuple[str, ...]
    scope: dict[str, Any]
    on_conflict: str
    conflicts: dict[str, str]
    prune: bool
    codes: CodeSet

    def as_dict(self) -> dict[str, Any]:
        """The first line, signed: what stands there decides which operations may be left out."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "date": self.date,
            "source": {"alias": self.source, "origin": self.origins[0]},
            "target": {"alias": self.target, "origin": self.origins[1]},
            "roots": list(self.roots),
            "scope": self.scope,
            "on_conflict": self.on_conflict,
            "conflicts": self.conflicts,
            "prune": self.prune,
            "count": len(self.codes),
            "codes": self.codes.dump(),
        }
        return {**document, "signature": sign(dump_signed(document))}


def dump_signed(document: Mapping[str, Any]) -> bytes:
    """What is signed of a header, however it is laid out."""
    return json.dumps(document, sort_keys=True).encode()


def read_header(document: dict[str, Any], location: str) -> Header:
    """The header that a first line is. Raises :class:`PlanError`."""
    if document.get("format") != FORMAT:
        raise PlanError(f"{location} is no plan of gestore_sync: its first line does not say so.")
    if document.get("version") != VERSION:
        raise PlanError(
            f"{location} has version {document.get('version')!r}, this release reads version {VERSION}. Write the "
            "plan again."
        )
    signature = document.pop("signature", None)
    try:
        verify(dump_signed(document), str(signature))
        codes = CodeSet.load(document["codes"])
        if len(codes) != document["count"]:
            raise ValueError("it does not have as many operations as it says")
        return Header(
            date=document["date"],
            source=document["source"]["alias"],
            target=document["target"]["alias"],
            origins=(document["source"]["origin"], document["target"]["origin"]),
            roots=tuple(document["roots"]),
            scope=document["scope"],
            on_conflict=document["on_conflict"],
            conflicts=dict(document["conflicts"]),
            prune=document["prune"],
            codes=codes,
        )
    except UntrustedBundle:
        raise PlanError(
            f"The first line of {location} was changed after it was written, or another key signed it. Lines of "
            "operations may be removed; nothing else may be edited. Write the plan again, or see "
            'GESTORE_SYNC["SIGNING_KEY"].'
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"The first line of {location} is broken: {error}. Write the plan again.") from None


def write_plan(location: str, lines: Iterable[Line], header: Mapping[str, Any]) -> int:
    """Write a plan; how many operations it has. ``header``: what a :class:`Header` is made of, but for its codes.

    The file is at its place when it is whole. Raises :class:`~gestore_sync.exceptions.LocationUnavailable`.
    """
    codes = array("Q")
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_SIZE) as spooled:
        for line in lines:
            codes.append(line.code)
            spooled.write(dump_line(line.document))
        spooled.seek(0)
        with open_output(location) as file:
            file.write(dump_line(Header(**header, codes=CodeSet(codes)).as_dict()))
            file.writelines(spooled)
    return len(codes)


def dump_line(document: Mapping[str, Any]) -> bytes:
    """One line of a file."""
    return f"{json.dumps(document, ensure_ascii=False)}\n".encode("utf-8", "surrogatepass")


class PlanFile:
    """A plan that was read: its ``header``, and ``codes``, the numbers of the operations that are still in the file.

    It is read once, since a pipe cannot be read twice; what its lines are about is kept until :meth:`close`. Raises
    :class:`PlanError` for anything that was not written so, and
    :class:`~gestore_sync.exceptions.LocationUnavailable`.
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self.shown = hide_password(location)
        self._names = tempfile.SpooledTemporaryFile(max_size=SPOOL_SIZE)  # noqa: SIM115 (closed by close)
        try:
            self.header, self.codes = self._read()
            self._refuse_repeated()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the lines are about."""
        self._names.close()

    def _read(self) -> tuple[Header, CodeSet]:
        lines = self._iter_lines()
        first = next(lines, None)
        if first is None:
            raise PlanError(f"{self.shown} is empty: it is no plan of gestore_sync.")
        header = read_header(first[1], self.shown)
        codes = array("Q")
        for number, document in lines:
            code = self._check(header, number, document)
            codes.append(code)
            self._names.write(dump_line({"code": code, "name": name_object(document)}))
        return header, CodeSet(codes)

    def _iter_lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The documents with the numbers of their lines; empty lines are passed over."""
        with open_input(self._location) as file:
            number, longest = 0, LONGEST_HEADER
            while data := file.readline(longest):
                number += 1
                if len(data) == longest:
                    raise PlanError(f"Line {number} of {self.shown} is longer than any that a plan has.")
                if data.strip():
                    yield number, self._read_line(number, data)
                    longest = LONGEST_LINE

    def _read_line(self, number: int, data: bytes) -> dict[str, Any]:
        try:
            document = json.loads(data.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise PlanError(
                f"Line {number} of {self.shown} is no line of a plan: the file is cut off there, or was edited. "
                "Write the plan again."
            )
        return document

    def _check(self, header: Header, number: int, document: dict[str, Any]) -> int:
        """The number that stands for a line, which was planned."""
        model = document.get("model")
        if not isinstance(model, str) or find_model(model) is None:
            raise PlanError(f"Line {number} of {self.shown} is about the model {model!r}, which does not exist here.")
        code = make_code(document)
        if code not in header.codes:
            raise PlanError(
                f"Line {number} of {self.shown} ({name_object(document)}) was edited. What is written comes from the "
                "database: lines may be removed, not changed. Write the plan again."
            )
        return code

    def _refuse_repeated(self) -> None:
        code = self.codes.find_repeated()
        if code is not None:
            raise PlanError(f"{self.shown} has a line twice: {self.find_object(code)}. Remove one of them.")

    def find_object(self, code: int) -> str:
        """What the operation with this number is about, as a person calls it."""
        self._names.seek(0)
        named = map(json.loads, self._names)
        return next(str(line["name"]) for line in named if line["code"] == code)


def name_object(document: Mapping[str, Any]) -> str:
    """The object of a line, as a person calls it."""
    what = f"{document.get('model')}.{document.get('pk')}"
    if document.get("pk") is None:
        what = f"{document.get('model')}.{document.get('target')} of the target"
    return f"{what} ({document.get('do')})"

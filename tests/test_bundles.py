"""Bundles as files: what is written, and what is read back of whole, broken and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import zstandard
from django.test import override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gestore_sync.bundles import Parts, documents, open_bundle, write_bundle
from gestore_sync.bundles.signing import ContentDigest, check_signature, make_canonical, sign_bundle
from gestore_sync.exceptions import BundleError, LocationUnavailable, UntrustedBundle, WrongSetting
from gestore_sync.manifests import Manifest
from tests.bundling import (
    ARCHIVES,
    DATE,
    FORMATS,
    get_ending,
    make_document,
    pack,
    read_all,
    read_document,
    read_members,
    record,
    seal,
    unpack,
    write_document,
    write_members,
)
from tests.policies.models import Brand, Depot

RECORDS = {
    Brand: [record("policies.brand", 1, name="Żółw", motto="a\nb")],
    Depot: [record("policies.depot", number, name=f"depot {number}") for number in (1, 2, 3)],
}
FILE = bytes(range(256)) * 20
PROPERTY = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

archives = pytest.mark.parametrize("ending", ARCHIVES)
every_format = pytest.mark.parametrize("ending", FORMATS)


def make_bundle(path: Path, *, sign: bool = False, records: Any = None, **head: Any) -> Path:
    """Write a small bundle: four objects, and in an archive a file."""
    ending = get_ending(path)
    is_document = ending not in ARCHIVES
    records = RECORDS if records is None else records
    labels = {model._meta.label: len(of_model) for model, of_model in records.items()}
    schema = {label: {"fields": {}, "migration": None} for label in labels}
    manifest = Manifest(date=DATE, roots=["policies.Depot.1"], counts=labels, schema=schema, **head)
    with Parts() as parts:
        for model, of_model in records.items():
            texts = [json.dumps(one, indent=2 if is_document else None, sort_keys=True) for one in of_model]
            lines = ["    " + text.replace("\n", "\n    ") for text in texts] if is_document else texts
            parts.add_records(model, lines, separator=documents.SEPARATOR if is_document else "\n")
        if not is_document:
            parts.add_file("campus.Organization.logo", "logos/a.png", [FILE])
            manifest.members = parts.members
        if sign:
            sign_bundle(manifest, parts, ending)
        write_bundle(str(path), manifest, parts)
    return path


def refuse(path: Path) -> str:
    """Read a bundle, which must fail; return what is said."""
    with pytest.raises(BundleError) as caught:
        read_all(path)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let the block take no longer."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


# What is written


@every_format
def test_what_is_read_is_what_was_written(tmp_path: Path, ending: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")

    content = read_all(path)

    assert content.records == [tuple(one.values()) for records in RECORDS.values() for one in records]
    assert content.manifest["counts"] == {"policies.Brand": 1, "policies.Depot": 3}
    assert content.files == ([("campus.Organization.logo", "logos/a.png", FILE)] if ending in ARCHIVES else [])


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_a_document_is_indented_and_its_keys_are_sorted(tmp_path: Path, ending: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")

    text = unpack(path.read_bytes(), ending).decode()

    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def test_a_document_without_objects_is_read(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.json", records={})

    assert read_document(path)["objects"] == []
    assert read_all(path).records == []


@archives
def test_an_archive_begins_with_its_manifest_and_is_read_by_tar_and_python(tmp_path: Path, ending: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    plain = tmp_path / "a.tar"
    plain.write_bytes(unpack(path.read_bytes(), ending))

    names = subprocess.run(["tar", "-tf", plain], capture_output=True, text=True, check=True).stdout.split()
    members = read_members(path)

    assert names == [
        "manifest.json",
        "data/0001.policies.brand.jsonl",
        "data/0002.policies.depot.jsonl",
        "files/000003",
    ]
    assert list(members) == names
    manifest = json.loads(members["manifest.json"])
    assert list(manifest) == sorted(manifest)
    assert [json.loads(line) for line in members[names[2]].splitlines()] == RECORDS[Depot]
    assert members["files/000003"] == FILE
    for member in manifest["members"]:
        assert member["sha256"] == hashlib.sha256(members[member["name"]]).hexdigest()
        assert member["size"] == len(members[member["name"]])


@every_format
def test_the_same_objects_make_the_same_bytes(tmp_path: Path, ending: str) -> None:
    first = make_bundle(tmp_path / f"a{ending}").read_bytes()
    time.sleep(1.1)

    assert make_bundle(tmp_path / f"b{ending}").read_bytes() == first


@every_format
def test_what_fails_while_it_is_written_leaves_no_file(tmp_path: Path, ending: str) -> None:
    def fail() -> Iterator[bytes]:
        yield b"half"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"), Parts() as parts:  # noqa: PT012
        parts.add_file("campus.Organization.logo", "a.png", fail())
        write_bundle(str(tmp_path / f"a{ending}"), Manifest(), parts)

    assert list(tmp_path.iterdir()) == []


def test_temporary_files_that_cannot_be_written_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    with pytest.raises(LocationUnavailable, match="TMPDIR"):
        Parts()


@every_format
def test_a_full_disk_leaves_no_file(tmp_path: Path, ending: str) -> None:
    code = f"""
import resource, signal, sys
import django
django.setup()
from pathlib import Path
from tests import test_bundles
from gestore_sync.exceptions import LocationUnavailable
from gestore_sync.bundles import Parts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1]) / "a{ending}"
def add(self, *args, **options):
    member = original(self, *args, **options)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    return member
original = Parts._add
Parts._add = add
try:
    test_bundles.make_bundle(path, records={{test_bundles.Brand: test_bundles.RECORDS[test_bundles.Brand]}})
except LocationUnavailable as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": "/usr/bin"},
        cwd=Path(__file__).parents[1],
    )

    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


# Broken files


@every_format
def test_a_bundle_that_is_cut_off_anywhere_is_refused(tmp_path: Path, ending: str) -> None:
    data = make_bundle(tmp_path / f"a{ending}").read_bytes()
    path = tmp_path / f"b{ending}"
    shortest = len(data) if ending != ".json" else len(data.rstrip())

    for end in {*range(0, shortest, 7), *range(shortest - 40, shortest)}:
        path.write_bytes(data[:end])
        refuse(path)


@archives
def test_an_archive_that_was_cut_off_before_it_was_packed_is_refused(tmp_path: Path, ending: str) -> None:
    whole = make_bundle(tmp_path / f"a{ending}")
    expected = read_all(whole)
    data = unpack(whole.read_bytes(), ending)
    end = data.rindex(b"\xff") + 1
    path = tmp_path / f"b{ending}"

    for at in range(0, end, 101):
        path.write_bytes(pack(data[:at], ending))
        refuse(path)
    path.write_bytes(pack(data[: end + 512 - end % 512 + 1024], ending))
    assert read_all(path) == expected


@archives
@PROPERTY
@given(st.data())
def test_an_archive_with_one_changed_byte_is_refused_or_says_the_same(
    tmp_path: Path, ending: str, data: st.DataObject
) -> None:
    whole = make_bundle(tmp_path / f"a{ending}")
    content = bytearray(whole.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / f"b{ending}"
    path.write_bytes(content)

    try:
        found = read_all(path)
    except BundleError:
        return
    assert found == read_all(whole)


@archives
@PROPERTY
@given(st.data())
def test_an_archive_with_one_byte_changed_before_it_was_packed_says_no_other_content(
    tmp_path: Path, ending: str, data: st.DataObject
) -> None:
    whole = make_bundle(tmp_path / f"a{ending}", sign=True)
    content = bytearray(unpack(whole.read_bytes(), ending))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / f"b{ending}"
    path.write_bytes(pack(bytes(content), ending))

    try:
        read_signed(path, required=True)
        found = read_all(path)
    except BundleError:
        return
    assert found == read_all(whole)


@PROPERTY
@given(text=st.text(max_size=60), numbers=st.lists(st.floats(allow_nan=False) | st.integers(), max_size=4))
@example(text="\\", numbers=[1e300, -0.0])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_document_is_read_the_same_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, text: str, numbers: list[Any]
) -> None:
    document = make_document(record("policies.brand", 1, name=text, numbers=numbers, ok=True, none=None))
    path = write_document(tmp_path / "a.json", document)
    whole = read_all(path)

    with monkeypatch.context() as patch:
        patch.setattr(documents, "CHUNK", size)
        found = read_all(path)

    assert found == whole
    assert found.records[0][2]["name"] == text


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + bytes(100),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"some text\n",
        b"[]",
        b'[{"model": "policies.brand", "pk": 1, "fields": {}}]',
        b"{}",
        b'{"version": "1"}',
        b'{"objects": []}',
        b'{"version": "1", "objects": {}}',
        b'{"version": "1", "objects": []} more',
        b'{"version": "1", "objects": [], "objects": []}',
        b'{"version": "1", "version": "1", "objects": []}',
        b'{"version": "1", "objects": [1]}',
        b'{"version": "1", "objects": [], "members": []}',
        b'{"version": "1", "objects": [], 1: 2}',
        b"null",
        b'"text"',
        b"\xff\xfe{\x00}\x00",
        b"",
        b"   \n",
    ],
)
@every_format
def test_what_is_no_bundle_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"a{ending}"
    for data in (content, pack(content, ending)):
        path.write_bytes(data)
        refuse(path)


@archives
def test_an_archive_of_something_else_is_refused(tmp_path: Path, ending: str) -> None:
    path = write_members(tmp_path / f"a{ending}", {"readme.txt": b"hello"})

    assert "manifest.json" in refuse(path)


def test_a_name_without_a_known_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match="must end in"):
        read_all(tmp_path / "a.zip")


@every_format
@pytest.mark.parametrize("version", ["2", 2, "10", None, [], "0.9"])
def test_another_version_is_refused_by_name(tmp_path: Path, ending: str, version: Any) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    if ending in ARCHIVES:
        members = read_members(path)
        members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), "version": version}).encode()
        write_members(path, members)
    else:
        write_document(path, {**read_document(path), "version": version})

    message = refuse(path)

    assert repr(version) in message
    assert "'1'" in message


def test_a_mistake_in_a_document_is_told_by_its_line(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.json")
    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if '"depot 2"' in line)
    lines[at] = lines[at].replace(":", "=")
    path.write_text("\n".join(lines))

    assert f"line {at + 1}:" in refuse(path)


class Pipe(io.BytesIO):
    """A stream that is read once."""

    def seekable(self) -> bool:
        return False

    def seek(self, *args: Any) -> int:
        raise io.UnsupportedOperation("seek")


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
def test_a_document_is_read_from_a_stream_that_goes_forward_only(tmp_path: Path, ending: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")

    with documents.DocumentReader(Pipe(path.read_bytes()), ending) as document:
        assert [tuple(one) for one in document.iter_records()] == read_all(path).records


def test_no_more_is_taken_from_such_a_stream_than_is_allowed() -> None:
    stream = Pipe(b" " * 2_000_000)

    with (
        override_settings(GESTORE_SYNC={"MAX_IMPORT_SIZE": 1_000}),
        pytest.raises(BundleError, match="MAX_IMPORT_SIZE"),
        documents.DocumentReader(stream, ".json"),
    ):
        pass


def test_a_mistake_early_in_a_large_document_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            Counting.taken += len(data)
            return data

    text = b'{"version": "1", "objects": [{"model" = 1},' + b" " * 30_000_000

    with pytest.raises(BundleError, match="line 1"), documents.DocumentReader(Counting(text), ".json"):
        pass

    assert Counting.taken < 10_000_000


@pytest.mark.parametrize(
    "text",
    [
        '{"model": "policies.brand", "pk": 1, "fields": {"name": "a", "name": "b"}}',
        '{"model": "policies.brand", "pk": 1, "pk": 2, "fields": {}}',
        '{"model": "policies.brand", "pk": 1, "fields": {"json": {"a": 1, "a": 1}}}',
    ],
)
@every_format
def test_a_key_that_comes_twice_in_an_object_is_refused(tmp_path: Path, ending: str, text: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    if ending in ARCHIVES:
        members = read_members(path)
        members["data/0001.policies.brand.jsonl"] = text.encode() + b"\n"
        write_members(path, seal(json.loads(members["manifest.json"]), members))
    else:
        path.write_bytes(pack(f'{{"version": "1", "objects": [{text}]}}'.encode(), ending))

    assert "twice" in refuse(path)


def test_a_key_that_comes_twice_in_a_large_object_is_found_soon() -> None:
    pairs = [(str(number), number) for number in range(200_000)]

    with within(3), pytest.raises(BundleError, match="'199999'"):
        documents.make_object([*pairs, ("199999", 0)])


@pytest.mark.parametrize(
    "value",
    [
        {"model": "policies.brand", "fields": {}},
        {"model": "policies.brand", "pk": None, "fields": {}},
        {"model": "policies.brand", "pk": 1},
        {"model": "policies.brand", "pk": 1, "fields": []},
        {"model": "policies.brand", "pk": 1, "fields": None},
        {"model": ["policies.brand"], "pk": 1, "fields": {}},
        {"pk": 1, "fields": {}},
        "policies.brand",
        None,
    ],
)
@every_format
def test_what_is_no_record_is_refused(tmp_path: Path, ending: str, value: Any) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    if ending in ARCHIVES:
        members = read_members(path)
        members["data/0001.policies.brand.jsonl"] = json.dumps(value).encode() + b"\n"
        write_members(path, seal(json.loads(members["manifest.json"]), members))
    else:
        write_document(path, make_document() | {"objects": [value]})

    assert "no object of a bundle" in refuse(path)


HEADS: list[dict[str, Any]] = [
    {"origin": "nobody"},
    {"origin": 5},
    {"origin": ["a"]},
    {"provided_objects": {"a": 1}},
    {"provided_objects": [1]},
    {"scope": "owned"},
    {"scope": [1]},
    {"counts": {"policies.Brand": "1"}},
    {"counts": {"policies.Brand": -1}},
    {"counts": {"policies.Brand": 1.5}},
    {"counts": {"policies.Brand": True}},
    {"counts": [1]},
    {"schema": {"policies.Brand": 5}},
    {"schema": {"policies.Brand": {}}},
    {"schema": {"policies.Brand": {"fields": 5}}},
    {"schema": {"policies.Brand": {"fields": ["name"]}}},
    {"schema": "text"},
    {"detached": [1]},
    {"detached": 1},
]
MEMBERS: list[Any] = [
    {"size": -1},
    {"size": "10"},
    {"size": None},
    {"size": 10.0},
    {"size": True},
    {"sha256": 5},
    {"sha256": None},
    {"name": None},
    {"name": ["a"]},
    {"count": -1},
    {"count": "1"},
    {"model": 5},
    {"model": ""},
    {"storage_name": "both.png"},
    {"extra": 1},
]


@every_format
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_manifest_of_wrong_kinds_is_refused(tmp_path: Path, ending: str, head: dict[str, Any]) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    if ending in ARCHIVES:
        members = read_members(path)
        members["manifest.json"] = json.dumps({**json.loads(members["manifest.json"]), **head}).encode()
        write_members(path, members)
    else:
        write_document(path, {**read_document(path), **head})

    assert "manifest" in refuse(path)


@pytest.mark.parametrize("change", MEMBERS, ids=str)
def test_a_manifest_that_describes_its_parts_wrongly_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    manifest["members"][0].update(change)
    members["manifest.json"] = json.dumps(manifest).encode()

    assert "manifest" in refuse(write_members(path, members))


@pytest.mark.parametrize("number", ["1e999999999999999999999", "1" * 5000, "1e999999999", "-1E+99999999999999999999"])
@every_format
def test_a_number_beyond_all_measure_is_read_or_refused_at_once(tmp_path: Path, ending: str, number: str) -> None:
    path = tmp_path / f"a{ending}"
    text = f'{{"version": "1", "counts": {{"policies.Brand": {number}}}, "objects": []}}'
    if ending in ARCHIVES:
        write_members(path, {"manifest.json": text.encode()})
    else:
        path.write_bytes(pack(text.encode(), ending))

    with within(2):
        refuse(path)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("where", ["head", "record", "field", "instead"])
@every_format
def test_json_nested_a_million_deep_is_refused_at_once(tmp_path: Path, ending: str, where: str, opening: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    deep = opening * 1_000_000
    line = {
        "record": f'{{"model": "policies.brand", "pk": {deep}',
        "field": f'{{"model": "policies.brand", "pk": 1, "fields": {{"json": {deep}',
    }.get(where, deep)
    head = f'{{"version": "1", "schema": {deep}' if where == "head" else deep
    if ending in ARCHIVES:
        members = read_members(path)
        members["data/0001.policies.brand.jsonl"] = line.encode() + b"\n"
        members = seal(json.loads(members["manifest.json"]), members)
        if where in ("head", "instead"):
            members["manifest.json"] = head.encode()
        write_members(path, members)
    else:
        text = f'{{"version": "1", "objects": [{line}' if where in ("record", "field") else head
        path.write_bytes(pack(text.encode(), ending))

    with within(5):
        refuse(path)


# Hostile archives


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: Any) -> None:
    header = tarfile.TarInfo(name)
    header.type, header.size = kind, len(content)
    for attribute, value in more.items():
        setattr(header, attribute, value)
    tar.addfile(header, io.BytesIO(content))


def put_together(path: Path, write: Callable[[tarfile.TarFile], Any], form: int = tarfile.GNU_FORMAT) -> Path:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        write(tar)
    path.write_bytes(pack(out.getvalue(), get_ending(path)))
    return path


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "data/../../evil", "files/000003/", "~root", "a\\..\\b"])
def test_a_member_with_any_other_name_than_the_manifests_is_refused(tmp_path: Path, name: str) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    members[name] = members.pop("files/000003")

    refuse(write_members(path, members))


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        b"?",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_is_no_ordinary_file_is_refused(tmp_path: Path, kind: bytes, first: bool) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)

    def write(tar: tarfile.TarFile) -> None:
        if not first:
            add(tar, "manifest.json", members["manifest.json"])
        add(tar, "data/0001.policies.brand.jsonl", b"/etc/passwd", kind, linkname="/etc/passwd")
        for name, content in members.items():
            add(tar, name, content)

    assert "no ordinary file" in refuse(put_together(path, write))


def test_headers_that_announce_huge_ones_are_refused_without_reading_them(tmp_path: Path) -> None:
    header = tarfile.TarInfo("manifest.json")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)))

    with within(2):
        assert "no ordinary file" in refuse(path)


@pytest.mark.parametrize("size", [-1, -(2**40), 2**40])
def test_a_header_with_an_impossible_size_is_refused(tmp_path: Path, size: int) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    out = io.BytesIO()
    for name, content in members.items():
        header = tarfile.TarInfo(name)
        header.size = size if name.startswith("data/0002") else len(content)
        out.write(header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
    path.write_bytes(gzip.compress(out.getvalue() + bytes(1024)))

    refuse(path)


@archives
@pytest.mark.parametrize("name", ["data/0001.policies.brand.jsonl", "data/0002.policies.depot.jsonl", "files/000003"])
def test_a_member_that_is_missing_is_refused(tmp_path: Path, ending: str, name: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    members = read_members(path)
    del members[name]

    assert name in refuse(write_members(path, members))


@archives
def test_a_member_that_the_manifest_does_not_name_is_refused(tmp_path: Path, ending: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")

    assert "'more'" in refuse(write_members(path, {**read_members(path), "more": b"x"}))


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_member_that_comes_twice_is_refused(tmp_path: Path, at: int) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = list(read_members(path).items())

    def write(tar: tarfile.TarFile) -> None:
        for name, content in [*members[: at + 1], *members[at:]]:
            add(tar, name, content)

    refuse(put_together(path, write))


def test_a_manifest_that_names_a_member_twice_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    manifest["members"].append(manifest["members"][0])
    members["manifest.json"] = json.dumps(manifest).encode()

    assert "twice" in refuse(write_members(path, members))


def test_what_follows_the_end_of_an_archive_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"more"))

    assert "follows the end" in refuse(path)


@pytest.mark.parametrize("difference", [1, -1])
def test_a_size_that_lies_is_refused(tmp_path: Path, difference: int) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    manifest["members"][1]["size"] += difference
    members["manifest.json"] = json.dumps(manifest).encode()

    assert "bytes" in refuse(write_members(path, members))


@archives
@pytest.mark.parametrize("name", ["data/0001.policies.brand.jsonl", "data/0002.policies.depot.jsonl", "files/000003"])
def test_an_edited_member_is_refused(tmp_path: Path, ending: str, name: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")
    members = read_members(path)
    members[name] = members[name].replace(b"o", b"0").replace(b"\x01", b"\x02").replace("ó".encode(), b"oo")
    assert members[name] != read_members(path)[name]

    assert "checksum" in refuse(write_members(path, members))


def test_a_count_that_lies_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    manifest["members"][1]["count"] = 2
    members["manifest.json"] = json.dumps(manifest).encode()

    assert "3 objects" in refuse(write_members(path, members))


def test_an_object_in_the_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    name = "data/0002.policies.depot.jsonl"
    members[name] = members[name].replace(b"policies.depot", b"auth.user")

    assert "auth.user" in refuse(write_members(path, seal(json.loads(members["manifest.json"]), members)))


@every_format
def test_a_bomb_is_stopped_by_the_limit(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    spaces = b" " * 50_000_000
    if ending in ARCHIVES:
        write_members(path, {"manifest.json": spaces})
    else:
        path.write_bytes(pack(b'{"version": "1",' + spaces + b'"objects": []}', ending))
    if ending != ".json":
        assert path.stat().st_size < 100_000

    with override_settings(GESTORE_SYNC={"MAX_IMPORT_SIZE": 1_000_000}), within(2):
        assert "MAX_IMPORT_SIZE" in refuse(path)


def test_a_zstandard_frame_is_unpacked_little_by_little(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.zst"
    compressor = zstandard.ZstdCompressor(level=19)
    path.write_bytes(compressor.compress(bytes(500_000_000)))
    assert path.stat().st_size < 100_000
    code = (
        "import resource, sys, django; django.setup()\n"
        "from pathlib import Path; from tests.bundling import read_all\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_all(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": "/usr/bin"},
        cwd=Path(__file__).parents[1],
    )

    name, added = done.stdout.split()
    assert name == "BundleError"
    assert int(added) < 150_000


def test_parts_that_are_larger_than_the_limit_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    manifest["members"][0]["size"] = 2**60
    write_members(path, {"manifest.json": json.dumps(manifest).encode()})

    message = refuse(path)

    assert "MAX_IMPORT_SIZE" in message
    assert f"{2**60:,}"[:9] in message


# Signatures


def read_signed(path: Path, *, required: bool = False) -> None:
    """Read a bundle as an import does, its signature too."""
    with open_bundle(str(path)) as bundle:
        digest = ContentDigest()
        for one in bundle.iter_records():
            digest.add(one)
        content = "" if bundle.manifest.members else digest.hexdigest()
        check_signature(bundle.manifest, content, required=required)


def edit_head(path: Path, **changes: Any) -> Path:
    if get_ending(path) in ARCHIVES:
        members = read_members(path)
        manifest = json.loads(members["manifest.json"]) | changes
        return write_members(path, {**members, "manifest.json": json.dumps(manifest).encode()})
    return write_document(path, read_document(path) | changes)


@every_format
def test_a_signed_bundle_is_read(tmp_path: Path, ending: str) -> None:
    read_signed(make_bundle(tmp_path / f"a{ending}", sign=True), required=True)


@every_format
def test_an_unsigned_bundle_is_refused_only_where_a_signature_is_required(tmp_path: Path, ending: str) -> None:
    path = make_bundle(tmp_path / f"a{ending}")

    read_signed(path)
    with pytest.raises(UntrustedBundle, match="not signed"):
        read_signed(path, required=True)


@every_format
@pytest.mark.parametrize(
    "changes",
    [
        {"date": "2027-01-01T00:00:00+00:00"},
        {"origin": "00000000-0000-4000-8000-000000000002"},
        {"provided_objects": []},
        {"scope": {"reach": "connected"}},
        {"counts": {"policies.Brand": 1, "policies.Depot": 3, "auth.User": 1}},
        {"schema": {}},
        {"detached": [{"model": "policies.Claim"}]},
        {"signature": "0" * 64},
        {"signature": "ż"},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("required", [True, False])
def test_a_signed_head_that_was_changed_is_refused(
    tmp_path: Path, ending: str, changes: dict[str, Any], required: bool
) -> None:
    path = edit_head(make_bundle(tmp_path / f"a{ending}", sign=True), **changes)

    with pytest.raises(UntrustedBundle):
        read_signed(path, required=required)


@pytest.mark.parametrize(
    "edit",
    [
        lambda objects: objects[0].update(pk=7),
        lambda objects: objects[0].update(model="policies.worker"),
        lambda objects: objects[0]["fields"].update(name="other"),
        lambda objects: objects[0]["fields"].update(more=None),
        lambda objects: objects[0]["fields"].pop("name"),
        lambda objects: objects.append(objects[0]),
        lambda objects: objects.pop(),
        lambda objects: objects.reverse(),
        lambda objects: objects.clear(),
    ],
)
def test_a_signed_document_whose_objects_were_changed_is_refused(tmp_path: Path, edit: Callable[[Any], Any]) -> None:
    path = make_bundle(tmp_path / "a.json", sign=True)
    document = read_document(path)
    edit(document["objects"])
    write_document(path, document)

    with pytest.raises(UntrustedBundle):
        read_signed(path)


def test_a_signed_document_may_be_laid_out_anew(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.json", sign=True)

    read_signed(write_document(path, read_document(path)), required=True)


def test_an_edited_archive_with_new_checksums_is_refused_by_its_signature(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "a.tar.gz", sign=True)
    members = read_members(path)
    name = "data/0001.policies.brand.jsonl"
    members[name] = members[name].replace(b"policies", b"policies", 1).replace(b'"pk": 1', b'"pk": 2')
    write_members(path, seal(json.loads(members["manifest.json"]), members))

    with pytest.raises(UntrustedBundle):
        read_signed(path)


def test_the_signature_of_an_archive_does_not_sign_a_document(tmp_path: Path) -> None:
    archive = make_bundle(tmp_path / "a.tar.gz", sign=True)
    head = json.loads(read_members(archive)["manifest.json"])
    path = write_document(tmp_path / "a.json", head | {"objects": [record("auth.user", 1, is_superuser=True)]})

    with pytest.raises(BundleError):
        read_signed(path)


def test_an_archive_that_takes_over_the_head_of_a_signed_document_is_refused(tmp_path: Path) -> None:
    document = read_document(make_bundle(tmp_path / "a.json", sign=True))
    archive = make_bundle(tmp_path / "a.tar.gz")
    members = read_members(archive)
    manifest = json.loads(members["manifest.json"]) | {"signature": document["signature"]}
    write_members(archive, members | {"manifest.json": json.dumps(manifest).encode()})

    with pytest.raises(UntrustedBundle):
        read_signed(archive)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@PROPERTY
@given(VALUES, VALUES)
def test_values_that_differ_are_signed_differently(one: Any, other: Any) -> None:
    def tell(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tell(item) for key, item in value.items()}
        if isinstance(value, list):
            return [tell(item) for item in value]
        return (type(value), str(value))

    assert (make_canonical(one) == make_canonical(other)) == (tell(one) == tell(other))
    assert make_canonical({"a": Decimal("1.5")}) != make_canonical({"a": {"\0number": "1.5"}})
    assert make_canonical([Decimal("1.5")]) != make_canonical(["1.5"])

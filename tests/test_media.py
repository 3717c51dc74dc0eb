"""Stored files that travel in bundles."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage, Storage
from django.test import override_settings

from gestore_sync import api
from gestore_sync.bundles import StoredFile
from gestore_sync.exceptions import BundleError, GestoreSyncError, LocationUnavailable, WriteFailed
from gestore_sync.importing import Import
from gestore_sync.media import Media
from tests.bundling import ARCHIVES, edit_records, export, load, read_all, read_members, seal, write_members
from tests.conftest import Pair
from tests.kinds.making import make
from tests.kinds.models import Box, Picture, Values
from tests.policies.watching import Watch, paired, refuse_text, watched

every_archive = pytest.mark.parametrize("ending", ARCHIVES)

pair = paired("sqlite-postgresql")


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair, "kinds", "contenttypes") as watch:
        yield watch


class Disk:
    """The files of one site; another one comes with the import."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def read(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Disk]:
    """The files of the source."""
    disk = Disk(tmp_path / "here")
    disk.root.mkdir()
    with override_settings(MEDIA_ROOT=str(disk.root)):
        yield disk


class There(Disk):
    """The files of the target, which the block of an import sees."""

    def load(self, watch: Watch, path: Path, **options: Any) -> api.Report:
        with override_settings(MEDIA_ROOT=str(self.root)):
            return load(watch, path, **options)

    def refuse(self, watch: Watch, path: Path, **options: Any) -> str:
        before = self.read()
        with pytest.raises(GestoreSyncError) as caught:
            self.load(watch, path, **options)
        assert self.read() == before
        return str(caught.value)


@pytest.fixture
def there(tmp_path: Path) -> There:
    disk = There(tmp_path / "there")
    disk.root.mkdir()
    return disk


@pytest.fixture
def box(watch: Watch, here: Disk) -> Box:
    """Two rows with files, one of them of two names for the same content."""
    box = make(Box, watch.source)
    here.put("values/a.txt", b"first")
    here.put("pictures/b.png", bytes(range(256)) * 9000)
    make(Values, watch.source, box=box, file="values/a.txt")
    make(Picture, watch.source, box=box, image="pictures/b.png", width=1, height=2)
    return box


# Out


@every_archive
def test_files_are_in_an_archive_once_each(watch: Watch, here: Disk, box: Box, tmp_path: Path, ending: str) -> None:
    make(Values, watch.source, box=box, file="values/a.txt")
    make(Values, watch.source, box=box, file="")
    make(Values, watch.source, box=box, file=None)

    report = api.export_objects(box, str(tmp_path / f"a{ending}"), database=watch.source)

    files = read_all(tmp_path / f"a{ending}").files
    assert sorted((name, len(content)) for _, name, content in files) == [
        ("pictures/b.png", 2_304_000),
        ("values/a.txt", 5),
    ]
    assert report.files == 2


def test_a_file_is_read_once(
    watch: Watch, here: Disk, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(Values, watch.source, box=box, file="values/a.txt")
    opened: list[str] = []
    original = FileSystemStorage._open

    def note(self: Any, name: str, mode: str = "rb") -> Any:
        opened.append(name)
        return original(self, name, mode)

    monkeypatch.setattr(FileSystemStorage, "_open", note)
    export(watch, tmp_path / "a.tar.gz", box)

    assert sorted(opened) == ["pictures/b.png", "values/a.txt"]


@every_archive
def test_files_are_left_out_where_that_is_said(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path, ending: str
) -> None:
    path = export(watch, tmp_path / f"a{ending}", box, files=False)

    there.load(watch, path)

    assert read_all(path).files == []
    assert there.read() == {}
    assert watch.on_target(Values).get().file.name == "values/a.txt"


def test_a_document_says_that_it_holds_no_files(watch: Watch, here: Disk, box: Box, tmp_path: Path) -> None:
    report = api.export_objects(box, str(tmp_path / "a.json"), database=watch.source)

    assert any("2 stored files" in warning for warning in report.warnings)


@every_archive
def test_a_file_that_its_storage_lacks_is_told_and_no_bundle_is_left(
    watch: Watch, here: Disk, box: Box, tmp_path: Path, ending: str
) -> None:
    (here.root / "values/a.txt").unlink()
    path = tmp_path / f"a{ending}"

    with pytest.raises(BundleError) as caught:
        export(watch, path, box)

    message = str(caught.value)
    assert "values/a.txt" in message
    assert f"kinds.Values.{watch.on_source(Values).get().pk}" in message
    assert "--no-files" in message
    assert not path.exists()


@every_archive
@pytest.mark.parametrize(
    "name", ["../evil.txt", "{root}/evil.txt", "{root}/here/values/a.txt", "values/../../evil.txt"]
)
def test_a_file_that_is_named_outside_of_its_storage_is_not_read(
    watch: Watch, here: Disk, box: Box, tmp_path: Path, ending: str, name: str
) -> None:
    (tmp_path / "evil.txt").write_text("secret")
    name = name.format(root=tmp_path)
    row = watch.on_source(Values).get()
    watch.on_source(Values).update(file=name)
    path = tmp_path / f"a{ending}"

    with pytest.raises(BundleError) as caught:
        export(watch, path, box)

    assert name in str(caught.value)
    assert f"kinds.Values.{row.pk}" in str(caught.value)
    assert not path.exists()


# In


@every_archive
def test_files_come_with_the_objects(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path, ending: str
) -> None:
    there.load(watch, export(watch, tmp_path / f"a{ending}", box))

    assert there.read() == here.read()
    assert watch.on_target(Values).get().file.name == "values/a.txt"
    assert watch.on_target(Picture).get().image.name == "pictures/b.png"


@every_archive
def test_importing_twice_adds_no_file(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path, ending: str
) -> None:
    path = export(watch, tmp_path / f"a{ending}", box)
    there.put("values/a.txt", b"theirs")
    there.load(watch, path)
    files, before = there.read(), watch.picture()

    report = there.load(watch, path)

    assert report.created == report.updated == {}
    assert there.read() == files
    assert watch.picture() == before


def test_an_equal_file_is_not_written_again(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export(watch, tmp_path / "a.tar.gz", box)
    there.put("values/a.txt", b"first")
    saved: list[str] = []
    original = FileSystemStorage._save
    monkeypatch.setattr(
        FileSystemStorage, "_save", lambda self, name, content: (saved.append(name), original(self, name, content))[1]
    )

    there.load(watch, path)

    assert saved == ["pictures/b.png"]


@pytest.mark.parametrize("theirs", [b"other", b"longer than ours", b""])
def test_another_file_of_that_name_is_kept_and_the_row_follows(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path, theirs: bytes
) -> None:
    path = export(watch, tmp_path / "a.tar.gz", box)
    make(Values, watch.source, box=box, file="values/a.txt")
    there.put("values/a.txt", theirs)
    path = export(watch, tmp_path / "a.tar.gz", box)

    there.load(watch, path)

    files = there.read()
    assert files["values/a.txt"] == theirs
    (name,) = set(watch.on_target(Values).values_list("file", flat=True))
    assert name != "values/a.txt"
    assert files[name] == b"first"
    assert len(files) == 3


def test_a_changed_file_comes_under_another_name(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path
) -> None:
    there.load(watch, export(watch, tmp_path / "a.tar.gz", box))
    here.put("values/a.txt", b"second")

    there.load(watch, export(watch, tmp_path / "b.tar.gz", box))

    files = there.read()
    assert files["values/a.txt"] == b"first"
    assert files[watch.on_target(Values).get().file.name] == b"second"


def test_a_plan_writes_no_file(watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path) -> None:
    report = there.load(watch, export(watch, tmp_path / "a.tar.gz", box), debug=True)

    assert report.created
    assert there.read() == {}


def test_files_that_nothing_names_are_not_stored(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path
) -> None:
    path = export(watch, tmp_path / "a.tar.gz", box)
    edit_records(path, lambda records: [one["fields"].update(file=None) for one in records if "file" in one["fields"]])

    there.load(watch, path)

    assert list(there.read()) == ["pictures/b.png"]


def test_the_files_of_objects_that_are_left_out_are_not_stored(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path
) -> None:
    path = export(watch, tmp_path / "a.tar.gz", box)
    make(
        Values,
        watch.target,
        pk=watch.on_source(Values).get().pk,
        file="theirs.txt",
        box=make(Box, watch.target, pk=900),
    )

    report = there.load(watch, path, on_conflict="skip")

    assert report.skipped == {"kinds.Values": 1}
    assert list(there.read()) == ["pictures/b.png"]


def test_what_is_renamed_keeps_its_file_where_other_objects_are_left_out(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path
) -> None:
    there.put("pictures/b.png", b"theirs")
    path = export(watch, tmp_path / "a.tar.gz", box)
    make(
        Values,
        watch.target,
        pk=watch.on_source(Values).get().pk,
        file="theirs.txt",
        box=make(Box, watch.target, pk=900),
    )

    there.load(watch, path, on_conflict="skip")

    files = there.read()
    name = watch.on_target(Picture).get().image.name
    assert sorted(files) == sorted(["pictures/b.png", name])
    assert files["pictures/b.png"] == b"theirs"
    assert files[name] == here.read()["pictures/b.png"]


def test_a_file_is_not_stored_where_the_name_of_another_one_is_kept(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path
) -> None:
    there.load(watch, export(watch, tmp_path / "a.tar.gz", box))
    here.put("values/c.txt", b"second")
    watch.on_source(Values).update(file="values/c.txt")
    there.put("theirs.txt", b"theirs")
    watch.on_target(Values).update(file="theirs.txt")
    files = there.read()

    there.load(watch, export(watch, tmp_path / "b.tar.gz", box), on_conflict="skip")

    assert watch.on_target(Values).get().file.name == "theirs.txt"
    assert there.read() == files


def test_a_file_that_is_lost_here_comes_back(watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path) -> None:
    path = export(watch, tmp_path / "a.tar.gz", box)
    there.load(watch, path)
    (there.root / "values/a.txt").unlink()

    there.load(watch, path)

    assert there.read() == here.read()


@pytest.mark.parametrize("how", ["conflict", "refused", "rolled back"])
def test_an_import_that_fails_leaves_no_file(
    watch: Watch,
    here: Disk,
    there: There,
    box: Box,
    tmp_path: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = export(watch, tmp_path / "a.tar.gz", box)
    there.put("values/b.txt", b"theirs")
    if how == "conflict":
        make(Box, watch.target, pk=box.pk, name="other")
    elif how == "refused":
        refuse_text(watch.target, "kinds_values", "mark", watch.on_source(Values).get().mark)
    else:
        original = Import._apply

        def fail_late(self: Any, planner: Any, media: Media) -> None:
            original(self, planner, media)
            assert len(there.read()) == 3
            raise WriteFailed("The commit failed.")

        monkeypatch.setattr(Import, "_apply", fail_late)

    assert there.refuse(watch, path)
    assert not watch.on_target(Values).exists()


def make_names(path: Path, name: str) -> Path:
    """Let the manifest and the rows name the file otherwise."""
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    for member in manifest["members"]:
        if member.get("storage_name") == "values/a.txt":
            member["storage_name"] = name
        elif member.get("model") == "kinds.Values":
            lines = [json.loads(line) for line in members[member["name"]].splitlines()]
            for line in lines:
                line["fields"]["file"] = name
            members[member["name"]] = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return write_members(path, seal(manifest, members))


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "/etc/evil.txt",
        "values/../../evil.txt",
        "..",
        ".",
        "values/..",
        "..\\evil.txt",
        "a\0b",
        "values/",
    ],
)
def test_a_name_that_leaves_the_storage_is_refused(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path, name: str
) -> None:
    path = make_names(export(watch, tmp_path / "a.tar.gz", box), name)
    everything = sorted(tmp_path.rglob("*"))

    message = there.refuse(watch, path)

    assert "may not be stored" in message or "NUL" in message

    assert sorted(tmp_path.rglob("*")) == everything


@pytest.mark.parametrize("name", ["x" * 300 + ".txt", "values/" + "y" * 250])
def test_a_name_that_no_file_can_have_is_refused(
    watch: Watch, here: Disk, there: There, box: Box, tmp_path: Path, name: str
) -> None:
    assert there.refuse(watch, make_names(export(watch, tmp_path / "a.tar.gz", box), name))


# Storages


class Overwriting(InMemoryStorage):
    """A storage for which each name is free, as those of object stores can be."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name

    def _save(self, name: str, content: Any) -> str:
        if self.exists(name):
            self.delete(name)
        return super()._save(name, content)


class Full(InMemoryStorage):
    """A storage with room for half a file."""

    def _save(self, name: str, content: Any) -> str:
        super()._save(name, ContentFile(content.read()[:2]))
        raise OSError(28, "No space left on device")


class Odd(InMemoryStorage):
    """A storage that fails as its library does."""

    def exists(self, name: str) -> bool:
        raise RuntimeError("no answer")


def make_file(name: str, content: bytes) -> StoredFile:
    """Return a file as a bundle has it."""
    return StoredFile("kinds.Values.file", name, len(content), hashlib.sha256(content).hexdigest(), io.BytesIO(content))


@pytest.fixture
def field(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file field whose storage a test may choose."""
    field = Values._meta.get_field("file")
    monkeypatch.setattr(field, "storage", InMemoryStorage())
    return field


def store(field: Any, *files: StoredFile) -> list[str]:
    """Store files as an import does; return their names."""
    with Media() as media:
        media.load(files)
        names = [media.find_name(field, file.storage_name, None) for file in files]
        media.store()
        return names


@pytest.mark.parametrize("storage", [InMemoryStorage, Overwriting])
def test_every_storage_takes_files_and_keeps_those_of_others(field: Any, storage: type[Storage]) -> None:
    field.storage = storage()
    field.storage.save("a.txt", ContentFile(b"theirs"))

    names = store(field, make_file("a.txt", b"ours"), make_file("dir/b.txt", b"more"))

    def read(name: str) -> bytes:
        with field.storage.open(name) as content:
            return bytes(content.read())

    assert names[1] == "dir/b.txt"
    assert read("a.txt") == b"theirs"
    assert read(names[0]) == b"ours"
    assert store(field, make_file("dir/b.txt", b"more")) == ["dir/b.txt"]


def test_a_full_storage_is_told_and_nothing_is_left_of_any_file(field: Any) -> None:
    field.storage = Full()

    with pytest.raises(WriteFailed, match="No space left") as caught:
        store(field, make_file("a.txt", b"ours"))

    assert "a.txt" in str(caught.value)
    assert field.storage.listdir("") == ([], [])


def test_a_storage_that_fails_in_its_own_way_is_told(field: Any) -> None:
    field.storage = Odd()

    with pytest.raises(WriteFailed, match="no answer"):
        store(field, make_file("a.txt", b"ours"))


def test_a_file_that_comes_in_between_is_kept(field: Any) -> None:
    with pytest.raises(WriteFailed, match="meantime"), Media() as media:  # noqa: PT012
        media.load([make_file("a.txt", b"ours")])
        media.find_name(field, "a.txt", None)
        field.storage.save("a.txt", ContentFile(b"theirs"))
        media.store()

    with field.storage.open("a.txt") as content:
        assert content.read() == b"theirs"


def test_two_fields_whose_storages_are_one_place_store_a_file_once(tmp_path: Path, field: Any) -> None:
    other: Any = Picture._meta.get_field("image")
    place = str(tmp_path / "media")
    original = other.storage
    try:
        field.storage, other.storage = FileSystemStorage(place), FileSystemStorage(place)
        files = [make_file("a.txt", b"ours"), make_file("a.txt", b"ours")]
        files[1].field = "kinds.Picture.image"
        with Media() as media:
            media.load(files)
            names = [media.find_name(field, "a.txt", None), media.find_name(other, "a.txt", None)]
            media.store()
    finally:
        other.storage = original

    assert names == ["a.txt", "a.txt"]
    assert [path.name for path in Path(place).iterdir()] == ["a.txt"]


def test_a_new_name_fits_the_column(field: Any) -> None:
    name = "x" * 190 + ".txt"
    field.storage.save(name, ContentFile(b"theirs"))

    (found,) = store(field, make_file(name, b"ours"))

    assert found != name
    assert len(found) <= field.max_length


def test_temporary_files_that_cannot_be_written_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    with pytest.raises(LocationUnavailable, match="TMPDIR"):
        Media()

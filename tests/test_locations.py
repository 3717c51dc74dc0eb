from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gestore_sync.exceptions import GestoreSyncError, LocationUnavailable, WrongSetting
from gestore_sync.locations import get_export_location, get_format, hide_password, open_input, open_output

NOW = datetime(2026, 11, 21, 16, 5, 9, 42, tzinfo=UTC)

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a device or a limit of Linux")


class Broken(Exception):
    """What goes wrong while a file is being written."""


class Place:
    """A folder in one of the file systems, looked at from behind."""

    def __init__(self, url: str, file_system: Any, path: str) -> None:
        self.url = url
        self.file_system = file_system
        self.path = path

    def list(self) -> set[str]:
        """The names of all files in the folder, hidden ones too."""
        return {name.removeprefix(self.path + "/") for name in self.file_system.find(self.path)}

    def put(self, name: str, content: bytes) -> None:
        self.file_system.makedirs(f"{self.path}/{name}".rpartition("/")[0], exist_ok=True)
        self.file_system.pipe_file(f"{self.path}/{name}", content)

    def get(self, name: str) -> bytes:
        """The content of a file."""
        return self.file_system.cat_file(f"{self.path}/{name}")


@pytest.fixture(params=["path", "file URL", "memory URL"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory URL":
        yield Place("memory://exports", fsspec.filesystem("memory"), "/exports")
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
    else:
        folder = tmp_path / "exports"
        folder.mkdir()
        url = folder.as_uri() if request.param == "file URL" else str(folder)
        yield Place(url, fsspec.filesystem("file"), str(folder))


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def write(location: str, content: bytes = b"new") -> None:
    with open_output(location) as file:
        file.write(content)


def fail(location: str, error: type[BaseException]) -> None:
    with open_output(location) as file:
        file.write(b"x" * 2**20)
        raise error


def read(location: str) -> bytes:
    with open_input(location) as file:
        return file.read()


def get_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Writing and reading


def test_what_was_written_is_there_when_the_block_has_ended(place: Place) -> None:
    write(f"{place.url}/a.json", b"content")

    assert place.list() == {"a.json"}
    assert place.get("a.json") == b"content"


def test_what_was_written_is_read_again(place: Place) -> None:
    content = os.urandom(3 * 2**20)
    with open_output(f"{place.url}/a.json") as file:
        for start in range(0, len(content), 100_000):
            file.write(content[start : start + 100_000])

    assert read(f"{place.url}/a.json") == content


def test_nothing_has_the_name_while_it_is_being_written(place: Place) -> None:
    with open_output(f"{place.url}/a.json") as file:
        file.write(b"x" * 2**20)
        file.flush()

        assert "a.json" not in place.list()


def test_the_old_file_is_there_until_the_new_one_is_whole(place: Place) -> None:
    place.put("a.json", b"old")

    with open_output(f"{place.url}/a.json") as file:
        file.write(b"new")
        file.flush()
        assert place.get("a.json") == b"old"

    assert place.get("a.json") == b"new"
    assert place.list() == {"a.json"}


@pytest.mark.parametrize("error", [Broken, LocationUnavailable, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(place: Place, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail(f"{place.url}/a.json", error)

    assert place.list() == set()


def test_an_error_leaves_the_old_file_as_it_was(place: Place) -> None:
    place.put("a.json", b"old")

    with pytest.raises(Broken):
        fail(f"{place.url}/a.json", Broken)

    assert place.list() == {"a.json"}
    assert place.get("a.json") == b"old"


def test_an_error_of_the_block_itself_is_not_explained_away(place: Place) -> None:
    with pytest.raises(FileNotFoundError, match="a file of the storage"), open_output(f"{place.url}/a.json"):
        raise FileNotFoundError("a file of the storage")


def test_a_folder_that_is_missing_is_made(place: Place) -> None:
    write(f"{place.url}/2026/november/a.json")

    assert place.list() == {"2026/november/a.json"}


def test_signs_of_patterns_are_letters_like_any_other(place: Place) -> None:
    write(f"{place.url}/[2026]*/a?{{1}}.json")

    assert place.list() == {"[2026]*/a?{1}.json"}


def test_a_file_may_be_closed_before_its_block_ends(place: Place) -> None:
    with open_output(f"{place.url}/a.json") as file:
        file.write(b"content")
        file.close()

    assert place.get("a.json") == b"content"


def test_an_empty_file_is_a_file(place: Place) -> None:
    write(f"{place.url}/a.json", b"")

    assert place.list() == {"a.json"}
    assert place.get("a.json") == b""


def test_two_who_write_the_same_file_at_once_do_not_meet(place: Place) -> None:
    with open_output(f"{place.url}/a.json") as first:
        first.write(b"first")
        write(f"{place.url}/a.json", b"second")
        first.write(b" of all")

    assert place.get("a.json") == b"first of all"
    assert place.list() == {"a.json"}


def test_input_can_be_searched_and_looked_at_ahead(place: Place) -> None:
    place.put("a.json", bytes(range(256)) * 4096)

    with open_input(f"{place.url}/a.json") as file:
        ahead = file.peek(1)[:1]
        file.seek(600_000)
        found = file.read(3)

    assert ahead == b"\0"
    assert found == bytes([600_000 % 256, 600_001 % 256, 600_002 % 256])


def test_input_that_is_not_there_is_told(place: Place) -> None:
    with pytest.raises(LocationUnavailable, match=r"missing\.json cannot be read: .+ Check the name\."):
        read(f"{place.url}/missing.json")


def test_a_folder_is_no_file_to_write(place: Place) -> None:
    place.put("folder/a.json", b"")

    with pytest.raises(LocationUnavailable, match=r"folder cannot be written: Is a directory\. Name a file in it\."):
        write(f"{place.url}/folder")

    assert place.list() == {"folder/a.json"}


def test_what_cannot_be_written_is_told_before_anything_is_done(place: Place) -> None:
    place.put("folder/a.json", b"")
    done = []

    with pytest.raises(LocationUnavailable), open_output(f"{place.url}/folder"):
        done.append("work")

    assert done == []


def test_a_file_is_no_folder(place: Place) -> None:
    place.put("a.json", b"old")

    with pytest.raises(LocationUnavailable, match=r"A part of the path is a file"):
        write(f"{place.url}/a.json/b.json")

    assert place.list() == {"a.json"}


def test_an_error_is_one_of_ours() -> None:
    assert issubclass(LocationUnavailable, GestoreSyncError)


# Files of this machine


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path, usual_umask: None) -> None:
    write(str(tmp_path / "a.json"))

    assert get_mode(tmp_path / "a.json") == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path, usual_umask: None, mode: int) -> None:
    (tmp_path / "a.json").touch()
    (tmp_path / "a.json").chmod(mode)

    write(str(tmp_path / "a.json"))

    assert get_mode(tmp_path / "a.json") == mode


def test_what_replaces_a_private_file_is_private_from_the_beginning(tmp_path: Path, usual_umask: None) -> None:
    (tmp_path / "a.json").touch()
    (tmp_path / "a.json").chmod(0o600)

    with open_output(str(tmp_path / "a.json")):
        modes = {get_mode(path) for path in tmp_path.iterdir()}

    assert modes == {0o600}


def test_a_symbolic_link_still_leads_where_it_led(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "real.json").write_bytes(b"old")
    (tmp_path / "a.json").symlink_to(tmp_path / "elsewhere" / "real.json")

    write(str(tmp_path / "a.json"))

    assert (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "elsewhere" / "real.json").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["real.json"]


def test_a_path_in_the_working_folder_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    write("a.json")

    assert (tmp_path / "a.json").read_bytes() == b"new"


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path: Path) -> None:
    name = "x" * 250 + ".json"

    write(str(tmp_path / name))

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_blank_in_a_file_url_is_a_blank_in_the_name(tmp_path: Path) -> None:
    write(f"file://{tmp_path}/a%20b.json")
    write(f"FILE://localhost{tmp_path}/c.json")

    assert {path.name for path in tmp_path.iterdir()} == {"a b.json", "c.json"}


def test_a_pipe_takes_what_it_gets(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()

    write(str(tmp_path / "pipe"), b"content")

    reader.join(timeout=10)
    assert found == [b"content"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@needs_linux
@pytest.mark.parametrize("size", [10, 10 * 2**20])
def test_a_device_that_is_full_is_told_and_stays_a_device(size: int) -> None:
    with pytest.raises(LocationUnavailable, match=r"/dev/full cannot be written: No space left on device\. Make room"):
        write("/dev/full", b"x" * size)

    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize(("size", "pieces"), [(2**16 + 1, 1), (4 * 2**20, 1), (1000, 1000)])
def test_a_file_system_that_takes_no_more_is_told_and_left_without_a_file(
    tmp_path: Path, size: int, pieces: int
) -> None:
    (tmp_path / "a.json").write_bytes(b"old")
    code = (
        "import sys; from gestore_sync.locations import open_output; from gestore_sync.exceptions import *\n"
        "try:\n"
        "    with open_output(sys.argv[1]) as file:\n"
        "        for _ in range(int(sys.argv[3])): file.write(b'x' * int(sys.argv[2]))\n"
        "except LocationUnavailable as error: print(error)"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.json"), str(size), str(pieces)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16)),
        capture_output=True,
        text=True,
    )

    assert "cannot be written: File too large. Name a place where files may be larger." in done.stdout
    assert done.stderr == ""
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"old"}


@needs_linux
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    folder = tmp_path
    if os.geteuid() == 0:  # root may write everywhere but here
        folder = Path("/sys")
    else:
        folder.chmod(0o555)

    with pytest.raises(LocationUnavailable, match=r"cannot be written: .+ [Nn]ame another place\."):
        write(str(folder / "a.json"))


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may write to every file: let it be nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_written_is_not_replaced() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        path = Path(folder) / "a.json"
        path.write_bytes(b"old")
        path.chmod(0o444)

        with as_ordinary_user(), pytest.raises(LocationUnavailable, match=r"Permission denied"):
            write(str(path))

        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("location", ["", "/", "a\0b.json", "x" * 300, "file://"])
def test_a_name_that_no_file_can_have_is_told(location: str) -> None:
    with pytest.raises(LocationUnavailable):
        write(location)

    with pytest.raises(LocationUnavailable):
        read(location)


# URLs


def test_a_scheme_that_nobody_knows_is_told() -> None:
    with pytest.raises(LocationUnavailable, match=r"xyz://a/b\.json cannot be written: Protocol not known: xyz"):
        write("xyz://a/b.json")


def test_a_server_that_does_not_answer_is_told() -> None:
    pattern = r"ftp://127\.0\.0\.1:1/a\.json cannot be read: .+ Check the address, the credentials and the connection"
    with pytest.raises(LocationUnavailable, match=pattern):
        read("ftp://127.0.0.1:1/a.json")


@pytest.mark.parametrize("use", [read, write])
def test_a_password_is_not_shown(use: Callable[[str], Any]) -> None:
    with pytest.raises(LocationUnavailable) as caught:
        use("ftp://me:secret@127.0.0.1:1/a.json")

    assert "secret" not in str(caught.value)
    assert "ftp://me:***@127.0.0.1:1/a.json" in str(caught.value)


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("sftp://me:p@ss:w@host:22/a@b.json", "sftp://me:***@host:22/a@b.json"),
        ("simplecache::sftp://me:secret@host/a.json", "simplecache::sftp://me:***@host/a.json"),
        ("sftp://:secret@host/a.json", "sftp://:***@host/a.json"),
        ("sftp://me@host/a:b@c.json", "sftp://me@host/a:b@c.json"),
        ("s3://bucket/a:b@c.json", "s3://bucket/a:b@c.json"),
        ("exports/a.json", "exports/a.json"),
    ],
)
def test_of_a_location_only_the_password_is_hidden(location: str, shown: str) -> None:
    assert hide_password(location) == shown


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("memory://a.json", "fsspec", "files"),
        ("s3://bucket/a.json", "fsspec", "s3"),
        ("s3://bucket/a.json", "s3fs", "s3"),
        ("gs://bucket/a.json", "gcsfs", "gs"),
        ("sftp://host/a.json", "paramiko", "sftp"),
    ],
)
def test_what_is_not_installed_is_told_with_its_extra(url: str, module: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from gestore_sync.locations import open_output; from gestore_sync.exceptions import LocationUnavailable\n"
        "try:\n"
        "    with open_output(sys.argv[1]): pass\n"
        "except LocationUnavailable as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)

    assert done.stdout.startswith(f"{url} cannot be opened: ")
    assert done.stdout.endswith(f'pip install "gestore-sync[{extra}]"\n')


def test_files_of_this_machine_need_no_fsspec(tmp_path: Path) -> None:
    code = (
        "import sys; from gestore_sync.locations import open_output, open_input\n"
        "for location in sys.argv[1:]:\n"
        "    with open_output(location) as file: file.write(b'content')\n"
        "    with open_input(location) as file: assert file.read() == b'content'\n"
        "print('fsspec' in sys.modules)"
    )

    command = [sys.executable, "-c", code, str(tmp_path / "a.json"), (tmp_path / "b.json").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_what_cannot_be_taken_away_is_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: MemoryFileSystem, path: str) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(MemoryFileSystem, "_rm", refuse)
    monkeypatch.setattr(MemoryFileSystem, "rm_file", refuse)

    with pytest.raises(Broken):
        fail("memory://exports/a.json", Broken)

    assert "may be left behind in part" in caplog.text
    MemoryFileSystem.store.clear()


# Names and formats


@pytest.mark.parametrize(
    "output", ["a.json", "A.JSON", "a.json.gz", "x/a.Tar.Gz", "a.tar.zst", "s3://bucket/a.tar.zst"]
)
def test_a_name_with_the_ending_of_a_format_is_the_files(output: str) -> None:
    assert get_export_location(output, NOW) == output


@pytest.mark.parametrize(
    ("output", "folder"),
    [
        (None, "exports/"),
        ("", "exports/"),
        ("backups", "backups/"),
        ("backups/", "backups/"),
        ("a.zip", "a.zip/"),
        ("a.json.bz2", "a.json.bz2/"),
        ("a.tgz", "a.tgz/"),
        ("/", "/"),
        ("s3://bucket/folder", "s3://bucket/folder/"),
        ("s3://bucket", "s3://bucket/"),
        ("memory://", "memory://"),
    ],
)
def test_any_other_name_is_that_of_a_folder(output: str | None, folder: str) -> None:
    location = get_export_location(output, NOW)

    assert location.startswith(folder)
    name = location.removeprefix(folder)
    assert name.endswith("_2026-11-21_16-05-09-000042.json")
    assert "/" not in name
    assert len(name) > len("_2026-11-21_16-05-09-000042.json")


def test_the_name_of_a_host_cannot_lead_out_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "../../etc/ho st")

    assert get_export_location(None, NOW) == "exports/etc-ho-st_2026-11-21_16-05-09-000042.json"


@pytest.mark.parametrize(
    ("location", "form"),
    [
        ("a.json", ".json"),
        ("A.JSON", ".json"),
        ("a.json.gz", ".json.gz"),
        ("memory://x/a.tar.GZ", ".tar.gz"),
        ("a.b.tar.zst", ".tar.zst"),
    ],
)
def test_the_name_tells_the_format(location: str, form: str) -> None:
    assert get_format(location) == form


@pytest.mark.parametrize("location", ["", "a", "a.zip", "a.tgz", "json", "a.tar", "a.json.zst", "a.gz", "exports/"])
def test_a_name_that_tells_no_format_is_told(location: str) -> None:
    with pytest.raises(WrongSetting, match=r"must end in \.json, \.json\.gz, \.tar\.gz, \.tar\.zst"):
        get_format(location)


def test_output_is_a_binary_file_like_any_other(tmp_path: Path) -> None:
    with open_output(str(tmp_path / "a.json")) as file:
        assert isinstance(file, io.BufferedIOBase)
        assert file.writable()
        assert not file.seekable()
        assert file.write(b"abc") == 3
        assert file.tell() == 3

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from django.core import checks
from django.utils import timezone
from moto.server import ThreadedMotoServer

from gestore_sync import api
from gestore_sync.buckets import get_bucket_location, get_bucket_options
from gestore_sync.exceptions import GestoreSyncError, LocationUnavailable, WrongSetting
from gestore_sync.locations import open_input, open_output
from testproject.campus.models import Organization, Tag

NUMBERS = itertools.count()
LARGE = 20 * 2**20
"""More than is sent to a store at once."""


class Broken(Exception):
    """What goes wrong while a file is being written."""


class Bucket:
    """A bucket of the server, looked at from behind."""

    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self.credentials = {"key": "me", "secret": "secret", "endpoint_url": endpoint}
        self._file_system = s3fs.S3FileSystem(**self.credentials, use_listings_cache=False)
        self._file_system.mkdir(name)

    def list(self) -> set[str]:
        """The names of all objects."""
        return {name.removeprefix(f"{self.name}/") for name in self._file_system.find(self.name)}

    def get(self, name: str) -> bytes:
        """The content of an object."""
        return self._file_system.cat_file(f"{self.name}/{name}")

    def put(self, name: str, content: bytes) -> None:
        self._file_system.pipe_file(f"{self.name}/{name}", content)

    def find_uploads(self) -> Any:
        """The uploads that were begun and neither completed nor given up."""
        return self._file_system.call_s3("list_multipart_uploads", Bucket=self.name).get("Uploads")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server that speaks the protocol of S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(endpoint: str) -> Bucket:
    """An empty bucket; nothing in the environment leads to it."""
    return Bucket(f"bucket{next(NUMBERS)}", endpoint)


@pytest.fixture
def known_bucket(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket to which the environment leads."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.credentials["endpoint_url"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return bucket


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing in the environment gives credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def write(location: str, content: bytes = b"new", options: dict[str, Any] | None = None) -> None:
    with open_output(location, options) as file:
        file.write(content)


def fail(location: str, size: int) -> None:
    with open_output(location) as file:
        file.write(b"x" * size)
        raise Broken


def read(location: str, options: dict[str, Any] | None = None) -> bytes:
    with open_input(location, options) as file:
        return file.read()


# A store


@pytest.mark.parametrize("size", [0, 10, LARGE])
def test_what_was_written_to_a_store_is_read_again(known_bucket: Bucket, size: int) -> None:
    content = bytes(range(250)) * (size // 250) + b"x" * (size % 250)

    write(f"s3://{known_bucket.name}/folder/a.json", content)

    assert known_bucket.list() == {"folder/a.json"}
    assert read(f"s3://{known_bucket.name}/folder/a.json") == content


def test_options_lead_to_a_store_as_well_as_the_environment(bucket: Bucket) -> None:
    write(f"s3://{bucket.name}/a.json", b"content", bucket.credentials)

    assert read(f"s3://{bucket.name}/a.json", bucket.credentials) == b"content"


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_error_leaves_nothing_in_a_store(known_bucket: Bucket, size: int) -> None:
    with pytest.raises(Broken):
        fail(f"s3://{known_bucket.name}/a.json", size)

    assert known_bucket.list() == set()
    assert not known_bucket.find_uploads()


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_error_leaves_the_old_object_of_a_store_as_it_was(known_bucket: Bucket, size: int) -> None:
    known_bucket.put("a.json", b"old")

    with pytest.raises(Broken):
        fail(f"s3://{known_bucket.name}/a.json", size)

    assert known_bucket.list() == {"a.json"}
    assert known_bucket.get("a.json") == b"old"


def test_an_object_is_replaced_when_the_new_one_is_whole(known_bucket: Bucket) -> None:
    known_bucket.put("a.json", b"old")

    with open_output(f"s3://{known_bucket.name}/a.json") as file:
        file.write(b"x" * LARGE)
        file.flush()
        assert known_bucket.get("a.json") == b"old"

    assert known_bucket.get("a.json") == b"x" * LARGE
    assert known_bucket.list() == {"a.json"}


def test_an_object_that_others_replaced_is_read_as_it_is(known_bucket: Bucket) -> None:
    known_bucket.put("a.json", b"old")
    s3fs.S3FileSystem().ls(known_bucket.name)
    known_bucket.put("a.json", b"a longer one")

    assert read(f"s3://{known_bucket.name}/a.json") == b"a longer one"


def test_a_part_of_an_object_is_read_alone(known_bucket: Bucket) -> None:
    known_bucket.put("a.json", bytes(range(250)) * 4000)

    with open_input(f"s3://{known_bucket.name}/a.json") as file:
        file.seek(500_010)
        found = file.read(3)

    assert found == bytes([10, 11, 12])


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_bucket_that_does_not_exist_is_told_and_not_made(known_bucket: Bucket, size: int) -> None:
    with pytest.raises(LocationUnavailable, match=r"s3://nowhere/a\.json cannot be written: The specified bucket does"):
        write("s3://nowhere/a.json", b"x" * size)

    with pytest.raises(LocationUnavailable, match=r"s3://nowhere/a\.json cannot be read: The specified bucket does"):
        read("s3://nowhere/a.json")


def test_an_object_that_does_not_exist_is_told(known_bucket: Bucket) -> None:
    with pytest.raises(LocationUnavailable, match=r"missing\.json cannot be read: .+ Check the name\."):
        read(f"s3://{known_bucket.name}/missing.json")


def test_missing_credentials_are_told(bucket: Bucket, no_credentials: None) -> None:
    options = {"endpoint_url": bucket.credentials["endpoint_url"]}

    with pytest.raises(LocationUnavailable, match=r"Unable to locate credentials\. Check the address, the credentials"):
        write(f"s3://{bucket.name}/a.json", options=options)


def test_a_store_that_does_not_answer_is_told() -> None:
    options = {
        "key": "me",
        "secret": "secret",
        "endpoint_url": "http://127.0.0.1:1",
        "config_kwargs": {"retries": {"max_attempts": 1}},
    }

    with pytest.raises(LocationUnavailable, match=r"Could not connect to the endpoint URL"):
        write("s3://bucket/a.json", options=options)


def test_a_bucket_alone_is_no_file() -> None:
    with pytest.raises(LocationUnavailable, match=r"s3://bucket cannot be written"):
        write("s3://bucket")


# --bucket


def test_a_file_of_the_bucket_is_written_and_read(bucket: Bucket, settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = f"s3://{bucket.name}"
    settings.GESTORE_CREDENTIALS = bucket.credentials

    write(get_bucket_location("exports/a.json"), b"content")

    assert bucket.get("exports/a.json") == b"content"
    assert read(get_bucket_location("exports/a.json")) == b"content"


def test_a_mere_name_is_a_bucket_of_google(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{}")
    settings.GESTORE_BUCKET_NAME = "customers"
    settings.GESTORE_CREDENTIALS = tmp_path / "credentials.json"
    settings.GESTORE_PROJECT_NAME = "school"

    location = get_bucket_location("exports/a.json")

    assert location == "gs://customers/exports/a.json"
    assert location.options == {"token": str(tmp_path / "credentials.json"), "project": "school"}


def test_credentials_of_google_may_be_a_dictionary(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "gs://customers"
    settings.GESTORE_CREDENTIALS = {"type": "service_account"}
    settings.GESTORE_PROJECT_NAME = "school"

    assert get_bucket_options() == {"token": {"type": "service_account"}, "project": "school"}


def test_none_stands_for_what_the_environment_has(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "customers"
    settings.GESTORE_CREDENTIALS = None
    settings.GESTORE_PROJECT_NAME = None

    assert get_bucket_options() == {}


def test_another_store_needs_no_project_and_no_credentials(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "s3://customers/"

    location = get_bucket_location("a.json")

    assert location == "s3://customers/a.json"
    assert location.options == {}


@pytest.mark.parametrize("missing", ["GESTORE_BUCKET_NAME", "GESTORE_CREDENTIALS", "GESTORE_PROJECT_NAME"])
def test_a_setting_that_is_missing_is_named(settings: Any, missing: str) -> None:
    given = {"GESTORE_BUCKET_NAME": "customers", "GESTORE_CREDENTIALS": {}, "GESTORE_PROJECT_NAME": "school"}
    for name, value in given.items():
        if name != missing:
            setattr(settings, name, value)

    with pytest.raises(WrongSetting, match=f"--bucket needs the setting {missing}"):
        get_bucket_location("a.json")
    assert [found.id for found in checks.run_checks(tags=["gestore_sync"])] == (
        [] if missing == "GESTORE_BUCKET_NAME" else ["gestore_sync.W003"]
    )


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_bucket_without_a_name_is_told(settings: Any, name: Any) -> None:
    settings.GESTORE_BUCKET_NAME = name

    with pytest.raises(WrongSetting, match="--bucket needs the setting GESTORE_BUCKET_NAME"):
        get_bucket_location("a.json")


def test_credentials_that_are_not_there_are_told(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "customers"
    settings.GESTORE_CREDENTIALS = "missing/credentials.json"
    settings.GESTORE_PROJECT_NAME = "school"

    with pytest.raises(WrongSetting, match=r"GESTORE_CREDENTIALS is 'missing/credentials\.json': there is no such"):
        get_bucket_location("a.json")


def test_credentials_of_another_store_are_a_dictionary(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "s3://customers"
    settings.GESTORE_CREDENTIALS = "a secret"

    with pytest.raises(WrongSetting, match=r"GESTORE_CREDENTIALS is a str") as caught:
        get_bucket_location("a.json")

    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("a.json", "s3://customers/a.json"),
        ("./exports/a.json", "s3://customers/exports/a.json"),
        ("/exports//a.json", "s3://customers/exports/a.json"),
        ("exports/2026/../a.json", "s3://customers/exports/a.json"),
    ],
)
def test_a_path_leads_into_the_bucket(settings: Any, name: str, url: str) -> None:
    settings.GESTORE_BUCKET_NAME = "s3://customers"

    assert get_bucket_location(name) == url


def test_a_bucket_may_have_a_folder(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "s3://customers/site"

    assert get_bucket_location("a.json") == "s3://customers/site/a.json"


@pytest.mark.parametrize("name", ["", ".", "/", "../a.json", "exports/../../a.json", "/../a.json"])
def test_a_path_that_leads_out_of_the_bucket_is_told(settings: Any, name: str) -> None:
    settings.GESTORE_BUCKET_NAME = "s3://customers/site"

    with pytest.raises(WrongSetting, match="names no file in the bucket"):
        get_bucket_location(name)


def test_a_url_is_not_a_path_in_the_bucket(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "s3://customers"

    with pytest.raises(WrongSetting, match=r"sftp://me:\*\*\*@host/a\.json says where the file is"):
        get_bucket_location("sftp://me:secret@host/a.json")


def test_credentials_are_not_in_what_is_shown(settings: Any) -> None:
    settings.GESTORE_BUCKET_NAME = "s3://customers"
    settings.GESTORE_CREDENTIALS = {"key": "me", "secret": "a secret"}

    location = get_bucket_location("a.json")

    assert "a secret" not in f"{location} {location!r} {json.dumps(location)}"


# Bundles


@pytest.mark.parametrize("name", ["red.json", "red.json.gz", "red.tar.gz", "red.tar.zst"])
@pytest.mark.django_db(databases=["default", "remote"])
def test_a_bundle_goes_through_the_bucket(bucket: Bucket, settings: Any, name: str) -> None:
    settings.GESTORE_BUCKET_NAME = f"s3://{bucket.name}/site"
    settings.GESTORE_CREDENTIALS = bucket.credentials
    tag = Tag.objects.create(name="red")

    report = api.export_objects(tag, f"exports/{name}", bucket=True)
    api.import_objects(f"exports/{name}", bucket=True, database="remote")

    assert report.location == f"s3://{bucket.name}/site/exports/{name}"
    assert bucket.list() == {f"site/exports/{name}"}
    assert Tag.objects.using("remote").get().name == "red"


@pytest.mark.django_db(databases=["default", "remote"])
def test_a_bundle_goes_to_a_url_and_comes_from_there(known_bucket: Bucket) -> None:
    tag = Tag.objects.create(name="red")

    report = api.export_objects(tag, f"s3://{known_bucket.name}/exports")
    api.import_objects(report.location, database="remote")

    assert known_bucket.list() == {report.location.removeprefix(f"s3://{known_bucket.name}/")}
    assert Tag.objects.using("remote").get().name == "red"


@pytest.mark.django_db
def test_an_export_that_fails_leaves_nothing_in_the_bucket(bucket: Bucket, settings: Any, tmp_path: Path) -> None:
    settings.GESTORE_BUCKET_NAME = f"s3://{bucket.name}"
    settings.GESTORE_CREDENTIALS = bucket.credentials
    settings.MEDIA_ROOT = tmp_path
    organization = Organization.objects.create(code="acme", name="Acme", created=timezone.now(), logo="missing.svg")

    with pytest.raises(GestoreSyncError):
        api.export_objects(organization, "a.tar.gz", bucket=True)

    assert bucket.list() == set()
    assert not bucket.find_uploads()

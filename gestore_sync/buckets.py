"""The bucket of ``--bucket``, as ``GESTORE_BUCKET_NAME``, ``GESTORE_CREDENTIALS`` and ``GESTORE_PROJECT_NAME`` say."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

from gestore_sync.exceptions import WrongSetting
from gestore_sync.locations import Address, get_scheme, hide_password

GOOGLE = ("gs", "gcs")


def get_bucket_location(name: str) -> Address:
    """The URL of a file in the bucket, with the options of its file system. ``name``: its path there.

    Raises :class:`~gestore_sync.exceptions.WrongSetting` for a missing setting, and for a name that leads elsewhere.
    """
    bucket = get_bucket()
    if get_scheme(name):
        raise WrongSetting(
            f"{hide_password(name)} says where the file is, and so does --bucket: "
            "leave --bucket out, or give a path in the bucket."
        )
    path = posixpath.normpath(name.replace(os.sep, "/").lstrip("/"))
    if path in ("", ".", "..") or path.startswith("../"):
        raise WrongSetting(f"{name!r} names no file in the bucket {hide_password(bucket)}.")
    return Address(f"{bucket}/{path}", get_bucket_options())


def get_bucket_options() -> dict[str, Any]:
    """What the file system of the bucket takes: credentials, and the project where it is Google's.

    Raises :class:`~gestore_sync.exceptions.WrongSetting` for a missing or wrong setting.
    """
    if get_scheme(get_bucket()) not in GOOGLE:
        return get_credential_options()
    options = {"token": get_google_credentials(), "project": get_setting("GESTORE_PROJECT_NAME")}
    return {name: value for name, value in options.items() if value is not None}


def get_bucket() -> str:
    """The URL of the bucket, without a slash at its end; a mere name is one of Google Cloud Storage."""
    bucket = getattr(settings, "GESTORE_BUCKET_NAME", None)
    if not bucket or not isinstance(bucket, str):
        raise WrongSetting(
            "--bucket needs the setting GESTORE_BUCKET_NAME: the name of a Google Cloud Storage bucket, "
            'or a URL such as "s3://name".'
        )
    bucket = bucket.rstrip("/")
    return bucket if get_scheme(f"{bucket}/") else f"gs://{bucket}"


def get_google_credentials() -> Any:
    """A file, a dictionary or an object of google-auth; None for those that the environment has."""
    credentials = get_setting("GESTORE_CREDENTIALS")
    if isinstance(credentials, Path):
        credentials = str(credentials)
    if isinstance(credentials, str) and not Path(credentials).is_file():
        raise WrongSetting(f"GESTORE_CREDENTIALS is {credentials!r}: there is no such file.")
    return credentials


def get_credential_options() -> dict[str, Any]:
    """Options of the file system of any other store; none where the environment has what it needs."""
    credentials = getattr(settings, "GESTORE_CREDENTIALS", None)
    if credentials is None:
        return {}
    if not isinstance(credentials, Mapping):
        raise WrongSetting(
            f"GESTORE_CREDENTIALS is a {type(credentials).__name__}. With GESTORE_BUCKET_NAME = "
            f'"{hide_password(get_bucket())}" it is a dictionary of options, as fsspec\'s file system takes them, '
            'such as {"key": …, "secret": …}.'
        )
    return dict(credentials)


def get_setting(name: str) -> Any:
    """The value of a setting that must be there. Raises :class:`~gestore_sync.exceptions.WrongSetting`."""
    if not hasattr(settings, name):
        raise WrongSetting(f"--bucket needs the setting {name}; None stands for what the environment has.")
    return getattr(settings, name)

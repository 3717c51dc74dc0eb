"""Two sites of the models that are synchronized while processes die, in a folder or on the server of the tests."""

from __future__ import annotations

import os
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import postgresql

SIDES = ("default", "remote")
FOLDER = os.environ["CRASH_FOLDER"]
VENDOR = os.environ["CRASH_VENDOR"]


def find_database(side: str) -> dict[str, Any]:
    """Return the settings of one side's database."""
    if VENDOR == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{FOLDER}/{side}.sqlite3",
            "OPTIONS": {"timeout": 30},
        }
    return {**postgresql(""), "NAME": f"{os.environ['CRASH_NAME']}_{side}"}


DATABASES = {side: find_database(side) for side in SIDES}
DATABASE_ROUTERS: list[str] = []
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sites",
    "testproject.dbsettings_config.DbSettingsConfig",
    "gestore_sync",
    "tests.logged",
    "tests.policies",
]
SYNCHRO_REMOTE = "remote"
SYNCHRO_MODELS = ("logged", "policies")

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = "tests"
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "tests.urls"
SITE_ID = 1
USE_TZ = True
TIME_ZONE = "Europe/Warsaw"
LANGUAGE_CODE = "en"
STATIC_URL = "/static/"
MEDIA_URL = "/media/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "testproject.dbsettings_config.DbSettingsConfig",
    "treebeard",
    "mptt",
    "gestore_sync",
    "testproject.campus",
    "tests.kinds",
    "tests.logged",
    "tests.naturals",
    "tests.pgkinds",
    "tests.policies",
    "tests.schemas",
    "tests.trees",
    "tests.vault",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def sqlite(test_name: str) -> dict[str, Any]:
    """Return the settings of a SQLite database that lives in memory while the tests run."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / f"{test_name}.sqlite3"}


def postgresql(test_name: str) -> dict[str, Any]:
    """Return the settings of a test database on the server that POSTGRES_URL names."""
    parts = conninfo_to_dict(os.environ.get("POSTGRES_URL", ""))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "postgres"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "OPTIONS": parts,
        "TEST": {"NAME": test_name},
    }


DATABASES = {
    "default": sqlite("local"),
    "remote": sqlite("remote"),
    "pg_local": postgresql("test_gestore_local"),
    "pg_remote": postgresql("test_gestore_remote"),
}
DATABASE_ROUTERS = ["tests.routers.PostgresOnlyRouter"]

DBSETTINGS_USE_CACHE = False
DBSETTINGS_USE_SITES = False

SYNCHRO_REMOTE = "remote"

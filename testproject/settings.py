"""Settings of the test project: one site, two databases.

The environment may name the folder of the data (`CAMPUS_DATA`), a PostgreSQL server (`POSTGRES_URL`) and the
first part of the databases' names (`CAMPUS_NAME`), and turn off `DEBUG` (`CAMPUS_DEBUG=0`).
"""

from __future__ import annotations

import os

from testproject.databases import get_data_folder, get_databases

SECRET_KEY = "a test project that serves nobody"
DEBUG = os.environ.get("CAMPUS_DEBUG", "1") != "0"
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    "testproject.dbsettings_config.DbSettingsConfig",
    "gestore_sync",
    "testproject.campus",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
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
            ]
        },
    }
]

ROOT_URLCONF = "testproject.urls"
WSGI_APPLICATION = "testproject.wsgi.application"
SITE_ID = 1

DATABASES = get_databases()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
MEDIA_URL = "media/"
MEDIA_ROOT = get_data_folder() / "media"

DBSETTINGS_USE_CACHE = False
DBSETTINGS_USE_SITES = False

SYNCHRO_REMOTE = "remote"
SYNCHRO_MODELS = ("campus",)

# These links survive what they point to. What an organization or a person leaves behind stays where it is, and a
# course's featured lesson is one of its own.
GESTORE_SYNC = {
    "DECIDED": (
        "campus.AuditEntry.organization",
        "campus.Comment.author",
        "campus.Course.featured_lesson",
        "campus.Person.home_organization",
    ),
}

"""The settings of a django-oscar shop, on databases like those of the other tests."""

from __future__ import annotations

from typing import Any

import oscar
from oscar.defaults import *  # noqa: F403

from tests.settings import (  # noqa: F401
    ALLOWED_HOSTS,
    DBSETTINGS_USE_CACHE,
    DBSETTINGS_USE_SITES,
    DEBUG,
    LANGUAGE_CODE,
    MEDIA_URL,
    MIDDLEWARE,
    PASSWORD_HASHERS,
    SECRET_KEY,
    SITE_ID,
    STATIC_URL,
    SYNCHRO_REMOTE,
    TEMPLATES,
    TIME_ZONE,
    USE_TZ,
    postgresql,
    sqlite,
)

ROOT_URLCONF = "tests.shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"

INSTALLED_APPS = [*oscar.INSTALLED_APPS, "testproject.dbsettings_config.DbSettingsConfig", "gestore_sync"]

DATABASES: dict[str, Any] = {
    "default": sqlite("shop_local"),
    "remote": sqlite("shop_remote"),
    "pg_local": postgresql("test_gestore_shop_local"),
    "pg_remote": postgresql("test_gestore_shop_remote"),
}
DATABASE_ROUTERS = ["tests.shop.routers.ShopRouter"]

# Oscar's defaults have haystack listen to every model's signals, so that its index is up to date at once.
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "tests.shop.services.NotingSearchEngine"}}
OSCAR_THUMBNAILER = "tests.shop.services.NotingThumbnailer"

OSCAR_DEFAULT_CURRENCY = "EUR"
OSCAR_INITIAL_ORDER_STATUS = "Pending"
OSCAR_INITIAL_LINE_STATUS = "Pending"
OSCAR_ORDER_STATUS_PIPELINE = {"Pending": ("Complete", "Cancelled"), "Complete": (), "Cancelled": ()}

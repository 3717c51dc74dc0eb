"""The checkpoint as a setting of django-dbsettings: exact, aware, and read from the database each time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dbsettings
from dbsettings.loading import set_setting_value
from dbsettings.settings import USE_SITES
from django import forms
from django.apps import apps
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from gestore_sync.exceptions import WrongSetting

if TYPE_CHECKING:
    from django.db.models import QuerySet

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The checkpoint of a database whose log was never handled."""

KEY = ("gestore_sync.models", "", "last_check")


def parse_moment(value: Any) -> datetime:
    """An aware datetime, from one, from a naive one in ``TIME_ZONE``, or from ISO 8601 text; empty means NEVER.

    Raises ValueError for a text that is no moment.
    """
    if value is None or value == "":
        return NEVER
    moment = value if isinstance(value, datetime) else parse_datetime(str(value))
    if moment is None:
        raise ValueError(f"{value!r} is no moment: write it as 2026-01-31T12:00:00+00:00.")
    return timezone.make_aware(moment, timezone.get_default_timezone()) if timezone.is_naive(moment) else moment


def dump_moment(value: Any) -> str:
    """ISO 8601 in UTC with microseconds; empty for NEVER."""
    moment = parse_moment(value)
    return "" if moment == NEVER else moment.astimezone(UTC).isoformat(timespec="microseconds")


class CheckpointValue(dbsettings.Value):  # type: ignore[misc]
    """A moment. Unlike the library's own values it is never cached, keeps microseconds and hides no error."""

    field = forms.DateTimeField

    def __get__(self, instance: Any = None, cls: Any = None) -> datetime:
        if instance is None:
            raise AttributeError(f"{self.attribute_name!r} is only accessible from {cls.__name__} instances.")
        return read_checkpoint()

    def __set__(self, instance: Any, value: Any) -> None:
        if not apps.is_installed("dbsettings"):
            raise WrongSetting('The checkpoint is kept by django-dbsettings. Add "dbsettings" to INSTALLED_APPS.')
        set_setting_value(*self.key, value)

    def to_python(self, value: Any) -> datetime:
        """The moment that a stored text stands for."""
        return parse_moment(value)

    def get_db_prep_save(self, value: Any, oldvalue: Any = None) -> str:
        """The text to store."""
        return dump_moment(value)

    def to_editor(self, value: Any) -> str:
        """The text to edit."""
        return dump_moment(value)


def find_settings(using: str | None) -> QuerySet[Any] | None:
    """The rows of the checkpoint in one database (None: where settings are kept); None where there is no such table."""
    if not apps.is_installed("dbsettings"):
        return None
    from dbsettings.models import Setting

    alias = using or router.db_for_read(Setting) or DEFAULT_DB_ALIAS
    if using is not None and Setting._meta.db_table not in connections[alias].introspection.table_names():
        return None
    module, cls, name = KEY
    rows: QuerySet[Any] = Setting.objects.using(alias)
    return rows.filter(module_name=module, class_name=cls, attribute_name=name).order_by("-pk")


def read_checkpoint(using: str | None = None) -> datetime:
    """How far the log of a database was handled."""
    rows = find_settings(using)
    text = rows.values_list("value", flat=True).first() if rows is not None else None
    return parse_moment(text)


def write_checkpoint(using: str, value: datetime) -> None:
    """Note how far the log of a database was handled. Nothing is queued or skipped by this."""
    rows = find_settings(using)
    if rows is not None and not rows.update(value=dump_moment(value)):
        module, cls, name = KEY
        row = rows.model(module_name=module, class_name=cls, attribute_name=name, value=dump_moment(value))
        if USE_SITES:
            row.site_id = settings.SITE_ID
        row.save_base(raw=True, using=using, force_insert=True)


def seed_checkpoint(using: str) -> None:
    """Begin now, in a database whose log was never handled."""
    rows = find_settings(using)
    if rows is not None and not rows.exists():
        write_checkpoint(using, datetime.now(tz=UTC))

"""django-dbsettings ships no app config: this one fixes the type of its primary keys."""

from __future__ import annotations

from django.apps import AppConfig


class DbSettingsConfig(AppConfig):
    """Keeps `makemigrations` from asking for a migration inside the installed package."""

    name = "dbsettings"
    default_auto_field = "django.db.models.AutoField"

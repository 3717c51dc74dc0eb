"""Application config of the learning platform."""

from __future__ import annotations

from django.apps import AppConfig


class CampusConfig(AppConfig):
    """The app `campus`."""

    name = "testproject.campus"
    label = "campus"
    default_auto_field = "django.db.models.BigAutoField"

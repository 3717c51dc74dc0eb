"""System checks: ``manage.py check`` tells mistakes in the settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

from gestore_sync.conf import find_setting_errors


@checks.register("gestore_sync")
def check_settings(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """``GESTORE_SYNC`` (E001) and ``SYNCHRO_REMOTE`` (E002)."""
    found: list[checks.CheckMessage] = [
        checks.Error(message, hint=hint, id="gestore_sync.E001") for message, hint in find_setting_errors()
    ]
    remote = getattr(settings, "SYNCHRO_REMOTE", None)
    if remote is not None and remote not in settings.DATABASES:
        found.append(
            checks.Error(
                f"SYNCHRO_REMOTE is {remote!r}, which is not in DATABASES.",
                hint=f"The databases are: {', '.join(sorted(settings.DATABASES))}. None means: only log changes.",
                id="gestore_sync.E002",
            )
        )
    return found

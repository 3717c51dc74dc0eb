from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class GestoreSyncConfig(AppConfig):
    """The Django app."""

    name = "gestore_sync"
    verbose_name = _("Synchronization")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks, and give each database its identity when it is migrated."""
        from gestore_sync import checks  # noqa: F401
        from gestore_sync.origins import seed_origin

        post_migrate.connect(seed_origin, sender=self, dispatch_uid="gestore_sync_seed_origin")

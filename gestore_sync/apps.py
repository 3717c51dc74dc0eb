from __future__ import annotations

from django.apps import AppConfig, apps
from django.core.signals import setting_changed
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class GestoreSyncConfig(AppConfig):
    """The Django app."""

    name = "gestore_sync"
    verbose_name = _("Synchronization")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks, listen to the watched models, and prepare each database when it is migrated."""
        from gestore_sync import checks, muting, receivers, recording, triggers, undecided  # noqa: F401
        from gestore_sync.origins import seed_database

        post_migrate.connect(seed_database, sender=self, dispatch_uid="gestore_sync_seed_database")
        post_migrate.connect(recording.forget_ready, sender=self, dispatch_uid="gestore_sync_forget_ready")
        post_migrate.connect(triggers.update_triggers, sender=self, dispatch_uid="gestore_sync_update_triggers")
        connection_created.connect(muting.prepare_new_connection, dispatch_uid="gestore_sync_prepare_new_connection")
        setting_changed.connect(muting.prepare_open_connections, dispatch_uid="gestore_sync_prepare_open_connections")
        setting_changed.connect(receivers.reconnect, dispatch_uid="gestore_sync_reconnect")
        receivers.connect()
        receivers.connect_checkpoint()
        if apps.is_installed("django.contrib.admin"):
            from gestore_sync import exportadmin

            exportadmin.connect()
            setting_changed.connect(exportadmin.reconnect, dispatch_uid="gestore_sync_reconnect_admin")

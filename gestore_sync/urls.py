"""The page on which staff synchronize: ``path("synchro/", include("gestore_sync.urls"))``."""

from __future__ import annotations

from django.urls import path

from gestore_sync.views import synchro

app_name = "synchro"
urlpatterns = [path("", synchro, name="synchro")]

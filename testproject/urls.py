"""URLs of the test project: the admin, the editor of django-dbsettings, and the page to synchronize."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/settings/", include("dbsettings.urls")),
    path("admin/", admin.site.urls),
    path("synchro/", include("gestore_sync.urls")),
]

"""URLs of the test project: the admin, and the editor of django-dbsettings."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/settings/", include("dbsettings.urls")),
    path("admin/", admin.site.urls),
]

"""Bundles from the admin: an action that downloads the selected objects with everything that belongs to them."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from gestore_sync.conf import get_option
from gestore_sync.drafts import explained
from gestore_sync.exceptions import GestoreSyncError, WrongSetting

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[Any]
else:
    Admin = object

logger = logging.getLogger(__name__)

PERMISSION = "gestore_sync.export"
FORMAT = ".tar.gz"
BLOCK_SIZE = 2**18


def may_export(model_admin: admin.ModelAdmin[Any], request: HttpRequest) -> bool:
    """Whether a person may export, and may look at objects of this model."""
    return (
        model_admin.admin_site.has_permission(request)
        and request.user.has_perm(PERMISSION)
        and model_admin.has_view_permission(request)
    )


@admin.action(description=_("Export selected objects with all that belongs to them"), permissions=["bundle_export"])
def export_bundle(
    model_admin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Any]
) -> FileResponse | None:
    """Download a bundle of the selected objects. An error is shown as a message; then there is None."""
    if not model_admin.has_bundle_export_permission(request):  # type: ignore[attr-defined]
        raise PermissionDenied
    objects = list(queryset)
    if not all(model_admin.has_view_permission(request, row) for row in objects):
        raise PermissionDenied
    form: str = getattr(model_admin, "export_format", FORMAT)
    options: Mapping[str, Any] = getattr(model_admin, "export_options", {})
    try:
        file = make_bundle(objects, form, {"database": queryset.db, **options})
    except GestoreSyncError as error:
        model_admin.message_user(request, str(error), messages.ERROR)
        return None
    label = queryset.model._meta.label
    logger.info("%s exported %d objects of %s.", request.user, len(objects), label)
    name = f"{label}_{timezone.localtime():%Y-%m-%d_%H-%M-%S}{form}"
    response = FileResponse(file, as_attachment=True, filename=name)
    response.block_size = BLOCK_SIZE
    return response


class TemporaryBundle(io.FileIO):
    """A file that is gone when it is closed; on systems that allow it, it has no name from the beginning."""

    def __init__(self, folder: TemporaryDirectory[str], path: Path) -> None:
        self._folder = folder
        super().__init__(path)
        folder.cleanup()

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def make_bundle(objects: list[Any], form: str, options: Mapping[str, Any]) -> TemporaryBundle:
    """A bundle of these objects. Raises :class:`~gestore_sync.exceptions.GestoreSyncError`."""
    from gestore_sync import api

    with explained(gettempdir(), "written"):
        folder = TemporaryDirectory(prefix="gestore-", ignore_cleanup_errors=True)
    try:
        path = Path(folder.name) / f"bundle{form}"
        api.export_objects(objects, output=str(path), **options)
        return TemporaryBundle(folder, path)
    except BaseException:
        folder.cleanup()
        raise


class ExportMixin(Admin):
    """Gives a ModelAdmin the action that exports the selected objects with all that belongs to them.

    ``export_format``: the ending of what is downloaded, ".tar.gz" if not given. ``export_options``: further arguments
    of :func:`gestore_sync.api.export_objects`, such as ``{"ignore": ["app.Model.field"]}``.
    """

    export_format = FORMAT
    export_options: Mapping[str, Any] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.actions is not None:
            self.actions = [*self.actions, export_bundle]

    def has_bundle_export_permission(self, request: HttpRequest) -> bool:
        """Whether a person sees the action, and may call it."""
        return may_export(self, request)


def connect() -> None:
    """Add the action to every ModelAdmin of the default site where ``GESTORE_SYNC["ADMIN_EXPORT"]`` says so."""
    name = export_bundle.__name__
    if is_wanted():
        if not hasattr(admin.ModelAdmin, "has_bundle_export_permission"):
            admin.ModelAdmin.has_bundle_export_permission = may_export  # type: ignore[attr-defined]
        admin.site.add_action(export_bundle)
    elif any(known == name for known, function in admin.site.actions):
        admin.site.disable_action(name)


def is_wanted() -> bool:
    """What the setting says; False where it is wrong, which a system check tells."""
    try:
        return bool(get_option("ADMIN_EXPORT"))
    except WrongSetting:
        return False


def reconnect(*, setting: str, **kwargs: Any) -> None:
    """Follow a setting that changes, as it does in tests."""
    if setting == "GESTORE_SYNC":
        connect()

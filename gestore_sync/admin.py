"""The change log and the runs in the admin, to be read, and the way to the page on which staff synchronize."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.apps.registry import Apps
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from gestore_sync.lostvalues import load_lost
from gestore_sync.models import SIDES, ChangeLog, Conflict, SyncRun
from gestore_sync.valuekinds import dump_json
from gestore_sync.views import PERMISSION, PROBLEM_TITLES, find_url, list_problems, sum_count, tabulate

if TYPE_CHECKING:
    Admin = admin.ModelAdmin[Any]
else:
    Admin = admin.ModelAdmin


def find_page_url(request: HttpRequest) -> str | None:
    """The address of the page for this person; None without the permission, or where the URLs are not included."""
    if not request.user.has_perm(PERMISSION):
        return None
    return find_url("synchro:synchro") or None


def show_json(value: Any) -> SafeString:
    """JSON for people, a line for each value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    return format_html('<pre class="synchro-json">{}</pre>', text)


class ReadOnlyAdmin(Admin):
    """Pages on which nothing can be added, changed or deleted."""

    actions = None
    change_list_template = "admin/gestore_sync/change_list.html"
    show_full_result_count = False

    class Media:
        css = {"all": ["gestore_sync/synchro.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"synchro_url": find_page_url(request), **(extra_context or {})})


@admin.register(ChangeLog)
class ChangeLogAdmin(ReadOnlyAdmin):
    """What was logged."""

    list_display = ["date", "action", "model_label", "object_id", "state", "origin"]
    list_filter = ["action", "state", "date", ("content_type", admin.RelatedOnlyFieldListFilter)]
    search_fields = ["object_id__exact"]
    search_help_text = _("The primary key of an object")
    fields = ["date", "action", "changed_object", "state", "origin", "readable_data"]

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[ChangeLog]:
        # A join would hide the entries of models that are gone.
        return super().get_queryset(request).prefetch_related("content_type")

    @admin.display(description=_("model"), ordering="content_type")
    def model_label(self, entry: ChangeLog) -> str:
        try:
            content_type = entry.content_type
        except ContentType.DoesNotExist:
            return str(entry.content_type_id)
        model = content_type.model_class()
        return model._meta.label if model else f"{content_type.app_label}.{content_type.model}"

    @admin.display(description=_("object"))
    def changed_object(self, entry: ChangeLog) -> str:
        return f"{self.model_label(entry)}.{entry.object_id}"

    @admin.display(description=_("data"))
    def readable_data(self, entry: ChangeLog) -> SafeString:
        return show_json(entry.data)


@admin.register(SyncRun)
class SyncRunAdmin(ReadOnlyAdmin):
    """What was sent, and what came of it."""

    list_display = ["started", "is_done", "remote", "created", "updated", "deleted", "conflicts", "failures"]
    list_filter = [("remote", admin.AllValuesFieldListFilter), "started", ("error", admin.EmptyFieldListFilter)]
    list_select_related = ["origin"]
    fields = [
        "uuid",
        "origin",
        "remote",
        "started",
        "finished",
        "error",
        "readable_roots",
        "count_table",
        "problem_tables",
        "readable_entries",
    ]

    @admin.display(description=pgettext_lazy("objects", "created"))
    def created(self, run: SyncRun) -> int:
        return sum_count(run, "created")

    @admin.display(description=pgettext_lazy("objects", "updated"))
    def updated(self, run: SyncRun) -> int:
        return sum_count(run, "updated")

    @admin.display(description=pgettext_lazy("objects", "deleted"))
    def deleted(self, run: SyncRun) -> int:
        return sum_count(run, "deleted")

    @admin.display(description=PROBLEM_TITLES["conflicts"])
    def conflicts(self, run: SyncRun) -> int:
        return len(run.problems.get("conflicts", ()))

    @admin.display(description=PROBLEM_TITLES["failures"])
    def failures(self, run: SyncRun) -> int:
        return len(run.problems.get("failures", ()))

    @admin.display(description=_("done"), boolean=True)
    def is_done(self, run: SyncRun) -> bool:
        return not run.error

    @admin.display(description=_("roots"))
    def readable_roots(self, run: SyncRun) -> str:
        return "\n".join(run.roots) or self.get_empty_value_display()

    @admin.display(description=_("counts"))
    def count_table(self, run: SyncRun) -> SafeString:
        return render_to_string("gestore_sync/counts.html", {"counts": tabulate(run.counts)})

    @admin.display(description=_("conflicts and failures"))
    def problem_tables(self, run: SyncRun) -> SafeString:
        problems = list_problems(run.problems)
        if not problems:
            return self.get_empty_value_display()
        return render_to_string("gestore_sync/problems.html", {"problems": problems})

    @admin.display(description=_("entries"))
    def readable_entries(self, run: SyncRun) -> str:
        ranges = [str(first) if first == last else f"{first}–{last}" for first, last in run.entries]
        return ", ".join(ranges) or self.get_empty_value_display()


@admin.register(Conflict)
class ConflictAdmin(ReadOnlyAdmin):
    """Values that lost a conflict."""

    list_display = ["date", "model", "target_pk", "field_names", "resolved", "taken", "remote"]
    list_filter = [
        ("taken", admin.EmptyFieldListFilter),
        "resolved",
        ("model", admin.AllValuesFieldListFilter),
        ("remote", admin.AllValuesFieldListFilter),
        "date",
    ]
    list_select_related = ["origin"]
    search_fields = ["target_pk__exact", "source_pk__exact"]
    search_help_text = _("The primary key of an object")
    fields = [
        *("date", "model", "target_pk", "source_pk", "origin", "remote", "run"),
        *("value_table", "resolved", "taken", "taken_date"),
    ]

    @admin.display(description=_("fields"))
    def field_names(self, conflict: Conflict) -> str:
        return ", ".join(load_lost(conflict.fields))

    @admin.display(description=_("values"))
    def value_table(self, conflict: Conflict) -> SafeString:
        lost = load_lost(conflict.fields)
        lines = [(name, dump_json(of.local), dump_json(of.remote), of.resolved) for name, of in lost.items()]
        titles = (_("field"), *(title for _side, title in SIDES), _("resolved"))
        head = format_html_join("", "<th>{}</th>", ((title,) for title in titles))
        body = format_html_join("", "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td></tr>", lines)
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, body)


class Synchronization(models.Model):
    """A line in the admin's list of models that leads to the page.

    Its registry of apps is its own: it has no table, no migration, no content type and no permissions.
    """

    class Meta:
        apps = Apps()
        app_label = "gestore_sync"
        managed = False
        default_permissions = ()
        verbose_name = _("synchronization")
        verbose_name_plural = _("synchronize databases")

    def __str__(self) -> str:
        return str(self._meta.verbose_name)


@admin.register(Synchronization)
class SynchronizationAdmin(Admin):
    """No pages but the one it leads to, and no line where a person cannot go there."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="gestore_sync_synchronization_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        url = find_page_url(request)
        if url is None:
            raise PermissionDenied
        return redirect(url)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return find_page_url(request) is not None

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        return {"add": False, "change": False, "delete": False, "view": self.has_module_permission(request)}

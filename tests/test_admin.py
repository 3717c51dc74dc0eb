from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from typing import Any, ClassVar

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.state import ProjectState
from django.db.models import Model
from django.db.models.signals import post_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse

from gestore_sync import DisableSynchroLog
from gestore_sync.admin import ChangeLogAdmin, ConflictAdmin, Synchronization, SyncRunAdmin
from gestore_sync.exceptions import WrongDatabase
from gestore_sync.models import (
    ADDITION,
    CHANGE,
    DELETION,
    HANDLED,
    M2M_CHANGE,
    PENDING,
    ChangeLog,
    Conflict,
    IdMapping,
    Origin,
    SyncRun,
    options,
)
from testproject.campus.models import Category, Tag

pytestmark = pytest.mark.django_db(databases=["default", "remote"])

PAGE = "/synchro/"
BUTTONS = ["preview", "synchro", "reset"]
DONE = "Synchronization performed successfully."
NO_CHANGES = "No changes since last synchronization."
NO_REMOTE = "No REMOTE database specified in settings."
WHEN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

OFFICE = admin.AdminSite(name="office")
NO_PAGE = (path("admin/", admin.site.urls),)
DEEP_PAGE = (path("a/b/c/", include("gestore_sync.urls")), path("office/", admin.site.urls))
OTHER_SITE = (path("office/", OFFICE.urls), path("synchro/", include("gestore_sync.urls")))


@pytest.fixture(autouse=True)
def _watched(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ["campus"]


def make_user(*permissions: str, **values: Any) -> User:
    """Somebody with these permissions of our app."""
    user = User.objects.create_user(f"user{User.objects.count()}", **{"is_staff": True, **values})
    found = Permission.objects.filter(content_type__app_label="gestore_sync", codename__in=permissions)
    assert len(found) == len(permissions)
    user.user_permissions.set(found)
    return user


def make_client(*permissions: str, **values: Any) -> Client:
    """Somebody's browser after the log in."""
    client = Client()
    client.force_login(make_user(*permissions, **values))
    return client


@pytest.fixture
def staff() -> Client:
    """The browser of one who may synchronize."""
    return make_client("synchronize")


@pytest.fixture
def reader() -> Client:
    """The browser of one who may look at everything and synchronize."""
    return make_client("synchronize", "view_changelog", "view_syncrun", "view_conflict")


def read(response: Any) -> str:
    """The text of a page as people see it, in one line."""
    assert response.status_code == 200
    text = re.sub(r"<(head|script|svg)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def sent() -> list[str]:
    """The tags on REMOTE."""
    return sorted(Tag.objects.using("remote").values_list("name", flat=True))


def pending() -> int:
    """How many entries of the change log wait to be sent."""
    return ChangeLog.objects.filter(state=PENDING, origin=None).count()


def make_run(**values: Any) -> SyncRun:
    """A run that was recorded."""
    origin, _created = Origin.objects.get_or_create(is_own=True)
    return SyncRun.objects.create(**{"origin": origin, "remote": "remote", "started": WHEN, "finished": WHEN, **values})


def make_conflict(**values: Any) -> Conflict:
    """A value that lost a conflict."""
    origin, _created = Origin.objects.get_or_create(is_own=True)
    fields = '{"name": {"local": "<b>ours</b>", "remote": "theirs", "resolved": "local"}}'
    row = {"origin": origin, "model": "campus.Tag", "source_pk": "1", "target_pk": "2", "fields": fields}
    return Conflict.objects.create(**{**row, "resolved": "local", "run": uuid.uuid4(), **values})


def log(model: type[Model] = Tag, **values: Any) -> ChangeLog:
    """An entry of the change log."""
    content_type = ContentType.objects.get_for_model(model)
    return ChangeLog.objects.create(**{"content_type": content_type, "object_id": "1", "action": CHANGE, **values})


# Who may come in


@pytest.mark.parametrize("button", [None, *BUTTONS])
def test_one_who_is_not_logged_in_is_sent_to_the_login_of_the_admin(button: str | None) -> None:
    Tag.objects.create(name="new")
    client = Client()

    response = client.post(PAGE, {button: "1"}) if button else client.get(PAGE)

    assert response.status_code == 302
    assert response["Location"] == "/admin/login/?next=/synchro/"
    assert (sent(), pending()) == ([], 1)


def test_one_who_is_not_staff_is_sent_to_the_login_though_with_the_permission() -> None:
    client = make_client("synchronize", is_staff=False)

    response = client.get(PAGE)

    assert response["Location"] == "/admin/login/?next=/synchro/"


@pytest.mark.parametrize("button", [None, *BUTTONS])
def test_staff_without_the_permission_are_refused(button: str | None) -> None:
    Tag.objects.create(name="new")
    client = make_client("view_changelog", "view_syncrun", "change_syncrun")

    response = client.post(PAGE, {button: "1"}) if button else client.get(PAGE)

    assert response.status_code == 403
    assert (sent(), pending()) == ([], 1)


def test_staff_with_the_permission_come_in(staff: Client) -> None:
    assert "Synchronize databases" in read(staff.get(PAGE))


def test_superusers_come_in() -> None:
    assert make_client(is_superuser=True).get(PAGE).status_code == 200


@pytest.mark.parametrize("button", BUTTONS)
def test_a_button_needs_a_csrf_token(button: str) -> None:
    Tag.objects.create(name="new")
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("synchronize"))

    refused = client.post(PAGE, {button: "1"})

    assert refused.status_code == 403
    assert (sent(), pending()) == ([], 1)

    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(PAGE).content.decode())
    assert token
    accepted = client.post(PAGE, {button: "1", "csrfmiddlewaretoken": token[1]})
    assert accepted.status_code == (302 if button == "reset" else 200)


def test_the_page_is_protected_where_the_middleware_for_csrf_is_missing(settings: Any) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("synchronize"))

    assert client.post(PAGE, {"synchro": "1"}).status_code == 403


@pytest.mark.parametrize("button", BUTTONS)
def test_looking_changes_nothing(staff: Client, button: str) -> None:
    Tag.objects.create(name="new")
    before = options.last_check

    response = staff.get(PAGE, {button: "1"})

    assert response.status_code == 200
    assert (sent(), pending(), options.last_check) == ([], 1, before)


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_refused(staff: Client, method: str) -> None:
    assert getattr(staff, method)(PAGE).status_code == 405


def test_the_page_is_not_kept_in_caches(staff: Client) -> None:
    assert "no-store" in staff.get(PAGE)["Cache-Control"]


# What the page shows


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_page_shows_the_checkpoint_in_local_time(staff: Client, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    options.last_check = WHEN

    assert "Checkpoint Jan. 31, 2026, 1 p.m." in read(staff.get(PAGE))


def test_the_page_says_that_the_log_was_never_handled(staff: Client) -> None:
    options.last_check = None

    assert "Checkpoint never" in read(staff.get(PAGE))


def test_the_page_names_the_databases(staff: Client) -> None:
    assert "Local database default Remote database remote" in read(staff.get(PAGE))


def test_the_page_shows_what_is_pending_by_model(staff: Client) -> None:
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    Category.objects.create(code="c")

    assert "campus.Category 1 campus.Tag 2 All 3" in read(staff.get(PAGE))


def test_the_page_says_that_nothing_is_pending(staff: Client) -> None:
    assert "Nothing is pending." in read(staff.get(PAGE))


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_page_shows_the_last_runs_with_counts_and_errors(staff: Client, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    when = WHEN if use_tz else datetime(2026, 1, 31, 13)
    counts = {"created": {"campus.Tag": 3, "campus.Category": 4}, "updated": {"campus.Tag": 2}, "deleted": {}}
    make_run(started=when, finished=when, counts=counts, error="The cable is cut.")

    page = read(staff.get(PAGE))

    assert "Jan. 31, 2026, 1 p.m. remote 7 2 0 0 0 The cable is cut." in page


def test_the_page_shows_the_conflicts_and_failures_of_the_last_run(staff: Client) -> None:
    failure = {"model": "campus.Tag", "pk": "7", "natural_key": ["red"], "reason": "It is too red."}
    conflict = {**failure, "pk": "8", "fields": {"name": ["red", None], "items": [1, 2]}, "resolved": "local"}
    make_run(problems={"conflicts": [conflict], "failures": [failure]})

    page = read(staff.get(PAGE))

    assert "Conflicts campus.Tag.8 (red): It is too red. (resolved: the local value was taken)" in page
    assert "Field Local Remote name red – items 1 2" in page
    assert "Failures campus.Tag.7 (red): It is too red." in page


def test_many_problems_are_counted_not_shown(staff: Client) -> None:
    failure = {"model": "campus.Tag", "pk": "7", "natural_key": None, "reason": "It is too red."}
    make_run(problems={"failures": [failure] * 130})

    page = read(staff.get(PAGE))

    assert page.count("It is too red.") == 100
    assert "… and 30 more" in page


def test_runs_lead_to_their_own_pages_where_one_may_see_those(staff: Client, reader: Client) -> None:
    run = make_run()
    link = f'<a href="/admin/gestore_sync/syncrun/{run.pk}/change/">'

    assert link in reader.get(PAGE).content.decode()
    assert link not in staff.get(PAGE).content.decode()


def test_what_comes_from_the_databases_is_shown_as_text(staff: Client) -> None:
    make_run(
        error="<script>alert(1)</script>",
        problems={"failures": [{"model": "<b>", "pk": "<i>", "natural_key": ["<u>"], "reason": "<s>"}]},
    )

    page = staff.get(PAGE).content.decode()

    for tag in ("<script>alert", "<b>", "<i>", "<u>", "<s>"):
        assert tag not in page


@pytest.mark.parametrize("query", [{}, {"reset": "1"}])
def test_no_script_and_no_style_is_within_the_pages(staff: Client, query: dict[str, str]) -> None:
    make_run(error="x")

    page = staff.get(PAGE, query).content.decode()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page) == []


def test_the_number_of_queries_does_not_grow_with_runs_and_changes(reader: Client) -> None:
    def measure() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert reader.get(PAGE).status_code == 200
        return len(queries)

    make_run()
    Tag.objects.create(name="first")
    measure()
    few = measure()
    for number in range(9):
        make_run(counts={"created": {"campus.Tag": number}})
        Tag.objects.create(name=f"tag {number}")

    assert measure() == few


# The buttons


def test_preview_shows_what_would_be_done_and_writes_nothing(staff: Client) -> None:
    Tag.objects.create(name="new")
    before = options.last_check

    page = read(staff.post(PAGE, {"preview": "1"}))

    assert "Preview Model Created campus.Tag 1 All 1" in page
    assert "Nothing was written: this is what would be done." in page
    assert (sent(), pending(), options.last_check) == ([], 1, before)
    assert SyncRun.objects.count() == 0


def test_synchronize_sends_what_is_pending_and_shows_the_result(staff: Client) -> None:
    Tag.objects.create(name="new")

    page = read(staff.post(PAGE, {"synchro": "1"}))

    assert DONE in page
    assert "Result Model Created campus.Tag 1 All 1" in page
    assert "Nothing is pending." in page
    assert (sent(), pending()) == (["new"], 0)


def test_synchronize_says_that_there_is_nothing_to_do(staff: Client) -> None:
    page = read(staff.post(PAGE, {"synchro": "1"}))

    assert NO_CHANGES in page
    assert "No objects." in page


def test_of_several_buttons_the_one_that_writes_nothing_counts(staff: Client) -> None:
    Tag.objects.create(name="new")

    page = read(staff.post(PAGE, {"reset": "1", "synchro": "1", "preview": "1"}))

    assert "Preview" in page
    assert (sent(), pending()) == ([], 1)


def test_a_form_without_a_button_does_nothing(staff: Client) -> None:
    Tag.objects.create(name="new")

    page = read(staff.post(PAGE + "?reset=1&synchro=1&preview=1", {"other": "1"}))

    assert "Pending changes" in page
    assert (sent(), pending()) == ([], 1)


def test_values_of_a_form_are_not_looked_at(staff: Client) -> None:
    Tag.objects.create(name="new")

    staff.post(PAGE, {"synchro": "__import__('os')", "remote": "default", "source": "remote", "prune": "1"})

    assert (sent(), pending()) == (["new"], 0)


@pytest.mark.parametrize("button", ["preview", "synchro"])
def test_unresolved_conflicts_are_shown(staff: Client, button: str) -> None:
    category = Category.objects.create(code="old", name="Old")
    staff.post(PAGE, {"synchro": "1"})
    with DisableSynchroLog():
        Category(code="new", name="New").save(using="remote")
    category.code = "new"
    category.save()

    page = read(staff.post(PAGE, {button: "1"}))

    assert re.search(rf"Conflicts .*campus.Category.{category.pk}.* \(not resolved\)", page)
    assert pending() == 1


@pytest.mark.parametrize("button", ["preview", "synchro"])
def test_errors_are_shown(staff: Client, settings: Any, button: str) -> None:
    settings.SYNCHRO_REMOTE = None

    assert NO_REMOTE in read(staff.post(PAGE, {button: "1"}))


@pytest.mark.parametrize("button", ["preview", "synchro"])
def test_errors_are_raised_for_developers(staff: Client, settings: Any, button: str) -> None:
    settings.SYNCHRO_REMOTE = None
    settings.SYNCHRO_DEBUG = True

    with pytest.raises(WrongDatabase, match=NO_REMOTE):
        staff.post(PAGE, {button: "1"})


def test_errors_of_other_code_are_shown(staff: Client, settings: Any) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": "save"}
    Tag.objects.create(name="new")

    def fail(using: str, **kwargs: Any) -> None:
        if using == "remote":
            raise ZeroDivisionError("somebody else's mistake")

    post_save.connect(fail, sender=Tag)
    try:
        page = read(staff.post(PAGE, {"synchro": "1"}))
    finally:
        post_save.disconnect(fail, sender=Tag)

    assert "somebody else's mistake" in page
    assert (sent(), pending()) == ([], 1)


@pytest.mark.parametrize(("name", "value"), [("SYNCHRO_REMOTE", "nowhere"), ("SYNCHRO_MODELS", ["nowhere"])])
def test_a_wrong_setting_is_shown(staff: Client, settings: Any, name: str, value: Any) -> None:
    setattr(settings, name, value)

    assert "'nowhere'" in read(staff.get(PAGE))


def test_a_wrong_setting_is_raised_for_developers(staff: Client, settings: Any) -> None:
    settings.SYNCHRO_REMOTE = "nowhere"
    settings.SYNCHRO_DEBUG = True

    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        staff.post(PAGE, {"synchro": "1"})


def test_without_a_remote_there_is_nothing_to_press_but_reset(staff: Client, settings: Any) -> None:
    settings.SYNCHRO_REMOTE = None

    page = staff.get(PAGE).content.decode()

    disabled = re.findall(r'<input type="submit" name="(\w+)"[^>]*\bdisabled', page)
    assert sorted(disabled) == ["preview", "synchro"]


# Reset


def test_reset_is_asked_for_on_a_page_of_its_own(staff: Client) -> None:
    Tag.objects.create(name="new")

    response = staff.get(PAGE, {"reset": "Reset…"})

    assert "Are you sure that you want to reset the synchronization?" in read(response)
    assert re.search(r'<form method="post" action="/synchro/">.*name="reset"', response.content.decode(), re.DOTALL)
    assert pending() == 1


def test_reset_forgets_log_and_mappings_and_sets_the_checkpoint(staff: Client) -> None:
    Tag.objects.create(name="sent")
    staff.post(PAGE, {"synchro": "1"})
    Tag.objects.create(name="new")
    before = datetime.now(tz=UTC)

    response = staff.post(PAGE, {"reset": "1"}, follow=True)

    assert response.redirect_chain == [(PAGE, 302)]
    page = read(response)
    assert "Synchronization has been reset." in page
    assert "Nothing is pending." in page
    assert (sent(), ChangeLog.objects.count()) == (["sent"], 0)
    assert IdMapping.objects.using("remote").count() == 0
    assert options.last_check >= before


def test_reset_is_hidden_and_refused_where_the_setting_rules_it_out(staff: Client, settings: Any) -> None:
    settings.SYNCHRO_ALLOW_RESET = False
    Tag.objects.create(name="new")

    assert 'name="reset"' not in staff.get(PAGE).content.decode()
    assert staff.get(PAGE, {"reset": "1"}).status_code == 403
    assert staff.post(PAGE, {"reset": "1"}).status_code == 403
    assert pending() == 1


def test_reset_is_offered_where_nothing_is_said(staff: Client) -> None:
    assert 'name="reset"' in staff.get(PAGE).content.decode()


# How it is included


def test_the_page_is_where_the_project_includes_it(staff: Client, settings: Any) -> None:
    settings.ROOT_URLCONF = DEEP_PAGE

    response = staff.get("/a/b/c/")

    assert reverse("synchro:synchro") == "/a/b/c/"
    assert 'action="/a/b/c/"' in response.content.decode()
    assert 'href="/office/gestore_sync/"' in response.content.decode()


@pytest.mark.parametrize("query", [{}, {"reset": "1"}])
def test_the_page_lives_in_whatever_admin_the_project_has(settings: Any, query: dict[str, str]) -> None:
    settings.ROOT_URLCONF = OTHER_SITE
    make_run()

    assert Client().get(PAGE)["Location"] == "/office/login/?next=/synchro/"
    assert "Synchroniz" in read(make_client("synchronize", "view_syncrun").get(PAGE, query))


class WatchingBackend(ModelBackend):
    """Notes how deep in transactions each question for a permission is asked."""

    depths: ClassVar[list[list[int]]] = []

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        self.depths.append([len(connections[alias].savepoint_ids) for alias in ("default", "remote")])
        return super().has_perm(user_obj, perm, obj)


def test_a_request_that_is_a_transaction_does_not_hold_a_run(
    staff: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.WatchingBackend"]
    client = Client()
    client.force_login(make_user("synchronize"))
    for alias in ("default", "remote"):
        monkeypatch.setitem(connections.settings[alias], "ATOMIC_REQUESTS", True)
    depth = [len(connections[alias].savepoint_ids) for alias in ("default", "remote")]

    def measure(address: str) -> list[list[int]]:
        WatchingBackend.depths = []
        assert client.get(address).status_code == 200
        return WatchingBackend.depths

    assert depth not in measure("/admin/")
    assert depth in measure(PAGE)


# The link


def test_the_index_of_the_admin_leads_to_the_page(staff: Client) -> None:
    link = re.search(r'<a href="([^"]+)"[^>]*>Synchronize databases</a>', staff.get("/admin/").content.decode())

    assert link
    assert staff.get(link[1], follow=True).redirect_chain == [(PAGE, 302)]


@pytest.mark.parametrize("address", ["/admin/", "/admin/gestore_sync/", "/admin/gestore_sync/changelog/", PAGE])
def test_the_menu_of_the_admin_leads_to_the_page(reader: Client, address: str) -> None:
    assert "Synchronize databases</a>" in reader.get(address).content.decode()


@pytest.mark.parametrize("name", ["changelog", "syncrun"])
def test_the_lists_lead_to_the_page(reader: Client, name: str) -> None:
    assert f'<li><a href="{PAGE}">Synchronize databases</a></li>' in (
        reader.get(f"/admin/gestore_sync/{name}/").content.decode()
    )


@pytest.mark.parametrize("address", ["/admin/", "/admin/gestore_sync/", "/admin/gestore_sync/changelog/"])
def test_nothing_leads_there_without_the_permission(address: str) -> None:
    client = make_client("view_changelog", "view_syncrun", "change_syncrun")

    assert "Synchronize databases" not in client.get(address).content.decode()
    assert client.get("/admin/gestore_sync/synchronization/").status_code == 403


@pytest.mark.parametrize("address", ["/admin/", "/admin/gestore_sync/", "/admin/gestore_sync/changelog/"])
def test_nothing_leads_there_where_the_page_is_not_included(reader: Client, settings: Any, address: str) -> None:
    settings.ROOT_URLCONF = NO_PAGE

    assert "Synchronize databases" not in reader.get(address).content.decode()
    assert reader.get("/admin/gestore_sync/synchronization/").status_code == 403


def test_the_line_that_leads_there_is_no_model_of_the_project() -> None:
    assert Synchronization not in apps.get_models(include_auto_created=True)
    assert not ContentType.objects.filter(app_label="gestore_sync", model="synchronization").exists()
    assert ("gestore_sync", "synchronization") not in ProjectState.from_apps(apps).models
    call_command(
        "check", "gestore_sync", "admin", tags=["admin", "models", "gestore_sync_settings"], fail_level="WARNING"
    )


# What the admin has


@pytest.fixture(
    params=[(ChangeLogAdmin, log), (SyncRunAdmin, make_run), (ConflictAdmin, make_conflict)],
    ids=["changelog", "syncrun", "conflict"],
)
def listed(request: pytest.FixtureRequest) -> tuple[str, Callable[..., Model]]:
    """The address of a list, and what makes a row of it."""
    (model_admin, make) = request.param
    [model] = [model for model, found in admin.site._registry.items() if isinstance(found, model_admin)]
    return f"/admin/gestore_sync/{model._meta.model_name}/", make


Listed = tuple[str, Callable[..., Model]]


def test_log_and_runs_are_there_to_be_read(listed: Listed) -> None:
    address, make = listed
    row = make()
    client = make_client(is_superuser=True)

    assert client.get(address).status_code == 200
    assert client.get(f"{address}{row.pk}/change/").status_code == 200


def test_log_and_runs_cannot_be_changed(listed: Listed) -> None:
    address, make = listed
    row = make()
    client = make_client(is_superuser=True)
    action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}

    for refused in ("add/", f"{row.pk}/change/", f"{row.pk}/delete/"):
        assert client.post(address + refused, {"post": "yes", "remote": "x", "object_id": "x"}).status_code == 403
    client.post(address, action)

    before = type(row)._base_manager.values().get()
    assert before == {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    page = client.get(address).content.decode()
    assert "addlink" not in page.partition('id="content-start"')[2]
    assert 'name="action"' not in page
    assert 'name="_save"' not in client.get(f"{address}{row.pk}/change/").content.decode()


def test_values_of_a_conflict_are_shown_as_text(reader: Client) -> None:
    page = reader.get(f"/admin/gestore_sync/conflict/{make_conflict().pk}/change/").content.decode()

    assert "&lt;b&gt;ours&lt;/b&gt;" in page
    assert "<b>ours" not in page


@pytest.mark.parametrize(
    ("query", "number"), [("taken__isempty=1", 2), ("taken__isempty=0", 1), ("resolved__exact=remote", 1)]
)
def test_conflicts_can_be_filtered(reader: Client, query: str, number: int) -> None:
    for values in ({}, {"resolved": "remote"}, {"taken": "local", "taken_date": WHEN}):
        make_conflict(**values)

    page = reader.get(f"/admin/gestore_sync/conflict/?{query}").content.decode()

    assert page.count('class="field-model') == number


def test_actions_of_the_whole_admin_are_not_offered(listed: Listed) -> None:
    address, make = listed
    make()

    def spoil(model_admin: Any, request: Any, queryset: Any) -> None:
        queryset.delete()

    admin.site.add_action(spoil)
    try:
        page = make_client(is_superuser=True).get(address).content.decode()
    finally:
        admin.site.disable_action("spoil")
        del admin.site._global_actions["spoil"]

    assert "spoil" not in page


def test_log_and_runs_need_a_permission_to_be_read(listed: Listed, staff: Client) -> None:
    address, make = listed

    assert staff.get(address).status_code == 403
    assert staff.get(f"{address}{make().pk}/change/").status_code == 403


def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(listed: Listed, reader: Client) -> None:
    address, make = listed

    def measure() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert reader.get(address).status_code == 200
        return len(queries)

    make()
    measure()
    few = measure()
    for _number in range(20):
        make()

    assert measure() == few


def test_a_list_of_changes_of_many_models_takes_no_more_queries(reader: Client) -> None:
    models = [Tag, Category, User, ContentType, SyncRun, Origin]

    def measure() -> int:
        ContentType.objects.clear_cache()
        with CaptureQueriesContext(connection) as queries:
            assert reader.get("/admin/gestore_sync/changelog/").status_code == 200
        return len(queries)

    for model in models[:2]:
        log(model)
    few = measure()
    for model in models:
        log(model)

    assert measure() == few


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_log_tells_what_was_done_to_what_and_when(reader: Client, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    entry = log(object_id="42", action=DELETION)
    ChangeLog.objects.filter(pk=entry.pk).update(date=WHEN)

    page = read(reader.get("/admin/gestore_sync/changelog/"))

    assert "Jan. 31, 2026, 1 p.m. deletion campus.Tag 42 pending -" in page


def test_the_page_of_a_change_names_the_object_and_shows_its_data_readably(reader: Client) -> None:
    entry = log(object_id="42", data={"fields": {"name": "Żółw <b>"}, "natural_key": ["Żółw"]})

    response = reader.get(f"/admin/gestore_sync/changelog/{entry.pk}/change/")

    assert "campus.Tag.42" in read(response)
    assert "{\n  &quot;fields&quot;: {\n    &quot;name&quot;: &quot;Żółw &lt;b&gt;&quot;" in response.content.decode()


def test_changes_of_models_that_are_gone_are_listed(reader: Client) -> None:
    gone = ContentType.objects.create(app_label="campus", model="gone")
    entry = log()
    ChangeLog.objects.create(content_type=gone, object_id="5", action=CHANGE)
    ChangeLog.objects.filter(pk=entry.pk).update(content_type_id=999_999)

    page = read(reader.get("/admin/gestore_sync/changelog/"))

    assert "campus.gone 5" in page
    assert "999999 1" in page
    assert reader.get(f"/admin/gestore_sync/changelog/{entry.pk}/change/").status_code == 200


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["1", "2", "3"]),
        (f"action__exact={ADDITION}", ["1"]),
        (f"action__exact={M2M_CHANGE}", []),
        (f"state__exact={HANDLED}", ["2"]),
        ("content_type__id__exact={category}", ["3"]),
        ("date__gte=2100-01-01 00:00:00%2B00:00", []),
        ("date__gte=2000-01-01 00:00:00%2B00:00", ["1", "2", "3"]),
        ("q=3", ["3"]),
    ],
)
def test_the_log_can_be_filtered(reader: Client, query: str, found: list[str]) -> None:
    log(object_id="1", action=ADDITION)
    log(object_id="2", state=HANDLED)
    log(Category, object_id="3")
    category = ContentType.objects.get_for_model(Category).pk

    response = reader.get(f"/admin/gestore_sync/changelog/?{query.format(category=category)}")

    assert sorted(entry.object_id for entry in response.context["cl"].result_list) == found


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_log_can_be_filtered_by_the_dates_that_are_offered(reader: Client, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    old = log(object_id="1")
    ChangeLog.objects.filter(pk=old.pk).update(date=datetime(2001, 2, 3, tzinfo=UTC))
    log(object_id="2")
    page = reader.get("/admin/gestore_sync/changelog/").content.decode()
    [today] = re.findall(r'href="(\?[^"]*)"[^>]*>\s*Today', page)

    response = reader.get("/admin/gestore_sync/changelog/" + unescape(today))

    assert [entry.object_id for entry in response.context["cl"].result_list] == ["2"]


def test_the_log_offers_filters_by_action_state_date_and_model(reader: Client) -> None:
    log()
    log(Category)

    page = read(reader.get("/admin/gestore_sync/changelog/"))

    assert re.search("By action.*By state.*By date.*By model", page)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["", "a", "b"]),
        ("remote=b", ["b"]),
        ("error__isempty=0", ["b"]),
        ("started__gte=2026-02-01 00:00:00%2B00:00", ["a"]),
    ],
)
def test_runs_can_be_filtered(reader: Client, query: str, found: list[str]) -> None:
    make_run(remote="")
    make_run(remote="a", started=datetime(2026, 2, 3, tzinfo=UTC))
    make_run(remote="b", error="The cable is cut.")

    response = reader.get(f"/admin/gestore_sync/syncrun/?{query}")

    assert sorted(run.remote for run in response.context["cl"].result_list) == found


def test_the_list_of_runs_tells_what_came_of_each(reader: Client) -> None:
    problem = {"model": "campus.Tag", "pk": "7", "natural_key": None, "reason": "It is too red."}
    counts = {"created": {"campus.Tag": 3, "campus.Category": 4}, "updated": {"campus.Tag": 2}}
    make_run(counts=counts, problems={"conflicts": [problem] * 5, "failures": [problem] * 6})

    assert "Jan. 31, 2026, 1 p.m. remote 7 2 0 5 6" in read(reader.get("/admin/gestore_sync/syncrun/"))


def test_the_page_of_a_run_tells_everything_about_it(reader: Client) -> None:
    failure = {"model": "campus.Tag", "pk": "7", "natural_key": ["red"], "reason": "It is too red."}
    run = make_run(
        uuid=uuid.UUID(int=5),
        roots=["campus.Tag.1", "campus.Tag.2"],
        counts={"created": {"campus.Tag": 3}, "updated": {}},
        entries=[[1, 5], [7, 7]],
        problems={"failures": [failure]},
        error="The cable is cut.",
    )

    page = read(reader.get(f"/admin/gestore_sync/syncrun/{run.pk}/change/"))

    for text in (
        "00000000-0000-0000-0000-000000000005",
        "campus.Tag.1 campus.Tag.2",
        "Model Created campus.Tag 3 All 3",
        "1–5, 7",
        "campus.Tag.7 (red): It is too red.",
        "The cable is cut.",
    ):
        assert text in page

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.core.exceptions import PermissionDenied
from django.core.files.base import ContentFile
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import path
from django.utils import timezone

from gestore_sync import ExportMixin, api
from gestore_sync.exportadmin import export_bundle
from testproject.campus.models import Category, Course, Lesson, Organization, Tag

pytestmark = [pytest.mark.django_db(databases=["default", "remote", "pg_local"]), pytest.mark.urls(__name__)]

ACTION = "export_bundle"
TITLE = "Export selected objects with all that belongs to them"


class ManagedBy:
    """Which database the pages below show."""

    alias = "default"


class OrganizationAdmin(ExportMixin, admin.ModelAdmin):
    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        return super().get_queryset(request).using(ManagedBy.alias)


class CourseAdmin(ExportMixin, admin.ModelAdmin):
    """Downloads documents, without the tags of its courses."""

    export_format = ".json"
    export_options = {"ignore": ["campus.Course.tags"]}
    actions = ["publish"]

    def publish(self, request: HttpRequest, queryset: QuerySet[Course]) -> None:
        queryset.update(published=True)

    def has_view_permission(self, request: HttpRequest, obj: Course | None = None) -> bool:
        return super().has_view_permission(request, obj) and (obj is None or obj.code != "secret")


class CategoryAdmin(ExportMixin, admin.ModelAdmin):
    """Allows no actions."""

    actions = None


OFFICE = admin.AdminSite(name="office")
OFFICE.register(Organization, OrganizationAdmin)
OFFICE.register(Course, CourseAdmin)
OFFICE.register(Category, CategoryAdmin)
OFFICE.register(Tag)
urlpatterns = [path("office/", OFFICE.urls), path("admin/", admin.site.urls)]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files; stored files are in another."""
    settings.MEDIA_ROOT = tmp_path / "media"
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(params=["default", "pg_local"])
def alias(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kind of database in turn."""
    monkeypatch.setattr(ManagedBy, "alias", request.param)
    return request.param


@pytest.fixture
def everywhere(settings: Any) -> Iterator[None]:
    """The action is on all pages of the default site."""
    settings.GESTORE_SYNC = {"ADMIN_EXPORT": True}
    return


def make_user(*codenames: str, **values: Any) -> User:
    """Somebody with these permissions."""
    user = User.objects.create_user(f"user{User.objects.count()}", **{"is_staff": True, **values})
    found = Permission.objects.filter(codename__in=codenames, content_type__app_label__in=["gestore_sync", "campus"])
    assert len(found) == len(codenames)
    user.user_permissions.set(found)
    return user


def make_client(*codenames: str, **values: Any) -> Client:
    """The browser of somebody with these permissions, after the log in."""
    client = Client()
    client.force_login(make_user(*codenames, **values))
    return client


@pytest.fixture
def staff() -> Client:
    """The browser of one who may export organizations, courses and tags."""
    return make_client("export", "view_organization", "view_course", "view_category", "view_tag")


def make_organization(code: str, using: str = "default") -> Organization:
    """An organization with a course of one lesson, which has slides."""
    organization = Organization(code=code, name=code.title(), created=timezone.now())
    organization.logo.save(f"{code}.svg", ContentFile(b"<svg/>"), save=False)
    organization.save(using=using)
    course = Course(organization=organization, code=f"{code}-1", title="One")
    course.save(using=using)
    Lesson(course=course, position=1, title="Start", duration=timedelta(minutes=45)).save(using=using)
    return organization


def press(client: Client, page: str, *objects: Model, action: str = ACTION, **values: str) -> Any:
    """Tick these objects, choose the action, and press "Go"."""
    data: dict[str, Any] = {"action": action, ACTION_CHECKBOX_NAME: [str(row.pk) for row in objects], "index": "0"}
    return client.post(page, {**data, **values})


def make_request(user: User) -> HttpRequest:
    """What a page gets from somebody."""
    request = RequestFactory().post("/")
    request.user = user
    return request


def get_actions(client: Client, page: str) -> list[str]:
    """The actions that are offered."""
    content = client.get(page).content.decode()
    found = re.search(r'<select name="action".*?</select>', content, re.DOTALL)
    return re.findall(r'<option value="(\w+)"', found[0]) if found else []


def unpack(response: Any) -> dict[str, bytes]:
    """The parts of an archive that was downloaded, by name."""
    with tarfile.open(fileobj=io.BytesIO(response.getvalue()), mode="r:gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def count(response: Any) -> dict[str, int]:
    """What the manifest of an archive says that it holds."""
    return json.loads(unpack(response)["manifest.json"])["counts"]


# The action


def test_the_selected_objects_are_downloaded_with_all_that_belongs_to_them(staff: Client, alias: str) -> None:
    acme = make_organization("acme", alias)
    make_organization("other", alias)

    response = press(staff, "/office/campus/organization/", acme)

    parts = unpack(response)
    manifest = json.loads(parts["manifest.json"])
    assert manifest["provided_objects"] == [f"campus.Organization.{acme.pk}"]
    assert manifest["counts"] == {"campus.Organization": 1, "campus.Course": 1, "campus.Lesson": 1}
    assert b"<svg/>" in parts.values()
    assert not any(b"other" in content for content in parts.values())


def test_several_objects_are_in_one_bundle(staff: Client, alias: str) -> None:
    organizations = [make_organization(code, alias) for code in ("acme", "blue", "coral")]

    response = press(staff, "/office/campus/organization/", *organizations[:2])

    assert count(response) == {"campus.Organization": 2, "campus.Course": 2, "campus.Lesson": 2}


def test_all_objects_of_all_pages_can_be_selected(staff: Client) -> None:
    organizations = [make_organization(code) for code in ("acme", "blue", "coral")]

    response = press(staff, "/office/campus/organization/", organizations[0], select_across="1")

    assert count(response)["campus.Organization"] == 3


def test_what_was_downloaded_can_be_imported(staff: Client, tmp_path: Path) -> None:
    acme = make_organization("acme")

    response = press(staff, "/office/campus/organization/", acme)

    (tmp_path / "acme.tar.gz").write_bytes(response.getvalue())
    api.import_objects(str(tmp_path / "acme.tar.gz"), database="remote")
    assert Lesson.objects.using("remote").get().course.organization.name == "Acme"


def test_the_download_is_a_file_with_a_name_that_tells_what_is_in_it(staff: Client) -> None:
    acme = make_organization("acme")

    response = press(staff, "/office/campus/organization/", acme)

    name = r'attachment; filename="campus\.Organization_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.tar\.gz"'
    assert re.fullmatch(name, response["Content-Disposition"])
    assert response["Content-Type"] == "application/gzip"
    assert int(response["Content-Length"]) == len(response.getvalue())


def test_an_admin_says_what_is_downloaded(staff: Client) -> None:
    acme = make_organization("acme")
    course = acme.courses.get()
    course.tags.add(Tag.objects.create(name="new"))

    response = press(staff, "/office/campus/course/", course)

    assert response["Content-Disposition"].endswith('.json"')
    models = {row["model"] for row in json.loads(response.getvalue())["objects"]}
    assert models == {"campus.organization", "campus.course", "campus.lesson"}


def test_the_actions_of_an_admin_stay(staff: Client) -> None:
    make_organization("acme")

    assert get_actions(staff, "/office/campus/course/") == ["publish", ACTION]


def test_an_admin_without_actions_stays_without(staff: Client) -> None:
    Category.objects.create(code="old", name="Old")

    assert get_actions(staff, "/office/campus/category/") == []


def test_temporary_files_are_gone_when_the_download_has_ended(staff: Client, temporary: Path) -> None:
    response = press(staff, "/office/campus/organization/", make_organization("acme"))

    response.getvalue()

    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("blocks", [0, 1])
def test_temporary_files_are_gone_when_the_download_breaks_off(temporary: Path, blocks: int) -> None:
    request = make_request(User.objects.create_superuser("root"))
    make_organization("acme")

    response = export_bundle(OFFICE.get_model_admin(Organization), request, Organization.objects.all())
    file = response.file_to_stream
    read = [next(iter(response)) for _ in range(blocks)]
    was_open, names = not file.closed, list(temporary.iterdir())
    response.close()

    assert was_open and len(read) == blocks
    assert names == [] or os.name != "posix"
    assert file.closed
    assert list(temporary.iterdir()) == []


# Errors


def test_an_error_is_shown_and_leaves_nothing(staff: Client, temporary: Path) -> None:
    acme = make_organization("acme")
    acme.logo.storage.delete(acme.logo.name)

    response = press(staff, "/office/campus/organization/", acme)

    assert response.status_code == 302
    [message] = get_messages(response.wsgi_request)
    assert message.level_tag == "error"
    assert acme.logo.name in message.message
    assert list(temporary.iterdir()) == []


def test_a_place_for_temporary_files_that_cannot_be_written_is_shown(
    staff: Client, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = make_organization("acme")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "missing"))

    response = press(staff, "/office/campus/organization/", acme)

    assert response.status_code == 302
    assert "missing cannot be written" in next(iter(get_messages(response.wsgi_request))).message


# Who may


def test_who_may_export_sees_the_action(staff: Client) -> None:
    make_organization("acme")

    assert get_actions(staff, "/office/campus/organization/") == [ACTION]
    assert TITLE in staff.get("/office/campus/organization/").content.decode()


def test_who_may_not_export_does_not_see_it() -> None:
    make_organization("acme")
    reader = make_client("view_organization", "change_organization", "synchronize")

    assert get_actions(reader, "/office/campus/organization/") == []


def test_who_may_not_export_cannot_ask_for_it() -> None:
    acme = make_organization("acme")
    reader = make_client("view_organization", "change_organization", "synchronize")

    response = press(reader, "/office/campus/organization/", acme)

    assert not response.streaming
    assert "Content-Disposition" not in response


@pytest.mark.parametrize("codenames", [["export"], ["export", "add_organization"], ["export", "view_course"]])
def test_who_may_not_look_at_a_model_cannot_export_it(codenames: list[str]) -> None:
    acme = make_organization("acme")

    response = press(make_client(*codenames), "/office/campus/organization/", acme)

    assert response.status_code == 403


def test_who_may_change_a_model_may_look_at_it() -> None:
    acme = make_organization("acme")

    response = press(make_client("export", "change_organization"), "/office/campus/organization/", acme)

    assert count(response)["campus.Organization"] == 1


@pytest.mark.parametrize("values", [{"is_staff": False}, {"is_active": False}])
def test_who_may_not_enter_the_site_is_sent_to_the_log_in(values: dict[str, bool]) -> None:
    acme = make_organization("acme")

    response = press(make_client("export", "view_organization", **values), "/office/campus/organization/", acme)

    assert response.status_code == 302
    assert response["Location"].startswith("/office/login/")


def test_an_object_that_a_person_may_not_see_is_refused(staff: Client) -> None:
    acme = make_organization("acme")
    course = Course.objects.create(organization=acme, code="secret", title="Secret")

    response = press(staff, "/office/campus/course/", acme.courses.get(code="acme-1"), course)

    assert response.status_code == 403


@pytest.mark.parametrize(
    ("codenames", "is_staff"),
    [
        (["view_organization"], True),
        (["export"], True),
        (["export", "view_organization"], False),
    ],
)
def test_the_action_itself_asks_for_all_permissions(codenames: list[str], is_staff: bool) -> None:
    user = make_user(*codenames, is_staff=is_staff)

    with pytest.raises(PermissionDenied):
        export_bundle(OFFICE.get_model_admin(Organization), make_request(user), Organization.objects.none())


def test_a_page_of_another_site_cannot_press_the_button() -> None:
    acme = make_organization("acme")
    User.objects.create_superuser("root", password="secret")
    client = Client(enforce_csrf_checks=True)
    client.login(username="root", password="secret")

    response = press(client, "/office/campus/organization/", acme)

    assert response.status_code == 403


def test_the_permission_is_in_the_database() -> None:
    permission = Permission.objects.get(codename="export", content_type__app_label="gestore_sync")

    assert permission.name == "Can export bundles"


# Everywhere


def test_without_the_setting_other_pages_have_no_action(staff: Client) -> None:
    Tag.objects.create(name="new")

    assert get_actions(staff, "/admin/campus/tag/") == []


def test_with_the_setting_all_pages_have_the_action(everywhere: None, staff: Client) -> None:
    tag = Tag.objects.create(name="new")
    make_organization("acme")

    assert get_actions(staff, "/admin/campus/tag/") == [ACTION]
    assert get_actions(staff, "/admin/campus/organization/") == [ACTION]
    assert count(press(staff, "/admin/campus/tag/", tag)) == {"campus.Tag": 1}


def test_the_setting_gives_the_action_only_to_those_who_may_export(everywhere: None) -> None:
    tag = Tag.objects.create(name="new")
    reader = make_client("view_tag", "synchronize")

    assert get_actions(reader, "/admin/campus/tag/") == []
    assert not press(reader, "/admin/campus/tag/", tag).streaming


def test_the_setting_is_for_the_default_site(everywhere: None, staff: Client) -> None:
    Tag.objects.create(name="new")

    assert get_actions(staff, "/office/campus/tag/") == []


def test_pages_without_actions_stay_without(everywhere: None) -> None:
    client = make_client("export", "view_changelog", "view_syncrun")

    assert get_actions(client, "/admin/gestore_sync/syncrun/") == []


def test_an_admin_that_has_the_action_has_it_once(everywhere: None) -> None:
    class TagAdmin(ExportMixin, admin.ModelAdmin):
        pass

    request = make_request(User.objects.create_superuser("root"))

    choices = TagAdmin(Tag, admin.site).get_action_choices(request)

    assert [name for name, title in choices].count(ACTION) == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_the_checks_of_the_admin_find_nothing(settings: Any, wanted: bool) -> None:
    settings.GESTORE_SYNC = {"ADMIN_EXPORT": wanted}

    assert OFFICE.check(apps.get_app_configs()) == []
    assert admin.site.check(apps.get_app_configs()) == []


def test_a_wrong_setting_gives_no_action(settings: Any) -> None:
    settings.GESTORE_SYNC = {"ADMIN_EXPORT": "yes"}

    assert ACTION not in dict(admin.site.actions)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_setting_counts_when_a_site_starts(wanted: bool) -> None:
    code = (
        "import os, sys, django\n"
        "from tests import settings\n"
        f"settings.GESTORE_SYNC = {{'ADMIN_EXPORT': {wanted}}}\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "django.setup()\n"
        "from django.contrib import admin\n"
        "print(*dict(admin.site.actions))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (ACTION in done.stdout.split()) is wanted

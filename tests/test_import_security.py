"""What an import does not let in: rights, models that nobody named, and values that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import Group, Permission, PermissionsMixin, User
from django.contrib.sessions.models import Session
from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps

from gestore_sync import api
from gestore_sync.exceptions import BundleError, GestoreSyncError, UntrustedBundle, WrongSetting
from gestore_sync.models import SyncRun
from gestore_sync.privileges import Protection
from tests.bundling import (
    ARCHIVES,
    FORMATS,
    Document,
    edit_records,
    export,
    find_record,
    get_ending,
    load,
    make_document,
    read_document,
    read_members,
    record,
    refuse,
    seal,
    write_document,
    write_members,
)
from tests.conftest import Pair
from tests.kinds.making import make
from tests.policies.models import Colour, Depot, Parcel, Shift, Truck, Vehicle, Worker
from tests.policies.watching import Watch, paired, pairings, watched

every_shape = pytest.mark.parametrize("ending", [".json", ".tar.gz"])
one_target = pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)

pair = paired("sqlite-sqlite", "sqlite-postgresql")


@pytest.fixture
def watch(pair: Pair) -> Iterator[Watch]:
    with watched(pair, "policies", "campus", "auth", "contenttypes", "sites", "kinds", "sessions") as watch:
        yield watch


@pytest.fixture
def eve(watch: Watch) -> User:
    """Somebody with all rights."""
    user = make(User, watch.source, username="eve", is_staff=True, is_superuser=True)
    group = make(Group, watch.source, name="editors")
    permission = watch.on_source(Permission).get(codename="add_depot")
    group.permissions.add(permission)
    user.groups.add(group)
    user.user_permissions.add(permission)
    return user


def read_rights(watch: Watch) -> dict[str, Any]:
    user = watch.on_target(User).get(username="eve")
    return {
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "groups": sorted(group.name for group in user.groups.all()),
        "permissions": sorted(permission.codename for permission in user.user_permissions.all()),
    }


NOTHING = {"is_staff": False, "is_superuser": False, "groups": [], "permissions": []}
EVERYTHING = {"is_staff": True, "is_superuser": True, "groups": ["editors"], "permissions": ["add_depot"]}


# Rights


@every_shape
def test_a_new_user_gets_no_rights_and_that_is_told(watch: Watch, eve: User, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", eve)

    report = load(watch, path)

    assert read_rights(watch) == NOTHING
    warnings = "\n".join(report.warnings)
    for name in ("User.is_staff", "User.is_superuser", "User.groups", "User.user_permissions", "Group.permissions"):
        assert f"auth.{name}" in warnings
    assert "--allow-privileged" in warnings


@every_shape
def test_rights_are_taken_where_that_is_said(watch: Watch, eve: User, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", eve)

    report = load(watch, path, allow_privileged=True)

    assert read_rights(watch) == EVERYTHING
    assert [permission.codename for permission in watch.on_target(Group).get().permissions.all()] == ["add_depot"]
    assert not [warning for warning in report.warnings if "privileged" in warning]


@every_shape
@pytest.mark.parametrize("policy", ["override", "newer", "skip"])
def test_an_existing_user_keeps_the_rights_that_are_there(
    watch: Watch, eve: User, tmp_path: Path, ending: str, policy: str
) -> None:
    path = export(watch, tmp_path / f"a{ending}", eve)
    theirs = make(User, watch.target, username="eve", is_staff=False, is_superuser=False, first_name="Eve")
    theirs.groups.add(make(Group, watch.target, pk=77, name="readers"))

    load(watch, path, on_conflict=policy)

    assert read_rights(watch) == {**NOTHING, "groups": ["readers"]}


@every_shape
def test_an_import_takes_no_rights_away(watch: Watch, eve: User, tmp_path: Path, ending: str) -> None:
    load(watch, export(watch, tmp_path / f"a{ending}", eve), allow_privileged=True)
    eve.groups.clear()
    eve.user_permissions.clear()
    watch.on_source(User).update(is_staff=False, is_superuser=False, first_name="new")

    load(watch, export(watch, tmp_path / f"b{ending}", eve), on_conflict="override")

    assert watch.on_target(User).get().first_name == "new"
    assert read_rights(watch) == EVERYTHING


@every_shape
def test_a_restored_user_has_no_rights_either(watch: Watch, eve: User, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", eve)
    watch.on_source(User).all().delete()

    api.import_objects(str(path), database=watch.source)
    restored = watch.on_source(User).get()
    assert (restored.pk, restored.is_staff, restored.is_superuser, restored.groups.count()) == (eve.pk, False, False, 0)
    watch.on_source(User).all().delete()
    api.import_objects(str(path), database=watch.source, allow_privileged=True)

    restored = watch.on_source(User).get()
    assert (restored.pk, restored.is_staff, restored.is_superuser, restored.groups.count()) == (eve.pk, True, True, 1)


@every_shape
def test_a_group_gets_no_permissions(watch: Watch, eve: User, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", watch.on_source(Group).get())

    load(watch, path)

    assert watch.on_target(Group).get().permissions.count() == 0


@every_shape
def test_groups_and_permissions_that_only_rights_refer_to_are_left_as_they_are(
    watch: Watch, eve: User, tmp_path: Path, ending: str
) -> None:
    path = export(watch, tmp_path / f"a{ending}", eve)
    watch.on_target(Permission).filter(codename="add_depot").update(name="Dodaj magazyn")

    report = load(watch, path)

    assert watch.on_target(Permission).get(codename="add_depot").name == "Dodaj magazyn"
    assert report.conflicts == []


@every_shape
def test_importing_a_user_twice_changes_nothing(watch: Watch, eve: User, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", eve)
    load(watch, path)
    before = watch.picture()

    report = load(watch, path)

    assert report.created == report.updated == {}
    assert watch.picture() == before


@pytest.mark.parametrize("name", ["policies.Depot.city", "policies.DEPOT.city"])
@every_shape
def test_a_protected_field_is_left_out(watch: Watch, tmp_path: Path, ending: str, name: str) -> None:
    depot = make(Depot, watch.source, name="ours", city="Łódź")
    path = export(watch, tmp_path / f"a{ending}", depot)

    with override_settings(GESTORE_SYNC={"PROTECTED_FIELDS": [name]}):
        report = load(watch, path)
        watch.on_target(Depot).update(city="Gdynia")
        load(watch, path, on_conflict="override")

    assert watch.on_target(Depot).get().city == "Gdynia"
    assert any("policies.Depot.city" in warning for warning in report.warnings)


@pytest.mark.parametrize(("name", "model"), [("colours", Depot.colours.through), ("workers", Shift)])
@every_shape
def test_a_protected_many_to_many_field_is_left_out(
    watch: Watch, tmp_path: Path, ending: str, name: str, model: type[models.Model]
) -> None:
    depot = make(Depot, watch.source)
    depot.colours.add(make(Colour, watch.source))
    make(Shift, watch.source, depot=depot)
    path = export(watch, tmp_path / f"a{ending}", depot)

    with override_settings(GESTORE_SYNC={"PROTECTED_FIELDS": [f"policies.Depot.{name}"]}):
        report = load(watch, path)

    assert watch.on_target(Depot).count() == 1
    assert not watch.on_target(model).exists()
    assert any(f"policies.Depot.{name}" in warning for warning in report.warnings)


@one_target
@pytest.mark.parametrize("name", ["city", "policies.Nothing.city", "policies.Depot.nothing", "nowhere.Depot.city"])
def test_a_protected_field_that_does_not_exist_is_an_error(watch: Watch, tmp_path: Path, name: str) -> None:
    path = export(watch, tmp_path / "a.json", make(Depot, watch.source))

    with override_settings(GESTORE_SYNC={"PROTECTED_FIELDS": [name]}):
        error = refuse(watch, path)

    assert isinstance(error, WrongSetting)
    assert name in str(error)


@isolate_apps("tests.policies")
def test_rights_of_every_kind_of_user_are_protected() -> None:
    class Customer(AbstractBaseUser, PermissionsMixin):
        groups = None
        user_permissions = None
        is_staff = models.BooleanField(default=False)

        class Meta:
            app_label = "policies"

    class Manager(Customer):
        class Meta:
            app_label = "policies"

    class Someone(models.Model):
        is_staff = models.BooleanField(default=False)

        class Meta:
            app_label = "policies"

    protection = Protection(_graph_of(Manager, Someone))

    assert protection.get_names(Customer) == {"is_staff", "is_superuser"}
    assert protection.get_names(Someone) == frozenset()


@override_settings(AUTH_USER_MODEL="policies.Truck")
def test_rights_of_the_user_model_of_the_settings_are_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gestore_sync.privileges.OF_USERS", ("is_staff", "load", "name"))

    protection = Protection(_graph_of(Truck))

    assert protection.get_names(Truck) == {"load"}
    assert protection.get_names(Vehicle) == {"name"}


def _graph_of(*found: type[models.Model]) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(models=found)


# Tricks


def name_in_manifest(path: Path, **counts: int) -> Path:
    """Let the manifest name models."""
    labels = {label.replace("__", "."): number for label, number in counts.items()}
    if get_ending(path) not in ARCHIVES:
        document = read_document(path)
        document["counts"] |= labels
        return write_document(path, document)
    members = read_members(path)
    manifest = json.loads(members["manifest.json"])
    manifest["counts"] |= labels
    members["manifest.json"] = json.dumps(manifest).encode()
    return write_members(path, members)


TRICKS: dict[str, Callable[[list[Document]], Any]] = {
    "label": lambda records: [one.update(model="auth.USER") for one in records if one["model"] == "auth.user"],
    "through in a document": lambda records: records.append(record("auth.user_groups", 1, user=1, group=1)),
    "through in capitals": lambda records: records.append(record("auth.USER_groups", 1, user_id=1, group_id=1)),
    "truth": lambda records: find_record(records, "auth.user")["fields"].update(is_staff=True, is_superuser=1),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_in_a_document_gives_rights(watch: Watch, eve: User, tmp_path: Path, trick: str) -> None:
    path = export(watch, tmp_path / "a.json", eve)
    edit_records(path, TRICKS[trick])
    name_in_manifest(path, auth__User_groups=1)

    load(watch, path)

    assert read_rights(watch) == NOTHING


@one_target
def test_rows_that_give_rights_are_no_way_around(watch: Watch, eve: User, tmp_path: Path) -> None:
    theirs = make(User, watch.target, username="eve")
    permission = watch.on_target(Permission).get(codename="add_depot")
    document = make_document(
        record("auth.user_user_permissions", 1, user=theirs.pk, permission=permission.pk),
        record("auth.group", 1, name="editors", user=[theirs.pk], user_set=[theirs.pk], permissions=[permission.pk]),
    )
    path = write_document(tmp_path / "a.json", document)

    with suppress(GestoreSyncError):
        load(watch, path, ignorenonexistent=True, on_conflict="override")

    assert read_rights(watch) == NOTHING
    assert all(not group.permissions.exists() for group in watch.on_target(Group))


def raise_to_admin(values: Document) -> list[Document]:
    """Make an administrator of what was a depot."""
    fields = {
        "username": "eve",
        "password": "!",
        "is_superuser": True,
        "is_staff": True,
        "date_joined": "2020-01-01T00:00Z",
    }
    return [record("auth.User", 1, **fields), record("auth.User_groups", 1, user=1, group=1)]


def to_session(values: Document) -> Document:
    """Make a session of what was a depot."""
    return record("sessions.Session", "abc", session_data="", expire_date="2030-01-01T00:00Z")


@one_target
def test_an_upgrader_gives_no_rights(watch: Watch, tmp_path: Path) -> None:
    path = export(watch, tmp_path / "a.json", make(Depot, watch.source))

    with override_settings(GESTORE_SYNC={"UPGRADERS": {"policies.Depot": f"{__name__}.raise_to_admin"}}):
        load(watch, path)

    assert read_rights(watch) == NOTHING


@one_target
def test_an_upgrader_makes_no_objects_of_forbidden_models(watch: Watch, tmp_path: Path) -> None:
    path = export(watch, tmp_path / "a.json", make(Depot, watch.source))

    with override_settings(GESTORE_SYNC={"UPGRADERS": {"policies.Depot": f"{__name__}.to_session"}}):
        error = refuse(watch, path)

    assert "sessions.Session" in str(error)


@pytest.mark.parametrize("label", ["policies.truck", "policies.TRUCK"])
@one_target
def test_a_child_does_not_carry_the_protected_fields_of_its_parent(watch: Watch, tmp_path: Path, label: str) -> None:
    make(Truck, watch.target, name="theirs")
    path = export(watch, tmp_path / "a.json", make(Truck, watch.source, name="theirs").depot)
    edit_records(path, lambda records: find_record(records, "policies.truck").update(model=label))
    edit_records(path, lambda records: find_record(records, label)["fields"].update(name="taken"))

    with override_settings(GESTORE_SYNC={"PROTECTED_FIELDS": ["policies.Vehicle.name"]}):
        load(watch, path, on_conflict="override")

    assert not watch.on_target(Vehicle).filter(name="taken").exists()


@one_target
def test_a_field_by_its_two_names_is_refused(watch: Watch, tmp_path: Path) -> None:
    depot = make(Depot, watch.source)
    make(Parcel, watch.source, depot=depot)
    path = export(watch, tmp_path / "a.json", depot)
    edit_records(path, lambda records: find_record(records, "policies.parcel")["fields"].update(depot_id=7))

    assert "twice" in str(refuse(watch, path))


@pytest.mark.parametrize(("name", "value"), [("id", 7), ("id", "7")])
@one_target
def test_a_primary_key_that_contradicts_itself_is_refused(watch: Watch, tmp_path: Path, name: str, value: Any) -> None:
    path = export(watch, tmp_path / "a.json", make(Depot, watch.source))
    edit_records(path, lambda records: find_record(records, "policies.depot")["fields"].update({name: value}))

    assert "primary key" in str(refuse(watch, path))


@one_target
def test_nothing_in_a_bundle_is_evaluated(watch: Watch, tmp_path: Path) -> None:
    texts = ["__import__('os').mkdir('evil')", "${jndi:x}", "{0.__class__}", "{pk}", "%(name)s", "{{ 1 }}"]
    for text in texts:
        make(Depot, watch.source, name=text)
    depots = watch.on_source(Depot).order_by("pk")

    load(watch, export(watch, tmp_path / "a.json", *depots))

    assert [depot.name for depot in watch.on_target(Depot).order_by("pk")] == texts


# Models


@every_shape
def test_sessions_do_not_come_in(watch: Watch, tmp_path: Path, ending: str) -> None:
    session = make(Session, watch.source)
    path = export(watch, tmp_path / f"a{ending}", session)

    error = refuse(watch, path)

    assert isinstance(error, UntrustedBundle)
    assert "sessions.Session" in str(error)
    assert "IMPORT_MODELS" in str(error)
    with override_settings(GESTORE_SYNC={"IMPORT_MODELS": ["sessions"]}):
        load(watch, path)
    assert watch.on_target(Session).count() == 1


@isolate_apps("tests.policies")
def test_sessions_of_other_apps_do_not_come_in() -> None:
    from django.contrib.sessions.base_session import AbstractBaseSession

    from gestore_sync.loading import is_allowed

    class Visit(AbstractBaseSession):
        class Meta:
            app_label = "policies"

    assert not is_allowed(Visit)
    with override_settings(GESTORE_SYNC={"IMPORT_MODELS": ["policies.Visit"]}):
        assert is_allowed(Visit)


@one_target
@pytest.mark.parametrize("label", ["gestore_sync.SyncRun", "gestore_sync.origin", "gestore_sync.SYNCRUN"])
@pytest.mark.parametrize("allowed", [None, ["gestore_sync"]])
def test_our_own_tables_are_never_written_by_an_import(watch: Watch, tmp_path: Path, label: str, allowed: Any) -> None:
    path = write_document(tmp_path / "a.json", make_document(record(label, 1)))

    with override_settings(GESTORE_SYNC={"IMPORT_MODELS": allowed}):
        assert isinstance(refuse(watch, path, ignorenonexistent=True), UntrustedBundle)

    assert not watch.on_target(SyncRun).exists()


@pytest.mark.parametrize("allowed", [["policies"], ["policies.Depot", "policies.colour"], ["POLICIES"]])
@every_shape
def test_models_that_the_settings_allow_come_in_with_their_many_to_many_tables(
    watch: Watch, tmp_path: Path, ending: str, allowed: list[str]
) -> None:
    depot = make(Depot, watch.source)
    depot.colours.add(make(Colour, watch.source))
    path = export(watch, tmp_path / f"a{ending}", depot)

    with override_settings(GESTORE_SYNC={"IMPORT_MODELS": allowed}):
        load(watch, path)

    assert watch.on_target(Depot).get().colours.count() == 1


@pytest.mark.parametrize("allowed", [[], ["campus"], ["policies.Colour"], ["policies.Depot"]])
@every_shape
def test_models_that_the_settings_do_not_allow_do_not_come_in(
    watch: Watch, tmp_path: Path, ending: str, allowed: list[str]
) -> None:
    depot = make(Depot, watch.source)
    depot.colours.add(make(Colour, watch.source))
    path = export(watch, tmp_path / f"a{ending}", depot)

    with override_settings(GESTORE_SYNC={"IMPORT_MODELS": allowed}):
        assert isinstance(refuse(watch, path, ignorenonexistent=True), UntrustedBundle)


@pytest.mark.parametrize("label", ["policies.worker", "policies.WORKER"])
@one_target
def test_a_model_that_the_manifest_does_not_name_does_not_come_in(watch: Watch, tmp_path: Path, label: str) -> None:
    path = export(watch, tmp_path / "a.json", make(Depot, watch.source))
    edit_records(path, lambda records: records.append(record(label, 1, email="a", badge=1)))

    error = refuse(watch, path)
    assert isinstance(error, UntrustedBundle)
    assert label in str(error)

    with override_settings(GESTORE_SYNC={"UPGRADERS": {"policies.Brand": f"{__name__}.to_session"}}):
        assert isinstance(refuse(watch, path), UntrustedBundle)
    load(watch, name_in_manifest(path, policies__Worker=1))
    assert watch.on_target(Worker).count() == 1


@one_target
def test_a_manifest_that_names_no_model_lets_none_in(watch: Watch, tmp_path: Path) -> None:
    document = make_document(record("policies.depot", 1, name="a"), counts={}, schema={})

    assert isinstance(refuse(watch, write_document(tmp_path / "a.json", document)), UntrustedBundle)


# Signatures


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("ending", FORMATS)
@one_target
def test_a_signed_bundle_comes_in_and_an_edited_one_does_not(
    watch: Watch, tmp_path: Path, ending: str, verify: bool
) -> None:
    depot = make(Depot, watch.source, name="ours")
    path = export(watch, tmp_path / f"a{ending}", depot, sign=True)
    edited = tmp_path / f"b{ending}"
    edited.write_bytes(path.read_bytes())
    if ending in ARCHIVES:
        members = read_members(edited)
        name = next(name for name in members if name.startswith("data/"))
        members[name] = members[name].replace(b"ours", b"mine")
        write_members(edited, seal(json.loads(members["manifest.json"]), members))
    else:
        document = read_document(edited)
        document["objects"][0]["fields"]["name"] = "mine"
        write_document(edited, document)

    assert isinstance(refuse(watch, edited, verify=verify), UntrustedBundle)
    load(watch, path, verify=verify)
    assert watch.on_target(Depot).get().name == "ours"


@pytest.mark.parametrize("ending", FORMATS)
@one_target
def test_verify_takes_signed_bundles_only(watch: Watch, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", make(Depot, watch.source))

    assert "not signed" in str(refuse(watch, path, verify=True))


@pytest.mark.parametrize("ending", FORMATS)
@one_target
def test_the_signature_of_another_key_is_refused(watch: Watch, tmp_path: Path, ending: str) -> None:
    path = export(watch, tmp_path / f"a{ending}", make(Depot, watch.source), sign=True)

    with override_settings(SECRET_KEY="another"):
        assert isinstance(refuse(watch, path), UntrustedBundle)


# Values


HUGE = 2**70
WRONG: list[tuple[str, Any]] = [
    *[(name, value) for name in ("small", "integer", "big") for value in ("x", 1.5, True, [], {}, HUGE, -HUGE, "1e5")],
    *[("boolean", value) for value in ("x", 2, [], "maybe")],
    *[("decimal", value) for value in ("x", [], "1e999999999", "12345678901234567890123456789")],
    *[("real", value) for value in ("x", [], {})],
    *[("char", value) for value in ([], {})],
    *[("text", value) for value in ([], {"a": 1})],
    *[("date", value) for value in ("x", 5, [], "2024-02-30", "2024-13-01", True)],
    *[("time", value) for value in ("x", 5, "25:00", [])],
    *[("moment", value) for value in ("x", 5, "2024-02-30T00:00Z", [], "yesterday")],
    *[("duration", value) for value in ("x", [], {})],
    *[("binary", value) for value in ("é", "a", 5, [], "====")],
    *[("uuid", value) for value in ("x", 5, [], "0" * 31)],
    *[("address", value) for value in ([], {})],
    *[("file", value) for value in ([], {})],
    *[("box", value) for value in ("x", 1.5, [], {}, True, HUGE, None)],
    *[("mark", value) for value in (None, [], {})],
]


def make_values(pk: Any = 1, **fields: Any) -> Document:
    return make_document(
        record("kinds.box", 1, name="a"), record("kinds.values", pk, **{"box": 1, "mark": "a", **fields})
    )


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: str(value)[:20])
def test_a_value_of_the_wrong_kind_is_refused_by_name(watch: Watch, tmp_path: Path, name: str, value: Any) -> None:
    path = write_document(tmp_path / "a.json", make_values(**{name: value}))

    message = str(refuse(watch, path))

    assert "kinds.Values.1" in message
    assert "\n" not in message


@pytest.mark.parametrize("pk", ["x", 1.5, True, [], {}, [1], HUGE, -HUGE, "", "1e5"], ids=str)
def test_a_primary_key_of_the_wrong_kind_is_refused_by_name(watch: Watch, tmp_path: Path, pk: Any) -> None:
    path = write_document(tmp_path / "a.json", make_values(pk))

    assert "kinds.Values" in str(refuse(watch, path))


@pytest.mark.parametrize(
    ("name", "value"), [("char", "x" * 201), ("address", "x"), ("small", 2**15), ("slug", "x" * 51)]
)
@pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
def test_a_value_that_has_no_room_on_this_database_is_refused_by_name(
    watch: Watch, tmp_path: Path, name: str, value: Any
) -> None:
    path = write_document(tmp_path / "a.json", make_values(**{name: value}))

    assert "kinds.Values.1" in str(refuse(watch, path))


@pytest.mark.parametrize("members", [None, "x", {}, 5, [None], ["x"], [[1]], [HUGE], [1.5], [True], [{}]], ids=str)
def test_members_of_the_wrong_kind_are_refused_by_name(watch: Watch, tmp_path: Path, members: Any) -> None:
    document = make_document(
        record("policies.colour", 1, name="red"), record("policies.depot", 1, name="a", colours=members)
    )

    message = str(refuse(watch, write_document(tmp_path / "a.json", document)))

    assert "policies.Depot" in message


@pytest.mark.parametrize("field", [{"colours": [99]}, {"boss": 99}, {"riddle": 99}])
def test_a_link_to_what_is_nowhere_is_refused(watch: Watch, tmp_path: Path, field: Any) -> None:
    document = make_document(record("policies.depot", 1, name="a", **field))

    assert str(refuse(watch, write_document(tmp_path / "a.json", document)))


def test_a_member_that_is_listed_twice_is_one(watch: Watch, tmp_path: Path) -> None:
    document = make_document(
        record("policies.colour", 1, name="red"), record("policies.depot", 1, name="a", colours=[1, "1", 1])
    )

    report = load(watch, write_document(tmp_path / "a.json", document))

    assert watch.on_target(Depot).get().colours.count() == 1
    assert report.created["policies.Depot_colours"] == 1


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_a_database_does_not_take_is_refused_without_a_traceback(
    watch: Watch, tmp_path: Path, text: str
) -> None:
    path = write_document(tmp_path / "a.json", make_values(text=text))

    try:
        load(watch, path)
    except BundleError as error:
        assert "kinds.Values.1" in str(error)
    else:
        from tests.kinds.models import Values

        assert watch.on_target(Values).get().text == text


@pytest.mark.parametrize("depth", [300, 900, 5_000, 1_000_000])
def test_json_that_is_nested_deep_is_taken_or_refused_soon(watch: Watch, tmp_path: Path, depth: int) -> None:
    text = json.dumps(make_values(json="DEEP")).replace('"DEEP"', "[" * depth + "]" * depth)
    path = tmp_path / "a.json"
    path.write_text(text)

    try:
        report = load(watch, path)
    except BundleError as error:
        assert depth > 300
        assert "deep" in str(error) or "recursion" in str(error)
    else:
        assert report.created["kinds.Values"] == 1


@every_shape
def test_an_object_that_comes_twice_is_refused_by_name(watch: Watch, tmp_path: Path, ending: str) -> None:
    depot = make(Depot, watch.source, name="ours")
    path = export(watch, tmp_path / f"a{ending}", depot)
    edit_records(path, lambda records: records.append({**records[0], "fields": {"name": "other"}}))

    message = str(refuse(watch, path))

    assert f"policies.Depot.{depot.pk}" in message
    assert "twice" in message


def test_an_object_that_comes_twice_with_keys_written_differently_is_refused(watch: Watch, tmp_path: Path) -> None:
    document = make_document(record("policies.depot", 1, name="a"), record("policies.DEPOT", "1", name="b"))

    assert "policies.Depot.1 is in the bundle twice" in str(
        refuse(watch, write_document(tmp_path / "a.json", document))
    )


@pytest.mark.parametrize("root", ["policies.Depot.x", f"policies.Depot.{HUGE}", "x", "", "a.b.c", "policies.Depot."])
def test_a_root_that_is_none_does_no_harm(watch: Watch, tmp_path: Path, root: str) -> None:
    document = make_document(record("policies.depot", 1, name="a"), provided_objects=[root])

    report = load(watch, write_document(tmp_path / "a.json", document))

    assert report.created == {"policies.Depot": 1}


SCOPES: list[Any] = [
    {"own": "policies.Parcel.depot"},
    {"own": ["nothing"]},
    {"stop": ["nowhere.Nothing"]},
    {"reach": 5},
    {"own": [5]},
    {"own": {"a": 1}},
    {"named": ["policies.Depot"]},
]


@pytest.mark.parametrize("scope", SCOPES, ids=str)
@one_target
def test_an_odd_scope_is_refused_or_read(watch: Watch, tmp_path: Path, scope: Any) -> None:
    path = write_document(tmp_path / "a.json", make_document(record("policies.depot", 1, name="a"), scope=scope))

    try:
        assert load(watch, path).created == {"policies.Depot": 1}
    except BundleError as error:
        assert "manifest" in str(error)


@pytest.mark.parametrize("date", ["", "yesterday", 5, None, "2024-01-01", "9999-12-31T23:59:59-23:00", []])
@pytest.mark.parametrize("policy", ["fail", "newer"])
@one_target
def test_an_odd_date_does_no_harm(watch: Watch, tmp_path: Path, date: Any, policy: str) -> None:
    path = write_document(tmp_path / "a.json", make_document(record("policies.depot", 1, name="a"), date=date))
    load(watch, path)
    watch.on_target(Depot).update(name="b")
    document = make_document(record("policies.depot", 1, name="c"), date=date)

    try:
        load(watch, write_document(tmp_path / "a.json", document), on_conflict=policy)
    except GestoreSyncError as error:
        assert error.report is not None

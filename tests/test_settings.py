from __future__ import annotations

import re
import warnings
from datetime import timedelta
from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError
from django.test import override_settings

from gestore_sync import api
from gestore_sync.conf import OPTIONS, find_remote, get_option, get_signal_mode
from gestore_sync.exceptions import WrongDatabase, WrongSetting
from gestore_sync.policies import get_policies
from testproject.campus.models import Tag

WRONG_VALUES: dict[str, list[Any]] = {
    "OWN": ["campus.Course.tags", None, [1], {"campus.Course.tags": True}],
    "REFER": ["campus.Course.tags", None, [1], {"campus.Course.tags": True}],
    "IGNORE": ["campus.Course.tags", None, [1], {"campus.Course.tags": True}],
    "STOP": ["campus.Person", None, [1], {"campus.Person": True}],
    "DECIDED": ["campus.Course.tags", None, [1], {"campus.Course.tags": True}],
    "REACH": ["everything", "", None, ["owned"], True],
    "IDENTITY": [
        ["campus.Course"],
        None,
        {"campus.Course": "code"},
        {"campus.Course": []},
        {"campus.Course": None},
        {"campus.Course": [1]},
        {1: ["code"]},
    ],
    "SIGNALS": ["loud", "", None, True, {"*": "loud"}, {"campus.Course": None}, {1: "raw"}],
    "CONFLICTS": ["newest", "", None, True, {"*": "newest"}, {"campus.Course": None}, {1: "local"}],
    "ADAPTERS": ["shop.adapters.ShelfAdapter", None, [1], [object]],
    "CAPTURE": ["pigeons", "", None, True, ["triggers"]],
    "SIGNING_KEY": ["", b"secret", 7, ["secret"]],
    "SIGNING_KEY_FALLBACKS": ["secret", None, [""], [None], {"secret"}],
    "ADMIN_EXPORT": ["yes", None, 1, ["campus"]],
    "IMPORT_MODELS": ["campus", [1], {"campus": True}, True],
    "PROTECTED_FIELDS": ["campus.Person.active", None, [1], {"campus.Person.active": True}],
    "UPGRADERS": ["campus.old.upgrade", None, ["campus.Person"], {"campus.Person": None}, {1: "campus.old.upgrade"}],
    "MAX_IMPORT_SIZE": [0, -1, "10", 1.5, None, True],
    "LOG_RETENTION": [30, -1, "30 days", timedelta(days=-1), True],
    "BATCH_SIZE": [0, -1, "10", 1.5, None, True],
}
RIGHT_VALUES: dict[str, list[Any]] = {
    "OWN": [[], ("campus.Course.tags",), {"campus.Course.tags"}],
    "REFER": [[], ("campus.Course.tags",), {"campus.Course.tags"}],
    "IGNORE": [[], ("campus.Course.tags", "campus.Person"), {"campus.Person"}],
    "STOP": [[], ("campus.Person",), frozenset({"campus.Person"})],
    "DECIDED": [[], ("campus.Course.tags", "campus.Course.organization_id"), {"campus.Course"}],
    "REACH": ["owned", "connected"],
    "IDENTITY": [{}, {"campus.Course": ["organization", "code"]}, {"campus.Course": ("code",)}],
    "SIGNALS": ["raw", "save", "none", {}, {"*": "none", "campus.Course": "save"}],
    "CONFLICTS": ["newer", "local", "remote", "fail", {}, {"*": "fail", "campus.Course": "local"}],
    "ADAPTERS": [[], ("gestore_sync.adapters.mptt.MPTTAdapter",)],
    "CAPTURE": ["signals", "triggers"],
    "SIGNING_KEY": [None, "secret"],
    "SIGNING_KEY_FALLBACKS": [(), ["old", "older"]],
    "ADMIN_EXPORT": [True, False],
    "IMPORT_MODELS": [None, [], ("campus",), {"campus.Person"}],
    "PROTECTED_FIELDS": [[], ("campus.Person.active",)],
    "UPGRADERS": [{}, {"campus.Person": "campus.old.upgrade"}],
    "MAX_IMPORT_SIZE": [1, 2**40],
    "LOG_RETENTION": [None, timedelta(), timedelta(days=365)],
    "BATCH_SIZE": [1, 10_000],
}


def pairs(values: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(key, value, id=f"{key}-{value!r}") for key, of_key in values.items() for value in of_key]


def find_errors() -> list[checks.CheckMessage]:
    return checks.run_checks(tags=["gestore_sync"])


def test_every_key_has_wrong_and_right_values_here() -> None:
    assert WRONG_VALUES.keys() == RIGHT_VALUES.keys() == OPTIONS.keys()


# System checks


def test_the_settings_of_these_tests_are_right() -> None:
    assert find_errors() == []


def test_without_any_setting_of_ours_there_is_nothing_to_tell(settings: Any) -> None:
    del settings.SYNCHRO_REMOTE
    assert not hasattr(settings, "GESTORE_SYNC")

    assert find_errors() == []


@pytest.mark.parametrize(("key", "value"), pairs(WRONG_VALUES))
def test_a_wrong_value_is_an_error_that_says_what_the_key_takes(key: str, value: Any) -> None:
    with override_settings(GESTORE_SYNC={key: value}):
        (error,) = find_errors()

    assert error.id == "gestore_sync.E001"
    assert error.is_serious()
    assert f"GESTORE_SYNC[{key!r}] is {OPTIONS[key].show(value)}." in error.msg
    assert (repr(value) in error.msg) is not key.startswith("SIGNING_")
    assert error.hint == f"It takes {OPTIONS[key].takes}."


@pytest.mark.parametrize(("key", "value"), pairs(RIGHT_VALUES))
def test_a_right_value_is_no_error_and_is_what_counts(key: str, value: Any) -> None:
    with override_settings(GESTORE_SYNC={key: value}):
        assert find_errors() == []
        assert get_option(key) == value


def test_an_unknown_key_is_an_error_that_names_the_known_ones() -> None:
    with override_settings(GESTORE_SYNC={"BATCHSIZE": 5}):
        (error,) = find_errors()

    assert error.id == "gestore_sync.E001"
    assert error.msg == "GESTORE_SYNC has no key 'BATCHSIZE'."
    assert error.hint is not None
    assert all(key in error.hint for key in OPTIONS)


@pytest.mark.parametrize("value", [[("BATCH_SIZE", 5)], "BATCH_SIZE", 5, True])
def test_anything_but_a_dictionary_is_an_error(value: Any) -> None:
    with override_settings(GESTORE_SYNC=value):
        (error,) = find_errors()

    assert error.id == "gestore_sync.E001"
    assert error.msg == "GESTORE_SYNC is not a dictionary."
    assert error.hint


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("OWN", ["campus.Nothing.tags"], "campus.Nothing"),
        ("REFER", ["nowhere.Course.tags"], "nowhere.Course"),
        ("IGNORE", ["campus.Nothing"], "campus.Nothing"),
        ("IGNORE", ["campus.Nothing.tags"], "campus.Nothing"),
        ("IGNORE", ["campus"], "campus"),
        ("STOP", ["campus.Nothing"], "campus.Nothing"),
        ("IDENTITY", {"campus.Nothing": ["code"]}, "campus.Nothing"),
        ("SIGNALS", {"*": "raw", "campus.Nothing": "save"}, "campus.Nothing"),
        ("CONFLICTS", {"*": "newer", "campus.Nothing": "local"}, "campus.Nothing"),
        ("CONFLICTS", {"campus.Course.nothing": "local"}, "campus.Course.nothing"),
        ("CONFLICTS", {"campus.Course.organization.name": "local"}, "campus.Course.organization.name"),
        ("CONFLICTS", {"campus": "local"}, "campus."),
        ("ADAPTERS", ["nowhere.adapters.ShelfAdapter"], "nowhere.adapters.ShelfAdapter"),
        ("ADAPTERS", ["gestore_sync.adapters.ShelfAdapter"], "gestore_sync.adapters.ShelfAdapter"),
        ("ADAPTERS", ["pathlib.Path"], "pathlib.Path"),
    ],
)
def test_a_name_that_stands_for_nothing_is_an_error_that_names_it(key: str, value: Any, named: str) -> None:
    with override_settings(GESTORE_SYNC={key: value}):
        (error,) = find_errors()

    assert error.id == "gestore_sync.E003"
    assert error.is_serious()
    assert key in error.msg
    assert named in error.msg
    assert error.hint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("policies.parcel", "policies.Parcel"),
        ("policies.Parcel.text", "policies.PARCEL.text"),
        ("policies.Remark.subject", "policies.Remark.object_id"),
        ("policies.Remark.content_type", "policies.remark.object_id"),
    ],
)
def test_two_rules_for_one_thing_that_say_otherwise_are_an_error_that_names_both(one: str, other: str) -> None:
    with override_settings(GESTORE_SYNC={"CONFLICTS": {one: "local", "*": "fail", other: "remote"}}):
        (error,) = find_errors()
        with pytest.raises(WrongSetting, match="two rules for one thing"):
            get_policies()

    assert error.id == "gestore_sync.E003"
    assert error.is_serious()
    assert f"{one!r} says 'local', and {other!r} says 'remote'" in error.msg
    assert error.hint == f"Keep one of {one!r} and {other!r}."


@pytest.mark.parametrize(
    "rules",
    [
        {"policies.parcel": "local", "policies.Parcel": "local"},
        {"policies.Remark.subject": "remote", "policies.Remark.object_id": "remote"},
        {"policies.Parcel": "local", "policies.Parcel.text": "remote", "*": "fail"},
        {"policies.Vehicle": "local", "policies.Truck": "remote"},
    ],
    ids=str,
)
def test_rules_that_agree_or_are_about_other_things_are_no_error(rules: dict[str, str]) -> None:
    with override_settings(GESTORE_SYNC={"CONFLICTS": rules}):
        assert find_errors() == []
        assert get_policies().default == rules.get("*", "newer")


def test_each_mistake_is_told() -> None:
    with override_settings(GESTORE_SYNC={"BATCH_SIZE": 0, "REACH": "far", "PRUNE": True}):
        found = [error.msg for error in find_errors()]

    assert len(found) == 3
    assert all(any(key in message for message in found) for key in ("BATCH_SIZE", "REACH", "PRUNE"))


def test_an_unknown_remote_is_an_error_that_names_the_databases() -> None:
    with override_settings(SYNCHRO_REMOTE="remotte"):
        (error,) = find_errors()

    assert error.id == "gestore_sync.E002"
    assert error.is_serious()
    assert error.msg == "SYNCHRO_REMOTE is 'remotte', which is not in DATABASES."
    assert error.hint is not None
    assert "default, pg_local, pg_remote, remote" in error.hint


@pytest.mark.parametrize("remote", [None, "remote"])
def test_no_remote_and_a_known_one_are_no_errors(remote: str | None) -> None:
    with override_settings(SYNCHRO_REMOTE=remote):
        assert find_errors() == []


@override_settings(GESTORE_SYNC={"BATCH_SIZE": 0}, SYNCHRO_REMOTE="remotte")
def test_manage_py_check_tells_mistakes_and_their_hints() -> None:
    with pytest.raises(SystemCheckError) as caught:
        call_command("check", tags=["gestore_sync"])

    text = str(caught.value)
    assert re.search(r"\(gestore_sync\.E001\).*BATCH_SIZE.*\n\s*HINT: It takes a whole number from 1\.", text)
    assert re.search(r"\(gestore_sync\.E002\).*remotte.*\n\s*HINT: The databases are", text)


# Reading the settings


@pytest.mark.parametrize("key", OPTIONS)
def test_every_default_is_a_value_that_the_key_takes(key: str) -> None:
    assert OPTIONS[key].accepts(OPTIONS[key].default)


@pytest.mark.parametrize("key", OPTIONS)
def test_a_key_that_is_not_given_has_its_default(key: str) -> None:
    with override_settings(GESTORE_SYNC={}):
        assert get_option(key) == OPTIONS[key].default


@pytest.mark.parametrize(("key", "value"), pairs(WRONG_VALUES))
def test_a_wrong_value_is_refused_when_it_is_read(key: str, value: Any) -> None:
    with override_settings(GESTORE_SYNC={key: value}), pytest.raises(WrongSetting) as caught:
        get_option(key)

    assert key in str(caught.value)
    assert OPTIONS[key].takes in str(caught.value)


def test_settings_are_read_when_they_are_asked_for() -> None:
    read = [get_option("BATCH_SIZE")]
    with override_settings(GESTORE_SYNC={"BATCH_SIZE": 7}):
        read.append(get_option("BATCH_SIZE"))
        with override_settings(GESTORE_SYNC={}):
            read.append(get_option("BATCH_SIZE"))
    read.append(get_option("BATCH_SIZE"))

    assert read == [10_000, 7, 10_000, 10_000]


@pytest.mark.parametrize(
    ("value", "of_course", "of_tag"),
    [
        ("save", "save", "save"),
        ({"campus.Course": "save"}, "save", "raw"),
        ({"CAMPUS.course": "save", "*": "none"}, "save", "none"),
        ({}, "raw", "raw"),
    ],
)
def test_signals_are_set_for_all_or_by_model(value: Any, of_course: str, of_tag: str) -> None:
    with override_settings(GESTORE_SYNC={"SIGNALS": value}):
        assert get_signal_mode("campus.Course") == of_course
        assert get_signal_mode("campus.Tag") == of_tag


# SYNCHRO_REMOTE


def test_the_remote_is_the_alias_that_is_set(settings: Any) -> None:
    settings.SYNCHRO_REMOTE = "pg_remote"

    assert find_remote() == "pg_remote"


def test_a_missing_remote_is_none_and_warns(settings: Any) -> None:
    del settings.SYNCHRO_REMOTE

    with pytest.warns(RuntimeWarning, match="SYNCHRO_REMOTE is not set"):
        assert find_remote() is None


def test_none_is_none_without_a_warning(settings: Any) -> None:
    settings.SYNCHRO_REMOTE = None

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_remote() is None


def test_a_remote_that_is_no_database_is_improperly_configured(settings: Any) -> None:
    settings.SYNCHRO_REMOTE = "remotte"

    with pytest.raises(ImproperlyConfigured, match="'remotte', which is not in DATABASES"):
        find_remote()


def test_nothing_is_pushed_without_a_remote(settings: Any) -> None:
    settings.SYNCHRO_REMOTE = None

    with pytest.raises(WrongDatabase, match=r"^No REMOTE database specified in settings\.$"):
        api.synchronize(["campus.Tag.1"])
    with pytest.raises(CommandError, match=r"^No REMOTE database specified in settings\.$"):
        call_command("synchronize", "--root", "campus.Tag.1")


@pytest.mark.django_db(databases=["default", "remote"])
def test_a_remote_that_is_named_needs_no_setting(settings: Any) -> None:
    del settings.SYNCHRO_REMOTE
    tag = Tag.objects.create(name="botany")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = api.synchronize([tag], remote="remote")

    assert report.created == {"campus.Tag": 1}
    assert Tag.objects.using("remote").get().name == "botany"


# What a push makes of them


@pytest.mark.django_db(databases=["default", "remote"])
@pytest.mark.parametrize(
    ("key", "value"), [("BATCH_SIZE", 0), ("REACH", "far"), ("ADAPTERS", "mptt"), ("IDENTITY", ["code"])]
)
def test_a_push_with_a_wrong_setting_names_it_and_writes_nothing(key: str, value: Any) -> None:
    tag = Tag.objects.create(name="botany")

    with override_settings(GESTORE_SYNC={key: value}), pytest.raises(WrongSetting, match=key):
        api.synchronize([tag])

    assert not Tag.objects.using("remote").exists()


@pytest.mark.django_db(databases=["default", "remote"])
def test_a_field_that_a_model_lacks_is_refused_as_its_identity() -> None:
    tag = Tag.objects.create(name="botany")

    with (
        override_settings(GESTORE_SYNC={"IDENTITY": {"campus.Tag": ["label"]}}),
        pytest.raises(WrongSetting, match="names 'label', which is no field of the model"),
    ):
        api.synchronize([tag])

    assert not Tag.objects.using("remote").exists()

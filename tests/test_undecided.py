"""``manage.py check --tag gestore_sync`` names what nobody has decided in the models that are logged."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core import checks
from django.core.management import call_command
from django.test import override_settings

from testproject.settings import GESTORE_SYNC as CAMPUS
from testproject.settings import SYNCHRO_MODELS as CAMPUS_MODELS

VAULT = ("vault",)
SOFT = ["vault.Order.customer_uuid", "vault.Order.external_id", "vault.Order.shop_id"]
SECRETS = ["vault.Customer.api_key", "vault.Customer.backupCode", "vault.Customer.password"]


def find(number: str, *watched: Any, **options: Any) -> list[checks.CheckMessage]:
    """The warnings with this id, for the models that are watched and options of ``GESTORE_SYNC``."""
    with override_settings(SYNCHRO_MODELS=watched or VAULT, GESTORE_SYNC=options):
        found = checks.run_checks(tags=["gestore_sync"])
    assert {message.level for message in found} <= {checks.WARNING}
    assert all(message.hint for message in found)
    return [message for message in found if message.id == f"gestore_sync.{number}"]


def names(found: list[checks.CheckMessage]) -> list[str]:
    """What each warning begins with."""
    return sorted(message.msg.split()[0].rstrip(",") for message in found)


def test_a_field_that_looks_like_a_key_is_named() -> None:
    found = find("W004")

    assert names(found) == SOFT
    assert any("vault.Order.customer_uuid looks like a key of vault.Customer" in message.msg for message in found)
    assert "SYNCHRO_SKIP" in str(found[0].hint)
    assert 'GESTORE_SYNC["DECIDED"]' in str(found[0].hint)


def test_a_key_that_identifies_its_own_object_is_decided() -> None:
    assert names(find("W004", IDENTITY={"vault.Order": ["external_id"]})) == [SOFT[0], SOFT[2]]


def test_positions_in_a_tree_are_no_keys() -> None:
    assert names(find("W004", "trees")) == []


def test_a_generic_key_without_a_relation_is_named() -> None:
    assert names(find("W005", "logged")) == ["logged.Comment.subject"]
    assert names(find("W005", "policies")) == []
    assert names(find("W005", "logged", REFER=["logged.Comment.subject"])) == []


def test_a_content_type_with_a_number_beside_it_is_named() -> None:
    found = find("W005")

    assert names(found) == ["vault.Event.target_object_id"]
    assert "target_content_type" in found[0].msg


def test_a_field_that_looks_like_a_secret_is_named() -> None:
    assert names(find("W006")) == SECRETS


def test_a_protected_field_is_decided() -> None:
    assert names(find("W006", PROTECTED_FIELDS=["vault.Customer.password"])) == SECRETS[:2]


def test_a_link_that_survives_what_it_points_to_is_named() -> None:
    found = find("W007")

    assert names(found) == ["vault.Order.seller"]
    assert "not taken along with a vault.Customer" in found[0].msg


def test_every_way_of_surviving_is_named() -> None:
    claims = {"policies.Claim.parcel", "policies.Claim.default", "policies.Claim.value", "policies.Trace.parcel"}

    assert claims <= set(names(find("W007", "policies")))


@pytest.mark.parametrize("key", ["OWN", "REFER", "IGNORE"])
def test_a_link_of_the_scope_is_decided(key: str) -> None:
    assert find("W007", **{key: ["vault.Order.seller"]}) == []


def test_what_belongs_to_a_logged_model_and_is_not_logged_is_named() -> None:
    found = find("W008", ("vault", "Customer", "Order", "Label"))

    assert names(found) == ["vault.Line.order"]
    assert "Name vault.Line in SYNCHRO_MODELS" in str(found[0].hint)
    assert find("W008") == []


def test_a_model_that_is_left_out_is_decided() -> None:
    assert find("W008", ("vault", "Customer", "Order", "Label"), IGNORE=["vault.Line"]) == []


def test_an_automatic_table_is_named_by_its_field() -> None:
    assert names(find("W008", ("vault", "Customer", "Label"))) == ["vault.Order.customer", "vault.Order.labels"]


def test_what_logged_models_point_to_and_is_not_logged_is_named_once() -> None:
    found = find("W009", ("vault", "Order", "Line"))

    assert len(found) == 2
    assert "vault.Order.customer, vault.Order.seller point to vault.Customer, which is not logged" in found[0].msg
    assert "vault.Order.labels points to vault.Label, which is not logged" in found[1].msg


@pytest.mark.parametrize("key", ["STOP", "DECIDED", "IGNORE"])
def test_a_model_that_is_named_is_decided(key: str) -> None:
    found = find("W009", ("vault", "Order", "Line"), **{key: ["vault.Customer", "vault.Label"]})

    assert found == []


def test_what_is_named_as_decided_is_decided() -> None:
    numbers = ["W004", "W005", "W006", "W007"]
    every = [name for number in numbers for name in names(find(number))]
    assert len(every) == 8

    assert [found for number in numbers for found in find(number, DECIDED=every)] == []


@pytest.mark.parametrize(
    "name", ["vault.Nothing", "vault.Order.nothing", "nothing.Order.customer", "Order", "vault.Order.customer.name"]
)
def test_a_name_that_stands_for_nothing_is_an_error(name: str) -> None:
    with override_settings(GESTORE_SYNC={"DECIDED": [name]}):
        (error,) = checks.run_checks(tags=["gestore_sync"])

    assert error.id == "gestore_sync.E003"
    assert repr(name) in error.msg
    assert error.hint


def test_where_nothing_is_logged_there_is_nothing_to_decide() -> None:
    assert checks.run_checks(tags=["gestore_sync"]) == []


def test_in_the_test_project_everything_is_decided() -> None:
    with override_settings(SYNCHRO_MODELS=CAMPUS_MODELS, GESTORE_SYNC=CAMPUS):
        assert checks.run_checks(tags=["gestore_sync"]) == []
    with override_settings(SYNCHRO_MODELS=CAMPUS_MODELS, GESTORE_SYNC={}):
        assert len(checks.run_checks(tags=["gestore_sync"])) == len(CAMPUS["DECIDED"])


@override_settings(SYNCHRO_MODELS=VAULT)
def test_check_names_what_is_undecided() -> None:
    told = io.StringIO()

    call_command("check", "--tag", "gestore_sync", stderr=told)

    assert "(gestore_sync.W006) vault.Customer.password looks like a secret" in told.getvalue()
    assert "HINT: Name it in SYNCHRO_SKIP" in told.getvalue()


@pytest.mark.django_db(databases=["default", "remote"])
@override_settings(SYNCHRO_MODELS=VAULT)
def test_the_commands_do_not_repeat_it(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("synchronize", "--format", "json", skip_checks=False)

    written = capsys.readouterr()
    assert json.loads(written.out)["created"] == {}
    assert written.err == ""

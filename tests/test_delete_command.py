from __future__ import annotations

import io
import json
import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.deletions import DELETED, Ground, on_each, standing_on
from tests.kinds import models as kinds
from tests.kinds.making import make, make_many
from tests.policies.watching import read_only

Type = Callable[[str], int]


@pytest.fixture(params=on_each())
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with standing_on(request.param) as ground:
        yield ground


@pytest.fixture
def type_at_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Type]:
    """A function that types a line at a terminal, which is the standard input."""
    leader, follower = pty.openpty()
    with os.fdopen(follower) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        yield lambda line: os.write(leader, f"{line}\n".encode())
    os.close(leader)


def run(ground: Ground, *arguments: str) -> tuple[str, str]:
    """Run the command; return what it writes on standard output and on standard error."""
    output, errors = io.StringIO(), io.StringIO()
    try:
        call_command("deleteobjects", "--database", ground.using, *arguments, stdout=output, stderr=errors)
    except (CommandError, SystemExit) as error:
        error.shown = output.getvalue(), errors.getvalue()  # type: ignore[union-attr]
        raise
    return output.getvalue(), errors.getvalue()


def fail(ground: Ground, *arguments: str) -> tuple[str, str, str]:
    """Run the command, which must fail and leave all as it was; return its error and what it writes."""
    before = ground.picture()
    with pytest.raises(CommandError) as caught:
        run(ground, *arguments)
    assert ground.picture() == before
    assert caught.value.returncode == 1
    return str(caught.value), *caught.value.shown  # type: ignore[attr-defined]


def name(instance: Any) -> str:
    return f"{instance._meta.label}.{instance.pk}"


def make_shop(ground: Ground) -> kinds.Shop:
    shop = make(kinds.Shop, ground.using)
    make_many(kinds.Order, ground.using, 2, shop=shop)
    make(kinds.Visit, ground.using, shop=shop)
    return shop


def lines(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_the_plan_is_shown_and_done_when_the_name_is_typed(ground: Ground, type_at_terminal: Type) -> None:
    shop = make_shop(ground)
    type_at_terminal(name(shop))

    output, errors = run(ground, name(shop))

    assert ["model", "updated", "deleted", "through"] in lines(output)
    assert ["kinds.Order", "2", "kinds.Order.shop"] in lines(output)
    assert "kinds.Visit.shop of 1 row that stays is set to null." in output
    assert errors == f"Type {name(shop)} to delete all of this: "
    assert output.splitlines()[-1] == DELETED
    assert not ground.rows(kinds.Shop).exists()


@pytest.mark.parametrize("answer", ["", "yes", "kinds.Shop"])
def test_another_answer_deletes_nothing(ground: Ground, type_at_terminal: Type, answer: str) -> None:
    shop = make_shop(ground)
    type_at_terminal(answer)

    error, output, _ = fail(ground, name(shop))

    assert error == "Nothing was deleted: it was not confirmed."
    assert "kinds.Order" in output


def test_of_several_objects_all_names_are_typed_as_they_were_given(ground: Ground, type_at_terminal: Type) -> None:
    shop, currency = make_shop(ground), make(kinds.Currency, ground.using, code="EUR")
    type_at_terminal(f"kinds.shop.{shop.pk} kinds.Currency.code=EUR")

    run(ground, f"kinds.shop.{shop.pk}", "kinds.Currency.code=EUR")

    assert not ground.rows(kinds.Shop).exists()
    assert not ground.rows(kinds.Currency).filter(pk=currency.pk).exists()


def test_without_a_terminal_it_is_an_error_that_names_the_flag(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = make_shop(ground)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{name(shop)}\n"))

    error, _, _ = fail(ground, name(shop))

    assert "--noinput" in error


def test_noinput_asks_nothing(ground: Ground) -> None:
    shop = make_shop(ground)

    output, errors = run(ground, name(shop), "--noinput")

    assert output.splitlines()[-1] == DELETED
    assert errors == ""


@pytest.mark.parametrize("flag", ["-d", "--debug"])
def test_debug_shows_only(ground: Ground, flag: str) -> None:
    shop = make_shop(ground)
    before = ground.picture()

    with read_only(ground.using):
        output, _ = run(ground, flag, name(shop))

    assert ["kinds.Order", "2", "kinds.Order.shop"] in lines(output)
    assert output.splitlines()[-1] == "Nothing was deleted: this is what would be done."
    assert ground.picture() == before


def test_json_is_alone_on_standard_output(ground: Ground, type_at_terminal: Type) -> None:
    shop = make_shop(ground)
    type_at_terminal(name(shop))

    output, errors = run(ground, name(shop), "--format", "json")

    document = json.loads(output)
    assert document["message"] == DELETED
    assert document["deleted"] == {"kinds.Order": 2, "kinds.Shop": 1}
    assert document["mentions"] == {"kinds.Visit.shop": 1}
    assert ["kinds.Order", "2", "kinds.Order.shop"] in lines(errors)


def test_json_is_printed_where_nobody_confirms(ground: Ground, type_at_terminal: Type) -> None:
    shop = make_shop(ground)
    type_at_terminal("no")

    error, output, _ = fail(ground, name(shop), "--format", "json")

    assert json.loads(output)["error"] == error


def test_what_stands_in_the_way_is_shown_and_ends_with_1(ground: Ground) -> None:
    shop = make_shop(ground)
    rating = make(kinds.Rating, ground.using, shop=shop)

    error, output, _ = fail(ground, name(shop), "--format", "json", "--noinput")
    with pytest.raises(SystemExit) as caught:
        run(ground, name(shop), "--debug")

    assert name(rating) in error
    assert [conflict["pk"] for conflict in json.loads(output)["conflicts"]] == [str(rating.pk)]
    assert caught.value.code == 1
    assert name(rating) in caught.value.shown[0]  # type: ignore[attr-defined]


def test_what_stands_in_the_way_is_told_before_anybody_is_asked(ground: Ground, type_at_terminal: Type) -> None:
    shop = make(kinds.Rating, ground.using).shop

    _, _, errors = fail(ground, name(shop))

    assert "Type" not in errors


def test_flags_stand_before_or_after_the_objects(ground: Ground, tmp_path: Path) -> None:
    shop, other = make_shop(ground), make_shop(ground)
    own = ["--own", "kinds.Visit.shop"]

    run(ground, *own, "--noinput", name(shop))
    run(ground, name(other), *own, "--orphans", "--backup", str(tmp_path / "all.tar.gz"), "--files", "--noinput")

    assert not ground.rows(kinds.Visit).exists()
    assert ground.rows(kinds.Currency).count() == 1
    assert (tmp_path / "all.tar.gz").exists()


def test_errors_are_one_line(ground: Ground) -> None:
    for arguments in (["kinds.Shop.4711"], ["kinds.Shop.1", "--own", "kinds.Shop.x"], ["nothing"]):
        error, output, _ = fail(ground, *arguments, "--noinput")
        assert "\n" not in error
        assert output == ""


def test_a_database_that_does_not_exist_is_an_error(ground: Ground) -> None:
    with pytest.raises(CommandError, match="There is no database 'nowhere'"):
        call_command("deleteobjects", "kinds.Shop.1", "--database", "nowhere", "--noinput", stdout=io.StringIO())


def test_objects_are_required() -> None:
    with pytest.raises(CommandError, match="OBJECT"):
        call_command("deleteobjects")

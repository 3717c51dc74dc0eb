"""What an application does after a commit may fail: what was committed stands, and what belongs to it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, models, transaction
from django.db.models.signals import post_delete, post_save
from django.test import override_settings

from gestore_sync import api, mappings, pushing
from gestore_sync.exceptions import HookFailed
from tests.conftest import Pair
from tests.kinds.making import make
from tests.kinds.models import Box, Values
from tests.logged.models import Product
from tests.logged.sites import Sites, add, change, ready, receiving
from tests.policies.watching import pairings

LIVE = pairings("sqlite-sqlite", "postgresql-postgresql", live=True)


@pytest.fixture(params=LIVE)
def sites(request: pytest.FixtureRequest, settings: Any) -> Iterator[Sites]:
    settings.SYNCHRO_MODELS = ("logged",)
    pair: Pair = request.param
    with ready(pair) as sites:
        yield sites


@contextmanager
def failing_after(using: str, *senders: type[models.Model], error: Exception) -> Iterator[None]:
    """Let the application fail after each commit of a transaction that has written one of these models."""

    def fail() -> None:
        raise error

    def hear(using: str, **sent: Any) -> None:
        if using == there:
            transaction.on_commit(fail, using=using)

    there = using
    with receiving(post_save, hear, *senders), receiving(post_delete, hear, *senders):
        yield


@pytest.fixture
def bare(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> Sites:
    """Sites of which the remote one has no tables of ours: the id mappings are kept at the local one."""
    for module in (mappings, pushing):
        monkeypatch.setattr(module, "has_tables", lambda using: using != sites.remote)
    return sites


@pytest.mark.parametrize("error", [RuntimeError("no mail"), DatabaseError("no such table")])
def test_a_push_whose_hook_fails_says_that_it_is_done(sites: Sites, error: Exception) -> None:
    lamp = add(Product, sites.local, name="lamp")

    with (
        failing_after(sites.remote, Product, error=error),
        pytest.raises(HookFailed, match="is committed and stays") as caught,
    ):
        sites.send(lamp)

    assert str(error) in str(caught.value)
    assert caught.value.__cause__ is error
    assert sites.arrived(Product, "name") == ["lamp"]


def test_mappings_that_are_kept_here_are_kept_where_a_hook_of_the_remote_fails(bare: Sites) -> None:
    lamp = add(Product, bare.local, name="lamp")

    with failing_after(bare.remote, Product, error=RuntimeError("no mail")), pytest.raises(HookFailed):
        bare.send(lamp)
    report = bare.send(lamp)

    assert bare.arrived(Product, "name") == ["lamp"]
    assert report.message == "No changes since last synchronization."


def test_changes_whose_hook_fails_are_not_sent_twice(bare: Sites) -> None:
    lamp = add(Product, bare.local, name="lamp")

    with failing_after(bare.remote, Product, error=RuntimeError("no mail")), pytest.raises(HookFailed):
        bare.send()
    change(lamp, price=2)
    bare.send()

    assert bare.arrived(Product, "name", "price") == [("lamp", 2)]
    assert bare.get_pending() == {}


def test_an_import_whose_hook_fails_keeps_its_files(sites: Sites, tmp_path: Path) -> None:
    for side in ("here", "there"):
        (tmp_path / side).mkdir()
    (tmp_path / "here" / "a.txt").write_text("first")
    box = make(Box, sites.local)
    make(Values, sites.local, box=box, file="a.txt")
    with override_settings(MEDIA_ROOT=str(tmp_path / "here")):
        api.export_objects(box, str(tmp_path / "a.tar.gz"), database=sites.local)

    with (
        override_settings(MEDIA_ROOT=str(tmp_path / "there")),
        failing_after(sites.remote, Values, error=RuntimeError("no mail")),
        pytest.raises(HookFailed),
    ):
        api.import_objects(str(tmp_path / "a.tar.gz"), database=sites.remote)

    assert sites.there(Values).get().file.name == "a.txt"
    assert (tmp_path / "there" / "a.txt").read_text() == "first"


def test_a_deletion_whose_hook_fails_says_that_it_is_done(sites: Sites) -> None:
    lamp = add(Product, sites.local, name="lamp")

    with failing_after(sites.local, Product, error=DatabaseError("no")), pytest.raises(HookFailed):
        api.delete_objects([lamp], database=sites.local)

    assert not sites.here(Product).exists()


def test_a_restored_value_is_noted_as_such_where_a_hook_fails(bare: Sites) -> None:
    lamp = add(Product, bare.local, name="lamp")
    bare.send(lamp)
    bare.there(Product).update(name="theirs")
    change(lamp, name="ours")
    bare.send(lamp, on_conflict="local")
    (lost,) = api.list_conflicts(database=bare.local).conflicts

    with failing_after(bare.remote, Product, error=RuntimeError("no mail")), pytest.raises(HookFailed):
        api.resolve_conflicts([lost["id"]], "remote", database=bare.local)

    assert bare.arrived(Product, "name") == ["theirs"]
    assert api.list_conflicts(database=bare.local).conflicts == []

"""``synchronize --move``: push, see that all has arrived, delete at the source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from gestore_sync import api
from gestore_sync.exceptions import LocationUnavailable, NotArrived, NotConfirmed, UnknownObject, WriteFailed
from gestore_sync.models import ChangeLog
from tests.conftest import Pair
from tests.kinds.making import make
from tests.policies.models import Article, Depot, Parcel
from tests.policies.watching import Watch, pairings, refuse_text

ONE = pairings("postgresql-sqlite")


@pytest.fixture
def watch(pair: Pair) -> Watch:
    return Watch(pair)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot with an article and two parcels, beside another depot that stays."""
    make(Parcel, watch.source, depot=make(Depot, watch.source, name="theirs"), text="stays")
    depot = make(Depot, watch.source, name="ours")
    make(Article, watch.source, depot=depot, code="a")
    make(Parcel, watch.source, depot=depot, text="x")
    make(Parcel, watch.source, depot=depot, text="y")
    return depot


def move(watch: Watch, *roots: Any, backup: Path, **options: Any) -> api.Report:
    return watch.synchronize(*roots, move=True, backup=str(backup), **options)


def texts(rows: Any) -> list[str]:
    return sorted(rows.values_list("text", flat=True))


def test_a_move_leaves_everything_on_the_target_and_nothing_at_the_source(
    watch: Watch, depot: Depot, tmp_path: Path
) -> None:
    report = move(watch, depot, backup=tmp_path / "backup.tar.gz")

    assert texts(watch.on_target(Parcel)) == ["x", "y"]
    assert texts(watch.on_source(Parcel)) == ["stays"]
    assert report.created["policies.Parcel"] == report.moved["policies.Parcel"] == 2
    assert report.as_dict()["moved"]["policies.Depot"] == 1


def test_the_backup_brings_a_moved_object_back(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    before = Watch(Pair(watch.target, watch.source)).picture()[Parcel]
    move(watch, depot, backup=tmp_path / "backup.tar.gz")

    api.import_objects(str(tmp_path / "backup.tar.gz"), database=watch.source)

    assert Watch(Pair(watch.target, watch.source)).picture()[Parcel] == before


def test_a_row_that_the_target_keeps_otherwise_stops_the_move(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    watch.push(depot)
    watch.on_target(Parcel).filter(text="x").update(text="changed there")
    before = Watch(Pair(watch.target, watch.source)).picture()

    with pytest.raises(NotArrived, match=r"policies\.Parcel"):
        move(watch, depot, backup=tmp_path / "backup.tar.gz")

    after = Watch(Pair(watch.target, watch.source)).picture()
    assert {model: rows for model, rows in after.items() if model._meta.app_label != "gestore_sync"} == {
        model: rows for model, rows in before.items() if model._meta.app_label != "gestore_sync"
    }
    assert not (tmp_path / "backup.tar.gz").exists()


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-postgresql"), indirect=True)
def test_a_push_that_fails_deletes_nothing(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    refuse_text(watch.target, "policies_parcel", "text", "y")

    with pytest.raises(WriteFailed):
        move(watch, depot, backup=tmp_path / "backup.tar.gz")

    assert texts(watch.on_source(Parcel)) == ["stays", "x", "y"]


def test_a_backup_that_cannot_be_written_deletes_nothing(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(LocationUnavailable):
        move(watch, depot, backup=tmp_path / "file" / "backup.tar.gz")

    assert texts(watch.on_source(Parcel)) == ["stays", "x", "y"]


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_move_without_roots_is_refused(watch: Watch, tmp_path: Path) -> None:
    error = watch.refuse(move=True, backup=str(tmp_path / "backup.tar.gz"))

    assert isinstance(error, UnknownObject)
    assert "--root" in str(error)


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_dry_run_of_a_move_writes_and_deletes_nothing(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    report = move(watch, depot, backup=tmp_path / "backup.tar.gz", dry_run=True)

    assert report.created["policies.Parcel"] == 2
    assert not watch.on_target(Parcel).exists()
    assert texts(watch.on_source(Parcel)) == ["stays", "x", "y"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_a_move_that_is_not_confirmed_deletes_nothing(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    shown: list[api.Report] = []

    def refuse(report: api.Report) -> bool:
        shown.append(report)
        return False

    with pytest.raises(NotConfirmed):
        move(watch, depot, backup=tmp_path / "backup.tar.gz", confirm=refuse)

    assert shown[0].deleted["policies.Parcel"] == 2
    assert texts(watch.on_source(Parcel)) == ["stays", "x", "y"]


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_command_asks_before_it_deletes(watch: Watch, depot: Depot, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--noinput"):
        call_command(
            "synchronize",
            "--root",
            f"policies.Depot.{depot.pk}",
            "--move",
            "--source",
            watch.source,
            "--remote",
            watch.target,
        )

    assert texts(watch.on_source(Parcel)) == ["stays", "x", "y"]


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_command_moves(watch: Watch, depot: Depot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup = tmp_path / "backup.tar.zst"
    name = f"policies.Depot.{depot.pk}"

    call_command(
        *("synchronize", "--root", name, "--move", "--backup", str(backup), "--noinput", "--format", "json"),
        *("--source", watch.source, "--remote", watch.target),
    )

    document = json.loads(capsys.readouterr().out)
    assert document["moved"]["policies.Parcel"] == 2
    assert document["location"] == str(backup)
    assert backup.exists()
    assert texts(watch.on_source(Parcel)) == ["stays"]


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-postgresql"), indirect=True)
def test_the_target_never_hears_that_what_moved_there_was_deleted(
    watch: Watch, depot: Depot, tmp_path: Path, settings: Any
) -> None:
    settings.SYNCHRO_MODELS = ["policies"]
    make(Parcel, watch.source, depot=depot, text="logged")
    move(watch, depot, backup=tmp_path / "backup.tar.gz")

    report = watch.synchronize()

    assert texts(watch.on_target(Parcel)) == ["logged", "x", "y"]
    assert report.deleted == {}
    assert ChangeLog.objects.using(watch.source).filter(state=0, action=3).count() == 0
    assert connections[watch.target].is_usable()

from __future__ import annotations

import datetime as dt
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gestore_sync import api
from gestore_sync.exceptions import UnresolvedConflicts
from gestore_sync.models import ChangeLog, IdMapping
from tests.carrying import FORMATS, Courier, carried, edit, find_record
from tests.conftest import Pair
from tests.kinds import models as kinds
from tests.kinds.making import make, make_crowd
from tests.kinds.pushing import rows
from tests.policies.models import (
    Area,
    Article,
    Brand,
    Claim,
    Colour,
    Depot,
    Parcel,
    Remark,
    Scan,
    Shift,
    Truck,
    Van,
    Vehicle,
    Worker,
)
from tests.policies.watching import pairings
from tests.test_cost import PEAK, fill, folder, run

__all__ = ["folder"]  # a fixture

LABELS = ("policies", "kinds", "auth", "contenttypes", "sites")
POLICIES = ("fail", "skip", "override", "remap", "newer")


@pytest.fixture
def courier(pair: Pair, tmp_path: Path) -> Iterator[Courier]:
    with carried(pair, tmp_path, *LABELS) as courier:
        yield courier


def make_depot(using: str, **values: Any) -> Depot:
    """Make a depot with a row or two of what can belong to it."""
    depot = make(Depot, using, name="ours", **values)
    brand, worker = make(Brand, using, name="acme"), make(Worker, using, email="ann", badge=7)
    parcel = make(Parcel, using, depot=depot, number="1", text="a", brand=brand)
    make(Scan, using, parcel=parcel, text="seen")
    make(Article, using, depot=depot, code="x", title="a")
    make(Shift, using, depot=depot, worker=worker, hours=8)
    depot.colours.add(make(Colour, using, name="red"))
    kind = ContentType.objects.db_manager(using).get_for_model(Parcel)
    make(Remark, using, content_type=kind, object_id=parcel.pk, text="fragile")
    return depot


def carry(courier: Courier, depot: Depot) -> None:
    """Import a depot into the target for the first time."""
    courier.push(depot, on_conflict="remap")


# What an import leaves behind


@pytest.mark.parametrize("ending", FORMATS)
def test_what_was_imported_needs_no_push_and_no_second_import(courier: Courier, ending: str) -> None:
    courier.ending = ending
    make_crowd(courier.target, Depot, Parcel, Scan, Worker, Brand, Colour)
    depot = make_depot(courier.source)
    path = courier.export(depot)

    report = courier.take(path, on_conflict="remap")

    assert report.created["policies.Parcel"] == 1
    theirs = courier.on_target(Depot).get(name="ours")
    assert courier.on_target(Remark).get().object_id == courier.on_target(Parcel).get(depot=theirs).pk
    assert [colour.name for colour in theirs.colours.all()] == ["red"]
    courier.live_nothing(depot)
    for policy in POLICIES:
        courier.take_nothing(path, on_conflict=policy)


def test_what_was_pushed_needs_no_import(courier: Courier) -> None:
    make_crowd(courier.target, Depot, Parcel, Scan)
    depot = make_depot(courier.source)
    courier.live(depot)

    for courier.ending in FORMATS:
        courier.take_nothing(courier.export(depot))
    courier.live_nothing(depot)


def test_an_empty_target_gets_the_same_keys_and_goes_on_counting_after_them(courier: Courier) -> None:
    make_crowd(courier.source, Depot, Parcel, Worker)
    depot = make_depot(courier.source)

    courier.push(depot)

    for model in (Depot, Parcel, Scan, Article, Shift, Worker, Brand, Colour, Remark):
        mine = set(courier.on_source(model).values_list("pk", flat=True))
        assert set(courier.on_target(model).values_list("pk", flat=True)) <= mine
    assert courier.on_target(Depot).get().pk == depot.pk
    for model in (Depot, Parcel, Worker):
        last = courier.on_target(model).latest("pk").pk
        assert make(model, courier.target).pk > last


def test_a_file_that_says_nothing_of_its_origin_is_imported_once(courier: Courier) -> None:
    courier.ending = ".json"
    make_crowd(courier.target, Depot, Parcel, Scan, Worker, Brand, Colour)
    path = edit(courier.export(make_depot(courier.source)), lambda document: document.update(origin=None))
    courier.take(path, on_conflict="remap")

    courier.take_nothing(path, on_conflict="remap")


# Later bundles of the same origin


@pytest.mark.parametrize("policy", POLICIES)
def test_what_only_the_source_changed_is_updated(courier: Courier, policy: str) -> None:
    make_crowd(courier.target, Depot, Parcel)
    depot = make_depot(courier.source)
    carry(courier, depot)
    courier.on_source(Parcel).update(text="b")

    report = courier.push(depot, on_conflict=policy)

    assert report.updated == {"policies.Parcel": 1}
    assert courier.on_target(Parcel).get(number="1").text == "b"
    courier.live_nothing(depot)


@pytest.mark.parametrize("policy", ["fail", "skip", "newer", "remap"])
def test_what_only_the_target_changed_is_kept(courier: Courier, policy: str) -> None:
    depot = make_depot(courier.source)
    carry(courier, depot)
    courier.on_target(Parcel).update(text="theirs")

    report = courier.take_nothing(courier.export(depot), on_conflict=policy)

    assert report.skipped == {"policies.Parcel": 1}
    assert not report.conflicts


def test_what_was_taken_out_at_the_source_goes(courier: Courier) -> None:
    for courier.ending in (".json", ".tar.gz"):
        depot = make(Depot, courier.source, name=courier.ending)
        worker = make(Worker, courier.source)
        make(Shift, courier.source, depot=depot, worker=worker, hours=8)
        red, blue = (make(Colour, courier.source, name=name) for name in ("red", "blue"))
        depot.colours.set([red, blue])
        carry(courier, depot)
        theirs = courier.on_target(Depot).get(name=courier.ending)
        theirs.colours.add(make(Colour, courier.target, name="theirs"))
        depot.colours.remove(blue)
        courier.on_source(Shift).filter(depot=depot).delete()

        report = courier.push(depot)

        assert report.deleted == {"policies.Depot_colours": 1, "policies.Shift": 1}
        assert {colour.name for colour in theirs.colours.all()} == {"red", "theirs"}
        courier.live_nothing(depot)


def change_both(courier: Courier) -> Depot:
    """Let source and target change the same fields of two objects, after the first import."""
    depot = make_depot(courier.source)
    carry(courier, depot)
    for side, text in ((courier.on_source, "ours"), (courier.on_target, "theirs")):
        side(Parcel).update(text=text, weight=len(text))
        side(Article).update(title=text)
    return depot


@pytest.mark.parametrize("policy", ["fail", "remap"])
def test_what_both_sides_changed_is_a_conflict_field_by_field(courier: Courier, policy: str) -> None:
    depot = change_both(courier)

    error = courier.turn_away(courier.export(depot), on_conflict=policy)

    assert isinstance(error, UnresolvedConflicts)
    found = {conflict["model"]: conflict["fields"] for conflict in error.report.get_unresolved()}
    assert found == {
        "policies.Parcel": {"text": ["ours", "theirs"], "weight": [4, 6]},
        "policies.Article": {"title": ["ours", "theirs"]},
    }


@pytest.mark.parametrize(("policy", "kept", "resolved"), [("skip", "theirs", "remote"), ("override", "ours", "local")])
def test_a_policy_decides_what_both_sides_changed(courier: Courier, policy: str, kept: str, resolved: str) -> None:
    depot = change_both(courier)

    report = courier.push(depot, on_conflict=policy)

    assert courier.on_target(Parcel).get().text == kept
    assert courier.on_target(Article).get().title == kept
    assert {conflict["resolved"] for conflict in report.conflicts} == {resolved}


@pytest.mark.parametrize(("days", "kept"), [(-1, "ours"), (1, "theirs")])
def test_the_date_of_the_bundle_is_compared_with_the_change_log_of_the_target(
    courier: Courier, days: int, kept: str
) -> None:
    depot = change_both(courier)
    for model in (Parcel, Article):
        ChangeLog.objects.using(courier.target).create(
            content_type=ContentType.objects.db_manager(courier.target).get_for_model(model),
            object_id=str(courier.on_target(model).get().pk),
            action=2,
        )
    ChangeLog.objects.using(courier.target).update(date=timezone.now() + dt.timedelta(days=days))

    courier.push(depot, on_conflict="newer")

    assert courier.on_target(Parcel).get().text == kept
    assert courier.on_target(Article).get().title == kept


# Who is who


def test_an_object_is_found_by_its_natural_key_under_another_primary_key(courier: Courier) -> None:
    make_crowd(courier.target, Brand, Worker)
    brand = make(Brand, courier.target, name="acme", motto="theirs")
    worker = make(Worker, courier.target, email="ann", badge=7, name="theirs")
    depot = make_depot(courier.source)

    report = courier.push(depot, on_conflict="remap")

    assert report.matched["policies.Brand"] == report.matched["policies.Worker"] == 1
    assert courier.on_target(Parcel).get().brand == brand
    assert courier.on_target(Shift).get().worker == worker
    assert courier.on_target(Brand).get(name="acme").motto == "theirs"


def test_an_owned_object_found_by_its_natural_key_is_a_conflict_where_it_differs(courier: Courier) -> None:
    make_crowd(courier.target, Article)
    theirs = make(Depot, courier.target, name="ours")
    make(Article, courier.target, depot=theirs, code="x", title="theirs")
    depot = make(Depot, courier.source, pk=theirs.pk, name="ours")
    make(Article, courier.source, pk=900, depot=depot, code="x", title="ours")

    error = courier.turn_away(courier.export(depot), on_conflict="remap")

    (conflict,) = error.report.get_unresolved()
    assert (conflict["model"], conflict["fields"]) == ("policies.Article", {"title": ["ours", "theirs"]})
    courier.push(depot, on_conflict="override")
    assert courier.on_target(Article).get(code="x").title == "ours"


def test_a_primary_key_that_means_the_same_everywhere_identifies(courier: Courier) -> None:
    asset = make(kinds.Asset, courier.source, title="ours")
    make(kinds.Asset, courier.target, uid=asset.uid, title="theirs")
    make(kinds.AssetFile, courier.source, asset=asset, name="a")

    error = courier.turn_away(courier.export(asset))

    assert error.report.get_unresolved()[0]["fields"] == {"title": ["ours", "theirs"]}
    courier.push(asset, on_conflict="override")
    assert courier.on_target(kinds.Asset).get().title == "ours"


def test_a_held_primary_key_is_a_conflict_that_shows_both_sides(courier: Courier) -> None:
    depot = make(Depot, courier.source, name="ours", city="here")
    make(Depot, courier.target, pk=depot.pk, name="theirs", city="here")

    for policy in ("fail", "newer"):
        error = courier.turn_away(courier.export(depot), on_conflict=policy)

        (conflict,) = error.report.get_unresolved()
        assert (conflict["model"], conflict["pk"]) == ("policies.Depot", str(depot.pk))
        assert conflict["fields"] == {"name": ["ours", "theirs"]}
        assert "remap" in conflict["reason"] and "override" in conflict["reason"]


def test_an_identical_row_with_the_same_primary_key_is_the_same_object(courier: Courier) -> None:
    depot = make_depot(courier.source)
    root = make(Area, courier.source, depot=depot, name="top")
    make(Area, courier.source, depot=depot, parent=root, name="below")
    path = courier.export(depot)
    courier.take(path)
    IdMapping.objects.using(courier.target).all().delete()

    report = courier.take(path)

    assert not +report.created and not +report.updated
    assert report.unchanged["policies.Area"] == 2


def make_knot(using: str) -> kinds.Shop:
    """Make a shop with links of every kind: to its own model, in a circle, generic, to members."""
    shop = make(kinds.Shop, using, name="ours")
    node = make(kinds.Node, using, name="top")
    below = make(kinds.Node, using, name="below", parent=node)
    note = make(kinds.Note, using, subject=shop, text="ours")
    shop.tags.add(make(kinds.Tag, using, name="red"))
    team = make(kinds.Team, using, name="ours")
    captain = make(kinds.Player, using, team=team, name="captain")
    rows(kinds.Team, using).filter(pk=team.pk).update(captain=captain)
    assert below.parent_id == node.pk and note.pk
    return shop


def test_new_keys_are_followed_by_every_kind_of_link(courier: Courier) -> None:
    make_crowd(courier.target, kinds.Shop, kinds.Node, kinds.Note, kinds.Tag, kinds.Team, kinds.Player)
    shop = make_knot(courier.source)
    roots = [shop, courier.on_source(kinds.Node).get(name="top"), courier.on_source(kinds.Team).get()]
    held = {model: set(courier.on_target(model).values_list("pk", flat=True)) for model in (kinds.Shop, kinds.Node)}
    assert shop.pk in held[kinds.Shop] and courier.turn_away(courier.export(*roots))

    courier.push(*roots, on_conflict="remap")

    theirs = courier.on_target(kinds.Shop).get(name="ours")
    assert theirs.pk not in held[kinds.Shop]
    assert courier.on_target(kinds.Note).get(text="ours").subject == theirs
    assert [tag.name for tag in theirs.tags.all()] == ["red"]
    assert courier.on_target(kinds.Node).get(name="below").parent.name == "top"
    captain = courier.on_target(kinds.Player).get(name="captain")
    assert captain.team.captain == captain and captain.team.name == "ours"
    courier.live_nothing(*roots)


def test_what_looks_the_same_but_belongs_to_something_else_is_another_object(courier: Courier) -> None:
    depot, other = make(Depot, courier.source, name="ours"), make(Depot, courier.target, name="theirs")
    mine = make(Parcel, courier.source, pk=5, depot=depot, number="1", text="same")
    theirs = make(Parcel, courier.target, pk=5, depot=other, number="1", text="same")
    for parcel in (mine, theirs):
        make(Scan, parcel._state.db, pk=5, parcel=parcel, text="same")
    assert (depot.pk, mine.pk) == (other.pk, theirs.pk)

    courier.push(depot, on_conflict="remap")

    assert set(courier.on_target(Scan).values_list("parcel__depot__name", flat=True)) == {"ours", "theirs"}
    assert courier.on_target(Parcel).get(pk=theirs.pk).depot == other


def test_a_circle_that_looks_the_same_but_for_one_row_is_other_objects(courier: Courier) -> None:
    for using, name in ((courier.source, "ours"), (courier.target, "theirs")):
        team = make(kinds.Team, using, pk=3, name="same")
        player = make(kinds.Player, using, pk=3, team=team, name=name)
        rows(kinds.Team, using).update(captain=player)

    courier.push(courier.on_source(kinds.Team).get(), on_conflict="remap")

    assert set(courier.on_target(kinds.Player).values_list("name", "team__captain__name")) == {
        ("ours", "ours"),
        ("theirs", "theirs"),
    }
    assert courier.on_target(kinds.Team).count() == 2


def test_a_tree_that_hangs_on_another_root_is_other_objects(courier: Courier) -> None:
    for using, name in ((courier.source, "ours"), (courier.target, "theirs")):
        top = make(kinds.Node, using, pk=1, name=name)
        middle = make(kinds.Node, using, pk=2, parent=top, name="same")
        make(kinds.Node, using, pk=3, parent=middle, name="same")

    courier.push(courier.on_source(kinds.Node).get(pk=1), on_conflict="remap")

    roots = [node.parent.parent.name for node in courier.on_target(kinds.Node).filter(parent__parent__isnull=False)]
    assert sorted(roots) == ["ours", "theirs"]


def test_a_row_of_several_tables_is_never_joined_to_half_of_another(courier: Courier) -> None:
    depot, other = make(Depot, courier.source, name="ours"), make(Depot, courier.target, name="theirs")
    truck = make(Truck, courier.source, name="same", depot=depot)
    van = make(Van, courier.target, name="same", depot=other, plate="x")
    assert truck.pk == van.pk

    courier.push(depot, on_conflict="remap")

    assert courier.on_target(Vehicle).count() == 2
    assert courier.on_target(Truck).get().pk != van.pk


def test_a_held_key_is_overwritten_only_on_demand(courier: Courier) -> None:
    depot = make_depot(courier.source)
    make(Depot, courier.target, pk=depot.pk, name="theirs")
    bystander = make(Depot, courier.target, pk=depot.pk + 1, name="bystander")

    report = courier.push(depot, on_conflict="override")

    assert report.updated == {"policies.Depot": 1}
    assert set(courier.on_target(Depot).values_list("pk", "name")) == {
        (depot.pk, "ours"),
        (bystander.pk, "bystander"),
    }
    courier.live_nothing(depot)


@pytest.mark.parametrize("policy", ["fail", "override", "newer", "skip"])
def test_an_object_with_an_identity_of_its_own_is_not_the_row_that_holds_its_key(courier: Courier, policy: str) -> None:
    theirs = make(Depot, courier.target, name="theirs")
    depot = make(Depot, courier.source, pk=theirs.pk + 1, name="ours")
    article = make(Article, courier.source, depot=depot, code="x", title="ours")
    make(Article, courier.target, pk=article.pk, depot=theirs, code="y", title="theirs")

    report = courier.push(depot, on_conflict=policy)

    assert not report.conflicts and report.created["policies.Article"] == 1
    assert set(courier.on_target(Article).values_list("depot__name", "code", "title")) == {
        ("ours", "x", "ours"),
        ("theirs", "y", "theirs"),
    }
    courier.live_nothing(depot)


def test_a_referred_object_is_never_overwritten(courier: Courier) -> None:
    depot = make_depot(courier.source)
    brand = courier.on_source(Brand).get()
    make(Brand, courier.target, pk=brand.pk, name="other")

    courier.push(depot, on_conflict="override")

    assert set(courier.on_target(Brand).values_list("name", flat=True)) == {"acme", "other"}
    assert courier.on_target(Parcel).get().brand.name == "acme"


def test_what_is_skipped_takes_all_with_it_that_needs_it(courier: Courier) -> None:
    depot, second = make_depot(courier.source), make(Depot, courier.source, name="second")
    make(Parcel, courier.source, depot=second, number="2")
    parcel = courier.on_source(Parcel).get(number="1")
    other = make(Depot, courier.target, name="theirs")
    make(Parcel, courier.target, pk=parcel.pk, depot=other, text="theirs")

    report = courier.push(depot, second, on_conflict="skip")

    assert not courier.on_target(Depot).filter(name="ours").exists()
    assert courier.on_target(Parcel).filter(depot__name="second").count() == 1
    assert not courier.on_target(Scan).exists()
    assert not courier.on_target(Article).exists()
    assert not courier.on_target(Brand).exists()
    parts = ("Depot", "Parcel", "Scan", "Article", "Shift", "Depot_colours", "Remark")
    assert report.skipped == {f"policies.{name}": 1 for name in parts}
    assert {conflict["resolved"] for conflict in report.conflicts} == {"remote"}
    assert {tuple(conflict["fields"]) for conflict in report.conflicts} >= {("name",)}


# Roles


def test_roles_are_those_of_the_walk(courier: Courier) -> None:
    make(Worker, courier.target, email="ann", badge=7, name="theirs")
    depot = make_depot(courier.source)
    courier.on_source(Worker).update(name="ours")

    report = courier.push(depot)

    assert report.matched["policies.Worker"] == 1
    assert courier.on_target(Worker).get().name == "theirs"
    for courier.ending in FORMATS:
        report = courier.take_nothing(courier.export(depot))
        assert set(report.matched) >= {"policies.Worker", "policies.Brand", "policies.Colour"}
        assert report.unchanged["policies.Parcel"] == 1


def test_a_scope_is_carried_along(courier: Courier) -> None:
    make(Worker, courier.target, email="ann", badge=7, name="theirs")
    depot = make_depot(courier.source)
    courier.on_source(Worker).update(name="ours")

    path = courier.export(depot, own=["policies.Shift.worker"], ignore=["policies.Scan"])

    error = courier.turn_away(path)
    assert error.report.get_unresolved()[0]["fields"] == {"name": ["ours", "theirs"]}
    courier.take(path, on_conflict="override")
    assert courier.on_target(Worker).get().name == "ours"
    assert not courier.on_target(Scan).exists()


def test_objects_that_were_added_by_hand_are_imported(courier: Courier) -> None:
    courier.ending = ".json"
    depot = make_depot(courier.source)

    def add(document: dict[str, Any]) -> None:
        document["objects"] += [
            {"model": "policies.depot", "pk": 77, "fields": {"name": "by hand", "city": "", "boss": None}},
            {"model": "policies.parcel", "pk": 78, "fields": {"depot": 77, "number": "9"}},
            {"model": "policies.parcel", "pk": 79, "fields": {"depot": depot.pk, "number": "10"}},
            {"model": "policies.scan", "pk": 80, "fields": {"parcel": 79, "text": "by hand"}},
        ]
        find_record(document, "policies.Parcel", courier.on_source(Parcel).get().pk)["fields"]["text"] = "by hand"

    path = edit(courier.export(depot), add)

    courier.take(path)

    assert set(courier.on_target(Parcel).values_list("number", "depot__name", "text")) == {
        ("1", "ours", "by hand"),
        ("9", "by hand", ""),
        ("10", "ours", ""),
    }
    courier.take_nothing(path)


def test_a_dry_run_says_what_would_be_done(courier: Courier) -> None:
    depot = make_depot(courier.source)

    report = courier.preview(courier.export(depot))

    assert report.created["policies.Parcel"] == 1
    assert api.import_objects(courier.export(depot), database=courier.target).created == report.created


# What an import costs


FEW, MANY = 12, 400


def count_queries(courier: Courier, depot: Depot, **options: Any) -> tuple[int, int]:
    """Export and import; return how many queries the source and the target were asked."""
    with CaptureQueriesContext(connections[courier.source]) as of_source:
        path = courier.export(depot)
    with CaptureQueriesContext(connections[courier.target]) as of_target:
        api.import_objects(path, database=courier.target, **options)
    return len(of_source), len(of_target)


@pytest.mark.parametrize("ending", [".json", ".tar.zst"])
def test_many_objects_take_as_many_queries_as_few(courier: Courier, ending: str) -> None:
    courier.ending = ending
    counts: dict[int, list[tuple[int, int]]] = {}
    for size in (2, FEW, MANY):
        depot = fill_depot(courier.source, f"of {size}", size)
        counts[size] = [count_queries(courier, depot, on_conflict="remap")]
        assert courier.on_target(Parcel).filter(depot__name=depot.name).count() == size
        counts[size].append(count_queries(courier, depot))
        courier.on_source(Parcel).filter(depot=depot).update(text="new")
        counts[size].append(count_queries(courier, depot))

    assert counts[FEW] == counts[MANY]


def test_a_restore_of_many_takes_as_many_queries_as_one_of_few(courier: Courier) -> None:
    counts = {}
    for size in (2, FEW, MANY):
        depot = fill_depot(courier.target, f"of {size}", size)
        path = str(courier.folder / f"{size}.tar.gz")
        for parcel in courier.on_target(Parcel).filter(depot=depot):
            make(Claim, courier.target, parcel=parcel)
        api.delete_objects(depot, database=courier.target, backup=path)
        with CaptureQueriesContext(connections[courier.target]) as queries:
            report = api.import_objects(path, database=courier.target)
        assert report.updated == {"policies.Claim": size}
        counts[size] = len(queries)

    assert counts[FEW] == counts[MANY]


CARRY = (
    PEAK
    + """

import sys

import django

django.setup()

from gestore_sync import api


def carry(name):
    before = peak()
    api.export_objects([name], sys.argv[1])
    exported = peak()
    report = api.import_objects(sys.argv[1], database="remote")
    return report.created["policies.Parcel"], exported - before, peak() - exported


carry("policies.Depot.1")
print(*carry("policies.Depot.2"))
"""
)


@pytest.mark.parametrize("ending", [".json.gz", ".tar.gz"])
def test_memory_does_not_grow_with_the_size_of_rows(folder: Path, tmp_path: Path, ending: str) -> None:
    added = {}
    for length in (1, 5_000):
        fill(folder, parcels=20_000, length=length)
        path = tmp_path / f"{length}{ending}"
        parcels, *added[length] = map(float, run(folder, "-c", CARRY, str(path)).split())
        assert parcels == 20_000

    assert added[5_000][0] - added[1][0] < 60  # the rows are 100 megabytes
    assert added[5_000][1] - added[1][1] < 60


# The database of an import


def test_an_import_leaves_no_connection_and_no_file_behind(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = courier.folder / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    path = courier.export(make_depot(courier.source))
    aliases = {connection.alias for connection in connections.all(initialized_only=True)}

    courier.take(path)
    courier.on_target(Parcel).update(depot=make(Depot, courier.target))
    courier.on_source(Parcel).update(depot=make(Depot, courier.source))
    broken = courier.folder / "broken.tar.gz"
    broken.write_bytes(Path(path).read_bytes()[:-100])
    courier.turn_away(str(broken))

    assert {connection.alias for connection in connections.all(initialized_only=True)} == aliases
    assert not [name for name in vars(connections._connections._storage) if "staging" in name]
    assert list(folder.iterdir()) == []


def test_an_import_belongs_to_the_transaction_around_it(courier: Courier) -> None:
    path = courier.export(make_depot(courier.source))
    before = courier.picture()

    with transaction.atomic(using=courier.target):
        make(Brand, courier.target, name="acme", motto="not committed")
        api.import_objects(path, database=courier.target)
        assert courier.on_target(Parcel).get().brand.motto == "not committed"
        transaction.set_rollback(True, using=courier.target)

    assert courier.picture() == before


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql", live=True), indirect=True)
def test_two_imports_at_the_same_time_do_not_disturb_each_other(courier: Courier) -> None:
    depots = [fill_depot(courier.source, name, 20) for name in ("one", "two")]
    paths = [courier.export(depot) for depot in depots]
    reports: list[api.Report] = []

    def take(path: str) -> None:
        try:
            reports.append(api.import_objects(path, database=courier.target, on_conflict="remap"))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=take, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [report.created["policies.Parcel"] for report in reports] == [20, 20]
    for name in ("one", "two"):
        assert courier.on_target(Parcel).filter(depot__name=name, text=name).count() == 20


def fill_depot(using: str, name: str, size: int) -> Depot:
    """Make a depot with this many rows of each of four models."""
    depot = make(Depot, using, name=name)
    parcels = [Parcel(depot=depot, number=str(number), text=name) for number in range(size)]
    parcels = rows(Parcel, using).bulk_create(parcels)
    rows(Scan, using).bulk_create([Scan(parcel=parcel) for parcel in parcels])
    rows(Article, using).bulk_create([Article(depot=depot, code=str(number)) for number in range(size)])
    depot.colours.add(*rows(Colour, using).bulk_create([Colour(name=f"{name} {number}") for number in range(size)]))
    return depot

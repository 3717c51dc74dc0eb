"""Plans as files: written, read by people, cut down by them, and applied."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gestore_sync import api
from gestore_sync.differing import Differences
from gestore_sync.exceptions import GestoreSyncError, PlanError, PlanOutdated, UnresolvedConflicts, WrongSetting
from gestore_sync.lostvalues import load_lost
from gestore_sync.models import Conflict
from tests.conftest import TIMES, Pair
from tests.kinds.making import make, make_many, renumber_content_types
from tests.kinds.models import City, Country, Page, Queue, Seat, Turn
from tests.kinds.oracle import Database
from tests.kinds.pushing import Sync, content, rolled_back, rows
from tests.kinds.pushing import watched as sync_watched
from tests.policies.models import Area, Article, Brand, Claim, Colour, Depot, Parcel, Scan, Truck, Worker
from tests.policies.watching import CROSSED, Watch, describe_changes, paired, pairings, read_only, unread, watched
from tests.test_random_graphs import (
    TABLES,
    Maker,
    choose_roots,
    give_target_what_it_may_have,
)
from tests.test_readme import find_literals, find_table
from tests.trees.growing import get_families, grow, working_on
from tests.trees.models import ListNode, PathNode

ONE = pairings("postgresql-sqlite")
one = pytest.mark.parametrize("pair", ONE, indirect=True)
Document = dict[str, Any]

pair = paired(*CROSSED)


class Plans(Watch):
    """A watch that writes plans into a folder, and applies them."""

    def __init__(self, pair: Pair, folder: Path, *labels: str) -> None:
        super().__init__(pair, *labels)
        self.path = folder / "plan.jsonl"

    def write(self, *roots: models.Model | str, **options: Any) -> list[Document]:
        """Write a plan, which changes nothing in either database; return its operations."""
        here, there = (CaptureQueriesContext(connections[using]) for using in (self.source, self.target))
        with here, there, read_only(self.source), read_only(self.target):
            self.synchronize(*roots, plan=str(self.path), **options)
        assert not unread(here)
        assert not unread(there)
        return self.read()[1:]

    def read(self) -> list[Document]:
        """Return the lines of the plan."""
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def remove(self, is_removed: Callable[[Document], bool]) -> int:
        """Remove operations as a person would, with an editor; return how many."""
        first, *lines = self.path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not is_removed(json.loads(line))]
        self.path.write_text("".join([first, *kept]))
        return len(lines) - len(kept)

    def apply(self) -> api.Report:
        """Apply the plan; the report's counts are those of the rows that came, changed and went."""
        return self.push(apply=str(self.path))

    def refuse_plan(self) -> str:
        """Apply the plan, which must fail and leave the target as it was; return what is said."""
        error = self.refuse(apply=str(self.path))
        assert isinstance(error, PlanError), repr(error)
        return str(error)


@pytest.fixture
def plans(pair: Pair, tmp_path: Path) -> Iterator[Plans]:
    with watched(pair):
        yield Plans(pair, tmp_path, "policies", "kinds", "trees", "auth", "contenttypes", "sites")


@pytest.fixture
def depot(plans: Plans) -> Depot:
    """A depot with an article and two parcels with scans, which the target has under other numbers."""
    make_many(Parcel, plans.target, 3)
    depot = make(Depot, plans.source, name="ours")
    make(Article, plans.source, depot=depot, code="a", title="old")
    for number in ("one", "two"):
        parcel = make(Parcel, plans.source, depot=depot, number=number)
        make_many(Scan, plans.source, 2, parcel=parcel)
    plans.synchronize(depot)
    return depot


def is_about(model: type[models.Model], do: str | None = None, **values: Any) -> Callable[[Document], bool]:
    """What tells the operations of a model, perhaps only those that do this, or with this in a field at the source."""

    def check(line: Document) -> bool:
        fields = {name: line["fields"].get(name, [None])[0] for name in values}
        return line["model"] == model._meta.label and do in (None, line["do"]) and fields == values

    return check


# What is written


def test_a_plan_says_what_would_be_done_and_why(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    new = make(Parcel, plans.source, depot=depot, number="three")

    created, updated = plans.write(depot)

    article = plans.on_source(Article).get()
    theirs = plans.on_target(Article).get()
    header = plans.read()[0]
    assert (header["format"], header["version"], header["count"]) == ("gestore_sync plan", 1, 2)
    assert (header["source"]["alias"], header["target"]["alias"]) == (plans.source, plans.target)
    assert (header["roots"], header["on_conflict"], header["prune"]) == ([f"policies.Depot.{depot.pk}"], "newer", False)
    assert list(created) == [find_literals(row[0])[0] for row in find_table("key of a line")]
    assert created["fields"].pop("number") == ["three", None]
    assert created | {"content": "", "fields": {}} == {
        "do": "create",
        "model": "policies.Parcel",
        "pk": str(new.pk),
        "target": None,
        "natural_key": None,
        "reason": "new",
        "fields": {},
        "content": "",
    }
    assert updated | {"content": ""} == {
        "do": "update",
        "model": "policies.Article",
        "pk": str(article.pk),
        "target": str(theirs.pk),
        "natural_key": [depot.pk, "a"],
        "reason": "id mapping",
        "fields": {"title": ["new", "old"]},
        "content": "",
    }


@one
def test_a_plan_says_how_a_counterpart_was_found(plans: Plans) -> None:
    for using in (plans.source, plans.target):
        worker = make(Worker, using, email="a@b.c", badge=7, name=using)
        depot = make(Depot, using, name="ours", boss=worker)
    depot = plans.on_source(Depot).get()

    lines = plans.write(depot, own=["policies.Depot.boss"])

    [worker_line] = [line for line in lines if is_about(Worker, "update")(line)]
    assert (worker_line["do"], worker_line["reason"]) == ("update", "unique email")
    assert worker_line["fields"] == {"name": [plans.source, plans.target]}


@one
def test_a_link_that_loses_is_kept_only_where_it_has_a_counterpart(plans: Plans, depot: Depot) -> None:
    brands = {using: make(Brand, using, name=using) for using in (plans.source, plans.target)}
    for using, brand in brands.items():
        rows(Parcel, using).filter(depot__name="ours", number="one").update(brand=brand)
    plans.write(depot, on_conflict="remote")
    plans.remove(is_about(Brand))

    plans.apply()

    assert plans.on_target(Parcel).get(depot__name="ours", number="one").brand == brands[plans.target]
    assert not Conflict.objects.using(plans.target).exists()


@one
def test_members_are_told_as_members(plans: Plans, depot: Depot) -> None:
    red, blue = (make(Colour, plans.source, name=name) for name in ("red", "blue"))
    depot.colours.add(red)
    plans.push(depot)
    depot.colours.set([blue])

    lines = plans.write(depot)

    assert [line["do"] for line in lines if line["model"] == "policies.Depot_colours"] == [
        "add member",
        "remove member",
    ]
    plans.apply()
    assert set(plans.on_target(Depot).get(name="ours").colours.values_list("name", flat=True)) == {"blue"}


@one
def test_long_values_are_cut_off_and_yet_arrive_whole(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="x" * 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gestore_sync.excerpts.SHOWN", 10)
        [line] = plans.write(depot)
        plans.apply()

    assert line["fields"]["title"] == ["xxxxxxxxxx… (50 characters)", "old"]
    assert plans.on_target(Article).get().title == "x" * 50


@one
def test_a_plan_with_an_open_conflict_is_not_written(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    plans.on_target(Article).update(title="theirs")

    with pytest.raises(UnresolvedConflicts, match=r"policies\.Article"):
        plans.write(depot, on_conflict="fail")

    assert not plans.path.exists()


# What is applied


def test_a_plan_does_what_it_says_once(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    make(Scan, plans.source, parcel=make(Parcel, plans.source, depot=depot, number="three"))
    plans.on_source(Scan).filter(parcel__number="one").delete()
    lines = plans.write(depot, prune=True)

    report = plans.apply()

    assert report.created == {"policies.Parcel": 1, "policies.Scan": 1}
    assert report.updated == {"policies.Article": 1}
    assert report.deleted == {"policies.Scan": 2}
    assert report.message == "Synchronization performed successfully."
    assert len(lines) == 5
    plans.push_nothing(depot, prune=True)
    assert "has changed since the plan was written" in plans.refuse_plan()


def test_a_plan_of_a_first_push_brings_everything(plans: Plans) -> None:
    depot = make(Depot, plans.source, name="ours", boss=make(Worker, plans.source))
    make(Truck, plans.source, depot=depot, name="truck")
    root = make(Area, plans.source, depot=depot, name="root")
    make(Area, plans.source, depot=depot, parent=root, name="leaf")
    plans.write(depot)

    plans.apply()

    assert plans.on_target(Area).get(name="leaf").parent == plans.on_target(Area).get(name="root")
    assert plans.on_target(Truck).get().depot.boss.email == depot.boss.email
    plans.push_nothing(depot)


@one
def test_a_plan_without_operations_does_nothing(plans: Plans, depot: Depot) -> None:
    assert plans.write(depot) == []

    plans.push_nothing(apply=str(plans.path))


def test_lines_that_are_removed_are_not_done(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    plans.on_source(Parcel).filter(number="one").update(text="changed")
    make(Parcel, plans.source, depot=depot, number="three")
    plans.on_source(Scan).filter(parcel__number="two").delete()
    plans.write(depot, prune=True)
    plans.remove(is_about(Parcel, "update"))
    plans.remove(is_about(Parcel, "create"))
    plans.remove(is_about(Scan))

    report = plans.apply()

    assert (report.created, report.updated, report.deleted) == ({}, {"policies.Article": 1}, {})
    assert report.warnings == ["4 operations were removed from the plan and not done."]
    assert set(plans.on_target(Parcel).filter(depot__name="ours").values_list("number", "text")) == {
        ("one", ""),
        ("two", ""),
    }
    again = plans.push(depot, prune=True)
    assert again.created == {"policies.Parcel": 1}
    assert again.updated == {"policies.Parcel": 1}
    assert again.deleted == {"policies.Scan": 2}


@pytest.mark.parametrize(
    ("removed", "title", "kept"),
    [
        ((), "ours", {"{'title': ['ours', 'theirs']}"}),
        (("keep values",), "ours", set()),
        (("update", "keep values"), "theirs", set()),
        (("update",), "theirs", set()),
    ],
)
def test_values_that_lose_are_kept_as_planned(
    plans: Plans, depot: Depot, removed: tuple[str, ...], title: str, kept: set[str]
) -> None:
    plans.on_source(Article).update(title="ours")
    plans.on_target(Article).update(title="theirs")
    lines = plans.write(depot, on_conflict="local")
    plans.remove(lambda line: line["do"] in removed)

    plans.apply()

    assert [(line["do"], line["fields"]) for line in lines] == [
        (do, {"title": ["ours", "theirs"]}) for do in ("keep values", "update")
    ]
    assert plans.on_target(Article).get().title == title
    shown = Conflict.objects.using(plans.target).values_list("fields", flat=True)
    assert {str({name: [of.local, of.remote] for name, of in load_lost(text).items()}) for text in shown} == kept


@one
def test_a_plan_says_who_changed_the_values_that_lose(plans: Plans, depot: Depot) -> None:
    plans.on_source(Parcel).filter(number="one").update(text="ours")
    plans.on_target(Parcel).filter(depot__name="ours", number="one").update(text="theirs", weight=7)
    plans.on_target(Parcel).filter(depot__name="ours", number="two").update(weight=8)
    rules = {"CONFLICTS": {"policies.Parcel": "local", "policies.Parcel.text": "remote"}}

    with override_settings(GESTORE_SYNC=rules):
        lines = plans.write(depot)

    assert sorted(line["reason"] for line in lines if is_about(Parcel, "keep values")(line)) == [
        "both sides changed text: decided for remote; only the target changed weight: decided for local",
        "only the target changed weight: decided for local",
    ]


@one
def test_a_plan_says_of_values_that_lose_that_the_sides_were_never_in_step(plans: Plans) -> None:
    for using in (plans.source, plans.target):
        make(Worker, using, email="a@b.c", badge=7, name=using)

    lines = plans.write(plans.on_source(Worker).get(), on_conflict="remote")

    assert [line["reason"] for line in lines if is_about(Worker, "keep values")(line)] == [
        "the sides were never in step in name: decided for remote"
    ]


@one
def test_an_id_mapping_that_is_removed_is_not_kept(plans: Plans) -> None:
    for using in (plans.source, plans.target):
        make(Depot, using, name="ours", boss=make(Worker, using, email="a@b.c", badge=1))
    depot = plans.on_source(Depot).get()
    plans.write(depot)
    assert plans.remove(is_about(Worker, "note")) == 1

    plans.apply()

    assert [line["model"] for line in plans.write(depot) if line["do"] == "note"] == ["policies.Worker"]


@one
def test_what_points_to_an_object_whose_id_mapping_was_removed_follows_it(plans: Plans) -> None:
    make(Worker, plans.target, email="a@b.c", badge=1)
    depot = make(Depot, plans.source, boss=make(Worker, plans.source, email="a@b.c", badge=1))
    plans.write(depot)
    assert plans.remove(is_about(Worker, "note")) == 1
    plans.apply()
    plans.on_target(Worker).update(email="before@b.c", badge=2)
    make(Worker, plans.target, email="a@b.c", badge=1)

    plans.push(depot)

    assert plans.on_target(Depot).get().boss.email == "a@b.c"


# What needs each other


@pytest.mark.parametrize(
    ("model", "values"), [(Scan, {"text": "needs"}), (Claim, {"text": "may"})], ids=["required", "optional"]
)
@one
def test_what_an_operation_points_to_may_not_be_missing(
    plans: Plans, depot: Depot, model: type[models.Model], values: dict[str, str]
) -> None:
    parcel = make(Parcel, plans.source, depot=depot, number="three")
    other = make(model, plans.source, parcel=parcel, **values)
    plans.write(depot, own=["policies.Claim.parcel"])
    plans.remove(is_about(Parcel))

    said = plans.refuse_plan()

    assert f"{model._meta.label}.{other.pk} points by parcel to policies.Parcel.{parcel.pk}" in said
    plans.remove(is_about(model))
    assert plans.apply().created == {}


@one
def test_what_an_update_points_to_may_not_be_missing(plans: Plans, depot: Depot) -> None:
    parcel = make(Parcel, plans.source, depot=depot, number="three")
    scan = plans.on_source(Scan).filter(parcel__number="one").first()
    plans.on_source(Scan).filter(pk=scan.pk).update(parcel=parcel)
    plans.write(depot)
    plans.remove(is_about(Parcel))

    assert f"policies.Scan.{scan.pk} points by parcel to policies.Parcel.{parcel.pk}" in plans.refuse_plan()


@pytest.mark.parametrize("removed", ["policies.Vehicle", "policies.Truck"])
@one
def test_an_object_in_several_tables_is_created_whole_or_not_at_all(plans: Plans, depot: Depot, removed: str) -> None:
    make(Truck, plans.source, depot=depot, name="truck")
    plans.write(depot)
    plans.remove(lambda line: line["model"] == removed)

    said = plans.refuse_plan()

    assert "policies.Vehicle." in said
    assert "policies.Truck." in said
    plans.remove(lambda line: line["model"] in ("policies.Vehicle", "policies.Truck"))
    assert plans.apply().created == {}


@pytest.mark.parametrize("removed", ["policies.Vehicle", "policies.Truck"])
@one
def test_an_object_in_several_tables_is_deleted_whole_or_not_at_all(plans: Plans, depot: Depot, removed: str) -> None:
    truck = make(Truck, plans.source, depot=depot, name="truck")
    plans.synchronize(depot)
    truck.delete()
    plans.write(depot, prune=True)
    plans.remove(lambda line: line["model"] == removed)

    said = plans.refuse_plan()

    assert "policies.Vehicle." in said
    assert "policies.Truck." in said


@one
def test_a_row_is_not_deleted_under_what_stays(plans: Plans, depot: Depot) -> None:
    plans.on_source(Scan).filter(parcel__number="one").delete()
    plans.on_source(Parcel).filter(number="one").delete()
    theirs = plans.on_target(Parcel).get(number="one")
    scan = plans.on_target(Scan).filter(parcel=theirs).first()
    plans.write(depot, prune=True)
    plans.remove(lambda line: is_about(Scan)(line) and line["target"] == str(scan.pk))

    said = plans.refuse_plan()

    assert f"policies.Parcel.{theirs.pk} of the target is deleted" in said
    assert f"policies.Scan.{scan.pk} of the target" in said
    plans.remove(is_about(Parcel))
    assert plans.apply().deleted == {"policies.Scan": 1}


@one
def test_a_row_is_not_deleted_under_what_should_have_moved(plans: Plans, depot: Depot) -> None:
    two = plans.on_source(Parcel).get(number="two")
    plans.on_source(Scan).filter(parcel__number="one").update(parcel=two)
    plans.on_source(Parcel).filter(number="one").delete()
    plans.write(depot, prune=True)
    plans.remove(is_about(Scan, "update"))

    assert "is deleted, which goes only with the change of policies.Scan." in plans.refuse_plan()


@one
def test_a_row_is_not_deleted_under_a_link_that_is_not_set(plans: Plans, depot: Depot) -> None:
    claim = make(Claim, plans.target, parcel=plans.on_target(Parcel).get(number="one"))
    plans.on_source(Scan).filter(parcel__number="one").delete()
    plans.on_source(Parcel).filter(number="one").delete()
    [line] = [line for line in plans.write(depot, prune=True) if line["do"] == "set link"]
    assert line["fields"] == {"parcel": [None, claim.parcel_id]}
    whole = plans.path.read_text()
    plans.remove(is_about(Claim))

    assert f"policies.Claim.{claim.pk} of the target" in plans.refuse_plan()

    plans.path.write_text(whole)
    assert plans.apply().updated == {"policies.Claim": 1}


@one
def test_no_row_is_put_below_itself_because_a_line_was_removed(plans: Plans) -> None:
    depot = make(Depot, plans.source, name="ours")
    a = make(Area, plans.source, depot=depot, name="a")
    b = make(Area, plans.source, depot=depot, name="b", parent=a)
    plans.synchronize(depot)
    plans.on_source(Area).filter(name="b").update(parent=None)
    plans.on_source(Area).filter(name="a").update(parent=b)
    plans.write(depot)
    assert plans.remove(lambda line: line["pk"] == str(b.pk)) == 1

    told = plans.refuse_plan()

    there = dict(plans.on_target(Area).values_list("name", "pk"))
    assert f"policies.Area.{a.pk} would stand below itself" in told
    assert f"policies.Area.{there['b']} of the target" in told


def test_unique_values_trade_places_together_or_not_at_all(plans: Plans) -> None:
    queue = make(Queue, plans.source, name="ours")
    for position, name in enumerate("abcd"):
        make(Turn, plans.source, queue=queue, name=name, position=position)
    plans.synchronize(queue)
    for free, name in enumerate("abcd", start=20):
        plans.on_source(Turn).filter(name=name).update(position=free)
    for position, name in enumerate("badc"):
        plans.on_source(Turn).filter(name=name).update(position=position)
    plans.write(queue)
    names = {str(turn.pk): turn.name for turn in plans.on_source(Turn)}
    plans.remove(lambda line: names[line["pk"]] == "c")

    said = plans.refuse_plan()

    assert "already has the values of its unique queue, position" in said
    plans.remove(lambda line: names[line["pk"]] == "d")
    assert plans.apply().updated == {"kinds.Turn": 2}
    assert dict(plans.on_target(Turn).values_list("name", "position")) == {"b": 0, "a": 1, "c": 2, "d": 3}


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (Country, r"kinds.City.\d+ points by country to the new value of kinds.Country.\d+, whose line was removed"),
        (City, r"kinds.Country.\d+ changes the value to which country leads of kinds.City.\d+, whose line was removed"),
    ],
)
@one
def test_a_unique_value_that_links_lead_to_is_written_with_them(
    plans: Plans, removed: type[models.Model], said: str
) -> None:
    country = make(Country, plans.source, name="ours", iso="aa")
    make(City, plans.source, country=country)
    plans.synchronize(country)
    plans.on_source(Country).update(iso="bb")
    plans.on_source(City).update(country_id="bb")
    assert len(plans.write(country)) == 2
    whole = plans.path.read_text()
    plans.remove(is_about(removed))

    assert re.search(said, plans.refuse_plan())

    plans.path.write_text(whole)
    assert plans.apply().updated == {"kinds.Country": 1, "kinds.City": 1}


# What has changed since

CHANGES: dict[str, Callable[[Plans, Depot], Any]] = {
    "a planned value at the source": lambda plans, depot: plans.on_source(Article).update(title="newer"),
    "another value at the source": lambda plans, depot: plans.on_source(Article).update(stock=5),
    "a planned value on the target": lambda plans, depot: plans.on_target(Article).update(title="theirs"),
    "another value on the target": lambda plans, depot: plans.on_target(Article).update(stock=5),
    "gone at the source": lambda plans, depot: plans.on_source(Article).delete(),
    "gone on the target": lambda plans, depot: plans.on_target(Article).delete(),
    "pushed by another run": lambda plans, depot: plans.synchronize(depot),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@one
def test_an_object_that_changed_since_is_refused_by_its_name(
    plans: Plans, depot: Depot, change: Callable[[Plans, Depot], Any]
) -> None:
    plans.on_source(Article).update(title="new")
    plans.write(depot)
    article = plans.on_source(Article).get()

    change(plans, depot)

    error = plans.refuse(apply=str(plans.path))
    assert isinstance(error, PlanOutdated)
    assert f"policies.Article.{article.pk}" in str(error)
    assert "has changed since the plan was written" in str(error)


@one
def test_a_row_to_delete_that_changed_since_is_refused_by_its_name(plans: Plans, depot: Depot) -> None:
    plans.on_source(Scan).filter(parcel__number="one").delete()
    plans.write(depot, prune=True, on_conflict="local")
    scan = plans.on_target(Scan).filter(parcel__number="one").first()

    plans.on_target(Scan).filter(pk=scan.pk).update(text="theirs")

    assert f"policies.Scan.{scan.pk} of the target" in plans.refuse_plan()


@one
def test_what_was_not_to_be_done_then_is_refused_by_its_name(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    plans.write(depot)

    parcel = make(Parcel, plans.source, depot=depot, number="three")

    assert f"policies.Parcel.{parcel.pk} has changed since" in plans.refuse_plan()


@one
def test_what_does_not_belong_to_the_plan_may_change(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    plans.write(depot)
    make(Parcel, plans.source)
    plans.on_target(Parcel).filter(number="one").update(text="theirs")

    assert plans.apply().updated == {"policies.Article": 1}


# Trees


@pytest.mark.parametrize("model", [PathNode, ListNode])
@one
def test_no_node_is_put_below_itself_because_a_line_was_removed(plans: Plans, model: Any) -> None:
    with working_on(plans.source):
        root = grow(model, "root")
        a = grow(model, "a", root)
        b = grow(model, "b", a)
    plans.synchronize(root)
    with working_on(plans.source):
        model.objects.move(model.objects.get(code="b"), model.objects.get(code="root"), pos="last-child")
        model.objects.move(model.objects.get(code="a"), model.objects.get(code="b"), pos="last-child")
    plans.write(root)
    assert plans.remove(lambda line: line["pk"] == str(b.pk))

    told = plans.refuse_plan()

    assert f"{model._meta.label}.{a.pk} would stand below itself" in told


@pytest.mark.parametrize("model", [PathNode, ListNode])
@one
def test_nodes_move_as_planned_and_no_others(plans: Plans, model: Any) -> None:
    with working_on(plans.source):
        root = grow(model, "root")
        for code in "abcdef":
            grow(model, code, root)
    plans.synchronize(root)
    with working_on(plans.source):
        for node, before in (("c", "a"), ("f", "d")):
            moved, other = model.objects.get(code=node), model.objects.get(code=before)
            model.objects.move(moved, other, pos="left")
        grow(model, "g", model.objects.get(code="root"))
    lines = plans.write(root)
    codes = {str(node.pk): node.code for node in plans.on_source(model)}
    assert sorted((line["do"], codes[line["pk"]]) for line in lines) == [
        ("create", "g"),
        ("place", "c"),
        ("place", "f"),
    ]
    plans.remove(lambda line: line["do"] == "place" and codes[line["pk"]] == "c")

    plans.synchronize(apply=str(plans.path))

    with working_on(plans.target):
        assert get_families(model)["root"] == ["a", "b", "c", "f", "d", "e", "g"]


@one
def test_nodes_that_moved_since_are_refused(plans: Plans) -> None:
    with working_on(plans.source):
        root = grow(ListNode, "root")
        for code in "abc":
            grow(ListNode, code, root)
    plans.synchronize(root)
    with working_on(plans.source):
        new = grow(ListNode, "d", root)
        plans.write(root)
        ListNode.objects.move(new, ListNode.objects.get(code="b"), pos="left")

    assert f"trees.ListNode.{new.pk} has changed since" in plans.refuse_plan()


# Files that are not as they were written


def edit(number: int, change: Callable[[Document], Any]) -> Callable[[list[str]], list[str]]:
    """What changes one line of a file."""

    def edited(lines: list[str]) -> list[str]:
        document = json.loads(lines[number])
        change(document)
        return [*lines[:number], json.dumps(document), *lines[number + 1 :]]

    return edited


BROKEN: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "empty": (lambda lines: [], "is empty"),
    "no header": (lambda lines: lines[1:], "does not say so"),
    "something else": (lambda lines: ["{}"], "does not say so"),
    "no JSON": (lambda lines: ["\x00\x01"], "Line 1 .* is no line of a plan"),
    "no object": (lambda lines: [lines[0], "7"], "Line 2 .* is no line of a plan"),
    "nested without end": (lambda lines: [lines[0], "[" * 100_000], "Line 2 .* is no line of a plan"),
    "cut off": (lambda lines: [*lines[:-1], lines[-1][:-20]], "Line 3 .* is no line of a plan: the file is cut off"),
    "cut off at once": (lambda lines: [lines[0][:-20]], "Line 1 .* is no line of a plan: the file is cut off"),
    "a later version": (edit(0, lambda line: line.update(version=2)), "has version 2"),
    "another policy": (edit(0, lambda line: line.update(on_conflict="local")), "first line of .* was changed"),
    "another root": (edit(0, lambda line: line.update(roots=["policies.Depot.9"])), "first line of .* was changed"),
    "no signature": (edit(0, lambda line: line.pop("signature")), "first line of .* was changed"),
    "another value": (
        edit(1, lambda line: line["fields"].update(title=["mine", "old"])),
        r"Line 2 .*policies.Article.\d+ \(update\)\) was edited",
    ),
    "another object": (edit(1, lambda line: line.update(pk="999")), r"Line 2 .*policies.Article.999.* was edited"),
    "no such model": (
        edit(1, lambda line: line.update(model="policies.Nothing")),
        "'policies.Nothing', which does not",
    ),
    "no model": (edit(1, lambda line: line.pop("model")), "model None, which does not"),
    "twice": (lambda lines: [*lines, lines[1]], r"has a line twice: policies.Article.\d+ \(update\)"),
}


@pytest.mark.parametrize(("breaking", "said"), BROKEN.values(), ids=BROKEN.keys())
@one
def test_a_file_that_is_not_as_it_was_written_is_refused(
    plans: Plans, depot: Depot, breaking: Callable[[list[str]], list[str]], said: str
) -> None:
    plans.on_source(Article).update(title="new")
    plans.on_source(Parcel).filter(number="one").update(text="new")
    plans.write(depot)
    lines = plans.path.read_text().splitlines()
    lines = [lines[0], *sorted(lines[1:], key=lambda line: "Article" not in line)]

    plans.path.write_text("\n".join(breaking(lines)))

    with pytest.raises(PlanError, match=said):
        plans.push(apply=str(plans.path))
    assert not plans.on_target(Parcel).filter(text="new").exists()


# Files that can be read only once


def pipe(text: str) -> int:
    """Return the end to read of a pipe that has this text."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "w") as file:
            file.write(text)

    threading.Thread(target=write).start()
    return reading


@pytest.mark.parametrize("case", ["whole", "outdated", "a line twice"])
@pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)
def test_a_plan_from_a_pipe_is_applied_or_refused_as_that_of_a_file(plans: Plans, depot: Depot, case: str) -> None:
    plans.on_source(Article).update(title="new")
    (line,) = plans.write(depot)
    text = plans.path.read_text()
    article = f"policies.Article.{line['pk']} (update)"
    if case == "outdated":
        plans.on_source(Article).update(title="old")
    if case == "a line twice":
        text += text.splitlines(keepends=True)[1]
    reading = pipe(text)
    location = f"/dev/fd/{reading}"

    try:
        if case == "whole":
            assert plans.push(apply=location).updated == {"policies.Article": 1}
        else:
            error = plans.refuse(apply=location)
            assert isinstance(error, PlanOutdated if case == "outdated" else PlanError)
            assert article in str(error)
    finally:
        os.close(reading)


@one
def test_lines_may_be_laid_out_and_ordered_anew(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    plans.on_source(Parcel).filter(number="one").update(text="new")
    plans.write(depot)
    first, *others = [json.dumps(line, sort_keys=True, separators=(",", ":")) for line in plans.read()]
    plans.path.write_text("\r\n\r\n".join([first, *reversed(others), ""]))

    assert plans.apply().updated == {"policies.Article": 1, "policies.Parcel": 1}


@one
def test_a_plan_is_for_the_databases_that_it_names(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    plans.write(depot)

    with pytest.raises(PlanError, match="was written for another target: 'remote'"):
        api.synchronize(apply=str(plans.path), remote="pg_remote")
    with pytest.raises(PlanError, match="was written for another source: 'pg_local'"):
        api.synchronize(apply=str(plans.path), source="default")

    assert api.synchronize(apply=str(plans.path)).updated == {"policies.Article": 1}


@one
def test_a_plan_that_another_project_signed_is_refused(plans: Plans, depot: Depot, settings: Any) -> None:
    plans.write(depot)
    settings.GESTORE_SYNC = {"SIGNING_KEY": "another"}

    with pytest.raises(PlanError, match="another key signed it"):
        plans.push(apply=str(plans.path))


@one
def test_a_root_whose_key_looks_like_a_field_and_its_value_is_that_root(plans: Plans) -> None:
    for path in ("path=/", "title=x", "/"):
        make(Page, plans.source, path=path, title="old")
    pages = list(plans.on_source(Page).exclude(pk="/"))
    plans.synchronize(*pages)
    plans.on_source(Page).update(title="new")

    plans.write(*pages)
    plans.apply()

    assert plans.on_target(Page).filter(title="new").count() == len(pages) == plans.on_target(Page).count()


@one
def test_a_root_with_a_composite_key_is_read_back(plans: Plans) -> None:
    seat = make(Seat, plans.source, name="old")
    plans.synchronize(seat)
    plans.on_source(Seat).update(name="new")

    plans.write(seat)
    plans.apply()

    assert plans.on_target(Seat).get().name == "new"


# Options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dry_run": True, "apply": "f"}, "--apply, --dry-run exclude each other"),
        ({"plan": "f", "apply": "f"}, "--apply, --plan exclude each other"),
        ({"roots": ["policies.Depot.1"], "apply": "f"}, "--apply stands alone.* Leave out --root"),
        ({"own": ["policies.Depot.boss"], "apply": "f"}, "Leave out --own"),
        ({"on_conflict": "local", "prune": True, "apply": "f"}, "Leave out --on-conflict, --prune"),
        ({"on_conflict": "newer", "apply": "f"}, "Leave out --on-conflict"),
        ({"commit_every": 0, "apply": "f"}, "Leave out --commit-every"),
        ({"confirm": print, "apply": "f"}, "Leave out --confirm"),
        ({"roots": ["policies.Depot.1"], "confirm": print, "plan": "f"}, "leave out --confirm"),
        ({"plan": "f"}, "--plan goes with --root: the change log goes on"),
        ({"roots": ["policies.Depot.1"], "changes": True, "plan": "f"}, "leave out --changes"),
        ({"roots": ["policies.Depot.1"], "move": True, "plan": "f"}, "leave out --move"),
        ({"roots": ["policies.Depot.1"], "move": True, "confirm": print, "plan": "f"}, "leave out --move"),
    ],
    ids=str,
)
def test_options_that_contradict_a_plan_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongSetting, match=said):
        api.synchronize(**options)


def test_the_command_takes_one_of_dry_run_plan_and_apply() -> None:
    with pytest.raises(CommandError, match="not allowed with argument"):
        call_command("synchronize", "--dry-run", "--plan", "plan.jsonl")


@one
def test_the_command_writes_and_applies(plans: Plans, depot: Depot, capsys: pytest.CaptureFixture[str]) -> None:
    plans.on_source(Article).update(title="new")
    between = ("--source", plans.source, "--remote", plans.target)

    call_command("synchronize", "--root", f"policies.Depot.{depot.pk}", "--plan", str(plans.path), *between)
    written = capsys.readouterr().out
    call_command("synchronize", "--apply", str(plans.path))

    assert f"Written to {plans.path}." in written
    assert capsys.readouterr().out.endswith("Synchronization performed successfully.\n")
    with pytest.raises(CommandError, match=r"policies.Article.\d+ \(update\) has changed since"):
        call_command("synchronize", "--apply", str(plans.path))


# diffobjects --repair


def test_what_differs_is_mended_by_the_plan_of_a_comparison(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    plans.on_target(Parcel).filter(number="one").update(text="theirs")
    plans.on_target(Scan).filter(parcel__number="two").delete()
    plans.on_source(Scan).filter(parcel__number="one").delete()
    make(Parcel, plans.source, depot=depot, number="three")

    with read_only(plans.source), read_only(plans.target):
        found = api.diff_objects(depot, source=plans.source, remote=plans.target, repair=str(plans.path))

    assert len(found.get_all()) == 7
    assert (found.location, found.warnings) == (str(plans.path), [])
    plans.apply()
    assert api.diff_objects(depot, source=plans.source, remote=plans.target).get_all() == []


@one
def test_rows_that_others_made_are_named_and_stay(plans: Plans, depot: Depot) -> None:
    plans.on_source(Article).update(title="new")
    theirs = make(Parcel, plans.target, depot=plans.on_target(Depot).get(name="ours"), number="theirs")

    found = api.diff_objects(depot, source=plans.source, remote=plans.target, repair=str(plans.path))

    assert found.warnings == [
        f"1 row that only the target has was not put there by this database, and stays: policies.Parcel.{theirs.pk}."
    ]
    plans.apply()
    [extra] = api.diff_objects(depot, source=plans.source, remote=plans.target).get_all()
    assert (extra["model"], extra["pk"]) == ("policies.Parcel", str(theirs.pk))


@one
def test_what_cannot_be_decided_is_told_instead_of_a_plan_that_mends(plans: Plans, depot: Depot) -> None:
    plans.on_source(Scan).filter(parcel__number="one").delete()
    plans.on_source(Parcel).filter(number="one").delete()
    make(Scan, plans.target, parcel=plans.on_target(Parcel).get(number="one"))

    with pytest.raises(UnresolvedConflicts) as caught:
        api.diff_objects(depot, source=plans.source, remote=plans.target, repair=str(plans.path))

    assert isinstance(caught.value.report, Differences)
    assert len(caught.value.report.extra) == 4
    assert not plans.path.exists()


@one
def test_the_command_writes_what_mends(plans: Plans, depot: Depot, capsys: pytest.CaptureFixture[str]) -> None:
    plans.on_target(Article).update(title="theirs")
    arguments = (f"policies.Depot.{depot.pk}", "--source", plans.source, "--remote", plans.target)

    with pytest.raises(SystemExit, match="1"):
        call_command("diffobjects", *arguments, "--repair", str(plans.path))

    assert f"Written to {plans.path}." in capsys.readouterr().out
    call_command("synchronize", "--apply", str(plans.path))
    call_command("diffobjects", *arguments)


# Whatever the data are


def mutate(random: Random, sync: Sync, line: Document) -> bool:
    """Change a text of the object that a line is about, on one of the sides that have it; whether there is any."""
    model = next(model for model in TABLES if model._meta.label == line["model"])
    sides = [(sync.source, line["pk"]), (sync.target, line["target"])]
    using, pk = random.choice([side for side in sides if side[1] is not None])
    texts = [field for field in model._meta.local_concrete_fields if isinstance(field, models.CharField)]
    names = [field.name for field in texts if not field.unique and not field.primary_key and field.name != "key"]
    found = rows(model, using).filter(pk=pk).values(*names).first() if names and "," not in pk else None
    for name, text in (found or {}).items():
        if text and "/" in text:
            return bool(rows(model, using).filter(pk=pk).update(**{name: f"{text[:-1]}~"}))
    return False


def examples(number: int) -> Any:
    """The settings for so many examples."""
    return hypothesis_settings(
        max_examples=number,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )


seeds = given(seed=st.integers(0, 10**9), batch_size=st.sampled_from([1, 3, 10_000]))


@examples(3)
@seeds
def test_a_plan_does_what_a_push_does_whatever_the_data_are(
    pair: Pair, tmp_path: Path, seed: int, batch_size: int
) -> None:
    compare_with_a_push(pair, tmp_path, seed, batch_size)


@pytest.mark.heavy
@examples(8 * TIMES)
@seeds
def test_many_plans_do_what_pushes_do(pair: Pair, tmp_path: Path, seed: int, batch_size: int) -> None:
    compare_with_a_push(pair, tmp_path, seed, batch_size)


def compare_with_a_push(pair: Pair, tmp_path: Path, seed: int, batch_size: int) -> None:
    """Push random changes, and do the same by a plan: whole, with something changed since, and with lines removed."""
    random = Random(seed)
    path = tmp_path / "plan.jsonl"
    with (
        rolled_back(pair.source, pair.target),
        sync_watched(pair) as sync,
        override_settings(GESTORE_SYNC={"BATCH_SIZE": batch_size}),
    ):
        renumber_content_types(sync.target)
        Maker(random, sync.target, "theirs").make_graph(most=2)
        maker = Maker(random, sync.source, "ours")
        maker.make_graph(most=3)
        give_target_what_it_may_have(random, sync)
        roots = choose_roots(random, sync.source)
        if random.random() < 0.8:
            sync.synchronize(*roots)
            maker.change()
            roots = [root for root in roots if rows(type(root), sync.source).filter(pk=root.pk).exists()]
        if not roots:
            return
        prune = random.random() < 0.5
        with rolled_back(pair.target):
            try:
                pushed = sync.synchronize(*roots, prune=prune)
            except UnresolvedConflicts:
                with pytest.raises(UnresolvedConflicts):
                    sync.synchronize(*roots, prune=prune, plan=str(path))
                return
            expected = Database(sync.target, TABLES).state()
            differing = find_differing(sync, roots)
        sync.synchronize(*roots, prune=prune, plan=str(path))
        whole = path.read_text()
        first, *lines = whole.splitlines(keepends=True)

        with rolled_back(pair.target):
            applied = sync.synchronize(apply=str(path))
            assert Database(sync.target, TABLES).state() == expected
            assert applied.as_dict() == pushed.as_dict()

        written = [line for line in map(json.loads, lines) if line["do"] != "note"]
        for line in random.sample(written, min(len(written), 3)):
            with rolled_back(pair.source, pair.target):
                if mutate(random, sync, line):
                    assert_refused(sync, path, PlanOutdated)

        path.write_text("".join([first, *(line for line in lines if random.random() < 0.7)]))
        try:
            sync.synchronize(apply=str(path))
        except PlanError:
            assert_refused(sync, path, PlanError)
        path.write_text(whole)
        sync.synchronize(*roots, prune=prune)
        assert find_differing(sync, roots) == differing


def find_differing(sync: Sync, roots: list[models.Model]) -> list[tuple[str, str]]:
    """What differs between both sides; what hangs on referred objects is not compared, and may have been left out."""
    found = api.diff_objects(roots, source=sync.source, remote=sync.target)
    return sorted((item["model"], item["pk"]) for item in (*found.missing, *found.different))


def assert_refused(sync: Sync, path: Path, kind: type[GestoreSyncError]) -> None:
    """Assert that a plan is refused and leaves the target as it was."""
    before = content(sync.target)
    with pytest.raises(kind):
        sync.synchronize(apply=str(path))
    assert describe_changes(before, content(sync.target)) == {}

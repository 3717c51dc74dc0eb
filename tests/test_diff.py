"""``diffobjects``: what belongs to a root, compared in two databases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from gestore_sync import api, differing
from gestore_sync.exceptions import UnknownObject
from gestore_sync.progress import Progress
from tests.conftest import Pair
from tests.kinds.making import make
from tests.policies.models import Article, Colour, Depot, Parcel
from tests.policies.watching import Watch, pairings, read_only, unread
from tests.test_bad_input import changed_settings

ONE = pairings("postgresql-sqlite")
Diff = Callable[..., Any]


@pytest.fixture
def watch(pair: Pair) -> Watch:
    return Watch(pair)


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot with an article, two parcels and a colour, which both sides have."""
    make(Depot, watch.target, name="in the way")
    depot = make(Depot, watch.source, name="ours")
    make(Article, watch.source, depot=depot, code="a")
    make(Parcel, watch.source, depot=depot, text="x")
    make(Parcel, watch.source, depot=depot, text="y")
    depot.colours.add(make(Colour, watch.source, name="red"))
    watch.push(depot)
    return depot


@pytest.fixture
def diff(watch: Watch) -> Diff:
    """Compares a root, which writes nothing."""

    def compare(*roots: Any, **options: Any) -> Any:
        with CaptureQueriesContext(connections[watch.target]) as queries, read_only(watch.target):
            found = api.diff_objects(list(roots), source=watch.source, remote=watch.target, **options)
        assert not unread(queries)
        return found

    return compare


def names(items: list[dict[str, Any]]) -> list[str]:
    return sorted(f"{item['model']}.{item['pk']}" for item in items)


def test_nothing_differs_after_a_push(depot: Depot, diff: Diff) -> None:
    found = diff(depot)

    assert found.get_all() == []
    assert found.message == "Both databases have the same."


def test_an_object_that_the_target_lacks_is_missing(watch: Watch, depot: Depot, diff: Diff) -> None:
    parcel = make(Parcel, watch.source, depot=depot, text="new")

    found = diff(depot)

    assert names(found.missing) == [f"policies.Parcel.{parcel.pk}"]
    assert names([*found.extra, *found.different]) == []


def test_a_row_that_only_the_target_has_is_extra(watch: Watch, depot: Depot, diff: Diff) -> None:
    parcel = make(Parcel, watch.target, depot=watch.on_target(Depot).get(name="ours"), text="theirs")

    found = diff(depot)

    assert names(found.extra) == [f"policies.Parcel.{parcel.pk}"]
    assert names([*found.missing, *found.different]) == []


def test_a_member_that_only_one_side_has_is_told(watch: Watch, depot: Depot, diff: Diff) -> None:
    depot.colours.add(make(Colour, watch.source, name="new"))
    watch.on_target(Depot).get(name="ours").colours.clear()

    found = diff(depot)

    assert {item["model"] for item in found.missing} == {"policies.Depot_colours", "policies.Colour"}
    assert len(found.missing) == 3


def test_fields_that_differ_are_told_with_both_values(watch: Watch, depot: Depot, diff: Diff) -> None:
    parcel = watch.on_source(Parcel).get(text="x")
    watch.on_target(Parcel).filter(text="x").update(text="changed", weight=7)

    found = diff(depot)

    [different] = found.different
    assert (different["model"], different["pk"]) == ("policies.Parcel", str(parcel.pk))
    assert different["fields"] == {"text": ["x", "changed"], "weight": [parcel.weight, 7]}


def test_links_are_compared_by_what_they_point_to(watch: Watch, depot: Depot, diff: Diff) -> None:
    assert watch.on_target(Depot).get(name="ours").pk != depot.pk
    assert diff(depot).get_all() == []
    other = watch.on_target(Depot).get(name="in the way")
    parcel = watch.on_source(Parcel).get(text="x")

    watch.on_target(Parcel).filter(text="x").update(depot=other)

    [different] = diff(depot).different
    assert (different["pk"], list(different["fields"])) == (str(parcel.pk), ["depot"])


def test_a_push_of_what_differs_leaves_nothing_but_extra_rows(watch: Watch, depot: Depot, diff: Diff) -> None:
    make(Parcel, watch.source, depot=depot, text="new")
    watch.on_source(Parcel).filter(text="x").update(text="changed")
    extra = make(Parcel, watch.target, depot=watch.on_target(Depot).get(name="ours"), text="theirs")

    watch.push(depot)

    found = diff(depot)
    assert names(found.extra) == [f"policies.Parcel.{extra.pk}"]
    assert found.missing == found.different == []


def test_nothing_differs_after_an_import(pair: Pair, watch: Watch, diff: Diff, tmp_path: Path) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, text="x")
    api.export_objects(depot, str(tmp_path / "bundle.tar.gz"), database=pair.source)
    api.import_objects(str(tmp_path / "bundle.tar.gz"), database=pair.target)

    assert diff(depot).get_all() == []


def test_queries_do_not_grow_with_objects(watch: Watch, depot: Depot) -> None:
    def count() -> int:
        here, there = (CaptureQueriesContext(connections[using]) for using in (watch.source, watch.target))
        with here, there:
            api.diff_objects(depot, source=watch.source, remote=watch.target)
        return len(here) + len(there)

    few = count()
    for number in range(50):
        make(Parcel, watch.source, depot=depot, text=f"more {number}")
    watch.push(depot)

    assert count() == few


@pytest.mark.parametrize("pair", ONE, indirect=True)
@pytest.mark.parametrize("roots", [[], ["policies.Depot.999999"], ["nothing"]])
def test_a_comparison_of_nothing_is_refused(diff: Diff, roots: list[str]) -> None:
    with pytest.raises(UnknownObject):
        diff(*roots)


# Both sides are live


class Meanwhile(Progress):
    """Does something each time that a comparison begins to compare."""

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self.steps = list(steps)
        self.looks = 0

    def start(self, phase: str, total: int | None = None) -> None:
        if phase == "comparing":
            self.looks += 1
            if self.steps:
                self.steps.pop(0)()


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-sqlite"), indirect=True)
def test_only_what_differs_at_both_looks_is_told(watch: Watch, depot: Depot) -> None:
    """A row that was late is no difference, nor is one that has changed since; what stays is one."""
    late, stays, changed = (make(Parcel, watch.source, depot=depot, number=f"{number}") for number in range(3))
    watch.push(depot)
    there = {number: watch.on_target(Parcel).filter(number=f"{number}") for number in range(3)}
    for number in (0, 1):
        there[number].update(text="old")
    extra = make(Parcel, watch.target, depot=watch.on_target(Depot).get(name="ours"), text="goes")
    missing = make(Parcel, watch.source, depot=depot, number="comes")
    gone = make(Parcel, watch.source, depot=depot, number="goes")

    def arrive() -> None:
        there[0].update(text=late.text)
        there[2].update(text="new")
        watch.on_target(Parcel).filter(pk=extra.pk).delete()
        watch.on_source(Parcel).filter(pk=gone.pk).delete()

    meanwhile = Meanwhile(lambda: None, arrive)
    found = api.diff_objects(depot, source=watch.source, remote=watch.target, progress=meanwhile)

    assert meanwhile.looks == 2
    assert there[2].get().text == "new" != changed.text
    assert names(found.different) == [f"policies.Parcel.{stays.pk}"]
    assert names(found.missing) == [f"policies.Parcel.{missing.pk}"]
    assert found.extra == []
    assert found.message == "2 objects differ."


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-sqlite"), indirect=True)
def test_what_does_not_differ_is_looked_at_once(watch: Watch, depot: Depot) -> None:
    meanwhile = Meanwhile(lambda: None, lambda: watch.on_target(Parcel).update(text="new"))

    found = api.diff_objects(depot, source=watch.source, remote=watch.target, progress=meanwhile)

    assert (meanwhile.looks, found.get_all()) == (1, [])


# The command


def run(watch: Watch, *arguments: str) -> int:
    """The exit code."""
    try:
        call_command("diffobjects", *arguments, "--source", watch.source, "--remote", watch.target)
    except SystemExit as end:
        return int(end.code or 0)
    except CommandError as error:
        return error.returncode
    return 0


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_exit_code_is_that_of_diff(watch: Watch, depot: Depot) -> None:
    name = f"policies.Depot.{depot.pk}"
    codes = [run(watch, name), run(watch, "policies.Depot.999999")]
    watch.on_target(Parcel).filter(text="x").update(text="changed")

    assert [*codes, run(watch, name)] == [0, 2, 1]


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_the_command_shows_both_sides(watch: Watch, depot: Depot, capsys: pytest.CaptureFixture[str]) -> None:
    watch.on_target(Parcel).filter(text="x").update(text="changed")

    run(watch, f"policies.Depot.{depot.pk}")

    shown = capsys.readouterr().out
    assert "text: 'x' | 'changed'" in shown
    assert shown.endswith("1 object differs.\n")


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_json_has_lists_instead_of_counts(watch: Watch, depot: Depot, capsys: pytest.CaptureFixture[str]) -> None:
    parcel = make(Parcel, watch.source, depot=depot, text="new")

    run(watch, f"policies.Depot.{depot.pk}", "--format", "json")

    document = json.loads(capsys.readouterr().out)
    assert document["missing"] == [
        {"model": "policies.Parcel", "pk": str(parcel.pk), "natural_key": None, "fields": {}}
    ]
    assert document["extra"] == document["different"] == []
    assert document["totals"] == {"missing": {"policies.Parcel": 1}, "extra": {}, "different": {}}
    assert "created" not in document


@pytest.mark.parametrize("pair", ONE, indirect=True)
@pytest.mark.parametrize("form", ["text", "json"])
def test_trouble_is_told_from_a_difference(
    watch: Watch, depot: Depot, form: str, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"policies.Depot.{depot.pk}"
    arguments = ["--source", watch.source, "--remote", watch.target, "--format", form]

    def end(*given: str) -> tuple[int, bool]:
        """The exit code, and whether standard output has the error."""
        with pytest.raises(CommandError) as caught:
            call_command("diffobjects", *arguments, *given, skip_checks=False)
        out = capsys.readouterr().out
        return caught.value.returncode, bool(out) and bool(json.loads(out)["error"])

    ends = [
        end("policies.Depot.999999"),
        end("nothing"),
        end(name, "--remote", "nowhere"),
        end(name, "--own", "no.l.x"),
    ]
    settings.GESTORE_SYNC = {"BATCH_SIZE": 0}

    assert ends == [(2, form == "json")] * 4
    assert end(name)[0] == 2


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql", live=True), indirect=True)
def test_a_database_that_is_away_is_trouble(pair: Pair) -> None:
    watch = Watch(pair)
    depot = make(Depot, watch.source, name="ours")

    with changed_settings(watch.target, HOST="127.0.0.1", PORT="1"):
        code = run(watch, f"policies.Depot.{depot.pk}", "--format", "json")

    assert code == 2


# Many differences


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_all_differences_are_counted_and_the_first_are_told(
    watch: Watch, depot: Depot, diff: Diff, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(differing, "MAX_TOLD", 2)
    for number in range(5):
        make(Parcel, watch.source, depot=depot, text=f"new {number}")

    found = diff(depot)
    run(watch, f"policies.Depot.{depot.pk}")

    assert len(found.missing) == 2
    assert found.totals == {"missing": {"policies.Parcel": 5}}
    assert found.message == "5 objects differ."
    assert found.warnings == ["Only the first 2 of 5 objects are told (missing)."]
    assert "Only the first 2 of 5" in capsys.readouterr().out


@pytest.mark.parametrize("pair", ONE, indirect=True)
def test_long_values_are_cut_when_much_was_told(
    watch: Watch, depot: Depot, diff: Diff, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.on_target(Depot).filter(name="ours").update(city="b" * 40)
    watch.on_source(Depot).filter(name="ours").update(city="a" * 40)
    whole = diff(depot).different[0]["fields"]["city"]
    monkeypatch.setattr(differing, "ROOM", 10)
    monkeypatch.setattr(differing, "CUT", 5)

    cut = diff(depot).different[0]["fields"]["city"]

    assert whole == ["a" * 40, "b" * 40]
    assert cut == ["aaaaa… (40)", "bbbbb… (40)"]


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-postgresql"), indirect=True)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_the_size_of_batches_changes_no_difference(watch: Watch, depot: Depot, diff: Diff, size: int) -> None:
    for number in range(3):
        make(Parcel, watch.source, depot=depot, text=f"new {number}")
        make(Parcel, watch.target, depot=watch.on_target(Depot).get(name="ours"), text="theirs")
    watch.on_target(Parcel).filter(text="x").update(text="changed")
    whole = diff(depot)

    with override_settings(GESTORE_SYNC={"BATCH_SIZE": size}):
        found = diff(depot)

    assert [names(whole.missing), names(whole.extra)] == [names(found.missing), names(found.extra)]
    assert whole.different == found.different
    assert [len(found.missing), len(found.extra), len(found.different)] == [3, 3, 1]

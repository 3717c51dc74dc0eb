from __future__ import annotations

import uuid
from random import Random
from typing import Any

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gestore_sync import api
from gestore_sync.exceptions import UnresolvedConflicts
from gestore_sync.refs import show_key
from tests.conftest import DATABASES, TIMES, Pair
from tests.kinds.oracle import Database, Key, Model, Place, owned, referred
from tests.kinds.pushing import Sync, rolled_back, rows, watched
from tests.schemas.building import built
from tests.schemas.drawing import LINKED, UUID, Drawn, Link, Members, Schema, schemas
from tests.schemas.filling import Filler, copy_known, insert, make_content_types
from tests.schemas.pruning import Pruning
from tests.test_random_bundles import expect_of_bundle
from tests.test_random_graphs import compare, hearing

Places = list[Place]


def some(number: int) -> settings:
    """Return the settings of a test with so many examples."""
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class Sides:
    """Two databases with the same random models. ``is_empty``: the target has no rows of them yet."""

    def __init__(self, pair: Pair, tables: list[Model], random: Random, most: int, *, is_empty: bool = False) -> None:
        self.pair = pair
        self.tables = tables
        self.random = random
        make_content_types(tables, pair.source, backwards=False)
        make_content_types(tables, pair.target, backwards=True)
        self.theirs = Filler(random, pair.target, tables, "t")
        if not is_empty:
            self.theirs.fill(most)
        self.ours = Filler(random, pair.source, tables, "o")
        self.ours.fill(most)
        if not is_empty:
            copy_known(random, self.read_source(), self.theirs)

    def read_source(self) -> Database:
        """Return all that the source has."""
        return Database(self.pair.source, self.tables)

    def read_target(self) -> Database:
        """Return all that the target has."""
        return Database(self.pair.target, self.tables)

    def choose_roots(self, *former: Place) -> Places:
        """Return one to three objects of the source, those among them that were pushed before and are still there."""
        return choose_places(self.random, self.read_source(), *former)


def choose_places(random: Random, database: Database, *former: Place) -> Places:
    """Return one to three objects of a database, or those of ``former`` that are still there."""
    everything = sorted((place for place in database.places() if not place[0]._meta.auto_created), key=str)
    roots = [place for place in former if place[1] in database.rows[place[0]]]
    return roots or random.sample(everything, min(len(everything), random.randint(1, 3)))


def place_by_key(database: Database) -> dict[Key, Place]:
    """Return where each row is."""
    return {database.key(place): place for place in database.places()}


def get_objects(places: Places, using: str) -> list[models.Model]:
    """Return the objects themselves."""
    return [rows(model, using).get(pk=key) for model, key in places]


class Story(Sides):
    """What is pushed between two databases, and what they should hold."""

    def __init__(self, sync: Sync, tables: list[Model], random: Random, most: int) -> None:
        super().__init__(Pair(sync.source, sync.target), tables, random, most)
        self.sync = sync
        self.sent: set[Key] = set()
        self.created: set[Key] = set()
        self.left: dict[Key, Place] = {}

    def forget_remade(self, target: Database) -> None:
        """Forget that rows were sent which the target has taken out and then made itself: members, say."""
        remade = {key for key, place in place_by_key(target).items() if self.left.get(key) != place}
        self.sent -= remade
        self.created -= remade

    def push(self, places: Places, **options: Any) -> None:
        """Push, and compare all that the target has with what the rules say; then push again."""
        source, before = self.read_source(), self.read_target()
        held = before.state()
        self.forget_remade(before)
        pruning = Pruning(source, before, places, self.created, is_on=options.get("prune", False))
        roots = get_objects(places, self.sync.source)
        self.sync.untouchable = {}
        try:
            self.sync.push(*roots, **options)
        except UnresolvedConflicts as error:
            assert pruning.holding, error
            assert self.read_target().state() == held
            return
        assert not pruning.holding
        expected = pruning.apply(expect_of_bundle(source, places, held, self.sent))
        after = self.read_target()
        differences = compare(after.state(), expected)
        assert not differences, "\n".join(differences)
        assert_same_keys(before, after)
        self.created |= expected.keys() - held.keys()
        self.left = place_by_key(after)
        self.sync.assert_nothing_to_do(*roots, **options)
        self.compare_by_package(source, after, places, roots)

    def compare_by_package(self, source: Database, target: Database, places: Places, roots: list[models.Model]) -> None:
        """Let the package compare both sides: it finds nothing but what only the target has."""
        report = api.diff_objects(roots, source=self.sync.source, remote=self.sync.target)
        assert not report.conflicts
        assert not report.missing
        assert not report.different
        mine = owned(source, places)
        needed = referred(source, mine, {})
        known = {source.key(place) for place in mine | needed}
        by_key = place_by_key(target)
        hanging = owned(target, [by_key[source.key(place)] for place in mine])
        extra = {(entry["model"], entry["pk"]) for entry in report.extra}
        possible = {(place[0]._meta.label, show_key(place[1])) for place in hanging if target.key(place) not in known}
        assert extra <= possible


def assert_same_keys(before: Database, after: Database) -> None:
    """Check that no object of the target has got another primary key."""
    old, new = place_by_key(before), place_by_key(after)
    assert all(new[key] == old[key] for key in old.keys() & new.keys())


def tell_story(pair: Pair, schema: Schema, seed: int, most: int, options: dict[str, Any]) -> None:
    """Push objects of random models, change both sides, and push again."""
    random = Random(seed)
    with (
        rolled_back(pair.source, pair.target),
        built(schema, pair.source, pair.target) as tables,
        watched(pair) as sync,
        override_settings(GESTORE_SYNC=options),
        hearing(),
    ):
        story = Story(sync, tables, random, most)
        roots = story.choose_roots()
        if not roots:
            return
        story.push(roots)
        story.ours.change(mine=True)
        story.theirs.change(mine=False)
        roots = story.choose_roots(*roots)
        if roots:
            story.push(roots, on_conflict="local")
        story.ours.change(mine=True)
        roots = story.choose_roots(*roots)
        if roots:
            story.push(roots, on_conflict="local", prune=True)
        roots = story.choose_roots()
        if roots:
            story.push(roots, on_conflict="local")


SCHEMAS = {
    "schema": schemas(),
    "seed": st.integers(0, 10**9),
    "most": st.integers(1, 3),
    "options": st.fixed_dictionaries(
        {"BATCH_SIZE": st.sampled_from([10_000, 2]), "SIGNALS": st.sampled_from(["none", "raw", "save"])}
    ),
}
PAIRS = pytest.mark.parametrize(
    "pair",
    [
        pytest.param(Pair("default", "remote"), id="sqlite-sqlite"),
        pytest.param(Pair("pg_local", "pg_remote"), id="postgresql-postgresql"),
    ],
)


@PAIRS
@pytest.mark.django_db(databases=DATABASES)
@some(5)
@given(**SCHEMAS)
def test_objects_of_some_schemas_arrive_as_they_are_and_follow_their_changes(
    pair: Pair, schema: Schema, seed: int, most: int, options: dict[str, Any]
) -> None:
    tell_story(pair, schema, seed, most, options)


@pytest.mark.heavy
@PAIRS
@pytest.mark.django_db(databases=DATABASES)
@some(12 * TIMES)
@given(**SCHEMAS)
def test_objects_of_any_schema_arrive_as_they_are_and_follow_their_changes(
    pair: Pair, schema: Schema, seed: int, most: int, options: dict[str, Any]
) -> None:
    tell_story(pair, schema, seed, most, options)


def test_the_models_of_an_example_are_gone_with_it() -> None:
    before = {model._meta.label for model in apps.get_models(include_auto_created=True)}

    with built((Drawn(members=(Members(1),)), Drawn(links=(Link(0),)))) as tables:
        assert {model._meta.label for model in tables} == {"schemas.M0", "schemas.M0_members00", "schemas.M1"}

    assert {model._meta.label for model in apps.get_models(include_auto_created=True)} == before
    assert not any(link.related_model in tables for link in ContentType._meta.related_objects)


@PAIRS
@pytest.mark.django_db(databases=DATABASES)
def test_an_object_is_one_however_a_uuid_in_its_composite_key_is_read(pair: Pair) -> None:
    schema = (Drawn(key=UUID), Drawn(key=LINKED, links=(Link(0),)))
    with (
        rolled_back(pair.source, pair.target),
        built(schema, pair.source, pair.target) as (home, part),
        watched(pair) as sync,
    ):
        key = uuid.uuid4()
        insert(home, pair.source, {"id": key, "mark": "home"})
        insert(part, pair.source, {"link10_id": key, "number": 1, "mark": "part"})

        report = sync.push(f"schemas.M1.{key},1", f"schemas.M0.{key}")

        assert report.created == {"schemas.M0": 1, "schemas.M1": 1}
        assert sync.on_target(part).get(pk=(key, 1)).mark == "part"
        sync.assert_nothing_to_do(f"schemas.M1.{key},1", f"schemas.M0.{key}")

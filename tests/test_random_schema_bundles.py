from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.db import models
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from gestore_sync.exceptions import UnresolvedConflicts
from tests.carrying import FORMATS, Courier, carried
from tests.conftest import TIMES, Pair
from tests.kinds.oracle import Database, Key, Model, State, owned
from tests.kinds.pushing import rolled_back
from tests.policies.watching import CROSSED, describe_changes, pairings
from tests.schemas.building import built
from tests.schemas.drawing import Schema
from tests.test_random_bundles import expect_of_bundle
from tests.test_random_graphs import compare, hearing
from tests.test_random_schemas import SCHEMAS, Places, Sides, assert_same_keys, get_objects, some

BUNDLES = {**SCHEMAS, "ending": st.sampled_from(FORMATS), "is_empty": st.booleans()}


class Shipment(Sides):
    """Objects of random models that go from one database to another as files."""

    def __init__(self, courier: Courier, tables: list[Model], random: Random, most: int, *, is_empty: bool) -> None:
        super().__init__(Pair(courier.source, courier.target), tables, random, most, is_empty=is_empty)
        self.courier = courier
        self.is_empty = is_empty
        self.sent: set[Key] = set()

    def carry(self, places: Places) -> None:
        """Export and import, and compare all that the target has with what the rules say; then import again."""
        source, before = self.read_source(), self.read_target()
        held = before.state()
        expected = expect_of_bundle(source, places, held, self.sent)
        roots = get_objects(places, self.courier.source)
        path = self.courier.export(*roots)
        self.take(path, roots, find_different(source, places, held))
        after = self.read_target()
        differences = compare(after.state(), expected)
        assert not differences, "\n".join(differences)
        assert_same_keys(before, after)
        if not held:
            assert_kept_keys(source, after)
        self.courier.take_nothing(path, on_conflict=self.policy)
        self.courier.live_nothing(*roots)

    @property
    def policy(self) -> str:
        """The policy that lets in what no row of the target stands for."""
        return "fail" if self.is_empty else "remap"

    def take(self, path: str, roots: list[models.Model], different: set[Key]) -> None:
        """Import; where both sides have an object, each with its own content, that is a conflict: then push it."""
        before = self.courier.picture()
        try:
            self.courier.take(path, on_conflict=self.policy)
        except UnresolvedConflicts as error:
            assert different, error
            assert describe_changes(before, self.courier.picture()) == {}
            self.courier.live(*roots, on_conflict="local")


def find_different(source: Database, places: Places, held: State) -> set[Key]:
    """Return the owned objects that the target has, too, with other content."""
    mine = {source.key(place): source.describe(place) for place in owned(source, places)}
    return {key for key, description in mine.items() if key in held and held[key] != description}


def assert_kept_keys(source: Database, target: Database) -> None:
    """Check that what came to an empty database has the primary keys that it had."""
    old, new = (
        {database.key(place): place for place in database.places() if not place[0]._meta.auto_created}
        for database in (source, target)
    )
    assert all(new[key] == old[key] for key in old.keys() & new.keys())


def ship(
    pair: Pair,
    folder: Path,
    schema: Schema,
    seed: int,
    most: int,
    options: dict[str, Any],
    ending: str,
    *,
    is_empty: bool,
) -> None:
    """Carry objects of random models to another database, change them, and carry them again."""
    random = Random(seed)
    with (
        rolled_back(pair.source, pair.target),
        carried(pair, folder, "schemas", "contenttypes", ending=ending) as courier,
        built(schema, pair.source, pair.target) as tables,
        override_settings(GESTORE_SYNC=options),
        hearing(),
    ):
        shipment = Shipment(courier, tables, random, most, is_empty=is_empty)
        roots = shipment.choose_roots()
        for _ in range(2):
            if roots:
                shipment.carry(roots)
                shipment.ours.change(mine=True)
                roots = shipment.choose_roots(*roots)


@pytest.mark.parametrize("pair", pairings(*CROSSED))
@some(3)
@given(**BUNDLES)
def test_objects_of_some_schemas_arrive_by_bundle_as_they_are(tmp_path: Path, pair: Pair, **drawn: Any) -> None:
    ship(pair, tmp_path, **drawn)


@pytest.mark.heavy
@pytest.mark.parametrize("pair", pairings(*CROSSED, "sqlite-sqlite", "postgresql-postgresql"))
@some(7 * TIMES)
@given(**BUNDLES)
def test_objects_of_any_schema_arrive_by_bundle_as_they_are(tmp_path: Path, pair: Pair, **drawn: Any) -> None:
    ship(pair, tmp_path, **drawn)

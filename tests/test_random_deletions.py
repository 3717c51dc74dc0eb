"""Deletions from random graphs, compared with what an oracle says, object by object in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import models
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gestore_sync import api
from tests.deletions import Ground, on_each, standing_on
from tests.kinds import models as kinds
from tests.kinds.oracle import Database, Place, belongs, foreign_keys, owned
from tests.kinds.pushing import Content, rolled_back
from tests.policies.watching import describe_changes
from tests.test_random_graphs import TABLES, Maker, choose_roots, place_of

MENTIONS = [kinds.Bookmark, kinds.Rumour]


@pytest.fixture(params=on_each())
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with standing_on(request.param) as ground:
        yield ground


def find_nulled(database: Database, gone: set[Place]) -> set[tuple[Place, str]]:
    """The rows that stay with the column that is nulled, of all that point at what is gone by an optional link."""
    found = set()
    for place in database.places():
        if place in gone:
            continue
        for link, to in database.links(place):
            if to in gone and not isinstance(link, GenericForeignKey):
                assert link.null and not belongs(link, to[0]), f"{place} holds {to} fast by {link}"
                found.add((place, link.attname))
    return found


def forget(picture: Content, gone: Iterable[Place], nulled: Iterable[tuple[Place, str]]) -> Content:
    """The rows as they must be afterwards."""
    after = {model: dict(rows) for model, rows in picture.items()}
    for model, pk in gone:
        del after[model][pk]
    for (model, pk), column in nulled:
        names = [field.attname for field in model._meta.local_concrete_fields]
        row = list(after[model][pk])
        row[names.index(column)] = (type(None), None)
        after[model][pk] = tuple(row)
    return after


def find_free(database: Database, gone: set[Place]) -> set[Place]:
    """What only rows that are gone have used, and then what only that has used, and so on; parts of others left out."""
    found: set[Place] = set()
    while True:
        away = gone | found
        used = {to for place in away for _, to in database.links(place) if to is not None and to not in away}
        used -= {to for place in database.places() if place not in away for _, to in database.links(place)}
        free = {(model, pk) for model, pk in used if not any(field.one_to_one for field in foreign_keys(model))}
        if not free:
            return found
        found |= free


def make_ground(ground: Ground, random: Random) -> None:
    maker = Maker(random, ground.using, "ours")
    maker.make_graph(most=3)
    for model in MENTIONS:
        for _ in range(random.randint(0, 2)):
            shop = maker.choose(kinds.Shop)
            model(shop=shop, text=str(next(maker.numbers))).save(using=ground.using)


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    seed=st.integers(0, 10**9),
    batch_size=st.sampled_from([1, 2, 10_000]),
    orphans=st.booleans(),
)
def test_exactly_what_belongs_to_the_roots_goes_and_nothing_else_changes(
    ground: Ground, seed: int, batch_size: int, orphans: bool
) -> None:
    random = Random(seed)
    with rolled_back(ground.using), override_settings(GESTORE_SYNC={"BATCH_SIZE": batch_size}):
        make_ground(ground, random)
        database = Database(ground.using, [*TABLES, *MENTIONS])
        roots: list[models.Model] = choose_roots(random, ground.using)
        if not roots:
            return
        gone = owned(database, [place_of(root) for root in roots])
        before = ground.picture()

        report = api.delete_objects(roots, database=ground.using, orphans=orphans)

        after = ground.picture()
        vanished = {(model, pk) for model, rows in before.items() for pk in rows.keys() - after[model].keys()}
        nulled = find_nulled(database, vanished)
        assert vanished >= gone | (find_free(database, gone) if orphans else set())
        assert orphans or vanished == gone
        check_unused(database, gone, vanished - gone)
        assert after == forget(before, vanished, nulled)
        assert sum(report.deleted.values()) == len(vanished)
        assert report.mentions.items() >= count_by_link(nulled).items()


def check_unused(database: Database, gone: set[Place], orphans: set[Place]) -> None:
    """Nothing that stays points at an orphan, by any link."""
    for place in database.places():
        if place not in gone | orphans:
            for link, to in database.links(place):
                assert to not in orphans, f"{place} uses {to} by {link}"


def count_by_link(nulled: Iterable[tuple[Place, str]]) -> dict[str, int]:
    """How many rows were nulled, by link."""
    links = (model._meta.get_field(column) for (model, _), column in nulled)
    return dict(Counter(f"{link.model._meta.label}.{link.name}" for link in links))


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(seed=st.integers(0, 10**9), orphans=st.booleans())
def test_the_backup_restores_every_row(ground: Ground, tmp_path: Path, seed: int, orphans: bool) -> None:
    random = Random(seed)
    backup = str(tmp_path / "backup.tar.gz")
    with rolled_back(ground.using):
        make_ground(ground, random)
        roots = choose_roots(random, ground.using)
        if not roots:
            return
        before = ground.picture()

        api.delete_objects(roots, database=ground.using, orphans=orphans, backup=backup)
        assert ground.picture() != before
        api.import_objects(backup, database=ground.using)

        assert describe_changes(before, ground.picture()) == {}

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import IntegrityError, connections, models
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from gestore_sync import api
from gestore_sync.exceptions import UnresolvedConflicts
from gestore_sync.refs import show_key
from tests.bundling import ARCHIVES, FORMATS
from tests.conftest import TIMES
from tests.deletions import Ground, on_each, standing_on
from tests.kinds.oracle import Database, Place, belongs, owned
from tests.kinds.pushing import Content, content, rolled_back
from tests.policies.watching import describe_changes, read_only
from tests.schemas.building import built
from tests.schemas.drawing import Schema
from tests.schemas.filling import Filler, make_content_types
from tests.schemas.pruning import survives
from tests.test_random_deletions import forget
from tests.test_random_graphs import hearing
from tests.test_random_schemas import SCHEMAS, Places, choose_places, get_objects, some

LABELS = ("schemas", "contenttypes")
DELETIONS = {**SCHEMAS, "ending": st.sampled_from(FORMATS)}


def find_pointing(database: Database, gone: set[Place]) -> tuple[set[tuple[Place, str]], set[Place]]:
    """Return the columns that are nulled in rows that stay, and the rows that stay and hold fast what would go."""
    nulled: set[tuple[Place, str]] = set()
    holding: set[Place] = set()
    for place in database.places():
        if place in gone:
            continue
        for link, to in database.links(place):
            if to not in gone or isinstance(link, GenericForeignKey):
                continue
            assert not belongs(link, to[0])
            if survives(link):
                nulled.add((place, link.attname))
            else:
                holding.add(place)
    return nulled, holding


def delete_by_django(places: Places, using: str) -> Content | None:
    """Return what Django leaves when it deletes the objects; None where it refuses that."""
    left = None
    try:
        with rolled_back(using):
            for model, key in places:
                models.QuerySet(model, using=using).filter(pk=key).delete()
            connections[using].check_constraints()
            left = content(using, LABELS)
    except (IntegrityError, models.ProtectedError, models.RestrictedError):
        return None
    return left


def delete_and_restore(
    using: str, folder: Path, schema: Schema, seed: int, most: int, options: dict[str, Any], ending: str
) -> None:
    """Delete objects of random models, compare what is left with what the rules and Django say, and restore them."""
    random = Random(seed)
    backup = str(folder / f"backup{ending}")
    with (
        rolled_back(using),
        standing_on(using, *LABELS) as ground,
        built(schema, using) as tables,
        override_settings(GESTORE_SYNC=options),
        hearing(),
    ):
        make_content_types(tables, using, backwards=False)
        Filler(random, using, tables, "o").fill(most + 1)
        database = Database(using, tables)
        places = choose_places(random, database)
        if not places:
            return
        roots = get_objects(places, using)
        gone = owned(database, places)
        nulled, holding = find_pointing(database, gone)
        before = ground.picture()
        by_django = delete_by_django(places, using)

        if holding:
            assert by_django is None
            refused = ground.refuse(*roots, backup=backup)
            assert isinstance(refused, UnresolvedConflicts)
            told = {(conflict["model"], conflict["pk"]) for conflict in refused.report.conflicts}
            assert told == {(model._meta.label, show_key(key)) for model, key in holding}
            return
        ground.delete(*roots, backup=backup)

        after = ground.picture()
        assert describe_changes(after, forget(before, gone, nulled)) == {}
        if by_django is not None:
            assert describe_changes(after, by_django) == {}
        restore(ground, backup, before)


def get_comparable(picture: Content, *, has_member_keys: bool) -> Content:
    """Return the rows; those of automatic many-to-many tables by their ends, where a document has lists of members."""
    return {
        model: {row[1:]: row[1:] for row in of_model.values()}
        if model._meta.auto_created and not has_member_keys
        else of_model
        for model, of_model in picture.items()
    }


def restore(ground: Ground, backup: str, before: Content) -> None:
    """Import the backup, which gives everything back; to import it again does nothing."""
    api.import_objects(backup, database=ground.using)
    connections[ground.using].check_constraints()
    has_member_keys = backup.endswith(ARCHIVES)
    assert (
        describe_changes(*(get_comparable(it, has_member_keys=has_member_keys) for it in (before, ground.picture())))
        == {}
    )
    with read_only(ground.using):
        report = api.import_objects(backup, database=ground.using)
    assert not any((report.created, report.updated, report.deleted))


@pytest.mark.parametrize("using", on_each())
@some(4)
@given(**DELETIONS)
def test_what_belongs_to_objects_of_some_schemas_goes_with_them_and_comes_back(
    tmp_path: Path, using: str, **drawn: Any
) -> None:
    delete_and_restore(using, tmp_path, **drawn)


@pytest.mark.heavy
@pytest.mark.parametrize("using", on_each())
@some(15 * TIMES)
@given(**DELETIONS)
def test_what_belongs_to_objects_of_any_schema_goes_with_them_and_comes_back(
    tmp_path: Path, using: str, **drawn: Any
) -> None:
    delete_and_restore(using, tmp_path, **drawn)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models, transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gestore_sync import api
from gestore_sync.exceptions import UnresolvedConflicts
from gestore_sync.models import ChangeLog
from tests.carrying import FORMATS, Courier, carried, edit, find_record
from tests.conftest import DATABASES, Pair
from tests.kinds import models as kinds
from tests.kinds.making import make, make_crowd
from tests.kinds.pushing import Content, rolled_back, rows
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
    Worker,
)
from tests.policies.watching import describe_changes
from tests.test_random_graphs import SUBJECTS, Maker
from tests.trees.growing import find_problems, get_families, grow, working_on
from tests.trees.models import Genre, ListNode, PathNode, PathSorted, SetNode

LABELS = ("policies", "kinds", "trees", "auth", "contenttypes", "sites")


@pytest.fixture(
    params=[
        pytest.param(using, id=name, marks=pytest.mark.django_db(databases=DATABASES))
        for using, name in (("default", "sqlite"), ("pg_local", "postgresql"))
    ]
)
def using(request: pytest.FixtureRequest) -> str:
    """A database of each kind, which is read and written."""
    return request.param


@pytest.fixture
def courier(using: str, tmp_path: Path) -> Iterator[Courier]:
    with carried(Pair(using, using), tmp_path, *LABELS) as courier:
        yield courier


def make_depot(using: str) -> Depot:
    """Make a depot with rows of what can belong to it, beside others."""
    make_crowd(using, Depot, Parcel, Scan, Worker, Colour)
    depot = make(Depot, using, name="ours", boss=make(Worker, using, email="boss", badge=1))
    parcel = make(Parcel, using, depot=depot, number="1", brand=make(Brand, using, name="acme"))
    make(Scan, using, parcel=parcel, text="seen")
    make(Article, using, depot=depot, code="x", title="a")
    make(Shift, using, depot=depot, worker=make(Worker, using), hours=8)
    make(Truck, using, depot=depot, name="truck")
    top = make(Area, using, depot=depot, name="top")
    make(Area, using, depot=depot, parent=top, name="below")
    depot.colours.add(make(Colour, using, name="red"), make(Colour, using, name="blue"))
    kind = ContentType.objects.db_manager(using).get_for_model(Parcel)
    make(Remark, using, content_type=kind, object_id=parcel.pk, text="fragile")
    return depot


def without_notes(picture: Content) -> Content:
    """Return what is not our own."""
    return {model: of_model for model, of_model in picture.items() if model._meta.app_label != "gestore_sync"}


def without_numbers(picture: Content) -> Content:
    """Return the same, but rows of automatic many-to-many tables by what they connect."""
    return {
        model: {row[1:]: row[1:] for row in of_model.values()} if model._meta.auto_created else of_model
        for model, of_model in without_notes(picture).items()
    }


def assert_same(found: Content, expected: Content) -> None:
    """Compare all rows of all tables."""
    changes = describe_changes(expected, found)
    assert not changes, changes


@pytest.mark.parametrize("ending", FORMATS)
def test_what_was_deleted_comes_back_as_it_was(courier: Courier, ending: str) -> None:
    courier.ending = ending
    depot = make_depot(courier.source)
    before = courier.picture()
    path = courier.export(depot)
    api.delete_objects(depot, database=courier.source)
    assert not courier.on_source(Depot).filter(name="ours").exists()

    report = courier.take(path)

    assert report.created["policies.Parcel"] == report.created["policies.Depot"] == 1
    if ending.startswith(".tar"):
        assert_same(without_notes(courier.picture()), without_notes(before))
    assert_same(without_numbers(courier.picture()), without_numbers(before))
    for policy in ("fail", "skip", "override", "remap", "newer"):
        courier.take_nothing(path, on_conflict=policy)
    for model in (Depot, Parcel, Area, Worker):
        last = rows(model, courier.source).latest("pk").pk
        assert make(model, courier.source).pk > last


@pytest.mark.parametrize("ending", FORMATS)
def test_nothing_is_written_where_nothing_was_lost(courier: Courier, ending: str) -> None:
    courier.ending = ending
    depot = make_depot(courier.source)

    report = courier.take_nothing(courier.export(depot))

    assert report.unchanged["policies.Parcel"] == 1


def test_a_part_that_was_deleted_comes_back(courier: Courier) -> None:
    depot = make_depot(courier.source)
    before = courier.picture()
    path = courier.export(depot)
    rows(Scan, courier.source).filter(parcel__depot=depot)._raw_delete(courier.source)
    depot.colours.through.objects.using(courier.source).all()._raw_delete(courier.source)

    report = courier.take(path)

    assert report.created == {"policies.Scan": 1, "policies.Depot_colours": 2}
    assert_same(without_notes(courier.picture()), without_notes(before))


def test_what_came_in_since_stays(courier: Courier) -> None:
    depot = make_depot(courier.source)
    path = courier.export(depot)
    make(Parcel, courier.source, depot=depot, number="later")
    depot.colours.add(make(Colour, courier.source, name="later"))
    before = courier.picture()

    courier.take_nothing(path, on_conflict="override")

    assert_same(courier.picture(), before)


def test_what_changed_since_is_a_conflict(courier: Courier) -> None:
    depot = make_depot(courier.source)
    path = courier.export(depot)
    rows(Parcel, courier.source).filter(depot=depot).update(text="later")
    rows(Scan, courier.source).filter(parcel__depot=depot)._raw_delete(courier.source)

    for policy in ("fail", "remap"):
        error = courier.turn_away(path, on_conflict=policy)
        assert isinstance(error, UnresolvedConflicts)
        (conflict,) = error.report.get_unresolved()
        assert (conflict["model"], conflict["fields"]) == ("policies.Parcel", {"text": ["", "later"]})

    courier.take(path, on_conflict="skip")
    assert rows(Parcel, courier.source).get(depot=depot).text == "later"
    assert rows(Scan, courier.source).filter(text="seen").exists()
    courier.take(path, on_conflict="override")
    assert rows(Parcel, courier.source).get(depot=depot).text == ""


def test_what_changed_since_the_bundle_was_made_is_newer(courier: Courier) -> None:
    depot = make_depot(courier.source)
    path = courier.export(depot)
    parcel = rows(Parcel, courier.source).get(depot=depot)
    rows(Parcel, courier.source).filter(depot=depot).update(text="later")
    rows(Article, courier.source).filter(depot=depot).update(title="later")
    kind = ContentType.objects.db_manager(courier.source).get_for_model(Parcel)
    ChangeLog.objects.using(courier.source).create(content_type=kind, object_id=str(parcel.pk), action=2)

    courier.take(path, on_conflict="newer")

    assert rows(Parcel, courier.source).get(depot=depot).text == "later"
    assert rows(Article, courier.source).get(depot=depot).title == "a"


def test_a_referred_row_that_changed_since_stays_as_it_is(courier: Courier) -> None:
    depot = make_depot(courier.source)
    path = courier.export(depot)
    rows(Brand, courier.source).filter(name="acme").update(name="other", motto="later")
    before = courier.picture()

    courier.take_nothing(path, on_conflict="override")

    assert_same(courier.picture(), before)


def test_a_key_that_another_row_took_meanwhile_is_a_conflict(courier: Courier) -> None:
    depot = make_depot(courier.source)
    path = courier.export(depot)
    api.delete_objects(depot, database=courier.source)
    make(Depot, courier.source, pk=depot.pk, name="somebody else")

    error = courier.turn_away(path)

    assert error.report.get_unresolved()[0]["fields"]["name"] == ["ours", "somebody else"]
    courier.take(path, on_conflict="override")
    assert rows(Depot, courier.source).get(pk=depot.pk).name == "ours"


def test_columns_that_do_not_travel_are_restored(courier: Courier) -> None:
    box = make(kinds.Box, courier.source)
    tags = [make(kinds.Tag, courier.source, name=name) for name in ("red", "blue")]
    device = make(kinds.Device, courier.source, box=box, serial="1", battery=5, token="ours", favourite=tags[0])
    device.tags.add(tags[1])
    before = courier.picture()
    for courier.ending in (".json", ".tar.gz"):
        path = str(courier.folder / f"backup{courier.ending}")
        api.delete_objects(box, database=courier.source, backup=path)
        assert not rows(kinds.Device, courier.source).exists()

        courier.take(path)

        assert_same(without_numbers(courier.picture()), without_numbers(before))


def test_links_that_a_deletion_nulled_are_set_again_where_they_are_still_null(courier: Courier) -> None:
    depot = make_depot(courier.source)
    parcel = rows(Parcel, courier.source).get(depot=depot)
    other = rows(Parcel, courier.source).exclude(pk=parcel.pk).first()
    for text in ("null", "elsewhere", "gone"):
        make(Claim, courier.source, parcel=parcel, value=parcel, text=text)
    before = courier.picture()
    path = str(courier.folder / "backup.tar.gz")
    api.delete_objects(depot, database=courier.source, backup=path)
    rows(Claim, courier.source).filter(text="elsewhere").update(parcel=other)
    rows(Claim, courier.source).filter(text="gone").delete()

    report = courier.take(path)

    assert report.updated == {"policies.Claim": 2}
    found = dict(rows(Claim, courier.source).values_list("text", "parcel"))
    assert found == {"null": parcel.pk, "elsewhere": other.pk}
    assert set(rows(Claim, courier.source).values_list("value", flat=True)) == {parcel.pk}
    rest = {model: of_model for model, of_model in courier.picture().items() if model is not Claim}
    assert_same(without_notes(rest), {model: of for model, of in without_notes(before).items() if model is not Claim})
    courier.take_nothing(path)


def test_a_nulled_link_to_what_a_person_took_out_of_the_backup_stays_null(courier: Courier) -> None:
    depot, second = make_depot(courier.source), make(Depot, courier.source, name="second")
    parcels = [make(Parcel, courier.source, depot=second, number=number) for number in ("1", "2")]
    claims = [make(Claim, courier.source, parcel=parcel) for parcel in parcels]
    path = str(courier.folder / "backup.json")
    api.delete_objects([depot, second], database=courier.source, backup=path)

    def take_out(document: dict[str, Any]) -> None:
        document["objects"].remove(find_record(document, "policies.Parcel", parcels[0].pk))
        document["counts"]["policies.Parcel"] -= 1

    courier.take(edit(path, take_out))

    assert [rows(Claim, courier.source).get(pk=claim.pk).parcel_id for claim in claims] == [None, parcels[1].pk]


@pytest.mark.parametrize("top", ["a", "a.b"])
@pytest.mark.parametrize("model", [PathNode, PathSorted, SetNode, ListNode, Genre])
def test_trees_come_back_where_they_stood(courier: Courier, model: type[models.Model], top: str) -> None:
    with working_on(courier.source):
        for code in ("0", "a", "a.b", "a.b.c", "a.b.d", "a.e", "z"):
            parent = rows(model, courier.source).filter(code=code.rpartition(".")[0]).first()
            grow(model, code, parent, name=code)
        families = get_families(model)
    root = rows(model, courier.source).get(code=top)
    keys = dict(rows(model, courier.source).values_list("code", "pk"))
    path = str(courier.folder / "backup.tar.gz")
    with working_on(courier.source):
        api.delete_objects(root, database=courier.source, backup=path)
    assert not rows(model, courier.source).filter(code="a.b.c").exists()

    api.import_objects(path, database=courier.source)

    assert dict(rows(model, courier.source).values_list("code", "pk")) == keys
    with working_on(courier.source):
        assert get_families(model) == families
        assert find_problems(model) == []
    courier.take_nothing(path)


# Any graph


@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(seed=st.integers(0, 10**9), ending=st.sampled_from(FORMATS))
def test_any_graph_is_restored_row_by_row(using: str, tmp_path: Path, seed: int, ending: str) -> None:
    random = Random(seed)
    with rolled_back(using), carried(Pair(using, using), tmp_path, "kinds", ending=ending) as courier:
        Maker(random, using, "ours").make_graph(most=3)
        model = random.choice([model for model in SUBJECTS if rows(model, using).exists()] or [kinds.Tag])
        roots = list(rows(model, using)[:2])
        before = courier.picture()
        path = str(tmp_path / f"backup{ending}")
        if not roots or not delete(roots, path, using):
            return

        courier.take(path)

        compare = without_notes if ending.startswith(".tar") else without_numbers
        assert_same(compare(courier.picture()), compare(before))
        courier.take_nothing(path)


def delete(roots: list[models.Model], path: str, using: str) -> bool:
    """Delete with a backup; say whether nothing stood in the way."""
    try:
        with transaction.atomic(using=using):
            api.delete_objects(roots, database=using, backup=path)
    except UnresolvedConflicts:
        return False
    connections[using].check_constraints()
    return True

"""Links that the database itself follows when a row is deleted (Django 6.1) count as those that Django follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.deletions import Ground, on_each, standing_on
from tests.kinds.making import make
from tests.policies.docks import KINDS, Yard
from tests.policies.watching import CROSSED, Watch, paired

by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0].__name__)


@pytest.fixture(params=on_each())
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with standing_on(request.param) as ground:
        yield ground


pair = paired(*CROSSED)


def make_dock(using: str, kind: Any) -> Any:
    """A dock with one crane, one memo and one sign."""
    dock = make(kind[0], using)
    for model in kind[1:]:
        make(model, using, dock=dock)
    return dock


@by_kind
def test_a_push_takes_what_is_deleted_with_its_object_and_counts_what_survives_it(watch: Watch, kind: Any) -> None:
    dock = make_dock(watch.source, kind)

    report = watch.push(dock)

    labels = [model._meta.label for model in kind]
    assert report.created == {"policies.Yard": 1, labels[0]: 1, labels[1]: 1}
    assert report.mentions == {f"{labels[2]}.dock": 1, f"{labels[3]}.dock": 1}


@by_kind
def test_pruning_sets_what_survives_to_what_its_link_says(watch: Watch, kind: Any) -> None:
    spare = make(kind[0], watch.target, pk=999)
    dock = make_dock(watch.source, kind)
    yard = dock.yard
    watch.push(yard)
    there = watch.on_target(kind[0]).exclude(pk=spare.pk).get()
    memo, sign = (make(model, watch.target, dock=there) for model in kind[2:])
    for model in kind[:0:-1]:
        watch.on_source(model).delete()
    watch.on_source(kind[0]).filter(pk=dock.pk).delete()

    watch.synchronize(yard, prune=True)

    assert list(watch.on_target(kind[0])) == [spare]
    assert not watch.on_target(kind[1]).exists()
    assert watch.on_target(kind[2]).get(pk=memo.pk).dock_id is None
    assert watch.on_target(kind[3]).get(pk=sign.pk).dock_id == spare.pk


@by_kind
def test_a_deletion_takes_what_belongs_and_sets_what_survives(ground: Ground, kind: Any) -> None:
    spare = make(kind[0], ground.using, pk=999)
    dock = make_dock(ground.using, kind)

    report = ground.delete(dock.yard)

    labels = [model._meta.label for model in kind]
    assert report.deleted == {"policies.Yard": 1, labels[0]: 1, labels[1]: 1}
    assert [row.dock_id for model in kind[2:] for row in ground.rows(model)] == [None, spare.pk]


@by_kind
@pytest.mark.parametrize("survivor", [None, 2, 3])
def test_an_orphan_is_one_that_only_deleted_rows_use(ground: Ground, kind: Any, survivor: int | None) -> None:
    make(kind[0], ground.using, pk=999)
    dock = make(kind[0], ground.using, yard=make(Yard, ground.using))
    crane = make(kind[1], ground.using, dock=dock)
    if survivor is not None:
        make(kind[survivor], ground.using, dock=dock)

    report = ground.delete(crane, orphans=True)

    gone = {"policies.Yard": 1, kind[0]._meta.label: 1} if survivor is None else {}
    assert report.deleted == {kind[1]._meta.label: 1, **gone}

"""What the ancestors of this package got wrong, where it belongs to a push of roots."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.query import QuerySet
from django.test import override_settings

from gestore_sync import api
from gestore_sync.exceptions import UnresolvedConflicts
from tests.conftest import Pair
from tests.kinds.making import make, make_many
from tests.kinds.models import Box, Page, PageLink, Values
from tests.kinds.pushing import forget_caches
from tests.policies.models import (
    Article,
    Brand,
    Depot,
    Parcel,
    Remark,
    Riddle,
    Scan,
    Shift,
    Truck,
    Vehicle,
    Worker,
)
from tests.policies.watching import CROSSED, Watch, paired, pairings

pair = paired(*CROSSED)


def test_what_a_column_says_is_never_executed(watch: Watch, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path({str(trap)!r}).touch()"[:190]
    page = make(Page, watch.source, path=code, title="'; DROP TABLE kinds_page; --")
    make(PageLink, watch.source, page=page, text="%s {0} %(x)s")
    watch.labels = ("kinds",)

    watch.push(page)
    watch.push_nothing(page)

    assert not trap.exists()
    assert watch.on_target(PageLink).values_list("page", "text").get() == (code, "%s {0} %(x)s")


def test_a_run_right_after_another_pushes_nothing_again(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    parcels = make_many(Parcel, watch.source, 3, depot=depot, text="same", number="same")
    make(Scan, watch.source, parcel=parcels[0])
    watch.push(depot)

    for _ in range(2):
        watch.push_nothing(depot)

    assert watch.on_target(Parcel).count() == 3


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
@pytest.mark.parametrize("is_aware", [True, False])
def test_moments_arrive_with_time_zones_and_without(watch: Watch, zone: str, is_aware: bool) -> None:
    with override_settings(USE_TZ=is_aware, TIME_ZONE=zone):
        moment = dt.datetime(2024, 3, 31, 1, 30, 0, 123456, tzinfo=dt.UTC if is_aware else None)
        box = make(Box, watch.source)
        make(Values, watch.source, box=box, moment=moment)
        watch.labels = ("kinds",)

        watch.push(box)

        watch.push_nothing(box)
        assert watch.on_target(Values).get().moment == moment


def test_a_child_in_two_tables_never_overwrites_the_row_that_has_its_number(watch: Watch) -> None:
    make_many(Vehicle, watch.target, 4, name="theirs")
    make(Truck, watch.target, depot=make(Depot, watch.target), name="their truck", load=1)
    depot = make(Depot, watch.source)
    make(Truck, watch.source, depot=depot, name="ours", load=2)

    watch.push(depot)
    watch.on_source(Truck).update(load=3)
    watch.push(depot)

    vehicles = sorted(watch.on_target(Vehicle).values_list("name", "truck__load"))
    assert vehicles == sorted([("their truck", 1), ("ours", 3), *[("theirs", None)] * 4], key=str)


def test_rows_of_an_explicit_many_to_many_table_are_written_once(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    worker = make(Worker, watch.source)
    make(Shift, watch.source, depot=depot, worker=worker, hours=1)
    make(Shift, watch.source, depot=depot, worker=worker, hours=2)

    report = watch.push(depot, worker)

    assert report.created["policies.Shift"] == 2
    assert sorted(watch.on_target(Shift).values_list("hours", flat=True)) == [1, 2]
    watch.push_nothing(depot, worker)


def test_a_natural_key_that_raises_is_no_success(watch: Watch) -> None:
    depot = make(Depot, watch.source, riddle=make(Riddle, watch.source, name="who"))

    error = watch.refuse(depot)

    assert f"policies.Riddle.{depot.riddle_id}" in str(error)
    assert "nickname" in str(error)


def test_a_natural_key_that_raises_is_no_matter_where_the_settings_name_fields(watch: Watch) -> None:
    make(Riddle, watch.target, name="who")
    depot = make(Depot, watch.source, riddle=make(Riddle, watch.source, name="who"))

    with override_settings(GESTORE_SYNC={"IDENTITY": {"policies.Riddle": ["name"]}}):
        report = watch.push(depot)

    assert report.matched == {"policies.Riddle": 1}


# The database is always said


class Unsaid:
    """A router that refuses to choose a database."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str | None:
        return self.choose(model, hints)

    def db_for_write(self, model: type[models.Model], **hints: Any) -> str | None:
        return self.choose(model, hints)

    def choose(self, model: type[models.Model], hints: dict[str, Any]) -> None:
        instance = hints.get("instance")
        if instance is None or instance._state.db is None:
            raise AssertionError(f"Nobody said which database is asked for {model._meta.label}.")


def alone(*names: str) -> list[Any]:
    """Return pairings in which no other database than source and target may be asked."""
    found = []
    for parameter in pairings(*names):
        (pair,) = parameter.values
        marks = pytest.mark.django_db(databases=[pair.source, pair.target])
        found.append(pytest.param(pair, id=parameter.id, marks=marks))
    return found


@pytest.mark.parametrize("policy", ["newer", "fail"])
@pytest.mark.parametrize(
    "pair", alone("sqlite-postgresql", "postgresql-sqlite", "postgresql-postgresql"), indirect=True
)
@override_settings(DATABASE_ROUTERS=["tests.routers.PostgresOnlyRouter", "tests.test_ancestors.Unsaid"])
def test_no_other_database_than_source_and_target_is_asked(pair: Pair, policy: str) -> None:
    forget_caches()
    depot = make(Depot, pair.source, name="ours", boss=make(Worker, pair.source, name="boss"))
    brand = make(Brand, pair.source, name="known")
    make(Brand, pair.target, name="known")
    parcel = make(Parcel, pair.source, depot=depot, brand=brand)
    kind = ContentType.objects.db_manager(pair.source).get_for_model(Parcel)
    make(Remark, pair.source, content_type=kind, object_id=parcel.pk, text="ours")
    article = make(Article, pair.source, depot=depot, code="A")

    def push(**options: Any) -> api.Report:
        return api.synchronize([depot], source=pair.source, remote=pair.target, **options)

    push(dry_run=True)
    push()
    QuerySet(Article, using=pair.source).update(title="ours")
    QuerySet(Article, using=pair.target).update(title="theirs")
    parcel.delete(using=pair.source)
    if policy == "fail":
        with pytest.raises(UnresolvedConflicts) as caught:
            push(prune=True, on_conflict=policy)
        report = caught.value.report
    else:
        report = push(prune=True, on_conflict=policy)

    assert report is not None
    (conflict,) = report.conflicts
    assert (conflict["pk"], conflict["fields"]) == (str(article.pk), {"title": ["ours", "theirs"]})
    forget_caches()

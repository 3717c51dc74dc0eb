"""One bad object, of whatever kind, is named, stays pending, and does not block the rest of what the log holds."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, models
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from gestore_sync.models import SyncRun
from gestore_sync.planner import Planner
from tests.conftest import Pair
from tests.logged.models import Booking, Cipher, Country, Product, Sale, Sample, Tag, Theatre, Venue
from tests.logged.sites import Sites, add, change, ready, receiving
from tests.policies.watching import CROSSED, execute, pairings, refuse_text

crossed = pytest.mark.parametrize("pair", pairings(*CROSSED), indirect=True)
to_postgresql = pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
from_postgresql = pytest.mark.parametrize("pair", pairings("postgresql-sqlite"), indirect=True)


@pytest.fixture
def sites(pair: Pair, settings: Any) -> Iterator[Sites]:
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(pair) as sites:
        yield sites


@pytest.fixture
def live(live_pair: Pair, settings: Any) -> Iterator[Sites]:
    """Two sites with real commits."""
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(live_pair) as sites:
        yield sites


def name_failures(report: api.Report) -> set[tuple[str, str]]:
    """The objects that a report says have failed."""
    return {(failure["model"], failure["pk"]) for failure in report.failures}


def count_queries_at_the_source(sites: Sites, make: Callable[[int], None]) -> tuple[int, int]:
    """How many queries the source is asked for a run with few and with many of what ``make`` makes."""
    found = []
    for number in (4, 16):
        make(number)
        with CaptureQueriesContext(connections[sites.local]) as queries:
            sites.send()
        found.append(len(queries))
    return found[0], found[1]


# Handlers


@crossed
def test_a_handler_that_the_database_refuses_is_a_failure_of_its_object(sites: Sites) -> None:
    good = add(Product, sites.local, name="good")
    bad = add(Product, sites.local, name="bad")
    add(Tag, sites.local, name="a")

    def write_what_is_refused(instance: Product, using: str, **kwargs: Any) -> None:
        if using == sites.remote and instance.name == "bad":
            Sale.objects.using(using).bulk_create([Sale(name=None)])

    with receiving(post_save, write_what_is_refused, Product):
        report = sites.send()

    assert name_failures(report) == {("logged.Product", str(bad.pk))}
    assert sites.arrived(Product, "name") == [good.name]
    assert sites.arrived(Tag, "name") == ["a"]
    assert sites.get_pending() == {"logged.Product": 1}


@crossed
def test_many_objects_for_which_a_handler_fails_are_found_at_once(sites: Sites) -> None:
    def fail(instance: Product, using: str, **kwargs: Any) -> None:
        if using == sites.remote and instance.name == "bad":
            raise ValueError("no")

    def make(number: int) -> None:
        for _ in range(number):
            add(Product, sites.local, name="bad")
        add(Product, sites.local, name="good")

    with receiving(post_save, fail, Product):
        few, many = count_queries_at_the_source(sites, make)

    assert sites.arrived(Product, "name") == ["good", "good"]
    assert sites.get_pending() == {"logged.Product": 20}
    assert many < few + 24, (few, many)


# Databases


@to_postgresql
def test_a_value_that_is_too_long_for_an_index_is_a_failure_of_its_object(sites: Sites) -> None:
    execute(sites.remote, "CREATE UNIQUE INDEX one_code ON logged_country (code)")
    letters = random.Random(1).choices(string.printable[:90], k=20_000)
    long = add(Country, sites.local, code="".join(letters))
    add(Country, sites.local, code="pl")
    add(Product, sites.local, name="lamp")

    report = sites.send()

    assert name_failures(report) == {("logged.Country", str(long.pk))}
    assert sites.arrived(Country, "code") == ["pl"]
    assert sites.arrived(Product, "name") == ["lamp"]


@pytest.mark.parametrize("live_pair", pairings(*CROSSED, live=True), indirect=True)
def test_a_row_that_a_table_unknown_to_django_holds_is_a_failure_of_its_object(live: Sites) -> None:
    held, free = (add(Product, live.local, name=name) for name in ("held", "free"))
    live.send()
    pk, there = held.pk, live.there(Product).get(name="held").pk
    link = "REFERENCES logged_product (id) DEFERRABLE INITIALLY DEFERRED"
    execute(live.remote, f"CREATE TABLE of_an_old_app (id integer PRIMARY KEY, product_id bigint {link})")
    try:
        execute(live.remote, f"INSERT INTO of_an_old_app VALUES (1, {there})")
        held.delete()
        free.delete()
        add(Product, live.local, name="new")

        report = live.send()
    finally:
        execute(live.remote, "DROP TABLE of_an_old_app")

    assert name_failures(report) == {("logged.Product", str(pk))}
    assert live.arrived(Product, "name") == ["held", "new"]
    assert live.get_pending() == {"logged.Product": 1}


# Conflicts


@crossed
def test_what_hangs_on_a_parent_row_of_a_deleted_object_is_a_conflict_of_that_object(
    sites: Sites, settings: Any
) -> None:
    settings.SYNCHRO_MODELS = (("logged", "Theatre"), ("logged", "Product"))
    theatre = add(Theatre, sites.local, name="ours", seats=1)
    sites.send()
    add(Booking, sites.remote, venue=sites.there(Venue).get())
    theatre.delete()
    add(Product, sites.local, name="lamp")

    report = sites.send()

    assert len(report.get_unresolved()) == 1
    assert sites.arrived(Theatre, "name") == ["ours"]
    assert sites.there(Booking).count() == 1
    assert sites.arrived(Product, "name") == ["lamp"]


# Natural keys


@crossed
def test_objects_whose_manager_cannot_take_their_key_apart_are_failures(sites: Sites) -> None:
    bad = [add(Cipher, sites.local, code="a", number=text) for text in ("x", "y", "z")]
    add(Cipher, sites.local, code="a", number="1")
    add(Product, sites.local, name="lamp")

    report = sites.send()

    assert name_failures(report) == {("logged.Cipher", str(cipher.pk)) for cipher in bad}
    assert sites.arrived(Product, "name") == ["lamp"]
    assert sites.arrived(Cipher, "number") == ["1"]
    assert sites.get_pending() == {"logged.Cipher": 3}


@from_postgresql
def test_a_failure_whose_key_the_source_cannot_keep_is_on_record(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_cipher", "code", "bad")
    bad = add(Cipher, sites.local, code="bad", number="1")
    add(Product, sites.local, name="lamp")

    report = sites.send()

    assert name_failures(report) == {("logged.Cipher", str(bad.pk))}
    assert sites.arrived(Product, "name") == ["lamp"]
    assert sites.get_pending() == {"logged.Cipher": 1}
    [failure] = SyncRun.objects.using(sites.local).get().problems["failures"]
    assert failure["pk"] == str(bad.pk)


# What waits for a bad object


@to_postgresql
def test_a_chain_of_objects_that_waits_for_a_bad_one_is_found_at_once(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_sample", "name", "bad")
    last: list[models.Model] = []

    def make(number: int) -> None:
        sites.here(Sample).delete()
        parent = add(Sample, sites.local, name="bad")
        for _ in range(number):
            parent = add(Sample, sites.local, name="waits", parent=parent)
        last.append(parent)

    few, many = count_queries_at_the_source(sites, make)
    bad = sites.here(Sample).get(name="bad")
    change(bad, name="mended")

    assert sites.arrived(Sample) == []
    assert many < few + 20, (few, many)
    assert sites.send().failures == []
    assert sites.there(Sample).count() == 17


@to_postgresql
def test_what_waits_for_a_bad_object_is_found_at_once_in_whatever_batch_it_is(
    sites: Sites, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GESTORE_SYNC = {"BATCH_SIZE": 2}
    refuse_text(sites.remote, "logged_sample", "name", "bad")
    plans: list[int] = []
    make_plan = Planner.make
    monkeypatch.setattr(Planner, "make", lambda self: plans.append(1) or make_plan(self))
    parent = add(Sample, sites.local, name="bad")
    for _ in range(9):
        parent = add(Sample, sites.local, name="waits", parent=parent)

    report = sites.send()

    reasons = [failure["reason"] for failure in report.failures]
    assert sum("which could not be sent" in reason for reason in reasons) == 9
    assert len(plans) == 3  # with the bad one, without it, and without those that wait


@crossed
def test_many_objects_whose_key_cannot_be_taken_apart_are_found_at_once(sites: Sites) -> None:
    def make(number: int) -> None:
        for index in range(number):
            add(Cipher, sites.local, code="a", number=f"no number {index}")

    few, many = count_queries_at_the_source(sites, make)

    assert sites.get_pending() == {"logged.Cipher": 20}
    assert many < few + 24, (few, many)


@crossed
def test_many_objects_for_which_the_database_refuses_a_handler_are_found_with_few_plans(sites: Sites) -> None:
    def write_what_is_refused(instance: Product, using: str, **kwargs: Any) -> None:
        if using == sites.remote and instance.name == "bad":
            Sale.objects.using(using).bulk_create([Sale(name=None)])

    def make(number: int) -> None:
        for _ in range(number):
            add(Product, sites.local, name="bad")

    with receiving(post_save, write_what_is_refused, Product):
        few, many = count_queries_at_the_source(sites, make)

    assert sites.get_pending() == {"logged.Product": 20}
    assert many < few + 24, (few, many)


@pytest.mark.parametrize("live_pair", pairings("postgresql-sqlite", live=True), indirect=True)
def test_a_row_that_a_table_without_a_primary_key_holds_is_a_failure_of_its_object(live: Sites) -> None:
    held = add(Product, live.local, name="held")
    live.send()
    pk, there = held.pk, live.there(Product).get().pk
    link = "REFERENCES logged_product (id) DEFERRABLE INITIALLY DEFERRED"
    execute(live.remote, f"CREATE TABLE of_an_old_app (product_id bigint {link})")
    try:
        execute(live.remote, f"INSERT INTO of_an_old_app VALUES ({there})")
        held.delete()
        add(Product, live.local, name="new")

        report = live.send()
    finally:
        execute(live.remote, "DROP TABLE of_an_old_app")

    assert name_failures(report) == {("logged.Product", str(pk))}
    assert live.arrived(Product, "name") == ["held", "new"]

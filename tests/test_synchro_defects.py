"""What django-synchro gets wrong, one test for each defect: it must not happen here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.db.models.signals import post_save
from django.utils import timezone

from gestore_sync import DisableSynchroLog
from gestore_sync.models import ChangeLog, options
from tests.conftest import DATABASES, Pair
from tests.kinds.making import renumber_content_types
from tests.kinds.pushing import rows
from tests.logged import processes
from tests.logged.models import (
    Article,
    Comment,
    Country,
    Employee,
    Opera,
    Page,
    Product,
    Sale,
    Stock,
    Tag,
    Team,
    Theatre,
    Ticket,
    Venue,
)
from tests.logged.sites import (
    DONE,
    LIVE,
    NO_CHANGES,
    Sites,
    add,
    ago,
    change,
    date_log,
    in_thread,
    ready,
    receiving,
    written,
)
from tests.policies.watching import refuse_text

on_postgresql = pytest.mark.parametrize("live_pair", LIVE, indirect=True)


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


def test_a_natural_key_is_never_run_as_a_program(sites: Sites, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    for text in (code, f"({code},)", f"[{code}]", f"{{'a': {code}}}"):
        with DisableSynchroLog():
            add(Country, sites.remote, code=text)
            country = add(Country, sites.local, code=text)
        country.delete()

    sites.send()

    assert not trap.exists()
    assert sites.arrived(Country) == []


def test_what_somebody_wrote_into_the_log_is_never_run_as_a_program(sites: Sites, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    code = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    add(Country, sites.local, code="pl").delete()
    add(Product, sites.local, name="lamp")
    entries = ChangeLog.objects.using(sites.local).filter(action=3)
    assert entries.update(data={"natural_key": code, "fields": code, "key": code})

    sites.send()

    assert not trap.exists()
    assert sites.arrived(Product, "name") == ["lamp"]


@on_postgresql
def test_the_first_run_from_the_command_line_sends_what_was_logged(live: Sites) -> None:
    processes.succeed('Product.objects.create(name="lamp")')

    output = processes.succeed("synchronize()")

    assert output.splitlines()[-1] == DONE
    assert live.arrived(Product, "name") == ["lamp"]


def test_a_run_right_after_another_repeats_nothing(sites: Sites) -> None:
    for name in ("same", "same", "other"):
        add(Product, sites.local, name=name)
    sites.send()

    sites.send_nothing()

    assert sites.arrived(Product, "name") == ["other", "same", "same"]


def test_a_run_in_the_second_of_a_change_neither_misses_nor_repeats_it(sites: Sites) -> None:
    moment = ago(minutes=1).replace(microsecond=0)
    for number in range(3):
        add(Product, sites.local, name=f"{number}")
        date_log(sites.local, moment + dt.timedelta(microseconds=number), object_id__isnull=False)
        report = sites.send()
        assert written(report) == {"created": {"logged.Product": 1}}

    assert sites.arrived(Product, "name") == ["0", "1", "2"]


@pytest.mark.parametrize("use_tz", [True, False])
def test_it_works_with_time_zones_and_without(sites: Sites, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    product = add(Product, sites.local, name="lamp")
    sites.send()
    change(product, price=1)
    sites.send()

    assert sites.arrived(Product, "name", "price") == [("lamp", 1)]
    assert timezone.is_aware(options.last_check)
    sites.send_nothing()


@on_postgresql
def test_a_change_that_was_committed_late_is_not_lost(live: Sites) -> None:
    with transaction.atomic(using=live.local):
        add(Product, live.local, name="slow")

        def meanwhile() -> str:
            add(Product, live.local, name="quick")
            return live.send().message

        assert in_thread(meanwhile) == DONE

    assert live.arrived(Product, "name") == ["quick"]
    live.send()
    assert live.arrived(Product, "name") == ["quick", "slow"]


def test_cycles_of_links_and_links_to_itself_come_to_an_end(sites: Sites) -> None:
    lonely = add(Employee, sites.local, name="lonely")
    change(lonely, boss=lonely)
    team = add(Team, sites.local, name="red")
    change(team, lead=add(Employee, sites.local, name="lead", team=team))

    sites.send()

    assert sites.there(Employee).get(name="lonely").boss.name == "lonely"
    assert sites.there(Team).get().lead.team.name == "red"
    change(team, lead=lonely)
    sites.send()
    assert sites.there(Team).get().lead.name == "lonely"
    sites.send_nothing()


def test_a_row_in_several_tables_overwrites_no_unrelated_row(sites: Sites) -> None:
    for name in "ab":
        add(Venue, sites.remote, name=name)
        add(Theatre, sites.remote, name=f"theatre {name}", seats=1)
    theirs = sites.arrived(Theatre, "pk", "name", "seats")
    opera = add(Opera, sites.local, name="Scala", seats=9)

    sites.send()
    change(opera, seats=10)
    sites.send()

    assert [row for row in sites.arrived(Theatre, "pk", "name", "seats") if row[1] != "Scala"] == theirs
    assert sites.arrived(Venue, "name") == ["Scala", "a", "b", "theatre a", "theatre b"]
    assert sites.there(Opera).get().seats == 10


def test_generic_keys_are_rewritten(sites: Sites) -> None:
    renumber_content_types(sites.remote)
    for model, count in ((Product, 3), (Venue, 5)):
        for _ in range(count):
            add(model, sites.remote, name="theirs")
    subjects = [
        add(Product, sites.local, name="ours"),
        add(Venue, sites.local, name="ours"),
        add(Ticket, sites.local, title="ours"),
        add(Page, sites.local, path="ours"),
    ]
    comments = [add(Comment, sites.local, subject=subject, text=subject._meta.label) for subject in subjects]

    sites.send()
    for comment in comments:
        change(comment, text=f"{comment.text}!")
    sites.send()

    assert sites.there(Comment).count() == 4
    for comment in sites.there(Comment):
        assert comment.subject is not None
        assert comment.text == f"{comment.subject._meta.label}!"
        assert "ours" in (getattr(comment.subject, name, "") for name in ("name", "title", "path"))


def test_a_change_of_members_takes_no_member_that_only_the_remote_has(sites: Sites) -> None:
    article = add(Article, sites.local, title="ours")
    tags = [add(Tag, sites.local, name=name) for name in "ab"]
    article.tags.set(tags[:1])
    sites.send()
    there = sites.there(Article).get()
    there.tags.add(add(Tag, sites.remote, name="theirs"))

    article.tags.set(tags[1:])
    sites.send()
    assert sorted(tag.name for tag in there.tags.all()) == ["b", "theirs"]

    change(article, text="changed")
    sites.send()
    assert sorted(tag.name for tag in there.tags.all()) == ["b", "theirs"]

    article.tags.clear()
    sites.send()
    assert [tag.name for tag in there.tags.all()] == ["theirs"]


def test_objects_with_uuids_and_long_keys_are_saved_and_sent(sites: Sites) -> None:
    ticket = add(Ticket, sites.local, title="a")
    page = add(Page, sites.local, path="path/" * 60, title="a")

    sites.send()
    change(ticket, title="b")
    change(page, title="b")
    sites.send()

    assert sites.arrived(Ticket, "pk", "title") == [(ticket.pk, "b")]
    assert sites.arrived(Page, "pk", "title") == [(page.pk, "b")]


@on_postgresql
def test_what_is_not_logged_in_one_thread_is_logged_in_another(live: Sites) -> None:
    with DisableSynchroLog():
        add(Product, live.local, name="quiet")
        in_thread(lambda: add(Product, live.local, name="loud"))
        add(Product, live.local, name="quiet")

    live.send()

    assert live.arrived(Product, "name") == ["loud"]
    add(Product, live.local, name="after")
    live.send()
    assert live.arrived(Product, "name") == ["after", "loud"]


def test_one_bad_object_is_named_and_blocks_no_other(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_product", "name", "bad")
    names = [f"good {number}" for number in range(4)]
    for name in (*names[:2], "bad", *names[2:]):
        add(Product, sites.local, name=name)
    add(Tag, sites.local, name="good")
    bad = rows(Product, sites.local).get(name="bad")

    report = sites.send()

    assert [(failure["model"], failure["pk"]) for failure in report.failures] == [("logged.Product", str(bad.pk))]
    assert sites.arrived(Product, "name") == names
    assert sites.arrived(Tag, "name") == ["good"]


def test_a_handler_on_the_remote_and_a_logged_one_here_do_not_overwrite_each_other(sites: Sites) -> None:
    """The bad scenario of django-synchro's README."""
    add(Stock, sites.local)
    sites.send()
    change(sites.there(Stock).get(), foo=42)

    def increment(using: str, **kwargs: Any) -> None:
        stock = rows(Stock, using).get()
        change(stock, bar=stock.bar + 1)

    with receiving(post_save, increment, Sale):
        add(Sale, sites.local, name="X")
        sites.send()

    assert sites.arrived(Stock, "foo", "bar") == [(42, 2)]


@pytest.mark.django_db(databases=DATABASES)
def test_a_key_that_is_automatic_is_not_taken_for_an_identity(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(Pair("default", "remote")) as first, ready(Pair("pg_local", "remote")) as second:
        for site in (first, second):
            add(Product, site.local, name=site.local)
            site.send()
        assert first.send().message == second.send().message == NO_CHANGES

    assert first.arrived(Product, "name") == ["default", "pg_local"]

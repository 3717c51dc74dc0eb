from __future__ import annotations

import datetime as dt
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models.signals import post_save
from django.utils import timezone

from gestore_sync import DisableSynchroLog, api, reset_synchro
from gestore_sync.exceptions import DatabaseUnavailable, GestoreSyncError, SchemaMismatch
from gestore_sync.models import CHANGE, ChangeLog, IdMapping, SyncRun, options
from tests.conftest import DATABASES, Pair
from tests.kinds.pushing import rows
from tests.logged import processes
from tests.logged.models import Article, Book, City, Country, Page, Product, Shelf, Tag
from tests.logged.sites import (
    DONE,
    LIVE,
    LONG_AGO,
    NO_CHANGES,
    Sites,
    Started,
    add,
    ago,
    change,
    date_log,
    drop_our_tables,
    emit_migrated,
    forget_log,
    get_pending,
    in_thread,
    read_log,
    ready,
    receiving,
    written,
)
from tests.policies.watching import CROSSED, execute, pairings

FROM_DEFAULT = pairings("sqlite-sqlite", "sqlite-postgresql")

crossed = pytest.mark.parametrize("pair", pairings(*CROSSED), indirect=True)
from_default = pytest.mark.parametrize("pair", FROM_DEFAULT, indirect=True)
two_way = pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-postgresql"), indirect=True)
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


def names(sites: Sites) -> list[str]:
    """The names of the remote's products."""
    return sites.arrived(Product, "name")


class Change(threading.Thread):
    """A transaction of another connection that adds a product, and waits before it commits."""

    def __init__(self, using: str, name: str) -> None:
        super().__init__()
        self.using = using
        self.product_name = name
        self.written = threading.Event()
        self.may_commit = threading.Event()

    def run(self) -> None:
        try:
            with transaction.atomic(using=self.using):
                self.work()
                self.written.set()
                assert self.may_commit.wait(60)
        finally:
            connections.close_all()

    def work(self) -> None:
        """Add the product."""
        add(Product, self.using, name=self.product_name)

    def __enter__(self) -> Change:
        self.start()
        assert self.written.wait(60)
        return self

    def __exit__(self, *error: object) -> None:
        self.commit()

    def commit(self) -> None:
        """Let the transaction end."""
        self.may_commit.set()
        self.join(60)
        assert not self.is_alive()


# The order of commits


@on_postgresql
def test_a_change_that_is_committed_after_a_run_is_sent_by_the_next_one(live: Sites) -> None:
    with Change(live.local, "early") as early:
        add(Product, live.local, name="late")
        live.send()
        assert names(live) == ["late"]
        early.commit()

    report = live.send()

    assert written(report) == {"created": {"logged.Product": 1}}
    assert names(live) == ["early", "late"]
    assert live.send().message == NO_CHANGES


@on_postgresql
def test_a_change_of_an_object_that_is_committed_after_a_run_that_sent_it_is_not_lost(live: Sites) -> None:
    product = add(Product, live.local, name="lamp")

    class Update(Change):
        def work(self) -> None:
            change(rows(Product, self.using).get(), text="late")

    live.send()
    with Update(live.local, "") as late:
        add(Country, live.local, code="pl")
        live.send()
        assert live.arrived(Product, "text") == [""]
        late.commit()
    live.send()

    assert live.arrived(Product, "text") == ["late"]
    assert product.pk


@on_postgresql
def test_many_transactions_in_any_order_are_all_sent(live: Sites) -> None:
    transactions = [Change(live.local, f"name {number}") for number in range(5)]
    for one in transactions:
        one.__enter__()

    for number in (3, 0, 4, 1, 2):
        transactions[number].commit()
        live.send()

    assert names(live) == sorted(f"name {number}" for number in range(5))
    assert live.send().message == NO_CHANGES


@on_postgresql
def test_a_transaction_that_is_rolled_back_is_never_sent(live: Sites) -> None:
    class Undone(Change):
        def work(self) -> None:
            super().work()
            transaction.set_rollback(True, using=self.using)

    with Undone(live.local, "never"):
        add(Product, live.local, name="lamp")
        live.send()
    live.send()

    assert names(live) == ["lamp"]


@on_postgresql
def test_a_change_that_is_made_while_its_object_is_sent_is_sent_by_the_next_run(live: Sites) -> None:
    product = add(Product, live.local, name="lamp", text="first")

    def interfere(using: str, **kwargs: Any) -> None:
        if using == live.remote:
            in_thread(lambda: change(rows(Product, live.local).get(), text="second"))

    with receiving(post_save, interfere, Product):
        live.send()
    assert live.arrived(Product, "text") == ["first"]

    live.send()

    assert live.arrived(Product, "text") == ["second"]
    assert live.send().message == NO_CHANGES
    assert product.pk


@on_postgresql
def test_a_deletion_while_its_object_is_sent_is_sent_by_the_next_run(live: Sites) -> None:
    add(Product, live.local, name="lamp")

    def interfere(using: str, **kwargs: Any) -> None:
        if using == live.remote:
            in_thread(lambda: rows(Product, live.local).get().delete())

    with receiving(post_save, interfere, Product):
        live.send()
    live.send()

    assert names(live) == []
    assert live.send().message == NO_CHANGES


# Clocks


def test_a_clock_that_stepped_back_loses_nothing(sites: Sites) -> None:
    add(Product, sites.local, name="before")
    sites.send()
    add(Product, sites.local, name="after")
    date_log(sites.local, LONG_AGO, object_id=str(rows(Product, sites.local).get(name="after").pk))

    sites.send()

    assert names(sites) == ["after", "before"]
    sites.send_nothing()


def test_a_clock_that_was_ahead_loses_nothing_and_repeats_nothing(sites: Sites) -> None:
    add(Product, sites.local, name="ahead")
    date_log(sites.local, ago(days=-400))
    sites.send()
    add(Product, sites.local, name="right")

    report = sites.send()

    assert written(report) == {"created": {"logged.Product": 1}}
    assert names(sites) == ["ahead", "right"]
    sites.send_nothing()


def test_many_changes_of_one_moment_are_all_sent_once(sites: Sites) -> None:
    for name in "ab":
        add(Product, sites.local, name=name)
    date_log(sites.local, moment := ago(hours=1))
    sites.send()
    add(Product, sites.local, name="c")
    date_log(sites.local, moment)

    report = sites.send()

    assert written(report) == {"created": {"logged.Product": 1}}
    assert names(sites) == ["a", "b", "c"]


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["Europe/Warsaw", "Pacific/Kiritimati", "America/Los_Angeles"])
@from_default
def test_the_checkpoint_works_with_and_without_time_zones(sites: Sites, settings: Any, use_tz: bool, zone: str) -> None:
    settings.TIME_ZONE = zone
    settings.USE_TZ = use_tz
    before = dt.datetime.now(tz=dt.UTC)
    product = add(Product, sites.local, name="lamp")
    sites.send()
    after = dt.datetime.now(tz=dt.UTC)

    for entry in ChangeLog.objects.using(sites.local):
        assert timezone.is_aware(entry.date)
        assert before <= entry.date <= after
    assert before <= options.last_check <= after
    sites.send_nothing()

    change(product, price=1)
    sites.send()
    assert sites.arrived(Product, "price") == [1]
    change(product, price=2)
    options.last_check = dt.datetime.now(tz=dt.UTC)
    sites.send_nothing()
    change(product, price=3)
    sites.send()
    assert sites.arrived(Product, "price") == [3]


@pytest.mark.parametrize("use_tz", [True, False])
@from_default
def test_dates_are_compared_with_and_without_time_zones(sites: Sites, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    for code, local, remote in (("a", 1, 2), ("b", 2, 1)):
        for using, hours in ((sites.local, local), (sites.remote, remote)):
            country = add(Country, using, code=code, name=using)
            date_log(using, ago(hours=hours), object_id=str(country.pk))

    sites.send()

    assert sites.arrived(Country, "code", "name") == [("a", sites.local), ("b", sites.remote)]


# Killed


def make_news(sites: Sites, number: int) -> None:
    """Make changes of every kind, which differ from round to round."""
    shelf = add(Shelf, sites.local, name=f"shelf {number}")
    add(Book, sites.local, shelf=shelf, title=f"book {number}")
    add(Product, sites.local, name=f"product {number}")
    article = add(Article, sites.local, title=f"article {number}")
    article.tags.add(add(Tag, sites.local, name=f"tag {number}"))
    for product in rows(Product, sites.local).filter(name=f"product {number - 1}"):
        change(product, price=number)
    for book in rows(Book, sites.local).filter(title=f"book {number - 1}"):
        book.delete()
    for old in rows(Article, sites.local).filter(title=f"article {number - 1}"):
        old.tags.clear()


def picture(using: str) -> dict[str, list[Any]]:
    """What a site holds, without its numbers."""
    return {
        "shelves": sorted(rows(Shelf, using).values_list("name", flat=True)),
        "books": sorted(rows(Book, using).values_list("title", "shelf__name")),
        "products": sorted(rows(Product, using).values_list("name", "price", "text")),
        "tags": sorted(rows(Tag, using).values_list("name", flat=True)),
        "articles": sorted(
            (article.title, sorted(tag.name for tag in article.tags.all())) for article in rows(Article, using)
        ),
    }


DIE_AT_COMMIT = """
count = 0

def watch(connection):
    commit = connection.commit
    def dying():
        global count
        count += 1
        if count == {number} and not {after}:
            os._exit(9)
        commit()
        if count == {number} and {after}:
            os._exit(9)
    connection.commit = dying

for alias in ("pg_local", "pg_remote"):
    watch(connections[alias])
synchronize()
"""

DIE_AT_STATEMENT = """
count = 0

def watch(execute, sql, params, many, context):
    global count
    count += 1
    if count == {number}:
        os._exit(9)
    return execute(sql, params, many, context)

for alias in ("pg_local", "pg_remote"):
    connections[alias].execute_wrappers.append(watch)
synchronize()
"""


def kill_everywhere(sites: Sites, program: str, step: int, **values: Any) -> int:
    """Let runs die at one place after the other until one ends; after each a whole run repairs what there is."""
    number = 1
    while True:
        make_news(sites, number)
        done = processes.run(program.format(number=number, **values))
        assert done.returncode in (0, processes.KILLED), done.stderr
        report = sites.send()
        assert (report.failures, report.get_unresolved()) == ([], [])
        assert picture(sites.remote) == picture(sites.local), f"killed at {number}"
        assert sites.send().message == NO_CHANGES
        if done.returncode == 0:
            return number
        number += step


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
@on_postgresql
def test_a_run_that_was_killed_at_any_commit_is_finished_by_the_next_one(live: Sites, after: bool) -> None:
    assert kill_everywhere(live, DIE_AT_COMMIT, 1, after=after) > 2


@on_postgresql
def test_a_run_that_was_killed_at_any_statement_is_finished_by_the_next_one(live: Sites) -> None:
    assert kill_everywhere(live, DIE_AT_STATEMENT, 17) > 20


@on_postgresql
def test_what_happens_between_a_killed_run_and_the_next_one_is_not_lost(live: Sites) -> None:
    product = add(Product, live.local, name="lamp")
    assert processes.run(DIE_AT_COMMIT.format(number=1, after=True)).returncode == processes.KILLED
    for number in (2, 2, 3, 2):
        change(product, price=product.price + 1)
        add(Product, live.local, name=f"{product.price}")
        processes.run(DIE_AT_COMMIT.format(number=number, after=True))
    change(product, text="last")

    live.send()

    assert picture(live.remote) == picture(live.local)
    assert live.arrived(Product, "text").count("last") == 1
    assert live.send().message == NO_CHANGES


DIE_AT_THE_END = """
import time
from pathlib import Path

def wait(using, **kwargs):
    if using == "pg_remote":
        Path({inside!r}).touch()
        while not Path({go_on!r}).exists():
            time.sleep(0.05)

commit = connections["pg_remote"].commit

def dying():
    commit()
    os._exit(9)

post_save.connect(wait, sender=Product, weak=False)
connections["pg_remote"].commit = dying
synchronize()
"""


@on_postgresql
def test_a_run_that_dies_while_another_waits_for_it_is_finished(live: Sites, tmp_path: Path) -> None:
    make_news(live, 1)
    live.send()
    make_news(live, 2)
    inside, go_on = tmp_path / "inside", tmp_path / "go on"
    program = DIE_AT_THE_END.format(inside=str(inside), go_on=str(go_on))

    with Started(lambda: processes.run(program)) as dying:
        wait_for(inside.exists)
        with Started(lambda: send_or_fail(live)) as waiting:
            waiting.wait(2)
            go_on.touch()
            assert dying.result().returncode == processes.KILLED
            outcome = waiting.result()

    assert isinstance(outcome, (GestoreSyncError, api.Report))
    make_news(live, 3)
    live.send()
    assert picture(live.remote) == picture(live.local)
    assert live.send().message == NO_CHANGES


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def send_or_fail(sites: Sites) -> Any:
    """Send; return the report, or the error that says why not."""
    try:
        return sites.send()
    except GestoreSyncError as error:
        return error


def write_at_random(using: str, seed: int) -> None:
    """Save, change and delete objects in transactions of any length, some of which are rolled back."""
    random = Random(seed)
    mine = rows(Product, using).filter(name__startswith=f"{seed} ")
    for number in range(25):
        with transaction.atomic(using=using):
            add(Product, using, name=f"{seed} {number}")
            for product in mine.order_by("?")[: random.randint(0, 2)]:
                change(product, price=random.randint(0, 99), text=f"{number}")
            time.sleep(random.random() / 50)
            for product in mine.order_by("?")[: random.randint(0, 1)]:
                product.delete()
            if random.random() < 0.2:
                transaction.set_rollback(True, using=using)


@on_postgresql
def test_runs_in_the_midst_of_transactions_miss_and_repeat_nothing(live: Sites) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(Started(partial(write_at_random, live.local, seed))) for seed in range(3)]
        runners = [
            stack.enter_context(Started(lambda: [send_or_fail(live) for _ in range(12)])),
            stack.enter_context(Started(lambda: [send_or_fail(live) for _ in range(12)])),
        ]
        for started in writers:
            started.result()
        outcomes = [outcome for started in runners for outcome in started.result()]

    reports = [outcome for outcome in outcomes if isinstance(outcome, api.Report)]
    assert len(reports) > 2
    assert not any(report.failures for report in reports)
    live.send()
    assert picture(live.remote) == picture(live.local)
    assert len(live.arrived(Product, "name")) > 20
    assert live.send().message == NO_CHANGES


# Two at once


@on_postgresql
def test_a_run_between_the_two_commits_of_another_one_repeats_nothing(live: Sites) -> None:
    make_news(live, 1)
    committed, go_on = threading.Event(), threading.Event()

    def send_slowly() -> Any:
        connection = connections[live.remote]
        commit = connection.commit

        def wait_after() -> None:
            commit()
            committed.set()
            assert go_on.wait(60)

        connection.commit = wait_after  # type: ignore[method-assign]
        return live.send()

    with Started(send_slowly) as slow:
        assert committed.wait(60)
        make_news(live, 2)
        outcome = send_or_fail(live)
        go_on.set()
        slow.result()

    assert isinstance(outcome, (GestoreSyncError, api.Report))
    live.send()
    assert picture(live.remote) == picture(live.local)
    assert live.send().message == NO_CHANGES
    make_news(live, 3)
    live.send()
    assert picture(live.remote) == picture(live.local)


@on_postgresql
def test_two_runs_at_once_send_everything_once(live: Sites) -> None:
    for number in range(3):
        make_news(live, number)
    inside, go_on = threading.Event(), threading.Event()

    def wait(using: str, **kwargs: Any) -> None:
        if using == live.remote:
            inside.set()
            assert go_on.wait(60)

    with receiving(post_save, wait, Product), Started(live.send) as first:
        assert inside.wait(60)
        with Started(lambda: send_or_fail(live)) as other:
            other.wait(1)
            go_on.set()
            outcome = other.result()
        report = first.result()

    assert report.created["logged.Product"] == 3
    assert isinstance(outcome, GestoreSyncError) or (outcome.message, written(outcome)) == (NO_CHANGES, {})
    assert picture(live.remote) == picture(live.local)
    assert SyncRun.objects.using(live.remote).count() == 1
    assert live.send().message == NO_CHANGES


@on_postgresql
def test_runs_of_two_processes_at_once_send_everything_once(live: Sites) -> None:
    for number in range(3):
        make_news(live, number)

    def run() -> Any:
        return processes.run("synchronize()")

    with Started(run) as first, Started(run) as other:
        outcomes = [first.result(), other.result()]

    assert 0 in [done.returncode for done in outcomes]
    assert not any("Traceback" in done.stderr for done in outcomes), outcomes
    live.send()
    assert picture(live.remote) == picture(live.local)


# options.last_check


def lose_products(sites: Sites) -> None:
    """Let the remote have no products, and know nothing of how they went."""
    rows(Product, sites.remote)._raw_delete(sites.remote)


@from_default
def test_an_earlier_checkpoint_queues_again_what_was_logged_since(sites: Sites) -> None:
    add(Product, sites.local, name="old")
    date_log(sites.local, ago(days=3))
    add(Product, sites.local, name="new")
    sites.send()
    lose_products(sites)

    options.last_check = ago(days=1)

    assert sites.get_pending() == {"logged.Product": 1}
    sites.send()
    assert names(sites) == ["new"]
    options.last_check = ago(days=30)
    assert sites.get_pending() == {"logged.Product": 2}
    sites.send()
    assert names(sites) == ["new", "old"]
    sites.send_nothing()


@from_default
def test_a_later_checkpoint_skips_what_was_logged_up_to_it(sites: Sites) -> None:
    options.last_check = LONG_AGO
    add(Product, sites.local, name="old")
    date_log(sites.local, ago(days=3))
    add(Product, sites.local, name="new")

    options.last_check = ago(days=1)

    assert sites.get_pending() == {"logged.Product": 1}
    sites.send()
    assert names(sites) == ["new"]
    add(Product, sites.local, name="skipped")
    options.last_check = timezone.now()
    sites.send_nothing()
    add(Product, sites.local, name="after")
    sites.send()
    assert names(sites) == ["after", "new"]


@pytest.mark.django_db(databases=DATABASES)
def test_the_checkpoint_that_is_set_by_hand_counts_for_every_remote(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(Pair("default", "remote")) as first, ready(Pair("default", "pg_remote")) as second:
        add(Product, "default", name="lamp")
        first.send()

        options.last_check = timezone.now()
        assert (first.get_pending(), second.get_pending()) == ({}, {})
        second.send_nothing()

        options.last_check = ago(days=1)
        assert first.get_pending() == second.get_pending() == {"logged.Product": 1}


@from_default
def test_what_arrived_from_another_site_is_not_queued_by_an_earlier_checkpoint(sites: Sites) -> None:
    add(Product, sites.remote, name="theirs")
    sites.back.send()
    add(Product, sites.local, name="ours")
    sites.send()

    options.last_check = LONG_AGO

    assert sites.get_pending() == {"logged.Product": 1}


@pytest.mark.parametrize("use_tz", [True, False])
@from_default
def test_the_checkpoint_is_exact_and_aware(sites: Sites, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    moment = dt.datetime(2026, 3, 4, 5, 6, 7, 89012, tzinfo=dt.timezone(dt.timedelta(hours=5)))

    options.last_check = moment

    assert options.last_check == moment
    assert timezone.is_aware(options.last_check)
    assert api.get_overview(sites.local, sites.remote).checkpoint == moment


@pytest.mark.parametrize("use_tz", [True, False])
@from_default
def test_a_naive_checkpoint_is_one_of_the_time_zone_of_the_site(sites: Sites, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    settings.TIME_ZONE = "Asia/Tokyo"

    options.last_check = dt.datetime(2026, 3, 4, 12, 0)

    assert options.last_check == dt.datetime(2026, 3, 4, 3, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize("language", ["en", "de", "pl"])
@from_default
def test_the_checkpoint_is_the_same_in_every_language(sites: Sites, settings: Any, language: str) -> None:
    from django.utils import translation

    with translation.override(language):
        options.last_check = LONG_AGO

    assert options.last_check == LONG_AGO


@from_default
def test_a_run_moves_the_checkpoint_and_one_with_nothing_to_send_does_not_move_it_back(sites: Sites) -> None:
    start = options.last_check
    add(Product, sites.local, name="lamp")
    sites.send()
    moved = options.last_check
    sites.send_nothing()

    assert start < moved <= options.last_check <= timezone.now()


@pytest.mark.parametrize("cache", [True, False])
@from_default
def test_the_checkpoint_is_never_a_stale_one(
    sites: Sites, settings: Any, monkeypatch: pytest.MonkeyPatch, cache: bool
) -> None:
    monkeypatch.setattr("dbsettings.settings.USE_CACHE", cache)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "logged"}}
    options.last_check = LONG_AGO
    assert options.last_check == LONG_AGO
    add(Product, sites.local, name="lamp")
    sites.send()

    assert options.last_check > ago(minutes=5)
    from dbsettings.models import Setting

    (stored,) = Setting.objects.filter(attribute_name="last_check").values_list("value", flat=True)
    options.last_check = LONG_AGO
    rows(Setting, "default").filter(attribute_name="last_check").update(value=stored)
    assert options.last_check > ago(minutes=5)


@pytest.mark.parametrize("cache", [True, False])
@on_postgresql
def test_the_checkpoint_is_the_same_in_every_process(live: Sites, cache: bool) -> None:
    program = """
from subprocess import run
print(options.last_check.isoformat())
options.last_check = datetime(2026, 3, 4, 5, 6, 7, 89012, tzinfo=timezone.utc)
print(options.last_check.isoformat())
code = {code!r}
run([sys.executable, "-c", code], check=True)
print(options.last_check.isoformat())
"""
    other = processes.BEGINNING + "options.last_check = datetime(2027, 1, 1, tzinfo=timezone.utc)"

    lines = processes.succeed(program.format(code=other), DBSETTINGS_USE_CACHE=cache).splitlines()

    assert lines[1:] == ["2026-03-04T05:06:07.089012+00:00", "2027-01-01T00:00:00+00:00"]
    again = processes.succeed("print(options.last_check.isoformat())", DBSETTINGS_USE_CACHE=cache)
    assert again == "2027-01-01T00:00:00+00:00"


@pytest.mark.parametrize("use_tz", [True, False])
@on_postgresql
def test_the_first_run_of_a_new_site_sends_what_was_logged(live: Sites, use_tz: bool) -> None:
    processes.succeed('Product.objects.using("pg_local").create(name="lamp")', USE_TZ=use_tz)

    first, second = (processes.succeed("synchronize()", USE_TZ=use_tz) for _ in range(2))

    assert first.splitlines()[-1] == DONE
    assert second.splitlines()[-1] == NO_CHANGES
    assert names(live) == ["lamp"]


@on_postgresql
def test_a_checkpoint_that_one_process_sets_counts_in_all(live: Sites) -> None:
    add(Product, live.local, name="skipped")
    processes.succeed("options.last_check = datetime.now(timezone.utc)")
    add(Product, live.local, name="sent")

    live.send()

    assert names(live) == ["sent"]
    lose_products(live)
    processes.succeed("options.last_check = datetime.now(timezone.utc) - timedelta(hours=1)")
    live.send()
    assert names(live) == ["sent", "skipped"]


# reset_synchro


@from_default
def test_a_reset_forgets_what_was_logged_and_what_was_sent(sites: Sites) -> None:
    sent = add(Product, sites.local, name="sent")
    sites.send()
    add(Product, sites.local, name="pending")
    before = timezone.now()

    reset_synchro()

    assert read_log(sites.local) == []
    assert before <= options.last_check <= timezone.now()
    assert sites.get_pending() == {}
    sites.send_nothing()
    sent.delete()
    report = sites.send()
    assert names(sites) == ["sent"]
    assert (written(report), report.failures) == ({}, [])


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)
def test_a_reset_forgets_the_mappings_on_the_remote_too(sites: Sites) -> None:
    add(Product, sites.local, name="ours")
    add(Product, sites.remote, name="theirs")
    sites.send()
    sites.back.send()
    theirs = IdMapping.objects.using("default").count()
    assert IdMapping.objects.using("remote").count() and theirs

    reset_synchro()

    assert IdMapping.objects.using("remote").count() == 0
    assert IdMapping.objects.using("default").count() == theirs


@from_default
def test_after_a_reset_objects_are_still_found_by_their_keys(sites: Sites) -> None:
    country = add(Country, sites.local, code="pl")
    sites.send()
    reset_synchro()

    change(country, name="Polska")
    sites.send()
    assert sites.arrived(Country, "code", "name") == [("pl", "Polska")]
    reset_synchro()

    country.delete()
    sites.send()
    assert sites.arrived(Country) == []


@from_default
def test_what_is_logged_after_a_reset_is_sent(sites: Sites) -> None:
    add(Product, sites.local, name="before")
    sites.send()
    reset_synchro()
    add(Product, sites.local, name="after")

    sites.send()

    assert names(sites) == ["after", "before"]
    sites.send_nothing()


@from_default
def test_a_reset_of_a_new_site_is_no_error(sites: Sites) -> None:
    reset_synchro()
    reset_synchro()

    sites.send_nothing()


# What the other direction knows, where what this one has left is forgotten


def send_to_and_fro(sites: Sites) -> Product:
    """An object that both sides have changed; this one was the last."""
    product = add(Product, sites.local, name="lamp", text="zero")
    sites.send()
    change(sites.there(Product).get(), text="one")
    sites.back.send()
    product.refresh_from_db()
    change(product, text="two")
    sites.send()
    assert sites.arrived(Product, "text") == ["two"]
    return product


@two_way
def test_an_edit_after_a_reset_is_compared_with_what_was_sent_last(sites: Sites) -> None:
    product = send_to_and_fro(sites)
    reset_synchro(sites.local)
    change(product, text="one")
    change(sites.there(Product).get(), price=1)

    sites.send()

    assert sites.arrived(Product, "text", "price") == [("one", 1)]


@two_way
def test_an_edit_after_a_reset_is_not_overwritten_by_the_other_side(sites: Sites) -> None:
    product = send_to_and_fro(sites)
    reset_synchro(sites.local)
    change(product, text="one")
    change(sites.there(Product).get(), price=1)

    sites.back.send()

    assert sites.back.arrived(Product, "text", "price") == [("one", 1)]


@two_way
def test_an_edit_is_sent_by_a_database_with_a_new_identity(sites: Sites) -> None:
    product = send_to_and_fro(sites)
    api.renew_origin(sites.local)
    change(sites.there(Product).get(), price=1)
    change(product, text="one")

    sites.send(reconcile=True)

    assert sites.arrived(Product, "text", "price") == [("one", 1)]


@two_way
def test_an_edit_in_a_database_with_a_new_identity_is_not_overwritten(sites: Sites) -> None:
    product = send_to_and_fro(sites)
    api.renew_origin(sites.local)
    change(sites.there(Product).get(), price=1)
    change(product, text="one")

    sites.back.send(reconcile=True)

    assert sites.back.arrived(Product, "text", "price") == [("one", 1)]


@two_way
def test_what_only_the_other_side_sent_is_merged_with_a_database_with_a_new_identity(sites: Sites) -> None:
    add(Product, sites.remote, name="lamp")
    sites.back.send()
    api.renew_origin(sites.local)
    change(sites.here(Product).get(), text="ours")
    change(sites.there(Product).get(), price=1)

    sites.back.send(reconcile=True)

    assert sites.back.arrived(Product, "text", "price") == [("ours", 1)]


# How long the log is kept


def keep(settings: Any, **time: float) -> None:
    """Set how long handled entries are kept."""
    settings.GESTORE_SYNC = {"LOG_RETENTION": dt.timedelta(**time) if time else None}


def run_once_more(sites: Sites) -> None:
    """Run with something to do."""
    add(Tag, sites.local, name=f"run {rows(Tag, sites.local).count()}")
    sites.send()


def elsewhere(sites: Sites) -> Sites:
    """Runs of the remote's own log to a third site."""
    return Sites(sites.remote, "remote" if sites.remote == "pg_remote" else "pg_remote")


def count_entries(using: str) -> int:
    """How many entries the log has of products."""
    return len(read_log(using, "logged.Product"))


@crossed
def test_handled_entries_go_when_they_are_old(sites: Sites, settings: Any) -> None:
    keep(settings, days=10)
    products = [add(Product, sites.local, name=name) for name in "ab"]
    for product in products:
        for price in range(5):
            change(product, price=price)
    sites.send()
    date_log(sites.local, ago(days=11))
    change(products[0], price=7)

    sites.send()
    run_once_more(sites)

    assert count_entries(sites.local) <= 3
    sites.send_nothing()


@crossed
def test_entries_that_are_not_old_stay(sites: Sites, settings: Any) -> None:
    keep(settings, days=10)
    product = add(Product, sites.local, name="lamp")
    change(product, price=1)
    sites.send()
    date_log(sites.local, ago(days=9))

    run_once_more(sites)

    assert count_entries(sites.local) == 2


@crossed
def test_entries_are_kept_for_ever_if_the_setting_says_so(sites: Sites, settings: Any) -> None:
    keep(settings)
    product = add(Product, sites.local, name="lamp")
    change(product, price=1)
    sites.send()
    date_log(sites.local, LONG_AGO)

    run_once_more(sites)

    assert count_entries(sites.local) == 2


@crossed
def test_entries_that_are_pending_stay_however_old_they_are(sites: Sites, settings: Any) -> None:
    from tests.policies.watching import refuse_text

    keep(settings, days=1)
    refuse_text(sites.remote, "logged_product", "text", "bad")
    bad = add(Product, sites.local, name="bad", text="bad")
    date_log(sites.local, LONG_AGO)
    run_once_more(sites)
    run_once_more(sites)

    assert sites.get_pending() == {"logged.Product": 1}
    rows(Product, sites.local).filter(pk=bad.pk).update(text="mended")
    sites.send()
    assert names(sites) == ["bad"]


@pytest.mark.django_db(databases=DATABASES)
def test_entries_stay_until_every_remote_has_them(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    keep(settings, days=1)
    with ready(Pair("default", "remote")) as first, ready(Pair("default", "pg_remote")) as second:
        add(Product, "default", name="first")
        first.send()
        second.send()
        change(add(Product, "default", name="lamp"), price=1)
        first.send()
        date_log("default", LONG_AGO)
        run_once_more(first)
        run_once_more(first)

        second.send()

        assert second.arrived(Product, "name", "price") == [("first", 0), ("lamp", 1)]
        second.send_nothing()


@crossed
def test_what_comparing_times_needs_is_kept(sites: Sites, settings: Any) -> None:
    keep(settings, days=1)
    with DisableSynchroLog():
        add(Country, sites.local, code="pl", name="older")
    country = add(Country, sites.remote, code="pl", name="new")
    change(country, name="newer")
    date_log(sites.remote, ago(days=40))
    other = elsewhere(sites)
    other.send()
    run_once_more(other)
    change(rows(Country, sites.local).get(), name="older")
    date_log(sites.local, ago(days=50))

    sites.send()

    assert sites.arrived(Country, "name") == ["newer"]


@crossed
def test_the_time_of_a_change_is_kept_though_another_site_wrote_the_row_later(sites: Sites, settings: Any) -> None:
    keep(settings, days=1)
    here = add(Product, sites.local, name="lamp")
    sites.send()
    for using in (sites.local, sites.remote):
        date_log(using, ago(days=50))
    change(here, price=1)
    date_log(sites.local, ago(days=45), action=CHANGE)
    change(sites.there(Product).get(), text="theirs")
    date_log(sites.remote, ago(days=40), action=CHANGE)
    sites.send()
    run_once_more(elsewhere(sites))
    sites.here(Product).update(text="ours")

    sites.send(here)

    assert sites.arrived(Product, "text", "price") == [("theirs", 1)]


@crossed
def test_a_deletion_is_kept_where_its_key_was_given_again(sites: Sites, settings: Any) -> None:
    keep(settings, days=1)
    here = add(Product, sites.local, name="lamp", text="nice")
    sites.send()
    there = sites.there(Product).get()
    pk = there.pk
    there.delete()
    add(Product, sites.remote, pk=pk, name="chair", text="nice")
    date_log(sites.remote, ago(days=40))
    run_once_more(elsewhere(sites))
    change(here, price=1)

    sites.send()

    assert ("chair", "nice", 0) in sites.arrived(Product, "name", "text", "price")


# A remote that is away, or behind, or another one


@on_postgresql
def test_a_remote_that_is_down_is_one_clear_error_and_everything_stays_pending(
    live: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(Product, live.local, name="lamp")
    connection = connections[live.remote]
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        patch.setitem(connection.settings_dict, "PORT", "1")

        with pytest.raises(DatabaseUnavailable, match=live.remote):
            live.send()
        with pytest.raises(CommandError, match=live.remote):
            call_command("synchronize", "--source", live.local, "--remote", live.remote, stdout=io.StringIO())
        add(Product, live.local, name="table")

    assert live.get_pending() == {"logged.Product": 2}
    live.send()
    assert names(live) == ["lamp", "table"]


@on_postgresql
def test_a_remote_that_breaks_off_has_nothing_and_gets_everything_the_next_time(live: Sites) -> None:
    for name in "ab":
        add(Product, live.local, name=name)

    def break_off(using: str, instance: Any, **kwargs: Any) -> None:
        if using == live.remote and instance.name == "b":
            execute(live.remote, "SELECT pg_terminate_backend(pg_backend_pid())")

    with receiving(post_save, break_off, Product), pytest.raises(GestoreSyncError):
        live.send()

    connections[live.remote].close()
    assert names(live) == []
    live.send()
    assert names(live) == ["a", "b"]
    assert live.send().message == NO_CHANGES


@crossed
def test_a_remote_that_is_behind_in_migrations_is_told_what_it_lacks(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")
    execute(sites.remote, "ALTER TABLE logged_product DROP COLUMN price")

    with pytest.raises(SchemaMismatch, match="price"):
        sites.send()

    assert sites.get_pending() == {"logged.Product": 1}


@crossed
def test_a_remote_that_lacks_a_column_of_our_own_tables_is_told(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")
    execute(sites.remote, "ALTER TABLE gestore_sync_syncrun DROP COLUMN uuid")

    with pytest.raises(SchemaMismatch, match="gestore_sync"):
        sites.send()

    assert rows(Product, sites.remote).count() == 0


@crossed
def test_a_remote_whose_tables_of_ours_are_older_gets_everything_and_is_told_what_to_run(sites: Sites) -> None:
    execute(sites.remote, "DROP TABLE gestore_sync_delivery", "DROP TABLE gestore_sync_changelog")
    emit_migrated(sites.remote)
    product = add(Product, sites.local, name="lamp")

    report = sites.send()
    change(product, price=1)
    sites.send()

    assert sites.arrived(Product, "name", "price") == [("lamp", 1)]
    assert any(f"migrate gestore_sync --database {sites.remote}" in warning for warning in report.warnings)


def restore(sites: Sites, point: Any) -> None:
    """Let the remote be as it was at this point, as a backup would."""
    connections[sites.remote].savepoint_rollback(point)
    connections[sites.remote].savepoint_commit(point)


def restore_older_backup(sites: Sites) -> Product:
    """Send something that the remote loses again; return an object that has changed since."""
    product = add(Product, sites.local, name="lamp")
    deleted = add(Product, sites.local, name="deleted")
    sites.send()
    backup = connections[sites.remote].savepoint()
    add(Product, sites.local, name="lost")
    change(product, text="lost")
    deleted.delete()
    sites.send()
    restore(sites, backup)
    assert names(sites) == ["deleted", "lamp"]
    return product


def test_a_remote_that_was_restored_from_a_backup_is_noticed(sites: Sites) -> None:
    product = restore_older_backup(sites)
    change(product, price=1)

    with pytest.raises(GestoreSyncError, match=r"(?i)backup|restored") as raised:
        sites.send()

    assert sites.arrived(Product, "name", "price") == [("deleted", 0), ("lamp", 0)]
    assert sites.get_pending() == {"logged.Product": 1}
    assert "--r" in str(raised.value)
    with pytest.raises(CommandError, match=r"(?i)backup|restored"):
        call_command("synchronize", "--source", sites.local, "--remote", sites.remote, stdout=io.StringIO())


@crossed
def test_a_restored_remote_gets_its_objects_back_by_reconcile(sites: Sites) -> None:
    product = restore_older_backup(sites)
    change(product, price=1)

    sites.send(reconcile=True)

    assert sites.arrived(Product, "name", "text", "price") == [("lamp", "lost", 1), ("lost", "", 0)]
    change(product, price=2)
    sites.send()
    assert sites.arrived(Product, "name", "price") == [("lamp", 2), ("lost", 0)]


@crossed
def test_a_restored_remote_that_lacks_nothing_is_in_step_again_after_reconcile(sites: Sites) -> None:
    backup = connections[sites.remote].savepoint()
    product = add(Product, sites.local, name="lamp")
    sites.send()
    restore(sites, backup)
    product.delete()

    sites.send(reconcile=True)
    add(Product, sites.local, name="new")
    sites.send()

    assert names(sites) == ["new"]


@crossed
def test_a_restored_remote_takes_whole_objects(sites: Sites) -> None:
    product = restore_older_backup(sites)
    change(product, price=1)

    sites.send(product)

    assert ("lamp", "lost", 1) in sites.arrived(Product, "name", "text", "price")


@crossed
def test_a_remote_that_was_replaced_by_an_empty_one_is_noticed(sites: Sites) -> None:
    empty = connections[sites.remote].savepoint()
    product = add(Product, sites.local, name="lamp")
    sites.send()
    restore(sites, empty)
    change(product, price=1)

    with pytest.raises(GestoreSyncError):
        sites.send()

    assert names(sites) == []


@crossed
def test_runs_of_other_sites_are_no_reason_to_refuse(sites: Sites) -> None:
    other = Sites("pg_local" if sites.local == "default" else "default", sites.remote)
    for number in range(2):
        for site in (sites, other):
            add(Product, site.local, name=f"{site.local} {number}")
            site.send()

    assert len(names(sites)) == 4


@crossed
def test_pushes_of_roots_in_between_are_no_reason_to_refuse(sites: Sites) -> None:
    shelf = add(Shelf, sites.local, name="top")
    sites.send()
    with DisableSynchroLog():
        change(shelf, name="low")
    sites.send(shelf)
    add(Product, sites.local, name="lamp")

    sites.send()

    assert (names(sites), sites.arrived(Shelf, "name")) == (["lamp"], ["low"])


# Objects and mappings that are not there


@pytest.mark.parametrize("sent", [True, False])
def test_a_logged_object_that_is_gone_without_an_entry_blocks_nothing(sites: Sites, sent: bool) -> None:
    product = add(Product, sites.local, name="gone")
    if sent:
        sites.send()
        change(product, price=1)
    with DisableSynchroLog():
        product.delete()
    add(Product, sites.local, name="lamp")

    sites.send()

    assert names(sites) == (["gone", "lamp"] if sent else ["lamp"])
    sites.send(reconcile=True)
    assert names(sites) == ["lamp"]
    sites.send_nothing()


@crossed
def test_an_object_of_a_model_that_is_no_longer_there_blocks_nothing(sites: Sites) -> None:
    from django.contrib.contenttypes.models import ContentType

    kind = ContentType.objects.using(sites.local).create(app_label="logged", model="vanished")
    entry = ChangeLog(content_type_id=kind.pk, object_id="1", action=1)
    entry.save(using=sites.local)
    add(Product, sites.local, name="lamp")

    sites.send()

    assert names(sites) == ["lamp"]


def test_an_object_whose_counterpart_was_deleted_is_made_anew_and_harms_no_other(sites: Sites) -> None:
    product = add(Product, sites.local, name="ours")
    sites.send()
    theirs = rows(Product, sites.remote).get()
    pk = theirs.pk
    theirs.delete()
    add(Product, sites.remote, pk=pk, name="theirs", text="theirs", price=8)
    change(product, text="new", price=5)

    sites.send()

    assert sites.arrived(Product, "name", "text", "price") == [("ours", "new", 5), ("theirs", "theirs", 8)]


def test_a_deletion_does_not_take_what_came_in_the_place_of_the_counterpart(sites: Sites) -> None:
    product = add(Product, sites.local, name="ours")
    sites.send()
    theirs = rows(Product, sites.remote).get()
    pk = theirs.pk
    theirs.delete()
    add(Product, sites.remote, pk=pk, name="theirs", text="theirs", price=8)

    product.delete()
    sites.send()

    assert names(sites) == ["theirs"]


@crossed
def test_an_object_whose_counterpart_was_deleted_by_hand_is_made_anew(sites: Sites) -> None:
    country = add(Country, sites.local, code="pl")
    city = add(City, sites.local, country=country, name="Gdynia")
    sites.send()
    for model in (City, Country):
        rows(model, sites.remote)._raw_delete(sites.remote)
    change(city, motto="new")

    sites.send()

    assert sites.arrived(City, "name", "motto", "country__code") == [("Gdynia", "new", "pl")]


@crossed
def test_a_deletion_of_what_the_remote_deleted_itself_is_nothing_to_do(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    with DisableSynchroLog():
        rows(Product, sites.remote).get().delete()

    product.delete()
    report = sites.send()

    assert (written(report), report.failures, report.conflicts) == ({}, [], [])
    assert sites.get_pending() == {}


# Keys that are longer than any column


LONG = "long/" * 600


def test_natural_keys_of_any_length_travel(sites: Sites) -> None:
    key = "A" + LONG * 10
    with DisableSynchroLog():
        add(Country, sites.remote, code=key, name="old")
        add(Country, sites.remote, code=key + "!", name="other")
    country = add(Country, sites.local, code=key, name="new")
    sites.send()
    assert sites.arrived(Country, "code", "name") == [(key, "new"), (key + "!", "other")]
    forget_mappings(sites)

    country.delete()
    sites.send()

    assert sites.arrived(Country, "name") == ["other"]


def forget_mappings(sites: Sites) -> None:
    """Let natural keys be all that is known."""
    rows(IdMapping, sites.remote).delete()


def test_a_primary_key_that_is_too_long_is_not_lost_in_silence_and_blocks_nothing(sites: Sites) -> None:
    page = add(Page, sites.local, path=LONG, title="long")
    add(Page, sites.local, path="short", title="short")
    add(Product, sites.local, name="lamp")

    report = sites.send()

    assert names(sites) == ["lamp"]
    assert "short" in sites.arrived(Page, "path")
    if rows(Page, sites.remote).filter(path=page.path).exists():
        assert report.failures == []
        change(page, title="longer")
        sites.send()
        assert sites.there(Page).get(path=LONG).title == "longer"
        page.delete()
        sites.send()
        assert sites.arrived(Page, "path") == ["short"]
    else:
        assert [failure["pk"] for failure in report.failures] == [LONG]
        assert sites.get_pending() == {"logged.Page": 1}


def test_keys_that_differ_only_after_many_characters_are_two(sites: Sites) -> None:
    first, second = (add(Page, sites.local, path="a" * 400 + end, title=end) for end in "xy")
    sites.send()
    change(first, title="X")
    second.delete()

    sites.send()

    assert sites.arrived(Page, "title") == ["X"]


# Several databases


def test_the_log_of_one_database_is_not_the_log_of_another(sites: Sites) -> None:
    add(Product, sites.local, name="ours")
    add(Product, sites.remote, name="theirs")
    sites.send()

    assert get_pending(sites.local, sites.remote) == {}
    assert get_pending(sites.remote, sites.local) == {"logged.Product": 1}
    forget_log(sites.local)
    assert get_pending(sites.remote, sites.local) == {"logged.Product": 1}


@crossed
def test_a_source_without_a_log_is_told_what_to_run(sites: Sites) -> None:
    drop_our_tables(sites.local)

    with pytest.raises(GestoreSyncError, match="migrate gestore_sync"):
        sites.send()

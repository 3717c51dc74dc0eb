"""The change log where several things meet: what was sent in another way, several sites, cut runs, bulk operations."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models, transaction
from django.db.models.signals import post_save, pre_delete
from django.test.utils import CaptureQueriesContext

from gestore_sync import DisableSynchroLog, api
from gestore_sync.exceptions import GestoreSyncError, OutOfStep, UnknownObject
from gestore_sync.models import CHANGE, DELETION, HANDLED, ChangeLog, Delivery, IdMapping, Remote, options
from gestore_sync.refs import Ref
from tests.conftest import DATABASES, Pair
from tests.kinds.pushing import forget_caches, rows
from tests.logged import processes
from tests.logged.models import (
    Article,
    Author,
    Authorship,
    Cipher,
    Country,
    Employee,
    Product,
    Reading,
    Sample,
    Seat,
    Shelf,
    Tag,
    Team,
)
from tests.logged.sites import (
    NO_CHANGES,
    ONE_DATABASE,
    Sites,
    Started,
    add,
    ago,
    change,
    date_log,
    drop_our_tables,
    in_thread,
    make_our_tables,
    read_log,
    ready,
    receiving,
)
from tests.naturals import models as naturals
from tests.policies.watching import CROSSED, execute, pairings, refuse_text

crossed = pytest.mark.parametrize("pair", pairings(*CROSSED), indirect=True)
once = pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
on_postgresql = pytest.mark.parametrize("live_pair", pairings("postgresql-postgresql", live=True), indirect=True)


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


@pytest.fixture
def star(db: None, settings: Any) -> Iterator[tuple[Sites, Sites]]:
    """One site that sends to two remotes, of which it knows the first."""
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(Pair("pg_local", "pg_remote")) as first, ready(Pair("pg_local", "remote")) as second:
        yield first, second


@pytest.fixture
def meeting(db: None, settings: Any) -> Iterator[tuple[Sites, Sites]]:
    """Two sites that send to one remote, which has the country of both."""
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(Pair("default", "pg_remote")) as first, ready(Pair("pg_local", "pg_remote")) as second:
        for site in (first, second):
            add(Country, site.local, code="pl", name="old")
            site.send()
        for using in ("default", "pg_local", "pg_remote"):
            date_log(using, ago(hours=9))
        yield first, second


everywhere = pytest.mark.django_db(databases=DATABASES)


@contextmanager
def unnamed(alias: str) -> Iterator[None]:
    """Settings that do not name a database."""
    database = django_settings.DATABASES.pop(alias)
    try:
        yield
    finally:
        django_settings.DATABASES[alias] = database


def names(sites: Sites) -> list[str]:
    """The names of the remote's products."""
    return sites.arrived(Product, "name")


def count_queries(sites: Sites) -> list[int]:
    """Synchronize; return how many queries each side was asked."""
    with (
        CaptureQueriesContext(connections[sites.local]) as local,
        CaptureQueriesContext(connections[sites.remote]) as remote,
    ):
        report = sites.send()
    assert not report.failures
    return [len(local), len(remote)]


# Deletions of what came in another way than by the log


@crossed
def test_an_object_that_a_root_took_along_is_deleted_though_its_addition_was_never_sent(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send(product)
    assert names(sites) == ["lamp"]
    product.delete()

    sites.send()

    assert names(sites) == []
    sites.send_nothing()


@pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "sqlite-postgresql"), indirect=True)
def test_an_object_that_is_queued_again_and_then_deleted_is_deleted(sites: Sites) -> None:
    product = add(Product, sites.local, name="lamp")
    sites.send()
    options.last_check = ago(hours=1)
    product.delete()

    sites.send()

    assert names(sites) == []


@crossed
def test_changes_of_a_root_include_deletions_of_what_hung_by_any_kind_of_link(sites: Sites, settings: Any) -> None:
    kinds = (naturals.Organization, naturals.Course, naturals.Note, naturals.Country, naturals.City)
    settings.SYNCHRO_MODELS = tuple(("naturals", kind.__name__) for kind in kinds)
    forget_caches()
    organization = add(naturals.Organization, sites.local, name="school")
    course = add(naturals.Course, sites.local, organization=organization, code="maths")
    note = add(naturals.Note, sites.local, content_object=course, text="hard")
    country = add(naturals.Country, sites.local, code="pl")
    city = add(naturals.City, sites.local, country=country, name="Gdynia")
    sites.send()
    assert (sites.arrived(naturals.Note, "text"), sites.arrived(naturals.City, "name")) == (["hard"], ["Gdynia"])
    note.delete()
    city.delete()

    sites.send(course, country, changes=True)

    assert sites.arrived(naturals.Note) == []
    assert sites.arrived(naturals.City) == []
    assert sites.arrived(naturals.Course, "code") == ["maths"]


# Members


@crossed
def test_what_is_added_and_deleted_here_takes_nothing_of_the_remote_s_own(sites: Sites) -> None:
    add(Tag, sites.remote, name="t")
    add(Tag, sites.local, name="t").delete()

    sites.send()

    assert sites.arrived(Tag, "name") == ["t"]
    assert sites.get_pending() == {}


def test_a_member_of_the_remote_s_own_stays_when_it_is_added_and_taken_out_here(sites: Sites) -> None:
    tag = add(Tag, sites.local, name="a")
    article = add(Article, sites.local, title="ours")
    sites.send()
    sites.there(Article).get().tags.add(sites.there(Tag).get())
    article.tags.add(tag)
    article.tags.remove(tag)

    sites.send()

    assert sites.there(Article).get().tags.count() == 1


@crossed
def test_a_member_that_came_with_a_root_goes_when_it_is_taken_out_again(sites: Sites) -> None:
    tag = add(Tag, sites.local, name="a")
    article = add(Article, sites.local, title="ours")
    sites.send()
    article.tags.add(tag)
    sites.send(article)
    assert sites.there(Article).get().tags.count() == 1
    article.tags.remove(tag)

    sites.send()

    assert sites.there(Article).get().tags.count() == 0


def fill(sites: Sites, field: str, number: int) -> Article:
    """An article on both sides with so many members."""
    model: Any = {"tags": Tag, "authors": Author}[field]
    article = add(Article, sites.local, title=f"{number}")
    getattr(article, field).add(*(add(model, sites.local, name=f"{number} {index}") for index in range(number)))
    sites.send()
    return article


@pytest.mark.parametrize("field", ["tags", "authors"])
@crossed
def test_queries_for_members_that_go_do_not_grow_with_their_number(sites: Sites, field: str) -> None:
    def count(number: int) -> list[int]:
        getattr(fill(sites, field, number), field).clear()
        return count_queries(sites)

    count(1)
    few, many = count(5), count(40)

    assert sites.there(Article.tags.through).count() == sites.there(Authorship).count() == 0
    assert all(b <= a + 5 for a, b in zip(few, many, strict=True)), (few, many)


# Runs that handle no entry


@crossed
def test_a_run_that_sends_only_part_of_an_object_is_no_reason_to_refuse_the_next_one(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_tag", "name", "bad")
    tag = add(Tag, sites.local, name="bad")
    article = add(Article, sites.local, title="ours")
    article.tags.add(tag)
    sites.send()
    assert sites.arrived(Article, "title") == ["ours"]

    report = sites.send()
    change(tag, name="mended")
    sites.send()

    assert len(report.failures) > 0
    assert sites.there(Article).get().tags.get().name == "mended"
    sites.send_nothing()


# New remotes


@everywhere
def test_a_new_remote_that_got_changes_of_one_root_first_gets_the_rest_later(star: tuple[Sites, Sites]) -> None:
    first, second = star
    shelf = add(Shelf, first.local, name="a")
    add(Shelf, first.local, name="b")
    first.send()

    second.send(shelf, changes=True)
    second.send()

    assert second.arrived(Shelf, "name") == ["a", "b"]
    first.send_nothing()


@everywhere
def test_a_new_remote_that_was_to_ignore_a_model_first_gets_it_later(star: tuple[Sites, Sites]) -> None:
    first, second = star
    add(Shelf, first.local, name="a")
    add(Product, first.local, name="lamp")
    first.send()

    second.send(ignore=["logged.Shelf"])
    assert (second.arrived(Shelf), names(second)) == ([], ["lamp"])
    second.send()

    assert second.arrived(Shelf, "name") == ["a"]
    first.send_nothing()


DIE_AFTER_THE_ROWS = """
commit = connections["pg_remote"].commit

def dying():
    commit()
    os._exit(9)

connections["pg_remote"].commit = dying
synchronize()
"""


@on_postgresql
def test_a_new_remote_whose_first_run_was_killed_gets_what_that_run_left_behind(live: Sites) -> None:
    known = Sites(live.local, "remote")
    bad = add(Tag, live.local, name="bad")
    add(Product, live.local, name="lamp")
    known.send()
    refuse_text(live.remote, "logged_tag", "name", "bad")
    try:
        assert processes.run(DIE_AFTER_THE_ROWS).returncode == processes.KILLED
        assert (names(live), live.arrived(Tag, "name")) == (["lamp"], [])
    finally:
        execute(live.remote, "ALTER TABLE logged_tag DROP CONSTRAINT no_such_text")

    live.send()

    assert live.arrived(Tag, "name") == [bad.name]
    assert names(live) == ["lamp"]


@on_postgresql
def test_what_another_remote_got_while_a_new_one_got_its_first_run_is_not_lost(live: Sites) -> None:
    new = Sites(live.local, "remote")
    add(Product, live.local, name="early")
    live.send()
    done: list[str] = []

    def send_to_the_other() -> None:
        add(Product, live.local, name="late")
        live.send()

    def hear(using: str, **kwargs: Any) -> None:
        if using == new.remote and not done:
            done.append(using)
            in_thread(send_to_the_other)

    with receiving(post_save, hear, Product):
        new.send()
    assert (done, names(live)) == (["remote"], ["early", "late"])
    new.send()

    assert names(new) == ["early", "late"]


@on_postgresql
def test_an_entry_that_two_remotes_get_at_once_is_handled(live: Sites) -> None:
    other = Sites(live.local, "remote")
    live.send()
    other.send()
    add(Product, live.local, name="lamp")
    marked, go_on = threading.Event(), threading.Event()

    def send_slowly() -> None:
        committed = threading.Event()
        there, here = connections[live.remote], connections[live.local]
        commit_there, commit_here = there.commit, here.commit

        def commit_rows() -> None:
            commit_there()
            committed.set()

        def commit_marks() -> None:
            if committed.is_set():
                marked.set()
                go_on.wait(1)
            commit_here()

        there.commit, here.commit = commit_rows, commit_marks  # type: ignore[method-assign]
        live.send()

    with Started(send_slowly) as slow:
        assert marked.wait(60)
        other.send()
        go_on.set()
        slow.result()

    assert set(ChangeLog.objects.using(live.local).values_list("state", flat=True)) == {HANDLED}
    assert not Delivery.objects.using(live.local).exists()


# What is kept of deliveries


@everywhere
def test_a_new_remote_leaves_no_deliveries_behind(star: tuple[Sites, Sites], settings: Any) -> None:
    first, second = star
    settings.GESTORE_SYNC = {"LOG_RETENTION": dt.timedelta(0)}
    product = add(Product, first.local, name="lamp")
    change(product, price=1)
    first.send()

    second.send()

    assert not Delivery.objects.using(first.local).exists()


@crossed
def test_a_remote_that_the_settings_do_not_name_any_more_holds_nothing_up(sites: Sites, settings: Any) -> None:
    settings.GESTORE_SYNC = {"LOG_RETENTION": dt.timedelta(0)}
    Remote.objects.using(sites.local).create(alias="given up", is_known=True)
    product = add(Product, sites.local, name="lamp")
    for price in range(4):
        change(product, price=price)
        sites.send()

    assert len(read_log(sites.local)) <= 2
    assert not Delivery.objects.using(sites.local).exists()


@everywhere
def test_a_remote_that_the_settings_do_not_name_for_a_while_gets_what_it_has_missed(star: tuple[Sites, Sites]) -> None:
    first, second = star
    product = add(Product, first.local, name="lamp")
    gone = add(Product, first.local, name="gone")
    for sites in star:
        sites.send()
    with unnamed(second.remote):
        change(product, price=1)
        gone.delete()
        first.send()

    second.send()

    assert second.arrived(Product, "name", "price") == [("lamp", 1)]
    assert not Delivery.objects.using(first.local).exists()
    second.send_nothing()


@pytest.mark.parametrize("has_tables", [True, False])
@everywhere
def test_a_remote_that_the_settings_did_not_name_for_longer_than_the_log_is_kept_is_compared(
    star: tuple[Sites, Sites], settings: Any, has_tables: bool
) -> None:
    first, second = star
    if not has_tables:
        drop_our_tables(second.remote)
    settings.GESTORE_SYNC = {"LOG_RETENTION": dt.timedelta(days=1)}
    tag = add(Tag, first.local, name="a")
    article = add(Article, first.local, title="ours")
    article.tags.add(tag)
    for sites in star:
        sites.send()
    with unnamed(second.remote):
        article.tags.remove(tag)
        change(article, text="new")
        date_log(first.local, ago(days=2))
        first.send()
        assert not Delivery.objects.using(first.local).exists()

    with pytest.raises(OutOfStep, match="--reconcile"):
        second.send()
    second.send(reconcile=True)

    assert second.there(Article).get().text == "new"
    assert not second.there(Article).get().tags.exists()
    second.send_nothing()


# What is found by comparing with one remote


@everywhere
def test_what_one_remote_lacks_is_no_news_for_another_one(star: tuple[Sites, Sites]) -> None:
    first, second = star
    add(Product, first.local, name="lamp")
    for sites in star:
        sites.send()
        with DisableSynchroLog():
            sites.there(Product).get().delete()

    first.send(reconcile=True)
    second.send_nothing()

    assert (names(first), names(second)) == (["lamp"], [])


@everywhere
def test_a_deletion_is_sent_to_all_though_one_remote_was_compared_before(star: tuple[Sites, Sites]) -> None:
    first, second = star
    country = add(Country, first.local, code="pl", name="Poland")
    add(Country, second.remote, code="pl", name="Poland")
    for sites in star:
        sites.send()
    IdMapping.objects.using(second.remote).all().delete()
    with DisableSynchroLog():
        first.there(Country).delete()
    first.send(reconcile=True)
    country.delete()

    second.send()

    assert second.arrived(Country, "code") == []


# A caller's transaction, a remote that gets our tables late


@on_postgresql
def test_a_caller_s_transaction_that_is_rolled_back_leaves_the_sites_in_step(live: Sites) -> None:
    add(Product, live.local, name="lamp")

    def send_and_give_up() -> None:
        with transaction.atomic(using=live.local):
            live.send()
            raise GestoreSyncError("the caller gives up")

    with pytest.raises(GestoreSyncError):
        send_and_give_up()
    live.send()

    assert names(live) == ["lamp"]
    assert live.send().message == NO_CHANGES


@once
def test_a_remote_that_gets_our_tables_later_goes_on(sites: Sites) -> None:
    drop_our_tables(sites.remote)
    product = add(Product, sites.local, name="lamp")
    sites.send()
    make_our_tables(sites.remote)
    change(product, price=3)
    add(Product, sites.local, name="table")

    sites.send()

    assert sites.arrived(Product, "name", "price") == [("lamp", 3), ("table", 0)]
    sites.send_nothing()


@once
def test_reconcile_finds_what_went_though_the_remote_got_our_tables_later(sites: Sites) -> None:
    drop_our_tables(sites.remote)
    add(Product, sites.local, name="lamp")
    sites.send()
    make_our_tables(sites.remote)
    sites.here(Product)._raw_delete(sites.local)

    sites.send(reconcile=True)

    assert names(sites) == []


# Several sites: the time of a change is when it was made, not when it was sent


@once
@pytest.mark.parametrize("row", ["a", "a,1", 'a"1', '"a"', "a, b", ",", "a\nb", ""])
def test_an_object_can_be_named_as_reports_name_it(sites: Sites, row: str) -> None:
    seat = add(Seat, sites.local, row=row, number=2, guest="g")

    sites.send(str(Ref(Seat, seat.pk)))

    assert sites.arrived(Seat, "row", "guest") == [(row, "g")]


@once
@pytest.mark.parametrize("name", ['logged.Seat."a,2', "logged.Seat.a,1,2", 'logged.Seat."a"b,2'])
def test_a_name_whose_parts_do_not_fit_names_no_object(sites: Sites, name: str) -> None:
    with pytest.raises(UnknownObject, match="cannot be a primary key"):
        sites.send(name)


@crossed
def test_a_link_that_a_restore_sets_again_is_sent(sites: Sites, tmp_path: Path) -> None:
    team = add(Team, sites.local, name="t")
    add(Employee, sites.local, name="e", team=team)
    sites.send()
    api.delete_objects([team], database=sites.local, backup=str(tmp_path / "backup.json"))
    sites.send()
    api.import_objects(str(tmp_path / "backup.json"), database=sites.local)

    sites.send()

    assert sites.arrived(Employee, "name", "team__name") == [("e", "t")]


@crossed
def test_the_remote_s_log_has_the_time_of_a_deletion_at_the_source(sites: Sites) -> None:
    country = add(Country, sites.local, code="pl")
    sites.send()
    country.delete()
    date_log(sites.local, ago(hours=5), action=DELETION)

    sites.send()

    assert ChangeLog.objects.using(sites.remote).get(action=DELETION).date < ago(hours=4)


@crossed
def test_the_remote_s_log_has_the_time_of_a_change_that_came_with_a_root(sites: Sites) -> None:
    country = add(Country, sites.local, code="pl")
    date_log(sites.local, ago(hours=5))

    sites.send(country)

    assert ChangeLog.objects.using(sites.remote).get().date < ago(hours=4)


@everywhere
def test_a_newer_change_of_another_site_wins_over_an_older_one_that_came_with_a_root(
    meeting: tuple[Sites, Sites],
) -> None:
    first, second = meeting
    change(first.here(Country).get(), name="older")
    date_log(first.local, ago(hours=5), action=CHANGE)
    change(second.here(Country).get(), name="newer")
    date_log(second.local, ago(hours=1), action=CHANGE)
    first.send(first.here(Country).get())
    assert first.arrived(Country, "name") == ["older"]

    second.send()

    assert second.arrived(Country, "name") == ["newer"]


@everywhere
def test_an_older_change_does_not_bring_back_what_another_site_deleted_later(meeting: tuple[Sites, Sites]) -> None:
    first, second = meeting
    change(second.here(Country).get(), name="older")
    date_log(second.local, ago(hours=5), action=CHANGE)
    first.here(Country).get().delete()
    date_log(first.local, ago(hours=1), action=DELETION)
    first.send()

    report = second.send()

    assert second.arrived(Country) == []
    assert len(report.conflicts) == 1


@everywhere
def test_a_newer_change_brings_back_what_another_site_deleted_before(meeting: tuple[Sites, Sites]) -> None:
    first, second = meeting
    first.here(Country).get().delete()
    date_log(first.local, ago(hours=5), action=DELETION)
    change(second.here(Country).get(), name="newer")
    date_log(second.local, ago(hours=1), action=CHANGE)
    first.send()

    second.send()

    assert second.arrived(Country, "name") == ["newer"]


# Entries of models that are not there now


@crossed
def test_entries_of_a_model_that_is_not_there_for_a_while_are_sent_when_it_is_back(sites: Sites) -> None:
    add(Product, sites.local, name="lamp")
    types = ContentType.objects.using(sites.local).filter(app_label="logged")
    types.filter(model="product").update(model="gone")
    forget_caches()
    report = sites.send()
    types.filter(model="gone").update(model="product")
    forget_caches()

    sites.send()

    assert len(report.warnings) == 1
    assert names(sites) == ["lamp"]


# Reconcile


@crossed
def test_reconcile_queues_nothing_that_is_pending_already(sites: Sites) -> None:
    refuse_text(sites.remote, "logged_tag", "name", "bad")
    add(Tag, sites.local, name="bad")
    sites.send(reconcile=True)
    before = read_log(sites.local)

    sites.send(reconcile=True)

    assert read_log(sites.local) == before


# Logging does not change what an application does


@pytest.mark.parametrize("using", ONE_DATABASE)
def test_an_object_whose_key_no_database_can_keep_is_deleted(using: str, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    forget_caches()
    cipher = add(Cipher, using, code="a", number="1")

    with transaction.atomic(using=using):
        cipher.delete()

    assert not rows(Cipher, using).exists()
    assert [action for _, _, action in read_log(using, "logged.Cipher")][-1] == DELETION


@pytest.mark.django_db
def test_an_update_of_very_many_rows_means_what_it_means_to_django(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    number = 50_001
    execute(
        "default",
        "INSERT INTO logged_reading (code, value) VALUES ('low', 1)",
        f"WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {number}) "
        "INSERT INTO logged_reading (code, value) SELECT 'high' || n, 3 FROM s",
    )
    mean = Reading.objects.order_by().annotate(one=models.Value(1)).values("one")
    mean = mean.annotate(mean=models.Avg("value")).values("mean")

    above = Reading.objects.filter(value__gt=models.Subquery(mean))
    changed = above.update(value=models.F("value") * 1000)

    assert changed == number
    assert dict(Reading.objects.values_list("value").annotate(models.Count("pk"))) == {1: 1, 3000: number}
    assert ChangeLog.objects.filter(action=CHANGE).count() == number


@crossed
def test_a_deletion_that_was_undone_within_a_bulk_deletion_leaves_the_remote_s_row(sites: Sites) -> None:
    add(Reading, sites.local, code="a")
    add(Product, sites.local, name="lamp")
    sites.send()
    pk = sites.there(Product).get().pk

    def undo(using: str, **kwargs: Any) -> None:
        if using == sites.local:
            with transaction.atomic(using=using):
                sites.here(Product).get().delete()
                transaction.set_rollback(True, using=using)

    with receiving(pre_delete, undo, Reading):
        Reading.objects.using(sites.local).all().delete()
    logged = read_log(sites.local, "logged.Product")
    sites.send()

    assert len(logged) == 1
    assert sites.there(Product).get().pk == pk
    assert sites.arrived(Reading) == []


# What pruning costs


def count_steps(sites: Sites) -> int:
    """Synchronize one more product; return how much work the source's SQLite did, in thousands of steps."""
    add(Product, sites.local, name="one more")
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection: Any = connections[sites.local]
    connection.ensure_connection()
    connection.connection.set_progress_handler(count, 1000)
    try:
        sites.send()
    finally:
        connection.connection.set_progress_handler(None, 1000)
    return steps


@once
def test_the_work_of_pruning_grows_with_the_log_and_not_with_its_square(sites: Sites, settings: Any) -> None:
    settings.GESTORE_SYNC = {"LOG_RETENTION": dt.timedelta(days=1)}

    def measure(number: int) -> int:
        Sample.objects.using(sites.local).bulk_create(Sample(name="a") for _ in range(number))
        ChangeLog.objects.using(sites.local).update(state=HANDLED)
        date_log(sites.local, ago(days=9))
        return count_steps(sites)

    sites.send()
    few, many = measure(500), measure(1500)

    assert many < 6 * few, (few, many)

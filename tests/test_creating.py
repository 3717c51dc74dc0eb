"""New rows are sent by a second thread while the next ones are made ready, and their links are checked meanwhile."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.models.signals import post_save
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from psycopg.errors import SerializationFailure

from gestore_sync import api, creating, records
from gestore_sync.background import Background
from gestore_sync.bundles import parts
from gestore_sync.constraints import find_checkable
from gestore_sync.exceptions import GestoreSyncError, WriteFailed
from gestore_sync.journal import Journal
from gestore_sync.links import LinkGraph
from gestore_sync.models import M2M_CHANGE, PENDING, ChangeLog, IdMapping
from gestore_sync.writers import get_writer, postgresql
from tests.carrying import carried
from tests.conftest import Pair
from tests.kinds.making import make
from tests.kinds.models import Node, Page
from tests.kinds.pushing import rows
from tests.policies.models import Article, Brand, Colour, Depot, Parcel, Scan
from tests.policies.watching import Watch, execute, paired, pairings, refuse_text, watched

pair = paired("sqlite-postgresql", "postgresql-postgresql")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(creating, "CHECKED_AT_ONCE", 1)
    with override_settings(GESTORE_SYNC={"BATCH_SIZE": 2}):
        yield


@pytest.fixture(params=pairings("sqlite-postgresql", "postgresql-postgresql", live=True))
def live(request: pytest.FixtureRequest) -> Iterator[Watch]:
    with watched(request.param) as watch:
        yield watch


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> list[str]:
    """The names of the threads that have inserted rows of ours into the target, one for each statement."""
    names: list[str] = []
    insert = creating.Creator._insert
    send = creating.Creator._send

    def note(call: Any) -> Any:
        def noted(self: Any, batch: Any, *rest: Any) -> Any:
            names.append(threading.current_thread().name)
            return call(self, batch, *rest)

        return noted

    monkeypatch.setattr(creating.Creator, "_insert", note(insert))
    monkeypatch.setattr(creating.Creator, "_send", note(send))
    return names


def make_depot(using: str, articles: int = 7) -> Depot:
    depot: Depot = make(Depot, using)
    for number in range(articles):
        make(Article, using, depot=depot, code=f"C{number}")
    return depot


def count_sessions(using: str) -> int:
    """Return how many connections there are to a database of PostgreSQL."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def get_checks(queries: CaptureQueriesContext) -> list[str]:
    """Return what constraints were checked by name."""
    texts = [query["sql"] for query in queries.captured_queries]
    return [text for text in texts if text.startswith("SET CONSTRAINTS") and "ALL" not in text]


def test_rows_nobody_is_told_of_are_sent_by_a_second_thread(watch: Watch, threads: list[str]) -> None:
    watch.push(make_depot(watch.source))

    assert len(threads) == 5
    assert all(name.startswith("gestore_sync") for name in threads)


def test_rows_that_somebody_is_told_of_are_sent_by_the_caller_s_thread(watch: Watch, threads: list[str]) -> None:
    heard: list[tuple[str, str]] = []

    def hear(instance: Any, **sent: Any) -> None:
        heard.append((instance.code, threading.current_thread().name))

    post_save.connect(hear, Article)
    try:
        depot = make_depot(watch.source)
        heard.clear()
        watch.push(depot)
    finally:
        post_save.disconnect(hear, Article)

    mine = threading.current_thread().name
    assert heard == [(f"C{number}", mine) for number in range(7)]
    assert threads.count(mine) == 4


@pytest.mark.parametrize("bad", range(7))
def test_a_refused_row_is_named_whatever_batch_it_is_in(watch: Watch, bad: int) -> None:
    depot = make_depot(watch.source)
    refused = watch.on_source(Article).get(code=f"C{bad}")
    watch.on_source(Article).filter(pk=refused.pk).update(title="refused")
    make(Parcel, watch.source, depot=depot, number="after it")
    refuse_text(watch.target, "policies_article", "title", "refused")

    error = watch.refuse(depot)

    assert isinstance(error, WriteFailed)
    assert f"policies.Article.{refused.pk}" in str(error)


def test_objects_are_kept_track_of_however_they_are_sent(watch: Watch) -> None:
    depot = make_depot(watch.source)
    watch.push(depot)
    watch.on_target(Article).filter(code__in=["C1", "C4", "C6"]).delete()
    other = make_depot(watch.source, 3)

    watch.push(depot, other)

    assert watch.on_target(Article).count() == 10
    mapped = watch.on_target(IdMapping).filter(model="policies.article")
    assert {(found.source_pk, found.target_pk) for found in mapped} == {
        (str(mine.pk), str(watch.on_target(Article).get(code=mine.code, depot__in=find_there(watch, mine.depot_id)).pk))
        for mine in watch.on_source(Article)
    }
    watch.push_nothing(depot, other)


def find_there(watch: Watch, key: int) -> list[int]:
    """Return the key of a depot's counterpart."""
    found = watch.on_target(IdMapping).filter(model="policies.depot", source_pk=str(key))
    return [int(text) for text in found.values_list("target_pk", flat=True)]


def test_a_key_that_is_used_again_is_no_longer_that_of_another_object(watch: Watch) -> None:
    depot = make_depot(watch.source)
    watch.push(depot)
    gone = watch.on_target(Article).get(code="C6").pk
    for everything in (watch.on_target(Article), watch.on_source(Article)):
        everything.filter(code="C6")._raw_delete(everything.db)
    execute(watch.target, f"SELECT setval(pg_get_serial_sequence('policies_article', 'id'), {gone}, false)")
    new = make(Article, watch.source, depot=depot, code="new")

    watch.push(depot)

    assert watch.on_target(Article).get(code="new").pk == gone
    mapped = watch.on_target(IdMapping).filter(model="policies.article", target_pk=str(gone))
    assert [found.source_pk for found in mapped] == [str(new.pk)]


def test_no_connection_is_opened_for_the_second_thread(watch: Watch, threads: list[str]) -> None:
    depot = make_depot(watch.source)
    sessions = count_sessions(watch.target)

    watch.push(depot)
    make(Article, watch.source, depot=depot, code="later")
    watch.push(depot)

    assert len(threads) == 6
    assert count_sessions(watch.target) == sessions
    assert not connections[watch.target].allow_thread_sharing


def test_in_the_background_an_alias_is_the_connection_of_the_run(watch: Watch) -> None:
    using = watch.target

    with Background(using) as background:
        found = background.start(lambda: connections[using]).result()

    assert found is connections[using]


def test_tables_are_asked_about_before_rows_are_on_their_way(watch: Watch) -> None:
    depot = make_depot(watch.source)

    with CaptureQueriesContext(connections[watch.target]) as queries:
        watch.push(depot)

    texts = [query["sql"] for query in queries.captured_queries]
    asked = [number for number, text in enumerate(texts) if "relrowsecurity" in text]
    assert 1 <= len(asked) <= 3
    assert max(asked) < min(number for number, text in enumerate(texts) if "nextval" in text)


def test_statements_of_the_caller_wait_for_the_second_thread(watch: Watch) -> None:
    fields: list[Any] = [Brand._meta.get_field(name) for name in ("name", "motto")]
    writer = get_writer(watch.target)
    brands = watch.on_target(Brand).filter(name="late")

    def write(motto: str) -> None:
        time.sleep(0.2)
        writer.insert(Brand, fields, [("late", motto)])

    with Background(watch.target) as background:
        background.run(lambda: write("a"))
        background.start(lambda: write("b"))
        found = brands.count()

    assert found == 2
    assert background._wait not in connections[watch.target].execute_wrappers


def test_members_that_an_import_brings_are_news_of_the_target(pair: Pair, tmp_path: Path, settings: Any) -> None:
    depots = [make(Depot, pair.source) for _ in range(3)]
    colours = [make(Colour, pair.source) for _ in range(5)]
    for depot in depots:
        depot.colours.set(colours)

    settings.SYNCHRO_MODELS = ("policies",)
    with carried(pair, tmp_path) as courier:
        courier.take(courier.export(*depots))

    news = rows(ChangeLog, pair.target).filter(action=M2M_CHANGE, state=PENDING)
    owners = set(map(str, rows(Depot, pair.target).values_list("pk", flat=True)))
    assert len(owners) == 3
    assert {entry.object_id for entry in news} == owners


# Links


def test_links_are_checked_while_rows_are_written(watch: Watch) -> None:
    depot = make_depot(watch.source)

    with CaptureQueriesContext(connections[watch.target]) as queries:
        watch.push(depot)

    checks = get_checks(queries)
    assert sum("policies_article_depot_id" in text and "IMMEDIATE" in text for text in checks) == 4
    assert sum("policies_article_depot_id" in text and "DEFERRED" in text for text in checks) == 4


def test_links_to_rows_that_come_later_are_not_checked_before(watch: Watch) -> None:
    graph = LinkGraph(watch.source)

    early = find_checkable(watch.target, [Scan, Depot, Article, Node], graph)

    assert {model: len(names) for model, names in early.items()} == {Scan: 1, Depot: 2, Article: 1, Node: 0}
    assert find_checkable(watch.target, [Article, Depot, Parcel, Scan], graph)[Article] == []


def test_links_are_not_checked_for_each_few_rows(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    depot = make_depot(watch.source)
    monkeypatch.setattr(creating, "CHECKED_AT_ONCE", 5)

    with CaptureQueriesContext(connections[watch.target]) as queries:
        watch.push(depot)

    assert [text for text in get_checks(queries) if "IMMEDIATE" in text] == [
        text for text in get_checks(queries) if "IMMEDIATE" in text and "policies_article_depot_id" in text
    ]
    assert len(get_checks(queries)) == 2


LATE = """
    CREATE FUNCTION policies_not_yet() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF pg_trigger_depth() > 1 THEN RETURN NEW; END IF;
        CREATE TEMPORARY TABLE policies_waiting ON COMMIT DROP AS SELECT NEW.*;
        RETURN NULL;
    END $$;
    CREATE TRIGGER policies_not_yet BEFORE INSERT ON policies_depot FOR EACH ROW EXECUTE FUNCTION policies_not_yet();
    CREATE FUNCTION policies_now() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO policies_depot SELECT * FROM policies_waiting;
        RETURN NULL;
    END $$;
    CREATE TRIGGER policies_now AFTER INSERT ON policies_article FOR EACH ROW WHEN (NEW.code = 'C5')
    EXECUTE FUNCTION policies_now();
"""
"""The target adds a depot when its sixth article comes, not before."""


def test_a_link_that_leads_nowhere_yet_may_lead_somewhere_in_the_end(watch: Watch) -> None:
    depot = make_depot(watch.source)
    execute(watch.target, LATE)

    watch.push(depot)

    assert watch.on_target(Article).filter(depot__name=depot.name).count() == 7


def test_a_link_that_leads_nowhere_in_the_end_is_an_error(watch: Watch) -> None:
    depot = make_depot(watch.source, articles=3)
    execute(watch.target, LATE)

    error = watch.refuse(depot)

    assert isinstance(error, WriteFailed)
    assert f"policies.Depot.{depot.pk}" in str(error)
    assert "is not there after it was written" in str(error)


def test_links_to_the_parent_in_the_same_batch_and_beyond_are_checked(watch: Watch) -> None:
    depot = make(Depot, watch.source)
    for number in range(3):
        parcel = make(Parcel, watch.source, depot=depot, number=str(number))
        for _ in range(3):
            make(Scan, watch.source, parcel=parcel)

    with CaptureQueriesContext(connections[watch.target]) as queries:
        watch.push(depot)

    assert any("policies_scan_parcel_id" in text for text in get_checks(queries))
    assert watch.on_target(Scan).filter(parcel__depot__name=depot.name).count() == 9


OTHERS = """
    CREATE SCHEMA other;
    CREATE TABLE other.policies_depot (id bigint PRIMARY KEY);
    CREATE TABLE other.policies_article (
        id bigint PRIMARY KEY, depot_id bigint REFERENCES other.policies_depot DEFERRABLE INITIALLY DEFERRED
    );
"""
"""Tables of the same names, as those of another tenant."""

PARTITIONED = """
    ALTER TABLE policies_article DROP CONSTRAINT {constraint};
    ALTER TABLE policies_depot RENAME TO policies_depots;
    CREATE TABLE policies_depot (LIKE policies_depots, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE policies_depot_all PARTITION OF policies_depot DEFAULT;
    ALTER TABLE policies_article ADD CONSTRAINT to_depot FOREIGN KEY (depot_id) REFERENCES policies_depot (id)
    DEFERRABLE INITIALLY DEFERRED;
"""
"""A foreign key has another one for each partition of the table that it leads to."""


def find_article_checks(watch: Watch) -> list[str]:
    """Return the names of the constraints of articles that are checked early."""
    return list(find_checkable(watch.target, [Depot, Article], LinkGraph(watch.source))[Article])


def test_constraints_of_a_table_of_the_same_name_elsewhere_are_not_asked_for(watch: Watch) -> None:
    before = find_article_checks(watch)

    execute(watch.target, OTHERS)

    assert find_article_checks(watch) == before
    assert len(before) == 1
    assert before[0].startswith("public.")


def test_the_constraint_itself_is_checked_where_partitions_have_others(watch: Watch) -> None:
    (name,) = find_article_checks(watch)

    execute(watch.target, PARTITIONED.format(constraint=name.removeprefix("public.")))

    assert find_article_checks(watch) == ["public.to_depot"]


def test_who_may_not_check_constraints_early_pushes_all_the_same(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    depot = make_depot(watch.source)
    monkeypatch.setattr(creating, "find_checkable", lambda *_: {Article: ["nowhere.to_be_seen"]})

    watch.push(depot)

    assert watch.on_target(Article).count() == 7


# Errors, and who breaks off


def break_off(watch: Watch, error: BaseException, *jobs: Any) -> Background:
    """Raise an error while jobs are under way."""
    background = Background(watch.target)

    def run() -> None:
        with background:
            for job in jobs:
                background.start(job)
            time.sleep(0.3)
            raise error

    with pytest.raises(type(error)):
        run()
    return background


def is_as_before(watch: Watch, background: Background) -> bool:
    """Whether the connection belongs to one thread again, and nobody waits."""
    connection = connections[watch.target]
    return not connection.allow_thread_sharing and background._wait not in connection.execute_wrappers


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_who_breaks_off_does_not_wait_for_the_second_thread(watch: Watch, error: BaseException) -> None:
    begun = time.monotonic()

    def sleep() -> None:
        with transaction.atomic(using=watch.target):
            execute(watch.target, "SELECT pg_sleep(30)")

    background = break_off(watch, error, sleep)

    assert time.monotonic() - begun < 15
    assert is_as_before(watch, background)
    assert watch.on_target(Article).count() == 0


def test_who_breaks_off_twice_leaves_the_connection_as_it_was(watch: Watch) -> None:
    def wait_and_break_off() -> None:
        time.sleep(1)
        _thread.interrupt_main()
        time.sleep(1)

    background = break_off(watch, KeyboardInterrupt(), wait_and_break_off, lambda: None)

    assert is_as_before(watch, background)
    time.sleep(1.5)
    assert watch.on_target(Article).count() == 0


def test_the_error_of_the_second_thread_is_told_not_the_one_that_follows_from_it(watch: Watch) -> None:
    def divide() -> None:
        execute(watch.target, "SELECT 1 / 0")

    def run() -> None:
        with transaction.atomic(using=watch.target), Background(watch.target) as background:
            background.start(divide)
            watch.on_target(Article).count()

    with pytest.raises(DatabaseError, match="division by zero"):
        run()


def test_a_key_whose_field_looks_around_is_made_by_the_caller_s_thread(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = threading.local()
    here.prefix = ""

    class Looking(type(Page._meta.pk)):  # type: ignore[misc]
        def from_db_value(self, value: str, expression: Any, connection: Any) -> str:
            return str(here.prefix + value)

    page = make(Page, watch.source, path="a")
    monkeypatch.setattr(Page._meta.pk, "__class__", Looking)

    watch.synchronize(page)

    assert list(watch.on_target(Page).values_list("path", flat=True)) == ["a"]


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_part_that_is_repeated_begins_anew(live: Watch, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    depot = make_depot(live.source, 12)
    note, turns = Journal.note, iter(range(20))

    def break_once(self: Journal, model: Any, keys: Any, action: int) -> None:
        if model is Article and next(turns) == turn:
            error = OperationalError("canceling statement due to conflict with recovery")
            error.__cause__ = SerializationFailure()
            raise error
        note(self, model, keys, action)

    monkeypatch.setattr(Journal, "note", break_once)

    live.synchronize(depot, commit_every=6)

    assert live.on_target(Article).count() == 12
    assert live.on_target(IdMapping).filter(model="policies.article").count() == 12
    live.push_nothing(depot)


def test_an_export_that_fails_leaves_the_connection_as_it_was(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot = make_depot(watch.source, 20)
    monkeypatch.setattr(records, "BATCH_SIZE", 2)
    monkeypatch.setattr(parts, "RECORDS_AT_ONCE", 1)
    write, turns = parts.PartFile.write, iter(range(100))

    def fill(self: parts.PartFile, data: bytes) -> None:
        if next(turns) == 4:
            raise OSError("disk full")
        write(self, data)

    monkeypatch.setattr(parts.PartFile, "write", fill)
    try:
        api.export_objects([depot], tmp_path / "a.tar.gz", database=watch.source)
    except (OSError, GestoreSyncError):
        is_shared, threads = connections[watch.source].allow_thread_sharing, threading.enumerate()

    assert not is_shared
    assert not any(thread.name.startswith("gestore_sync") for thread in threads)


@pytest.mark.parametrize("ahead", [0, 100, 2**20])
def test_rows_arrive_whole_however_many_are_made_ready_ahead(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr(postgresql, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(postgresql, "BYTES_AHEAD", ahead)
    monkeypatch.setattr(creating, "CHECKED_AT_ONCE", 20_000)
    depot = make_depot(watch.source, 11)

    with override_settings(GESTORE_SYNC={"BATCH_SIZE": 9}):
        watch.push(depot)

    assert sorted(watch.on_target(Article).values_list("code", flat=True)) == sorted(f"C{n}" for n in range(11))

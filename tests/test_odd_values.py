"""What a database holds or does that a model does not tell: no row is taken for another one, and what cannot be carried
is named and does not block the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gestore_sync import api
from gestore_sync.changelog import find_last_dates
from gestore_sync.exceptions import PartlyWritten, UnreadableValue, WriteFailed
from gestore_sync.failures import Attempts
from gestore_sync.links import LinkGraph
from gestore_sync.models import ADDITION, ChangeLog, IdMapping
from gestore_sync.planner import Planner
from gestore_sync.reading import iter_rows, leave_out_nulls, match
from gestore_sync.rows import Rows
from gestore_sync.sending import Sender
from gestore_sync.translation import Counterparts
from gestore_sync.writers import get_writer
from tests.conftest import DATABASES, Pair
from tests.kinds.making import make
from tests.kinds.models import Box, Galaxy, Page, PageLink, Shop, Slot, Tag, Values
from tests.kinds.pushing import Sync, rows, watched
from tests.logged.sites import Sites, add, ready
from tests.policies.watching import execute, pairings

SQLITE_ONLY = pytest.mark.parametrize("pair", pairings("sqlite-sqlite"), indirect=True)
TO_SQLITE = pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "postgresql-sqlite"), indirect=True)
FROM_SQLITE = pytest.mark.parametrize("pair", pairings("sqlite-sqlite", "sqlite-postgresql"), indirect=True)
FROM_POSTGRESQL = pytest.mark.parametrize("pair", pairings("postgresql-postgresql", "postgresql-sqlite"), indirect=True)
TO_POSTGRESQL = pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
POSTGRESQL_TO_SQLITE = pytest.mark.parametrize("pair", pairings("postgresql-sqlite"), indirect=True)

UNREADABLE = {
    "moment": "'infinity'",
    "date": "'0044-03-15 BC'",
    "time": "'24:00:00'",
    "duration": "'3000000 years'",
}

NULLS: dict[str, Callable[[Callable[..., Any], str], Any]] = {
    "key": lambda make, alias: make(Page, alias, path="a\0b", title="t"),
    "natural key": lambda make, alias: make(Tag, alias, name="a\0b"),
    "content": lambda make, alias: make(Values, alias, box=make(Box, alias, name="b"), mark="a\0b"),
}
"""By where a null character is, what makes an object with one, of a function that makes objects."""


@pytest.fixture
def sync(pair: Pair) -> Iterator[Sync]:
    with watched(pair) as sync:
        yield sync


@pytest.fixture
def sites(pair: Pair, settings: Any) -> Iterator[Sites]:
    settings.SYNCHRO_MODELS = ("kinds",)
    with ready(pair) as sites:
        yield sites


def make_bad(sync: Sync, name: str, value: str) -> tuple[Box, Values]:
    """Make a box with a good row and one that has a bad value, which are the box and the bad row that are returned."""
    box = make(Box, sync.source, name="b")
    bad = [make(Values, sync.source, box=box, mark=mark) for mark in ("one", "two")][1]
    spoil(sync.source, bad, name, value)
    return box, bad


def log_bad(sites: Sites, name: str = "char", value: str = "NULL") -> Values:
    """Log a good row and one that has a bad value, which is returned."""
    box = add(Box, sites.local, name="b")
    add(Values, sites.local, box=box, mark="good")
    bad: Values = add(Values, sites.local, box=box, mark="bad")
    spoil(sites.local, bad, name, value)
    return bad


def spoil(alias: str, row: Values, name: str, value: str) -> None:
    """Give a row a value, written in SQL, that Django would not."""
    execute(alias, f"UPDATE kinds_values SET {name} = {value} WHERE id = {row.pk}")


def assert_only_the_bad_one_is_left(sites: Sites, bad: Values) -> None:
    report = sites.send()

    assert list(rows(Values, sites.remote).values_list("mark", flat=True)) == ["good"]
    assert [failure["pk"] for failure in report.failures] == [str(bad.pk)]


# Null characters, at which some of SQLite's functions end a text


@pytest.mark.django_db(databases=DATABASES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), alias=st.sampled_from(["default", "pg_local"]))
def test_texts_are_found_that_are_asked_for_and_no_others(data: st.DataObject, alias: str) -> None:
    letters = "a\\u0\ue000\ue001" + ("\0" if alias == "default" else "")
    texts = st.sets(st.text(letters, min_size=1, max_size=4), max_size=6)
    there, asked = data.draw(texts), data.draw(texts)
    rows(Tag, alias).all().delete()
    for text in there:
        make(Tag, alias, name=text)

    found = rows(Tag, alias).filter(match("name", asked)).values_list("name", flat=True)

    assert sorted(found) == sorted(there & asked)


@pytest.mark.django_db(databases=DATABASES)
@pytest.mark.parametrize("alias", ["default", "pg_local"])
def test_numbers_are_found_that_are_infinite(alias: str) -> None:
    box = make(Box, alias, name="b")
    for mark, number in {"great": math.inf, "small": -math.inf, "usual": 1.5, "other": 2.5}.items():
        make(Values, alias, box=box, mark=mark, real=number)

    found = rows(Values, alias).filter(match("real", [math.inf, -math.inf, 1.5]))

    assert set(found.values_list("mark", flat=True)) == {"great", "small", "usual"}


@SQLITE_ONLY
def test_the_row_that_is_named_is_deleted_and_not_one_whose_key_it_begins_with(pair: Pair) -> None:
    for path in ("a", "a\0b"):
        make(Page, pair.source, path=path, title="t")

    api.delete_objects([rows(Page, pair.source).get(pk="a\0b")], database=pair.source)

    assert set(rows(Page, pair.source).values_list("path", flat=True)) == {"a"}


@SQLITE_ONLY
def test_rows_whose_keys_hold_null_characters_are_moved(sync: Sync) -> None:
    pages = [make(Page, sync.source, path=path, title="t") for path in ("a", "a\0b")]
    for page in pages:
        make(PageLink, sync.source, page=page, text=page.path)

    sync.push(pages[1])

    assert set(rows(Page, sync.target).values_list("path", flat=True)) == {"a\0b"}
    assert set(rows(PageLink, sync.target).values_list("text", flat=True)) == {"a\0b"}
    sync.assert_nothing_to_do(pages[1])


@SQLITE_ONLY
def test_the_counterpart_is_found_by_a_natural_key_that_holds_a_null_character(sync: Sync) -> None:
    make(Tag, sync.target, name="a\0b")

    report = sync.synchronize(make(Tag, sync.source, name="a\0b"))

    assert (dict(report.created), rows(Tag, sync.target).count()) == ({}, 1)


@SQLITE_ONLY
def test_the_log_tells_when_an_object_changed_whose_key_holds_a_null_character(sites: Sites) -> None:
    keys = ["a", "a\0b", "x" * 70 + "\0", "y" * 70]
    for key in keys:
        add(Page, sites.local, path=key, title="t")

    found = [find_last_dates(sites.local, Page, [key]) for key in keys]

    dates = dict(rows(ChangeLog, sites.local).filter(action=ADDITION).values_list("object_id", "date"))
    assert found == [{key: dates[key]} for key in keys]


# Values that cannot be read


@FROM_POSTGRESQL
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_value_that_the_driver_cannot_read_is_named(sync: Sync, name: str) -> None:
    box, bad = make_bad(sync, name, UNREADABLE[name])

    with pytest.raises(UnreadableValue, match=rf"kinds\.Values\.{bad.pk} .*'{name}'"):
        sync.push(box)


@FROM_POSTGRESQL
@pytest.mark.parametrize("name", UNREADABLE)
def test_a_logged_object_that_the_driver_cannot_read_does_not_block_the_rest(sites: Sites, name: str) -> None:
    bad = log_bad(sites, name, UNREADABLE[name])

    assert_only_the_bad_one_is_left(sites, bad)


@FROM_SQLITE
@pytest.mark.parametrize("code", ["ff", "eda080"])
def test_a_text_that_is_not_in_utf_8_is_named(sync: Sync, code: str) -> None:
    box, bad = make_bad(sync, "text", f"CAST(x'{code}' AS TEXT)")

    with pytest.raises(UnreadableValue, match=rf"kinds\.Values\.{bad.pk} .*'text'"):
        sync.push(box)


@FROM_SQLITE
def test_a_logged_object_whose_text_is_not_in_utf_8_does_not_block_the_rest(sites: Sites) -> None:
    bad = log_bad(sites, "text", "CAST(x'ff' AS TEXT)")

    assert_only_the_bad_one_is_left(sites, bad)


def spoil_json(alias: str, row: Values) -> None:
    """Give a row a text that is no JSON, as a table may hold that Django did not make."""
    execute(alias, "PRAGMA ignore_check_constraints = ON")
    spoil(alias, row, "json", "'broken'")
    execute(alias, "PRAGMA ignore_check_constraints = OFF")


@FROM_SQLITE
def test_a_text_that_is_no_json_is_named(sync: Sync) -> None:
    box, bad = make_bad(sync, "char", "NULL")
    spoil_json(sync.source, bad)

    with pytest.raises(UnreadableValue, match=rf"kinds\.Values\.{bad.pk} .*'json' that is no JSON"):
        sync.push(box)


@TO_SQLITE
def test_a_text_of_the_target_that_is_no_json_is_named(sync: Sync) -> None:
    box, _ = make_bad(sync, "char", "NULL")
    sync.push(box)
    theirs = rows(Values, sync.target).get(mark="two")
    spoil_json(sync.target, theirs)

    with pytest.raises(UnreadableValue, match=rf"kinds\.Values\.{theirs.pk} .*'{sync.target}' .*'json' that is no"):
        sync.push(box)


@FROM_SQLITE
def test_a_logged_text_that_is_no_json_does_not_block_the_rest(sites: Sites) -> None:
    bad = log_bad(sites)
    spoil_json(sites.local, bad)

    assert_only_the_bad_one_is_left(sites, bad)


@SQLITE_ONLY
def test_a_value_behind_a_link_is_named_with_the_row_that_leads_to_it(pair: Pair) -> None:
    boxes = [make(Box, pair.source, name=name) for name in ("a", "b", "c")]
    found = [make(Values, pair.source, box=box, mark="m") for box in boxes]
    spoil(pair.source, found[0], "box_id", "0")
    execute(pair.source, f"UPDATE kinds_box SET name = CAST(x'ff' AS TEXT) WHERE id = {boxes[2].pk}")

    with pytest.raises(UnreadableValue, match=rf"kinds\.Values\.{found[2].pk} .*'box__name'"):
        list(iter_rows(Values, pair.source, [row.pk for row in found], ["box__name"]))

    spoil(pair.source, found[0], "box_id", str(boxes[0].pk))


# Values that cannot be written


@TO_POSTGRESQL
@pytest.mark.parametrize("kind", NULLS)
def test_an_object_with_a_null_character_that_postgresql_does_not_take_is_named(sync: Sync, kind: str) -> None:
    bad = NULLS[kind](make, sync.source)

    with pytest.raises(WriteFailed, match=rf"refuses kinds\.{type(bad).__name__}\.{bad.pk}\b.*NUL"):
        sync.synchronize(bad)


@TO_POSTGRESQL
@pytest.mark.parametrize("kind", NULLS)
def test_a_logged_object_with_a_null_character_does_not_block_the_rest(sites: Sites, kind: str) -> None:
    add(Page, sites.local, path="good", title="t")
    bad = NULLS[kind](add, sites.local)

    report = sites.send()

    assert list(rows(Page, sites.remote).values_list("path", flat=True)) == ["good"]
    assert [(failure["model"], failure["pk"]) for failure in report.failures] == [(bad._meta.label, str(bad.pk))]


@POSTGRESQL_TO_SQLITE
def test_a_value_that_the_target_has_no_form_of_is_named(sync: Sync) -> None:
    box, bad = make_bad(sync, "decimal", "'NaN'")

    with pytest.raises(WriteFailed, match=rf"refuses kinds\.Values\.{bad.pk}\b.*decimal: .*NaN"):
        sync.push(box)

    assert not rows(Box, sync.target).exists()


@TO_POSTGRESQL
def test_a_value_that_the_field_has_no_form_of_is_named(sync: Sync) -> None:
    box, bad = make_bad(sync, "address", "'x'")

    with pytest.raises(WriteFailed, match=rf"refuses kinds\.Values\.{bad.pk}\b.*address"):
        sync.push(box)


@POSTGRESQL_TO_SQLITE
def test_a_logged_value_that_the_target_has_no_form_of_does_not_block_the_rest(sites: Sites) -> None:
    bad = log_bad(sites, "decimal", "'NaN'")

    assert_only_the_bad_one_is_left(sites, bad)


@POSTGRESQL_TO_SQLITE
def test_a_changed_value_that_the_target_has_no_form_of_is_named(sync: Sync) -> None:
    box, bad = make_bad(sync, "char", "NULL")
    sync.push(box)
    spoil(sync.source, bad, "decimal", "'NaN'")

    with pytest.raises(WriteFailed, match=rf"refuses kinds\.Values\.{bad.pk}\b.*decimal: .*NaN"):
        sync.push(box)


@pytest.mark.parametrize("highest", [2**63 - 1, 2**63 - 3])
def test_that_no_keys_are_left_is_said_with_the_model(sync: Sync, highest: int) -> None:
    make(Galaxy, sync.target, id=highest, name="theirs")
    galaxies = [make(Galaxy, sync.source, name=str(number)) for number in range(4)]

    with pytest.raises(WriteFailed, match=r"no 4 keys left for new rows of kinds\.Galaxy"):
        sync.synchronize(*galaxies)


# Rows that the target leaves out


def leave_out(alias: str, mark: str, event: str = "INSERT") -> None:
    """Let a trigger leave out what is done with rows of this mark."""
    row = "OLD" if event == "DELETE" else "NEW"
    if connections[alias].vendor == "sqlite":
        body = f"WHEN {row}.mark = '{mark}' BEGIN SELECT RAISE(IGNORE); END"
        execute(alias, f"CREATE TRIGGER leaving_out BEFORE {event} ON kinds_values {body}")
        return
    body = f"BEGIN IF {row}.mark = ''{mark}'' THEN RETURN NULL; END IF; RETURN {row}; END"
    execute(
        alias,
        f"CREATE FUNCTION leaving_out() RETURNS trigger LANGUAGE plpgsql AS '{body}'",
        f"CREATE TRIGGER leaving_out BEFORE {event} ON kinds_values FOR EACH ROW EXECUTE FUNCTION leaving_out()",
    )


def test_a_row_that_a_trigger_leaves_out_is_named_and_nothing_is_written(sync: Sync) -> None:
    leave_out(sync.target, "two")
    box = make(Box, sync.source, name="b")
    bad = [make(Values, sync.source, box=box, mark=mark) for mark in ("one", "two", "three")][1]

    with pytest.raises(WriteFailed, match=rf"refuses kinds\.Values\.{bad.pk}: it is not there"):
        sync.push(box)

    assert not rows(Box, sync.target).exists()


@pytest.mark.parametrize("mode", ["raw", "save"])
def test_a_row_that_is_left_out_is_named_where_signals_are_sent(sync: Sync, settings: Any, mode: str) -> None:
    settings.GESTORE_SYNC = {"SIGNALS": mode}
    leave_out(sync.target, "two")
    box, bad = make_bad(sync, "char", "NULL")

    with pytest.raises(WriteFailed, match=rf"kinds\.Values\.{bad.pk}\b"):
        sync.push(box)

    assert not rows(Box, sync.target).exists()


def test_a_row_that_is_left_out_is_named_in_a_later_part(sync: Sync) -> None:
    leave_out(sync.target, "two")
    box, bad = make_bad(sync, "char", "NULL")

    with pytest.raises(PartlyWritten, match=rf"kinds\.Values\.{bad.pk}\b"):
        sync.synchronize(box, commit_every=1)

    assert not rows(Values, sync.target).filter(mark="two").exists()
    assert not rows(IdMapping, sync.target).filter(model="kinds.values", source_pk=str(bad.pk)).exists()


def test_a_row_that_is_gone_when_it_is_changed_is_named(pair: Pair) -> None:
    target = pair.target
    value = make(Values, target, box=make(Box, target, name="b"), mark="one")
    written = Rows(get_writer(target), Sender(target, LinkGraph(target)), Attempts(target, target))
    field = Values._meta.get_field("integer")

    written.update(Values, [value.pk], [field], [(value.pk, [2])])
    written.check_doubts(Counterparts())
    written.update(Values, [value.pk + 1], [field], [(value.pk + 1, [2])])

    with pytest.raises(WriteFailed, match=rf"kinds\.Values\.{value.pk + 1}: it is not there after"):
        written.check_doubts(Counterparts())


def test_all_logged_rows_that_are_left_out_are_found_at_once(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out(sites.remote, "bad")
    box = add(Box, sites.local, name="b")
    bad = [str(add(Values, sites.local, box=box, mark="bad").pk) for _ in range(5)]
    add(Values, sites.local, box=box, mark="good")
    plans: list[int] = []
    make_plan = Planner.make
    monkeypatch.setattr(Planner, "make", lambda self: plans.append(1) or make_plan(self))

    report = sites.send()

    assert sorted(failure["pk"] for failure in report.failures) == sorted(bad)
    assert list(rows(Values, sites.remote).values_list("mark", flat=True)) == ["good"]
    assert len(plans) == 2


def test_postgresql_is_not_asked_for_composite_keys_with_null_characters() -> None:
    keys = [("a\0b", 1), ("a", 1)]

    assert leave_out_nulls(Slot, "pg_local", keys) == keys[1:]
    assert leave_out_nulls(Slot, "default", keys) == keys


def test_a_logged_row_that_a_trigger_leaves_out_does_not_block_the_rest(sites: Sites) -> None:
    leave_out(sites.remote, "bad")
    bad = log_bad(sites)

    assert_only_the_bad_one_is_left(sites, bad)


def test_a_row_that_a_trigger_keeps_is_named_and_nothing_is_written(sync: Sync) -> None:
    box = make(Box, sync.source, name="b")
    gone = [make(Values, sync.source, box=box, mark=mark) for mark in ("one", "two", "three")][1]
    sync.push(box)
    kept = rows(Values, sync.target).get(mark="two")
    leave_out(sync.target, "two", "DELETE")
    gone.delete()

    with pytest.raises(WriteFailed, match=rf"refuses kinds\.Values\.{kept.pk}: it is there after"):
        sync.push(box, prune=True)


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql", "postgresql-postgresql"), indirect=True)
def test_rows_that_a_trigger_puts_into_a_child_table_are_there(sync: Sync) -> None:
    body = "BEGIN INSERT INTO shops_elsewhere SELECT NEW.*; RETURN NULL; END"
    execute(
        sync.target,
        "CREATE TABLE shops_elsewhere () INHERITS (kinds_shop)",
        f"CREATE FUNCTION elsewhere() RETURNS trigger LANGUAGE plpgsql AS '{body}'",
        "CREATE TRIGGER elsewhere BEFORE INSERT ON kinds_shop FOR EACH ROW EXECUTE FUNCTION elsewhere()",
    )
    shops = [make(Shop, sync.source, name=name) for name in ("one", "two")]

    report = sync.synchronize(*shops)

    assert report.created["kinds.Shop"] == 2
    assert sorted(rows(Shop, sync.target).values_list("name", flat=True)) == ["one", "two"]

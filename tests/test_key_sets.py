from __future__ import annotations

import copyreg
from datetime import UTC
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from gestore_sync import batches, refs
from gestore_sync.frontier import NULL, Frontier
from gestore_sync.keysets import FEW, HashSet, IntegerBitmap
from gestore_sync.links import LinkGraph
from gestore_sync.needs import REFERRED, find_needed
from gestore_sync.recall import Mapping, Recall
from gestore_sync.refs import NEW, UNKNOWN, KeyMap
from gestore_sync.scope import Role, Scope
from gestore_sync.spools import Spool
from gestore_sync.subgraph import Subgraph
from gestore_sync.translation import Counterparts


@st.composite
def runs(draw: st.DrawFn) -> list[int]:
    """Keys that follow each other without a gap, in some order."""
    first = draw(st.integers(-300, 300))
    found = list(range(first, first + draw(st.integers(FEW, 3 * FEW))))
    if draw(st.booleans()):
        draw(st.randoms(use_true_random=False)).shuffle(found)
    return found


keys = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200), max_size=60) | runs()


@pytest.mark.parametrize("kind", [IntegerBitmap, HashSet])
@given(first=keys, second=keys, gone=keys)
def test_a_set_of_keys_holds_what_was_added_and_not_discarded(
    kind: Any, first: list[int], second: list[int], gone: list[int]
) -> None:
    found = kind()

    new = [found.update(first), found.update(second)]
    for key in gone:
        found.discard(key)
    left = found.leave_out([*first, *gone])

    assert new == [[*dict.fromkeys(first)], [key for key in dict.fromkeys(second) if key not in set(first)]]
    assert all((key in found) == (key in {*first, *second} - {*gone}) for key in {*first, *second, *gone, 1})
    assert left == [key for key in (*first, *gone) if key in gone]
    assert all(found.add(key) for key in set(gone))


@pytest.mark.parametrize("kind", [IntegerBitmap, HashSet])
@given(first=keys, second=keys)
def test_two_sets_of_keys_meet_where_a_key_is_in_both(kind: Any, first: list[int], second: list[int]) -> None:
    one, other = kind(), kind()
    one.update(first)
    other.update(second)

    assert one.meets(other) == bool(set(first) & set(second))


@pytest.mark.parametrize("compact_from", [0, 1000])
@given(known=keys, others=keys, new=st.sets(st.integers(0, 60)))
def test_a_map_of_keys_gives_many_counterparts_as_it_gives_one(
    compact_from: int, known: list[int], others: list[int], new: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refs, "COMPACT_FROM", compact_from)
        found = KeyMap(User, list(dict.fromkeys(known)))
    for number, key in enumerate(dict.fromkeys(known)):
        if number % 3:
            found.set(key, NEW if number in new else number)

    wanted = [*others, *known]

    assert found.get_all([*wanted, None]) == [*(found.get(key) for key in wanted), UNKNOWN]
    assert found.has_any == any(True for _ in found.items())


@pytest.mark.parametrize("compact_from", [0, 1000])
@given(known=keys, chosen=st.data())
def test_a_map_of_keys_takes_many_counterparts_as_it_takes_one(
    compact_from: int, known: list[int], chosen: st.DataObject
) -> None:
    known = list(dict.fromkeys(known))
    several = st.sets(st.sampled_from(known)) if known else st.just(set())
    found, new = chosen.draw(several), chosen.draw(several)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refs, "COMPACT_FROM", compact_from)
        at_once, by_one = KeyMap(User, known), KeyMap(User, known)

    at_once.set_all({key: -key // 2 for key in found})
    at_once.mark_new(new)
    for key in found:
        by_one.set(key, -key // 2)
    for key in new:
        by_one.set(key, NEW)

    assert at_once.get_all(known) == by_one.get_all(known)
    assert (at_once.has_any, sorted(at_once.items())) == (by_one.has_any, sorted(by_one.items()))


@given(sizes=st.lists(st.integers(0, 12), max_size=30))
def test_a_batch_holds_no_more_bytes_than_allowed_unless_one_row_does(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "MAX_BYTES", 10)
        found = list(batches.split(range(len(sizes)), dict(enumerate(sizes))))

    assert all(found)
    assert [key for batch in found for key in batch] == list(range(len(sizes)))
    totals = [sum(sizes[key] for key in batch) for batch in found]
    assert all(total <= 10 or len(batch) == 1 for total, batch in zip(totals, found, strict=True))
    assert all(total + sizes[after[0]] > 10 for total, after in zip(totals, found[1:], strict=False))


plain = st.none() | st.integers() | st.text() | st.uuids() | st.datetimes(timezones=st.just(UTC)) | st.decimals()


@given(batches=st.lists(st.lists(st.tuples(plain, plain), max_size=5), max_size=5))
def test_batches_that_are_put_away_come_back_as_they_were(batches: list[list[Any]]) -> None:
    spool: Spool[list[Any]] = Spool()
    for batch in batches:
        spool.add(batch)

    found = [list(spool) for _ in range(2)]
    spool.close()

    assert list(map(repr, found)) == [repr(batches)] * 2


class Locked:
    """What the standard library cannot pickle, unless it is told how."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("locked")


def test_types_that_are_registered_after_our_import_are_put_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Locked, lambda value: (Locked, (value.number,)))
    spool: Spool[list[Locked]] = Spool()

    spool.add([Locked(7)])

    assert [locked.number for batch in spool for locked in batch] == [7]
    spool.close()


@given(found=st.dictionaries(st.sampled_from(Role), keys), asked=keys)
def test_keys_outside_a_subgraph_are_counted(found: dict[Role, list[int]], asked: list[int]) -> None:
    subgraph = Subgraph("default", cast("LinkGraph", None), cast("Scope", None))
    for role, members in found.items():
        subgraph.get_members(User, role).update([(key, 0) for key in members], 0, 0)

    outside = subgraph.count_outside(User, iter(asked))

    assert outside == sum(subgraph.find_role(User, key) is None for key in asked)


@given(data=st.data(), referred=keys, changed=keys)
def test_needed_objects_are_new_or_there(data: st.DataObject, referred: list[int], changed: list[int]) -> None:
    subgraph = Subgraph("default", cast("LinkGraph", None), cast("Scope", None))
    roles = {key: data.draw(st.sampled_from(REFERRED)) for key in dict.fromkeys(referred)}
    for key, role in roles.items():
        subgraph.get_members(User, role).add(key, 0, 0, 0)
    needed = set(subgraph.update_needed(User, [*changed, *referred[::2]])) if data.draw(st.booleans()) else set()
    counterparts = Counterparts()
    counterparts.maps[User] = KeyMap(User, sorted(roles))
    counterparts.maps[User].mark_new(list(roles)[::3])

    new, there = find_needed(subgraph, User, counterparts)

    wanted = [key for role in REFERRED for key in roles if roles[key] is role and key in needed]
    assert list(new) == [key for key in wanted if counterparts.get(User, key) is NEW]
    assert list(there) == [key for key in wanted if counterparts.get(User, key) is not NEW]


@given(asked=keys, there=st.sets(st.integers(-200, 200)), changed=keys)
def test_what_was_read_once_is_not_asked_for_again_until_it_changes(
    asked: list[int], there: set[int], changed: list[int]
) -> None:
    recall = Recall()
    stored = {key: Mapping(1, key, True, b"", 1) for key in there}

    unknown = recall.find_unknown(User, asked)
    recall.note(User, unknown, {key: stored[key] for key in unknown if key in stored})
    again = recall.find_unknown(User, asked)
    found = recall.pick(User, asked, {})
    recall.forget(User, changed)

    assert (unknown, again) == (asked, [])
    assert found == {key: stored[key] for key in asked if key in stored}
    assert set(recall.find_unknown(User, asked)) == set(asked) & set(changed)


paths = st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(-5, 5) | st.just(NULL), st.integers(-5, 5)))


@given(batches=st.lists(paths, max_size=4), lacking=st.sets(st.integers(0, 3)), size=st.integers(1, 7))
def test_what_waits_to_be_expanded_comes_with_its_links_or_without_any(
    batches: list[list[tuple[int, int | None, int]]], lacking: set[int], size: int
) -> None:
    frontier = Frontier(User, ["a", "b"])
    links: dict[int, tuple[int | None, int]] = {}
    added: list[int] = []
    is_known = True
    for number, batch in enumerate(batches):
        rows = [(key, 0, *links.setdefault(key, (a, b))) for key, a, b in batch]
        new = [key for key in dict.fromkeys(row[0] for row in rows) if key not in added]
        is_known &= not new or (number not in lacking and all(NULL not in links[key] for key in new))
        frontier.add(new, [row[:2] for row in rows] if number in lacking else rows)
        added += new

    chunks = list(frontier.iter_chunks(size))

    assert [key for keys, _ in chunks for key in keys] == added
    assert all(len(keys) <= size for keys, _ in chunks)
    assert all((rows is not None) == is_known for _, rows in chunks)
    assert all(rows == [(key, *links[key]) for key in keys] for keys, rows in chunks if rows is not None)

from __future__ import annotations

from pathlib import Path
from random import Random

from django.test import override_settings
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.carrying import FORMATS, Courier, carried
from tests.conftest import Pair
from tests.kinds import models as kinds
from tests.kinds.making import renumber_content_types
from tests.kinds.oracle import Database, Key, Place, State, ends, expect, is_membership, owned, referred, take_out
from tests.kinds.pushing import rolled_back, rows
from tests.policies.watching import describe_changes
from tests.test_random_graphs import MODELS, TABLES, Maker, choose_roots, compare, place_of

EXAMPLES = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
LABELS = ("kinds", "auth", "contenttypes", "sites")


def expect_of_bundle(source: Database, places: list[Place], held: State, sent: set[Key]) -> State:
    """Return what the target holds after an import.

    That is what it holds after a push, but that a bundle does not say whether a member which its owner no longer has
    is gone or another's now: it is taken out.
    """
    mine = owned(source, places)
    carried_keys = {source.key(place) for place in mine | referred(source, mine, held)}
    owners = {source.key(place) for place in mine}
    memberships = {model._meta.label for model in source.models if is_membership(model)}
    moved = {
        key for key in (sent & held.keys()) - carried_keys if key[0] in memberships and owners & set(ends(held[key]))
    }
    return take_out(expect(source, places, held, sent), moved)


def compare_with_expected(courier: Courier, expected: State) -> None:
    """Compare the whole target with what it should hold."""
    differences = compare(Database(courier.target, TABLES).state(), expected)
    assert not differences, "\n".join(differences)


@EXAMPLES
@given(
    seed=st.integers(0, 10**9),
    batch_size=st.sampled_from([1, 10_000]),
    ending=st.sampled_from(FORMATS),
    is_empty=st.booleans(),
)
@example(seed=11_280_970, batch_size=1, ending=".json.gz", is_empty=True)
@example(seed=277, batch_size=10_000, ending=".json.gz", is_empty=True)
def test_any_graph_arrives_as_it_is_and_follows_its_changes(
    pair: Pair, tmp_path: Path, seed: int, batch_size: int, ending: str, is_empty: bool
) -> None:
    random = Random(seed)
    with (
        rolled_back(pair.source, pair.target),
        carried(pair, tmp_path, *LABELS, ending=ending) as courier,
        override_settings(GESTORE_SYNC={"BATCH_SIZE": batch_size}),
    ):
        renumber_content_types(courier.target)
        if not is_empty:
            Maker(random, courier.target, "theirs").make_graph(most=2)
        maker = Maker(random, courier.source, "ours")
        maker.make_graph(most=3)
        roots = choose_roots(random, courier.source)
        held = Database(courier.target, TABLES).state()
        theirs = courier.picture()
        sent: set[Key] = set()

        for policy in ("fail" if is_empty else "remap", "remap"):
            roots = [root for root in roots if rows(type(root), courier.source).filter(pk=root.pk).exists()]
            if roots:
                places = [place_of(root) for root in roots]
                held = expect_of_bundle(Database(courier.source, TABLES), places, held, sent)
                path = courier.export(*roots)
                courier.take(path, on_conflict=policy)
                compare_with_expected(courier, held)
                courier.take_nothing(path)
                courier.live_nothing(*roots)
            maker.change()
        for model in MODELS:
            lost = {pk for pk in theirs[model] if theirs[model][pk] != courier.picture()[model].get(pk)}
            assert not lost, describe_changes({model: theirs[model]}, {model: courier.picture()[model]})


@EXAMPLES
@given(seed=st.integers(0, 10**9), ending=st.sampled_from(FORMATS))
def test_what_is_skipped_leaves_every_row_of_the_target_alone(
    pair: Pair, tmp_path: Path, seed: int, ending: str
) -> None:
    random = Random(seed)
    with rolled_back(pair.source, pair.target), carried(pair, tmp_path, *LABELS, ending=ending) as courier:
        Maker(random, courier.target, "theirs").make_graph(most=2)
        Maker(random, courier.source, "ours").make_graph(most=3)
        roots = choose_roots(random, courier.source)
        before = courier.picture()

        courier.take(courier.export(*roots), on_conflict="skip")

        after = courier.picture()
        for model in (*MODELS, *TABLES):
            changed = {pk for pk, row in before[model].items() if after[model].get(pk) != row}
            assert not changed, describe_changes({model: before[model]}, {model: after[model]})
        assert_no_strange_links(courier)


def assert_no_strange_links(courier: Courier) -> None:
    """No row that came in points at one that was there before, unless that has a key which both sides know."""
    known = {kinds.Currency, kinds.Tag, kinds.Country, kinds.Page, kinds.Asset}
    database = Database(courier.target, TABLES)
    for place in database.places():
        mark = str(database.mark(place))
        for _, to in database.links(place):
            if to is not None and to[0] in database.rows and to[0] not in known:
                assert ("theirs" in mark) == ("theirs" in str(database.mark(to))), (place, to)

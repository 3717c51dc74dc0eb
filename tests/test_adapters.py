"""The tree adapters alone, on real databases: what they read, and the trees that they leave behind.

The libraries' own checks are the oracle: treebeard's ``find_problems()``, and mptt's ``rebuild()``, which
must have nothing to do.
"""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Max, Model
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gestore_sync.adapters import Adapter, Node, TreeChanges, find_adapter, load_adapters
from gestore_sync.adapters.trees import Siblings, find_heaviest_chain
from gestore_sync.exceptions import UnknownObject, WriteFailed
from tests.trees.growing import (
    find_problems,
    get_adapter,
    get_families,
    get_positions,
    grow,
    plant,
    working_on,
)
from tests.trees.models import (
    Article,
    City,
    Genre,
    GenreRenamed,
    GenreSorted,
    ListNode,
    ListSorted,
    Page,
    PathDeep,
    PathNode,
    PathShort,
    PathSorted,
    PathUUID,
    Place,
    Remark,
    Review,
    SetNode,
    SetSorted,
)

DATABASES = ["default", "remote", "pg_local", "pg_remote"]

PATHS = [PathNode, PathSorted, PathShort, PathUUID, Page]
SETS = [SetNode, SetSorted]
LISTS = [ListNode, ListSorted]
GENRES = [Genre, GenreSorted, GenreRenamed, Place]
MODELS = [*PATHS, *SETS, *LISTS, *GENRES]

every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
few_examples = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(
    params=[
        pytest.param("remote", id="sqlite", marks=pytest.mark.django_db(databases=DATABASES)),
        pytest.param("pg_remote", id="postgresql", marks=pytest.mark.django_db(databases=DATABASES)),
    ]
)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """A SQLite and a PostgreSQL database in turn."""
    with working_on(request.param):
        yield request.param


# What an executor does with an adapter


@dataclass
class Run:
    """A run, by codes: new nodes and moved ones with their parent, deleted ones, the order on the source."""

    new: dict[str, Any] = field(default_factory=dict)
    moved: dict[str, Any] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    order: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def apply(self, model: Any, using: str) -> None:
        with transaction.atomic(using=using):
            self._apply(model, using, get_adapter(model))

    def _apply(self, model: Any, using: str, adapter: Adapter) -> None:
        rows = model._base_manager.using(using)
        pks: dict[str | None, Any] = {None: None, **dict(rows.values_list("code", "pk"))}
        pks.update(self._reserve(model, using))
        parents = adapter.read(model, using, [pks[code] for code in self.deleted])
        nodes = [Node(pks[code], pks[parent], self.order.get(code)) for code, parent in self.new.items()]
        values = adapter.place(model, using, nodes)
        names = adapter.position_fields(model)
        assert values.keys() == {node.pk for node in nodes}
        link = adapter.parent_field(model)
        for name, codes in group_by_value(self.names).items():
            rows.filter(code__in=codes).update(name=name)
        rows.bulk_create(
            model(
                pk=pks[code],
                code=code,
                name=self.names.get(code, ""),
                **dict(zip(names, values[pks[code]], strict=True)),
                **({f"{link}_id": pks[parent]} if link else {}),
            )
            for code, parent in self.new.items()
        )
        for parent, codes in group_by_value(self.moved).items() if link else ():
            rows.filter(code__in=codes).update(**{f"{link}_id": pks[parent]})
        rows.filter(code__in=self.deleted)._raw_delete(using)
        adapter.mend(
            model,
            using,
            TreeChanges(
                placed=nodes,
                moved=[Node(pks[code], pks[parent], self.order.get(code)) for code, parent in self.moved.items()],
                bereaved=[node.parent for node in parents.values()],
                order={pks[code]: order for code, order in self.order.items()},
            ),
        )

    def _reserve(self, model: type[Model], using: str) -> dict[str, Any]:
        if model is PathUUID:
            return {code: uuid.uuid4() for code in self.new}
        last = model._base_manager.using(using).aggregate(last=Max("pk"))["last"] or 0
        return {code: last + number for number, code in enumerate(self.new, start=100)}


def group_by_value(values: Mapping[str, Any]) -> dict[Any, list[str]]:
    grouped: dict[Any, list[str]] = {}
    for code, value in values.items():
        grouped.setdefault(value, []).append(code)
    return grouped


# Reading


@every_model
def test_a_node_is_read_with_its_parent_and_its_place_among_its_siblings(model: Any, target: str) -> None:
    nodes = plant(model, "a", "a.b", "a.c", "a.c.d", "e", "e.f")

    found = get_adapter(model).read(model, target, [node.pk for node in nodes.values()])

    parents = {code: nodes.get(code.rpartition(".")[0]) for code in nodes}
    assert {pk: node.parent for pk, node in found.items()} == {
        nodes[code].pk: parent and parent.pk for code, parent in parents.items()
    }
    assert all(pk == node.pk for pk, node in found.items())
    if not get_adapter(model).ordered_by_fields(model):
        assert found[nodes["a.b"].pk].order < found[nodes["a.c"].pk].order
        assert found[nodes["a"].pk].order < found[nodes["e"].pk].order


@every_model
def test_children_are_the_direct_ones_of_just_these_nodes(model: Any, target: str) -> None:
    nodes = plant(model, "a", "a.b", "a.c", "a.c.d", "e", "e.f", "g", "g.h", "g.h.i")

    found = get_adapter(model).children(model, target, [nodes[code].pk for code in ("a", "a.b", "g", "g.h")])

    assert sorted(found) == sorted(
        (nodes[child].pk, nodes[parent].pk)
        for child, parent in [("a.b", "a"), ("a.c", "a"), ("g.h", "g"), ("g.h.i", "g.h")]
    )


def test_children_of_a_node_and_of_its_last_possible_child_are_both_found(target: str) -> None:
    nodes = plant(PathShort, "a", *(f"a.{number}" for number in range(9)), "a.8.x")

    found = get_adapter(PathShort).children(PathShort, target, [nodes["a"].pk, nodes["a.8"].pk])

    assert sorted(found) == sorted((node.pk, nodes[code[:-2]].pk) for code, node in nodes.items() if code != "a")


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode, Genre])
def test_the_number_of_queries_does_not_grow_with_the_nodes(model: Any, target: str) -> None:
    few = plant(model, "a", "a.b", "a.b.c")
    many = plant(model, "d", "d.e", *(f"d.e.{number}" for number in range(40)))
    adapter = get_adapter(model)

    def count(nodes: dict[str, Any]) -> int:
        pks = [node.pk for node in nodes.values()]
        with CaptureQueriesContext(connections[target]) as queries:
            adapter.read(model, target, pks)
            list(adapter.children(model, target, pks))
        return len(queries)

    assert count(few) == count(many)


@pytest.mark.parametrize("model", [PathNode, SetNode])
def test_a_node_without_its_parent_is_named(model: Any, target: str) -> None:
    nodes = plant(model, "a", "a.b", "a.b.c")
    model._base_manager.filter(code="a.b")._raw_delete(target)

    with pytest.raises(UnknownObject, match=rf"trees\.{model.__name__}\.{nodes['a.b.c'].pk} has no parent"):
        get_adapter(model).read(model, target, [nodes["a.b.c"].pk])


def test_multi_table_children_leave_the_tree_to_the_model_that_has_the_columns() -> None:
    adapters = load_adapters()

    assert find_adapter(adapters, Page) is not None
    assert find_adapter(adapters, Place) is not None
    assert [find_adapter(adapters, model) for model in (Article, Review, City, Remark)] == [None] * 4


def test_attributes_of_mptt_may_have_any_names() -> None:
    adapter = get_adapter(GenreRenamed)

    assert adapter.position_fields(GenreRenamed) == ("wood", "begins", "ends", "depth")
    assert adapter.parent_field(GenreRenamed) == "above"


# Random runs


@st.composite
def runs(draw: Callable[..., Any]) -> tuple[dict[str, str | None], Run]:
    """A forest on the target, in an order in which it can be grown, and a run on it."""
    old = [f"o{number}" for number in range(draw(st.integers(0, 9)))]
    forest = {code: draw(st.sampled_from([None, *old[:at]])) for at, code in enumerate(old)}
    new = [f"n{number}" for number in range(draw(st.integers(0, 6)))]
    run = Run()
    leaves = [code for code in old if code not in forest.values()]
    run.deleted = draw(st.lists(st.sampled_from(leaves), unique=True, max_size=2)) if leaves else []
    kept = [code for code in old if code not in run.deleted]
    for at, code in enumerate(new):
        run.new[code] = draw(st.sampled_from([None, *kept, *new[:at]]))
    parents = {code: forest[code] for code in kept} | run.new
    known = draw(st.lists(st.sampled_from(kept), unique=True)) if kept else []
    for code in known:
        allowed = [other for other in [None, *parents] if not is_below(other, code, parents)]
        parent = draw(st.one_of(st.just(parents[code]), st.sampled_from(allowed)))
        if parent != parents[code]:
            run.moved[code] = parents[code] = parent
    ranks = draw(st.permutations(range(len(known) + len(new))))
    run.order = dict(zip([*known, *new], ranks, strict=True))
    run.names = {code: draw(st.sampled_from("abc")) for code in [*kept, *new]}
    return forest, run


def is_below(code: str | None, top: str, parents: Mapping[str, str | None]) -> bool:
    while code is not None and code != top:
        code = parents[code]
    return code == top


def get_depth(code: str | None, parents: Mapping[str, str | None]) -> int:
    return 0 if code is None else 1 + get_depth(parents[code], parents)


def report_moves(run: Run, families: dict[str | None, list[str]]) -> None:
    """Report as moved also the nodes that stay with their parent, in a family whose order changes."""
    for parent, children in families.items():
        staying = [code for code in children if code in run.order and code not in run.moved]
        if staying != sorted(staying, key=run.order.__getitem__):
            run.moved.update(dict.fromkeys(staying, parent))


@every_model
@few_examples
@given(given_run=runs())
def test_any_run_leaves_sound_trees_of_the_wanted_shape(
    model: Any, target: str, given_run: tuple[dict[str, str | None], Run]
) -> None:
    forest, run = given_run
    parents = {code: parent for code, parent in forest.items() if code not in run.deleted} | run.new | run.moved
    if model is PathShort:
        assume(max((get_depth(code, parents) for code in parents), default=0) <= 5)
        assume(max((get_depth(code, forest) for code in forest), default=0) <= 5)
        assume(all(len([c for c in parents if parents[c] == code]) <= 9 for code in [None, *parents]))
    by_fields = get_adapter(model).ordered_by_fields(model)
    with transaction.atomic(using=target):
        nodes: dict[str, Any] = {}
        for code, parent in forest.items():
            nodes[code] = grow(model, code, nodes.get(parent or ""), name=run.names.get(code, "b"))
        before = get_families(model)
        report_moves(run, before)
        if by_fields:
            run.moved = {code: parents[code] for code in run.order if code not in run.new}
            run.order = {}

        run.apply(model, target)

        after = get_families(model)
        assert find_problems(model) == []
        assert {code: parent for parent, family in after.items() for code in family} == parents
        for parent, family in after.items():
            check_order(model, run, before.get(parent, []), family)
        transaction.set_rollback(True, using=target)


def check_order(model: Any, run: Run, before: Sequence[str], family: Sequence[str]) -> None:
    if get_adapter(model).ordered_by_fields(model):
        assert list(family) == sorted(family, key=lambda code: (run.names[code], code))
        return
    of_run = [code for code in family if code in run.order]
    assert of_run == sorted(of_run, key=run.order.__getitem__)
    others = [code for code in family if code not in run.order]
    assert others == [code for code in before if code in others]


@every_model
@few_examples
@given(given_run=runs())
def test_a_run_that_changes_nothing_writes_nothing(
    model: Any, target: str, given_run: tuple[dict[str, str | None], Run]
) -> None:
    forest, run = given_run
    if model is PathShort:
        assume(max((get_depth(code, forest) for code in forest), default=0) <= 5)
    with transaction.atomic(using=target):
        nodes: dict[str, Any] = {}
        for code, parent in forest.items():
            nodes[code] = grow(model, code, nodes.get(parent or ""), name=run.names.get(code, "b"))
        same = Run(moved=dict(forest), order={code: number for number, code in enumerate(forest)})
        before = get_positions(model)

        with CaptureQueriesContext(connections[target]) as queries:
            same.apply(model, target)

        link = get_adapter(model).parent_field(model)
        updates = [query["sql"] for query in queries if re.match(r"(\d+ times: )?UPDATE", query["sql"])]
        assert get_positions(model) == before
        assert len(updates) == (len(set(forest.values())) if link else 0)
        transaction.set_rollback(True, using=target)


# What a run leaves alone


@pytest.mark.parametrize("model", [PathNode, PathUUID, SetNode, ListNode, Genre, GenreRenamed])
def test_new_nodes_go_behind_those_that_only_the_target_has(model: Any, target: str) -> None:
    plant(model, "a", "a.x", "a.x.y", "a.z", "b", "b.c")
    before = get_positions(model)

    Run(new={"a.n": "a", "a.m": "a", "new": None}, order={"a.m": 1, "a.n": 2, "new": 0}).apply(model, target)

    after = get_positions(model)
    assert get_families(model)["a"] == ["a.x", "a.z", "a.m", "a.n"]
    assert get_families(model)[None] == ["a", "b", "new"]
    assert {code for code in before if before[code] != after[code]} <= {"a"}


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode, Genre])
def test_a_new_root_before_another_takes_a_number_that_is_free(model: Any, target: str) -> None:
    plant(model, "a", "b", "b.x", "c", "c.x", "d")
    model._base_manager.filter(code="a")._raw_delete(target)
    before = get_positions(model)

    Run(new={"n": None}, order={"b": 2, "n": 1}).apply(model, target)

    after = get_positions(model)
    assert get_families(model)[None] == ["n", "b", "c", "d"]
    assert [after[code] for code in before] == list(before.values())


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode, Genre])
def test_a_new_node_before_another_stands_right_before_it(model: Any, target: str) -> None:
    plant(model, "a", "a.x", "a.y", "a.y.z", "a.w")

    Run(new={"a.n": "a"}, order={"a.y": 2, "a.n": 1}).apply(model, target)

    assert get_families(model) == {None: ["a"], "a": ["a.x", "a.n", "a.y", "a.w"], "a.y": ["a.y.z"]}
    assert find_problems(model) == []


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode, Genre])
def test_siblings_trade_places_with_all_that_stands_below_them(model: Any, target: str) -> None:
    plant(model, "a", "a.x", "a.x.1", "a.theirs", "a.y", "a.y.1", "b")

    Run(moved={"a.y": "a", "a.x": "a", "b": None, "a": None}, order={"a.y": 1, "a.x": 2, "b": 1, "a": 2}).apply(
        model, target
    )

    families = get_families(model)
    assert families[None] == ["b", "a"]
    assert [code for code in families["a"] if code != "a.theirs"] == ["a.y", "a.x"]
    assert (families["a.x"], families["a.y"]) == (["a.x.1"], ["a.y.1"])
    assert find_problems(model) == []


@pytest.mark.parametrize("model", [PathNode, SetNode, Genre])
def test_a_subtree_moves_below_a_new_node_and_its_old_root_below_itself(model: Any, target: str) -> None:
    plant(model, "a", "a.b", "a.b.c", "a.b.c.d", "e")

    Run(
        new={"new": "e"},
        moved={"a.b.c": "new", "a": "a.b.c", "a.b": None},
        order={"new": 0, "a.b.c": 0, "a": 1, "a.b": 0},
    ).apply(model, target)

    assert get_families(model) == {
        None: ["e", "a.b"],
        "e": ["new"],
        "new": ["a.b.c"],
        "a.b.c": ["a.b.c.d", "a"],
    }
    assert find_problems(model) == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_parent_that_loses_its_last_child_is_a_leaf(model: Any, target: str) -> None:
    nodes = plant(model, "a", "a.b", "a.b.c", "a.b.d")

    Run(deleted=["a.b.c", "a.b.d"]).apply(model, target)

    assert get_families(model) == {None: ["a"], "a": ["a.b"]}
    assert find_problems(model) == []
    leaf = model.objects.get(pk=nodes["a.b"].pk)
    assert leaf.is_leaf_node() if model in GENRES else leaf.is_leaf()


@pytest.mark.parametrize("model", [PathSorted, SetSorted, GenreSorted])
def test_a_changed_name_brings_a_node_to_its_place(model: Any, target: str) -> None:
    plant(model, "a", "a.b", "a.c", "a.c.x", "a.d")

    Run(moved={"a.c": "a"}, names={"a.c": "z"}).apply(model, target)

    assert get_families(model)["a"] == ["a.b", "a.d", "a.c"]
    assert find_problems(model) == []


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode, Genre])
def test_the_library_goes_on_from_what_a_run_leaves(model: Any, target: str) -> None:
    nodes = plant(model, "a", "a.b", "c")
    Run(new={"n": "a", "n.m": "n", "r": None}, moved={"c": "n"}, order={"n": 1, "n.m": 2, "c": 1, "r": 0}).apply(
        model, target
    )

    grow(model, "more", model.objects.get(code="n"))
    grow(model, "root")
    grow(model, "leaf", nodes["a.b"])

    assert get_families(model) == {
        None: ["a", "r", "root"],
        "a": ["a.b", "n"],
        "a.b": ["leaf"],
        "n": ["c", "n.m", "more"],
    }
    assert find_problems(model) == []


# Where there is no room


def test_the_gaps_between_siblings_are_used_before_there_is_no_room(target: str) -> None:
    plant(PathShort, "a", *(f"a.{number}" for number in range(9)))

    Run(new={"x": "a", "y": "a"}, deleted=["a.0", "a.5"], order={"x": 0, "y": 1, "a.3": 2}).apply(PathShort, target)

    children = ["a.1", "a.2", "x", "y", "a.3", "a.4", "a.6", "a.7", "a.8"]
    assert get_families(PathShort) == {None: ["a"], "a": children}
    assert find_problems(PathShort) == []


def test_a_node_without_room_among_its_siblings_is_named(target: str) -> None:
    plant(PathShort, "a", *(f"a.{number}" for number in range(9)))

    with pytest.raises(WriteFailed, match=r"trees\.PathShort\.\d+ finds no room .* longer steplen"):
        Run(new={"x": "a"}).apply(PathShort, target)


def test_a_node_without_room_for_its_path_is_named(target: str) -> None:
    plant(PathShort, "a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e")

    with pytest.raises(WriteFailed, match=r"trees\.PathShort\.\d+ stands too deep .* larger max_length"):
        Run(new={"x": "a.b.c.d.e"}).apply(PathShort, target)


def test_a_branch_that_moves_where_it_has_no_room_is_named(target: str) -> None:
    nodes = plant(PathShort, "a", "a.b", "a.b.c", "x", "x.y", "x.y.z")

    with pytest.raises(WriteFailed, match=rf"trees\.PathShort\.{nodes['x.y.z'].pk} stands too deep"):
        Run(moved={"x": "a.b.c"}).apply(PathShort, target)


def test_a_node_may_get_children_in_the_run_that_lifts_it_out_of_the_depth(target: str) -> None:
    plant(PathShort, "a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e")

    Run(new={"x": "a.b.c.d.e", "x.y": "x"}, moved={"a.b.c.d.e": "a"}, order={"a.b": 0, "a.b.c.d.e": 1}).apply(
        PathShort, target
    )

    families = get_families(PathShort)
    assert families["a"] == ["a.b", "a.b.c.d.e"]
    assert (families["a.b.c.d.e"], families["x"]) == (["x"], ["x.y"])
    assert find_problems(PathShort) == []


@pytest.mark.parametrize("model", [PathNode, SetNode, Genre])
def test_nodes_in_a_circle_are_named(model: Any, target: str) -> None:
    plant(model, "a", "b", "b.c")

    with pytest.raises(WriteFailed, match=rf"trees\.{model.__name__}\.\d+ would stand below itself"):
        Run(new={"x": "y", "y": "x"}).apply(model, target)
    with pytest.raises(WriteFailed, match=rf"trees\.{model.__name__}\.\d+ would stand below itself"):
        Run(moved={"b": "b.c"}).apply(model, target)


# Large trees


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode, Genre])
def test_ten_thousand_siblings_take_as_many_queries_as_ten(model: Any, target: str) -> None:
    nodes = plant(model, "a", "a.x", "b", "b.x", "c", "c.x", "d", "d.x")

    def count(number: int, first: str, second: str) -> int:
        codes = [f"{first}{at}" for at in range(number)]
        order = {code: at for at, code in enumerate(codes)} | {f"{first}.x": number}
        with CaptureQueriesContext(connections[target]) as queries:
            Run(new=dict.fromkeys(codes, first), order=order).apply(model, target)
            Run(moved=dict.fromkeys(codes, second), order=order).apply(model, target)
        return len([query for query in queries if is_of_adapter(query["sql"])])

    assert count(10, "a", "b") == count(10_000, "c", "d")
    assert len(list(get_adapter(model).children(model, target, [nodes["d"].pk]))) == 10_001


@pytest.mark.parametrize("model", [PathNode, SetNode, Genre])
def test_many_families_far_apart_are_read_and_ordered(model: Any, target: str) -> None:
    numbers = range(300)
    tops = {f"p{number}": None for number in numbers}
    forest = (
        tops | {f"c{number}": f"p{number}" for number in numbers} | {f"g{number}": f"c{number}" for number in numbers}
    )
    Run(new=forest, order={code: at for at, code in enumerate(forest)}).apply(model, target)
    pks = dict(model._base_manager.values_list("code", "pk"))

    found = get_adapter(model).children(model, target, [pks[f"p{number}"] for number in numbers[::2]])

    assert sorted(found) == [(pks[f"c{number}"], pks[f"p{number}"]) for number in numbers[::2]]

    new = {f"n{number}": f"p{number}" for number in numbers[::2]}
    Run(new=new, order=dict.fromkeys(new, 0) | {f"c{number}": 1 for number in numbers}).apply(model, target)

    families = get_families(model)
    assert [families[code] for code in tops] == [
        [f"c{number}"] if number % 2 else [f"n{number}", f"c{number}"] for number in numbers
    ]
    assert [families[f"c{number}"] for number in numbers] == [[f"g{number}"] for number in numbers]
    assert find_problems(model) == []


def is_of_adapter(sql: str) -> bool:
    """Whether a statement is not one of those by which :class:`Run` writes rows."""
    return not sql.startswith(("INSERT", "UPDATE")) or "times:" in sql


@pytest.mark.parametrize("model", [PathDeep, SetNode, Genre])
def test_a_chain_of_five_thousand_nodes_is_placed_and_moved(model: Any, target: str) -> None:
    plant(model, "a", "b", "b.c")
    codes = [f"n{number}" for number in range(5000)]
    above = [None, *codes]

    Run(new=dict(zip(codes, above, strict=False)), order=dict.fromkeys(codes, 0)).apply(model, target)
    Run(moved={"n0": "b.c"}, order={"n0": 0}).apply(model, target)

    positions = get_positions(model)
    chain = [positions[code] for code in ["b.c", *codes]]
    steps = pairwise(chain)
    if model is PathDeep:
        assert all((below[0], below[1]) == (above[0] + "1", above[1] + 1) for above, below in steps)
        assert [numchild for *_, numchild in chain] == [1] * 5000 + [0]
        assert positions["b"][0] == chain[0][0][:1]
    else:
        assert all(below == (above[0], above[1] + 1, above[2] - 1, above[3] + 1) for above, below in steps)
        assert chain[0] == (positions["b"][0], 2, 2 + 2 * 5000 + 1, positions["b"][3] + 1)


# On the way


@pytest.mark.parametrize("model", [PathNode, SetNode, ListNode, Genre])
def test_the_nodes_beside_and_above_are_locked(model: Any, target: str) -> None:
    plant(model, "a", "a.b")

    with CaptureQueriesContext(connections[target]) as queries:
        Run(new={"n": "a"}, order={"n": 0}).apply(model, target)

    assert bool(find_locks(queries)) == (connections[target].vendor == "postgresql")


def test_the_parent_of_a_new_path_is_locked_before_the_path_is_chosen(target: str) -> None:
    nodes = plant(PathNode, "a", "a.b")

    with transaction.atomic(using=target), CaptureQueriesContext(connections[target]) as queries:
        get_adapter(PathNode).place(PathNode, target, [Node(1000, nodes["a"].pk, 0)])

    assert bool(find_locks(queries)) == (connections[target].vendor == "postgresql")


def find_locks(queries: CaptureQueriesContext) -> list[str]:
    return [query["sql"] for query in queries if "FOR NO KEY UPDATE" in query["sql"]]


def test_a_library_that_is_not_installed_is_not_imported() -> None:
    script = """
import sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes"])
import django
django.setup()
from django.contrib.contenttypes.models import ContentType
from gestore_sync.adapters import find_adapter, load_adapters
assert find_adapter(load_adapters(), ContentType) is None
assert not {"treebeard", "mptt"} & {name.partition(".")[0] for name in sys.modules}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


# The order of siblings


def find_heaviest_by_trying(values: list[int], weights: list[int]) -> int:
    """The weight of the heaviest subsequence that never falls, by looking at all."""
    best = 0
    for members in range(2 ** len(values)):
        chosen = [at for at in range(len(values)) if members >> at & 1]
        if all(values[one] <= values[other] for one, other in pairwise(chosen)):
            best = max(best, sum(weights[at] for at in chosen))
    return best


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), max_size=9))
def test_no_subsequence_that_never_falls_is_heavier(pairs: list[tuple[int, int]]) -> None:
    values, weights = [value for value, _ in pairs], [weight for _, weight in pairs]

    chain = sorted(find_heaviest_chain(values, weights))

    assert all(values[one] <= values[other] for one, other in pairwise(chain))
    assert sum(weights[at] for at in chain) == find_heaviest_by_trying(values, weights)


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 9)), max_size=7),
    st.sets(st.integers(0, 6)),
    st.integers(7, 9),
)
def test_as_many_as_possible_of_those_that_only_the_target_has_keep_their_number(
    numbers: list[int | None], of_run: set[int], high: int
) -> None:
    siblings = Siblings(TreeChanges(order=dict.fromkeys(of_run, 0)))
    places = {at: number for at, number in enumerate(numbers) if number is not None}

    found = siblings.assign(range(len(numbers)), places, high)

    assert list(found) == list(range(len(numbers)))
    assert all(one < other for one, other in pairwise(found.values()))
    assert all(1 <= number <= high for number in found.values())
    kept = sum(found[at] == place for at, place in places.items() if at not in of_run)
    possible = (
        sum(at in places and places[at] == number for at, number in enumerate(rising) if at not in of_run)
        for rising in combinations(range(1, high + 1), len(numbers))
    )
    assert kept == max(possible)


@pytest.mark.parametrize(("moved", "arranged"), [("x", ["t", "y", "x"]), ("y", ["y", "x", "t"])])
def test_of_two_siblings_in_the_wrong_order_the_one_goes_that_the_plan_names(moved: str, arranged: list[str]) -> None:
    changes = TreeChanges(moved=[Node(moved, None)], order={"y": 1, "x": 2})

    assert Siblings(changes).arrange(["x", "t", "y"], []) == arranged


def test_siblings_without_room_are_told() -> None:
    with pytest.raises(OverflowError) as full:
        Siblings(TreeChanges()).assign(["a", "b", "c"], {"a": 1}, 2)

    assert full.value.args == ("c",)

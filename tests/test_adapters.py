"""The tree adapters alone, on real databases: what they read, and the trees that they leave behind.

The libraries' own checks are the oracle: treebeard's ``find_problems()``, and mptt's ``rebuild()``, which must find
nothing to do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import Max, Model
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gestore_sync.adapters import Adapter, Node, TreeChanges, find_adapter, load_adapters
from gestore_sync.exceptions import UnknownObject
from tests.trees.models import (
    Article,
    City,
    Genre,
    GenreRenamed,
    GenreSorted,
    ListNode,
    ListSorted,
    Page,
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
few_examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class OneDatabase:
    """A router that sends all to one database: the libraries ask the router, not the queryset, where to work."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return self.alias

    db_for_write = db_for_read


@pytest.fixture(
    params=[
        pytest.param("remote", id="sqlite", marks=pytest.mark.django_db(databases=DATABASES)),
        pytest.param("pg_remote", id="postgresql", marks=pytest.mark.django_db(databases=DATABASES)),
    ]
)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    """A SQLite and a PostgreSQL database in turn."""
    with override_settings(DATABASE_ROUTERS=[OneDatabase(request.param)]):
        yield request.param


def get_adapter(model: type[Model]) -> Adapter:
    adapter = find_adapter(load_adapters(), model)
    assert adapter is not None
    return adapter


# The libraries' own way to grow trees and to look at them


def grow(model: Any, code: str, parent: Any = None, **values: Any) -> Any:
    """Add the last child of ``parent``, or a root, node by node, as an application would."""
    if issubclass(model, (Genre, GenreSorted, GenreRenamed, Place)):
        values[model._mptt_meta.parent_attr] = parent and model.objects.get(pk=parent.pk)
        return model.objects.create(code=code, **values)
    if parent is None:
        return model.objects.add_root({"code": code, **values})
    return model.objects.add_child(model.objects.get(pk=parent.pk), {"code": code, **values})


def get_families(model: Any) -> dict[str | None, list[str]]:
    """The codes of the children of each node, in order, by the parent's code."""
    is_mptt = hasattr(model, "_mptt_meta")
    families: dict[str | None, list[str]] = {}
    queue = [(None, list(model.objects.root_nodes() if is_mptt else model.objects.get_root_nodes()))]
    for code, children in queue:
        families[code] = [child.code for child in children]
        for child in children:
            below = child.get_children() if is_mptt else model.objects.get_children(child)
            queue.append((child.code, list(below)))
    return {code: children for code, children in families.items() if children}


def get_positions(model: type[Model]) -> dict[str, tuple[Any, ...]]:
    """All that the position fields of each node hold, by code."""
    names = get_adapter(model).position_fields(model)
    return {code: tuple(values) for code, *values in model._base_manager.values_list("code", *names)}


def find_problems(model: Any) -> list[Any]:
    """What the library finds wrong with its trees."""
    if hasattr(model, "_mptt_meta"):
        before = get_positions(model)
        tree = model._mptt_meta.tree_id_attr
        trees = sorted(model.objects.root_nodes().values_list(tree, flat=True))
        assert len(set(trees)) == len(trees)
        with transaction.atomic(using=model.objects.db):
            for number in trees:
                model.objects.partial_rebuild(number)
            after = get_positions(model)
            transaction.set_rollback(True, using=model.objects.db)
        return [(code, before[code], after[code]) for code in before if before[code] != after[code]]
    if not hasattr(model.objects, "find_problems"):
        return []
    return [problem for problems in model.objects.find_problems() for problem in problems]


# What an executor does with an adapter


@dataclass
class Run:
    """A run by codes: new nodes and moved ones with their parent, deleted ones, and the order on the source."""

    new: dict[str, str | None] = field(default_factory=dict)
    moved: dict[str, str | None] = field(default_factory=dict)
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
        for code, name in self.names.items():
            rows.filter(code=code).update(name=name)
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
        for code, parent in self.moved.items() if link else ():
            rows.filter(code=code).update(**{f"{link}_id": pks[parent]})
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


def plant(model: Any, *codes: str) -> dict[str, Any]:
    """Grow nodes named after their place: "a", "a.b" below it, "a.b.c" below that."""
    nodes: dict[str, Any] = {}
    for code in codes:
        parent = code.rpartition(".")[0]
        nodes[code] = grow(model, code, nodes.get(parent), name=code)
    return nodes


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


def is_below(code: str | None, top: str, parents: dict[str, str | None]) -> bool:
    while code is not None and code != top:
        code = parents[code]
    return code == top


def get_depth(code: str | None, parents: dict[str, str | None]) -> int:
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
            nodes[code] = grow(model, code, nodes.get(parent), name=run.names.get(code, "b"))
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
            nodes[code] = grow(model, code, nodes.get(parent), name=run.names.get(code, "b"))
        same = Run(moved=dict(forest), order={code: number for number, code in enumerate(forest)})
        before = get_positions(model)

        with CaptureQueriesContext(connections[target]) as queries:
            same.apply(model, target)

        link = get_adapter(model).parent_field(model)
        updates = [query for query in queries if query["sql"].lstrip("0123456789 times:").startswith("UPDATE")]
        assert get_positions(model) == before
        assert len(updates) == (len(forest) if link else 0)
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


@pytest.mark.parametrize("model", [PathNode, SetNode, Genre])
def test_roots_that_only_the_target_has_keep_their_tree(model: Any, target: str) -> None:
    plant(model, "a", "b", "b.x", "c", "c.x", "d")
    model._base_manager.filter(code="a")._raw_delete(target)
    before = get_positions(model)

    Run(new={"n": None}, moved={"b": None}, order={"b": 2, "n": 1}, deleted=[]).apply(model, target)

    after = get_positions(model)
    assert get_families(model)[None] == ["n", "b", "c", "d"]
    assert [after[code] for code in before] == [before[code] for code in before]

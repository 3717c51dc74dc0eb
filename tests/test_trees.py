"""Whole trees and subtrees, pushed into targets that have trees of their own at the same positions."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.db import connections
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError, UnresolvedConflicts, WriteFailed
from tests.conftest import DATABASES, Pair
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
    Folder,
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

MODELS = [PathNode, PathUUID, SetNode, ListNode, Genre, GenreRenamed]
SORTED = [PathSorted, SetSorted, ListSorted, GenreSorted]
ALL = [*MODELS, *SORTED]
PLAIN = [PathNode, SetNode, ListNode, Genre]

by_model: Any = {"ids": lambda value: getattr(value, "__name__", None)}
WRITES = ("INSERT", "UPDATE", "DELETE", "COPY", "CREATE", "TRUNCATE")


class Trees:
    """Source and target; every push leaves both sound, and writes nothing when it is repeated."""

    def __init__(self, pair: Pair) -> None:
        self.source = pair.source
        self.target = pair.target

    def plant(self, using: str, model: type[Model], *codes: str) -> dict[str, Any]:
        with working_on(using):
            return plant(model, *codes)

    def grow(self, using: str, model: type[Model], code: str, parent: Any = None, **values: Any) -> Any:
        with working_on(using):
            return grow(model, code, parent, name=code, **values)

    def move(self, model: Any, code: str, to: str, position: str, using: str | None = None) -> None:
        """Move a node of the source as an application would, relative to another."""
        with working_on(using or self.source):
            node, other = model.objects.get(code=code), model.objects.get(code=to)
            if hasattr(model, "_mptt_meta"):
                node.move_to(other, position)
            else:
                model.objects.move(node, other, pos=position)

    def push(self, *roots: Model, **options: Any) -> api.Report:
        """Push twice: the second time nothing may be left to do."""
        report = self.synchronize(*roots, **options)
        with CaptureQueriesContext(connections[self.target]) as queries:
            again = self.synchronize(*roots, **options)
        assert (again.created, again.updated, again.deleted) == ({}, {}, {})
        assert [query["sql"] for query in queries if query["sql"].startswith(WRITES)] == []
        for model in {type(root) for root in roots} - {Folder}:
            for using in (self.source, self.target):
                with working_on(using):
                    assert find_problems(model) == []
        return report

    def synchronize(self, *roots: Model, **options: Any) -> api.Report:
        return api.synchronize(list(roots), source=self.source, remote=self.target, **options)

    def get_families(self, model: type[Model], using: str | None = None) -> dict[str | None, list[str]]:
        with working_on(using or self.target):
            return get_families(model)

    def get_positions(self, model: type[Model]) -> dict[str, tuple[Any, ...]]:
        with working_on(self.target):
            return get_positions(model)


@pytest.fixture
def trees(pair: Pair) -> Trees:
    return Trees(pair)


_databases = pytest.mark.django_db(databases=DATABASES)
crosswise = pytest.mark.parametrize(
    "pair",
    [
        pytest.param(Pair("default", "pg_remote"), id="sqlite-postgresql", marks=_databases),
        pytest.param(Pair("pg_local", "remote"), id="postgresql-sqlite", marks=_databases),
    ],
    indirect=True,
)
"""Instead of all four pairings: each kind of database is a source once and a target once."""


def below(families: dict[str | None, list[str]], top: str) -> dict[str | None, list[str]]:
    """The families of a node and of all below it."""
    found: dict[str | None, list[str]] = {}
    queue = [top]
    for code in queue:
        if code in families:
            found[code] = families[code]
            queue += families[code]
    return found


THEIRS = ("t", "t.a", "t.a.b", "t.c", "u", "u.v")


@pytest.mark.parametrize("model", ALL, **by_model)
def test_a_whole_tree_arrives_beside_those_at_the_same_positions(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, *THEIRS)
    before = trees.get_positions(model)
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.b", "s.a.c", "s.d", "s.d.e", "other", "other.x")

    report = trees.push(nodes["s"])

    families = trees.get_families(model)
    assert report.created == {model._meta.label: 6}
    assert below(families, "s") == {"s": ["s.a", "s.d"], "s.a": ["s.a.b", "s.a.c"], "s.d": ["s.d.e"]}
    assert "other" not in families[None]
    assert below(families, "t") == {"t": ["t.a", "t.c"], "t.a": ["t.a.b"]}
    if model in MODELS:
        after = trees.get_positions(model)
        assert {code: after[code] for code in before} == before


@pytest.mark.parametrize("model", ALL, **by_model)
def test_a_subtree_arrives_below_the_parent_that_the_target_has(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, "first", "s", "s.theirs", "s.theirs.x", "last", "last.x")
    nodes = trees.plant(trees.source, model, "s", "s.other", "s.sub", "s.sub.a", "s.sub.a.b", "s.sub.c")

    report = trees.push(nodes["s.sub"])

    families = trees.get_families(model)
    assert report.created == {model._meta.label: 4}
    assert report.matched == {model._meta.label: 1}
    assert sorted(families["s"]) == ["s.sub", "s.theirs"]
    assert below(families, "s.sub") == {"s.sub": ["s.sub.a", "s.sub.c"], "s.sub.a": ["s.sub.a.b"]}
    assert below(families, "s.theirs") == {"s.theirs": ["s.theirs.x"]}
    assert families[None] == ["first", "s", "last"] if model in MODELS else sorted(families[None])


@crosswise
@pytest.mark.parametrize("model", ALL, **by_model)
def test_a_subtree_brings_the_parents_that_the_target_lacks(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, *THEIRS)
    nodes = trees.plant(trees.source, model, "s", "s.x", "s.a", "s.a.y", "s.a.sub", "s.a.sub.z")

    report = trees.push(nodes["s.a.sub"])

    assert report.created == {model._meta.label: 4}
    assert below(trees.get_families(model), "s") == {"s": ["s.a"], "s.a": ["s.a.sub"], "s.a.sub": ["s.a.sub.z"]}


@crosswise
@pytest.mark.parametrize("model", ALL, **by_model)
def test_a_tree_that_grows_is_followed(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, *THEIRS)
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.b")
    trees.push(nodes["s"])
    trees.grow(trees.target, model, "s.theirs", self_on(trees.target, model, "s"))
    trees.grow(trees.source, model, "s.c", nodes["s"])
    trees.grow(trees.source, model, "s.a.d", nodes["s.a"])

    report = trees.push(nodes["s"])

    families = trees.get_families(model)
    assert report.created == {model._meta.label: 2}
    assert families["s"] == ["s.a", "s.b", "s.theirs", "s.c"] if model in MODELS else sorted(families["s"])
    assert families["s.a"] == ["s.a.d"]


def self_on(using: str, model: type[Model], code: str) -> Any:
    """The node of this database."""
    return model._base_manager.using(using).get(code=code)


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_a_node_that_moves_to_another_parent_takes_what_stands_below_it_along(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, *THEIRS)
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.b", "s.a.b.c", "s.d", "s.d.e")
    trees.push(nodes["s"])
    trees.grow(trees.target, model, "theirs", self_on(trees.target, model, "s.a.b.c"))
    trees.move(model, "s.a.b", "s.d", "first-child")

    report = trees.push(nodes["s"])

    assert report.updated == {model._meta.label: 1}
    assert below(trees.get_families(model), "s") == {
        "s": ["s.a", "s.d"],
        "s.d": ["s.a.b", "s.d.e"],
        "s.a.b": ["s.a.b.c"],
        "s.a.b.c": ["theirs"],
    }


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_the_order_of_siblings_follows_and_those_of_the_target_stay_between(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.x", "s.b", "s.c")
    trees.push(nodes["s"])
    trees.grow(trees.target, model, "s.theirs", self_on(trees.target, model, "s"))
    trees.move(model, "s.c", "s.a", "left")

    report = trees.push(nodes["s"])

    families = trees.get_families(model)
    assert report.updated == {model._meta.label: 1}
    assert families["s"] == ["s.c", "s.a", "s.b", "s.theirs"]
    assert families["s.a"] == ["s.a.x"]


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_a_node_that_changes_its_place_and_its_name_is_one_update(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.b", "s.c")
    trees.push(nodes["s"])
    trees.move(model, "s.c", "s.a", "left")
    model._base_manager.using(trees.source).filter(code="s.c").update(name="changed")

    report = trees.push(nodes["s"])

    assert report.updated == {model._meta.label: 1}
    assert report.unchanged == {model._meta.label: 3}
    assert self_on(trees.target, model, "s.c").name == "changed"
    assert trees.get_families(model)["s"] == ["s.c", "s.a", "s.b"]


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_a_node_that_the_target_has_moved_stays_where_it_is(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.w", "s.a.x", "s.b", "s.b.y")
    trees.push(nodes["s"])
    trees.move(model, "s.a.x", "s.b", "first-child", using=trees.target)
    trees.grow(trees.source, model, "s.b.z", nodes["s.b"])

    report = trees.push(nodes["s"])

    assert report.skipped == {model._meta.label: 1}
    assert trees.get_families(model)["s.b"] == ["s.a.x", "s.b.y", "s.b.z"]


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_the_order_of_pushed_siblings_is_that_of_the_source_again(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.b", "s.c")
    trees.push(nodes["s"])
    trees.move(model, "s.c", "s.a", "left", using=trees.target)

    report = trees.push(nodes["s"])

    assert report.updated == {model._meta.label: 1}
    assert trees.get_families(model)["s"] == ["s.a", "s.b", "s.c"]


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_a_node_that_both_sides_have_moved_goes_where_the_policy_says(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.b", "s.c", "s.c.x")
    trees.push(nodes["s"])
    trees.move(model, "s.c.x", "s.a", "first-child", using=trees.target)
    trees.move(model, "s.c.x", "s.b", "first-child")

    theirs = trees.synchronize(nodes["s"], on_conflict="remote")
    theirs_below = trees.get_families(model)
    ours = trees.push(nodes["s"], on_conflict="local")

    assert [conflict["resolved"] for conflict in theirs.conflicts] == ["remote"]
    assert theirs_below["s.a"] == ["s.c.x"]
    assert ours.updated == {model._meta.label: 1}
    assert trees.get_families(model)["s.b"] == ["s.c.x"]


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_nodes_that_each_side_has_moved_below_the_other_are_a_conflict(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.x", "s.b", "s.b.y")
    trees.push(nodes["s"])
    trees.move(model, "s.b", "s.a.x", "first-child", using=trees.target)
    trees.move(model, "s.a", "s.b", "first-child")
    before = trees.get_families(model)
    there = self_on(trees.target, model, "s.b")

    with pytest.raises(UnresolvedConflicts) as caught:
        trees.synchronize(nodes["s"])

    assert f"{model._meta.label}.{nodes['s.a'].pk} would stand below itself" in str(caught.value)
    assert f"below {model._meta.label}.{there.pk} of the target" in str(caught.value)
    assert trees.get_families(model) == before


@crosswise
@pytest.mark.parametrize("model", MODELS, **by_model)
def test_the_source_decides_about_nodes_that_each_side_has_moved_below_the_other(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.b")
    trees.push(nodes["s"])
    trees.move(model, "s.b", "s.a", "first-child", using=trees.target)
    trees.move(model, "s.a", "s.b", "first-child")

    trees.push(nodes["s"], on_conflict="local")

    assert below(trees.get_families(model), "s") == {"s": ["s.b"], "s.b": ["s.a"]}


@crosswise
@pytest.mark.parametrize("model", SORTED, **by_model)
def test_a_new_name_brings_a_node_to_its_place_among_those_of_the_target(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, "s", "s.b")
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.c")
    trees.push(nodes["s"])
    with working_on(trees.source):
        node = model.objects.get(code="s.a")
        node.name = "s.z"
        node.save()
        if hasattr(model.objects, "fix_tree"):
            model.objects.fix_tree(fix_paths=True)

    report = trees.push(nodes["s"])

    assert report.updated == {model._meta.label: 1}
    assert trees.get_families(model)["s"] == ["s.b", "s.c", "s.a"]


@crosswise
@pytest.mark.parametrize("model", ALL, **by_model)
def test_pruning_closes_the_tree_over_what_is_gone(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, *THEIRS)
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.b", "s.a.c", "s.d", "s.d.e")
    trees.push(nodes["s"])
    with working_on(trees.source):
        model.objects.get(code="s.a").delete()
        model.objects.get(code="s.d.e").delete()

    kept = trees.push(nodes["s"])
    report = trees.push(nodes["s"], prune=True)

    assert kept.deleted == {}
    assert report.deleted == {model._meta.label: 4}
    assert below(trees.get_families(model), "s") == {"s": ["s.d"]}
    assert below(trees.get_families(model), "t") == {"t": ["t.a", "t.c"], "t.a": ["t.a.b"]}


@crosswise
@pytest.mark.parametrize("model", PLAIN, **by_model)
def test_pruning_stops_at_a_node_that_only_the_target_has(model: Any, trees: Trees) -> None:
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.b")
    trees.push(nodes["s"])
    trees.grow(trees.target, model, "theirs", self_on(trees.target, model, "s.a.b"))
    before = trees.get_positions(model)
    with working_on(trees.source):
        model.objects.get(code="s.a").delete()

    with pytest.raises(GestoreSyncError, match=rf"trees\.{model.__name__}"):
        trees.synchronize(nodes["s"], prune=True)

    assert trees.get_positions(model) == before


@crosswise
@pytest.mark.parametrize("model", PLAIN, **by_model)
def test_everything_changes_in_one_push(model: Any, trees: Trees) -> None:
    trees.plant(trees.target, model, *THEIRS)
    nodes = trees.plant(trees.source, model, "s", "s.a", "s.a.b", "s.c", "s.c.d", "s.c.d.e", "s.f")
    trees.push(nodes["s"])
    trees.move(model, "s.c.d", "s.a", "first-child")
    trees.move(model, "s.f", "s.a", "left")
    with working_on(trees.source):
        model.objects.get(code="s.c").delete()
    trees.grow(trees.source, model, "new", self_on(trees.source, model, "s.f"))
    trees.move(model, "s.a.b", "new", "first-child")

    trees.push(nodes["s"], prune=True)

    source = trees.get_families(model, trees.source)
    assert below(trees.get_families(model), "s") == below(source, "s")
    assert source["s"] == ["s.f", "s.a"]


@crosswise
def test_a_dry_run_tells_of_a_move_and_writes_nothing(trees: Trees) -> None:
    nodes = trees.plant(trees.source, PathNode, "s", "s.a", "s.b")
    trees.push(nodes["s"])
    before = trees.get_positions(PathNode)
    trees.move(PathNode, "s.b", "s.a", "left")

    report = trees.synchronize(nodes["s"], dry_run=True)

    assert report.updated == {"trees.PathNode": 1}
    assert trees.get_positions(PathNode) == before


# Objects in several tables, and what hangs on a node


def plant_pages(trees: Trees, using: str) -> dict[str, Any]:
    """A tree of pages of three kinds, with a remark on each."""
    with working_on(using):
        root = Page.objects.add_root({"code": "s"})
        article = Article.objects.add_child(root, {"code": "article", "body": "text"})
        review = Review.objects.add_child(article, {"code": "review", "body": "text", "stars": 3})
        page = Page.objects.add_child(review, {"code": "page"})
    pages = {"s": root, "article": article, "review": review, "page": page}
    for code, node in pages.items():
        Remark.objects.using(using).create(page_id=node.pk, text=code)
    return pages


@crosswise
@pytest.mark.parametrize("start", ["s", "review"])
def test_nodes_of_several_tables_arrive_with_all_that_they_are(start: str, trees: Trees) -> None:
    trees.plant(trees.target, Page, *THEIRS)
    pages = plant_pages(trees, trees.source)

    trees.push(pages[start])

    families = trees.get_families(Page)
    assert below(families, "s") == {"s": ["article"], "article": ["review"], "review": ["page"]}
    assert self_on(trees.target, Review, "review").stars == 3
    assert self_on(trees.target, Article, "article").body == "text"
    remarks = dict(Remark.objects.using(trees.target).values_list("text", "page__code"))
    owned = list(pages)[list(pages).index(start) :]
    assert remarks == {code: code for code in owned}


@crosswise
def test_a_place_and_its_city_arrive_in_one_tree(trees: Trees) -> None:
    trees.plant(trees.target, Place, *THEIRS)
    with working_on(trees.source):
        root = Place.objects.create(code="s")
        City.objects.create(code="city", mayor="Ann", parent=root)
        root.refresh_from_db()

    trees.push(root)

    assert below(trees.get_families(Place), "s") == {"s": ["city"]}
    assert self_on(trees.target, City, "city").mayor == "Ann"


# Room


@crosswise
def test_a_node_that_finds_no_room_on_the_target_is_named_and_nothing_is_written(trees: Trees) -> None:
    trees.plant(trees.target, PathShort, "s", *(f"s.theirs{number}" for number in range(9)))
    nodes = trees.plant(trees.source, PathShort, "s", "s.a")
    before = trees.get_positions(PathShort)

    with pytest.raises(WriteFailed, match=r"trees\.PathShort\.\d+ finds no room among its siblings"):
        trees.synchronize(nodes["s"])

    assert trees.get_positions(PathShort) == before


@pytest.mark.django_db(databases=DATABASES)
@pytest.mark.parametrize(
    ("model", "length"), [(PathDeep, 500), (SetNode, 5000), (ListNode, 5000), (Genre, 5000)], **by_model
)
def test_a_tree_of_very_many_generations_arrives(model: Any, length: int) -> None:
    trees = Trees(Pair("default", "pg_remote"))
    trees.plant(trees.target, model, *THEIRS)
    root = make_chain(model, trees.source, length)

    trees.synchronize(root)

    codes = model._base_manager.using(trees.target).filter(code__startswith="n")
    parents = read_parents(model, trees.target, list(codes.values_list("pk", flat=True)))
    by_pk = dict(codes.values_list("pk", "code"))
    assert {by_pk[pk]: by_pk.get(parent) for pk, parent in parents.items()} == {
        f"n{number}": f"n{number - 1}" if number else None for number in range(length)
    }


def read_parents(model: type[Model], using: str, pks: Sequence[Any]) -> dict[Any, Any]:
    return {pk: node.parent for pk, node in get_adapter(model).read(model, using, pks).items()}


def make_chain(model: Any, using: str, length: int) -> Any:
    """A tree in which every node but the last has one child, written in one go."""
    names = get_adapter(model).position_fields(model)
    link = get_adapter(model).parent_field(model)
    nodes = []
    for number in range(length):
        depth = number if model is Genre else number + 1
        values = {
            PathDeep: ("1" * (number + 1), depth, int(number < length - 1)),
            SetNode: (1, number + 1, 2 * length - number, depth),
            Genre: (1, number + 1, 2 * length - number, depth),
            ListNode: (1,),
        }[model]
        node = model(pk=number + 1, code=f"n{number}", **dict(zip(names, values, strict=True)))
        if link and number:
            setattr(node, f"{link}_id", number)
        nodes.append(node)
    model._base_manager.using(using).bulk_create(nodes)
    return nodes[0]


# The guide


def read_example() -> str:
    """The adapter that README.rst shows."""
    text = (Path(__file__).parent.parent / "README.rst").read_text()
    block = re.search(r":name: adapter\n((?:\n|   .*\n)+)", text)
    assert block is not None
    return textwrap.dedent(block[1])


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Make the guide's example the adapter of our folders."""
    module = ModuleType("tests.trees.example")
    exec(read_example().replace("campus.Folder", "trees.Folder"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings.GESTORE_SYNC = {"ADAPTERS": [f"{module.__name__}.FolderAdapter"]}


def add_folder(using: str, slug: str, parent: Folder | None = None) -> Folder:
    path = f"{parent.full_path}/{slug}" if parent else slug
    return Folder.objects.using(using).create(slug=slug, parent=parent, full_path=path)


def read_folders(using: str) -> dict[str, str | None]:
    """The paths of the folders, each with its parent's."""
    return dict(Folder.objects.using(using).values_list("full_path", "parent__full_path"))


@crosswise
@pytest.mark.usefixtures("folders")
def test_the_adapter_of_the_guide_keeps_the_paths_of_folders(trees: Trees) -> None:
    theirs = add_folder(trees.target, "theirs")
    add_folder(trees.target, "books", theirs)
    books = add_folder(trees.source, "books")
    travel, poems = add_folder(trees.source, "travel", books), add_folder(trees.source, "poems", books)
    europe = add_folder(trees.source, "europe", travel)
    trees.push(books)
    Folder.objects.using(trees.source).filter(pk=europe.pk).update(parent=poems, full_path="-")
    Folder.objects.using(trees.source).filter(pk=travel.pk).update(slug="trips")

    trees.push(books)

    assert read_folders(trees.target) == {
        "theirs": None,
        "theirs/books": "theirs",
        "books": None,
        "books/trips": "books",
        "books/poems": "books",
        "books/poems/europe": "books/poems",
    }


@crosswise
@pytest.mark.usefixtures("folders")
def test_the_adapter_of_the_guide_lets_two_folders_trade_their_paths(trees: Trees) -> None:
    top = add_folder(trees.source, "top")
    one, two = add_folder(trees.source, "one", top), add_folder(trees.source, "two", top)
    add_folder(trees.source, "below", one)
    trees.push(top)
    source = Folder.objects.using(trees.source)
    for folder, slug in [(one, "-"), (two, "one"), (one, "two")]:
        source.filter(pk=folder.pk).update(slug=slug)

    trees.push(top)

    assert set(read_folders(trees.target)) == {"top", "top/one", "top/two", "top/two/below"}

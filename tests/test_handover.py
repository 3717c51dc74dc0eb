"""What was moved to a remote stays there, whatever the source sends later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.models import Model

from gestore_sync import api
from gestore_sync.exceptions import GestoreSyncError
from gestore_sync.models import IdMapping
from tests.conftest import Pair
from tests.kinds.pushing import rows
from tests.logged.models import Article, Author, Authorship, Book, Employee, Page, Shelf, Tag, Team
from tests.logged.sites import NO_CHANGES, Sites, add, change, drop_our_tables, make_our_tables, ready
from tests.policies.watching import execute, pairings

ALIKE = pairings("sqlite-sqlite", "postgresql-postgresql")

Move = Callable[..., api.Report]


@pytest.fixture
def sites(pair: Pair, settings: Any) -> Iterator[Sites]:
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(pair) as sites:
        yield sites


@pytest.fixture
def move(sites: Sites, tmp_path: Path) -> Move:
    def move(*roots: Model, sites: Sites = sites) -> api.Report:
        return sites.send(*roots, move=True, backup=str(tmp_path / "moved.tar.gz"), confirm=lambda report: True)

    return move


@pytest.fixture
def restore(sites: Sites, tmp_path: Path) -> Callable[[], api.Report]:
    """Bring back what was moved from its backup."""
    return lambda: api.import_objects(str(tmp_path / "moved.tar.gz"), database=sites.local)


def fill(sites: Sites, *titles: str) -> Shelf:
    """A shelf with books at the local site."""
    shelf = add(Shelf, sites.local, name="shelf")
    for title in titles:
        add(Book, sites.local, shelf=shelf, title=title)
    return shelf


def test_reconcile_leaves_what_was_moved(sites: Sites, move: Move) -> None:
    move(fill(sites, "one"))

    report = sites.send(reconcile=True)

    assert sites.arrived(Book, "title") == ["one"]
    assert report.message == NO_CHANGES


def test_a_pruning_push_of_the_owner_leaves_a_part_that_was_moved(sites: Sites, move: Move) -> None:
    shelf = fill(sites, "one", "two")
    sites.send()
    move(sites.here(Book).get(title="one"))

    sites.send(shelf, prune=True)

    assert sites.arrived(Book, "title") == ["one", "two"]


def test_a_pruning_push_of_the_owner_deletes_what_was_not_moved(sites: Sites, move: Move) -> None:
    shelf = fill(sites, "one", "two")
    sites.send()
    move(sites.here(Book).get(title="one"))
    rows(Book, sites.local).filter(title="two").delete()

    sites.send(shelf, prune=True)

    assert sites.arrived(Book, "title") == ["one"]


@pytest.mark.parametrize("known", [False, True])
def test_a_membership_that_was_pending_when_its_member_moved_stays(sites: Sites, move: Move, *, known: bool) -> None:
    article, tag = add(Article, sites.local, title="a"), add(Tag, sites.local, name="t")
    if known:
        sites.send()
    article.tags.add(tag)
    move(tag)

    sites.send()

    assert sites.arrived(Article.tags.through, "tag__name") == ["t"]


def test_a_membership_that_was_taken_out_and_put_in_again_before_its_member_moved_stays(
    sites: Sites, move: Move
) -> None:
    article, tag = add(Article, sites.local, title="a"), add(Tag, sites.local, name="t")
    article.tags.add(tag)
    sites.send()
    article.tags.remove(tag)
    article.tags.add(tag)
    move(tag)

    sites.send()

    assert sites.arrived(Article.tags.through, "tag__name") == ["t"]


def test_a_member_that_was_taken_out_before_it_moved_is_taken_out(sites: Sites, move: Move) -> None:
    article, tag = add(Article, sites.local, title="a"), add(Tag, sites.local, name="t")
    article.tags.add(tag)
    sites.send()
    article.tags.remove(tag)
    move(tag)

    sites.send()

    assert sites.arrived(Article.tags.through, "tag__name") == []


def test_members_of_an_owner_that_is_pushed_again_stay_if_they_were_moved(sites: Sites, move: Move) -> None:
    article, tag = add(Article, sites.local, title="a"), add(Tag, sites.local, name="t")
    author, twin = add(Author, sites.local, name="b"), add(Article, sites.local, title="twin")
    article.tags.add(tag)
    article.twins.add(twin)
    add(Authorship, sites.local, article=article, author=author, share=3)
    sites.send()
    for gone in (author, tag, twin):
        move(gone)

    sites.send(article)

    assert sites.arrived(Authorship, "author__name") == ["b"]
    assert sites.arrived(Article.tags.through, "tag__name") == ["t"]
    assert sites.arrived(Article.twins.through, "from_article__title") == ["a", "twin"]


@pytest.mark.parametrize("pends", [False, True])
def test_a_link_that_a_move_nulled_stays_on_the_target_when_its_row_changes(
    sites: Sites, move: Move, *, pends: bool
) -> None:
    boss = add(Employee, sites.local, name="boss")
    clerk = add(Employee, sites.local, name="clerk", boss=boss)
    sites.send()
    if pends:
        change(clerk, name="changed before")
    move(boss)
    clerk.refresh_from_db()
    change(clerk, name="changed")

    sites.send()

    assert sites.arrived(Employee, "name", "boss__name") == [("boss", None), ("changed", "boss")]


@pytest.mark.parametrize("exchanged", [False, True])
def test_what_the_target_changed_stays_when_a_move_nulled_a_link_beside_it(
    sites: Sites, move: Move, *, exchanged: bool
) -> None:
    boss, team = add(Employee, sites.local, name="boss"), add(Team, sites.local, name="team")
    clerk = add(Employee, sites.local, name="clerk", boss=boss, team=team)
    sites.send()
    theirs = sites.there(Employee).get(name="clerk")
    if exchanged:
        sites.back.send(change(theirs, name="changed there"))
    change(theirs, team=add(Team, sites.remote, name="other"))
    move(boss)
    clerk.refresh_from_db()
    change(clerk, name="changed here")

    sites.send()

    assert ("changed here", "boss", "other") in sites.arrived(Employee, "name", "boss__name", "team__name")


def test_what_came_from_the_target_keeps_there_what_a_move_nulled_and_what_changed_beside_it(
    sites: Sites, move: Move
) -> None:
    add(Team, sites.local, name="in the key of the first")
    first, second = add(Team, sites.remote, name="first"), add(Team, sites.remote, name="second")
    theirs = add(Employee, sites.remote, name="clerk", team=first, boss=add(Employee, sites.remote, name="boss"))
    sites.back.send(theirs)
    assert sites.here(Team).get(name="first").pk == second.pk
    move(sites.here(Employee).get(name="boss"))
    change(theirs, team=second)
    change(sites.here(Employee).get(), name="changed here")

    sites.send()

    assert ("changed here", "boss", "second") in sites.arrived(Employee, "name", "boss__name", "team__name")


def test_what_came_from_the_target_and_is_restored_overwrites_no_link_that_changed_there(
    sites: Sites, move: Move, restore: Callable[[], api.Report]
) -> None:
    add(Team, sites.local, name="in the key of the first")
    first, second = add(Team, sites.remote, name="first"), add(Team, sites.remote, name="second")
    theirs = add(Employee, sites.remote, name="clerk", team=first)
    sites.back.send(theirs)
    assert sites.here(Team).get(name="first").pk == second.pk
    move(sites.here(Employee).get())
    restore()
    change(theirs, team=second)

    sites.send()

    assert sites.arrived(Employee, "name", "team__name") == [("clerk", "second")]


def test_reconcile_leaves_a_link_that_a_move_nulled(sites: Sites, move: Move) -> None:
    boss = add(Employee, sites.local, name="boss")
    add(Employee, sites.local, name="clerk", boss=boss)
    sites.send()
    move(boss)

    report = sites.send(reconcile=True)

    assert sites.arrived(Employee, "name", "boss__name") == [("boss", None), ("clerk", "boss")]
    assert report.message == NO_CHANGES


def test_a_link_that_is_set_after_the_move_is_sent(sites: Sites, move: Move) -> None:
    boss = add(Employee, sites.local, name="boss")
    clerk = add(Employee, sites.local, name="clerk", boss=boss)
    sites.send()
    move(boss)
    clerk.refresh_from_db()
    change(clerk, boss=add(Employee, sites.local, name="chief"))

    sites.send(on_conflict="local")

    assert ("clerk", "chief") in sites.arrived(Employee, "name", "boss__name")


def test_what_is_restored_after_a_move_and_deleted_again_stays_on_the_target(
    sites: Sites, move: Move, restore: Callable[[], api.Report]
) -> None:
    move(fill(sites, "one"))
    restore()
    api.delete_objects([sites.here(Shelf).get()], database=sites.local)

    sites.send()
    sites.send(reconcile=True)

    assert sites.arrived(Book, "title") == ["one"]


def test_what_is_restored_and_loses_a_link_by_another_move_is_still_the_target_s_own(
    sites: Sites, move: Move, restore: Callable[[], api.Report]
) -> None:
    boss = add(Employee, sites.local, name="boss")
    clerk = add(Employee, sites.local, name="clerk", boss=boss)
    move(clerk)
    restore()
    move(boss)
    sites.here(Employee).get().delete()

    sites.send()

    assert sites.arrived(Employee, "name", "boss__name") == [("boss", None), ("clerk", "boss")]


@pytest.mark.parametrize("keyed", [False, True])
def test_what_the_target_sends_back_after_a_move_is_deleted_there_when_it_is_deleted_here(
    sites: Sites, move: Move, *, keyed: bool
) -> None:
    root: Model = add(Page, sites.local, path="/p") if keyed else fill(sites)
    move(root)
    sites.back.send(sites.there(type(root)).get())
    sites.here(type(root)).get().delete()

    sites.send()

    assert not sites.there(type(root)).exists()


@pytest.mark.parametrize("logged", [False, True])
def test_what_is_restored_and_sent_is_deleted_there_when_it_is_deleted_here(
    sites: Sites, move: Move, restore: Callable[[], api.Report], *, logged: bool
) -> None:
    article, tag = add(Article, sites.local, title="a"), add(Tag, sites.local, name="t")
    article.tags.add(tag)
    move(article)
    restore()
    sites.send()
    again = sites.here(Article).get()
    again.tags.clear()
    if logged:
        again.delete()
    else:
        rows(Article, sites.local)._raw_delete(sites.local)

    sites.send(reconcile=not logged)

    assert sites.arrived(Article, "title") == []
    assert sites.arrived(Tag, "name") == ["t"]


def test_a_membership_that_is_restored_and_sent_is_taken_out_there_when_it_is_taken_out_here(
    sites: Sites, move: Move, restore: Callable[[], api.Report]
) -> None:
    article, tag = add(Article, sites.local, title="a"), add(Tag, sites.local, name="t")
    article.tags.add(tag)
    move(article)
    restore()
    sites.send()
    sites.here(Article).get().tags.clear()

    sites.send()

    assert sites.arrived(Article.tags.through, "tag__name") == []


def test_what_is_restored_is_not_created_twice(sites: Sites, move: Move, restore: Callable[[], api.Report]) -> None:
    move(fill(sites, "one"))
    restore()

    sites.send()

    assert sites.arrived(Book, "title") == ["one"]
    assert sites.send().message == NO_CHANGES


def test_an_owner_that_is_deleted_after_its_part_was_moved_is_a_conflict(sites: Sites, move: Move) -> None:
    shelf = fill(sites, "one")
    sites.send()
    move(sites.here(Book).get())
    shelf.delete()

    report = sites.send()

    assert "Only the target has logged.Book" in report.conflicts[0]["reason"]
    assert sites.arrived(Book, "shelf__name", "title") == [("shelf", "one")]


def test_what_came_from_the_target_and_was_moved_back_stays_there(sites: Sites, move: Move) -> None:
    shelf = fill(sites, "one")
    move(shelf)
    move(sites.there(Shelf).get(), sites=sites.back)
    assert not sites.there(Book).exists()

    sites.back.send()
    sites.back.send(reconcile=True)

    assert list(sites.here(Book).values_list("title", flat=True)) == ["one"]


@pytest.mark.parametrize("exchanged", [False, True])
def test_what_was_moved_back_to_where_it_came_from_stays_there_when_it_is_restored_and_deleted(
    sites: Sites, move: Move, tmp_path: Path, *, exchanged: bool
) -> None:
    shelf = fill(sites, "one")
    sites.send(shelf)
    if exchanged:
        sites.back.send(change(sites.there(Shelf).get(), name="changed there"))
        shelf.refresh_from_db()
        sites.send(change(shelf, name="changed here"))
    move(sites.there(Shelf).get(), sites=sites.back)
    api.import_objects(str(tmp_path / "moved.tar.gz"), database=sites.remote)
    api.delete_objects([sites.there(Shelf).get()], database=sites.remote)

    sites.back.send()
    sites.back.send(reconcile=True)

    assert list(sites.here(Book).values_list("title", flat=True)) == ["one"]


@pytest.mark.parametrize("pair", pairings("postgresql-postgresql", "sqlite-postgresql"), indirect=True)
def test_reconcile_leaves_what_was_moved_to_a_remote_without_our_tables(sites: Sites, move: Move) -> None:
    drop_our_tables(sites.remote)
    move(fill(sites, "one"))

    sites.send(reconcile=True)

    assert sites.arrived(Book, "title") == ["one"]


@pytest.mark.parametrize("pair", pairings("postgresql-postgresql", "sqlite-postgresql"), indirect=True)
def test_reconcile_leaves_what_was_moved_by_mappings_that_were_kept_here(sites: Sites, move: Move) -> None:
    shelf = fill(sites, "one")
    drop_our_tables(sites.remote)
    sites.send(shelf)
    make_our_tables(sites.remote)
    move(shelf)

    sites.send(reconcile=True)

    assert sites.arrived(Book, "title") == ["one"]


@pytest.mark.parametrize("pair", ALIKE, indirect=True)
def test_what_a_failed_move_left_here_is_deleted_there_when_it_is_deleted_here(sites: Sites, move: Move) -> None:
    shelf = fill(sites, "one")
    sites.send()
    refuse_changes(sites.local, "gestore_sync_changelog")
    with pytest.raises(GestoreSyncError):
        move(shelf)
    allow_changes(sites.local, "gestore_sync_changelog")
    assert not rows(IdMapping, sites.remote).filter(moved=True).exists()

    sites.here(Book).get().delete()
    sites.send()
    assert sites.arrived(Book, "title") == []
    assert sites.arrived(Shelf, "name") == ["shelf"]


def refuse_changes(using: str, table: str) -> None:
    """Let a trigger refuse every change of a table's rows."""
    if connections[using].vendor == "sqlite":
        execute(using, f"CREATE TRIGGER refusing BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
        return
    execute(
        using,
        "CREATE FUNCTION refusing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'",
        f"CREATE TRIGGER refusing BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refusing()",
    )


def allow_changes(using: str, table: str) -> None:
    """Take that trigger away."""
    execute(using, "DROP TRIGGER refusing" + ("" if connections[using].vendor == "sqlite" else f" ON {table}"))

"""What a deletion does beside the rows: signals, the change log, trees, stored files, the backup, others at work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.postgres.fields import ArrayField
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db import connections, models, transaction
from django.db.models.signals import m2m_changed, post_delete, pre_delete
from django.dispatch import Signal
from django.test import override_settings
from django.test.utils import isolate_apps

from gestore_sync import DisableSynchroLog, api
from gestore_sync.deletionsql import make_statement
from gestore_sync.exceptions import FilesLeft, NotConfirmed, WriteFailed
from gestore_sync.models import CHANGE, DELETION, M2M_CHANGE, ChangeLog
from gestore_sync.triggers import forget_captured, update_triggers
from tests.conftest import DATABASES, Pair
from tests.deletions import DELETED, Ground, on_each, standing_on
from tests.kinds import models as kinds
from tests.kinds.making import make, make_many
from tests.kinds.pushing import forget_caches
from tests.logged import models as logged
from tests.logged.sites import add, drop_our_tables, forget_log, in_thread, read_log, ready, receiving
from tests.policies.watching import CROSSED, pairings
from tests.trees import models as trees
from tests.trees.growing import find_problems, get_families, plant, working_on

TRIGGERED = "pg_local"


@pytest.fixture(params=on_each())
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with standing_on(request.param) as ground:
        yield ground


@pytest.fixture(params=on_each(live=True))
def live(request: pytest.FixtureRequest) -> Iterator[Ground]:
    with standing_on(request.param) as ground:
        yield ground


committed = pytest.mark.parametrize("live", on_each(TRIGGERED, live=True), indirect=True)


# Signals


def test_signals_are_sent_where_somebody_listens(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    orders = make_many(kinds.Order, ground.using, 2, shop=shop)
    make_many(kinds.Line, ground.using, 2, order=orders[0])
    heard: list[tuple[str, Any]] = []

    def hear(sender: type[models.Model], instance: Any, signal: Signal, using: str, **sent: Any) -> None:
        assert using == ground.using and sent["gestore_sync"] is True
        there = ground.rows(sender).filter(pk=instance.pk).exists()
        assert there is (signal is pre_delete)
        heard.append(("before" if there else "after", instance))

    with ExitStack() as stack:
        for signal in (pre_delete, post_delete):
            stack.enter_context(receiving(signal, hear, kinds.Order))
        ground.delete(shop)

    assert sorted(heard, key=lambda each: (each[0], each[1].pk)) == [
        *(("after", order) for order in orders),
        *(("before", order) for order in orders),
    ]


def test_owners_are_told_that_they_lose_a_member(ground: Ground) -> None:
    tag = make(kinds.Tag, ground.using)
    shops = make_many(kinds.Shop, ground.using, 2)
    for shop in shops:
        shop.tags.add(tag)
    heard: list[tuple[str, Any, set[Any]]] = []

    def hear(instance: Any, action: str, pk_set: set[Any], **sent: Any) -> None:
        heard.append((action, instance, pk_set))

    with receiving(m2m_changed, hear, kinds.Shop.tags.through):
        ground.delete(tag)

    expected = [(action, shop, {tag.pk}) for action in ("post_remove", "pre_remove") for shop in shops]
    assert sorted(heard, key=lambda each: (each[0], each[1].pk)) == expected


def test_a_receiver_that_fails_stops_it_and_is_named(ground: Ground) -> None:
    shop = make(kinds.Shop, ground.using)
    order = make(kinds.Order, ground.using, shop=shop)
    make(kinds.Visit, ground.using, shop=shop)

    def fail(**sent: Any) -> None:
        raise RuntimeError("orders are kept for ten years")

    with receiving(post_delete, fail, kinds.Order):
        error = ground.refuse(shop)
        with override_settings(GESTORE_SYNC={"SIGNALS": "none"}):
            ground.delete(shop)

    assert isinstance(error, WriteFailed)
    assert f"kinds.Order.{order.pk}" in str(error) and "ten years" in str(error)


# The change log


def log_with_data(using: str) -> list[tuple[str, str, int, Any]]:
    """The change log, sorted, with its data."""
    entries = ChangeLog.objects.using(using)
    found = [(entry.content_type.model, entry.object_id, entry.action, entry.data) for entry in entries]
    return sorted(found, key=lambda entry: (entry[0], entry[1], entry[2], json.dumps(entry[3])))


def make_everything(using: str) -> list[models.Model]:
    """Objects of many kinds with nothing outside that is changed by their deletion."""
    country = add(logged.Country, using, code="pl żółć", name="x")
    add(logged.City, using, country=country, name="Łódź")
    shelf = add(logged.Shelf, using, name="a")
    for number in range(3):
        add(logged.Book, using, shelf=shelf, title=str(number))
    article = add(logged.Article, using, title="a")
    add(logged.Authorship, using, article=article, author=add(logged.Author, using, name="ann"))
    article.tags.add(add(logged.Tag, using, name="t"))
    opera = add(logged.Opera, using, name="opera", seats=3, composer="c")
    seat = add(logged.Seat, using, row="a", number=7)
    ticket = add(logged.Ticket, using, title="t")
    page = add(logged.Page, using, path="/a b/" + "x" * 300)
    sample = add(logged.Sample, using, name="s")
    add(logged.Sample, using, name="part", parent=sample)
    account, invoice = add(logged.Account, using, name="acc"), add(logged.Invoice, using, code="i", number=1)
    return [country, shelf, article, opera, seat, ticket, page, sample, account, invoice]


def test_the_log_tells_what_it_tells_when_django_deletes(ground: Ground, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    with transaction.atomic(using=ground.using):
        roots = make_everything(ground.using)
        forget_log(ground.using)
        for root in roots:
            type(root)._base_manager.using(ground.using).get(pk=root.pk).delete()
        expected = log_with_data(ground.using)
        transaction.set_rollback(True, using=ground.using)
    with transaction.atomic(using=ground.using):
        forget_caches()
        roots = make_everything(ground.using)
        forget_log(ground.using)
        api.delete_objects(roots, database=ground.using)
        found = log_with_data(ground.using)
        transaction.set_rollback(True, using=ground.using)

    assert len(expected) > 12
    assert list(map(outline, found)) == list(map(outline, expected))


def outline(entry: tuple[str, str, int, Any]) -> Any:
    """An entry without the numbers that differ from one time to the next."""
    model, pk, action, data = entry
    return model, len(pk) > 30, action, data.get("natural_key"), list(data["fields"])


def test_an_entry_holds_what_djangos_would(ground: Ground, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    found = []
    for by_django in (True, False):
        shelf = add(logged.Shelf, ground.using, name="a")
        book = add(logged.Book, ground.using, shelf=shelf, title="b")
        invoice = add(logged.Invoice, ground.using, code="ä\u20ac", number=987654)
        city = add(logged.City, ground.using, country=add(logged.Country, ground.using, code="p"), name="c")
        keys = {str(each): "K" for each in (book.pk, shelf.pk, city.pk, city.country_id)}
        forget_log(ground.using)
        if by_django:
            for each in (book, invoice, city):
                each.delete()
            shelf.delete()
        else:
            api.delete_objects([book, invoice, city, shelf], database=ground.using)
        entries = log_with_data(ground.using)
        found.append(
            [
                (model, {name: keys.get(text, text) for name, text in data["fields"].items()}, data.get("natural_key"))
                for model, _, _, data in entries
            ]
        )

    assert found[0] == found[1]
    assert ("invoice", {"code": "ä\u20ac", "number": "987654"}, ["ä\u20ac"]) in found[0]


@pytest.mark.django_db(databases=DATABASES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        (models.CharField(max_length=9, unique=True), "100 %s"),
        (models.DateTimeField(unique=True), datetime(2026, 10, 25, 1, 30, 0, 7, tzinfo=UTC)),
        (models.DecimalField(max_digits=9, decimal_places=3, unique=True), Decimal("0.100")),
        (models.DurationField(unique=True), None),
        (ArrayField(models.CharField(max_length=9), unique=True), None),
    ],
)
@isolate_apps("tests.logged")
def test_the_database_writes_entries_only_of_values_that_it_tells_as_python_does(
    settings: Any, field: Any, value: Any
) -> None:
    class Parcel(models.Model):
        code = field

        class Meta:
            app_label = "logged"

    settings.SYNCHRO_MODELS = ("logged",)
    with connections[TRIGGERED].schema_editor() as editor:
        editor.create_model(Parcel)
    statement = make_statement(TRIGGERED, Parcel, [])
    assert (statement is None) is (value is None)
    if statement is None:
        return
    parcel = Parcel._base_manager.using(TRIGGERED).create(code=value)

    statement.run([parcel.pk], content_type=1)

    entry = ChangeLog.objects.using(TRIGGERED).latest("pk")
    assert (entry.object_id, entry.action) == (str(parcel.pk), DELETION)
    assert field.to_python(entry.data["fields"]["code"]) == value


def test_rows_that_are_changed_and_members_that_are_lost_are_news(ground: Ground, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    boss, tag = add(logged.Employee, ground.using, name="boss"), add(logged.Tag, ground.using, name="t")
    clerk = add(logged.Employee, ground.using, name="clerk", boss=boss)
    article = add(logged.Article, ground.using, title="a")
    article.tags.add(tag)
    forget_log(ground.using)

    ground.delete(boss, tag)

    assert sorted(read_log(ground.using)) == [
        ("logged.Article", str(article.pk), M2M_CHANGE),
        ("logged.Employee", str(boss.pk), DELETION),
        ("logged.Employee", str(clerk.pk), CHANGE),
        ("logged.Tag", str(tag.pk), DELETION),
    ]
    entry = ChangeLog.objects.using(ground.using).get(action=M2M_CHANGE)
    assert entry.data == {"field": "tags", "added": [], "removed": [str(tag.pk)]}


@pytest.mark.parametrize("pair", pairings(*CROSSED), indirect=True)
def test_what_was_deleted_here_goes_from_the_remote_by_the_log(pair: Pair, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    with ready(pair) as sites:
        shelf, other = add(logged.Shelf, sites.local, name="a"), add(logged.Shelf, sites.local, name="b")
        for one in (shelf, other, shelf):
            add(logged.Book, sites.local, shelf=one, title=f"of {one.name}")
        tag, article = add(logged.Tag, sites.local, name="t"), add(logged.Article, sites.local, title="a")
        article.tags.add(tag)
        sites.send()

        api.delete_objects([shelf, tag], database=sites.local)
        report = sites.send()

        assert not report.failures and not report.conflicts
        assert sites.arrived(logged.Book, "title") == ["of b"]
        assert not sites.there(logged.Tag).exists()
        assert not sites.there(logged.Article.tags.through).exists()
        sites.send_nothing()


def test_nothing_is_logged_where_that_is_disabled_or_nothing_is_watched(ground: Ground, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("logged",)
    one, other = add(logged.Shelf, ground.using, name="a"), add(logged.Shelf, ground.using, name="b")
    forget_log(ground.using)

    with DisableSynchroLog():
        ground.delete(one)
    settings.SYNCHRO_MODELS = ()
    ground.delete(other)

    assert read_log(ground.using) == []


@contextmanager
def triggered(*entries: str) -> Iterator[None]:
    """Let triggers log for the time of the block."""
    with override_settings(SYNCHRO_MODELS=entries, GESTORE_SYNC={"CAPTURE": "triggers"}):
        update_triggers(TRIGGERED)
        yield
    forget_captured()


@pytest.mark.parametrize("ground", on_each(TRIGGERED), indirect=True)
def test_what_triggers_log_is_logged_once(ground: Ground) -> None:
    with triggered("logged"):
        shelf = add(logged.Shelf, ground.using, name="a")
        book = add(logged.Book, ground.using, shelf=shelf, title="b")
        boss = add(logged.Employee, ground.using, name="boss")
        clerk = add(logged.Employee, ground.using, name="clerk", boss=boss)
        forget_log(ground.using)

        ground.delete(shelf, boss)

        assert sorted(read_log(ground.using)) == [
            ("logged.Book", str(book.pk), DELETION),
            ("logged.Employee", str(boss.pk), DELETION),
            ("logged.Employee", str(clerk.pk), CHANGE),
            ("logged.Shelf", str(shelf.pk), DELETION),
        ]


def test_a_database_without_our_tables_will_do(ground: Ground, settings: Any) -> None:
    settings.SYNCHRO_MODELS = ("kinds",)
    shop = make(kinds.Shop, ground.using)
    drop_our_tables(ground.using)

    report = api.delete_objects(shop, database=ground.using)

    assert report.deleted == {"kinds.Shop": 1}


# Trees


@pytest.mark.parametrize(
    "model", [trees.PathNode, trees.SetNode, trees.ListNode, trees.Genre, trees.GenreRenamed, trees.PathUUID]
)
def test_trees_are_in_order_afterwards(ground: Ground, model: Any) -> None:
    with working_on(ground.using):
        nodes = plant(model, "a", "a.b", "a.b.c", "a.b.d", "a.e", "a.e.f", "g", "g.h")

    api.delete_objects([nodes["a.b"], nodes["g"], nodes["a.e.f"]], database=ground.using)

    with working_on(ground.using):
        assert get_families(model) == {None: ["a"], "a": ["a.e"]}
        assert find_problems(model) == []


def test_trees_in_several_tables_are_in_order_afterwards(ground: Ground) -> None:
    with working_on(ground.using):
        nodes = plant(trees.Review, "a", "a.b", "a.b.c", "a.d")
    make(trees.Remark, ground.using, page=trees.Page(pk=nodes["a.b"].pk))

    report = api.delete_objects(nodes["a.b"], database=ground.using)

    assert report.deleted == {"trees.Page": 2, "trees.Article": 2, "trees.Review": 2, "trees.Remark": 1}
    with working_on(ground.using):
        assert find_problems(trees.Page) == []
        assert trees.Page.objects.get(code="a").numchild == 1


# Stored files


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that stores a file."""
    with override_settings(MEDIA_ROOT=str(tmp_path)):
        yield lambda name, text="text": FileSystemStorage().save(name, ContentFile(text))


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_files_stay_without_the_flag(live: Ground, stored: Any, tmp_path: Path) -> None:
    box = make(kinds.Box, live.using)
    make(kinds.Values, live.using, box=box, file=stored("a.txt"))

    live.delete(box)

    assert list_files(tmp_path) == ["a.txt"]


def test_files_go_after_the_commit_unless_another_row_names_them(live: Ground, stored: Any, tmp_path: Path) -> None:
    box, other = make_many(kinds.Box, live.using, 2)
    for name in ("a.txt", "b.txt", "c.txt", "d.txt", "gone.txt"):
        make(kinds.Values, live.using, box=box, file=stored(name) if name != "gone.txt" else name)
    make(kinds.Values, live.using, box=box, file=None)
    make(kinds.Values, live.using, box=other, file="b.txt")
    make(kinds.Picture, live.using, box=other, image="c.txt", width=None, height=None)
    make(kinds.Values, "remote", file="d.txt")

    report = live.delete(box, files=True)

    assert list_files(tmp_path) == ["b.txt", "c.txt", "d.txt"]
    assert "5 stored files go, too, if no other row names them." in report.warnings


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a/b.txt", "a//b.txt"),
        ("a/b.txt", "./a/b.txt"),
        ("a/b.txt", "a/c/../b.txt"),
        ("a/b.txt", "a/b.txt/"),
        ("a//b.txt", "a/b.txt"),
        ("./a/b.txt", "a//b.txt"),
        ("a/b.txt", "{root}/a/b.txt"),
        ("{root}/a/b.txt", "a/b.txt"),
    ],
)
def test_files_stay_that_another_row_names_otherwise(
    live: Ground, stored: Any, tmp_path: Path, ours: str, theirs: str
) -> None:
    stored("a/b.txt")
    box, other = make_many(kinds.Box, live.using, 2)
    make(kinds.Values, live.using, box=box, file=ours.format(root=tmp_path))
    make(kinds.Values, live.using, box=other, file=theirs.format(root=tmp_path))

    live.delete(box, files=True)

    assert list_files(tmp_path) == ["b.txt"]


def test_files_stay_that_another_row_names_in_a_storage_around_or_inside(
    live: Ground, stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored("sub/a.txt")
    stored("sub/b.txt")
    inside = FileSystemStorage(tmp_path / "sub")
    monkeypatch.setattr(kinds.Picture._meta.get_field("image"), "storage", inside)
    box, other = make_many(kinds.Box, live.using, 2)
    make(kinds.Values, live.using, box=box, file="sub/a.txt")
    make(kinds.Picture, live.using, box=other, image="a.txt", width=None, height=None)
    make(kinds.Picture, live.using, box=box, image="b.txt", width=None, height=None)
    make(kinds.Values, live.using, box=other, file="sub/b.txt")

    live.delete(box, files=True)

    assert list_files(tmp_path) == ["a.txt", "b.txt"]


def test_a_file_of_two_names_goes_with_all_rows_that_name_it(live: Ground, stored: Any, tmp_path: Path) -> None:
    stored("a/b.txt")
    box = make(kinds.Box, live.using)
    for name in ("a/b.txt", "a//b.txt"):
        make(kinds.Values, live.using, box=box, file=name)

    live.delete(box, files=True)

    assert list_files(tmp_path) == []


def test_files_stay_where_the_deletion_fails(live: Ground, stored: Any, tmp_path: Path) -> None:
    box = make(kinds.Box, live.using)
    make(kinds.Values, live.using, box=box, file=stored("a.txt"))

    def fail(**sent: Any) -> None:
        raise RuntimeError("no")

    with receiving(post_delete, fail, kinds.Box):
        live.refuse(box, files=True)

    assert list_files(tmp_path) == ["a.txt"]


def test_files_stay_until_the_callers_transaction_has_ended(live: Ground, stored: Any, tmp_path: Path) -> None:
    box = make(kinds.Box, live.using)
    make(kinds.Values, live.using, box=box, file=stored("a.txt"))

    with transaction.atomic(using=live.using):
        api.delete_objects(box, database=live.using, files=True)
        assert list_files(tmp_path) == ["a.txt"]

    assert list_files(tmp_path) == []


def test_a_storage_that_fails_is_told_and_the_other_files_go(
    live: Ground, stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = make(kinds.Box, live.using)
    for name in ("a.txt", "folder/b.txt", "c.txt"):
        make(kinds.Values, live.using, box=box, file=stored(name))
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "inside").write_text("")

    with pytest.raises(FilesLeft, match=r"The rows are deleted, but the storage could not delete the file 'a\.txt'"):
        api.delete_objects(box, database=live.using, files=True)

    assert list_files(tmp_path) == ["inside"]
    assert not live.rows(kinds.Box).exists()


# The backup


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_backup_holds_what_goes_and_what_is_nulled(ground: Ground, tmp_path: Path) -> None:
    shop = make(kinds.Shop, ground.using)
    order = make(kinds.Order, ground.using, shop=shop)
    visit, bookmark = make(kinds.Visit, ground.using, shop=shop), make(kinds.Bookmark, ground.using, shop=shop)
    city = make(kinds.City, ground.using, twin=make(kinds.Country, ground.using, iso="PL"))
    path = tmp_path / "deep" / "backup.json"

    report = ground.delete(shop, city.twin, backup=str(path))

    saved = read(path)
    assert {f"{record['model']}.{record['pk']}" for record in saved["objects"]} == {
        f"kinds.shop.{shop.pk}",
        f"kinds.order.{order.pk}",
        f"kinds.currency.{shop.currency_id}",
        f"kinds.country.{city.twin.pk}",
    }
    assert sorted(saved["detached"], key=lambda link: link["model"]) == [
        {"model": "kinds.bookmark", "field": "shop", "pk": bookmark.pk, "value": shop.pk},
        {"model": "kinds.city", "field": "twin", "pk": city.pk, "value": "PL"},
        {"model": "kinds.visit", "field": "shop", "pk": visit.pk, "value": shop.pk},
    ]
    assert report.location == str(path)


def test_the_backup_remains_where_the_deletion_fails_and_the_error_says_so(ground: Ground, tmp_path: Path) -> None:
    shop = make(kinds.Shop, ground.using)
    path = tmp_path / "backup.json"

    def fail(**sent: Any) -> None:
        raise RuntimeError("no")

    with receiving(pre_delete, fail, kinds.Shop):
        error = ground.refuse(shop, backup=str(path))

    assert str(error).endswith(f"The backup {path} was written and remains.")
    assert read(path)["provided_objects"] == [f"kinds.Shop.{shop.pk}"]


def test_nothing_is_deleted_where_the_backup_cannot_be_written(ground: Ground, tmp_path: Path) -> None:
    shop = make(kinds.Shop, ground.using)
    (tmp_path / "file").write_text("")

    error = ground.refuse(shop, backup=str(tmp_path / "file" / "backup.json"))

    assert str(tmp_path / "file") in str(error)
    assert "remains" not in str(error)


def test_only_a_plan_writes_no_backup(ground: Ground, tmp_path: Path) -> None:
    shop = make(kinds.Shop, ground.using)

    api.delete_objects(shop, database=ground.using, backup=str(tmp_path), debug=True)

    assert list_files(tmp_path) == []


# Others at work


def test_what_comes_in_after_the_plan_was_shown_is_not_deleted_with_the_rest(live: Ground) -> None:
    shop = make(kinds.Shop, live.using)
    make(kinds.Order, live.using, shop=shop)

    def confirm(report: api.Report) -> bool:
        assert report.deleted == {"kinds.Shop": 1, "kinds.Order": 1}
        make(kinds.Order, live.using, shop=shop)
        return True

    with pytest.raises(NotConfirmed, match=r"kinds\.Order\.\d+ came in after the plan was shown"):
        api.delete_objects(shop, database=live.using, confirm=confirm)

    assert live.rows(kinds.Order).count() == 2


def test_a_mention_that_comes_in_after_the_plan_was_shown_is_not_changed(live: Ground) -> None:
    shop = make(kinds.Shop, live.using)

    def confirm(report: api.Report) -> bool:
        make(kinds.Visit, live.using, shop=shop)
        return True

    with pytest.raises(NotConfirmed, match=r"kinds\.Visit"):
        api.delete_objects(shop, database=live.using, confirm=confirm)

    assert live.rows(kinds.Visit).get().shop_id == shop.pk


def test_what_goes_meanwhile_is_no_hindrance(live: Ground) -> None:
    shop = make(kinds.Shop, live.using)
    order = make(kinds.Order, live.using, shop=shop)

    def confirm(report: api.Report) -> bool:
        live.rows(kinds.Order).filter(pk=order.pk).delete()
        return True

    report = api.delete_objects(shop, database=live.using, confirm=confirm)

    assert (report.message, report.deleted) == (DELETED, {"kinds.Shop": 1})


def test_what_is_not_confirmed_is_not_deleted(live: Ground) -> None:
    shop = make(kinds.Shop, live.using)

    with pytest.raises(NotConfirmed):
        api.delete_objects(shop, database=live.using, confirm=lambda report: False)

    assert live.rows(kinds.Shop).exists()


@contextmanager
def meanwhile(act: Callable[[], Any]) -> Iterator[list[Any]]:
    """Do something in another thread when the first order is about to be deleted, once."""
    done: list[Any] = []

    def interfere(**sent: Any) -> None:
        if not done:
            done.append(in_thread(act))

    with receiving(pre_delete, interfere, kinds.Order):
        yield done


@committed
def test_a_row_that_comes_in_while_rows_go_is_never_lost(live: Ground) -> None:
    shop = make(kinds.Shop, live.using)
    make(kinds.Order, live.using, shop=shop)

    with meanwhile(lambda: make(kinds.Order, live.using, shop=shop)) as done:
        error = fail(live, shop)

    assert done
    assert "kinds_order" in str(error)
    assert live.rows(kinds.Shop).exists()
    assert live.rows(kinds.Order).count() == 2
    assert live.delete(shop).deleted == {"kinds.Shop": 1, "kinds.Order": 2}


def fail(live: Ground, root: models.Model, **options: Any) -> WriteFailed:
    """Delete, which must fail; return the error."""
    with pytest.raises(WriteFailed) as caught:
        api.delete_objects(root, database=live.using, **options)
    return caught.value


@committed
def test_a_row_that_others_change_meanwhile_is_deleted_in_a_second_try(live: Ground) -> None:
    shop = make(kinds.Shop, live.using)
    order = make(kinds.Order, live.using, shop=shop)

    with meanwhile(lambda: live.rows(kinds.Order).filter(pk=order.pk).update(number="changed")) as done:
        report = api.delete_objects(shop, database=live.using)

    assert done == [1]
    assert report.deleted == {"kinds.Shop": 1, "kinds.Order": 1}
    assert not live.rows(kinds.Order).exists()


@committed
def test_a_row_that_others_give_away_meanwhile_stays(live: Ground) -> None:
    shop, other = make_many(kinds.Shop, live.using, 2)
    order = make(kinds.Order, live.using, shop=shop)

    with meanwhile(lambda: live.rows(kinds.Order).filter(pk=order.pk).update(shop=other)):
        report = api.delete_objects(shop, database=live.using)

    assert report.deleted == {"kinds.Shop": 1}
    assert live.rows(kinds.Order).get().shop_id == other.pk


@committed
def test_an_orphan_that_is_used_again_meanwhile_stays(live: Ground) -> None:
    shop = make(kinds.Shop, live.using)
    make(kinds.Order, live.using, shop=shop)
    euro = live.rows(kinds.Currency).get()

    with meanwhile(lambda: make(kinds.Shop, live.using, currency=euro)):
        error = fail(live, shop, orphans=True)

    assert "kinds_shop" in str(error)
    assert live.rows(kinds.Shop).count() == 2
    assert live.rows(kinds.Currency).get() == euro

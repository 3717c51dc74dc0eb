from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.models import F
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext

from gestore_sync import api, batches, lookup
from gestore_sync.background import read_beside
from gestore_sync.imprints import read_imprints
from gestore_sync.links import LinkGraph
from gestore_sync.mappings import MappingStore
from gestore_sync.models import IdMapping
from gestore_sync.references import forget_around
from tests.kinds.making import make, make_many
from tests.kinds.models import Box, Clue, Seal, Shop, Values
from tests.policies.models import Article, Brand, Claim, Depot, Parcel, Remark, Scan, Worker
from tests.policies.watching import Watch, execute, pairings


@pytest.fixture
def depot(watch: Watch) -> Depot:
    """A depot with three parcels, that was pushed to a target where other numbers are taken."""
    make_many(Parcel, watch.target, 2)
    depot = make(Depot, watch.source, name="ours")
    brand = make(Brand, watch.source, name="acme")
    for number in ("one", "two", "three"):
        make(Scan, watch.source, parcel=make(Parcel, watch.source, depot=depot, number=number, brand=brand))
    watch.push(depot)
    return depot


def has_imprints(watch: Watch, model: type[Any]) -> list[bool]:
    """Return for each mapping of a model whether it has imprints."""
    rows = IdMapping.objects.using(watch.target).filter(model=model._meta.label_lower).order_by("pk")
    return [None not in pair for pair in rows.values_list("source_imprint", "target_imprint")]


@contextmanager
def without_imprints(watch: Watch) -> Iterator[None]:
    """Let a push recognize nothing; what it does is undone."""
    with transaction.atomic(using=watch.target):
        IdMapping.objects.using(watch.target).update(source_imprint=None, target_imprint=None)
        yield
        transaction.set_rollback(True, using=watch.target)


def compared(watch: Watch, *roots: Any, **options: Any) -> dict[str, Any]:
    """Return what a push would do that recognizes nothing."""
    with without_imprints(watch):
        return watch.synchronize(*roots, dry_run=True, **options).as_dict()


def test_rows_without_news_are_not_read_again(watch: Watch, depot: Depot) -> None:
    with (
        CaptureQueriesContext(connections[watch.source]) as mine,
        CaptureQueriesContext(connections[watch.target]) as theirs,
    ):
        report = watch.push_nothing(depot)

    assert report.unchanged == {"policies.Depot": 1, "policies.Parcel": 3, "policies.Scan": 3}
    carried = [query["sql"] for query in (*mine, *theirs) if '"policies_parcel"."text",' in query["sql"]]
    assert all("hashtextextended(" in sql or "gestore_sync_imprint(" in sql for sql in carried)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_change_that_no_signal_tells_of_is_seen_on_either_side(watch: Watch, depot: Depot, side: str) -> None:
    execute(getattr(watch, side), "UPDATE policies_parcel SET text = 'new' WHERE number = 'two'")

    report = watch.push(depot)

    found = {"updated": report.updated, "skipped": report.skipped}
    parcel = {"policies.Parcel": 1}
    assert found == ({"updated": parcel, "skipped": {}} if side == "source" else {"updated": {}, "skipped": parcel})


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_change_is_seen_among_many_rows_that_are_as_they_were(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    depot = make(Depot, watch.source, name="ours")
    make_many(Parcel, watch.target, 2)
    for number in range(9):
        make(Parcel, watch.source, depot=depot, number=str(number))
    watch.push(depot)
    monkeypatch.setattr(lookup, "KEYS_PER_QUERY", 2)
    execute(getattr(watch, side), "UPDATE policies_parcel SET text = 'new' WHERE number IN ('3', '7')")

    report = watch.push(depot)

    found = {"updated": report.updated, "skipped": report.skipped, "unchanged": report.unchanged["policies.Parcel"]}
    parcels = {"policies.Parcel": 2}
    assert found == {
        "updated": parcels if side == "source" else {},
        "skipped": parcels if side == "target" else {},
        "unchanged": 7,
    }


def test_an_error_of_the_side_that_is_read_beside_is_raised(watch: Watch) -> None:
    rows = watch.on_source(Parcel).values_list("pk")
    broken = rows.extra(where=["no_such_column = 1"])

    with pytest.raises(DatabaseError, match="no_such_column"), transaction.atomic(using=watch.source):
        read_beside(broken, lambda: None)
    with pytest.raises(ZeroDivisionError):
        read_beside(rows, lambda: 1 // 0)


def test_rows_are_read_beside_what_is_done_meanwhile(watch: Watch, depot: Depot) -> None:
    rows = watch.on_source(Parcel).order_by("number").values_list("pk", "number")

    done, found = read_beside(rows, lambda: watch.on_target(Brand).count())

    assert (done, found) == (1, list(rows))


def test_rows_with_large_values_are_taken_in_smaller_batches(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    box = make(Box, watch.source)
    contents = [b"123456", None, b"", b"12345", b"1" * 20]
    keys = [make(Values, watch.source, box=box, binary=content).pk for content in contents]
    monkeypatch.setattr(batches, "MAX_BYTES", 6)

    found = list(batches.iter_batches(Values, watch.source, keys))

    assert found == [keys[:3], keys[3:4], keys[4:]]


def test_the_size_of_values_is_asked_for_many_batches_at_once(
    watch: Watch, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GESTORE_SYNC = {"BATCH_SIZE": 2}
    monkeypatch.setattr(batches, "KEYS_PER_QUERY", 5)
    monkeypatch.setattr(batches, "MAX_BYTES", 80)
    box = make(Box, watch.source)
    sizes = [10, 10, 70, 11, 9, 90, 0]
    keys = [make(Values, watch.source, box=box, binary=b"1" * size).pk for size in sizes]

    with CaptureQueriesContext(connections[watch.source]) as queries:
        found = list(batches.iter_batches(Values, watch.source, keys))

    assert found == [keys[:2], keys[2:3], keys[3:4], keys[4:5], keys[5:6], keys[6:]]
    assert len(queries) == 2


def test_what_the_target_changed_stays_skipped_by_every_later_push(watch: Watch, depot: Depot) -> None:
    watch.on_target(Parcel).filter(number="two").update(text="theirs")

    reports = [watch.push(depot) for _ in range(2)]

    assert [report.skipped for report in reports] == [{"policies.Parcel": 1}] * 2


def test_an_updated_row_is_recognized_afterwards(watch: Watch, depot: Depot) -> None:
    watch.on_source(Parcel).filter(number="two").update(text="new")

    watch.push(depot)

    assert has_imprints(watch, Parcel) == [True] * 3
    watch.push_nothing(depot)


def test_rows_that_the_target_had_already_are_recognized_afterwards(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Article, watch.source, depot=depot, code="a")
    watch.push(depot)
    IdMapping.objects.using(watch.target).filter(model="policies.article").delete()

    watch.push(depot)

    assert has_imprints(watch, Article) == [True]


def test_a_link_that_was_left_out_is_written_when_it_is_taken(watch: Watch) -> None:
    boss = make(Worker, watch.source, email="boss")
    depot = make(Depot, watch.source, name="ours", boss=boss)
    watch.push(depot, ignore=["policies.Depot.boss"])

    watch.push(depot)

    assert watch.on_target(Depot).get(name="ours").boss.email == "boss"


def test_links_without_a_constraint_follow_an_object_that_was_made_anew(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    parcel = make(Parcel, watch.source, depot=depot, number="one")
    type_id = make_type(watch.source)
    remark = make(Remark, watch.source, content_type_id=type_id, object_id=parcel.pk, text="fine")
    watch.push(depot)
    watch.on_target(Parcel).all()._raw_delete(watch.target)
    make_many(Parcel, watch.target, 3)

    watch.push(depot, ignore=["policies.Remark"])
    watch.push(depot)

    arrived = watch.on_target(Parcel).get(number="one")
    assert watch.on_target(Remark).get(text=remark.text).object_id == arrived.pk


def make_type(using: str) -> int:
    """Return the content type of parcels."""
    from django.contrib.contenttypes.models import ContentType

    return ContentType.objects.db_manager(using).get_for_model(Parcel).pk


def test_a_link_that_led_nowhere_is_written_when_its_object_comes(watch: Watch) -> None:
    shop = make(Shop, watch.source)
    make(Clue, watch.source, shop=shop, seal_id=70)
    watch.synchronize(shop)
    make(Seal, watch.source, pk=70)

    watch.synchronize(shop)

    assert watch.on_target(Clue).get().seal_id == watch.on_target(Seal).get().pk


def test_fields_that_only_the_target_changed_are_skipped_also_after_a_merge(watch: Watch, depot: Depot) -> None:
    watch.on_source(Parcel).filter(number="one").update(text="mine")
    watch.on_target(Parcel).filter(number="one").update(weight=7)
    watch.push(depot)

    report = watch.push(depot)

    assert report.skipped == {"policies.Parcel": 1}


def test_links_follow_an_object_whose_row_became_another_one(watch: Watch, depot: Depot) -> None:
    watch.on_source(Brand).update(motto="ours")
    watch.push(depot, own=["policies.Parcel.brand"])
    watch.on_target(Brand).filter(name="acme").update(name="other", motto="theirs")

    watch.push(depot)

    assert {parcel.brand.name for parcel in watch.on_target(Parcel).filter(depot__name="ours")} == {"acme"}


def test_what_a_receiver_makes_of_a_row_is_a_change_of_the_target(watch: Watch) -> None:
    def shout(instance: Parcel, using: str, **_: Any) -> None:
        if using == watch.target:
            Parcel.objects.using(using).filter(pk=instance.pk).update(text="shouted")

    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, number="one")
    post_save.connect(shout, sender=Parcel, weak=False)
    try:
        watch.synchronize(depot)
    finally:
        post_save.disconnect(shout, sender=Parcel)

    report = watch.push(depot)

    assert report.skipped == {"policies.Parcel": 1}


def test_tables_with_triggers_of_others_are_compared(watch: Watch) -> None:
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, number="one", weight=1)
    double(watch.target)
    watch.synchronize(depot)

    report = watch.push(depot)

    assert report.skipped == {"policies.Parcel": 1}
    assert has_imprints(watch, Depot) == [True]


def double(using: str) -> None:
    """Let the database double the weight of every new parcel."""
    if connections[using].vendor == "postgresql":
        execute(
            using,
            "CREATE FUNCTION pg_temp.double() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.weight := NEW.weight * 2; RETURN NEW; END $$",
            "CREATE TRIGGER doubles BEFORE INSERT ON policies_parcel FOR EACH ROW EXECUTE FUNCTION pg_temp.double()",
        )
        return
    execute(
        using,
        "CREATE TRIGGER doubles AFTER INSERT ON policies_parcel "
        "BEGIN UPDATE policies_parcel SET weight = weight * 2 WHERE id = NEW.id; END",
    )


def test_a_conflict_is_told_as_if_nothing_was_recognized(watch: Watch, depot: Depot) -> None:
    watch.on_source(Parcel).filter(number="one").update(text="mine", weight=1)
    watch.on_target(Parcel).filter(number="one").update(text="theirs")
    expected = compared(watch, depot)

    report = watch.synchronize(depot, dry_run=True)

    assert report.as_dict() == expected
    assert len(report.conflicts) == 1


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_a_push_decides_as_if_it_had_compared_everything(watch: Watch, seed: int) -> None:
    chance = random.Random(seed)
    depot = make(Depot, watch.source, name="ours")
    for _ in range(5):
        parcel = make(
            Parcel, watch.source, depot=depot, brand=make(Brand, watch.source) if chance.random() < 0.5 else None
        )
        make(Scan, watch.source, parcel=parcel)
        make(Claim, watch.source, parcel=parcel)
        make(Remark, watch.source, content_type_id=make_type(watch.source), object_id=parcel.pk)
    for _ in range(6):
        for _ in range(chance.randrange(3)):
            disturb(watch, chance, depot)
        ignore = chance.choice([[], ["policies.Parcel.brand"], ["policies.Scan"], ["policies.Remark"]])
        options = {"ignore": ignore, "on_conflict": chance.choice(["newer", "local", "remote"])}

        assert watch.synchronize(depot, dry_run=True, **options).as_dict() == compared(watch, depot, **options)
        watch.synchronize(depot, **options)


def disturb(watch: Watch, chance: random.Random, depot: Depot) -> None:
    """Change, add or delete a row on either side."""
    using = chance.choice([watch.source, watch.target])
    model = chance.choice([Parcel, Scan, Remark, Brand])
    keys = list(model._base_manager.using(using).order_by("pk").values_list("pk", flat=True))
    if not keys:
        return
    of_one = model._base_manager.using(using).filter(pk=chance.choice(keys))
    match chance.randrange(4):
        case 0:
            of_one.update(**{"motto" if model is Brand else "text": str(chance.random())})
        case 1 if model is Parcel:
            of_one.update(brand=Brand._base_manager.using(using).order_by("pk").first())
        case 2 if model is not Brand:
            of_one.delete()
        case 3 if using == watch.source:
            make(Parcel, using, depot=depot)


# What a row's links lead to is somebody else by now


@pytest.fixture
def shared(watch: Watch) -> tuple[Depot, Brand]:
    """A depot of the target that was pushed to the source with its brand, which has a mapping of that direction."""
    brand = make(Brand, watch.target, name="acme", motto="fast")
    theirs = make(Depot, watch.target, name="theirs")
    make(Parcel, watch.target, depot=theirs, number="t", brand=brand)
    api.synchronize([theirs], source=watch.target, remote=watch.source)
    return theirs, watch.on_source(Brand).get(name="acme")


def look_at_brands(watch: Watch) -> list[tuple[str, str | None]]:
    return list(watch.on_target(Parcel).order_by("number").values_list("number", "brand__name"))


def expect_brands(watch: Watch, depot: Depot) -> list[tuple[str, str | None]]:
    """Return what would be seen after a push that recognizes nothing."""
    with without_imprints(watch):
        watch.synchronize(depot)
        return look_at_brands(watch)


def give_away(watch: Watch, theirs: Depot, brand: Brand) -> None:
    """Let the source make another brand of its row, so that the target's next push makes a row of its own for it."""
    watch.on_source(Brand).filter(pk=brand.pk).update(name="other", motto="slow")
    api.synchronize([theirs], source=watch.target, remote=watch.source, on_conflict="remote")


def test_a_row_is_compared_whose_link_the_other_direction_has_moved(watch: Watch, shared: tuple[Depot, Brand]) -> None:
    theirs, brand = shared
    depot = make(Depot, watch.source, name="ours")
    make(Parcel, watch.source, depot=depot, number="r", brand=brand)
    watch.synchronize(depot)
    give_away(watch, theirs, brand)
    expected = expect_brands(watch, depot)

    watch.synchronize(depot)

    assert look_at_brands(watch) == expected == [("r", "other"), ("t", "acme")]


def test_a_row_is_compared_whose_link_was_moved_before_an_earlier_push(
    watch: Watch, shared: tuple[Depot, Brand]
) -> None:
    theirs, brand = shared
    depot, second = make(Depot, watch.source, name="ours"), make(Depot, watch.source, name="second")
    make(Parcel, watch.source, depot=depot, number="r", brand=brand)
    watch.synchronize(depot)
    give_away(watch, theirs, brand)
    make(Parcel, watch.source, depot=second, number="q", brand=brand)
    watch.synchronize(second)
    expected = expect_brands(watch, depot)

    watch.synchronize(depot)

    assert look_at_brands(watch) == expected == [("q", "other"), ("r", "other"), ("t", "acme")]


def test_a_link_that_led_away_and_back_leads_to_the_new_counterpart(watch: Watch) -> None:
    shop = make(Shop, watch.source)
    make_many(Seal, watch.target, 3)
    one, two = make(Seal, watch.source, title="one"), make(Seal, watch.source, title="two")
    clue = make(Clue, watch.source, shop=shop, seal=one)
    make(Clue, watch.source, shop=shop, seal=two)
    watch.synchronize(shop)
    watch.on_target(Seal).filter(title="one")._raw_delete(watch.target)
    watch.on_source(Clue).filter(pk=clue.pk).update(seal=two)
    watch.synchronize(one)
    watch.on_source(Clue).filter(pk=clue.pk).update(seal=one)

    watch.synchronize(shop)

    seals = dict(watch.on_target(Seal).values_list("pk", "title"))
    found = watch.on_target(Clue).values_list("seal_id", flat=True)
    assert sorted(seals.get(seal, "none") for seal in found) == ["one", "two"]


def test_what_names_a_row_whose_key_another_origin_takes_is_compared_again(watch: Watch) -> None:
    shop, seal = make(Shop, watch.source), make(Seal, watch.source)
    make(Clue, watch.source, shop=shop, seal=seal)
    watch.synchronize(shop)
    other = MappingStore("pg_local" if watch.source == "default" else "default", watch.target)
    other.origin = 0
    key = watch.on_target(Clue).values_list("seal_id", flat=True).get()

    other.forget(Seal, [key])
    forget_around(other, LinkGraph(other.source, [], [Seal, Clue, Shop]))

    assert has_imprints(watch, Clue) == [False]


# What changes a row in the same run


@pytest.mark.parametrize("signal", [pre_save, post_save], ids=["pre_save", "post_save"])
def test_a_row_that_a_receiver_changes_too_is_compared_by_the_next_push(
    watch: Watch, depot: Depot, signal: Any
) -> None:
    sender, path = (Parcel, "pk") if signal is pre_save else (Scan, "parcel_id")

    def receiver(instance: Any, using: str, **kwargs: Any) -> None:
        if using == watch.target:
            watch.on_target(Parcel).filter(pk=getattr(instance, path)).update(weight=F("weight") + 1)

    watch.on_source(Parcel).filter(number="two").update(text="new", weight=5)
    watch.push(depot)
    watch.on_source(Parcel).filter(number="two").update(text="newer")
    make(Scan, watch.source, parcel=watch.on_source(Parcel).get(number="two"))
    signal.connect(receiver, sender=sender)
    try:
        watch.synchronize(depot)
    finally:
        signal.disconnect(receiver, sender=sender)
    assert watch.on_target(Parcel).get(number="two").weight == 6

    watch.synchronize(depot, on_conflict="local")

    assert watch.on_target(Parcel).get(number="two").weight == 5


def test_columns_with_the_same_values_make_another_row(watch: Watch) -> None:
    parcel = make(Parcel, watch.source, number="same", text="same")
    named = {name: Parcel._meta.get_field(name) for name in ("number", "text")}

    found = {name: read_imprints(Parcel, watch.source, [parcel.pk], [field]) for name, field in named.items()}

    assert found["number"] != found["text"]


def test_rows_of_both_kinds_are_noted_in_one_batch(watch: Watch) -> None:
    """One that is mapped already and changed, and one that both sides have and that is not mapped."""
    depot = make(Depot, watch.source, name="ours")
    make(Article, watch.source, depot=depot, code="a", title="one")
    watch.push(depot)
    make(Article, watch.target, depot=watch.on_target(Depot).get(name="ours"), code="b", title="theirs")
    make(Article, watch.source, depot=depot, code="b", title="ours")
    watch.on_source(Article).filter(code="a").update(title="two")

    report = watch.push(depot)

    assert (report.updated, has_imprints(watch, Article)) == ({"policies.Article": 2}, [True, True])


@pytest.mark.parametrize("pair", pairings("postgresql-sqlite"), indirect=True)
def test_a_number_that_the_target_keeps_only_in_part_is_compared_again(watch: Watch) -> None:
    values = make(Values, watch.source, decimal=Decimal("12345678901234567890.0123456789"))
    watch.synchronize(values)
    assert watch.on_target(Values).get().decimal != values.decimal

    report = watch.synchronize(values, dry_run=True)

    assert report.as_dict() == compared(watch, values)
    assert not report.unchanged

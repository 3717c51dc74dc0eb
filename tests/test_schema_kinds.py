from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import models
from django.test import override_settings

from gestore_sync.conf import get_signal_mode
from tests.conftest import Pair
from tests.kinds.making import make_crowd, make_many
from tests.kinds.models import Coin, Letterpost, Poem, Shipment, Verse
from tests.kinds.pushing import Sync, watched


@pytest.fixture(params=["raw", "save", "none"])
def sync(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Sync]:
    """A push in each of the ways in which rows may be written."""
    with override_settings(GESTORE_SYNC={"SIGNALS": request.param}), watched(pair) as sync:
        yield sync


def test_a_small_automatic_key_is_given_anew(sync: Sync) -> None:
    make_crowd(sync.target, Coin)
    one, two = make_many(Coin, sync.source, 2)

    sync.push(one, two)

    assert sync.on_target(Coin).count() == 4
    assert sync.on_target(Coin).filter(name__in=[one.name, two.name]).count() == 2
    sync.assert_nothing_to_do(one, two)


def test_a_child_of_a_parent_whose_key_has_a_default_arrives(sync: Sync) -> None:
    make_crowd(sync.target, Shipment, Letterpost)
    sent = Letterpost(name="ours", stamps=3)
    sent.save(using=sync.source)

    sync.push(sent)

    arrived = sync.on_target(Letterpost).get(pk=sent.pk)
    assert (arrived.name, arrived.stamps) == ("ours", 3)
    sync.assert_nothing_to_do(sent)


def test_verses_keep_their_order(sync: Sync) -> None:
    make_crowd(sync.target, Poem, Verse)
    poem = Poem(name="ours")
    poem.save(using=sync.source)
    verses = [Verse(poem=poem, text=text) for text in ("one", "two", "three")]
    for verse in verses:
        verse.save(using=sync.source)
    sync.on_source(Verse).filter(text="one").update(_order=5)

    sync.push(poem)

    sync.assert_nothing_to_do(poem)
    if get_signal_mode("kinds.Verse") == "save":  # where Django numbers them itself
        assert sorted(read_order(sync.on_target(Verse))) == ["one", "three", "two"]
        return
    assert read_order(sync.on_target(Verse)) == read_order(sync.on_source(Verse)) == ["two", "three", "one"]


def read_order(verses: models.QuerySet[Verse]) -> list[str]:
    """Return the texts of the verses of our poem, in their order."""
    return list(verses.filter(poem__name="ours").order_by("_order").values_list("text", flat=True))

"""Three sites that each send to the others: an object that two know from the third is one, whatever its keys are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gestore_sync import DisableSynchroLog
from gestore_sync.exceptions import UnresolvedConflicts
from tests.conftest import DATABASES, Pair
from tests.logged.models import Article, Employee, Product, Tag, Team
from tests.logged.sites import Sites, add, change, ready
from tests.policies.watching import restart_numbers

MIXED = [("default", "remote", "pg_remote"), ("pg_local", "pg_remote", "default")]


@dataclass
class Three:
    """The sites a, b and c."""

    a: str
    b: str
    c: str

    def send(self, source: str, target: str, *roots: Any) -> Any:
        """Send what is pending, or roots; nothing may be left."""
        report = Sites(source, target).send(*roots)
        assert (report.failures, report.get_unresolved()) == ([], [])
        return report

    def spread(self) -> None:
        """Let a send to both others."""
        self.send(self.a, self.b)
        self.send(self.a, self.c)

    def at(self, using: str, model: Any = Product) -> Any:
        """All rows of a model that a site has."""
        return Sites(using, using).here(model)


@pytest.fixture(
    params=[
        pytest.param(names, id="-".join(names), marks=pytest.mark.django_db(databases=DATABASES)) for names in MIXED
    ]
)
def three(request: pytest.FixtureRequest, settings: Any) -> Iterator[Three]:
    settings.SYNCHRO_MODELS = ("logged",)
    a, b, c = request.param
    with ready(Pair(a, b)):
        restart_numbers(c, ("logged",))
        yield Three(a, b, c)


def test_what_two_sites_have_from_a_third_is_one_object(three: Three) -> None:
    add(Product, three.b, name="in the way of the key")
    add(Product, three.a, name="lamp")
    three.spread()
    change(three.at(three.b).get(name="lamp"), price=5)

    three.send(three.b, three.c)

    assert sorted(three.at(three.c).values_list("name", "price")) == [("in the way of the key", 0), ("lamp", 5)]


def test_the_changes_of_all_sites_meet_in_one_object(three: Three) -> None:
    add(Product, three.a, name="lamp")
    three.spread()
    change(three.at(three.a).get(), name="lantern")
    change(three.at(three.b).get(), price=5)
    change(three.at(three.c).get(), text="bright")

    for source in (three.a, three.b, three.c):
        for target in (three.a, three.b, three.c):
            if target != source:
                three.send(source, target)

    for site in (three.a, three.b, three.c):
        assert list(three.at(site).values_list("name", "price", "text")) == [("lantern", 5, "bright")]


def test_what_went_by_two_sites_to_a_third_is_one_object(three: Three) -> None:
    lamp = add(Product, three.a, name="lamp")
    three.spread()
    change(three.at(three.c).get(), price=7)
    three.send(three.c, three.b)
    three.send(three.b, three.c, three.at(three.b).get())
    change(lamp, text="bright")
    three.spread()

    for site in (three.b, three.c):
        assert list(three.at(site).values_list("price", "text")) == [(7, "bright")]


def test_a_renamed_object_is_known_by_the_site_that_it_came_from(three: Three) -> None:
    add(Tag, three.a, name="old")
    three.spread()
    change(three.at(three.b, Tag).get(), name="new")

    three.send(three.b, three.c)

    assert list(three.at(three.c, Tag).values_list("name", flat=True)) == ["new"]


def test_another_object_may_have_the_name_that_it_had(three: Three) -> None:
    add(Tag, three.a, name="red")
    three.spread()
    change(three.at(three.b, Tag).get(), name="dark red")
    add(Tag, three.b, name="red")

    three.send(three.b, three.c)

    first = three.at(three.c, Tag).order_by("pk").first()
    assert first.name == "dark red"
    assert sorted(three.at(three.c, Tag).values_list("name", flat=True)) == ["dark red", "red"]


def test_another_object_may_have_the_name_that_one_from_the_target_had(three: Three) -> None:
    add(Tag, three.a, name="red")
    three.send(three.a, three.b)
    change(three.at(three.b, Tag).get(), name="dark red")
    add(Tag, three.b, name="red")

    three.send(three.b, three.a)

    first = three.at(three.a, Tag).order_by("pk").first()
    assert first.name == "dark red"
    assert sorted(three.at(three.a, Tag).values_list("name", flat=True)) == ["dark red", "red"]


def test_a_name_is_not_taken_from_an_object_that_was_not_sent_yet(three: Three) -> None:
    add(Tag, three.a, name="red")
    three.spread()
    received = three.at(three.b, Tag).get()
    with DisableSynchroLog():
        change(received, name="dark red")
    add(Tag, three.b, name="red")

    report = Sites(three.b, three.c).send()

    (conflict,) = report.get_unresolved()
    assert "take what logged.Tag.1 stands for into the same run" in conflict["reason"]
    change(received, name="darker red")
    three.send(three.b, three.c)
    assert list(three.at(three.c, Tag).order_by("pk").values_list("name", flat=True)) == ["darker red", "red"]


def test_a_row_that_already_stands_for_another_object_is_left_to_it(three: Three) -> None:
    ours = add(Tag, three.b, name="red")
    three.send(three.b, three.c)
    add(Tag, three.a, name="red")
    three.send(three.a, three.c)
    with DisableSynchroLog():
        change(ours, name="dark red")
    three.send(three.a, three.b)
    received = three.at(three.b, Tag).get(name="red")

    with pytest.raises(UnresolvedConflicts, match="already has the values of its natural key"):
        three.send(three.b, three.c, received)

    assert list(three.at(three.c, Tag).values_list("name", flat=True)) == ["red"]


def test_members_of_many_to_many_fields_meet_in_one_row(three: Three) -> None:
    article = add(Article, three.a, title="news")
    article.tags.add(add(Tag, three.a, name="red"))
    three.spread()
    change(three.at(three.b, Article).get(), text="more")

    three.send(three.b, three.c)

    assert three.at(three.c, Article).get().tags.count() == 1
    assert three.at(three.c, Article.tags.through).count() == 1


def test_a_key_that_was_used_again_here_is_not_what_the_third_site_sent(three: Three) -> None:
    add(Product, three.a, name="lamp")
    three.spread()
    received = three.at(three.b).get()
    key = received.pk
    received.delete()
    add(Product, three.b, pk=key, name="chair")

    three.send(three.b, three.c)

    assert "chair" in three.at(three.c).values_list("name", flat=True)
    assert three.at(three.c).exclude(name="chair").filter(name="lamp").count() <= 1
    assert not three.at(three.c).filter(name="chair", pk=three.at(three.c).order_by("pk").first().pk).exists()


def test_a_key_that_was_used_again_there_is_not_what_the_third_site_sent(three: Three) -> None:
    add(Product, three.a, name="lamp")
    three.spread()
    received = three.at(three.c).get()
    key = received.pk
    received.delete()
    add(Product, three.c, pk=key, name="chair")
    change(three.at(three.b).get(), price=5)

    three.send(three.b, three.c)

    assert three.at(three.c).get(pk=key).name == "chair"
    assert sorted(three.at(three.c).values_list("name", "price")) == [("chair", 0), ("lamp", 5)]


def test_what_one_of_the_sites_deletes_is_deleted_at_the_others(three: Three) -> None:
    add(Product, three.a, name="lamp")
    three.spread()
    three.at(three.b).get().delete()

    three.send(three.b, three.c)
    three.send(three.b, three.a)

    assert [three.at(site).count() for site in (three.a, three.b, three.c)] == [0, 0, 0]


def test_a_link_to_what_a_third_site_sent_leads_to_the_same(three: Three) -> None:
    person = add(Employee, three.a, name="Ada")
    three.spread()
    add(Team, three.b, name="green", lead=three.at(three.b, Employee).get())

    three.send(three.b, three.c)

    assert three.at(three.c, Employee).count() == 1
    assert three.at(three.c, Team).get().lead.name == person.name


def test_a_row_that_already_stands_for_an_object_here_is_that_of_no_other(three: Three) -> None:
    add(Product, three.a, name="lamp")
    three.spread()
    lamp = three.at(three.b).get()
    change(lamp, price=5)
    three.send(three.b, three.c)
    row = three.at(three.c).get()

    change(lamp, price=6)
    report = three.send(three.b, three.c)

    assert report.updated == {"logged.Product": 1}
    assert list(three.at(three.c).values_list("pk", "price")) == [(row.pk, 6)]

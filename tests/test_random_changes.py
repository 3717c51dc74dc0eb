"""Random changes on two sites, with runs in both directions in between: in the end both hold the same."""

from __future__ import annotations

import itertools
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import models
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import Pair
from tests.kinds.pushing import rows
from tests.logged.models import (
    Account,
    Agency,
    Article,
    Author,
    Authorship,
    City,
    Comment,
    Country,
    Employee,
    Opera,
    Page,
    Product,
    Reading,
    Tag,
    Team,
    Ticket,
)
from tests.logged.sites import NO_CHANGES, Sites, add, change, ready, undone, written

State = dict[str, dict[str, Any]]
COMMON = ("c1", "c2", "d1", "d2")
"""Tags that both sites have from the beginning. On shared articles one site cares for c, the other one for d."""


class World:
    """Two sites, and what both should hold in the end.

    Objects belong to the site that made them, which alone changes and deletes them; those that are shared are changed
    by both, each of them in fields, or members, of its own.
    """

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.numbers = itertools.count(1)
        self.disputed: set[tuple[str, str]] = set()
        self.expected: State = {name: {} for name in ("products", "countries", "cities", "articles", "readings")}
        for using in (sites.local, sites.remote):
            for name in COMMON:
                add(Tag, using, name=name)
        add(Product, sites.remote, name="theirs alone")
        self.expected["products"]["theirs alone"] = ("", 0)

    def do(self, what: str, is_ours: bool, pick: int, value: int) -> None:
        """Do one thing on one site, if there is something to do it with."""
        self.using = self.sites.local if is_ours else self.sites.remote
        self.prefix = "ours" if is_ours else "theirs"
        self.pick, self.value = pick, value
        getattr(self, what)()

    def choose(self, model: type[models.Model], name: str, prefix: str | None = None) -> Any:
        """Some object of the site, or None."""
        found = rows(model, self.using).filter(**{f"{name}__startswith": f"{prefix or self.prefix} "})
        objects = list(found.order_by(name))
        return objects[self.pick % len(objects)] if objects else None

    def make_name(self, prefix: str | None = None) -> str:
        """A name that no object has had."""
        return f"{prefix or self.prefix} {next(self.numbers):03}"

    # Products have nothing but a number

    def add_product(self) -> None:
        name = self.make_name()
        add(Product, self.using, name=name, price=self.value)
        self.expected["products"][name] = ("", self.value)

    def change_product(self) -> None:
        product = self.choose(Product, "name")
        if product is not None:
            change(product, text=f"text {self.value}", price=self.value)
            self.expected["products"][product.name] = (product.text, product.price)

    def delete_product(self) -> None:
        product = self.choose(Product, "name")
        if product is not None:
            del self.expected["products"][product.name]
            product.delete()

    def replace_product(self) -> None:
        """Another object gets the number of a deleted one."""
        product = self.choose(Product, "name")
        if product is not None:
            pk = product.pk
            self.delete_product()
            name = self.make_name()
            add(Product, self.using, pk=pk, name=name)
            self.expected["products"][name] = ("", 0)

    def undo_product(self) -> None:
        """An object is gone before anybody hears of it."""
        add(Product, self.using, name=self.make_name()).delete()

    def share_product(self) -> None:
        name = self.make_name("shared")
        add(Product, self.using, name=name)
        self.expected["products"][name] = ("", 0)

    def change_shared_product(self) -> None:
        product = self.choose(Product, "name", "shared")
        if product is not None:
            text, price = self.expected["products"][product.name]
            if self.prefix == "ours":
                change(product, text=f"text {self.value}")
                self.expected["products"][product.name] = (product.text, price)
            else:
                change(product, price=self.value)
                self.expected["products"][product.name] = (text, product.price)

    def dispute_product(self) -> None:
        add(Product, self.using, name=self.make_name("disputed"))

    def change_disputed_product(self) -> None:
        product = self.choose(Product, "name", "disputed")
        if product is not None:
            self.disputed.add((self.using, str(product.pk)))
            change(product, **{("text", "price")[self.pick % 2]: self.value})

    def delete_disputed_product(self) -> None:
        product = self.choose(Product, "name", "disputed")
        if product is not None:
            self.disputed.add((self.using, str(product.pk)))
            product.delete()

    # Countries and cities have keys

    def add_country(self) -> None:
        name = self.make_name()
        add(Country, self.using, code=name, name=name)
        self.expected["countries"][name] = name

    def rename_country(self) -> None:
        country = self.choose(Country, "code")
        if country is not None:
            old, new = country.code, self.make_name()
            change(country, code=new)
            countries, cities = self.expected["countries"], self.expected["cities"]
            countries[new] = countries.pop(old)
            for code, name in [key for key in cities if key[0] == old]:
                cities[new, name] = cities.pop((code, name))

    def delete_country(self) -> None:
        """The cities go with it."""
        country = self.choose(Country, "code")
        if country is not None:
            cities = self.expected["cities"]
            for key in [key for key in cities if key[0] == country.code]:
                del cities[key]
            del self.expected["countries"][country.code]
            country.delete()

    def replace_country(self) -> None:
        """Another object gets the key of a deleted one."""
        country = self.choose(Country, "code")
        if country is not None:
            self.delete_country()
            name = self.make_name()
            add(Country, self.using, code=country.code, name=name)
            self.expected["countries"][country.code] = name

    def save_city(self) -> None:
        country = self.choose(Country, "code")
        if country is not None:
            name, motto = f"{self.prefix} {self.value}", self.make_name()
            city = rows(City, self.using).filter(country=country, name=name).first()
            if city is None:
                add(City, self.using, country=country, name=name, motto=motto)
            else:
                change(city, motto=motto)
            self.expected["cities"][country.code, name] = motto

    def delete_city(self) -> None:
        city = self.choose(City, "name")
        if city is not None:
            del self.expected["cities"][city.country.code, city.name]
            city.delete()

    # Articles have members

    def add_article(self) -> None:
        name = self.make_name()
        add(Article, self.using, title=name)
        self.expected["articles"][name] = set()

    def set_members(self) -> None:
        article = self.choose(Article, "title")
        if article is not None:
            tags = list(rows(Tag, self.using).filter(name__in=COMMON).order_by("name"))[self.value :]
            article.tags.set(tags)
            self.expected["articles"][article.title] = {tag.name for tag in tags}

    def add_new_member(self) -> None:
        article = self.choose(Article, "title")
        if article is not None:
            tag = add(Tag, self.using, name=self.make_name())
            tag.articles.add(article)
            self.expected["articles"][article.title].add(tag.name)

    def delete_tag(self) -> None:
        tag = self.choose(Tag, "name")
        if tag is not None:
            for members in self.expected["articles"].values():
                members.discard(tag.name)
            tag.delete()

    def delete_article(self) -> None:
        article = self.choose(Article, "title")
        if article is not None:
            del self.expected["articles"][article.title]
            article.delete()

    def share_article(self) -> None:
        name = self.make_name("shared")
        add(Article, self.using, title=name)
        self.expected["articles"][name] = set()

    def change_shared_members(self) -> None:
        article = self.choose(Article, "title", "shared")
        if article is not None:
            letter = "c" if self.prefix == "ours" else "d"
            tag = rows(Tag, self.using).get(name=f"{letter}{self.value % 2 + 1}")
            members = self.expected["articles"][article.title]
            if tag.name in members:
                article.tags.remove(tag)
            else:
                article.tags.add(tag)
            members ^= {tag.name}

    # Readings are changed in bulk

    def bulk_create(self) -> None:
        readings = [Reading(code=self.make_name(), value=self.value) for _ in range(self.value + 1)]
        Reading.objects.using(self.using).bulk_create(readings)
        self.expected["readings"].update({reading.code: reading.value for reading in readings})

    def bulk_change(self) -> None:
        found = Reading.objects.using(self.using).filter(code__startswith=f"{self.prefix} ", value__lt=self.value)
        codes = list(found.values_list("code", flat=True))
        found.update(value=self.value)
        self.expected["readings"].update(dict.fromkeys(codes, self.value))

    def bulk_delete(self) -> None:
        found = Reading.objects.using(self.using).filter(code__startswith=f"{self.prefix} ", value=self.value)
        for code in found.values_list("code", flat=True):
            del self.expected["readings"][code]
        found._raw_delete(self.using)

    # Runs

    def send(self) -> None:
        """Send what one of the sites has, in one way or another."""
        ways: list[dict[str, bool]] = [{}, {"strict": True}, {"reconcile": True}, {"dry_run": True}]
        self.send_from(self.sites if self.prefix == "ours" else self.sites.back, **ways[self.value])

    def send_root(self) -> None:
        """Send what changed in one article only."""
        article = self.choose(Article, "title")
        if article is not None:
            self.send_from(self.sites if self.prefix == "ours" else self.sites.back, article, changes=True)

    def send_from(self, sites: Sites, *roots: models.Model, **options: Any) -> str:
        """Send, with nothing that fails; fields that different sites changed may be merged."""
        report = sites.send(*roots, **options)
        assert (report.failures, report.get_unresolved()) == ([], [])
        for conflict in report.conflicts:
            is_disputed = (sites.local, conflict["pk"]) in self.disputed
            assert conflict["resolved"] == "merged" or (conflict["model"] == "logged.Product" and is_disputed), conflict
        return report.message

    def check(self) -> None:
        """Send in both directions; both sites hold what is expected, and there is nothing left to send."""
        theirs = read(self.sites.remote)
        self.send_from(self.sites)
        for kind, of_kind in read(self.sites.remote).items():
            kept = {key for key in theirs[kind] if key in self.expected[kind]}
            assert kept <= of_kind.keys(), f"{kind} of the remote are gone"
        self.send_from(self.sites.back)
        ours, theirs = read(self.sites.local), read(self.sites.remote)
        assert ours == theirs
        for name in [name for name in ours["products"] if name.startswith("disputed")]:
            del ours["products"][name]
        assert ours == self.expected
        for sites in (self.sites, self.sites.back):
            report = sites.send()
            assert (report.message, written(report)) == (NO_CHANGES, {})


def read(using: str) -> State:
    """What a site holds, without its numbers; an object that is there twice is an error."""
    found: dict[str, list[tuple[Any, Any]]] = {
        "products": [(row.name, (row.text, row.price)) for row in rows(Product, using)],
        "countries": [(row.code, row.name) for row in rows(Country, using)],
        "cities": [((row.country.code, row.name), row.motto) for row in rows(City, using)],
        "articles": [(row.title, {tag.name for tag in row.tags.all()}) for row in rows(Article, using)],
        "readings": [(row.code, row.value) for row in rows(Reading, using)],
        "tags": [(row.name, None) for row in rows(Tag, using)],
    }
    for kind, objects in found.items():
        assert len({key for key, _ in objects}) == len(objects), f"{kind} are there twice: {objects}"
    return {kind: dict(objects) for kind, objects in found.items() if kind != "tags"}


CHANGES = [
    name
    for name, member in vars(World).items()
    if callable(member) and not name.startswith("_") and name.partition("_")[0] not in ("do", "choose", "make", "check")
]
CHANGES.remove("send_from")


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from([*CHANGES, *["send"] * 6]),
            st.booleans(),
            st.integers(0, 5),
            st.integers(0, 3),
        ),
        min_size=10,
        max_size=50,
    ),
    batch_size=st.sampled_from([1, 3, 10_000]),
    retention=st.sampled_from([timedelta(), timedelta(days=30)]),
)
def test_two_sites_hold_the_same_after_any_changes(
    pair: Pair, changes: list[tuple[str, bool, int, int]], batch_size: int, retention: timedelta
) -> None:
    with (
        undone(pair.source),
        undone(pair.target),
        override_settings(
            SYNCHRO_MODELS=("logged",), GESTORE_SYNC={"BATCH_SIZE": batch_size, "LOG_RETENTION": retention}
        ),
        ready(pair) as sites,
    ):
        world = World(sites)

        for one in changes:
            world.do(*one)

        world.check()


# One direction, and every kind of model


KINDS: dict[type[models.Model], str] = {
    Product: "name",
    Country: "code",
    City: "name",
    Ticket: "title",
    Page: "title",
    Opera: "name",
    Tag: "name",
    Author: "name",
    Agency: "name",
    Article: "title",
    Authorship: "share",
    Team: "name",
    Employee: "name",
    Comment: "text",
    Account: "name",
}
"""What tells one object from the other, by model."""
SUBJECTS = [Product, Opera, Ticket, Page, Article]


class Site:
    """Objects of every kind, which are added, changed, tied together and deleted at random."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.using = sites.local
        self.numbers = itertools.count(100)

    def find(self, model: type[models.Model], pick: int) -> Any:
        """Some object of a model, or None."""
        found = list(rows(model, self.using).order_by(KINDS[model]))
        return found[pick % len(found)] if found else None

    def do(self, what: str, kind: int, pick: int, value: int) -> None:
        """Do one thing with some object, or of some model."""
        model = list(KINDS)[kind % len(KINDS)]
        if what == "add":
            self.add(model, pick)
        elif what == "send":
            self.send()
        elif (instance := self.find(model, pick)) is not None:
            getattr(self, what)(instance, value)

    def add(self, model: type[models.Model], pick: int) -> None:
        """Add an object, if there is what it needs."""
        number = next(self.numbers)
        values: dict[str, Any] = {KINDS[model]: number if model is Authorship else f"n{number}"}
        if model is Page:
            values["path"] = f"page/{number}"
        if model is Comment:
            values["subject"] = self.find(SUBJECTS[pick % len(SUBJECTS)], pick)
        for field in model._meta.local_concrete_fields:
            if isinstance(field, models.ForeignKey) and model is not Comment and not is_parent(field):
                values[field.name] = self.find(field.related_model, pick)
        nulls = {name for name, value in values.items() if value is None}
        if nulls <= {field.name for field in model._meta.fields if field.null}:
            add(model, self.using, **values)

    def change(self, instance: Any, value: int) -> None:
        """Change a text or a number that identifies nothing."""
        for name in ("text", "price", "motto", "seats", "composer", "cash"):
            if hasattr(instance, name) and not isinstance(instance, Comment):
                change(instance, **{name: value})

    def save(self, instance: Any, value: int) -> None:
        """Save it as it is."""
        instance.save()

    def tie(self, instance: Any, value: int) -> None:
        """Let its optional links lead elsewhere."""
        for field in type(instance)._meta.fields:
            if isinstance(field, models.ForeignKey) and field.null:
                change(instance, **{field.name: self.find(field.related_model, value) if value else None})

    def set_members(self, instance: Any, value: int) -> None:
        """Give it other members."""
        for field in type(instance)._meta.many_to_many:
            if field.remote_field.through._meta.auto_created:
                members = list(rows(field.related_model, self.using).order_by(KINDS[field.related_model]))
                getattr(instance, field.name).set(members[value : value + 2])

    def clear_members(self, instance: Any, value: int) -> None:
        """Take it out wherever it is a member."""
        for field in type(instance)._meta.related_objects:
            if field.many_to_many and field.related_name and not field.hidden:
                getattr(instance, field.get_accessor_name()).clear()

    def delete(self, instance: Any, value: int) -> None:
        """Delete it with the comments about it, if nothing protects it."""
        for comment in rows(Comment, self.using):
            if comment.subject == instance:
                comment.delete()
        with suppress(models.ProtectedError):
            instance.delete()

    def send(self) -> None:
        """Send, with nothing that fails or waits for a decision.

        What a deletion nulled on the target counts as changed there, when the row itself is deleted later.
        """
        report = self.sites.send()
        open_conflicts = [
            conflict for conflict in report.conflicts if "the source deleted it" not in conflict["reason"]
        ]
        assert (report.failures, report.get_unresolved(), open_conflicts) == ([], [], [])


def is_parent(field: models.Field[Any, Any]) -> bool:
    """Whether a column leads to a row's parent in another table."""
    return bool(field.remote_field and getattr(field.remote_field, "parent_link", False))


def describe(using: str) -> dict[tuple[str, Any], dict[str, Any]]:
    """All objects of a database by what names them, with links as names; one that is there twice is an error."""
    found: dict[tuple[str, Any], dict[str, Any]] = {}
    for model in KINDS:
        for instance in rows(model, using):
            values: dict[str, Any] = {}
            for field in model._meta.concrete_fields:
                if isinstance(field, models.ForeignKey):
                    if not is_parent(field) and field.related_model in KINDS:
                        values[field.name] = name_of(getattr(instance, field.name))
                elif not isinstance(field, models.AutoField):
                    values[field.name] = getattr(instance, field.name)
            for many in model._meta.many_to_many:
                values[many.name] = {name_of(member) for member in getattr(instance, many.name).all()}
            if model is Comment:
                values = {"text": instance.text, "subject": name_of(instance.subject)}
            key = name_of(instance)
            assert key is not None and key not in found, f"{key} is there twice"
            found[key] = values
    return found


def name_of(instance: Any) -> tuple[str, Any] | None:
    """What names an object on every site."""
    if instance is None:
        return None
    model = type(instance)
    own = getattr(instance, KINDS[model])
    return model.__name__, (own, instance.country.code) if model is City else own


def add_theirs(using: str) -> None:
    """Give the remote site objects of its own, some of which know each other."""
    products = [add(Product, using, name=f"theirs {number}") for number in range(3)]
    opera = add(Opera, using, name="theirs", seats=5)
    add(Comment, using, subject=opera, text="theirs")
    add(Comment, using, subject=products[1], text="theirs too")
    team = add(Team, using, name="theirs")
    change(team, lead=add(Employee, using, name="theirs", team=team))
    article = add(Article, using, title="theirs")
    article.tags.add(add(Tag, using, name="theirs"))
    article.twins.add(add(Article, using, title="theirs too"))
    add(Authorship, using, article=article, author=add(Author, using, name="theirs"), share=5)


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(
                ["add"] * 6 + ["change", "save", "tie", "set_members", "clear_members", "delete", "delete", "send"]
            ),
            st.integers(0, len(KINDS) - 1),
            st.integers(0, 5),
            st.integers(0, 3),
        ),
        min_size=20,
        max_size=80,
    ),
    batch_size=st.sampled_from([1, 3, 10_000]),
)
def test_a_remote_holds_what_it_has_and_what_was_sent_of_every_kind(
    pair: Pair, changes: list[tuple[str, int, int, int]], batch_size: int
) -> None:
    with (
        undone(pair.source),
        undone(pair.target),
        override_settings(SYNCHRO_MODELS=("logged",), GESTORE_SYNC={"BATCH_SIZE": batch_size}),
        ready(pair) as sites,
    ):
        add_theirs(sites.remote)
        theirs = describe(sites.remote)
        site = Site(sites)

        for one in changes:
            site.do(*one)
        site.send()

        assert describe(sites.remote) == {**describe(sites.local), **theirs}
        report = sites.send()
        assert (report.message, written(report)) == (NO_CHANGES, {})

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest.mock import patch

from django.db import models
from django.db.models.signals import post_save
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gestore_sync import creating
from tests.conftest import Pair
from tests.kinds import models as kinds
from tests.kinds.making import renumber_content_types
from tests.kinds.oracle import Database, Place, State, expect, foreign_keys, generic_keys
from tests.kinds.pushing import Sync, rolled_back, rows, watched

MODELS: list[type[models.Model]] = [
    kinds.Currency,
    kinds.Tag,
    kinds.Country,
    kinds.Page,
    kinds.Asset,
    kinds.Seal,
    kinds.Person,
    kinds.Hall,
    kinds.Node,
    kinds.Machine,
    kinds.Shop,
    kinds.Order,
    kinds.Line,
    kinds.License,
    kinds.Invoice,
    kinds.Secret,
    kinds.Visit,
    kinds.Club,
    kinds.Membership,
    kinds.Mentoring,
    kinds.Badge,
    kinds.BadgeHolder,
    kinds.Place,
    kinds.Restaurant,
    kinds.Pizzeria,
    kinds.Bar,
    kinds.Dish,
    kinds.Review,
    kinds.Team,
    kinds.Player,
    kinds.Alpha,
    kinds.Gamma,
    kinds.Delta,
    kinds.Beta,
    kinds.Seat,
    kinds.PageLink,
    kinds.AssetFile,
    kinds.Shelf,
    kinds.City,
    kinds.Battery,
    kinds.Note,
    kinds.Label,
]
TABLES = [
    *MODELS,
    *(field.remote_field.through for model in MODELS for field in model._meta.local_many_to_many),
]
TABLES = list(dict.fromkeys(TABLES))
SUBJECTS = [
    kinds.Shop,
    kinds.Order,
    kinds.Person,
    kinds.Node,
    kinds.Pizzeria,
    kinds.Place,
    kinds.Team,
    kinds.Tag,
]
LABELLED = [*SUBJECTS, kinds.Page, kinds.Asset]
ADDED = [
    kinds.Order,
    kinds.Line,
    kinds.Membership,
    kinds.Node,
    kinds.Player,
    kinds.Dish,
    kinds.Review,
    kinds.Note,
]
REMOVED = [kinds.Line, kinds.Membership, kinds.Mentoring, kinds.Review, kinds.Note, kinds.Secret]
KNOWN = [kinds.Currency, kinds.Tag, kinds.Country, kinds.Page, kinds.Asset]


class Maker:
    """Makes and changes random rows on one database."""

    def __init__(self, random: Random, using: str, prefix: str) -> None:
        self.random = random
        self.using = using
        self.prefix = prefix
        self.numbers = itertools.count(1)

    def make_graph(self, most: int) -> None:
        """Make a few rows of each model, and tie them together."""
        for model in MODELS:
            for _ in range(self.random.randint(0, most)):
                self.make(model)
        for model in MODELS:
            for instance in rows(model, self.using):
                self.tie(instance)

    def make(self, model: type[models.Model]) -> None:
        """Make a row, if there are rows that it can link to."""
        values: dict[str, Any] = {}
        for field in model._meta.concrete_fields:
            if field.remote_field and field.remote_field.parent_link:
                continue
            if isinstance(field, models.ForeignKey) and not field.null and field not in content_types(model):
                to = self.choose(field.remote_field.model, field)
                if to is None:
                    return
                values[field.name] = to
            elif field.name != "id" and field.name not in values:
                values.update(self.value(model, field))
        for field in generic_keys(model):
            subject = self.choose(self.random.choice(LABELLED if model is kinds.Label else SUBJECTS))
            if subject is None:
                return
            values[field.name] = subject
        model(**values).save(using=self.using, force_insert=not model._meta.parents)

    def value(self, model: type[models.Model], field: models.Field[Any, Any]) -> dict[str, Any]:
        """Return a value for a column, or nothing for a column that may do without."""
        number = next(self.numbers)
        if field.name == "code":
            return {"code": f"{self.prefix[0]}{number}"[:3]}
        if field.name == "iso":
            return {}
        if field.name == "name" and model is kinds.Country:
            return {"name": f"{self.prefix}{number}", "iso": f"{self.prefix}{number}"[:10]}
        if isinstance(field, models.UUIDField):
            return {field.name: uuid.UUID(int=self.random.getrandbits(128))}
        if isinstance(field, models.CharField) and field.name != "key":
            return {field.name: f"{self.prefix}{number}/0"}
        if isinstance(field, models.DateField):
            return {field.name: dt.date(2026, 1, 1) + dt.timedelta(days=self.random.randint(0, 9))}
        if isinstance(field, models.IntegerField) and not field.null and not isinstance(field, models.AutoField):
            return {field.name: number}
        return {}

    def choose(self, model: type[models.Model], field: models.Field[Any, Any] | None = None) -> Any:
        """Return some row, for a one-to-one field one that is free; None where there is no such row."""
        found = list(rows(model, self.using).order_by("pk"))
        if field is not None and field.unique:
            taken = set(rows(field.model, self.using).values_list(field.attname, flat=True))
            found = [instance for instance in found if instance.pk not in taken]
        return self.random.choice(found) if found else None

    def tie(self, instance: models.Model) -> None:
        """Set a row's optional links and its members."""
        model = type(instance)
        for field in foreign_keys(model):
            if field.null and self.random.random() < 0.7:
                to = self.choose(field.remote_field.model, field)
                rows(model, self.using).filter(pk=instance.pk).update(**{field.name: to})
        self.tie_members(instance)

    def tie_members(self, instance: models.Model) -> None:
        """Give a row random members in each of its automatic many-to-many fields."""
        for field in type(instance)._meta.local_many_to_many:
            if field.remote_field.through._meta.auto_created:
                self.set_members(instance, field)

    def set_members(self, instance: models.Model, field: models.ManyToManyField[Any, Any]) -> None:
        """Give a row a random set of members."""
        everyone = list(rows(field.remote_field.model, self.using).order_by("pk"))
        members = self.random.sample(everyone, self.random.randint(0, min(3, len(everyone))))
        getattr(instance, field.name).set(members)

    def change(self) -> None:
        """Change some rows: their values, their links, their members; add some and remove some."""
        for model in MODELS:
            for instance in rows(model, self.using).order_by("pk"):
                if self.random.random() < 0.3:
                    self.change_value(instance)
                if self.random.random() < 0.2:
                    self.change_links(instance)
        for model in ADDED:
            if self.random.random() < 0.5:
                self.make(model)
        for model in REMOVED:
            doomed = self.choose(model)
            if doomed is not None and self.random.random() < 0.5:
                doomed.delete(using=self.using)

    def change_value(self, instance: models.Model) -> None:
        """Change what comes after the mark in a text that identifies nothing."""
        for field in type(instance)._meta.local_concrete_fields:
            text = getattr(instance, field.attname)
            is_text = isinstance(field, models.CharField) and field.name != "key"
            if is_text and not field.unique and "/" in text:
                changed = f"{text.split('/')[0]}/{self.random.randint(1, 9)}"
                rows(type(instance), self.using).filter(pk=instance.pk).update(**{field.name: changed})
                return

    def change_links(self, instance: models.Model) -> None:
        """Let the links of a row lead elsewhere; what identifies it stays."""
        model = type(instance)
        for field in foreign_keys(model):
            if not field.unique and field.attname not in getattr(model._meta.pk, "field_names", ()):
                to = self.choose(field.remote_field.model)
                if to is not None:
                    rows(model, self.using).filter(pk=instance.pk).update(**{field.name: to})
        self.tie_members(instance)


def content_types(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    """Return the columns of a model's generic foreign keys that hold a content type."""
    return [model._meta.get_field(field.ct_field) for field in generic_keys(model)]


def choose_roots(random: Random, using: str) -> list[models.Model]:
    """Return one to three random rows."""
    everything = [instance for model in MODELS for instance in rows(model, using).order_by("pk")]
    return random.sample(everything, min(len(everything), random.randint(1, 3)))


def place_of(root: models.Model) -> Place:
    """Return where the oracle finds a row."""
    return type(root)._meta.concrete_model, root.pk


def give_target_what_it_may_have(random: Random, sync: Sync) -> None:
    """Copy some rows that have a key everywhere, as the target could have made them itself."""
    for model in KNOWN:
        for instance in rows(model, sync.source):
            if random.random() < 0.5:
                values = {
                    field.name: getattr(instance, field.name) for field in model._meta.fields if field.name != "id"
                }
                model(**values).save(using=sync.target, force_insert=True)


@contextmanager
def hearing() -> Iterator[None]:
    """Let a receiver of every model listen for the time of the block."""

    def hear(**sent: Any) -> None:
        """Do nothing."""

    post_save.connect(hear, weak=False)
    try:
        yield
    finally:
        post_save.disconnect(hear)


def compare(found: State, expected: State) -> list[str]:
    """Return what differs, in words."""
    differences = [f"missing: {key}" for key in expected.keys() - found.keys()]
    differences += [f"too many: {key}" for key in found.keys() - expected.keys()]
    for key in found.keys() & expected.keys():
        differences += [
            f"{key} {name}: {value}, but expected {expected[key][name]}"
            for name, value in found[key].items()
            if value != expected[key][name]
        ]
    return differences


def push_and_compare(sync: Sync, roots: list[models.Model], held: State, sent: set[Any]) -> State:
    """Push, compare the whole target with what is expected, push again, and return what the target holds."""
    expected = expect(Database(sync.source, TABLES), [place_of(root) for root in roots], held, sent)
    sync.untouchable = {}

    sync.push(*roots)

    differences = compare(Database(sync.target, TABLES).state(), expected)
    assert not differences, "\n".join(differences)
    sync.assert_nothing_to_do(*roots)
    return expected


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(
    seed=st.integers(0, 10**9),
    batch_size=st.sampled_from([1, 2, 10_000]),
    signals=st.sampled_from(["none", "raw", "save"]),
    checked_at_once=st.sampled_from([1, 3, 20_000]),
)
def test_any_graph_arrives_as_it_is_and_follows_its_changes(
    pair: Pair, seed: int, batch_size: int, signals: str, checked_at_once: int
) -> None:
    random = Random(seed)
    with (
        patch.object(creating, "CHECKED_AT_ONCE", checked_at_once),
        rolled_back(pair.source, pair.target),
        watched(pair) as sync,
        override_settings(GESTORE_SYNC={"BATCH_SIZE": batch_size, "SIGNALS": signals}),
        hearing(),
    ):
        renumber_content_types(sync.target)
        Maker(random, sync.target, "theirs").make_graph(most=2)
        maker = Maker(random, sync.source, "ours")
        maker.make_graph(most=3)
        give_target_what_it_may_have(random, sync)
        roots = choose_roots(random, sync.source)
        held = Database(sync.target, TABLES).state()
        sent: set[Any] = set()

        held = push_and_compare(sync, roots, held, sent)
        maker.change()
        roots = [root for root in roots if rows(type(root), sync.source).filter(pk=root.pk).exists()]
        if roots:
            held = push_and_compare(sync, roots, held, sent)
        push_and_compare(sync, choose_roots(random, sync.source), held, sent)

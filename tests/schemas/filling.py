"""Random rows of drawn models, and random changes of them."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connections, models, transaction

from tests.kinds.oracle import Database, Model, Place, foreign_keys, generic_keys
from tests.kinds.pushing import rows
from tests.schemas.building import reset_sequences

Row = dict[str, Any]


def is_number(field: Any) -> bool:
    """Say whether a generic key's object id is a number."""
    return isinstance(field, models.IntegerField)


def get_codes(model: Model) -> list[Any]:
    """Return the fields of a model's table whose names say that they are codes."""
    return [field for field in model._meta.local_concrete_fields if field.name.startswith("code")]


def get_home(model: Model) -> Any:
    """Return the link that is part of what identifies an object, beside its code; None where there is none."""
    together = [names for names in model._meta.unique_together if names[0].startswith("code")]
    together += [tuple(constraint.fields) for constraint in model._meta.constraints]
    return model._meta.get_field(together[0][1]) if together else None


def get_key_link(model: Model) -> Any:
    """Return the link that is a composite primary key's first column; None where there is none."""
    return next((field for field in foreign_keys(model) if is_in_key(field) and not field.primary_key), None)


def is_in_key(field: Any) -> bool:
    """Say whether a field is the primary key, or a column of it."""
    return field in getattr(field.model._meta.pk, "fields", [field.model._meta.pk])


def get_parts(model: Model) -> list[Model]:
    """Return a model and its multi-table parents, the topmost first."""
    return [*reversed(model._meta.get_parent_list()), model]


def is_code_linked(model: Model) -> bool:
    """Say whether other models link to this one by its code."""
    return any(
        field.remote_field.model is model and not field.target_field.primary_key
        for other in model._meta.apps.get_models()
        if other._meta.app_label == model._meta.app_label
        for field in foreign_keys(other)
    )


class Filler:
    """Makes and changes random rows on one database. ``prefix``: what the marks of its rows begin with."""

    def __init__(self, random: Random, using: str, tables: list[Model], prefix: str) -> None:
        self.random = random
        self.using = using
        self.tables = tables
        self.models = [model for model in tables if not model._meta.auto_created]
        self.prefix = prefix
        self.numbers = itertools.count(1)
        self.last: dict[Model, int] = {}
        self.spent: set[tuple[Any, Any]] = set()

    # New rows

    def fill(self, most: int, *, among: Iterable[Model] = (), fresh: bool = False) -> None:
        """Make a few objects of each model, with links among each other and to the rows that there are.

        ``fresh``: no code is one that another object has, wherever it is at home.
        """
        wanted = [model for model in among or self.models for _ in range(self.random.randint(0, most))]
        while True:
            self.database = Database(self.using, self.tables)
            self.new: dict[Place, Row] = {}
            self.taken: set[tuple[Any, Any]] = set()
            for model in wanted:
                self.add(model)
            self.drop_impossible()
            if self.link_all(fresh=fresh):
                break
        for (model, _), row in self.new.items():
            insert(model, self.using, row)
        self.fill_members()
        self.finish()

    def finish(self) -> None:
        """Let sequences and constraints be as they would be."""
        reset_sequences(self.models, self.using)
        connections[self.using].check_constraints()

    def fill_members(self) -> None:
        """Give objects random members in each automatic many-to-many field."""
        for model in self.models:
            for field in model._meta.local_many_to_many:
                if field.remote_field.through._meta.auto_created:
                    for instance in self.read(model):
                        if self.random.random() < 0.5:
                            self.set_members(instance, field)

    def set_members(self, instance: models.Model, field: Any) -> None:
        """Give an object a random set of members."""
        everyone = self.read(field.remote_field.model)
        members = self.random.sample(everyone, self.random.randint(0, min(3, len(everyone))))
        getattr(instance, field.name).set(members)

    def add(self, model: Model) -> Place | None:
        """Add an object to be made, with all its parts; None where it needs a key of an object of which there is no
        more."""
        parts = get_parts(model)
        top = parts[0]
        key = self.make_key(top)
        if key is None:
            return None
        for part in parts:
            self.new[part, key] = self.make_values(part, key)
        return model, key

    def make_key(self, model: Model) -> Any:
        """Return a primary key that no object has."""
        field = model._meta.pk
        if isinstance(field, models.OneToOneField):
            target = field.remote_field.model
            free = [pk for pk in self.get_keys(target) if not self.exists((model, pk))]
            return self.random.choice(free) if free else None
        if isinstance(field, models.UUIDField):
            return uuid.UUID(int=self.random.getrandbits(128))
        if isinstance(field, models.CharField):
            return f"{self.prefix}{next(self.numbers)}"
        if isinstance(field, models.CompositePrimaryKey):
            return self.make_composite_key(model)
        self.note_numbers()
        self.last[model] = self.last.get(model, 0) + 1
        return self.last[model]

    def make_composite_key(self, model: Model) -> Any:
        """Return a composite primary key that no object has, here or on the other side."""
        link = get_key_link(model)
        first = dt.date(2000, 1, self.random.randint(1, 3)) if link is None else self.choose(link)
        return None if first is None else (first, 2 * next(self.numbers) + (self.prefix == "o"))

    def note_numbers(self) -> None:
        """Note the greatest automatic keys, so that no key is that of another object again: no database does that."""
        for model, key in self.database.places():
            if isinstance(model._meta.pk, models.AutoField):
                self.last[model] = max(self.last.get(model, 0), key)

    def get_keys(self, model: Model) -> list[Any]:
        """Return the keys of all objects of a model, those to be made too."""
        there = sorted(self.database.rows[model], key=lambda key: str(self.database.mark((model, key))))
        return [*there, *(pk for of, pk in self.new if of is model)]

    def read(self, model: Model) -> list[models.Model]:
        """Return all objects of a model, in an order in which their keys have no part."""
        database = Database(self.using, self.tables)
        return sorted(rows(model, self.using), key=lambda one: str(database.mark((model, one.pk))))

    def exists(self, place: Place) -> bool:
        """Say whether there is an object, or will be."""
        return place in self.new or place[1] in self.database.rows[place[0]]

    def make_values(self, model: Model, key: Any) -> Row:
        """Return the values of the columns that are no links."""
        row = name_key(model, key)
        for field in model._meta.local_concrete_fields:
            if field.name == "mark":
                row["mark"] = f"{self.prefix}{next(self.numbers)}"
            elif field.name.startswith("text"):
                row[field.name] = str(self.random.randint(0, 9))
        return row

    def iter_needed(self, place: Place) -> Iterator[tuple[Any, list[Model]]]:
        """Yield the required links of an object to be made, with the models that they may lead to."""
        model, _ = place
        for field in foreign_keys(model):
            if not field.null and not is_in_key(field):
                yield field, [field.remote_field.model]
        for generic in generic_keys(model):
            if not model._meta.get_field(generic.fk_field).null:
                yield generic, self.get_subjects(model, generic)

    def get_subjects(self, model: Model, generic: Any) -> list[Model]:
        """Return the models that a generic key may lead to."""
        is_numbered = is_number(model._meta.get_field(generic.fk_field))
        return [
            subject
            for subject in self.models
            if not isinstance(subject._meta.pk, models.CompositePrimaryKey)
            and (not is_numbered or isinstance(get_parts(subject)[0]._meta.pk, models.AutoField))
        ]

    def drop_impossible(self) -> None:
        """Leave out what needs an object that there is not."""
        while True:
            gone = {
                place
                for place in self.new
                if not all(any(self.get_keys(to) for to in models) for _, models in self.iter_needed(place))
            }
            if not gone:
                return
            for place in gone:
                self.drop(place)

    def drop(self, place: Place) -> None:
        """Leave out an object to be made, with all its parts and what has its key."""
        if self.new.pop(place, None) is None:
            return
        model, key = place
        for other, its_key in list(self.new):
            pk = other._meta.pk
            if its_key == key and isinstance(pk, models.OneToOneField) and pk.remote_field.model is model:
                self.drop((other, its_key))
            link = get_key_link(other)
            if link is not None and link.remote_field.model is model and its_key[0] == key:
                self.drop((other, its_key))
        for parent in model._meta.parents:
            self.drop((parent, key))

    def link_all(self, *, fresh: bool) -> bool:
        """Set the links of all objects to be made; False where one had to be left out for want of a free target."""
        for (model, key), row in self.new.items():
            for field in foreign_keys(model):
                if is_in_key(field):
                    continue
                if field.null and (self.random.random() < 0.3 or (fresh and field.unique)):
                    row[field.attname] = None
                    continue
                value = self.choose(field)
                if value is None and not field.null:
                    self.drop((model, key))
                    return self.link_all_again(fresh=fresh)
                row[field.attname] = value
            for generic in generic_keys(model):
                self.set_generic(model, generic, row)
            self.set_codes(model, row, fresh=fresh)
            if model.__name__.startswith("T") and model._meta.unique_together:
                pair = (model, (row["owner_id"], row["member_id"]))
                if pair in self.taken or self.has_pair(*pair):
                    self.drop((model, key))
                    return self.link_all_again(fresh=fresh)
                self.taken.add(pair)
        return True

    def link_all_again(self, *, fresh: bool) -> bool:
        """Do it once more with what is left."""
        self.taken.clear()
        self.drop_impossible()
        return self.link_all(fresh=fresh)

    def has_pair(self, model: Model, pair: tuple[Any, Any]) -> bool:
        """Say whether there is a row of a many-to-many table for these two."""
        return any((row["owner_id"], row["member_id"]) == pair for row in self.database.rows[model].values())

    def choose(self, field: Any) -> Any:
        """Return the value of a link to some object, for a one-to-one field to one that is free; or None."""
        keys = self.get_keys(field.remote_field.model)
        if field.unique:
            column = field.attname
            used = {row[column] for row in self.database.rows[field.model].values()}
            used |= {value for at, value in [*self.taken, *self.spent] if at == field}
            keys = [key for key in keys if key not in used]
        if not keys:
            return None
        key = self.random.choice(keys)
        if field.unique:
            self.taken.add((field, key))
            self.spent.add((field, key))
        return self.get_value(field, key)

    def get_value(self, field: Any, key: Any) -> Any:
        """Return what a link to an object with this key holds."""
        if field.target_field.primary_key:
            return key
        place = field.remote_field.model, key
        row = self.new[place] if place in self.new else self.database.rows[place[0]][key]
        if field.target_field.attname not in row:
            self.set_codes(place[0], row, fresh=False)
        return row[field.target_field.attname]

    def set_generic(self, model: Model, generic: Any, row: Row) -> None:
        """Set a generic key."""
        columns = model._meta.get_field(generic.ct_field).attname, generic.fk_field
        row.update(dict.fromkeys(columns))
        field = model._meta.get_field(generic.fk_field)
        subjects = [subject for subject in self.get_subjects(model, generic) if self.get_keys(subject)]
        if field.null and (self.random.random() < 0.3 or not subjects):
            return
        subject = self.random.choice(subjects)
        kind = ContentType.objects.db_manager(self.using).get_for_model(subject)
        key = self.random.choice(self.get_keys(subject))
        row.update(zip(columns, (kind.pk, key if is_number(field) else str(key)), strict=True))

    def set_codes(self, model: Model, row: Row, *, fresh: bool) -> None:
        """Set what identifies an object; where it has a home, others elsewhere may have the same."""
        home = get_home(model)
        for field in get_codes(model):
            if field.name in row and home is None:
                continue
            row[field.name] = f"{self.prefix}{next(self.numbers)}"
            for code in ("1", "2") if home is not None and not fresh else ():
                at = (model, (row[home.attname], code))
                if at not in self.taken and not self.has_code(model, *at[1]):
                    self.taken.add(at)
                    row[field.name] = code
                    break

    def has_code(self, model: Model, home: Any, code: str) -> bool:
        """Say whether there is an object with a code at home there."""
        field, (code_field,) = get_home(model), get_codes(model)
        there = self.database.rows[model].values()
        return any(row[field.attname] == home and row[code_field.name] == code for row in there)

    # Changes

    def change(self, *, mine: bool) -> None:
        """Change some rows, make some and delete some. ``mine``: what identifies them, too, and optional one-to-one
        links are cut."""
        self.database = Database(self.using, self.tables)
        self.new, self.taken = {}, set()
        self.note_numbers()
        for model in self.models:
            for key in self.get_keys(model):
                if self.random.random() < 0.3:
                    self.change_text(model, key)
                if self.random.random() < 0.25:
                    self.change_links(model, key, mine=mine)
        self.delete_some()
        self.fill_members()
        among = [model for model in self.models if mine or self.is_free(model)]
        if among:
            self.fill(1, among=self.random.sample(among, min(2, len(among))), fresh=True)
        self.finish()

    def is_free(self, model: Model) -> bool:
        """Say whether an object of this model can be made that the other side has no object like, wherever it links."""
        if model.__name__.startswith("T") and model._meta.unique_together:
            return False
        return not any(
            field.unique and not field.null and not field.remote_field.parent_link
            for part in get_parts(model)
            for field in foreign_keys(part)
        )

    def update(self, model: Model, key: Any, **values: Any) -> None:
        """Change a row, and nothing else."""
        rows(model, self.using).filter(pk=key).update(**values)
        self.database.rows[model][key].update(values)

    def change_text(self, model: Model, key: Any) -> None:
        """Change what identifies nothing."""
        for field in model._meta.local_concrete_fields:
            if field.name.startswith("text"):
                self.update(model, key, **{field.name: str(self.random.randint(0, 9))})

    def change_links(self, model: Model, key: Any, *, mine: bool) -> None:
        """Let links lead elsewhere, and rename what they identify."""
        home = get_home(model)
        values: Row = {}
        for field in foreign_keys(model):
            if is_in_key(field) or (field.unique and not field.null) or (field == home and not mine):
                continue
            if model.__name__.startswith("T") and model._meta.unique_together:
                continue
            if field.null and field.unique:
                if mine:
                    values[field.attname] = None
            elif field.null and self.random.random() < 0.3:
                values[field.attname] = None
            else:
                values[field.attname] = self.choose(field)
        for generic in generic_keys(model):
            if self.random.random() < 0.5:
                self.set_generic(model, generic, values)
        codes = [field.name for field in get_codes(model)]
        if mine and not is_code_linked(model) and (self.random.random() < 0.5 or home is not None):
            values |= {name: f"{self.prefix}{next(self.numbers)}" for name in codes}
        if values:
            self.update(model, key, **values)

    def delete_some(self) -> None:
        """Delete some objects as Django does, but for those whose links would then lead nowhere."""
        for model in self.random.sample(self.models, min(3, len(self.models))):
            found = self.read(model)
            if found and self.random.random() < 0.7:
                self.delete(self.random.choice(found))
        self.database = Database(self.using, self.tables)

    def delete(self, instance: models.Model) -> None:
        """Delete an object, unless another one protects it or would point nowhere."""
        try:
            with transaction.atomic(using=self.using):
                instance.delete(using=self.using)
                connections[self.using].check_constraints()
                if has_dangling(Database(self.using, self.tables)):
                    raise IntegrityError
        except (IntegrityError, models.ProtectedError, models.RestrictedError):
            pass


def has_dangling(database: Database) -> bool:
    """Say whether a generic key leads nowhere."""
    return any(
        to is not None and to[1] not in database.rows[to[0]]
        for place in database.places()
        for link, to in database.links(place)
        if not hasattr(link, "remote_field") or link.remote_field is None
    )


def name_key(model: Model, key: Any) -> Row:
    """Return the values of the columns of a primary key."""
    pk = model._meta.pk
    if isinstance(pk, models.CompositePrimaryKey):
        return {field.attname: value for field, value in zip(pk.fields, key, strict=True)}
    return {pk.attname: key}


def insert(model: Model, using: str, row: Row) -> None:
    """Insert one row into one table."""
    model(**row).save_base(raw=True, using=using, force_insert=True)


def make_content_types(tables: list[Model], using: str, *, backwards: bool) -> None:
    """Make the content types of all models, in an order that gives them other numbers than elsewhere."""
    for model in reversed(tables) if backwards else tables:
        ContentType.objects.db_manager(using).get_for_model(model, for_concrete_model=False)


# What both sides know


def copy_known(random: Random, source: Database, target: Filler) -> None:
    """Copy some objects that have a key everywhere, as the target could have made them itself."""
    copied: dict[Place, Any] = {}
    wanted = [place for place in source.places() if place[0] in target.models and random.random() < 0.6]
    wanted = [place for place in wanted if not has_more(source, place)]
    target.database = Database(target.using, target.tables)
    target.new = {}
    while True:
        ready = [place for place in wanted if place not in copied and is_known(source, place, copied)]
        if not ready:
            break
        for place in ready:
            copy(random, source, target, place, copied)
    target.finish()


def has_more(source: Database, place: Place) -> bool:
    """Say whether an object has parts in other tables."""
    model, key = place
    children = [link.related_model for link in model._meta.related_objects if getattr(link, "parent_link", False)]
    return bool(model._meta.parents) or any(key in source.rows[child] for child in children)


def is_known(source: Database, place: Place, copied: dict[Place, Any]) -> bool:
    """Say whether an object can be found by what identifies it, and all that it needs is there."""
    model, _ = place
    home = get_home(model)
    linked = {link.name: to for link, to in source.links(place)}
    needed = {
        link.name: to
        for link, to in source.links(place)
        if not model._meta.get_field(getattr(link, "fk_field", link.name)).null or link == home
    }
    if any(to not in copied for to in needed.values()):
        return False
    if home is not None and linked[home.name] not in copied:
        return False
    is_named = not isinstance(model._meta.pk, models.AutoField)
    return is_named or bool(get_codes(model))


def copy(random: Random, source: Database, target: Filler, place: Place, copied: dict[Place, Any]) -> None:
    """Copy an object; its optional links are null where they do not lead to a copy."""
    model, key = place
    row = dict(source.rows[model][key])
    pk = model._meta.pk
    new = key
    if isinstance(pk, models.AutoField):
        new = target.make_key(model)
    elif isinstance(pk, models.OneToOneField):
        new = copied[pk.remote_field.model, key]
    for link, to in source.links(place):
        if isinstance(link, models.ForeignKey):
            row[link.attname] = row[link.attname] if not link.target_field.primary_key else copied.get(to)
            is_free = link.null and link != get_home(model)
            if to not in copied or (is_free and random.random() < 0.3):
                row[link.attname] = None
        else:
            columns = model._meta.get_field(link.ct_field).attname, link.fk_field
            row.update(dict.fromkeys(columns))
            if to in copied:
                kind = ContentType.objects.db_manager(target.using).get_for_model(to[0])
                number = is_number(model._meta.get_field(link.fk_field))
                row.update(zip(columns, (kind.pk, copied[to] if number else str(copied[to])), strict=True))
    if isinstance(pk, models.CompositePrimaryKey):
        new = tuple(row[field.attname] for field in pk.fields)
    row |= name_key(model, new)
    if random.random() < 0.5:
        row["text"] = "theirs"
    copied[place] = new
    insert(model, target.using, row)
    target.database.rows[model][new] = row

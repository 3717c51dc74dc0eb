"""What the change log is told of a deletion in bulk: the entries of :mod:`gestore_sync.recording`, by the batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from json.encoder import encode_basestring_ascii as encode_text
from types import SimpleNamespace
from typing import Any, TypeAlias

from django.contrib.contenttypes.models import ContentType
from django.db.models import Field, Model

from gestore_sync.deletionsql import DeletionStatement, make_statement
from gestore_sync.dooming import Doomed
from gestore_sync.fields import now
from gestore_sync.identity import iter_identities
from gestore_sync.links import get_concrete
from gestore_sync.models import CHANGE, DELETION, PENDING, ChangeLog
from gestore_sync.natural import find_natural_key
from gestore_sync.querysets import find_logged
from gestore_sync.reading import get_queryset, iter_rows, match_keys
from gestore_sync.receivers import is_telling, make_member_changes
from gestore_sync.recording import NewEntry, get_deletion_fields, is_storable, make_deletion
from gestore_sync.refs import Key, dump_pk, get_field
from gestore_sync.watching import find_watched
from gestore_sync.writers import get_writer

COLUMNS = ("content_type", "object_id", "date", "action", "data", "origin", "state")

Row: TypeAlias = tuple[Any, ...]
"""An entry: the values of :data:`COLUMNS`."""


class DeletionLog:
    """Makes and writes the entries of one deletion; none for models that are not watched, or that triggers log."""

    def __init__(self, using: str, doomed: Doomed) -> None:
        self.using = using
        self.doomed = doomed
        self._get_outline = cache(Outline)
        self._get_statement = cache(self._make_statement)

    def make_deletions(self, model: type[Model], keys: Sequence[Key]) -> list[Row]:
        """The entries of rows that go, and are still there."""
        watched = find_watched()
        fields = watched.members.get(model, ()) if watched is not None and model._meta.auto_created else ()
        if fields:
            entries = self._make_member_changes(fields[0], keys) if is_telling(self.using, model) else []
            return list(map(make_row, entries))
        if find_logged(model, self.using) is not model:
            return []
        outline = self._get_outline(model)
        if not outline.is_plain:
            rows = get_queryset(model, self.using).filter(match_keys(model, keys))
            return [make_row(make_deletion(self.using, model, instance)) for instance in rows]
        content_type, date = self._get_content_type(model), now()
        return [
            (content_type, dump_pk(row[0]), date, DELETION, outline.describe(row[1:]), None, PENDING)
            for row in iter_rows(model, self.using, keys, outline.paths)
        ]

    def write_deletions(self, model: type[Model], keys: Sequence[Key]) -> bool:
        """Have the database write the entries of rows that go, and are still there; False where it cannot."""
        if find_logged(model, self.using) is not model or model._meta.auto_created:
            return False
        statement = self._get_statement(model)
        if statement is None:
            return False
        statement.run(keys, self._get_content_type(model))
        return True

    def _make_statement(self, model: type[Model]) -> DeletionStatement | None:
        outline = self._get_outline(model)
        return make_statement(self.using, model, outline.key_fields) if outline.is_plain else None

    def _make_member_changes(self, field: Any, keys: Sequence[Key]) -> list[NewEntry]:
        """The owners that stay have lost members."""
        if field.name in getattr(field.model, "SYNCHRO_SKIP", ()):
            return []
        paths = [f"{name}__pk" for name in (field.m2m_field_name(), field.m2m_reverse_field_name())]
        owner = get_concrete(field.model)
        rows = iter_rows(field.remote_field.through, self.using, keys, paths)
        pairs = [(own, other) for _, own, other in rows if (owner, own) not in self.doomed]
        return list(make_member_changes(field, pairs, self.using, is_added=False))

    def make_changes(self, model: type[Model], keys: Sequence[Key]) -> list[Row]:
        """The entries of rows that stay and were changed."""
        logged = find_logged(model, self.using)
        if logged is None:
            return []
        content_type, date = self._get_content_type(logged), now()
        return [(content_type, dump_pk(key), date, CHANGE, "{}", None, PENDING) for key in keys]

    def _get_content_type(self, model: type[Model]) -> int:
        return ContentType.objects.db_manager(self.using).get_for_model(model).pk

    def write(self, entries: Sequence[Row]) -> None:
        """Insert entries, in the open transaction."""
        if entries:
            get_writer(self.using).insert(ChangeLog, [get_field(ChangeLog, name) for name in COLUMNS], entries)


def make_row(entry: NewEntry) -> Row:
    """An entry as the table has it."""
    return (*entry[:4], json.dumps(entry.data) if entry.data else "{}", None, PENDING)


class Outline:
    """What is kept of a deleted object of one model, made of its values. ``is_plain``: it can be made of them."""

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self.fields = get_deletion_fields(model)
        self.paths = [field.attname for field in self.fields]

    @cached_property
    def is_plain(self) -> bool:
        """Whether all fields are Django's kind, and the natural key is none, or some of their values."""
        natural = next((identity for identity in iter_identities(self.model) if identity.natural), None)
        known = find_natural_key(self.model)
        is_read = natural is None or (known is not None and natural.paths == known.paths and not natural.per_object)
        return is_read and all(type(field).value_to_string.__module__.startswith("django.") for field in self.fields)

    @cached_property
    def _texts(self) -> list[Callable[[Any], str]]:
        return [get_text_maker(field) for field in self.fields]

    @cached_property
    def _key_places(self) -> list[int]:
        """Where the values of the natural key are; none where one of them is a link, whose key is found later."""
        natural = next((identity for identity in iter_identities(self.model) if identity.natural), None)
        names = [field.name for field in self.fields if not field.is_relation]
        paths = natural.paths if natural is not None else ()
        known = {field.name: place for place, field in enumerate(self.fields)}
        return [known[path] for path in paths] if all(path in names for path in paths) else []

    @property
    def key_fields(self) -> list[Any]:
        """The fields that the natural key is made of, where it is kept."""
        return [self.fields[place] for place in self._key_places]

    @cached_property
    def _names(self) -> list[str]:
        return [encode_text(path) for path in self.paths]

    def describe(self, values: Sequence[Any]) -> str:
        """The data of an entry, as JSON."""
        texts = [None if value is None else make(value) for make, value in zip(self._texts, values, strict=True)]
        parts = [str(values[place]) for place in self._key_places]
        joined = "".join(filter(None, texts))
        plain = joined.isascii() and "\0" not in joined
        fields = ", ".join(
            f"{name}: {'null' if text is None else encode_text(text)}"
            for name, text in zip(self._names, texts, strict=True)
            if plain or is_storable(text)
        )
        if not parts or not (plain or all(map(is_storable, parts))):
            return f'{{"fields": {{{fields}}}}}'
        return f'{{"fields": {{{fields}}}, "natural_key": [{", ".join(map(encode_text, parts))}]}}'


def get_text_maker(field: Any) -> Callable[[Any], str]:
    """The function that makes a text of a value of ``field``, as its ``to_python`` reads it."""
    if field.is_relation:
        return dump_pk
    if type(field).value_to_string is Field.value_to_string:
        return str
    return lambda value: str(field.value_to_string(SimpleNamespace(**{field.attname: value})))

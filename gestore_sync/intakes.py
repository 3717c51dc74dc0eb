"""Takes the records of one model, and the member lists in them, into staged tables."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DataError
from django.db.models import Count, Field, Model
from django.db.models.fields.generated import GeneratedField

from gestore_sync.codecs import Decoder, make_decoder, make_key_decoder
from gestore_sync.columns import explain_invalid, find_default, has_filling, limit, prepare_default
from gestore_sync.exceptions import BundleError, WriteFailed
from gestore_sync.failures import Attempts
from gestore_sync.links import LinkGraph, Membership
from gestore_sync.privileges import Protection
from gestore_sync.reading import get_queryset, match_keys
from gestore_sync.records import Record, get_memberships
from gestore_sync.refs import Key, Ref, get_key_columns, iter_chunks
from gestore_sync.valuekinds import INVALID
from gestore_sync.writers import get_writer

BATCH_SIZE = 5_000
UNFIT = (ArithmeticError, TypeError, ValueError, ValidationError)
"""What fields and database drivers raise for values that they cannot take."""


@dataclass
class Intakes:
    """What the intakes of one bundle share. ``using``: where the staged tables are. ``leaves_out``: fields that the
    model lacks are left out and counted; else they are errors. ``absent``: fields that no record of a model has."""

    using: str
    graph: LinkGraph
    protection: Protection
    leaves_out: bool
    left_out: Counter[str] = field(default_factory=Counter)
    absent: dict[type[Model], frozenset[str]] = field(default_factory=dict)

    def insert(
        self, model: type[Model], fields: Sequence[Field[Any, Any]], keys: Sequence[Key], rows: Sequence[Any]
    ) -> None:
        """Stage rows. Raises :class:`BundleError` that names the first one that the database does not take."""
        writer = get_writer(self.using)

        def write(rows: Sequence[Any]) -> None:
            try:
                writer.insert(model, fields, rows)
            except UNFIT as error:
                raise DataError(str(error)) from error

        try:
            Attempts(self.using, self.using).write(model, keys, rows, write)
        except WriteFailed as error:
            failure = error.failure or {"pk": "…", "reason": str(error)}
            raise BundleError(
                f"{model._meta.label}.{failure['pk']} of the bundle cannot be taken: {failure['reason']}."
            ) from error


class Intake:
    """Takes the records of one model."""

    def __init__(self, shared: Intakes, model: type[Model]) -> None:
        self.model = model
        self.count = 0
        self._shared = shared
        self._pk_decoder = limit(make_key_decoder(model), model._meta.pk, shared.using)
        self._key_columns = get_key_columns(model)
        self._fields: list[Field[Any, Any]] = [
            field for field in model._meta.local_concrete_fields if not isinstance(field, GeneratedField)
        ]
        self._decoders: dict[str, tuple[Field[Any, Any], Decoder]] = {}
        for column in self._fields:
            entry = (column, limit(make_decoder(column), column, shared.using))
            self._decoders[column.attname] = self._decoders[column.name] = entry
        self._members = {
            membership.name.rpartition(".")[2]: MemberIntake(shared, membership)
            for membership in get_memberships(shared.graph, model)
        }
        self._protected = shared.protection.get_names(model)
        self._is_dropped = shared.protection.is_dropped(model)
        self._defaults: dict[str, Any] = {}
        self._absent = {column.attname for column in self._fields}
        self._unfilled: dict[str, list[Key]] = {}
        self._keys: list[Key] = []
        self._rows: list[list[Any]] = []

    def add(self, record: Record) -> None:
        """Take one record. Raises :class:`BundleError` that names it."""
        try:
            key = self._pk_decoder(record.pk)
        except INVALID as error:
            raise BundleError(
                f"{str(record.pk)[:100]!r} is no primary key of {self.model._meta.label}: {explain_invalid(error)}."
            ) from None
        if self._is_dropped:
            self._shared.protection.note(self.model)
            return
        values = self._read(Ref(self.model, key), record)
        self._absent -= values.keys()
        self._keys.append(key)
        self._rows.append([self._get_value(key, field, values) for field in self._fields])
        self.count += 1
        if len(self._rows) >= BATCH_SIZE:
            self._flush()

    def _read(self, ref: Ref, record: Record) -> dict[str, Any]:
        """The values of a record by attname; its members are taken on the way."""
        parts = ref.pk if isinstance(ref.pk, tuple) else (ref.pk,)
        keys = dict(zip(self._key_columns, parts, strict=True))
        values: dict[str, Any] = {}
        for name, value in record.fields.items():
            if name in self._decoders:
                field, decode = self._decoders[name]
                if field.attname in values:
                    raise BundleError(f"{ref} of the bundle has {field.name!r} twice, by two names.")
                found = values[field.attname] = self._decode(ref, field, decode, value)
                if field.attname in keys and found != keys[field.attname]:
                    raise BundleError(f"{ref} of the bundle has {value!r} in {field.name!r}, which is its primary key.")
            elif name in self._members:
                self._members[name].add(ref, value)
            elif not self._is_known(name):
                self._leave_out(ref, name)
        return {**values, **keys}

    def _get_value(self, key: Key, field: Field[Any, Any], values: dict[str, Any]) -> Any:
        """The value of a field in a record, or what stands for it."""
        if field.attname in values:
            value = values[field.attname]
            if value and field.name in self._protected:
                self._shared.protection.note(self.model, field.name)
            return value
        if field.has_db_default() and not field.has_default():
            self._unfilled.setdefault(field.name, []).append(key)
            return None
        return self._get_default(field)

    def _decode(self, ref: Ref, field: Field[Any, Any], decode: Decoder, value: Any) -> Any:
        if value is None:
            if field.null:
                return None
            raise BundleError(f"{ref} of the bundle has null in {field.name!r}, which must have a value.")
        try:
            return decode(value)
        except INVALID as error:
            raise BundleError(
                f"{ref} of the bundle has {str(value)[:100]!r} in {field.name!r}, which it cannot read: "
                f"{explain_invalid(error)}."
            ) from None

    def _is_known(self, name: str) -> bool:
        """Whether the model has a field of this name that is no column: a member list of an explicit through model, a
        generated column."""
        try:
            self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return False
        return True

    def _leave_out(self, ref: Ref, name: str) -> None:
        if not self._shared.leaves_out:
            raise BundleError(
                f"{ref} of the bundle has {name!r}, which {self.model._meta.label} does not have here. Leave it out "
                'with -i (--ignorenonexistent), or map old records to new ones with GESTORE_SYNC["UPGRADERS"].'
            )
        self._shared.left_out[f"{self.model._meta.label}.{name}"] += 1

    def _get_default(self, field: Any) -> Any:
        """The value of a field that a record does not have. Raises :class:`BundleError` where there is none."""
        if not has_filling(field):
            raise BundleError(
                f"{self.model._meta.label} has the field {field.name!r} here, which the bundle does not have: it is "
                'required and has no default. Give it one, or add it to the records with GESTORE_SYNC["UPGRADERS"].'
            )
        if field.has_default() and callable(field.default):
            return prepare_default(field, field.get_default())
        if field.attname not in self._defaults:
            self._defaults[field.attname] = find_default(field)
        return self._defaults[field.attname]

    def _flush(self) -> None:
        self._shared.insert(self.model, self._fields, self._keys, self._rows)
        self._keys, self._rows = [], []

    def _fill(self) -> None:
        """Let the database fill what some records do not have, and others do."""
        for name, keys in self._unfilled.items():
            field: Any = self.model._meta.get_field(name)
            for chunk in iter_chunks(keys if field.attname not in self._absent else (), BATCH_SIZE):
                rows = get_queryset(self.model, self._shared.using).filter(match_keys(self.model, chunk))
                rows.update(**{name: field._db_default_expression})

    def get_members(self) -> list[tuple[type[Model], int]]:
        """The through models of the member lists, and how many rows were made of them."""
        return [(members.through, members.count) for members in self._members.values() if members.count]

    def finish(self) -> None:
        """All records were taken. Raises :class:`BundleError` where one came twice."""
        self._flush()
        self._fill()
        names = frozenset(field.name for field in self._fields if field.attname in self._absent)
        known = self._shared.absent.get(self.model)
        self._shared.absent[self.model] = names if known is None else names & known
        for members in self._members.values():
            members.finish()
        columns = self._key_columns
        rows = get_queryset(self.model, self._shared.using).values_list(*columns)
        twice = rows.annotate(gestore_sync_number=Count("*")).filter(gestore_sync_number__gt=1).first()
        if twice is not None:
            key = tuple(twice[:-1]) if len(columns) > 1 else twice[0]
            raise BundleError(f"{Ref(self.model, key)} is in the bundle twice.")


class MemberIntake:
    """Takes the member lists of one many-to-many field; each member becomes a row of the automatic through table.

    The row gets a key made of the two keys it connects, so that it is the same one in each bundle of an origin.
    """

    def __init__(self, shared: Intakes, membership: Membership) -> None:
        self._shared = shared
        self._membership = membership
        self.through = membership.link.model
        self.count = 0
        self._name = membership.name.rpartition(".")[2]
        target = membership.other.target or self.through
        self._decode = limit(make_key_decoder(target), target._meta.pk, shared.using)
        self._is_dropped = shared.protection.is_dropped(self.through)
        self._owners: list[Key] = []
        self._rows: list[list[Any]] = []

    def add(self, owner: Ref, values: Any) -> None:
        """Take the members of one owner."""
        if not isinstance(values, list):
            raise BundleError(f"{owner} of the bundle has no list in {self._name!r}.")
        if values and self._is_dropped:
            self._shared.protection.note(self.through)
            return
        for member in dict.fromkeys(self._read(owner, value) for value in values):
            text = f"{self.through._meta.label_lower} {owner.pk} {member}"
            key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
            self._rows.append([key, owner.pk, member])
            self._owners.append(key)
            self.count += 1
        if len(self._rows) >= BATCH_SIZE:
            self._flush()

    def _read(self, owner: Ref, value: Any) -> Key:
        try:
            return self._decode(value)
        except INVALID as error:
            raise BundleError(
                f"{owner} of the bundle has the member {str(value)[:100]!r} in {self._name!r}, "
                f"which is no primary key: {explain_invalid(error)}."
            ) from None

    def _flush(self) -> None:
        fields = [self.through._meta.pk, self._membership.link.field, self._membership.other.field]
        self._shared.insert(self.through, fields, self._owners, self._rows)
        self._owners, self._rows = [], []

    def finish(self) -> None:
        """All members were taken."""
        self._flush()

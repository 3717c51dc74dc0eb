"""Takes the records of one model, and the member lists in them, into staged tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Count, Field, Model
from django.db.models.fields.generated import GeneratedField

from gestore_sync.codecs import Decoder, make_decoder, make_key_decoder
from gestore_sync.columns import decode_column, explain_invalid, find_default, has_filling, limit, prepare_default
from gestore_sync.exceptions import BundleError, WriteFailed
from gestore_sync.failures import Attempts
from gestore_sync.links import LinkGraph
from gestore_sync.memberintakes import MemberIntake
from gestore_sync.privileges import Protection
from gestore_sync.reading import get_queryset, match_keys
from gestore_sync.records import Record, get_memberships
from gestore_sync.refs import Key, Ref, get_key_columns, iter_chunks
from gestore_sync.valuekinds import INVALID
from gestore_sync.writers import get_writer
from gestore_sync.writers.portable import Writer

BATCH_SIZE = 10_000
RECORDS_AT_ONCE = 500
"""So many records are made rows together: parsed JSON takes more room than what becomes of it."""


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

    @cached_property
    def _writer(self) -> Writer:
        return get_writer(self.using)

    def insert(
        self, model: type[Model], fields: Sequence[Field[Any, Any]], keys: Sequence[Key], rows: Sequence[Any]
    ) -> None:
        """Stage rows. Raises :class:`BundleError` that names the first one that the database does not take."""
        attempts = Attempts(self.using, self.using)
        try:
            attempts.write(model, keys, rows, lambda some: self._writer.insert(model, fields, some))
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
        self._records: list[Record] = []
        self._keys: list[Key] = []
        self._rows: list[Sequence[Any]] = []

    def add(self, record: Record) -> None:
        """Take one record. Raises :class:`BundleError` that names it, perhaps when others were added."""
        self._records.append(record)
        if len(self._records) >= RECORDS_AT_ONCE:
            self._take(self._records)
            self._records = []
        if len(self._rows) >= BATCH_SIZE:
            self._flush()

    def _take(self, records: Sequence[Record]) -> None:
        """Make rows of records: column by column where all of them are alike and well-formed, else one by one."""
        if not records:
            return
        names = self._find_alike(records)
        try:
            keys = list(map(self._pk_decoder, [record.pk for record in records])) if names else []
            columns = self._decode_columns(names, records, keys) if names else []
        except INVALID:
            columns = []
        if not columns:
            for record in records:
                self._take_one(record)
            return
        self._absent.clear()
        self._keys += keys
        self._rows += zip(*columns, strict=True)
        self.count += len(keys)

    def _find_alike(self, records: Sequence[Record]) -> Sequence[str]:
        """The names of the fields of all these records, if they are the model's and nothing has to be said of them."""
        names = tuple(records[0].fields)
        attnames = [self._decoders[name][0].attname for name in names if name in self._decoders]
        wanted = {field.attname for field in self._fields}.difference(self._key_columns)
        is_plain = len(attnames) == len(names) == len(wanted) and wanted == set(attnames)
        if not is_plain or self._is_dropped or self._protected or len(self._key_columns) > 1:
            return ()
        return names if all(tuple(record.fields) == names for record in records) else ()

    def _decode_columns(self, names: Sequence[str], records: Sequence[Record], keys: list[Key]) -> list[list[Any]]:
        """The columns of :attr:`_fields`. Raises one of :data:`INVALID`."""
        found = {self._key_columns[0]: keys}
        for name in names:
            field, decode = self._decoders[name]
            found[field.attname] = decode_column(field, decode, [record.fields[name] for record in records])
        return [found[field.attname] for field in self._fields]

    def _take_one(self, record: Record) -> None:
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
        self._take(self._records)
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

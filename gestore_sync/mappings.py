"""The id mappings: which object of an origin is which row of the target; kept there if it has our tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import connections
from django.db.models import CompositePrimaryKey, Model

from gestore_sync.exceptions import SchemaMismatch
from gestore_sync.models import IdMapping, Origin
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, match
from gestore_sync.refs import Key, get_field, iter_chunks, resolve_key_field
from gestore_sync.writers import get_writer

UNMISTAKABLE = re.compile(r"[!-@\[-~]([ -@\[-~]*[!-@\[-~])?")
"""Printable ASCII without capital letters, and without blanks at its ends."""

FIELDS = ("origin", "remote", "model", "source_pk", "target_pk", "created", "digests")


class Mapping(NamedTuple):
    """One id mapping, as it is stored. ``mirrored``: it comes from a push in the other direction."""

    pk: int
    target: Key
    created: bool
    digests: bytes
    mirrored: bool = False


class Sent(NamedTuple):
    """What is known of a row of the target: the object it stands for, whether a run created it, what was left there."""

    key: Key
    created: bool
    digests: bytes


def dump_key(key: Key) -> str:
    """A primary key as text that every database tells from any other, whatever its collation takes for equal."""
    text = json.dumps([str(part) for part in key]) if isinstance(key, tuple) else str(key)
    return text if UNMISTAKABLE.fullmatch(text) else f"X{text.encode('utf-8', 'surrogatepass').hex()}"


def load_key(model: type[Model], text: str) -> Key:
    """The primary key of ``model`` that :func:`dump_key` made ``text`` of."""
    pk = model._meta.pk
    if text.startswith("X"):
        text = bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass")
    if isinstance(pk, CompositePrimaryKey):
        parts = json.loads(text)
        fields = [resolve_key_field(get_field(model, name)) for name in pk.field_names]
        return tuple(field.to_python(part) for field, part in zip(fields, parts, strict=True))
    return resolve_key_field(pk).to_python(text)


def has_tables(using: str) -> bool:
    """Whether the database has our tables."""
    tables = connections[using].introspection.table_names()
    return {IdMapping._meta.db_table, Origin._meta.db_table} <= set(tables)


class MappingStore:
    """The id mappings of one source on one target. ``place`` is the database where they are kept."""

    def __init__(self, source: str, target: str) -> None:
        if not has_tables(source):
            raise SchemaMismatch(
                f"The source {source!r} has no tables of gestore_sync. "
                f"Run: manage.py migrate gestore_sync --database {source}"
            )
        self.source = source
        self.target = target
        self.in_target = has_tables(target)
        self.place = target if self.in_target else source
        self.remote = "" if self.in_target else target
        own = get_queryset(Origin, source).filter(is_own=True).first()
        self.uuid = own.uuid if own is not None else None
        found = get_queryset(Origin, self.place).filter(uuid=self.uuid).values_list("pk", flat=True).first()
        self.origin: int | None = found
        self._mirror = self._find_mirror()
        self._writer = get_writer(self.place)

    def _find_mirror(self) -> int | None:
        """The target's own origin, as the source knows it where the target has pushed to the source."""
        if not self.in_target:
            return None
        theirs = get_queryset(Origin, self.target).filter(is_own=True).values_list("uuid", flat=True).first()
        known = get_queryset(Origin, self.source).filter(uuid=theirs)
        return known.exclude(uuid=self.uuid).values_list("pk", flat=True).first()

    def _get_rows(self, model: type[Model]) -> Any:
        return get_queryset(IdMapping, self.place).filter(
            origin=self.origin, remote=self.remote, model=model._meta.label_lower
        )

    def find(self, model: type[Model], keys: Sequence[Key]) -> dict[Key, Mapping]:
        """The mappings of these objects of the source; where there is none, what a push in the other direction left."""
        by_text = {dump_key(key): key for key in keys}
        found: dict[Key, Mapping] = {}
        if self.origin is not None:
            rows = self._get_rows(model).filter(match("source_pk", by_text))
            for pk, source, target, created, digests in rows.values_list(
                "pk", "source_pk", "target_pk", "created", "digests"
            ):
                found[by_text[source]] = Mapping(pk, load_key(model, target), created, bytes(digests))
        if self._mirror is not None:
            missing = {text: key for text, key in by_text.items() if key not in found}
            rows = get_queryset(IdMapping, self.source).filter(
                match("target_pk", missing), origin=self._mirror, remote="", model=model._meta.label_lower
            )
            for pk, source, target, digests in rows.values_list("pk", "source_pk", "target_pk", "digests"):
                found[missing[target]] = Mapping(pk, load_key(model, source), False, bytes(digests), mirrored=True)
        return found

    def find_sources(self, model: type[Model], targets: Iterable[Key]) -> dict[Key, list[Sent]]:
        """By row of the target, the objects of the source that are mapped to it."""
        by_text = {dump_key(key): key for key in targets}
        if self.origin is None or not by_text:
            return {}
        found: dict[Key, list[Sent]] = {}
        rows = self._get_rows(model).filter(match("target_pk", by_text))
        for source, target, created, digests in rows.values_list("source_pk", "target_pk", "created", "digests"):
            found.setdefault(by_text[target], []).append(Sent(load_key(model, source), created, bytes(digests)))
        return found

    def save(self, model: type[Model], rows: Sequence[tuple[Key, Key, bool, bytes]]) -> None:
        """Keep ``(source key, target key, created, digests)``, in the open transaction of the place."""
        known = {
            key: mapping for key, mapping in self.find(model, [row[0] for row in rows]).items() if not mapping.mirrored
        }
        fields = [IdMapping._meta.get_field(name) for name in FIELDS]
        fresh = [
            (
                self.origin,
                self.remote,
                model._meta.label_lower,
                dump_key(key),
                dump_key(target),
                created,
                digests,
            )
            for key, target, created, digests in rows
            if key not in known
        ]
        changed = [
            (known[key].pk, [dump_key(target), created, digests])
            for key, target, created, digests in rows
            if key in known
        ]
        if fresh:
            self._writer.insert(IdMapping, fields, fresh)  # type: ignore[arg-type]
        if changed:
            self._writer.update(IdMapping, fields[4:], changed)  # type: ignore[arg-type]

    def forget(self, model: type[Model], targets: Sequence[Key]) -> None:
        """Drop every origin's mappings to these rows of the target: they are deleted, or have just been created."""
        rows = get_queryset(IdMapping, self.place).filter(remote=self.remote, model=model._meta.label_lower)
        for chunk in iter_chunks([dump_key(key) for key in targets], KEYS_PER_QUERY):
            rows.filter(match("target_pk", chunk))._raw_delete(self.place)

"""The id mappings: which object of an origin is which row of the target; kept there if it has our tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from django.db import connections
from django.db.models import Model

from gestore_sync.changelog import find_replaced, has_log
from gestore_sync.exceptions import SchemaMismatch, WriteFailed, WrongDatabase
from gestore_sync.models import KEY_LENGTH, Conflict, IdMapping, Origin, SyncRun
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, match
from gestore_sync.refs import Key, Ref, dump_pk, get_field, iter_chunks, load_pk
from gestore_sync.schema import check_schema
from gestore_sync.writers import get_writer

UNMISTAKABLE = re.compile(r"[!-@\[-~]([ -@\[-~]*[!-@\[-~])?")
"""Printable ASCII without capital letters, and without blanks at its ends."""

KEPT_IN_MEMORY = 50_000
"""So many mappings are kept for the steps of one run that ask for them again."""

FIELDS = ("origin", "remote", "model", "source_pk", "target_pk", "created", "digests", "serial")


class Mapping(NamedTuple):
    """One id mapping. ``pk``: of our row where the mapping is kept, None where there is none yet. ``mirrored``: the
    digests come from a later push in the other direction."""

    pk: int | None
    target: Key
    created: bool
    digests: bytes
    serial: int
    mirrored: bool = False


class Sent(NamedTuple):
    """What is known of a row of the target: the object it stands for, whether a run created it, what was left there."""

    key: Key
    created: bool
    digests: bytes


def dump_key(key: Key) -> str:
    """A primary key as text that every database tells from any other, whatever its collation takes for equal."""
    text = dump_pk(key)
    return text if UNMISTAKABLE.fullmatch(text) else f"X{text.encode('utf-8', 'surrogatepass').hex()}"


def load_key(model: type[Model], text: str) -> Key:
    """The primary key of ``model`` that :func:`dump_key` made ``text`` of."""
    if text.startswith("X"):
        text = bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass")
    return load_pk(model, text)


def has_tables(using: str) -> bool:
    """Whether the database has our tables."""
    tables = connections[using].introspection.table_names()
    return {IdMapping._meta.db_table, Origin._meta.db_table} <= set(tables)


class MappingStore:
    """The id mappings of one source on one target. ``place`` is the database where they are kept, if they are kept."""

    keeps: ClassVar[bool] = True

    def __init__(self, source: str, target: str) -> None:
        if not has_tables(source):
            raise SchemaMismatch(
                f"The source {source!r} has no tables of gestore_sync. "
                f"Run: manage.py migrate gestore_sync --database {source}"
            )
        check_schema(source, [Origin])
        self.source = source
        self.target = target
        self._known: dict[type[Model], dict[Key, Mapping | None]] = {}
        self.in_target = has_tables(target)
        self.place = target if self.in_target else source
        self.remote = "" if self.in_target else target
        check_schema(self.place, [Origin, IdMapping, SyncRun, Conflict])
        own = get_queryset(Origin, source).filter(is_own=True).first()
        self.uuid = own.uuid if own is not None else None
        found = get_queryset(Origin, self.place).filter(uuid=self.uuid).values_list("pk", flat=True).first()
        self.origin: int | None = found
        self.target_uuid = self._find_target_uuid()
        self._check_identity()
        self._mirror = self._find_mirror()
        self._kept = self._find_kept()
        self._writer = get_writer(self.place)

    def _check_identity(self) -> None:
        if self.uuid is not None and self.uuid == self.target_uuid:
            raise WrongDatabase(
                f"{self.source!r} and {self.target!r} have the same identity: one is a copy of the other. Give the "
                f'copy an identity of its own, in a shell: gestore_sync.api.renew_origin("{self.target}"), or '
                f'"{self.source}".'
            )

    def _find_target_uuid(self) -> UUID | None:
        """The identity of the target, where it has our tables."""
        if not self.in_target:
            return None
        own = get_queryset(Origin, self.target).filter(is_own=True)
        found: UUID | None = own.values_list("uuid", flat=True).first()
        return found

    def _find_mirror(self) -> int | None:
        """The target's own origin, as the source knows it where the target has pushed to the source."""
        if not self.in_target:
            return None
        known = get_queryset(Origin, self.source).filter(uuid=self.target_uuid)
        return known.exclude(uuid=self.uuid).values_list("pk", flat=True).first()

    def _get_rows(self, model: type[Model]) -> Any:
        return get_queryset(IdMapping, self.place).filter(
            origin=self.origin, remote=self.remote, model=model._meta.label_lower
        )

    def find(self, model: type[Model], keys: Sequence[Key]) -> dict[Key, Mapping]:
        """The mappings of these objects of the source.

        Also those that were kept at the source before the target had our tables, and what pushes in the other
        direction left; where there are two, what was written later says what was left on the target.
        """
        known = self._known.setdefault(model, {})
        missing = [key for key in keys if key not in known]
        read = self._find(model, missing) if missing else {}
        if sum(map(len, self._known.values())) + len(missing) <= KEPT_IN_MEMORY:
            known.update((key, read.get(key)) for key in missing)
        return {key: found for key in keys if (found := known.get(key) or read.get(key)) is not None}

    def _find(self, model: type[Model], keys: Sequence[Key]) -> dict[Key, Mapping]:
        by_text = {dump_key(key): key for key in keys}
        found = self._read(model, self._get_rows(model), by_text)
        if self._kept is not None:
            kept = self._read(model, self._kept.filter(model=model._meta.label_lower), by_text)
            found = {**{key: mapping._replace(pk=None) for key, mapping in kept.items()}, **found}
        for key, mirrored in self._find_mirrored(model, by_text).items():
            own = found.get(key)
            if own is None:
                found[key] = mirrored
            elif own.target == mirrored.target and own.serial < mirrored.serial:
                found[key] = mirrored._replace(pk=own.pk, created=own.created)
        return found

    @staticmethod
    def _read(model: type[Model], rows: Any, by_text: dict[str, Key]) -> dict[Key, Mapping]:
        columns = ("source_pk", "pk", "target_pk", "created", "digests", "serial")
        return {
            by_text[source]: Mapping(pk, load_key(model, target), created, bytes(digests), serial)
            for source, pk, target, created, digests, serial in rows.filter(match("source_pk", by_text)).values_list(
                *columns
            )
            if source in by_text
        }

    def _find_mirrored(self, model: type[Model], by_text: dict[str, Key]) -> dict[Key, Mapping]:
        """What pushes from the target to the source left at the source."""
        if self._mirror is None:
            return {}
        rows = get_queryset(IdMapping, self.source).filter(
            match("target_pk", by_text), origin=self._mirror, remote="", model=model._meta.label_lower
        )
        return {
            by_text[target]: Mapping(None, load_key(model, source), False, bytes(digests), serial, mirrored=True)
            for source, target, digests, serial in rows.values_list("source_pk", "target_pk", "digests", "serial")
            if target in by_text
        }

    def _find_kept(self) -> Any:
        """The mappings that were kept at the source while the target had no tables of ours, if there are any."""
        rows = get_queryset(IdMapping, self.source).filter(origin__uuid=self.uuid, remote=self.target)
        return rows if self.in_target and rows.exists() else None

    def find_sources(self, model: type[Model], targets: Iterable[Key]) -> dict[Key, list[Sent]]:
        """By row of the target, the objects of the source that are mapped to it."""
        by_text = {dump_key(key): key for key in targets}
        found: dict[Key, list[Sent]] = {}
        sets = [self._get_rows(model)]
        if self._kept is not None:
            sets.append(self._kept.filter(model=model._meta.label_lower))
        for rows in sets if by_text else ():
            columns = rows.filter(match("target_pk", by_text)).values_list(
                "source_pk", "target_pk", "created", "digests"
            )
            for source, target, created, digests in columns:
                if target in by_text:
                    sent = Sent(load_key(model, source), created, bytes(digests))
                    found.setdefault(by_text[target], []).append(sent)
        return found

    @cached_property
    def has_target_log(self) -> bool:
        """Whether the target has a change log."""
        return self.in_target and has_log(self.target)

    def find_replaced(self, model: type[Model], targets: Sequence[Key]) -> set[Key]:
        """Those rows of the target that are other objects by now, as its own log tells."""
        if self.uuid is None or not self.has_target_log:
            return set()
        return find_replaced(self.target, model, targets, self.uuid)

    def iter_sources(self, model: type[Model]) -> Iterator[Key]:
        """The keys of all objects of the source that are mapped."""
        sets = [self._get_rows(model)]
        if self._kept is not None:
            sets.append(self._kept.filter(model=model._meta.label_lower))
        texts = (text for rows in sets for text in rows.values_list("source_pk", flat=True).iterator(chunk_size=10_000))
        return (load_key(model, text) for text in texts)

    def find_others(self, model: type[Model], targets: Iterable[Key]) -> set[Key]:
        """Those rows of the target that another origin has an object for."""
        by_text = {dump_key(key): key for key in targets}
        if not self.in_target or not by_text:
            return set()
        rows = get_queryset(IdMapping, self.place).filter(match("target_pk", by_text), model=model._meta.label_lower)
        others = rows.exclude(origin=self.origin) if self.origin is not None else rows
        return {by_text[text] for text in others.values_list("target_pk", flat=True) if text in by_text}

    def save(self, model: type[Model], rows: Sequence[tuple[Key, Key, bool, bytes]]) -> None:
        """Keep ``(source key, target key, created, digests)``, in the open transaction of the place."""
        known = self.find(model, [row[0] for row in rows])
        fields = [get_field(IdMapping, name) for name in FIELDS]
        fresh, changed = [], []
        for key, target, created, digests in rows:
            mapping = known.get(key)
            texts = [dump_key(key), dump_key(target)]
            if max(map(len, texts)) > KEY_LENGTH:
                raise WriteFailed(
                    f"The primary key of {Ref(model, key)} is too long for an id mapping: {KEY_LENGTH} characters fit.",
                    ref=Ref(model, key),
                )
            values = [texts[1], created, digests, mapping.serial + 1 if mapping else 1]
            if mapping is None or mapping.pk is None:
                fresh.append([self.origin, self.remote, model._meta.label_lower, texts[0], *values])
            else:
                changed.append((mapping.pk, values))
        for row in rows:
            self._known.get(model, {}).pop(row[0], None)
        if fresh:
            self._writer.insert(IdMapping, fields, fresh)
        if changed:
            self._writer.update(IdMapping, fields[4:], changed)

    def forget(self, model: type[Model], targets: Sequence[Key], *, only_ours: bool = False) -> None:
        """Drop every origin's mappings to these rows of the target, which have just been created. ``only_ours``: ours,
        of rows that are deleted; the other origins will notice by theirs that they are."""
        self._known.pop(model, None)
        rows = get_queryset(IdMapping, self.place).filter(remote=self.remote, model=model._meta.label_lower)
        rows = rows.filter(origin=self.origin) if only_ours else rows
        for chunk in iter_chunks([dump_key(key) for key in targets], KEYS_PER_QUERY):
            rows.filter(match("target_pk", chunk))._raw_delete(self.place)

"""The id mappings: which object of an origin is which row of the target; kept there if it has our tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from functools import cached_property
from typing import Any, ClassVar
from uuid import UUID

from django.db import connections
from django.db.models import Model, QuerySet

from gestore_sync.background import Background
from gestore_sync.changelog import find_replaced, has_log
from gestore_sync.exceptions import SchemaMismatch, WrongDatabase
from gestore_sync.keysets import make_key_list
from gestore_sync.keytexts import dump_key, load_key
from gestore_sync.mappingcolumns import COLUMNS, KEPT, make_columns, split_columns
from gestore_sync.models import Conflict, IdMapping, Origin, SyncRun
from gestore_sync.plan import Noted
from gestore_sync.reading import KEYS_PER_QUERY, get_queryset, match
from gestore_sync.recall import Mapping, Recall, Sent
from gestore_sync.refs import Key, get_field, iter_chunks
from gestore_sync.schema import check_schema
from gestore_sync.thirdsites import ThirdSites, iter_received
from gestore_sync.writers import get_writer

HERE = ("origin", "remote", "model")
MOVED = [get_field(IdMapping, "moved")]


def has_tables(using: str) -> bool:
    """Whether the database has our tables."""
    tables = connections[using].introspection.table_names()
    return {IdMapping._meta.db_table, Origin._meta.db_table} <= set(tables)


class MappingStore:
    """The id mappings of one source on one target. ``place`` is the database where they are kept, if they are kept.

    ``unsettled``: the objects of the source whose counterpart is no longer the row that it was, or that have none now;
    ``left``: the rows that were. ``borrowed``: models of objects that are known by a mapping that is not kept here.
    ``notes_imprints``: off where objects to which rows lead may get no mapping, by which a change would be noticed.
    ``mirror``: the target's own origin, as the source knows it; ``thirds``: the sites that have sent to both.
    ``number_stored``: how many were added since the database last counted them; ``number_of_new``: those of models
    that had none.
    """

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
        self._recall = Recall()
        self._blank: dict[type[Model], bool] = {}
        self._written: set[type[Model]] = set()
        self.unsettled: dict[type[Model], Any] = {}
        self.left: dict[type[Model], Any] = {}
        self.borrowed: set[type[Model]] = set()
        self.notes_imprints, self.number_stored, self.number_of_new = True, 0, 0
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
        self.mirror = self._find_mirror()
        self.thirds = ThirdSites(source, target, {self.uuid, self.target_uuid}) if self.in_target else None
        self._kept = self._find_kept()
        self._writer = get_writer(self.place)
        self.background = Background()

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

    def get_rows(self, model: type[Model], *, of_all: bool = False) -> QuerySet[IdMapping]:
        """The id mappings of a model where they are kept; ``of_all``: those of every origin."""
        rows = get_queryset(IdMapping, self.place).filter(remote=self.remote, model=model._meta.label_lower)
        return rows if of_all else rows.filter(origin=self.origin)

    @property
    def is_only_one(self) -> bool:
        """Whether the id mappings on the target are all that is known: none are kept elsewhere, in either direction."""
        return self.in_target and self._kept is None and self.mirror is None

    def find(self, model: type[Model], keys: Sequence[Key], *, shared: bool = True) -> dict[Key, Mapping]:
        """The mappings of these objects of the source; also those that were kept at the source before the target had
        our tables, and what pushes in the other direction left; where there are two, what was written later says what
        was left on the target. ``shared``: also what both sides have from a third site."""
        unknown = self._recall.find_unknown(model, keys)
        is_empty = self.is_blank(model) and model not in self._written
        read = self._find(model, unknown, shared) if unknown and not is_empty else {}
        self._recall.note(model, unknown, read)
        return self._recall.pick(model, keys, read)

    def is_blank(self, model: type[Model]) -> bool:
        """Whether there were no mappings of this model when they were first asked for: this run has made those there
        are."""
        if model not in self._blank:
            is_alone = self._kept is None and self.mirror is None
            self._blank[model] = is_alone and not self.get_rows(model, of_all=True).exists()
        return self._blank[model]

    def make_ready(self, models: Iterable[type[Model]]) -> None:
        """Ask now what must be known when mappings of objects of these models are written."""
        self._writer.look_at([IdMapping])
        for model in models:
            self.is_blank(model)

    def _find(self, model: type[Model], keys: Sequence[Key], shared: bool) -> dict[Key, Mapping]:
        by_text = {dump_key(key): key for key in keys}
        found = self._read(model, self.get_rows(model), by_text)
        if self._kept is not None:
            kept = self._read(model, self._get_sets(model)[1], by_text)
            if kept.keys() - found.keys():
                self.borrowed.add(model)
            found = {**{key: mapping._replace(pk=None, imprints=None) for key, mapping in kept.items()}, **found}
        for key, mirrored in self._find_mirrored(model, by_text).items():
            own = found.get(key)
            if own is None:
                found[key] = mirrored
                self.borrowed.add(model)
            elif own.target == mirrored.target and own.serial < mirrored.serial:
                found[key] = mirrored._replace(pk=own.pk, created=own.created)
        left = {text: key for text, key in by_text.items() if key not in found} if shared else {}
        return found | self._find_shared(model, left)

    def _find_shared(self, model: type[Model], by_text: dict[str, Key]) -> dict[Key, Mapping]:
        """What third sites have left on both sides. A row that is known to stand for another object is left out."""
        shared = self.thirds.find(model, by_text) if self.thirds is not None and by_text else {}
        taken = self.find_sources(model, [mapping.target for mapping in shared.values()]) if shared else {}
        found = {key: mapping for key, mapping in shared.items() if mapping.target not in taken}
        self.borrowed |= {model} if found else set()
        return found

    @staticmethod
    def _read(model: type[Model], rows: Any, by_text: dict[str, Key]) -> dict[Key, Mapping]:
        columns = rows.filter(match("source_pk", by_text)).values_list("source_pk", "pk", *KEPT, "moved")
        return {
            by_text[source]: Mapping(
                *(pk, load_key(model, target), created, bytes(digests), serial),
                imprints=None if theirs is None else (mine, theirs),
                moved=moved,
            )
            for source, pk, target, created, digests, serial, mine, theirs, moved in columns
            if source in by_text
        }

    def _find_mirrored(self, model: type[Model], by_text: dict[str, Key]) -> dict[Key, Mapping]:
        """What pushes from the target to the source left at the source."""
        rows = iter_received(self.source, model, self.mirror, by_text) if self.mirror is not None else ()
        return {
            key: Mapping(None, load_key(model, original), False, digests, serial, mirrored=True)
            for original, key, digests, serial in rows
        }

    def _find_kept(self) -> Any:
        """The mappings that were kept at the source while the target had no tables of ours, if there are any."""
        rows = get_queryset(IdMapping, self.source).filter(origin__uuid=self.uuid, remote=self.target)
        rows = rows.exclude(remote="")  # as the index says it
        return rows if self.in_target and rows.exists() else None

    def _get_sets(self, model: type[Model]) -> list[QuerySet[IdMapping]]:
        """The mappings of a model where they are kept, and those that were kept at the source before."""
        rows = self.get_rows(model)
        return [rows] if self._kept is None else [rows, self._kept.filter(model=model._meta.label_lower)]

    def find_sources(self, model: type[Model], targets: Iterable[Key]) -> dict[Key, list[Sent]]:
        """By row of the target, the objects of the source that are mapped to it."""
        by_text = {dump_key(key): key for key in targets}
        found: dict[Key, list[Sent]] = {}
        for rows in self._get_sets(model) if by_text else ():
            columns = rows.filter(match("target_pk", by_text)).values_list(
                *("source_pk", "target_pk", "created", "digests", "moved")
            )
            for source, target, created, digests, moved in columns:
                if target in by_text:
                    sent = Sent(load_key(model, source), created, bytes(digests), moved)
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
        """The keys of all objects of the source that are mapped, without those that were moved."""
        columns = (rows.filter(moved=False).values_list("source_pk", flat=True) for rows in self._get_sets(model))
        return (load_key(model, text) for column in columns for text in column.iterator(chunk_size=10_000))

    def find_others(self, model: type[Model], targets: Iterable[Key]) -> set[Key]:
        """Those rows of the target that another origin has an object for."""
        by_text = {dump_key(key): key for key in targets}
        if not self.in_target or not by_text:
            return set()
        others = self.get_rows(model, of_all=True).filter(match("target_pk", by_text)).exclude(origin=self.origin)
        return {by_text[text] for text in others.values_list("target_pk", flat=True) if text in by_text}

    def save(self, model: type[Model], rows: Sequence[Noted], known: AnyMapping[Key, Mapping] | None = None) -> None:
        """Keep id mappings, in the open transaction of the place. ``known``: what :meth:`find` gives."""
        keys = [row.key for row in rows]
        known = self.find(model, keys) if known is None else known
        columns = make_columns(model, rows, known, with_imprints=self.notes_imprints)
        moved = [row.key for row in rows if row.key in known and known[row.key].target != row.target]
        self._note_unsettled(model, moved, [known[key].target for key in moved])
        self._recall.forget(model, keys)
        self._written.add(model)
        fresh, changed = split_columns(rows, known, columns)
        if back := [mapping.pk for mapping in known.values() if mapping.moved and mapping.pk is not None]:
            self.background.run(lambda: self._writer.update(IdMapping, MOVED, [(pk, [False]) for pk in back]))
        if changed:
            kept = [get_field(IdMapping, name) for name in KEPT]
            self.background.run(lambda: self._writer.update(IdMapping, kept, changed))
        if number := len(fresh[0]):
            self.number_stored += number
            self.number_of_new += number * self.is_blank(model)
            here = (self.origin, self.remote, model._meta.label_lower)
            fields = [get_field(IdMapping, name) for name in (*HERE, *COLUMNS)]
            columns = [*([value] * number for value in here), *fresh]
            self.background.run(self._writer.make_insert(IdMapping, fields, columns))

    def mark_moved(self, model: type[Model], targets: Sequence[Key], *, moved: bool = True) -> None:
        """Note that these rows of the target are its own from now on, as their objects were handed over, or are not."""
        self._recall.forget(model)
        for chunk in iter_chunks([dump_key(key) for key in targets], KEYS_PER_QUERY):
            for rows in self._get_sets(model):
                rows.filter(match("target_pk", chunk)).update(moved=moved, source_imprint=None, target_imprint=None)

    def forget(self, model: type[Model], targets: Sequence[Key], *, only_ours: bool = False) -> None:
        """Drop every origin's mappings to these rows of the target, which have just been created. ``only_ours``: ours,
        of rows that are deleted; the other origins will notice by theirs that they are."""
        if not only_ours and self.is_blank(model):
            return
        self._recall.forget(model)
        rows = self.get_rows(model, of_all=not only_ours)
        for chunk in iter_chunks([dump_key(key) for key in targets], KEYS_PER_QUERY):
            of_chunk = rows.filter(match("target_pk", chunk))
            if found := list(of_chunk.values_list("origin", "source_pk", "target_pk")):
                ours = [load_key(model, own) for origin, own, _ in found if origin == self.origin]
                self._note_unsettled(model, ours, [load_key(model, other) for _, _, other in found])
                of_chunk._raw_delete(self.place)

    def _note_unsettled(self, model: type[Model], keys: Sequence[Key], targets: Sequence[Key]) -> None:
        for noted, some in ((self.unsettled, keys), (self.left, targets)):
            if some:
                noted.setdefault(model, make_key_list(model)).extend(some)

    def forget_imprints(self, model: type[Model], keys: Sequence[Key]) -> None:
        """Have these objects compared again, whatever their imprints say."""
        self._forget_imprints(model, self.get_rows(model), "source_pk", keys)

    def forget_imprints_of(self, model: type[Model], targets: Sequence[Key]) -> None:
        """Have the objects of every origin compared again that these rows of the target stand for."""
        self._forget_imprints(model, self.get_rows(model, of_all=True), "target_pk", targets)

    def _forget_imprints(self, model: type[Model], rows: QuerySet[IdMapping], column: str, keys: Sequence[Key]) -> None:
        fields = [get_field(IdMapping, name) for name in COLUMNS[-2:]]
        for chunk in iter_chunks(keys, KEYS_PER_QUERY):
            some = rows.filter(match(column, list(map(dump_key, chunk))), target_imprint__isnull=False)
            if ids := list(some.values_list("pk", flat=True)):
                self._writer.update(IdMapping, fields, [(pk, [None, None]) for pk in ids])
        self._recall.forget(model)

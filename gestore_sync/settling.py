"""What people decide about values that lost a conflict: they stay lost, or a side's value is restored on the target."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import Model

from gestore_sync.adapters import load_adapters
from gestore_sync.comparison import LOCAL, digest_value
from gestore_sync.conf import MERGED, REMOTE
from gestore_sync.deletionlog import DeletionLog
from gestore_sync.digests import get_name_code, split_digests
from gestore_sync.dooming import Doomed
from gestore_sync.exceptions import NotRestored, SchemaMismatch, UnknownObject, WrongDatabase, WrongSetting
from gestore_sync.failures import Attempts
from gestore_sync.fields import now
from gestore_sync.generic import find_generic_target, to_key
from gestore_sync.keytexts import dump_key
from gestore_sync.layouts import Layout
from gestore_sync.links import GENERIC, Link, LinkGraph
from gestore_sync.lostvalues import Lost, decode_value, load_lost
from gestore_sync.models import Conflict, IdMapping, SyncRun
from gestore_sync.reading import get_queryset, match
from gestore_sync.refs import Key, Ref, get_field, load_pk
from gestore_sync.rows import Rows
from gestore_sync.schema import check_schema
from gestore_sync.sending import Sender
from gestore_sync.transactions import write_with
from gestore_sync.translation import Column
from gestore_sync.valuekinds import INVALID
from gestore_sync.writers import get_writer


def list_rows(using: str, ids: Collection[int] = (), *, closed: bool = False) -> list[Conflict]:
    """The conflicts with these ids; without ids the open ones, with ``closed`` all. Raises :class:`UnknownObject`, and
    :class:`SchemaMismatch` where the database keeps none."""
    try:
        check_schema(using, [Conflict])
    except SchemaMismatch as error:
        raise SchemaMismatch(
            f"The database {using!r} keeps no conflicts: it lacks the table {Conflict._meta.db_table!r}, or columns of "
            "it. Those with a target that has no tables of gestore_sync are kept at the source: name that one with "
            f"--database. Let this one keep them from now on: manage.py migrate gestore_sync --database {using}"
        ) from error
    rows = get_queryset(Conflict, using).order_by("pk")
    if not ids:
        return list(rows if closed else rows.filter(taken=""))
    found = list(rows.filter(match("pk", ids)))
    if missing := sorted(set(ids) - {row.pk for row in found}):
        raise UnknownObject(f"The database {using!r} has no conflict {', '.join(map(str, missing))}.")
    return found


def settle(using: str, ids: Collection[int], side: str) -> list[Conflict]:
    """Take this side's values for all of these conflicts, or for none; MERGED: what the run decided, field by field."""
    if side not in (LOCAL, REMOTE, MERGED):
        raise WrongSetting(f"There is no side {side!r} to take. The sides are: {LOCAL}, {REMOTE}, or {MERGED} of both.")
    if not ids:
        raise UnknownObject("Name the conflicts to resolve by their ids.")
    remotes = {row.remote for row in list_rows(using, ids)} - {""}
    for alias in sorted(remotes):
        if alias not in settings.DATABASES:
            raise WrongDatabase(f"A conflict is about the database {alias!r}, which is not in DATABASES any more.")
    with write_with(using, SyncRun._meta.db_table, sorted(remotes)):
        rows = list_rows(using, ids)
        settling = Settling(using, side)
        for row in rows:
            settling.settle(row)
        return rows


class Settling:
    """Takes one side's values, in open transactions."""

    def __init__(self, using: str, side: str) -> None:
        self.using = using
        self.side = side
        self._get_graph = cache(lambda target: LinkGraph(target, load_adapters()))

    def settle(self, row: Conflict) -> None:
        """Settle one conflict. Raises :class:`NotRestored` where a value cannot be restored."""
        if row.taken:
            raise NotRestored(f"Conflict {row.pk} is resolved already: {row.taken} was taken.")
        if self.side == MERGED != row.resolved:
            raise NotRestored(f"Conflict {row.pk} was decided for one side: take {row.resolved} to leave it so.")
        target = row.remote or self.using
        dispute = Dispute(row, self._get_graph(target), self.side)
        here = dispute.read()
        mapping = self._find_mapping(dispute)
        if dispute.losing:
            self._restore(dispute, mapping, here)
        if here is not None:
            self._note(dispute, mapping, here)
        row.taken, row.taken_date = self.side, now()
        fields = [get_field(Conflict, name) for name in ("taken", "taken_date")]
        get_writer(self.using).update(Conflict, fields, [(row.pk, [row.taken, row.taken_date])])

    def _find_mapping(self, dispute: Dispute) -> IdMapping | None:
        row, model = dispute.row, dispute.layout.model
        mappings = get_queryset(IdMapping, self.using).filter(origin=row.origin_id, remote=row.remote)
        of_model = mappings.filter(model=model._meta.label_lower)
        found: IdMapping | None = of_model.filter(source_pk=dump_key(load_pk(model, row.source_pk))).first()
        return found

    def _restore(self, dispute: Dispute, mapping: IdMapping | None, here: list[Any] | None) -> None:
        """Write the losing values to the row, if that still has those that won."""
        if here is None:
            raise dispute.refuse("does not exist any more")
        if mapping is not None and mapping.target_pk != dump_key(dispute.key):
            raise dispute.refuse("is another object by now")
        after = dispute.make_restored(here)
        layout, target = dispute.layout, dispute.target
        numbers = list(dispute.losing)
        fields = [layout.columns[number].field for number in numbers]
        attempts = Attempts(target, target)
        rows = Rows(get_writer(target), Sender(target, dispute.graph), attempts)
        rows.update(layout.model, [dispute.key], fields, [(dispute.key, [after[number] for number in numbers])])
        attempts.check_constraints()
        log = DeletionLog(target, Doomed())
        log.write(log.make_changes(layout.model, [dispute.key]))

    def _note(self, dispute: Dispute, mapping: IdMapping | None, here: Sequence[Any]) -> None:
        """Let the next run know what the source had when it was answered, so that it is no news again."""
        layout = dispute.layout
        if mapping is None or mapping.target_pk != dump_key(dispute.key):
            return
        known = split_digests(bytes(mapping.digests))
        before = dict(known)
        later = {name for text in self._iter_later(dispute.row) for name in load_lost(text)}
        for number, lost in dispute.fields.items():
            name = layout.names[number]
            code = get_name_code(name)
            stands = dispute.is_standing(number, here)
            if name not in later and stands and known.get(code) != digest_value(layout, number, here[number]):
                known[code] = digest_value(layout, number, dispute.decode(number, lost.local))
        if known != before:
            digests = b"".join(code + value for code, value in known.items())
            fields = [get_field(IdMapping, name) for name in ("digests", "serial", "target_imprint")]
            get_writer(self.using).update(IdMapping, fields, [(mapping.pk, [digests, mapping.serial + 1, None])])

    def _iter_later(self, row: Conflict) -> Iterator[str]:
        """What later conflicts of the same object are about."""
        rows = get_queryset(Conflict, self.using).filter(origin=row.origin_id, remote=row.remote, model=row.model)
        yield from rows.filter(source_pk=row.source_pk, pk__gt=row.pk).values_list("fields", flat=True)


class Dispute:
    """One conflict and the row of the target that it is about. ``losing``: the columns whose value must be written."""

    def __init__(self, row: Conflict, graph: LinkGraph, side: str) -> None:
        self.row = row
        self.graph = graph
        self.target = graph.using
        self.side = side
        model = find_model(row, graph)
        self.layout = Layout(model, graph)
        self.key: Key = load_pk(model, row.target_pk)
        self.fields = self._number(load_lost(row.fields))
        self.losing = {number: lost for number, lost in self.fields.items() if side not in (MERGED, lost.resolved)}

    def _number(self, fields: Mapping[str, Lost]) -> dict[int, Lost]:
        names = self.layout.names
        if unknown := sorted(set(fields) - set(names)):
            raise self.refuse(f"has no field {', '.join(map(repr, unknown))} that travels any more")
        return {names.index(name): lost for name, lost in fields.items()}

    def refuse(self, what: str) -> NotRestored:
        """The error about this row."""
        ref = Ref(self.layout.model, self.key)
        return NotRestored(
            f"{ref} of {self.target!r}, which conflict {self.row.pk} is about, {what}. Nothing was written. Change "
            f"the object by hand where it needs it, and take {self.row.resolved}, which leaves it as it is."
        )

    def read(self) -> list[Any] | None:
        """The values of the row, None where it is gone."""
        found = next(iter(self.layout.read(self.target, [self.key], extras=False)), None)
        return None if found is None else self.layout.get_values(found)

    def decode(self, number: int, value: Any) -> Any:
        """A kept value as one of the column."""
        if number >= len(self.layout.columns):
            return value
        try:
            return decode_value(self.layout, number, value)
        except INVALID as error:
            name = self.layout.names[number]
            raise self.refuse(f"cannot have the value {value!r} in {name!r}: {error}") from error

    def is_standing(self, number: int, here: Sequence[Any]) -> bool:
        """Whether the row still has the value that won: of a link of several columns the whole."""
        return all(self._is_left(at, here) for at in self.layout.together.get(number, (number,)))

    def _is_left(self, number: int, here: Sequence[Any]) -> bool:
        lost = self.fields.get(number)
        return lost is not None and self.layout.is_same(
            number, self.decode(number, lost.get(lost.resolved)), here[number]
        )

    def make_restored(self, here: Sequence[Any]) -> list[Any]:
        """The values that the row will have."""
        after = list(here)
        for number, lost in self.losing.items():
            name = self.layout.names[number]
            self._check_place(number)
            if not self.is_standing(number, here):
                standing = lost.get(lost.resolved)
                raise self.refuse(f"has {here[number]!r} in {name!r} by now, and not {standing!r} as it was left")
            after[number] = self.decode(number, lost.get(self.side))
        for number, column in enumerate(self.layout.columns):
            if column.link is not None:
                self._check_link(number, column, after)
        return after

    def _check_place(self, number: int) -> None:
        """Other nodes of a tree would have to move with this one."""
        adapter, model = self.layout.adapter, self.layout.model
        if adapter is None:
            return
        name = self.layout.names[number]
        is_parent = number >= len(self.layout.columns) or name == adapter.parent_field(model)
        if is_parent or adapter.ordered_by_fields(model):
            raise self.refuse(f"has its place in a tree by {name!r}, which is not restored here")

    def _check_link(self, number: int, column: Column, after: Sequence[Any]) -> None:
        """Raise :class:`NotRestored` where a restored link would lead to what is gone."""
        link = column.link
        assert link is not None
        involved = {number, *(at - 1 for at in column.parts_at)} | ({column.type_at - 1} if column.type_at else set())
        if after[number] is None or not involved & set(self.losing):
            return
        model, value = link.target, after[number]
        if link.kind == GENERIC:
            model = find_generic_target(self.target, after[column.type_at - 1])
            value = None if model is None else to_key(model, value)
        elif column.part is not None:
            value = tuple(after[at - 1] for at in column.parts_at)
        condition = {link.to_field or "pk": value}
        if value is None or model is None or not get_queryset(model, self.target).filter(**condition).exists():
            to = "an object" if model is None else model._meta.label
            raise self.refuse(f"cannot point by {column.name!r} to {to} {value!r}, which is gone")
        if model is self.layout.model and len(link.attnames) == 1:
            self._check_circle(link, value)

    def _check_circle(self, link: Link, value: Any) -> None:
        """Raise :class:`NotRestored` where the row would stand below itself."""
        rows, seen = get_queryset(self.layout.model, self.target), set()
        while value is not None and value not in seen:
            seen.add(value)
            found = rows.filter(**{link.to_field or "pk": value}).values_list("pk", link.attnames[0]).first()
            key, value = found or (None, None)
            if key == self.key and len(seen) > 1:
                raise self.refuse(f"would stand below itself by {link}, as other rows were moved below it since")


def find_model(row: Conflict, graph: LinkGraph) -> type[Model]:
    """The model of a conflict. Raises :class:`UnknownObject` where it is gone."""
    try:
        model: type[Model] = apps.get_model(row.model)
    except (LookupError, ValueError):
        raise UnknownObject(f"Conflict {row.pk} is about {row.model}, which does not exist any more.") from None
    if model not in graph:
        raise UnknownObject(f"The database {graph.using!r} has no table for {row.model}, of conflict {row.pk}.")
    return model

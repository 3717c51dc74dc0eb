"""Recognizes rows that are on both sides as they were when the sides were last in step: nobody has to read them.

Their imprints say so, which each database makes of its own rows. What the links of such a row lead to is what they led
to then: where a counterpart changes, the imprints of all that points to it are forgotten.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connections
from django.db.models import BigIntegerField, DecimalField, Model, OuterRef, Subquery
from django.db.models.functions import Cast

from gestore_sync.background import read_beside
from gestore_sync.captures import NAME_PATTERN
from gestore_sync.conf import get_signal_mode
from gestore_sync.imprints import IMPRINT
from gestore_sync.keysets import make_key_set
from gestore_sync.keytexts import dump_key, get_key_loader
from gestore_sync.layouts import Layout
from gestore_sync.links import GENERIC
from gestore_sync.mappings import MappingStore
from gestore_sync.plan import Change
from gestore_sync.reading import get_keys_per_query, get_queryset, match, match_keys
from gestore_sync.refs import Key, get_table, has_integer_key, resolve_key_field
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph

FLOAT_DIGITS = sys.float_info.dig
"""So many digits of a decimal number a float keeps."""


class Untouched:
    """The objects of one run that are as they were. ``is_on``: whether anything may be recognized. ``is_complete``: no
    object of the run has another counterpart than it had, so that all links lead where they led; else nothing is."""

    def __init__(self, subgraph: Subgraph, target: str, *, is_on: bool) -> None:
        self._subgraph = subgraph
        self._source = subgraph.source
        self._target = target
        self._is_on = is_on
        self._keys: dict[type[Model], Any] = {}
        self._expects_most = False
        self.is_complete = True

    def find(self, layout: Layout, store: MappingStore, keys: Sequence[Key]) -> dict[Key, Key]:
        """Those of the objects whose row of the target is as it was left, each with its key there; notes which of them
        are as they were at the source, too."""
        if not self._is_on or not layout.takes_imprints(self._source, self._target):
            return {}
        same, mine = self._read(layout, store, keys)
        noted = self._keys.setdefault(layout.model, make_key_set(layout.model))
        noted.update([key for key, (_, imprint) in same.items() if mine.get(key) == imprint])
        return {key: target for key, (target, _) in same.items()}

    def _read(
        self, layout: Layout, store: MappingStore, keys: Sequence[Key]
    ) -> tuple[dict[Key, tuple[Key, int]], dict[Key, int]]:
        """What :func:`find_as_left` gives, and imprints at the source of at least the objects that it gives."""
        model = layout.model
        is_one_query = has_integer_key(model) and len(keys) <= get_keys_per_query(model, self._source)
        # Where mappings are kept at the source, too, it is busy with those meanwhile.
        is_free = store.is_only_one and self._target != self._source
        if self._expects_most and is_free and is_one_query:
            rows = layout.add_imprint(get_queryset(model, self._source).filter(match_keys(model, keys)))
            same, read = read_beside(rows.values_list("pk", IMPRINT), lambda: find_as_left(layout, store, keys))
            mine = dict(read)
        else:
            same = find_as_left(layout, store, keys)
            mine = layout.read_imprints(self._source, list(same)) if same else {}
        self._expects_most = 2 * len(same) > len(keys)
        return same, mine

    def leave_out(self, model: type[Model], keys: Sequence[Key]) -> Sequence[Key]:
        """Those of the objects that are not as they were: they have to be compared. All counterparts are known."""
        found = self._keys.get(model) if self.is_complete else None
        left: Sequence[Key] = keys if found is None else found.leave_out(keys)
        return left

    def takes(self, layout: Layout, store: MappingStore) -> bool:
        """Whether rows that are in step now can be recognized by a later run: all their links lead to what has an id
        mapping of this source, so that it will be noticed when the counterpart is another one. Objects that are only
        looked for are found anew by each run."""
        looked_up = {model for (model, role), found in self._subgraph.members.items() if role is Role.LOOK_UP and found}
        loose = looked_up | store.borrowed
        leads_away = any(link.target in loose or (link.kind == GENERIC and loose) for link in layout.links)
        return self._is_on and not leads_away and layout.takes_imprints(self._source, self._target)


def find_as_left(layout: Layout, store: MappingStore, keys: Sequence[Key]) -> dict[Key, tuple[Key, int]]:
    """Of the objects whose row of the target has the imprint that was noted: its key, and the imprint at the source."""
    model = layout.model
    if not (store.is_only_one and has_integer_key(model)):
        mappings = store.find(model, keys)
        known = {key: (found.target, *found.imprints) for key, found in mappings.items() if found.imprints is not None}
        theirs = layout.read_imprints(store.target, [target for target, _, _ in known.values()]) if known else {}
        return {key: (target, mine) for key, (target, mine, other) in known.items() if theirs.get(target) == other}
    row = get_queryset(model, store.target).filter(pk=Cast(OuterRef("target_pk"), BigIntegerField()))
    as_left = store.get_rows(model).filter(
        match("source_pk", list(map(str if has_integer_key(model) else dump_key, keys))),
        target_imprint=Subquery(layout.add_imprint(row).values(IMPRINT)[:1]),
    )
    found = as_left.values_list("source_pk", "target_pk", "source_imprint")
    load = get_key_loader(model)
    return {load(source): (load(target), mine) for source, target, mine in found if mine is not None}


def find_imprints(layout: Layout, row: Sequence[Any], other: Sequence[Any]) -> tuple[int, int] | None:
    """The imprints of a row of the source and of the row of the target that is in step with it, where they have any."""
    at = layout.imprint_at
    return (row[at], other[at]) if len(row) > at and len(other) > at else None


class Imprinter:
    """Finds the imprints of rows that one run writes."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._stays: dict[type[Model], bool] = {}

    def read(self, layout: Layout, rows: Mapping[Key, Sequence[Any]]) -> dict[Key, tuple[int, int]]:
        """By key of the target, the imprints of rows that have just been written; ``rows``: those of the source."""
        at, model = layout.imprint_at, layout.model
        mine = {target: row[at] for target, row in rows.items() if len(row) > at}
        if not mine or not self._stays_as_written(model):
            return {}
        theirs = layout.read_imprints(self._target, list(mine))
        return {target: (imprint, theirs[target]) for target, imprint in mine.items() if target in theirs}

    def find_as_planned(self, layout: Layout, changes: Sequence[Change]) -> set[Key]:
        """Those of the rows of the target that still are what they were when the changes were planned: nothing else has
        changed them in the same run."""
        planned = {change.target: change.imprint for change in changes if change.imprint is not None}
        found = layout.read_imprints(self._target, list(planned)) if planned else {}
        return {target for target, imprint in found.items() if planned[target] == imprint}

    def _stays_as_written(self, model: type[Model]) -> bool:
        """Whether nothing changes rows while they are written, so that they would not be what was sent."""
        if model not in self._stays:
            is_saved = get_signal_mode(model._meta.label) == "save"
            is_changed = is_rounded(self._target, model) or has_foreign_triggers(self._target, model)
            self._stays[model] = not is_saved and not is_changed
        return self._stays[model]


def is_rounded(using: str, model: type[Model]) -> bool:
    """Whether the database may keep less than what is written: SQLite has decimal numbers as floats."""
    fields: Iterable[Any] = map(resolve_key_field, model._meta.local_concrete_fields)
    digits = [field.max_digits for field in fields if isinstance(field, DecimalField)]
    return connections[using].vendor == "sqlite" and not all(number and number <= FLOAT_DIGITS for number in digits)


def has_foreign_triggers(using: str, model: type[Model]) -> bool:
    """Whether the table has triggers, other than ours, that may change what is written."""
    connection = connections[using]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [get_table(model)]
            )
        else:
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(
                "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND (tgrelid = %s::regclass "
                "OR tgrelid IN (SELECT relid FROM pg_partition_tree(%s::regclass)))",
                [table, table],
            )
        return any(not re.match(NAME_PATTERN, name) for (name,) in cursor.fetchall())

"""Whether rows go whose object the source no longer has: those that are still what we left there.

The rows of an object in several tables go together, or stay together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model

from gestore_sync.children import get_policies_of
from gestore_sync.comparison import LOCAL, REMOTE, get_winner, is_other_object
from gestore_sync.digests import find_changed
from gestore_sync.hanging import Hanging
from gestore_sync.layouts import Layout
from gestore_sync.locators import get_readers
from gestore_sync.plan import Conflict
from gestore_sync.policies import Policies
from gestore_sync.recall import Sent
from gestore_sync.refs import Key, Ref, show_key
from gestore_sync.schema import check_schema
from gestore_sync.times import Times

Rows = Mapping[Key, Sent]
"""Rows of one table, and what we left in them."""

Edited = Mapping[Key, set[str] | None]
"""Rows of one table that the target changed, with the names of the fields where these are known."""


@dataclass(slots=True)
class Dispute:
    """What the target changed in the rows of one object, and which sides win by the policies for them."""

    names: set[str] = field(default_factory=set)
    winners: set[str | None] = field(default_factory=set)

    @property
    def resolved(self) -> str | None:
        """The side that wins: as nothing of the object may be lost, the target where it wins anywhere."""
        if None in self.winners:
            return None
        return REMOTE if REMOTE in self.winners else LOCAL


class Verdicts:
    """Decides about rows of one target, once about each. ``find_gone``: gives what we left in those rows of a table
    whose object the source no longer has; ``find_cause``: the object because of which a row goes.

    ``kept``: by model, how many objects stay because the target's changes win.
    """

    def __init__(
        self,
        hanging: Hanging,
        get_layout: Callable[[Any], Layout],
        policies: Policies,
        times: Times,
        find_gone: Callable[[type[Model], Iterable[Key]], Rows],
        find_cause: Callable[[Ref], Ref | None],
    ) -> None:
        self._hanging = hanging
        self._target = hanging.target
        self._get_layout = get_layout
        self._policies = policies
        self._times = times
        self._find_gone = find_gone
        self._find_cause = find_cause
        self._going: dict[type[Model], dict[Key, bool]] = {}
        self.kept: Counter[str] = Counter()
        self.conflicts: list[Conflict] = []

    def filter_ours(self, model: type[Model], gone: Rows) -> set[Key]:
        """Those rows that are still what we left there, as all rows of their object are. An object that was changed on
        the target is a conflict; one that is another by now is none of ours."""
        going = self._going.setdefault(model, {})
        if new := {key: sent for key, sent in gone.items() if key not in going}:
            self._judge(model, new)
        return {key for key in gone if going[key]}

    def _judge(self, model: type[Model], gone: Rows) -> None:
        objects = self._hanging.find_parts(model, list(gone))
        tables = {table: gone if table is model else self._find_gone(table, rows) for table, rows in objects.items()}
        staying: set[Key] = set()
        edited: dict[type[Model], Edited] = {}
        for table, rows in tables.items():
            edited[table], others = self._compare(table, rows) if rows else ({}, set())
            staying |= {objects[table][key] for key in others}
        disputes = self._find_disputes(edited, tables, objects)
        parts = {
            objects[table][key]: Ref(table, key)
            for table, rows in sorted(tables.items(), key=lambda item: len(item[0]._meta.all_parents))
            for key in rows
            if objects[table][key] in disputes
        }
        staying |= {
            key for key, dispute in disputes.items() if key not in staying and not self._decide(parts[key], dispute)
        }
        for table, rows in tables.items():
            self._going.setdefault(table, {}).update((key, objects[table][key] not in staying) for key in rows)

    def _compare(self, model: type[Model], rows: Rows) -> tuple[Edited, set[Key]]:
        """The rows that are not what we left there: those that were changed, and those that are other objects."""
        check_schema(self._target, [model])
        layout = self._get_layout(model)
        readers = get_readers(model, self._hanging.graph)
        reader = next((reader for reader in readers if reader.identity.locates), None)
        identifying = {name for name in reader.get_names() if name} if reader is not None else set()
        edited: dict[Key, set[str] | None] = {}
        others = set(rows)
        for row in layout.read(self._target, list(rows), extras=False):
            values, sent = layout.get_values(row), rows[row[0]]
            if is_other_object(layout, identifying, sent.digests, values):
                continue
            others.discard(row[0])
            normal = [layout.normalize(at, value) for at, value in enumerate(values)]
            changed = find_changed(sent.digests, layout.names, normal)
            if changed is None or changed:
                edited[row[0]] = changed
        return edited, others

    def _find_disputes(
        self,
        edited: Mapping[type[Model], Edited],
        tables: Mapping[type[Model], Rows],
        objects: Mapping[type[Model], Mapping[Key, Key]],
    ) -> dict[Key, Dispute]:
        """The objects that the source deleted and the target changed, as far as what is known of them tells, or the
        target's log."""
        newer: set[Key] = set()
        for table, rows in edited.items():
            sources = {tables[table][key].key: key for key in rows}
            newer |= {objects[table][sources[found]] for found in self._times.find_newer(table, sources)}
        disputes: dict[Key, Dispute] = {}
        for table, rows in edited.items():
            policies = get_policies_of(self._policies, table, self._target, rows)
            for key, names in rows.items():
                which = objects[table][key]
                if names or which in newer:
                    dispute = disputes.setdefault(which, Dispute())
                    dispute.names |= names or set()
                    later = REMOTE if which in newer else LOCAL
                    dispute.winners.add(get_winner(policies[key].get(table), later))
        return disputes

    def _decide(self, ref: Ref, dispute: Dispute) -> bool:
        """Whether an object goes that the source deleted and the target changed."""
        label, resolved = ref.model._meta.label, dispute.resolved
        what = f" ({', '.join(sorted(dispute.names))})" if dispute.names else ""
        reason = f"{ref} of the target was changed there{what} since we put it there; the source deleted it."
        self.conflicts.append(Conflict(label, show_key(ref.pk), None, reason, {}, resolved, self._find_cause(ref)))
        self.kept[label] += resolved == REMOTE
        return resolved == LOCAL

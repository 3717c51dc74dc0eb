"""Decides what will be done on the target: create, update, leave, delete, or a conflict. Only reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from django.db.models import Model

from gestore_sync.batches import iter_batches
from gestore_sync.circles import find_circles
from gestore_sync.clashes import Clashes
from gestore_sync.comparison import Decision, Pair, mirror_digests
from gestore_sync.constraints import find_deferred
from gestore_sync.deciding import can_create_all, decide_all, drop_known, find_barred, find_fresh, is_noted
from gestore_sync.journal import Journal
from gestore_sync.keeping import plan_kept
from gestore_sync.keysets import make_key_list
from gestore_sync.layouts import Layout
from gestore_sync.linkedvalues import iter_linked_values
from gestore_sync.locators import describe_matched
from gestore_sync.lookup import Lookup
from gestore_sync.mappings import MappingStore
from gestore_sync.narration import Conflicts, describe_changes, describe_missing, fill_report
from gestore_sync.needs import REFERRED, find_needed, spread_needs
from gestore_sync.ordering import get_identity_links, get_links, sort_models
from gestore_sync.places import find_moved_nodes
from gestore_sync.plan import Change, Create, Note, Noted, Plan, Update
from gestore_sync.policies import Policies
from gestore_sync.progress import Progress
from gestore_sync.recognition import Untouched, find_imprints
from gestore_sync.refs import NEW, Key, Ref
from gestore_sync.removals import Removals
from gestore_sync.scope import Role
from gestore_sync.subgraph import Subgraph
from gestore_sync.times import Times
from gestore_sync.tombstones import Tombstones
from gestore_sync.translation import LOST


class Planner:
    """Makes the plan of one push. ``can_recognize``: rows that are on both sides as they were left need not be read."""

    can_recognize: ClassVar[bool] = True

    def __init__(
        self,
        subgraph: Subgraph,
        target: str,
        store: MappingStore,
        *,
        on_conflict: Policies = Policies(),  # noqa: B008 (it does not change)
        prune: bool = False,
        progress: Progress | None = None,
        tolerant: bool = False,
        tombstones: Tombstones | None = None,
        find_date: Callable[[type[Model], Key], datetime | None] = lambda model, key: None,
    ) -> None:
        self.subgraph = subgraph
        self.source = subgraph.source
        self.target = target
        self.store = store
        self.on_conflict = on_conflict
        self.prune = prune
        self.tombstones = tombstones
        self.find_date = find_date
        self._times = Times(store, find_date)
        self.progress = progress or Progress()
        self.get_layout: Callable[[type[Model]], Layout] = cache(self._make_layout)
        self.lookup = self._make_lookup()
        self.lookup.tolerant = tolerant
        self.untouched = self.lookup.untouched = Untouched(subgraph, target, is_on=self.can_recognize and store.keeps)
        self.counterparts = self.lookup.counterparts
        self.plan = Plan(roots=subgraph.roots)
        self._cleared: set[Key] = set()
        self._conflicts = Conflicts(self.plan, self.source)
        self._unique_values: dict[type[Model], dict[str, dict[Key, Any]]] = {}
        self.clashes = Clashes(
            subgraph.graph, self.source, target, self.counterparts, self.get_layout, self.lookup.free
        )

    def _make_layout(self, model: type[Model]) -> Layout:
        return Layout(model, self.subgraph.graph)

    def _make_lookup(self) -> Lookup:
        return Lookup(self.subgraph, self.target, self.store, self.get_layout)

    def make_journal(self) -> Journal:
        """What logs on the target what is written there."""
        return Journal(self.store, self.find_date)

    def locate(self) -> list[type[Model]]:
        """Find the counterparts of all objects; the models in the order in which they are compared."""
        models = self.subgraph.get_models()
        links = get_links(self.subgraph.graph, models)
        identifying = {link for model in models for link in get_identity_links(self.subgraph.graph, model)}
        if self.tombstones is not None:
            self.tombstones.find_mapped(self.store, self.target, self.get_layout)
            self.lookup.doomed = self.tombstones.avoided
        self.progress.start("locating", len(models))
        for model in sort_models(models, links, lambda link: 2 if link in identifying else int(link.required)):
            self.lookup.locate(model)
            self.progress.advance()
        self.plan.waiting.update(self.lookup.unreadable)
        spread_needs(self.subgraph, self.counterparts)
        for ref, reason, fields in self.lookup.doubts:
            counts = self.subgraph.find_role(*ref) not in REFERRED or self.subgraph.is_needed(*ref)
            if counts and ref.pk not in self.subgraph.barred.get(ref.model, {}):
                self._conflicts.add(ref, reason, fields)
        self._find_linked_values()
        self._prepare(models)
        order = sort_models(models, links, lambda link: int(link.required))
        self.plan.models = order
        return order

    def make(self) -> Plan:
        """The plan. Conflicts are in its report; nothing was written."""
        order = self.locate()
        self.plan.deferred = find_deferred(self.target, order, self.subgraph.graph)
        for model in order:
            if moved := find_moved_nodes(self.subgraph, model, self.target, self.counterparts):
                self.plan.places[model] = set(moved)
        self.progress.start("comparing", self.subgraph.count())
        for model in order:
            self._plan_model(model)
        places = (self.subgraph, self.target, self.counterparts, self.get_layout)
        for found in find_circles(self.plan, *places, self.store):
            self._conflicts.add(*found)
        removals = self.removals = self._make_removals()
        if self.tombstones is not None:
            self.tombstones.find_unmapped(self.counterparts)
            removals.find_logged(self.tombstones)
        else:
            removals.find(prune=self.prune)
        self.plan.add_conflicts(removals.conflicts)
        self.plan.add_conflicts(self.clashes.settle(self.plan, lambda model: set(removals.deleted.get(model, ()))))
        removals.add_to(self.plan)
        self._conflicts.name()
        fill_report(self.plan.report, self.subgraph, self.counterparts, self.store)
        return self.plan

    def _make_removals(self) -> Removals:
        who = (self.store, self.counterparts, self.get_layout)
        return Removals(self.subgraph, self.target, *who, self.on_conflict, self._times, self.plan)

    def _prepare(self, models: Sequence[type[Model]]) -> None:
        """What has to be done when the counterparts are known and nothing was compared."""

    def _find_linked_values(self) -> None:
        for model, name, values, is_carried in iter_linked_values(
            self.subgraph, self.target, self.counterparts, self.get_layout
        ):
            self.counterparts.values[model, name] = values
            if is_carried:
                self._unique_values.setdefault(model, {})[name] = values

    def _plan_model(self, model: type[Model]) -> None:
        planned = make_key_list(model)
        new, matched = find_needed(self.subgraph, model, self.counterparts)
        planned.extend(self.subgraph.iter_keys(model, Role.OWN))
        planned.extend(new)  # all owned objects are compared or created, and referred ones that must be made
        rest = self.untouched.leave_out(model, planned)
        self.plan.report.unchanged[model._meta.label] += len(planned) - len(rest)
        self.progress.advance(len(planned) - len(rest))
        layout = self.get_layout(model)
        has_imprints = self.untouched.takes(layout, self.store)
        batches = iter_batches(model, self.source, rest)
        with layout.read_batches(self.source, batches, imprints=has_imprints) as stream:
            for keys, rows in stream:
                self._plan_batch(layout, keys, {row[0]: row for row in rows}, has_imprints=has_imprints)
                self.progress.advance(len(keys))
        if matched:
            self.plan.report.matched[model._meta.label] += len(matched)
            self.progress.advance(len(matched))
            for keys in iter_batches(model, self.source, self.untouched.leave_out(model, matched)):
                self._note_matched(model, keys)

    def _plan_batch(self, layout: Layout, keys: list[Key], rows: dict[Key, Any], *, has_imprints: bool) -> None:
        model = layout.model
        targets = dict(zip(keys, self.counterparts.get_all(model, keys), strict=True))
        existing = [target for target in targets.values() if target is not NEW]
        if not existing and can_create_all(self.subgraph, layout, keys, rows, self.counterparts):
            self._add_creates(layout, [rows[key] for key in keys])
            return
        self._cleared = set()
        found = layout.read(self.target, existing, extras=False, imprints=has_imprints) if existing else ()
        theirs = {row[0]: row for row in found}
        known = self.store.find(model, [key for key in keys if targets[key] is not NEW]) if existing else {}
        creates, updates, notes = [], [], []
        moved = layout.translate_all([*rows.values()], self.counterparts, self.source)
        translated = dict(zip(rows, moved, strict=True))
        may_be_lost = self.subgraph.barred or layout.has_any(moved, LOST)
        pairs: dict[Key, Pair] = {}
        for key in keys:
            row, target = rows.get(key), targets[key]
            if row is None:
                self._conflicts.add(Ref(model, key), describe_missing(self.subgraph, Ref(model, key)))
                continue
            mine = translated[key]
            if may_be_lost:
                self._settle_lost(layout, row, mine)
            if key in self._cleared:
                row = rows[key] = row[: layout.imprint_at]
            if target is NEW:
                creates.append(row)
                continue
            mapping, digests = known.get(key), None
            if mapping is not None and mapping.target == target:
                is_mirrored, digests = mapping.mirrored, mapping.digests
                digests = mirror_digests(layout, row, mine, digests) if is_mirrored else digests
            pairs[key] = Pair(mine, layout.get_values(theirs[target]), digests)
        decisions = decide_all(layout, self.source, pairs, targets, self.on_conflict, self._times)
        kept = plan_kept(self.plan, self.store, layout, rows, targets, pairs, decisions)
        for key, decision in decisions.items():
            row, target, mapping, digests = rows[key], targets[key], known.get(key), pairs[key].digests
            created = bool(mapping and mapping.target == target and mapping.created)
            self._count(layout, row, target, pairs[key], decision)
            for name, values in self._unique_values.get(model, {}).items():
                if layout.names.index(name) in decision.kept:
                    values[key] = layout.get_values(theirs[target])[layout.names.index(name)]
            if decision.kept:
                row = row[: layout.imprint_at]
            imprints = find_imprints(layout, row, theirs[target])
            if decision.write:
                updates.append(Change(row, target, decision.write, decision.digests, created, imprints and imprints[1]))
            elif key in kept or not is_noted(mapping, target, digests, decision.digests):
                notes.append(Noted(key, target, created, decision.digests, imprints))
        if updates:
            self.plan.changes.add(Update(model._meta.label, updates))
        self._add_notes(model, notes)
        self._add_creates(layout, creates, updates)

    def _add_creates(self, layout: Layout, rows: list[Any], updates: Sequence[Change] = ()) -> None:
        self.plan.report.created[layout.model._meta.label] += len(rows)
        if rows:
            self.plan.creates.add(Create(layout.model._meta.label, rows))
        self.clashes.check(layout.model, [row[0] for row in rows], updates)

    def _add_notes(self, model: type[Model], notes: list[Noted]) -> None:
        if notes := drop_known(self.store, model, notes):
            self.plan.changes.add(Note(model._meta.label, notes))

    def _settle_lost(self, layout: Layout, row: tuple[Any, ...], values: list[Any]) -> None:
        """In the values for the target an optional link to what has no counterpart becomes null; a required one is a
        conflict."""
        for number, value in enumerate(values):
            if value is NEW and (barred := find_barred(self.subgraph, layout, row, number)) is not None:
                self._add_waiting(Ref(layout.model, row[0]), layout.names[number], barred)
            elif value is LOST:
                name = layout.names[number]
                link = layout.get_link(name)
                if link is not None and link.required and find_barred(self.subgraph, layout, row, number) is None:
                    self._conflicts.add(
                        Ref(layout.model, row[0]),
                        f"{Ref(layout.model, row[0])} needs {link}, which points to {row[number + 1]!r}; that has no "
                        "counterpart on the target and does not travel. Take it in (no --ignore, no --stop before it), "
                        "create it on the target, or mend the link at the source.",
                    )
                elif (barred := find_barred(self.subgraph, layout, row, number)) is not None:
                    self._add_waiting(Ref(layout.model, row[0]), name, barred)
                layout.clear_link(values, number)
                self._cleared.add(row[0])

    def _add_waiting(self, ref: Ref, name: str, barred: Ref) -> None:
        """Note that an object must wait for one that could not be sent, and what points to it must wait with it."""
        reason = f"{ref} points by {name} to {barred}, which could not be sent."
        self.plan.waiting.setdefault(ref, reason)
        self.subgraph.barred.setdefault(ref.model, {}).setdefault(ref.pk, reason)

    def _count(self, layout: Layout, row: tuple[Any, ...], target: Key, pair: Pair, decision: Decision) -> None:
        key, report, label = row[0], self.plan.report, layout.model._meta.label
        if decision.kept:
            self.plan.account.note_kept(Ref(layout.model, key), tuple(layout.names[number] for number in decision.kept))
        if decision.write or key in self.plan.places.get(layout.model, ()):
            report.updated[label] += 1
        elif decision.kept:
            report.skipped[label] += 1
        else:
            report.unchanged[label] += 1
        is_doubtful = any(doubt.ref == Ref(layout.model, key) for doubt in self.lookup.doubts)
        if is_doubtful or (not decision.disputed and decision.resolved is None):
            return
        fields, reason = describe_changes(layout, row, target, pair, decision)
        self._conflicts.add(Ref(layout.model, key), reason, fields, decision.resolved)

    def _note_matched(self, model: type[Model], keys: list[Key]) -> None:
        """Keep the id mappings of referred objects that were found, with what identified them."""
        if pairs := find_fresh(self.store, self.counterparts, model, keys):
            self._add_notes(model, describe_matched(self.get_layout(model), self.subgraph.graph, self.target, pairs))

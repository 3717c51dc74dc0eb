"""What goes from the target: members that the source took out, and with ``--prune`` owned rows it no longer has.

Only rows that this origin put on the target go, and only where their object is gone at the source. A row that is not
ours and hangs on one of them is a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django.db.models import Model

from gestore_sync.comparison import digest_value
from gestore_sync.digests import split_digests
from gestore_sync.hanging import Hanging
from gestore_sync.keysets import make_key_set
from gestore_sync.layouts import Layout
from gestore_sync.links import TREE, Link
from gestore_sync.mappings import MappingStore
from gestore_sync.ordering import get_links, sort_models
from gestore_sync.plan import Conflict, Detach, Plan, Update
from gestore_sync.policies import Policies
from gestore_sync.reading import find_existing, iter_rows
from gestore_sync.recall import Sent
from gestore_sync.refs import NEW, UNKNOWN, Key, Ref, show_key
from gestore_sync.scope import SURVIVES, Role, get_surviving_value
from gestore_sync.subgraph import Subgraph
from gestore_sync.times import Times
from gestore_sync.tombstones import Tombstones
from gestore_sync.translation import Counterparts
from gestore_sync.verdicts import Rows, Verdicts


class Removals:
    """Finds the rows of the target to delete for one run."""

    def __init__(
        self,
        subgraph: Subgraph,
        target: str,
        store: MappingStore,
        counterparts: Counterparts,
        get_layout: Callable[[Any], Layout],
        policies: Policies,
        times: Times,
        plan: Plan,
    ) -> None:
        self._subgraph = subgraph
        self.hanging = Hanging(subgraph, target)
        self._graph = subgraph.graph
        self._target = target
        self._store = store
        self._counterparts = counterparts
        self._get_layout = get_layout
        self._plan = plan
        self._causes: dict[tuple[type[Model], Key], Ref] = {}
        self._claimed: dict[type[Model], Any] = {}
        self._owned: dict[type[Model], set[Any]] = {}
        self._updated: dict[str, set[Key]] = {}
        self._tombstones: Tombstones | None = None
        self.deleted: dict[type[Model], dict[Key, None]] = {}
        self._detached: dict[tuple[type[Model], str, Any], dict[Key, None]] = {}
        self._verdicts = Verdicts(self.hanging, get_layout, policies, times, self._find_gone, self.find_cause)
        self.conflicts = self._verdicts.conflicts

    def find(self, *, prune: bool) -> None:
        """Collect what goes, and what hangs on that."""
        frontier: dict[type[Model], list[Key]] = {}
        for model in self._subgraph.get_models():
            owned = self._subgraph.members.get((model, Role.OWN))
            found = self._counterparts.get_all(model, owned.keys) if owned else ()
            targets = [target for target in found if target is not NEW and target is not UNKNOWN]
            for link, owners, is_member in self.hanging.iter_owned(model, targets, all_kinds=prune) if targets else ():
                going = self._find_taken_out(link, owners) if is_member else self._find_removable(link.model, owners)
                frontier.setdefault(link.model, []).extend(self._add(link.model, going))
        self._spread(frontier)

    def find_logged(self, tombstones: Tombstones) -> None:
        """Collect what the change log says is deleted, and what hangs on that."""
        self._tombstones = tombstones
        for ref, reason in tombstones.doubts.items():
            self.conflicts.append(Conflict(ref.model._meta.label, show_key(ref.pk), None, reason, ref=ref))
        for model, rows in tombstones.doomed.items():
            self._causes |= {(model, key): ref for key, ref in rows.items() if not self.is_claimed(model, key)}
        frontier: dict[type[Model], list[Key]] = {}
        for model, rows in tombstones.doomed.items():
            frontier[model] = self._add(model, self._keep_ours(model, self._find_gone(model, rows)))
        for model, every in tombstones.members.items():
            members = {key: owner for key, owner in every.items() if not self.is_claimed(model, key)}
            self._causes |= {(model, key): owner for key, owner in members.items()}
            frontier.setdefault(model, []).extend(self._add(model, members))
        self._spread(frontier)

    def find_cause(self, ref: Ref) -> Ref | None:
        """The deleted object of the source because of which a row of the target goes."""
        return self._causes.get((ref.model, ref.pk))

    def _spread(self, frontier: dict[type[Model], list[Key]]) -> None:
        while any(frontier.values()):
            following: dict[type[Model], list[Key]] = {}
            for model, keys in frontier.items():
                for child, going in self._iter_hanging(model, keys):
                    following.setdefault(child, []).extend(self._add(child, going))
            frontier = following

    def _add(self, model: type[Model], keys: Iterable[Key]) -> list[Key]:
        known = self.deleted.setdefault(model, {})
        new = [key for key in keys if key not in known]
        known.update(dict.fromkeys(new))
        return new

    def is_claimed(self, model: type[Model], key: Key) -> bool:
        """Whether the row is the counterpart of an object of the run."""
        return key in self._get_claimed(model)

    def _get_claimed(self, model: type[Model]) -> Any:
        if model not in self._claimed:
            claimed = self._claimed[model] = make_key_set(model)
            keys = self._counterparts.maps.get(model)
            if keys is not None:
                claimed.update(target for _, target in keys.items())
        return self._claimed[model]

    def _is_owned(self, model: type[Model], key: Key) -> bool:
        """Whether the row is the counterpart of an object that the run brings up to date."""
        if model not in self._owned:
            keys = self._subgraph.iter_keys(model, Role.OWN)
            self._owned[model] = {self._counterparts.get(model, mine) for mine in keys}
        return key in self._owned[model]

    def _find_removable(self, model: type[Model], keys: Iterable[Key]) -> list[Key]:
        """Those rows that this origin created and whose object it no longer has."""
        gone = self._find_gone(model, keys)
        return self._keep_ours(model, {key: sent for key, sent in gone.items() if sent.created})

    def _find_taken_out(self, link: Link, owners: Mapping[Key, Key]) -> list[Key]:
        """Those members of these owners, by ``link``, that the source took out: their rows are gone there, or have
        another owner."""
        gone, left = self._find_sent(link.model, owners)
        gone |= self._find_given_away(link, owners, left) if left and link in self._graph.owners else {}
        return self._find_only_ours(link.model, gone)

    def _find_given_away(self, link: Link, owners: Mapping[Key, Key], left: Rows) -> Rows:
        """Those rows that are still with these owners as we left them, and at the source with others by now."""
        model, layout, numbers = link.model, self._get_layout(link.model), self._get_numbers(link)
        same = {}
        for row in layout.read(self._target, list(left), extras=False):
            values, known = layout.get_values(row), split_digests(left[row[0]].digests)
            if all(known.get(layout.codes[at]) == digest_value(layout, at, values[at]) for at in numbers):
                same[left[row[0]].key] = row[0]
        there: dict[Key, Key] = {}
        for key, *end in iter_rows(model, self._subgraph.source, list(same), link.key_paths):
            there[key] = tuple(end) if len(end) > 1 else end[0]
        assert link.target is not None
        mine = {owner: {self._counterparts.get(link.target, owner)} for owner in there.values() if owner is not None}
        for owner, mapping in self._store.find(link.target, list(mine)).items():
            mine[owner].add(mapping.target)
        away = (same[key] for key, owner in there.items() if owners[same[key]] not in mine.get(owner, ()))
        return {key: left[key] for key in away}

    def _find_only_ours(self, model: type[Model], gone: Rows) -> list[Key]:
        """Those rows that no other origin has an object for."""
        others = self._store.find_others(model, gone)
        return self._keep_ours(model, {key: sent for key, sent in gone.items() if key not in others})

    def _keep_ours(self, model: type[Model], gone: Rows) -> list[Key]:
        ours = self._verdicts.filter_ours(model, gone)
        return [key for key in gone if key in ours]

    def _find_gone(self, model: type[Model], keys: Iterable[Key]) -> Rows:
        return self._find_sent(model, keys)[0]

    def _find_sent(self, model: type[Model], keys: Iterable[Key]) -> tuple[dict[Key, Sent], dict[Key, Sent]]:
        """What we left in those rows whose object the source no longer has, and in those whose object it has, though
        they are no counterparts in this run. Nothing of what was handed over."""
        free = self._get_claimed(model).leave_out(list(dict.fromkeys(keys)))
        doomed = self._tombstones.doomed.get(model, {}) if self._tombstones is not None else {}
        sources = self._store.find_sources(model, [key for key in free if key not in doomed])
        sent_keys = [sent.key for of_row in sources.values() for sent in of_row]
        existing = find_existing(model, self._subgraph.source, sent_keys)
        gone, left = {key: self._get_sent(doomed[key]) for key in free if key in doomed}, {}
        for key, of_row in sources.items():
            there = [sent for sent in of_row if sent.key in existing]
            if there and not there[0].moved:
                left[key] = there[0]
            elif not there and not all(sent.moved for sent in of_row):
                gone[key] = of_row[0]._replace(created=any(sent.created for sent in of_row))
        return gone, left

    def _get_sent(self, ref: Ref) -> Sent:
        """What we left in the row that a deleted object stood for."""
        assert self._tombstones is not None
        return self._tombstones.sent.get(ref, Sent(ref.pk, False, b""))

    def _iter_hanging(self, model: type[Model], keys: list[Key]) -> Iterator[tuple[type[Model], list[Key]]]:
        """What must go with these rows; notes what must be set to null, and conflicts."""
        reverse, relations = self._graph.reverse[model], self._graph.relations.get(model, ())
        pointing = [(link, get_surviving_value(link), self.hanging.iter_pointing(link, keys)) for link in reverse]
        pointing += [(each.link, SURVIVES, self.hanging.iter_related(each, keys)) for each in relations]
        for link, value, every in pointing:
            pairs = [(pk, key) for pk, key in every if pk not in self.deleted.get(link.model, ())]
            is_part = self.is_claimed if value is SURVIVES else self._is_owned
            if parts := {pk for pk, _ in pairs if is_part(link.model, pk)}:
                leaving = parts if self._is_membership(link) else self._find_leaving(link, parts)
                pairs = [(pk, key) for pk, key in pairs if pk not in leaving]
            if not pairs:
                continue
            going = set(self._find_removable(link.model, [pk for pk, _ in pairs]))
            if self._tombstones is not None and self._is_membership(link):
                going.update(pk for pk, _ in pairs)
            for pk, key in pairs:
                if pk in going and (cause := self.find_cause(Ref(model, key))) is not None:
                    self._causes.setdefault((link.model, pk), cause)
                if pk not in going and value is SURVIVES:
                    self._add_conflict(link, pk, Ref(model, key))
                elif pk not in going:
                    self._detached.setdefault((link.model, link.field.name, value), {})[pk] = None
            yield link.model, list(going)
        for link in self._graph.forward[model]:
            if link.parent_link and link.target is not None:
                by_child = {row[0]: row[1] for row in iter_rows(model, self._target, keys, link.attnames)}
                for child, parent in by_child.items():
                    if (cause := self.find_cause(Ref(model, child))) is not None:
                        self._causes.setdefault((link.target, parent), cause)
                parents = list(by_child.values())
                if self._tombstones is None:
                    yield link.target, self._find_removable(link.target, parents)
                else:
                    yield link.target, self._find_only_ours(link.target, self._find_gone(link.target, parents))

    def _find_leaving(self, link: Link, keys: set[Key]) -> set[Key]:
        """Those rows to which the plan gives another value of ``link``."""
        model, layout, numbers = link.model, self._get_layout(link.model), self._get_numbers(link)
        leaving = set()
        for operation in self._plan.changes:
            if isinstance(operation, Update) and operation.label == model._meta.label:
                changes = [change for change in operation.rows if change.target in keys]
                leaving |= {change.target for change in changes if not numbers.isdisjoint(change.columns)}
                self._updated.setdefault(operation.label, set()).update(change.target for change in changes)
        if layout.adapter is not None and (link.kind == TREE or link.field.name == layout.adapter.parent_field(model)):
            leaving |= {self._counterparts.get(model, key) for key in self._plan.places.get(model, ())} & keys
        return leaving

    def _get_numbers(self, link: Link) -> set[int]:
        """The numbers of the columns that make ``link``, in the layout of its model."""
        columns = self._get_layout(link.model).columns
        if link.kind == TREE:
            return {len(columns)}
        return {number for number, column in enumerate(columns) if column.field.attname in link.attnames}

    def _add_conflict(self, link: Link, pk: Key, of: Ref) -> None:
        ref = Ref(link.model, pk)
        without = "" if self._tombstones is not None else ", or run without --prune"
        is_theirs = not self.is_claimed(link.model, pk)
        todo = f"Only the target has {ref}: delete it there or give it" if is_theirs else "It stays there: give it"
        self.conflicts.append(
            Conflict(
                link.model._meta.label,
                show_key(pk),
                None,
                f"{ref} of the target hangs on {of} by {link}, which the source no longer has. {todo} another "
                f"place{without}.",
                ref=self.find_cause(of),
            )
        )

    def _is_membership(self, link: Link) -> bool:
        """Whether the rows are automatic many-to-many rows, which are part of what they connect."""
        every = (*self._graph.owners.get(link, ()), *self._graph.others.get(link, ()))
        return any(membership.automatic for membership in every)

    def add_to(self, plan: Plan) -> None:
        """Add the operations to the plan, what points before what is pointed to."""
        detached: dict[str, set[Key]] = {}
        for (model, name, value), keys in self._detached.items():
            left = [key for key in keys if key not in self.deleted.get(model, ())]
            if left:
                plan.removals.add(Detach(model._meta.label, name, value, left))
                detached.setdefault(model._meta.label, set()).update(left)
        for label, rows in detached.items():
            plan.report.updated[label] += len(rows - self._updated.get(label, set()))
        plan.report.skipped.update(self._verdicts.kept)
        deleted = [model for model in self.deleted if self.deleted[model]]
        links = get_links(self._graph, deleted)
        for model in reversed(sort_models(deleted, links, lambda link: int(link.required))):
            if self.deleted[model]:
                plan.remove(model, list(self.deleted[model]))
                plan.report.deleted[model._meta.label] += len(self.deleted[model])

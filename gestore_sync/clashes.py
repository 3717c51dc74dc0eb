"""Unique values that a planned row needs while another row of the target still has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, Model

from gestore_sync.identity import Identity
from gestore_sync.layouts import Layout
from gestore_sync.links import LinkGraph
from gestore_sync.locators import IdentityReader, find_references, get_readers
from gestore_sync.plan import Change, Conflict, Park, Plan, Release
from gestore_sync.refs import NEW, Key, Ref, show_key
from gestore_sync.translation import Counterparts


@dataclass(frozen=True, slots=True)
class Claim:
    """``key`` of the source needs the values of ``identity`` that ``holder`` of the target has."""

    identity: Identity
    key: Key
    holder: Key


class Clashes:
    """Collects who needs whose values while the plan is made, and settles it at the end. ``free``: by identity the
    objects whose values nobody has, as a search for their counterparts has told."""

    def __init__(
        self,
        graph: LinkGraph,
        source: str,
        target: str,
        counterparts: Counterparts,
        get_layout: Callable[[Any], Layout],
        free: Mapping[Identity, Any],
    ) -> None:
        self._graph = graph
        self._source = source
        self._target = target
        self._counterparts = counterparts
        self._get_layout = get_layout
        self._free = free
        self._readers: dict[type[Model], list[IdentityReader]] = {}
        self._claims: list[Claim] = []
        self._updates: dict[tuple[type[Model], Key], Change] = {}

    def _get_readers(self, model: type[Model]) -> list[IdentityReader]:
        if model not in self._readers:
            self._readers[model] = [
                reader
                for reader in get_readers(model, self._graph)
                if not (reader.identity.per_object or reader.identity.allow_many)
            ]
        return self._readers[model]

    def _get_fields(self, identity: Identity) -> set[str]:
        """The names of the model's own fields on which the identity depends."""
        layout = self._get_layout(identity.model)
        own = {column.name: column.name for column in layout.columns}
        own |= {column.field.attname: column.name for column in layout.columns}
        references = [
            *identity.paths,
            *(name for expression in identity.expressions for name in find_references(expression)),
            *(find_references(identity.condition) if identity.condition is not None else ()),
        ]
        generated = {field.name: field for field in identity.model._meta.local_fields if field.generated}
        for name in list(references):
            if name in generated:
                references += find_references(getattr(generated[name], "expression", None))
        return {own[name.split("__")[0]] for name in references if name.split("__")[0] in own}

    def check(self, model: type[Model], created: Sequence[Key], updated: Sequence[Change]) -> None:
        """Look for rows of the target that have the unique values of these planned rows."""
        layout = self._get_layout(model)
        for reader in self._get_readers(model):
            fields = self._get_fields(reader.identity)
            numbers = {number for number, name in enumerate(layout.names) if name in fields}
            changing = [change for change in updated if numbers & set(change.columns)]
            for change in changing:
                self._updates[model, change.target] = change
            free = self._free.get(reader.identity, ())
            keys = [key for key in created if key not in free] if free else list(created)
            keys += [change.row[0] for change in changing]
            if keys and not reader.finds_none(self._counterparts):
                self._claim(reader, model, keys)

    def _claim(self, reader: IdentityReader, model: type[Model], keys: list[Key]) -> None:
        resolved = reader.resolve_all(reader.read(self._source, keys), self._counterparts, self._source)
        wanted = {key: parts for key, parts in resolved.items() if parts is not None}
        found = reader.find(self._target, wanted.values()) if wanted else {}
        for key, values in wanted.items():
            mine = self._counterparts.get(model, key)
            self._claims += [Claim(reader.identity, key, hit) for hit in found.get(values, ()) if hit != mine]

    def leave_out(self, is_left_out: Callable[[type[Model], Key], bool]) -> None:
        """Forget the objects of the source that are not written after all."""
        self._claims = [claim for claim in self._claims if not is_left_out(claim.identity.model, claim.key)]
        self._updates = {at: made for at, made in self._updates.items() if not is_left_out(at[0], made.row[0])}

    def settle(self, plan: Plan, deleted: Callable[[type[Model]], set[Key]]) -> list[Conflict]:
        """Plan what makes the values free; a conflict for each that its holder keeps."""
        conflicts = []
        parks: dict[tuple[type[Model], str], dict[Key, None]] = {}
        releases: dict[type[Model], dict[Key, Change]] = {}
        for claim in self._claims:
            model = claim.identity.model
            layout = self._get_layout(model)
            update = self._updates.get((model, claim.holder))
            fields = self._get_fields(claim.identity)
            freed = () if update is None else [layout.names[at] for at in update.columns if layout.names[at] in fields]
            is_deleted = claim.holder in deleted(model)
            if not freed and not is_deleted:
                conflicts.append(self._make_conflict(claim))
                continue
            name = self._find_parking(claim.identity, freed or sorted(fields))
            if name is not None:
                parks.setdefault((model, name), {})[claim.holder] = None
            elif update is not None:
                numbers = tuple(at for at in update.columns if layout.names[at] in fields)
                releases.setdefault(model, {})[claim.holder] = update._replace(columns=numbers)
        for (model, name), holders in parks.items():
            plan.early.add(Park(model._meta.label, name, list(holders)))
        for model, rows in releases.items():
            plan.early.add(Release(model._meta.label, list(rows.values())))
        return conflicts

    def _find_parking(self, identity: Identity, names: Sequence[str]) -> str | None:
        """The field that can hold a value in between: nullable ones first, then plain values, then links."""
        in_condition = set(find_references(identity.condition)) if identity.condition is not None else set()
        layout = self._get_layout(identity.model)
        columns = [
            column
            for column in layout.columns
            if column.name in names and column.name not in in_condition and not isinstance(column.field, BooleanField)
        ]
        columns.sort(key=lambda column: (not column.field.null, column.link is not None))
        return columns[0].name if columns else None

    def _make_conflict(self, claim: Claim) -> Conflict:
        model = claim.identity.model
        ref, holder = Ref(model, claim.key), Ref(model, claim.holder)
        mine = self._counterparts.get(model, claim.key)
        what = "would be created" if mine is NEW else f"is {Ref(model, mine)} of the target"
        return Conflict(
            model._meta.label,
            show_key(claim.key),
            None,
            f"{ref} {what}, but {holder} of the target already has the values of its {claim.identity.name}. "
            f"Change one of them, or take what {holder} stands for into the same run.",
            ref=ref,
        )

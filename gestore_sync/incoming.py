"""Who is who when a bundle is imported: what a file adds to the rules of a push.

A primary key is kept where it is free. Where a row holds it, an object that something else identifies gets a new one;
for another object a row with other content is a conflict, unless the policy says otherwise. In a bundle that comes from
this very database (a restore) the primary key is the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from typing import Any, ClassVar

from django.db.models import Model

from gestore_sync.comparison import FAIL, LOCAL, NEWER, REMOTE
from gestore_sync.exceptions import WrongDatabase
from gestore_sync.identity import has_automatic_key, iter_identities
from gestore_sync.keysets import make_key_set
from gestore_sync.layouts import Layout
from gestore_sync.locators import Doubt, get_readers
from gestore_sync.lookup import Lookup
from gestore_sync.mappings import MappingStore
from gestore_sync.plan import Noted
from gestore_sync.reading import find_existing
from gestore_sync.recall import Mapping, Sent
from gestore_sync.refs import NEW, Key, KeyMap, Ref, iter_chunks
from gestore_sync.scope import Role
from gestore_sync.subgraph import ROLES, Subgraph
from gestore_sync.translation import LOST

SKIP, OVERRIDE, REMAP = "skip", "override", "remap"
IMPORT_POLICIES = (FAIL, SKIP, OVERRIDE, REMAP, NEWER)
DECISIONS = {FAIL: FAIL, SKIP: REMOTE, OVERRIDE: LOCAL, REMAP: FAIL, NEWER: NEWER}
"""By policy of an import, how the fields of a row that both sides changed are decided."""

BATCH_SIZE = 10_000


class RestoreStore(MappingStore):
    """No id mappings: source and target are the same database at two times."""

    keeps: ClassVar[bool] = False

    def _check_identity(self) -> None:
        if self.uuid != self.target_uuid:
            raise WrongDatabase("The bundle is of another database.")

    def find(self, model: type[Model], keys: Sequence[Key], *, shared: bool = True) -> dict[Key, Mapping]:
        return {}

    def find_sources(self, model: type[Model], targets: Iterable[Key]) -> dict[Key, list[Sent]]:
        return {}

    def find_others(self, model: type[Model], targets: Iterable[Key]) -> set[Key]:
        return set()

    def find_replaced(self, model: type[Model], targets: Sequence[Key]) -> set[Key]:
        return set()

    def iter_sources(self, model: type[Model]) -> Iterator[Key]:
        return iter(())

    def is_blank(self, model: type[Model]) -> bool:
        return True

    def save(self, model: type[Model], rows: Sequence[Noted], known: AnyMapping[Key, Mapping] | None = None) -> None:
        """Nothing is kept."""

    def forget(self, model: type[Model], targets: Sequence[Key], *, only_ours: bool = False) -> None:
        """The rows are the ones that other origins mapped to."""


class ImportLookup(Lookup):
    """The locator ladder with the primary key below it.

    ``skipped``: objects that the policy ``skip`` leaves out, and why. ``distrusted``: objects that are not the rows
    which hold their keys, although these look the same: what they point to turned out to be something else.
    ``has_member_keys``: the rows of automatic many-to-many tables have the keys that they had.
    """

    def __init__(
        self,
        subgraph: Subgraph,
        target: str,
        store: MappingStore,
        get_layout: Callable[[Any], Layout],
        *,
        policy: str,
        staged: Callable[[type[Model], list[Key]], set[Key]],
        distrusted: Collection[Ref] = (),
        has_member_keys: bool = False,
    ) -> None:
        super().__init__(subgraph, target, store, get_layout)
        self.policy = policy
        self.skipped: dict[Ref, Doubt] = {}
        self.distrusted = distrusted
        self._guesses: dict[Ref, list[Ref]] = {}
        self._staged = staged
        self._has_member_keys = has_member_keys
        self._settling: type[Model] | None = None
        self._is_restore = isinstance(store, RestoreStore)

    def locate(self, model: type[Model]) -> None:
        if self._is_restore:
            self._locate_same(model)
            return
        super().locate(model)
        self._settling = model
        if has_automatic_key(model) and not model._meta.auto_created:
            new = list(self.counterparts.maps[model].iter_new())
            for chunk in iter_chunks(new, BATCH_SIZE):
                self._settle_keys(model, chunk)

    def _locate_same(self, model: type[Model]) -> None:
        """The counterpart is the row with the same key; what is not in the bundle is looked for and never made."""
        if model._meta.auto_created:
            self._locate_members(model)
            return
        keys = list(self.subgraph.iter_keys(model, *ROLES))
        counterparts = self.counterparts.maps[model] = KeyMap(model, keys)
        kept = self.kept.setdefault(model, make_key_set(model))
        for chunk in iter_chunks(keys, BATCH_SIZE):
            existing = find_existing(model, self.target, chunk)
            staged = self._staged(model, chunk)
            for key in chunk:
                if key in existing:
                    counterparts.set(key, key)
                elif key in staged:
                    counterparts.set(key, NEW)
                    kept.add(key)

    def _locate_members(self, model: type[Model]) -> None:
        """The counterpart of a member is the row with the same ends: lists of members do not say its key."""
        super().locate(model)
        new = list(self.counterparts.maps[model].iter_new()) if self._has_member_keys else []
        kept = self.kept.setdefault(model, make_key_set(model))
        for chunk in iter_chunks(new, BATCH_SIZE):
            held = find_existing(model, self.target, chunk)
            for key in chunk:
                if key not in held:
                    kept.add(key)

    def _settle_keys(self, model: type[Model], keys: list[Key]) -> None:
        """New objects keep their keys where these are free; the others are told apart from the rows that hold them."""
        held = find_existing(model, self.target, keys)
        staged = self._staged(model, keys)
        kept = self.kept.setdefault(model, make_key_set(model))
        for key in keys:
            if key in staged and key not in held:
                kept.add(key)
        layout = self._get_layout(model)
        wanted = [key for key in keys if key in held and key in staged]
        identified = self._find_identified(model, wanted) if wanted else set()
        wanted = [key for key in wanted if key not in identified]
        differing = self._find_differing(layout, wanted) if wanted else {}
        for child in self._get_children(model) if wanted else ():
            for key, fields in self._find_differing(self._get_layout(child), wanted, model).items():
                differing[key].update(fields)
        for key in differing:
            self._settle_held(model, key, differing[key])

    def _find_identified(self, model: type[Model], keys: list[Key]) -> set[Key]:
        """The objects that have a natural key or unique values by which the target has none: they are not the rows that
        hold their keys."""
        found: set[Key] = set()
        for face in (model, *self._get_children(model)):
            if any(identity.per_object for identity in iter_identities(face)):
                found.update(find_existing(face, self.source, keys))
            for reader in get_readers(face, self.graph):
                if reader.identity.locates:
                    values = reader.read(self.source, keys)
                    found.update(key for key in values if reader.is_whole(values[key]))
        return found

    def _settle_held(self, model: type[Model], key: Key, differing: dict[str, list[Any]]) -> None:
        """Decide about an object whose key is held by a row that nothing else says is the same one."""
        ref = Ref(model, key)
        if key in self._taken:
            differing = differing or {"pk": [key, key]}
        owned = self.subgraph.find_role(model, key) is Role.OWN
        if not differing or (self.policy == OVERRIDE and owned and key not in self._taken):
            self._accept(model, key, key)
            return
        if self.policy == REMAP or (self.policy == OVERRIDE and not owned):
            return
        reason = (
            f"The primary key of {ref} is held here by a row with other content. "
            "Give the object a new key with --on-conflict remap, or overwrite the row with override."
        )
        doubt = Doubt(ref, reason, differing)
        if self.policy == SKIP:
            self.skipped[ref] = doubt
        else:
            self.doubts.append(doubt)

    def _find_differing(
        self, layout: Layout, keys: list[Key], parent: type[Model] | None = None
    ) -> dict[Key, dict[str, list[Any]]]:
        """By key the fields in which objects and the rows that hold their keys differ.

        ``parent``: the rows are other parts of objects of this model; one that only the bundle has is a difference.
        """
        theirs = {row[0]: row for row in layout.read(self.target, keys, extras=False)}
        found = {}
        for row in layout.read(self.source, keys):
            ref = Ref(parent or layout.model, row[0])
            if row[0] in theirs:
                found[row[0]] = self._compare(layout, ref, row, layout.get_values(theirs[row[0]]))
            else:
                found[row[0]] = {layout.model._meta.label: [row[0], None]}
        return found

    def _compare(self, layout: Layout, ref: Ref, row: tuple[Any, ...], theirs: list[Any]) -> dict[str, list[Any]]:
        """The fields in which ``ref`` differs from a row.

        A link to an object that has no place yet is compared as it stands, unless ``ref`` is distrusted;
        :meth:`find_wrong` tells later whether that object came to be the row with its key.
        """
        mine = layout.translate(row, self.counterparts, self.source)
        raw = [*row[1 : len(layout.columns) + 1], *([row[layout.tree_at]] if layout.tree is not None else [])]
        for at, value in enumerate(mine):
            if value is not NEW and value is not LOST:
                continue
            linked = layout.find_linked(row, at, self.source)
            if linked is not None and ref not in self.distrusted and self._may_stay(linked):
                mine[at] = raw[at]
                self._guesses.setdefault(ref, []).append(linked)
            elif value is LOST:
                layout.clear_link(mine, at)
        return {
            layout.names[at]: [raw[at] if mine[at] is NEW else mine[at], theirs[at]]
            for at in layout.find_differing(mine, theirs)
        }

    def _may_stay(self, ref: Ref) -> bool:
        """Whether an object may still come to have the key that it has in the bundle."""
        if ref.model not in self.counterparts.maps or ref.model is self._settling:
            return True
        return self._is_kept(ref)

    def find_wrong(self) -> set[Ref]:
        """The objects that were taken for rows which point to something else than they do. All models are located."""
        pointing: dict[Ref, list[Ref]] = {}
        for ref, linked in self._guesses.items():
            for other in linked if self.counterparts.get(*ref) == ref.pk else ():
                pointing.setdefault(other, []).append(ref)
        wrong: set[Ref] = set()
        found = [ref for ref in pointing if self.counterparts.get(*ref) != ref.pk and not self._is_kept(ref)]
        while found:
            fresh = {ref for other in found for ref in pointing.get(other, ()) if ref not in wrong}
            wrong |= fresh
            found = list(fresh)
        return wrong - set(self.distrusted)

    def _is_kept(self, ref: Ref) -> bool:
        return ref.pk in self.kept.get(ref.model, ())

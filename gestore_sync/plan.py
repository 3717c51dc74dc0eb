"""What will be done, as data: operations in batches on disk, conflicts, and the report of a run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from django.db.models import Model

from gestore_sync.keysets import make_key_list, make_key_set
from gestore_sync.locations import hide_password
from gestore_sync.refs import Key, Ref
from gestore_sync.spools import Spool


@dataclass(frozen=True, slots=True)
class Create:
    """Rows to insert. ``rows`` are rows of the source in the layout of the model, ``(key, *values, …)``."""

    label: str
    rows: list[tuple[Any, ...]]


class Change(NamedTuple):
    """One row to change: the row of the source, the target's key, the numbers of the columns to write, the digests of
    the others, whether a run of ours created the row, and the imprint that it has before."""

    row: tuple[Any, ...]
    target: Key
    columns: tuple[int, ...]
    digests: bytes
    created: bool
    imprint: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Rows to change."""

    label: str
    rows: list[Change]


class Noted(NamedTuple):
    """An id mapping to keep: the keys of both sides, whether a run of ours created the row, the digests of what is
    there now, and the imprints of the rows at the source and on the target, if they are in step and known."""

    key: Key
    target: Key
    created: bool
    digests: bytes
    imprints: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Id mappings to keep for rows that are not written."""

    label: str
    rows: list[Noted]


class Given(NamedTuple):
    """What a run gives up of one object: the row of the source, the target's key, how the run decided, and by the
    number of the column the JSON of the target's value, the side whose value stands, and who changed it, in words."""

    row: tuple[Any, ...]
    target: Key
    resolved: str
    columns: dict[int, tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Keep:
    """Values to keep because a conflict was decided against them."""

    label: str
    rows: list[Given]


@dataclass(frozen=True, slots=True)
class Delete:
    """Rows to delete, by target key."""

    label: str
    keys: list[Key]


@dataclass(frozen=True, slots=True)
class Detach:
    """Rows outside that point at a deleted row by a link that survives it: ``name`` is set to ``value``."""

    label: str
    name: str
    value: Any
    keys: list[Key]


@dataclass(frozen=True, slots=True)
class Attach:
    """Rows outside whose link a deletion had nulled: ``name`` is set to the values of ``(key, value)``."""

    label: str
    name: str
    rows: list[tuple[Key, Any]]


@dataclass(frozen=True, slots=True)
class Park:
    """Rows whose unique value another row needs before they are written or deleted themselves."""

    label: str
    name: str
    keys: list[Key]


@dataclass(frozen=True, slots=True)
class Release:
    """Rows that are written before others, in these columns, because they give up what others need."""

    label: str
    rows: list[Change]


Operation = Create | Update | Note | Keep | Delete | Detach | Attach | Park | Release


@dataclass(frozen=True, slots=True)
class Conflict:
    """What cannot be decided without a policy, or not at all: ``resolved`` is "local", "remote", "merged" or None."""

    model: str
    pk: str
    natural_key: list[Any] | None
    reason: str
    fields: dict[str, list[Any]] = field(default_factory=dict)
    resolved: str | None = None
    ref: Ref | None = None

    def as_dict(self) -> dict[str, Any]:
        """What the report shows; ``ref``, the object of the source where it is one, is not part of it."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        del values["ref"]
        return values


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that could not be written, and why."""

    model: str
    pk: str
    natural_key: list[Any] | None
    reason: str


@dataclass
class Report:
    """What a run did, or would do. The counts are by model label, ``{"app.Model": n}``.

    ``matched``: referred objects that were found on the target. ``mentions``: by link, rows that point at owned objects
    and were not followed. ``why``: by model, how many objects came through each link. ``left_behind``: by model of
    referred objects that are created, the rows that hang on them and stay. Of an export: ``exported`` counts what is
    in the bundle, ``files`` the stored files; ``location`` is where it went, ``document`` its text if it is only shown.
    ``moved``: what a move deleted at the source. ``verification``: what a comparison after the push found, by kind.
    """

    COUNTS: ClassVar[tuple[str, ...]] = ("created", "updated", "unchanged", "matched", "deleted", "skipped")

    created: Counter[str] = field(default_factory=Counter)
    updated: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    matched: Counter[str] = field(default_factory=Counter)
    deleted: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    mentions: dict[str, int] = field(default_factory=dict)
    why: dict[str, dict[str, int]] = field(default_factory=dict)
    left_behind: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    exported: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    files: int = 0
    location: str = ""
    document: str = ""
    message: str = ""
    verification: dict[str, list[dict[str, Any]]] | None = None

    def get_unresolved(self) -> list[dict[str, Any]]:
        """The conflicts that no policy resolved."""
        return [conflict for conflict in self.conflicts if conflict["resolved"] is None]

    def as_dict(self) -> dict[str, Any]:
        """What ``--format json`` prints."""
        result: dict[str, Any] = {"message": str(self.message)}
        for name in self.COUNTS:
            result[name] = {label: number for label, number in sorted(getattr(self, name).items()) if number}
        for name in ("conflicts", "failures", "mentions", "why", "left_behind", "warnings"):
            result[name] = getattr(self, name)
        for name in ("exported", "moved", "files", "document"):
            if getattr(self, name):
                result[name] = getattr(self, name)
        if self.verification is not None:
            result.update(self.verification)
        if self.location:
            result["location"] = hide_password(self.location)
        return result


@dataclass
class Account:
    """What a comparison after a run has to know of it, in a few bytes an object.

    ``kept``: by model and names of fields, the objects in which the target's values stay though they differ. ``gone``:
    the keys of the rows of the target that are deleted.
    """

    kept: dict[tuple[type[Model], tuple[str, ...]], Any] = field(default_factory=dict)
    gone: dict[type[Model], Any] = field(default_factory=dict)

    def note_kept(self, ref: Ref, names: tuple[str, ...]) -> None:
        """Note that the target's values of these fields stay."""
        keys = self.kept.get((ref.model, names))
        if keys is None:
            keys = self.kept[ref.model, names] = make_key_set(ref.model)
        keys.add(ref.pk)

    def is_kept(self, ref: Ref, name: str) -> bool:
        """Whether the target's value of this field stays."""
        kept = self.kept.items()
        return any(model is ref.model and name in names and ref.pk in keys for (model, names), keys in kept)


@dataclass
class Plan:
    """Everything that a run would do, and the report so far.

    Operations are applied in this order: ``early`` (values that others need are given up), ``creates``, ``changes``,
    ``removals``. ``models`` is the order in which models are written; ``deferred`` names optional links that are
    written after both rows exist; ``places`` are tree nodes that move among their siblings, ``staying`` those that
    would and shall not. ``undecided``: objects of the source with a conflict that no policy resolves, as the report has
    it; ``waiting``: objects that point to one that must not be written, and why. ``account``: what is kept of it for a
    comparison afterwards.
    """

    report: Report = field(default_factory=Report)
    early: Spool[Operation] = field(default_factory=Spool)
    creates: Spool[Operation] = field(default_factory=Spool)
    changes: Spool[Operation] = field(default_factory=Spool)
    removals: Spool[Operation] = field(default_factory=Spool)
    roots: list[Ref] = field(default_factory=list)
    models: list[type[Model]] = field(default_factory=list)
    deferred: frozenset[str] = frozenset()
    places: dict[type[Model], set[Key]] = field(default_factory=dict)
    staying: dict[type[Model], set[Key]] = field(default_factory=dict)
    undecided: list[tuple[Ref, dict[str, Any]]] = field(default_factory=list)
    waiting: dict[Ref, str] = field(default_factory=dict)
    account: Account = field(default_factory=Account)

    def get_spools(self) -> tuple[Spool[Operation], ...]:
        """The operations, in the order in which they are applied."""
        return self.early, self.creates, self.changes, self.removals

    def is_empty(self) -> bool:
        """Whether there is nothing at all to write."""
        return not (any(spool.size for spool in self.get_spools()) or self.places)

    def add_conflicts(self, conflicts: Iterable[Conflict]) -> None:
        """Note conflicts in the report."""
        for conflict in conflicts:
            shown = conflict.as_dict()
            self.report.conflicts.append(shown)
            if conflict.resolved is None and conflict.ref is not None:
                self.undecided.append((conflict.ref, shown))

    def remove(self, model: type[Model], keys: list[Key]) -> None:
        """Delete these rows of the target."""
        self.removals.add(Delete(model._meta.label, keys))
        self.account.gone.setdefault(model, make_key_list(model)).extend(keys)

    def close(self) -> None:
        """Give temporary files back."""
        for spool in self.get_spools():
            spool.close()

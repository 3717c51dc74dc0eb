"""Id mappings as a run has them, and which it knows already, so that it does not ask for them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as AnyMapping
from typing import NamedTuple

from django.db.models import Model

from gestore_sync.keysets import IntegerBitmap
from gestore_sync.refs import Key, has_integer_key

KEPT_IN_MEMORY = 50_000
"""So many mappings are kept for the steps of one run that ask for them again."""


class Mapping(NamedTuple):
    """One id mapping. ``pk``: of our row where the mapping is kept, None where there is none yet. ``imprints``: of the
    rows of both sides, as of when they were last in step, if known. ``mirrored``: the digests come from a later push in
    the other direction. ``moved``: the object was handed over to the target, and the source has not sent it since."""

    pk: int | None
    target: Key
    created: bool
    digests: bytes
    serial: int
    imprints: tuple[int, int] | None = None
    mirrored: bool = False
    moved: bool = False


class Sent(NamedTuple):
    """What is known of a row of the target: the object it stands for, whether a run created it, what was left there,
    whether it was handed over."""

    key: Key
    created: bool
    digests: bytes
    moved: bool = False


class Recall:
    """Mappings that were read, and objects that have none: of those a bit each, where their keys are integers."""

    def __init__(self) -> None:
        self._known: dict[type[Model], dict[Key, Mapping | None]] = {}
        self._missing: dict[type[Model], IntegerBitmap] = {}

    def find_unknown(self, model: type[Model], keys: Sequence[Key]) -> list[Key]:
        """Those of the keys that have to be asked for."""
        known = self._known.setdefault(model, {})
        missing = self._missing.get(model)
        if missing is None:
            return [key for key in keys if key not in known]
        return [key for key in keys if key not in missing and key not in known]

    def note(self, model: type[Model], unknown: Sequence[Key], read: AnyMapping[Key, Mapping]) -> None:
        """Keep what was asked for and what was found, if there is room."""
        known = self._known.setdefault(model, {})
        room = KEPT_IN_MEMORY - sum(map(len, self._known.values()))
        if has_integer_key(model):
            missing = self._missing.setdefault(model, IntegerBitmap())
            for key in unknown:
                if key not in read:
                    missing.add(key)
            if len(read) <= room:
                known.update(read)
        elif len(unknown) <= room:
            known.update((key, read.get(key)) for key in unknown)

    def pick(self, model: type[Model], keys: Sequence[Key], read: AnyMapping[Key, Mapping]) -> dict[Key, Mapping]:
        """The mappings of these objects; ``read``: what was read of them just now."""
        known = self._known.get(model)
        if not known and not read:
            return {}
        known = known or {}
        return {key: found for key in keys if (found := known.get(key) or read.get(key)) is not None}

    def forget(self, model: type[Model], keys: Iterable[Key] | None = None) -> None:
        """Have these objects (default: all of the model) asked for again."""
        if keys is None:
            self._known.pop(model, None)
            self._missing.pop(model, None)
            return
        known, missing = self._known.get(model), self._missing.get(model)
        for key in keys:
            if known:
                known.pop(key, None)
            if missing is not None:
                missing.discard(key)

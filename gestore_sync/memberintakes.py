"""Takes the member lists of records into staged tables: each member becomes a row of a through table."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from gestore_sync.codecs import make_key_decoder
from gestore_sync.columns import explain_invalid, limit
from gestore_sync.exceptions import BundleError
from gestore_sync.links import Membership
from gestore_sync.refs import Key, Ref
from gestore_sync.valuekinds import INVALID

if TYPE_CHECKING:
    from gestore_sync.intakes import Intakes

BATCH_SIZE = 5_000


class MemberIntake:
    """Takes the member lists of one many-to-many field; each member becomes a row of the automatic through table.

    The row gets a key made of the two keys it connects, so that it is the same one in each bundle of an origin.
    """

    def __init__(self, shared: Intakes, membership: Membership) -> None:
        self._shared = shared
        self._membership = membership
        self.through = membership.link.model
        self.count = 0
        self._name = membership.name.rpartition(".")[2]
        target = membership.other.target or self.through
        self._decode = limit(make_key_decoder(target), target._meta.pk, shared.using)
        self._is_dropped = shared.protection.is_dropped(self.through)
        self._owners: list[Key] = []
        self._rows: list[list[Any]] = []

    def add(self, owner: Ref, values: Any) -> None:
        """Take the members of one owner."""
        if not isinstance(values, list):
            raise BundleError(f"{owner} of the bundle has no list in {self._name!r}.")
        if values and self._is_dropped:
            self._shared.protection.note(self.through)
            return
        for member in dict.fromkeys(self._read(owner, value) for value in values):
            text = f"{self.through._meta.label_lower} {owner.pk} {member}"
            key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
            self._rows.append([key, owner.pk, member])
            self._owners.append(key)
            self.count += 1
        if len(self._rows) >= BATCH_SIZE:
            self._flush()

    def _read(self, owner: Ref, value: Any) -> Key:
        try:
            return self._decode(value)
        except INVALID as error:
            raise BundleError(
                f"{owner} of the bundle has the member {str(value)[:100]!r} in {self._name!r}, "
                f"which is no primary key: {explain_invalid(error)}."
            ) from None

    def _flush(self) -> None:
        fields = [self.through._meta.pk, self._membership.link.field, self._membership.other.field]
        self._shared.insert(self.through, fields, self._owners, self._rows)
        self._owners, self._rows = [], []

    def finish(self) -> None:
        """All members were taken."""
        self._flush()

"""Sets and lists of the primary keys of one model, in a few bytes a key where these are integers."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.db.models import Model

from gestore_sync.refs import Key, has_integer_key

FEW = 100
"""So few keys are taken one by one."""
AT_ONCE = 10_000
"""So many are looked at together."""


def iter_slices(keys: Iterable[Key]) -> Iterator[list[Any]]:
    """The keys in short lists."""
    stream = iter(keys)
    while some := list(islice(stream, AT_ONCE)):
        yield some


def find_masks(keys: Sequence[int]) -> list[tuple[int, int]]:
    """Keys that follow each other without a gap, in any order, as ``(page, bits)``; nothing where they do not."""
    if len(keys) < FEW:
        return []
    first, last = min(keys), max(keys)
    if last - first + 1 != len(keys) or len(set(keys)) < len(keys):
        return []
    masks = [(page, 2**64 - 1) for page in range(first >> 6, (last >> 6) + 1)]
    masks[0] = (masks[0][0], masks[0][1] >> (first & 63) << (first & 63))
    masks[-1] = (masks[-1][0], masks[-1][1] & (2 << (last & 63)) - 1)
    return masks


class IntegerBitmap:
    """A set of integers as a paged bitmap: a few bits an element where they lie close together."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def __contains__(self, key: int) -> bool:
        return bool(self._pages.get(key >> 6, 0) >> (key & 63) & 1)

    def add(self, key: int) -> bool:
        """Add ``key``; whether it was new."""
        page, bit = key >> 6, 1 << (key & 63)
        bits = self._pages.get(page, 0)
        if bits & bit:
            return False
        self._pages[page] = bits | bit
        return True

    def update(self, keys: Iterable[int]) -> list[int]:
        """Add many keys; those that were new, in their order."""
        found: list[int] = []
        for some in iter_slices(keys):
            found += self._add_all(some)
        return found

    def _add_all(self, keys: list[int]) -> list[int]:
        pages, masks = self._pages, find_masks(keys)
        if masks and not any(pages.get(page, 0) & mask for page, mask in masks):
            pages.update((page, pages.get(page, 0) | mask) for page, mask in masks)
            return keys
        if masks and all(pages.get(page, 0) & mask == mask for page, mask in masks):
            return []
        new = []
        for key in keys:
            page, bit = key >> 6, 1 << (key & 63)
            bits = pages.get(page, 0)
            if not bits & bit:
                pages[page] = bits | bit
                new.append(key)
        return new

    def leave_out(self, keys: Sequence[int]) -> list[int]:
        """Those of many keys that are not in the set."""
        pages, found = self._pages, []
        for some in iter_slices(keys):
            masks = find_masks(some)
            if not masks or not all(pages.get(page, 0) & mask == mask for page, mask in masks):
                found += [key for key in some if not pages.get(key >> 6, 0) >> (key & 63) & 1]
        return found

    def meets(self, other: Any) -> bool:
        """Whether a key is in both."""
        few, many = sorted((self._pages, other._pages), key=len)
        return any(bits & many.get(page, 0) for page, bits in few.items())

    def discard(self, key: int) -> None:
        """Take ``key`` out, if it is there."""
        page = key >> 6
        self._pages[page] = self._pages.get(page, 0) & ~(1 << (key & 63))


class HashSet:
    """The same for keys that are not integers."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: set[Key] = set()

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, key: Key) -> bool:
        """Add ``key``; whether it was new."""
        if key in self._keys:
            return False
        self._keys.add(key)
        return True

    def update(self, keys: Iterable[Key]) -> list[Key]:
        """Add many keys; those that were new, in their order."""
        return [key for key in keys if self.add(key)]

    def leave_out(self, keys: Sequence[Key]) -> list[Key]:
        """Those of many keys that are not in the set."""
        return [key for key in keys if key not in self._keys]

    def meets(self, other: Any) -> bool:
        """Whether a key is in both."""
        return not self._keys.isdisjoint(other._keys)

    def discard(self, key: Key) -> None:
        """Take ``key`` out, if it is there."""
        self._keys.discard(key)


def make_key_set(model: type[Model]) -> IntegerBitmap | HashSet:
    """An empty set for primary keys of ``model``."""
    return IntegerBitmap() if has_integer_key(model) else HashSet()


def make_key_list(model: type[Model]) -> Any:
    """An empty list for primary keys of ``model``: ``array("q")`` where they are integers."""
    return array("q") if has_integer_key(model) else []

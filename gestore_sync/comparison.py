"""Decides, field by field, what becomes of a row that exists on both sides. No clock decides alone.

A conflict is: the target's row differs from what we last left there and the source changed too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gestore_sync.conf import FAIL, LOCAL, MERGED, NEWER, POLICIES, REMOTE
from gestore_sync.digests import NAME_SIZE, find_changed, get_name_code, make_digest, split_digests
from gestore_sync.layouts import Layout
from gestore_sync.policies import Policies
from gestore_sync.refs import NEW

__all__ = ["FAIL", "LOCAL", "MERGED", "NEWER", "POLICIES", "REMOTE", "Decision", "decide"]

EMPTY = tuple(make_digest(value) for value in (None, "", 0, b"", "{}", "[]"))


@dataclass(frozen=True, slots=True)
class Decision:
    """``write``: numbers of the columns that get the source's value; ``kept``: those where the target's stays though it
    differs; ``disputed``: those that both sides changed; ``lost``: those in which a side's change is given up;
    ``resolved``: how, or None where no policy decides; ``newer``: whether the logs have a say.
    ``digests``: what the row's digests will be, without those of the columns in ``write``. ``known``: whether the sides
    were in step before."""

    write: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    disputed: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    resolved: str | None = None
    digests: bytes = b""
    known: bool = True
    newer: bool = False


class Pair(NamedTuple):
    """A row on both sides, the source's with links rewritten, and what was last left on the target, if known."""

    mine: list[Any]
    theirs: list[Any]
    digests: bytes | None


def decide(
    layout: Layout,
    pair: Pair,
    policies: Policies,
    differing: Sequence[int],
    made: Sequence[bytes],
    later: str = LOCAL,
) -> Decision:
    """Compare the source's values with the target's. ``differing``: the numbers of the columns in which they differ;
    ``made``: by column, the digests of the source's values.

    Columns that make one link together, such as a generic key's, are one value: it is written whole, or kept whole.
    ``later``: the side whose change is the later one, LOCAL or REMOTE, for ``newer``: the caller knows the logs.
    """
    if not differing:
        return Decision(digests=b"".join(made))
    mine, theirs, digests = pair
    asked = policies.get_all(layout.model, layout.names)
    known = split_digests(digests or b"")
    write: list[int] = []
    kept: list[int] = []
    disputed: list[int] = []
    lost: list[int] = []
    sides: set[str] = set()
    only_mine = False
    changed = {
        number: find_sides(layout, number, mine[number], made[number], theirs[number], known) for number in differing
    }
    for number in differing:
        link = [at for at in layout.together.get(number, ()) if at in changed] or [number]
        mine_changed, theirs_changed = (any(changed[at][side] for at in link) for side in (0, 1))
        policy = asked[number] = asked[link[0]]
        if mine_changed and theirs_changed:
            disputed.append(number)
            lost.append(number)
            (write if get_winner(policy, later) == LOCAL else kept).append(number)
        elif mine_changed:
            only_mine = True
            write.append(number)
        elif theirs_changed:
            sides.add(LOCAL if policy == LOCAL else REMOTE)
            (write if policy == LOCAL else kept).append(number)
            lost += [number] if policy == LOCAL else []
    resolved = None
    if disputed:
        winners = {get_winner(asked[number], later) for number in disputed}
        resolved = None if None in winners else MERGED if len(winners) > 1 else winners.pop()
    elif only_mine and sides:
        resolved = LOCAL if sides == {LOCAL} else MERGED
    rest = make_kept_digests(layout, mine, made, known, write, kept)
    newer = any(asked[number] == NEWER for number in disputed)
    return Decision(
        tuple(write), tuple(kept), tuple(disputed), tuple(lost), resolved, rest, known=bool(known), newer=newer
    )


def get_winner(policy: str, later: str) -> str | None:
    """The side whose value stands where both have changed it; None where that is not decided."""
    return {NEWER: later, FAIL: None}.get(policy, policy)


def find_sides(
    layout: Layout, number: int, mine: Any, made: bytes, theirs: Any, known: dict[bytes, bytes]
) -> tuple[bool, bool]:
    """Whether the source, and whether the target changed the value in a column since they were in step. ``made``: the
    digest of the source's."""
    base = known.get(layout.codes[number])
    if base is None:
        return True, True
    return mine is NEW or base != made[NAME_SIZE:], base != digest_value(layout, number, theirs)


def digest_value(layout: Layout, number: int, value: Any) -> bytes:
    """The digest of the value in one column."""
    return layout.digesters[number](value)[NAME_SIZE:]


def make_kept_digests(
    layout: Layout,
    mine: Sequence[Any],
    made: Sequence[bytes],
    known: dict[bytes, bytes],
    write: Sequence[int],
    kept: Sequence[int],
) -> bytes:
    """The digests of the columns that are equal on both sides, ``made`` of the source's, and for kept ones what was
    known of them."""
    parts = []
    for number, code in enumerate(layout.codes):
        if number in kept:
            parts.append(code + known[code] if code in known else b"")
        elif number not in write and mine[number] is not NEW:
            parts.append(made[number])
    return b"".join(parts)


def mirror_digests(layout: Layout, row: Sequence[Any], mine: Sequence[Any], digests: bytes) -> bytes:
    """The digests that a push in the other direction left of a row of the source, as digests of the target's row.

    Values that are no links are the same on both sides. A link that the source did not change since stands for its
    counterpart; what another one was on the target is not known.
    """
    known = split_digests(digests)
    parts = []
    for number, (name, code) in enumerate(zip(layout.names, layout.codes, strict=True)):
        base = known.get(code)
        if base is None:
            continue
        if layout.get_link(name) is not None:
            raw = row[number + 1] if number < len(layout.columns) else row[layout.tree_at]
            if base != digest_value(layout, number, raw) or mine[number] is NEW:
                continue
            base = digest_value(layout, number, mine[number])
        parts.append(code + base)
    return b"".join(parts)


def is_other_object(layout: Layout, identifying: set[str], digests: bytes, theirs: Sequence[Any]) -> bool:
    """Whether a row of the target is no longer the object that we left there, by what ``digests`` say of it.

    A row that still has the identity that we left was at most renamed at the source. One of which some content is as we
    left it was renamed and perhaps edited on the target. One in which the identity and all content changed is another
    object. Links and empty values are no content: other objects have the same.
    """
    changed = find_changed(digests, layout.names, [layout.normalize(at, value) for at, value in enumerate(theirs)])
    if not changed:
        return False
    known = split_digests(digests)
    content = {
        name
        for name in layout.names
        if known.get(get_name_code(name), EMPTY[0]) not in EMPTY and layout.get_link(name) is None
    }
    if identifying:
        return bool(changed & identifying) and bool(content - identifying) and content - identifying <= changed
    return len(content) > 1 and content <= changed

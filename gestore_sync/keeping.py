"""The values that lose a conflict, kept where the id mappings are, in the transaction of the rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from gestore_sync.comparison import LOCAL, REMOTE, Decision, Pair
from gestore_sync.fields import now
from gestore_sync.layouts import Layout
from gestore_sync.lostvalues import canonize, dump_lost, encode_value, load_lost
from gestore_sync.mappings import MappingStore
from gestore_sync.models import Conflict
from gestore_sync.plan import Given, Keep, Plan
from gestore_sync.reading import get_queryset, match
from gestore_sync.refs import NEW, Key, dump_pk, get_field
from gestore_sync.valuekinds import dump_json
from gestore_sync.writers import get_writer

FIELDS = (
    *("origin", "remote", "model", "source_pk", "target_pk"),
    *("fields", "resolved", "run", "date", "taken"),
)

Said = tuple[str, str, str, str]
"""A field, the JSON of both sides, and the side whose value stands."""


def plan_kept(
    plan: Plan,
    store: MappingStore,
    layout: Layout,
    rows: Mapping[Key, tuple[Any, ...]],
    targets: Mapping[Key, Key],
    pairs: Mapping[Key, Pair],
    decisions: Mapping[Key, Decision],
) -> Collection[Key]:
    """Add the values that lose to the plan, without those that are kept from an earlier run; whose they are."""
    losing = {key: decision for key, decision in decisions.items() if decision.lost and is_decided(decision)}
    if not losing or not store.keeps:
        return ()
    known = find_known(store, layout, {key: targets[key] for key in losing})
    found = {}
    for key, decision in losing.items():
        columns = dict(iter_unknown(layout, pairs[key], decision, known.get(key, ())))
        if columns:
            found[key] = Given(rows[key], targets[key], decision.resolved or LOCAL, columns)
    if found:
        plan.changes.add(Keep(layout.model._meta.label, list(found.values())))
    return found.keys()


def is_decided(decision: Decision) -> bool:
    """Whether the row is written, or left, by what the policies say; one that no policy decides loses nothing."""
    return decision.resolved is not None or not decision.disputed


def iter_unknown(
    layout: Layout, pair: Pair, decision: Decision, known: Collection[Said]
) -> Iterable[tuple[int, tuple[str, str, str]]]:
    """The columns in which a value loses that is not kept yet: by number the target's value, who wins, and why. Columns
    that make one link are kept together, as one of them alone says nothing."""
    both = "both sides changed" if decision.known else "the sides were never in step in"
    for number in decision.lost:
        side = LOCAL if number in decision.write else REMOTE
        why = both if number in decision.disputed else "only the target changed"
        link = layout.together.get(number, (number,))
        if not all(describe(layout, at, pair, side) in known for at in link):
            for at in link:
                yield at, (encode_value(layout, at, pair.theirs[at]), side, why)


def describe(layout: Layout, number: int, pair: Pair, side: str) -> Said | None:
    """What is said of one column; None where the source's value has no key on the target yet."""
    mine = pair.mine[number]
    if mine is NEW:
        return None
    theirs = encode_value(layout, number, pair.theirs[number])
    return layout.names[number], canonize(encode_value(layout, number, mine)), canonize(theirs), side


def find_known(store: MappingStore, layout: Layout, targets: Mapping[Key, Key]) -> dict[Key, set[Said]]:
    """What is kept of these objects and was not decided by a person since."""
    by_text = {dump_pk(key): key for key in targets}
    rows = get_queryset(Conflict, store.place).filter(
        match("source_pk", by_text), origin=store.origin, remote=store.remote, model=layout.model._meta.label, taken=""
    )
    found: dict[Key, set[Said]] = {}
    for source, target, text in rows.values_list("source_pk", "target_pk", "fields"):
        key = by_text.get(source)
        if key is not None and target == dump_pk(targets[key]):
            found.setdefault(key, set()).update(
                (name, dump_json(lost.local), dump_json(lost.remote), lost.resolved)
                for name, lost in load_lost(text).items()
            )
    return found


def keep(
    store: MappingStore,
    layout: Layout,
    rows: Iterable[Given],
    translate: Callable[[Layout, tuple[Any, ...]], list[Any]],
    run: UUID,
) -> None:
    """Write what a plan says is to be kept. ``translate``: the values of a row of the source as they are here."""
    date, made = now(), []
    for given in rows:
        values = translate(layout, given.row)
        text = dump_lost(
            {
                layout.names[number]: (encode_value(layout, number, values[number]), theirs, side)
                for number, (theirs, side, _) in given.columns.items()
            }
        )
        keys = (dump_pk(given.row[0]), dump_pk(given.target))
        label = layout.model._meta.label
        made.append([store.origin, store.remote, label, *keys, text, given.resolved, run, date, ""])
    get_writer(store.place).insert(Conflict, [get_field(Conflict, name) for name in FIELDS], made)

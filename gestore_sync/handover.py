"""What a target is told of a move before the source deletes: the rows are its own, and links that stay led to them.

Whatever looks for objects that were sent and are gone passes by rows that were handed over. That is noted first, as
the other order would leave them to a later run where the process is killed; where the deletion fails it is taken back,
and the next push of the objects does so, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import Model

from gestore_sync.comparison import digest_value, mirror_digests
from gestore_sync.digests import split_digests
from gestore_sync.dooming import DeletionPlan
from gestore_sync.layouts import Layout
from gestore_sync.links import FOREIGN, Link
from gestore_sync.mappings import MappingStore
from gestore_sync.origins import get_origin
from gestore_sync.plan import Noted
from gestore_sync.reading import KEYS_PER_QUERY, find_existing
from gestore_sync.recall import Mapping
from gestore_sync.references import get_set_fields
from gestore_sync.refs import NEW, UNKNOWN, Key, iter_chunks
from gestore_sync.tombstones import drop_links
from gestore_sync.transactions import write_all_or_nothing
from gestore_sync.translation import Counterparts


def hand_over(plan: DeletionPlan, store: MappingStore, counterparts: Counterparts) -> None:
    """Note it where the id mappings are kept, when the rows of ``plan`` are gone at the source. ``counterparts``: what
    they are on the target."""
    with write_all_or_nothing(store.place):
        store.origin = get_origin(store.place, store.uuid)
        for model, keys in iter_doomed(plan):
            known = store.find(model, keys)
            elsewhere = {key: mapping for key, mapping in known.items() if mapping.pk is None or mapping.mirrored}
            layout = Layout(model, plan.graph)
            notes = [
                make_note(key, mapping, drop_links(layout, mapping.digests) if mapping.mirrored else mapping.digests)
                for key, mapping in elsewhere.items()
            ]
            store.save(model, notes, elsewhere)
            store.mark_moved(model, list(iter_there(model, keys, counterparts)))
        for link, rows in plan.released.items():
            layout = Layout(link.model, plan.graph)
            for chunk in iter_chunks(rows, KEYS_PER_QUERY):
                keep_link(link, chunk, store, layout)


def take_back(plan: DeletionPlan, store: MappingStore, counterparts: Counterparts) -> None:
    """Note that the rows of ``plan`` that are still at the source were not handed over."""
    with write_all_or_nothing(store.place):
        for model, keys in iter_doomed(plan):
            still = list(find_existing(model, store.source, keys))
            store.mark_moved(model, list(iter_there(model, still, counterparts)), moved=False)


def iter_doomed(plan: DeletionPlan) -> Iterator[tuple[type[Model], list[Key]]]:
    """The rows that go, so many at a time that they can be asked for at once."""
    for model, keys in plan.doomed.keys.items():
        for chunk in iter_chunks(keys, KEYS_PER_QUERY):
            yield model, chunk


def iter_there(model: type[Model], keys: Sequence[Key], counterparts: Counterparts) -> Iterator[Key]:
    """The counterparts of those objects that have one."""
    for target in counterparts.get_all(model, keys):
        if target is not NEW and target is not UNKNOWN:
            yield target


def make_note(key: Key, mapping: Mapping, digests: bytes) -> Noted:
    """What is known of a mapping, to be kept with these digests."""
    return Noted(key, mapping.target, mapping.created, digests)


def keep_link(link: Link, keys: Sequence[Key], store: MappingStore, layout: Layout) -> None:
    """Let what the deletion has set ``link`` to be what both sides had: the rows of the target keep what they have,
    as they had changed it since."""
    rows = {row[0]: row for row in layout.read(store.source, keys)}
    known = store.find(link.model, list(rows))
    mine = translate(layout, rows, store)
    numbers = [layout.names.index(name) for name in get_set_fields(link) if name in layout.names]
    notes = []
    for key, mapping in known.items():
        row, values, digests = rows[key], mine[key], mapping.digests
        parts = split_digests(mirror_digests(layout, row, values, digests) if mapping.mirrored else digests)
        for number in numbers:
            value = row[number + 1] if values[number] is NEW else values[number]
            parts[layout.codes[number]] = digest_value(layout, number, value)
        notes.append(make_note(key, mapping, b"".join(code + digest for code, digest in parts.items())))
    store.save(link.model, notes)
    store.mark_moved(link.model, [mapping.target for mapping in known.values() if mapping.moved])


def translate(layout: Layout, rows: dict[Key, tuple[Any, ...]], store: MappingStore) -> dict[Key, list[Any]]:
    """By key the values of rows of the source, with links as the id mappings know them on the target; NEW where they
    do not."""
    translated = {key: list(row[1 : 1 + len(layout.names)]) for key, row in rows.items()}
    for number, name in enumerate(layout.names):
        link = layout.get_link(name)
        if link is None:
            continue
        found: dict[Any, Key] = {None: None}
        if link.kind == FOREIGN and link.target is not None and len(link.attnames) == 1 and not link.to_field:
            wanted = list({values[number] for values in translated.values()} - {None})
            found |= {key: mapping.target for key, mapping in store.find(link.target, wanted).items()}
        for values in translated.values():
            values[number] = found.get(values[number], NEW)
    return translated

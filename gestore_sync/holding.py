"""Which rows of the target already stand for an object of the source, whoever has sent which."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Model

from gestore_sync.keytexts import dump_key, load_key
from gestore_sync.mappings import MappingStore
from gestore_sync.reading import find_existing
from gestore_sync.refs import Key
from gestore_sync.thirdsites import iter_sent


def find_holders(store: MappingStore, model: type[Model], targets: Sequence[Key]) -> dict[Key, list[Key]]:
    """By row of the target the objects that it is known to stand for, whether they still exist or not."""
    found = {target: [sent.key for sent in sources] for target, sources in store.find_sources(model, targets).items()}
    by_text = {dump_key(key): key for key in targets}
    pairs = [] if store.thirds is None else list(store.thirds.iter_holders(model, by_text))
    if store.mirror is not None and by_text:
        pairs += iter_sent(store.source, model, store.mirror, by_text)
    for text, mine in pairs:
        found.setdefault(by_text[text], []).append(load_key(model, mine))
    return found


def find_held(store: MappingStore, model: type[Model], targets: Sequence[Key]) -> dict[Key, Key]:
    """Those rows that stand for an object that exists at the source, each with that, or with the one that was sent."""
    holders = find_holders(store, model, targets)
    existing = find_existing(model, store.source, [key for of_row in holders.values() for key in of_row])
    return {target: key for target, of_row in holders.items() for key in reversed(of_row) if key in existing}

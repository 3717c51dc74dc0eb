"""Objects that the source has from a third site, which has sent them to the target, too: they are the same there.

So sites that all send to each other have one row each of an object that nothing but its origin's key tells from others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Model, QuerySet

from gestore_sync.changelog import find_replaced
from gestore_sync.keytexts import load_key
from gestore_sync.models import IdMapping, Origin
from gestore_sync.reading import find_existing, get_queryset, match
from gestore_sync.recall import Mapping as Known
from gestore_sync.refs import Key


class ThirdSites:
    """The origins that have sent something to both. ``but``: the identities of the two themselves."""

    def __init__(self, source: str, target: str, but: Collection[UUID | None]) -> None:
        self._source = source
        self._target = target
        self._origins = list(self._iter_common(but))

    def _iter_common(self, but: Collection[UUID | None]) -> Iterator[tuple[UUID, int, int]]:
        """``(identity, its primary key at the source, that at the target)``."""
        here = dict(get_queryset(Origin, self._source).values_list("uuid", "pk"))
        wanted = here.keys() - but
        there = get_queryset(Origin, self._target).filter(uuid__in=wanted).order_by("pk") if wanted else ()
        yield from ((origin.uuid, here[origin.uuid], origin.pk) for origin in there)

    def find(self, model: type[Model], by_text: Mapping[str, Key]) -> dict[Key, Known]:
        """By object of the source the row of the target that stands for the same object of another site, with what was
        left at the source. ``by_text``: the keys of the objects, by their texts."""
        found: dict[Key, Known] = {}
        for uuid, here, there in self._origins:
            left = {text: key for text, key in by_text.items() if key not in found}
            found |= self._find_of(model, left, uuid, here, there) if left else {}
        return found

    def iter_holders(self, model: type[Model], texts: Collection[str]) -> Iterator[tuple[str, str]]:
        """``(row, object of the source)``, as texts of keys: what these rows of the target stand for at the source, as
        far as another site has sent both."""
        for _, here, there in self._origins if texts else ():
            sent = get_mappings(self._target, model, there).filter(match("target_pk", texts))
            rows = dict(sent.values_list("source_pk", "target_pk"))
            for original, text in iter_sent(self._source, model, here, rows) if rows else ():
                yield rows[original], text

    def _find_of(
        self, model: type[Model], by_text: Mapping[str, Key], uuid: UUID, here: int, there: int
    ) -> dict[Key, Known]:
        """The same of one origin."""
        received = iter_received(self._source, model, here, by_text)
        originals = {original: (key, digests, serial) for original, key, digests, serial in received}
        if not originals:
            return {}
        sent = iter_sent(self._target, model, there, originals)
        found: dict[Key, Known] = {}
        for original, text in sent:
            key, digests, serial = originals[original]
            found[key] = Known(None, load_key(model, text), False, digests, serial, mirrored=True)
        others = find_replaced(self._source, model, list(found), uuid)
        # What was deleted here is still the same; only another object that has its key by now is not.
        others = find_existing(model, self._source, list(others)) if others else set()
        return {key: known for key, known in found.items() if key not in others}


def get_mappings(using: str, model: type[Model], origin: int) -> QuerySet[Any]:
    """The id mappings that pushes of an origin have left."""
    return get_queryset(IdMapping, using).filter(origin=origin, remote="", model=model._meta.label_lower)


def iter_sent(using: str, model: type[Model], origin: int, originals: Collection[str]) -> Iterator[tuple[str, str]]:
    """Of these objects of an origin ``(its own key, that of the row)``, as texts."""
    rows = get_mappings(using, model, origin).filter(match("source_pk", originals))
    for original, text in rows.values_list("source_pk", "target_pk"):
        if original in originals:
            yield original, text


def iter_received(
    using: str, model: type[Model], origin: int, by_text: Mapping[str, Key]
) -> Iterator[tuple[str, Key, bytes, int]]:
    """Of those rows that an origin has sent: ``(the text of its own key, row, digests, serial)``."""
    rows = get_mappings(using, model, origin).filter(match("target_pk", by_text))
    for original, text, digests, serial in rows.values_list("source_pk", "target_pk", "digests", "serial"):
        if text in by_text:
            yield original, by_text[text], bytes(digests), serial

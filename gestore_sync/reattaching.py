"""Optional links from outside that a deletion nulled: a restore sets them again where they are still null."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Field, Model

from gestore_sync.codecs import make_decoder, make_key_decoder
from gestore_sync.exceptions import BundleError
from gestore_sync.links import LinkGraph, get_concrete
from gestore_sync.loading import is_allowed
from gestore_sync.manifests import find_model
from gestore_sync.plan import Attach
from gestore_sync.privileges import Protection
from gestore_sync.reading import get_queryset, iter_rows, match
from gestore_sync.refs import Key, get_field
from gestore_sync.valuekinds import INVALID

Links = dict[tuple[type[Model], "Field[Any, Any]"], dict[Key, Any]]


def iter_reattached(
    detached: Iterable[dict[str, Any]], graph: LinkGraph, target: str, protection: Protection
) -> Iterator[Attach]:
    """What to write so that these links of a manifest are there again.

    Left alone are rows that are gone or point elsewhere by now, and links to what neither the bundle nor the target
    has. Raises :class:`BundleError` for what is no link.
    """
    for (model, field), values in read_links(detached, graph).items():
        if not is_allowed(model) or field.name in protection.get_names(model):
            continue
        loose = {pk for pk, value in iter_rows(model, target, list(values), [field.attname]) if value is None}
        there = find_there(field, {value for key, value in values.items() if key in loose}, (graph.using, target))
        rows = [(key, value) for key, value in values.items() if key in loose and value in there]
        if rows:
            yield Attach(model._meta.label, field.name, rows)


def read_links(detached: Iterable[dict[str, Any]], graph: LinkGraph) -> Links:
    """The links by model and field: by primary key of the row what it pointed to."""
    found: Links = {}
    for link in detached:
        model = find_model(str(link.get("model")))
        if model is None or model not in graph:
            continue
        try:
            field = get_field(model, str(link["field"]))
            key, value = make_key_decoder(model)(link["pk"]), make_decoder(field)(link["value"])
        except INVALID as error:
            raise BundleError(f"The manifest of the bundle has a broken link: {str(link)[:200]}: {error}.") from None
        if not field.is_relation or not field.null:
            raise BundleError(f"The manifest of the bundle has a link that is none, or not optional: {link!r}.")
        found.setdefault((model, field), {})[key] = value
    return found


def find_there(field: Any, values: set[Any], databases: Iterable[str]) -> set[Any]:
    """Those of the values of a link that lead to a row of one of the databases."""
    model, name = get_concrete(field.remote_field.model), field.target_field.attname
    return {
        value
        for using in databases
        for (value,) in get_queryset(model, using).filter(match(name, values)).values_list(name)
    }

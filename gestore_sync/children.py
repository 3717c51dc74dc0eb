"""Multi-table parents: which of their rows are parts of an object, and which policy decides about them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.db.models import Model

from gestore_sync.links import get_concrete
from gestore_sync.policies import Policies
from gestore_sync.reading import get_keys_per_query, get_queryset, iter_rows, match
from gestore_sync.refs import Key, Ref, iter_chunks, load_pk


def get_policies_of(
    policies: Policies, model: type[Model], using: str, keys: Collection[Key]
) -> Mapping[Key, Policies]:
    """By key the policies for these rows of ``model``, which a database has. Only where a rule names one of its
    multi-table children, that is asked which of them are parts of a child."""
    found = dict.fromkeys(keys, policies)
    for child, path in iter_children(policies, model):
        narrowed = policies.as_child(child)
        for chunk in iter_chunks(list(keys), get_keys_per_query(model, using)):
            parts = get_queryset(child, using).filter(match(path, chunk))
            found.update(dict.fromkeys(parts.values_list(path, flat=True), narrowed))
    return found


def iter_children(policies: Policies, model: type[Model]) -> Iterator[tuple[type[Model], str]]:
    """The multi-table children of ``model`` that a rule names, with the path that leads to it; the lowest is last."""
    named = [
        (child, find_path(child, model))
        for child in apps.get_models()
        if policies.names(child) and model in child._meta.all_parents and not child._meta.proxy
    ]
    yield from sorted(named, key=lambda item: (item[1].count("__"), item[0]._meta.label))


def find_path(child: type[Model], model: type[Model]) -> str:
    """The parent links from ``child`` up to ``model``."""
    return "__".join(link.name for link in iter_parent_links(child, model))


def iter_parent_links(child: type[Model], model: type[Model]) -> Iterator[Any]:
    """The fields that lead from ``child`` up to its multi-table parent ``model``."""
    current = child
    while current is not model:
        link: Any = current._meta.get_ancestor_link(model)
        yield link
        current = get_concrete(link.remote_field.model)


def iter_parents(
    model: type[Model], keys: Sequence[Key], using: str, kept: Mapping[Key, Mapping[str, str | None]] = {}
) -> Iterator[tuple[Key, Ref]]:
    """``(key, parent)`` of objects of ``model``, with each of their multi-table parents. A second parent has its own
    key, which the row says; ``kept``: what the log keeps of rows that are gone, also where others have their keys."""
    for parent in dict.fromkeys(get_concrete(parent) for parent in model._meta.all_parents):
        links = [link for link in iter_parent_links(model, parent) if not link.primary_key]
        if not links:
            yield from ((key, Ref(parent, key)) for key in keys)
            continue
        yield from ((key, Ref(parent, end)) for key, end in iter_rows(model, using, keys, [find_path(model, parent)]))
        texts = ((key, fields.get(links[-1].attname)) for key, fields in kept.items())
        yield from ((key, Ref(parent, load_pk(parent, text))) for key, text in texts if text is not None)

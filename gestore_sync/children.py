"""Which policy decides about the rows of a multi-table parent: the one of the child that they are a part of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.db.models import Model

from gestore_sync.links import get_concrete
from gestore_sync.policies import Policies
from gestore_sync.reading import get_keys_per_query, get_queryset, match
from gestore_sync.refs import Key, iter_chunks


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
    names, current = [], child
    while current is not model:
        link: Any = current._meta.get_ancestor_link(model)
        names.append(link.name)
        current = get_concrete(link.remote_field.model)
    return "__".join(names)

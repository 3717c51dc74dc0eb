"""The order in which models are located and written: what is pointed to comes first; cycles are cut where possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from django.db.models import Model

from gestore_sync.identity import iter_identities
from gestore_sync.links import Link, LinkGraph
from gestore_sync.refs import get_field


def get_links(graph: LinkGraph, models: Iterable[type[Model]]) -> list[Link]:
    """The foreign keys between different ones of these models."""
    among = set(models)
    return [
        link for model in among for link in graph.forward[model] if link.target in among and link.target is not model
    ]


def get_identity_links(graph: LinkGraph, model: type[Model]) -> list[Link]:
    """The links that are part of what identifies an object of ``model``."""
    adapter = graph.find_adapter(model)
    identities = iter_identities(model, adapter.position_fields(model) if adapter else ())
    names = {path.split("__")[0] for identity in identities if identity.locates for path in identity.paths}
    pk = model._meta.pk
    names |= set(getattr(pk, "field_names", (pk.name,)))
    fields = (get_field(model, name) for name in names)
    columns = {field.attname for field in fields if hasattr(field, "attname")}
    return [link for link in graph.forward[model] if columns & set(link.attnames)]


def sort_models(
    models: Sequence[type[Model]], links: Sequence[Link], weight: Callable[[Link], int]
) -> list[type[Model]]:
    """``models`` so that the target of each link comes before the model that declares it.

    In a cycle the links with the smallest ``weight`` are given up first, and only as many weights as must be.
    """
    ordered = sorted(models, key=lambda model: model._meta.label)
    result: list[type[Model]] = []
    for component in find_components(ordered, links):
        inner = [link for link in links if link.model in component and link.target in component]
        if len(component) == 1 or not inner:
            result.extend(component)
            continue
        lightest = min(weight(link) for link in inner)
        kept = [link for link in inner if weight(link) > lightest]
        result.extend(sort_models(component, kept, weight))
    return result


def find_components(models: Sequence[type[Model]], links: Sequence[Link]) -> list[list[type[Model]]]:
    """The strongly connected components, targets first (Tarjan's algorithm, without recursion)."""
    targets: dict[type[Model], list[type[Model]]] = {model: [] for model in models}
    for link in sorted(links, key=lambda link: link.name):
        if link.model in targets and link.target in targets and link.target is not None:
            targets[link.model].append(link.target)
    index: dict[type[Model], int] = {}
    low: dict[type[Model], int] = {}
    stack: list[type[Model]] = []
    found: list[list[type[Model]]] = []
    for start in models:
        if start in index:
            continue
        index[start] = low[start] = len(index)
        stack.append(start)
        work = [(start, iter(targets[start]))]
        while work:
            model, rest = work[-1]
            target = next(rest, None)
            if target is not None:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    work.append((target, iter(targets[target])))
                elif target in stack:
                    low[model] = min(low[model], index[target])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[model])
            if low[model] == index[model]:
                at = stack.index(model)
                found.append(sorted(stack[at:], key=lambda member: member._meta.label))
                del stack[at:]
    return found


def find_cycle(links: Iterable[Link]) -> list[Link]:
    """The links of one cycle that these links form between models (a self link is one), or an empty list."""
    links = list(links)
    for link in links:
        if link.target is link.model:
            return [link]
    sorter: TopologicalSorter[type[Model]] = TopologicalSorter()
    for link in links:
        if link.target is not None:
            sorter.add(link.model, link.target)
    try:
        sorter.prepare()
    except CycleError as error:
        models: list[type[Model]] = error.args[1]
        steps = zip(models[1:], models[:-1], strict=True)
        return [next(link for link in links if (link.model, link.target) == step) for step in steps][::-1]
    return []

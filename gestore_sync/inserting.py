"""Which columns a new row gets beside those that travel, and their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db.models import Field, Model
from django.db.models.fields.files import FieldFile

from gestore_sync.identity import has_automatic_key
from gestore_sync.layouts import Layout
from gestore_sync.links import LinkGraph
from gestore_sync.refs import Key
from gestore_sync.trees import Trees


def get_insert_rows(
    layout: Layout, graph: LinkGraph, trees: Trees, targets: Sequence[Key], translated: Sequence[list[Any]]
) -> tuple[list[Field[Any, Any]], list[list[Any]]]:
    """The fields to insert, and for each of ``targets`` their values: those ``translated``, the key where it is
    automatic, the position in a tree, what fields that do not travel get."""
    model, end = layout.model, len(layout.columns)
    automatic = [model._meta.pk] if has_automatic_key(model) else []
    adapter = graph.find_adapter(model)
    positions = [model._meta.get_field(name) for name in (adapter.position_fields(model) if adapter else ())]
    skipped = [
        field
        for field in model._meta.local_concrete_fields
        if field.name in layout.skipped and not field.has_db_default()
    ]
    if automatic:
        rows = [[*values[:end], target] for values, target in zip(translated, targets, strict=True)]
    else:
        rows = [values[:end] for values in translated]
    if positions or skipped:
        for row, target in zip(rows, targets, strict=True):
            row += [*trees.get_positions(model, target), *make_blank_values(model, skipped)]
    return [*(column.field for column in layout.columns), *automatic, *positions, *skipped], rows


def make_blank_values(model: type[Model], fields: Sequence[Field[Any, Any]]) -> Iterator[Any]:
    """What these fields of a new object have."""
    blank: Any = model() if fields else None
    for field in fields:
        value = field.pre_save(blank, True)
        yield str(value) if isinstance(value, FieldFile) else value

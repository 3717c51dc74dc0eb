"""Which columns a new row gets beside those that travel, and their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Field
from django.db.models.fields.files import FieldFile

from gestore_sync.identity import has_automatic_key
from gestore_sync.layouts import Layout
from gestore_sync.links import LinkGraph
from gestore_sync.refs import Key
from gestore_sync.trees import Trees


def get_insert_fields(
    layout: Layout, graph: LinkGraph, trees: Trees
) -> tuple[list[Field[Any, Any]], Callable[[Key], list[Any]]]:
    """The fields to insert, and what follows a record's values: key, tree position, fields that do not travel."""
    model = layout.model
    automatic = [model._meta.pk] if has_automatic_key(model) else []
    adapter = graph.find_adapter(model)
    positions = [model._meta.get_field(name) for name in (adapter.position_fields(model) if adapter else ())]
    skipped = [
        field
        for field in model._meta.local_concrete_fields
        if field.name in layout.skipped and not field.has_db_default()
    ]

    def fill(target: Key) -> list[Any]:
        values: list[Any] = [target] if automatic else []
        values += trees.get_positions(model, target)
        if skipped:
            blank = model()
            found = (field.pre_save(blank, True) for field in skipped)
            values += [str(value) if isinstance(value, FieldFile) else value for value in found]
        return values

    fields: list[Any] = [*(column.field for column in layout.columns), *automatic, *positions, *skipped]
    return fields, fill

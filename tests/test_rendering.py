"""The records that PostgreSQL makes itself hold what those hold that Python makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.db.models import Model
from django.db.models.expressions import RawSQL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gestore_sync.adapters import load_adapters
from gestore_sync.codecs import load_json, make_decoder, make_encoder
from gestore_sync.links import LinkGraph
from gestore_sync.reading import get_queryset
from gestore_sync.records import RecordWriter, annotate, get_path
from gestore_sync.rendering import make_expression
from gestore_sync.scope import Scope
from gestore_sync.subgraph import Subgraph
from tests.conftest import DATABASES
from tests.kinds.making import make
from tests.kinds.models import Box, Tag, Values
from tests.kinds.pushing import rolled_back
from tests.test_values import JSON, ROWS

USING = "pg_local"
FIELDS = [field for field in Values._meta.local_concrete_fields if make_expression(Values, USING, field) is not None]

on_postgresql = pytest.mark.django_db(databases=DATABASES)


def read_both(field: Any) -> list[tuple[Any, Any]]:
    """By row, what an import reads of the database's JSON and of Python's."""
    model: type[Model] = field.model
    expression = make_expression(model, USING, field)
    assert expression is not None
    made = RawSQL(f"COALESCE({expression}, 'null')", [])
    rows = annotate(model, get_queryset(model, USING).annotate(made_there=made))
    encode, decode = make_encoder(field), make_decoder(field)

    def read(text: str) -> Any:
        value = load_json(text)
        return None if value is None else decode(value)

    return [
        (read(text), None if value is None else read(encode(value)))
        for text, value in rows.order_by("pk").values_list("made_there", get_path(field))
    ]


def differ(pairs: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    return [(mine, theirs) for mine, theirs in pairs if repr(mine) != repr(theirs) and mine != theirs]


@on_postgresql
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=6))
def test_the_database_makes_the_same_values(rows: list[dict[str, Any]]) -> None:
    with rolled_back(USING):
        box = make(Box, USING)
        for row in rows:
            make(Values, USING, box=box, **row)

        different = {field.name: found for field in FIELDS if (found := differ(read_both(field)))}

    assert different == {}


@on_postgresql
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    values=st.lists(JSON | st.fixed_dictionaries({"$json": JSON}) | st.fixed_dictionaries({"$json": JSON, "a": JSON}))
)
def test_the_database_makes_the_same_json(values: list[Any]) -> None:
    with rolled_back(USING):
        box = make(Box, USING)
        for value in values:
            make(Values, USING, box=box, json=value)

        different = differ(read_both(Values._meta.get_field("json")))

    assert different == []


@on_postgresql
@pytest.mark.parametrize("real", [float("nan"), float("inf"), float("-inf"), 1e300, 5e-324, 0.1])
def test_the_database_makes_the_same_floats(real: float) -> None:
    make(Values, USING, box=make(Box, USING), real=real)

    [(mine, theirs)] = read_both(Values._meta.get_field("real"))

    assert repr(mine) == repr(theirs) == repr(real)


@on_postgresql
def test_whole_records_are_the_same() -> None:
    tags = [make(Tag, USING, name=name).pk for name in ("a", "%s {0} \"'\\ \n", "ü")]
    subgraph = Subgraph(USING, LinkGraph(USING, load_adapters()), Scope())
    writer = RecordWriter(subgraph, Tag, indented=False, with_members=False)
    rendered = writer._find_rendered()
    assert rendered is not None

    assert list(writer._iter_rendered(tags, rendered)) == list(writer._iter_made(tags))


def test_most_kinds_of_columns_are_made_by_the_database() -> None:
    names = {field.name for field in FIELDS}

    assert {"integer", "decimal", "real", "char", "moment", "time", "binary", "uuid", "json", "box", "file"} <= names

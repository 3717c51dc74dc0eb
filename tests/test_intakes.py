from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gestore_sync import intakes
from gestore_sync.exceptions import BundleError
from gestore_sync.intakes import Intake, Intakes
from gestore_sync.links import LinkGraph
from gestore_sync.privileges import Protection
from gestore_sync.records import Record
from tests.conftest import DATABASES
from tests.policies.models import Parcel, Worker

pytestmark = pytest.mark.django_db(databases=DATABASES)

MODELS: list[Any] = [Parcel, Worker, User, Permission]
DATED = "date_joined"
"""A field whose default is another one each time."""
parsed = st.sampled_from([None, "", "7", "x", 7, -1, 2**40, Decimal("7.0"), Decimal("7.5"), True, {}, ["a"]])


@dataclass
class Collecting(Intakes):
    """Keeps what would be staged."""

    staged: list[Any] = field(default_factory=list)

    def insert(self, model: Any, fields: Sequence[Any], keys: Sequence[Any], rows: Sequence[Any]) -> None:
        for key, row in zip(keys, rows, strict=True):
            pairs = zip(fields, row, strict=True)
            self.staged.append((model, key, {at.attname: value for at, value in pairs if at.name != DATED}))


@st.composite
def records(draw: st.DrawFn, model: Any) -> list[Record]:
    """Records of a model, most of them well-formed."""
    columns = [column for column in model._meta.local_concrete_fields if not column.primary_key]
    made = []
    for number in range(draw(st.integers(1, 5))):
        fields = {column.name: make_value(column, number) for column in columns}
        if draw(st.integers(0, 3)) == 0:
            column = draw(st.sampled_from(columns))
            fields[column.name] = draw(parsed)
        if draw(st.integers(0, 7)) == 0:
            column = draw(st.sampled_from(columns))
            value = fields.pop(column.name)
            for name in draw(st.lists(st.sampled_from([column.name, column.attname, "id", "unknown"]), max_size=2)):
                fields[name] = value
        pk = draw(st.sampled_from([number, str(number), "x", None])) if draw(st.integers(0, 5)) == 0 else number
        made.append(Record(model._meta.label, pk, fields))
    return made


def make_value(column: Any, number: int) -> Any:
    """A value of a column as a bundle has it."""
    kind = column.get_internal_type()
    if kind == "DateTimeField":
        return f"2026-11-0{number + 1}T12:00:00+00:00"
    return number % 2 == 0 if kind == "BooleanField" else f"{number}" if kind == "CharField" else number % 3


def take(model: Any, some: list[Record], *, leaves_out: bool) -> Any:
    """What is staged of the records, and what is said of them."""
    graph = LinkGraph("default")
    shared = Collecting("default", graph, Protection(graph, allowed=model is Permission), leaves_out)
    intake = Intake(shared, model)
    try:
        for record in some:
            intake.add(record)
        intake.finish()
    except BundleError as error:
        return str(error)
    return repr((shared.staged, shared.absent, shared.left_out, [*shared.protection.iter_notices()], intake.count))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("leaves_out", [False, True])
@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_are_taken_together_as_they_are_one_by_one(
    db: None, model: Any, leaves_out: bool, data: st.DataObject
) -> None:
    some = data.draw(records(model))

    together = take(model, some, leaves_out=leaves_out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intakes, "BATCH_SIZE", 1)
        patch.setattr(Intake, "_find_alike", lambda *_: ())
        apart = take(model, some, leaves_out=leaves_out)

    assert together == apart


def test_the_first_wrong_record_of_many_is_named(db: None) -> None:
    some = [Record("policies.Worker", number, {"email": "", "badge": number, "name": ""}) for number in range(9)]
    some[5].fields["badge"] = some[7].fields["badge"] = "many"  # type: ignore[index]

    found = take(Worker, some, leaves_out=False)

    assert found.startswith("policies.Worker.5 of the bundle has 'many' in 'badge', which it cannot read: ")

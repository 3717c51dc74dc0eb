from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

DATABASES = ["default", "remote", "pg_local", "pg_remote"]
TIMES = int(os.environ.get("EXAMPLES", "1"))
"""How many times as many examples the heavy tests draw: `make test-heavy EXAMPLES=10`."""


@dataclass(frozen=True)
class Pair:
    """Two database aliases: the side that is read and the side that is written."""

    source: str
    target: str


def _pairs(**marker: Any) -> list[Any]:
    marks = pytest.mark.django_db(databases=DATABASES, **marker)
    return [
        pytest.param(Pair("default", "remote"), id="sqlite-sqlite", marks=marks),
        pytest.param(Pair("default", "pg_remote"), id="sqlite-postgresql", marks=marks),
        pytest.param(Pair("pg_local", "remote"), id="postgresql-sqlite", marks=marks),
        pytest.param(Pair("pg_local", "pg_remote"), id="postgresql-postgresql", marks=marks),
    ]


@pytest.fixture(params=_pairs())
def pair(request: pytest.FixtureRequest) -> Pair:
    """Each pairing of database kinds in turn; what the test writes is rolled back."""
    return request.param


@pytest.fixture
def watch(pair: Pair) -> Iterator[Any]:
    """Pushes between the databases of ``pair`` whose report is compared with what has happened."""
    from tests.policies.watching import watched

    with watched(pair) as watch:
        yield watch


@pytest.fixture(params=_pairs(transaction=True))
def live_pair(request: pytest.FixtureRequest) -> Pair:
    """Each pairing of database kinds in turn, with real commits; all tables are emptied after the test."""
    return request.param

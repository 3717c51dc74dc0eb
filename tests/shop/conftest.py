from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

pytest.register_assert_rewrite("tests.shop.pushes")

from tests.shop import services  # noqa: E402
from tests.shop.seed import open_bookshop, open_garden_shop  # noqa: E402


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Both shops, on both kinds of database, once for all tests: what a test changes is rolled back."""
    with django_db_blocker.unblock():
        for source, target in [("default", "remote"), ("pg_local", "pg_remote")]:
            open_bookshop(source)
            open_garden_shop(target)


@pytest.fixture(autouse=True)
def _forgetful_services() -> Iterator[None]:
    services.forget()
    yield
    services.forget()

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db.models import Model

_alias: ContextVar[str | None] = ContextVar("alias", default=None)


class ShopRouter:
    """Leads queries that name no database into the shop that :func:`shop_at` names; else has no opinion."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return _alias.get()

    db_for_write = db_for_read


@contextmanager
def shop_at(alias: str) -> Iterator[None]:
    """Within the block oscar's and treebeard's functions, which name no database, work on ``alias``."""
    from django.contrib.sites.models import Site
    from django.core.cache import cache

    token = _alias.set(alias)
    Site.objects.clear_cache()
    cache.clear()
    try:
        yield
    finally:
        _alias.reset(token)
        Site.objects.clear_cache()
        cache.clear()

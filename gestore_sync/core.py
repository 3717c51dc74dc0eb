"""The public names where users of django-synchro import them from: ``synchro.core`` becomes ``gestore_sync.core``."""

from __future__ import annotations

from typing import Any

import gestore_sync


def __getattr__(name: str) -> Any:
    """What the package itself offers under this name, imported when it is asked for."""
    if name not in gestore_sync.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(gestore_sync, name)

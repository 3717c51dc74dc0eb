"""Move any object, with everything that belongs to it, between live Django databases."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gestore_sync import api as api
    from gestore_sync.natural import NaturalKeyModel as NaturalKeyModel
    from gestore_sync.natural import NaturalManager as NaturalManager

__version__ = "0.1.0"

_PLACES = {
    "NaturalKeyModel": "gestore_sync.natural",
    "NaturalManager": "gestore_sync.natural",
}

__all__ = ["NaturalKeyModel", "NaturalManager", "api"]


def __getattr__(name: str) -> Any:
    """Import public names when they are asked for: Django imports this package before models may load (PEP 562)."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name == "api":
        return import_module("gestore_sync.api")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

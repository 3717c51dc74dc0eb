"""Move any object, with everything that belongs to it, between live Django databases."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gestore_sync import api as api
    from gestore_sync.api import call_synchronize as call_synchronize
    from gestore_sync.api import reset_synchro as reset_synchro
    from gestore_sync.disabling import DisableSynchroLog as DisableSynchroLog
    from gestore_sync.disabling import disable_synchro_log as disable_synchro_log
    from gestore_sync.exportadmin import ExportMixin as ExportMixin
    from gestore_sync.natural import NaturalKeyModel as NaturalKeyModel
    from gestore_sync.natural import NaturalManager as NaturalManager
    from gestore_sync.querysets import LoggedManager as LoggedManager
    from gestore_sync.querysets import LoggedQuerySet as LoggedQuerySet
    from gestore_sync.querysets import LoggedQuerySetMixin as LoggedQuerySetMixin

__version__ = "0.1.0"

_PLACES = {
    "DisableSynchroLog": "gestore_sync.disabling",
    "ExportMixin": "gestore_sync.exportadmin",
    "LoggedManager": "gestore_sync.querysets",
    "LoggedQuerySet": "gestore_sync.querysets",
    "LoggedQuerySetMixin": "gestore_sync.querysets",
    "NaturalKeyModel": "gestore_sync.natural",
    "NaturalManager": "gestore_sync.natural",
    "call_synchronize": "gestore_sync.api",
    "disable_synchro_log": "gestore_sync.disabling",
    "reset_synchro": "gestore_sync.api",
}

__all__ = [
    "DisableSynchroLog",
    "ExportMixin",
    "LoggedManager",
    "LoggedQuerySet",
    "LoggedQuerySetMixin",
    "NaturalKeyModel",
    "NaturalManager",
    "api",
    "call_synchronize",
    "disable_synchro_log",
    "reset_synchro",
]


def __getattr__(name: str) -> Any:
    """Import public names when they are asked for: Django imports this package before models may load (PEP 562)."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    if name == "api":
        return import_module("gestore_sync.api")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

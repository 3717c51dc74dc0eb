"""The settings, read when they are asked for, so that ``override_settings`` works."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings

from gestore_sync.exceptions import WrongSetting


def _is_names(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in value)


def _is_fields_by_model(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(model, str) and _is_names(names) and names for model, names in value.items()
    )


def _is_names_or_none(value: Any) -> bool:
    return value is None or _is_names(value)


def _is_texts_by_text(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _is_key(value: Any) -> bool:
    return value is None or (isinstance(value, str) and bool(value))


def _is_keys(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(key, str) and key for key in value)


def _is_retention(value: Any) -> bool:
    return value is None or (isinstance(value, timedelta) and value >= timedelta())


SIGNAL_MODES = ("raw", "save", "none")
SIGNALS, TRIGGERS = "signals", "triggers"
CAPTURES = (SIGNALS, TRIGGERS)
REACHES = ("owned", "connected")
NEWER, LOCAL, REMOTE, FAIL = "newer", "local", "remote", "fail"
POLICIES = (NEWER, LOCAL, REMOTE, FAIL)
MERGED = "merged"


def _is_signals(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(model, str) and mode in SIGNAL_MODES for model, mode in value.items())
    return value in SIGNAL_MODES


def _is_policies(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and policy in POLICIES for name, policy in value.items())
    return value in POLICIES


@dataclass(frozen=True, slots=True)
class Option:
    """One key of ``GESTORE_SYNC``: its default, what it takes in words, and the test for it.

    ``is_secret``: its value is not shown.
    """

    default: Any
    takes: str
    accepts: Callable[[Any], bool]
    is_secret: bool = False

    def show(self, value: Any) -> str:
        """A value as it may be shown."""
        return "a value that is not shown" if self.is_secret else repr(value)


OPTIONS: dict[str, Option] = {
    "OWN": Option((), 'a list of links, "app.Model.field"', _is_names),
    "REFER": Option((), 'a list of links, "app.Model.field"', _is_names),
    "IGNORE": Option((), 'a list of links and models, "app.Model.field" or "app.Model"', _is_names),
    "STOP": Option((), 'a list of models, "app.Model"', _is_names),
    "DECIDED": Option((), 'a list of fields and models, "app.Model.field" or "app.Model"', _is_names),
    "REACH": Option("owned", '"owned" or "connected"', lambda value: value in REACHES),
    "IDENTITY": Option({}, 'a dictionary {"app.Model": ["field", …]}', _is_fields_by_model),
    "SIGNALS": Option("raw", '"raw", "save", "none", or a dictionary of those by "app.Model" and "*"', _is_signals),
    "CONFLICTS": Option(
        {},
        '"newer", "local", "remote", "fail", or a dictionary of those by "app.Model", "app.Model.field" and "*"',
        _is_policies,
    ),
    "ADAPTERS": Option((), "a list of dotted paths of Adapter classes", _is_names),
    "CAPTURE": Option(SIGNALS, '"signals" or "triggers"', lambda value: value in CAPTURES),
    "LOG_RETENTION": Option(timedelta(days=30), "a timedelta, or None to keep everything", _is_retention),
    "IMPORT_MODELS": Option(
        None, 'a list of apps and models, "app" or "app.Model", or None for all', _is_names_or_none
    ),
    "PROTECTED_FIELDS": Option((), 'a list of fields, "app.Model.field"', _is_names),
    "UPGRADERS": Option({}, 'a dictionary {"app.Model": "dotted.path.of.a.function"}', _is_texts_by_text),
    "MAX_IMPORT_SIZE": Option(4 * 2**30, "a number of bytes", lambda value: type(value) is int and value > 0),
    "SIGNING_KEY": Option(None, "a secret text, or None for SECRET_KEY", _is_key, is_secret=True),
    "SIGNING_KEY_FALLBACKS": Option((), "a list of secret texts", _is_keys, is_secret=True),
    "ADMIN_EXPORT": Option(False, "True or False", lambda value: isinstance(value, bool)),
    "BATCH_SIZE": Option(10_000, "a whole number from 1", lambda value: type(value) is int and value > 0),
}


def find_setting_errors() -> list[tuple[str, str]]:
    """``(what is wrong, hint)`` for each mistake in ``settings.GESTORE_SYNC``."""
    given = getattr(settings, "GESTORE_SYNC", {})
    if not isinstance(given, Mapping):
        return [("GESTORE_SYNC is not a dictionary.", "Write GESTORE_SYNC = {…}.")]
    found = []
    for key, value in given.items():
        option = OPTIONS.get(key)
        if option is None:
            found.append((f"GESTORE_SYNC has no key {key!r}.", f"The keys are {', '.join(sorted(OPTIONS))}."))
        elif not option.accepts(value):
            found.append((f"GESTORE_SYNC[{key!r}] is {option.show(value)}.", f"It takes {option.takes}."))
    return found


def get_option(key: str) -> Any:
    """The value of ``GESTORE_SYNC[key]``, or its default. Raises :class:`WrongSetting`."""
    option = OPTIONS[key]
    given = getattr(settings, "GESTORE_SYNC", {})
    if not isinstance(given, Mapping):
        raise WrongSetting("GESTORE_SYNC is not a dictionary. Write GESTORE_SYNC = {…}.")
    value = given.get(key, option.default)
    if not option.accepts(value):
        raise WrongSetting(f"GESTORE_SYNC[{key!r}] is {option.show(value)}. It takes {option.takes}.")
    return value


def get_signal_mode(label: str) -> str:
    """``"raw"``, ``"save"`` or ``"none"`` for the model with this label ("app.Model", any letter case)."""
    modes = get_option("SIGNALS")
    if isinstance(modes, str):
        return modes
    by_label = {name.lower(): mode for name, mode in modes.items()}
    return str(by_label.get(label.lower(), by_label.get("*", "raw")))


def find_remote() -> str | None:
    """The alias in ``SYNCHRO_REMOTE``; None when there is none (with a RuntimeWarning when the setting is missing).

    Raises :class:`WrongSetting` for an alias that is not in ``DATABASES``.
    """
    if not hasattr(settings, "SYNCHRO_REMOTE"):
        warnings.warn(
            "SYNCHRO_REMOTE is not set: there is no database to synchronize with. Set it to an alias of DATABASES, "
            "or to None where changes shall only be logged.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    remote: str | None = settings.SYNCHRO_REMOTE
    if remote is not None and remote not in settings.DATABASES:
        raise WrongSetting(f"SYNCHRO_REMOTE is {remote!r}, which is not in DATABASES.")
    return remote

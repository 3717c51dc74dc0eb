"""System checks: ``manage.py check`` tells mistakes in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import connections

from gestore_sync.adapters import load_adapter
from gestore_sync.buckets import get_bucket_options
from gestore_sync.conf import find_setting_errors, get_option
from gestore_sync.exceptions import WrongSetting
from gestore_sync.identity import find_configured
from gestore_sync.muting import is_wanted
from gestore_sync.policies import iter_wrong_rules
from gestore_sync.triggers import INSTALL_HINT, find_missing_extra
from gestore_sync.undecided import find_unknown_decided
from gestore_sync.watching import get_watched


def find_unknown_names() -> list[tuple[str, str]]:
    """``(what is wrong, hint)`` for each name in ``GESTORE_SYNC`` that stands for no model or adapter."""
    if find_setting_errors():
        return []
    named = [(key, label) for key in ("IDENTITY", "SIGNALS") for label in get_labels(get_option(key))]
    named += [("STOP", label) for label in get_option("STOP")]
    named += [(key, name) for key in ("OWN", "REFER") for name in (n.rpartition(".")[0] for n in get_option(key))]
    named += [("IGNORE", ".".join(name.split(".")[:2])) for name in get_option("IGNORE")]
    found = []
    for key, label in named:
        try:
            apps.get_model(label)
        except (LookupError, ValueError):
            hint = 'Write "app.Model" as the model is called, with the field after it where a link is meant.'
            found.append((f"GESTORE_SYNC[{key!r}] names the model {label!r}, which does not exist.", hint))
    for label in get_option("IDENTITY"):
        try:
            find_configured(apps.get_model(label))
        except LookupError:
            continue
        except WrongSetting as error:
            found.append((str(error), "Write the names of fields of the model."))
    found += list(iter_wrong_rules())
    for path in get_option("ADAPTERS"):
        try:
            load_adapter(path)
        except WrongSetting as error:
            found.append((str(error), "Write the dotted path of a subclass of gestore_sync.adapters.Adapter."))
    return found + find_unknown_decided()


def find_wrong_skips() -> list[tuple[str, str]]:
    """``(what is wrong, hint)`` for each ``SYNCHRO_SKIP`` that names what is no field in the model's own table."""
    found = []
    for model in apps.get_models():
        given = model.__dict__.get("SYNCHRO_SKIP", ())
        label = model._meta.label
        if not isinstance(given, (list, tuple, set, frozenset)):
            found.append((f"SYNCHRO_SKIP of {label} is {given!r}.", 'Write a tuple: SYNCHRO_SKIP = ("field",).'))
            continue
        known = {name for field in model._meta.local_fields for name in (field.name, field.attname)}
        known |= {field.name for field in model._meta.local_many_to_many}
        for name in set(given) - known:
            hint = "Name fields of the model itself; what a parent model holds is skipped by the parent's SYNCHRO_SKIP."
            found.append((f"SYNCHRO_SKIP of {label} names {name!r}, which is no field in its own table.", hint))
    return found


def get_labels(setting: Any) -> list[str]:
    """The model labels that are the keys of a setting, where it is a dictionary."""
    return [label for label in setting if label != "*"] if isinstance(setting, Mapping) else []


def check_watched() -> list[checks.CheckMessage]:
    """Mistakes in ``SYNCHRO_MODELS``, and what logging needs."""
    try:
        watched = get_watched()
    except WrongSetting as error:
        hint = 'Write SYNCHRO_MODELS = ("app", ("other_app", "Model1", "Model2")).'
        return [checks.Error(str(error), hint=hint, id="gestore_sync.E005")]
    if watched.models and not apps.is_installed("dbsettings"):
        message = "django-dbsettings is not installed: the checkpoint of the change log is not kept."
        return [checks.Warning(message, hint='Add "dbsettings" to INSTALLED_APPS.', id="gestore_sync.W001")]
    return []


def check_triggers() -> list[checks.CheckMessage]:
    """What ``GESTORE_SYNC["CAPTURE"] = "triggers"`` needs."""
    if not is_wanted():
        return []
    if all(connections[alias].vendor != "postgresql" for alias in settings.DATABASES):
        message = 'GESTORE_SYNC["CAPTURE"] is "triggers", and no database is PostgreSQL: signals write the log.'
        return [checks.Warning(message, hint='Write "signals".', id="gestore_sync.W002")]
    problem = find_missing_extra()
    return [] if problem is None else [checks.Error(problem, hint=INSTALL_HINT, id="gestore_sync.E006")]


def check_bucket() -> list[checks.CheckMessage]:
    """A bucket that is named, and lacks another setting: nothing but ``--bucket`` needs it."""
    if not hasattr(settings, "GESTORE_BUCKET_NAME"):
        return []
    try:
        get_bucket_options()
    except WrongSetting as error:
        hint = "Set it, or remove GESTORE_BUCKET_NAME where no bucket is used."
        return [checks.Warning(str(error), hint=hint, id="gestore_sync.W003")]
    return []


@checks.register("gestore_sync", "gestore_sync_settings")
def check_settings(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """``GESTORE_SYNC`` (E001, names in it E003), ``SYNCHRO_REMOTE`` (E002), ``SYNCHRO_SKIP`` (E004),
    ``SYNCHRO_MODELS`` (E005), triggers (E006, W002), django-dbsettings (W001), ``GESTORE_BUCKET_NAME`` (W003)."""
    found: list[checks.CheckMessage] = [
        checks.Error(message, hint=hint, id="gestore_sync.E001") for message, hint in find_setting_errors()
    ]
    found += [checks.Error(message, hint=hint, id="gestore_sync.E003") for message, hint in find_unknown_names()]
    found += [checks.Error(message, hint=hint, id="gestore_sync.E004") for message, hint in find_wrong_skips()]
    found += check_watched()
    found += check_triggers()
    found += check_bucket()
    remote = getattr(settings, "SYNCHRO_REMOTE", None)
    if remote is not None and remote not in settings.DATABASES:
        found.append(
            checks.Error(
                f"SYNCHRO_REMOTE is {remote!r}, which is not in DATABASES.",
                hint=f"The databases are: {', '.join(sorted(settings.DATABASES))}. None means: only log changes.",
                id="gestore_sync.E002",
            )
        )
    return found

"""Which models are logged: the setting ``SYNCHRO_MODELS``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.db.models import Model

from gestore_sync.exceptions import WrongSetting
from gestore_sync.links import OURS, get_concrete


@dataclass(frozen=True)
class Watched:
    """What is logged. ``models``: concrete models, with the through models of their many-to-many fields.

    ``senders``: by each class that signals may come from (proxies and multi-table children too), the concrete model
    under which its changes are logged. ``members``: by through model, the many-to-many fields that it belongs to.
    """

    models: frozenset[type[Model]]
    senders: dict[type[Model], type[Model]]
    members: dict[type[Model], list[Any]]


def get_watched() -> Watched:
    """What ``SYNCHRO_MODELS`` says. Raises :class:`WrongSetting` that names what is unknown."""
    return _get_watched(freeze(getattr(settings, "SYNCHRO_MODELS", ())))


def find_watched() -> Watched | None:
    """The same; None where the setting is wrong: that is told by a system check and by every command."""
    try:
        return get_watched()
    except WrongSetting:
        return None


def freeze(value: Any) -> Any:
    """The setting as something that can be hashed."""
    return tuple(map(freeze, value)) if isinstance(value, (list, tuple)) else value


@lru_cache(maxsize=8)
def _get_watched(entries: Any) -> Watched:
    if not isinstance(entries, tuple):
        raise WrongSetting(f"SYNCHRO_MODELS is {entries!r}. Write a tuple of apps and of (app, model, …).")
    listed = {get_concrete(model) for entry in entries for model in iter_listed(entry)}
    listed = {model for model in listed if model._meta.app_label != OURS}
    fields = [field for model in sorted(listed, key=lambda model: model._meta.label) for field in iter_members(model)]
    members: dict[type[Model], list[Any]] = {}
    for field in fields:
        members.setdefault(field.remote_field.through, []).append(field)
    models = frozenset(listed | {get_concrete(through) for through in members})
    senders = {model: found for model in apps.get_models() if (found := find_logged(model, models)) is not None}
    return Watched(models, senders, members)


def iter_listed(entry: Any) -> Iterator[type[Model]]:
    """The models that one entry of the setting names."""
    names: tuple[Any, ...] = entry if isinstance(entry, tuple) else (entry,)
    if not names or not all(isinstance(name, str) for name in names):
        raise WrongSetting(
            f'SYNCHRO_MODELS has the entry {entry!r}. Write "app" for all its models, or ("app", "Model", …).'
        )
    config = find_app(names[0])
    if config is None:
        raise WrongSetting(f"SYNCHRO_MODELS names the app {names[0]!r}, which is not installed.")
    if len(names) == 1:
        yield from config.get_models()
    for name in names[1:]:
        try:
            yield config.get_model(name)
        except LookupError:
            raise WrongSetting(
                f"SYNCHRO_MODELS names the model {name!r}, which the app {names[0]!r} does not have."
            ) from None


def find_app(name: str) -> AppConfig | None:
    """The installed app with this label or this full name."""
    return next((config for config in apps.get_app_configs() if name in (config.label, config.name)), None)


def iter_members(model: type[Model]) -> Iterable[Any]:
    """The many-to-many fields that ``model`` declares or inherits."""
    return (field for field in model._meta.many_to_many if field.remote_field.through is not None)


def find_logged(model: type[Model], models: frozenset[type[Model]]) -> type[Model] | None:
    """The concrete model under which a change of ``model`` is logged: its own, or the nearest watched parent."""
    concrete = get_concrete(model)
    if concrete in models:
        return concrete
    return next((parent for parent in concrete._meta.all_parents if get_concrete(parent) in models), None)

"""Fields that give power, which a file does not raise: the rights of users, and what a setting names."""

from __future__ import annotations

from collections import Counter

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.utils.translation import gettext as _

from gestore_sync.conf import get_option
from gestore_sync.exceptions import WrongSetting
from gestore_sync.links import LinkGraph
from gestore_sync.manifests import find_model

OF_USERS = ("is_staff", "is_superuser", "groups", "user_permissions")


class Protection:
    """The protected fields of an import's models. Their values in the bundle are dropped: a new object gets the
    default, an existing one keeps what it has. With ``allowed`` nothing is protected."""

    def __init__(self, graph: LinkGraph, *, allowed: bool = False) -> None:
        self._names: dict[type[Model], set[str]] = {}
        self._through: dict[type[Model], str] = {}
        self._noted: Counter[str] = Counter()
        if allowed:
            return
        for model in graph.models:
            for name in iter_default_names(model):
                self._add(model, name)
        for text in get_option("PROTECTED_FIELDS"):
            label, _dot, name = text.rpartition(".")
            found = find_model(label)
            if found is None:
                raise WrongSetting(f'GESTORE_SYNC["PROTECTED_FIELDS"] names {text!r}: there is no such model.')
            self._add(found, name, text)

    def _add(self, model: type[Model], name: str, named: str = "") -> None:
        """Protect a field, of the model or of the multi-table parent that has it."""
        try:
            field = model._meta.get_field(name)
        except FieldDoesNotExist:
            if named:
                raise WrongSetting(f'GESTORE_SYNC["PROTECTED_FIELDS"] names {named!r}: no such field.') from None
            return
        holder = field.model._meta.concrete_model or model
        if field.many_to_many:
            self._through[field.remote_field.through] = f"{holder._meta.label}.{name}"  # type: ignore[union-attr]
        elif field.concrete:
            self._names.setdefault(holder, set()).add(field.name)

    def get_names(self, model: type[Model]) -> frozenset[str]:
        """The names of the protected fields of a model."""
        return frozenset(self._names.get(model, ()))

    def get_dropped(self) -> frozenset[type[Model]]:
        """The through models whose rows are protected."""
        return frozenset(self._through)

    def is_dropped(self, model: type[Model]) -> bool:
        """Whether the rows of a model are protected as a whole."""
        return model in self._through

    def note(self, model: type[Model], name: str = "") -> None:
        """Count an object whose value was dropped."""
        self._noted[f"{model._meta.label}.{name}" if name else self._through[model]] += 1

    def iter_notices(self) -> list[str]:
        """What a person should know of what was dropped."""
        return [
            _("%(field)s gives rights and was left out for %(number)d objects; --allow-privileged takes it.")
            % {"field": name, "number": number}
            for name, number in sorted(self._noted.items())
        ]


def iter_default_names(model: type[Model]) -> tuple[str, ...]:
    """The names of the fields that give power by themselves."""
    if not apps.is_installed("django.contrib.auth"):
        return ()
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group, PermissionsMixin

    if issubclass(model, PermissionsMixin) or issubclass(get_user_model(), model):
        return OF_USERS
    return ("permissions",) if model is Group else ()

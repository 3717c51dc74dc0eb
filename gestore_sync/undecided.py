"""What nobody has decided: links, keys that no link shows, and fields that look like secrets, in logged models.

Everything here has a default, which may not be what is wanted; ``manage.py check --tag gestore_sync`` names it until
somebody says so in the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import DEFAULT_DB_ALIAS
from django.db.models import BooleanField, CharField, DateField, DurationField, Field, IntegerField, Model, UUIDField

from gestore_sync.adapters import load_adapters
from gestore_sync.conf import find_setting_errors, get_option
from gestore_sync.exceptions import WrongSetting
from gestore_sync.identity import iter_identities
from gestore_sync.links import GENERIC, OURS, TREE, Link, LinkGraph, Membership
from gestore_sync.watching import Watched, find_watched

SOFT_KEY = re.compile(r"(.+)_(id|pk|uuid|guid)", re.IGNORECASE)
SECRET = re.compile(
    r"(^|_)(passw(or)?ds?|passphrase|pwd|secrets?|tokens?|credentials?|t?otp|salt|pin|ssn|iban|cv[vc]|"
    r"(api|private|secret|access|signing|session|ssh)_?key|(card|account|tax|passport)_?(number|no|nr)|"
    r"(tax|national)_?id|social_security|(recovery|backup)_?codes?|security_answer)(_|$)"
)
HARMLESS = (BooleanField, DateField, DurationField)
"""Kinds of fields that tell of a secret, and are none: whether there is one, since when."""

DECIDE = 'or name it in GESTORE_SYNC["DECIDED"]: it may stay as it is.'


@dataclass(frozen=True, slots=True)
class Finding:
    """Something on which nobody has decided: ``name`` is ``app.Model.field``, or ``app.Model``."""

    id: str
    name: str
    message: str
    hint: str


class Survey:
    """Looks at the models that are logged, and at the links to and from them; no database is asked."""

    def __init__(self, watched: Watched) -> None:
        self.models = sorted(watched.models, key=lambda model: model._meta.label)
        self.graph = LinkGraph(DEFAULT_DB_ALIAS, load_adapters(), list_models())
        self._watched = watched
        self._ignored = {name.lower() for name in get_option("IGNORE")}
        self._decided = {name.lower() for key in ("DECIDED", "OWN", "REFER", "IGNORE") for name in get_option(key)}
        self._targets = {name.lower() for key in ("DECIDED", "STOP", "IGNORE") for name in get_option(key)}
        self._protected = {name.lower() for name in get_option("PROTECTED_FIELDS")}

    def _is_logged(self, model: type[Model]) -> bool:
        """Whether changes of the model are logged, under its own name or a parent's."""
        return model in self._watched.models or model in self._watched.senders

    def iter_findings(self) -> Iterator[Finding]:
        """All of them, model by model."""
        for model in self.models:
            yield from self._iter_soft_keys(model)
            yield from self._iter_generic_keys(model)
            yield from self._iter_secrets(model)
            yield from self._iter_mentions(model)
            yield from self._iter_unlogged_parts(model)
        yield from self._iter_unlogged_targets()

    def _is_decided(self, model: type[Model], *names: str) -> bool:
        """Whether a setting names a field of the model under one of these names, or leaves the model out."""
        bases = [base for base in (model, *model._meta.all_parents, *model.__subclasses__()) if not base._meta.abstract]
        given = {f"{base._meta.label_lower}.{name.lower()}" for base in bases for name in names}
        skipped = set(getattr(model, "SYNCHRO_SKIP", ()))
        return bool(given & self._decided or model._meta.label_lower in self._ignored or set(names) & skipped)

    def _is_link_decided(self, link: Link) -> bool:
        if any(membership.name.lower() in self._decided for membership in self._get_memberships(link)):
            return True
        return self._is_decided(link.model, link.name.rpartition(".")[2], *link.attnames[:1])

    def _get_memberships(self, link: Link) -> list[Membership]:
        """The many-to-many fields that the link is part of."""
        return [*self.graph.owners.get(link, ()), *self.graph.others.get(link, ())]

    def _get_shown(self, link: Link) -> tuple[str, type[Model]]:
        """The link and its model as a person knows them: an automatic many-to-many table by its field."""
        automatic = next((found for found in self._get_memberships(link) if found.automatic), None)
        if automatic is None or automatic.link.target is None:
            return link.name, link.model
        return automatic.name, automatic.link.target

    @cached_property
    def _generic_parts(self) -> set[tuple[type[Model], str]]:
        return {(link.model, name) for link in self.graph.generic for name in link.attnames}

    def _iter_plain(self, model: type[Model]) -> Iterator[Field[Any, Any]]:
        """The fields that are no link, no key, and whose values travel."""
        adapter = self.graph.find_adapter(model)
        positions = adapter.position_fields(model) if adapter else ()
        for field in model._meta.local_concrete_fields:
            if not (field.remote_field or field.primary_key or field.name in positions):
                yield field

    def _iter_soft_keys(self, model: type[Model]) -> Iterator[Finding]:
        identifying = {path for identity in iter_identities(model) if identity.natural for path in identity.paths}
        for field in self._iter_plain(model):
            match = SOFT_KEY.fullmatch(field.name)
            if match is None or not isinstance(field, (IntegerField, UUIDField, CharField)):
                continue
            if (model, field.attname) in self._generic_parts or field.name in identifying:
                continue
            if self._find_type_field(model, field) is not None or self._is_decided(model, field.name):
                continue
            like = find_named(match[1], model._meta.app_label)
            yield Finding(
                "gestore_sync.W004",
                name := f"{model._meta.label}.{field.name}",
                f"{name} looks like a key{f' of {like._meta.label}' if like else ''}, and is no link: its value "
                "travels as it is, and may stand for another object on the other side.",
                f"Make it a ForeignKey (db_constraint=False if need be), name it in SYNCHRO_SKIP, {DECIDE}",
            )

    def _find_type_field(self, model: type[Model], field: Field[Any, Any]) -> str | None:
        """The link to a content type beside a field that is the object id of a generic key by its name."""
        prefix, _dash, rest = field.name.rpartition("object_")
        if rest not in ("id", "pk", "uuid") or (model, field.attname) in self._generic_parts:
            return None
        links = [link for link in self.graph.forward[model] if link.target is ContentType]
        names = [link.name.rpartition(".")[2] for link in links]
        return next((name for name in names if name.startswith(prefix)), None)

    def _iter_generic_keys(self, model: type[Model]) -> Iterator[Finding]:
        related = {relation.link for of_model in self.graph.relations.values() for relation in of_model}
        for link in self.graph.forward[model]:
            if link.kind == GENERIC and link not in related and not self._is_link_decided(link):
                yield Finding(
                    "gestore_sync.W005",
                    link.name,
                    f"{link} may point at anything, and no model has a GenericRelation to it: {model._meta.label} rows "
                    "are not taken along with what they point to.",
                    f"Add a GenericRelation, name it in OWN, REFER or IGNORE of GESTORE_SYNC, {DECIDE}",
                )
        for field in self._iter_plain(model):
            type_field = self._find_type_field(model, field)
            if type_field is not None and not self._is_decided(model, field.name):
                yield Finding(
                    "gestore_sync.W005",
                    name := f"{model._meta.label}.{field.name}",
                    f"{name} and {type_field} look like a generic key, and are none: the number travels as it is, and "
                    "may stand for another object on the other side.",
                    f"Add a GenericForeignKey, name it in SYNCHRO_SKIP, {DECIDE}",
                )

    def _iter_secrets(self, model: type[Model]) -> Iterator[Finding]:
        for field in self._iter_plain(model):
            name = f"{model._meta.label}.{field.name}"
            if not is_secret(field) or self._is_decided(model, field.name) or name.lower() in self._protected:
                continue
            yield Finding(
                "gestore_sync.W006",
                name,
                f"{name} looks like a secret, and travels with its object: to the other database, and in bundles.",
                f"Name it in SYNCHRO_SKIP, in PROTECTED_FIELDS of GESTORE_SYNC, {DECIDE}",
            )

    def _iter_mentions(self, model: type[Model]) -> Iterator[Finding]:
        for link in self.graph.forward[model]:
            if link.belongs or link.kind in (TREE, GENERIC) or link.target is None or not self._is_logged(link.target):
                continue
            if not self._is_link_decided(link):
                yield Finding(
                    "gestore_sync.W007",
                    link.name,
                    f"{link} survives what it points to (its on_delete): {model._meta.label} rows are not taken along "
                    f"with a {link.target._meta.label}; a report only counts them.",
                    f"Name it in OWN, REFER or IGNORE of GESTORE_SYNC, {DECIDE}",
                )

    def _iter_unlogged_parts(self, model: type[Model]) -> Iterator[Finding]:
        """What belongs to logged objects and is not logged itself."""
        for link in self.graph.reverse[model]:
            name, of = self._get_shown(link)
            if self._is_logged(link.model) or not link.belongs or link.parent_link or not of._meta.managed:
                continue
            if not (self._is_link_decided(link) or self._is_decided(of)):
                yield Finding(
                    "gestore_sync.W008",
                    name,
                    f"{name} belongs to {model._meta.label}, which is logged, and {of._meta.label} is not: a push of "
                    "an object takes these rows, and a run of the change log does not send what changes in them.",
                    f"Name {of._meta.label} in SYNCHRO_MODELS, or in IGNORE of GESTORE_SYNC, {DECIDE}",
                )

    def _iter_unlogged_targets(self) -> Iterator[Finding]:
        """What logged objects point to and is not logged itself: one finding for each such model."""
        pointing: dict[type[Model], list[str]] = {}
        for model in self.models:
            for link in self.graph.forward[model]:
                target = link.target
                if target is None or target is ContentType or self._is_logged(target) or link.parent_link:
                    continue
                if not (self._is_link_decided(link) or target._meta.label_lower in self._targets):
                    pointing.setdefault(target, []).append(self._get_shown(link)[0])
        for target, links in sorted(pointing.items(), key=lambda item: item[0]._meta.label):
            label = target._meta.label
            yield Finding(
                "gestore_sync.W009",
                label,
                f"{', '.join(links)} {'points' if len(links) == 1 else 'point'} to {label}, which is not logged: an "
                "object that the other side lacks is created there, and never changed afterwards.",
                f"Name {label} in SYNCHRO_MODELS, or in STOP of GESTORE_SYNC, name the links in REFER, OWN or IGNORE, "
                f'or {label} in GESTORE_SYNC["DECIDED"]: it may stay as it is.',
            )


def list_models() -> list[type[Model]]:
    """All models that have a table of their own."""
    every = [model for model in apps.get_models(include_auto_created=True) if model._meta.app_label != OURS]
    return [model for model in every if not (model._meta.proxy or model._meta.swapped)]


def find_named(name: str, app_label: str) -> type[Model] | None:
    """A model of this name, of this app or else of any."""
    wanted = name.replace("_", "").lower()
    found = [model for model in apps.get_models() if model._meta.model_name == wanted]
    return next((model for model in found if model._meta.app_label == app_label), found[0] if found else None)


def is_secret(field: Field[Any, Any]) -> bool:
    """Whether a field looks by its name as if it held what others must not know."""
    if isinstance(field, HARMLESS):
        return False
    return SECRET.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", field.name).lower()) is not None


def find_unknown_decided() -> list[tuple[str, str]]:
    """``(what is wrong, hint)`` for each name in ``DECIDED`` that stands for no field and no model."""
    found = []
    for name in get_option("DECIDED"):
        label, _dot, field = (name, "", "") if name.count(".") < 2 else name.rpartition(".")
        try:
            model = apps.get_model(label)
            known = {part.name for part in (*model._meta.get_fields(), *model._meta.private_fields)}
            if field and field not in known | {part.attname for part in model._meta.concrete_fields}:
                raise FieldDoesNotExist
        except (LookupError, ValueError, FieldDoesNotExist):
            hint = 'Write "app.Model.field" as the model calls it, or "app.Model".'
            found.append((f"GESTORE_SYNC['DECIDED'] names {name!r}, which does not exist.", hint))
    return found


@checks.register("gestore_sync")
def check_decided(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:
    """What nobody has decided (W004 to W009), where the settings can be read."""
    watched = find_watched()
    if watched is None or not watched.models or find_setting_errors():
        return []
    try:
        findings = list(Survey(watched).iter_findings())
    except WrongSetting:
        return []
    return [checks.Warning(found.message, hint=found.hint, id=found.id) for found in findings]

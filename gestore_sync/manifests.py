"""What a bundle says of itself: its format, where it comes from, what was asked for, and the schema at that time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model
from django.db.models.fields.generated import GeneratedField

from gestore_sync.exceptions import BundleError
from gestore_sync.links import LinkGraph, get_concrete
from gestore_sync.scope import Scope

VERSION = "1"
FIRST_VERSION = "0.1.0"
"""What documents of gestore say; they have none of our keys."""

NAMES = ("own", "refer", "ignore")
MODELS = ("excluded", "stop", "named")


@dataclass(frozen=True, slots=True)
class Member:
    """A part of an archive. ``model``: the label of the model whose records it holds; ``storage_name``: the name of the
    stored file that it is, of the field ``field``."""

    name: str
    size: int
    sha256: str
    model: str = ""
    count: int = 0
    field: str = ""
    storage_name: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The parts that say something."""
        found = {"name": self.name, "size": self.size, "sha256": self.sha256}
        if self.model:
            return {**found, "model": self.model, "count": self.count}
        return {**found, "field": self.field, "storage_name": self.storage_name}


@dataclass
class Manifest:
    """The head of a bundle.

    ``roots``: the objects that were asked for, as "app.Model.pk". ``counts`` and ``schema`` are by model label.
    ``members``: the parts of an archive in their order. ``detached``: optional links from outside that a deletion
    nulled, as ``{"model", "field", "pk", "value"}``. ``is_ancestor``: gestore wrote it, on the
    machine ``host``.
    """

    date: str = ""
    origin: uuid.UUID | None = None
    roots: list[str] = field(default_factory=list)
    scope: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    schema: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    detached: list[dict[str, Any]] = field(default_factory=list)
    signature: str = ""
    is_ancestor: bool = False
    host: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What is written, with sorted keys."""
        values: dict[str, Any] = {
            "version": VERSION,
            "date": self.date,
            "origin": None if self.origin is None else str(self.origin),
            "provided_objects": self.roots,
            "scope": self.scope,
            "counts": dict(sorted(self.counts.items())),
            "schema": dict(sorted(self.schema.items())),
        }
        if self.members:
            values["members"] = [member.as_dict() for member in self.members]
        if self.detached:
            values["detached"] = self.detached
        if self.signature:
            values["signature"] = self.signature
        return dict(sorted(values.items()))

    @property
    def made(self) -> datetime | None:
        """When it was made; None where it does not say so in a way that can be read."""
        try:
            found = datetime.fromisoformat(self.date)
        except ValueError:
            return None
        return found if found.tzinfo is not None else None


def read_manifest(values: Any) -> Manifest:
    """The manifest that these parsed JSON values are. Raises :class:`BundleError`."""
    if not isinstance(values, dict) or "version" not in values:
        raise BundleError("This file is no bundle of gestore_sync: it does not say its version.")
    version = values["version"]
    if version != VERSION and is_ancestors(values):
        return Manifest(
            date=str(values.get("date", "")),
            roots=read_texts(values, "provided_objects"),
            is_ancestor=True,
            host=f"{values.get('host_name')} {values.get('ip_address')}",
        )
    if version != VERSION:
        raise BundleError(
            f"The bundle has version {version!r}, this release reads version {VERSION!r}. Install the release that "
            "wrote it, or a later one."
        )
    try:
        origin = values.get("origin")
        return Manifest(
            date=str(values.get("date", "")),
            origin=None if origin is None else uuid.UUID(origin),
            roots=read_texts(values, "provided_objects"),
            scope=dict(values.get("scope") or {}),
            counts=read_numbers(values.get("counts") or {}),
            schema={label: read_described(found) for label, found in dict(values.get("schema") or {}).items()},
            members=[read_member(member) for member in values.get("members") or ()],
            detached=[dict(link) for link in values.get("detached") or ()],
            signature=str(values.get("signature") or ""),
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise BundleError(f"The manifest of the bundle is broken: {error}.") from None


def is_ancestors(values: Mapping[str, Any]) -> bool:
    """Whether gestore wrote this: its keys are there, ours are not."""
    return {"libraries", "host_name", "ip_address"} & set(values) != set() and not {"origin", "schema"} & set(values)


def read_texts(values: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts. Raises :class:`BundleError` where it is something else."""
    found = values.get(name) or []
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise BundleError(f"The manifest of the bundle is broken: {name} is no list of texts.")
    return found


def read_numbers(values: Any) -> dict[str, int]:
    """Numbers by name. Raises ValueError where they are something else."""
    found = dict(values)
    if not all(type(number) is int and number >= 0 for number in found.values()):
        raise ValueError("a count is no number")
    return found


def read_described(values: Any) -> dict[str, Any]:
    """What is said of one model of the schema. Raises ValueError where it is something else."""
    found = dict(values)
    if not isinstance(found.get("fields"), dict):
        raise ValueError("a model of the schema has no fields")
    return found


def read_member(values: Any) -> Member:
    """A part of an archive. Raises TypeError or ValueError where it is something else."""
    member = Member(**values)
    numbers = (member.size, member.count)
    texts = (member.name, member.sha256, member.model, member.field, member.storage_name)
    if not all(isinstance(text, str) for text in texts) or bool(member.model) == bool(member.storage_name):
        raise ValueError(f"a part of it cannot be understood, {member.name!r}")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"the size of {member.name!r} is no number")
    return member


# What was asked for


def dump_scope(scope: Scope) -> dict[str, Any]:
    """The scope of a walk as JSON values."""
    names = {name: sorted(getattr(scope, name)) for name in NAMES}
    models = {name: sorted(model._meta.label for model in getattr(scope, name)) for name in MODELS}
    return {**names, **models, "reach": "connected" if scope.connected else "owned"}


def load_scope(values: Mapping[str, Any], graph: LinkGraph) -> Scope:
    """The scope that these JSON values describe. What this project has no link or model for is left out."""
    names = {name: frozenset(text for text in read_texts(values, name) if graph.find_link(text)) for name in NAMES}
    models = {name: frozenset(iter_models(read_texts(values, name))) for name in MODELS}
    return Scope(
        own=names["own"],
        refer=names["refer"],
        ignore=names["ignore"],
        excluded=models["excluded"],
        stop=models["stop"],
        named=models["named"],
        connected=values.get("reach") == "connected",
    )


def iter_models(labels: Iterable[str]) -> Iterable[type[Model]]:
    """The concrete models with these labels that this project has."""
    for label in labels:
        model = find_model(label)
        if model is not None:
            yield model


def find_model(label: str) -> type[Model] | None:
    """The concrete model with this label ("app.Model", the model in any letter case), or None."""
    try:
        return get_concrete(apps.get_model(label))
    except (LookupError, ValueError):
        return None


# The schema


def describe_schema(models: Sequence[type[Model]], using: str) -> dict[str, dict[str, Any]]:
    """By model label its fields, with their kinds, and the last migration of its app that the database has."""
    applied = MigrationRecorder(connections[using]).applied_migrations()
    last: dict[str, str] = {}
    for app, name in applied:
        last[app] = max(name, last.get(app, ""))
    return {
        model._meta.label: {"fields": describe_fields(model), "migration": last.get(model._meta.app_label)}
        for model in models
    }


def describe_fields(model: type[Model]) -> dict[str, str]:
    """The kinds of the fields whose values a bundle holds, by name."""
    found = {
        field.name: field.get_internal_type()
        for field in model._meta.local_concrete_fields
        if not field.primary_key and not isinstance(field, GeneratedField)
    }
    found.update((field.name, "ManyToManyField") for field in model._meta.local_many_to_many)
    return dict(sorted(found.items()))

"""Loads the records of a bundle into staged tables: names, values and rights are checked here, before anything is
compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.contrib.sessions.base_session import AbstractBaseSession
from django.db.models import Model
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from gestore_sync.columns import has_filling
from gestore_sync.conf import get_option
from gestore_sync.exceptions import BundleError, UntrustedBundle, WrongSetting
from gestore_sync.intakes import Intake, Intakes
from gestore_sync.links import LinkGraph
from gestore_sync.manifests import Manifest, describe_fields, find_model
from gestore_sync.privileges import Protection
from gestore_sync.records import Record

FORBIDDEN = ("sessions", "gestore_sync")
SHOWN = 20


class Loader:
    """Takes the records of one bundle. ``using``: where the staged tables are.

    ``leaves_out``: models and fields that this project lacks are left out; else they are errors. ``left_out``: how
    often; ``filled``: fields that the bundle's project lacked; ``absent``: those that no record of a model has.
    """

    def __init__(
        self, using: str, graph: LinkGraph, manifest: Manifest, protection: Protection, *, leaves_out: bool = False
    ) -> None:
        self.graph = graph
        self.manifest = manifest
        self._shared = Intakes(using, graph, protection, leaves_out)
        self.left_out = self._shared.left_out
        self.absent = self._shared.absent
        self.filled: list[str] = []
        self._named: set[str] = set()
        self._upgraders = load_upgraders()
        self._intakes: dict[str, Intake | None] = {}

    def load(self, records: Iterable[Record]) -> dict[type[Model], int]:
        """Load all records; how many there are of each model. Raises :class:`BundleError`, UntrustedBundle."""
        self._check_schema()
        try:
            for record in records:
                self._take(record)
        except RecursionError:
            raise BundleError("The bundle holds a value that is nested too deep.") from None
        found: dict[type[Model], int] = {}
        for intake in filter(None, self._intakes.values()):
            intake.finish()
            found[intake.model] = found.get(intake.model, 0) + intake.count
            for through, number in intake.get_members():
                found[through] = found.get(through, 0) + number
        return found

    def _take(self, record: Record) -> None:
        """Take one record, or what its upgrader makes of it."""
        if record.model not in self._named:
            self._check_named(record.model)
        for upgraded in self._upgrade(record):
            intake = self._get_intake(upgraded.model)
            if intake is not None:
                intake.add(upgraded)
            else:
                self.left_out[upgraded.model] += 1

    def _check_named(self, label: str) -> None:
        """Only models that the manifest names are taken. Documents of gestore name none."""
        labels = {known.lower() for known in (*self.manifest.schema, *self.manifest.counts)}
        if label.lower() not in labels and not self.manifest.is_ancestor:
            raise UntrustedBundle(
                f"The bundle has objects of {label}, which its manifest does not name. If they belong there, "
                'name the model in "counts".'
            )
        self._named.add(label)

    def _check_schema(self) -> None:
        """Compare the schema of the bundle with this project's, as far as no upgrader sees to it."""
        gone, lacking = [], []
        for label, described in self.manifest.schema.items():
            if label.lower() in self._upgraders:
                continue
            model = find_model(label)
            if model is None:
                gone.append(label)
                continue
            known = describe_fields(model)
            gone += [f"{label}.{name}" for name in described["fields"] if name not in known]
            new = [name for name in known if name not in described["fields"]]
            lacking += [f"{label}.{name}" for name in new if not is_filled(model, name)]
            self.filled += [f"{label}.{name}" for name in new if is_filled(model, name)]
        if gone and not self._shared.leaves_out:
            raise BundleError(
                f"The bundle has what this project does not have: {list_names(gone)}. Leave it out with "
                '-i (--ignorenonexistent), or map old records to new ones with GESTORE_SYNC["UPGRADERS"].'
            )
        if lacking:
            raise BundleError(
                f"This project has required fields without default that the bundle lacks: {list_names(lacking)}. "
                'Give them a default, or add them to the records with GESTORE_SYNC["UPGRADERS"].'
            )

    def _upgrade(self, record: Record) -> Iterator[Record]:
        """The record, or what its upgrader makes of it."""
        upgrader = self._upgraders.get(record.model.lower())
        if upgrader is None:
            yield record
            return
        named = f"{record.model}.{str(record.pk)[:100]}"
        try:
            made = upgrader({"model": record.model, "pk": record.pk, "fields": dict(record.fields)})
        except Exception as error:
            raise BundleError(
                f"The upgrader of {record.model} failed at {named}: {type(error).__name__}: {error}."
            ) from error
        listed = [made] if isinstance(made, Mapping) else made or ()
        try:
            for values in listed:
                yield Record(str(values["model"]), values["pk"], dict(values["fields"]))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise BundleError(
                f"The upgrader of {record.model} made no record of {named}: {str(made)[:200]}. "
                'It returns {"model": …, "pk": …, "fields": {…}}, a list of those, or None.'
            ) from error

    def _get_intake(self, label: str) -> Intake | None:
        """What takes the records of one model; None where they are left out."""
        key = label.lower()
        if key not in self._intakes:
            model = find_model(label)
            if model is None and not self._shared.leaves_out:
                raise BundleError(
                    f"The bundle has objects of {label}, a model that this project does not have. "
                    'Leave them out with -i (--ignorenonexistent), or map them with GESTORE_SYNC["UPGRADERS"].'
                )
            if model is not None:
                self._check_allowed(model)
            self._intakes[key] = None if model is None else Intake(self._shared, model)
        return self._intakes[key]

    def _check_allowed(self, model: type[Model]) -> None:
        if model not in self.graph or not is_allowed(model):
            raise UntrustedBundle(
                f"The bundle has objects of {model._meta.label}, which may not be imported. "
                'GESTORE_SYNC["IMPORT_MODELS"] says which models may be.'
            )

    def iter_notices(self) -> Iterator[str]:
        """What a person should know of how this project differs from the one that wrote the bundle."""
        for name, number in sorted(self.left_out.items()):
            yield _("%(name)s does not exist here and was left out of %(number)d objects.") % {
                "name": name,
                "number": number,
            }
        if self.filled:
            yield _("New here, and not in the bundle: %(names)s. New objects get the default.") % {
                "names": list_names(self.filled)
            }


def is_allowed(model: type[Model]) -> bool:
    """Whether the settings let objects of a model in. A many-to-many table comes with the model that declares it."""
    allowed = get_option("IMPORT_MODELS")
    if allowed is None:
        return model._meta.app_label not in FORBIDDEN and not issubclass(model, AbstractBaseSession)
    owner: Any = model._meta.auto_created
    models = [model, owner] if owner else [model]
    names = {name.lower() for of in models for name in (of._meta.app_label, of._meta.label)}
    return bool(names & {text.lower() for text in allowed})


def is_filled(model: type[Model], name: str) -> bool:
    """Whether objects can do without a value in a bundle for this field."""
    field = model._meta.get_field(name)
    return bool(field.many_to_many) or has_filling(field)


def list_names(names: Sequence[str]) -> str:
    """The first names, and how many there are beside them."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def load_upgraders() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """The functions of ``GESTORE_SYNC["UPGRADERS"]`` by model label in small letters. Raises :class:`WrongSetting`."""
    found = {}
    for label, path in get_option("UPGRADERS").items():
        try:
            found[label.lower()] = import_string(path)
        except ImportError as error:
            raise WrongSetting(f'GESTORE_SYNC["UPGRADERS"]["{label}"] is {path!r}: {error}.') from error
    return found

"""Natural keys: identities that mean the same in every database."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from importlib import import_module
from types import MethodType
from typing import Any, ClassVar

from django.core import checks
from django.core.exceptions import FieldDoesNotExist as NoField
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, ValidationError
from django.db.models import Manager, Model
from django.db.models.constants import LOOKUP_SEP
from django.db.models.signals import class_prepared
from django.dispatch import receiver

from gestore_sync.keyreading import NaturalKey, find_natural_key, find_natural_manager, natural_key_of
from gestore_sync.paths import get_linked_model, resolve_path

__all__ = [
    "NaturalKey",
    "NaturalKeyModel",
    "NaturalManager",
    "find_natural_key",
    "find_natural_manager",
    "natural_key_of",
]

AnyManager = type[Manager[Any]]


class NaturalManager(Manager[Any]):
    """A manager that finds objects by the values of some fields.

    ``NaturalManager("code", "day", allow_many=False, manager=Manager)`` is a manager whose class extends
    ``manager``. A subclass may say ``fields = ("code", "day")`` (and ``allow_many = True``) instead; it is
    made without arguments. A field may be a link, or a path through links (``"course__code"``).

    Raises AssertionError without fields, ValidationError where ``manager`` is no subclass of Manager,
    ImproperlyConfigured where the fields are no names. A field that the model lacks is a system check error.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    allow_many: ClassVar[bool] = False

    def __new__(
        cls, *fields: Any, allow_many: bool = False, manager: AnyManager = Manager, **options: Any
    ) -> NaturalManager:
        """Make a manager, of a new class where fields or options are given.

        Django's related managers are subclasses that are made with an object, which is no field.
        """
        is_related = bool(options) or not all(isinstance(field, str) for field in fields)
        is_plain = not fields and not allow_many and manager is Manager
        if cls.fields and (is_related or is_plain):
            _check_names(cls.fields, cls.__name__)
            return super().__new__(cls)
        if options:
            raise TypeError(f"{cls.__name__} has no option {', '.join(options)}")
        made = _find_manager_class(cls, fields or cls.fields, allow_many, manager)
        return made.__new__(made)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__()
        if _is_made(type(self)):
            self._constructor_args = _get_constructor_args(type(self))

    def get_by_natural_key(self, *values: Any) -> Any:
        """Return the object whose key fields have these values.

        The value of a link is the linked object, its primary key, or its natural key as a tuple or list.
        Raises DoesNotExist, and MultipleObjectsReturned unless ``allow_many``, which takes the first by pk.
        """
        if len(values) != len(self.fields):
            expected = f"The natural key of {self.model._meta.label} is ({', '.join(self.fields)})"
            raise TypeError(f"{expected}, but {len(values)} values were given: {values!r}")
        pairs = zip(self.fields, values, strict=True)
        lookups = {path: self._find_linked(path, value) for path, value in pairs}
        if self.allow_many:
            return self.filter(**lookups).order_by("pk")[:1].get()
        return self.get(**lookups)

    get_by_natural_key.asks_for_fields = True  # type: ignore[attr-defined]

    def _find_linked(self, path: str, value: Any) -> Any:
        related = get_linked_model(self.model, path) if isinstance(value, (tuple, list)) else None
        manager = find_natural_manager(related) if related else None
        if manager is None:
            return value
        try:
            return manager.db_manager(self.get_queryset().db).get_by_natural_key(*value)
        except ObjectDoesNotExist as error:
            message = f"No {self.model._meta.label} has {path} {value!r}: {error}"
            raise self.model.DoesNotExist(message) from error

    def check(self, **kwargs: Any) -> list[Any]:
        """Tell of fields that the model lacks."""
        errors = super().check(**kwargs)
        for path in self.fields:
            try:
                resolve_path(self.model, path)
            except NoField as error:
                message = f"The natural key of {self.model._meta.label} names {path!r}: {error}."
                hint = "Name fields with a column, or paths to such fields through foreign keys."
                errors.append(checks.Error(message, hint=hint, obj=self.model, id="gestore_sync.E020"))
        return errors

    def deconstruct(self) -> Any:
        """How a migration makes this manager. Raises ValueError where its class cannot be imported."""
        if not _is_made(type(self)):
            return super().deconstruct()
        base, manager = type(self)._made_of  # type: ignore[attr-defined]
        for part in (base, manager):
            if getattr(import_module(part.__module__), part.__qualname__, None) is not part:
                raise ValueError(f"A migration cannot import {part.__qualname__} from {part.__module__}.")
        if self._constructor_args != _get_constructor_args(type(self)):
            raise ValueError(f"A migration cannot make {manager.__qualname__} with arguments of its own.")
        path = f"{base.__module__}.{base.__qualname__}"
        if base is NaturalManager:
            path = "gestore_sync.NaturalManager"
        return (False, path, None, *self._constructor_args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        made = type(self)
        if not _is_made(made):
            return super().__reduce_ex__(protocol)
        base, manager = made._made_of  # type: ignore[attr-defined]
        return _remake, (base, made.fields, made.allow_many, manager), self.__dict__


def _find_manager_class(base: Any, fields: Any, allow_many: bool, manager: Any) -> type[NaturalManager]:
    """The class of ``base(*fields, allow_many=…, manager=…)``: one and the same for equal arguments."""
    if not fields:
        raise AssertionError(f"{base.__name__} has no fields: name those that make up the natural key.")
    _check_names(fields, base.__name__)
    if not (isinstance(manager, type) and issubclass(manager, Manager)):
        raise ValidationError(f"{manager!r} is no subclass of django.db.models.Manager.")
    if _is_made(manager) and manager._made_of[0] is NaturalManager:  # type: ignore[attr-defined]
        manager = manager._made_of[1]  # type: ignore[attr-defined]
    made: type[NaturalManager] = _make_manager_class(base, tuple(fields), allow_many, manager)
    return made


@functools.cache
def _make_manager_class(base: Any, fields: tuple[str, ...], allow_many: bool, manager: Any) -> Any:
    bases: tuple[type, ...] = (base, manager)
    if issubclass(manager, base):
        bases = (manager,)
    elif issubclass(base, manager):
        bases = (base,)
    attributes = {
        "fields": fields,
        "allow_many": allow_many or base.allow_many,
        "_made_of": (base, manager),
        "__module__": __name__,
        "__doc__": f"{manager.__name__} with the natural key ({', '.join(fields)}).",
    }
    return type(f"Natural{manager.__name__}", bases, attributes)


def _is_made(manager: type) -> bool:
    return "_made_of" in vars(manager)


def _remake(
    base: type[NaturalManager], fields: tuple[str, ...], allow_many: bool, manager: AnyManager
) -> NaturalManager:
    made = _find_manager_class(base, fields, allow_many, manager)
    return made.__new__(made)


def _get_constructor_args(made: type[NaturalManager]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The arguments of a made class, in the one form by which migrations compare managers."""
    base, manager = made._made_of  # type: ignore[attr-defined]
    options: dict[str, Any] = {}
    if made.allow_many != base.allow_many:
        options["allow_many"] = made.allow_many
    if manager is not Manager:
        options["manager"] = manager
    return made.fields, options


def _check_names(fields: Any, owner: str) -> None:
    if not isinstance(fields, (tuple, list)) or not all(isinstance(field, str) for field in fields):
        raise ImproperlyConfigured(f"The natural key of {owner} is {fields!r}: write a tuple of field names.")


class _NaturalKeyMethod:
    """``natural_key`` of a NaturalKeyModel: a method, which on the class knows its ``dependencies``."""

    reads_fields = True

    def __init__(self, owner: Any = None) -> None:
        self.owner = owner

    def __get__(self, instance: Model | None, owner: Any) -> Any:
        return _NaturalKeyMethod(owner) if instance is None else MethodType(_read_natural_key, instance)

    def __call__(self, instance: Model) -> tuple[Any, ...]:
        return _read_natural_key(instance)

    @property
    def dependencies(self) -> list[str]:
        """The labels of the models that the key reads from: ``dumpdata`` writes those first."""
        fields = [field for path in self.owner._natural_key for field in resolve_path(self.owner, path)]
        linked: Any = [field.related_model for field in fields if field.is_relation]
        return list(dict.fromkeys(model._meta.label_lower for model in linked if model is not self.owner))


def _read_natural_key(instance: Any) -> tuple[Any, ...]:
    """The values of the fields in ``_natural_key``; of a link its object's natural key, or what it stores."""
    return tuple(_read_path(instance, path) for path in instance._natural_key)


def _read_path(instance: Any, path: str) -> Any:
    link, _, rest = path.partition(LOOKUP_SEP)
    if rest:
        linked = _read_link(instance, link)
        return None if linked is None else _read_path(linked, rest)
    related = get_linked_model(type(instance), path)
    if related is None or not hasattr(related, "natural_key") or find_natural_manager(related) is None:
        return getattr(instance, resolve_path(type(instance), path)[-1].attname)
    linked = _read_link(instance, path)
    return None if linked is None else linked.natural_key()


def _read_link(instance: Any, name: str) -> Any:
    field = instance._meta.get_field(name)
    if getattr(instance, field.attname) is None:
        return field.get_cached_value(instance, default=None)
    return getattr(instance, field.name)


class NaturalKeyModel(Model):
    """A model whose objects are identified by the fields in ``_natural_key``.

    They supply ``natural_key()``, and as ``objects`` a NaturalManager that extends the model's own; the
    ``_natural_manager_kwargs`` are its options. Children and proxies inherit both, and may override them.
    Raises AssertionError where a model that is not abstract has no ``_natural_key``.
    """

    _natural_key: ClassVar[tuple[str, ...]] = ()
    _natural_manager_kwargs: ClassVar[Mapping[str, Any]] = {}

    natural_key = _NaturalKeyMethod()

    class Meta:
        abstract = True


@receiver(class_prepared)
def supply_natural_manager(sender: Any, **kwargs: Any) -> None:
    """Give a NaturalKeyModel its natural ``objects``; which of its managers is the default stays the same."""
    if not issubclass(sender, NaturalKeyModel):
        return
    name = f"{sender._meta.label}._natural_key"
    if not sender._natural_key:
        raise AssertionError(f"{name} has no fields: name those that make up the natural key.")
    _check_names(sender._natural_key, name)
    options = sender._meta
    present = options.managers_map.get("objects")
    manager = _extend_manager(present, tuple(sender._natural_key), **sender._natural_manager_kwargs)
    if type(manager) is type(present):
        return
    if options.default_manager.name != "objects":
        options.default_manager_name = options.default_manager.name
    options.local_managers = [local for local in options.local_managers if local.name != "objects"]
    sender.add_to_class("objects", manager)


def _extend_manager(
    present: Any, fields: tuple[str, ...], allow_many: bool = False, manager: AnyManager | None = None
) -> NaturalManager:
    """A natural manager that extends ``present``, with its state and its place among the managers."""
    if manager is not None or present is None or present.auto_created:
        return NaturalManager(*fields, allow_many=allow_many, manager=manager or Manager)
    made = _find_manager_class(NaturalManager, fields, allow_many, type(present))
    extended = copy.copy(present)
    extended.__class__ = made
    if _is_made(type(present)) or present._constructor_args == ((), {}):
        extended._constructor_args = _get_constructor_args(made)
    result: NaturalManager = extended
    return result

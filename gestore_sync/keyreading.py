"""How natural keys can be read as fields.

A hand-written pair of methods is run on values that cannot be used: ``natural_key()`` on a probe, and
``get_by_natural_key()`` on a copy of the manager that notes what ``get()`` is asked for. Where the values
only pass through, the fields that they came from are the key.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db.models import Manager, Model, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.db.models.manager import BaseManager

from gestore_sync.paths import canonical_path, resolve_path
from gestore_sync.probes import Found, Opaque, Trace, Unreadable, get_content, make_probe

__all__ = ["NaturalKey", "find_natural_key", "find_natural_manager", "natural_key_of"]

AnyModel = type[Model]

# These get_by_natural_key() keep the objects that they found by key, and so use the values.
CACHED_LOOKUPS = {
    ("django.contrib.contenttypes.models", "ContentTypeManager.get_by_natural_key"): ("app_label", "model"),
}


@dataclass(frozen=True, slots=True)
class NaturalKey:
    """How the natural key of ``model`` can be read as fields.

    ``paths`` are look-up paths from the model; a link stands for the object it leads to. None: the methods
    ``natural_key()`` and ``get_by_natural_key()`` must be called object by object. ``allow_many``: of several
    objects with one key, the one with the first pk is meant.
    """

    model: AnyModel
    paths: tuple[str, ...] | None
    allow_many: bool


@functools.cache
def find_natural_key(model: AnyModel) -> NaturalKey | None:
    """The natural key of ``model``; None where ``natural_key()`` or ``get_by_natural_key()`` is missing.

    Queries no database, whatever the two methods do. Raises FieldDoesNotExist where a NaturalKeyModel names a
    field that it does not have.
    """
    return _find_natural_key(model, frozenset())


def find_natural_manager(model: AnyModel) -> Any:
    """The manager of ``model`` with ``get_by_natural_key()``; None without one.

    Of several it is the ``objects`` of a NaturalKeyModel, then the default manager, then the first.
    """
    managers: list[Any] = [model._default_manager, *model._meta.managers]
    if hasattr(model, "_natural_key"):
        managers.insert(0, model._meta.managers_map.get("objects"))
    return next((manager for manager in managers if hasattr(manager, "get_by_natural_key")), None)


def natural_key_of(instance: Model) -> tuple[Any, ...] | None:
    """The natural key of ``instance``, for messages; None without one, or if a linked object is missing."""
    method: Callable[[], Any] | None = getattr(instance, "natural_key", None)
    if method is None:
        return None
    try:
        key = method()
    except ObjectDoesNotExist:
        return None
    return tuple(key) if isinstance(key, (tuple, list)) else (key,)


def _find_natural_key(model: AnyModel, pending: frozenset[AnyModel]) -> NaturalKey | None:
    manager = find_natural_manager(model)
    if manager is None or not hasattr(model, "natural_key"):
        return None
    paths = _find_declared_paths(model, manager) or _find_read_paths(model, manager)
    if paths is not None:
        paths = _fold_links(model, paths, pending | {model})
    return NaturalKey(model, paths, allow_many=_asks_for_fields(manager) and manager.allow_many)


def _find_declared_paths(model: AnyModel, manager: Any) -> tuple[str, ...] | None:
    """The fields of a NaturalKeyModel whose two methods are both ours."""
    method = inspect.getattr_static(model, "natural_key")
    if not getattr(method, "reads_fields", False) or not _asks_for_fields(manager):
        return None
    return tuple(canonical_path(model, path) for path in manager.fields)


def _asks_for_fields(manager: Any) -> bool:
    return getattr(type(manager).get_by_natural_key, "asks_for_fields", False)


def _fold_links(model: AnyModel, paths: Iterable[str], pending: frozenset[AnyModel]) -> tuple[str, ...]:
    """``paths``, where those that are the whole natural key of a linked object become the link itself."""
    paths = list(paths)
    folded = [path for path in paths if LOOKUP_SEP not in path]
    for link in dict.fromkeys(path.partition(LOOKUP_SEP)[0] for path in paths if LOOKUP_SEP in path):
        start = link + LOOKUP_SEP
        related: Any = resolve_path(model, link)[0].related_model
        inner = _fold_links(related, [p.removeprefix(start) for p in paths if p.startswith(start)], pending)
        key = None if related in pending else _find_natural_key(related, pending)
        is_whole = key is not None and key.paths is not None and set(key.paths) == set(inner)
        folded += [link] if is_whole else [start + path for path in inner]
    return tuple(sorted(dict.fromkeys(folded), key=lambda path: _find_position(path, paths)))


def _find_position(folded: str, paths: list[str]) -> int:
    start = folded + LOOKUP_SEP
    return next(index for index, path in enumerate(paths) if (path + LOOKUP_SEP).startswith(start))


def _find_read_paths(model: AnyModel, manager: Any) -> tuple[str, ...] | None:
    """The fields whose values pass through the two methods of ``model``; None where they do anything else."""
    try:
        return _read_paths(model, manager)
    except (Unreadable, FieldDoesNotExist):
        return None


def _read_paths(model: AnyModel, manager: Any) -> tuple[str, ...]:
    trace = Trace()
    key = trace.run(lambda: make_probe(model, trace).natural_key())
    paths = [canonical_path(model, path) for path in _iter_paths(key)]
    if not paths or len(set(paths)) < len(paths) or not _keeps_shape(model, key):
        raise Unreadable
    found = trace.run(lambda: _look_up(manager, key, trace))
    _check_found(model, found, set(paths))
    for index in range(trace.lookups):
        for failure in ("DoesNotExist", "MultipleObjectsReturned"):
            if not _passes_on(failure, index, manager, key):
                raise Unreadable
    return tuple(paths)


def _iter_paths(key: Any) -> Iterator[str]:
    """The paths of the opaque values in a key, nested keys included."""
    if type(key) not in (tuple, list):
        raise Unreadable
    for part in key:
        if type(part) is Opaque:
            yield get_content(part)
        else:
            yield from _iter_paths(part)


def _keeps_shape(model: AnyModel, key: Any) -> bool:
    """Whether the key has the same parts, or None in their place, when everything is null that may be."""
    trace = Trace()
    try:
        bare = trace.run(lambda: make_probe(model, trace, nulls=True).natural_key())
    except Unreadable:
        return not trace.used  # such as an attribute of a link that is null: objects like this have no key
    return _has_shape(bare, key)


def _has_shape(bare: Any, key: Any) -> bool:
    if bare is None:
        return True
    if type(key) in (tuple, list) and type(bare) in (tuple, list):
        return len(bare) == len(key) and all(map(_has_shape, bare, key))
    return type(key) is type(bare) is Opaque and bool(get_content(bare) == get_content(key))


def _check_found(model: AnyModel, found: Any, paths: set[str]) -> None:
    """Raises Unreadable unless ``found`` is of ``model``, by the values of these paths and nothing else."""
    if type(found) is not Found:
        raise Unreadable
    if get_content(found)[0]._meta.concrete_model is not model._meta.concrete_model:
        raise Unreadable
    asked = {canonical_path(model, path): canonical_path(model, value) for path, value in _iter_asked(found)}
    if asked.keys() != paths or any(path != value for path, value in asked.items()):
        raise Unreadable


def _iter_asked(found: Found) -> Iterator[tuple[str, str]]:
    """What a look-up asked for: pairs of a path and of the path of the value that it shall equal."""
    for lookup, value in get_content(found)[1].items():
        path = lookup.removesuffix(f"{LOOKUP_SEP}exact")
        if type(value) is Opaque:
            yield path, get_content(value)
        elif type(value) is Found:
            yield from ((path + LOOKUP_SEP + inner, asked) for inner, asked in _iter_asked(value))
        else:
            raise Unreadable


def _passes_on(failure: str, index: int, manager: Any, key: Any) -> bool:
    """Whether ``get_by_natural_key()`` lets the exception of its ``index``-th look-up through as it is."""
    trace = Trace(failure, index)
    try:
        trace.run(lambda: _look_up(manager, key, trace))
    except Unreadable as unreadable:
        return unreadable.__cause__ is trace.raised and not trace.used
    return False


def _look_up(manager: Any, key: Any, trace: Trace) -> Any:
    """What ``manager.get_by_natural_key(*key)`` returns when look-ups are only noted."""
    function = inspect.getattr_static(type(manager), "get_by_natural_key")
    if not isinstance(function, FunctionType):
        trace.refuse()
    fields = CACHED_LOOKUPS.get((function.__module__, function.__qualname__))
    if _asks_for_fields(manager):
        fields = manager.fields
    if fields is None:
        return _with_stand_ins(function, trace)(_make_probe_manager(manager, trace), *key)
    if len(fields) != len(key):
        trace.refuse()
    pairs = zip(fields, key, strict=True)
    lookups = {path: _look_up_part(manager, path, part, trace) for path, part in pairs}
    return trace.find(manager.model, lookups)


def _look_up_part(manager: Any, path: str, part: Any, trace: Trace) -> Any:
    if type(part) not in (tuple, list):
        return part
    related: Any = resolve_path(manager.model, path)[-1].related_model
    return _look_up(find_natural_manager(related), part, trace)


def _make_probe_manager(manager: Any, trace: Trace) -> Any:
    """A copy of ``manager`` whose ``get()`` is only noted."""
    if type(manager).get is not Manager.get or manager._queryset_class.get is not QuerySet.get:
        trace.refuse()

    def get(self: Any, *args: Any, **lookups: Any) -> Found:
        return trace.refuse() if args else trace.find(self.model, lookups)

    probe = copy.copy(manager)
    probe.__class__ = type("ProbeManager", (type(manager),), {"get": get})
    return probe


def _with_stand_ins(function: FunctionType, trace: Trace) -> Callable[..., Any]:
    """``function``, but the models that it names are stand-ins whose managers only note look-ups."""
    names: dict[str, Any] = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    stand_ins = {name: _StandIn(value, trace) for name, value in names.items() if _is_model(value)}
    namespace = {**function.__globals__, **stand_ins}
    name, defaults, closure = function.__name__, function.__defaults__, function.__closure__
    changed = FunctionType(function.__code__, namespace, name, defaults, closure)
    changed.__kwdefaults__ = function.__kwdefaults__
    return changed


def _is_model(value: Any) -> bool:
    return issubclass(type(value), type) and issubclass(value, Model)


class _StandIn:
    """A model class in the eyes of one function: the same attributes, but managers that ask no database."""

    def __init__(self, model: AnyModel, trace: Trace) -> None:
        self._model = model
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        return _StandInManager(value, self._trace) if isinstance(value, BaseManager) else value


class _StandInManager:
    """The manager of a stand-in: ``get()`` and ``get_by_natural_key()`` are noted, all else ends the run."""

    def __init__(self, manager: BaseManager[Any], trace: Trace) -> None:
        self._manager = manager
        self._trace = trace

    def db_manager(self, using: str | None = None, hints: Any = None) -> _StandInManager:
        return self

    using = db_manager

    def get(self, *args: Any, **lookups: Any) -> Any:
        return _make_probe_manager(self._manager, self._trace).get(*args, **lookups)

    def get_by_natural_key(self, *key: Any) -> Any:
        return _look_up(self._manager, key, self._trace)

    def __getattr__(self, name: str) -> Any:
        self._trace.refuse()

"""Objects that show what a model's own code does with their values: they can only be passed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.db.models.base import ModelState
from django.db.models.constants import LOOKUP_SEP

__all__ = ["Found", "Opaque", "Trace", "Unreadable", "get_content", "make_probe"]

AnyModel = type[Model]

MAX_DEPTH = 6

CURSOR_METHODS = ("cursor", "chunked_cursor")

SPECIAL_METHODS = (
    *("getattribute", "setattr", "delattr", "dir", "str", "repr", "format", "bytes", "fspath", "bool"),
    *("hash", "eq", "ne", "lt", "le", "gt", "ge", "len", "length_hint", "iter", "next", "reversed"),
    *("getitem", "setitem", "delitem", "call", "int", "float", "complex", "index", "round", "trunc", "floor"),
    *("ceil", "neg", "pos", "abs", "invert", "enter", "exit", "aenter", "aexit", "await", "aiter", "anext"),
    *("copy", "deepcopy", "reduce", "reduce_ex", "getstate", "sizeof", "contains"),
)
OPERATORS = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift"),
    *("and", "or", "xor"),
)


class Unreadable(Exception):
    """What was done cannot be told as fields."""


class Trace:
    """What happened in one run: whether a value was used (even if hidden), and the number of look-ups.

    The look-up with the number ``failing`` raises the model's exception of the name ``failure``.
    """

    def __init__(self, failure: str = "", failing: int = -1) -> None:
        self.used = False
        self.lookups = 0
        self.failure = failure
        self.failing = failing
        self.raised: Exception | None = None

    def run(self, call: Callable[[], Any]) -> Any:
        """Return what ``call`` returns. Raises Unreadable if it fails, or uses a value or a database."""
        try:
            with _no_queries(self):
                result = call()
        # A model's own methods may raise anything when their values refuse every use. Whatever it is, it says
        # one thing: they do more than pass values on. With real values they are called elsewhere.
        except Exception as error:
            raise Unreadable from error
        if self.used:
            raise Unreadable
        return result

    def refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Note a use and end the run."""
        self.used = True
        raise Unreadable

    def find(self, model: AnyModel, lookups: dict[str, Any]) -> Found:
        """Stand in for the object that ``lookups`` would find."""
        index, self.lookups = self.lookups, self.lookups + 1
        if index == self.failing:
            self.raised = getattr(model, self.failure)()
            raise self.raised
        return Found(self, (model, lookups))


@contextmanager
def _no_queries(trace: Trace) -> Iterator[None]:
    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(_no_cursors(connection, trace))
        yield


@contextmanager
def _no_cursors(connection: BaseDatabaseWrapper, trace: Trace) -> Iterator[None]:
    """Refuse cursors, so that the connection is not even opened. Connections belong to one thread."""
    methods = vars(connection)
    present = {name: methods[name] for name in CURSOR_METHODS if name in methods}
    methods.update(dict.fromkeys(CURSOR_METHODS, trace.refuse))
    try:
        yield
    finally:
        for name in CURSOR_METHODS:
            del methods[name]
        methods.update(present)


class Opaque:
    """A value that can be passed on and compared with ``is``; its content is its path from the probe."""

    __slots__ = ("content", "trace")

    def __init__(self, trace: Trace, content: Any) -> None:
        object.__setattr__(self, "trace", trace)
        object.__setattr__(self, "content", content)


class Found(Opaque):
    """Stands for the object that a look-up would find; its content is the model and the look-ups."""

    __slots__ = ()


def get_content(opaque: Opaque) -> Any:
    """What an opaque value stands for."""
    return object.__getattribute__(opaque, "content")


def _refuse_use(self: Opaque, *args: Any, **kwargs: Any) -> NoReturn:
    trace: Trace = object.__getattribute__(self, "trace")
    trace.refuse()


for _name in (*SPECIAL_METHODS, *(prefix + name for prefix in ("", "r", "i") for name in OPERATORS)):
    setattr(Opaque, f"__{_name}__", _refuse_use)


class _Links(dict[str, Any]):
    """The linked objects of a probe, which are probes too, made when they are asked for."""

    def __init__(self, model: AnyModel, trace: Trace, path: str, nulls: bool) -> None:
        super().__init__()
        self.links: dict[str, Any] = {
            field.cache_name: field  # type: ignore[attr-defined]
            for field in model._meta.concrete_fields
            if field.is_relation
        }
        self.trace = trace
        self.path = path
        self.nulls = nulls

    def __missing__(self, name: str) -> Any:
        link = self.links.get(name)
        if link is None:
            self.trace.refuse()
        linked = None
        if not (self.nulls and link.null):
            path = self.path + link.name + LOOKUP_SEP
            linked = make_probe(link.remote_field.model, self.trace, path, nulls=self.nulls)
        self[name] = linked
        return linked


def make_probe(model: AnyModel, trace: Trace, path: str = "", *, nulls: bool = False) -> Any:
    """An object of ``model`` whose columns hold opaque values (with ``nulls``: None where that is allowed).

    ``__init__`` is passed by, and with it the signals and what the model does with its values there.
    """
    if path.count(LOOKUP_SEP) > MAX_DEPTH:
        trace.refuse()
    probe: Any = model.__new__(model)
    probe._state = ModelState()
    probe._state.fields_cache = _Links(model, trace, path, nulls)
    for field in model._meta.concrete_fields:
        is_null = nulls and field.null
        probe.__dict__[field.attname] = None if is_null else Opaque(trace, path + field.attname)
    return probe

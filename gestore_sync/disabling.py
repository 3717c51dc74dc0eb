"""Not logging: ``DisableSynchroLog``, in one thread or task only."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class _Mute:
    """One ``with`` block in which nothing is logged, and the task that entered it."""

    def __init__(self, outer: _Mute | None) -> None:
        self.outer = outer
        self.task = find_task()
        self.active = True

    def holds(self) -> bool:
        """Whether it, or one around it, is in force for the task that asks."""
        task = find_task()
        if self.active and (task is None or task is self.task):
            return True
        return self.outer is not None and self.outer.holds()


_mute: ContextVar[_Mute | None] = ContextVar("gestore_sync_mute", default=None)


def find_task() -> Any:
    """The asyncio task that runs in this thread; None without one."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def is_muted() -> bool:
    """Whether changes that are made now, in this thread or task, are not logged."""
    mute = _mute.get()
    return mute is not None and mute.holds()


class DisableSynchroLog:
    """What happens inside is not logged, in this thread or task only. A context manager, and a decorator of plain and
    async functions; it may be nested and used again."""

    def __enter__(self) -> DisableSynchroLog:
        _mute.set(_Mute(_mute.get()))
        return self

    def __exit__(self, *error: object) -> None:
        mute = _mute.get()
        assert mute is not None
        mute.active = False
        _mute.set(mute.outer)

    async def __aenter__(self) -> DisableSynchroLog:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)

    def __call__(self, function: F) -> F:
        """``function``, with nothing logged while it runs."""
        return cast("F", disable_synchro_log(function))


def disable_synchro_log(function: Any = None) -> Any:
    """A decorator: nothing is logged while ``function`` runs. Without a function, a context manager."""
    if function is None:
        return DisableSynchroLog()
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def muted_coroutine(*args: Any, **options: Any) -> Any:
            with DisableSynchroLog():
                return await function(*args, **options)

        return muted_coroutine

    @wraps(function)
    def muted(*args: Any, **options: Any) -> Any:
        with DisableSynchroLog():
            return function(*args, **options)

    return muted

"""Primary keys as texts that every database compares alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from django.db.models import Model

from gestore_sync.refs import Key, dump_pk, get_key_parser, has_integer_key

UNMISTAKABLE = re.compile(r"[!-@\[-~]([ -@\[-~]*[!-@\[-~])?")
"""Printable ASCII without capital letters, and without blanks at its ends."""


def dump_key(key: Key) -> str:
    """A primary key as text that every database tells from any other, whatever its collation takes for equal."""
    if type(key) is int:
        return str(key)
    text = dump_pk(key)
    return text if UNMISTAKABLE.fullmatch(text) else f"X{text.encode('utf-8', 'surrogatepass').hex()}"


def dump_keys(keys: Sequence[Key]) -> list[str]:
    """The texts of many keys."""
    return list(map(str if set(map(type, keys)) == {int} else dump_key, keys))


def load_key(model: type[Model], text: str) -> Key:
    """The primary key of ``model`` that :func:`dump_key` made ``text`` of."""
    return get_key_loader(model)(text)


@cache
def get_key_loader(model: type[Model]) -> Callable[[str], Key]:
    """What makes a primary key of ``model`` of a text of :func:`dump_key`."""
    if has_integer_key(model):
        return int
    parse = get_key_parser(model)

    def load(text: str) -> Key:
        if text.startswith("X"):
            text = bytes.fromhex(text[1:]).decode("utf-8", "surrogatepass")
        return parse(text)

    return load

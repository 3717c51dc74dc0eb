"""What a row of conflicts holds: ``{"field": {"local": …, "remote": …, "resolved": "local"}}``, values as in bundles.

Links are keys of the target. ``resolved`` is the side whose value the run let stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from gestore_sync.codecs import make_decoder, make_encoder, make_key_encoder
from gestore_sync.conf import LOCAL, REMOTE
from gestore_sync.exceptions import BundleError
from gestore_sync.layouts import Layout
from gestore_sync.valuekinds import INVALID, dump_json, load_json

TEXT_MARK = "$text"
"""The only key of an object that shows a value which its field does not read again."""


class Lost(NamedTuple):
    """The values of one field, as parsed JSON, and the side whose value the run let stand."""

    local: Any
    remote: Any
    resolved: str

    def get(self, side: str) -> Any:
        """The value of one side."""
        return self.local if side == LOCAL else self.remote


def encode_value(layout: Layout, number: int, value: Any) -> str:
    """The JSON of the value in a column of the target."""
    if value is None:
        return "null"
    is_field = number < len(layout.columns)
    try:
        encode = make_encoder(layout.columns[number].field) if is_field else make_key_encoder(layout.model)
        return encode(value)
    except (BundleError, *INVALID):
        return f'{{"{TEXT_MARK}": {encode_basestring(str(value))}}}'


def decode_value(layout: Layout, number: int, value: Any) -> Any:
    """The value of a column that :func:`encode_value` made this parsed JSON of. Raises one of :data:`INVALID`."""
    if value is None:
        return None
    if isinstance(value, dict) and list(value) == [TEXT_MARK] and not layout.columns[number].is_json:
        raise ValueError("the field does not read the value again")
    return make_decoder(layout.columns[number].field)(value)


def dump_lost(values: Mapping[str, tuple[str, str, str]]) -> str:
    """The text for a row: by field the JSON of both sides, and the side whose value stands."""
    parts = [
        f'{encode_basestring(name)}: {{"{LOCAL}": {local}, "{REMOTE}": {remote}, "resolved": "{side}"}}'
        for name, (local, remote, side) in values.items()
    ]
    return "{" + ", ".join(parts) + "}"


def load_lost(text: str) -> dict[str, Lost]:
    """By field what such a text says."""
    return {name: Lost(value[LOCAL], value[REMOTE], value["resolved"]) for name, value in load_json(text).items()}


def canonize(text: str) -> str:
    """The JSON of a value as :func:`load_lost` and ``dump_json`` write it again."""
    return dump_json(load_json(text))

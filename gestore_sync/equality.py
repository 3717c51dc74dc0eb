"""When two values of one field are equal, as Python values or as what the database would get."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field, JSONField

PLAIN_TYPES = (str, int, float, bytes, memoryview, list, tuple)


def holds_json(field: Any) -> bool:
    """Whether ``field`` is an array of JSON."""
    base = getattr(field, "base_field", None)
    return base is not None and (isinstance(base, JSONField) or holds_json(base))


def dump_inside(value: Any) -> str:
    """A list of JSON values as text, in which true is not 1."""
    return json.dumps(value, sort_keys=True, default=str)


def is_equal(field: Field[Any, Any], mine: Any, theirs: Any) -> bool:
    """Whether two values of one field are equal, as Python values or as what the database would get."""
    if isinstance(mine, memoryview) or isinstance(theirs, memoryview):
        return bytes(mine) == bytes(theirs)
    if type(mine) is type(theirs) and mine == theirs:
        return True
    if mine != mine and theirs != theirs:
        return True
    if isinstance(mine, PLAIN_TYPES) and isinstance(theirs, PLAIN_TYPES):
        return bool(mine == theirs)
    try:
        return bool(mine == theirs or field.get_prep_value(mine) == field.get_prep_value(theirs))
    except (TypeError, ValueError, ValidationError):
        return False

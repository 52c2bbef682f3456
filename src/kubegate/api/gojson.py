"""What Go says about JSON: errors of types, and `%v` of decoded values.

Clients see these texts in answers to malformed bodies and patches.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubegate.api import field
from kubegate.api.codec import decode_json, json_type
from kubegate.api.numbers import float_text


def cannot_unmarshal(value: Any, into: str) -> str:
    """The text of an UnmarshalTypeError: `into` is "Go value of type X" or "Go struct field T.f of type X"."""
    return f"json: cannot unmarshal {json_type(value)} into {into}"


def value_text(value: Any) -> str:
    """Go's `%v` of a decoded JSON value: map[a:1 b:[x y] c:<nil>]."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{value_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(value_text, value)) + "]"
    if isinstance(value, float):
        return float_text(value)
    return str(value)


_TYPES: dict[type, str] = {
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


def type_text(value: Any) -> str:
    """Go's `%T` of a decoded JSON value."""
    return _TYPES.get(type(value), "<nil>")


def sorted_text(value: Any) -> str:
    """JSON as Go writes maps: keys in order, and what HTML gives a meaning escaped."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode().translate(field.HTML)


def with_floats(value: Any) -> Any:
    """A decoded value as an untyped object has it: whole numbers that no int64 holds are floats."""
    if isinstance(value, dict):
        return {key: with_floats(member) for key, member in value.items()}
    if isinstance(value, list):
        return [with_floats(member) for member in value]
    return float(value) if type(value) is int and not -(2**63) <= value < 2**63 else value


def loads(text: bytes) -> Any:
    """Decode JSON. Raises ValueError with Go's text."""
    return decode_json(text)

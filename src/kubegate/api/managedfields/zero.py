"""What an object of a kind has before anything is set: the fields of kube-apiserver's types that are always written.

A create is compared with this, so that nobody becomes the owner of `spec: {}`.
"""

from __future__ import annotations

from typing import Any

from kubegate.api import Object
from kubegate.api.schema import Schema

_CACHE = "zero"
_EMPTY: tuple[Any, ...] = ({}, "", 0, False)


def zero(schema: Schema) -> Object:
    """The empty object of a built-in kind; `{}` for a custom one. Not to be changed."""
    found: Object | None = schema.cache.get(_CACHE)
    if found is None:
        found = schema.cache[_CACHE] = _struct(schema) if schema.name else {}
    return found


def _struct(schema: Schema) -> Object:
    found: Object = {}
    for name, field in schema.properties.items():
        if field.default == {} and field.type == "object":
            found[name] = _struct(field)
        elif field.default is not None and field.default in _EMPTY:
            found[name] = field.default
        elif name in schema.required and field.default is None and field.type in ("array", "object"):
            found[name] = None
    return found

"""What an object of a kind has before anything is set: the fields of kube-apiserver's types that are always written.

A create is compared with this, so that nobody becomes the owner of `spec: {}`.
"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.schema import Schema

_CACHE = "zero"


def zero(schema: Schema) -> Object:
    """The empty object of a built-in kind; `{}` for a custom one. Not to be changed."""
    found: Object | None = schema.cache.get(_CACHE)
    if found is None:
        found = schema.cache[_CACHE] = _made(schema) if schema.name else {}
    return found


def _made(schema: Schema) -> Object:
    from kubegate.api.normalize import complete

    return complete({}, schema)

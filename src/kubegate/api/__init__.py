"""The object model: resources, schemas, selectors, patches, server-side apply, tables, Status errors. No I/O."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON. Treated as immutable once stored: copy before changing."""


def clone(obj: Object) -> Object:
    """A deep copy that may be changed. Objects are JSON, and a round trip is several times faster than `deepcopy`."""
    import orjson

    copied: Object = orjson.loads(orjson.dumps(obj))
    return copied

"""What the watch cache is told of each stored object: its bytes to serve, its labels, and its selectable fields."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from kubegate.registry import wire
from kubegate.registry.keys import Keys
from kubegate.registry.rules import rules_for

NOTHING: Mapping[str, str] = {}


class ObjectCodec:
    """`(key, stored value, revision) -> (data, labels, fields)`: `storage.cache.Codec`."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __call__(self, key: str, value: bytes, revision: int) -> tuple[bytes, Mapping[str, str], Mapping[str, str]]:
        obj = orjson.loads(value)
        metadata = obj.get("metadata") or {}
        fields = {"metadata.name": metadata.get("name", "")}
        namespace = metadata.get("namespace")
        if namespace:
            fields["metadata.namespace"] = namespace
        resource = self._keys.resource_of(key)
        if resource is not None and resource.custom is None:
            own = rules_for(resource.group_resource).fields
            if own is not None:
                fields.update(own(obj))
        return wire.with_revision(value, revision), metadata.get("labels") or NOTHING, fields

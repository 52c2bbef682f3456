"""How objects are laid out as bytes, so that they can be served without decoding them.

A stored value is JSON that begins `{"kind":K,"apiVersion":V,"metadata":{"resourceVersion":"",…`; as served, the
revision stands between those quotes. A list drops each item's kind and apiVersion by cutting off a known prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from kubegate.api import Object

_MARK = b'"metadata":{"resourceVersion":"'
_EMPTY_MARK = _MARK + b'"'


def encode(obj: Object) -> bytes:
    """The bytes to store: kind, apiVersion and an empty resourceVersion first."""
    return orjson.dumps(_ordered(obj, ""))


def encode_served(obj: Object, resource_version: str) -> bytes:
    """The bytes to send for an object that is not in the cache (a dry run, another version)."""
    return orjson.dumps(_ordered(obj, resource_version) if resource_version else obj)


def _ordered(obj: Object, resource_version: str) -> Object:
    # A name keeps the place where it was put in first.
    ordered: Object = {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": None, **obj}
    metadata = {"resourceVersion": "", **(obj.get("metadata") or {})}
    metadata["resourceVersion"] = resource_version
    ordered["metadata"] = metadata
    return ordered


def with_revision(value: bytes, revision: int) -> bytes:
    """Put `revision` into stored bytes. Values that another program laid out otherwise are decoded once."""
    cut = value.find(_EMPTY_MARK, 0, 512)
    if cut < 0:
        return orjson.dumps(_ordered(orjson.loads(value), str(revision)))
    cut += len(_MARK)
    return b"%s%d%s" % (value[:cut], revision, value[cut:])


def replace_revision(data: bytes, revision: int) -> bytes:
    """Served bytes with another revision: what a DELETED event carries."""
    cut = data.index(_MARK, 0, 512) + len(_MARK)
    return b"%s%d%s" % (data[:cut], revision, data[data.index(b'"', cut) :])


def prefix(kind: str, api_version: str) -> bytes:
    """What every served object of the kind begins with, up to and without its `"metadata"`."""
    return b'{"kind":%s,"apiVersion":%s,' % (orjson.dumps(kind), orjson.dumps(api_version))


def list_body(
    kind: str, api_version: str, metadata: dict[str, Any], items: Iterable[bytes], item_prefix: bytes | None
) -> bytes:
    """A list's bytes from its items' bytes. `item_prefix` is cut off each item (None: items stay whole)."""
    head = b'{"kind":%s,"apiVersion":%s,"metadata":%s,"items":[' % (
        orjson.dumps(kind),
        orjson.dumps(api_version),
        orjson.dumps(metadata),
    )
    cut = 0 if item_prefix is None else len(item_prefix)
    parts = [item[cut:] for item in items]
    if not parts:
        return head + b"]}"
    # Written together once: there may be megabytes of it.
    between = b",{" if cut else b","
    parts[0] = head + between[1:] + parts[0]
    parts[-1] += b"]}"
    return between.join(parts)

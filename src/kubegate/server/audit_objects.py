"""What of the objects that are sent and answered an audit event may hold.

The data of Secrets, and the tokens of TokenReviews and TokenRequests, are never written, whatever the policy's level,
nor what quotes them: patches, tables, the annotation in which kubectl keeps what it applied.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubegate.api import Object, negotiate
from kubegate.api.requestinfo import RequestInfo

REDACTED = "<redacted>"
_VERBATIM_LIMIT = 256 * 1024
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def guarded(info: RequestInfo) -> bool:
    """Whether a request is about Secrets or tokens."""
    if info.group == "":
        return info.resource == "secrets" or info.subresource == "token"
    return (info.group, info.resource) == ("authentication.k8s.io", "tokenreviews")


def decoded(body: bytes, content_type: bytes) -> Any:
    """A body as JSON; None where it is none, or is in no form that objects are sent in."""
    if not body:
        return None
    if len(body) > _VERBATIM_LIMIT:
        return {"kind": "Omitted", "bytes": len(body)}
    media_type = content_type.partition(b";")[0].strip().decode("latin-1")
    try:
        if media_type in (negotiate.YAML, negotiate.PROTOBUF) or media_type.endswith("+yaml"):
            from kubegate.api import codec

            form = negotiate.PROTOBUF if media_type == negotiate.PROTOBUF else negotiate.YAML
            return codec.decode_document(body, form, strict=False).value
        return orjson.loads(body)
    except ValueError:
        return None


def shown(value: Any, *, secret: bool, omit_managed_fields: bool) -> Any:
    """The value without what must not be written anywhere (law 5). `secret`: it is of a request that is `guarded`."""
    if isinstance(value, list):  # a JSON patch
        return [{**step, "value": REDACTED} if secret and "value" in step else step for step in map(_mapping, value)]
    return _shown(value, secret, omit_managed_fields) if isinstance(value, dict) else value


def _mapping(step: Any) -> Object:
    return step if isinstance(step, dict) else {}


def _shown(obj: Object, secret: bool, omit_managed_fields: bool) -> Object:
    shown = dict(obj)
    secret = secret or shown.get("kind") in ("Secret", "SecretList")
    if isinstance(shown.get("items"), list):
        shown["items"] = [_shown(_mapping(item), secret, omit_managed_fields) for item in shown["items"]]
    if isinstance(shown.get("rows"), list):
        shown["rows"] = [
            {**row, "object": _shown(_mapping(row.get("object")), secret, omit_managed_fields)}
            for row in map(_mapping, shown["rows"])
        ]
    for name in ("data", "stringData"):
        if secret and name in shown:
            known = isinstance(shown[name], dict)
            shown[name] = dict.fromkeys(shown[name], REDACTED) if known else REDACTED
    for name in ("spec", "status"):
        part = shown.get(name)
        if isinstance(part, dict) and "token" in part:
            shown[name] = {**part, "token": REDACTED}
    metadata = shown.get("metadata")
    if isinstance(metadata, dict):
        shown["metadata"] = _metadata(metadata, secret, omit_managed_fields)
    return shown


def _metadata(metadata: Object, secret: bool, omit_managed_fields: bool) -> Object:
    annotations = metadata.get("annotations")
    if secret and isinstance(annotations, dict) and _LAST_APPLIED in annotations:
        metadata = {**metadata, "annotations": {**annotations, _LAST_APPLIED: REDACTED}}
    if omit_managed_fields and "managedFields" in metadata:
        metadata = {key: value for key, value in metadata.items() if key != "managedFields"}
    return metadata

"""What of the objects that are sent and answered an audit event may hold.

The data of Secrets, and the tokens of TokenReviews and TokenRequests, are never written, whatever the policy's level,
nor what quotes them: patches, tables, annotations (kubectl keeps there what it applied), fields that are misspelt.
"""

from __future__ import annotations

from typing import Any

import orjson

from kubegate.api import Object, negotiate
from kubegate.api.requestinfo import RequestInfo

REDACTED = "<redacted>"
_VERBATIM_LIMIT = 256 * 1024

# What is harmless of Secrets and TokenReviews, of patches of them, and of what deletes them and tells of them.
_SENT = frozenset(
    {
        *("kind", "apiVersion", "type", "immutable", "bytes"),
        *("gracePeriodSeconds", "preconditions", "propagationPolicy", "orphanDependents", "dryRun"),
    }
)
_ANSWERED = _SENT | {"status", "message", "reason", "details", "code", "columnDefinitions"}
_NESTED = frozenset({"preconditions", "dryRun", "details", "columnDefinitions"})
_METADATA = frozenset(
    {
        *("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "selfLink"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
        *("labels", "ownerReferences", "finalizers", "managedFields", "continue", "remainingItemCount"),
    }
)
_REVIEW = frozenset(
    {
        *("audiences", "expirationSeconds", "boundObjectRef"),
        *("authenticated", "user", "error", "expirationTimestamp"),
    }
)
_STEP = frozenset({"op", "path", "from"})


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


def shown(value: Any, *, secret: bool, omit_managed_fields: bool, answer: bool = False) -> Any:
    """The value without what must not be written anywhere (law 5).

    `secret`: it is of a request that is `guarded`, and then only what is known to be harmless stays, whatever the
    value says that it is. `answer`: it is what was answered, not what was sent.
    """
    if isinstance(value, list):  # a JSON patch
        return [_step(_mapping(step)) for step in value] if secret else value
    if not isinstance(value, dict):
        return REDACTED if secret else value
    return _shown(value, secret, omit_managed_fields, answer)


def _mapping(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _step(step: Object) -> Object:
    return {key: value if key in _STEP and isinstance(value, str) else REDACTED for key, value in step.items()}


def _shown(obj: Object, secret: bool, omit_managed_fields: bool, answer: bool) -> Object:
    secret = secret or obj.get("kind") in ("Secret", "SecretList")
    shown = {name: _guarded(name, value, answer) for name, value in obj.items()} if secret else dict(obj)
    if isinstance(obj.get("items"), list):
        shown["items"] = [_shown(_mapping(item), secret, omit_managed_fields, answer) for item in obj["items"]]
    if isinstance(obj.get("rows"), list) and (answer or not secret):
        shown["rows"] = [
            {**row, "object": _shown(_mapping(row.get("object")), secret, omit_managed_fields, answer)}
            for row in map(_mapping, obj["rows"])
        ]
    for name in ("spec", "status"):
        part = shown.get(name)
        if isinstance(part, dict) and "token" in part:
            shown[name] = {**part, "token": REDACTED}
    metadata = shown.get("metadata")
    if omit_managed_fields and isinstance(metadata, dict) and "managedFields" in metadata:
        shown["metadata"] = {key: value for key, value in metadata.items() if key != "managedFields"}
    return shown


def _guarded(name: str, value: Any, answer: bool) -> Any:
    """A field of something secret. The keys of maps stay: they tell what somebody was after."""
    if isinstance(value, dict):
        if name == "metadata":
            found = {key: part if key in _METADATA else REDACTED for key, part in value.items()}
            if isinstance(value.get("annotations"), dict):  # where clients keep what they applied
                found["annotations"] = dict.fromkeys(value["annotations"], REDACTED)
            return found
        if name in ("data", "stringData"):
            return dict.fromkeys(value, REDACTED)
        if name in ("spec", "status"):
            return {key: part if key in _REVIEW else REDACTED for key, part in value.items()}
    known = name in (_ANSWERED if answer else _SENT)
    return value if known and (name in _NESTED or not isinstance(value, dict | list)) else REDACTED

"""Custom resources in another version: the same but for apiVersion, or as their definition's webhook converts them.

Follows webhook_converter.go of k8s.io/apiextensions-apiserver. Who calls the webhook is passed in.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from kubegate.api import Object, field
from kubegate.api.status import StatusError
from kubegate.api.structural import CustomResource

Call = Callable[[Mapping[str, Any], Object], Awaitable[Any]]
"""clientConfig (of the definition), ConversionReview -> the answer, decoded. Raises an error whose text clients see."""

_VERSIONS: Final = ("v1", "v1beta1")
_GROUP: Final = "apiextensions.k8s.io"
# What a webhook may change in metadata; all else stays as it was.
_CONVERTED_META: Final = ("labels", "annotations")


async def convert(objects: Sequence[Object], api_version: str, custom: CustomResource, call: Call) -> list[Object]:
    """`objects` (which are not changed) in `api_version`, in their order. One call for all that are in another.

    Raises StatusError 500 with kube-apiserver's words where the webhook fails or answers what it may not.
    """
    if custom.conversion.get("strategy") != "Webhook":
        return [obj if obj["apiVersion"] == api_version else {**obj, "apiVersion": api_version} for obj in objects]
    others = [obj for obj in objects if obj["apiVersion"] != api_version]
    if not others:
        return list(objects)
    converted = iter(await _through_webhook(others, api_version, custom, call))
    return [obj if obj["apiVersion"] == api_version else next(converted) for obj in objects]


async def _through_webhook(objects: list[Object], api_version: str, custom: CustomResource, call: Call) -> list[Object]:
    webhook = custom.conversion.get("webhook") or {}
    version = next((v for v in webhook.get("conversionReviewVersions") or () if v in _VERSIONS), "v1")
    uid = str(uuid.uuid4())
    review: Object = {
        "apiVersion": f"{_GROUP}/{version}",
        "kind": "ConversionReview",
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
    }
    failed = f"conversion webhook for {_kind(objects[0])} "
    try:
        answer = await call(webhook.get("clientConfig") or {}, review)
        found = _converted(answer, review["apiVersion"], uid)
    except StatusError:
        raise
    except Exception as error:
        raise StatusError(500, "", f"{failed}failed: {error}") from error
    if len(found) != len(objects):
        raise StatusError(500, "", f"{failed}returned {len(found)} objects, expected {len(objects)}")
    for position, (original, new) in enumerate(zip(objects, found, strict=True)):
        wrong = _wrong(original, new, api_version)
        if wrong:
            text = f"{failed}returned invalid converted object at index {position}: {wrong}"
            raise StatusError(500, "", text)
    return [_with_meta(original, new) for original, new in zip(objects, found, strict=True)]


def _kind(obj: Object) -> str:
    return f"{obj['apiVersion']}, Kind={obj['kind']}"


def _converted(answer: Any, api_version: str, uid: str) -> list[Any]:
    """The objects of an answer. Raises ValueError where it is not one to this review."""
    if not isinstance(answer, dict):
        raise ValueError("no response provided")
    kind = f"{answer.get('apiVersion') or '/'}, Kind={answer.get('kind') or ''}"
    wanted = f"{api_version}, Kind=ConversionReview"
    if kind != wanted:
        raise ValueError(f"expected webhook response of {wanted}, got {kind}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    if response.get("uid") != uid:
        raise ValueError(f"expected response.uid={field.quoted(uid)}, got {field.quoted(str(response.get('uid', '')))}")
    result = response.get("result") or {}
    status = result.get("status") or ""
    if status != "Success":
        text = f'response.result.status was {field.quoted(status)}, not "Success"'
        raise ValueError(result.get("message") or text)
    found = response.get("convertedObjects")
    return found if isinstance(found, list) else []


def _wrong(original: Object, new: Any, api_version: str) -> str:
    if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
        return "it is no object with metadata"
    if new.get("apiVersion") != api_version:
        return f"invalid groupVersion (expected {api_version}, received {new.get('apiVersion', '')})"
    if new.get("kind") != original["kind"]:
        return f"invalid kind (expected {original['kind']}, received {new.get('kind', '')})"
    for name, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        before, after = original["metadata"].get(name, ""), new["metadata"].get(name, "")
        if before != after:
            return f"must have the same {shown}: {before} != {after}"
    for name in _CONVERTED_META:
        texts = new["metadata"].get(name) or {}
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            return f"metadata.{name} must be a map of strings"
    return ""


def _with_meta(original: Object, new: Object) -> Object:
    meta = {name: value for name, value in original["metadata"].items() if name not in _CONVERTED_META}
    for name in _CONVERTED_META:
        if new["metadata"].get(name):
            meta[name] = new["metadata"][name]
    return {**new, "metadata": meta}

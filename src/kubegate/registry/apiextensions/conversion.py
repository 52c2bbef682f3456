"""Custom resources in another version as their definition's webhook converts them.

Follows webhook_converter.go of k8s.io/apiextensions-apiserver. As there, an object gets the defaults of the version
that it is in, is converted, and loses what the other version's schema does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from kubegate.admission.webhooks.configurations import authority
from kubegate.admission.webhooks.dispatch import Dispatcher
from kubegate.api import Object, clone, field, gojson, metadata, structural
from kubegate.api.codec import split_api_version
from kubegate.api.metadata import new_uid
from kubegate.api.resources import Resource
from kubegate.api.selectors import validate_labels
from kubegate.api.status import StatusError
from kubegate.api.structural import CustomResource
from kubegate.remote import result
from kubegate.remote.client import RemoteError

_VERSIONS: Final = ("v1", "v1beta1")
_GROUP: Final = "apiextensions.k8s.io"
_REVIEW: Final = "ConversionReview"
# What a webhook may change in metadata; all else stays as it was.
_CONVERTED_META: Final = ("labels", "annotations")
# Objects in one review: a list of many more is converted piece by piece, so that no body grows without bound.
_BATCH: Final = 500
_REMEMBERED: Final = 512


@dataclass(frozen=True, slots=True)
class _Hook:
    """Where a definition's webhook is, as a `dispatch.Target`."""

    client_config: Object
    authority: bytes | None
    timeout: int = 30


class WebhookConversions:
    """`registry.generic.Conversions`: calls over connections that are kept. Close it when nothing is asked any more."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._once: dict[tuple[str, str, str], tuple[Resource, asyncio.Task[Object]]] = {}

    async def convert(self, objects: Sequence[Object], api_version: str, resource: Resource) -> list[Object]:
        """`objects` (which are not changed) in `api_version`, in their order; those that are in it stay as they are.

        Raises StatusError 500 with kube-apiserver's words where the webhook fails or answers what it may not.
        """
        custom: CustomResource = resource.custom
        others = [_defaulted(obj, custom) for obj in objects if obj["apiVersion"] != api_version]
        converted: list[Object] = []
        for start in range(0, len(others), _BATCH):
            converted += await self._asked(others[start : start + _BATCH], api_version, custom)
        schema = custom.versions.get(split_api_version(api_version)[1])
        for obj in converted:
            if schema is not None:
                structural.prune(obj, schema)
        each = iter(converted)
        return [obj if obj["apiVersion"] == api_version else next(each) for obj in objects]

    async def convert_once(self, obj: Object, api_version: str, resource: Resource) -> Object:
        """The same for one object, asked once for all who watch it. Nobody may change what this gives."""
        if obj["apiVersion"] == api_version:
            return obj
        meta = obj["metadata"]
        key = (meta.get("uid", ""), meta.get("resourceVersion", ""), api_version)
        known = self._once.get(key)
        if known is None or known[0] is not resource:
            known = self._once[key] = resource, asyncio.create_task(self._one(obj, api_version, resource))
            while len(self._once) > _REMEMBERED:
                self._once.pop(next(iter(self._once)))
        try:
            return await asyncio.shield(known[1])
        except StatusError:
            self._once.pop(key, None)
            raise

    async def close(self) -> None:
        tasks = [task for _, task in self._once.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dispatcher.close()

    async def _one(self, obj: Object, api_version: str, resource: Resource) -> Object:
        [found] = await self.convert([obj], api_version, resource)
        return found

    async def _asked(self, objects: list[Object], api_version: str, custom: CustomResource) -> list[Object]:
        webhook = custom.conversion.get("webhook") or {}
        version = next((v for v in webhook.get("conversionReviewVersions") or () if v in _VERSIONS), None)
        if version is None:
            raise StatusError(500, "", "no supported conversion review versions")
        config = webhook.get("clientConfig") or {}

        async def call(review: Object) -> Object:
            hook = _Hook(config, authority(config.get("caBundle")))
            return result.into(await self._dispatcher.call(hook, orjson.dumps(review)))

        return await reviewed(objects, api_version, version, call)


def _defaulted(obj: Object, custom: CustomResource) -> Object:
    schema = custom.versions.get(split_api_version(obj["apiVersion"])[1])
    found = clone(obj)
    if schema is not None:
        structural.default(found, schema)
    return found


async def reviewed(
    objects: Sequence[Object], api_version: str, version: str, call: Callable[[Object], Awaitable[Object]]
) -> list[Object]:
    """What the webhook behind `call` makes of `objects`, all of them in another version than `api_version`.

    `version` is that of the review; `call` sends it, and raises RemoteError. Raises StatusError 500.
    """
    uid = new_uid()
    review: Object = {
        "kind": _REVIEW,
        "apiVersion": f"{_GROUP}/{version}",
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": list(objects)},
    }
    kind = f"{objects[0]['apiVersion']}, Kind={objects[0]['kind']}"
    failed = f"conversion webhook for {kind}"
    try:
        found = _converted(await call(review), version, uid)
    except (RemoteError, ValueError) as error:
        raise StatusError(500, "", f"{failed} failed: {error}") from None
    if len(found) != len(objects):
        raise StatusError(500, "", f"{failed} returned {len(found)} objects, expected {len(objects)}")
    place = _Place(failed, single=len(objects) == 1)
    return [
        _checked(original, new, api_version, place, position)
        for position, (original, new) in enumerate(zip(objects, found, strict=True), 1)
    ]


def _converted(answer: Object, version: str, uid: str) -> list[Any]:
    """The objects of an answer. Raises ValueError where it is not one to this review."""
    response = answer.get("response")
    if version == "v1":  # the older version was never held to these
        _check_answer(answer)
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    if version == "v1" and response.get("uid") != uid:
        raise ValueError(f"expected response.uid={field.quoted(uid)}, got {field.quoted(str(response.get('uid', '')))}")
    said = response.get("result")
    said = said if isinstance(said, dict) else {}
    status = said.get("status") or ""
    if status != "Success":
        raise ValueError(said.get("message") or f"response.result.status was '{status}', not 'Success'")
    found = response.get("convertedObjects")
    return found if isinstance(found, list) else []


def _check_answer(answer: Object) -> None:
    group, version = split_api_version(str(answer.get("apiVersion") or ""))
    if (group, version, answer.get("kind")) != (_GROUP, "v1", _REVIEW):
        got = f"{group}/{version}, Kind={answer.get('kind') or ''}"
        raise ValueError(f"expected webhook response of {_GROUP}/v1, Kind={_REVIEW}, got {got}")


@dataclass(frozen=True, slots=True)
class _Place:
    """How an object of the answer is spoken of: of one alone, and of one in a list."""

    failed: str
    single: bool

    def version(self, position: int) -> str:
        if self.single:
            return f"{self.failed} returned invalid object at index 0: "
        return f"{self.failed} returned invalid converted object at index {position}: "

    def object(self, position: int) -> str:
        return f"{self.failed} returned invalid object: " if self.single else self.version(position)

    def metadata(self, position: int) -> str:
        if self.single:
            return f"{self.failed} returned invalid metadata: "
        return f"{self.failed} returned invalid metadata in object at index {position}: "


def _checked(original: Object, new: Any, api_version: str, place: _Place, position: int) -> Object:
    """The converted object with the original's metadata. Raises StatusError for what a webhook may not answer."""

    def wrong(where: str, text: str) -> StatusError:
        return StatusError(500, "", where + text)

    if not isinstance(new, dict) or not new.get("kind"):
        shown = orjson.dumps(new).decode()
        text = f"Object 'Kind' is missing in '{shown}'"
        if not isinstance(new, dict):
            text = gojson.cannot_unmarshal(new, 'Go value of type struct { Items json.RawMessage "json:\\"items\\"" }')
        raise wrong("" if place.single else place.version(position - 1), text)
    if new.get("apiVersion") != api_version:
        text = f"invalid groupVersion (expected {api_version}, received {new.get('apiVersion') or ''})"
        raise wrong(place.version(position), text)
    if new["kind"] != original["kind"]:
        text = f"invalid kind (expected {original['kind']}, received {new['kind']})"
        raise wrong(place.version(position), text)
    given = new.get("metadata")
    same = given if isinstance(given, dict) else {}
    for name, shown in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
        before, after = original["metadata"].get(name, ""), same.get(name) or ""
        if before != after:
            raise wrong(place.object(position), f"must have the same {shown}: {before} != {after}")
    problem = next(_wrong_meta(original["metadata"], given), "")
    if problem:
        raise wrong(place.metadata(position), problem)
    meta = {name: value for name, value in original["metadata"].items() if name not in _CONVERTED_META}
    meta |= {name: same[name] for name in _CONVERTED_META if same.get(name) is not None}
    return {**new, "metadata": meta}


def _wrong_meta(original: Object, given: Any) -> Iterator[str]:
    if given is None:
        yield "missing metadata in converted object"
        return
    for name in _CONVERTED_META:
        texts = given.get(name)
        if texts is None:
            continue
        if not isinstance(texts, dict):
            yield f"invalid metadata.{name} of type {gojson.type_text(texts)} in converted object"
            return
        for key, value in texts.items():
            if not isinstance(value, str):
                yield f"metadata.{name}[{key}] must be a string, but is {gojson.type_text(value)} in converted object"
                return
        if texts != (original.get(name) or {}):
            if name == "labels":
                errors = validate_labels(texts, "metadata.labels")
            else:
                errors = metadata.validate_annotations(texts, "metadata.annotation")
            found = [str(error) for error in errors]
            if found:
                yield found[0] if len(found) == 1 else f"[{', '.join(found)}]"

"""A registry of the built-in kinds on a store in memory, without admission."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from kubegate.admission import Attributes
from kubegate.api import clone
from kubegate.api.clock import SystemClock
from kubegate.api.resources import Resource, Resources
from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo
from kubegate.authorization import Decision, Verdict
from kubegate.registry import Context, conversion
from kubegate.registry.codec import ObjectCodec
from kubegate.registry.generic import Deleted, Registry
from kubegate.registry.keys import Keys
from kubegate.storage import Store
from kubegate.storage.cache import WatchCache
from kubegate.storage.memory import MemoryStore

Object = dict[str, Any]
NAMESPACE = "ns"


@dataclass
class Flags:
    service_cluster_ip_range: str = "10.96.0.0/24"
    service_node_port_range: str = "30000-30063"


class NoAdmission:
    async def admit(self, attributes: Attributes) -> None:
        pass

    async def validate(self, attributes: Attributes) -> None:
        pass


class Everyone:
    async def authorize(self, attributes: object) -> Decision:
        return Decision(Verdict.ALLOW)


class KindsWorld:
    """`kind` is a group resource: `pods`, `deployments.apps`, or `RESOURCE.GROUP@VERSION`."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def resource(self, kind: str) -> Resource:
        name, _, version = kind.partition("@")
        plural, _, group = name.partition(".")
        resources = self.registry.resources
        found = resources.get(group, version, plural) if version else resources.by_group_resource(name)
        assert found is not None, kind
        return found

    def _whole(self, kind: str, obj: Object) -> Object:
        resource = self.resource(kind)
        return {"kind": resource.kind, "apiVersion": resource.api_version, **clone(obj)}

    def _namespace(self, kind: str) -> str:
        return NAMESPACE if self.resource(kind).namespaced else ""

    async def create(self, kind: str, obj: Object, ctx: Context | None = None) -> Object:
        whole = self._whole(kind, obj)
        return await self.registry.create(self.resource(kind), self._namespace(kind), whole, ctx or context())

    async def update(self, kind: str, obj: Object, subresource: str = "", ctx: Context | None = None) -> Object:
        name, whole = obj["metadata"]["name"], self._whole(kind, obj)
        resource, where = self.resource(kind), self._namespace(kind)
        return (await self.registry.update(resource, where, name, whole, ctx or context(), subresource)).object

    async def patch(
        self, kind: str, name: str, change: Object, subresource: str = "", ctx: Context | None = None
    ) -> Object:
        """A JSON merge patch."""
        resource, where = self.resource(kind), self._namespace(kind)
        written = await self.registry.patch(
            resource, where, name, lambda current: merged(current, change), ctx or context(), subresource
        )
        return written.object

    async def delete(self, kind: str, name: str, **options: Any) -> Deleted:
        return await self.registry.delete(self.resource(kind), self._namespace(kind), name, options, context())

    async def post(self, kind: str, name: str, subresource: str, obj: Object) -> Object:
        whole = clone(obj)
        where = self._namespace(kind)
        return await self.registry.connect(self.resource(kind), where, name, subresource, whole, context())

    def get(self, kind: str, name: str) -> Object:
        resource = self.resource(kind)
        obj = self.registry.entry(resource, self._namespace(kind), name).object()
        return conversion.convert(obj, obj["apiVersion"], resource.api_version, resource)

    async def warnings(self, kind: str, obj: Object) -> list[str]:
        ctx = context()
        await self.create(kind, obj, ctx)
        return list(ctx.trace.warnings)

    async def refusal(self, work: Any) -> StatusError:
        with pytest.raises(StatusError) as caught:
            await work
        return caught.value

    async def wrong(self, work: Any) -> list[str]:
        """`FIELD: TEXT` of each cause that a write is refused for."""
        error = await self.refusal(work)
        assert error.code == 422, error
        assert error.details is not None
        return [f"{cause['field']}: {cause['message']}" for cause in error.details["causes"]]


def merged(current: Any, change: Any) -> Any:
    if not isinstance(change, Mapping):
        return change
    result = dict(current) if isinstance(current, Mapping) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def context(**more: Any) -> Context:
    return Context(UserInfo("admin", groups=("system:masters",)), field_manager="test", **more)


@asynccontextmanager
async def kinds_world(flags: Flags | None = None, store: Store | None = None) -> AsyncIterator[KindsWorld]:
    clock = SystemClock()
    resources = Resources.built_in()
    keys = Keys(resources)
    store = store or MemoryStore(clock)
    cache = WatchCache(store, ObjectCodec(keys), clock=clock)
    await store.start()
    await cache.start()
    registry = Registry(store, cache, resources, keys, clock)
    registry.admission, registry.authorizer = NoAdmission(), Everyone()
    registry.extensions["options"] = flags or Flags()
    try:
        yield KindsWorld(registry)
    finally:
        await cache.close()
        await store.close()


def meta(name: str, **more: Any) -> Object:
    return {"metadata": {"name": name, **more}}


def pod(name: str = "p", /, containers: Any = None, **spec: Any) -> Object:
    return {**meta(name), "spec": {"containers": containers or [{"name": "c", "image": "i"}], **spec}}


def template(**spec: Any) -> Object:
    return {"metadata": {"labels": {"a": "b"}}, "spec": pod(**spec)["spec"]}

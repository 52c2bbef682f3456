"""A registry on a store in memory that serves what definitions say, without admission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from kubegate.admission import Attributes
from kubegate.api import clone
from kubegate.api.clock import SystemClock
from kubegate.api.resources import Resource, Resources
from kubegate.api.status import StatusError
from kubegate.authentication import UserInfo
from kubegate.authorization import Decision, Verdict
from kubegate.registry import Context
from kubegate.registry.apiextensions import customresources
from kubegate.registry.apiextensions.definitions import RESOURCE, Definitions, watch_definitions
from kubegate.registry.codec import ObjectCodec
from kubegate.registry.generic import Registry
from kubegate.registry.internal import Internal
from kubegate.registry.keys import Keys
from kubegate.storage.cache import WatchCache
from kubegate.storage.memory import MemoryStore

Object = dict[str, Any]
GROUP = "example.org"
_TURNS = 500


class NoAdmission:
    async def admit(self, attributes: Attributes) -> None:
        pass

    async def validate(self, attributes: Attributes) -> None:
        pass


class Everyone:
    """Allows everything."""

    async def authorize(self, attributes: object) -> Decision:
        return Decision(Verdict.ALLOW)


class CrdWorld:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.definitions = registry.resources.by_group_resource(RESOURCE)

    def resource(self, plural: str, version: str = "v1") -> Resource | None:
        return self.registry.resources.get(GROUP, version, plural)

    async def define(self, definition: Object) -> Object:
        assert self.definitions is not None
        return await self.registry.create(self.definitions, "", clone(definition), context())

    async def definition(self, name: str) -> Object:
        assert self.definitions is not None
        return clone(await self.registry.get(self.definitions, "", name))

    async def serve(self, definition: Object, version: str = "v1") -> Resource:
        """Define, and wait until it is served."""
        await self.define(definition)
        plural = definition["spec"]["names"]["plural"]
        await self.until(lambda: self.resource(plural, version) is not None)
        found = self.resource(plural, version)
        assert found is not None
        return found

    async def create(self, resource: Resource, obj: Object, namespace: str = "default") -> Object:
        return await self.registry.create(resource, namespace, self._decoded(resource, obj), context())

    async def update(
        self, resource: Resource, obj: Object, subresource: str = "", namespace: str = "default"
    ) -> Object:
        name = obj["metadata"]["name"]
        decoded = self._decoded(resource, obj)
        return (await self.registry.update(resource, namespace, name, decoded, context(), subresource)).object

    def _decoded(self, resource: Resource, obj: Object) -> Object:
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **clone(obj)}
        return customresources.normalize(whole, resource).value

    async def until(self, holds: Callable[[], Any]) -> None:
        """Let everything else run until it holds."""
        for _ in range(_TURNS):
            if holds():
                return
            await asyncio.sleep(0)
        pytest.fail("it never came to hold")

    async def refusal(self, work: Any) -> StatusError:
        with pytest.raises(StatusError) as caught:
            await work
        return caught.value


def context() -> Context:
    return Context(UserInfo("admin", groups=("system:masters",)), field_manager="test")


@asynccontextmanager
async def crd_world() -> AsyncIterator[CrdWorld]:
    clock = SystemClock()
    resources = Resources.built_in()
    keys = Keys(resources)
    store = MemoryStore(clock)
    cache = WatchCache(store, ObjectCodec(keys), clock=clock)
    await store.start()
    await cache.start()
    registry = Registry(store, cache, resources, keys, clock)
    registry.admission, registry.authorizer = NoAdmission(), Everyone()
    end = watch_definitions(registry.reader, resources)
    running = asyncio.create_task(Definitions(Internal(registry), clock).run())
    try:
        yield CrdWorld(registry)
    finally:
        end()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await cache.close()
        await store.close()


def crd(
    plural: str, schema: Object | None = None, *, versions: Any = ("v1",), scope: str = "Namespaced", **more: Any
) -> Object:
    """A definition of the group example.org; `more` goes into each version, `names` into spec.names."""
    names = {"plural": plural, "kind": plural[:-1].capitalize(), **more.pop("names", {})}
    openapi = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": names,
            "versions": [
                {"name": name, "served": True, "storage": position == 0, "schema": {"openAPIV3Schema": openapi}, **more}
                for position, name in enumerate(versions)
            ],
        },
    }


def properties(**fields: Object) -> Object:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}

"""The registry where several processes of a machine write to one store."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from kubegate.api import Object
from kubegate.api.resources import Resource
from kubegate.registry import Context
from kubegate.registry.generic import Registry, Transform, Written

CHOOSING = ("services",)
"""Resources whose objects are given what no other may have (addresses, ports), chosen from what is free."""


class SharingRegistry(Registry):
    """`alone`: locks by group resource. Who makes or changes an object of these holds the lock, and so sees what others
    have been given.
    """

    alone: Mapping[str, AbstractAsyncContextManager[None]] = {}

    async def create(
        self, resource: Resource, namespace: str, obj: Object, context: Context, *, complete: bool = False
    ) -> Object:
        lock = self.alone.get(resource.group_resource)
        if lock is None:
            return await super().create(resource, namespace, obj, context, complete=complete)
        async with lock:
            await self.cache.fresh()
            return await super().create(resource, namespace, obj, context, complete=complete)

    async def write(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        transform: Transform,
        context: Context,
        subresource: str = "",
        **more: Any,
    ) -> Written:
        lock = self.alone.get(resource.group_resource)
        if lock is None:
            return await super().write(resource, namespace, name, transform, context, subresource, **more)
        async with lock:
            return await super().write(resource, namespace, name, transform, context, subresource, **more)

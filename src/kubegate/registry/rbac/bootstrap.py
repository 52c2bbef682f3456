"""Writes the bootstrap roles and bindings through the registry, at each start of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubegate.api import Object, clone, status
from kubegate.api.resources import Resource
from kubegate.authentication import MASTERS_GROUP, UserInfo
from kubegate.authorization import bootstrap
from kubegate.registry import Context

if TYPE_CHECKING:
    from kubegate.registry.generic import Registry

SERVER = UserInfo("system:apiserver", groups=(MASTERS_GROUP,))
"""Who writes: the API server itself."""


async def ensure(registry: Registry) -> int:
    """Make and mend all bootstrap roles and bindings; returns how many were written.

    The namespaces kube-system and kube-public must exist. Raises StatusError where the store or admission refuses.
    """
    return await bootstrap.reconcile(_Writer(registry))


class _Writer:
    """The registry as `bootstrap.Writer`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._registry.reader.get(resource, namespace, name)

    async def create(self, resource: str, obj: Object) -> None:
        namespace = obj["metadata"].get("namespace") or ""
        try:
            await self._registry.create(self._resource(resource), namespace, clone(obj), _context())
        except status.StatusError as error:
            if error.reason == "AlreadyExists":
                raise bootstrap.AlreadyThere from error
            raise

    async def update(self, resource: str, obj: Object) -> None:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or ""
        try:
            await self._registry.update(self._resource(resource), namespace, metadata["name"], clone(obj), _context())
        except status.StatusError as error:
            if error.reason in ("Conflict", "NotFound"):
                raise bootstrap.Changed from error
            raise

    async def delete(self, resource: str, namespace: str, name: str) -> None:
        try:
            await self._registry.delete(self._resource(resource), namespace, name, {}, _context())
        except status.StatusError as error:
            if error.reason != "NotFound":
                raise

    def _resource(self, group_resource: str) -> Resource:
        found = self._registry.resources.by_group_resource(group_resource)
        assert found is not None, f"{group_resource} is not among the resources"
        return found


def _context() -> Context:
    return Context(user=SERVER, field_manager="kube-apiserver")

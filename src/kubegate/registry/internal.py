"""The server's own hand: what bootstrap, controllers and a few admission plugins write, without asking themselves.

As kube-apiserver's loopback client: a member of system:masters, whose writes pass defaulting, validation and
managedFields. `Internal` is the Writer of `admission.dependencies`, `RoleWriter` that of `authorization.bootstrap`.
"""

from __future__ import annotations

import orjson
from msgspec.structs import replace

from kubegate.api import Object, clone, status
from kubegate.api.resources import Resource
from kubegate.authentication import AUTHENTICATED_GROUP, MASTERS_GROUP, UserInfo
from kubegate.authorization.bootstrap import AlreadyThere, Changed
from kubegate.registry import Context
from kubegate.registry.generic import Registry

LOOPBACK = UserInfo("system:apiserver", groups=(MASTERS_GROUP, AUTHENTICATED_GROUP))


def service_account_user(name: str, namespace: str = "kube-system") -> UserInfo:
    """Controllers act as service accounts of kube-system, as kube-controller-manager's do."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED_GROUP)
    return UserInfo(f"system:serviceaccount:{namespace}:{name}", groups=groups)


class Internal:
    """`resource` is a GroupResource's text; objects are in the storage version.

    `user` is who the writes are done as; `manager` the name in managedFields.
    """

    def __init__(self, registry: Registry, user: UserInfo = LOOPBACK, manager: str = "kube-apiserver") -> None:
        self.registry, self._user, self._manager = registry, user, manager

    def _resource(self, name: str) -> Resource:
        found = self.registry.resources.by_group_resource(name)
        if found is None:
            raise status.generic(404, "NotFound", "the server could not find the requested resource")
        return found

    def _context(self, kind: str) -> Context:
        options = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
        return Context(self._user, field_manager=self._manager, options=options)

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object as it is in the store now."""
        await self.registry.cache.fresh()
        entry = self.registry.cache.get(self.registry.keys.key(resource, namespace, name))
        return None if entry is None else orjson.loads(entry.data)

    async def create(self, resource: str, namespace: str, object: Object) -> Object:
        """The object, or of a review its answer. Raises StatusError AlreadyExists, Invalid, Forbidden."""
        found, context = self._resource(resource), self._context("CreateOptions")
        if not found.persistent:
            return await self.registry.connect(found, namespace, "", "", clone(object), context)
        return await self.registry.create(found, namespace, clone(object), context)

    async def update(self, resource: str, namespace: str, name: str, object: Object) -> Object:
        """Raises StatusError Conflict where the object names an older resourceVersion, NotFound where it is gone."""
        written = await self.registry.update(
            self._resource(resource), namespace, name, clone(object), self._context("UpdateOptions")
        )
        return written.object

    async def update_subresource(
        self, resource: str, namespace: str, name: str, subresource: str, object: Object
    ) -> Object:
        written = await self.registry.update(
            self._resource(resource), namespace, name, clone(object), self._context("UpdateOptions"), subresource
        )
        return written.object

    async def create_subresource(
        self, resource: str, namespace: str, name: str, subresource: str, object: Object
    ) -> Object:
        """POST to a subresource that does something (`binding`, `token`); its answer."""
        context = self._context("CreateOptions")
        return await self.registry.connect(
            self._resource(resource), namespace, name, subresource, clone(object), context
        )

    async def update_status(self, resource: str, namespace: str, name: str, object: Object) -> Object:
        return await self.update_subresource(resource, namespace, name, "status", object)

    async def scale(self, resource: str, namespace: str, name: str, replicas: int) -> None:
        """Set the replicas through the scale subresource."""
        from kubegate.registry import scale

        change = scale.ScaleChange(lambda current: {**current, "spec": {"replicas": replicas}})
        context = self._context("UpdateOptions")
        await scale.write(self.registry, self._resource(resource), namespace, name, change, context)

    async def apply(
        self, resource: str, namespace: str, name: str, object: Object, manager: str, subresource: str = ""
    ) -> Object:
        """Server-side apply as this field manager, forced."""
        context = replace(self._context("PatchOptions"), field_manager=manager)
        written = await self.registry.apply(
            self._resource(resource), namespace, name, clone(object), context, force=True, subresource=subresource
        )
        return written.object

    async def delete(self, resource: str, namespace: str, name: str, options: Object | None = None) -> None:
        """Raises StatusError NotFound, Conflict."""
        await self.registry.delete(
            self._resource(resource), namespace, name, options or {}, self._context("DeleteOptions")
        )

    async def ensure(self, resource: str, object: Object, *, current: bool = False) -> None:
        """Create what is not there; leave what is, but for its `data` where that is to be `current`."""
        meta = object["metadata"]
        found = await self.get(resource, meta.get("namespace", ""), meta["name"])
        try:
            if found is None:
                await self.create(resource, meta.get("namespace", ""), object)
            elif current and found.get("data") != object.get("data"):
                await self.update(
                    resource, meta.get("namespace", ""), meta["name"], {**found, "data": object.get("data")}
                )
        except status.StatusError as error:
            if error.reason not in ("AlreadyExists", "Conflict"):
                raise


class RoleWriter:
    """What reconciling the bootstrap roles needs of the registry."""

    def __init__(self, internal: Internal) -> None:
        self._internal = internal

    async def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return await self._internal.get(resource, namespace, name)

    async def create(self, resource: str, obj: Object) -> None:
        try:
            await self._internal.create(resource, obj["metadata"].get("namespace", ""), obj)
        except status.StatusError as error:
            raise (AlreadyThere() if error.reason == "AlreadyExists" else error) from error

    async def update(self, resource: str, obj: Object) -> None:
        meta = obj["metadata"]
        try:
            await self._internal.update(resource, meta.get("namespace", ""), meta["name"], obj)
        except status.StatusError as error:
            raise (Changed() if error.reason in ("Conflict", "NotFound") else error) from error

    async def delete(self, resource: str, namespace: str, name: str) -> None:
        await self._internal.delete(resource, namespace, name)

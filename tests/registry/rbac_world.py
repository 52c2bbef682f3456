"""A registry on a store in memory, with RBAC alone as authorizer and without admission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kubegate.admission import Attributes
from kubegate.api.clock import SystemClock
from kubegate.api.resources import Resource, Resources
from kubegate.authentication import UserInfo
from kubegate.authorization.build import AuthorizationOptions, build
from kubegate.registry import Context
from kubegate.registry.codec import ObjectCodec
from kubegate.registry.generic import Registry
from kubegate.registry.keys import Keys
from kubegate.storage.cache import WatchCache
from kubegate.storage.memory import MemoryStore

Object = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
ADMIN = UserInfo("admin", groups=("system:masters",))


class NoAdmission:
    async def admit(self, attributes: Attributes) -> None:
        pass

    async def validate(self, attributes: Attributes) -> None:
        pass


class World:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def resource(self, group_resource: str) -> Resource:
        found = self.registry.resources.by_group_resource(group_resource)
        assert found is not None
        return found

    async def create(self, resource: str, obj: Object, user: UserInfo = ADMIN, namespace: str = "") -> Object:
        found = self.resource(resource if "." in resource else f"{resource}.{GROUP}")
        return await self.registry.create(found, namespace, obj, context(user))

    async def update(
        self, resource: str, name: str, obj: Object, user: UserInfo = ADMIN, namespace: str = ""
    ) -> Object:
        found = self.resource(f"{resource}.{GROUP}")
        return (await self.registry.update(found, namespace, name, obj, context(user))).object

    async def review(self, resource: str, body: Object, user: UserInfo = ADMIN, namespace: str = "") -> Object:
        found = self.resource(f"{resource}.authorization.k8s.io")
        review = {"kind": found.kind, "apiVersion": found.api_version, **body}
        return await self.registry.connect(found, namespace, "", "", review, context(user))

    async def bind(self, role: Object, user: str, namespace: str = "") -> None:
        """Make a role (or cluster role) with these fields, and bind it to the user."""
        name = role["metadata"]["name"]
        kind = "Role" if namespace else "ClusterRole"
        await self.create("roles" if namespace else "clusterroles", role, namespace=namespace)
        subject = {"kind": "User", "name": user}
        binding = {"metadata": {"name": name}, "roleRef": {"kind": kind, "name": name}, "subjects": [subject]}
        await self.create("rolebindings" if namespace else "clusterrolebindings", binding, namespace=namespace)


def context(user: UserInfo) -> Context:
    return Context(user, field_manager="test")


def role(name: str, *rules: Object, **more: Any) -> Object:
    return {"metadata": {"name": name}, "rules": [dict(each) for each in rules], **more}


def rule(verbs: str, resources: str, group: str = "", *names: str) -> Object:
    """`rule("get list", "pods pods/log")`"""
    found: Object = {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
    return {**found, "resourceNames": list(names)} if names else found


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    clock = SystemClock()
    store = MemoryStore(clock)
    resources = Resources.built_in()
    keys = Keys(resources)
    cache = WatchCache(store, ObjectCodec(keys), clock=clock)
    await store.start()
    await cache.start()
    registry = Registry(store, cache, resources, keys, clock)
    authorization = build(AuthorizationOptions(), registry.reader, clock)
    registry.authorizer, registry.rules = authorization.authorizer, authorization.rules
    registry.extensions["rbac"] = authorization.rbac
    registry.admission = NoAdmission()
    try:
        yield World(registry)
    finally:
        await authorization.close()
        await cache.close()
        await store.close()

"""Empties a namespace that is to end, says in its status what is left, and lets it go when nothing is.

Follows pkg/controller/namespace/deletion of Kubernetes v1.36.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.api.resources import Resource, Resources
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.storage import ObjectEvent

_FINALIZER = "kubernetes"
_RETRY_SECONDS = 5.0
# Condition -> (what it says when all is well).
_GOOD = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


class Namespaces(Loop):
    """Keys are namespaces."""

    name = "namespace-controller"
    _resources: Resources

    def __init__(self) -> None:
        super().__init__()
        self._followed: set[str] = set()
        self._waiting: set[str] = set()

    def start(self, world: World) -> None:
        super().start(world)
        self._resources = world.resources
        world.reader.subscribe("namespaces", self._changed)

    def _changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED and "deletionTimestamp" in obj["metadata"]:
            self.queue.add(obj["metadata"]["name"])

    def _follow(self, resources: Iterable[Resource]) -> None:
        """Hear of what is left going, so that nobody waits for the next look at it."""

        def gone(event: ObjectEvent, obj: Object, _: Object | None) -> None:
            if event is ObjectEvent.DELETED and obj["metadata"].get("namespace") in self._waiting:
                self.queue.add(obj["metadata"]["namespace"])

        for resource in resources:
            if resource.stored_as not in self._followed:
                self._followed.add(resource.stored_as)
                self._reader.subscribe(resource.stored_as, gone)

    async def sync(self, key: str) -> None:
        self._waiting.discard(key)
        namespace = self._reader.get("namespaces", "", key)
        if namespace is None or "deletionTimestamp" not in namespace["metadata"]:
            return
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        if _FINALIZER not in finalizers:
            return
        deletable = self._deletable()
        # What guards a pod (a NetworkPolicy) must not go before it does: CVE-2024-7598.
        if not await self._emptied([one for one in deletable if one.stored_as == "pods"], key):
            return
        if not await self._emptied(deletable, key):
            return
        current = await self._client.get("namespaces", "", key)
        if current is not None:
            kept = [name for name in current["spec"].get("finalizers") or [] if name != _FINALIZER]
            await self._client.update_subresource(
                "namespaces", "", key, "finalize", {**current, "spec": {**current["spec"], "finalizers": kept}}
            )

    async def _emptied(self, resources: Sequence[Resource], key: str) -> bool:
        """Whether nothing of these is left; else it is told, and looked at again."""
        failures: list[str] = []
        for resource in resources:
            await self._empty(resource, key, failures)
        left = {one.group_resource: found for one in resources if (found := self._reader.list(one.stored_as, key))}
        if left or failures:
            self._waiting.add(key)
            self._follow(one for one in resources if one.group_resource in left)
            await self._report(key, left, failures)
            self.queue.add_at(key, self._clock.monotonic() + (0.1 if not self._held(left) else _RETRY_SECONDS))
        return not left and not failures

    def _deletable(self) -> list[Resource]:
        """One resource for each kind of stored object that lives in namespaces."""
        found: dict[str, Resource] = {}
        for resource in self._resources:
            if resource.namespaced and resource.persistent:
                found.setdefault(resource.stored_as, resource)
        return list(found.values())

    async def _empty(self, resource: Resource, namespace: str, failures: list[str]) -> None:
        for obj in self._reader.list(resource.stored_as, namespace):
            if "deletionTimestamp" in obj["metadata"]:
                continue
            try:
                await self._client.delete(
                    resource.stored_as, namespace, obj["metadata"]["name"], {"propagationPolicy": "Background"}
                )
            except StatusError as error:
                if error.reason != "NotFound":
                    failures.append(str(error))

    def _held(self, left: dict[str, Sequence[Object]]) -> bool:
        """Whether all that is left waits for finalizers, so that looking often is of no use."""
        return all(obj["metadata"].get("finalizers") for found in left.values() for obj in found)

    async def _report(self, key: str, left: dict[str, Sequence[Object]], failures: list[str]) -> None:
        problems: dict[str, tuple[str, str]] = {}
        if failures:
            text = f"Failed to delete all resource types, {len(failures)} remaining: " + ", ".join(sorted(failures))
            problems["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", text)
        if left:
            parts = [f"{name}. has {len(found)} resource instances" for name, found in sorted(left.items())]
            text = "Some resources are remaining: " + ", ".join(parts)
            problems["NamespaceContentRemaining"] = ("SomeResourcesRemain", text)
        finalizers = Counter(
            name for found in left.values() for obj in found for name in obj["metadata"].get("finalizers") or ()
        )
        if finalizers:
            parts = [f"{name} in {count} resource instances" for name, count in sorted(finalizers.items())]
            text = "Some content in the namespace has finalizers remaining: " + ", ".join(parts)
            problems["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", text)
        current = await self._client.get("namespaces", "", key)
        if current is None:
            return
        before = (current.get("status") or {}).get("conditions") or []
        conditions = [self._condition(name, problems.get(name), before) for name in _GOOD]
        if conditions != before:
            status = {**(current.get("status") or {}), "conditions": conditions}
            await self._client.update_status("namespaces", "", key, {**current, "status": status})

    def _condition(self, name: str, problem: tuple[str, str] | None, before: list[Object]) -> Object:
        value = "True" if problem else "False"
        reason, message = problem or _GOOD[name]
        since = rfc3339(self._clock.now())
        for condition in before:
            if condition["type"] == name and condition["status"] == value:
                since = condition["lastTransitionTime"]
        return {"type": name, "status": value, "lastTransitionTime": since, "reason": reason, "message": message}


def build() -> Namespaces:
    return Namespaces()

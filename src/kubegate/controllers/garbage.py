"""Garbage collection by owner references: background, foreground and orphan.

Keeps a graph of who owns whom from watches of everything that is stored. Follows pkg/controller/garbagecollector of
Kubernetes v1.36: an object goes when all its owners are gone; an owner that waits with `foregroundDeletion` goes when
no dependent blocks it; one with `orphan` is taken off its dependents' references first.
"""

from __future__ import annotations

from collections.abc import Awaitable

from msgspec import Struct, field

from kubegate.api import Object
from kubegate.api.resources import Resource, Resources
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.events import Recorder
from kubegate.registry.deletion import FOREGROUND, ORPHAN
from kubegate.storage import ObjectEvent


class Node(Struct):
    """One object of the graph, by uid. `owners` are the uids it names; `there` is false for an owner not seen yet."""

    uid: str
    resource: str = ""
    namespace: str = ""
    name: str = ""
    owners: tuple[str, ...] = ()
    dependents: set[str] = field(default_factory=set)
    there: bool = False
    ending: bool = False


class GarbageCollector(Loop):
    """Keys are uids."""

    name = "garbage-collector-controller"
    account = "generic-garbage-collector"
    _resources: Resources
    _events: Recorder

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, Node] = {}
        self._followed: set[str] = set()

    def start(self, world: World) -> None:
        super().start(world)
        self._resources = world.resources
        self._events = Recorder(self._client, self.name, world.clock)
        world.resources.on_change(self._follow_all)
        self._follow_all()

    def _follow_all(self) -> None:
        for resource in self._resources:
            if resource.persistent and resource.stored_as not in self._followed and resource.kind != "Event":
                self._followed.add(resource.stored_as)
                self._follow(resource.stored_as)

    def _follow(self, resource: str) -> None:
        def changed(event: ObjectEvent, obj: Object, _: Object | None) -> None:
            if event is ObjectEvent.DELETED:
                self._gone(obj)
            else:
                self._seen(resource, obj)

        self._reader.subscribe(resource, changed)

    # ------------------------------------------------------------------ the graph
    def _seen(self, resource: str, obj: Object) -> None:
        metadata = obj["metadata"]
        uid = metadata.get("uid", "")
        owners = tuple(reference["uid"] for reference in metadata.get("ownerReferences") or ())
        if not owners and uid not in self._nodes and not metadata.get("deletionTimestamp"):
            return  # most objects own nothing and belong to nobody: they cost nothing here until somebody names them
        node = self._node(uid)
        node.resource, node.namespace, node.name = resource, metadata.get("namespace", ""), metadata["name"]
        node.there, node.ending = True, bool(metadata.get("deletionTimestamp"))
        for lost in set(node.owners) - set(owners):
            self._unlink(lost, uid)
        for owner in owners:
            self._node(owner).dependents.add(uid)
        node.owners = owners
        if owners:
            self.queue.add(uid)
        finalizers = metadata.get("finalizers") or ()
        if node.ending and (FOREGROUND in finalizers or ORPHAN in finalizers):
            self.queue.add(uid)

    def _gone(self, obj: Object) -> None:
        node = self._nodes.pop(obj["metadata"].get("uid", ""), None)
        if node is None:
            return
        for dependent in node.dependents:
            self.queue.add(dependent)
        for owner in node.owners:
            self._unlink(owner, node.uid)
            self.queue.add(owner)

    def _unlink(self, owner: str, dependent: str) -> None:
        found = self._nodes.get(owner)
        if found is not None:
            found.dependents.discard(dependent)
            if not found.dependents and not found.there:
                del self._nodes[owner]

    def _node(self, uid: str) -> Node:
        return self._nodes.setdefault(uid, Node(uid))

    # ------------------------------------------------------------------ the work
    async def sync(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None or not node.there:
            return
        obj = self._reader.get(node.resource, node.namespace, node.name)
        if obj is None or obj["metadata"].get("uid") != key:
            return
        metadata = obj["metadata"]
        if metadata.get("deletionTimestamp"):
            finalizers = metadata.get("finalizers") or []
            if ORPHAN in finalizers:
                await self._orphan(node, obj)
            elif FOREGROUND in finalizers:
                await self._foreground(node, obj)
            return
        if metadata.get("ownerReferences"):
            await self._judge(node, obj)

    async def _judge(self, node: Node, obj: Object) -> None:
        """Delete what no owner keeps; take off references to owners that are gone where others stay."""
        references = obj["metadata"]["ownerReferences"]
        solid, dangling, waiting = [], [], []
        for reference in references:
            owner = await self._owner(reference, node.namespace)
            if owner is None:
                dangling.append(reference)
                if self._is_elsewhere(reference, node.namespace):
                    await self._tell_of_namespace(reference, obj)
            elif owner["metadata"].get("deletionTimestamp") and FOREGROUND in (
                owner["metadata"].get("finalizers") or ()
            ):
                waiting.append(reference)
            else:
                solid.append(reference)
        if solid:
            if dangling or waiting:
                await self._keep_references(node, obj, solid)
            return
        if not dangling and not waiting:
            return
        policy = "Foreground" if waiting and node.dependents else "Background"
        options = {"propagationPolicy": policy, "preconditions": {"uid": node.uid}}
        finalizers = obj["metadata"].get("finalizers") or ()
        if ORPHAN in finalizers:
            options["propagationPolicy"] = "Orphan"
        elif FOREGROUND in finalizers:
            options["propagationPolicy"] = "Foreground"
        await self._gracefully(self._client.delete(node.resource, node.namespace, node.name, options))

    def _is_elsewhere(self, reference: Object, namespace: str) -> bool:
        """Whether the owner is in another namespace, from which nobody can be owned."""
        known = self._nodes.get(reference["uid"])
        if known is None or not namespace:
            return False
        if known.there:
            return known.namespace not in ("", namespace)
        resource = _any_version(self._resources, reference["apiVersion"].rpartition("/")[0], reference["kind"])
        if resource is None or not resource.namespaced:
            return False
        return any(one["metadata"].get("uid") == known.uid for one in self._reader.list(resource.stored_as))

    async def _tell_of_namespace(self, reference: Object, obj: Object) -> None:
        about = {"metadata": {name: obj["metadata"][name] for name in ("name", "namespace", "uid")}}
        namespace = about["metadata"]["namespace"]
        owner = (
            f"[{reference['apiVersion']}/{reference['kind']}, namespace: {namespace}, name: {reference['name']}, "
            f"uid: {reference['uid']}]"
        )
        text = f'ownerRef {owner} does not exist in namespace "{namespace}"'
        await self._events.warning(obj["apiVersion"], obj["kind"], about, "OwnerRefInvalidNamespace", text)

    async def _owner(self, reference: Object, namespace: str) -> Object | None:
        """The owner as it is now, None where it is gone (or another has its name)."""
        group, _, version = reference["apiVersion"].rpartition("/")
        resource = self._resources.by_kind(group, version, reference["kind"])
        if resource is None:
            resource = _any_version(self._resources, group, reference["kind"])
        if resource is None:
            raise StatusError(404, "", f"no resource serves {reference['apiVersion']} {reference['kind']}")
        place = namespace if resource.namespaced else ""
        found = self._reader.get(resource.stored_as, place, reference["name"])
        if found is None or found["metadata"].get("uid") != reference["uid"]:
            found = await self._client.get(resource.stored_as, place, reference["name"])
        return found if found is not None and found["metadata"].get("uid") == reference["uid"] else None

    async def _keep_references(self, node: Node, obj: Object, kept: list[Object]) -> None:
        changed = {**obj, "metadata": {**obj["metadata"], "ownerReferences": kept}}
        await self._gracefully(self._client.update(node.resource, node.namespace, node.name, changed))

    async def _foreground(self, node: Node, obj: Object) -> None:
        """An owner that waits for its dependents: let the blocking ones go, then itself."""
        blocking = []
        for uid in list(node.dependents):
            dependent = self._nodes.get(uid)
            found = (
                dependent
                and dependent.there
                and self._reader.get(dependent.resource, dependent.namespace, dependent.name)
            )
            if not found:
                continue
            self.queue.add(uid)
            references = found["metadata"].get("ownerReferences") or ()
            if any(r["uid"] == node.uid and r.get("blockOwnerDeletion") for r in references):
                blocking.append(uid)
        if not blocking:
            await self._drop_finalizer(node, FOREGROUND)

    async def _orphan(self, node: Node, obj: Object) -> None:
        for uid in list(node.dependents):
            dependent = self._nodes.get(uid)
            if dependent is None or not dependent.there:
                continue
            found = await self._client.get(dependent.resource, dependent.namespace, dependent.name)
            if found is None:
                continue
            references = found["metadata"].get("ownerReferences") or []
            kept = [reference for reference in references if reference["uid"] != node.uid]
            if len(kept) != len(references):
                await self._keep_references(dependent, found, kept)
        await self._drop_finalizer(node, ORPHAN)

    async def _drop_finalizer(self, node: Node, finalizer: str) -> None:
        current = await self._client.get(node.resource, node.namespace, node.name)
        if current is None:
            return
        finalizers = [name for name in current["metadata"].get("finalizers") or [] if name != finalizer]
        changed = {**current, "metadata": {**current["metadata"], "finalizers": finalizers}}
        await self._gracefully(self._client.update(node.resource, node.namespace, node.name, changed))

    async def _gracefully(self, write: Awaitable[object]) -> None:
        """Await a write that may find its object gone already."""
        try:
            await write
        except StatusError as error:
            if error.reason != "NotFound":
                raise


def _any_version(resources: Resources, group: str, kind: str) -> Resource | None:
    for resource in resources:
        if resource.group == group and resource.kind == kind:
            return resource
    return None


def build() -> GarbageCollector:
    return GarbageCollector()

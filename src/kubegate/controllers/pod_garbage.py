"""Pods whose node is gone go, for nobody will say how they end. Follows pkg/controller/podgc of Kubernetes v1.36."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import key_of, pod_phase, split_key, tolerant
from kubegate.storage import ObjectEvent

_QUARANTINE_SECONDS = 40.0  # a node that was deleted may be on its way back


class PodGarbage(Loop):
    """Keys are nodes."""

    name = "pod-garbage-collector-controller"
    account = "pod-garbage-collector"

    def __init__(self) -> None:
        super().__init__()
        self._nodes: set[str] = set()
        self._on_node: dict[str, set[str]] = {}

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe("nodes", self._node_changed)
        world.reader.subscribe("pods", self._pod_changed)

    def _node_changed(self, event: ObjectEvent, node: Object, _: Object | None) -> None:
        name = node["metadata"]["name"]
        if event is not ObjectEvent.DELETED:
            self._nodes.add(name)
        else:
            self._nodes.discard(name)
            if name in self._on_node:
                self._look_later(name)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        key, node = key_of(pod), pod["spec"].get("nodeName")
        if not node:
            return
        if event is ObjectEvent.DELETED:
            keys = self._on_node.get(node, set())
            keys.discard(key)
            if not keys:
                self._on_node.pop(node, None)
            return
        known = self._on_node.setdefault(node, set())
        if key not in known:
            known.add(key)
            if node not in self._nodes:
                self._look_later(node)

    def _look_later(self, node: str) -> None:
        self.queue.add_at(node, self._clock.monotonic() + _QUARANTINE_SECONDS)

    async def sync(self, key: str) -> None:
        if key in self._nodes:
            return
        for found in sorted(self._on_node.get(key, ())):
            namespace, name = split_key(found)
            pod = self._reader.get("pods", namespace, name)
            if pod is not None and pod["spec"].get("nodeName") == key:
                await self._end(pod)

    async def _end(self, pod: Object) -> None:
        metadata, status = pod["metadata"], pod.get("status") or {}
        seen = {"observedGeneration": metadata.get("generation", 0)}
        namespace, name = metadata["namespace"], metadata["name"]
        if pod_phase(pod) not in ("Succeeded", "Failed"):
            told = {
                "type": "DisruptionTarget",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": rfc3339(self._clock.now()),
                "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists",
                **seen,
            }
            others = [one for one in status.get("conditions") or () if one["type"] != "DisruptionTarget"]
            changed = {**pod, "status": {**status, **seen, "phase": "Failed", "conditions": [*others, told]}}
            if await tolerant(self._client.update_status("pods", namespace, name, changed)) is None:
                return
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        await tolerant(self._client.delete("pods", namespace, name, options), "NotFound", "Conflict")


def build() -> PodGarbage:
    return PodGarbage()

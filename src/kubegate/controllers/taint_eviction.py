"""Pods go from nodes whose NoExecute taints they do not bear, or not for so long.

Follows pkg/controller/tainteviction of Kubernetes v1.36.
"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.daemonsets import tolerates
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import ending, key_of, pod_phase, split_key, tolerant
from kubegate.storage import ObjectEvent

_FOREVER = float("inf")


class TaintEviction(Loop):
    """Keys are pods. How long a taint has been borne is counted from when it was first seen here."""

    name = "taint-eviction-controller"
    account = "node-controller"
    _events: Recorder

    def __init__(self) -> None:
        super().__init__()
        self._on_node: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, self.name, world.clock)
        world.reader.subscribe("nodes", self._node_changed)
        world.reader.subscribe("pods", self._pod_changed)

    def _node_changed(self, event: ObjectEvent, node: Object, previous: Object | None) -> None:
        if event is ObjectEvent.DELETED or _taints(node) == _taints(previous):
            return
        for key in self._on_node.get(node["metadata"]["name"], ()):
            self.queue.add(key)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        key, node = key_of(pod), pod["spec"].get("nodeName")
        if not node:
            return
        if event is ObjectEvent.DELETED:
            self._since.pop(pod["metadata"]["uid"], None)
            keys = self._on_node.get(node, set())
            keys.discard(key)
            if not keys:
                self._on_node.pop(node, None)
            return
        self._on_node.setdefault(node, set()).add(key)
        if previous is None or previous["spec"] != pod["spec"]:
            self.queue.add(key)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._reader.get("pods", namespace, name)
        if pod is None or ending(pod) or pod_phase(pod) in ("Succeeded", "Failed"):
            return
        uid, now = pod["metadata"]["uid"], self._clock.now()
        seconds = self._borne(pod)
        if seconds == _FOREVER:
            if self._since.pop(uid, None) is not None:
                await self._event(pod, f"Cancelling deletion of Pod {key}")
            return
        since = self._since.setdefault(uid, now)
        if since + seconds > now:
            self.queue.add_at(key, self._clock.monotonic() + since + seconds - now)
            return
        await self._event(pod, f"Marking for deletion Pod {key}")
        await self._mark(pod)
        await tolerant(
            self._client.delete("pods", namespace, name, {"preconditions": {"uid": uid}}), "NotFound", "Conflict"
        )

    def _borne(self, pod: Object) -> float:
        """For how many seconds the pod bears its node's taints."""
        node = self._reader.get("nodes", "", pod["spec"].get("nodeName", ""))
        found = [_FOREVER]
        for taint in _taints(node):
            bearing = [one for one in pod["spec"].get("tolerations") or () if tolerates(one, taint)]
            if not bearing:
                return 0.0
            found += [float(max(one["tolerationSeconds"], 0)) for one in bearing if "tolerationSeconds" in one]
        return min(found)

    async def _mark(self, pod: Object) -> None:
        """Say in the pod's status why it goes."""
        status = pod.get("status") or {}
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": pod["metadata"].get("generation", 0),
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": rfc3339(self._clock.now()),
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }
        others = [one for one in status.get("conditions") or () if one["type"] != "DisruptionTarget"]
        changed = {**pod, "status": {**status, "conditions": [*others, condition]}}
        metadata = pod["metadata"]
        await tolerant(self._client.update_status("pods", metadata["namespace"], metadata["name"], changed))

    async def _event(self, pod: Object, message: str) -> None:
        await self._events.normal("v1", "Pod", pod, "TaintManagerEviction", message)


def _taints(node: Object | None) -> list[Object]:
    found = ((node or {}).get("spec") or {}).get("taints") or ()
    return [taint for taint in found if taint.get("effect") == "NoExecute"]


def build() -> TaintEviction:
    return TaintEviction()

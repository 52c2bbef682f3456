"""What becomes of nodes: taints that follow their conditions, and what is said of those whose kubelet is silent.

Follows pkg/controller/nodelifecycle of Kubernetes v1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.clock import rfc3339
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import condition, created_at, tolerant
from kubegate.controllers.zones import Zone, Zones
from kubegate.storage import ObjectEvent

_LEASES, _LEASES_NAMESPACE = "leases.coordination.k8s.io", "kube-node-lease"
_PASS = "pass of all"  # no node's name: it has spaces
_EVICT = "evict from some"
_PASS_SECONDS = 5.0
_STARTUP_GRACE, _GRACE = 60.0, 50.0  # for a node that never said whether it is ready, and for one that did
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_EXCLUDED = "node.kubernetes.io/exclude-disruption"
# (condition, status) -> the taint that keeps new pods away
_NO_SCHEDULE = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_OURS = {*_NO_SCHEDULE.values(), _UNSCHEDULABLE}
_NO_EXECUTE = {"False": NOT_READY, "Unknown": UNREACHABLE}  # by the status of Ready
_OTHER = {NOT_READY: UNREACHABLE, UNREACHABLE: NOT_READY}
_WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_SAME_LABELS = {f"kubernetes.io/{name}": f"beta.kubernetes.io/{name}" for name in ("os", "arch")}


class _Health(Struct):
    """When a node was last heard of, and what it said then."""

    heard: float
    heartbeat: str | None
    renewed: str = ""


class NodeLifecycle(Loop):
    """Keys are nodes, whose taints and labels are looked at when they change, and `_PASS` every five seconds."""

    name = "node-lifecycle-controller"
    account = "node-controller"
    _events: Recorder

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, Object] = {}
        self._registered: dict[str, Object] = {}
        self._health: dict[str, _Health] = {}
        self._zones = Zones()

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "node-controller", world.clock)
        world.reader.subscribe("nodes", self._changed)
        self.queue.add(_PASS)

    def _changed(self, event: ObjectEvent, node: Object, _: Object | None) -> None:
        name = node["metadata"]["name"]
        if event is ObjectEvent.DELETED:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = node
            self.queue.add(name)

    async def sync(self, key: str) -> None:
        if key == _PASS:
            self.queue.add_at(_PASS, self._clock.monotonic() + _PASS_SECONDS)
            await self._look_at_all()
            self.queue.add(_EVICT)
        elif key == _EVICT:
            await self._evict()
        elif (node := self._nodes.get(key)) is not None:
            wanted = _wanted_taints(node)
            there = {one["key"] for one in _taints(node) if one.get("effect") == "NoSchedule" and one["key"] in _OURS}
            add = [one for one in wanted if one not in there]
            await self._retaint(key, "NoSchedule", add, there.difference(wanted))
            await self._copy_labels(key)

    # ------------------------------------------------------------------ writes
    async def _retaint(self, name: str, effect: str, add: Iterable[str], remove: Iterable[str]) -> None:
        node = self._nodes.get(name)
        if node is None:
            return
        gone = {(key, effect) for key in remove}
        taints = [one for one in _taints(node) if (one["key"], one.get("effect")) not in gone]
        there = {(one["key"], one.get("effect")) for one in taints}
        since = rfc3339(self._clock.now())
        taints += [{"key": key, "effect": effect, "timeAdded": since} for key in add if (key, effect) not in there]
        if taints != _taints(node):
            spec = {**(node.get("spec") or {}), "taints": taints}
            if not taints:
                del spec["taints"]
            await tolerant(self._client.update("nodes", "", name, {**node, "spec": spec}))

    async def _copy_labels(self, name: str) -> None:
        """The labels that kubelets had before kubernetes.io/os and /arch say what these say."""
        node = self._nodes.get(name)
        if node is None:
            return
        labels = node["metadata"].get("labels") or {}
        copied = {old: labels[label] for label, old in _SAME_LABELS.items() if label in labels}
        if any(labels.get(old) != value for old, value in copied.items()):
            metadata = {**node["metadata"], "labels": {**labels, **copied}}
            await tolerant(self._client.update("nodes", "", name, {**node, "metadata": metadata}))

    async def _tell(self, node: Object, reason: str, message: str) -> None:
        about = {"metadata": {name: node["metadata"][name] for name in ("name", "uid")}}
        await self._events.normal("v1", "Node", about, reason, f"Node {node['metadata']['name']} {message}")

    # ------------------------------------------------------------------ health
    async def _look_at_all(self) -> None:
        for name in [name for name in self._nodes if name not in self._registered]:
            self._registered[name] = self._nodes[name]
            await self._tell(self._nodes[name], "RegisteredNode", f"event: Registered Node {name} in Controller")
            await self._reachable(name)
        for name in [name for name in self._registered if name not in self._nodes]:
            gone = self._registered.pop(name)
            self._health.pop(name, None)
            await self._tell(gone, "RemovingNode", f"event: Removing Node {name} from Controller")
        ready_in: dict[str, list[bool]] = {}
        for node in list(self._nodes.values()):
            observed = _ready(node)
            node = await self._look_at(node)
            if _EXCLUDED not in (node["metadata"].get("labels") or {}):
                ready_in.setdefault(Zones.of(node), []).append(_ready(node) == "True")
            if _ready(node) is not None:
                await self._follow(node, observed or "Unknown")
        await self._disruption(ready_in)

    async def _look_at(self, node: Object) -> Object:
        """The node as it is now: where nothing was heard of it for too long, that is said in its conditions."""
        name, now = node["metadata"]["name"], self._clock.now()
        ready = condition(node, "Ready")
        heartbeat = None if ready is None else str(ready.get("lastHeartbeatTime"))
        health = self._health.get(name)
        if health is None:
            health = self._health[name] = _Health(created_at(node) if ready is None else now, heartbeat)
        elif health.heartbeat != heartbeat:
            health.heard, health.heartbeat = now, heartbeat
        lease = self._reader.get(_LEASES, _LEASES_NAMESPACE, name)
        renewed = str(((lease or {}).get("spec") or {}).get("renewTime") or "")
        if renewed > health.renewed:
            health.heard, health.renewed = now, renewed
        if now <= health.heard + (_STARTUP_GRACE if ready is None else _GRACE):
            return node
        conditions = _silenced(node, rfc3339(now))
        if conditions == ((node.get("status") or {}).get("conditions") or []):
            return node
        status = {**(node.get("status") or {}), "conditions": conditions}
        written = self._client.update_status("nodes", "", name, {**node, "status": status})
        found = await tolerant(written, "NotFound", "Conflict")
        if found is not None:
            health.heartbeat = str((condition(found, "Ready") or {}).get("lastHeartbeatTime"))
        return found or node

    async def _follow(self, node: Object, observed: str) -> None:
        """What a node's readiness means for its pods."""
        name, ready = node["metadata"]["name"], _ready(node)
        if observed == "True":
            await self._reachable(name)
        else:
            await self._taint_in_turn(node, _NO_EXECUTE.get(observed, UNREACHABLE))
        if ready != "True" and observed == "True":
            await self._tell(node, "NodeNotReady", "status is now: NodeNotReady")
            await self._pods_not_ready(name)

    async def _taint_in_turn(self, node: Object, taint: str) -> None:
        there = {one["key"] for one in _taints(node) if one.get("effect") == "NoExecute"}
        if _OTHER[taint] in there:
            await self._taint_with(node["metadata"]["name"], taint)
        elif taint not in there:
            self._zones.waiting(node)

    async def _taint_with(self, name: str, taint: str) -> None:
        await tolerant(self._retaint(name, "NoExecute", [taint], [_OTHER[taint]]), "Conflict")

    async def _reachable(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is not None:
            self._zones.forget(node)
            await tolerant(self._retaint(name, "NoExecute", (), (NOT_READY, UNREACHABLE)), "Conflict")

    async def _pods_not_ready(self, name: str) -> None:
        for pod in self._reader.list("pods"):
            ready = condition(pod, "Ready") if pod["spec"].get("nodeName") == name else None
            if ready is None or ready.get("status") == "False":
                continue
            told = {**ready, "status": "False", "lastTransitionTime": rfc3339(self._clock.now())}
            told["observedGeneration"] = pod["metadata"].get("generation", 0)
            conditions = [told if one is ready else one for one in pod["status"]["conditions"]]
            metadata, changed = pod["metadata"], {**pod, "status": {**pod["status"], "conditions": conditions}}
            written = self._client.update_status("pods", metadata["namespace"], metadata["name"], changed)
            if await tolerant(written, "NotFound", "Conflict") is not None:
                await self._events.warning("v1", "Pod", pod, "NodeNotReady", "Node is not ready")

    # ------------------------------------------------------------------ evictions
    async def _disruption(self, ready_in: dict[str, list[bool]]) -> None:
        """Where no node at all is ready it is more likely our own sight that fails: nobody is driven away."""
        turn = self._zones.look(ready_in)
        if turn is Zone.FULL:
            for name in list(self._nodes):
                await self._reachable(name)
        elif turn is Zone.NORMAL:
            for health in self._health.values():
                health.heard = self._clock.now()

    async def _evict(self) -> None:
        """Taint those nodes whose turn it is; their pods are the taint eviction controller's."""
        now = self._clock.monotonic()
        for name in self._zones.due(now):
            node = self._nodes.get(name)
            taint = _NO_EXECUTE.get(_ready(node) or "") if node is not None else None
            if taint is not None:
                await self._taint_with(name, taint)
        later = self._zones.next_due()
        if later is not None:
            self.queue.add_at(_EVICT, later)


def _taints(node: Object) -> Sequence[Object]:
    found: Sequence[Object] = (node.get("spec") or {}).get("taints") or []
    return found


def _ready(node: Object | None) -> str | None:
    """The status of the Ready condition; None where there is none."""
    found = condition(node or {}, "Ready")
    return None if found is None else str(found.get("status"))


def _wanted_taints(node: Object) -> list[str]:
    conditions = (node.get("status") or {}).get("conditions") or ()
    told = [_NO_SCHEDULE.get((one.get("type", ""), one.get("status", ""))) for one in conditions]
    unschedulable = [_UNSCHEDULABLE] if (node.get("spec") or {}).get("unschedulable") else []
    return [*dict.fromkeys(key for key in told if key), *unschedulable]


def _silenced(node: Object, now: str) -> list[Object]:
    """The conditions of a node of which nothing was heard for too long."""
    changed = []
    for one in (node.get("status") or {}).get("conditions") or ():
        if one["type"] in _WATCHED and one.get("status") != "Unknown":
            told = {"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
            one = {**one, "status": "Unknown", "lastTransitionTime": now, **told}
        changed.append(one)
    there = {one["type"] for one in changed}
    told = {"reason": "NodeStatusNeverUpdated", "message": "Kubelet never posted node status."}
    since = {"lastHeartbeatTime": node["metadata"]["creationTimestamp"], "lastTransitionTime": now}
    return changed + [{"type": sort, "status": "Unknown", **since, **told} for sort in _WATCHED if sort not in there]


def build() -> NodeLifecycle:
    return NodeLifecycle()

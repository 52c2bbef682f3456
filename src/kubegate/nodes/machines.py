"""The Node objects and their heartbeats: a Lease each in kube-node-lease, renewed as kubelets do.

A node that somebody deletes is not made again until the next start, as with a kubelet that goes on running.
"""

from __future__ import annotations

from collections.abc import Callable

from kubegate.api import Object
from kubegate.api.clock import rfc3339, rfc3339_micro
from kubegate.authentication import AUTHENTICATED_GROUP, UserInfo
from kubegate.controllers.objects import ending, is_true, tolerant
from kubegate.controllers.queue import Queue
from kubegate.nodes import LEASES, RUNTIME, World, node_user
from kubegate.nodes.addresses import PODS_OF_A_NODE, node_address, node_names, pod_network
from kubegate.storage import ObjectEvent

_RENEW_SECONDS, _LEASE_SECONDS = 10, 40
_STATUS_SECONDS = 300.0
_LEASE_RESOURCE = "leases.coordination.k8s.io"
_SPARE = "spare"
_NOT_READY = "node.kubernetes.io/not-ready"
_NODE_CONTROLLER = UserInfo(
    "system:serviceaccount:kube-system:node-controller",
    groups=("system:serviceaccounts", "system:serviceaccounts:kube-system", AUTHENTICATED_GROUP),
)
_CAPACITY = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": str(PODS_OF_A_NODE)}
# type, status, reason, message, in the kubelet's order and words
_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


class Machines:
    """Keys are names of nodes, `taint:NAME`, and `spare` once: the nodes that an earlier start has left."""

    name = "simulated-nodes"

    def __init__(self, world: World, count: int, version: str) -> None:
        self.queue = Queue()
        self._world, self._version = world, version
        self._names = {name: number for number, name in enumerate(node_names(count), 1)}
        self._registered: set[str] = set()

    def number(self, name: str) -> int:
        """The number of a node that is simulated here; 0 of any other."""
        return self._names.get(name, 0)

    def start(self) -> Callable[[], None]:
        self.queue.add(_SPARE)
        for name in self._names:
            self.queue.add(name)
        return self._world.reader.subscribe("nodes", self._changed)

    def _changed(self, event: ObjectEvent, node: Object, _: Object | None) -> None:
        name = node["metadata"]["name"]
        if event is not ObjectEvent.DELETED and name in self._names and _has_taint(node) and is_true(node, "Ready"):
            self.queue.add(f"taint:{name}")

    async def sync(self, key: str) -> None:
        if key == _SPARE:
            await self._forget_spare()
            return
        if key.startswith("taint:"):
            await self._take_taint_off(key.removeprefix("taint:"))
            return
        client = self._world.clients(node_user(key), "kubelet")
        node = await client.get("nodes", "", key)
        if node is None and key in self._registered:
            return
        now = self._world.clock.now()
        if node is None:
            node = await client.create("nodes", "", self._node(key, now))
        elif key not in self._registered or self._stale(node, now):
            status = {**(node.get("status") or {}), **self._status(key, now, node)}
            node = await client.update_status("nodes", "", key, {**node, "status": status})
        self._registered.add(key)
        await self._renew(key, node, now)
        self.queue.add_at(key, self._world.clock.monotonic() + _RENEW_SECONDS)

    async def _forget_spare(self) -> None:
        """Delete nodes that an earlier start with more of them has left."""
        client = self._world.clients(_NODE_CONTROLLER, "kube-controller-manager")
        for node in self._world.reader.list("nodes"):
            name = node["metadata"]["name"]
            info = (node.get("status") or {}).get("nodeInfo") or {}
            if name not in self._names and str(info.get("containerRuntimeVersion", "")).startswith(f"{RUNTIME}://"):
                await tolerant(client.delete("nodes", "", name))
                await tolerant(client.delete(_LEASE_RESOURCE, LEASES, name))

    async def _take_taint_off(self, name: str) -> None:
        """What the node lifecycle controller does of a node that has come to be ready."""
        client = self._world.clients(_NODE_CONTROLLER, "kube-controller-manager")
        node = await client.get("nodes", "", name)
        if node is None or ending(node) or not _has_taint(node) or not is_true(node, "Ready"):
            return
        spec = {**node["spec"], "taints": [taint for taint in node["spec"]["taints"] if taint["key"] != _NOT_READY]}
        await tolerant(client.update("nodes", "", name, {**node, "spec": spec}))

    # ------------------------------------------------------------------ objects
    def _node(self, name: str, now: float) -> Object:
        network = pod_network(self._names[name])
        labels = {"kubernetes.io/hostname": name}
        for key, value in (("arch", "amd64"), ("os", "linux")):
            labels |= {f"beta.kubernetes.io/{key}": value, f"kubernetes.io/{key}": value}
        return {
            "metadata": {"name": name, "labels": labels},
            "spec": {"podCIDR": network, "podCIDRs": [network], "providerID": f"{RUNTIME}://kubegate/{name}"},
            "status": self._status(name, now, None),
        }

    def _status(self, name: str, now: float, node: Object | None) -> Object:
        before = {one["type"]: one for one in ((node or {}).get("status") or {}).get("conditions") or ()}
        conditions = []
        for sort, value, reason, message in _CONDITIONS:
            old = before.get(sort, {})
            since = old["lastTransitionTime"] if old.get("status") == value else rfc3339(now)
            told = {"type": sort, "status": value, "reason": reason, "message": message}
            conditions.append({**told, "lastHeartbeatTime": rfc3339(now), "lastTransitionTime": since})
        address = node_address(self._names[name])
        return {
            "capacity": dict(_CAPACITY),
            "allocatable": dict(_CAPACITY),
            "conditions": conditions,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
                "kernelVersion": "",
                "osImage": "kubegate simulated node",
                "containerRuntimeVersion": f"{RUNTIME}://1.0",
                "kubeletVersion": self._version,
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        }

    def _stale(self, node: Object, now: float) -> bool:
        found = [one for one in (node.get("status") or {}).get("conditions") or () if one.get("type") == "Ready"]
        return not found or found[0].get("lastHeartbeatTime", "") <= rfc3339(now - _STATUS_SECONDS)

    async def _renew(self, name: str, node: Object, now: float) -> None:
        client = self._world.clients(node_user(name), "kubelet")
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": _LEASE_SECONDS,
            "renewTime": rfc3339_micro(now),
        }
        lease = await client.get(_LEASE_RESOURCE, LEASES, name)
        metadata = {**((lease or {}).get("metadata") or {"name": name, "namespace": LEASES})}
        metadata["ownerReferences"] = [owner]
        wanted = {"metadata": metadata, "spec": spec}
        if lease is None:
            await client.create(_LEASE_RESOURCE, LEASES, wanted)
        else:
            await client.update(_LEASE_RESOURCE, LEASES, name, wanted)


def _has_taint(node: Object) -> bool:
    return any(taint.get("key") == _NOT_READY for taint in (node.get("spec") or {}).get("taints") or ())

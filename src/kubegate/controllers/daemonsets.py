"""DaemonSets: a pod on every node that takes it. Follows pkg/controller/daemon of Kubernetes v1.36."""

from __future__ import annotations

from kubegate.api import Object, selectors
from kubegate.controllers import World, revisions
from kubegate.controllers.base import Loop
from kubegate.controllers.claims import Owner, claim
from kubegate.controllers.events import Recorder
from kubegate.controllers.nodeselectors import matches_node
from kubegate.controllers.objects import (
    controlled_by,
    controller_keys,
    controller_reference,
    ending,
    key_of,
    pod_available,
    pod_phase,
    pod_ready,
    split_key,
    tolerant,
    without_empty,
)
from kubegate.controllers.replicasets import pod_of
from kubegate.controllers.templates import template_hash
from kubegate.storage import ObjectEvent

_SETS = "daemonsets.apps"
_GENERATION_LABEL = "pod-template-generation"
_GENERATION = "deprecated.daemonset.template.generation"
# What pods of DaemonSets bear, whatever the node suffers from: (taint, effect).
_TOLERATED = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_NO_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")
_EVICTING = ("NoExecute",)


class DaemonSets(Loop):
    """Keys are `NAMESPACE/NAME`."""

    name = "daemonset-controller"
    account = "daemon-set-controller"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "daemonset-controller", world.clock)
        world.reader.subscribe(_SETS, self._there)
        world.reader.subscribe("pods", self._pod_changed)
        world.reader.subscribe("nodes", self._node_changed)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        for key in controller_keys("DaemonSet", pod, previous):
            self.queue.add(key)

    def _node_changed(self, event: ObjectEvent, node: Object, previous: Object | None) -> None:
        if previous is None or event is ObjectEvent.DELETED or _taking(node) != _taking(previous):
            for found in self._reader.list(_SETS):
                self.queue.add(key_of(found))

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        owner = await self._client.get(_SETS, namespace, name)
        if owner is None:
            return
        selector = selectors.from_object(owner["spec"]["selector"])
        mine = Owner("apps/v1", "DaemonSet", _SETS, owner)
        pods = await claim(self._client, mine, selector, "pods", self._reader.list("pods", namespace))
        collisions = (owner.get("status") or {}).get("collisionCount")
        update, known = await revisions.current(
            self._reader,
            self._client,
            "DaemonSet",
            owner,
            lambda _: template_hash(owner["spec"]["template"], collisions),
            revisions.HASH_LABEL,
        )
        digest = update["metadata"]["labels"][revisions.HASH_LABEL]
        nodes = {node["metadata"]["name"]: node for node in self._reader.list("nodes")}
        template = owner["spec"]["template"]
        wanted = {name for name, node in nodes.items() if runs_on(template, node)}
        kept = {name for name, node in nodes.items() if runs_on(template, node, _EVICTING)}
        if not ending(owner):
            await self._step(owner, pods, wanted, kept, digest)
        pods = controlled_by(owner, self._reader.list("pods", namespace))
        await self._write_status(owner, pods, wanted, digest)
        live = {f"{name}-{(pod['metadata'].get('labels') or {}).get(revisions.HASH_LABEL)}" for pod in pods}
        live.add(update["metadata"]["name"])
        await revisions.forget(self._client, known, live, owner["spec"].get("revisionHistoryLimit", 10))

    async def _step(self, owner: Object, pods: list[Object], wanted: set[str], kept: set[str], digest: str) -> None:
        """A pod on each of the `wanted` nodes. Those on others go, but from `kept`, which only take no new ones."""
        by_node: dict[str, list[Object]] = {}
        for pod in pods:
            if pod_phase(pod) in ("Failed", "Succeeded"):
                await self._delete(owner, pod)
            else:
                by_node.setdefault(node_of(pod), []).append(pod)
        for node, found in by_node.items():
            for pod in found[1:] if node in wanted or node in kept else found:
                if not ending(pod):
                    await self._delete(owner, pod)
        for node in sorted(wanted - by_node.keys()):
            made = await self._client.create("pods", owner["metadata"]["namespace"], _pod(owner, node, digest))
            text = f"Created pod: {made['metadata']['name']}"
            await self._events.normal("apps/v1", "DaemonSet", owner, "SuccessfulCreate", text)
        if (owner["spec"].get("updateStrategy") or {}).get("type") != "OnDelete":
            await self._replace(owner, [found[0] for node, found in by_node.items() if node in wanted], digest)

    async def _replace(self, owner: Object, pods: list[Object], digest: str) -> None:
        """Delete one pod of an older template, once all others are available."""
        old = [pod for pod in pods if _digest(pod) != digest and not ending(pod)]
        broken = [pod for pod in old if not pod_ready(pod)]
        for pod in broken:
            await self._delete(owner, pod)
        if old and not broken and all(pod_ready(pod) and not ending(pod) for pod in pods):
            await self._delete(owner, old[0])

    async def _delete(self, owner: Object, pod: Object) -> None:
        name = pod["metadata"]["name"]
        await tolerant(self._client.delete("pods", pod["metadata"]["namespace"], name))
        await self._events.normal("apps/v1", "DaemonSet", owner, "SuccessfulDelete", f"Deleted pod: {name}")

    async def _write_status(self, owner: Object, pods: list[Object], wanted: set[str], digest: str) -> None:
        before, metadata = owner.get("status") or {}, owner["metadata"]
        seconds, now = owner["spec"].get("minReadySeconds", 0), self._clock.now()
        placed = [pod for pod in pods if node_of(pod) in wanted]
        available = sum(1 for pod in placed if pod_available(pod, seconds, now))
        status: Object = {
            "currentNumberScheduled": len({node_of(pod) for pod in placed}),
            "numberMisscheduled": len({node_of(pod) for pod in pods} - wanted),
            "desiredNumberScheduled": len(wanted),
            "numberReady": sum(1 for pod in placed if pod_ready(pod)),
            "observedGeneration": metadata["generation"],
            **without_empty(
                {
                    "updatedNumberScheduled": sum(1 for pod in placed if _digest(pod) == digest),
                    "numberAvailable": available,
                    "numberUnavailable": len(wanted) - available,
                }
            ),
        }
        if "collisionCount" in before:
            status["collisionCount"] = before["collisionCount"]
        if status != before:
            changed = {**owner, "status": status}
            await tolerant(self._client.update_status(_SETS, metadata["namespace"], metadata["name"], changed))


def node_of(pod: Object) -> str:
    """The node that a pod of a DaemonSet is on, or is meant for."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def runs_on(template: Object, node: Object, effects: tuple[str, ...] = ("NoSchedule", *_EVICTING)) -> bool:
    """Whether a DaemonSet's pod belongs on a node: it may run there, and bears the node's taints of these effects."""
    spec = template["spec"]
    if not matches_node(spec, node):
        return False
    if spec.get("nodeName") not in (None, "", node["metadata"]["name"]):
        return False
    tolerations = [*(spec.get("tolerations") or ()), *_tolerations(spec)]
    return all(
        any(tolerates(one, taint) for one in tolerations)
        for taint in node["spec"].get("taints") or ()
        if taint["effect"] in effects
    )


def tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    exists = toleration.get("operator", "Equal") == "Exists"
    return exists or (bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", ""))


def _tolerations(spec: Object) -> list[Object]:
    borne = (*_TOLERATED, _NO_NETWORK) if spec.get("hostNetwork") else _TOLERATED
    return [{"key": key, "operator": "Exists", "effect": effect} for key, effect in borne]


def _pod(owner: Object, node: str, digest: str) -> Object:
    pod = pod_of(owner, controller_reference("apps/v1", "DaemonSet", owner))
    generation = (owner["metadata"].get("annotations") or {}).get(_GENERATION, str(owner["metadata"]["generation"]))
    labels = {**(pod["metadata"].get("labels") or {}), revisions.HASH_LABEL: digest, _GENERATION_LABEL: generation}
    pod["metadata"]["labels"] = labels
    spec = {**pod["spec"]}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = {**(spec.get("affinity") or {})}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    affinity["nodeAffinity"] = {**(affinity.get("nodeAffinity") or {}), **required}
    given = list(spec.get("tolerations") or ())
    spec |= {"affinity": affinity, "tolerations": [*given, *(one for one in _tolerations(spec) if one not in given)]}
    return {**pod, "spec": spec}


def _digest(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(revisions.HASH_LABEL, ""))


def _taking(node: Object) -> tuple[object, object]:
    return node["metadata"].get("labels"), (node.get("spec") or {}).get("taints")


def build() -> DaemonSets:
    return DaemonSets()

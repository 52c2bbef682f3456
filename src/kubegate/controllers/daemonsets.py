"""DaemonSets: a pod on every node that takes it. Follows pkg/controller/daemon of Kubernetes v1.36."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from msgspec import Struct

from kubegate.api import Object, selectors
from kubegate.api.status import StatusError
from kubegate.controllers import World, revisions
from kubegate.controllers.base import Loop
from kubegate.controllers.claims import Owner, claim
from kubegate.controllers.deploymentstatus import scaled
from kubegate.controllers.events import Recorder
from kubegate.controllers.nodeselectors import matches_node
from kubegate.controllers.objects import (
    controlled_by,
    controller_keys,
    controller_of,
    controller_reference,
    created_at,
    ending,
    key_of,
    namespace_ends,
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


_FIRST_BACKOFF, _LONGEST_BACKOFF = 1.0, 900.0
_BURST = 250
_MOST_REMEMBERED = 4096


class Placed(Struct, frozen=True):
    """A DaemonSet's pods by node, the oldest first; all nodes, those that shall have one, those that may keep one."""

    owner: Object
    digest: str
    nodes: set[str]
    wanted: set[str]
    kept: set[str]
    by_node: dict[str, list[Object]]

    @property
    def strategy(self) -> Object:
        return self.owner["spec"].get("updateStrategy") or {}

    @property
    def most_surging(self) -> int:
        return self._scaled("maxSurge", 0)

    @property
    def surges(self) -> bool:
        rolls = self.strategy.get("type", "RollingUpdate") == "RollingUpdate"
        return rolls and scaled((self.strategy.get("rollingUpdate") or {}).get("maxSurge", 0), 1, up=True) > 0

    @property
    def most_unavailable(self) -> int:
        return max(self._scaled("maxUnavailable", 1), 0 if self.most_surging else 1)

    def _scaled(self, name: str, otherwise: int) -> int:
        value = (self.strategy.get("rollingUpdate") or {}).get(name, otherwise)
        return scaled(value, len(self.wanted), up=True)

    def is_new(self, pod: Object) -> bool:
        """Whether the pod is of the present template."""
        labels = pod["metadata"].get("labels") or {}
        generation = (self.owner["metadata"].get("annotations") or {}).get(_GENERATION)
        same = generation is not None and labels.get(_GENERATION_LABEL) == generation
        return bool(labels.get(revisions.HASH_LABEL) == self.digest or same)

    def split(self, pods: list[Object]) -> tuple[list[Object], list[Object]]:
        """(new ones, old ones)."""
        return [pod for pod in pods if self.is_new(pod)], [pod for pod in pods if not self.is_new(pod)]

    def pairs(self) -> Iterator[tuple[str, tuple[Object | None, Object | None] | None]]:
        """Of each node its (new, old) pod that is not about to go; None where it has two of the same sort."""
        for node in sorted(self.wanted | self.by_node.keys()):
            news, olds = self.split([pod for pod in self.by_node.get(node, ()) if not ending(pod)])
            if len(news) > 1 or len(olds) > 1:
                yield node, None
            else:
                yield node, (news[0] if news else None, olds[0] if olds else None)


class DaemonSets(Loop):
    """Keys are `NAMESPACE/NAME`."""

    name = "daemonset-controller"
    account = "daemon-set-controller"
    _events: Recorder

    def __init__(self) -> None:
        super().__init__()
        self._failed: OrderedDict[tuple[str, int, str], tuple[float, float]] = OrderedDict()

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "daemonset-controller", world.clock)
        world.reader.subscribe(_SETS, self._there)
        world.reader.subscribe("pods", self._pod_changed)
        world.reader.subscribe("nodes", self._node_changed)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        for key in controller_keys("DaemonSet", pod, previous):
            self.queue.add(key)
        if controller_of(pod) is None and event is not ObjectEvent.DELETED:
            labels = pod["metadata"].get("labels") or {}
            for found in self._reader.list(_SETS, pod["metadata"]["namespace"]) if labels else ():
                if selectors.from_object(found["spec"]["selector"]).matches(labels):
                    self.queue.add(key_of(found))

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
        if ending(owner):
            return
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
        placed = self._placed(owner, digest, pods)
        failure = await self._step(placed)
        pods = controlled_by(owner, self._reader.list("pods", namespace))
        await self._write_status(self._placed(owner, digest, pods))
        live = {f"{name}-{(pod['metadata'].get('labels') or {}).get(revisions.HASH_LABEL)}" for pod in pods}
        held = sum(1 for revision in known if revision is not update and revision["metadata"]["name"] in live)
        live.add(update["metadata"]["name"])
        await revisions.forget(self._client, known, live, owner["spec"].get("revisionHistoryLimit", 10) - held)
        if failure is not None:
            raise failure

    def _placed(self, owner: Object, digest: str, pods: list[Object]) -> Placed:
        nodes, template = self._reader.list("nodes"), owner["spec"]["template"]
        wanted = {node["metadata"]["name"] for node in nodes if runs_on(template, node)}
        kept = {node["metadata"]["name"] for node in nodes if runs_on(template, node, _EVICTING)}
        by_node: dict[str, list[Object]] = {}
        for pod in sorted(pods, key=_age):
            if not (ending(pod) and pod_phase(pod) in ("Failed", "Succeeded")):
                by_node.setdefault(node_of(pod), []).append(pod)
        known = {node["metadata"]["name"] for node in nodes}
        return Placed(owner, digest, known, wanted, kept, by_node)

    # ------------------------------------------------------------------ pods
    async def _step(self, placed: Placed) -> StatusError | None:
        """A pod on each of the wanted nodes; then, if nothing was to be done for that, the rollout goes on."""
        created, deleted = await self._needed(placed)
        if not created and not deleted and placed.strategy.get("type") != "OnDelete":
            created, deleted = self._surged(placed) if placed.surges else ([], self._replaced(placed))
        owner = placed.owner
        for node in created[:_BURST]:
            try:
                made = await self._client.create(
                    "pods", owner["metadata"]["namespace"], _pod(owner, node, placed.digest)
                )
            except StatusError as error:
                if namespace_ends(error):
                    break
                await self._events.warning("apps/v1", "DaemonSet", owner, "FailedCreate", f"Error creating: {error}")
                return error
            text = f"Created pod: {made['metadata']['name']}"
            await self._events.normal("apps/v1", "DaemonSet", owner, "SuccessfulCreate", text)
        for pod in deleted[:_BURST]:
            name = pod["metadata"]["name"]
            await tolerant(self._client.delete("pods", pod["metadata"]["namespace"], name))
            await self._events.normal("apps/v1", "DaemonSet", owner, "SuccessfulDelete", f"Deleted pod: {name}")
        return None

    async def _needed(self, placed: Placed) -> tuple[list[str], list[Object]]:
        """(nodes that need a pod, pods that have to go). Pods stay on nodes that only take no new ones."""
        created: list[str] = []
        deleted: list[Object] = []
        for node in sorted(placed.nodes):
            found = placed.by_node.get(node)
            if found is None:
                created += [node] if node in placed.wanted else []
            elif node not in placed.kept:
                deleted += [pod for pod in found if not ending(pod)]
            else:
                live = [pod for pod in found if not ending(pod)]
                running = [pod for pod in live if pod_phase(pod) not in ("Failed", "Succeeded")]
                for pod in live:
                    if pod_phase(pod) == "Succeeded" or (pod_phase(pod) == "Failed" and self._may_go(placed, node)):
                        await self._tell_of_ended(placed.owner, node, pod)
                        deleted.append(pod)
                if not placed.surges:
                    deleted += running[1:]
                elif running:
                    deleted += self._too_many(placed, running)
                elif node in placed.wanted:
                    created.append(node)
        for node in sorted(placed.by_node.keys() - placed.nodes):  # no scheduler will ever place these
            deleted += [pod for pod in placed.by_node[node] if not pod["spec"].get("nodeName") and not ending(pod)]
        return created, deleted

    def _too_many(self, placed: Placed, running: list[Object]) -> list[Object]:
        """Of the pods on a node of a surging set those that go: a new one and an old one may be there together."""
        news, olds = placed.split(running)
        if news and olds and (not pod_ready(olds[0]) or self._available(placed, news[0])):
            return [*news[1:], *olds]
        return [*news[1:], *olds[1:]]

    def _may_go(self, placed: Placed, node: str) -> bool:
        """Whether a failed pod is to be replaced now: each time later on the same node, 1 second to 15 minutes."""
        metadata, now = placed.owner["metadata"], self._clock.monotonic()
        key = (metadata["uid"], (placed.owner.get("status") or {}).get("observedGeneration", 0), node)
        delay, since = self._failed.get(key, (0.0, now))
        if delay and now - since < delay:
            self.queue.add_at(key_of(placed.owner), since + delay)
            return False
        forgotten = not delay or now - since > 2 * _LONGEST_BACKOFF
        self._failed[key] = (_FIRST_BACKOFF if forgotten else min(2 * delay, _LONGEST_BACKOFF), now)
        self._failed.move_to_end(key)
        if len(self._failed) > _MOST_REMEMBERED:
            self._failed.popitem(last=False)
        return True

    async def _tell_of_ended(self, owner: Object, node: str, pod: Object) -> None:
        path = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        if pod_phase(pod) == "Failed":
            text = f"Found failed daemon pod {path} on node {node}, will try to kill it"
            await self._events.warning("apps/v1", "DaemonSet", owner, "FailedDaemonPod", text)
        else:
            text = f"Found succeeded daemon pod {path} on node {node}, will try to delete it"
            await self._events.normal("apps/v1", "DaemonSet", owner, "SucceededDaemonPod", text)

    # ------------------------------------------------------------------ rollouts
    def _replaced(self, placed: Placed) -> list[Object]:
        """Old pods to delete: those that are not available, and others as far as maxUnavailable allows."""
        unavailable, broken, candidates = 0, [], []
        for _, pair in placed.pairs():
            if pair is None or (pair[0] is None) == (pair[1] is None):
                unavailable += 1  # is about to get its pod, or to lose one
                continue
            new, old = pair
            if new is not None:
                unavailable += not self._available(placed, new)
            elif old is not None and not self._available(placed, old):
                broken.append(old)
                unavailable += 1
            elif old is not None:
                candidates.append(old)
        return broken + candidates[: max(placed.most_unavailable - unavailable, 0)]

    def _surged(self, placed: Placed) -> tuple[list[str], list[Object]]:
        """(nodes that get a new pod beside their old one, old pods to delete)."""
        deleted: list[Object] = []
        idle: list[Object] = []
        broken: list[str] = []
        candidates: list[str] = []
        surging, available = 0, 0
        for node, pair in placed.pairs():
            if pair is None:
                surging += 1
                continue
            new, old = pair
            serving = old if old is not None else new
            available += serving is not None and self._available(placed, serving)
            if old is None:
                continue
            if new is not None:
                if self._available(placed, new):
                    deleted.append(old)
                else:
                    surging += 1
            elif node not in placed.wanted:
                (idle if self._available(placed, old) else deleted).append(old)
            else:
                (candidates if self._available(placed, old) else broken).append(node)
        # Where pods move from one node to another, the old one serves until the new one does.
        deleted += idle[: max(available - len(placed.wanted), 0)]
        return broken + candidates[: max(placed.most_surging - surging, 0)], deleted

    def _available(self, placed: Placed, pod: Object) -> bool:
        return pod_available(pod, placed.owner["spec"].get("minReadySeconds", 0), self._clock.now())

    # ------------------------------------------------------------------ status
    async def _write_status(self, placed: Placed) -> None:
        owner = placed.owner
        before, metadata = owner.get("status") or {}, owner["metadata"]
        oldest = [placed.by_node[node][0] for node in placed.wanted if node in placed.by_node]
        ready = [pod for pod in oldest if pod_ready(pod)]
        available = sum(1 for pod in ready if self._available(placed, pod))
        status: Object = {
            "currentNumberScheduled": len(oldest),
            "numberMisscheduled": len((placed.by_node.keys() & placed.nodes) - placed.wanted),
            "desiredNumberScheduled": len(placed.wanted),
            "numberReady": len(ready),
            "observedGeneration": metadata["generation"],
            **without_empty(
                {
                    "updatedNumberScheduled": sum(1 for pod in oldest if placed.is_new(pod)),
                    "numberAvailable": available,
                    "numberUnavailable": len(placed.wanted) - available,
                }
            ),
        }
        for name in ("collisionCount", "conditions"):
            if name in before:
                status[name] = before[name]
        if status != before:
            changed = {**owner, "status": status}
            await tolerant(self._client.update_status(_SETS, metadata["namespace"], metadata["name"], changed))
        seconds = owner["spec"].get("minReadySeconds", 0)
        if seconds and len(ready) != available:
            self.queue.add_at(key_of(owner), self._clock.monotonic() + seconds)


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


def _age(pod: Object) -> tuple[bool, float, str]:
    """Those that a node has come first, then the oldest."""
    return not pod["spec"].get("nodeName"), created_at(pod), pod["metadata"]["name"]


def _taking(node: Object) -> tuple[object, object]:
    return node["metadata"].get("labels"), (node.get("spec") or {}).get("taints")


def build() -> DaemonSets:
    return DaemonSets()

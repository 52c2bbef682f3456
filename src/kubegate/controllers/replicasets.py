"""ReplicaSets and ReplicationControllers: as many pods of a template as they ask for.

Follows pkg/controller/replicaset of Kubernetes v1.36; the two kinds differ in names alone.
"""

from __future__ import annotations

from msgspec import Struct

from kubegate.api import Object, selectors
from kubegate.api.clock import parse_rfc3339, rfc3339
from kubegate.api.selectors import LabelSelector
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.claims import Owner, claim
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import (
    condition,
    controlled_by,
    controller_keys,
    controller_of,
    controller_reference,
    created_at,
    ending,
    key_of,
    namespace_ends,
    pod_active,
    pod_available,
    pod_phase,
    pod_ready,
    split_key,
    tolerant,
    without_empty,
)
from kubegate.storage import ObjectEvent

_BURST = 500
_PHASES = {"Pending": 0, "": 0, "Unknown": 1, "Running": 2}


class Kind(Struct, frozen=True):
    api_version: str
    kind: str
    resource: str
    controller: str
    user: str


REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets.apps", "replicaset-controller", "replicaset-controller")
REPLICATION_CONTROLLER = Kind(
    "v1",
    "ReplicationController",
    "replicationcontrollers",
    "replicationcontroller-controller",
    "replication-controller",
)


class Replicas(Loop):
    """Keys are `NAMESPACE/NAME` of the owners."""

    _events: Recorder

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.name, self.account, self._kind = kind.controller, kind.user, kind

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, self._kind.user, world.clock)
        world.reader.subscribe(self._kind.resource, self._there)
        world.reader.subscribe("pods", self._pod_changed)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        for key in controller_keys(self._kind.kind, pod, previous):
            self.queue.add(key)
        if controller_of(pod) is None and event is not ObjectEvent.DELETED:
            labels = pod["metadata"].get("labels") or {}
            for owner in self._reader.list(self._kind.resource, pod["metadata"]["namespace"]) if labels else ():
                if self._selector(owner).matches(labels):
                    self.queue.add(key_of(owner))

    def _selector(self, owner: Object) -> LabelSelector:
        selector = owner["spec"].get("selector") or {}
        if self._kind is REPLICATION_CONTROLLER:
            return selectors.from_set(selector)
        return selectors.from_object(selector)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        owner = await self._client.get(self._kind.resource, namespace, name)
        if owner is None:
            return
        selector = self._selector(owner)
        claimant = Owner(self._kind.api_version, self._kind.kind, self._kind.resource, owner)
        pods = await claim(self._client, claimant, selector, "pods", self._reader.list("pods", namespace))
        active = [pod for pod in pods if pod_active(pod)]
        failure: tuple[str, StatusError] | None = None
        if not ending(owner):
            failure = await self._manage(owner, active)
        await self._update_status(owner, namespace, failure)
        if failure is not None:
            raise failure[1]

    async def _manage(self, owner: Object, active: list[Object]) -> tuple[str, StatusError] | None:
        """Create what is missing, delete what is too much; (reason, error) of the first that failed."""
        missing = int(owner["spec"].get("replicas", 1)) - len(active)
        if missing > 0:
            for _ in range(min(missing, _BURST)):
                try:
                    await self._create(owner)
                except StatusError as error:
                    if namespace_ends(error):
                        return None
                    await self._event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
                    return "FailedCreate", error
        for pod in sorted(active, key=self._rank)[: min(-missing, _BURST)] if missing < 0 else ():
            name = pod["metadata"]["name"]
            try:
                await tolerant(self._client.delete("pods", pod["metadata"]["namespace"], name))
            except StatusError as error:
                await self._event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
                return "FailedDelete", error
            await self._event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
        return None

    async def _create(self, owner: Object) -> None:
        metadata = owner["metadata"]
        reference = controller_reference(self._kind.api_version, self._kind.kind, owner)
        pod = await self._client.create("pods", metadata["namespace"], pod_of(owner, reference))
        await self._event(owner, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")

    async def _event(self, owner: Object, sort: str, reason: str, message: str) -> None:
        record = self._events.normal if sort == "Normal" else self._events.warning
        await record(self._kind.api_version, self._kind.kind, owner, reason, message)

    def _rank(self, pod: Object) -> tuple[bool, int, bool, int, float]:
        """Those that are missed least come first: without a node, not running, not ready, cheap, young."""
        annotations = pod["metadata"].get("annotations") or {}
        try:
            cost = int(annotations.get("controller.kubernetes.io/pod-deletion-cost", "0"))
        except ValueError:
            cost = 0
        assigned, phase = bool(pod["spec"].get("nodeName")), _PHASES.get(pod_phase(pod), 0)
        return assigned, phase, pod_ready(pod), cost, -created_at(pod)

    async def _update_status(self, owner: Object, namespace: str, failure: tuple[str, StatusError] | None) -> None:
        spec, now = owner["spec"], self._clock.now()
        pods = controlled_by(owner, self._reader.list("pods", namespace))
        active = [pod for pod in pods if pod_active(pod)]
        wanted = (spec["template"].get("metadata") or {}).get("labels") or {}
        seconds = spec.get("minReadySeconds", 0)
        available = [pod for pod in active if pod_available(pod, seconds, now)]
        ready = [pod for pod in active if pod_ready(pod)]
        terminating = [pod for pod in pods if ending(pod) and pod_phase(pod) not in ("Succeeded", "Failed")]
        counts = {
            "fullyLabeledReplicas": sum(_has(pod, wanted) for pod in active),
            "readyReplicas": len(ready),
            "availableReplicas": len(available),
        }
        before = owner.get("status") or {}
        status: Object = {"replicas": len(active), **without_empty(counts)}
        if self._kind is REPLICA_SET:
            status["terminatingReplicas"] = len(terminating)
        status["observedGeneration"] = owner["metadata"]["generation"]
        conditions = self._conditions(owner, failure)
        if conditions:
            status["conditions"] = conditions
        if status != before:
            await tolerant(
                self._client.update_status(
                    self._kind.resource, namespace, owner["metadata"]["name"], {**owner, "status": status}
                )
            )
        if seconds and len(ready) > len(available):
            waiting = [pod for pod in ready if not pod_available(pod, seconds, now)]
            soonest = min(parse_rfc3339((condition(pod, "Ready") or {})["lastTransitionTime"]) for pod in waiting)
            self.queue.add_at(key_of(owner), self._clock.monotonic() + max(soonest + seconds - now, 0))

    def _conditions(self, owner: Object, failure: tuple[str, StatusError] | None) -> list[Object]:
        conditions = list((owner.get("status") or {}).get("conditions") or ())
        before = condition(owner, "ReplicaFailure")
        if failure is not None and before is None:
            reason, error = failure
            conditions.append(
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "lastTransitionTime": rfc3339(self._clock.now()),
                    "reason": reason,
                    "message": str(error),
                }
            )
        elif failure is None and before is not None:
            conditions.remove(before)
        return conditions


def pod_of(owner: Object, reference: Object) -> Object:
    """A pod made of its owner's template, to be named by the server."""
    metadata, template = owner["metadata"], owner["spec"]["template"]
    given = template.get("metadata") or {}
    made = {
        "generateName": f"{metadata['name']}-",
        "namespace": metadata["namespace"],
        "ownerReferences": [reference],
    }
    for name in ("labels", "annotations", "finalizers"):
        if given.get(name):
            made[name] = given[name]
    return {"metadata": made, "spec": template["spec"]}


def _has(pod: Object, wanted: Object) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted.items())


def build() -> Replicas:
    return Replicas(REPLICA_SET)

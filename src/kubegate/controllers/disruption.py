"""The status of PodDisruptionBudgets: how many pods may be evicted now. Follows pkg/controller/disruption of v1.36."""

from __future__ import annotations

from typing import Any

from kubegate.api import Object, selectors
from kubegate.api.clock import parse_rfc3339, rfc3339
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.deploymentstatus import scaled
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import (
    condition,
    controller_of,
    ending,
    key_of,
    pod_phase,
    pod_ready,
    split_key,
    tolerant,
)
from kubegate.storage import ObjectEvent

_BUDGETS = "poddisruptionbudgets.policy"
_KIND = "PodDisruptionBudget"
_UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the "
    "status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these "
    'pods please set ".spec.minAvailable" field of the PDB to an integer value.'
)
_EVICTION_SECONDS = 120.0
# Owners of pods that say how many there should be.
_SCALES = {
    "ReplicationController": "replicationcontrollers",
    "ReplicaSet": "replicasets.apps",
    "StatefulSet": "statefulsets.apps",
    "Deployment": "deployments.apps",
}


class CannotCount(Exception):
    """How many pods there should be is not known; the text is what the budget's condition tells."""


class Disruption(Loop):
    """Keys are `NAMESPACE/NAME` of budgets."""

    name = "disruption-controller"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "controllermanager", world.clock)
        world.reader.subscribe(_BUDGETS, self._there)
        world.reader.subscribe("pods", self._pod_changed)
        for resource in _SCALES.values():
            world.reader.subscribe(resource, self._scale_changed)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        for budget in self._reader.list(_BUDGETS, pod["metadata"]["namespace"]):
            selector = selectors.from_object((budget.get("spec") or {}).get("selector"))
            if any(
                one is not None and selector.matches(one["metadata"].get("labels") or {}) for one in (pod, previous)
            ):
                self.queue.add(key_of(budget))

    def _scale_changed(self, event: ObjectEvent, owner: Object, previous: Object | None) -> None:
        if previous is not None and previous["spec"].get("replicas") == owner["spec"].get("replicas"):
            return
        for budget in self._reader.list(_BUDGETS, owner["metadata"]["namespace"]):
            self.queue.add(key_of(budget))

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        budget = await self._client.get(_BUDGETS, namespace, name)
        if budget is None:
            return
        spec = budget.get("spec") or {}
        selector = selectors.from_object(spec.get("selector"))
        pods = [
            pod
            for pod in self._reader.list("pods", namespace)
            if selector.matches(pod["metadata"].get("labels") or {}) and pod_phase(pod) not in ("Succeeded", "Failed")
        ]
        if not pods:
            await self._events.normal("policy/v1", _KIND, budget, "NoPods", "No matching pods found")
        try:
            status = self._status(budget, pods)
            if self._by_owners(spec) and any(controller_of(pod) is None for pod in pods):
                text = _UNMANAGED.format(selector=str(selector) or "<none>")
                await self._events.warning("policy/v1", _KIND, budget, "UnmanagedPods", text)
        except CannotCount as error:
            text = f"Failed to calculate the number of expected pods: {error}"
            await self._events.warning("policy/v1", _KIND, budget, "CalculateExpectedPodCountFailed", text)
            status = self._said(
                budget, {**(budget.get("status") or {}), "disruptionsAllowed": 0}, "SyncFailed", str(error)
            )
        if status != budget.get("status"):
            await tolerant(self._client.update_status(_BUDGETS, namespace, name, {**budget, "status": status}))

    def _status(self, budget: Object, pods: list[Object]) -> Object:
        expected, desired = self._expected(budget["spec"], pods)
        evicted, soonest = self._evicted(budget, pods)
        healthy = sum(
            1 for pod in pods if pod_ready(pod) and not ending(pod) and pod["metadata"]["name"] not in evicted
        )
        allowed = max(healthy - desired, 0) if expected > 0 else 0
        if soonest is not None:
            self.queue.add_at(key_of(budget), self._clock.monotonic() + soonest)
        status: Object = {
            "observedGeneration": budget["metadata"]["generation"],
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
        }
        if evicted:
            status["disruptedPods"] = evicted
        status["conditions"] = (budget.get("status") or {}).get("conditions") or []
        return self._said(budget, status, "SufficientPods" if allowed else "InsufficientPods", "")

    def _said(self, budget: Object, status: Object, reason: str, message: str) -> Object:
        before = condition(budget, "DisruptionAllowed")
        value = "True" if reason == "SufficientPods" else "False"
        same = before is not None and before["status"] == value
        new = {
            "type": "DisruptionAllowed",
            "status": value,
            "observedGeneration": budget["metadata"]["generation"],
            "lastTransitionTime": before["lastTransitionTime"] if before and same else rfc3339(self._clock.now()),
            "reason": reason,
            "message": message,
        }
        others = [one for one in status.get("conditions") or () if one["type"] != "DisruptionAllowed"]
        return {**status, "conditions": [*others, new]}

    def _evicted(self, budget: Object, pods: list[Object]) -> tuple[dict[str, Any], float | None]:
        """Pods whose eviction was granted and that are not gone yet, and when the first of them is given up."""
        present = {pod["metadata"]["name"]: pod for pod in pods if not ending(pod)}
        kept, soonest = {}, None
        for name, since in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
            left = parse_rfc3339(since) + _EVICTION_SECONDS - self._clock.now()
            if name in present and left > 0:
                kept[name] = since
                soonest = left if soonest is None else min(left, soonest)
        return kept, soonest

    # ------------------------------------------------------------------ how many there should be
    def _expected(self, spec: Object, pods: list[Object]) -> tuple[int, int]:
        """(how many pods are expected, how many of them must be healthy)."""
        least = spec.get("minAvailable")
        if not self._by_owners(spec):
            return len(pods), int(least) if least is not None else 0
        expected = self._scale(pods)
        if "maxUnavailable" in spec:
            return expected, max(expected - scaled(spec["maxUnavailable"], expected, up=True), 0)
        return expected, scaled(least, expected, up=True)

    @staticmethod
    def _by_owners(spec: Object) -> bool:
        """Whether it matters how many pods their owners want."""
        return "maxUnavailable" in spec or isinstance(spec.get("minAvailable"), str)

    def _scale(self, pods: list[Object]) -> int:
        """What the owners of these pods ask for, altogether; pods without an owner do not count."""
        wanted: dict[str, int] = {}
        for pod in pods:
            reference, namespace = controller_of(pod), pod["metadata"]["namespace"]
            if reference is None:
                continue
            owner = self._owner(reference, namespace)
            if owner is not None and reference["kind"] == "ReplicaSet":
                above = controller_of(owner)
                owner = (self._owner(above, namespace) if above else None) or owner
            if owner is None:
                raise CannotCount(f"found no controllers for pod {pod['metadata']['name']!r}".replace("'", '"'))
            wanted[owner["metadata"]["uid"]] = owner["spec"].get("replicas", 1)
        return sum(wanted.values())

    def _owner(self, reference: Object, namespace: str) -> Object | None:
        resource = _SCALES.get(reference["kind"])
        found = self._reader.get(resource, namespace, reference["name"]) if resource else None
        return found if found is not None and found["metadata"]["uid"] == reference["uid"] else None


def build() -> Disruption:
    return Disruption()

"""HorizontalPodAutoscalers: targets have neither fewer nor more replicas than they may.

Follows pkg/controller/podautoscaler of Kubernetes v1.36 where nobody serves metrics: nothing is proxied to those who
would, so what a target needs within its bounds cannot be told, and its conditions and events say why.
"""

from __future__ import annotations

from msgspec import Struct

from kubegate.api import Object, selectors
from kubegate.api.clock import rfc3339
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.events import Recorder
from kubegate.controllers.metrics_lacking import lack, unavailable
from kubegate.controllers.objects import key_of, split_key, tolerant
from kubegate.registry import scaleview
from kubegate.storage import ObjectEvent

_AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
_PERIOD = 15.0
_UNABLE_TO_GET = "the HPA controller was unable to get the target's current scale"
_GOT, _GOT_TEXT = "SucceededGetScale", "the HPA controller was able to get the target's current scale"


class _Target(Struct, frozen=True):
    """What is scaled, and what its autoscaling/v1 Scale says."""

    resource: str
    namespace: str
    name: str
    replicas: int
    selector: str


class PodAutoscaling(Loop):
    """Keys are autoscalers; each is looked at every 15 seconds, and first 15 seconds after it was made."""

    name = "horizontal-pod-autoscaler-controller"
    account = "horizontal-pod-autoscaler"
    _world: World
    _events: Recorder

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}
        self._selectors: dict[str, selectors.LabelSelector] = {}

    def start(self, world: World) -> None:
        super().start(world)
        self._world = world
        self._events = Recorder(self._client, "horizontal-pod-autoscaler", world.clock)
        world.reader.subscribe(_AUTOSCALERS, self._changed)

    def _changed(self, event: ObjectEvent, autoscaler: Object, _: Object | None) -> None:
        key = key_of(autoscaler)
        if event is ObjectEvent.DELETED:
            self._selectors.pop(key, None)
        elif key not in self._due:
            self._later(key)

    def _later(self, key: str) -> None:
        self._due[key] = self._clock.monotonic() + _PERIOD
        self.queue.add_at(key, self._due[key])

    async def sync(self, key: str) -> None:
        if self._clock.monotonic() < self._due.get(key, 0):
            return
        namespace, name = split_key(key)
        autoscaler = self._reader.get(_AUTOSCALERS, namespace, name)
        if autoscaler is None:
            self._due.pop(key, None)
            return
        self._later(key)
        status = await self._reconcile(autoscaler, _Status(autoscaler, rfc3339(self._clock.now())))
        if status != autoscaler.get("status"):
            written = self._client.update_status(_AUTOSCALERS, namespace, name, {**autoscaler, "status": status})
            await tolerant(written, "NotFound", "Conflict")

    async def _reconcile(self, autoscaler: Object, status: _Status) -> Object:
        """What the autoscaler's status is to be; its target is scaled where it must be."""
        spec = autoscaler["spec"]
        try:
            target = await self._target(autoscaler["metadata"]["namespace"], spec["scaleTargetRef"])
        except StatusError as error:
            await self._warn(autoscaler, "FailedGetScale", error.message)
            status.condition("AbleToScale", "False", "FailedGetScale", f"{_UNABLE_TO_GET}: {error.message}")
            return status.only_conditions()
        status.condition("AbleToScale", "True", _GOT, _GOT_TEXT)
        least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
        if target.replicas == 0 and least != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            status.condition("ScalingActive", "False", "ScalingDisabled", text)
            return status.whole(0, 0)
        if target.replicas > most:
            return await self._scale(autoscaler, status, target, most, "above Spec.MaxReplicas")
        if target.replicas < least:
            return await self._scale(autoscaler, status, target, least, "below Spec.MinReplicas")
        metrics, wrong = None, await self._check_selector(autoscaler, status, target.selector)
        if not wrong:
            metrics = [{"type": ""} for _ in spec["metrics"]]
            wrong = await self._measure(autoscaler, status, spec["metrics"])
        await self._warn(autoscaler, "FailedComputeMetricsReplicas", wrong)
        return status.whole(target.replicas, None, metrics)

    async def _target(self, namespace: str, reference: Object) -> _Target:
        """Raises StatusError where there is no such thing, or where it cannot be scaled."""
        group, kind = reference.get("apiVersion", "").rpartition("/")[0], reference["kind"]
        found = [one for one in self._world.resources if (one.group, one.kind) == (group, kind)]
        if not found:
            raise StatusError(404, "NotFound", f'no matches for kind "{kind}" in group "{group}"')
        name = found[0].group_resource
        resource = self._world.resources.by_group_resource(name)
        assert resource is not None
        if "scale" not in resource.subresources:
            raise unavailable(404)
        obj = await self._client.get(name, namespace, reference["name"])
        if obj is None:
            raise StatusError(404, "NotFound", f'{name} "{reference["name"]}" not found')
        scale = scaleview.read(resource, obj)
        replicas, selector = scale["spec"].get("replicas", 0), scale["status"].get("selector", "")
        return _Target(name, namespace, reference["name"], replicas, selector)

    async def _scale(self, autoscaler: Object, status: _Status, target: _Target, wanted: int, why: str) -> Object:
        reason = f"Current number of replicas {why}"
        try:
            await self._client.scale(target.resource, target.namespace, target.name, wanted)
        except StatusError as error:
            text = f"New size: {wanted}; reason: {reason}; error: {error.message}"
            await self._warn(autoscaler, "FailedRescale", text)
            text = f"the HPA controller was unable to update the target scale: {error.message}"
            status.condition("AbleToScale", "False", "FailedUpdateScale", text)
            return status.whole(target.replicas, None)
        text = f"the HPA controller was able to update the target scale to {wanted}"
        status.condition("AbleToScale", "True", "SucceededRescale", text)
        text = f"New size: {wanted}; reason: {reason}"
        await self._events.normal("autoscaling/v2", "HorizontalPodAutoscaler", autoscaler, "SuccessfulRescale", text)
        return status.whole(target.replicas, wanted, rescaled=True)

    async def _check_selector(self, autoscaler: Object, status: _Status, text: str) -> str:
        """Why the target's pods cannot be told from those of others; "" where they can."""
        if not text:
            await self._warn(autoscaler, "SelectorRequired", "selector is required")
            told = "the HPA target's scale is missing a selector"
            status.condition("ScalingActive", "False", "InvalidSelector", told)
            return "selector is required"
        reason, told = "", ""
        try:
            selector = self._selectors[key_of(autoscaler)] = selectors.parse_labels(text)
        except selectors.SelectorError as error:
            reason = "InvalidSelector"
            told = f"couldn't convert selector into a corresponding internal selector object: {error}"
        else:
            selecting = self._selecting(autoscaler["metadata"]["namespace"], selector)
            if len(selecting) > 1:
                reason = "AmbiguousSelector"
                told = f"pods by selector {text} are controlled by multiple HPAs: [{' '.join(selecting)}]"
        if reason:
            await self._warn(autoscaler, reason, told)
            status.condition("ScalingActive", "False", reason, told)
        return told

    def _selecting(self, namespace: str, selector: selectors.LabelSelector) -> list[str]:
        """The autoscalers with pods of those that this selector selects."""
        labels = [pod["metadata"].get("labels") or {} for pod in self._reader.list("pods", namespace)]
        mine = [one for one in labels if selector.matches(one)]
        others = {key: other for key, other in self._selectors.items() if split_key(key)[0] == namespace}
        return sorted(key for key, other in others.items() if any(map(other.matches, mine)))

    async def _measure(self, autoscaler: Object, status: _Status, metrics: list[Object]) -> str:
        """Why no metric says how many replicas there are to be."""
        found = [lack(metric, autoscaler["metadata"]["namespace"], self._reader) for metric in metrics]
        for each in found:
            await self._warn(autoscaler, each.reason, each.text)
        told = f"the HPA was unable to compute the replica count: {found[0].text}"
        status.condition("ScalingActive", "False", found[0].reason, told)
        count = len(found)
        return f"invalid metrics ({count} invalid out of {count}), first error is: {found[0].value}"

    async def _warn(self, autoscaler: Object, reason: str, message: str) -> None:
        await self._events.warning("autoscaling/v2", "HorizontalPodAutoscaler", autoscaler, reason, message)


class _Status:
    """An autoscaler's status, as it is and as it becomes."""

    def __init__(self, autoscaler: Object, now: str) -> None:
        self._before: Object = autoscaler.get("status") or {}
        self._conditions: list[Object] = list(self._before.get("conditions") or ())
        self._now = now

    def condition(self, sort: str, value: str, reason: str, message: str) -> None:
        told = {"type": sort, "status": value, "lastTransitionTime": self._now, "reason": reason, "message": message}
        for place, before in enumerate(self._conditions):
            if before["type"] == sort:
                if before["status"] == value:
                    told["lastTransitionTime"] = before["lastTransitionTime"]
                self._conditions[place] = told
                return
        self._conditions.append(told)

    def only_conditions(self) -> Object:
        return {**self._before, "conditions": self._conditions}

    def whole(
        self, current: int, desired: int | None, metrics: list[Object] | None = None, *, rescaled: bool = False
    ) -> Object:
        """`desired` None: as it was."""
        status: Object = {"conditions": self._conditions, "currentMetrics": metrics}
        if current:
            status["currentReplicas"] = current
        status["desiredReplicas"] = self._before.get("desiredReplicas", 0) if desired is None else desired
        scaled = self._now if rescaled else self._before.get("lastScaleTime")
        return {**status, "lastScaleTime": scaled} if scaled else status


def build() -> PodAutoscaling:
    return PodAutoscaling()

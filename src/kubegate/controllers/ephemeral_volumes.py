"""Claims of pods' ephemeral volumes: made with the pod, and gone with it. Follows pkg/controller/volume/ephemeral."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.status import StatusError
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.claim_protection import claims_of
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import controller_of, controller_reference, ending, split_key
from kubegate.storage import ObjectEvent

_CLAIMS = "persistentvolumeclaims"


class EphemeralVolumes(Loop):
    """Keys are `NAMESPACE/NAME` of pods."""

    name = "ephemeral-volume-controller"
    _events: Recorder

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "ephemeral_volume", world.clock)
        world.reader.subscribe("pods", self._pod_changed)
        world.reader.subscribe(_CLAIMS, self._claim_changed)

    def _pod_changed(self, event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        if event is not ObjectEvent.DELETED and any("ephemeral" in one for one in pod["spec"].get("volumes") or ()):
            self._there(event, pod, previous)

    def _claim_changed(self, event: ObjectEvent, claim: Object, _: Object | None) -> None:
        if event is ObjectEvent.DELETED:
            for pod in self._reader.list("pods", claim["metadata"]["namespace"]):
                if claim["metadata"]["name"] in claims_of(pod):
                    self._pod_changed(event.MODIFIED, pod, None)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = await self._client.get("pods", namespace, name)
        if pod is None or ending(pod):
            return
        for volume in pod["spec"].get("volumes") or ():
            if "ephemeral" not in volume:
                continue
            failure = await self._ensure(pod, f"{name}-{volume['name']}", volume["ephemeral"]["volumeClaimTemplate"])
            if failure is not None:
                text = f"ephemeral volume {volume['name']}: {failure}"
                await self._events.warning("v1", "Pod", pod, "FailedBinding", text)
                if isinstance(failure, StatusError):
                    raise failure

    async def _ensure(self, pod: Object, name: str, template: Object) -> StatusError | str | None:
        """Make the claim; what went wrong: an error, after which it is tried again, or that the claim is another's."""
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        found = await self._client.get(_CLAIMS, namespace, name)
        if found is not None:
            if (controller_of(found) or {}).get("uid") == metadata["uid"]:
                return None
            return f"PVC {namespace}/{name} was not created for pod {namespace}/{metadata['name']} (pod is not owner)"
        given = template.get("metadata") or {}
        made = {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "ownerReferences": [controller_reference("v1", "Pod", pod)],
                **{each: given[each] for each in ("annotations", "labels") if given.get(each)},
            },
            "spec": template["spec"],
        }
        try:
            await self._client.create(_CLAIMS, namespace, made)
        except StatusError as error:
            return StatusError(error.code, error.reason, f"create PVC {name}: {error}")
        return None


def build() -> EphemeralVolumes:
    return EphemeralVolumes()

"""Claims and volumes that are to go do so when nobody uses them any more.

The StorageObjectInUseProtection plugin gives them a finalizer; here it is taken off: of a claim when no pod that runs
mounts it, of a volume when it is bound to no claim. Follows pkg/controller/volume/{pvcprotection,pvprotection}.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from kubegate.api import Object
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import ending, pod_phase, split_key, tolerant
from kubegate.storage import ObjectEvent, Reader


class Kind(Struct, frozen=True):
    controller: str
    user: str
    resource: str
    finalizer: str
    in_use: Callable[[Reader, Object], bool]


def _mounted(reader: Reader, claim: Object) -> bool:
    metadata = claim["metadata"]
    return any(
        metadata["name"] in claims_of(pod) and pod_phase(pod) not in ("Succeeded", "Failed")
        for pod in reader.list("pods", metadata["namespace"])
    )


def claims_of(pod: Object) -> set[str]:
    """Names of the claims that a pod mounts; ephemeral ones are named after the pod."""
    found = set()
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            found.add(volume["persistentVolumeClaim"]["claimName"])
        elif "ephemeral" in volume:
            found.add(f"{pod['metadata']['name']}-{volume['name']}")
    return found


def _bound(reader: Reader, volume: Object) -> bool:
    return (volume.get("status") or {}).get("phase") == "Bound"


CLAIMS = Kind(
    "persistentvolumeclaim-protection-controller",
    "pvc-protection-controller",
    "persistentvolumeclaims",
    "kubernetes.io/pvc-protection",
    _mounted,
)
VOLUMES = Kind(
    "persistentvolume-protection-controller",
    "pv-protection-controller",
    "persistentvolumes",
    "kubernetes.io/pv-protection",
    _bound,
)


class Protection(Loop):
    """Keys are those of the protected objects."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.name, self.account, self._kind = kind.controller, kind.user, kind

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(self._kind.resource, self._there)
        if self._kind is CLAIMS:
            world.reader.subscribe("pods", self._pod_changed)

    def _pod_changed(self, event: ObjectEvent, pod: Object, _: Object | None) -> None:
        if event is ObjectEvent.DELETED or pod_phase(pod) in ("Succeeded", "Failed"):
            for claim in claims_of(pod):
                self.queue.add(f"{pod['metadata']['namespace']}/{claim}")

    async def sync(self, key: str) -> None:
        kind, (namespace, name) = self._kind, split_key(key)
        obj = await self._client.get(kind.resource, namespace, name)
        if obj is None:
            return
        finalizers = list(obj["metadata"].get("finalizers") or ())
        if not ending(obj):
            if kind.finalizer in finalizers:
                return
            finalizers.append(kind.finalizer)
        elif kind.finalizer in finalizers and not kind.in_use(self._reader, obj):
            finalizers.remove(kind.finalizer)
        else:
            return
        changed = {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}}
        await tolerant(self._client.update(kind.resource, namespace, name, changed))


def build() -> Protection:
    """The controller of claims; `volume_protection` builds that of volumes."""
    return Protection(CLAIMS)

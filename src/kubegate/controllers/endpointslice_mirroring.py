"""EndpointSlices of Endpoints that somebody wrote by hand, for services without a selector."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.names import parse_ip
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.endpointslices import MANAGED_BY, RESOURCE, SERVICE_LABEL, reconcile, slices_of
from kubegate.controllers.objects import controller_reference, key_of, split_key
from kubegate.controllers.serviceendpoints import LAST_TRIGGER
from kubegate.storage import ObjectEvent

_MANAGER = "endpointslicemirroring-controller.k8s.io"
_SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_MIRRORED = (LAST_TRIGGER, "kubectl.kubernetes.io/last-applied-configuration")
_MOST = 1000


class Mirroring(Loop):
    """Keys are `NAMESPACE/NAME` of Endpoints."""

    name = "endpointslice-mirroring-controller"
    account = "endpointslicemirroring-controller"

    def start(self, world: World) -> None:
        super().start(world)
        for resource in ("endpoints", "services"):
            world.reader.subscribe(resource, self._changed)
        world.reader.subscribe(RESOURCE, self._slice_changed)

    def _changed(self, event: ObjectEvent, obj: Object, _: Object | None) -> None:
        self.queue.add(key_of(obj))

    def _slice_changed(self, event: ObjectEvent, found: Object, _: Object | None) -> None:
        labels = found["metadata"].get("labels") or {}
        if event is ObjectEvent.DELETED and labels.get(MANAGED_BY) == _MANAGER and SERVICE_LABEL in labels:
            self.queue.add(f"{found['metadata']['namespace']}/{labels[SERVICE_LABEL]}")

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        endpoints = await self._client.get("endpoints", namespace, name)
        service = self._reader.get("services", namespace, name)
        present = slices_of(self._reader, namespace, name, _MANAGER)
        wanted = []
        if (
            endpoints is not None
            and service is not None
            and _mirrored(endpoints)
            and not service["spec"].get("selector")
        ):
            metadata = _metadata(endpoints, namespace, name)
            for subset in endpoints.get("subsets") or ():
                wanted += [{"metadata": metadata, **part} for part in _parts(subset)]
        if present or wanted:
            await reconcile(self._client, namespace, present, wanted)


def _mirrored(endpoints: Object) -> bool:
    metadata = endpoints["metadata"]
    skipped = (metadata.get("labels") or {}).get(_SKIP) == "true"
    return not skipped and _LEADER not in (metadata.get("annotations") or {})


def _metadata(endpoints: Object, namespace: str, name: str) -> Object:
    labels = {**(endpoints["metadata"].get("labels") or {}), SERVICE_LABEL: name, MANAGED_BY: _MANAGER}
    metadata = {
        "generateName": f"{name}-",
        "namespace": namespace,
        "labels": labels,
        "ownerReferences": [controller_reference("v1", "Endpoints", endpoints)],
    }
    given = endpoints["metadata"].get("annotations") or {}
    annotations = {name: text for name, text in given.items() if name not in _NOT_MIRRORED}
    return {**metadata, "annotations": annotations} if annotations else metadata


def _parts(subset: Object) -> list[Object]:
    ports = [
        {
            "name": port.get("name", ""),
            **{name: port[name] for name in ("port", "protocol", "appProtocol") if name in port},
        }
        for port in subset.get("ports") or ()
    ]
    by_family: dict[str, list[Object]] = {}
    for sort, ready in (("addresses", True), ("notReadyAddresses", False)):
        for address in (subset.get(sort) or ())[:_MOST]:
            parsed = parse_ip(address["ip"])
            if parsed is None:
                continue
            endpoint = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
            endpoint |= {name: address[name] for name in ("hostname", "nodeName", "targetRef") if name in address}
            by_family.setdefault(f"IPv{parsed.version}", []).append(endpoint)
    return [{"addressType": family, "endpoints": found, "ports": ports} for family, found in by_family.items()]


def build() -> Mirroring:
    return Mirroring()

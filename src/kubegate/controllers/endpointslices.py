"""EndpointSlices of services with a selector, a hundred endpoints in each. Follows k8s.io/endpointslice of v1.36."""

from __future__ import annotations

from typing import Any

from kubegate.api import Object
from kubegate.controllers import Client, World
from kubegate.controllers.base import Loop
from kubegate.controllers.events import Recorder
from kubegate.controllers.objects import controller_reference, split_key, tolerant
from kubegate.controllers.serviceendpoints import (
    HEADLESS_LABEL,
    LAST_TRIGGER,
    Backend,
    TriggerTimes,
    backends,
    follow,
    is_headless,
    selects,
    triggered,
)
from kubegate.storage import ObjectEvent, Reader

RESOURCE = "endpointslices.discovery.k8s.io"
SERVICE_LABEL, MANAGED_BY = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
_MANAGER = "endpointslice-controller.k8s.io"
_ZONE = "topology.kubernetes.io/zone"
_MOST = 100


class EndpointSlices(Loop):
    """Keys are `NAMESPACE/NAME` of services."""

    name = "endpointslice-controller"
    _events: Recorder
    _times: TriggerTimes

    def __init__(self) -> None:
        super().__init__()
        self._lacking: dict[str, set[str]] = {}  # a service's key -> nodes of its pods that are not there

    def start(self, world: World) -> None:
        super().start(world)
        self._events = Recorder(self._client, "endpoint-slice-controller", world.clock)
        self._times = TriggerTimes()
        follow(world.reader, self.queue)
        world.reader.subscribe("nodes", self._node_changed)
        world.reader.subscribe(RESOURCE, self._slice_changed)

    def _slice_changed(self, event: ObjectEvent, found: Object, _: Object | None) -> None:
        labels = found["metadata"].get("labels") or {}
        if event is ObjectEvent.DELETED and labels.get(MANAGED_BY) == _MANAGER and SERVICE_LABEL in labels:
            self.queue.add(f"{found['metadata']['namespace']}/{labels[SERVICE_LABEL]}")

    def _node_changed(self, event: ObjectEvent, node: Object, _: Object | None) -> None:
        if event is ObjectEvent.ADDED:
            for key, nodes in self._lacking.items():
                if node["metadata"]["name"] in nodes:
                    self.queue.add(key)

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        self._lacking.pop(key, None)
        service = await self._client.get("services", namespace, name)
        present = slices_of(self._reader, namespace, name, _MANAGER)
        if service is None or not selects(service):
            self._times.forget(key)
            await reconcile(self._client, namespace, present, [])
            return
        labels = {**(service["metadata"].get("labels") or {}), SERVICE_LABEL: name, MANAGED_BY: _MANAGER}
        if is_headless(service):
            labels[HEADLESS_LABEL] = ""
        metadata = {
            "generateName": f"{name}-",
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [controller_reference("v1", "Service", service)],
        }
        metadata = triggered(metadata, self._times.since_last(key, service, self._reader))
        wanted = []
        skipped: dict[str, str] = {}  # a pod -> its node, which is not there
        zones: dict[str, str | None] = {}
        for family in service["spec"].get("ipFamilies") or ("IPv4",):
            found = []
            for one in backends(self._reader, service, family):
                node = one.pod["spec"].get("nodeName", "")
                if node not in zones:
                    zones[node] = self._zone(node)
                # Even those that are not ready are wanted where the service says so, and then these, too.
                if zones[node] is None and not service["spec"].get("publishNotReadyAddresses"):
                    skipped[one.pod["metadata"]["name"]] = node
                else:
                    found.append((one, zones[node] or ""))
            wanted += [{"metadata": metadata, "addressType": family, **part} for part in _parts(service, found)]
        if skipped:
            self._lacking[key] = set(skipped.values())
        await reconcile(self._client, namespace, present, wanted)
        if skipped:
            await self._tell_of(skipped, key, service)

    def _zone(self, node: str) -> str | None:
        """The zone of a node, empty where it tells none; None where there is no such node."""
        found = self._reader.get("nodes", "", node) if node else None
        return None if found is None else str((found["metadata"].get("labels") or {}).get(_ZONE, ""))

    async def _tell_of(self, skipped: dict[str, str], key: str, service: Object) -> None:
        texts = [f"skipping Pod {pod} for Service {key}: Node {node} Not Found" for pod, node in skipped.items()]
        shown = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        text = f"Error updating Endpoint Slices for Service {key}: {shown}"
        await self._events.warning("v1", "Service", service, "FailedToUpdateEndpointSlices", text)


def slices_of(reader: Reader, namespace: str, service: str, manager: str) -> list[Object]:
    return [
        found
        for found in reader.list(RESOURCE, namespace)
        if (labels := found["metadata"].get("labels") or {}).get(SERVICE_LABEL) == service
        and labels.get(MANAGED_BY) == manager
    ]


async def reconcile(client: Client, namespace: str, present: list[Object], wanted: list[Object]) -> None:
    """Make the slices that are there those that are wanted; as few writes as go."""
    left = list(wanted)
    spare = []
    for found in present:
        same = next((one for one in left if _same(found, one)), None)
        if same is None:
            spare.append(found)
        else:
            left.remove(same)
    for found in spare:
        name = found["metadata"]["name"]
        alike = next((one for one in left if one["addressType"] == found["addressType"]), None)
        if alike is None:
            await tolerant(client.delete(RESOURCE, namespace, name))
            continue
        left.remove(alike)
        given = alike["metadata"].get("annotations") or {}
        annotations = {**(found["metadata"].get("annotations") or {}), **given}
        metadata = {**found["metadata"], "labels": alike["metadata"]["labels"], "annotations": annotations}
        metadata = triggered(metadata, given.get(LAST_TRIGGER, ""))
        changed = {**found, **alike, "metadata": metadata}
        await tolerant(client.update(RESOURCE, namespace, name, changed))
    for one in left:
        await tolerant(client.create(RESOURCE, namespace, one), "NotFound", "Forbidden")


def _same(found: Object, wanted: Object) -> bool:
    return (
        found["addressType"] == wanted["addressType"]
        and (found.get("endpoints") or []) == (wanted["endpoints"] or [])
        and (found.get("ports") or []) == (wanted["ports"] or [])
        and found["metadata"].get("labels") == wanted["metadata"]["labels"]
    )


def _parts(service: Object, found: list[tuple[Backend, str]]) -> list[Object]:
    """Endpoints and ports of each slice, of backends and their zones; one without any where there is none."""
    groups: dict[tuple[Any, ...], list[Object]] = {}
    for one, zone in sorted(found, key=lambda each: each[0].address):
        groups.setdefault(one.ports, []).append(_endpoint(service, one, zone))
    parts: list[Object] = []
    for ports, endpoints in groups.items():
        shown = [_port(*port) for port in ports]
        for first in range(0, len(endpoints), _MOST):
            parts.append({"endpoints": endpoints[first : first + _MOST], "ports": shown})
    return parts or [{"endpoints": None, "ports": None}]


def _endpoint(service: Object, one: Backend, zone: str) -> Object:
    endpoint: Object = {
        "addresses": [one.address],
        "conditions": {"ready": one.ready, "serving": one.serving, "terminating": one.terminating},
        "targetRef": one.target,
    }
    if one.has_name_of(service):
        endpoint["hostname"] = one.hostname
    if one.pod["spec"].get("nodeName"):
        endpoint["nodeName"] = one.pod["spec"]["nodeName"]
    if zone:
        endpoint["zone"] = zone
    return endpoint


def _port(name: str, number: int, protocol: str, application: str) -> Object:
    port: Object = {"name": name, "port": number, "protocol": protocol}
    if application:
        port["appProtocol"] = application
    return port


def build() -> EndpointSlices:
    return EndpointSlices()

"""Endpoints of services with a selector: the older form of EndpointSlices, for those that still read it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from kubegate.api import Object
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import split_key, tolerant
from kubegate.controllers.serviceendpoints import (
    HEADLESS_LABEL,
    Backend,
    TriggerTimes,
    backends,
    follow,
    is_headless,
    selects,
    triggered,
)
from kubegate.storage import ObjectEvent

_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
_MOST = 1000


class Endpoints(Loop):
    """Keys are `NAMESPACE/NAME` of services."""

    name = "endpoints-controller"
    account = "endpoint-controller"
    _times: TriggerTimes

    def start(self, world: World) -> None:
        super().start(world)
        self._times = TriggerTimes()
        follow(world.reader, self.queue)
        world.reader.subscribe("endpoints", self._endpoints_changed)

    def _endpoints_changed(self, event: ObjectEvent, endpoints: Object, _: Object | None) -> None:
        if event is ObjectEvent.DELETED:
            self.queue.add(f"{endpoints['metadata']['namespace']}/{endpoints['metadata']['name']}")

    async def sync(self, key: str) -> None:
        namespace, name = split_key(key)
        service = await self._client.get("services", namespace, name)
        current = self._reader.get("endpoints", namespace, name)
        if service is None:
            self._times.forget(key)
            if current is not None and _MANAGED_BY in (current["metadata"].get("labels") or {}):
                await tolerant(self._client.delete("endpoints", namespace, name))
            return
        if not selects(service):
            return
        labels = {**(service["metadata"].get("labels") or {}), _MANAGED_BY: "endpoint-controller"}
        if is_headless(service):
            labels[HEADLESS_LABEL] = ""
        trigger = self._times.since_last(key, service, self._reader)
        family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
        found = list(backends(self._reader, service, family))[:_MOST]
        subsets = _subsets(service, [one for one in found if not one.terminating or one.ready])
        if current is None:
            metadata = triggered({"name": name, "namespace": namespace, "labels": labels}, trigger)
            made: Object = {"metadata": metadata}
            if subsets:
                made["subsets"] = subsets
            await tolerant(self._client.create("endpoints", namespace, made), "AlreadyExists", "NotFound", "Forbidden")
        elif (current.get("subsets") or []) != subsets or current["metadata"].get("labels") != labels:
            metadata = triggered({**current["metadata"], "labels": labels}, trigger)
            changed = {**current, "metadata": metadata, "subsets": subsets}
            await tolerant(self._client.update("endpoints", namespace, name, changed))


def _subsets(service: Object, found: list[Backend]) -> list[Object]:
    """Ports that the same addresses have stand together, in the order of their hashes (RepackSubsets in Kubernetes)."""
    by_port: dict[tuple[str, int, str, str] | None, list[Backend]] = {}
    for one in sorted(found, key=lambda backend: (backend.address, backend.target["uid"])):
        no_ports: tuple[None, ...] = (None,) if not service["spec"].get("ports") else ()
        for port in one.ports or no_ports:
            by_port.setdefault(port, []).append(one)
    groups: dict[tuple[str, ...], tuple[list[Backend], list[Object]]] = {}
    for port, backends_of in by_port.items():
        key = tuple(f"{one.address} {one.target['uid']} {one.ready}" for one in backends_of)
        ports = groups.setdefault(key, (backends_of, []))[1]
        ports += [_port(*port)] if port is not None else []
    subsets = []
    for backends_of, ports in groups.values():
        subset: Object = {}
        for one in backends_of:
            subset.setdefault("addresses" if one.ready else "notReadyAddresses", []).append(_address(service, one))
        if ports:
            subset["ports"] = sorted(ports, key=lambda port: _hash("v1.EndpointPort", _port_text(port)))
        subsets.append(subset)
    return sorted(subsets, key=lambda subset: _hash("v1.EndpointSubset", _subset_text(subset)))


def _address(service: Object, one: Backend) -> Object:
    address: Object = {"ip": one.address, "targetRef": one.target}
    if one.has_name_of(service):
        address["hostname"] = one.hostname
    if one.pod["spec"].get("nodeName"):
        address["nodeName"] = one.pod["spec"]["nodeName"]
    return address


def _port(name: str, number: int, protocol: str, application: str) -> Object:
    port: Object = {"port": number, "protocol": protocol}
    if name:
        port["name"] = name
    if application:
        port["appProtocol"] = application
    return port


# ------------------------------------------------------------------ order
# Kubernetes sorts by the MD5 of what a Go library writes of the structs, as for the hashes of templates.
def _hash(kind: str, text: str) -> bytes:
    return hashlib.md5(f"({kind}){text}".encode(), usedforsecurity=False).digest()


def _subset_text(subset: Object) -> str:
    def listed(name: str, kind: str, text: Callable[[Object], str]) -> str:
        found = subset.get(name)
        return f"([]v1.{kind})" + (f"[{' '.join(map(text, found))}]" if found else "<nil>")

    addresses = listed("addresses", "EndpointAddress", _address_text)
    others = listed("notReadyAddresses", "EndpointAddress", _address_text)
    ports = listed("ports", "EndpointPort", _port_text)
    return f"{{Addresses:{addresses} NotReadyAddresses:{others} Ports:{ports}}}"


def _address_text(address: Object) -> str:
    target, node = address["targetRef"], address.get("nodeName", "<nil>")
    reference = (
        f"{{Kind:(string){target['kind']} Namespace:(string){target['namespace']} Name:(string){target['name']} "
        f"UID:(types.UID){target['uid']} APIVersion:(string) ResourceVersion:(string) FieldPath:(string)}}"
    )
    return (
        f"{{IP:(string){address['ip']} Hostname:(string){address.get('hostname', '')} NodeName:(*string){node} "
        f"TargetRef:(*v1.ObjectReference){reference}}}"
    )


def _port_text(port: Object) -> str:
    application = port.get("appProtocol", "<nil>")
    return (
        f"{{Name:(string){port.get('name', '')} Port:(int32){port['port']} Protocol:(v1.Protocol){port['protocol']} "
        f"AppProtocol:(*string){application}}}"
    )


def build() -> Endpoints:
    return Endpoints()

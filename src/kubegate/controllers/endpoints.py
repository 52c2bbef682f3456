"""Endpoints of services with a selector: the older form of EndpointSlices, for those that still read it."""

from __future__ import annotations

from typing import Any

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
        subsets = _subsets([one for one in found if not one.terminating or one.ready])
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


def _subsets(found: list[Backend]) -> list[Object]:
    """Addresses that have the same ports stand together."""
    groups: dict[tuple[Any, ...], Object] = {}
    for one in sorted(found, key=lambda backend: backend.address):
        subset = groups.setdefault(one.ports, {})
        address: Object = {"ip": one.address, "targetRef": one.target}
        if one.hostname and one.pod["spec"].get("subdomain"):
            address["hostname"] = one.hostname
        if one.pod["spec"].get("nodeName"):
            address["nodeName"] = one.pod["spec"]["nodeName"]
        subset.setdefault("addresses" if one.ready else "notReadyAddresses", []).append(address)
    for ports, subset in groups.items():
        if ports:
            subset["ports"] = [_port(*port) for port in ports]
    return list(groups.values())


def _port(name: str, number: int, protocol: str, application: str) -> Object:
    port: Object = {"port": number, "protocol": protocol}
    if name:
        port["name"] = name
    if application:
        port["appProtocol"] = application
    return port


def build() -> Endpoints:
    return Endpoints()

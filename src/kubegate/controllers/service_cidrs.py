"""ServiceCIDRs are Ready once they have a finalizer, and go when no address is left that only they hold.

Follows pkg/controller/servicecidrs of Kubernetes v1.36.
"""

from __future__ import annotations

import ipaddress

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339, rfc3339
from kubegate.api.names import IPAddress, IPNetwork, parse_ip
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import condition, ending, tolerant
from kubegate.controllers.service_addresses import ADDRESSES, ALLOCATOR, MANAGED_BY
from kubegate.storage import ObjectEvent

_CIDRS = "servicecidrs.networking.k8s.io"
_FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_HELD = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
_READY = "Kubernetes Service CIDR is ready"
_GRACE = 10.0  # for those who allocate to see that it goes


class ServiceCidrs(Loop):
    """Keys are names of ServiceCIDRs."""

    name = "service-cidr-controller"
    account = "service-cidrs-controller"

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe(_CIDRS, self._cidr_changed)
        world.reader.subscribe(ADDRESSES, self._address_changed)

    def _cidr_changed(self, event: ObjectEvent, cidr: Object, _: Object | None) -> None:
        if event is not ObjectEvent.DELETED:
            self.queue.add(cidr["metadata"]["name"])
        if event is not ObjectEvent.MODIFIED:
            self._look_at_those_that_go()

    def _address_changed(self, event: ObjectEvent, address: Object, _: Object | None) -> None:
        if event is ObjectEvent.DELETED:
            self._look_at_those_that_go()

    def _look_at_those_that_go(self) -> None:
        for cidr in self._reader.list(_CIDRS):
            if ending(cidr):
                self.queue.add(cidr["metadata"]["name"])

    async def sync(self, key: str) -> None:
        cidr = await self._client.get(_CIDRS, "", key)
        if cidr is None:
            return
        finalizers = list(cidr["metadata"].get("finalizers") or ())
        if not ending(cidr):
            if _FINALIZER not in finalizers:
                await self._finalize(cidr, [*finalizers, _FINALIZER])
            await self._say(cidr, "True", "", _READY)
        elif not self._may_go(cidr):
            await self._say(cidr, "False", "Terminating", _HELD)
        elif _FINALIZER in finalizers:
            left = parse_rfc3339(cidr["metadata"]["deletionTimestamp"]) + _GRACE - self._clock.now()
            if left > 0:
                self.queue.add_at(key, self._clock.monotonic() + left)
            else:
                await self._finalize(cidr, [one for one in finalizers if one != _FINALIZER])

    async def _finalize(self, cidr: Object, finalizers: list[str]) -> None:
        changed = {**cidr, "metadata": {**cidr["metadata"], "finalizers": finalizers}}
        await tolerant(self._client.update(_CIDRS, "", cidr["metadata"]["name"], changed))

    async def _say(self, cidr: Object, value: str, reason: str, message: str) -> None:
        found = condition(cidr, "Ready") or {}
        if found.get("status") == value and (value == "True" or found.get("message") == message):
            return
        name = cidr["metadata"]["name"]
        ready = {"type": "Ready", "status": value, "reason": reason, "message": message}
        ready["lastTransitionTime"] = rfc3339(self._clock.now())
        applied = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": name},
            "status": {"conditions": [{each: text for each, text in ready.items() if text}]},
        }
        await tolerant(self._client.apply(_CIDRS, "", name, applied, self.name, "status"))

    def _may_go(self, cidr: Object) -> bool:
        """Whether each address that it holds is held by another as well."""
        name = cidr["metadata"]["name"]
        others = [
            network
            for one in self._reader.list(_CIDRS)
            if one["metadata"]["name"] != name and not ending(one)
            for network in networks_of(one)
        ]
        own = networks_of(cidr)
        if all(any(_within(network, other) for other in others) for network in own):
            return True
        for found in self._reader.list(ADDRESSES):
            address = parse_ip(found["metadata"]["name"])
            managed = (found["metadata"].get("labels") or {}).get(MANAGED_BY) == ALLOCATOR
            if address is not None and managed and _in_any(address, own) and not _in_any(address, others):
                return False
        return True


def networks_of(cidr: Object) -> list[IPNetwork]:
    return [ipaddress.ip_network(text, strict=False) for text in cidr["spec"].get("cidrs") or ()]


def _within(network: IPNetwork, other: IPNetwork) -> bool:
    first, last = network.network_address, network.broadcast_address
    return network.version == other.version and first in other and last in other


def _in_any(address: IPAddress, networks: list[IPNetwork]) -> bool:
    return any(address in network for network in networks)


def build() -> ServiceCidrs:
    return ServiceCidrs()

"""IPAddress objects: one for each cluster IP that a Service has.

kube-apiserver makes them itself with the Service, and repairs them; here they follow it. See
pkg/registry/core/service/ipallocator and pkg/registry/core/service/portallocator/controller of Kubernetes v1.36.
"""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.names import parse_ip
from kubegate.controllers import World
from kubegate.controllers.base import Loop
from kubegate.controllers.objects import tolerant
from kubegate.storage import ObjectEvent

ADDRESSES = "ipaddresses.networking.k8s.io"
FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY, ALLOCATOR = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"


class ServiceAddresses(Loop):
    """Keys are addresses."""

    name = "service-ip-address-controller"
    account = "kube-apiserver"

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[str, tuple[str, str]] = {}  # address -> the Service's (namespace, name)

    def start(self, world: World) -> None:
        super().start(world)
        world.reader.subscribe("services", self._service_changed)
        world.reader.subscribe(ADDRESSES, self._address_changed)

    def _service_changed(self, event: ObjectEvent, service: Object, previous: Object | None) -> None:
        owner = (service["metadata"]["namespace"], service["metadata"]["name"])
        now = set() if event is ObjectEvent.DELETED else set(_addresses(service))
        before = set() if previous is None else set(_addresses(previous))
        for address in before | now | (set(_addresses(service)) - now):
            if address in now:
                self._held[address] = owner
            elif self._held.get(address) == owner:
                del self._held[address]
            self.queue.add(address)

    def _address_changed(self, event: ObjectEvent, address: Object, _: Object | None) -> None:
        self.queue.add(address["metadata"]["name"])

    async def sync(self, key: str) -> None:
        owner, found = self._held.get(key), await self._client.get(ADDRESSES, "", key)
        if found is not None:
            ours = (found["metadata"].get("labels") or {}).get(MANAGED_BY) == ALLOCATOR
            if not ours or (owner is not None and found["spec"].get("parentRef") == _reference(owner)):
                return
            await tolerant(self._client.delete(ADDRESSES, "", key))
        if owner is None:
            return
        address = parse_ip(key)
        family = "IPv6" if address is not None and address.version == 6 else "IPv4"
        labels = {FAMILY: family, MANAGED_BY: ALLOCATOR}
        made = {"metadata": {"name": key, "labels": labels}, "spec": {"parentRef": _reference(owner)}}
        await tolerant(self._client.create(ADDRESSES, "", made), "AlreadyExists")


def _addresses(service: Object) -> list[str]:
    return [one for one in (service.get("spec") or {}).get("clusterIPs") or () if one not in ("", "None")]


def _reference(owner: tuple[str, str]) -> Object:
    return {"resource": "services", "namespace": owner[0], "name": owner[1]}


def build() -> ServiceAddresses:
    return ServiceAddresses()

"""Cluster IPs and node ports of Services: which are taken, and the next one that is free.

What is taken is learnt from the stored Services, so that nothing is lost or leaked when the server stops. Between the
choice and the write a reservation keeps concurrent creates apart; it lapses by itself where the write fails.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.api.names import IPAddress, IPNetwork, parse_ip
from kubegate.registry.checks import listed
from kubegate.storage import ObjectEvent, Reader

if TYPE_CHECKING:
    from kubegate.registry.generic import Registry

IPV4: Final = "IPv4"
IPV6: Final = "IPv6"
# Longer than any request may take to reach the store.
_RESERVED_SECONDS: Final = 60.0
_TRIES: Final = 64
_EXTENSION: Final = "service-allocator"


T = TypeVar("T")


class AllocationError(Exception):
    """The text is kube-apiserver's."""


class _Pool(Generic[T]):
    """Values that are taken (by how many) or reserved (until when)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: Counter[T] = Counter()
        self._reserved: dict[T, float] = {}

    def add(self, value: T) -> None:
        self._taken[value] += 1
        self._reserved.pop(value, None)

    def discard(self, value: T) -> None:
        self._taken[value] -= 1
        if self._taken[value] <= 0:
            del self._taken[value]

    def free(self, value: T) -> bool:
        if value in self._taken:
            return False
        until = self._reserved.get(value)
        return until is None or until <= self._clock.monotonic()

    def reserve(self, value: T) -> None:
        now = self._clock.monotonic()
        if len(self._reserved) > 1024:
            self._reserved = {one: until for one, until in self._reserved.items() if until > now}
        self._reserved[value] = now + _RESERVED_SECONDS

    def release(self, value: T) -> None:
        self._reserved.pop(value, None)


class ServiceAllocator:
    """`cidr` as in --service-cluster-ip-range (one range, or one of each family), `node_port_range` as its flag.

    ServiceCIDRs that are Ready add ranges of these families.
    """

    def __init__(self, cidr: str, node_port_range: str, reader: Reader, random: Random, clock: Clock) -> None:
        self.networks: dict[str, IPNetwork] = {}
        for text in cidr.split(","):
            network = ipaddress.ip_network(text.strip(), strict=False)
            self.networks[family_of(network.network_address)] = network
        first, _, last = node_port_range.partition("-")
        self.first_port, self.last_port = int(first), int(last or first)
        self._random = random
        self._addresses: _Pool[IPAddress] = _Pool(clock)
        self._ports: _Pool[int] = _Pool(clock)
        self._more: dict[str, list[IPNetwork]] = {}  # by the ServiceCIDR's name
        reader.subscribe("services", self._on_service)
        reader.subscribe("servicecidrs.networking.k8s.io", self._on_cidr)

    @property
    def families(self) -> tuple[str, ...]:
        """The families that there are addresses of, the default one first."""
        return tuple(self.networks)

    def _on_service(self, event: ObjectEvent, service: Object, previous: Object | None) -> None:
        before = previous if event is not ObjectEvent.ADDED else None
        if before is not None:
            for address in _addresses_of(before):
                self._addresses.discard(address)
            for port in _ports_of(before):
                self._ports.discard(port)
        if event is not ObjectEvent.DELETED:
            for address in _addresses_of(service):
                self._addresses.add(address)
            for port in _ports_of(service):
                self._ports.add(port)

    def _on_cidr(self, event: ObjectEvent, cidr: Object, _: Object | None) -> None:
        name, found = cidr["metadata"]["name"], []
        if event is not ObjectEvent.DELETED and not cidr["metadata"].get("deletionTimestamp") and _is_ready(cidr):
            found = [ipaddress.ip_network(text, strict=False) for text in cidr["spec"]["cidrs"]]
        self._more[name] = [network for network in found if network not in self.networks.values()]

    def _ranges(self, family: str) -> list[IPNetwork]:
        """All ranges of a family, that of the flags first."""
        added = (network for networks in self._more.values() for network in networks)
        more = [network for network in added if family_of(network.network_address) == family]
        return [self.networks[family], *more] if family in self.networks else []

    # ------------------------------------------------------------------ addresses
    def take_address(self, text: str) -> None:
        """Reserve the address that was asked for. Raises AllocationError."""
        address = parse_ip(text)
        ranges = [one for one in self._ranges(family_of(address)) if address in one] if address is not None else []
        if address is None or not ranges:
            raise AllocationError("the provided network does not match the current range")
        network = max(ranges, key=lambda one: one.prefixlen)
        first, last = _bounds(network)
        if not first <= int(address) <= last:
            raise AllocationError(
                f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {network}"
            )
        if not self._addresses.free(address):
            raise AllocationError("provided IP is already allocated")
        self._addresses.reserve(address)

    def next_address(self, family: str) -> str:
        """Reserve a free address. Raises AllocationError where there is none."""
        make = ipaddress.IPv4Address if family == IPV4 else ipaddress.IPv6Address
        for network in self._ranges(family):
            first, last = _bounds(network)
            for number in self._candidates(first, last, _static_addresses(last - first + 1)):
                address = make(number)
                if self._addresses.free(address):
                    self._addresses.reserve(address)
                    return str(address)
        raise AllocationError("range is full")

    def dry_address(self, family: str) -> str:
        """What a dry run shows: the network itself, since nothing is allocated."""
        return str(self.networks[family].network_address)

    def release_address(self, text: str) -> None:
        address = parse_ip(text)
        if address is not None:
            self._addresses.release(address)

    # ------------------------------------------------------------------ ports
    def take_port(self, port: int) -> None:
        """Reserve the node port that was asked for, whatever its protocol. Raises AllocationError."""
        if not self.first_port <= port <= self.last_port:
            valid = f"{self.first_port}-{self.last_port}"
            raise AllocationError(f"provided port is not in the valid range. The range of valid ports is {valid}")
        if not self._ports.free(port):
            raise AllocationError("provided port is already allocated")
        self._ports.reserve(port)

    def next_port(self) -> int:
        """Reserve a free node port. Raises AllocationError where there is none."""
        static = _static_ports(self.last_port - self.first_port + 1)
        for port in self._candidates(self.first_port, self.last_port, static):
            if self._ports.free(port):
                self._ports.reserve(port)
                return port
        raise AllocationError("range is full")

    def is_free(self, port: int) -> bool:
        return self._ports.free(port)

    def release_port(self, port: int) -> None:
        self._ports.release(port)

    def _candidates(self, first: int, last: int, static: int) -> Iterator[int]:
        """Random values above the part that people choose from by hand, then all in order, that part last."""
        dynamic = min(first + static, last)
        for _ in range(_TRIES):
            yield self._random.randint(dynamic, last)
        # A range may be far larger than what could ever be in use.
        yield from range(dynamic, min(last, dynamic + (1 << 20)) + 1)
        yield from range(first, dynamic)


def _is_ready(cidr: Object) -> bool:
    conditions = (cidr.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def family_of(address: IPAddress) -> str:
    return IPV4 if address.version == 4 else IPV6


def _bounds(network: IPNetwork) -> tuple[int, int]:
    """The first and last usable address: neither the network's own nor, for IPv4, the broadcast one."""
    first, last = int(network.network_address), int(network.broadcast_address)
    return first + 1, max(first + 1, last - 1 if network.version == 4 else last)


def _static_addresses(size: int) -> int:
    return 0 if size < 16 else min(max(16, size // 16), 256)


def _static_ports(size: int) -> int:
    return 0 if size < 16 else min(max(16, size // 32), 128)


def _addresses_of(service: Object) -> list[IPAddress]:
    spec = service.get("spec") or {}
    texts = listed(spec, "clusterIPs") or [spec.get("clusterIP", "")]
    found = [parse_ip(text) for text in texts if text not in ("", "None")]
    return [address for address in found if address is not None]


def _ports_of(service: Object) -> set[int]:
    spec = service.get("spec") or {}
    found = {port["nodePort"] for port in listed(spec, "ports") if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        found.add(spec["healthCheckNodePort"])
    return found


def allocator_of(registry: Registry) -> ServiceAllocator:
    """The registry's allocator, made from the server's options when first needed."""
    found: Any = registry.extensions.get(_EXTENSION)
    if found is None:
        options = registry.extensions.get("options")
        cidr = getattr(options, "service_cluster_ip_range", "") or "10.0.0.0/24"
        ports = getattr(options, "service_node_port_range", "") or "30000-32767"
        found = ServiceAllocator(cidr, ports, registry.reader, registry.random, registry.clock)
        registry.extensions[_EXTENSION] = found
    assert isinstance(found, ServiceAllocator)
    return found

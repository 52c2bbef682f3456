"""Addresses of simulated nodes and of the pods on them. None of them leads anywhere."""

from __future__ import annotations

from collections.abc import Iterator

MOST_NODES = 1000
PODS_OF_A_NODE = 110


def node_names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(1, count + 1)]


def node_address(number: int) -> str:
    """Of the node with this number, from 1 on."""
    return f"10.64.{number >> 8}.{number & 255}"


def pod_network(number: int) -> str:
    """The /24 that a node's pods have their addresses from."""
    return f"10.{128 + (number >> 8)}.{number & 255}.0/24"


def _pod_addresses(number: int) -> Iterator[str]:
    network = pod_network(number).removesuffix("0/24")
    return (f"{network}{host}" for host in range(2, 255))


class PodAddresses:
    """Which pod (by uid) has which address."""

    def __init__(self) -> None:
        self._of_pod: dict[str, str] = {}
        self._taken: set[str] = set()

    def keep(self, uid: str, address: str) -> None:
        """Note an address that a pod has already."""
        self._of_pod[uid] = address
        self._taken.add(address)

    def give(self, uid: str, number: int) -> str:
        """The pod's address, a free one of its node where it has none yet; "" where none is free."""
        if uid not in self._of_pod:
            free = next((address for address in _pod_addresses(number) if address not in self._taken), "")
            if not free:
                return ""
            self.keep(uid, free)
        return self._of_pod[uid]

    def release(self, uid: str) -> None:
        self._taken.discard(self._of_pod.pop(uid, ""))

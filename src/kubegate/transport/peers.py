"""Which clients are still there, asked of the kernel.

The ASGI server notices that an HTTP/1.1 client has gone when it next sends it something, and a watch on which nothing
happens sends nothing. Connections over HTTP/2 are noticed at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path

Peer = tuple[str, int]
"""A client's address and port, as ASGI's scope has them."""

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


def gone(port: int, peers: Collection[Peer]) -> set[Peer]:
    """Those of `peers` who have no connection to this machine's `port` that is open on both sides.

    It reads a table of all connections: call it from a thread. Nobody has gone as far as systems tell that have no such
    table (it is Linux').
    """
    try:
        there = set(_connected(port))
    except OSError:
        return set()
    return {peer for peer in peers if (_packed(peer[0]), peer[1]) not in there}


def _connected(port: int) -> Iterator[tuple[bytes, int]]:
    local = f":{port:04X}"
    for table in _TABLES:
        if not table.exists():  # a machine may have no IPv6
            continue
        for line in table.read_text().splitlines()[1:]:
            _, own, remote, state, _ = line.split(maxsplit=4)
            if state == _ESTABLISHED and own.endswith(local):
                address, _, number = remote.partition(":")
                yield _from_words(bytes.fromhex(address)), int(number, 16)


def _from_words(data: bytes) -> bytes:
    """Words of four bytes in this machine's order, which is least first, to an address in the network's."""
    turned = b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))
    return _packed(str(IPv6Address(turned))) if len(turned) == 16 else turned


def _packed(text: str) -> bytes:
    """An address as bytes; one of IPv4 is the same however it was written."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed

"""One user floods the server: how long others wait, beside how long they wait without it, and on the bare server."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from bench.harness import Figure, Process, bare, kubegate, measure
from bench.reads import allow_reader

PATH = "/api/v1/namespaces/default/configmaps/asked"
FLOOD = 64
"""Connections of the user who floods."""


async def _waits(server: Process, seconds: float) -> list[float]:
    """Seconds that each GET of another user took, one after the other on one connection."""
    parts = urlsplit(server.url)
    context = ssl.create_default_context(cafile=str(server.ca))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
    request = f"GET {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer reader-token\r\n\r\n".encode()
    found = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        found.append(time.perf_counter() - start)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"refused: {head[:80]!r}")
        await asyncio.sleep(0.002)
    writer.close()
    return found


def _p99(waits: list[float]) -> float:
    return sorted(waits)[int(len(waits) * 0.99)] * 1e3


def _flooded(server: Process, seconds: float) -> float:
    """The p99 of one user in milliseconds, while another floods."""
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(measure, server, PATH, seconds=seconds + 2, connections=FLOOD)
        asyncio.run(_waits(server, 1.0))  # until it has begun
        found = _p99(asyncio.run(_waits(server, seconds)))
        flood.result()
    return found


def run(quick: bool) -> Iterator[Figure]:
    seconds = 1.0 if quick else 8.0
    with kubegate() as server, bare(400, server.ca.parent) as empty:
        allow_reader(server)
        server.request("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "asked"}})
        alone = _p99(asyncio.run(_waits(server, seconds)))
        found, other = _flooded(server, seconds), _flooded(empty, seconds)
    yield Figure(
        "GET of one user while another floods, p99", found, "ms", other, f"{alone:.2f} ms without; {FLOOD} connections"
    )

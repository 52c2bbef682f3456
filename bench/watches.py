"""Delivery of 100 changes to 1,000 watchers, and what watches cost in memory."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvloop

from bench.harness import TOKEN, Figure, Process, kubegate

PATH = "/api/v1/namespaces/default/configmaps"
STREAMS = 100
"""Watches on one connection; the server allows 250."""


def run(quick: bool) -> Iterator[Figure]:
    watchers, changes = (200, 20) if quick else (1000, 100)
    with kubegate() as server:
        before = server.memory_mb()
        delays, rate, memory = uvloop.run(_measure(server, watchers, changes))
        yield Figure(f"one change to {watchers} watchers, median", statistics.median(delays) * 1e3, "ms")
        yield Figure(f"{changes} changes to {watchers} watchers", rate, "events/s")
        note = "HTTP/1.1, a connection each"
        yield Figure(f"memory for each of {watchers} watches", (memory - before) / watchers * 1e3, "kB", note=note)
    many = 1000 if quick else 10_000
    with kubegate() as server:
        before = server.memory_mb()
        if (memory_mb := _over_http2(server, many)) is not None:
            note = f"HTTP/2, {STREAMS} to a connection; {memory_mb:.0f} MB for the whole server"
            yield Figure(f"memory for each of {many:,} watches", (memory_mb - before) / many * 1e3, "kB", note=note)


def _over_http2(server: Process, watches: int) -> float | None:
    """MB of a server with so many watches as Kubernetes' own clients open them; None where there is no h2load."""
    if shutil.which("h2load") is None:
        return None
    connections = watches // STREAMS
    command = ["h2load", f"-c{connections}", f"-m{STREAMS}", f"-n{watches}", "-H", f"Authorization: Bearer {TOKEN}"]
    command.append(f"{server.url}{PATH}?watch=1&timeoutSeconds=600")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as load:
        until = time.monotonic() + 60
        while time.monotonic() < until and watching(server) < watches:
            time.sleep(0.2)
        found, memory = watching(server), server.memory_mb()
        load.kill()
    if found != watches:
        raise RuntimeError(f"{found} of {watches} watches are open")
    return memory


def watching(server: Process) -> int:
    """How many watches are open."""
    text = server.request("GET", "/metrics").decode()
    return sum(
        int(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith('apiserver_longrunning_requests{verb="WATCH"')
    )


async def _measure(server: Process, watchers: int, changes: int) -> tuple[list[float], float, float]:
    parts = urlsplit(server.url)
    context = ssl.create_default_context(cafile=str(server.ca))
    sent: dict[str, float] = {}
    delays: list[float] = []
    opened = asyncio.Event()
    count = 0

    async def watch() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
        query = f"{PATH}?watch=1&resourceVersion={start}&fieldSelector=metadata.name%3Dc"
        head = f"GET {query} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        count += 1
        if count == watchers:
            opened.set()
        seen = 0
        while seen < changes:
            line = await reader.readline()
            if b'"n":"' in line:
                seen += 1
                name = line.split(b'"n":"')[1].split(b'"')[0].decode()
                delays.append(time.perf_counter() - sent[name])
        writer.close()

    version = await asyncio.to_thread(server.request, "GET", PATH)
    start = version["metadata"]["resourceVersion"]
    body = {"metadata": {"name": "c"}, "data": {"m": "0"}}
    await asyncio.to_thread(server.request, "POST", PATH, body)
    tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
    await opened.wait()
    memory = server.memory_mb()
    began = time.perf_counter()
    for number in range(changes):
        sent[str(number)] = time.perf_counter()
        patch = json.dumps({"data": {"n": str(number)}}).encode()
        await asyncio.to_thread(server.request, "PATCH", f"{PATH}/c", patch, "application/merge-patch+json")
    await asyncio.gather(*tasks)
    return delays, watchers * changes / (time.perf_counter() - began), memory

"""Delivery of 100 changes to 1,000 watchers."""

from __future__ import annotations

import asyncio
import json
import ssl
import statistics
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from bench.harness import TOKEN, Figure, Process, kubegate


def run(quick: bool) -> Iterator[Figure]:
    watchers, changes = (200, 20) if quick else (1000, 100)
    with kubegate() as server:
        before = server.memory_mb()
        delays, rate, memory = asyncio.run(_measure(server, watchers, changes))
        yield Figure(f"one change to {watchers} watchers, median", statistics.median(delays) * 1e3, "ms")
        yield Figure(f"{changes} changes to {watchers} watchers", rate, "events/s")
        yield Figure(f"memory for each of {watchers} watches", (memory - before) / watchers * 1e3, "kB")


async def _measure(server: Process, watchers: int, changes: int) -> tuple[list[float], float, float]:
    parts = urlsplit(server.url)
    context = ssl.create_default_context(cafile=str(server.ca))
    sent: dict[str, float] = {}
    delays: list[float] = []
    opened = asyncio.Event()
    count = 0
    path = "/api/v1/namespaces/default/configmaps"

    async def watch() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
        query = f"{path}?watch=1&resourceVersion={start}&fieldSelector=metadata.name%3Dc"
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

    version = await asyncio.to_thread(server.request, "GET", path)
    start = version["metadata"]["resourceVersion"]
    body = {"metadata": {"name": "c"}, "data": {"m": "0"}}
    await asyncio.to_thread(server.request, "POST", path, body)
    tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
    await opened.wait()
    memory = server.memory_mb()
    began = time.perf_counter()
    for number in range(changes):
        sent[str(number)] = time.perf_counter()
        patch = json.dumps({"data": {"n": str(number)}}).encode()
        await asyncio.to_thread(server.request, "PATCH", f"{path}/c", patch, "application/merge-patch+json")
    await asyncio.gather(*tasks)
    return delays, watchers * changes / (time.perf_counter() - began), memory

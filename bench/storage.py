"""The store without the server: durable writes beside the disk's own rate, restart, memory, delivery to watches."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness import ROOT, Figure, kubegate
from kubegate.api.resources import Resources
from kubegate.registry import wire
from kubegate.registry.codec import ObjectCodec
from kubegate.registry.keys import Keys
from kubegate.storage import Store
from kubegate.storage.cache import WatchCache
from kubegate.storage.memory import MemoryStore
from kubegate.storage.sqlite import SqliteStore


def value(number: int) -> bytes:
    """A ConfigMap of 1 kB with two labels, as it is stored."""
    metadata = {
        "name": f"config-{number}",
        "namespace": f"team-{number % 100}",
        "uid": f"0b4c1f6e-0000-4000-8000-{number:012}",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": f"app-{number % 50}", "tier": "backend"},
    }
    return wire.encode({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": {"text": "x" * 700}})


def key(number: int) -> str:
    return f"/registry/configmaps/team-{number % 100}/config-{number}"


async def opened(store: Store) -> WatchCache:
    await store.start()
    cache = WatchCache(store, ObjectCodec(Keys(Resources.built_in())))
    await cache.start()
    return cache


def fsync_rate(folder: Path, seconds: float) -> float:
    """How often a second the disk makes 4 kB more of a file durable, one after the other."""
    descriptor = os.open(folder / "fsync", os.O_CREAT | os.O_WRONLY)
    block, count, end = b"x" * 4096, 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        os.write(descriptor, block)
        os.fdatasync(descriptor)
        count += 1
    os.close(descriptor)
    return count / seconds


async def creates(store: Store, clients: int, seconds: float) -> float:
    """Durable creates a second."""
    cache = await opened(store)
    numbers = iter(range(10**9))
    end = time.perf_counter() + seconds
    count = 0

    async def client() -> None:
        nonlocal count
        while time.perf_counter() < end:
            number = next(numbers)
            await cache.put(key(number), value(number), 0)
            count += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    await cache.close()
    await store.close()
    return count / seconds


async def fill(path: Path, count: int) -> None:
    store = SqliteStore(path)
    await store.start()
    for start in range(0, count, 2000):
        await asyncio.gather(*(store.put(key(n), value(n), 0) for n in range(start, min(start + 2000, count))))
    await store.close()


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def restart(path: Path) -> tuple[float, float]:
    """Seconds until a store with its cache can serve, and resident bytes for each byte of JSON."""
    await (await opened(MemoryStore())).close()  # what is loaded and made once is no object's
    gc.collect()
    before, start = resident(), time.perf_counter()
    store = SqliteStore(path)
    cache = await opened(store)
    seconds = time.perf_counter() - start
    gc.collect()
    held = resident() - before
    served = sum(len(entry.data) for entry in cache.range("/registry/")[0])
    await cache.close()
    await store.close()
    return seconds, held / served


async def delivery(watchers: int, rounds: int) -> float:
    """Seconds from a write's begin until the last of the watchers has it; the median."""
    cache = await opened(MemoryStore())
    told = 0
    everybody = asyncio.Event()

    async def watch() -> None:
        nonlocal told
        async for events in cache.watch("/registry/configmaps/", cache.revision):
            told += len(events)
            if told == watchers:
                everybody.set()

    tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
    await asyncio.sleep(0.01)
    times = []
    for number in range(rounds):
        told = 0
        everybody.clear()
        start = time.perf_counter()
        await cache.put(key(0), value(number), None)
        await everybody.wait()
        times.append(time.perf_counter() - start)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await cache.close()
    return statistics.median(times)


def run(quick: bool) -> Iterator[Figure]:
    import uvloop

    seconds = 1.0 if quick else 4.0
    count = 10_000 if quick else 100_000
    with tempfile.TemporaryDirectory(dir=ROOT / ".bench" if (ROOT / ".bench").exists() else None) as name:
        folder = Path(name)
        rate = fsync_rate(folder, seconds)
        yield Figure("fsync of 4 kB, one after the other", rate, "a second")
        for clients in (1, 64):
            found = uvloop.run(creates(SqliteStore(folder / f"{clients}.db"), clients, seconds))
            note = "bare: fsync alone"
            yield Figure(f"durable create of 1 kB in the store, {clients} at once", found, "a second", rate, note)
        path = folder / "many.db"
        uvloop.run(fill(path, count))
        done = subprocess.run(
            [sys.executable, "-m", "bench.storage", str(path)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        ready, ratio = map(float, done.stdout.split())
        yield Figure(f"restart of the store with {count:,} objects", ready, "s", note=f"{path.stat().st_size >> 20} MB")
        yield Figure("memory of an object of 1 kB in the cache", ratio, "x its JSON")
        with kubegate(f"sqlite:{path}"):  # makes what a new server has
            pass
        with kubegate(f"sqlite:{path}") as server:
            yield Figure(f"restart of the server with {count:,} objects", server.ready_seconds, "s")
    median = uvloop.run(delivery(1000, 20 if quick else 100))
    yield Figure("one change to 1,000 watchers of the cache, median", median * 1000, "ms")


if __name__ == "__main__":
    print(*asyncio.run(restart(Path(sys.argv[1]))))

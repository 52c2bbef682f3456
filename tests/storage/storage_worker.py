"""A process that works on a store as hard as it can and writes down what it did, until it is killed.

    storage_worker.py OUTPUT FIRST_ID AFTER SECONDS STORAGE|URL,URL,...|keeper:FOLDER [PREFIX]

Clients read, create, update and delete a few keys through a watch cache, at revisions that they read before. OUTPUT
gets a line of JSON for the begin and the end of each operation, with the machine's monotonic time, and for what a
watch from revision AFTER brings. Every value is used once: its number and a filling of that many bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from contextlib import suppress

import orjson

from kubegate.storage import EventType, FutureRevision, RevisionConflict, StoreUnavailable
from kubegate.storage.build import StorageOptions, open_store
from kubegate.storage.cache import NOTHING, WatchCache

CLIENTS = 24
KEYS = [f"/registry/things/ns/{name}" for name in "abcdefgh"]


def value_of(number: int) -> bytes:
    return b"%d:" % number + b"x" * (number % 3000)


def number_of(value: bytes) -> int:
    number = int(value.partition(b":")[0])
    if value != value_of(number):
        raise ValueError(f"the value {number} is not whole")
    return number


async def work(output: int, first: int, after: int, seconds: float, storage: str, prefix: str) -> None:
    def note(**line: object) -> None:
        os.write(output, orjson.dumps(line) + b"\n")

    options = StorageOptions(storage=storage, compaction_interval=0)
    if storage.startswith("http"):
        options = StorageOptions(etcd_servers=storage.split(","), etcd_prefix=prefix, compaction_interval=0)
    if storage.startswith("keeper:"):
        options = StorageOptions(keeper=storage.removeprefix("keeper:"))
    store = open_store(options)
    await store.start()
    cache = WatchCache(store, lambda key, value, revision: (value, NOTHING, NOTHING), window=200_000)
    await cache.start()
    numbers = itertools.count(first)

    async def client() -> None:
        while True:
            number = next(numbers)
            key = random.choice(KEYS)
            entry = cache.get(key)
            choice = random.random()
            if choice < 0.3:
                note(id=number, op="get", key=key, start=time.monotonic())
                try:
                    await cache.fresh()
                except (StoreUnavailable, FutureRevision) as error:
                    note(id=number, failed=str(error))
                    continue
                found = cache.get(key)
                note(id=number, end=time.monotonic(), revision=found.revision if found else 0)
                await asyncio.sleep(0)
                continue
            expected = entry.revision if entry else 0
            op = "delete" if entry and choice < 0.4 else "put"
            note(id=number, op=op, key=key, start=time.monotonic(), expected=expected)
            try:
                if op == "put":
                    revision = await cache.put(key, value_of(number), expected)
                else:
                    revision = await cache.delete(key, expected)
            except RevisionConflict as conflict:
                actual = conflict.actual.mod_revision if conflict.actual else 0
                note(id=number, end=time.monotonic(), conflict=actual)
            except StoreUnavailable as error:
                note(id=number, failed=str(error))
                await asyncio.sleep(0.02)
            else:
                note(id=number, end=time.monotonic(), revision=revision)

    async def watcher() -> None:
        async for events in cache.watch("/registry/things/", after, limit=1_000_000):
            seen = []
            for event in events:
                entry = event.entry
                seen.append([event.revision, event.key, number_of(entry.data) if entry else None])
                assert (event.type is EventType.PUT) == (entry is not None)
            note(seen=seen)

    async def compactor() -> None:
        while storage.startswith("sqlite"):
            await asyncio.sleep(random.random() * 0.2)
            await store.compact(max(cache.revision - 5000, 1))

    tasks = [
        asyncio.create_task(coroutine) for coroutine in [watcher(), compactor(), *(client() for _ in range(CLIENTS))]
    ]
    note(ready=True)
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        if error := task.exception():
            note(crashed=repr(error))
            raise error
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)


if __name__ == "__main__":
    path, first, after, seconds, storage = sys.argv[1:6]
    prefix = sys.argv[6] if len(sys.argv) > 6 else "/registry"
    asyncio.run(
        work(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            int(first),
            int(after),
            float(seconds),
            storage,
            prefix,
        )
    )

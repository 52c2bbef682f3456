"""The store in this process's memory: for tests and for servers that need not outlive their process."""

from __future__ import annotations

import asyncio
import heapq
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

from kubegate.api.clock import Clock, SystemClock
from kubegate.storage import (
    Compacted,
    EventType,
    FutureRevision,
    KeyValue,
    Range,
    RevisionConflict,
    StoreEvent,
    StoreUnavailable,
)
from kubegate.storage.audience import Audience
from kubegate.storage.compaction import Compactor

FIRST_REVISION = 1
"""An empty store's revision, as etcd has it: the first write makes revision 2."""

BATCH = 1000
"""Events that a watch hands out at once."""


class MemoryStore:
    """`Store` without a file. Every write is "durable" at once, so that listeners hear of it before `put` returns."""

    def __init__(self, clock: Clock | None = None, *, compaction_interval: float = 0) -> None:
        self._clock = clock or SystemClock()
        self._compactor = Compactor(self, self._clock, compaction_interval)
        self._revision = FIRST_REVISION
        self._oldest = 0  # what was compacted up to; 0: nothing
        self._keys: dict[str, list[StoreEvent]] = {}  # key -> its versions, oldest first
        self._log: list[StoreEvent] = []  # everything after the last compaction
        self._audience = Audience()
        self._deadlines: list[tuple[float, str, int]] = []  # heap of (when, key, mod_revision)
        self._expiry: asyncio.Task[None] | None = None
        self._open = False

    async def start(self) -> None:
        self._open = True
        self._compactor.start()

    async def close(self) -> None:
        await self._compactor.close()
        self._open = False
        if self._expiry is not None:
            self._expiry.cancel()
            with suppress(asyncio.CancelledError):
                await self._expiry
            self._expiry = None
        self._audience.wake()

    def health(self) -> str | None:
        return None if self._open else "the store is closed"

    async def revision(self) -> int:
        self._require_open()
        return self._revision

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        self._readable(revision)
        return self._at(key, revision)

    async def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        self._readable(revision)
        items: list[KeyValue] = []
        remaining = 0
        # sorted anew each time: the watch cache reads all of it once, and what it has after that never
        for key in sorted(key for key in self._keys if key > after and key.startswith(prefix)):
            found = self._at(key, revision)
            if found is None:
                continue
            if limit and len(items) >= limit:
                remaining += 1
            else:
                items.append(found)
        return Range(items, revision or self._revision, remaining)

    async def put(self, key: str, value: bytes, expected: int | None, *, ttl: int = 0) -> int:
        self._require_open()
        previous = self._guard(key, expected)
        self._revision += 1
        self._record(StoreEvent(EventType.PUT, key, self._revision, value, previous))
        if ttl:
            heapq.heappush(self._deadlines, (self._clock.monotonic() + ttl, key, self._revision))
            if self._expiry is None:
                self._expiry = asyncio.get_running_loop().create_task(self._expire())
        return self._revision

    async def delete(self, key: str, expected: int | None) -> int:
        self._require_open()
        previous = self._guard(key, expected)
        if previous is None:
            raise RevisionConflict(key, None)
        return self._remove(key, previous)

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[Sequence[StoreEvent], None]:
        position = after
        while self._open:
            if position < self._oldest:
                raise Compacted(self._oldest)
            start = bisect_right(self._log, position, key=_revision_of)
            if start < len(self._log):
                events = self._log[start : start + BATCH]
                position = events[-1].revision
                yield [event for event in events if event.key.startswith(prefix)]
            else:
                position = max(position, self._revision)
                await self._audience.sleep()

    def listen(self, on_events: Callable[[Sequence[StoreEvent]], None]) -> Callable[[], None] | None:
        return self._audience.listen(on_events)

    async def compact(self, revision: int) -> None:
        self._require_open()
        if revision > self._revision:
            raise FutureRevision(self._revision)
        if revision <= self._oldest:
            return
        self._oldest = revision
        compacted = bisect_right(self._log, revision, key=_revision_of)
        for key in {event.key for event in self._log[:compacted]}:
            versions = self._keys[key]
            keep = max(bisect_right(versions, revision, key=_revision_of) - 1, 0)
            if versions[keep].type is EventType.DELETE and versions[keep].revision <= revision:
                keep += 1
            if keep < len(versions):
                del versions[:keep]
            else:
                del self._keys[key]
        del self._log[:compacted]

    def _require_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is closed")

    def _readable(self, revision: int) -> None:
        self._require_open()
        if revision > self._revision:
            raise FutureRevision(self._revision)
        if revision and revision < self._oldest:
            raise Compacted(self._oldest)

    def _at(self, key: str, revision: int) -> KeyValue | None:
        versions = self._keys.get(key, ())
        index = bisect_right(versions, revision, key=_revision_of) - 1 if revision else len(versions) - 1
        if index < 0 or versions[index].type is EventType.DELETE:
            return None
        found = versions[index]
        created = found.previous.create_revision if found.previous else found.revision
        return KeyValue(key, found.value, found.revision, created)

    def _guard(self, key: str, expected: int | None) -> KeyValue | None:
        actual = self._at(key, 0)
        if expected is not None and expected != (actual.mod_revision if actual else 0):
            raise RevisionConflict(key, actual)
        return actual

    def _remove(self, key: str, previous: KeyValue) -> int:
        self._revision += 1
        self._record(StoreEvent(EventType.DELETE, key, self._revision, b"", previous))
        return self._revision

    def _record(self, event: StoreEvent) -> None:
        self._log.append(event)
        versions = self._keys.get(event.key)
        if versions is None:
            self._keys[event.key] = [event]
        else:
            versions.append(event)
        for listener in self._audience.listeners:
            listener((event,))
        self._audience.wake()

    async def _expire(self) -> None:
        """Delete keys whose time has come, to the second, as etcd's leases do."""
        while self._deadlines:
            now = self._clock.monotonic()
            while self._deadlines and self._deadlines[0][0] <= now:
                _, key, revision = heapq.heappop(self._deadlines)
                actual = self._at(key, 0)
                if actual is not None and actual.mod_revision == revision:
                    self._remove(key, actual)
            if self._deadlines:
                await self._clock.sleep(min(1.0, self._deadlines[0][0] - now))
        self._expiry = None


def _revision_of(event: StoreEvent) -> int:
    return event.revision

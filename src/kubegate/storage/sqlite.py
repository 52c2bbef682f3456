"""The store in an SQLite file, the default: one writer thread, and one fsync for all writes that wait together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from kubegate.api.clock import Clock, SystemClock
from kubegate.storage import (
    Compacted,
    FutureRevision,
    KeyValue,
    Range,
    StoreEvent,
    StoreUnavailable,
)
from kubegate.storage.audience import Audience
from kubegate.storage.compaction import Compactor
from kubegate.storage.logfile import LogFile, Outcome, Write

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

BATCH = 500
BATCH_BYTES = 8 * 1024 * 1024
"""What is written at once; the rest waits for the next fsync."""

QUEUE = 10_000
QUEUE_BYTES = 256 * 1024 * 1024
"""Writes that may wait; more are refused with StoreUnavailable."""

READERS = 2

PAGES = 256
"""Ranges read page by page of which is remembered how many keys follow: that never changes for a revision."""


class SqliteStore:
    """`Store` in the file `path`, which belongs to one process at a time.

    Writes are collected on the event loop and handed to one writer thread, a batch at a time: it decides their
    conditions against the file and inserts them in one transaction. What arrives meanwhile is the next batch. Reads
    run in threads of their own, on the state that was last acknowledged.
    """

    def __init__(self, path: str | Path, clock: Clock | None = None, *, compaction_interval: float = 0) -> None:
        self._clock = clock or SystemClock()
        self._compactor = Compactor(self, self._clock, compaction_interval)
        self._file = LogFile(path)
        self._readers: list[LogFile] = []
        self._local = threading.local()
        self._writing: ThreadPoolExecutor | None = None
        self._reading: ThreadPoolExecutor | None = None
        self._revision = 0
        self._compacted = 0
        self._queue: deque[tuple[Write, asyncio.Future[int]]] = deque()
        self._queue_bytes = 0
        self._following: dict[tuple[str, int, str], int] = {}  # prefix, revision, last key read -> keys after it
        self._batch: asyncio.Task[None] | None = None
        self._audience = Audience()
        self._trouble: str | None = "the store was not started"
        self._probing: asyncio.Task[None] | None = None
        self._expiring: asyncio.Task[None] | None = None
        self._next_expiry: float | None = None
        self._expired = 0.0  # keys whose time came until then are gone
        self._closing = False

    async def start(self) -> None:
        self._closing = False
        self._writing = ThreadPoolExecutor(1, "kubegate-sqlite-writer")
        self._reading = ThreadPoolExecutor(READERS, "kubegate-sqlite-reader")
        try:
            self._revision, self._compacted = await self._in_writer(self._open)
            self._next_expiry = await self._in_writer(self._file.next_expiry, 0.0)
        except BaseException:
            await self._stop()
            raise
        self._trouble = None
        self._schedule_expiry()
        self._compactor.start()

    async def close(self) -> None:
        await self._compactor.close()
        self._closing = True
        self._trouble = "the store is closed"
        for task in (self._probing, self._expiring):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._probing = self._expiring = None
        if self._batch is not None:
            await self._batch
        self._audience.wake()
        await self._stop()

    def health(self) -> str | None:
        return self._trouble

    async def revision(self) -> int:
        self._require_open()
        return self._revision

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        return await self._at(revision, lambda at: self._in_reader(LogFile.get, key, at))

    async def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        async def read(at: int) -> Range:
            following = self._following.get((prefix, at, after))
            items, remaining = await self._in_reader(LogFile.range, prefix, after, limit, at, following)
            return Range(items, at, remaining)

        page = await self._at(revision, read)
        if page.remaining:
            while len(self._following) >= PAGES:
                del self._following[next(iter(self._following))]
            self._following[prefix, page.revision, page.items[-1].key] = page.remaining
        return page

    async def put(self, key: str, value: bytes, expected: int | None, *, ttl: int = 0) -> int:
        expires = self._clock.now() + ttl if ttl else None
        revision = await self._write(Write(key, value, expected, expires))
        if expires is not None:
            self._expired = min(self._expired, expires - 1.0)  # the clock may have been set back
            if self._next_expiry is None or expires < self._next_expiry:
                self._next_expiry = expires
            self._schedule_expiry()
        return revision

    async def delete(self, key: str, expected: int | None) -> int:
        return await self._write(Write(key, None, expected))

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[Sequence[StoreEvent], None]:
        position = after
        while not self._closing:
            upto = self._revision
            if position < self._compacted:
                raise Compacted(self._compacted)
            if position < upto:
                events = await self._in_reader(LogFile.events, position, upto)
                position = events[-1].revision if events else upto
                yield [event for event in events if event.key.startswith(prefix)]
            else:
                await self._audience.sleep()

    def listen(self, on_events: Callable[[Sequence[StoreEvent]], None]) -> Callable[[], None] | None:
        return self._audience.listen(on_events)

    async def compact(self, revision: int) -> None:
        self._require_open()
        if revision > self._revision:
            raise FutureRevision(self._revision)
        if revision > self._compacted:
            await self._in_writer(self._file.compact, revision)
            self._compacted = max(self._compacted, revision)
            self._audience.wake()
        while await self._in_writer(self._file.sweep):
            pass

    def _open(self) -> tuple[int, int]:
        self._file.open(write=True, check=True)
        return self._file.state()

    def _require_open(self) -> None:
        if self._writing is None or self._closing:
            raise StoreUnavailable("the store is closed")

    async def _stop(self) -> None:
        """End the threads and close the files, without stopping the event loop."""
        writing, reading, self._writing, self._reading = self._writing, self._reading, None, None

        def stop() -> None:
            if reading is not None:
                reading.shutdown(wait=True)
            for file in self._readers:
                file.close()
            self._readers.clear()
            self._local = threading.local()
            if writing is not None:
                writing.shutdown(wait=True)
            self._file.close()

        await asyncio.get_running_loop().run_in_executor(None, stop)

    async def _in_writer(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        if self._writing is None:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._writing, partial(function, *arguments, **named))

    async def _in_reader(
        self, function: Callable[Concatenate[LogFile, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        if self._reading is None:
            raise StoreUnavailable("the store is closed")

        def read() -> T:
            file: LogFile | None = getattr(self._local, "file", None)
            if file is None:
                file = LogFile(self._file.path)
                file.open()
                self._local.file = file
                self._readers.append(file)
            return function(file, *arguments, **named)

        return await asyncio.get_running_loop().run_in_executor(self._reading, read)

    async def _at(self, revision: int, read: Callable[[int], Awaitable[T]]) -> T:
        """Read at a revision; 0 is the last acknowledged one, which a compaction may overtake."""
        self._require_open()
        if revision > self._revision:
            raise FutureRevision(self._revision)
        while True:
            at = revision or self._revision
            try:
                return await read(at)
            except Compacted:
                if revision or at == self._revision:
                    raise

    async def _write(self, write: Write) -> int:
        """Queue a write and wait until it is durable. Raises RevisionConflict, StoreUnavailable, ValueError."""
        self._require_open()
        write.key.encode()  # a key that is no Unicode must not spoil the batch that it would come into
        size = len(write.value or b"")
        if len(self._queue) >= QUEUE or self._queue_bytes + size > QUEUE_BYTES:
            raise StoreUnavailable(f"{len(self._queue)} writes are waiting for the disk already")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append((write, future))
        self._queue_bytes += size
        if self._batch is None:
            self._batch = asyncio.get_running_loop().create_task(self._write_batches(), name="sqlite writes")
        return await future

    async def _write_batches(self) -> None:
        """Write what is queued, batch after batch, until nothing is."""
        try:
            while self._queue:
                batch: list[tuple[Write, asyncio.Future[int]]] = []
                size = 0
                while self._queue and len(batch) < BATCH and size < BATCH_BYTES:
                    batch.append(self._queue.popleft())
                    size += len(batch[-1][0].value or b"")
                self._queue_bytes -= size
                await self._write_batch(batch)
        finally:
            self._batch = None

    async def _write_batch(self, batch: list[tuple[Write, asyncio.Future[int]]]) -> None:
        writes = [write for write, _ in batch]
        try:
            missed, outcomes = await self._in_writer(self._file.append, self._revision, writes)
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                log.exception("a batch of %d writes failed", len(batch))
            reason = str(error) if isinstance(error, StoreUnavailable) else "the store failed to write"
            self._failed(reason)
            for _, future in batch:
                if not future.done():
                    future.set_exception(StoreUnavailable(reason))
            return
        written = [outcome for outcome in outcomes if isinstance(outcome, StoreEvent)]
        if written:
            self._succeeded()
        self._publish(missed + written)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                _settle(future, outcome)

    def _publish(self, events: Sequence[StoreEvent]) -> None:
        if events:
            self._revision = events[-1].revision
            for listener in self._audience.listeners:
                try:
                    listener(events)
                except Exception:  # these writes are durable, and their writers wait to be told
                    log.exception("a listener failed at revision %d", self._revision)
            self._audience.wake()

    def _succeeded(self) -> None:
        if self._trouble is not None and not self._closing:
            log.info("writes to %s succeed again", self._file.path)
            self._trouble = None

    def _failed(self, reason: str) -> None:
        """Remember why writes fail, and try until they do not."""
        if self._closing:
            return
        if self._trouble != reason:
            log.error("writes fail: %s", reason)
        self._trouble = reason
        if self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe(), name="sqlite probe")

    async def _probe(self) -> None:
        try:
            while self._trouble is not None:
                await self._clock.sleep(1.0)
                try:
                    await self._in_writer(self._file.probe)
                except StoreUnavailable as error:
                    self._trouble = self._trouble and str(error)
                else:
                    self._succeeded()
        finally:
            self._probing = None

    def _schedule_expiry(self) -> None:
        if self._next_expiry is not None and self._expiring is None:
            self._expiring = asyncio.get_running_loop().create_task(self._expire(), name="sqlite expiry")

    async def _expire(self) -> None:
        """Delete keys whose time has come, to the second, as etcd's leases do."""
        try:
            while self._next_expiry is not None:
                now = self._clock.now()
                if self._next_expiry > now:
                    await self._clock.sleep(min(1.0, self._next_expiry - now))
                    continue
                try:
                    due = await self._in_reader(LogFile.expired, self._expired, now)
                    deletions = (self.delete(key, revision) for key, revision in due)
                    for outcome in await asyncio.gather(*deletions, return_exceptions=True):
                        if isinstance(outcome, StoreUnavailable):
                            raise outcome  # changed meanwhile is fine; not written is not
                    self._expired = max(self._expired, now)
                    self._next_expiry = await self._in_reader(LogFile.next_expiry, self._expired)
                except StoreUnavailable:
                    await self._clock.sleep(1.0)
        finally:
            self._expiring = None


def _settle(future: asyncio.Future[int], outcome: Outcome) -> None:
    if isinstance(outcome, StoreEvent):
        future.set_result(outcome.revision)
    else:
        future.set_exception(outcome)

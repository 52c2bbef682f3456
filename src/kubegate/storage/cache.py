"""The watch cache: every object as bytes ready to send, in key order, and the changes of late for watches.

It stands in front of one store. Reads are synchronous: they take no lock, ask no thread and parse nothing. Over an
engine of this process a write is in the cache before `put` returns; over etcd, `put` waits for the cache's own watch.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api.clock import Clock, SystemClock
from kubegate.storage import Compacted, EventType, FutureRevision, KeyValue, Range, Store, StoreEvent, StoreUnavailable
from kubegate.storage.ordered import Ordered

log = logging.getLogger(__name__)

Codec = Callable[[str, bytes, int], tuple[bytes, Mapping[str, str], Mapping[str, str]]]
"""key, stored value, revision -> the bytes to serve (resourceVersion inside), labels, fields. Given by the registry."""

NOTHING: Mapping[str, str] = MappingProxyType({})
"""The labels or fields of an object that has none: one for all."""

PAGE = 1000
"""Keys read at once when the cache is filled."""

PATIENCE = 10.0
"""Seconds that the cache may lag behind a store that is another process, before readers are told."""

TICK = 0.5
"""Seconds by which those who wait for a revision may wait longer than they asked to."""

LABELS = 4096
SHARED_LABELS = 64
"""Sets of labels that are remembered, to be shared by the objects that have them, and up to which size."""

PLACES = 4096
"""Resources in namespaces of which it is remembered who hears of their changes."""

SELECTIONS = 64
SELECTED = 10_000
"""How many selections are remembered, and of how many entries at most, until something in their range changes."""

DECODED = 512
DECODED_BYTES = 32 * 1024
"""How many decoded objects are kept, and up to which size: those that deciders look at again and again."""


class Entry(Struct, frozen=True, eq=False):
    """One object as it is served: `data` is JSON with metadata.resourceVersion inside."""

    key: str
    revision: int
    create_revision: int
    data: bytes
    labels: Mapping[str, str]
    fields: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {self.revision}, {len(self.data)} bytes)"

    def object(self) -> dict[str, Any]:
        """The decoded object; treat it as immutable, others may be given the same."""
        return _decoded(self) if len(self.data) <= DECODED_BYTES else _decoded_large(self)


def _decode(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(entry.data)
    return found


_decoded = lru_cache(DECODED)(_decode)
_decoded_large = lru_cache(2)(_decode)
"""All who hear of a change are given the same: the object after it, and the one before."""


class CacheEvent(Struct, frozen=True, eq=False):
    """One change, shared by all who watch it.

    PUT: `entry` is the new state, `previous` the state before (None: created). DELETE: `entry` is None, `previous`
    the last state with the deletion's revision as its resourceVersion.
    """

    type: EventType
    key: str
    revision: int
    entry: Entry | None
    previous: Entry | None

    def size(self) -> int:
        held = self.entry or self.previous
        return len(held.data) if held else 0


class _Waiter(Struct, eq=False):
    """Somebody who waits for the cache to reach a revision, until a moment of the clock."""

    revision: int
    deadline: float
    future: asyncio.Future[None]

    def __lt__(self, other: _Waiter) -> bool:
        return self.revision < other.revision


class SlowWatcher(Exception):
    """The watcher did not keep up and was cut off: it must list again."""


class _Node:
    """A change in the chain of one prefix. Watchers hold on to the last one they read; what all have read is freed."""

    __slots__ = ("bytes", "event", "next", "number")

    def __init__(self, event: CacheEvent | None, number: int, size: int) -> None:
        self.event, self.number, self.bytes = event, number, size
        self.next: _Node | None = None


class _Channel:
    """The changes under one prefix, for all its watchers: one append a change, one wake-up a turn of the loop."""

    __slots__ = ("_waking", "tail", "waiting", "watchers")

    def __init__(self) -> None:
        self.tail = _Node(None, 0, 0)
        self.watchers: set[Watcher] = set()
        self.waiting: dict[Watcher, asyncio.Future[None]] = {}
        self._waking = False

    def append(self, event: CacheEvent) -> None:
        node = _Node(event, self.tail.number + 1, self.tail.bytes + event.size())
        self.tail.next = node
        self.tail = node
        if node.number % 256 == 0:  # those that never come back must not hold the chain for ever
            for watcher in tuple(self.watchers):
                watcher.check()
        if self.waiting and not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self.wake)

    def wake(self) -> None:
        self._waking = False
        waiting, self.waiting = self.waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_result(None)


class Watcher:
    """Changes under one prefix: iterate for batches of CacheEvents, in order of revision, none missed.

    Iteration raises SlowWatcher when more than the bound has queued up, Compacted when the cache lost its place in
    the store's history; after `close()` it ends. For one task.
    """

    __slots__ = (
        "_after", "_backlog", "_cache", "_channel", "_error", "_limit", "_limit_bytes", "_node", "_woken", "prefix",
    )  # fmt: skip

    def __init__(
        self, cache: WatchCache, channel: _Channel, prefix: str, after: int, backlog: list[CacheEvent], limit: int
    ) -> None:
        self._cache, self._channel, self.prefix, self._after = cache, channel, prefix, after
        self._backlog, self._limit, self._limit_bytes = backlog, limit, cache.queue_bytes
        self._node = channel.tail
        self._error: Exception | None = None
        self._woken = False
        channel.watchers.add(self)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Sequence[CacheEvent]:
        while not (batch := await self.next()):
            pass
        return batch

    async def next(self) -> Sequence[CacheEvent]:
        """The next batch; an empty one after `wake`. Raises as iteration does."""
        if self._woken:
            self._woken = False
            return ()
        batch = self.pending()
        if not batch:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._channel.waiting[self] = future
            try:
                await future
            except asyncio.CancelledError:
                self._channel.waiting.pop(self, None)
                raise
            batch = self.pending()
            if not batch:
                self._woken = False
        return batch

    def wake(self) -> None:
        """Let `next` return, with nothing where nothing has come."""
        self._woken = True
        future = self._channel.waiting.pop(self, None)
        if future is not None and not future.done():
            future.set_result(None)

    def pending(self) -> Sequence[CacheEvent]:
        """What has come since the last batch, without waiting; empty where nothing has. Raises as iteration does."""
        if self._node is self._channel.tail and not self._backlog and self._error is None:
            return ()
        self.check()
        if self._error is not None:
            raise self._error
        batch, self._backlog = self._backlog, []
        node = self._node
        while node.next is not None:
            node = node.next
            event = node.event
            if event is not None and event.revision > self._after and event.key.startswith(self.prefix):
                batch.append(event)
        self._node = node
        return batch

    def close(self) -> None:
        self.end(StopAsyncIteration())

    def end(self, error: Exception) -> None:
        """Let iteration raise `error` from now on."""
        if self._error is None:
            self._error = error
            self._backlog = []
            self._node = _Node(None, 0, 0)
            self._cache.forget(self, self._channel)
            self._channel.wake()

    def check(self) -> None:
        """End with SlowWatcher where too much has queued up."""
        tail, node = self._channel.tail, self._node
        if self._error is None and (
            tail.number - node.number > self._limit or tail.bytes - node.bytes > self._limit_bytes
        ):
            self.end(SlowWatcher(f"more than {self._limit} changes of {self.prefix} were waiting"))


class WatchCache:
    """All keys of `store` under `prefix`, decoded by `codec`, and the last `window` changes.

    The window is bounded by `window_bytes` of objects as well; `queue_bytes` bounds what may wait for one watcher.
    """

    def __init__(
        self,
        store: Store,
        codec: Codec,
        *,
        prefix: str = "/registry/",
        window: int = 20_000,
        window_bytes: int = 64 * 1024 * 1024,
        queue_bytes: int = 64 * 1024 * 1024,
        clock: Clock | None = None,
    ) -> None:
        self.store = store
        # What is committed, where the store knows without asking.
        self._committed: Callable[[], int] | None = getattr(store, "committed", None)
        self.queue_bytes = queue_bytes
        self._codec = codec
        self._prefix = prefix
        self._clock = clock or SystemClock()
        self._window = window
        self._window_bytes = window_bytes
        self._revision = 0
        self._entries: Ordered[Entry] = Ordered()
        self._events: deque[CacheEvent] = deque()
        self._events_bytes = 0
        self._since = 0  # watches can start after this revision
        # Both by the part of their prefix up to its last slash: a change looks up the parts of its key.
        self._channels: dict[str, _Channel] = {}
        self._subscribers: dict[str, list[Callable[[CacheEvent], None]]] = {}
        self._heard_by: dict[str, tuple[Callable[[CacheEvent], None], ...]] = {}  # of both, by a key's own place
        self._labels: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._selections: dict[str, dict[Hashable, Sequence[Entry]]] = {}  # by prefix, and by what is wanted of it
        self._waiters: list[_Waiter] = []  # a heap by revision
        self._giving_up: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._trouble: str | None = "the cache was not started"
        self._unreadable: dict[str, str] = {}  # keys whose last change could not be decoded, and why
        self._started = False

    async def start(self) -> None:
        """Fill the cache, as of some thousand changes ago, and replay those: watches of before a restart go on.

        Raises what the store raises, and ValueError for a value that the codec cannot decode.
        """
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        held: list[StoreEvent] = []
        starting = True

        def heard(events: Sequence[StoreEvent]) -> None:
            if starting:
                held.extend(events)
            else:
                self._apply(events)

        self._unlisten = self.store.listen(heard)
        revision = await self.store.revision()
        oldest = max(revision - self._window // 2, 1)
        while not self._revision:
            try:
                await self._fill(oldest)
            except Compacted as compacted:
                oldest = compacted.oldest
        if self._unlisten is None:
            self._following = asyncio.get_running_loop().create_task(self._follow(), name="watch cache")
            await self._catch_up(revision)
        elif self._revision < revision:
            async with aclosing(self.store.watch("", self._revision)) as changes:
                async for events in changes:
                    self._apply(events)
                    if self._revision >= revision:
                        break
        self._apply([event for event in held if event.revision > self._revision])
        if self._unreadable:
            raise ValueError(next(iter(self._unreadable.values())))
        starting = False
        self._started = True
        self._trouble = None

    async def close(self) -> None:
        """End all watches and let go of the store (which stays open)."""
        self._trouble = "the cache was closed"
        if self._unlisten is not None:
            self._unlisten()
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
            self._following = None
        self._end_watchers(StopAsyncIteration())
        if self._giving_up is not None:
            self._giving_up.cancel()
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(StoreUnavailable(self._trouble))
        self._waiters.clear()

    def health(self) -> str | None:
        """What keeps the cache from being up to date, in a sentence; None while it is."""
        return self._trouble or next(iter(self._unreadable.values()), None) or self.store.health()

    @property
    def revision(self) -> int:
        """The store's revision that the cache has reached."""
        return self._revision

    async def fresh(self) -> None:
        """Return once the cache has all that was committed when this was called. Raises StoreUnavailable."""
        if self._following is None or (self._committed is not None and self._committed() <= self._revision):
            return
        await self._catch_up(await self.store.revision())

    async def _catch_up(self, revision: int) -> None:
        """Wait for what is committed already. Raises StoreUnavailable where it does not come."""
        try:
            await self.wait_for(revision, PATIENCE)
        except FutureRevision as future:
            raise StoreUnavailable(
                f"changes arrive late: the store is at revision {revision}, the cache at {future.current}"
            ) from None

    async def wait_for(self, revision: int, timeout: float) -> None:  # noqa: ASYNC109
        """Return once the cache has reached `revision`.

        Raises FutureRevision after `timeout` seconds, StoreUnavailable when the cache is closed.
        """
        if revision <= self._revision:
            return
        loop = asyncio.get_running_loop()
        waiter = _Waiter(revision, self._clock.monotonic() + timeout, loop.create_future())
        heapq.heappush(self._waiters, waiter)
        if self._giving_up is None:
            self._giving_up = loop.create_task(self._give_up_late(), name="watch cache waiters")
        await waiter.future

    async def _give_up_late(self) -> None:
        """Tell waiters whose time is over, while there are any. One task for all: a write through etcd waits too."""
        try:
            while self._waiters:
                now = self._clock.monotonic()
                for waiter in self._waiters:
                    if waiter.deadline <= now and not waiter.future.done():
                        waiter.future.set_exception(FutureRevision(self._revision))
                self._waiters = [waiter for waiter in self._waiters if not waiter.future.done()]
                heapq.heapify(self._waiters)
                if self._waiters:
                    first = min(waiter.deadline for waiter in self._waiters)
                    await self._clock.sleep(min(max(first - now, 0.0), TICK))
        finally:
            self._giving_up = None

    async def put(self, key: str, value: bytes, expected: int | None, *, ttl: int = 0) -> int:
        """`Store.put`; when it returns, the cache has the write."""
        revision = await self.store.put(key, value, expected, ttl=ttl)
        if self._following is not None:
            await self._reach(revision)
        return revision

    async def delete(self, key: str, expected: int | None) -> int:
        """`Store.delete`; when it returns, the cache has the deletion."""
        revision = await self.store.delete(key, expected)
        if self._following is not None:
            await self._reach(revision)
        return revision

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def range(self, prefix: str, *, after: str = "", limit: int = 0) -> tuple[Sequence[Entry], int]:
        """Entries whose key begins with `prefix`, in key order, from after `after`; and how many follow them."""
        entries = self._entries
        start = entries.place(after, after=True) if after >= prefix else entries.place(prefix)
        end = entries.place(_past(prefix))
        stop = min(end, start + limit) if limit else end
        if stop <= start:
            return (), max(end - start, 0)
        return entries.values(start, stop), end - stop

    def select(
        self, prefix: str, wanted: Hashable, select: Callable[[Sequence[Entry]], Sequence[Entry]]
    ) -> Sequence[Entry]:
        """What `select` keeps of the entries whose key begins with `prefix`: the same for the same `wanted`.

        It is remembered until one of them changes. Not to be changed.
        """
        known = self._selections.get(prefix)
        found = known.get(wanted) if known is not None else None
        if found is None:
            found = select(self.range(prefix)[0])
            if len(found) <= SELECTED:
                if sum(map(len, self._selections.values())) >= SELECTIONS:
                    self._selections.clear()
                self._selections.setdefault(prefix, {})[wanted] = found
        return found

    def count(self, prefix: str) -> int:
        return self._entries.place(_past(prefix)) - self._entries.place(prefix)

    def watch(self, prefix: str, after: int, *, limit: int = 10_000) -> Watcher:
        """Changes under `prefix` with a revision greater than `after`; at most `limit` may wait to be read.

        Raises Compacted where `after` is older than the window. `after` may lie in the future: what comes up to it
        is left out.
        """
        if after < self._since:
            raise Compacted(self._since)
        place = _place(prefix)
        channel = self._channels.get(place)
        if channel is None:
            channel = self._channels[place] = _Channel()
            self._heard_by.clear()
        backlog = [event for event in self._after(after) if event.key.startswith(prefix)]
        return Watcher(self, channel, prefix, after, backlog, limit)

    def subscribe(self, prefix: str, on_event: Callable[[CacheEvent], None]) -> Callable[[], None]:
        """Call `on_event` for all that is there (as PUTs), then for each change, in order, before its write returns.

        It must be quick and must not raise. Returns a function that ends the subscription.
        """
        for entry in self.range(prefix)[0]:
            on_event(CacheEvent(EventType.PUT, entry.key, entry.revision, entry, None))
        place = _place(prefix)

        def subscriber(event: CacheEvent) -> None:
            if event.key.startswith(prefix):
                try:
                    on_event(event)
                except Exception:  # the write is durable already, and others must hear of it
                    log.exception("a subscriber of %s failed at %s", prefix, event.key)

        self._subscribers.setdefault(place, []).append(subscriber)
        self._heard_by.clear()

        def end() -> None:
            self._heard_by.clear()
            subscribers = self._subscribers.get(place, [])
            if subscriber in subscribers:
                subscribers.remove(subscriber)
                if not subscribers:
                    del self._subscribers[place]

        return end

    def forget(self, watcher: Watcher, channel: _Channel) -> None:
        """A watcher ended (called by it)."""
        channel.watchers.discard(watcher)
        place = _place(watcher.prefix)
        if not channel.watchers and self._channels.get(place) is channel:
            del self._channels[place]
            self._heard_by.clear()

    async def _fill(self, revision: int = 0) -> None:
        """Read all of the store at `revision`; where the cache was filled before, what differs becomes events."""
        found: dict[str, Entry] = {}
        revision = 0 if self._revision else revision
        async with aclosing(self._pages(revision)) as pages:
            async for page in pages:
                revision = page.revision
                for item in page.items:
                    have = self._entries.get(item.key)
                    if have is None or have.revision != item.mod_revision:
                        have = self._entry(item)
                    found[item.key] = have
        if not self._revision:
            self._entries = Ordered(found)
            self._revision = self._since = revision
            return
        self._events.clear()
        self._events_bytes = 0
        self._end_watchers(Compacted(revision))
        for key in [key for key in self._entries if key not in found]:
            self._emit(CacheEvent(EventType.DELETE, key, revision, None, self._entries.get(key)))
        for entry in sorted(found.values(), key=lambda entry: entry.revision):
            have = self._entries.get(entry.key)
            if have is not entry:
                self._emit(CacheEvent(EventType.PUT, entry.key, entry.revision, entry, have))
        self._events.clear()
        self._events_bytes = 0
        self._since = revision
        self._reached(revision)

    async def _pages(self, revision: int) -> AsyncGenerator[Range, None]:
        """All pages of the store; while one is decoded, the store reads the next."""
        reading: asyncio.Task[Range] | None = asyncio.create_task(self._page("", revision))
        with _no_collection():
            try:
                while reading is not None:
                    page = await reading
                    reading = None
                    if page.remaining:
                        reading = asyncio.create_task(self._page(page.items[-1].key, page.revision))
                        await asyncio.sleep(0)  # lets it begin
                    yield page
            finally:
                if reading is not None:
                    reading.cancel()

    async def _page(self, after: str, revision: int) -> Range:
        return await self.store.range(self._prefix, after=after, limit=PAGE, revision=revision)

    async def _follow(self) -> None:
        """Keep up with a store that is another process, through its watch."""
        delay = 0.1
        while True:
            try:
                async for events in self.store.watch(self._prefix, self._revision):
                    self._trouble = None
                    delay = 0.1
                    self._apply(events)
                self._trouble = "the store ended the watch"
            except Compacted:
                log.warning("the watch cache fell behind what the store still has and reads everything again")
                self._trouble = "the cache lost its place in the store's history"
                if await self._refill():
                    continue
            except StoreUnavailable as error:
                self._trouble = str(error)
            except Exception:
                log.exception("the watch cache cannot follow the store")
                self._trouble = "the cache cannot follow the store"
            await self._clock.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _refill(self) -> bool:
        try:
            await self._fill()
        except (StoreUnavailable, Compacted, ValueError) as error:
            log.error("the watch cache cannot read everything again: %s", error)
            self._trouble = str(error)
            return False
        self._trouble = None
        return True

    def _apply(self, events: Sequence[StoreEvent]) -> None:
        for event in events:
            if event.key.startswith(self._prefix) and event.type is not EventType.PROGRESS:
                self._change(event)
            if event.revision > self._revision:
                self._revision = event.revision
        self._reached(self._revision)

    def _change(self, event: StoreEvent) -> None:
        key = event.key
        have = self._entries.get(key)
        if event.type is EventType.PUT:
            created = have.create_revision if have else event.revision
            try:
                entry = self._entry(KeyValue(key, event.value, event.revision, created))
            except ValueError as error:
                self._unreadable[key] = str(error)
                if self._started:  # else nothing is served, and `start` raises what stays unreadable
                    log.error("%s; it is served as it was before", error)
                return
            self._emit(CacheEvent(EventType.PUT, key, event.revision, entry, have))
        elif have is not None:
            self._emit(CacheEvent(EventType.DELETE, key, event.revision, None, self._last(event, have)))
        if self._unreadable:
            self._unreadable.pop(key, None)

    def _last(self, event: StoreEvent, have: Entry) -> Entry:
        """What a deleted object was, with the revision of its deletion."""
        if event.previous is not None:
            try:
                return self._entry(KeyValue(have.key, event.previous.value, event.revision, have.create_revision))
            except ValueError as error:
                log.error("%s; its deletion is announced with an older state", error)
        return have

    def _entry(self, item: KeyValue) -> Entry:
        try:
            data, labels, fields = self._codec(item.key, item.value, item.mod_revision)
        except Exception as error:  # what others wrote into etcd may have any shape
            why = "it is encrypted, and not with what is configured" if item.value.startswith(b"k8s:enc:") else error
            raise ValueError(f"{item.key} at revision {item.mod_revision} cannot be decoded: {why}") from error
        created = item.create_revision
        if created == item.mod_revision:
            created = item.mod_revision  # one number for both
        return Entry(item.key, item.mod_revision, created, data, self._shared(labels), fields or NOTHING)

    def _shared(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        """The same labels, as one mapping for all objects that have them: most have what many have."""
        if not labels:
            return NOTHING
        if len(labels) > SHARED_LABELS:
            return labels
        known = tuple(labels.items())
        try:
            found = self._labels.get(known)
        except TypeError:  # labels of labels: no API made these
            return labels
        if found is None:
            if len(self._labels) >= LABELS:
                self._labels.clear()
            found = self._labels[known] = labels
        return found

    def _emit(self, event: CacheEvent) -> None:
        key = event.key
        if event.entry is not None:
            self._entries.put(key, event.entry)
        else:
            self._entries.remove(key)
        if self._selections:
            for prefix in [prefix for prefix in self._selections if key.startswith(prefix)]:
                del self._selections[prefix]
        if event.revision > self._revision:
            self._revision = event.revision
        self._events.append(event)
        self._events_bytes += event.size()
        while len(self._events) > self._window or self._events_bytes > self._window_bytes:
            old = self._events.popleft()
            self._events_bytes -= old.size()
            self._since = old.revision
        place = _place(key)
        hearing = self._heard_by.get(place)
        if hearing is None:
            if len(self._heard_by) >= PLACES:
                self._heard_by.clear()
            hearing = self._heard_by[place] = tuple(self._hearing(place))
        for hear in hearing:
            hear(event)

    def _hearing(self, place: str) -> Iterator[Callable[[CacheEvent], None]]:
        """Who hears of the keys of one place: the watchers and subscribers of it, and of all that it is in."""
        end = place.find("/") + 1
        while end:
            channel = self._channels.get(place[:end])
            if channel is not None:
                yield channel.append
            yield from self._subscribers.get(place[:end], ())
            end = place.find("/", end) + 1

    def _after(self, revision: int) -> list[CacheEvent]:
        """The window's events after `revision`, oldest first."""
        if not self._events or self._events[-1].revision <= revision:
            return []
        found: list[CacheEvent] = []
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found

    def _reached(self, revision: int) -> None:
        if revision > self._revision:
            self._revision = revision
        while self._waiters and self._waiters[0].revision <= self._revision:
            future = heapq.heappop(self._waiters).future
            if not future.done():
                future.set_result(None)

    async def _reach(self, revision: int) -> None:
        """Wait for a write that is durable already: it cannot fail any more, only be late."""
        with suppress(FutureRevision, StoreUnavailable):
            await self.wait_for(revision, PATIENCE)

    def _end_watchers(self, error: Exception) -> None:
        for channel in tuple(self._channels.values()):
            for watcher in tuple(channel.watchers):
                watcher.end(error)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which would look again and again at the many objects that are there to stay."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _place(prefix: str) -> str:
    return prefix[: prefix.rfind("/") + 1]


def _past(prefix: str) -> str:
    """The first text after all that begin with `prefix`."""
    return prefix + "\U0010ffff"

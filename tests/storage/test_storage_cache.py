"""The watch cache: what it serves, and what its watchers are told."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import orjson
import pytest
from storage_clock import FakeClock
from storage_etcd import Cluster

from kubegate.storage import Compacted, EventType, FutureRevision, Store
from kubegate.storage.cache import NOTHING, CacheEvent, Entry, SlowWatcher, WatchCache
from kubegate.storage.etcd import EtcdStore
from kubegate.storage.etcd_client import Endpoints
from kubegate.storage.memory import MemoryStore
from kubegate.storage.sqlite import SqliteStore

A, B, C = "/registry/pods/ns/a", "/registry/pods/ns/b", "/registry/pods/other/c"


def codec(key: str, value: bytes, revision: int) -> tuple[bytes, Mapping[str, str], Mapping[str, str]]:
    """As the registry's: the revision goes into the JSON."""
    document = orjson.loads(value)
    labels = document.get("labels") or NOTHING
    return orjson.dumps({**document, "resourceVersion": str(revision)}), labels, NOTHING


@pytest.fixture
async def cache(store: Store, clock: FakeClock) -> AsyncIterator[WatchCache]:
    cache = WatchCache(store, codec, clock=clock)
    await cache.start()
    yield cache
    await cache.close()


@pytest.fixture
async def memory(clock: FakeClock) -> AsyncIterator[MemoryStore]:
    store = MemoryStore(clock)
    await store.start()
    yield store
    await store.close()


async def started(store: Store, **options: int) -> WatchCache:
    cache = WatchCache(store, codec, **options)  # type: ignore[arg-type]
    await cache.start()
    return cache


def told(events: Sequence[CacheEvent]) -> list[tuple[str, str, int]]:
    return [(event.type.value, event.key, event.revision) for event in events]


async def take(watcher: AsyncIterator[Sequence[CacheEvent]], count: int) -> list[CacheEvent]:
    found: list[CacheEvent] = []
    while len(found) < count:
        found += await asyncio.wait_for(anext(watcher), 10)
    return found


async def test_a_selection_is_made_once_until_something_in_its_range_changes(cache: WatchCache) -> None:
    made = []

    def select(entries: Sequence[Entry]) -> Sequence[Entry]:
        made.append(len(entries))
        return entries

    await cache.put(A, b"{}", 0)
    for _ in range(2):
        assert [entry.key for entry in cache.select("/registry/pods/ns/", "all", select)] == [A]
    await cache.put(C, b"{}", 0)
    assert [entry.key for entry in cache.select("/registry/pods/", "all", select)] == [A, C]
    assert [entry.key for entry in cache.select("/registry/pods/ns/", "all", select)] == [A]
    assert made == [1, 2]
    revision = await cache.put(B, b"{}", 0)
    assert [entry.key for entry in cache.select("/registry/pods/ns/", "all", select)] == [A, B]
    await cache.delete(B, revision)
    assert [entry.key for entry in cache.select("/registry/pods/ns/", "all", select)] == [A]
    assert made == [1, 2, 2, 1]


async def test_a_write_is_in_the_cache_when_it_returns(cache: WatchCache) -> None:
    revision = await cache.put(A, b'{"labels":{"app":"x"}}', 0)
    entry = cache.get(A)
    assert entry is not None
    assert (entry.revision, entry.create_revision, entry.labels) == (revision, revision, {"app": "x"})
    assert entry.object() == {"labels": {"app": "x"}, "resourceVersion": str(revision)}
    second = await cache.put(A, b"{}", revision)
    entry = cache.get(A)
    assert entry is not None
    assert (entry.revision, entry.create_revision, entry.labels) == (second, revision, {})
    assert cache.revision == second
    await cache.delete(A, second)
    assert cache.get(A) is None


async def test_pages_are_in_key_order_and_tell_what_remains(cache: WatchCache) -> None:
    for key in (C, B, A, "/registry/podsx/x"):
        await cache.put(key, b"{}", 0)
    assert cache.count("/registry/pods/") == 3
    entries, remaining = cache.range("/registry/pods/")
    assert ([entry.key for entry in entries], remaining) == ([A, B, C], 0)
    entries, remaining = cache.range("/registry/pods/", limit=2)
    assert ([entry.key for entry in entries], remaining) == ([A, B], 1)
    entries, remaining = cache.range("/registry/pods/", after=B, limit=2)
    assert ([entry.key for entry in entries], remaining) == ([C], 0)
    assert cache.range("/registry/none/") == ((), 0)


async def test_a_cache_over_a_filled_store_serves_what_is_there(store: Store, clock: FakeClock) -> None:
    first = await store.put(A, b"{}", 0)
    second = await store.put(A, b"{}", first)
    await store.put(B, b"{}", 0)
    await store.delete(B, None)
    cache = WatchCache(store, codec, clock=clock)
    await cache.start()
    entry = cache.get(A)
    assert entry is not None
    assert (entry.revision, entry.create_revision) == (second, first)
    assert [entry.key for entry in cache.range("/registry/")[0]] == [A]
    assert cache.revision == await store.revision()
    await cache.close()


async def test_a_watch_goes_on_after_a_restart_of_the_cache(store: Store, clock: FakeClock) -> None:
    start = await store.put(A, b"{}", 0)
    last = await store.put(B, b"{}", 0)
    deletion = await store.delete(A, start)
    cache = WatchCache(store, codec, clock=clock)
    await cache.start()
    events = await take(cache.watch("/registry/pods/", start), 2)
    assert told(events) == [("PUT", B, last), ("DELETE", A, deletion)]
    await cache.close()


async def test_a_deleted_object_is_told_with_the_revision_of_its_deletion(cache: WatchCache) -> None:
    start = cache.revision
    await cache.put(A, b'{"labels":{"app":"x"}}', 0)
    deletion = await cache.delete(A, None)
    created, deleted = await take(cache.watch("/registry/pods/", start), 2)
    assert created.previous is None
    assert deleted.entry is None
    assert deleted.previous is not None
    assert deleted.previous.labels == {"app": "x"}
    assert deleted.previous.object()["resourceVersion"] == str(deletion)


async def test_an_update_is_told_with_what_was_before(cache: WatchCache) -> None:
    first = await cache.put(A, b'{"labels":{"app":"x"}}', 0)
    await cache.put(A, b"{}", first)
    (event,) = await take(cache.watch("/registry/", first), 1)
    assert event.previous is not None
    assert event.previous.labels == {"app": "x"}
    assert event.previous.revision == first


async def test_watchers_are_told_of_their_prefix_alone_and_share_the_event(memory: MemoryStore) -> None:
    cache = await started(memory)
    prefixes = ["/registry/", "/registry/pods/", "/registry/pods/ns/", A, "/registry/pods/other/", "/registry/secrets/"]
    watchers = [cache.watch(prefix, cache.revision) for prefix in prefixes]
    await cache.put(A, b"{}", 0)
    await cache.put(f"{A}longer", b"{}", 0)
    seen = [watcher.pending() for watcher in watchers]
    assert [[event.key for event in events] for events in seen] == [[A, f"{A}longer"]] * 4 + [[], []]
    assert seen[0][0] is seen[1][0] is seen[2][0] is seen[3][0]
    await cache.close()


async def test_changes_of_one_turn_of_the_loop_come_as_one_batch(memory: MemoryStore) -> None:
    cache = await started(memory)
    watcher = cache.watch("/registry/pods/", cache.revision)
    waiting = asyncio.ensure_future(anext(watcher))
    await asyncio.sleep(0)
    for number in range(10):
        await cache.put(f"{A}{number}", b"{}", 0)
    assert len(await waiting) == 10
    await cache.close()


async def test_a_watcher_that_is_woken_is_told_of_nothing_and_misses_nothing(memory: MemoryStore) -> None:
    cache = await started(memory)
    watcher = cache.watch("/registry/pods/", cache.revision)
    waiting = asyncio.ensure_future(watcher.next())
    await asyncio.sleep(0)
    watcher.wake()
    assert list(await waiting) == []
    await cache.put(A, b"{}", 0)
    watcher.wake()  # nobody waits: whoever comes next is told, though there is a change as well
    assert list(await watcher.next()) == []
    assert [event.key for event in await watcher.next()] == [A]
    given_up = asyncio.ensure_future(watcher.next())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    assert not watcher._channel.waiting, "who no longer waits is not held"
    await cache.close()


async def test_a_watch_from_before_the_window_is_refused_with_its_begin(memory: MemoryStore) -> None:
    cache = await started(memory, window=10)
    for _ in range(30):
        await cache.put(A, b"{}", None)
    with pytest.raises(Compacted) as compacted:
        cache.watch("/registry/", cache.revision - 11)
    assert compacted.value.oldest == cache.revision - 10
    assert len(await take(cache.watch("/registry/", cache.revision - 10), 10)) == 10
    await cache.close()


async def test_the_window_is_bounded_by_bytes_too(memory: MemoryStore) -> None:
    cache = await started(memory, window_bytes=100_000)
    for _ in range(30):
        await cache.put(A, b'{"x":"%s"}' % (b"x" * 10_000), None)
    with pytest.raises(Compacted):
        cache.watch("/registry/", cache.revision - 12)
    assert len(await take(cache.watch("/registry/", cache.revision - 9), 9)) == 9
    await cache.close()


async def test_a_watch_from_the_future_leaves_out_what_comes_before(memory: MemoryStore) -> None:
    cache = await started(memory)
    watcher = cache.watch("/registry/", cache.revision + 2)
    for key in (A, B, C):
        await cache.put(key, b"{}", 0)
    assert [event.key for event in await take(watcher, 1)] == [C]
    await cache.close()


async def test_a_watcher_that_does_not_read_is_cut_off_and_holds_nothing(memory: MemoryStore) -> None:
    def held() -> int:
        gc.collect()
        return sum(1 for found in gc.get_objects() if isinstance(found, CacheEvent))

    cache = await started(memory, window=10)
    slow = cache.watch("/registry/pods/", cache.revision, limit=100)
    quick = cache.watch("/registry/pods/", cache.revision, limit=100)
    before = held()  # by what ran in this process earlier
    read = 0
    for _ in range(1000):
        await cache.put(A, b"{}", None)
        read += len(quick.pending())
    assert read == 1000
    assert held() - before < 100
    with pytest.raises(SlowWatcher):
        await anext(slow)
    await cache.close()


async def test_a_queue_is_bounded_by_bytes_too(memory: MemoryStore) -> None:
    cache = await started(memory, queue_bytes=50_000)
    watcher = cache.watch("/registry/pods/", cache.revision)
    for _ in range(10):
        await cache.put(A, b'{"x":"%s"}' % (b"x" * 10_000), None)
    with pytest.raises(SlowWatcher):
        await anext(watcher)
    await cache.close()


async def test_closing_a_watcher_ends_its_iteration(memory: MemoryStore) -> None:
    cache = await started(memory)
    watcher = cache.watch("/registry/pods/", cache.revision)
    reading = asyncio.ensure_future(anext(watcher, None))
    await asyncio.sleep(0)
    watcher.close()
    assert await asyncio.wait_for(reading, 10) is None
    other = cache.watch("/registry/pods/", cache.revision)
    await cache.close()
    assert [batch async for batch in other] == []


async def test_a_cancelled_reader_loses_nothing(memory: MemoryStore) -> None:
    cache = await started(memory)
    watcher = cache.watch("/registry/pods/", cache.revision)
    for _ in range(3):
        reading = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.sleep(0)
    await cache.put(A, b"{}", 0)
    assert [event.key for event in await take(watcher, 1)] == [A]
    await cache.close()


async def test_subscribers_hear_what_is_there_and_then_each_change_before_it_returns(memory: MemoryStore) -> None:
    cache = await started(memory)
    await cache.put(A, b"{}", 0)
    heard: list[CacheEvent] = []
    end = cache.subscribe("/registry/pods/", heard.append)
    assert told(heard) == [("PUT", A, 2)]
    await cache.put("/registry/secrets/ns/s", b"{}", 0)
    await cache.put(B, b"{}", 0)
    await cache.delete(A, None)
    assert told(heard) == [("PUT", A, 2), ("PUT", B, 4), ("DELETE", A, 5)]
    end()
    end()
    await cache.put(C, b"{}", 0)
    assert len(heard) == 3
    await cache.close()


async def test_all_subscribers_are_given_one_object_however_large(memory: MemoryStore) -> None:
    cache = await started(memory)
    found: list[dict[str, object]] = []

    def hear(event: CacheEvent) -> None:
        assert event.entry is not None
        found.append(event.entry.object())

    for _ in range(3):
        cache.subscribe("/registry/pods/", hear)
    await cache.put(A, orjson.dumps({"data": "x" * 100_000}), 0)
    assert len(found) == 3
    assert found[0] is found[1] is found[2]
    await cache.close()


async def test_sets_of_very_many_labels_are_not_remembered(memory: MemoryStore) -> None:
    cache = await started(memory)
    many = {f"label-{number}": "v" for number in range(1000)}
    for key in (A, B):
        await cache.put(key, orjson.dumps({"labels": many}), 0)
    one, other = cache.get(A), cache.get(B)
    assert one is not None
    assert other is not None
    assert one.labels == other.labels == many
    assert one.labels is not other.labels
    await cache.close()


async def test_a_subscriber_that_raises_does_not_stop_others(memory: MemoryStore) -> None:
    cache = await started(memory)
    heard: list[CacheEvent] = []

    def broken(event: CacheEvent) -> None:
        raise RuntimeError("broken")

    cache.subscribe("/registry/", broken)
    cache.subscribe("/registry/", heard.append)
    await cache.put(A, b"{}", 0)
    assert told(heard) == [("PUT", A, 2)]
    await cache.close()


async def test_waiting_for_a_revision_ends_with_it_or_says_where_the_cache_is(
    memory: MemoryStore, clock: FakeClock
) -> None:
    cache = WatchCache(memory, codec, clock=clock)
    await cache.start()
    waiting = asyncio.ensure_future(cache.wait_for(cache.revision + 1, 3))
    await asyncio.sleep(0)
    await cache.put(A, b"{}", 0)
    await waiting
    late = asyncio.ensure_future(cache.wait_for(cache.revision + 1, 3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.advance(3)
    with pytest.raises(FutureRevision) as future:
        await late
    assert future.value.current == cache.revision
    await cache.close()


async def test_over_an_engine_of_this_process_freshness_costs_no_switch_of_tasks(memory: MemoryStore) -> None:
    cache = await started(memory)
    asking = cache.fresh()
    with pytest.raises(StopIteration):
        asking.send(None)
    await cache.close()


async def test_a_change_that_cannot_be_decoded_is_told_by_health_until_it_is_mended(memory: MemoryStore) -> None:
    cache = await started(memory)
    await cache.put(A, b"{}", 0)
    await memory.put(A, b"not json", None)
    await memory.put(B, b"{}", None)
    assert A in (cache.health() or "")
    entry = cache.get(A)
    assert entry is not None
    assert entry.revision == 2
    assert cache.get(B) is not None
    await memory.delete(A, None)
    assert cache.get(A) is None
    assert cache.health() is None
    await cache.close()


@pytest.mark.parametrize("window", [0, 100], ids=["filled with it", "its change replayed"])
async def test_a_store_with_a_value_that_cannot_be_decoded_is_not_served(
    memory: MemoryStore, caplog: pytest.LogCaptureFixture, window: int
) -> None:
    await memory.put(B, b"{}", 0)
    await memory.put(A, b"not json", 0)
    with pytest.raises(ValueError, match=f"{A} at revision 3 cannot be decoded"):
        await started(memory, window=window)
    assert caplog.text == ""


async def test_an_entry_and_an_event_show_no_values(memory: MemoryStore) -> None:
    cache = await started(memory)
    await cache.put(A, b'{"password":"hunter2"}', 0)
    (event,) = await take(cache.watch("/registry/", 1), 1)
    assert "hunter2" not in repr(event) + repr(cache.get(A)) + repr(await memory.get(A))
    await cache.close()


async def test_an_object_takes_less_than_two_and_a_half_times_its_json(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "kubegate.db")
    await store.start()
    value = orjson.dumps({"kind": "ConfigMap", "data": {"key": "x" * 700}, "labels": {"app": "web", "tier": "front"}})
    shared: dict[bytes, Mapping[str, str]] = {}

    def lean(key: str, value: bytes, revision: int) -> tuple[bytes, Mapping[str, str], Mapping[str, str]]:
        labels = shared.setdefault(b"labels", {"app": "web", "tier": "front"})
        return value + b"%d" % revision, labels, NOTHING

    count = 5000
    await asyncio.gather(*(store.put(f"/registry/configmaps/ns/{n:05}", value, 0) for n in range(count)))
    gc.collect()
    tracemalloc.start()
    cache = WatchCache(store, lean, window=0)
    await cache.start()
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert cache.count("/registry/") == count
    assert used / count < 2.5 * len(value)
    await cache.close()
    await store.close()


async def test_two_caches_on_etcd_read_each_others_writes_at_once(etcd: Cluster) -> None:
    stores = [EtcdStore(Endpoints(etcd.urls), prefix="/two") for _ in range(2)]
    caches = []
    for store in stores:
        await store.start()
        caches.append(await started(store))
    for number in range(50):
        writer, reader = caches[number % 2], caches[1 - number % 2]
        revision = await writer.put(A, b"{}", None)
        await reader.fresh()
        entry = reader.get(A)
        assert entry is not None
        assert entry.revision == revision
    for cache in caches:
        await cache.close()
    for store in stores:
        await store.close()


async def test_a_write_elsewhere_in_etcd_does_not_hold_up_consistent_reads(etcd: Cluster) -> None:
    ours, other = (EtcdStore(Endpoints(etcd.urls), prefix=prefix) for prefix in ("/ours", "/other"))
    await ours.start()
    await other.start()
    cache = await started(ours)
    for _ in range(5):
        revision = await other.put(A, b"{}", None)
        await asyncio.wait_for(cache.fresh(), 2)
        assert cache.revision >= revision
    assert cache.get(A) is None
    await cache.close()
    await ours.close()
    await other.close()


async def test_a_cache_that_lost_its_place_reads_everything_again_and_tells_what_differs(etcd: Cluster) -> None:
    """etcd was compacted beyond what the cache had seen while it could not see anything."""
    store = EtcdStore(Endpoints(etcd.urls), prefix="/lost")
    await store.start()
    await store.put(A, b"{}", None)
    await store.put(B, b"{}", None)

    class Gap:
        """The store, whose watch brings nothing until it is let, and then has lost its place."""

        def __init__(self) -> None:
            self.opened = asyncio.Event()
            self.first = True

        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        async def watch(self, prefix: str, after: int) -> AsyncIterator[object]:
            if self.first:
                await self.opened.wait()
                self.first = False
                raise Compacted(after + 1)
            async for events in store.watch(prefix, after):
                yield events

    gap = Gap()
    cache = WatchCache(gap, codec, window=0)  # type: ignore[arg-type]
    await cache.start()
    heard: list[CacheEvent] = []
    cache.subscribe("/registry/", heard.append)
    watcher = cache.watch("/registry/", cache.revision)
    await store.delete(A, None)
    await store.put(B, b'{"new":1}', None)
    revision = await store.put(C, b"{}", None)
    gap.opened.set()
    await cache.wait_for(revision, 10)
    assert [entry.key for entry in cache.range("/registry/")[0]] == [B, C]
    assert [(event.type, event.key) for event in heard[2:]] == [
        (EventType.DELETE, A),
        (EventType.PUT, B),
        (EventType.PUT, C),
    ]
    with pytest.raises(Compacted):
        await anext(watcher)
    await cache.close()
    await store.close()

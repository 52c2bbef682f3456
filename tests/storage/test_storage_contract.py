"""What every engine promises: the `Store` protocol, sentence by sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest
from storage_clock import FakeClock

from kubegate.storage import (
    Compacted,
    EventType,
    FutureRevision,
    RevisionConflict,
    Store,
    StoreEvent,
    StoreUnavailable,
)

A, B, C = "/registry/pods/ns/a", "/registry/pods/ns/b", "/registry/pods/other/c"


async def take(events: AsyncIterator[Sequence[StoreEvent]], count: int) -> list[StoreEvent]:
    """The next `count` changes of a watch."""
    found: list[StoreEvent] = []
    while len(found) < count:
        batch = await asyncio.wait_for(anext(events), 10)
        found += [event for event in batch if event.type is not EventType.PROGRESS]
    return found


def keys(events: Sequence[StoreEvent]) -> list[tuple[str, str]]:
    return [(event.type.value, event.key) for event in events]


async def test_a_write_raises_the_revision_by_one_and_is_read_back(store: Store) -> None:
    before = await store.revision()
    first = await store.put(A, b"1", 0)
    second = await store.put(A, b"2", first)
    assert (first, second) == (before + 1, before + 2)
    assert await store.revision() == second
    found = await store.get(A)
    assert found is not None
    assert (found.key, found.value, found.mod_revision, found.create_revision) == (A, b"2", second, first)


async def test_values_are_bytes_of_any_kind(store: Store) -> None:
    value = bytes(range(256)) + b"\x00" * 3
    await store.put(A, value, 0)
    await store.put(B, b"", 0)
    page = await store.range("/registry/")
    assert [item.value for item in page.items] == [value, b""]


async def test_create_fails_where_the_key_exists_and_tells_what_is_there(store: Store) -> None:
    revision = await store.put(A, b"1", 0)
    with pytest.raises(RevisionConflict) as conflict:
        await store.put(A, b"2", 0)
    assert conflict.value.key == A
    assert conflict.value.actual is not None
    assert (conflict.value.actual.value, conflict.value.actual.mod_revision) == (b"1", revision)
    assert await store.revision() == revision


async def test_an_update_at_an_old_revision_fails_and_changes_nothing(store: Store) -> None:
    old = await store.put(A, b"1", 0)
    new = await store.put(A, b"2", old)
    with pytest.raises(RevisionConflict) as conflict:
        await store.put(A, b"3", old)
    assert conflict.value.actual is not None
    assert conflict.value.actual.mod_revision == new
    found = await store.get(A)
    assert found is not None
    assert found.value == b"2"


async def test_a_put_without_expectation_writes_whatever_is_there(store: Store) -> None:
    first = await store.put(A, b"1", None)
    second = await store.put(A, b"2", None)
    found = await store.get(A)
    assert found is not None
    assert (found.value, found.mod_revision, found.create_revision) == (b"2", second, first)


async def test_a_delete_needs_the_key_at_its_revision(store: Store) -> None:
    with pytest.raises(RevisionConflict) as missing:
        await store.delete(A, None)
    assert missing.value.actual is None
    first = await store.put(A, b"1", 0)
    second = await store.put(A, b"2", first)
    with pytest.raises(RevisionConflict):
        await store.delete(A, first)
    assert await store.delete(A, second) == second + 1
    assert await store.get(A) is None
    with pytest.raises(RevisionConflict):
        await store.delete(A, second)


async def test_a_key_created_again_has_a_new_create_revision(store: Store) -> None:
    first = await store.put(A, b"1", 0)
    await store.delete(A, first)
    again = await store.put(A, b"2", 0)
    found = await store.get(A)
    assert found is not None
    assert (found.mod_revision, found.create_revision) == (again, again)


async def test_ranges_are_in_key_order_and_keep_to_the_prefix(store: Store) -> None:
    for key in (C, B, A, "/registry/pods", "/registry/podsx/z", "/registry/pod/y", "/registry/pods/ns/é"):
        await store.put(key, key.encode(), 0)
    page = await store.range("/registry/pods/")
    assert [item.key for item in page.items] == [A, B, "/registry/pods/ns/é", C]
    assert (page.remaining, page.revision) == (0, await store.revision())


async def test_a_limited_range_goes_on_after_its_last_key_at_its_revision(store: Store) -> None:
    names = [f"/registry/pods/ns/{number:03}" for number in range(10)]
    for name in names:
        await store.put(name, b"1", 0)
    first = await store.range("/registry/pods/", limit=4)
    assert [item.key for item in first.items] == names[:4]
    assert first.remaining == 6
    await store.delete(names[5], None)
    await store.put(names[6], b"2", None)
    await store.put("/registry/pods/ns/003a", b"1", 0)
    rest = await store.range("/registry/pods/", after=names[3], limit=4, revision=first.revision)
    assert [(item.key, item.value) for item in rest.items] == [(name, b"1") for name in names[4:8]]
    assert (rest.remaining, rest.revision) == (2, first.revision)
    now = await store.range("/registry/pods/", after=names[3])
    assert [item.key for item in now.items][:3] == ["/registry/pods/ns/003a", names[4], names[6]]


async def test_old_revisions_can_be_read_until_they_are_compacted(store: Store) -> None:
    one = await store.put(A, b"1", 0)
    two = await store.put(A, b"2", one)
    three = await store.delete(A, two)
    then = await store.get(A, one)
    assert then is not None
    assert (then.value, then.mod_revision) == (b"1", one)
    assert await store.get(A, one - 1) is None
    assert await store.get(A, three) is None
    await store.compact(two)
    with pytest.raises(Compacted):
        await store.get(A, one)
    with pytest.raises(Compacted):
        await store.range("/registry/", revision=one)
    still = await store.get(A, two)
    assert still is not None
    assert still.value == b"2"


async def test_compaction_keeps_what_exists_and_the_revision(store: Store) -> None:
    kept = await store.put(A, b"1", 0)
    gone = await store.put(B, b"1", 0)
    last = await store.delete(B, gone)
    await store.compact(last)
    await store.compact(kept)  # older: nothing happens
    assert await store.revision() == last
    page = await store.range("/registry/")
    assert [(item.key, item.mod_revision) for item in page.items] == [(A, kept)]
    assert await store.put(B, b"2", 0) == last + 1


async def test_revisions_that_are_not_there_yet_cannot_be_read_or_compacted(store: Store) -> None:
    revision = await store.put(A, b"1", 0)
    for question in (store.get(A, revision + 1), store.range("/", revision=revision + 1), store.compact(revision + 1)):
        with pytest.raises(FutureRevision):
            await question


async def test_a_watch_brings_each_change_after_its_revision_once_and_in_order(store: Store) -> None:
    first = await store.put(A, b"1", 0)
    second = await store.put(A, b"2", first)
    async with aclosing(store.watch("/registry/pods/", first)) as events:
        assert [(e.type, e.revision, e.value) for e in await take(events, 1)] == [(EventType.PUT, second, b"2")]
        await store.put("/registry/secrets/ns/s", b"x", 0)
        third = await store.delete(A, second)
        fourth = await store.put(C, b"3", 0)
        deleted, created = await take(events, 2)
    assert (deleted.type, deleted.revision, deleted.value) == (EventType.DELETE, third, b"")
    assert deleted.previous is not None
    assert (deleted.previous.value, deleted.previous.mod_revision) == (b"2", second)
    assert (created.key, created.revision, created.previous) == (C, fourth, None)


async def test_many_watches_see_the_same(store: Store) -> None:
    start = await store.revision()
    watches = [store.watch("/registry/pods/", start) for _ in range(20)]
    seen = [asyncio.ensure_future(take(watch, 3)) for watch in watches]
    await store.put(A, b"1", 0)
    await store.put(B, b"1", 0)
    await store.delete(A, None)
    expected = [("PUT", A), ("PUT", B), ("DELETE", A)]
    assert [keys(events) for events in await asyncio.gather(*seen)] == [expected] * 20
    for watch in watches:
        await watch.aclose()


async def test_a_watch_from_before_the_compaction_is_told_so(store: Store) -> None:
    first = await store.put(A, b"1", 0)
    second = await store.put(A, b"2", first)
    third = await store.put(A, b"3", second)
    await store.compact(second)
    with pytest.raises(Compacted):
        await anext(store.watch("/registry/", first))
    async with aclosing(store.watch("/registry/", second)) as events:
        assert [event.revision for event in await take(events, 1)] == [third]


async def test_listeners_hear_of_a_write_before_it_returns(store: Store) -> None:
    heard: list[StoreEvent] = []
    end = store.listen(heard.extend)
    if end is None:
        pytest.skip("the engine is another process")
    await store.put(A, b"1", 0)
    assert keys(heard) == [("PUT", A)]
    await store.delete(A, None)
    assert keys(heard) == [("PUT", A), ("DELETE", A)]
    assert heard[1].previous is not None
    assert heard[1].previous.value == b"1"
    end()
    await store.put(B, b"1", 0)
    assert len(heard) == 2


async def test_of_concurrent_writers_at_one_revision_exactly_one_wins(store: Store) -> None:
    start = await store.put(A, b"0", 0)
    outcomes = await asyncio.gather(
        *(store.put(A, b"%d" % number, start) for number in range(50)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert won == [start + 1]
    assert all(isinstance(outcome, RevisionConflict) for outcome in outcomes if not isinstance(outcome, int))
    found = await store.get(A)
    assert found is not None
    assert found.value == b"%d" % outcomes.index(won[0])


async def test_concurrent_increments_lose_nothing(store: Store) -> None:
    await store.put(A, b"0", 0)

    async def increment() -> None:
        for _ in range(5):
            while True:
                found = await store.get(A)
                assert found is not None
                try:
                    await store.put(A, b"%d" % (int(found.value) + 1), found.mod_revision)
                    break
                except RevisionConflict:
                    continue

    await asyncio.gather(*(increment() for _ in range(8)))
    found = await store.get(A)
    assert found is not None
    assert found.value == b"40"


async def test_a_key_with_a_time_to_live_is_deleted_when_it_is_over(store: Store, clock: FakeClock) -> None:
    start = await store.revision()
    await store.put(A, b"1", 0, ttl=2)
    await store.put(B, b"1", 0)
    async with aclosing(store.watch("/registry/", start)) as events:
        await take(events, 2)
        gone = asyncio.ensure_future(take(events, 1))
        for _ in range(30):
            clock.advance(0.1)
            await asyncio.sleep(0)
        assert keys(await gone) == [("DELETE", A)]
    assert await store.get(A) is None
    assert await store.get(B) is not None


async def test_an_overwritten_time_to_live_is_forgotten(store: Store, clock: FakeClock) -> None:
    first = await store.put(A, b"1", 0, ttl=2)
    await store.put(A, b"2", first)
    second = await store.put(B, b"1", 0, ttl=3)
    async with aclosing(store.watch("/registry/", second)) as events:
        gone = asyncio.ensure_future(take(events, 1))
        for _ in range(40):
            clock.advance(0.1)
            await asyncio.sleep(0)
        assert keys(await gone) == [("DELETE", B)]
    found = await store.get(A)
    assert found is not None
    assert found.value == b"2"


async def test_a_closed_store_answers_nothing_and_ends_its_watches(store: Store) -> None:
    revision = await store.put(A, b"1", 0)
    assert store.health() is None
    watch = store.watch("/registry/", revision)
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)
    await store.close()
    assert not await asyncio.wait_for(waiting, 10)
    assert store.health()
    with pytest.raises(StoreUnavailable):
        await store.get(A)
    with pytest.raises(StoreUnavailable):
        await store.put(A, b"2", None)

"""What workers tell each other beside the store, and the locks that they take in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from kubegate.admission.pod_resources import texts
from kubegate.admission.quota import Reservations, number
from kubegate.api import Object
from kubegate.api.clock import SystemClock
from kubegate.server.workers import share
from kubegate.storage import ObjectEvent, StoreUnavailable
from kubegate.storage.filelock import FileLock, MachineLock
from kubegate.storage.keeper import Keeper
from kubegate.storage.keeper_wire import Place
from kubegate.storage.kept import KeptStore
from kubegate.storage.memory import MemoryStore

POD = {"kind": "Pod", "metadata": {"name": "a", "namespace": "ns", "uid": "u-1"}}


class NoObjects:
    """A `Reader` of nothing."""

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        return None

    def list(self, resource: str, namespace: str = "") -> Sequence[dict[str, Any]]:
        return ()

    def subscribe(
        self, resource: str, on_event: Callable[[ObjectEvent, Object, Object | None], None]
    ) -> Callable[[], None]:
        return lambda: None


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[KeptStore, KeptStore]]:
    """Two clients of one keeper."""
    async with AsyncExitStack() as stack:
        place = Place(tmp_path / "keeper")
        listening = stack.enter_context(place.listen())
        keeper = Keeper(MemoryStore(), place, listening)
        await keeper.start()
        stack.push_async_callback(keeper.close)
        found = KeptStore(place), KeptStore(place)
        for each in found:
            await each.start()
            stack.push_async_callback(each.close)
        yield found


async def test_what_one_worker_charges_others_know_before_they_see_its_next_write(
    stores: tuple[KeptStore, KeptStore],
) -> None:
    one, two = (Reservations(NoObjects(), SystemClock()) for _ in stores)
    for store, reservations in zip(stores, (one, two), strict=True):
        share(store, reservations)
    watch = stores[1].watch("/registry/", 1)
    first = asyncio.ensure_future(anext(watch))
    one.add("pods", POD, {"pods": number(1)})
    await stores[0].put("/registry/pods/ns/a", b"{}", 0)
    assert [event.key for event in await first] == ["/registry/pods/ns/a"]
    for reservations in (one, two):
        ((resource, pod, usage),) = reservations.pending("ns")
        assert (resource, pod, texts(usage)) == ("pods", POD, {"pods": "1"})
    await watch.aclose()


async def test_of_all_that_take_a_lock_one_has_it_at_a_time(tmp_path: Path) -> None:
    """Two locks on one file are those of two processes."""
    locks = [MachineLock(tmp_path / "lock", SystemClock()) for _ in range(2)]
    inside, most = 0, 0

    async def work(lock: MachineLock) -> None:
        nonlocal inside, most
        async with lock:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work(lock) for _ in range(20) for lock in locks))
    assert (most, inside) == (1, 0)
    for lock in locks:
        lock.close()


async def test_a_lock_that_another_process_keeps_is_refused_in_time_and_free_when_it_is_gone(tmp_path: Path) -> None:
    other = FileLock(tmp_path / "lock")
    assert other.take()
    lock = MachineLock(tmp_path / "lock", SystemClock(), patience=0.05)
    with pytest.raises(StoreUnavailable, match="too long"):
        async with lock:
            pass
    other.close()
    async with lock:
        with pytest.raises(StoreUnavailable, match="too long"):
            async with lock:
                pass
    lock.close()

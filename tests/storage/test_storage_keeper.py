"""A store behind its keeper: what two processes of one machine see of each other, and what a lost keeper means."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from storage_clock import FakeClock
from storage_keeper import keeping

from kubegate.storage import EventType, OutcomeUnknown, RevisionConflict, StoreUnavailable
from kubegate.storage.cache import NOTHING, WatchCache
from kubegate.storage.keeper_wire import Board, Messages, Place, pack
from kubegate.storage.kept import LONGEST_PAUSE, PATIENCE, KeptStore
from kubegate.storage.kept_link import SILENCE
from kubegate.storage.memory import MemoryStore

A, B = "/registry/pods/ns/a", "/registry/pods/ns/b"


@asynccontextmanager
async def client(place: Place, clock: FakeClock | None = None) -> AsyncIterator[KeptStore]:
    store = KeptStore(place, clock)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def cached(store: KeptStore) -> AsyncIterator[WatchCache]:
    cache = WatchCache(store, lambda key, value, revision: (value, NOTHING, NOTHING))
    await cache.start()
    try:
        yield cache
    finally:
        await cache.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
        await asyncio.sleep(0)


class Mute:
    """A keeper that greets, and answers nothing; `asked` are the operations that came."""

    def __init__(self, place: Place) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.connections: list[Messages] = []
        self._place = place

    async def __aenter__(self) -> Mute:
        self._server = await asyncio.get_running_loop().create_unix_server(self._connection, sock=self._place.listen())
        Board(self._place).write(7)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for each in self.connections:
            each.cut()

    def _connection(self) -> Messages:
        made = Messages(
            lambda head, body: self.asked.put_nowait(head[1]),
            lambda: None,
            lambda _: made.send(pack([0, "hello", 1, 7, None])),
        )
        self.connections.append(made)
        return made


async def test_what_one_client_wrote_another_reads_at_once_without_a_question(tmp_path: Path) -> None:
    async with (
        keeping(tmp_path / "k", MemoryStore()) as place,
        client(place) as writer,
        client(place) as reader,
        cached(writer) as here,
        cached(reader) as there,
    ):
        for number in range(200):
            have = here.get(A)
            revision = await here.put(A, b"%d" % number, have.revision if have else 0)
            assert here.revision >= revision
            assert reader.committed() >= revision
            await there.fresh()
            found = there.get(A)
            assert found is not None
            assert (found.data, found.revision) == (b"%d" % number, revision)


async def test_writes_of_several_clients_are_one_history_to_all(tmp_path: Path) -> None:
    async with keeping(tmp_path / "k", MemoryStore()) as place, client(place) as one, client(place) as two:
        seen: list[list[int]] = [[], []]

        async def watch(store: KeptStore, found: list[int]) -> None:
            async with aclosing(store.watch("/registry/", 1)) as events:
                while len(found) < 200:
                    found += [event.revision for event in await anext(events) if event.type is not EventType.PROGRESS]

        watching = [asyncio.create_task(watch(store, found)) for store, found in zip((one, two), seen, strict=True)]
        await asyncio.gather(*(store.put(f"{A}{n}", b"x", 0) for n in range(100) for store in (one,)))
        await asyncio.gather(*(two.put(f"{B}{n}", b"x", 0) for n in range(100)))
        await asyncio.wait_for(asyncio.gather(*watching), 10)
        assert seen == [list(range(2, 202))] * 2


async def test_the_folder_and_what_is_in_it_are_their_owner_s_alone(tmp_path: Path) -> None:
    async with keeping(tmp_path / "k", MemoryStore()) as place:
        assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
        for file in (place.socket, place.revision):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    os.chmod(place.folder, 0o755)
    place.socket.unlink()
    with pytest.raises(PermissionError, match="owner's alone"):
        place.listen()


async def test_a_write_whose_answer_was_lost_is_of_unknown_outcome_and_a_read_is_asked_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "k")
    async with Mute(place) as mute, client(place) as store:
        write = asyncio.create_task(store.put(A, b"1", 0))
        read = asyncio.create_task(store.get(A))
        assert [await mute.asked.get(), await mute.asked.get()] == ["put", "get"]
        mute.connections[0].cut()
        with pytest.raises(OutcomeUnknown, match="not known"):
            await write
        assert await mute.asked.get() == "get"
        assert mute.asked.empty(), "the write must not be sent again"
        read.cancel()


async def test_a_keeper_that_hangs_is_given_up(tmp_path: Path) -> None:
    clock = FakeClock()
    place = Place(tmp_path / "k")
    async with Mute(place) as mute, client(place, clock) as store:
        write = asyncio.create_task(store.put(A, b"1", 0))
        await mute.asked.get()
        while not write.done():
            clock.advance(SILENCE / 4 + 1)
            await asyncio.sleep(0)
        with pytest.raises(OutcomeUnknown):
            await write


async def test_without_a_keeper_requests_wait_for_it_and_then_say_so(tmp_path: Path) -> None:
    clock = FakeClock()
    engine = MemoryStore()
    async with client_of_a_keeper_that_went(tmp_path / "k", engine, clock) as (place, store):
        assert "gone" in (store.health() or "")
        assert store.committed() == 2, "what was committed is still known"
        refused = asyncio.create_task(store.put(B, b"1", 0))
        while not refused.done():
            clock.advance(PATIENCE / 4)
            await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="gone") as error:
            await refused
        assert not isinstance(error.value, OutcomeUnknown), "it was never sent"
        waits = asyncio.create_task(store.put(B, b"1", 0))
        await asyncio.sleep(0)
        place.socket.unlink()
        async with keeping(place.folder, engine):
            clock.advance(LONGEST_PAUSE)
            assert await waits == 3
            assert store.health() is None


@asynccontextmanager
async def client_of_a_keeper_that_went(
    folder: Path, engine: MemoryStore, clock: FakeClock
) -> AsyncIterator[tuple[Place, KeptStore]]:
    store = KeptStore(Place(folder), clock)
    async with keeping(folder, engine) as place:
        await store.start()
        await store.put(A, b"1", 0)
    await until(lambda: store.health() is not None)
    yield place, store
    await store.close()


async def test_a_cache_goes_on_where_it_was_when_the_keeper_is_there_again(tmp_path: Path) -> None:
    engine = MemoryStore()
    place = Place(tmp_path / "k")
    async with keeping(place.folder, engine):
        store = KeptStore(place)
        await store.start()
        cache = WatchCache(store, lambda key, value, revision: (value, NOTHING, NOTHING))
        await cache.start()
        watcher = cache.watch("/registry/pods/", cache.revision)
        await cache.put(A, b"1", 0)
    await engine.start()
    await engine.put(B, b"2", 0)
    await until(lambda: store.health() is not None)
    place.socket.unlink()
    async with keeping(place.folder, engine):
        await cache.put(A, b"3", None)
        changes = [(event.key, event.revision) for event in watcher.pending()]
        assert changes == [(A, 2), (B, 3), (A, 4)]
        await cache.close()
        await store.close()


async def test_the_health_of_the_engine_is_that_of_its_clients(tmp_path: Path) -> None:
    class Sick(MemoryStore):
        trouble: str | None = None

        def health(self) -> str | None:
            return self.trouble

    engine, clock = Sick(), FakeClock()
    async with keeping(tmp_path / "k", engine, clock) as place, client(place) as store:
        for trouble in ("the disk is full", None):
            engine.trouble = trouble
            while store.health() != trouble:
                clock.advance(1)
                await asyncio.sleep(0)


async def test_notes_come_before_the_writes_that_are_begun_after_them(tmp_path: Path) -> None:
    async with keeping(tmp_path / "k", MemoryStore()) as place, client(place) as one, client(place) as two:
        heard: list[object] = []
        two.hear_notes(lambda head, body: heard.append((head, body)))
        one.hear_notes(lambda head, body: pytest.fail("nobody hears his own"))
        async with aclosing(two.watch("/registry/", 1)) as events:
            first = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            one.note(["charged", 1], b"body")
            await one.put(A, b"1", 0)
            assert (await first)[0].revision == 2
        assert heard == [(["charged", 1], b"body")]


async def test_what_is_no_message_or_too_long_ends_the_connection_and_hurts_nobody_else(tmp_path: Path) -> None:
    async with keeping(tmp_path / "k", MemoryStore()) as place, client(place) as store:
        loop = asyncio.get_running_loop()
        for nonsense in (b"\xff" * 8, b"\x04\0\0\0\x04\0\0\0{{{{", b"\x01\0\0\0\xff\0\0\0"):
            with socket.socket(socket.AF_UNIX) as raw:
                raw.setblocking(False)
                await loop.sock_connect(raw, str(place.socket))
                await loop.sock_sendall(raw, nonsense)
                while await loop.sock_recv(raw, 4096):
                    pass
        assert await store.put(A, b"1", 0) == 2


async def test_a_key_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    async with keeping(tmp_path / "k", MemoryStore()) as place, client(place) as store:
        with pytest.raises(ValueError):
            await store.put("/registry/\ud800", b"1", 0)
        with pytest.raises(RevisionConflict):
            await store.delete(A, None)


async def test_a_folder_without_a_keeper_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nobody keeps a store at"):
        await KeptStore(str(tmp_path / "none")).start()

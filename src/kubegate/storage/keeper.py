"""The keeper: the one process that has a store's file, and lets the others of its machine read, write and follow it.

Every change goes to every client in the order of revisions, and before the answer to the write that made it; its
revision is on the board before that. So a client's read is consistent when it has reached what the board says.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

from kubegate.api.clock import Clock, SystemClock
from kubegate.storage import (
    Compacted,
    FutureRevision,
    OutcomeUnknown,
    RevisionConflict,
    Store,
    StoreEvent,
    StoreUnavailable,
)
from kubegate.storage.keeper_wire import (
    REQUEST_BYTES,
    VERSION,
    Board,
    Head,
    Messages,
    Place,
    events_out,
    items_out,
    pack,
    same_user,
)

log = logging.getLogger(__name__)

AT_ONCE = 5000
"""Requests of one client that are under way; then no more of its requests are read."""

PAGE_BYTES = 8 * 1024 * 1024
"""An answer with more than one key ends at about this size; the client asks for the rest."""

HEALTH_SECONDS = 0.5

LEAVE_SECONDS = 60.0
"""How long clients may take to end what they have begun when all is told to end."""


class Keeper:
    """Serves `store`, an engine of this process, to clients (`kept.KeptStore`) on the listening socket of `place`.

    The socket is not closed here: another keeper may take it over.
    """

    def __init__(self, store: Store, place: Place, listening: socket.socket, clock: Clock | None = None) -> None:
        self.store = store
        self._listening = listening
        self._clock = clock or SystemClock()
        self._board = Board(place)
        self._clients: set[_Client] = set()
        self._unlisten: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._alone = asyncio.Event()
        self._alone.set()
        self.revision = 0
        self.trouble: str | None = None

    async def start(self) -> None:
        """Start the store, then serve it. Raises what `Store.start` raises."""
        await self.store.start()
        try:
            self._unlisten = self.store.listen(self._changed)
            if self._unlisten is None:
                raise ValueError("a keeper is for a store of its own process")
            self.revision = await self.store.revision()
            self._board.write(self.revision)
            self._tasks = [
                asyncio.create_task(self._accept(), name="keeper accept"),
                asyncio.create_task(self._look(), name="keeper health"),
            ]
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish the writes that were read, answer them, and close the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await asyncio.gather(*(client.finish() for client in self._clients))
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        await self.store.close()
        self._board.close()

    async def left_alone(self) -> None:
        """Until no client is connected, for LEAVE_SECONDS at the most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._alone.wait(), LEAVE_SECONDS)

    def _changed(self, events: Sequence[StoreEvent]) -> None:
        self.revision = events[-1].revision
        self._board.write(self.revision)
        if self._clients:
            heads, bodies = events_out(events)
            self._tell(pack([0, "feed", heads], *bodies))

    def _tell(self, message: bytes, but: _Client | None = None) -> None:
        for client in tuple(self._clients):
            if client is not but:
                client.messages.send(message)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
                await loop.connect_accepted_socket(lambda: _Client(self).messages, connection)
            except OSError as error:
                log.error("a process cannot be let in: %s", error)
                await self._clock.sleep(HEALTH_SECONDS)

    def joined(self, client: _Client) -> None:
        """The greeting and the place in the feed belong together: no change comes between them."""
        self._clients.add(client)
        self._alone.clear()
        client.messages.send(pack([0, "hello", VERSION, self.revision, self.trouble]))

    def left(self, client: _Client) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._alone.set()

    def pass_on(self, sender: _Client, head: Head, body: bytes) -> None:
        """A note of one client to all others."""
        self._tell(pack([0, "note", *head[2:]], body), but=sender)

    async def _look(self) -> None:
        """Tell clients when the store's health changes."""
        while True:
            health = self.store.health()
            if health != self.trouble:
                self.trouble = health
                self._tell(pack([0, "health", health]))
            await self._clock.sleep(HEALTH_SECONDS)


class _Client:
    """One connection. Requests are begun in the order in which they come."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._tasks: set[asyncio.Task[None]] = set()
        self._known = False
        self.messages = Messages(self._asked, self._lost, self._made, REQUEST_BYTES)

    def _made(self, transport: asyncio.BaseTransport) -> None:
        self._known = same_user(transport)
        if self._known:
            self._keeper.joined(self)
        else:
            log.error("a process of another user was turned away")
            self.messages.cut()

    def _lost(self) -> None:
        self._keeper.left(self)

    async def finish(self) -> None:
        """Answer what was asked, then end."""
        self.messages.hold(True)
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))
        self.messages.end()

    def _asked(self, head: Head, body: bytes) -> None:
        if not self._known:
            return
        if head[1] == "note":
            self._keeper.pass_on(self, head, body)
            return
        task = asyncio.get_running_loop().create_task(self._answer(head, body))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if len(self._tasks) >= AT_ONCE:
            self.messages.hold(True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if len(self._tasks) == AT_ONCE // 2:
            self.messages.hold(False)

    async def _answer(self, head: Head, body: bytes) -> None:
        number, operation, *arguments = head
        bodies: Sequence[bytes] = ()
        try:
            found, bodies = await _OPERATIONS[operation](self._keeper.store, arguments, body)
            answer = [number, "done", *found]
        except RevisionConflict as error:
            actual = error.actual
            items, bodies = items_out([] if actual is None else [actual])
            answer = [number, "conflict", error.key, items]
        except Compacted as error:
            answer = [number, "compacted", error.oldest]
        except FutureRevision as error:
            answer = [number, "future", error.current]
        except StoreUnavailable as error:
            answer = [number, "unknown" if isinstance(error, OutcomeUnknown) else "unavailable", str(error)]
        except ValueError as error:
            answer = [number, "value", str(error)]
        except Exception:
            log.exception("the keeper failed to %s", operation)
            answer = [number, "unavailable", "the keeper of the store failed; its log says why"]
        self.messages.send(pack(answer, *bodies))


# ---------------------------------------------------------------------- operations
Found = tuple[Sequence[Any], Sequence[bytes]]


async def _put(store: Store, arguments: Head, body: bytes) -> Found:
    key, expected, ttl = arguments
    return [await store.put(key, body, expected, ttl=ttl)], ()


async def _delete(store: Store, arguments: Head, body: bytes) -> Found:
    key, expected = arguments
    return [await store.delete(key, expected)], ()


async def _get(store: Store, arguments: Head, body: bytes) -> Found:
    key, revision = arguments
    found = await store.get(key, revision)
    heads, bodies = items_out([] if found is None else [found])
    return [heads], bodies


async def _range(store: Store, arguments: Head, body: bytes) -> Found:
    prefix, after, limit, revision = arguments
    page = await store.range(prefix, after=after, limit=limit, revision=revision)
    size, count = 0, 0
    for item in page.items:
        size += len(item.value)
        if count and size > PAGE_BYTES:
            break
        count += 1
    heads, bodies = items_out(page.items[:count])
    return [page.revision, page.remaining + len(page.items) - count, heads], bodies


async def _events(store: Store, arguments: Head, body: bytes) -> Found:
    """The first events after a revision, up to another one; and the revision up to which these are all."""
    after, upto = arguments
    if after >= min(upto, await store.revision()):
        return [upto, []], ()
    async with aclosing(store.watch("", after)) as watch:
        batch = await anext(watch, None)
    if batch is None:
        raise StoreUnavailable("the store is closed")
    found: list[StoreEvent] = []
    size, reached = 0, upto
    for event in batch:
        if event.revision > upto:
            break
        size += len(event.value) + (len(event.previous.value) if event.previous else 0)
        if found and size > PAGE_BYTES:
            reached = found[-1].revision
            break
        found.append(event)
    else:
        reached = batch[-1].revision if batch else upto
    heads, bodies = events_out(found)
    return [reached, heads], bodies


async def _compact(store: Store, arguments: Head, body: bytes) -> Found:
    await store.compact(arguments[0])
    return (), ()


_OPERATIONS: dict[str, Callable[[Store, Head, bytes], Awaitable[Found]]] = {
    "put": _put,
    "delete": _delete,
    "get": _get,
    "range": _range,
    "events": _events,
    "compact": _compact,
}

"""A store that another process of this machine keeps (`keeper`): writes go there, changes come from there.

What was committed is read from shared memory, so that a consistent read costs no question.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kubegate.api.clock import Clock, SystemClock
from kubegate.storage import EventType, KeyValue, OutcomeUnknown, Range, StoreEvent, StoreUnavailable
from kubegate.storage.keeper_wire import Board, Head, Place, events_in, items_in, pack
from kubegate.storage.kept_link import AT_ONCE, Link, Lost

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that a request waits for a keeper that is started again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two attempts to reach the keeper."""

PAGE = 1000
"""Keys asked for at once."""

QUEUE_BYTES = 64 * 1024 * 1024
"""Changes that may wait for one watch; when there are more, it reads them from the keeper as it comes to them."""

GONE = "the process that keeps the store is gone, and is started again"
CLOSED = "the store is closed"


@dataclass(slots=True, eq=False)
class _Watch:
    """Changes that came since a watch joined the feed. `left`: it has to join again, from where it is."""

    batches: deque[tuple[Sequence[StoreEvent], int]] = field(default_factory=deque)
    size: int = 0
    left: bool = False
    _sleeping: asyncio.Future[None] | None = None

    def add(self, events: Sequence[StoreEvent], size: int) -> None:
        self.size += size
        if self.size > QUEUE_BYTES:
            self.leave()
        elif not self.left:
            self.batches.append((events, size))
            self._wake()

    def take(self) -> Sequence[StoreEvent]:
        events, size = self.batches.popleft()
        self.size -= size
        return events

    def leave(self) -> None:
        self.left = True
        self.batches.clear()
        self._wake()

    def _wake(self) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(None)

    async def sleep(self) -> None:
        self._sleeping = asyncio.get_running_loop().create_future()
        await self._sleeping


class KeptStore:
    """`Store` through the keeper whose folder is `place`. For one event loop.

    While the keeper is gone requests wait for it for some seconds. Reads are asked again; a write that was sent and
    not answered raises OutcomeUnknown. A watch goes on from where it was.
    """

    def __init__(self, place: str | Place, clock: Clock | None = None) -> None:
        self._place = place if isinstance(place, Place) else Place(place)
        self._clock = clock or SystemClock()
        self._board: Board | None = None
        self._link: Link | None = None
        self._position = 0  # the feed's: what came later is in the queues of the watches
        self._watches: set[_Watch] = set()
        self._waiting: dict[asyncio.Future[Link | None], None] = {}  # in the order in which they came
        self._on_note: list[Callable[[Head, bytes], None]] = []
        self._reaching: asyncio.Task[None] | None = None
        self._trouble: str | None = "the store was not started"

    # ------------------------------------------------------------------ the store
    async def start(self) -> None:
        try:
            self._board = self._board or Board(self._place)
        except (OSError, ValueError) as error:
            raise StoreUnavailable(f"nobody keeps a store at {self._place.folder}: {error}") from error
        self._trouble = GONE
        self._reaching = asyncio.get_running_loop().create_task(self._reach(), name="keeper connection")
        try:
            await self._require_link()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._trouble = CLOSED
        reaching, self._reaching = self._reaching, None
        if reaching is not None:
            reaching.cancel()
            with suppress(asyncio.CancelledError):
                await reaching
        if self._link is not None:
            self._link.end()
        self._linked(None)
        if self._board is not None:
            self._board.close()
            self._board = None

    def health(self) -> str | None:
        return self._trouble

    def committed(self) -> int:
        """The latest committed revision; asks nobody. Raises StoreUnavailable where the store is closed."""
        if self._board is None:
            raise StoreUnavailable(CLOSED)
        return self._board.read()

    async def revision(self) -> int:
        return self.committed()

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        (heads,), body = await self._ask(["get", key, revision], repeat=True)
        return items_in(heads, body)[0] if heads else None

    async def range(self, prefix: str, *, after: str = "", limit: int = 0, revision: int = 0) -> Range:
        items: list[KeyValue] = []
        while True:
            wanted = min(limit - len(items), PAGE) if limit else PAGE
            found, body = await self._ask(["range", prefix, after, wanted, revision], repeat=True)
            revision, remaining, heads = found
            items += items_in(heads, body)
            if not remaining or (limit and len(items) >= limit):
                return Range(items, revision, remaining)
            after = items[-1].key

    async def put(self, key: str, value: bytes, expected: int | None, *, ttl: int = 0) -> int:
        (revision,), _ = await self._ask(["put", key, expected, ttl], value)
        return int(revision)

    async def delete(self, key: str, expected: int | None) -> int:
        (revision,), _ = await self._ask(["delete", key, expected])
        return int(revision)

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[Sequence[StoreEvent], None]:
        """As the protocol says. Batches end with a PROGRESS event where their last revision brought nothing."""
        position = after
        while self._reaching is not None:
            try:
                await self._require_link()
            except StoreUnavailable:
                continue
            watch = _Watch()
            self._watches.add(watch)
            try:
                upto = self._position
                while position < upto and not watch.left:
                    try:
                        (position, heads), body = await self._ask(["events", position, upto], repeat=True)
                    except StoreUnavailable:
                        watch.leave()
                    else:
                        yield _under(prefix, events_in(heads, body), position)
                while not watch.left:
                    while watch.batches:
                        events = [event for event in watch.take() if event.revision > position]
                        if events:
                            position = events[-1].revision
                            yield _under(prefix, events, position)
                    if not watch.left:
                        await watch.sleep()
            finally:
                self._watches.discard(watch)

    def listen(self, on_events: Callable[[Sequence[StoreEvent]], None]) -> Callable[[], None] | None:
        return None

    async def compact(self, revision: int) -> None:
        await self._ask(["compact", revision], repeat=True)

    # ------------------------------------------------------------------ notes
    def note(self, head: Head, body: bytes = b"") -> None:
        """Tell all other clients, before they hear of any write that is begun after this. Lost without a keeper."""
        if self._link is not None:
            self._link.send(pack([0, "note", *head], body))

    def hear_notes(self, on_note: Callable[[Head, bytes], None]) -> None:
        """Call `on_note(head, body)` for each note of others."""
        self._on_note.append(on_note)

    # ------------------------------------------------------------------ the connection
    async def _ask(self, request: Head, body: bytes = b"", *, repeat: bool = False) -> tuple[Head, bytes]:
        while True:
            link = self._link or await self._require_link()
            try:
                return await link.ask(request, body)
            except Lost:
                if self._reaching is None:
                    raise StoreUnavailable(CLOSED) from None
                if not repeat:
                    raise OutcomeUnknown(f"{GONE}; whether it did the write is not known") from None

    async def _require_link(self) -> Link:
        """The connection, when there is one; StoreUnavailable when there is none for PATIENCE seconds."""
        if self._link is not None:
            return self._link
        if self._reaching is None:
            raise StoreUnavailable(self._trouble or CLOSED)
        if len(self._waiting) >= AT_ONCE:
            await self._clock.sleep(LONGEST_PAUSE)
            raise StoreUnavailable(self._trouble or GONE)
        waiting: asyncio.Future[Link | None] = asyncio.get_running_loop().create_future()
        giving_up = asyncio.ensure_future(self._clock.sleep(PATIENCE))
        either: set[asyncio.Future[Any]] = {waiting, giving_up}
        self._waiting[waiting] = None
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            giving_up.cancel()
            self._waiting.pop(waiting, None)
        link = waiting.result() if waiting.done() else None
        if link is None:
            raise StoreUnavailable(self._trouble or GONE)
        return link

    async def _reach(self) -> None:
        """Connect, and again whenever the connection ends, until it is cancelled."""
        pause = FIRST_PAUSE
        while True:
            link = Link(self._heard, self._lost, self._clock)
            try:
                await link.connect(self._place)
                log.debug("connected to the keeper of the store at revision %d", self._position)
                pause, self._link = FIRST_PAUSE, link
                self._linked(link)
                await link.look_after()
                self._trouble = GONE
            except (OSError, StoreUnavailable) as error:
                self._trouble = GONE if isinstance(error, OSError) else str(error)
            except asyncio.CancelledError:
                if self._link is not link:
                    link.end()
                raise
            link.end()
            await self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _heard(self, head: Head, body: bytes) -> None:
        match head[1]:
            case "feed":
                events = events_in(head[2], body)
                self._position = events[-1].revision
                for watch in self._watches:
                    watch.add(events, len(body))
            case "note":
                for on_note in self._on_note:
                    on_note(head[2:], body)
            case "health":
                self._trouble = head[2]
            case "hello":
                self._position, self._trouble = head[3], head[4]

    def _lost(self) -> None:
        """Nothing comes over the connection any more: watches join again when there is another."""
        self._link = None
        if self._reaching is not None:
            self._trouble = GONE
        for watch in self._watches:
            watch.leave()

    def _linked(self, link: Link | None) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(link)


def _under(prefix: str, events: Sequence[StoreEvent], reached: int) -> Sequence[StoreEvent]:
    found = [event for event in events if event.key.startswith(prefix)]
    if not found or found[-1].revision < reached:
        found.append(StoreEvent(EventType.PROGRESS, "", reached, b""))
    return found

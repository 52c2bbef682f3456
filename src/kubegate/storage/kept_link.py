"""One connection from a client to the keeper of its store: questions and their answers, and what comes unasked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubegate.api.clock import Clock
from kubegate.storage import Compacted, FutureRevision, OutcomeUnknown, RevisionConflict, StoreUnavailable
from kubegate.storage.keeper_wire import VERSION, Head, Messages, Place, items_in, pack

log = logging.getLogger(__name__)

SILENCE = 30.0
"""Seconds after which a keeper that owes an answer is given up, and asked over a new connection."""

AT_ONCE = 10_000
AT_ONCE_BYTES = 256 * 1024 * 1024
"""Questions that may wait for answers; more are refused."""


class Lost(Exception):
    """The connection ended before the answer came."""


@dataclass(slots=True)
class _Question:
    future: asyncio.Future[tuple[Head, bytes]]
    asked: float
    size: int


class Link:
    """`on_message` is given all that is no answer, the greeting first; `ended` is done when the connection is over."""

    def __init__(self, on_message: Callable[[Head, bytes], None], on_lost: Callable[[], None], clock: Clock) -> None:
        self._on_message, self._on_lost, self._clock = on_message, on_lost, clock
        self._messages = Messages(self._heard, self._lost)
        self._questions: dict[int, _Question] = {}
        self._bytes = 0
        self._number = 0
        loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[str | None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    async def connect(self, place: Place) -> None:
        """Returns when the keeper has greeted. Raises OSError, and StoreUnavailable for a keeper of another version."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self._messages, str(place.socket))
        either: set[asyncio.Future[Any]] = {self._greeted, self.ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._greeted.done():
            raise ConnectionResetError("it ended before it greeted")
        refused = self._greeted.result()
        if refused:
            raise StoreUnavailable(refused)

    def send(self, message: bytes) -> None:
        self._messages.send(message)

    def cut(self) -> None:
        self._messages.cut()

    def end(self) -> None:
        """Close; who waits is told now."""
        self._messages.end()
        self._lost()

    async def ask(self, request: Head, body: bytes) -> tuple[Head, bytes]:
        """What the answer has to say. Raises what the store raised, and Lost."""
        if len(self._questions) >= AT_ONCE or self._bytes + len(body) > AT_ONCE_BYTES:
            raise StoreUnavailable(f"{len(self._questions)} requests are waiting for the store already")
        self._number += 1
        number = self._number
        message = pack([number, *request], body)
        question = _Question(asyncio.get_running_loop().create_future(), self._clock.monotonic(), len(message))
        self._questions[number] = question
        self._bytes += question.size
        try:
            self._messages.send(message)
            if self.ended.done():
                raise Lost
            head, found = await question.future
        finally:
            del self._questions[number]
            self._bytes -= question.size
        if head[1] != "done":
            raise _error(head, found)
        return head[2:], found

    async def look_after(self) -> None:
        """Until the connection ends, or the keeper owes an answer for too long."""
        while not self.ended.done():
            ticking = asyncio.ensure_future(self._clock.sleep(SILENCE / 4))
            try:
                await asyncio.wait({self.ended, ticking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ticking.cancel()
            oldest = next(iter(self._questions.values()), None)
            if oldest is not None and self._clock.monotonic() - oldest.asked > SILENCE:
                log.error("the process that keeps the store has not answered for %d seconds", SILENCE)
                return

    def _heard(self, head: Head, body: bytes) -> None:
        if head[0]:
            question = self._questions.get(head[0])
            if question is not None and not question.future.done():
                question.future.set_result((head, body))
        elif self._greeted.done():
            self._on_message(head, body)
        elif head[2] == VERSION:
            self._on_message(head, body)
            self._greeted.set_result(None)
        else:
            self._greeted.set_result("the process that keeps the store is of another version of kubegate")

    def _lost(self) -> None:
        if self.ended.done():
            return
        self.ended.set_result(None)
        for question in self._questions.values():
            if not question.future.done():
                question.future.set_exception(Lost())
        self._on_lost()


def _error(head: Head, body: bytes) -> Exception:
    match head[1]:
        case "conflict":
            found = items_in(head[3], body)
            return RevisionConflict(head[2], found[0] if found else None)
        case "compacted":
            return Compacted(head[2])
        case "future":
            return FutureRevision(head[2])
        case "unknown":
            return OutcomeUnknown(head[2])
        case "value":
            return ValueError(head[2])
        case _:
            return StoreUnavailable(head[2])

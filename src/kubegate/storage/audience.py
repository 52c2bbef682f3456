"""Who waits for a store's writes: listeners, which hear of each at once, and watches, which sleep until the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from kubegate.storage import StoreEvent

Listener = Callable[[Sequence[StoreEvent]], None]


class Audience:
    """For one event loop."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._sleeping: set[asyncio.Future[None]] = set()

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return tuple(self._listeners)

    def listen(self, on_events: Listener) -> Callable[[], None]:
        """Gives what ends it; to end it twice is no error."""
        self._listeners.append(on_events)

        def end() -> None:
            with suppress(ValueError):
                self._listeners.remove(on_events)

        return end

    def wake(self) -> None:
        """End every `sleep` that has begun."""
        for future in self._sleeping:
            if not future.done():
                future.set_result(None)
        self._sleeping.clear()

    async def sleep(self) -> None:
        """Until the next `wake`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.add(future)
        try:
            await future
        finally:
            self._sleeping.discard(future)

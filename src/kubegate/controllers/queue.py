"""A queue of keys to work on: each once, however often it is added; later where it failed. As client-go's workqueue."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque

from kubegate.api.clock import Clock

_FIRST_DELAY = 0.005
_LONGEST_DELAY = 60.0


class Queue:
    """For one worker or several of one event loop. A key that is added while it is worked on comes again after that."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._known: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._later: list[tuple[float, str]] = []
        self._failures: dict[str, int] = {}
        self._wake = asyncio.Event()

    def add(self, key: str) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._known:
            self._known.add(key)
            self._ready.append(key)
            self._wake.set()

    def add_at(self, key: str, moment: float) -> None:
        """Add when the clock's monotonic time is `moment`."""
        heapq.heappush(self._later, (moment, key))
        self._wake.set()

    def failed(self, key: str, now: float) -> None:
        """Work on `key` again, each time later (5 ms to a minute)."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_at(key, now + min(_FIRST_DELAY * 2 ** min(count, 20), _LONGEST_DELAY))

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)

    def done(self, key: str) -> None:
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    async def get(self, clock: Clock) -> str:
        """The next key; it is worked on until `done`."""
        while True:
            now = clock.monotonic()
            while self._later and self._later[0][0] <= now:
                self.add(heapq.heappop(self._later)[1])
            if self._ready:
                key = self._ready.popleft()
                self._known.discard(key)
                self._working.add(key)
                return key
            self._wake.clear()
            if not self._later:
                await self._wake.wait()
                continue
            waiting = asyncio.ensure_future(self._wake.wait())
            sleeping = asyncio.ensure_future(clock.sleep(max(self._later[0][0] - now, 0)))
            try:
                await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                sleeping.cancel()

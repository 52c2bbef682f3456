"""A clock that stands until a test moves it."""

from __future__ import annotations

import asyncio


class FakeClock:
    def __init__(self) -> None:
        self._now = 1_000_000.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append((self._now + seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        self._now += seconds
        due = [future for when, future in self._sleeping if when <= self._now]
        self._sleeping = [(when, future) for when, future in self._sleeping if when > self._now]
        for future in due:
            if not future.done():
                future.set_result(None)

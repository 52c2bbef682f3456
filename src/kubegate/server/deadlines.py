"""--request-timeout: writes that take longer are ended.

Others, who read, wait for nobody but the store, which has bounds of its own; watches and what connects to something may
last. A timer for each write would cost more than to look at those in flight now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from kubegate.api.clock import Clock
from kubegate.server.options import Options, UsageError
from kubegate.server.responses import Response, timed_out

_LOOK_SECONDS = 1.0

_Task = asyncio.Task[Any]


def check(options: Options) -> None:
    """Raises UsageError."""
    if options.request_timeout <= 0:
        raise UsageError("--request-timeout: expected more than 0s")


class Deadlines:
    """For one event loop. `seconds` is how long a request may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begun: dict[_Task, float] = {}  # in the order in which they began
        self._ended: set[_Task] = set()

    async def within(self, begun: float, answer: Coroutine[Any, Any, Response]) -> Response:
        """The answer to a request that began then, or 504."""
        task = asyncio.current_task()
        assert task is not None
        self._begun[task] = begun
        try:
            return await answer
        except asyncio.CancelledError:
            if task not in self._ended:  # somebody else's doing
                raise
            task.uncancel()
            return timed_out()
        finally:
            del self._begun[task]
            if self._ended:
                self._ended.discard(task)

    def look(self, now: float) -> None:
        """End those that took too long."""
        for task, begun in self._begun.items():
            if now - begun < self.seconds:
                return
            if task not in self._ended:
                self._ended.add(task)
                task.cancel()

    async def run(self, clock: Clock) -> None:
        while True:
            await clock.sleep(_LOOK_SECONDS)
            self.look(perf_counter())

"""Functions that may block, away from the event loop.

asyncio's own executor takes a lock, two futures and a wake-up for each call; a policy is often shorter than that. Here
results come back together: however many are ready, the loop is woken once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_Job = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]
# A job that waits this long (seconds) while none is finished shows that all threads are held up.
_STUCK = 0.01


class Threads:
    """Up to `most` daemon threads; another is started when those there are held up. For one event loop.

    Whoever calls bounds how many calls wait: there is no bound here.
    """

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        # Those that wait, by how long they may, with when that is over: the first of each is the first to be over.
        self._waiting: dict[float, dict[asyncio.Future[Any], float]] = {}
        self._threads = 0
        self._finished = 0
        self._woken = False
        self._looking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns or raises; TimeoutError after `seconds`. Who stops waiting leaves it running."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
        if not self._threads:
            self._start()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((future, function, arguments))
        if not self._looking and self._threads < self._most:
            self._looking = True
            loop.call_later(_STUCK, self._look, self._finished)
        waiting = self._waiting.get(seconds)
        if waiting is None:
            waiting = self._waiting[seconds] = {}
            loop.call_later(seconds, self._expire, seconds)
        waiting[future] = loop.time() + seconds
        try:
            return await future
        finally:
            del waiting[future]

    def close(self) -> None:
        """Threads end when they have done what waits."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _start(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name="kubegate-policy", daemon=True).start()

    def _look(self, finished: int) -> None:
        """Start another thread where nothing was finished since the last look, though something waits."""
        self._looking = False
        if not self._jobs.empty() and self._threads:
            if self._finished == finished and self._threads < self._most:
                self._start()
            if self._threads < self._most and self._loop is not None:
                self._looking = True
                self._loop.call_later(_STUCK, self._look, self._finished)

    def _expire(self, seconds: float) -> None:
        """Give up those that have waited so long. One timer does it for all: a timer costs more than a short policy."""
        loop, waiting = self._loop, self._waiting[seconds]
        if loop is None or not waiting:
            del self._waiting[seconds]
            return
        now = loop.time()
        for future, deadline in waiting.items():
            if deadline > now:
                loop.call_at(deadline, self._expire, seconds)
                return
            if not future.done():
                future.set_exception(TimeoutError())
        loop.call_soon(self._expire, seconds)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function, arguments = job
            result, error = None, None
            try:
                result = function(*arguments)
            except BaseException as raised:
                error = raised
            self._finished += 1
            self._done.append((future, result, error))
            # `_deliver` clears the mark before it looks: what was appended before the mark was seen is delivered.
            if not self._woken:
                self._woken = True
                loop = self._loop
                if loop is not None and not loop.is_closed():
                    loop.call_soon_threadsafe(self._deliver)
            job = future = function = arguments = result = error = None  # type: ignore[assignment]

    def _deliver(self) -> None:
        self._woken = False
        while self._done:
            future, result, error = self._done.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            elif isinstance(error, Exception) and not isinstance(error, StopIteration):
                future.set_exception(error)
            else:  # a future cannot carry StopIteration, and what ends a thread must not end the loop
                future.set_exception(RuntimeError(type(error).__name__).with_traceback(error.__traceback__))

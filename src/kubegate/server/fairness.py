"""Turns of the event loop, shared between users: whoever asks much waits behind themselves, not before others.

A request is answered without a pause, so a flood would be answered in the order in which it came, and everybody else
after it. While several users ask, each has at most `SHARE` requests answered in one turn of the loop; what is more
waits for the next turns. A user who is alone is never held up.
"""

from __future__ import annotations

import asyncio
from collections import deque

SHARE = 4
"""Requests of one user that are answered in one turn of the loop, while others ask as well."""
COMPANY = 1.0
"""Seconds for which users count as asking at the same time."""


class Turns:
    """For one event loop. What waits is bounded by the requests in flight (`limits`), which are counted before."""

    def __init__(self) -> None:
        self._last = ""
        self._company_until = 0.0
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._ending = False  # the end of this turn has been scheduled

    def take(self, user: str, now: float) -> asyncio.Future[None] | None:
        """None: go on. Else what is to be awaited before. `now` is in seconds, of a clock that never goes back."""
        if user != self._last:
            if self._last:
                self._company_until = now + COMPANY
            self._last = user
        if now >= self._company_until and not self._waiting:
            return None
        if not self._ending:
            self._ending = True
            asyncio.get_running_loop().call_soon(self._end)
        taken = self._taken.get(user, 0)
        if taken < SHARE and user not in self._waiting:
            self._taken[user] = taken + 1
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(future)
        return future

    def _end(self) -> None:
        """A turn of the loop is over: let the next ones of each user go."""
        self._taken.clear()
        for user, futures in list(self._waiting.items()):
            released = 0
            while futures and released < SHARE:
                future = futures.popleft()
                if not future.done():  # the client may have gone
                    future.set_result(None)
                    released += 1
            if released:
                self._taken[user] = released
            if not futures:
                del self._waiting[user]
        self._ending = bool(self._waiting)
        if self._ending:
            asyncio.get_running_loop().call_soon(self._end)

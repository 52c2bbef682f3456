"""What sources that check a name and a secret share: they block, they cost, and they are asked again and again.

Checks run in threads, few at a time, with a bounded queue; an answer is remembered for a while by a keyed hash of the
token, and the same token asked for twice at once is checked once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kubegate.api.clock import Clock
from kubegate.authentication import Authenticated, AuthenticationError
from kubegate.authentication.secrets import BoundedCache, Digest
from kubegate.authentication.sources import passwords
from kubegate.authentication.sources.passwords import Login

Check = Callable[[Login], Authenticated | None]
"""Blocks; None for a secret that is not right, AuthenticationError where that could not be found out."""

KNOWN_SECONDS = 60.0
REFUSED_SECONDS = 10.0
_REMEMBERED = 10_000
_WAITING = 100


class Logins:
    """Tokens of the form NAME:SECRET, by a check that blocks. Close it when done."""

    def __init__(self, check: Check, clock: Clock, *, at_once: int, known_seconds: float = KNOWN_SECONDS) -> None:
        self._check, self._clock, self._known_seconds = check, clock, known_seconds
        self._threads = ThreadPoolExecutor(at_once, "logins")
        self._digest = Digest()
        self._known: BoundedCache[tuple[Authenticated | None]] = BoundedCache(_REMEMBERED)
        self._calls: dict[bytes, asyncio.Task[Authenticated | None]] = {}
        self._generation = 0

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        login = passwords.login(token)
        if login is None:
            return None
        key = self._digest(token)
        known = self._known.get(key, self._clock.monotonic())
        if known is not None:
            return known[0]
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) >= _WAITING:
                raise AuthenticationError("too many sign-ins are waiting")
            call = self._calls[key] = asyncio.create_task(self._ask(key, login))
            call.add_done_callback(lambda done: self._done(key, done))
        # whoever waits may go away; the check serves the others, and the cache
        return await asyncio.shield(call)

    async def _ask(self, key: bytes, login: Login) -> Authenticated | None:
        generation = self._generation
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._check, login)
        if generation == self._generation:
            seconds = REFUSED_SECONDS if found is None else self._known_seconds
            self._known.put(key, (found,), self._clock.monotonic() + seconds)
        return found

    def _done(self, key: bytes, call: asyncio.Task[Authenticated | None]) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]
        if not call.cancelled():
            call.exception()  # those who waited have it; nobody may have

    def forget(self) -> None:
        """What is checked against has changed: nothing found before holds any longer."""
        self._generation += 1
        self._known.clear()
        self._calls.clear()

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

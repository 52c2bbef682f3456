"""The kernel's lock on a file: one holder among all processes of a machine, and free when that process is gone."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from kubegate.api.clock import Clock
from kubegate.storage import StoreUnavailable

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05
"""Seconds between two attempts to take a lock that another process has."""


class FileLock:
    """On the file `path`, which is made where it is missing. For one process; tasks of it take it in turn."""

    def __init__(self, path: str | Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Whether this process has it now. Never waits."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait(self) -> None:
        """Take it, however long that lasts: for a thread of its own."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def give_back(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Gives it back as well."""
        os.close(self._descriptor)


class MachineLock:
    """`async with lock:` one task at a time, of all tasks of all processes that name the same file.

    Raises StoreUnavailable where another holds it for `patience` seconds.
    """

    def __init__(self, path: str | Path, clock: Clock, patience: float = 10.0) -> None:
        self._lock, self._clock, self._patience = FileLock(path), clock, patience
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> None:
        until = self._clock.monotonic() + self._patience
        pause = FIRST_PAUSE
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError:
            raise StoreUnavailable("another write of this kind takes too long") from None
        try:
            while not self._lock.take():
                if self._clock.monotonic() > until:
                    raise StoreUnavailable("another process's write of this kind takes too long")
                await self._clock.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        except BaseException:
            self._turn.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.give_back()
        self._turn.release()

    def close(self) -> None:
        self._lock.close()

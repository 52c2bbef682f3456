"""Time, passed in so that tests need no sleeping."""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

answer_by: ContextVar[float] = ContextVar("answer_by", default=math.inf)
"""When the client of the request at hand no longer waits, in the event loop's time."""


class Clock(Protocol):
    """Wall time for timestamps, monotonic time for intervals, and a way to wait."""

    def now(self) -> float:
        """Seconds since 1970 (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(seconds: float) -> str:
    """metav1.Time: whole seconds, `2026-01-02T03:04:05Z`."""
    return _whole(int(seconds))


@lru_cache(64)
def _whole(seconds: int) -> str:
    """Every write of one second asks for the same text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(seconds: float) -> str:
    """metav1.MicroTime: `2026-01-02T03:04:05.000006Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_SHORTEST = len("2006-01-02T15:04:05Z")


def parse_rfc3339(text: str) -> float:
    """Seconds since 1970. Raises ValueError when `text` is no RFC 3339 time."""
    if len(text) < _SHORTEST or text[10] != "T" or text[16] != ":":  # Python reads other forms as well
        raise ValueError(f"{text!r} is no time such as 2006-01-02T15:04:05Z")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.timestamp()

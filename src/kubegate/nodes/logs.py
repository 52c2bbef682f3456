"""What simulated containers wrote: a line that says that nothing runs, and the output of commands that were run there.

Kept in memory, the latest part of it, and gone with the pod or the process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

_MOST_BYTES = 256 * 1024
_LONGEST_LINE = 16 * 1024  # as the kubelet cuts them


@dataclass(frozen=True, slots=True)
class Line:
    """`text` with its line end; `at` in seconds since 1970."""

    at: float
    stream: str
    text: bytes


@dataclass(slots=True)
class _Log:
    lines: deque[Line] = field(default_factory=deque)
    size: int = 0
    first: int = 0
    open: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Logs:
    """By pod (uid) and container."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._logs: dict[tuple[str, str], _Log] = {}

    def begin(self, uid: str, container: str, text: str) -> None:
        """The line with which a container's log begins, where it has none yet."""
        if (uid, container) not in self._logs:
            self._logs[uid, container] = _Log()
            self.append(uid, container, "stdout", f"{text}\n".encode())

    def append(self, uid: str, container: str, stream: str, data: bytes) -> None:
        log = self._logs.get((uid, container))
        if log is None or not data:
            return
        for whole in data.splitlines(keepends=True):
            for start in range(0, len(whole), _LONGEST_LINE):
                self._add(log, Line(self._now(), stream, whole[start : start + _LONGEST_LINE]))
        log.changed.set()

    @staticmethod
    def _add(log: _Log, line: Line) -> None:
        if log.lines and not log.lines[-1].text.endswith(b"\n") and log.lines[-1].stream == line.stream:
            last = log.lines.pop()
            log.size -= len(last.text)
            line = Line(last.at, line.stream, last.text + line.text)
        log.lines.append(line)
        log.size += len(line.text)
        while log.size > _MOST_BYTES and len(log.lines) > 1:
            log.size -= len(log.lines.popleft().text)
            log.first += 1

    def lines(self, uid: str, container: str) -> list[Line]:
        log = self._logs.get((uid, container))
        return list(log.lines) if log is not None else []

    def forget(self, uid: str) -> None:
        """The pod is gone; who follows its logs comes to their end."""
        for key in [key for key in self._logs if key[0] == uid]:
            log = self._logs.pop(key)
            log.open = False
            log.changed.set()

    def end(self, uid: str) -> None:
        """The pod's containers write no more."""
        for (owner, _), log in self._logs.items():
            if owner == uid:
                log.open = False
                log.changed.set()

    async def follow(self, uid: str, container: str) -> AsyncIterator[Line]:
        """Whole lines that are written from now on, until the container has ended."""
        log = self._logs.get((uid, container))
        if log is None:
            return
        position = log.first + len(log.lines)
        while True:
            while position < log.first + len(log.lines):
                line = log.lines[max(position - log.first, 0)]
                if log.open and not line.text.endswith(b"\n"):
                    break
                position = max(position, log.first) + 1
                yield line
            if not log.open:
                return
            log.changed.clear()
            await log.changed.wait()

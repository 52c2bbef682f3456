"""The log of decisions: one JSON object a line. It holds no token, and no object."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

_MOST_PENDING = 10_000
# A thread is woken for all lines of this many seconds: for each decision it would cost more than the decision.
_EVERY = 0.05


class DecisionLog:
    """Lines are written together, a few times a second, by a thread that may block.

    A reader that does not keep up loses lines, never holds up a decision: how many were lost is said in the next line.
    Processes that write to the same file name the same `lock`, a file, so that no line is written into another.
    """

    def __init__(self, file: BinaryIO, lock: Path | None = None) -> None:
        self._file, self._lock = file, lock
        self._lines: list[bytes] = []
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def write(self, entry: Mapping[str, Any]) -> None:
        if len(self._lines) >= _MOST_PENDING:
            self._lost += 1
            return
        if self._lost:
            self._lines.append(orjson.dumps({"lost": self._lost}, option=orjson.OPT_APPEND_NEWLINE))
            self._lost = 0
        self._lines.append(orjson.dumps(entry, default=str, option=orjson.OPT_APPEND_NEWLINE))
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self._begin)

    async def close(self) -> None:
        """Until all is written."""
        while self._lines or self._writing is not None:
            if self._writing is None:
                self._begin()
            if self._writing is not None:
                await asyncio.gather(self._writing, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write(), name="decision-log")

    async def _write(self) -> None:
        lines, self._lines = self._lines, []
        try:
            await asyncio.to_thread(self._put, b"".join(lines))
        finally:
            self._writing = None
            if self._lines and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_EVERY, self._begin)

    def _put(self, data: bytes) -> None:
        try:
            with self._alone():
                self._file.write(data)
                self._file.flush()
        except (OSError, ValueError):  # nobody reads any more; decisions go on
            self._lost += data.count(b"\n")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process writes: a pipe takes more than a page in pieces."""
        if self._lock is None:
            yield
            return
        with self._lock.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

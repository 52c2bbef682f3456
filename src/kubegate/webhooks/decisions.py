"""The log of decisions: one JSON object a line. It holds no token, and no object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import orjson

_MOST_PENDING = 10_000


class DecisionLog:
    """Lines are written together, once for each turn of the event loop, by a thread that may block.

    A reader that does not keep up loses lines, never holds up a decision: how many were lost is said in the next line.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._lost = 0
        self._writing: asyncio.Task[None] | None = None

    def write(self, entry: Mapping[str, Any]) -> None:
        if len(self._lines) >= _MOST_PENDING:
            self._lost += 1
            return
        if self._lost:
            self._lines.append(orjson.dumps({"lost": self._lost}, option=orjson.OPT_APPEND_NEWLINE))
            self._lost = 0
        self._lines.append(orjson.dumps(entry, default=str, option=orjson.OPT_APPEND_NEWLINE))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._drain(), name="decision-log")

    async def close(self) -> None:
        """Until all is written."""
        while self._writing is not None and not self._writing.done():
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _drain(self) -> None:
        while self._lines:
            lines, self._lines = self._lines, []
            await asyncio.to_thread(self._put, b"".join(lines))

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except (OSError, ValueError):  # nobody reads any more; decisions go on
            self._lost += data.count(b"\n")


Write = Callable[[Mapping[str, Any]], None]

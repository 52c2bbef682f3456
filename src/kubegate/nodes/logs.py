"""What simulated containers wrote: a line that says that nothing runs, and the output of commands that were run there.

A file for each container in its pod's folder, as container runtimes write them (`TIME STREAM F|P TEXT`; P: the line
goes on), so that every process of this machine adds to it and reads it. The latest part is kept.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubegate.api.clock import Clock, parse_rfc3339, rfc3339_micro
from kubegate.nodes import folders

_MOST_BYTES = 512 * 1024
_KEPT_BYTES = 256 * 1024
_LONGEST_LINE = 16 * 1024  # as the kubelet cuts them
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Line:
    """`text` with its line end, where it has come; `at` in seconds since 1970."""

    at: float
    stream: str
    text: bytes


class Logs:
    """By pod (uid) and container, below the folder that has a folder for each pod."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock

    def _path(self, uid: str, container: str) -> Path:
        folders.check_path(uid)
        folders.check_path(container)
        return self._folder / uid / "logs" / container

    def begin(self, uid: str, container: str, text: str) -> None:
        """The line with which a container's log begins, where it has none yet. Raises OSError."""
        path = self._path(uid, container)
        if not path.exists():
            folders.make(path.parent)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            self.append(uid, container, "stdout", f"{text}\n".encode())

    def append(self, uid: str, container: str, stream: str, data: bytes) -> None:
        """A log that is not there (any more) takes nothing."""
        head = f"{rfc3339_micro(self._clock.now())} {stream} ".encode()
        found = bytearray()
        for whole in data.splitlines(keepends=True):
            for start in range(0, len(whole), _LONGEST_LINE):
                text = whole[start : start + _LONGEST_LINE]
                found += head + (b"F " if text.endswith(b"\n") else b"P ") + text.rstrip(b"\r\n") + b"\n"
        with _opened(self._path(uid, container)) as descriptor:
            if descriptor is not None:
                os.write(descriptor, found)
                if os.fstat(descriptor).st_size > _MOST_BYTES:
                    _shorten(descriptor)

    def read(self, uid: str, container: str) -> tuple[list[Line], int]:
        """All lines that are kept, and the position from which on `follow` goes on."""
        data = self._from(uid, container, 0)
        return _lines(data), len(data)

    async def follow(self, uid: str, container: str, position: int, running: Callable[[], bool]) -> AsyncIterator[Line]:
        """What is written after `position`, until the container no longer is `running`."""
        latest = 0.0
        while True:
            over = not running()
            data = self._from(uid, container, position)
            position += len(data)
            if not data and self._size(uid, container) < position:  # shortened meanwhile
                data = self._from(uid, container, 0)
                position = len(data)
                data = b"".join(one for one in data.splitlines(keepends=True) if _at(one) > latest)
            for line in _lines(data):
                latest = max(latest, line.at)
                yield line
            if over:
                return
            await self._clock.sleep(_LOOK_SECONDS)

    def _size(self, uid: str, container: str) -> int:
        try:
            return self._path(uid, container).stat().st_size
        except OSError:
            return 0

    def _from(self, uid: str, container: str, position: int) -> bytes:
        """Whole records from a position on."""
        try:
            with self._path(uid, container).open("rb") as file:
                file.seek(position)
                data = file.read(_MOST_BYTES * 2)
        except OSError:
            return b""
        return data[: data.rfind(b"\n") + 1]


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """The file to add to, for this process alone; None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _shorten(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    kept = os.pread(descriptor, _KEPT_BYTES, size - _KEPT_BYTES)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, kept[kept.find(b"\n") + 1 :])


def _at(record: bytes) -> float:
    return parse_rfc3339(record.partition(b" ")[0].decode())


def _lines(data: bytes) -> list[Line]:
    """The records as lines; parts of one line are put together."""
    found: list[Line] = []
    for record in data.splitlines(keepends=True):
        moment, stream, tag, text = record.split(b" ", 3)
        text = text if tag == b"F" else text[:-1]
        last = found[-1] if found else None
        if last is not None and last.stream == stream.decode() and not last.text.endswith(b"\n"):
            found[-1] = Line(last.at, last.stream, last.text + text)
        else:
            found.append(Line(parse_rfc3339(moment.decode()), stream.decode(), text))
    return found

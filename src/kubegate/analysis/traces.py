"""Request traces read back: lines of `--request-trace-path`, the last ones first, and new ones as they come."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

Line = dict[str, Any]
"""What one request's trace tells; its fields are those of docs/traces.md."""

_BLOCK = 256 * 1024
_INVALID = "validation"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests: those that fit all that is given. `resource` is RESOURCE[.GROUP][/SUBRESOURCE]."""

    denied: bool = False
    user: str = ""
    resource: str = ""
    namespace: str = ""
    id: str = ""

    def fits(self, line: Line) -> bool:
        if self.id and not str(line.get("id", "")).startswith(self.id):
            return False
        if self.denied and line.get("refusedBy", _INVALID) == _INVALID:
            return False
        about = line.get("objectRef") or {}
        if self.namespace and about.get("namespace") != self.namespace:
            return False
        if self.user and self.user not in (name_of(line, "user"), name_of(line, "impersonator")):
            return False
        return not self.resource or self._about(about)

    def _about(self, about: Line) -> bool:
        named, _, subresource = self.resource.partition("/")
        resource, _, group = named.partition(".")
        if resource != about.get("resource") or (subresource and subresource != about.get("subresource")):
            return False
        return not group or group == about.get("apiGroup")


def name_of(line: Line, who: str) -> str:
    """The `user` or the `impersonator` of a request; "" where there is none."""
    found = line.get(who)
    return str(found.get("username") or "") if isinstance(found, dict) else ""


def parsed(raw: bytes) -> Line | None:
    """None for what is no trace: a log may stand between them."""
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and "stages" in line and "id" in line else None


def last(path: Path, wanted: Wanted, most: int) -> list[Line]:
    """The last `most` that are wanted, oldest first. Reads no more than it must. Raises OSError.

    Where the file has too few, the ones that were put aside for it are read as well.
    """
    aside = sorted(path.parent.glob(f"{path.stem}-[0-9]*T*{path.suffix}"), reverse=True)
    found = chain.from_iterable(_wanted(each, wanted) for each in (path, *aside))
    return list(islice(found, most))[::-1]


def _wanted(path: Path, wanted: Wanted) -> Iterator[Line]:
    """The last one first."""
    with path.open("rb") as file:
        for raw in _backwards(file):
            line = parsed(raw)
            if line is not None and wanted.fits(line):
                yield line


def last_of(lines: Iterable[bytes], wanted: Wanted, most: int) -> list[Line]:
    """As `last`, of what cannot be read from its end."""
    traces = (line for line in map(parsed, lines) if line is not None and wanted.fits(line))
    return list(deque(traces, most))


def follow(path: Path, wanted: Wanted, start: int, wait: Callable[[], None]) -> Iterator[Line]:
    """What is written from `start` on, for ever; `wait` is called where there is nothing new. Raises OSError.

    A file that another one took the place of, or that was cut off, is read from its beginning.
    """
    while True:
        with path.open("rb") as file:
            file.seek(start)
            start, rest = 0, b""
            while True:
                data = file.read(_BLOCK)
                if not data:
                    if _is_another(path, file):
                        break
                    wait()
                    continue
                *whole, rest = (rest + data).split(b"\n")
                for raw in whole:
                    line = parsed(raw)
                    if line is not None and wanted.fits(line):
                        yield line


def _is_another(path: Path, file: BinaryIO) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:  # between the old one and the new one
        return False
    ours = os.fstat(file.fileno())
    return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino) or there.st_size < file.tell()


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    """A file's lines, the last one first."""
    position = file.seek(0, os.SEEK_END)
    pieces: list[bytes] = []  # of the line whose beginning is not reached yet, the last piece first
    while position:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        first, *lines = file.read(size).split(b"\n")
        if lines:
            pieces.append(lines.pop())
            yield b"".join(reversed(pieces))
            yield from reversed(lines)
            pieces = []
        pieces.append(first)
    yield b"".join(reversed(pieces))

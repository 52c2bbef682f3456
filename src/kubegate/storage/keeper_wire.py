"""What the keeper of a store and its clients share: a folder, messages over a Unix socket, and a revision in memory.

A message is two lengths, a head of JSON, and bytes that JSON cannot carry. The folder belongs to one user alone; it has
the socket and a file of eight bytes, mapped by all: the newest committed revision.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from kubegate.storage import EventType, KeyValue, StoreEvent

VERSION = 1
"""Of the messages: the keeper greets with it."""

REQUEST_BYTES = 64 * 1024 * 1024
"""A longer message to the keeper is refused, and who sends it is cut off."""

ANSWER_BYTES = 1024 * 1024 * 1024

WAITING_BYTES = 128 * 1024 * 1024
"""What may wait to be read by the other end; who is slower than that is cut off."""

_LENGTHS = struct.Struct("<II")  # of all that follows, and of the JSON in it
_TYPES = (EventType.PUT, EventType.DELETE)

Head = list[Any]


class Place:
    """The folder of one keeper, made for its owner alone."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.socket = self.folder / "keeper.sock"
        self.revision = self.folder / "revision"

    def listen(self) -> socket.socket:
        """The socket that the keeper listens on, and the file of the revision. Raises OSError."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self.folder.stat().st_mode & 0o077:
            raise PermissionError(f"{self.folder} must be its owner's alone")
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            old = os.umask(0o177)
            try:
                found.bind(str(self.socket))
            finally:
                os.umask(old)
            found.listen(256)
            found.setblocking(False)
        except BaseException:
            found.close()
            raise
        descriptor = os.open(self.revision, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, 8)
        finally:
            os.close(descriptor)
        return found


class Board:
    """The newest committed revision, in memory that the processes of a keeper share: one aligned word.

    The keeper writes it after a change is durable and before anybody is told of it.
    """

    def __init__(self, place: Place) -> None:
        with open(place.revision, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)
        self._word = memoryview(self._memory).cast("Q")

    def read(self) -> int:
        return self._word[0]

    def write(self, revision: int) -> None:
        self._word[0] = revision

    def close(self) -> None:
        self._word.release()
        self._memory.close()


def pack(head: Sequence[Any], *bodies: bytes) -> bytes:
    """Raises ValueError for a text in `head` that is no Unicode."""
    try:
        text = orjson.dumps(head)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"it cannot be sent to the store: {error}") from None
    return b"".join((_LENGTHS.pack(len(text) + sum(map(len, bodies)), len(text)), text, *bodies))


class Messages(asyncio.Protocol):
    """One end of a connection.

    Calls `on_message(head, body)` for each message that comes, `on_lost()` once when it is over, and where they are
    given `on_made(transport)` first. A message longer than `longest` ends it.
    """

    def __init__(
        self,
        on_message: Callable[[Head, bytes], None],
        on_lost: Callable[[], None],
        on_made: Callable[[asyncio.BaseTransport], None] | None = None,
        longest: int = ANSWER_BYTES,
    ) -> None:
        self._on_message, self._on_lost, self._on_made, self._longest = on_message, on_lost, on_made, longest
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._on_made is not None:
            self._on_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTHS.size:
            size, text = _LENGTHS.unpack_from(buffer, start)
            if size > self._longest or text > size:
                self.cut()
                return
            begin = start + _LENGTHS.size
            end = begin + size
            if len(buffer) < end:
                break
            try:
                head = orjson.loads(buffer[begin : begin + text])
            except orjson.JSONDecodeError:
                self.cut()
                return
            self._on_message(head, bytes(memoryview(buffer)[begin + text : end]))
            start = end
        del buffer[:start]

    def send(self, data: bytes) -> None:
        """Queue bytes that `pack` made; cut the connection where too much waits already."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > WAITING_BYTES:
            self.cut()

    def hold(self, held: bool) -> None:
        """Read nothing more for now, or again."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() is not held:
            return
        if held:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def end(self) -> None:
        """Close when what waits was sent."""
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Close at once; what waits is lost."""
        if self._transport is not None:
            self._transport.abort()


def same_user(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end of a Unix socket belongs to this process's user, where the kernel tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    peer = transport.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid == os.getuid()


# ---------------------------------------------------------------------- heads and bodies
def items_out(items: Sequence[KeyValue]) -> tuple[list[Head], list[bytes]]:
    return [[i.key, i.mod_revision, i.create_revision, len(i.value)] for i in items], [i.value for i in items]


def items_in(heads: Sequence[Head], body: bytes, start: int = 0) -> list[KeyValue]:
    found = []
    for key, modified, created, size in heads:
        found.append(KeyValue(key, body[start : start + size], modified, created))
        start += size
    return found


def events_out(events: Sequence[StoreEvent]) -> tuple[list[Head], list[bytes]]:
    heads: list[Head] = []
    bodies: list[bytes] = []
    for event in events:
        previous = event.previous
        before = None
        bodies.append(event.value)
        if previous is not None:
            before = [previous.mod_revision, previous.create_revision, len(previous.value)]
            bodies.append(previous.value)
        heads.append([_TYPES.index(event.type), event.key, event.revision, len(event.value), before])
    return heads, bodies


def events_in(heads: Sequence[Head], body: bytes) -> list[StoreEvent]:
    found = []
    start = 0
    for kind, key, revision, size, before in heads:
        value = body[start : start + size]
        start += size
        previous = None
        if before is not None:
            modified, created, size = before
            previous = KeyValue(key, body[start : start + size], modified, created)
            start += size
        found.append(StoreEvent(_TYPES[kind], key, revision, value, previous))
    return found

"""HTTP/1.1 as a client speaks it: one request at a time over a connection that is kept.

Why not a library: a call over TLS took 133 µs of processor time with aiohttp, most of it in layers that webhooks have
no use for (sessions, cookies, redirects, payload writers, traces); with this it takes a third of that, and nothing has
to be imported before the first call. httpx has as many layers, over a parser in pure Python. The price is this module
and its tests. What is left out: HTTP/2 (Kubernetes speaks it with webhooks, but whoever speaks it speaks HTTP/1.1,
too), bodies in pieces, and resumed TLS sessions (kube-apiserver resumes none: a resumed session's certificate is not
looked at again).
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, cast

from msgspec import Struct

from kubegate.remote.errors import Dropped, Failed, OutOfTime, ended_without_words, joined, os_text, tls_text

_LARGEST_HEAD: Final = 128 * 1024
_SHORT_HEAD: Final = 1024
_LARGEST_LINE: Final = 4096  # of those before a chunk
_WITHOUT_BODY: Final = frozenset({204, 304})
_APART: Final = 32 * 1024  # a body larger than this is not copied to stand beside its head

_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/\d\.(\d) +(\d\d\d)(?: [^\n]*|\r)?\n")
_FIELDS = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r?\n)*")
_FOLDED = re.compile(r"\r?\n[ \t]+")
_BROKEN = "net/http: HTTP/1.x transport connection broken: "


class Response(Struct, frozen=True):
    """An answer with its whole body. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")


class ResponseParser:
    """Bytes to one answer, however they are cut. Strict where two readers could disagree on where a body ends."""

    _head_read: _Head | None = None
    _buffer = b""
    _content: bytearray | None = None
    _missing: int | None = None
    """Bytes of the body still to come; None: as many as come."""
    _chunks: _Chunks | None = None
    begun = False
    """A byte has come."""
    keep_alive = False
    """Once the answer is whole: another request may follow on the connection."""

    def __init__(self, method: str, limit: int) -> None:
        """`limit` is the largest body that is taken."""
        self._method, self._limit = method, limit

    @property
    def in_body(self) -> bool:
        return self._head_read is not None

    def feed(self, data: bytes) -> Response | None:
        """The answer, once it is whole. Raises Failed."""
        self.begun = True
        if self._head_read is None:
            rest = self._head(self._buffer + data if self._buffer else data)
            if rest is None:
                return None
            data = rest
            if self._missing == len(data):  # as nearly all answers come: in one piece
                return self._whole(data)
        return self._body(data)

    def end(self) -> Response | None:
        """The answer where it ends with the connection; None where it is cut off."""
        if self.in_body and self._missing is None and self._chunks is None:
            return self._whole(bytes(self._content or b""))
        return None

    def _whole(self, body: bytes) -> Response:
        assert self._head_read is not None
        return Response(self._head_read.status, self._head_read.headers, body)

    def _head(self, data: bytes) -> bytes | None:
        """What follows the head, once all of that is there. Heads of interim answers (100, 103) are passed over."""
        while found := _HEAD_END.search(data):
            end = found.end()
            # servers say the same again and again, for a second at least (Date)
            head = (_read_again if end <= _SHORT_HEAD else _read)(data[:end])
            data = data[end:]
            if head.status >= 200:
                self._begin_body(head)
                return data
        if len(data) > _LARGEST_HEAD:
            raise Failed(f"net/http: server response headers exceeded {_LARGEST_HEAD} bytes; aborted")
        self._buffer = data
        return None

    def _begin_body(self, head: _Head) -> None:
        self._head_read, self._buffer = head, b""
        self.keep_alive = head.keep_alive
        if head.status in _WITHOUT_BODY or self._method == "HEAD" or (self._method == "CONNECT" and head.status < 300):
            self._missing = 0
        elif head.chunked:
            self._chunks = _Chunks()
        elif head.length is not None:
            self._missing = head.length
            self._bound(head.length)
        else:
            self.keep_alive = False

    def _body(self, data: bytes) -> Response | None:
        if self._content is None:
            self._content = bytearray()
        content, missing = self._content, self._missing
        if self._chunks is not None:
            rest = self._chunks.feed(data, content)
            self._bound(len(content))
            if rest is None:
                return None
        elif missing is None:
            content += data
            self._bound(len(content))
            return None
        else:
            content += data[:missing]
            self._missing = missing - min(missing, len(data))
            if self._missing:
                return None
            rest = data[missing:]
        if rest:  # nobody asked for more
            self.keep_alive = False
        return self._whole(bytes(content))

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise Failed(f"the answer is larger than {self._limit} bytes")


class _Chunks:
    """A chunked body."""

    __slots__ = ("_buffer", "_ending", "_left", "_trailer")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        """Bytes of the chunk at hand still to come."""
        self._ending = False
        """The chunk is there, and not yet the line's end after it."""
        self._trailer = False

    def feed(self, data: bytes, content: bytearray) -> bytes | None:
        """Adds to `content`. What follows the body, once that is whole. Raises Failed."""
        data, at = self._buffer + data, 0
        while True:
            if self._left:
                piece = data[at : at + self._left]
                content += piece
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    self._buffer = b""
                    return None
                self._ending = True
            if self._ending:
                if not b"\r\n".startswith(data[at : at + 2]):
                    raise Failed(_BROKEN + "malformed chunked encoding")
                if len(data) < at + 2:
                    self._buffer = data[at:]
                    return None
                at += 2
                self._ending = False
            end = data.find(b"\n", at)
            if (len(data) if end < 0 else end) - at > _LARGEST_LINE:
                raise Failed(_BROKEN + "header line too long")
            if end < 0:
                self._buffer = data[at:]
                return None
            line, at = data[at:end].rstrip(b"\r"), end + 1
            if not self._trailer:
                self._left = _size(line)
                self._trailer = not self._left
            elif not line:
                return data[at:]


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not digits or len(digits) > 16 or digits.strip(b"0123456789abcdefABCDEF"):
        raise Failed(_BROKEN + "invalid byte in chunk length")
    return int(digits, 16)


class _Head(Struct, frozen=True):
    """`length` is None where the body ends with the connection, or is `chunked`."""

    status: int
    headers: Mapping[str, str]
    keep_alive: bool
    chunked: bool
    length: int | None


def _read(data: bytes) -> _Head:
    """Raises Failed."""
    text = data.decode("latin-1")
    found = _STATUS_LINE.match(text)
    if found is None:
        raise Failed(_BROKEN + _what_is_malformed(text.partition("\n")[0].rstrip("\r")))
    fields = text[found.end() : text.rindex("\n", 0, -1) + 1]
    headers: dict[str, str] = {}
    for line in (fields if _FIELDS.fullmatch(fields) else _unfolded(fields)).split("\n")[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t\r")
        if name in headers:
            _check_repeated(name, headers[name], value)
        headers[name] = value
    status, said = int(found[2]), headers.get("connection", "").lower()
    if status == 101:
        raise Failed(_BROKEN + 'malformed HTTP status code "101"')
    keep_alive = "close" not in said if found[1] != "0" else "keep-alive" in said
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked":
            raise Failed(f"{_BROKEN}unsupported transfer encoding: {_quoted(coding)}")
        # who says both may mean either: nothing is to follow on this connection
        return _Head(status, headers, keep_alive and length is None, True, None)
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 20):
        raise Failed(f"{_BROKEN}bad Content-Length {_quoted(length)}")
    return _Head(status, headers, keep_alive, False, None if length is None else int(length))


_read_again = lru_cache(maxsize=64)(_read)


def _unfolded(fields: str) -> str:
    """Fields that go on in the next line, in one line. Raises Failed where that is not what is wrong."""
    fields = _FOLDED.sub(" ", fields)
    for line in fields.splitlines(keepends=True):
        if not _FIELDS.fullmatch(line):
            colon = "" if ":" in line else "missing colon: "
            shown = _quoted(line.rstrip("\r\n"))
            raise Failed(f"{_BROKEN}malformed MIME header{':' if colon else ' line:'} {colon}{shown}")
    return fields


def _check_repeated(name: str, first: str, second: str) -> None:
    """Of a field that is there twice the last one counts, but not where it says where the body ends. Raises Failed."""
    if name == "content-length" and first != second:
        said = f"[{_quoted(first)} {_quoted(second)}]"
        raise Failed(f"{_BROKEN}http: message cannot contain multiple Content-Length headers; got {said}")
    if name == "transfer-encoding":
        raise Failed(f"{_BROKEN}too many transfer encodings")


def _what_is_malformed(line: str) -> str:
    protocol, space, rest = line.partition(" ")
    code = rest.lstrip(" ").partition(" ")[0]
    if not space:
        return f"malformed HTTP response {_quoted(line)}"
    if len(code) != 3 or not code.isdigit():
        return f"malformed HTTP status code {_quoted(code)}"
    return f"malformed HTTP version {_quoted(protocol)}"


def _quoted(text: str) -> str:
    """As Go's %q for what may stand in an error; what is long is cut."""
    shown = "".join(c if " " <= c <= "~" and c not in '"\\' else _escaped(c) for c in text[:200])
    return f'"{shown}"'


def _escaped(character: str) -> str:
    return {'"': '\\"', "\\": "\\\\", "\t": "\\t", "\r": "\\r", "\n": "\\n"}.get(character, f"\\x{ord(character):02x}")


class Connection(asyncio.Protocol):
    """One connection, one request at a time. Whoever makes one has it connected before anything is asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser: ResponseParser | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is gone."""
        self.idle_since = 0.0
        self._ends = ""

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("the connection is not made yet")
        return self._transport

    @transport.setter
    def transport(self, transport: asyncio.BaseTransport) -> None:
        """Set anew when TLS begins within a connection."""
        self._transport = cast(asyncio.Transport, transport)

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not (self.transport.is_closing() or self.lost.done())

    async def exchange(self, method: str, head: bytes, body: bytes, deadline: float, limit: int) -> Response:
        """Send a request and give its answer. Raises Failed; then, and when cancelled, the connection is gone.

        Afterwards `usable` tells whether there may be another. `deadline` is a time of the event loop.
        """
        transport, loop = self.transport, self._loop
        self._parser = parser = ResponseParser(method, limit)
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(deadline - loop.time(), self._out_of_time)
        if len(body) <= _APART:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        whole = False
        try:
            answer: Response = await waiter
            whole = True
            return answer
        finally:
            timer.cancel()
            self._parser = self._waiter = None
            # where an answer came before all was sent, the rest of the request would be the next one's beginning
            if not whole or transport.get_write_buffer_size():
                transport.abort()
            elif not parser.keep_alive:
                transport.close()

    def abort(self, why: Failed) -> None:
        """Go at once; a request in flight fails with `why`."""
        self._fail(why)
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # once it is lost nobody knows them any more
        ends = (transport.get_extra_info(name) or ("", 0) for name in ("sockname", "peername"))
        self._ends = "->".join(joined(*end[:2]) for end in ends)

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._waiter is None:
            self.transport.abort()  # nobody asked
        elif self._waiter.done():
            self._parser.keep_alive = False
        else:
            try:
                answer = self._parser.feed(data)
            except Failed as error:
                self._fail(error)
            else:
                if answer is not None:
                    self._waiter.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if self._parser is None or self._waiter is None or self._waiter.done():
            return
        answer = self._parser.end() if ended_without_words(error) else None
        if answer is not None:
            self._waiter.set_result(answer)
        else:
            self._fail(self._loss(error, self._parser))

    def _loss(self, error: Exception | None, parser: ResponseParser) -> Failed:
        """What the end of the connection, before the end of the answer, means."""
        if ended_without_words(error):
            if not parser.begun:
                return Dropped("EOF")
            return Failed("unexpected EOF" if parser.in_body else _BROKEN + "unexpected EOF")
        if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
            return Failed(tls_text(error))
        done = "write" if isinstance(error, BrokenPipeError) else "read"
        text = f"{done} tcp {self._ends}: {done}: {os_text(error)}"
        kind = Dropped if isinstance(error, ConnectionError) and not parser.begun else Failed
        return kind(text, transient=isinstance(error, ConnectionError))

    def _out_of_time(self) -> None:
        self._fail(OutOfTime())

    def _fail(self, error: Failed) -> None:
        if self._waiter is not None and not self._waiter.done():
            error.in_body = self._parser is not None and self._parser.in_body
            self._waiter.set_exception(error)

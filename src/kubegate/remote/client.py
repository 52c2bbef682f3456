"""An HTTP client for one endpoint: connections that are kept, bounds on time, size and calls in flight.

What goes wrong is a `RemoteError` whose text is that of Go's net/http and crypto/tls, because Kubernetes shows these
texts to clients (`Post "https://…": context deadline exceeded`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import orjson
from msgspec import Struct

from kubegate.remote.dial import Dialer, Origin, basic
from kubegate.remote.endpoint import Endpoint
from kubegate.remote.errors import Dropped, Failed, OutOfTime, RemoteError, expiry_text
from kubegate.remote.http1 import Connection, Response

__all__ = ["Client", "Clients", "Endpoint", "RemoteError", "Response", "expiry_text"]

DEFAULT_TIMEOUT: Final = 30.0
_KEEP_ALIVE: Final = 15.0
"""Seconds for which a connection that nobody uses is kept."""
_WAITING_FOR_EACH_SLOT: Final = 20
_MOST_TARGETS: Final = 64
_MOST_RETRIES: Final = 10
_MOST_MOVES: Final = 10
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,9}")
_MOST_LANES: Final = 64
"""After which those that nobody is in are forgotten."""
_PIECE: Final = 4096
"""Bytes of a packed answer that are unpacked at one time."""
_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json, */*"}


class Client:
    """Calls one endpoint. Make it anywhere; use it and close it on one event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Raises ValueError where the endpoint's certificates cannot be used, or its URL is not http or https."""
        if urlsplit(endpoint.url).scheme not in ("http", "https"):
            raise ValueError(f"{endpoint.url}: the URL must begin with https:// or http://")
        self.endpoint = endpoint
        self._dialer = Dialer(endpoint)
        self._targets: dict[tuple[str, str], _Target] = {}
        self._lanes: dict[str, _Lane] = {}
        self._connections: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self.retired = False
        """Whether it keeps no connections any more."""
        self.used = 0.0
        """When it was last called, in the event loop's time."""
        self._token_file = _TokenFile(endpoint.token_file) if endpoint.token_file else None

    async def post_json(
        self,
        body: Any,
        *,
        url: str = "",
        within: float = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
        replay: bool = False,
        lane: str = "",
    ) -> Response:
        """POST `body` (bytes are sent as they are, all else as JSON) to `url`, or to the endpoint's own.

        `within` in seconds holds for all of it: waiting for a turn, connecting, answering. With `replay`, a call whose
        connection had been kept, and ended before any answer came, is sent once more. A server that says when to come
        back is asked again then, as client-go does, and one that names another place of its own is asked there. Raises
        RemoteError.
        """
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {**_JSON, **headers} if headers else _JSON
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within

        async def ask(place: str) -> Response:
            left = deadline - loop.time()
            return await self.request("POST", place, data=data, within=left, headers=sent, replay=replay, lane=lane)

        answer = await ask(url)
        return answer if answer.status < 300 else await _persist(ask, url or self.endpoint.url, answer, deadline)

    async def get(
        self, url: str = "", *, within: float = DEFAULT_TIMEOUT, headers: Mapping[str, str] | None = None
    ) -> Response:
        """GET `url`, or the endpoint's own. Raises RemoteError."""
        return await self.request("GET", url, data=None, within=within, headers=headers or {}, replay=True)

    async def request(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None,
        within: float,
        headers: Mapping[str, str],
        replay: bool,
        lane: str = "",
    ) -> Response:
        """Any request. Calls of one `lane` wait for one another where too many are in flight, and for no others."""
        url = url or self.endpoint.url
        self.used = now = asyncio.get_running_loop().time()
        deadline = now + within
        try:
            target = self._targets.get((method, url)) or self._target(method, url)
            head = self._head(target, headers, data)
            turns = self._lanes.get(lane) or self._new_lane(lane)
            await turns.enter(deadline)
            try:
                answer = await self._send(target.origin, method, head, data or b"", deadline, replay)
            finally:
                turns.leave()
            return answer if "content-encoding" not in answer.headers else await self._unpacked(answer, deadline)
        except Failed as failure:
            raise _told(failure, method, url) from None

    def retire(self) -> None:
        """Keep no connections from now on: those not in use end now, the others with their calls."""
        self.retired = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connections in self._idle.values():
            for connection in connections:
                connection.transport.close()
        self._idle.clear()

    async def close(self) -> None:
        """Close the connections; calls in flight fail."""
        self.retire()
        connections = list(self._connections)
        for connection in connections:
            connection.abort(Failed("the connection was closed"))
        if connections:
            await asyncio.wait([connection.lost for connection in connections], timeout=1)

    def _new_lane(self, lane: str) -> _Lane:
        if len(self._lanes) >= _MOST_LANES:
            self._lanes = {name: found for name, found in self._lanes.items() if not found.empty}
        made = self._lanes[lane] = _Lane(self.endpoint.in_flight)
        return made

    # --- what is sent

    def _target(self, method: str, url: str) -> _Target:
        if len(self._targets) >= _MOST_TARGETS:
            self._targets.clear()
        proxy = self._dialer.proxy
        made = _Target.of(method, url, self.endpoint, proxy.authorization if proxy is not None else None)
        self._targets[method, url] = made
        return made

    def _head(self, target: _Target, headers: Mapping[str, str], data: bytes | None) -> bytes:
        if headers is _JSON and self._token_file is None:
            start = target.json
        else:
            found = (
                {**target.headers, "Authorization": f"Bearer {self._token_file.read()}"}
                if self._token_file
                else target.headers
            )
            start = target.start + _lines(found, headers)
        length = f"Content-Length: {len(data or b'')}\r\n" if data is not None or target.sends else ""
        return f"{start}{length}\r\n".encode()

    # --- connections

    async def _send(
        self, origin: Origin, method: str, head: bytes, body: bytes, deadline: float, replay: bool
    ) -> Response:
        kept = self._kept(origin)
        connection = kept or await self._connect(origin, deadline)
        try:
            answer = await connection.exchange(method, head, body, deadline, self.endpoint.max_response)
        except Dropped:
            if kept is None or not replay:  # who drops a new one does so because of what was sent
                raise
            # over a new one: those that are kept may all have ended with this one
            connection = await self._connect(origin, deadline)
            answer = await connection.exchange(method, head, body, deadline, self.endpoint.max_response)
        self._keep(origin, connection)
        return answer

    def _kept(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        while kept:
            connection = kept.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self, origin: Origin, deadline: float) -> Connection:
        try:
            async with asyncio.timeout_at(deadline):
                connection = await self._dialer.connect(origin)
        except TimeoutError:
            raise OutOfTime from None
        self._connections.add(connection)
        connection.lost.add_done_callback(lambda _: self._connections.discard(connection))
        return connection

    def _keep(self, origin: Origin, connection: Connection) -> None:
        if not connection.usable:
            return
        kept = self._idle.get(origin)
        if kept is None:
            kept = self._idle[origin] = []
        if self.retired or len(kept) >= self.endpoint.in_flight:
            connection.transport.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        kept.append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(_KEEP_ALIVE, self._close_idle)

    def _close_idle(self) -> None:
        """The last one used is used next: those that are too many come to be idle, and end here."""
        loop = asyncio.get_running_loop()
        earliest = loop.time() - _KEEP_ALIVE
        for origin, kept in list(self._idle.items()):
            while kept and kept[0].idle_since <= earliest:
                kept.pop(0).transport.close()
            if not kept:
                del self._idle[origin]
        oldest = min((kept[0].idle_since for kept in self._idle.values()), default=None)
        self._sweep = None if oldest is None else loop.call_at(oldest + _KEEP_ALIVE, self._close_idle)

    async def _unpacked(self, answer: Response, deadline: float) -> Response:
        if answer.headers["content-encoding"].lower() not in ("gzip", "x-gzip"):
            return answer
        # it may be a thousand times as large as what came
        until = monotonic() + deadline - asyncio.get_running_loop().time()
        body = await asyncio.to_thread(_unzipped, answer.body, self.endpoint.max_response, until)
        return Response(answer.status, answer.headers, body)


async def _persist(ask: Callable[[str], Awaitable[Response]], url: str, answer: Response, deadline: float) -> Response:
    """The answer after what this one wants: that one waits, or asks elsewhere. Raises RemoteError."""
    moves = 0
    for _ in range(_MOST_RETRIES):
        if (elsewhere := _moved(url, answer)) is not None:
            moves += 1
            if moves == _MOST_MOVES:
                raise RemoteError(f'Post "{answer.headers["location"]}": stopped after {_MOST_MOVES} redirects')
            url = elsewhere
        elif (pause := _pause(answer)) is not None:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.sleep(min(pause, left))
            if pause >= left:
                raise _told(Failed(str(OutOfTime())), "POST", url)
        else:
            break
        answer = await ask(url)
    return answer


def _told(failure: Failed, method: str, url: str) -> RemoteError:
    asked = f'{method.capitalize()} "{url}": '
    if failure.in_body:  # client-go reads it, and says so
        asked = "unexpected error when reading response body. Please retry. Original error: "
    late = isinstance(failure, OutOfTime)
    return RemoteError(f"{asked}{failure}", transient=failure.transient, timeout=late, in_body=failure.in_body)


def _moved(url: str, answer: Response) -> str | None:
    """Where a POST is to be sent instead, if that is a place of the same server.

    Others are not asked: whoever answers for a webhook must not reach what only this server can (CVE-2020-8561).
    """
    location = answer.headers.get("location")
    if answer.status not in (307, 308) or not location:
        return None
    try:
        found, here = urlsplit(urljoin(url, location)), urlsplit(url)
        same = (found.scheme, found.hostname, found.port) == (here.scheme, here.hostname, here.port)
    except ValueError:
        return None
    return urlunsplit(found._replace(netloc=here.netloc, fragment="")) if same else None


def _pause(answer: Response) -> float | None:
    """The seconds after which to ask again, where the server says so and is one that may."""
    if answer.status != 429 and answer.status < 500:
        return None
    wanted = answer.headers.get("retry-after", "")
    return max(float(wanted), 0.0) if _WHOLE_NUMBER.fullmatch(wanted) else None


class Clients:
    """Clients by endpoint, at most `limit` of them: the one not used for longest keeps no connections any more."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._clients: dict[Endpoint, Client] = {}

    def get(self, endpoint: Endpoint) -> Client:
        """The client of this endpoint, made where there is none. Raises ValueError as Client does.

        Who keeps it asks anew when it has `retired`.
        """
        client = self._clients.get(endpoint)
        if client is None:
            client = Client(endpoint)
            if len(self._clients) >= self._limit:
                oldest = min(self._clients.values(), key=lambda each: each.used)
                self._clients.pop(oldest.endpoint).retire()
            self._clients[endpoint] = client
        return client

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), {}
        await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)


class _Target(Struct, frozen=True):
    """A URL, ready to be asked: `start` is the request line, `headers` those that a caller may replace."""

    origin: Origin
    start: str
    headers: Mapping[str, str]
    json: str
    """The head of a JSON body, complete but for its length."""
    sends: bool
    """Requests of this method have a body, if an empty one."""

    @classmethod
    def of(cls, method: str, url: str, endpoint: Endpoint, proxied: str | None) -> _Target:
        """`proxied` is the authorization for the proxy, None where there is no proxy. Raises Failed."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            host.encode("ascii")
        except ValueError:
            raise Failed("invalid URL") from None
        if parts.scheme not in ("http", "https"):
            raise Failed(f'unsupported protocol scheme "{parts.scheme}"')
        if not host:
            raise Failed("http: no Host in request URL")
        default = 443 if parts.scheme == "https" else 80
        shown = f"[{host}]" if ":" in host else host
        if port not in (None, default):
            shown += f":{port}"
        # as it is written: only what cannot stand in a request line is encoded
        place = quote(parts.path or "/", _AS_WRITTEN) + (f"?{quote(parts.query, _AS_WRITTEN)}" if parts.query else "")
        headers = {"Host": shown, "User-Agent": endpoint.user_agent, "Accept-Encoding": "gzip"}
        if endpoint.token:
            headers["Authorization"] = f"Bearer {endpoint.token}"
        elif endpoint.username:
            headers["Authorization"] = basic(endpoint.username, endpoint.password)
        if proxied is not None and parts.scheme == "http":
            place = f"http://{shown}{place}"
            if proxied:
                headers["Proxy-Authorization"] = proxied
        origin, start = Origin(parts.scheme, host, port or default), f"{method} {place} HTTP/1.1\r\n"
        return cls(origin, start, headers, start + _lines(headers, _JSON), method in ("POST", "PUT", "PATCH"))


_AS_WRITTEN: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"<>\\^`{|}')


def _lines(headers: Mapping[str, str], given: Mapping[str, str]) -> str:
    """`headers` without those that are `given`, and those. Raises Failed."""
    if given:
        names = {name.lower() for name in given}
        headers = {**{name: value for name, value in headers.items() if name.lower() not in names}, **given}
    for name, value in headers.items():
        if "\n" in value or "\r" in value or "\0" in value:
            raise Failed(f'net/http: invalid header field value for "{name}"')
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


class _Lane:
    """At most `slots` at one time; those who wait go in the order in which they came."""

    __slots__ = ("_free", "_slots", "_waiting")

    def __init__(self, slots: int) -> None:
        self._slots = self._free = slots
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def empty(self) -> bool:
        return self._free == self._slots

    async def enter(self, deadline: float) -> None:
        """Raises Failed where too many wait already, or the deadline passes."""
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= _WAITING_FOR_EACH_SLOT * self._slots:
            raise Failed("too many calls are waiting for this endpoint")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # it came in the same moment
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise OutOfTime from None
            raise

    def leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _TokenFile:
    """A bearer token in a file, read again when a minute has passed, as client-go does."""

    def __init__(self, path: Path) -> None:
        self._path, self._token, self._until = path, "", 0.0

    def read(self) -> str:
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            try:
                self._token = self._path.read_text().strip()
            except OSError:
                if not self._token:
                    raise Failed(f"failed to read token file {str(self._path)!r}") from None
            self._until = now + 60
        return self._token


def _unzipped(data: bytes, limit: int, until: float) -> bytes:
    """Of one member or several. Raises Failed, also when that takes `until` a time of the monotonic clock."""
    import zlib

    found, rest = bytearray(), memoryview(data)
    while rest:
        member, unpacked = zlib.decompressobj(wbits=31), len(found)
        # piece by piece: what follows a member is copied, and there may be a million members
        while rest and not member.eof:
            if monotonic() > until:
                raise OutOfTime
            piece, rest = rest[:_PIECE], rest[_PIECE:]
            try:
                found += member.decompress(piece, limit + 1 - len(found))
            except zlib.error:
                raise Failed("gzip: invalid header" if not unpacked else "gzip: invalid checksum") from None
            if len(found) > limit:
                raise Failed(f"the answer is larger than {limit} bytes")
        if not member.eof:
            raise Failed("unexpected EOF")
        rest = memoryview(data)[len(data) - len(rest) - len(member.unused_data) :]
    return bytes(found)

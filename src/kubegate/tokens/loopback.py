"""The page on this machine that an issuer sends the browser back to, with the code (RFC 8252, section 7.3).

It listens on the loopback address alone, and takes one answer: that with the state which went out. Anything else that
calls it, be it another site in the same browser, is turned away and ends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs

from kubegate.tokens.credential import TokenError

HOST = "127.0.0.1"
PATH = "/callback"
_MAX_HEAD = 16 * 1024
_MAX_CONNECTIONS = 20
_MAX_FIELDS = 20
_READ_SECONDS = 10.0

_PAGE = (
    b"<!doctype html><meta charset=utf-8><title>kubegate</title>"
    b"<body style='font-family:sans-serif;margin:4em auto;max-width:30em'><h1>%s</h1><p>%s</p>"
)
_DONE = _PAGE % (b"You are signed in", b"Close this page and go back to the terminal.")
_REFUSED = _PAGE % (b"You are not signed in", b"The terminal says why.")
_NOT_OURS = _PAGE % (b"Nothing here", b"This address waits for one answer, and this is not it.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the issuer sent the browser back with: a code, or an error. `issuer` is RFC 9207's iss ("": not said)."""

    code: str
    error: str = ""
    issuer: str = ""


class Redirect:
    """A page that waits. `uri` is the redirect_uri for the issuer."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open = 0
        self.uri = ""

    async def answer(self, within: float) -> Answer:
        """Raises TokenError when nobody came back in time."""
        try:
            return await asyncio.wait_for(asyncio.shield(self._answer), within)
        except TimeoutError:
            raise TokenError(f"nobody has signed in within {within:.0f} s") from None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        self._open += 1
        try:
            if self._open <= _MAX_CONNECTIONS:
                async with asyncio.timeout(_READ_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    status, page = self._take(head)
                    writer.write(_response(status, page))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            self._open -= 1
            writer.close()

    def _take(self, head: bytes) -> tuple[str, bytes]:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or words[0] != "GET":
            return "405 Method Not Allowed", _NOT_OURS
        path, _, given = words[1].partition("?")
        if path != PATH:
            return "404 Not Found", _NOT_OURS
        try:
            query = {name: values[0] for name, values in parse_qs(given, max_num_fields=_MAX_FIELDS).items()}
        except ValueError:
            return "400 Bad Request", _NOT_OURS
        if not hmac.compare_digest(query.get("state", "").encode(), self._state.encode()) or self._answer.done():
            return "400 Bad Request", _NOT_OURS
        error = query.get("error", "")
        if error and query.get("error_description"):
            error = f"{error}: {query['error_description']}"
        code = query.get("code", "")
        self._answer.set_result(Answer(code, error or ("" if code else "no code came back"), query.get("iss", "")))
        return ("200 OK", _REFUSED if error or not code else _DONE)


@contextlib.asynccontextmanager
async def listening(state: str, port: int = 0) -> AsyncIterator[Redirect]:
    """A page on `port` (0: a free one) for as long as the `with` lasts. Raises TokenError."""
    redirect = Redirect(state)
    try:
        server = await asyncio.start_server(redirect.handle, HOST, port, limit=_MAX_HEAD)
    except OSError as error:
        raise TokenError(f"{HOST}:{port} cannot be listened on: {error.strerror}") from None
    try:
        redirect.uri = f"http://{HOST}:{server.sockets[0].getsockname()[1]}{PATH}"
        yield redirect
    finally:
        server.close()
        await server.wait_closed()


def _response(status: str, page: bytes) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(page)}\r\n"
        "Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\nConnection: close\r\n\r\n"
    ).encode() + page

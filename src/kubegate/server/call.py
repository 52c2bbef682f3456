"""One request on its way through the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from time import monotonic
from typing import Any, Protocol
from urllib.parse import parse_qsl

from msgspec import Struct, field

from kubegate.api import Object, status
from kubegate.api.requestinfo import RequestInfo
from kubegate.api.trace import Trace
from kubegate.authentication import Headers, UserInfo

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
NOBODY = UserInfo("")
SHORT_PATH = 512
"""Of paths shorter than this it is remembered what they mean; longer ones are read anew each time."""
_BODY_SECONDS = 60.0  # what kube-apiserver gives a whole request; the transport bounds the time between two bytes


class Audited(Protocol):
    """The audit event of a call, where there is one."""

    def sent(self, obj: Object) -> None:
        """The object that the body was decoded to. It is not kept: what comes after may change it."""


class Call(Struct):
    """What was asked, by whom, and what the stages found.

    `user` is who acts (after impersonation); `authenticated_user` who signed in. `labels` are metrics', of a request
    that was let through to an operation of a resource that there is. `websocket`: the subprotocols that are offered,
    of a request for one.
    """

    id: str
    method: str
    path: str
    query_string: str
    query: Mapping[str, list[str]]
    headers: Headers
    info: RequestInfo
    receive: Receive
    max_body: int
    remote_address: str = ""
    remote_port: int = 0
    impersonates: bool = False
    user: UserInfo = NOBODY
    authenticated_user: UserInfo = NOBODY
    trace: Trace = field(default_factory=Trace)
    body: bytes | None = None
    labels: tuple[str, ...] | None = None
    websocket: tuple[str, ...] | None = None
    audit: Audited | None = None

    def header(self, name: str) -> str:
        return self.headers.first(name)

    def parameter(self, name: str) -> str:
        """The first value of a query parameter, "" where it is not given."""
        values = self.query.get(name)
        return values[0] if values else ""

    async def read(self) -> bytes:
        """The whole body. Raises 413 past the bound, 504 where it does not come in time, 400 when the client goes."""
        if self.body is None:
            length = self.header("content-length")
            if length.isdigit() and (len(length) > 18 or int(length) > self.max_body):
                raise status.too_large(self.max_body)
            first = await self._chunk()
            if first.get("more_body"):
                self.body = await self._rest(bytearray(first.get("body", b"")))
            else:
                self.body = first.get("body", b"")
            if len(self.body) > self.max_body:
                raise status.too_large(self.max_body)
        return self.body

    async def _rest(self, body: bytearray) -> bytes:
        latest = monotonic() + _BODY_SECONDS
        more = True
        while more:
            if len(body) > self.max_body:
                raise status.too_large(self.max_body)
            if monotonic() > latest:
                raise status.generic(504, "Timeout", "request did not complete within the allotted timeout")
            message = await self._chunk()
            body += message.get("body", b"")
            more = bool(message.get("more_body"))
        return bytes(body)

    async def _chunk(self) -> MutableMapping[str, Any]:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise status.bad_request("the client went away before its request was whole")
        return message


def parse_query(text: str) -> Mapping[str, list[str]]:
    """Parameters in order; those without a value have "". More than 1,000 are refused with 400."""
    return _short_query(text) if len(text) < 512 else _query(text)


def _query(text: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        raise status.bad_request("the query has more than 1000 parameters") from None
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


# Clients ask the same again and again; what is long is not kept.
_short_query = lru_cache(4096)(_query)

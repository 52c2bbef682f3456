"""One request on its way through the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from kubegate.api import status
from kubegate.api.requestinfo import RequestInfo
from kubegate.api.trace import Trace
from kubegate.authentication import UserInfo

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
NOBODY = UserInfo("")


@dataclass(slots=True)
class Call:
    """What was asked, by whom, and what the stages found. `headers` has names in lower case.

    `user` is who acts (after impersonation); `authenticated_user` who signed in. `routed`: it was let through to an
    operation of a resource that there is.
    """

    id: str
    method: str
    path: str
    query_string: str
    query: Mapping[str, list[str]]
    headers: list[tuple[str, str]]
    info: RequestInfo
    receive: Receive
    max_body: int
    remote_address: str = ""
    impersonates: bool = False
    user: UserInfo = NOBODY
    authenticated_user: UserInfo = NOBODY
    trace: Trace = field(default_factory=Trace)
    body: bytes | None = None
    routed: bool = False

    def header(self, name: str) -> str:
        for key, value in self.headers:
            if key == name:
                return value
        return ""

    def parameter(self, name: str) -> str:
        """The first value of a query parameter, "" where it is not given."""
        values = self.query.get(name)
        return values[0] if values else ""

    async def read(self) -> bytes:
        """The whole body. Raises 413 past the bound, 400 when the client goes away."""
        if self.body is None:
            length = self.header("content-length")
            if length.isdigit() and int(length) > self.max_body:
                raise status.too_large(self.max_body)
            chunks, size = [], 0
            while True:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise status.bad_request("the client went away before its request was whole")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > self.max_body:
                    raise status.too_large(self.max_body)
                if chunk:
                    chunks.append(chunk)
                if not message.get("more_body"):
                    break
            self.body = b"".join(chunks)
        return self.body


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

"""A small HTTP client for tests: asks as somebody, gives status and JSON."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from kubegate.server.process import Server


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(slots=True)
class Client:
    url: str
    session: aiohttp.ClientSession
    context: ssl.SSLContext
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str = "admin-token", **headers: str
    ) -> Answer:
        """`headers` have underscores for dashes; an empty token sends none."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        request = self.session.request(
            method, self.url + path, data=data, headers=sent, ssl=self.context, allow_redirects=False
        )
        async with request as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read())


def client_for(server: Server) -> tuple[Client, aiohttp.ClientSession]:
    assert server.pki is not None
    context = ssl.create_default_context(cafile=str(server.pki.ca_certificate))
    session = aiohttp.ClientSession(auto_decompress=True)
    return Client(server.url, session, context), session


@dataclass(slots=True)
class Running:
    server: Server
    client: Client


# `start("--flag=value", …)`, a fixture: a server on a memory store.
Start = Callable[..., Awaitable[Running]]

"""A TLS server on a free port, whose answers each test gives."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kubegate.pki import certificates, keys
from kubegate.pki.certificates import Authority, Subject

Answer = Callable[[str, bytes], Awaitable[bytes | None]]


@dataclass
class Server:
    """`answer(request head, body)` gives the bytes of the answer; None drops the connection."""

    port: int
    authority: Authority
    received: list[tuple[str, bytes]] = field(default_factory=list)
    connections: int = 0
    busy: int = 0
    most_busy: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/x"


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


Serve = Callable[..., Awaitable[Server]]


def server_context(
    directory: Path, authority: Authority, hosts: tuple[str, ...] = ("127.0.0.1", "localhost"), **issue: object
) -> ssl.SSLContext:
    key = keys.generate()
    certificate = certificates.issue(
        authority, key.public_key(), Subject("server"), usages=certificates.SERVER, hosts=hosts, **issue
    )  # type: ignore[arg-type]
    base = directory / f"server-{certificate.serial_number}"
    certificates.save_pair(certificate, key, base)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{base}.crt", f"{base}.key")
    return context


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    authority = certificates.new_authority("test-ca")
    servers: list[asyncio.Server] = []

    async def start(answer: Answer, *, tls: bool = True, **issue: object) -> Server:
        found = Server(0, authority)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.connections += 1
            try:
                while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                    length = next(
                        (int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-length")), 0
                    )
                    body = await reader.readexactly(length)
                    found.received.append((head, body))
                    found.busy += 1
                    found.most_busy = max(found.busy, found.most_busy)
                    try:
                        answered = await answer(head, body)
                    finally:
                        found.busy -= 1
                    if answered is None:
                        break
                    writer.write(answered)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.transport.abort()

        context = server_context(tmp_path, authority, **issue) if tls else None  # type: ignore[arg-type]
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        servers.append(server)
        found.port = server.sockets[0].getsockname()[1]
        return found

    yield start
    for server in servers:
        server.close()

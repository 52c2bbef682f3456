"""The ASGI server, kept behind one module so that another can take its place.

h2corn speaks HTTP/1.1 and HTTP/2 over TLS and hands the verified client certificate chain to the application.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h2corn

from kubegate.server.options import UsageError


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen, with which certificate, and whose client certificates the handshake takes.

    Port 0 takes a free one. `client_ca_files` may be several pools; each authenticator checks against its own.
    """

    address: str
    port: int
    certificate: Path
    private_key: Path
    client_ca_bundle: Path | None
    max_body: int
    grace: float = 25.0


class Transport:
    """Serves an ASGI application until `stop`."""

    def __init__(self, app: Any, listener: Listener) -> None:
        self._listener = listener
        host = f"[{listener.address}]" if ":" in listener.address else listener.address
        config = h2corn.Config(
            bind=(f"{host}:{listener.port}",),
            certfile=listener.certificate,
            keyfile=listener.private_key,
            ca_certs=listener.client_ca_bundle,
            cert_reqs="optional" if listener.client_ca_bundle else "none",
            lifespan="off",
            access_log=False,
            server_header="off",
            log_format="text",
            max_request_body_size=listener.max_body,
            timeout_graceful_shutdown=listener.grace,
            max_concurrent_streams=250,
            websocket_max_message_size=1024 * 1024,
        )
        self._server = h2corn.Server(app, config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises UsageError where the address cannot be had."""
        self._serving = asyncio.create_task(self._server.serve(), name="transport")
        started = asyncio.create_task(self._server.wait_started())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done() and not started.done():
            started.cancel()
        error = self._serving.exception() if self._serving.done() else started.exception() if started.done() else None
        if error is not None:
            self._serving.cancel()
            where = f"{self._listener.address}:{self._listener.port}"
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise UsageError(
                    f"--secure-port: {where} is in use by another program; name a free port (0 takes one)"
                ) from error
            raise UsageError(f"cannot listen on {where}: {error}") from error
        return int(self._server.addresses[0].rpartition(":")[2])

    async def stop(self) -> None:
        """Take no more connections, let what is in flight finish, close."""
        self._server.shutdown()
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)

    async def wait(self) -> None:
        """Until it ends by itself, which it does only on an error."""
        if self._serving is not None:
            await self._serving

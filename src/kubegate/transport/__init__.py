"""The ASGI server, kept behind one module so that another can take its place.

h2corn speaks HTTP/1.1 and HTTP/2 over TLS and hands the verified client certificate chain to the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import os
import socket
import ssl
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct

# The library's allocator (mimalloc) would take huge pages: 7 MB more at rest, 10 kB more for each connection.
os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")

import h2corn

_MAX_REQUEST_LINE = 256 * 1024


class CannotListen(Exception):
    """The address cannot be had; one line for people."""


class Listener(Struct, frozen=True):
    """Where to listen, with which certificate, and whose client certificates the handshake takes.

    Port 0 takes a free one. `client_ca_bundle` may hold several pools; each authenticator checks against its own.
    `max_connections` 0: as many as the process may have files. `patience` is how long a client may take for the
    handshake and for a request's head, in seconds; three times that may pass between two bytes of a body. `grace` is
    how long a request in flight may take once the server is told to end, in seconds. `socket_fd` is a listening socket
    to take instead of address and port; it stays open when the transport ends. `threads` are those that read, write
    and encrypt beside the application's own; as many for all transports of a process.
    """

    address: str
    port: int
    certificate: Path
    private_key: Path
    client_ca_bundle: Path | None
    max_body: int
    max_connections: int = 0
    patience: float = 10.0
    grace: float = 25.0
    socket_fd: int | None = None
    threads: int = 2


def listen(address: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket. Raises CannotListen.

    `shared`: each process has a socket of its own on the same port (see `reserve`), and the kernel divides connections
    between them.
    """
    return _bound(address, port, reuse=shared, listening=True)


def reserve(address: str, port: int) -> socket.socket:
    """A port for sockets that are `shared`: bound, so that nobody else takes it, not listening. Raises CannotListen."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise CannotListen("this system cannot divide the connections of one port between processes")
    with listen(address, port) as alone:  # another program that shares its port would not be noticed otherwise
        taken = alone.getsockname()[1]
    return _bound(address, taken, reuse=True, listening=False)


def _bound(address: str, port: int, *, reuse: bool, listening: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if reuse:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((address, port))
        if listening:
            found.listen(1024)
    except OSError as error:
        found.close()
        raise CannotListen(f"cannot listen on {address}:{port}: {error.strerror}") from None
    found.setblocking(False)
    return found


def _cause(error: OSError) -> int | None:
    """The errno beneath an error that was raised again in other words."""
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _silence_banner() -> None:
    """h2corn prints a banner when it starts, which no setting turns off; commands here print what is to be known."""
    with contextlib.suppress(ImportError):
        native: Any = importlib.import_module("h2corn._lib")
        if hasattr(native, "emit_banner"):
            native.emit_banner = lambda *_: None


def _without_command_line() -> None:
    """Load h2corn's server without the command that it has as well.

    Nobody here runs that command, and what it takes (argparse, the metadata of packages, zip files) is a tenth of a
    start. Where another version of h2corn wants more of it, it is loaded as it is.
    """
    command = "h2corn._cli"
    if "h2corn._server" in sys.modules or command in sys.modules:
        return
    stand_in = ModuleType(command)
    vars(stand_in).update(ImportSettings=object, run_cli=None)
    sys.modules[command] = stand_in
    with contextlib.suppress(ImportError):
        importlib.import_module("h2corn._server")
    del sys.modules[command]


class Transport:
    """Serves an ASGI application until `stop`."""

    def __init__(self, app: Any, listener: Listener) -> None:
        self._listener = listener
        host = f"[{listener.address}]" if ":" in listener.address else listener.address
        config = h2corn.Config(
            bind=(f"{host}:{listener.port}" if listener.socket_fd is None else f"fd://{listener.socket_fd}",),
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
            # Go takes a mebibyte of headers however many there are; a selector may be long, a group list too.
            limit_request_line=_MAX_REQUEST_LINE,
            limit_request_fields=1000,
            h2_max_header_list_size=256 * 1024,  # of each of many streams, and a byte may stand for kilobytes
            limit_request_head_size=1024 * 1024,
            limit_request_field_size=64 * 1024,
            limit_connections=listener.max_connections,
            # A client that dawdles is let go: none holds a connection by sending a byte now and then.
            timeout_handshake=listener.patience,
            timeout_request_header=listener.patience,
            timeout_request_body_idle=3 * listener.patience,
            timeout_keep_alive=120.0,
            h2_timeout_response_stall=60.0,
            h2_timeout_write=60.0,
            runtime_threads=listener.threads,
        )
        _without_command_line()
        self._server = h2corn.Server(app, config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises CannotListen where the address cannot be had."""
        _silence_banner()
        self._serving = asyncio.create_task(self._server.serve(), name="transport")
        started = asyncio.create_task(self._server.wait_started())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done() and not started.done():
            started.cancel()
        error = self._serving.exception() if self._serving.done() else started.exception() if started.done() else None
        if error is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, started, return_exceptions=True)
            where = f"{self._listener.address}:{self._listener.port}"
            if isinstance(error, OSError) and (error.errno or _cause(error)) == errno.EADDRINUSE:
                raise CannotListen(f"{where} is in use by another program; name a free port (0 takes one)") from error
            raise CannotListen(f"cannot listen on {where}: {error}") from error
        return int(self._server.addresses[0].rpartition(":")[2])

    def warm_up(self) -> None:
        """Begin a handshake with ourselves, for a thread of the transport to go on with.

        With the first one of a process its TLS library (aws-lc) gathers entropy, which takes 50 ms and more of the
        processor: no client has to wait for that.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        hello = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
        host, _, port = self._server.addresses[0].rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), 1.0) as connection:
            connection.sendall(hello.read())

    async def stop(self) -> None:
        """Take no more connections, let what is in flight finish, close."""
        self._server.shutdown()
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)

    async def wait(self) -> None:
        """Until it ends by itself, which it does only on an error."""
        if self._serving is not None:
            await self._serving

"""Where clients come in: the keys, the port, and a place to wait in until there is an API to answer.

It listens before the API is loaded and put together, so that neither waits for the other: threads of the transport
gather entropy for the process's first TLS handshake, which takes 50 ms and more, and clients shake hands meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubegate.pki.cluster import Pki
from kubegate.server import files
from kubegate.server.options import Options, UsageError
from kubegate.server.preparation import kubeconfig_path, prepare_keys, write_kubeconfig
from kubegate.transport import CannotListen, Listener, Transport

if TYPE_CHECKING:
    from kubegate.server.workers import Worker

Application = Callable[[dict[str, Any], Any, Any], Coroutine[Any, Any, None]]


class Front:
    """The ASGI application that the transport has, from the first connection to the last.

    `url` and `port` are where it listens; `pki` the directory of keys that it made, None where all were given by flags.
    `first_kubeconfig`: `admin.kubeconfig`, where there was none and it was written when the port opened. `worker` is
    this process's part where several serve together.
    """

    def __init__(self, options: Options, worker: Worker | None = None) -> None:
        self._options, self._worker = options, worker
        self.url, self.port = "", 0
        self.pki: Pki | None = None
        self.first_kubeconfig: Path | None = None
        self._prepared = False
        self._http: Application = self._hold
        self._websocket: Application = self._hold
        self._decided = asyncio.Event()  # whether there is an API
        self._transport: Transport | None = None
        self._ends = contextlib.ExitStack()

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Coroutine[Any, Any, None]:
        return (self._http if scope["type"] == "http" else self._websocket)(scope, receive, send)

    async def prepare(self) -> None:
        """Look at the files of the flags and make what keys are missing. Raises UsageError, ValueError."""
        if not self._prepared:
            files.check(self._options)
            self.pki = await asyncio.to_thread(prepare_keys, self._options)
            self._prepared = True

    async def listen(self) -> None:
        """Take connections, where it does not yet; who asks something waits for `open`. Raises UsageError."""
        if self._transport is not None:
            return
        await self.prepare()
        self._transport = Transport(self, self._listener())
        try:
            self.port = await self._transport.start()
        except CannotListen as error:
            raise UsageError(f"--secure-port: {error}") from error
        self._transport.warm_up()
        if self._worker is not None:
            self._worker.close()
        self.url = f"https://{self._options.advertise_address or self._options.bind_address}:{self.port}"

    def write_first_kubeconfig(self) -> None:
        """`admin.kubeconfig`, where the administrator's key is ours: who finds the port open may look for it next.

        One that is there is left alone, and where there will be no API this one goes again: a start that fails changes
        no file.
        """
        if self.pki is not None and not kubeconfig_path(self._options, self.pki).exists():
            self.first_kubeconfig = write_kubeconfig(self._options, self.pki, self.url)

    def open(self, http: Application, websocket: Application) -> None:
        """From now on these answer: those who wait, and whoever comes."""
        self._http, self._websocket = http, websocket
        self._decided.set()

    async def close(self) -> None:
        """Let what is in flight finish; who waits for an API that never came is told so."""
        self._decided.set()
        if self.first_kubeconfig is not None and self._http == self._hold:
            self.first_kubeconfig.unlink(missing_ok=True)
        if self._transport is not None:
            await self._transport.stop()
        self._ends.close()

    async def wait(self) -> None:
        """Until the transport ends by itself, which it does only on an error."""
        assert self._transport is not None
        await self._transport.wait()

    async def _hold(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self._decided.wait()
        if self._http != self._hold:
            await self(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close"})

    def _listener(self) -> Listener:
        options = self._options
        return Listener(
            address=options.bind_address,
            port=options.secure_port,
            certificate=Path(options.tls_cert_file),
            private_key=Path(options.tls_private_key_file),
            client_ca_bundle=self._client_authorities(),
            max_body=options.max_request_body_bytes + 64 * 1024,
            max_connections=options.max_connections,
            socket_fd=None if self._worker is None else self._worker.listen(options.bind_address),
        )

    def _client_authorities(self) -> Path | None:
        """TLS wants one file with all authorities: theirs where there is one, else one that goes when the server does.

        Which of them a certificate has to be of, the authenticators check.
        """
        options = self._options
        given = [Path(file) for file in (options.requestheader_client_ca_file, options.client_ca_file) if file]
        if len(given) < 2:
            return given[0] if given else None
        directory = Path(tempfile.mkdtemp(prefix="kubegate-"))
        self._ends.callback(shutil.rmtree, directory, ignore_errors=True)
        bundle = directory / "client-ca.crt"
        bundle.write_bytes(b"\n".join(file.read_bytes() for file in given))
        return bundle

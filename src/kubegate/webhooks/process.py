"""The webhook server: the parts put together, started, kept current, and ended in good order."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from kubegate.api.clock import Clock, SystemClock
from kubegate.transport import CannotListen, Listener, Transport, listen
from kubegate.transport.metrics import Shared
from kubegate.transport.supervisor import Parent, run_until_told, told_to_end
from kubegate.webhooks.app import App
from kubegate.webhooks.calls import Caller
from kubegate.webhooks.certificates import LOOK_SECONDS, CertificateError, Pair, Source
from kubegate.webhooks.decisions import DecisionLog
from kubegate.webhooks.metrics import Metrics
from kubegate.webhooks.policyfile import PolicyFile

log = logging.getLogger("kubegate.webhooks")
_PUBLISH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """Port 0 takes a free one. `most` reviews are answered at once, `threads` run the functions that are not async.

    `client_ca_file`: reviews are answered for callers with a certificate of it alone. `delay` is how long (seconds) it
    goes on answering though `/readyz` fails, once it is told to end; `grace` how long reviews in flight may take.
    `patience` is how long a client may take for the handshake, a request's head and its body; `most_connections` are
    taken at once. `transport_threads` are the same for all servers of one process.
    """

    policies: Path
    certificate: Source
    address: str = "0.0.0.0"
    port: int = 8443
    client_ca_file: Path | None = None
    most: int = 256
    max_body: int = 7 * 1024 * 1024
    most_connections: int = 512
    patience: float = 10.0
    threads: int = 16
    transport_threads: int = 2
    delay: float = 0.0
    grace: float = 25.0
    decisions: BinaryIO | None = None


@dataclass(slots=True)
class WebhookServer:
    """Serves one policy file. `start()` returns when it answers; `stop()` when nothing is left running.

    `listening` is a socket to take instead of the options' address; it is not closed here. `shared` is a folder in
    which several workers keep their counts.
    """

    options: Options
    clock: Clock = field(default_factory=SystemClock)
    listening: socket.socket | None = None
    shared: Path | None = None
    url: str = ""
    app: App = field(init=False)
    policies: PolicyFile = field(init=False)
    _caller: Caller = field(init=False)
    _socket: socket.socket | None = None
    _decisions: DecisionLog | None = None
    _pair: Pair | None = None
    _transport: Transport | None = None
    _directory: Path | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Raises PolicyFileError, CertificateError, CannotListen; nothing is left running then."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        options = self.options
        pair = await asyncio.to_thread(options.certificate.current)
        self.policies = await asyncio.to_thread(PolicyFile, options.policies, self.clock)
        self._caller = Caller(options.threads)
        if options.decisions is not None:
            lock = None if self.shared is None else self.shared / "decisions.lock"
            self._decisions = DecisionLog(options.decisions, lock)
        metrics = Metrics()
        shared = None if self.shared is None else Shared(self.shared)
        self.policies.on_reload = lambda good: metrics.reloads.add(("applied" if good else "refused",))
        self.app = App(
            lambda: self.policies.gate,
            self._caller,
            metrics=metrics,
            shared=shared,
            decided=self._decisions.write if self._decisions is not None else lambda entry: None,
            most=options.most,
            max_body=options.max_body,
            patience=options.patience,
            client_certificates=options.client_ca_file is not None,
        )
        listening = self.listening
        if listening is None:
            listening = self._socket = listen(options.address, options.port)
        await self._serve(pair)
        host = "127.0.0.1" if options.address in ("", "0.0.0.0", "::") else options.address
        self.url = f"https://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        self._spawn("policies", self.policies.run())
        self._spawn("certificate", self._follow_certificate())
        if shared is not None:
            self._spawn("metrics", self._publish(shared))

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _serve(self, pair: Pair) -> None:
        """Serve with this certificate: a new transport takes the socket, then the old one ends what it has begun.

        The socket itself stays open, so that no connection is refused meanwhile.
        """
        listening = self._socket or self.listening
        if listening is None:
            raise CannotListen("there is no socket")
        folder = Path(tempfile.mkdtemp(prefix="kubegate-webhook-"))
        try:
            certificate, key = folder / "tls.crt", folder / "tls.key"
            certificate.write_bytes(pair.certificate)
            key.touch(mode=0o600)
            key.write_bytes(pair.key)
            listener = Listener(
                self.options.address,
                self.options.port,
                certificate,
                key,
                self.options.client_ca_file,
                self.options.max_body + 64 * 1024,
                max_connections=self.options.most_connections,
                patience=self.options.patience,
                grace=self.options.grace,
                socket_fd=listening.fileno(),
                threads=self.options.transport_threads,
            )
            transport = Transport(self.app, listener)
            await transport.start()
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # they are read once
        old, self._transport, self._pair = self._transport, transport, pair
        self.app.metrics.certificate_ends = pair.ends
        if old is None:
            transport.warm_up()
        else:
            await old.stop()

    async def _follow_certificate(self) -> None:
        while True:
            await self.clock.sleep(LOOK_SECONDS)
            await self.look_at_certificate()

    async def _publish(self, shared: Shared) -> None:
        while True:
            shared.publish(self.app.metrics.all)
            await self.clock.sleep(_PUBLISH_SECONDS)

    async def look_at_certificate(self) -> bool:
        """Whether another certificate came into force. One that cannot be used is told of; the old one stays."""
        try:
            pair = await asyncio.to_thread(self.options.certificate.current)
            if pair == self._pair:
                return False
            await self._serve(pair)
        except (CertificateError, CannotListen) as error:
            log.warning("the certificate stays as it is: %s", error)
            return False
        log.info("a new certificate is in force")
        return True

    async def stop(self) -> None:
        """Take no more connections, end what is in flight, let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._transport is not None:
            await self._transport.stop()
            self._transport = None
        if self._decisions is not None:
            await self._decisions.close()
        if hasattr(self, "_caller"):
            self._caller.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def run(self, ready: Callable[[WebhookServer], None], parent: Parent | None = None) -> None:
        """Start, call `ready`, serve until SIGTERM or SIGINT or the end of the parent, drain, stop."""
        told = asyncio.Event()
        with told_to_end(parent, told.set):
            await self.start()
            gc.collect()
            gc.freeze()  # what is there now stays: no later collection needs to look at it
            try:
                ready(self)
                await told.wait()
                self.app.draining = True
                await self.clock.sleep(self.options.delay)
            finally:
                await self.stop()


def run(options: Options, ready: Callable[[str], None], workers: int = 1) -> int:
    """Serve until told to end; the process's exit code. `ready` is given the URL once. One clear line for what fails.

    With several workers each is a process of its own on the one socket; one that dies is started again.
    """
    from kubegate.webhooks.policyfile import PolicyFileError

    try:
        if workers > 1:
            from kubegate.webhooks.workers import supervise

            return supervise(options, ready, workers)
        serve(WebhookServer(options), lambda server: ready(server.url))
    except (PolicyFileError, CertificateError, CannotListen) as error:
        print(f"kubegate: {error}", file=sys.stderr)
        return 1
    return 0


def serve(server: WebhookServer, ready: Callable[[WebhookServer], None], parent: Parent | None = None) -> None:
    """One server in this process, until it is told to end."""
    run_until_told(server.run(ready, parent))

"""Where audit events go: a file that rotates, and a webhook in batches."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from kubegate.server.linefile import LineFile
from kubegate.server.options import UsageError
from kubegate.transport.metrics import Counter

log = logging.getLogger("kubegate.audit")

_LARGE_LINE = 16 * 1024
_MOST_BYTES = 64 * 1024 * 1024
_WEBHOOK_SECONDS = 30.0
_CLOSE_SECONDS = 10.0
_QUIET_SECONDS = 60.0


class Losses:
    """Events that were lost at one place: counted, and told of in the log at once and then at most each minute.

    `plugin` is what kube-apiserver's metric calls the place. For one thread; `now` is in seconds, and never goes back.
    """

    def __init__(self, sink: str, plugin: str, errors: Counter, now: Callable[[], float]) -> None:
        self._sink, self._labels, self._errors, self._now = sink, (plugin,), errors, now
        self.count = self._told = 0
        self._why = ""
        self._quiet_until = -math.inf
        errors.add(self._labels, 0.0)  # the series is there from the start: threads then never make it

    def add(self, number: int, why: str) -> None:
        self.count += number
        self._why = why
        self._errors.add(self._labels, number)
        if self._now() >= self._quiet_until:
            self.tell()

    def tell(self) -> None:
        """What is not told of yet."""
        if self.count > self._told:
            log.error("audit %s: %s; %d events were lost so far", self._sink, self._why, self.count)
            self._told = self.count
            self._quiet_until = self._now() + _QUIET_SECONDS


class LogFile:
    """Lines into a file (`-`: standard output), written by a thread; rotated by size, kept by number and age.

    At most `limit` lines of `most_bytes` together wait; a further one is lost, for a full disk must not stop the
    server. `lock` is a file that keeps several processes with the same log from writing or rotating it at the same
    time. It is called and closed by one thread alone.
    """

    def __init__(
        self,
        path: str,
        *,
        max_megabytes: int = 0,
        max_backups: int = 0,
        max_days: int = 0,
        limit: int = 100_000,
        most_bytes: int = _MOST_BYTES,
        lock: Path | None = None,
        errors: Counter,
        now: Callable[[], float] = time.monotonic,
        patience: float = _CLOSE_SECONDS,
    ) -> None:
        """`patience` is how long `close` waits at most, in seconds."""
        self._file = LineFile(
            path,
            "--audit-log-path",
            max_megabytes=max_megabytes,
            max_backups=max_backups,
            max_days=max_days,
            lock=lock,
        )
        self._limit, self._most_bytes, self._patience = limit, most_bytes, patience
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # Two counts that each belong to one thread: what waits is the difference, and nobody needs a lock.
        self._put = self._put_bytes = 0
        self._taken = self._taken_bytes = 0
        self._refused = Losses(f"log {path}", "buffered", errors, now)
        self._unwritten = Losses(f"log {path}", "log", errors, now)
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended.set_running_or_notify_cancel()
        self._thread = threading.Thread(target=self._write, name="audit-log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        return self._refused.count + self._unwritten.count

    def __call__(self, line: bytes) -> None:
        size = len(line)
        if self._put - self._taken >= self._limit or self._put_bytes - self._taken_bytes + size > self._most_bytes:
            self._refused.add(1, "events come faster than they are written")
            return
        self._put += 1
        self._put_bytes += size
        self._lines.put(line)

    async def close(self) -> None:
        """Write what waits, then end; what cannot be written in time is lost."""
        self._lines.put(None)
        ended = asyncio.wrap_future(self._ended)
        await asyncio.wait({ended}, timeout=self._patience)
        if ended.done():
            self._thread.join()
            self._file.close()
        else:
            ended.cancel()
            self._refused.add(self._put - self._taken, "the server ends before they are written")
        self._refused.tell()

    def _write(self) -> None:
        ended = False
        while not ended:
            batch = [self._lines.get()]
            with contextlib.suppress(queue.Empty):
                while batch[-1] is not None and len(batch) < 1000 and len(batch[-1]) < _LARGE_LINE:
                    batch.append(self._lines.get_nowait())
            ended = batch[-1] is None
            lines = [line for line in batch if line is not None]
            try:
                self._file.append(b"".join(line + b"\n" for line in lines))
            except OSError as error:
                self._unwritten.add(len(lines), error.strerror or str(error))
            self._taken += len(lines)
            self._taken_bytes += sum(map(len, lines))
        self._unwritten.tell()
        self._ended.set_result(None)


def sender(config_file: str) -> Callable[[bytes], Awaitable[None]]:
    """Posts to the webhook that a kubeconfig file names. Raises UsageError for a file that cannot be used."""
    from kubegate.pki.kubeconfig import BadKubeconfig
    from kubegate.remote.client import Client, Endpoint, RemoteError

    try:
        client = Client(Endpoint.from_kubeconfig(Path(config_file)))
    except BadKubeconfig as error:
        raise UsageError(f"--audit-webhook-config-file: {error}") from error

    async def send(body: bytes) -> None:
        answer = await client.post_json(body, within=_WEBHOOK_SECONDS)
        if answer.status >= 300:
            raise RemoteError(f"the audit webhook answered {answer.status}")

    return send


class Webhook:
    """Batches of events (an audit.k8s.io/v1 EventList) to a webhook. `send` posts one batch and may raise.

    At most `buffer` events of `most_bytes` together wait; a further one is lost.
    """

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        *,
        max_size: int,
        max_wait: float,
        buffer: int,
        most_bytes: int = _MOST_BYTES,
        errors: Counter,
        now: Callable[[], float] = time.monotonic,
        patience: float = _CLOSE_SECONDS,
    ) -> None:
        """`patience` is how long `close` waits at most, in seconds."""
        self._send, self._max_size, self._max_wait = send, max_size, max_wait
        self._limit, self._most_bytes, self._patience = buffer, most_bytes, patience
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting = self._bytes = 0  # what is being sent as well
        self._refused = Losses("webhook", "buffered", errors, now)
        self._unsent = Losses("webhook", "webhook", errors, now)
        self._ending = False

    @property
    def lost(self) -> int:
        return self._refused.count + self._unsent.count

    def __call__(self, line: bytes) -> None:
        if self._waiting >= self._limit or self._bytes + len(line) > self._most_bytes:
            self._refused.add(1, "events come faster than they are sent")
            return
        self._waiting += 1
        self._bytes += len(line)
        self._events.put_nowait(line)

    async def run(self) -> None:
        """Send until `close`, or until cancelled; the server owns this."""
        while not (self._ending and self._events.empty()):
            batch = await self._batch()
            if batch:
                try:
                    await self._send(
                        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%s]}'
                        % b",".join(batch)
                    )
                except Exception as error:
                    self._unsent.add(len(batch), str(error))
            self._waiting -= len(batch)
            self._bytes -= sum(map(len, batch))
            for _ in batch:
                self._events.task_done()

    async def _batch(self) -> list[bytes]:
        """What has come: a full batch, or what there is after the longest wait or when it all ends."""
        batch: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._max_wait):
                while len(batch) < self._max_size and not (self._ending and self._events.empty()):
                    line = await self._events.get()
                    if line is None:
                        self._events.task_done()
                    else:
                        batch.append(line)
        return batch

    async def close(self) -> None:
        """Send what waits; what cannot be sent in time is lost."""
        self._ending = True
        if self._waiting:
            self._events.put_nowait(None)  # a batch that is not full goes now
            try:
                async with asyncio.timeout(self._patience):
                    await self._events.join()
            except TimeoutError:
                self._refused.add(self._waiting, "the server ends before they are sent")
        self._refused.tell()
        self._unsent.tell()

"""Where audit events go: a file that rotates, and a webhook in batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from kubegate.server.options import UsageError
from kubegate.storage.filelock import FileLock

log = logging.getLogger("kubegate.audit")

_LARGE_LINE = 16 * 1024
_WEBHOOK_SECONDS = 30.0


class LogFile:
    """Lines into a file (`-`: standard output), written by a thread; rotated by size, kept by number and age.

    At most `limit` lines wait; a further one is dropped and counted, for a full disk must not stop the server. `lock`
    is a file that keeps several processes with the same log from writing or rotating it at the same time.
    """

    def __init__(
        self,
        path: str,
        *,
        max_megabytes: int = 0,
        max_backups: int = 0,
        max_days: int = 0,
        limit: int = 100_000,
        lock: Path | None = None,
    ) -> None:
        self._path, self._max_bytes = path, max_megabytes * 1024 * 1024
        self._lock = None if lock is None else FileLock(lock)
        self._max_backups, self._max_days = max_backups, max_days
        self._lines: queue.Queue[bytes | None] = queue.Queue(limit)
        self.dropped = 0
        if path != "-":
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            except OSError as error:
                raise UsageError(f"--audit-log-path: {path}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._write, name="audit-log", daemon=True)
        self._thread.start()

    def __call__(self, line: bytes) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, then end."""
        self._lines.put(None)
        self._thread.join()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write(self) -> None:
        ended = False
        while not ended:
            batch = [self._lines.get()]
            with contextlib.suppress(queue.Empty):
                while batch[-1] is not None and len(batch) < 1000 and len(batch[-1]) < _LARGE_LINE:
                    batch.append(self._lines.get_nowait())
            ended = batch[-1] is None
            data = b"".join(line + b"\n" for line in batch if line is not None)
            try:
                self._append(data)
            except OSError as error:
                self.dropped += len(batch)
                log.error("audit log %s: %s; %d events were dropped so far", self._path, error.strerror, self.dropped)

    def _append(self, data: bytes) -> None:
        with self._alone():
            if self._path == "-":
                _write_all(1, data)
                return
            if self._max_bytes and _size(self._path) + len(data) > self._max_bytes:
                self._rotate()
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                before = os.fstat(file).st_size
                try:
                    _write_all(file, data)
                except OSError:
                    os.ftruncate(file, before)  # no line in part
                    raise
            finally:
                os.close(file)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        self._lock.wait()
        try:
            yield
        finally:
            self._lock.give_back()

    def _rotate(self) -> None:
        path = Path(self._path)
        if not path.exists():
            return
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
        target, number = path.with_name(f"{path.stem}-{stamp}{path.suffix}"), 0
        while target.exists():
            number += 1
            target = path.with_name(f"{path.stem}-{stamp}.{number}{path.suffix}")
        path.rename(target)
        backups = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"), key=lambda p: p.stat().st_mtime)
        oldest = time.time() - self._max_days * 86400
        for position, backup in enumerate(reversed(backups)):
            too_many = self._max_backups and position >= self._max_backups
            if too_many or (self._max_days and backup.stat().st_mtime < oldest):
                backup.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


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
    """Batches of events (an audit.k8s.io/v1 EventList) to a webhook. `send` posts one batch and may raise."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], *, max_size: int, max_wait: float, buffer: int
    ) -> None:
        self._send, self._max_size, self._max_wait = send, max_size, max_wait
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue(buffer)
        self.dropped = 0
        self._ending = False

    def __call__(self, line: bytes) -> None:
        try:
            self._events.put_nowait(line)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Send until `close`; the server's task group owns this."""
        while not (self._ending and self._events.empty()):
            batch = await self._batch()
            if batch:
                try:
                    await self._send(
                        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%s]}'
                        % b",".join(batch)
                    )
                except Exception as error:
                    self.dropped += len(batch)
                    log.error("audit webhook: %s; %d events were dropped so far", error, self.dropped)

    async def _batch(self) -> list[bytes]:
        """What has come: a full batch, or what there is after the longest wait or when it all ends."""
        batch: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._max_wait):
                while len(batch) < self._max_size:
                    line = await self._events.get()
                    if line is None:
                        break
                    batch.append(line)
        return batch

    def close(self) -> None:
        """Send what waits, then end `run`."""
        self._ending = True
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait(None)

"""Lines into a file that only its owner may read, rotated by size and kept by number and age."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from kubegate.server.options import UsageError
from kubegate.storage.filelock import FileLock


class LineFile:
    """Takes whole lines; blocks while it writes. `-` stands for `standard`, a descriptor.

    `lock` is a file that keeps several processes with the same file from writing or rotating it at the same time.
    Raises UsageError, naming `flag`, for a path that cannot be written.
    """

    def __init__(
        self,
        path: str,
        flag: str,
        *,
        standard: int = 1,
        max_megabytes: int = 0,
        max_backups: int = 0,
        max_days: int = 0,
        lock: Path | None = None,
    ) -> None:
        self.path = path
        self._standard, self._max_bytes = standard, max_megabytes * 1024 * 1024
        self._max_backups, self._max_days = max_backups, max_days
        self._lock = None if lock is None else FileLock(lock)
        if path != "-":
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            except OSError as error:
                raise UsageError(f"{flag}: {path}: {error.strerror}") from error

    def append(self, data: bytes) -> None:
        """All of it, or nothing. Raises OSError."""
        with self._alone():
            if self.path == "-":
                _write_all(self._standard, data)
                return
            if self._max_bytes and _size(self.path) + len(data) > self._max_bytes:
                self._rotate()
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                before = os.fstat(file).st_size
                try:
                    _write_all(file, data)
                except OSError:
                    os.ftruncate(file, before)  # no line in part
                    raise
            finally:
                os.close(file)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

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
        path = Path(self.path)
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

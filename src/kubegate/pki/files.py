"""Writing key and certificate files: secrets are readable by their owner alone, and nothing is overwritten unasked."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644


def write_secret(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write a file that only its owner may read. Raises FileExistsError where `path` exists, unless `force`."""
    _write(path, data, SECRET_MODE, force)


def write_public(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write a file for everybody to read. Raises FileExistsError where `path` exists, unless `force`."""
    _write(path, data, PUBLIC_MODE, force)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among the processes that lock the same file, which is made."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, data: bytes, mode: int, force: bool) -> None:
    """A reader sees the old file or the new one, never half of it; the mode is right from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # umask may take away, never add; files for everybody are meant to be so
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if force:
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise FileExistsError(f"{path} exists already; it is not overwritten without force") from None
    finally:
        temporary.unlink(missing_ok=True)

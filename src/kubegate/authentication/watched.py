"""A file whose content is read again when it changes: CA pools, token files, configurations."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger("kubegate.authentication")

Value = TypeVar("Value")


class WatchedFile(Generic[Value]):
    """`value` is what `parse` made of the file last. A change that cannot be read or parsed leaves the old value.

    `check` blocks on the file: call it from a thread. `on_change` is called by `apply`, on the event loop.
    """

    def __init__(
        self, path: Path, parse: Callable[[bytes], Value], on_change: Callable[[], None] | None = None
    ) -> None:
        """Raises OSError, and what `parse` raises."""
        self.path, self._parse, self.on_change = path, parse, on_change
        self._seen = _state(path)
        self._content = path.read_bytes()
        self.value = parse(self._content)
        self._next: Value | None = None

    def check(self) -> bool:
        """Whether the file has changed for something else that is good; `apply` takes it over."""
        try:
            state = _state(self.path)
            if state == self._seen:
                return False
            content = self.path.read_bytes()
            self._seen = state
            if content == self._content:
                return False
            found = self._parse(content)
        except (OSError, ValueError) as error:
            log.error("%s has changed and cannot be used; what was read before stays in force: %s", self.path, error)
            return False
        self._content, self._next = content, found
        return True

    def apply(self) -> None:
        """Put what `check` found in force."""
        if self._next is not None:
            self.value, self._next = self._next, None
            log.info("%s has been read again", self.path)
            if self.on_change is not None:
                self.on_change()


def _state(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino


@contextlib.contextmanager
def naming(flag: str) -> Iterator[None]:
    """Errors of a flag's file begin with the flag."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"{flag}: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None

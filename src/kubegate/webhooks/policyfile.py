"""Reading a policy file, and reading it again when it changes."""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from kubegate.api.clock import Clock
from kubegate.webhooks.gate import Gate

log = logging.getLogger("kubegate.webhooks")
RELOAD_SECONDS = 2.0


class PolicyFileError(Exception):
    """A policy file that cannot be used: the file, the line, and what is wrong."""


def load(path: Path) -> Gate:
    """Run a policy file and give its Gate (the one named `gate`, or the only one). Raises PolicyFileError."""
    try:
        return _run(path, path.read_bytes())
    except OSError as error:
        raise PolicyFileError(f"{path} cannot be read: {error.strerror}") from None


def _run(path: Path, content: bytes) -> Gate:
    module = ModuleType(f"kubegate_policies_{path.stem}")
    module.__file__ = str(path)
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # a policy may have helpers beside it
        sys.path.insert(0, folder)
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise PolicyFileError(f"{path}:{error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise PolicyFileError(f"{path}:{_line(path, error)}: {type(error).__name__}: {error}") from error
    gates = {name: value for name, value in vars(module).items() if isinstance(value, Gate)}
    gate = gates.get("gate") or (next(iter(gates.values())) if len(gates) == 1 else None)
    if gate is None:
        raise PolicyFileError(f"{path}: there is no Gate in it: gate = Gate()")
    if not gate.policies:
        raise PolicyFileError(f"{path}: its Gate has no policy: put @gate.validate(…) before a function")
    return gate


def _line(path: Path, error: BaseException) -> int:
    """The last line of the file itself that an error went through."""
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else 1


class PolicyFile:
    """The Gate in force. A changed file takes its place; one that cannot be used is told of, and the old one stays.

    Files that a policy file imports are not watched.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path, self._clock = path, clock
        self._content = b""
        self.gate = self._read()
        self.on_reload: Callable[[bool], None] = lambda good: None
        """Called after each new content with whether it could be used."""

    def _read(self) -> Gate:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise PolicyFileError(f"{self.path} cannot be read: {error.strerror}") from None
        gate = _run(self.path, content)
        self._content = content
        return gate

    async def run(self) -> None:
        """Look at the file now and then. Cancel it to end."""
        while True:
            await self._clock.sleep(RELOAD_SECONDS)
            await self.look()

    async def look(self) -> bool:
        """Whether another content came into force."""
        try:
            content = await asyncio.to_thread(self.path.read_bytes)
        except OSError as error:
            log.warning("%s cannot be read, the policies stay as they are: %s", self.path, error.strerror)
            return False
        if content == self._content:
            return False
        self._content = content  # a broken one is told of once
        try:
            self.gate = await asyncio.to_thread(_run, self.path, content)
        except PolicyFileError as error:
            log.error("the policies stay as they are: %s", error)
            self.on_reload(False)
            return False
        log.info("%s: %d policies are in force", self.path, len(self.gate.policies))
        self.on_reload(True)
        return True

"""Runs a command of `kubectl exec` on this machine, in the place of a pod on a simulated node (--simulate-nodes-exec).

What it writes goes to the client and into the container's log. When the client goes, or the server ends, the command
is told to end, and killed where it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import termios
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson

from kubegate.nodes.commands import NotThere, Prepared
from kubegate.server.channels import CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT, Channels, ended, failed

_PATIENCE = 2.0  # seconds from SIGTERM to SIGKILL
_CHUNK = 32 * 1024

Record = Callable[[str, bytes], None]
"""(`stdout` or `stderr`, bytes) into the container's log."""


@dataclass(frozen=True, slots=True)
class Streams:
    """Which of them the client has asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @property
    def first(self) -> int:
        return STDOUT if self.stdout else STDERR if self.stderr else ERROR


async def run(channels: Channels, streams: Streams, prepare: Callable[[], Prepared], record: Record) -> None:
    """Until the command has ended and the client knows how, or the client has gone."""
    await channels.open(streams.first)
    try:
        prepared = await asyncio.to_thread(prepare)
        command = await (_Terminal.start(prepared) if streams.tty else _Pipes.start(prepared, streams))
    except (NotThere, OSError, ValueError) as error:  # ValueError: a zero byte in a word or a variable
        await channels.close(failed(str(error)))
        return
    if prepared.note and streams.stderr and not streams.tty:
        await channels.write(STDERR, f"kubegate: {prepared.note}\n".encode())
    try:
        code = await _carry(channels, streams, command, record)
    finally:
        await command.end()
    if code is not None:
        await channels.close(ended(code))


async def _carry(channels: Channels, streams: Streams, command: _Pipes | _Terminal, record: Record) -> int | None:
    """Bytes to and fro until the command has ended (its exit code) or the client has gone (None)."""
    wanted = {STDOUT: streams.stdout, STDERR: streams.stderr}

    async def tell(channel: int, data: bytes) -> None:
        record("stderr" if channel == STDERR else "stdout", data)
        if wanted[channel]:
            await channels.write(channel, data)

    async def listen() -> None:
        while (message := await channels.read()) is not None:
            channel, data = message
            if channel == STDIN and streams.stdin:
                await command.write(data)
            elif channel == CLOSE and data == bytes([STDIN]):
                command.close_stdin()
            elif channel == RESIZE:
                command.resize(data)

    listening = asyncio.create_task(listen())
    working = asyncio.create_task(_until_ended(command, tell))
    try:
        await asyncio.wait({listening, working}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (listening, working):
            task.cancel()
        await asyncio.gather(listening, working, return_exceptions=True)


Tell = Callable[[int, bytes], Coroutine[Any, Any, None]]


async def _until_ended(command: _Pipes | _Terminal, tell: Tell) -> int:
    reading = asyncio.create_task(command.read(tell))
    try:
        code = await command.process.wait()
        # what the command left running in its group must not hold its output open
        command.signal(signal.SIGKILL)
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return code if code >= 0 else 128 - code


class _Pipes:
    """A command with a pipe for each of its streams, the leader of a session of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, prepared: Prepared, streams: Streams) -> _Pipes:
        process = await asyncio.create_subprocess_exec(
            *prepared.argv,
            stdin=asyncio.subprocess.PIPE if streams.stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=prepared.env,
            cwd=prepared.folder / "home",
            start_new_session=True,
        )
        return cls(process)

    async def read(self, tell: Tell) -> None:
        async def pump(stream: asyncio.StreamReader, channel: int) -> None:
            while data := await stream.read(_CHUNK):
                await tell(channel, data)

        assert self.process.stdout is not None
        assert self.process.stderr is not None
        await asyncio.gather(pump(self.process.stdout, STDOUT), pump(self.process.stderr, STDERR))

    async def write(self, data: bytes) -> None:
        if self.process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self.process.stdin.write(data)
                await self.process.stdin.drain()

    def close_stdin(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()

    def resize(self, data: bytes) -> None:
        """There is no terminal."""

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    async def end(self) -> None:
        await _end(self)


class _Terminal:
    """A command on a terminal of its own."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process, self._descriptor = process, descriptor

    @classmethod
    async def start(cls, prepared: Prepared) -> _Terminal:
        session = shutil.which("setsid")
        if session is None:
            raise NotThere("a terminal wants the program setsid, which is not installed: leave --tty out")
        ours, theirs = pty.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                session, "--ctty", "--", *prepared.argv,
                stdin=theirs, stdout=theirs, stderr=theirs,
                env={"TERM": "xterm", **prepared.env},
                cwd=prepared.folder / "home",
            )  # fmt: skip
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        return cls(process, ours)

    async def read(self, tell: Tell) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                await _when_ready(self._descriptor, loop.add_reader, loop.remove_reader)
                continue
            except OSError:  # the last one on the other side has gone
                return
            await tell(STDOUT, data)

    async def write(self, data: bytes) -> None:
        loop, left = asyncio.get_running_loop(), memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await _when_ready(self._descriptor, loop.add_writer, loop.remove_writer)
            except OSError:
                return

    def close_stdin(self) -> None:
        """A terminal's input ends by the character for it, which the client sends."""

    def resize(self, data: bytes) -> None:
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, struct.error, OSError):
            size = orjson.loads(data)
            fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", size["Height"], size["Width"], 0, 0))

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    async def end(self) -> None:
        try:
            await _end(self)
        finally:
            os.close(self._descriptor)


async def _when_ready(descriptor: int, add: Callable[..., None], remove: Callable[[int], Any]) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


async def _end(command: _Pipes | _Terminal) -> None:
    """No process of the command's session is left."""
    if command.process.returncode is None:
        command.signal(signal.SIGHUP)
        command.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await command.process.wait()
    command.signal(signal.SIGKILL)
    await command.process.wait()

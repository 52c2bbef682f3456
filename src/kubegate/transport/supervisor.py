"""Several processes of one server, and the one that watches over them: it starts, tells, and starts again.

Children are forked: what is imported before costs its time and memory once. Nothing may run in the parent but this.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct, field

STEADY = 10.0
"""Seconds after which a child that died is no reason to wait with the next."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a child that died soon, again, is started again."""

_TOLD = (signal.SIGTERM, signal.SIGINT)


class Parent(Struct, frozen=True):
    """What a child has of the process that watches over it.

    `lifeline` is a descriptor that becomes readable when that process is gone: then the child ends in good order.
    """

    lifeline: int
    _answer: int

    def ready(self, text: str = "") -> None:
        """The child does what it is there for; `text` is for who started it."""
        with contextlib.suppress(OSError):
            os.write(self._answer, text.encode() + b"\n")
            os.close(self._answer)


Work = Callable[[Parent], None]
"""A child's life: returns when it has ended well. For what cannot be it raises SystemExit, having said why."""


class Failed(Exception):
    """A child ended before it was ready; it has said why. `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"a process ended with {code} before it was ready")
        self.code = code


class Child(Struct, eq=False):
    """`last`: it is told to end when all others have ended. `said` is what it said when it was ready."""

    name: str
    work: Work
    last: bool
    pid: int = 0
    said: str | None = None
    started: float = 0.0
    pause: float = 0.0
    due: float | None = None  # when it is to be started again
    answer: int = -1
    text: bytearray = field(default_factory=bytearray)


class Supervisor:
    """`with Supervisor() as it:` `it.start(…)` for each child, `it.wait_ready()`, then `it.run()`.

    From `with` on SIGTERM and SIGINT are taken: all children are told to end, and `run` returns when they have.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._ending = False
        self._told_last = False
        self._code = 0
        self._ready = False

    def __enter__(self) -> Supervisor:
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._lifeline, self._own_end = os.pipe()
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _TOLD:
            signal.signal(number, lambda *_: self._end())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self.run()
        signal.set_wakeup_fd(-1)
        for number in (*_TOLD, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._woken.close()
        self._waker.close()
        os.close(self._lifeline)
        os.close(self._own_end)

    def start(self, name: str, work: Work, *, last: bool = False) -> Child:
        """Fork a child; returns at once."""
        child = Child(name, work, last)
        self._children.append(child)
        if not self._ending:
            self._fork(child)
        return child

    def wait_ready(self) -> bool:
        """Until all children are ready; False where it was told to end before. Raises Failed."""
        while not self._ending and any(child.said is None for child in self._children):
            self._step(failing=True)
        if self._code:
            raise Failed(self._code)
        return not self._ending

    def run(self) -> int:
        """Watch over the children until they were told to end and have; the exit code for this process."""
        self._ready = True
        while any(child.pid for child in self._children) or not self._ending:
            self._step()
        return 1 if self._code else 0

    # ------------------------------------------------------------------ inner
    def _end(self) -> None:
        """Tell the children to end: those that are to go last when the others are gone."""
        if not self._ending:
            self._ending = True
            for child in self._children:
                child.due = None
                if not child.last:
                    _tell(child)

    def _step(self, *, failing: bool = False) -> None:
        """Wait for something to happen, and see to it."""
        now = time.monotonic()
        due = [child.due for child in self._children if child.due is not None]
        timeout = max(min(due) - now, 0.0) if due else None
        answers = {child.answer: child for child in self._children if child.answer >= 0}
        if self._ending and not self._told_last and not any(c.pid for c in self._children if not c.last):
            self._told_last = True
            for child in self._children:
                _tell(child)
            if not any(child.pid for child in self._children):
                return
        readable, _, _ = select.select([self._woken.fileno(), *answers], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        for descriptor in readable:
            if descriptor in answers:
                _hear(answers[descriptor])
        self._bury(failing=failing)
        for child in self._children:
            if child.due is not None and child.due <= time.monotonic() and not self._ending:
                self._fork(child)

    def _bury(self, *, failing: bool) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            code = os.waitstatus_to_exitcode(status)
            child.pid = 0
            _hear(child, ended=True)
            if self._ending:
                if child.said is not None or -code not in _TOLD:
                    self._code = self._code or code
            elif failing:
                self._code = code or 1
                self._end()
            else:
                self._start_again(child, code)

    def _start_again(self, child: Child, code: int) -> None:
        steady = time.monotonic() - child.started > STEADY
        pause = 0.0 if steady else child.pause
        child.pause = FIRST_PAUSE if not pause else min(pause * 2, LONGEST_PAUSE)
        child.due = time.monotonic() + pause
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        when = f"in {pause:g} s" if pause else "now"
        print(f"kubegate: {child.name} {how}; it starts again {when}", file=sys.stderr, flush=True)

    def _fork(self, child: Child) -> None:
        child.due, child.said, child.started = None, None, time.monotonic()
        child.answer, answer = os.pipe()
        os.set_blocking(child.answer, False)
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)  # what comes now is for the child's own handlers
        child.pid = os.fork()
        if child.pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
            os.close(answer)
            return
        os.close(self._own_end)
        for other in self._children:
            if other.answer >= 0:
                os.close(other.answer)
        signal.set_wakeup_fd(-1)
        for number in (*_TOLD, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
        with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
            comm.write(child.name[:15])
        _live(child.work, Parent(self._lifeline, answer))


def _tell(child: Child) -> None:
    if child.pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)


def _hear(child: Child, *, ended: bool = False) -> None:
    """What a child says when it is ready; it says it once."""
    if child.answer < 0:
        return
    try:
        data = os.read(child.answer, 65536)
    except BlockingIOError:
        data = None
    if data:
        child.text += data
    if child.text.endswith(b"\n"):
        child.said = child.text[:-1].decode()
    elif not (ended or data == b""):
        return
    child.text.clear()
    os.close(child.answer)
    child.answer = -1


def _live(work: Work, parent: Parent) -> None:
    """A child's life; never returns."""
    code = 1
    try:
        work(parent)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        print(f"kubegate: {error or type(error).__name__}", file=sys.stderr)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run_until_told(work: Coroutine[Any, Any, None]) -> None:
    """A server's life in this process, on an event loop of its own."""
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


@contextmanager
def told_to_end(parent: Parent | None, on_told: Callable[[], None], *, interrupted: bool = True) -> Iterator[None]:
    """Call `on_told`, on the running event loop, for SIGTERM and SIGINT, and when the parent of a child is gone.

    Not `interrupted`: SIGINT, which a terminal sends to all processes at once, is left to the parent.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, on_told)
    loop.add_signal_handler(signal.SIGINT, on_told if interrupted else lambda: None)

    def orphaned() -> None:
        assert parent is not None
        loop.remove_reader(parent.lifeline)
        on_told()

    if parent is not None:
        loop.add_reader(parent.lifeline, orphaned)
    try:
        yield
    finally:
        if parent is not None:
            loop.remove_reader(parent.lifeline)

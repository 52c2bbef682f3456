"""Several server processes on one socket, and the one that watches over them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from kubegate.webhooks.process import Options, WebhookServer, listen, serve

_PAUSE = 1.0
"""Seconds before a worker that died is started again."""


def supervise(options: Options, ready: Callable[[str], None], workers: int) -> int:
    """Until SIGTERM or SIGINT, which all workers are sent as well. Raises CannotListen, and what a first worker would.

    The workers are forked before anything of the event loop is loaded.
    """
    from kubegate.webhooks.policyfile import load

    load(options.policies)  # what is wrong with it is told once, before anything is started
    options.certificate.current()
    listening = listen(options.address, options.port)
    with tempfile.TemporaryDirectory(prefix="kubegate-webhook-metrics-") as folder:
        try:
            return _supervise(options, ready, workers, listening, Path(folder))
        finally:
            listening.close()


def _supervise(
    options: Options, ready: Callable[[str], None], workers: int, listening: socket.socket, shared: Path
) -> int:
    host = "127.0.0.1" if options.address in ("", "0.0.0.0", "::") else options.address
    running: dict[int, float] = {}
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        ending = True
        for pid in list(running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def start() -> None:
        pid = os.fork()
        if pid == 0:
            _work(WebhookServer(options, listening=listening, shared=shared))
        running[pid] = time.monotonic()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    for _ in range(workers):
        start()
    ready(f"https://{host}:{listening.getsockname()[1]}")
    code = 0
    while running:
        pid, status = os.wait()
        started = running.pop(pid, 0.0)
        if ending:
            code = code or os.waitstatus_to_exitcode(status)
            continue
        print(f"kubegate: a worker ended with {os.waitstatus_to_exitcode(status)}; another starts", file=sys.stderr)
        if time.monotonic() - started < _PAUSE:
            time.sleep(_PAUSE)
        if not ending:
            start()
    return 1 if code else 0


def _work(server: WebhookServer) -> None:
    """A worker's life; never returns."""
    code = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        serve(server, lambda started: None)
        code = 0
    except BaseException as error:
        print(f"kubegate: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(code)

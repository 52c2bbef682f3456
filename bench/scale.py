"""A server that holds much beside one that holds little: objects, bindings, and watches that hear nothing."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.authorization import preload
from bench.harness import TOKEN, Figure, Process, by_turns, kubegate, requests_per_second
from bench.storage import fill
from bench.watches import STREAMS, watching
from bench.writes import BODY, CONFIGMAPS, REVIEW

FEW = 10
IDLE = "/api/v1/namespaces/kube-public/secrets?watch=1&timeoutSeconds=3600"
"""Nothing happens there."""


@contextlib.contextmanager
def holding(objects: int, bindings: int, watches: int) -> Iterator[Process]:
    """A server on SQLite that holds so many, with so many watches open."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubegate-bench-")))
        asyncio.run(preload(folder, bindings))
        asyncio.run(fill(folder / "kubegate.db", objects))
        server = stack.enter_context(kubegate("sqlite", data_dir=folder))
        server.request("POST", CONFIGMAPS, {"metadata": {"name": "asked"}, "data": {"key": "value " * 20}})
        if shutil.which("h2load"):
            load = stack.enter_context(idle_watches(server, watches))
            stack.callback(load.kill)
        yield server


def idle_watches(server: Process, count: int) -> subprocess.Popen[bytes]:
    """h2load, which holds so many watches open until it is killed."""
    each = min(STREAMS, count)
    command = ["h2load", f"-c{count // each}", f"-m{each}", f"-n{count}", "-H", f"Authorization: Bearer {TOKEN}"]
    load = subprocess.Popen([*command, server.url + IDLE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while watching(server) < count:
        if time.monotonic() > until:
            load.kill()
            raise RuntimeError(f"{watching(server)} of {count} watches are open")
        time.sleep(0.2)
    return load


def run(quick: bool) -> Iterator[Figure]:
    seconds, rounds = (1, 1) if quick else (4, 5)
    many, watches = (5_000, 500) if quick else (100_000, 10_000)
    kinds: dict[str, dict[str, Any]] = {
        "GET one config map": {"path": f"{CONFIGMAPS}/asked"},
        "SubjectAccessReview": {"path": "/apis/authorization.k8s.io/v1/subjectaccessreviews", "body": REVIEW},
        "durable CREATE, 64 clients": {"path": CONFIGMAPS, "body": BODY, "connections": 64},
    }
    with holding(FEW, FEW, FEW) as small, holding(many, many, watches) as large:
        for name, options in kinds.items():
            method = "POST" if "body" in options else "GET"
            load = partial(requests_per_second, seconds=seconds, method=method, **options)
            found, other = by_turns(rounds, partial(load, large), partial(load, small))
            held = f"{many:,} objects, {many:,} bindings, {watches:,} watches"
            yield Figure(
                f"{name}, {held}", found, "requests/s", other, f"bare: this server with {FEW} of each, by turns"
            )

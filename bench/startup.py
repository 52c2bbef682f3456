"""Start to ready, and resident memory: idle, and with 10,000 configmaps."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.harness import Figure, kubegate


def run(quick: bool) -> Iterator[Figure]:
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3 if quick else 7):
            with kubegate("sqlite", data_dir=Path(folder)) as server:
                times.append(server.ready_seconds)
        with kubegate("sqlite", data_dir=Path(folder)) as server:
            time.sleep(2)  # until what is loaded when it answers already is there
            idle = server.memory_mb()
    yield Figure("start to ready, first", times[0], "s", note="keys and bootstrap objects are made")
    yield Figure("start to ready, again, median", statistics.median(times[1:]), "s")
    yield Figure("resident memory, idle", idle, "MB")
    count = 1000 if quick else 10_000
    with kubegate() as server, ThreadPoolExecutor(8) as pool:
        path = "/api/v1/namespaces/default/configmaps"
        bodies = ({"metadata": {"name": f"c-{i}"}, "data": {"text": "x" * 1000}} for i in range(count))
        for done in [pool.submit(server.request, "POST", path, body) for body in bodies]:
            done.result()
        yield Figure(f"resident memory, {count} configmaps of 1.2 kB", server.memory_mb(), "MB")

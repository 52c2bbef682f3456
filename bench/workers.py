"""GET and CREATE with one worker and with several, and the CPU time that a request costs them.

On a machine of few cores the load generator takes its part of them: so the cores that it used are told, and the
server's CPU time for each request, which says what more cores would give.
"""

from __future__ import annotations

import os
import resource
import ssl
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness import Figure, Process, kubegate, requests_per_second
from bench.reads import allow_reader, pod

COUNTS = (1, 2)


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests a second; CPU seconds of the server for one; cores that the load generator used."""

    rate: float
    cost: float
    load: float

    @property
    def note(self) -> str:
        return f"{self.cost * 1e6:.0f} µs of CPU each; the load generator used {self.load:.2f} cores"


def processes(pid: int) -> list[int]:
    """A server's processes: itself, or with its workers and keeper."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def cpu_seconds(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_all(server: Process, workers: int) -> None:
    """Until each worker answers: their audit IDs tell them apart."""
    context = ssl.create_default_context(cafile=str(server.ca))
    seen: set[str] = set()
    while len(seen) < workers:
        with urllib.request.urlopen(f"{server.url}/version", context=context) as answer:
            seen.add(answer.headers["Audit-Id"].rpartition("-")[0])


def measure(server: Process, path: str, seconds: float, rounds: int, **options: str) -> Measured:
    """The best of a few rounds: others may use the machine too."""
    best = Measured(0.0, 0.0, 0.0)
    for _ in range(rounds):
        pids = processes(server.popen.pid)
        before, used = sum(map(cpu_seconds, pids)), _of_children()
        start = time.monotonic()
        rate = requests_per_second(server, path, seconds=seconds, connections=32, **options)
        passed = time.monotonic() - start
        cost = (sum(map(cpu_seconds, pids)) - before) / (rate * passed)
        if rate > best.rate:
            best = Measured(rate, cost, (_of_children() - used) / passed)
    return best


def _of_children() -> float:
    """CPU seconds of load generators that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(quick: bool) -> Iterator[Figure]:
    seconds, rounds = (1.0, 2) if quick else (4.0, 3)
    body = '{"metadata":{"name":"c-%N%"},"data":{"key":"value"}}'
    first: dict[str, Measured] = {}
    for count in COUNTS:
        with kubegate("sqlite", f"--workers={count}") as server:
            wait_for_all(server, count)
            allow_reader(server)
            server.request("POST", "/api/v1/namespaces/default/pods", pod(7))
            found = {
                "GET one pod": measure(
                    server, "/api/v1/namespaces/default/pods/pod-00007", seconds, rounds, token="reader-token"
                ),
                "durable CREATE": measure(
                    server, "/api/v1/namespaces/default/configmaps", seconds, rounds, method="POST", body=body
                ),
            }
            for name, measured in found.items():
                times = f"; {measured.rate / first[name].rate:.2f} times one's" if name in first else ""
                yield Figure(f"{name}, --workers={count}", measured.rate, "requests/s", None, measured.note + times)
                first.setdefault(name, measured)
            memory = sum(_private_mb(pid) for pid in processes(server.popen.pid))
            yield Figure(f"memory, --workers={count}", memory, "MB", None, "all processes; what they share counts once")


def _private_mb(pid: int) -> float:
    """A process's part of memory: what several share is divided between them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3

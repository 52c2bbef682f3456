"""What benchmarks share: servers in processes of their own, load on them, and figures with their baselines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "bench-token"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: `value` in `unit`, and the bare server's beside it where there is one."""

    name: str
    value: float
    unit: str
    bare: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.bare if self.bare else None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(slots=True)
class Process:
    """A server that runs: `url`, and how to ask it as the administrator."""

    url: str
    ca: Path
    popen: subprocess.Popen[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    ready_seconds: float = 0.0

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, self.headers, method=method)
        if data is not None:
            request.add_header("Content-Type", content_type)
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(self.ca))) as answer:
            text = answer.read()
            return json.loads(text) if answer.headers["Content-Type"].startswith("application/json") else text

    def memory_mb(self) -> float:
        with open(f"/proc/{self.popen.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.popen.pid}/stat") as file:
            parts = file.read().rsplit(") ", 1)[1].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def kubegate(storage: str = "memory", *flags: str, data_dir: Path | None = None) -> Iterator[Process]:
    """A kubegate that is ready, with a token for a member of system:masters, alice's and a reader's."""
    with contextlib.ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubegate-bench-")))
        tokens = folder / "tokens.csv"
        tokens.write_text(
            f'{TOKEN},bench,u-bench,"system:masters"\nalice-token,alice,u-alice\nreader-token,reader,u-r\n'
        )
        port = free_port()
        place = storage if storage == "memory" or ":" in storage else f"sqlite:{folder / 'kubegate.db'}"
        command = [
            sys.executable, "-m", "kubegate", "serve", f"--secure-port={port}", f"--data-dir={folder}",
            f"--token-auth-file={tokens}", f"--storage={place}", "--max-requests-inflight=0",
            "--max-mutating-requests-inflight=0", *flags,
        ]  # fmt: skip
        start = time.perf_counter()
        popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("wb"))
        stack.callback(_end, popen)
        headers = {"Authorization": f"Bearer {TOKEN}", "User-Agent": "bench/1"}
        process = Process(f"https://127.0.0.1:{port}", folder / "pki/ca.crt", popen, headers)
        _wait(process, "/readyz", folder / "log")
        process.ready_seconds = time.perf_counter() - start
        yield process


@contextlib.contextmanager
def bare(body_bytes: int, pki: Path) -> Iterator[Process]:
    """The bare ASGI application on the same ASGI server, with the same keys, that answers `body_bytes` bytes."""
    port = free_port()
    command = [sys.executable, "-m", "bench.bare", str(port), str(pki), str(body_bytes)]
    popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        process = Process(f"https://127.0.0.1:{port}", pki / "ca.crt", popen)
        _wait(process, "/", None)
        yield process
    finally:
        _end(popen)


def _end(popen: subprocess.Popen[bytes]) -> None:
    popen.send_signal(signal.SIGTERM)
    try:
        popen.wait(20)
    except subprocess.TimeoutExpired:
        popen.kill()


def _wait(process: Process, path: str, log: Path | None) -> None:
    """Until it answers 200: first until somebody listens, which is asked for often and costs the two cores little."""
    parts = urlsplit(process.url)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.popen.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:] if log else ''}")
        try:
            socket.create_connection((parts.hostname, parts.port)).close()
            process.request("GET", path)
            return
        except OSError:
            time.sleep(0.002)
    raise RuntimeError("the server is not ready after 60 s")


@dataclass(frozen=True, slots=True)
class Load:
    """What a load met: `rate` is requests a second, `p99` the time that 99 of 100 were answered in, in seconds."""

    rate: float
    p99: float


def requests_per_second(process: Process, path: str, *, seconds: float, **options: Any) -> float:
    """As `measure`."""
    return measure(process, path, seconds=seconds, **options).rate


def by_turns(rounds: int, *loads: Callable[[], float]) -> list[float]:
    """The median of what each load gave, one after the other in each round: the machine is not always as fast."""
    rates = [[load() for load in loads] for _ in range(rounds)]
    return [statistics.median(each) for each in zip(*rates, strict=True)]


def measure(
    process: Process,
    path: str,
    *,
    seconds: float,
    connections: int = 16,
    token: str = TOKEN,
    method: str = "GET",
    body: str = "",
    content_type: str = "application/json",
) -> Load:
    """By wrk where it is installed (Debian's package), else by a client of our own in a process of its own."""
    if shutil.which("wrk"):
        return _wrk(process, path, seconds, connections, token, method, body, content_type)
    command = [
        sys.executable, "-m", "bench.client", process.url + path, str(process.ca), str(seconds), str(connections),
        token, method, body, content_type,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rate, p99 = map(float, done.stdout.split())
    return Load(rate, p99)


def _wrk(
    process: Process,
    path: str,
    seconds: float,
    connections: int,
    token: str,
    method: str,
    body: str,
    content_type: str,
) -> Load:
    script = f"""
local n = 0
wrk.method = "{method}"
wrk.headers["Authorization"] = "Bearer {token}"
wrk.headers["User-Agent"] = "bench/1"
wrk.headers["Accept"] = "application/json"
wrk.headers["Content-Type"] = "{content_type}"
request = function()
  n = n + 1
  local body = [[{body}]]
  return wrk.format(nil, nil, nil, (string.gsub(body, "%%N%%", tostring(n) .. "-{time.time_ns()}")))
end
"""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = [
            "wrk",
            "--latency",
            "-t1",
            f"-c{connections}",
            f"-d{max(int(seconds), 1)}s",
            "-s",
            file.name,
            process.url + path,
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if errors:
        raise RuntimeError(f"{method} {path}: {errors[1]} answers were errors")
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    assert found is not None and p99 is not None, text
    return Load(float(found[1]), float(p99[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[p99[2]])

"""A server in a process of its own, for what only a process shows: memory, signals, exit codes, raw sockets."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TOKENS = 'admin-token,admin,u-admin,"system:masters"\nalice-token,alice,u-alice,"dev"\n'


@dataclass(frozen=True, slots=True)
class ServerProcess:
    process: subprocess.Popen[str]
    port: int
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def resident(self) -> int:
        """Bytes of resident memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def worked(self) -> float:
        """Seconds of processor time."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def connect(self, timeout: float = 10.0, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        context = context or ssl.create_default_context(cafile=str(self.folder / "pki" / "ca.crt"))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def children(self) -> dict[str, int]:
        """The processes of a server with several, by name."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with suppress(OSError):  # it ended just now
                found[Path(f"/proc/{pid}/comm").read_text().strip()] = int(pid)
        return found

    def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


def command(folder: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "kubegate", "serve", "--secure-port=0", f"--data-dir={folder}", *flags]


@contextmanager
def serving(folder: Path, flags: Sequence[str] = ("--storage=memory",)) -> Iterator[ServerProcess]:
    """A server that answers; it is told to end at the end, where it has not ended by then."""
    folder.mkdir(exist_ok=True)
    (folder / "tokens.csv").write_text(TOKENS)
    words = command(folder, f"--token-auth-file={folder / 'tokens.csv'}", *flags)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        port = 0
        for line in process.stdout:
            if line.startswith("kubegate serves on "):
                port = int(line.rstrip().rpartition(":")[2])
                break
        assert port, f"the server did not start: {(folder / 'log').read_text()[-2000:]}"
        server = ServerProcess(process, port, folder)
        yield server
        server.stop()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

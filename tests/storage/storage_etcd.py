"""A real etcd cluster of one or more members, whose processes tests may kill, pause and start again."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def program(name: str = "etcd") -> str | None:
    """etcd's binary: what scripts/tools.py brought, or the one on PATH."""
    ours = ROOT / ".tools" / name
    return str(ours) if ours.exists() else shutil.which(name)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """`start` it, use `urls`, `stop` it. Members are numbered from 0."""

    def __init__(
        self,
        folder: Path,
        size: int = 1,
        *,
        scheme: str = "http",
        more: Sequence[str] = (),
        etcdctl: Sequence[str] = (),
    ) -> None:
        binary = program()
        assert binary is not None
        ports = free_ports(2 * size)
        self.folder = folder
        self._etcdctl = etcdctl
        self.urls = [f"{scheme}://127.0.0.1:{port}" for port in ports[:size]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[size:]]
        cluster = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        self._commands = [
            [
                binary,
                *(f"--name=m{number}", f"--data-dir={folder / f'm{number}'}", f"--initial-cluster={cluster}"),
                *(f"--listen-client-urls={self.urls[number]}", f"--advertise-client-urls={self.urls[number]}"),
                *(f"--listen-peer-urls={peers[number]}", f"--initial-advertise-peer-urls={peers[number]}"),
                *("--log-level=error", "--heartbeat-interval=50", "--election-timeout=500"),
                "--unsafe-no-fsync",
                *more,
            ]
            for number in range(size)
        ]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * size

    def start(self) -> None:
        for number in range(len(self.urls)):
            self.start_member(number)
        self.wait()

    def start_member(self, number: int) -> None:
        with (self.folder / f"m{number}.log").open("ab") as output:
            self.processes[number] = subprocess.Popen(self._commands[number], stdout=output, stderr=output)

    def wait(self) -> None:
        """Until the cluster answers a linearizable read."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            done = self.etcdctl("get", "nothing", "--command-timeout=1s")
            if done.returncode == 0:
                return
        raise TimeoutError(f"etcd does not answer: {done.stderr}")

    def etcdctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        binary = program("etcdctl")
        assert binary is not None
        command = [binary, f"--endpoints={','.join(self.urls)}", *self._etcdctl, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={"ETCDCTL_API": "3"})

    def disagrees(self) -> bool:
        """Whether its members hold different data at one revision, which no client can mend.

        Members of 3.5.0 to 3.5.2 may, after they were killed under load.
        """
        self.wait()
        status = json.loads(self.etcdctl("endpoint", "status", "--write-out=json").stdout)
        revision = min(member["Status"]["header"]["revision"] for member in status)
        hashed = json.loads(self.etcdctl("endpoint", "hashkv", f"--rev={revision}", "--write-out=json").stdout)
        return len({member["HashKV"]["hash"] for member in hashed}) > 1

    def kill(self, number: int) -> None:
        process = self.processes[number]
        assert process is not None
        process.kill()
        process.wait()
        self.processes[number] = None

    def pause(self, number: int) -> None:
        process = self.processes[number]
        assert process is not None
        process.send_signal(signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        process = self.processes[number]
        assert process is not None
        process.send_signal(signal.SIGCONT)

    def leader(self) -> int:
        """The member that leads, as far as the members that run know."""
        for number, url in enumerate(self.urls):
            if self.processes[number] is None:
                continue
            binary = program("etcdctl")
            assert binary is not None
            done = subprocess.run(
                [binary, f"--endpoints={url}", "endpoint", "status", "--write-out=fields"],
                capture_output=True,
                text=True,
            )
            fields = dict(line.split(" : ", 1) for line in done.stdout.splitlines() if " : " in line)
            if fields and fields['"MemberID"'] == fields['"Leader"']:
                return number
        raise LookupError("no member leads")

    def stop(self) -> None:
        for number, process in enumerate(self.processes):
            if process is not None:
                self.kill(number)

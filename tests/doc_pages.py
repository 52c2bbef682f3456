"""Pages of docs/ as tests: the commands of their ```console blocks are run, and must print what stands under them."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
KUBECTL = TOOLS / "kubectl-1.36"
_SECONDS = 60


class Example(NamedTuple):
    """A command of a page, and the lines that stand under it."""

    command: str
    output: str


def page(name: str) -> str:
    """The text of `docs/NAME.md`."""
    return (ROOT / "docs" / f"{name}.md").read_text()


def block(text: str, language: str, having: str) -> str:
    """The one block of a language that has a text in it."""
    (found,) = [each for each in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if having in each]
    return str(found)


def examples(text: str) -> list[Example]:
    """The commands after `$ ` in the console blocks of a page, in order.

    A line that ends with a backslash goes on in the next one, and `<<E` up to a line `E`.
    """
    found = []
    for block in re.findall(r"```console\n(.*?)\n```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.split("\n")
            count = 1
            while lines[count - 1].endswith("\\"):
                count += 1
            if heredoc := re.search(r"<<(\w+)$", lines[count - 1]):
                count = lines.index(heredoc[1]) + 1
            found.append(Example("\n".join(lines[:count]), "\n".join(lines[count:]).strip("\n")))
    return found


def folded(text: str) -> str:
    """Without what is another in each run: dates, ages, hashes, generated names, the width of columns."""
    for pattern, word in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE"),
        (r"X509SHA256=[0-9a-f]{64}", "X509SHA256=HASH"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
        (r"\[node-\d\]", "[node-N]"),
        (r"\b\d+s\b", "AGE"),
        (r"-[0-9a-z]{8,10}-[0-9a-z]{5}\b", "-HASH-NAME"),
        (r" +", " "),
    ):
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n"))


class Walk:
    """A page's commands, one after the other, in a folder of their own in which `docs` is this repository's.

    Variables that a command sets are there for the next. What ends with ` &` runs until the walk is over. Ports that
    the page names (four digits, from a list) are free ones in truth; a server that names none has one of those too.
    """

    def __init__(self, folder: Path, *, ports: tuple[str, ...] = (), programs: Mapping[str, Path | str] = {}) -> None:
        self.work = folder / "work"
        self.work.mkdir()
        (self.work / "docs").symlink_to(ROOT / "docs")
        self._ports = {port: str(free_port()) for port in ("6443", *ports)}
        self._state = folder / "environment"
        self._state.touch()
        self._started: list[subprocess.Popen[bytes]] = []
        commands = folder / "bin"
        commands.mkdir()
        for name, program in {"kubectl": KUBECTL, **programs}.items():
            (commands / name).symlink_to(program)
        kubegate = commands / "kubegate"
        kubegate.write_text(
            "#!/bin/sh\n"
            f'case $1,$* in *--secure-port*) ;; up,*|serve,*) set -- "$@" --secure-port={self.port("6443")} ;; esac\n'
            f'exec {sys.executable} -m kubegate "$@"\n'
        )
        kubegate.chmod(0o755)
        path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "HOME": str(folder)}
        self._environment.pop("KUBECONFIG", None)

    def port(self, named: str) -> str:
        return self._ports[named]

    def on_our_ports(self, text: str) -> str:
        return re.sub(rf"\b({'|'.join(self._ports)})\b", lambda match: self._ports[match[0]], text)

    def check(self, example: Example, fold: Callable[[str], str] = folded, *, patience: float = 0.0) -> None:
        """Run it, and again for so many seconds until it prints what the page says.

        `…` in the page stands for anything; `kill %1` ends what was started.
        """
        command = self.on_our_ports(example.command)
        if command.endswith(" &"):
            self._start(command.removesuffix(" &"))
            return
        if command.split("#")[0].strip() == "kill %1":
            self.end()
            return
        wanted = ".*".join(map(re.escape, fold(self.on_our_ports(example.output)).split("…")))
        until = time.monotonic() + patience
        while True:
            printed = self.run(command)
            if re.fullmatch(wanted, fold(printed), re.DOTALL):
                return
            if time.monotonic() >= until:
                raise AssertionError(f"$ {command}\n{printed}\n--- but the page has\n{example.output}")

    def run(self, command: str) -> str:
        """What it prints on both its outputs."""
        script = f". {self._state}\nset -a\n{command}\nexport -p > {self._state}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.work, env=self._environment, text=True, timeout=_SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.stdout

    def _start(self, command: str) -> None:
        """A server: it is waited for until all ports that its command names, and kubegate's, speak TLS."""
        with open(self.work.parent / "log", "ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", f". {self._state}; exec {command}"], cwd=self.work, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._started.append(process)
        for port in self._ports.values():
            if port in command or (port == self.port("6443") and command.startswith(("kubegate up", "kubegate serve"))):
                wait_for_tls(int(port), process)

    def end(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self._started):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait(20)
        self._started.clear()


@contextmanager
def walk(folder: Path, *, ports: tuple[str, ...] = (), programs: Mapping[str, Path | str] = {}) -> Iterator[Walk]:
    found = Walk(folder, ports=ports, programs=programs)
    try:
        yield found
    except AssertionError:
        log = folder / "log"
        if log.exists():
            print(log.read_text(errors="replace"))
        raise
    finally:
        found.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_tls(port: int, process: subprocess.Popen[bytes]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as plain, context.wrap_socket(plain):
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")

"""The mutual-TLS walk of docs/keys.md as the page has it: kubegate's certificates, Debian's nginx, the API server."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from token_world import KUBECTL, ROOT

PAGE = (ROOT / "docs" / "keys.md").read_text().partition("## Tokens for kubectl")[0]
DEBIAN = ROOT / ".tools" / "debian" / "usr" / "sbin"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}{DEBIAN}")


def examples() -> list[tuple[str, str]]:
    """Each command with the lines under it."""
    found = []
    for block in re.findall(r"```console\n(.*?)\n```", PAGE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.strip("\n")))
    return found


def dateless(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE", text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it speaks TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as plain, context.wrap_socket(plain):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture
def background(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What was started; it is ended, and so is nginx where the page did not get as far as ending it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.terminate()
        process.wait(20)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((tmp_path / "work" / "nginx.pid").read_text()), signal.SIGTERM)


@pytest.mark.skipif(NGINX is None, reason="wants nginx: scripts/tools.py nginx")
@pytest.mark.skipif(not KUBECTL.exists(), reason="wants .tools/kubectl-1.36")
def test_the_page_does_what_it_says(tmp_path: Path, background: list[subprocess.Popen[bytes]]) -> None:
    assert NGINX is not None
    ports = {"8443": str(free_port()), "6443": str(free_port())}

    def on_our_ports(text: str) -> str:
        return re.sub(r"\b(8443|6443)\b", lambda match: ports[match[0]], text)

    work, programs = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    programs.mkdir()
    (programs / "kubectl").symlink_to(KUBECTL)
    (programs / "nginx").symlink_to(NGINX)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
    config = re.search(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    assert config is not None
    (work / "nginx.conf").write_text(on_our_ports(config[1]))

    for command, output in examples():
        words = on_our_ports(command)
        if words.endswith(" &"):
            nowhere = subprocess.DEVNULL
            process = subprocess.Popen(
                ["bash", "-c", f"exec {words.removesuffix(' &')}"], cwd=work, env=environment, stdout=nowhere
            )
            background.append(process)
            wait_for(int(ports["6443"]), process)
            continue
        done = subprocess.run(
            ["bash", "-c", words], cwd=work, env=environment, capture_output=True, text=True, timeout=60
        )
        assert dateless(done.stdout.strip("\n")) == dateless(output), (command, done.stderr)

#!/usr/bin/env python3
"""Start kubegate for one config on an empty store, run recorded scenarios against it, stop it.

    drive.py --config base --port 20000 conformance/scenarios/smoke [--level body] [--storage memory] [--quiet]
    drive.py --walk --config base --port 20000 conformance/kubectl [--kubectl PATH] [--helm PATH] [--python PATH]
    drive.py --serve --config base --port 20000       # only start it, print where the kubeconfigs are, wait for ^C

The three ports from --port on must be free. The server's log is kept in the printed folder when something fails.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

HERE = pathlib.Path(__file__).resolve().parent


@contextlib.contextmanager
def server(
    config: str,
    port: int,
    storage: str = "memory",
    extra: tuple[str, ...] = (),
    before: Callable[[pathlib.Path], object] = lambda out: None,
) -> Iterator[pathlib.Path]:
    """A server with that config's flags, ready; yields the folder with its PKI, config files and log.

    `before` is called with that folder before the server starts: for what the server asks when it does.
    """
    out = pathlib.Path(tempfile.mkdtemp(prefix="kubegate-conformance-"))
    render = [sys.executable, HERE / "conformance.py", "render", "--config", config, "--port", str(port), "--out", out]
    flags = subprocess.run(render, check=True, capture_output=True, text=True).stdout.split("\n")
    before(out)
    command = [sys.executable, "-m", "kubegate", "serve", *[f for f in flags if f], f"--storage={storage}", *extra]
    with open(out / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_listening(port, process, out)
            yield out
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                print("the server did not stop on SIGTERM and was killed", file=sys.stderr)


def wait_until_listening(port: int, process: subprocess.Popen[bytes], out: pathlib.Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}:\n{(out / 'log').read_text()[-3000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"the server does not listen after 30 s; its log is {out / 'log'}")


def free_ports(count: int) -> int:
    """A port such that it and the next ones are free, below those that the kernel gives out by itself."""
    start = random.Random(os.getpid() * 7919 + time.monotonic_ns()).randrange(10000, 30000)
    for port in (*range(start, 30000, count), *range(10000, start, count)):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for offset in range(count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            return port
    raise RuntimeError("no free ports in a row")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--config", default="base")
    parser.add_argument("--port", type=int, default=20000)
    parser.add_argument("--level", default="body")
    parser.add_argument("--storage", default="memory")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--walk", action="store_true", help="the paths are kubectl walks")
    parser.add_argument("--serve", action="store_true", help="start the server and wait")
    for program in ("kubectl", "helm", "python"):
        parser.add_argument(f"--{program}")
    options = parser.parse_intermixed_args()
    with server(options.config, options.port, options.storage) as out:
        if options.serve:
            print(f"kubeconfigs and log: {out}")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
            return 0
        runner = "kubectl_walk.py" if options.walk else "conformance.py"
        command = [sys.executable, str(HERE / runner), "run", "--port", str(options.port), "--out", str(out)]
        command += ["--quiet"] if options.quiet else []
        if options.walk:
            for program in ("kubectl", "helm", "python"):
                if getattr(options, program):
                    command += [f"--{program}", str(pathlib.Path(getattr(options, program)).absolute())]
        else:
            command += ["--level", options.level]
        failed = subprocess.run([*command, *options.paths]).returncode
        print(f"log: {out / 'log'}")
    if not failed:
        shutil.rmtree(out)
    return failed


if __name__ == "__main__":
    sys.exit(main())

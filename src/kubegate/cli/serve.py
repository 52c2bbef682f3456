"""`kubegate serve` and `kubegate up`: the API server."""

from __future__ import annotations

import gc
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubegate.server.options import Parsed, UsageError, parse

if TYPE_CHECKING:
    from kubegate.server.process import Server

_WIDTH = 120
_HELP = """\
Usage: kubegate {command} [--FLAG=VALUE ...]

{what}
The flags are kube-apiserver's, and a few more; docs/flags.md tells of them at length. Durations are written 30s, 5m or
1h, lists with commas or the flag again. The default stands in brackets.
"""

_DATA_DIR = ".kubegate"
_TRACES = "traces.jsonl"
# What `up` traces a second at most, after a burst of ten times as many: people see what they do, and load stays cheap.
_TRACES_QPS = 100


def serve(argv: Sequence[str]) -> int:
    """Run the API server with kube-apiserver's flags; the process's exit code."""
    return _main(argv, "serve", "An API server. SIGTERM ends it in good order.", welcome=False)


def up(argv: Sequence[str]) -> int:
    """Run the API server on a state directory of its own, and say how to reach it."""
    return _main(argv, "up", "An API server on a state directory of its own, ready for kubectl.", welcome=True)


def _main(argv: Sequence[str], command: str, what: str, *, welcome: bool) -> int:
    if any(word in ("-h", "--help") for word in argv):
        from kubegate.cli.flags import described

        print(_HELP.format(command=command, what=what), *described(_WIDTH), sep="\n")
        return 0
    try:
        parsed = parse(argv)
    except UsageError as error:
        print(f"kubegate: {error}", file=sys.stderr)
        return 1
    return _run(parsed, welcome=welcome)


def _run(parsed: Parsed, *, welcome: bool) -> int:
    options = parsed.options
    if not options.data_dir:
        options.data_dir = _DATA_DIR
    if welcome and "request-trace-path" not in parsed.given:
        options.request_trace_path = str(Path(options.data_dir, _TRACES))
        if "request-trace-qps" not in parsed.given:
            options.request_trace_qps = _TRACES_QPS
    level = logging.DEBUG if options.v >= 4 else logging.INFO if options.v >= 1 or welcome else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    for name in parsed.ignored:
        print(f"kubegate: --{name} is taken and has no effect here", file=sys.stderr)
    # Who writes to the file needs the interpreter for moments between two fsyncs, and would wait for it 5 ms each time.
    sys.setswitchinterval(0.0002)
    from kubegate.server.run import run

    def ready(server: Server) -> None:
        gc.freeze()  # nor ever again: see kubegate.cli
        # Requests leave little to the collector, and objects that are stored stay: looking often finds nothing.
        gc.set_threshold(20_000, 20, 20)
        gc.enable()
        kubeconfig = server.write_kubeconfig()
        if welcome and kubeconfig is not None:
            _greet(server.url, kubeconfig, options.request_trace_path)
        else:
            print(f"kubegate serves on {server.url}", flush=True)

    return run(options, ready)


def _greet(url: str, kubeconfig: Path, traces: str) -> None:
    shown = traces not in ("", "-")
    last = f"{_own_command()} trace{_traces_argument(traces)}" if shown else "kubectl get namespaces"
    print(
        f"""
kubegate is ready on {url}

  export KUBECONFIG={kubeconfig.resolve()}
  kubectl auth whoami
  kubectl auth can-i --list --as alice
  {last}

Ctrl-C ends it; what it stored is found again by the next start.
""",
        flush=True,
    )


def _traces_argument(path: str) -> str:
    """None is needed for the file that is looked for where none is named."""
    return "" if Path(path) == Path(_DATA_DIR, _TRACES) else f" {shlex.quote(str(Path(path).resolve()))}"


def _own_command() -> str:
    """How this program was called, to be called again from another terminal."""
    program = sys.argv[0]
    found = shutil.which("kubegate")
    if found is not None and os.path.exists(program) and os.path.samefile(found, program):
        return "kubegate"
    if Path(program).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m kubegate"
    return shlex.quote(os.path.relpath(program) if os.path.exists(program) else program)

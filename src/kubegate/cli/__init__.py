"""The `kubegate` command. Options are named as kube-apiserver and kubectl name theirs.

`serve` and `up` are read here, by kube-apiserver's own rules for flags, and start without loading what only the
other commands need; those are in modules of their own.
"""

from __future__ import annotations

import gc
import sys


def main(argv: list[str] | None = None) -> None:
    """The console script. Exits with the command's code."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in ("serve", "up"):
        # What a server loads and builds at its start stays: the collector need not look at it while it grows.
        gc.disable()
        from kubegate.cli.serve import serve, up

        sys.exit({"serve": serve, "up": up}[words[0]](words[1:]))
    from kubegate.cli.commands import load

    load(words[0] if words else "")(words, prog_name="kubegate")

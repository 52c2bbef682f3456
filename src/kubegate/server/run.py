"""A server's process from its options to its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubegate.server.front import Front
from kubegate.server.options import Options, UsageError
from kubegate.transport.supervisor import run_until_told

if TYPE_CHECKING:
    from kubegate.server.process import Server


def run(options: Options, ready: Callable[[Server], None]) -> int:
    """Serve until told to end; the process's exit code. One clear line on stderr for what cannot be used."""
    try:
        if options.workers != 1:
            from kubegate.server.workers import supervise

            return supervise(options, ready)
        run_until_told(_serve(options, ready))
    except UsageError as error:
        print("kubegate:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


async def _serve(options: Options, ready: Callable[[Server], None]) -> None:
    front = Front(options)
    if not options.etcd_servers:  # nobody waits for a store that may be out of reach: see Server
        await front.listen()
    # loaded while the transport's threads are busy with the first handshake
    from kubegate.server.process import Server

    await Server(options, front=front).run(ready)

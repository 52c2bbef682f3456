"""A server's process from its options to its exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubegate.server.front import Front
from kubegate.server.options import Options, UsageError
from kubegate.server.preparation import storage_options
from kubegate.storage import Store, StoreUnavailable
from kubegate.storage.build import open_store
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
    store = None if options.etcd_servers else await _begin(options, front)
    # loaded while the transport's threads are busy with the first handshake
    from kubegate.server.process import Server

    await Server(options, front=front, store=store).run(ready)


async def _begin(options: Options, front: Front) -> Store:
    """Open the store and listen. Raises UsageError.

    What another server may have is taken first, the store and then the port. A store that is elsewhere may be out of
    reach for a while: it is left to the Server, and nobody waits meanwhile.
    """
    try:
        store = open_store(storage_options(options))
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        # side by side: both wait for the disk where they make something
        for failed in await asyncio.gather(front.prepare(), store.start(), return_exceptions=True):
            if isinstance(failed, StoreUnavailable | ValueError):
                raise UsageError(str(failed)) from failed
            if failed is not None:
                raise failed
        await front.listen()
        front.write_first_kubeconfig()
    except BaseException:
        await front.close()
        await store.close()
        raise
    return store

"""A keeper in this process, or in one of its own.

    storage_keeper.py FOLDER FILE DESCRIPTOR

keeps the SQLite file until it is killed, for clients that come in by the listening socket that it inherited.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kubegate.api.clock import Clock
from kubegate.storage import Store
from kubegate.storage.keeper import Keeper
from kubegate.storage.keeper_wire import Place
from kubegate.storage.sqlite import SqliteStore


@asynccontextmanager
async def keeping(folder: Path, store: Store, clock: Clock | None = None) -> AsyncIterator[Place]:
    """`store` (not started yet) kept by a keeper of this event loop, for clients at the place that is given."""
    place = Place(folder)
    listening = place.listen()
    keeper = Keeper(store, place, listening, clock)
    await keeper.start()
    try:
        yield place
    finally:
        await keeper.close()
        listening.close()


class KeeperProcess:
    """Keeps `file`; may be killed, and started again on the same socket."""

    def __init__(self, folder: Path, file: Path) -> None:
        self._folder, self._file = folder, file
        self._listening = Place(folder).listen()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it serves."""
        descriptor = self._listening.fileno()
        command = [sys.executable, __file__, str(self._folder), str(self._file), str(descriptor)]
        self._process = subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()
        self._listening.close()


async def keep(folder: str, file: str, descriptor: int) -> None:
    keeper = Keeper(SqliteStore(file), Place(folder), socket.socket(fileno=descriptor))
    await keeper.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(keep(sys.argv[1], sys.argv[2], int(sys.argv[3])))

"""History is forgotten on a schedule, as kube-apiserver does it: what is older than one to two intervals."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from kubegate.api.clock import Clock
from kubegate.storage import Store, StoreUnavailable

log = logging.getLogger(__name__)

INTERVAL = 300.0
"""Seconds; kube-apiserver's --etcd-compaction-interval."""


class Compactor:
    """Every `interval` seconds compacts `store` to the revision it had one interval before; 0: never.

    Any number of processes may do so on one etcd cluster: none forgets what is younger than an interval, and
    compacting to what is compacted already does nothing.
    """

    def __init__(self, store: Store, clock: Clock, interval: float) -> None:
        self._store, self._clock, self._interval = store, clock, interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._interval:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="compaction")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        before: int | None = None
        while True:
            try:
                revision = await self._store.revision()
                if before is not None:
                    await self._store.compact(before)
                before = revision
            except StoreUnavailable as error:
                log.warning("history was not compacted: %s", error)
            except Exception:
                log.exception("history was not compacted")
            await self._clock.sleep(self._interval)

"""One process of several runs the controllers: the one that holds a Lease, or on one machine the lock of a file.

Leases are held as client-go's leader election does: the holder renews its Lease; one that could not for RENEW_DEADLINE
seconds stops its work before anybody else may take it (LEASE_SECONDS after the last renewal that others saw).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kubegate.api import Object
from kubegate.api.clock import Clock, rfc3339_micro
from kubegate.api.status import StatusError
from kubegate.controllers import Client
from kubegate.storage import StoreUnavailable
from kubegate.storage.filelock import FileLock

log = logging.getLogger("kubegate.controllers")

NAMESPACE, NAME = "kube-system", "kubegate-controllers"
LEASE_SECONDS = 15
RENEW_DEADLINE = 10.0
RETRY_SECONDS = 2.0
LOCK_SECONDS = 1.0
_RESOURCE = "leases.coordination.k8s.io"


class FileLead:
    """The process that has the kernel's lock on the file `path` leads. It is free at once when that process is gone."""

    def __init__(self, path: str | Path, clock: Clock) -> None:
        self._path, self._clock = path, clock

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lead, then do `work`, until cancelled."""
        lock = FileLock(self._path)
        try:
            while not lock.take():
                await self._clock.sleep(LOCK_SECONDS)
            log.info("this process leads the controllers")
            await work()
        finally:
            lock.close()


class LeaderElection:
    """`identity` is unique to the process."""

    def __init__(self, client: Client, clock: Clock, identity: str) -> None:
        self._client, self._clock, self._identity = client, clock, identity
        self._seen: tuple[Any, float] = (None, 0.0)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` while leading, until cancelled; it ends when the lead is lost, and begins anew with it.

        When it is cancelled the Lease is given back, so that another need not wait until it lapses.
        """
        while True:
            if not await self._try():
                await self._clock.sleep(RETRY_SECONDS)
                continue
            log.info("%s leads the controllers", self._identity)
            working = asyncio.ensure_future(work())
            try:
                await self._keep(working)
            except asyncio.CancelledError:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                await self._give_back()
                raise
            finally:
                working.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await working
            log.warning("%s leads the controllers no longer", self._identity)

    async def _keep(self, working: asyncio.Future[None]) -> None:
        renewed = self._clock.monotonic()
        while not working.done():
            await self._clock.sleep(RETRY_SECONDS)
            if await self._try():
                renewed = self._clock.monotonic()
            elif self._clock.monotonic() - renewed > RENEW_DEADLINE:
                return

    async def _try(self) -> bool:
        """Take or renew the Lease. False where another holds it, or the store cannot say."""
        try:
            lease = await self._client.get(_RESOURCE, NAMESPACE, NAME)
            if lease is None:
                await self._client.create(_RESOURCE, NAMESPACE, self._lease({}, {"name": NAME, "namespace": NAMESPACE}))
                return True
            spec = lease.get("spec") or {}
            # Judged by our own clock: how long ago we saw it change, not what the holder's clock says.
            version = lease["metadata"]["resourceVersion"]
            if self._seen[0] != version:
                self._seen = (version, self._clock.monotonic())
            holder = spec.get("holderIdentity")
            expired = self._clock.monotonic() - self._seen[1] > LEASE_SECONDS
            if holder and holder != self._identity and not expired:
                return False
            await self._client.update(_RESOURCE, NAMESPACE, NAME, self._lease(spec, lease["metadata"]))
            return True
        except (StatusError, StoreUnavailable) as error:
            log.debug("leader election: %s", error)
            return False

    async def _give_back(self) -> None:
        with contextlib.suppress(StatusError, StoreUnavailable):
            lease = await self._client.get(_RESOURCE, NAMESPACE, NAME)
            spec = lease.get("spec") or {} if lease is not None else {}
            if lease is not None and spec.get("holderIdentity") == self._identity:
                given = {name: value for name, value in spec.items() if name != "holderIdentity"}
                await self._client.update(_RESOURCE, NAMESPACE, NAME, {"metadata": lease["metadata"], "spec": given})

    def _lease(self, spec: Object, metadata: Object) -> Object:
        now = rfc3339_micro(self._clock.now())
        ours = spec.get("holderIdentity") == self._identity
        return {
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": spec.get("acquireTime", now) if ours else now,
                "renewTime": now,
                "leaseTransitions": spec.get("leaseTransitions", 0) + (0 if ours or not spec else 1),
            },
        }

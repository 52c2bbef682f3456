"""Of several processes one leads: it keeps its Lease, and another takes over when it is gone."""

from __future__ import annotations

import asyncio
from typing import Any

from kubegate.api.status import StatusError
from kubegate.controllers.leader import LEASE_SECONDS, RENEW_DEADLINE, RETRY_SECONDS, LeaderElection


class Clock:
    """Time that a test moves; sleepers wake in order."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.time + seconds, future))
        await future

    async def pass_(self, seconds: float) -> None:
        end = self.time + seconds
        while self.time < end:
            self.time = min(self.time + 0.5, end)
            for when, future in list(self._sleepers):
                if when <= self.time:
                    self._sleepers.remove((when, future))
                    if not future.done():
                        future.set_result(None)
            for _ in range(20):
                await asyncio.sleep(0)


class Leases:
    """Just what a Client does with one Lease, guarded by its resourceVersion; `reachable` False: a lost store."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def client(self) -> Any:
        leases = self

        class Client:
            reachable = True

            async def get(self, *_: str) -> dict[str, Any] | None:
                if not self.reachable:
                    raise StatusError(503, "ServiceUnavailable", "lost")
                return leases.lease

            async def create(self, _: str, __: str, lease: dict[str, Any]) -> None:
                if leases.lease is not None:
                    raise StatusError(409, "AlreadyExists", "there")
                leases.put(lease)

            async def update(self, _: str, __: str, ___: str, lease: dict[str, Any]) -> None:
                if lease["metadata"].get("resourceVersion") != str(leases.version):
                    raise StatusError(409, "Conflict", "changed")
                leases.put(lease)

        return Client()

    def put(self, lease: dict[str, Any]) -> None:
        self.version += 1
        self.lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}


class Process:
    def __init__(self, name: str, leases: Leases, clock: Clock) -> None:
        self.client, self.leading = leases.client(), False
        self.task = asyncio.create_task(LeaderElection(self.client, clock, name).run(self.work))

    async def work(self) -> None:
        self.leading = True
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.leading = False

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_one_leads_and_keeps_the_lead() -> None:
    clock, leases = Clock(), Leases()
    first, second = Process("a", leases, clock), Process("b", leases, clock)
    for _ in range(20):
        await clock.pass_(RETRY_SECONDS)
        assert (first.leading, second.leading) == (True, False)
    await first.stop()
    await second.stop()


async def test_another_takes_over_when_the_leader_is_gone() -> None:
    clock, leases = Clock(), Leases()
    first, second = Process("a", leases, clock), Process("b", leases, clock)
    await clock.pass_(10)
    first.client.reachable = False  # it dies, and gives nothing back
    await first.stop()
    await clock.pass_(RETRY_SECONDS)
    assert not second.leading
    await clock.pass_(LEASE_SECONDS + 2 * RETRY_SECONDS)
    assert second.leading
    assert leases.lease is not None and leases.lease["spec"]["leaseTransitions"] == 1
    await second.stop()


async def test_a_leader_that_ends_in_good_order_gives_the_lead_back() -> None:
    clock, leases = Clock(), Leases()
    first, second = Process("a", leases, clock), Process("b", leases, clock)
    await clock.pass_(10)
    await first.stop()
    assert leases.lease is not None and "holderIdentity" not in leases.lease["spec"]
    await clock.pass_(RETRY_SECONDS)
    assert second.leading
    await second.stop()


async def test_a_leader_that_cannot_renew_stops_before_another_may_begin() -> None:
    clock, leases = Clock(), Leases()
    first, second = Process("a", leases, clock), Process("b", leases, clock)
    await clock.pass_(10)
    first.client.reachable = False
    for _ in range(40):
        await clock.pass_(0.5)
        assert not (first.leading and second.leading), "two lead at once"
    await clock.pass_(LEASE_SECONDS)
    assert (first.leading, second.leading) == (False, True)
    assert RENEW_DEADLINE < LEASE_SECONDS
    await first.stop()
    await second.stop()

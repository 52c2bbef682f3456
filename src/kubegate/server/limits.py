"""Bounds on requests in flight (--max-requests-inflight and its kin), and a fair share for each user.

Watches and other long-running requests do not count. Past a bound a request gets 429 with Retry-After at once: a
queue would only move the wait from the client, who can tell why, to the server, who would hold its memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubegate.api import durations, status
from kubegate.authentication import MASTERS_GROUP
from kubegate.server.call import Call
from kubegate.server.metrics import Metrics
from kubegate.transport.metrics import Sample

READS = frozenset({"get", "list", "watch"})


def check_timeout(text: str) -> float:
    """The `timeout` that a client gives its request in seconds, which must be a duration. Raises 400."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise status.bad_request(f"invalid timeout specified in the request URL - time: {error}") from None


class Bound:
    """A number of places; no user takes more than half of them while others are there."""

    __slots__ = ("half", "held", "limit", "users")

    def __init__(self, limit: int) -> None:
        self.limit, self.half, self.held = limit, max(limit // 2, 1), 0
        self.users: dict[str, int] = {}

    def has_room(self, user: str) -> bool:
        if self.held >= self.limit:
            return False
        mine = self.users.get(user, 0)
        return len(self.users) - (mine > 0) == 0 or mine < self.half

    def take(self, user: str) -> None:
        self.held += 1
        self.users[user] = self.users.get(user, 0) + 1

    def give_back(self, user: str) -> None:
        self.held -= 1
        left = self.users[user] - 1
        if left:
            self.users[user] = left
        else:
            del self.users[user]


class Limits:
    """0 means no bound. Members of system:masters are never refused, so that an operator can always look."""

    def __init__(self, reads: int, writes: int, metrics: Metrics) -> None:
        self._reads, self._writes, self._metrics = Bound(reads), Bound(writes), metrics

    def held(self) -> Iterable[Sample]:
        """Requests in flight of each kind."""
        return [(("readOnly",), float(self._reads.held)), (("mutating",), float(self._writes.held))]

    def admit(self, call: Call) -> Bound | None:
        """Takes a place for the call's user, who is to give it back; None where none is needed. Raises 429."""
        info = call.info
        if info.long_running or not info.resource_request:
            return None
        bound = self._reads if info.verb in READS else self._writes
        if not bound.limit:
            return None
        name = call.user.name
        # while less than half is taken nobody can have more than that
        if bound.held >= bound.half and not bound.has_room(name) and MASTERS_GROUP not in call.user.groups:
            self._metrics.rejected.add(("concurrency-limit",))
            raise status.too_many_requests("Too many requests, please try again later.", 1)
        bound.take(name)
        return bound

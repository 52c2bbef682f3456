"""The back-off of Kubernetes' webhook calls. Follows k8s.io/apiserver/pkg/util/webhook (WithExponentialBackoff)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from kubegate.api.clock import Clock
from kubegate.remote.client import RemoteError

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Backoff:
    """`steps` calls at most; the pause before the next one starts at `duration` seconds and grows by `factor`.

    Each pause is lengthened by a random part of itself, up to `jitter` of it.
    """

    duration: float = 0.5
    factor: float = 1.5
    jitter: float = 0.2
    steps: int = 5


DEFAULT = Backoff()
"""What kube-apiserver uses for its authentication and authorization webhooks."""


def transient(error: RemoteError) -> bool:
    """client-go's DefaultShouldRetry: resets, 500, 504, 429, and whatever names a time to come back."""
    return error.transient


async def with_backoff(
    call: Callable[[], Awaitable[Answer]],
    *,
    clock: Clock,
    backoff: Backoff = DEFAULT,
    should_retry: Callable[[RemoteError], bool] = transient,
    chance: Callable[[], float] = random.random,
) -> Answer:
    """Call until it succeeds, fails for good, or the steps are used up. Raises the last RemoteError."""
    pause = backoff.duration
    for step in range(backoff.steps):
        try:
            return await call()
        except RemoteError as error:
            if step == backoff.steps - 1 or not should_retry(error):
                raise
        await clock.sleep(pause * (1 + backoff.jitter * chance()))
        pause *= backoff.factor
    raise ValueError("a back-off has at least one step")

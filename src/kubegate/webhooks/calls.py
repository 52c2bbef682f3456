"""Calling a policy's function, and what becomes of its errors.

A policy that raises anything but Deny refuses: its error goes to the log under a reference number, and the number is
all that the caller is told.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import traceback
import types
from collections.abc import Coroutine, Generator
from typing import Any

from kubegate.webhooks.gate import Deny, Policy, Review
from kubegate.webhooks.threads import Threads

log = logging.getLogger("kubegate.webhooks")

LONGEST = 30.0
"""Seconds after which an answer is of no use: no API server waits longer."""


class PolicyFailed(Exception):
    """A policy raised, did not answer in time, or gave back what cannot be used. The text may be shown to anybody."""

    def __init__(self, policy: Policy, reference: str) -> None:
        super().__init__(f"policy {policy.name} failed; the webhook's log has the details under reference {reference}")
        self.policy, self.reference = policy, reference


class Caller:
    """Runs functions: coroutines here on the event loop, the others in threads."""

    def __init__(self, threads: int = 16, longest: float = LONGEST) -> None:
        self._threads = Threads(threads)
        self._longest = longest

    async def call(self, policy: Policy, subject: Any, review: Review, *, secret: bool = False) -> Any:
        """What the function returns. Raises Deny and PolicyFailed.

        `secret`: the subject is one, and an error's text may hold it; the log is told the error's type and place alone.
        """
        function = policy.function
        try:
            if not policy.asynchronous:
                arguments = (subject, review) if policy.takes_review else (subject,)
                return await self._threads.run(self._seconds(policy), function, *arguments)
            coroutine = function(subject, review) if policy.takes_review else function(subject)
            try:
                waits_for = coroutine.send(None)
            except StopIteration as done:
                return done.value
            # Most policies never wait for anything: a timer, which costs more than they do, is set for those that do.
            async with asyncio.timeout(self._seconds(policy)):
                return await _rest(coroutine, waits_for)
        except Deny:
            raise
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise failed(policy, error, secret=secret) from None

    def _seconds(self, policy: Policy) -> float:
        return self._longest if policy.scope is None else min(self._longest, policy.scope.timeout)

    def close(self) -> None:
        self._threads.close()


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """`yield from` for a coroutine that has been begun."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(sent)
    except StopIteration as done:
        return done.value


def failed(policy: Policy, error: BaseException, *, secret: bool = False) -> PolicyFailed:
    """Write an error to the log, and give what may be told of it."""
    reference = secrets.token_hex(6)
    text = type(error).__name__ if secret else f"{type(error).__name__}: {error}"
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("policy %s failed, reference %s: %s\n%s", policy.name, reference, text, frames)
    return PolicyFailed(policy, reference)

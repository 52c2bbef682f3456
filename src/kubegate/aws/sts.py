"""The one question to STS: GetCallerIdentity, as the token has it signed. Bounded in time, size, number and rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from kubegate.api.clock import Clock
from kubegate.aws import CLUSTER_ID_HEADER, Identity
from kubegate.aws.arn import BadArn, canonical
from kubegate.aws.presigned import Presigned
from kubegate.remote.client import Client, Endpoint, RemoteError, Response

TIMEOUT = 10.0
IN_FLIGHT = 50
_MAX_ANSWER = 64 * 1024
_THROTTLED = ("Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException")


class StsError(Exception):
    """STS gave no identity; the text holds nothing of the token."""


class StsThrottled(StsError):
    """Too many calls, by STS's bound or ours: the token may be good, ask again later."""


class StsRefused(StsError):
    """STS says that the token is not good: its signature, its key, its time, or the cluster it was made for."""


class Rate:
    """At most `per_second` in the long run, `burst` at once; who comes too early waits, in order."""

    def __init__(self, clock: Clock, per_second: float, burst: int) -> None:
        self._clock, self._interval = clock, 1.0 / per_second
        self._burst = burst
        self._free_at = 0.0
        """When the bucket would be full again."""

    async def wait(self, within: float) -> bool:
        """Until it is one's turn; False, at once, where that would take longer than `within` seconds."""
        now = self._clock.monotonic()
        start = max(self._free_at, now)
        pause = start + self._interval - now - self._burst * self._interval
        if pause > within:
            return False
        self._free_at = start + self._interval
        if pause > 0:
            await self._clock.sleep(pause)
        return True


@dataclass(frozen=True, slots=True)
class StsSettings:
    """Bounds of the calls. `authority` is PEM of those who sign STS's certificates; None: the system's."""

    authority: bytes | None = None
    timeout: float = TIMEOUT
    in_flight: int = IN_FLIGHT
    calls_per_second: float = 200.0
    burst: int = 1000


class Sts:
    """Asks STS who signed a token. Use and close it on one event loop."""

    def __init__(
        self, settings: StsSettings, clock: Clock, *, answered: Callable[[str], None] = lambda code: None
    ) -> None:
        """`answered` hears each answer's status ("" where there was none). Raises ValueError for bad authorities."""
        self._settings, self._answered = settings, answered
        self._rate = Rate(clock, settings.calls_per_second, settings.burst)
        endpoint = Endpoint(
            "https://sts.amazonaws.com/",
            authority=settings.authority,
            in_flight=settings.in_flight,
            max_response=_MAX_ANSWER,
        )
        self._client = Client(endpoint)

    async def identity(self, call: Presigned, cluster_id: str) -> Identity:
        """Who signed it for this cluster. Raises StsRefused, StsThrottled, StsError."""
        if not await self._rate.wait(self._settings.timeout):
            raise StsThrottled("too many calls of STS are waiting here")
        headers = {CLUSTER_ID_HEADER: cluster_id, "Accept": "application/json"}
        try:
            answer = await self._client.get(call.url, within=self._settings.timeout, headers=headers)
        except RemoteError as error:
            self._answered("")
            # its text has the URL in it, and that is the token
            problem = str(error).rpartition('": ')[2]
            raise StsError(f"{call.host}: {problem}") from None
        self._answered(str(answer.status))
        return _identity(_result(answer, call.host), call)

    async def close(self) -> None:
        await self._client.close()


def _result(answer: Response, host: str) -> dict[str, Any]:
    if answer.status == 200:
        try:
            found = orjson.loads(answer.body)["GetCallerIdentityResponse"]["GetCallerIdentityResult"]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, dict):
            raise StsError(f"{host} answered with something else than a caller's identity")
        return found
    code = _error_code(answer.body)
    said = f"{host} answered {answer.status}{f' {code}' if code else ''}"
    if answer.status == 429 or code in _THROTTLED:
        raise StsThrottled(said)
    if answer.status in (400, 401, 403):
        raise StsRefused(said)
    if 300 <= answer.status < 400:
        raise StsError(f"{said}: a redirect, which is not followed")
    raise StsError(said)


def _error_code(body: bytes) -> str:
    """AWS's word for what went wrong, where the answer has one; it is one short word of letters and dots."""
    try:
        found = orjson.loads(body)
        error = found.get("Error") or (found.get("ErrorResponse") or {}).get("Error") or {}
        code = error.get("Code")
    except (ValueError, AttributeError):
        code = body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode("ascii", "replace")
    return code if isinstance(code, str) and len(code) < 64 and code.replace(".", "").isalnum() else ""


def _identity(result: dict[str, Any], call: Presigned) -> Identity:
    arn, account, user = (result.get(name) for name in ("Arn", "Account", "UserId"))
    if not isinstance(arn, str) or not isinstance(account, str) or not isinstance(user, str):
        raise StsError(f"{call.host} answered without Arn, Account or UserId")
    try:
        role = canonical(arn)
    except BadArn as error:
        raise StsError(f"{call.host}: {error}") from None
    user_id, *session = user.split(":")
    if len(session) > 1:
        raise StsError(f"{call.host}: the UserId has more than one colon")
    return Identity(arn, role, account, user_id, session[0] if session else "", call.access_key_id)

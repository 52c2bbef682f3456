"""Tokens that another service knows: TokenReview by webhook. --authentication-token-webhook-config-file.

Follows k8s.io/apiserver/plugin/pkg/authenticator/token/webhook. Answers are remembered by a keyed hash of the token;
requests with one token at the same time make one call; a service that hangs or fails again and again is left alone
for a while, so that it cannot hold up those whose tokens it does not know.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api.clock import Clock
from kubegate.authentication import (
    Authenticated,
    AuthenticationError,
    UserInfo,
    intersect,
    with_authenticated,
)
from kubegate.authentication.secrets import BoundedCache, Digest
from kubegate.remote import result, retry
from kubegate.remote.client import Client, Endpoint, RemoteError

VERSIONS = ("v1", "v1beta1")
_GROUP, _KIND = "authentication.k8s.io", "TokenReview"
REQUEST_TIMEOUT = 30.0
_REMEMBERED = 10_000
_FAILURE_TTL = 10.0
_MAX_ANSWER = 1024 * 1024
_IN_FLIGHT = 50


class _User(Struct):
    username: str = ""
    uid: str = ""
    groups: list[str] | None = None
    extra: dict[str, list[str] | None] | None = None


class _Status(Struct):
    authenticated: bool = False
    user: _User | None = None
    audiences: list[str] | None = None
    error: str = ""


class _Spec(Struct, forbid_unknown_fields=True):
    token: str = ""
    audiences: list[str] | None = None


@dataclass(slots=True)
class Circuit:
    """Open after `failures` calls in a row without any answer: then nothing is asked for `rest` seconds, but by one."""

    failures: int = 5
    rest: float = 5.0
    _failed: int = 0
    _open_until: float = 0.0

    def allows(self, now: float) -> bool:
        if self._failed < self.failures:
            return True
        if now < self._open_until:
            return False
        # this one goes through to see; the others wait for what becomes of it
        self._open_until = now + self.rest
        return True

    def record(self, answered: bool, now: float) -> None:
        self._failed = 0 if answered else self._failed + 1
        if self._failed >= self.failures:
            self._open_until = now + self.rest


class WebhookTokenAuthenticator:
    """Asks the endpoint of one kubeconfig file. Close it when done."""

    name = "webhook"

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Clock,
        *,
        version: str,
        cache_ttl: float,
        at_least: float = 0.0,
        api_audiences: tuple[str, ...],
        backoff: retry.Backoff = retry.DEFAULT,
        timeout: float = REQUEST_TIMEOUT,
        digest: Digest | None = None,
    ) -> None:
        """`at_least` is how long, in seconds, a token that was good is remembered whatever `cache_ttl` says.

        Raises ValueError for another version than v1 and v1beta1, or an endpoint that cannot be used.
        """
        if version not in VERSIONS:
            raise ValueError(f"unsupported webhook authenticator version {version!r}, must be v1beta1 or v1")
        self._client = Client(endpoint)
        self._clock, self._version, self._api_audiences = clock, version, api_audiences
        self._backoff, self._timeout = backoff, timeout
        self._success_ttl, self._failure_ttl = max(cache_ttl, at_least), min(cache_ttl, _FAILURE_TTL)
        self._reviews = result.Reviews(_GROUP, version, _KIND, _Status, _Spec)
        self._digest = digest or Digest()
        self._known: BoundedCache[tuple[Authenticated | None]] = BoundedCache(_REMEMBERED)
        self._calls: dict[object, asyncio.Task[Authenticated | None]] = {}
        self._circuit = Circuit()

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        wanted = audiences if audiences is not None else self._api_audiences
        key = (self._digest(token), wanted)
        known = self._known.get(key, self._clock.monotonic())
        if known is not None:
            return known[0]
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = asyncio.create_task(self._ask(token, wanted))
            call.add_done_callback(lambda _: self._calls.pop(key, None))
        # whoever waits may go away; the call serves the others, and the cache
        found = await asyncio.shield(call)
        ttl = self._success_ttl if found is not None else self._failure_ttl
        if ttl > 0:
            self._known.put(key, (found,), self._clock.monotonic() + ttl)
        return found

    async def _ask(self, token: str, wanted: tuple[str, ...]) -> Authenticated | None:
        if not self._circuit.allows(self._clock.monotonic()):
            raise AuthenticationError("the token webhook has not answered for a while and is not asked now")
        try:
            status = await self._review(token, wanted)
        except RemoteError as error:
            self._circuit.record(error.code != 0, self._clock.monotonic())
            # the other side may have said the token back
            raise AuthenticationError(str(error).replace(token, "<token>")) from None
        self._circuit.record(True, self._clock.monotonic())
        granted: tuple[str, ...] | None = None
        if wanted:
            granted = intersect(wanted, status.audiences or self._api_audiences)
            if not granted:
                return None
        if not status.authenticated:
            if status.error:
                raise AuthenticationError(status.error.replace(token, "<token>"))
            return None
        return Authenticated(_user(status.user or _User()), self.name, granted)

    async def _review(self, token: str, wanted: tuple[str, ...]) -> _Status:
        spec: dict[str, Any] = {"token": token}
        if wanted:
            spec["audiences"] = list(wanted)
        review = {
            "kind": _KIND,
            "apiVersion": f"{_GROUP}/{self._version}",
            "metadata": {},
            "spec": spec,
            "status": {"user": {}},
        }
        body = orjson.dumps(review)

        async def call() -> _Status:
            return self._reviews.read(await self._client.post_json(body, within=self._timeout, replay=True))

        return await retry.with_backoff(call, clock=self._clock, backoff=self._backoff)

    async def close(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()
        await self._client.close()


def endpoint(config_file: Any) -> Endpoint:
    """The endpoint of a webhook's kubeconfig file. Raises pki.kubeconfig.BadKubeconfig."""
    return Endpoint.from_kubeconfig(config_file, in_flight=_IN_FLIGHT, max_response=_MAX_ANSWER)


def _user(user: _User) -> UserInfo:
    """What the webhook says of the user."""
    extra = {key: tuple(values or ()) for key, values in (user.extra or {}).items()}
    return UserInfo(user.username, user.uid, with_authenticated(user.username, tuple(user.groups or ())), extra)

"""The HTTP side: an ASGI application that answers reviews, health checks and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from kubegate.transport.metrics import Shared
from kubegate.webhooks import reviews
from kubegate.webhooks.answers import BadReview
from kubegate.webhooks.calls import Caller
from kubegate.webhooks.gate import Gate
from kubegate.webhooks.metrics import Metrics

log = logging.getLogger("kubegate.webhooks")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_JSON, _TEXT = b"application/json", b"text/plain; charset=utf-8"
_JSON_TYPE = (b"content-type", _JSON)
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    404: "NotFound",
    408: "Timeout",
    405: "MethodNotAllowed",
    413: "RequestEntityTooLarge",
    429: "TooManyRequests",
    500: "InternalError",
}


class _Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class App:
    """Answers for the Gate that `gate()` gives at that moment.

    `most` reviews are answered at once, another one is refused with 429; bodies of more than `max_body` bytes with
    413. Bodies that come in pieces are counted apart, so that clients who dawdle keep nobody else from being answered:
    as many are read at once, each within `patience` seconds. `shared` are the counts of other workers. `decided` is
    given a line for the decision log for each review. `client_certificates`: reviews are answered for callers alone
    whose certificate TLS has verified.
    """

    def __init__(
        self,
        gate: Callable[[], Gate],
        caller: Caller,
        *,
        metrics: Metrics | None = None,
        shared: Shared | None = None,
        decided: Callable[[Mapping[str, Any]], None] = lambda entry: None,
        most: int = 256,
        max_body: int = 7 * 1024 * 1024,
        patience: float = 10.0,
        client_certificates: bool = False,
    ) -> None:
        self._gate, self._caller, self._decided = gate, caller, decided
        self.metrics, self._shared = metrics or Metrics(), shared
        self._most, self._max_body, self._client_certificates = most, max_body, client_certificates
        self._patience, self._reading = patience, 0
        self._known: Gate | None = None
        self._endpoints: dict[str, reviews.Endpoint] = {}
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        try:
            if scope["method"] == "POST":
                body = await self._review(path, scope, receive)
                headers = [_JSON_TYPE, (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})
            else:
                code, text = self._get(path, scope["method"])
                await _send(send, code, text.encode(), _TEXT)
        except _Refused as refused:
            self.metrics.refused.add((_REASONS.get(refused.code, "InternalError"),))
            await _send(send, refused.code, _status(refused), _JSON)

    def endpoints(self) -> dict[str, reviews.Endpoint]:
        """By path, for the Gate in force."""
        gate = self._gate()
        if gate is not self._known:
            self._endpoints, self._known = reviews.endpoints(gate), gate
        return self._endpoints

    async def _review(self, path: str, scope: Scope, receive: Receive) -> bytes:
        endpoint = self.endpoints().get(path)
        if endpoint is None:
            raise _Refused(404, "no policy is served at this path")
        if self._client_certificates and not _has_certificate(scope):
            raise _Refused(401, "a client certificate is wanted here")
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body") or len(body) > self._max_body:
            body = await self._rest(body, message, receive)
        metrics = self.metrics
        if metrics.in_flight >= self._most:
            raise _Refused(429, f"{self._most} reviews are being answered; try again")
        metrics.in_flight += 1
        start = time.perf_counter()
        try:
            try:
                review = orjson.loads(body)
            except orjson.JSONDecodeError:
                raise _Refused(400, "the body is not JSON") from None
            found, answer = await reviews.answer(self._caller, endpoint, review)
            encoded = orjson.dumps(found)
        except BadReview as error:
            raise _Refused(400, str(error)) from None
        except _Refused:
            raise
        except Exception:  # ours, not a policy's: the caller's failure policy decides
            log.exception("a review at %s could not be answered", path)
            raise _Refused(500, "the review could not be answered") from None
        finally:
            metrics.in_flight -= 1
        seconds, outcome = time.perf_counter() - start, answer.outcome
        metrics.reviews.add((path, outcome))
        metrics.seconds.observe((path,), seconds)
        self._decided(
            {"time": time.time(), "path": path, "outcome": outcome, "seconds": int(seconds * 1e6) / 1e6, **answer.log}
        )
        return encoded

    async def _rest(self, first: bytes, message: Mapping[str, Any], receive: Receive) -> bytes:
        """The body that `first` begins."""
        if self._reading >= self._most:
            raise _Refused(429, f"{self._most} bodies are being read; try again")
        self._reading += 1
        try:
            async with asyncio.timeout(self._patience):
                return await self._joined([first], message, receive)
        except TimeoutError:
            raise _Refused(408, f"the body was not there within {self._patience:g} s") from None
        finally:
            self._reading -= 1

    async def _joined(self, parts: list[bytes], message: Mapping[str, Any], receive: Receive) -> bytes:
        size = len(parts[0])
        while message.get("more_body") and size <= self._max_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Refused(400, "the body ended early")
            part = message.get("body", b"")
            size += len(part)
            parts.append(part)
        if size > self._max_body:
            raise _Refused(413, f"a body of more than {self._max_body} bytes")
        return b"".join(parts)

    def _get(self, path: str, method: str) -> tuple[int, str]:
        if path in ("/livez", "/healthz", "/readyz", "/metrics"):
            if method not in ("GET", "HEAD"):
                raise _Refused(405, "this is read with GET")
            if path == "/metrics":
                return 200, self.metrics.text() if self._shared is None else self._shared.text(self.metrics.all)
            if path == "/readyz" and self.draining:
                return 503, "shutting down"
            return 200, "ok"
        if path in self.endpoints():
            raise _Refused(405, "reviews are sent with POST")
        raise _Refused(404, "there is nothing at this path")


def _has_certificate(scope: Scope) -> bool:
    """Whether TLS has verified a certificate of the caller."""
    tls = (scope.get("extensions") or {}).get("tls") or {}
    return bool(tls.get("client_cert_chain"))


def _status(refused: _Refused) -> bytes:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": refused.message,
        "reason": _REASONS.get(refused.code, "InternalError"),
        "code": refused.code,
    }
    return orjson.dumps(status)


async def _send(send: Send, code: int, body: bytes, content_type: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if code == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""One request's way, from its bytes to the answer's.

bytes -> RequestInfo -> authenticate -> audit begins -> impersonate -> bounds, turns -> authorize -> registry -> audit
ends -> bytes.
Each stage leaves what it decided, why and how long it took on the request's trace.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, MutableMapping, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Any, Protocol

from kubegate.api import requestinfo, selectors, status
from kubegate.api.clock import Clock, answer_by
from kubegate.api.requestinfo import RequestInfo
from kubegate.api.status import StatusError
from kubegate.api.trace import Stage
from kubegate.authentication import AuthenticationError, Authenticator, Headers, Request
from kubegate.authentication.impersonation import Impersonator, Refuse
from kubegate.authorization import Attributes, Authorizer, Decision, Verdict
from kubegate.authorization.texts import forbidden_error, internal_error
from kubegate.server import responses
from kubegate.server.accept import wants_pretty
from kubegate.server.audit import Auditor
from kubegate.server.call import SHORT_PATH, Call, parse_query
from kubegate.server.certificates import client_chain
from kubegate.server.deadlines import Deadlines
from kubegate.server.fairness import Turns
from kubegate.server.limits import READS, Limits, check_timeout
from kubegate.server.metrics import Metrics, request_labels
from kubegate.server.responses import Header, Response
from kubegate.storage import OutcomeUnknown, StoreUnavailable
from kubegate.transport import peers
from kubegate.transport.metrics import Labels, Sample

_SIGN_INS = "too many sign-ins, please try again later."
log = logging.getLogger("kubegate.server")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MAX_PATH = 64 * 1024
_MANY_FIELDS = 16
_CLIENTS_SECONDS = 10.0
_CACHE_CONTROL = (b"cache-control", b"no-cache, private")


class Handler(Protocol):
    """What answers requests that were let through: `rest.Rest` for resources, `paths.Paths` for the rest."""

    async def handle(self, call: Call) -> Response: ...


class App:
    """The ASGI application. `draining` is set when the process is told to end: watches end, nothing new is taken."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        impersonator: Callable[[Refuse[Attributes]], Impersonator[Attributes]],
        authorizer: Authorizer,
        resources: Handler,
        paths: Handler,
        auditor: Auditor,
        limits: Limits,
        metrics: Metrics,
        max_body: int,
        request_timeout: float = 60.0,
        catch_up: Callable[[], Awaitable[None] | None] | None = None,
        traces: Callable[[Call, Response, float], None] | None = None,
    ) -> None:
        """`catch_up` gives what to wait for where this process has not yet what another one acknowledged.

        `traces` is told of each request that is done, with its seconds.
        """
        self._authenticator, self._authorizer = authenticator, authorizer
        self._impersonator = impersonator(self._refuse)
        self._resources, self._paths = resources, paths
        self._auditor, self._limits, self._metrics = auditor, limits, metrics
        self._max_body = max_body
        self._catch_up, self._traces = catch_up, traces
        self._turns = Turns()
        self.deadlines = Deadlines(request_timeout)
        self._ids = _Ids()
        self._streams: dict[asyncio.Future[Any], Call] = {}
        metrics.show_running(self._running, self._limits.held)
        self.draining = asyncio.Event()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        return (self.serve if scope["type"] == "http" else self.serve_websocket)(scope, receive, send)

    # ------------------------------------------------------------------ the way, top to bottom
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = perf_counter()
        call, response = await self._answered(scope, receive)
        try:
            await self._send(call, response, receive, send)
        finally:
            if call is not None:
                self._finish(call, response, perf_counter() - start)

    async def _answered(self, scope: Scope, receive: Receive) -> tuple[Call | None, Response]:
        call: Call | None = None
        try:
            call = self._call(scope, receive)
            if self._catch_up is not None and call.info.resource_request and (late := self._catch_up()) is not None:
                await late
            response = await self._answer(call, scope)
        except requestinfo.Undetermined as error:
            response = _undetermined(scope, error)
        except Exception as error:
            response = _failure(error, call)
        return call, response

    def _call(self, scope: Scope, receive: Receive) -> Call:
        raw_path = scope["raw_path"]
        if len(raw_path) > _MAX_PATH:
            raise StatusError(414, "", f"the request's path is longer than {_MAX_PATH} bytes")
        query_string = scope["query_string"].decode("latin-1")
        query = parse_query(query_string) if query_string else {}
        client = scope.get("client")
        method, path = scope["method"], scope["path"]
        fields = scope["headers"]
        if len(fields) > _MANY_FIELDS:
            fields = scope["headers"] = _each_once(fields)
        headers = Headers(fields)
        return Call(
            id=(headers.has(b"audit-id") and headers.first("audit-id")) or self._ids.next(),
            method=method,
            path=path,
            query_string=query_string,
            query=query,
            headers=headers,
            info=_info(method, path)
            if not query and len(path) < SHORT_PATH
            else requestinfo.parse(method, path, query),
            receive=receive,
            max_body=self._max_body,
            remote_address=client[0] if client else "",
            remote_port=client[1] if client else 0,
            impersonates=headers.any_begins(b"impersonate-"),
            websocket=tuple(scope.get("subprotocols") or ()) if scope["type"] == "websocket" else None,
        )

    async def _answer(self, call: Call, scope: Scope) -> Response:
        allowed = 0.0
        if call.query and (timeout := call.parameter("timeout")) and not call.info.long_running:
            try:
                allowed = min(check_timeout(timeout), self.deadlines.seconds)
            except StatusError as error:
                return self._refused_first(call, scope, error)
        stages = call.trace.stages
        started = perf_counter()

        request = Request(call.method, call.path, call.headers, client_chain(scope), call.remote_address)
        try_again, result = False, "failure"
        try:
            who = await self._authenticator.authenticate(request)
        except AuthenticationError as error:
            log.info("request %s could not be authenticated: %s", call.id, error)
            stages.append(Stage("authentication", "refused", "", str(error), None, perf_counter() - started))
            who, try_again, result = None, error.try_again, "error"
        for text in request.warnings:
            call.trace.warn(text)
        if who is None:
            self._metrics.attempts.add((result,))
            if result == "failure":
                stages.append(Stage("authentication", "refused", "", "no credential, and anonymous is off"))
            refusal = status.too_many_requests(_SIGN_INS) if try_again else status.unauthorized()
            return self._refused_first(call, scope, refusal)
        self._metrics.authenticated_as(who.user.name)
        call.user = call.authenticated_user = who.user
        for text in who.warnings:
            call.trace.warn(text)
        for key, value in who.annotations.items():
            call.trace.annotate(key, value)
        now = perf_counter()
        stages.append(Stage("authentication", "authenticated", who.authenticator, who.user.name, None, now - started))

        if self._auditor.on:
            self._auditor.begin(call, scope["raw_path"])
        panicked = False
        try:
            if call.impersonates:
                await self._impersonate(call)
            bound = self._limits.admit(call)
            try:
                turn = self._turns.take(call.authenticated_user.name, now)
                if turn is not None:
                    await turn
                decided = perf_counter()
                attributes = authorization_attributes(call)
                decision = await self._authorizer.authorize(attributes)
                self._record_decision(call, decision, perf_counter() - decided)
                if decision.verdict is Verdict.ALLOW:
                    handler = self._resources if call.info.resource_request else self._paths
                    if allowed > 0:
                        response = await _within(started + allowed - perf_counter(), handler.handle(call))
                    elif bound is None or call.info.verb in READS:
                        response = await handler.handle(call)
                    else:
                        response = await self.deadlines.within(now, handler.handle(call))
                elif decision.error:
                    response = responses.text(internal_error(_uri(scope), decision.error), 500)
                else:
                    refusal = forbidden_error(attributes, decision)
                    refusal.headers["X-Content-Type-Options"] = "nosniff"
                    response = _refusal(refusal, call)  # raised, it and this frame would keep each other
            finally:
                if bound is not None:
                    bound.give_back(call.user.name)
        except Exception as error:
            response = _failure(error, call)
            panicked = not isinstance(error, StatusError | StoreUnavailable)
        except asyncio.CancelledError:
            self._auditor.over(call)
            raise
        if call.websocket is not None and response.stream is not None:
            response.status = 101
        if call.audit is not None:
            self._auditor.end(call, response, panicked=panicked)
        return response

    def _refused_first(self, call: Call, scope: Scope, refusal: StatusError) -> Response:
        """The answer to a request that goes no further, before it is known who asks."""
        response = _refusal(refusal, call)
        if self._auditor.on:
            self._auditor.refused(call, scope["raw_path"], response)
        return response

    async def _impersonate(self, call: Call) -> None:
        """Raises 400 and 403."""
        with call.trace.stage("impersonation") as stage:
            try:
                done = await self._impersonator.impersonate(call.headers, authorization_attributes(call))
            except StatusError as error:
                error.headers["X-Content-Type-Options"] = "nosniff"
                raise
            if done is not None:
                call.user = done.user
                stage.decision, stage.by, stage.reason = "impersonated", done.constraint, done.user.name

    async def _refuse(self, attributes: Attributes, never: str) -> StatusError | None:
        """The 403 of one who may not do this to impersonate; None where he may, which no role helps to `never`."""
        if never:
            return forbidden_error(attributes, Decision(Verdict.NO_OPINION, never))
        decision = await self._authorizer.authorize(attributes)
        if decision.allowed:
            return None
        told = ": ".join(text for text in (decision.error, decision.reason) if text)
        return forbidden_error(attributes, Decision(decision.verdict, told))

    def _record_decision(self, call: Call, decision: Decision, seconds: float) -> None:
        stage = Stage("authorization", decision.verdict, decision.authorizer, decision.reason, None, seconds)
        call.trace.stages.append(stage)
        allowed = "allowed" if decision.verdict is Verdict.ALLOW else "denied"
        self._metrics.decisions.add((decision.authorizer, decision.authorizer, allowed))

    # ------------------------------------------------------------------ sending
    async def _send(self, call: Call | None, response: Response, receive: Receive, send: Send) -> None:
        headers = _head(call, response)
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        if response.stream is None:
            body = response.body
            headers.append((b"content-length", b"%d" % len(body)))
            await send(start)
            if call is not None and call.method == "HEAD":
                body = b""
            await send({"type": "http.response.body", "body": body})
            return
        assert call is not None
        await send(start)
        # The status goes out with the first body: a watcher must not wait for it until something happens.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await self._send_stream(call, response.stream, receive, send)

    async def _send_stream(self, call: Call, stream: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
        async def pump() -> None:
            async with contextlib.aclosing(stream):  # type: ignore[type-var]
                async for chunk in stream:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    del chunk  # not kept until the next one comes
            await send({"type": "http.response.body", "body": b""})

        if not await self._until_over(call, pump(), receive):
            with contextlib.suppress(OSError):  # whether or not somebody is there to hear it, the answer ends
                await send({"type": "http.response.body", "body": b""})

    async def _until_over(self, call: Call, work: Awaitable[None], receive: Receive | None = None) -> bool:
        """Whether `work` came to its end; else the client went, as `receive` tells, or the server drains.

        Raises what `work` raises.
        """
        running = asyncio.ensure_future(work)
        tasks: set[asyncio.Future[None]] = {running}
        if receive is not None:
            tasks.add(asyncio.ensure_future(_disconnected(receive)))
        self._streams[running] = call
        try:
            # Unlike awaiting a task, this tells its end from that of the very task that waits here.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del self._streams[running]
        if running.cancelled():
            return False
        error = running.exception()
        if error is not None and not isinstance(error, OSError):
            log.error("request %s failed", call.id, exc_info=error)
            self._auditor.panicked(call)
            raise error
        return error is None

    def drain(self) -> None:
        """End the watches cleanly, so that clients list again elsewhere."""
        self.draining.set()
        for task in self._streams:
            task.cancel()

    async def watch_clients(self, port: int, clock: Clock) -> None:
        """End, every few seconds, what is still sent to clients who have gone. `port` is this server's."""
        while True:
            await clock.sleep(_CLIENTS_SECONDS)
            await self.let_go(port)

    async def let_go(self, port: int) -> None:
        """End the streams of those who are no longer connected."""
        streams = {
            task: (call.remote_address, call.remote_port) for task, call in self._streams.items() if call.remote_port
        }
        if not streams:
            return
        lost = await asyncio.to_thread(peers.gone, port, set(streams.values()))
        for task, peer in streams.items():
            if peer in lost:
                task.cancel()

    def _running(self) -> Iterable[Sample]:
        """Requests that last, by what they ask for."""
        return Counter(map(_labels, self._streams.values())).items()

    def _finish(self, call: Call, response: Response, seconds: float) -> None:
        labels = _labels(call)
        self._metrics.answered(labels, response.status, seconds if response.stream is None else None)
        if call.audit is not None:
            self._auditor.over(call)
        if self._traces is not None:
            self._traces(call, response, seconds)

    # ------------------------------------------------------------------ websockets
    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticated and authorized as a GET; then refused, a watch, or what takes the websocket over."""
        await receive()
        start = perf_counter()
        call, response = await self._answered({**scope, "method": "GET"}, receive)
        try:
            if call is not None and response.session is not None:
                await self._until_over(call, response.session(receive, send))
            elif call is not None and response.stream is not None:
                await self._send_messages(call, response.stream, receive, send)
            else:
                await self._refuse_websocket(call, response, send)
        finally:
            if call is not None:
                self._finish(call, response, perf_counter() - start)

    async def _refuse_websocket(self, call: Call | None, response: Response, send: Send) -> None:
        headers = [*_head(call, response), (b"content-length", b"%d" % len(response.body))]
        await send({"type": "websocket.http.response.start", "status": response.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": response.body})

    async def _send_messages(self, call: Call, stream: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
        """A watch over a websocket: a text message for each event."""
        protocols = [p for p in call.websocket or () if not p.startswith("base64url.bearer.")]
        await send({"type": "websocket.accept", "subprotocol": protocols[0] if protocols else None})

        async def pump() -> None:
            async with contextlib.aclosing(stream):  # type: ignore[type-var]
                async for chunk in stream:
                    for line in chunk.splitlines():
                        await send({"type": "websocket.send", "text": line.decode()})
                    del chunk
            await send({"type": "websocket.close", "code": 1000})

        await self._until_over(call, pump(), receive)


@lru_cache(4096)
def _info(method: str, path: str) -> RequestInfo:
    """RequestInfo of a request without a query: clients ask for the same paths again and again."""
    return requestinfo.parse(method, path, {})


def _each_once(fields: Sequence[Header]) -> list[Header]:
    """The same header fields, of equal ones one in memory: HTTP/2 writes a field that came before in one byte, and a
    client that sends no body has the server hold the headers until its patience ends (CVE-2026-49975 and its kind)."""
    held: dict[Header, Header] = {}
    return [held.setdefault(field, field) for field in fields]


# What a request names that was refused or is no resource's is the client's invention: metrics do not repeat it.
_ODD = request_labels(RequestInfo(False, "", "other"))
_OTHER = {
    method: request_labels(RequestInfo(False, "", method))
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}


def _labels(call: Call) -> Labels:
    return call.labels or _OTHER.get(call.method, _ODD)


def authorization_attributes(call: Call) -> Attributes:
    """The question that is put to the authorizers."""
    info = call.info
    if not info.resource_request:
        return Attributes(call.user, info.verb, resource_request=False, path=call.path)
    fields = labels = None
    # Authorizers are told of no selectors on the old watch paths: not all of those hold to them in kube-apiserver.
    if call.query and info.verb in ("list", "watch", "deletecollection") and not info.verb_in_path:
        fields, labels = _requirements(call.parameter("fieldSelector"), call.parameter("labelSelector"))
    return Attributes(
        call.user,
        info.verb,
        True,
        info.group,
        info.version,
        info.resource,
        info.subresource,
        info.namespace,
        info.name,
        call.path,
        fields,
        labels,
    )


def _requirements(field_text: str, label_text: str) -> tuple[list[dict[str, Any]] | None, list[dict[str, Any]] | None]:
    """Selectors as authorizers are told of them; one that cannot be understood is refused later, not here."""
    fields = labels = None
    with contextlib.suppress(selectors.SelectorError):
        fields = selectors.parse_fields(field_text).attributes() if field_text else None
    with contextlib.suppress(selectors.SelectorError):
        labels = selectors.parse_labels(label_text).attributes() if label_text else None
    return fields, labels


def _undetermined(scope: Scope, error: requestinfo.Undetermined) -> Response:
    """Refused before anything else is asked, in plain text."""
    uri = _uri(scope)
    return responses.text(internal_error(uri, f"failed to create RequestInfo: {error}, {uri}"), 500)


def _uri(scope: Scope) -> str:
    """The request's as it was sent."""
    query = scope["query_string"]
    uri: bytes = scope["raw_path"] + (b"?" + query if query else b"")
    return uri.decode(errors="replace")


def _head(call: Call | None, response: Response) -> list[Header]:
    """The headers of an answer, but for its length."""
    headers = [(b"content-type", response.content_type)] if response.content_type else []
    headers += response.headers
    if not response.headers or not any(name == b"cache-control" for name, _ in response.headers):
        headers.append(_CACHE_CONTROL)
    if call is not None:
        headers.append((b"audit-id", call.id.encode()))
        if call.trace.warnings:
            headers += responses.warning_headers(call.trace.warnings)
    return headers


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass


async def _within(seconds: float, answer: Coroutine[Any, Any, Response]) -> Response:
    """The answer, where it is there in time; else its work is cut off."""
    if seconds <= 0:
        answer.close()
        return responses.timed_out()
    try:
        async with asyncio.timeout(seconds) as limit:
            told = answer_by.set(limit.when() or math.inf)
            try:
                return await answer
            finally:
                answer_by.reset(told)
    except TimeoutError:
        if not limit.expired():
            raise
        return responses.timed_out()


def _failure(error: Exception, call: Call | None) -> Response:
    """What is told of an error; one that is nobody's refusal is ours, and goes to the log."""
    if isinstance(error, StatusError):
        return _refusal(error, call)
    if isinstance(error, StoreUnavailable):
        log.warning("the store cannot answer: %s", error)
        return _refusal(_store_unavailable(error), call)
    log.error("request %s failed", call.id if call else "", exc_info=error)
    return responses.of_error(status.internal("the server failed; its log says why"))


def _refusal(error: StatusError, call: Call | None) -> Response:
    if call is None:
        return responses.of_error(error)
    return responses.of_error(error, call.header("accept"), pretty=wants_pretty(call))


def _store_unavailable(error: StoreUnavailable) -> StatusError:
    if isinstance(error, OutcomeUnknown):  # a client that is told when to try again would do so unasked
        return StatusError(504, "Timeout", f"the store did not answer: {error}")
    return StatusError(
        503,
        "ServiceUnavailable",
        f"the store cannot answer now: {error}",
        {"retryAfterSeconds": 1},
        headers={"Retry-After": "1"},
    )


class _Ids:
    """Audit-IDs: unique, in a UUID's form, without asking the kernel for randomness on each request."""

    def __init__(self) -> None:
        prefix = os.urandom(10).hex()
        self._prefix = f"{prefix[:8]}-{prefix[8:12]}-4{prefix[12:15]}-a{prefix[15:18]}-"
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return f"{self._prefix}{self._count:012x}"

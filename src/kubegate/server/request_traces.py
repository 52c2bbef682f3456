"""Traces of finished requests: a line of JSON for each, written by a thread of its own.

A line tells what every stage decided, why, how long it took and what it changed. What is worked out for it is worked
out in the thread, after the answer is sent. No secret is written (law 5): see `_Line`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import queue
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import orjson
from msgspec import Struct

from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.api.requestinfo import RequestInfo
from kubegate.api.trace import Stage, Trace
from kubegate.authentication import UserInfo
from kubegate.authentication.bearer import PROTOCOL_PREFIX
from kubegate.server import audit_objects
from kubegate.server.call import Call
from kubegate.server.linefile import LineFile
from kubegate.server.responses import Response
from kubegate.transport.metrics import Gauge

log = logging.getLogger("kubegate.traces")

FLAG = "--request-trace-path"

_MOST, _MOST_BYTES = 10_000, 64 * 1024 * 1024
_BURST_SECONDS = 10
_CLOSE_SECONDS = 10.0
_GATHERING_SECONDS = 0.02
_AT_ONCE = 256
_MOST_READ = 64 * 1024
# The changes of a larger object are left out: to compare it takes longer than the request did.
_LARGEST_COMPARED = 512 * 1024

# Query parameters that no API of Kubernetes has, and in which some clients put what must not be written.
_SECRET_PARAMETERS = frozenset({"access_token", "id_token", "refresh_token", "token", "client_secret", "password"})
_ENOUGH_TO_BE_SECRET = 6
_REFUSALS = frozenset({"refused", "deny", "no opinion"})
# Answers about Secrets and tokens whose texts name objects, and quote nothing of what was sent.
_QUOTES_NOTHING = frozenset({401, 404, 405, 406, 409, 410, 415, 429})
_READS = frozenset({"get", "list", "watch"})
_BEFORE_THE_BODY = frozenset({"authentication", "impersonation", "authorization"})


class _Done(Struct):
    """A finished request: what its line is made of. It does not hold the bodies, which may be large."""

    at: float
    id: str
    method: str
    path: str
    query_string: str
    info: RequestInfo
    user: UserInfo
    authenticated_user: UserInfo
    code: int
    seconds: float
    trace: Trace
    answer: bytes
    authorization: str
    websocket: tuple[str, ...] | None
    missing: int

    def size(self) -> int:
        """Bytes that it keeps from being freed, about."""
        trace = self.trace
        size = len(self.answer) + len(self.query_string)
        for texts in (trace.warnings, trace.audit_annotations.values(), trace.request_annotations.values()):
            if texts:
                size += sum(map(len, texts))
        for stage in trace.stages:
            if stage.difference is not None:
                size += _compared(stage)
        return size


class RequestTraces:
    """Called with each request that is done; never waits. At most `most` wait, or `most_bytes`: more are dropped.

    So is what is more than `qps` a second (0: no bound) after a burst of as many as in ten seconds. What is dropped is
    counted: in the metric, and in the next line that is written.
    """

    def __init__(
        self, file: LineFile, clock: Clock, *, qps: int = 0, most: int = _MOST, most_bytes: int = _MOST_BYTES
    ) -> None:
        self._file, self._clock = file, clock
        self._most, self._most_bytes = most, most_bytes
        self._qps, self._burst = qps, qps * _BURST_SECONDS
        self._left, self._filled = float(self._burst), clock.monotonic()
        self._waiting: queue.SimpleQueue[tuple[_Done, int] | None] = queue.SimpleQueue()
        # Of what came in and what was taken out each is counted by one thread alone: no lock is needed.
        self._came = self._came_bytes = self._taken = self._taken_bytes = 0
        self._dropped = self._missing = self._unwritten = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="request-traces", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._dropped + self._unwritten

    def metric(self) -> Gauge:
        text = "Requests whose trace was not written."
        return Gauge("kubegate_request_traces_dropped_total", text, (), lambda: [((), float(self.dropped))], "all")

    def __call__(self, call: Call, response: Response, seconds: float) -> None:
        """The answer was sent, or the stream or session is over, `seconds` after the request came."""
        if (self._qps and not self._may()) or self._came - self._taken >= self._most:
            self._drop()
            return
        code = response.status
        done = _Done(
            self._clock.now() - seconds,
            call.id,
            call.method,
            call.path,
            call.query_string,
            call.info,
            call.user,
            call.authenticated_user,
            code,
            seconds,
            call.trace,
            response.body if code >= 400 or (code == 201 and len(response.body) <= _MOST_READ) else b"",
            call.header("authorization"),
            call.websocket,
            self._missing,
        )
        size = done.size()
        if self._came_bytes - self._taken_bytes + size > self._most_bytes:
            self._drop()
            return
        self._missing = 0
        self._came += 1
        self._came_bytes += size
        self._waiting.put((done, size))

    def _may(self) -> bool:
        if self._left < 1:
            now = self._clock.monotonic()
            self._left = min(self._burst, self._left + (now - self._filled) * self._qps)
            self._filled = now
            if self._left < 1:
                return False
        self._left -= 1
        return True

    def _drop(self) -> None:
        if not self._dropped:
            log.warning("requests are more than their traces can be written of: some are left out")
        self._dropped += 1
        self._missing += 1

    async def close(self) -> None:
        """Write what waits, then end; what cannot be written in time is lost."""
        self._closing.set()
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._file.close()

    def _write(self) -> None:
        while True:
            batch = [self._waiting.get()]
            # Whoever is asked rarely writes at once; under load, fewer and larger pieces cost the requests less.
            self._closing.wait(_GATHERING_SECONDS)
            with contextlib.suppress(queue.Empty):
                while batch[-1] is not None and len(batch) < _AT_ONCE:
                    batch.append(self._waiting.get_nowait())
            self._write_batch([entry for entry in batch if entry is not None])
            if batch[-1] is None:
                return

    def _write_batch(self, batch: list[tuple[_Done, int]]) -> None:
        lines: list[bytes] = []
        for done, size in batch:
            try:
                lines.append(_Line(done).encoded())
            except Exception:
                self._unwritten += 1
                log.exception("the trace of request %s cannot be written", done.id)
            self._taken += 1
            self._taken_bytes += size
        try:
            self._file.append(b"".join(lines))
        except OSError as error:
            self._unwritten += len(lines)
            log.error("%s: %s; %d traces were dropped so far", self._file.path, error.strerror, self.dropped)


class _Line:
    """What is told of one request.

    The credential that it came with is taken out, wherever it is repeated. Of a request about Secrets or tokens no
    change is told, and no text of those who saw the object, for they may quote it.
    """

    def __init__(self, done: _Done) -> None:
        self._done = done
        self._guarded = audit_objects.guarded(done.info)

    def encoded(self) -> bytes:
        told = self._told()
        line = orjson.dumps(told, default=str, option=orjson.OPT_APPEND_NEWLINE)
        for credential in _credentials(self._done.authorization, self._done.websocket):
            if orjson.dumps(credential)[1:-1] in line:
                told = _without(credential, orjson.loads(line))
                line = orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
        return line

    def _told(self) -> Object:
        done, trace, info = self._done, self._done.trace, self._done.info
        told: Object = {
            "id": done.id,
            "time": _time(done.at),
            "method": done.method,
            "uri": uri(done.path, done.query_string),
            "verb": info.verb,
        }
        if info.resource_request:
            reference = _reference(info)
            if not info.name and done.code == 201 and (name := self._name()):
                reference = {**reference, "name": name}
            told["objectRef"] = reference
        if done.user.name:
            told["user"] = _who(done.user)
        if done.user is not done.authenticated_user:
            told["impersonator"] = _who(done.authenticated_user)
        told["code"], told["seconds"] = done.code, round(done.seconds, 6)
        # A webhook's or policy's stage ends before that of the plugin that asked it, which refuses for it.
        refused = next((stage.name for stage in trace.stages if stage.decision in _REFUSALS), "")
        if refused and done.code >= 400:
            told["refusedBy"] = refused
        told |= self._failure(refused)
        if done.missing:
            told["missing"] = done.missing
        told["stages"] = [self._stage(stage) for stage in trace.stages]
        warnings = [] if self._guarded else trace.warnings
        if warnings:
            told["warnings"] = warnings
        annotations = {
            key: text
            for key, text in trace.audit_annotations.items()
            if not self._guarded or key.startswith(("authentication.k8s.io/", "authorization.k8s.io/"))
        }
        if annotations:
            told["annotations"] = annotations
        if self._guarded and info.verb not in _READS:
            told["withheld"] = True
        return told

    def _name(self) -> str:
        """That of the object that was created, which the path does not tell."""
        metadata = self._answer().get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return name if isinstance(name, str) else ""

    def _answer(self) -> Object:
        """What was answered, where that was kept and is JSON."""
        with contextlib.suppress(orjson.JSONDecodeError):
            answer = orjson.loads(self._done.answer)
            if isinstance(answer, dict):
                return answer
        return {}

    def _failure(self, refused: str) -> Object:
        """Why the request failed, in the Status' words."""
        done, status = self._done, self._answer()
        if status.get("kind") != "Status":
            return {}
        told = {key: status[key] for key in ("reason", "message") if status.get(key)}
        if self._guarded and refused not in _BEFORE_THE_BODY and done.code not in _QUOTES_NOTHING:
            told.pop("message", None)
        return told

    def _stage(self, stage: Stage) -> Object:
        told: Object = {"name": stage.name}
        if stage.decision:
            told["decision"] = str(stage.decision)
        if stage.by:
            told["by"] = stage.by
        if stage.reason and (not self._guarded or stage.name in _BEFORE_THE_BODY):
            told["reason"] = stage.reason
        told["seconds"] = round(stage.seconds, 6)
        if not self._guarded:
            if stage.patch is None and stage.difference is not None and _compared(stage) > _LARGEST_COMPARED:
                told["changesLeftOut"] = f"the object is larger than {_LARGEST_COMPARED} bytes"
            elif changes := stage.changes():
                told["changes"] = changes
        return told


def uri(path: str, query_string: str) -> str:
    """What was asked for, without the values of parameters that may be secret."""
    if not query_string:
        return path
    parts = []
    for part in query_string.split("&"):
        name, equals, _ = part.partition("=")
        parts.append(f"{name}={audit_objects.REDACTED}" if equals and name.lower() in _SECRET_PARAMETERS else part)
    return f"{path}?{'&'.join(parts)}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _compared(stage: Stage) -> int:
    """Bytes that are compared to tell what the stage changed."""
    if isinstance(stage.difference, partial):
        return sum(len(argument) for argument in stage.difference.args if isinstance(argument, bytes))
    return 0


@lru_cache(1024)
def _reference(info: RequestInfo) -> Object:
    """As audit events have it."""
    reference = {
        "apiGroup": info.group,
        "apiVersion": info.version,
        "resource": info.resource,
        "subresource": info.subresource,
        "namespace": info.namespace,
        "name": info.name,
    }
    return {key: value for key, value in reference.items() if value}


def _who(user: UserInfo) -> Object:
    who: Object = {"username": user.name}
    if user.groups:
        who["groups"] = list(user.groups)
    return who


def _credentials(authorization: str, protocols: tuple[str, ...] | None) -> Iterable[str]:
    """What the client showed to be known, in the forms in which a text may repeat it."""
    scheme, _, value = authorization.partition(" ")
    found = [value.strip(), value.strip().partition(" ")[0]]
    if scheme.lower() == "basic":
        found.append(_decoded(value).partition(":")[2])
    for protocol in protocols or ():
        if protocol.startswith(PROTOCOL_PREFIX):
            encoded = protocol.removeprefix(PROTOCOL_PREFIX)
            found += [encoded, _decoded(encoded)]
    return (each for each in found if len(each) >= _ENOUGH_TO_BE_SECRET)


def _without(credential: str, told: Any) -> Any:
    if isinstance(told, str):
        return told.replace(credential, audit_objects.REDACTED)
    if isinstance(told, list):
        return [_without(credential, item) for item in told]
    if isinstance(told, dict):
        return {_without(credential, key): _without(credential, value) for key, value in told.items()}
    return told


def _decoded(text: str) -> str:
    with contextlib.suppress(binascii.Error, ValueError):
        padded = text.strip() + "=" * (-len(text.strip()) % 4)
        return base64.urlsafe_b64decode(padded).decode("utf-8", "replace")
    return ""

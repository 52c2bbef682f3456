"""The audit log: audit.k8s.io/v1 events by a policy file, to a file that rotates and to a webhook in batches.

Events are made of the call and its trace when it begins and when it ends. What the policy's level asks for is kept,
but for secrets: the data of Secrets and the tokens of TokenReviews and TokenRequests are never written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from kubegate.api import Object
from kubegate.api.clock import Clock, rfc3339_micro
from kubegate.authentication import UserInfo
from kubegate.server.call import Call
from kubegate.server.options import UsageError
from kubegate.server.responses import Response

log = logging.getLogger("kubegate.audit")

_LEVELS = ("None", "Metadata", "Request", "RequestResponse")
_STAGES = frozenset({"RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"})
_VERBATIM_LIMIT = 256 * 1024
_LARGE_LINE = 16 * 1024
_WEBHOOK_SECONDS = 30.0
_REDACTED = "<redacted>"


# --------------------------------------------------------------------- the policy
@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of an audit Policy; an empty tuple of a criterion matches everything."""

    level: str
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    namespaces: frozenset[str]
    resources: tuple[tuple[str, tuple[str, ...], frozenset[str]], ...]
    urls: tuple[str, ...]
    omit_stages: frozenset[str]
    omit_managed_fields: bool

    def matches(self, call: Call) -> bool:
        user, info = call.authenticated_user, call.info
        if self.users and user.name not in self.users:
            return False
        if self.groups and self.groups.isdisjoint(user.groups):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if not self.namespaces and not self.resources and not self.urls:
            return True
        if not info.resource_request:
            return any(_url_matches(pattern, call.path) for pattern in self.urls)
        if self.urls and not self.resources and not self.namespaces:
            return False
        if self.namespaces and info.namespace not in self.namespaces:
            return False
        return not self.resources or any(self._resource_matches(call, *entry) for entry in self.resources)

    def _resource_matches(self, call: Call, group: str, resources: tuple[str, ...], names: frozenset[str]) -> bool:
        info = call.info
        if group not in (info.group, "*"):
            return False
        if names and info.name not in names:
            return False
        combined = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
        wanted = {combined, "*", f"{info.resource}/*", f"*/{info.subresource}" if info.subresource else "*"}
        if not info.subresource:
            wanted.discard(f"{info.resource}/*")
        return not resources or not wanted.isdisjoint(resources)


def _url_matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


@dataclass(frozen=True, slots=True)
class Policy:
    """The first rule that matches decides; without one nothing is logged."""

    rules: tuple[Rule, ...]

    def rule_for(self, call: Call) -> Rule | None:
        for rule in self.rules:
            if rule.matches(call):
                return rule if rule.level != "None" else None
        return None


def read_policy(path: Path) -> Policy:
    """An audit.k8s.io/v1 Policy. Raises UsageError that names the file and the place in it."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"--audit-policy-file: {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--audit-policy-file: {path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict) or document.get("kind") != "Policy":
        raise UsageError(f"--audit-policy-file: {path}: expected kind: Policy of apiVersion: audit.k8s.io/v1")
    if document.get("apiVersion") != "audit.k8s.io/v1":
        found = document.get("apiVersion")
        raise UsageError(f"--audit-policy-file: {path}: apiVersion: {found!r}; expected audit.k8s.io/v1")
    rules = document.get("rules")
    if not isinstance(rules, list) or not rules:
        raise UsageError(f"--audit-policy-file: {path}: rules: at least one rule is expected")
    omitted = _stages(document.get("omitStages") or [], f"{path}: omitStages")
    omit_fields = bool(document.get("omitManagedFields"))
    return Policy(tuple(_rule(r, f"{path}: rules[{i}]", omitted, omit_fields) for i, r in enumerate(rules)))


def _rule(rule: Any, place: str, omitted: frozenset[str], omit_fields: bool) -> Rule:
    if not isinstance(rule, dict):
        raise UsageError(f"--audit-policy-file: {place}: expected a mapping")
    level = rule.get("level")
    if level not in _LEVELS:
        raise UsageError(f"--audit-policy-file: {place}.level: {level!r}; expected one of {', '.join(_LEVELS)}")
    resources = tuple(
        (r.get("group", ""), tuple(r.get("resources") or ()), frozenset(r.get("resourceNames") or ()))
        for r in rule.get("resources") or []
    )
    return Rule(
        level=level,
        users=frozenset(rule.get("users") or ()),
        groups=frozenset(rule.get("userGroups") or ()),
        verbs=frozenset(rule.get("verbs") or ()),
        namespaces=frozenset(rule.get("namespaces") or ()),
        resources=resources,
        urls=tuple(rule.get("nonResourceURLs") or ()),
        omit_stages=omitted | _stages(rule.get("omitStages") or [], f"{place}.omitStages"),
        omit_managed_fields=bool(rule.get("omitManagedFields", omit_fields)),
    )


def _stages(names: Sequence[str], place: str) -> frozenset[str]:
    for name in names:
        if name not in _STAGES:
            raise UsageError(f"--audit-policy-file: {place}: {name!r}; expected of {', '.join(sorted(_STAGES))}")
    return frozenset(names)


# --------------------------------------------------------------------- events
@dataclass(slots=True)
class Pending:
    """An event between its beginning and its end."""

    rule: Rule
    event: dict[str, Any]


Sink = Callable[[bytes], None]
"""Takes one event as a line of JSON; must not block."""


class Auditor:
    """`policy` None: nothing is logged, and nothing is spent on it."""

    def __init__(self, policy: Policy | None, sinks: Sequence[Sink], clock: Clock) -> None:
        self._policy, self._sinks, self._clock = policy, sinks, clock

    def begin(self, call: Call) -> Pending | None:
        if self._policy is None:
            return None
        rule = self._policy.rule_for(call)
        if rule is None:
            return None
        now = rfc3339_micro(self._clock.now())
        pending = Pending(rule, _event(call, rule.level, now))
        self._emit(pending, "RequestReceived", now)
        return pending

    def refused(self, call: Call) -> None:
        """A request that could not be authenticated is logged too, by what is known of it."""
        pending = self.begin(call)
        if pending is not None:
            pending.event["responseStatus"] = {
                "metadata": {},
                "status": "Failure",
                "message": "Authentication failed, attempted: " + _attempted(call),
                "code": 401,
            }
            self._emit(pending, "ResponseStarted", rfc3339_micro(self._clock.now()))

    def end(self, pending: Pending, call: Call, response: Response) -> None:
        event, level = pending.event, pending.rule.level
        event["responseStatus"] = {"metadata": {}, "code": response.status}
        failure = _failure(response)
        if failure is not None:
            event["responseStatus"].update(failure)
        if level in ("Request", "RequestResponse") and call.body:
            event["requestObject"] = _object(call.body, pending.rule)
        if level == "RequestResponse" and response.body and response.stream is None:
            event["responseObject"] = _object(response.body, pending.rule)
        if call.user is not call.authenticated_user:
            event["impersonatedUser"] = _user(call.user)
        event["annotations"] = {**_decision(call), **call.trace.audit_annotations}
        stage = "ResponseStarted" if response.stream is not None else "ResponseComplete"
        self._emit(pending, stage, rfc3339_micro(self._clock.now()))

    def _emit(self, pending: Pending, stage: str, now: str) -> None:
        if stage in pending.rule.omit_stages:
            return
        line = orjson.dumps({**pending.event, "stage": stage, "stageTimestamp": now})
        for sink in self._sinks:
            sink(line)


def _event(call: Call, level: str, now: str) -> dict[str, Any]:
    info = call.info
    uri = f"{call.path}?{call.query_string}" if call.query_string else call.path
    event: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": level,
        "auditID": call.id,
        "stage": "",
        "requestURI": uri,
        "verb": info.verb,
        "user": _user(call.authenticated_user),
        "sourceIPs": [call.remote_address] if call.remote_address else [],
        "userAgent": call.header("user-agent"),
    }
    if info.resource_request:
        reference = {
            "resource": info.resource,
            "namespace": info.namespace,
            "name": info.name,
            "apiGroup": info.group,
            "apiVersion": info.version,
            "subresource": info.subresource,
        }
        event["objectRef"] = {key: value for key, value in reference.items() if value}
    event["requestReceivedTimestamp"] = now
    event["stageTimestamp"] = now
    return event


def _user(user: UserInfo) -> dict[str, Any]:
    shown: dict[str, Any] = {"username": user.name}
    if user.uid:
        shown["uid"] = user.uid
    if user.groups:
        shown["groups"] = list(user.groups)
    if user.extra:
        shown["extra"] = {key: list(values) for key, values in user.extra.items()}
    return shown


def _decision(call: Call) -> dict[str, str]:
    """What the authorizers said, from the trace."""
    for stage in call.trace.stages:
        if stage.name == "authorization":
            allowed = "allow" if stage.decision == "allow" else "forbid"
            return {"authorization.k8s.io/decision": allowed, "authorization.k8s.io/reason": stage.reason}
    return {}


def _attempted(call: Call) -> str:
    scheme = call.header("authorization").partition(" ")[0].lower()
    return scheme if scheme in ("bearer", "basic") else "anonymous"


def _failure(response: Response) -> dict[str, Any] | None:
    if response.status < 400 or response.stream is not None:
        return None
    with contextlib.suppress(orjson.JSONDecodeError):
        body = orjson.loads(response.body)
        return {key: body[key] for key in ("status", "message", "reason") if key in body}
    return None


def _object(body: bytes, rule: Rule) -> Any:
    if len(body) > _VERBATIM_LIMIT:
        return {"kind": "Omitted", "bytes": len(body)}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"kind": "Unknown", "bytes": len(body)}
    return _redacted(value, rule.omit_managed_fields) if isinstance(value, dict) else value


def _redacted(obj: Object, omit_managed_fields: bool) -> Object:
    """The object without what must not be written anywhere (law 5)."""
    shown = dict(obj)
    if isinstance(shown.get("items"), list):
        kind = str(shown.get("kind", "")).removesuffix("List")
        shown["items"] = [_redacted({"kind": kind, **item}, omit_managed_fields) for item in shown["items"]]
    for name in ("data", "stringData"):
        if shown.get("kind") in ("Secret", None) and isinstance(shown.get(name), dict):
            shown[name] = dict.fromkeys(shown[name], _REDACTED)
    for name in ("spec", "status"):
        part = shown.get(name)
        if isinstance(part, dict) and "token" in part:
            shown[name] = {**part, "token": _REDACTED}
    metadata = shown.get("metadata")
    if omit_managed_fields and isinstance(metadata, dict) and "managedFields" in metadata:
        shown["metadata"] = {key: value for key, value in metadata.items() if key != "managedFields"}
    return shown


# --------------------------------------------------------------------- where events go
class LogFile:
    """Lines into a file (`-`: standard output), written by a thread; rotated by size, kept by number and age.

    At most `limit` lines wait; a further one is dropped and counted, for a full disk must not stop the server.
    """

    def __init__(
        self, path: str, *, max_megabytes: int = 0, max_backups: int = 0, max_days: int = 0, limit: int = 100_000
    ) -> None:
        self._path, self._max_bytes = path, max_megabytes * 1024 * 1024
        self._max_backups, self._max_days = max_backups, max_days
        self._lines: queue.Queue[bytes | None] = queue.Queue(limit)
        self.dropped = 0
        if path != "-":
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            except OSError as error:
                raise UsageError(f"--audit-log-path: {path}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._write, name="audit-log", daemon=True)
        self._thread.start()

    def __call__(self, line: bytes) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, then end."""
        self._lines.put(None)
        self._thread.join()

    def _write(self) -> None:
        ended = False
        while not ended:
            batch = [self._lines.get()]
            with contextlib.suppress(queue.Empty):
                while batch[-1] is not None and len(batch) < 1000 and len(batch[-1]) < _LARGE_LINE:
                    batch.append(self._lines.get_nowait())
            ended = batch[-1] is None
            data = b"".join(line + b"\n" for line in batch if line is not None)
            try:
                self._append(data)
            except OSError as error:
                self.dropped += len(batch)
                log.error("audit log %s: %s; %d events were dropped so far", self._path, error.strerror, self.dropped)

    def _append(self, data: bytes) -> None:
        if self._path == "-":
            os.write(1, data)
            return
        if self._max_bytes and os.path.getsize(self._path) + len(data) > self._max_bytes:
            self._rotate()
        with open(self._path, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(data)

    def _rotate(self) -> None:
        path = Path(self._path)
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
        target, number = path.with_name(f"{path.stem}-{stamp}{path.suffix}"), 0
        while target.exists():
            number += 1
            target = path.with_name(f"{path.stem}-{stamp}.{number}{path.suffix}")
        path.rename(target)
        backups = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}"), key=lambda p: p.stat().st_mtime)
        oldest = time.time() - self._max_days * 86400
        for position, backup in enumerate(reversed(backups)):
            too_many = self._max_backups and position >= self._max_backups
            if too_many or (self._max_days and backup.stat().st_mtime < oldest):
                backup.unlink(missing_ok=True)


def sender(config_file: str) -> Callable[[bytes], Awaitable[None]]:
    """Posts to the webhook that a kubeconfig file names. Raises UsageError for a file that cannot be used."""
    from kubegate.pki.kubeconfig import BadKubeconfig
    from kubegate.remote.client import Client, Endpoint, RemoteError

    try:
        client = Client(Endpoint.from_kubeconfig(Path(config_file)))
    except BadKubeconfig as error:
        raise UsageError(f"--audit-webhook-config-file: {error}") from error

    async def send(body: bytes) -> None:
        answer = await client.post_json(body, within=_WEBHOOK_SECONDS)
        if answer.status >= 300:
            raise RemoteError(f"the audit webhook answered {answer.status}")

    return send


class Webhook:
    """Batches of events (an audit.k8s.io/v1 EventList) to a webhook. `send` posts one batch and may raise."""

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], *, max_size: int, max_wait: float, buffer: int
    ) -> None:
        self._send, self._max_size, self._max_wait = send, max_size, max_wait
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue(buffer)
        self.dropped = 0
        self._ending = False

    def __call__(self, line: bytes) -> None:
        try:
            self._events.put_nowait(line)
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Send until `close`; the server's task group owns this."""
        while not (self._ending and self._events.empty()):
            batch = await self._batch()
            if batch:
                try:
                    await self._send(
                        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%s]}'
                        % b",".join(batch)
                    )
                except Exception as error:
                    self.dropped += len(batch)
                    log.error("audit webhook: %s; %d events were dropped so far", error, self.dropped)

    async def _batch(self) -> list[bytes]:
        """What has come: a full batch, or what there is after the longest wait or when it all ends."""
        batch: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._max_wait):
                while len(batch) < self._max_size:
                    line = await self._events.get()
                    if line is None:
                        break
                    batch.append(line)
        return batch

    def close(self) -> None:
        """Send what waits, then end `run`."""
        self._ending = True
        with contextlib.suppress(asyncio.QueueFull):
            self._events.put_nowait(None)

"""Audit events: audit.k8s.io/v1, made of the call and its trace when it begins and when it ends.

What the policy's level asks for is kept, but for secrets: the data of Secrets and the tokens of TokenReviews and
TokenRequests are never written. The policy is in `audit_policy`, where events go in `audit_sinks`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct

from kubegate.api import Object
from kubegate.api.clock import Clock, rfc3339_micro
from kubegate.authentication import user_info
from kubegate.server.call import Call
from kubegate.server.responses import Response

if TYPE_CHECKING:
    from kubegate.server.audit_policy import Policy, Rule

_VERBATIM_LIMIT = 256 * 1024
_REDACTED = "<redacted>"


class Pending(Struct):
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
            event["impersonatedUser"] = user_info(call.user)
        event["annotations"] = {**_decision(call), **call.trace.audit_annotations}
        if level in ("Request", "RequestResponse"):
            event["annotations"] |= call.trace.request_annotations
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
        "user": user_info(call.authenticated_user),
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

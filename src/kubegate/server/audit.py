"""Audit events: audit.k8s.io/v1, made of the call and its trace when it begins, when it answers and when it is over.

The policy is in `audit_policy`, what of objects may be written in `audit_objects`, where events go in `audit_sinks`.
Follows k8s.io/apiserver/pkg/endpoints/filters/audit.go and pkg/audit/request.go.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from msgspec import Struct

from kubegate.api import Object, negotiate
from kubegate.api.clock import Clock, rfc3339_micro
from kubegate.authentication import Headers, user_info
from kubegate.server import audit_objects
from kubegate.server.call import Call
from kubegate.server.metrics import Metrics
from kubegate.server.responses import Response

if TYPE_CHECKING:
    from kubegate.server.audit_policy import Policy, Rule

_LONGEST_AGENT = 1024


class Sink(Protocol):
    """Where events go. A call takes one as a line of JSON, and must not block."""

    def __call__(self, line: bytes, /) -> None: ...

    async def close(self) -> None:
        """Write or send what waits, in a bounded time."""


class Auditor:
    """`policy` None: nothing is logged, and nothing is spent on it (`on` is False)."""

    def __init__(self, policy: Policy | None, sinks: Sequence[Sink], clock: Clock, metrics: Metrics) -> None:
        self._policy, self._sinks, self._clock, self._metrics = policy, sinks, clock, metrics
        self.on = policy is not None

    def begin(self, call: Call, raw_path: bytes) -> None:
        """`raw_path`: as it was sent."""
        pending = call.audit = self._pending(call, raw_path)
        if pending is not None:
            self.emit(pending, "RequestReceived", pending.event["requestReceivedTimestamp"])

    def refused(self, call: Call, raw_path: bytes, response: Response) -> None:
        """A request that could not be authenticated is logged too, once, by what is known of it."""
        pending = self._pending(call, raw_path)
        if pending is not None:
            pending.answered(call, response)
            self.emit(pending, "ResponseStarted")

    def end(self, call: Call, response: Response, *, panicked: bool = False) -> None:
        """The answer is known. One that lasts is `over` later; `panicked`: it is what is left of a failure of ours."""
        pending = call.audit
        if not isinstance(pending, Pending):
            return
        pending.answered(call, response)
        if panicked:
            self.panicked(call)
            return
        lasts = response.stream is not None or response.session is not None
        if lasts or call.info.long_running:
            self.emit(pending, "ResponseStarted")
        if not lasts:
            self.over(call)

    def over(self, call: Call) -> None:
        """What lasted, a watch or a session, has ended; or there will be no answer, for the client has gone."""
        pending, call.audit = call.audit, None
        if isinstance(pending, Pending):
            if "responseStatus" not in pending.event:
                pending.answered(call, Response(200))
                pending.event["responseStatus"] |= {"status": "Success", "message": "Connection closed early"}
            self.emit(pending, "ResponseComplete")

    def panicked(self, call: Call) -> None:
        """The server itself failed, before the answer or in the middle of it. What it failed of is for its log."""
        pending, call.audit = call.audit, None
        if isinstance(pending, Pending):
            failed = {"status": "Failure", "message": "APIServer panic'd", "reason": "InternalError", "code": 500}
            pending.event["responseStatus"] = {"metadata": {}, **failed}
            self.emit(pending, "Panic")

    def emit(self, pending: Pending, stage: str, now: str = "") -> None:
        if stage in pending.rule.omit_stages:
            return
        now = now or rfc3339_micro(self._clock.now())
        self._metrics.audit_events.add()
        line = orjson.dumps({**pending.event, "stage": stage, "stageTimestamp": now})
        for sink in self._sinks:
            sink(line)

    async def close(self) -> None:
        await asyncio.gather(*(sink.close() for sink in self._sinks))

    def _pending(self, call: Call, raw_path: bytes) -> Pending | None:
        rule = self._policy.rule_for(call) if self._policy is not None else None
        self._metrics.audit_levels.add(("None" if rule is None else rule.level,))
        if rule is None:
            return None
        event = _event(call, rule.level, raw_path, rfc3339_micro(self._clock.now()))
        return Pending(rule, event, audit_objects.guarded(call.info))


class Pending(Struct):
    """An event between its beginning and its end; the `audit` of its call."""

    rule: Rule
    event: dict[str, Any]
    guarded: bool

    def sent(self, obj: Object) -> None:
        """The object that was sent, decoded. It tells its name, which the path of a create does not."""
        metadata = obj.get("metadata")
        reference = self.event.setdefault("objectRef", {})
        for key in ("namespace", "name", "uid", "resourceVersion"):
            if isinstance(metadata, dict) and metadata.get(key) and not reference.get(key):
                reference[key] = metadata[key]
        if self.rule.level in ("Request", "RequestResponse"):
            # Written now: what comes after changes the object.
            self.event["requestObject"] = orjson.Fragment(orjson.dumps(self._shown(obj)))

    def answered(self, call: Call, response: Response) -> None:
        event, level = self.event, self.rule.level
        answer = None
        unheard = response.status >= 400 and not negotiate.takes_errors(call.header("accept"))
        if unheard:  # a refusal in a form that was not asked for passes by kube-apiserver's audit
            pass
        elif response.status >= 400 or level == "RequestResponse" or call.info.verb in ("delete", "deletecollection"):
            answer = audit_objects.decoded(response.body, response.content_type)
        event["responseStatus"] = _response_status(response, answer, guarded=self.guarded)
        if level in ("Request", "RequestResponse") and call.info.verb == "patch" and call.body:
            patch = audit_objects.decoded(call.body, call.header("content-type").encode())
            if patch is not None:
                event["requestObject"] = self._shown(patch)
        if level == "RequestResponse" and answer is not None:
            if self.guarded and response.status >= 400:
                answer = {"kind": "Status", "apiVersion": "v1", **event["responseStatus"]}
            event["responseObject"] = self._shown(answer, answer=True)
        if call.user is not call.authenticated_user:
            event["impersonatedUser"] = user_info(call.user)
            constraint = next((stage.by for stage in call.trace.stages if stage.name == "impersonation"), "")
            if constraint:
                event["authenticationMetadata"] = {"impersonationConstraint": constraint}
        annotations = {**_decision(call, response), **call.trace.audit_annotations}
        if level in ("Request", "RequestResponse"):
            annotations |= call.trace.request_annotations
        if annotations:
            event["annotations"] = annotations

    def _shown(self, value: Any, *, answer: bool = False) -> Any:
        omit = self.rule.omit_managed_fields
        return audit_objects.shown(value, secret=self.guarded, omit_managed_fields=omit, answer=answer)


def _event(call: Call, level: str, raw_path: bytes, now: str) -> dict[str, Any]:
    info = call.info
    uri = raw_path.decode("latin-1")
    event: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": level,
        "auditID": call.id,
        "stage": "",
        "requestURI": f"{uri}?{call.query_string}" if call.query_string else uri,
        "verb": info.verb,
        "user": user_info(call.authenticated_user),
    }
    addresses, agent = _source_addresses(call.headers, call.remote_address), call.header("user-agent")
    if addresses:
        event["sourceIPs"] = addresses
    if agent:
        event["userAgent"] = agent if len(agent) <= _LONGEST_AGENT else f"{agent[:_LONGEST_AGENT]}...TRUNCATED"
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
    if call.trace.audit_annotations:
        event["annotations"] = dict(call.trace.audit_annotations)
    return event


def _source_addresses(headers: Headers, remote: str) -> list[str]:
    """Where the request says that it comes from, as proxies note it, and the last hop: that alone is certain."""
    found: list[str] = []
    for text in headers.first("x-forwarded-for").split(","):
        address = _address(text.strip())
        if address:
            found.append(address)
    real = _address(headers.first("x-real-ip"))
    if real and real not in found:
        found.append(real)
    last = _address(remote)
    if last and found[-1:] != [last]:
        found.append(last)
    return found


def _address(text: str) -> str:
    if not text:
        return ""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return str((found.version == 6 and found.ipv4_mapped) or found)


def _response_status(response: Response, answer: Any, *, guarded: bool) -> dict[str, Any]:
    status: dict[str, Any] = {"metadata": {}}
    if isinstance(answer, dict) and answer.get("kind") == "Status":
        status |= {key: answer[key] for key in ("status", "message", "reason", "details") if key in answer}
        if guarded and response.status in (400, 422):  # such refusals quote what was sent
            status["message"] = audit_objects.REDACTED
            status["details"] = {k: v for k, v in answer.get("details", {}).items() if k != "causes"}
    return {**status, "code": response.status}


def _decision(call: Call, response: Response) -> dict[str, str]:
    """What the authorizers said, from the trace."""
    for stage in call.trace.stages:
        if stage.name == "authorization":
            if stage.decision == "allow":
                return {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": stage.reason}
            if response.status == 500:
                return {"authorization.k8s.io/reason": "internal error"}
            return {"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": stage.reason}
    return {}

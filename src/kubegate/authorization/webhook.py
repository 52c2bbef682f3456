"""The webhook authorizer: somebody else decides, asked with a SubjectAccessReview.

Follows k8s.io/apiserver/plugin/pkg/authorizer/webhook: what is sent, which answers are kept and how long, what a
failure means (`failurePolicy`), and match conditions, which are asked before anything is sent.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Attributes, Decision, SubjectRules, Verdict
from kubegate.remote import result, retry
from kubegate.remote.client import Client, Endpoint, RemoteError

log = logging.getLogger(__name__)
GROUP = "authorization.k8s.io"
CACHE_ENTRIES = 8192
_LARGEST_CACHED = 10_000
"""Bytes of what the client chooses (names, paths); a longer question is not kept, lest clients fill the memory."""


class ConditionError(Exception):
    """A match condition that could not be evaluated, and none that was false."""


class Conditions(Protocol):
    """Match conditions, compiled."""

    def match(self, spec: Object) -> bool:
        """Whether all hold for the spec of a v1 SubjectAccessReview. Raises ConditionError."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds. `failure` is what an error means: Verdict.DENY or Verdict.NO_OPINION."""

    name: str = "webhook"
    version: str = "v1"
    timeout: float = 30.0
    authorized_ttl: float = 300.0
    unauthorized_ttl: float = 30.0
    failure: Verdict = Verdict.NO_OPINION
    backoff: retry.Backoff = retry.DEFAULT


def asked_within(endpoint: Endpoint, seconds: float) -> Endpoint:
    """The endpoint with the time that it has for an answer told in its URL, as client-go does."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if 0 < seconds < 1:
        told = f"{seconds * 1000:g}ms"
    else:
        told = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest:g}s"
    return replace(endpoint, url=f"{endpoint.url}?timeout={told}")


class WebhookAuthorizer:
    """Asks the endpoint of `client`. Close it when it is no longer asked."""

    def __init__(self, client: Client, settings: Settings, clock: Clock, conditions: Conditions | None = None) -> None:
        self._client, self._settings, self._clock, self._conditions = client, settings, clock, conditions
        self._answers: OrderedDict[bytes, tuple[float, Object]] = OrderedDict()

    async def authorize(self, attributes: Attributes) -> Decision:
        spec = spec_of(attributes)
        if self._conditions is not None:
            try:
                if not self._conditions.match(spec):
                    return NO_OPINION
            except ConditionError as error:
                return self._failed(str(error))
        key = orjson.dumps(spec)
        status = self._known(key)
        if status is None:
            try:
                status = await self._ask(spec)
            except RemoteError as error:
                log.warning("authorization webhook %s: %s", self._settings.name, error)
                late = " (Client.Timeout exceeded while awaiting headers)" if error.timeout else ""
                return self._failed(f"{error}{late}")
            if _may_be_kept(attributes):
                self._keep(key, status)
        return self._decide(status)

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        return SubjectRules(incomplete=True, error="webhook authorizer does not support user rule resolution")

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, spec: Object) -> Object:
        body = orjson.dumps(review_of(spec, self._settings.version))
        within = self._settings.timeout

        async def once() -> Object:
            response = await self._client.post_json(body, within=within)
            return result.into_kind(response, GROUP, self._settings.version, "SubjectAccessReview")

        answer = await retry.with_backoff(once, clock=self._clock, backoff=self._settings.backoff)
        return answer.get("status") or {}

    def _decide(self, status: Object) -> Decision:
        allowed, denied = status.get("allowed") is True, status.get("denied") is True
        reason = status.get("reason") or ""
        name = self._settings.name
        if denied and allowed:
            error = "webhook subject access review returned both allow and deny response"
            return Decision(Verdict.DENY, reason, error, name)
        if denied:
            return Decision(Verdict.DENY, reason, "", name)
        return Decision(Verdict.ALLOW if allowed else Verdict.NO_OPINION, reason, "", name)

    def _failed(self, error: str) -> Decision:
        return Decision(self._settings.failure, "", error, self._settings.name)

    def _known(self, key: bytes) -> Object | None:
        found = self._answers.get(key)
        if found is None:
            return None
        if found[0] <= self._clock.monotonic():
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return found[1]

    def _keep(self, key: bytes, status: Object) -> None:
        settings = self._settings
        ttl = settings.authorized_ttl if status.get("allowed") is True else settings.unauthorized_ttl
        if ttl <= 0:
            return
        self._answers[key] = (self._clock.monotonic() + ttl, status)
        while len(self._answers) > CACHE_ENTRIES:
            self._answers.popitem(last=False)


def _may_be_kept(attributes: Attributes) -> bool:
    if attributes.resource_request:
        chosen: Sequence[str] = (
            attributes.namespace, attributes.verb, attributes.api_group, attributes.api_version, attributes.resource,
            attributes.subresource, attributes.name,
        )  # fmt: skip
    else:
        chosen = (attributes.path, attributes.verb)
    return sum(map(len, chosen)) < _LARGEST_CACHED


def spec_of(attributes: Attributes) -> Object:
    """The spec of the v1 SubjectAccessReview that asks this; what is empty is left out."""
    spec: Object = {}
    if attributes.resource_request:
        resource: Object = {
            "namespace": attributes.namespace,
            "verb": attributes.verb,
            "group": attributes.api_group,
            "version": attributes.api_version,
            "resource": attributes.resource,
            "subresource": attributes.subresource,
            "name": attributes.name,
        }
        resource = {key: value for key, value in resource.items() if value}
        for name, requirements in (
            ("fieldSelector", attributes.field_requirements),
            ("labelSelector", attributes.label_requirements),
        ):
            if requirements:
                resource[name] = {"requirements": list(requirements)}
        spec["resourceAttributes"] = resource
    else:
        path = {"path": attributes.path, "verb": attributes.verb}
        spec["nonResourceAttributes"] = {key: value for key, value in path.items() if value}
    user = attributes.user
    about: dict[str, Any] = {
        "user": user.name,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
        "uid": user.uid,
    }
    spec.update({key: value for key, value in about.items() if value})
    return spec


def review_of(spec: Object, version: str) -> Object:
    """The review as it is sent in `version` (v1, v1beta1)."""
    if version == "v1beta1" and "groups" in spec:
        spec = {("group" if key == "groups" else key): value for key, value in spec.items()}
    return {
        "kind": "SubjectAccessReview",
        "apiVersion": f"{GROUP}/{version}",
        "metadata": {},
        "spec": spec,
        "status": {"allowed": False},
    }

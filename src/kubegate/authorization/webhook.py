"""The webhook authorizer: somebody else decides, asked with a SubjectAccessReview.

Follows k8s.io/apiserver/plugin/pkg/authorizer/webhook: what is sent, which answers are kept and how long, what a
failure means (`failurePolicy`), and match conditions, which are asked before anything is sent.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
from msgspec import Struct

from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.authentication import UserInfo
from kubegate.authorization import NO_OPINION, Attributes, Decision, SubjectRules, Verdict
from kubegate.remote import result, retry
from kubegate.remote.client import Client, RemoteError

log = logging.getLogger(__name__)
GROUP = "authorization.k8s.io"
_KIND = "SubjectAccessReview"
_BEFORE_SPEC = b'{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":'
_AFTER_SPEC = b',"status":{"allowed":false}}'
CACHE_ENTRIES = 8192
_LARGEST_CACHED = 10_000
"""Bytes of what the client chooses (names, paths); a longer question is not kept, lest clients fill the memory."""


class _Status(Struct):
    allowed: bool = False
    denied: bool = False
    reason: str = ""
    evaluationError: str = ""


class _Resource(Struct, forbid_unknown_fields=True):
    namespace: str = ""
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


class _Path(Struct, forbid_unknown_fields=True):
    path: str = ""
    verb: str = ""


class _Spec(Struct, forbid_unknown_fields=True):
    resourceAttributes: _Resource | None = None
    nonResourceAttributes: _Path | None = None
    user: str = ""
    groups: list[str] | None = None
    extra: dict[str, list[str] | None] | None = None
    uid: str = ""


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


class WebhookAuthorizer:
    """Asks the endpoint of `client`. Close it when it is no longer asked."""

    def __init__(self, client: Client, settings: Settings, clock: Clock, conditions: Conditions | None = None) -> None:
        self._client, self._settings, self._clock, self._conditions = client, settings, clock, conditions
        self._reviews = result.Reviews(GROUP, settings.version, _KIND, _Status, _Spec)
        self._answers: OrderedDict[bytes, tuple[float, _Status]] = OrderedDict()

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
                status = await self._ask(spec, key)
            except RemoteError as error:
                log.warning("authorization webhook %s: %s", self._settings.name, error)
                return self._failed(f"{error}{_late(error)}")
            if _may_be_kept(attributes):
                self._keep(key, status)
        return self._decide(status)

    async def rules_for(self, user: UserInfo, namespace: str) -> SubjectRules:
        return SubjectRules(incomplete=True, error="webhook authorizer does not support user rule resolution")

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, spec: Object, written: bytes) -> _Status:
        """`written` is the spec in JSON."""
        version, within = self._settings.version, self._settings.timeout
        if version == "v1":
            body = b"%b%b%b" % (_BEFORE_SPEC, written, _AFTER_SPEC)
        else:
            body = orjson.dumps(review_of(spec, version))

        async def once() -> _Status:
            return self._reviews.read(await self._client.post_json(body, within=within))

        return await retry.with_backoff(once, clock=self._clock, backoff=self._settings.backoff)

    def _decide(self, status: _Status) -> Decision:
        name = self._settings.name
        if status.denied:
            error = "webhook subject access review returned both allow and deny response" if status.allowed else ""
            return Decision(Verdict.DENY, status.reason, error, name)
        return Decision(Verdict.ALLOW if status.allowed else Verdict.NO_OPINION, status.reason, "", name)

    def _failed(self, error: str) -> Decision:
        return Decision(self._settings.failure, "", error, self._settings.name)

    def _known(self, key: bytes) -> _Status | None:
        found = self._answers.get(key)
        if found is None:
            return None
        if found[0] <= self._clock.monotonic():
            del self._answers[key]
            return None
        self._answers.move_to_end(key)
        return found[1]

    def _keep(self, key: bytes, status: _Status) -> None:
        settings = self._settings
        ttl = settings.authorized_ttl if status.allowed else settings.unauthorized_ttl
        if ttl <= 0:
            return
        self._answers[key] = (self._clock.monotonic() + ttl, status)
        while len(self._answers) > CACHE_ENTRIES:
            self._answers.popitem(last=False)


def _late(error: RemoteError) -> str:
    """What Go's client adds where its own timeout was over."""
    if not error.timeout:
        return ""
    if error.in_body:
        return " (Client.Timeout or context cancellation while reading body)"
    return " (Client.Timeout exceeded while awaiting headers)"


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
    asked: Object = {}
    if attributes.resource_request:
        if attributes.namespace:
            asked["namespace"] = attributes.namespace
        if attributes.verb:
            asked["verb"] = attributes.verb
        if attributes.api_group:
            asked["group"] = attributes.api_group
        if attributes.api_version:
            asked["version"] = attributes.api_version
        if attributes.resource:
            asked["resource"] = attributes.resource
        if attributes.subresource:
            asked["subresource"] = attributes.subresource
        if attributes.name:
            asked["name"] = attributes.name
        if attributes.field_requirements:
            asked["fieldSelector"] = {"requirements": list(attributes.field_requirements)}
        if attributes.label_requirements:
            asked["labelSelector"] = {"requirements": list(attributes.label_requirements)}
        spec: Object = {"resourceAttributes": asked}
    else:
        if attributes.path:
            asked["path"] = attributes.path
        if attributes.verb:
            asked["verb"] = attributes.verb
        spec = {"nonResourceAttributes": asked}
    user = attributes.user
    if user.name:
        spec["user"] = user.name
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {key: list(values) for key, values in user.extra.items()}
    if user.uid:
        spec["uid"] = user.uid
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

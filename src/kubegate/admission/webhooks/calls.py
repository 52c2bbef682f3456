"""What mutating and validating webhooks have in common: choosing, asking, and telling of failures."""

from __future__ import annotations

import time
from typing import Any

import orjson
from msgspec import Struct, field

from kubegate.admission import Attributes, GroupVersionKind
from kubegate.admission.dependencies import Authorize, Objects
from kubegate.admission.webhooks import expressions, matching, review
from kubegate.admission.webhooks.configurations import Webhook
from kubegate.admission.webhooks.dispatch import Dispatcher
from kubegate.admission.webhooks.expressions import ConditionError, Invocation
from kubegate.admission.webhooks.matching import Routes
from kubegate.api import Object, status
from kubegate.api.clock import answer_by
from kubegate.api.field import quoted
from kubegate.api.metadata import new_uid
from kubegate.api.status import StatusError
from kubegate.api.trace import Stage
from kubegate.remote.client import RemoteError
from kubegate.storage import Reader

_UNSEEN = frozenset({("", "secrets"), ("authentication.k8s.io", "tokenreviews")})


class CallFailed(Exception):
    """The webhook could not be asked, or its answer not be used: failurePolicy decides what comes of it."""

    def __init__(self, webhook: str, why: str) -> None:
        super().__init__(f"failed calling webhook {quoted(webhook)}: {why}")


class Versions(Struct):
    """A request's objects in the versions that webhooks want to see: each converted once, and written once.

    Whoever changes the object says so with `changed`.
    """

    attributes: Attributes
    objects: Objects
    _new: dict[GroupVersionKind, Object | None] = field(default_factory=dict)
    _old: dict[GroupVersionKind, Object | None] = field(default_factory=dict)
    _old_written: dict[GroupVersionKind, orjson.Fragment] = field(default_factory=dict)
    _bodies: dict[Invocation, review.Body] = field(default_factory=dict)

    async def of(self, kind: GroupVersionKind) -> tuple[Object | None, Object | None]:
        """The new and the old object. Raises StatusError 500 where there is no conversion."""
        if kind == self.attributes.kind:
            return self.attributes.object, self.attributes.old_object
        if kind not in self._new:
            self._new[kind] = await self._converted(self.attributes.object, kind)
        if kind not in self._old:
            self._old[kind] = await self._converted(self.attributes.old_object, kind)
        return self._new[kind], self._old[kind]

    async def body(self, invocation: Invocation) -> review.Body:
        """What webhooks are sent that see the request as this. Raises StatusError 500, too."""
        found = self._bodies.get(invocation)
        if found is None:
            kind = invocation.kind
            new, old = await self.of(kind)
            if kind not in self._old_written:
                self._old_written[kind] = self._written(old, kind)
            body = review.Body.of(self.attributes, invocation, self._written(new, kind), self._old_written[kind])
            found = self._bodies[invocation] = body
        return found

    def changed(self) -> None:
        """The object was changed; the old one never is."""
        self._new.clear()
        self._bodies.clear()

    def _written(self, obj: Object | None, kind: GroupVersionKind) -> orjson.Fragment:
        return orjson.Fragment(orjson.dumps(None if obj is None else self.objects.complete(kind, obj)))

    async def _converted(self, obj: Object | None, kind: GroupVersionKind) -> Object | None:
        try:
            return None if obj is None else await self.objects.convert(obj, kind)
        except ValueError as error:
            raise status.internal(str(error)) from error


class Caller(Struct):
    """Asks webhooks about requests."""

    reader: Reader
    authorize: Authorize
    routes: Routes[Webhook]
    dispatcher: Dispatcher

    async def wanted(
        self, webhook: Webhook, attributes: Attributes, versions: Versions, invocation: Invocation
    ) -> bool:
        """Whether a webhook that has a rule about the request is to see it. Raises StatusError."""
        if not matching.object_matches(webhook.object_selector, attributes):
            return False
        if not matching.namespace_matches(webhook.namespace_selector, attributes, self.reader):
            return False
        return not webhook.conditions or await self._conditions_hold(webhook, attributes, versions, invocation)

    async def _conditions_hold(
        self, webhook: Webhook, attributes: Attributes, versions: Versions, invocation: Invocation
    ) -> bool:
        answers = expressions.answers(self.authorize, attributes.user)
        new, old = await versions.of(invocation.kind)
        variables = expressions.condition_values(
            expressions.values(attributes, invocation, new, old, answers), attributes
        )

        try:
            return await webhook.conditions.hold(variables, not webhook.ignores_failure, answers)
        except ConditionError as error:
            resource = attributes.resource
            raise status.forbidden(resource.group, resource.resource, attributes.name, str(error)) from None

    async def ask(
        self, webhook: Webhook, attributes: Attributes, versions: Versions, invocation: Invocation, mutating: bool
    ) -> review.Answer:
        """The webhook's answer, with its warnings and audit annotations told.

        Raises CallFailed; StatusError where it refuses, or must not be called in a dry run.
        """
        if attributes.dry_run and webhook.side_effects not in ("None", "NoneOnDryRun"):
            raise status.bad_request(f"admission webhook {quoted(webhook.name)} does not support dry run")
        version = webhook.review_version
        if version is None:
            known = ", ".join(review.VERSIONS)
            why = f"webhook does not accept known AdmissionReview versions ({known})"
            raise CallFailed(webhook.name, f"could not create admission objects: {why}")
        uid = new_uid()
        body = await versions.body(invocation)
        try:
            response = await self.dispatcher.call(webhook, body.written(version, uid), answer_by.get())
            answer = review.answer(response, uid, version, mutating)
        except RemoteError as error:
            raise CallFailed(webhook.name, f"failed to call webhook: {error}") from None
        except review.InvalidResponse as error:
            raise CallFailed(webhook.name, f"received invalid webhook response: {error}") from None
        for key, value in answer.audit_annotations.items():
            attributes.trace.annotate(f"{webhook.name}/{key}", value)
        for warning in answer.warnings:
            attributes.trace.warn(warning)
        if not answer.allowed:
            raise denied(webhook.name, answer.status)
        return answer


class Denied(StatusError):
    """A refusal in a webhook's own words; it may set the list metadata of the Status, too."""

    metadata: Object

    def status(self) -> dict[str, Any]:
        return {**super().status(), "metadata": self.metadata}


def denied(name: str, said: Object) -> StatusError:
    """A webhook's refusal as clients see it: its status, with who refused before its message."""
    by = f"admission webhook {quoted(name)} denied the request"
    message, reason = _text(said.get("message")), _text(said.get("reason"))
    by = f"{by}: {message or reason}" if message or reason else f"{by} without explanation"
    code, details, metadata = said.get("code"), said.get("details"), said.get("metadata")
    error = Denied(
        code if isinstance(code, int) and code >= 400 else 400,
        reason,
        by,
        details if isinstance(details, dict) else None,
    )
    kept = metadata if isinstance(metadata, dict) else {}
    names = ("selfLink", "resourceVersion", "continue", "remainingItemCount")
    error.metadata = {name: kept[name] for name in names if kept.get(name)}
    wait = (error.details or {}).get("retryAfterSeconds")
    if isinstance(wait, int) and wait > 0:
        error.headers["Retry-After"] = str(wait)
    return error


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


class Told(Struct):
    """The stage that a call leaves on the trace."""

    stage: Stage
    start: float = field(default_factory=time.perf_counter)

    @classmethod
    def begin(cls, webhook: Webhook, mutating: bool) -> Told:
        kind = "mutating" if mutating else "validating"
        return cls(Stage(f"webhook/{webhook.name}", "allow", f"{kind} webhook of {webhook.configuration}"))

    def end(self, attributes: Attributes) -> None:
        self.stage.seconds = time.perf_counter() - self.start
        attributes.trace.stages.append(self.stage)


def may_be_shown(attributes: Attributes) -> bool:
    """Law 5: what Secrets and TokenReviews hold is written to no trace."""
    return (attributes.resource.group, attributes.resource.resource) not in _UNSEEN

"""The policies of a file in kubegate's own API server: the same functions, without a call over the wire."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from kubegate.admission import Attributes, Operation, Plugin
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.admission.webhooks import matching
from kubegate.api import Object
from kubegate.api.clock import Clock
from kubegate.api.selectors import from_object
from kubegate.api.status import StatusError
from kubegate.authentication import Authenticated, AuthenticationError, TokenAuthenticator, intersect
from kubegate.authorization import Attributes as AccessAttributes
from kubegate.authorization import Decision, Verdict
from kubegate.webhooks import access, images, tokens
from kubegate.webhooks.calls import Caller, PolicyFailed, failed
from kubegate.webhooks.gate import Deny, Gate, Policy, Review
from kubegate.webhooks.policyfile import PolicyFile, PolicyFileError

log = logging.getLogger("kubegate.webhooks")
CurrentGate = Callable[[], Gate]


class InProcess:
    """A policy file for the parts of an API server: admission plugins, a token authenticator, an authorizer.

    `run` keeps the file current; `close` when the server ends. Raises ValueError for a file that cannot be used.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        try:
            self._file = PolicyFile(path, clock)
        except PolicyFileError as error:
            raise ValueError(f"--gate: {error}") from error
        self._caller = Caller()
        self.authorizer = GateAuthorizer(self._gate, self._caller)

    def _gate(self) -> Gate:
        return self._file.gate

    def plugins(self, dependencies: Dependencies) -> Sequence[Plugin]:
        """The mutating and the validating one."""
        mutating = MutatingGate(self._gate, self._caller, dependencies)
        return (mutating, ValidatingGate(self._gate, self._caller, dependencies))

    def token_authenticators(self, api_audiences: tuple[str, ...]) -> Sequence[TokenAuthenticator]:
        return (GateTokens(self._gate, self._caller, api_audiences),)

    async def run(self) -> None:
        await self._file.run()

    def close(self) -> None:
        self._caller.close()


class GateTokens:
    """`authenticate` policies; a user without audiences is good for the API server's own."""

    def __init__(self, gate: CurrentGate, caller: Caller, api_audiences: tuple[str, ...]) -> None:
        self._gate, self._caller, self._api_audiences = gate, caller, api_audiences

    async def authenticate_token(self, token: str, audiences: tuple[str, ...] | None = None) -> Authenticated | None:
        policies = self._gate().of("authenticate")
        if not policies:
            return None
        review = Review({"audiences": list(audiences or ())})
        try:
            user = await tokens.identify(self._caller, policies, token, review)
        except (Deny, PolicyFailed) as error:
            raise AuthenticationError(f"gate: {error}") from None
        if user is None:
            return None
        info = tokens.info(user)
        if audiences is None:
            return Authenticated(info, "gate", None if user.audiences is None else tuple(user.audiences))
        good = intersect(self._api_audiences if user.audiences is None else user.audiences, audiences)
        return Authenticated(info, "gate", good) if good else None


class GateAuthorizer:
    """`authorize` policies, asked before the modes of --authorization-mode: what they deny, nobody allows."""

    def __init__(self, gate: CurrentGate, caller: Caller) -> None:
        self._gate, self._caller = gate, caller

    async def authorize(self, attributes: AccessAttributes) -> Decision:
        from kubegate.authorization import NO_OPINION

        policies = self._gate().of("authorize")
        if not policies:
            return NO_OPINION
        try:
            return await access.decide(self._caller, policies, attributes, Review({}))
        except PolicyFailed as failure:
            return Decision(Verdict.DENY, str(failure), str(failure), authorizer=failure.policy.name)


class _Asked:
    """Which policies are for a request, and how they are asked about it."""

    def __init__(self, gate: CurrentGate, caller: Caller, dependencies: Dependencies) -> None:
        self._gate, self._caller = gate, caller
        self._reader, self.objects = dependencies.reader, dependencies.objects

    def policies(self, kind: Any, attributes: Attributes) -> list[Policy]:
        """By rules and selectors, as an API server looks at them; what configures admission is left alone."""
        found: list[Policy] = []
        if matching.concerns_configurations(attributes):
            return found
        for policy in self._gate().of(kind):
            scope = policy.scope
            if scope is None or not self._speaks(scope.rules(), attributes):
                continue
            if not matching.namespace_matches(from_object(scope.namespace_selector), attributes, self._reader):
                continue
            if matching.object_matches(from_object(scope.object_selector), attributes):
                found.append(policy)
        return found

    def _speaks(self, rules: Sequence[Object], attributes: Attributes) -> bool:
        namespaced = matching.is_namespaced(attributes)
        operation, resource = attributes.operation, attributes.resource
        return any(
            matching.rule_matches(rule, operation, resource, attributes.subresource, namespaced) for rule in rules
        )

    async def call(self, policy: Policy, subject: Any, review: Review, attributes: Attributes) -> Any:
        """What the function returns; its warnings and annotations are on the trace. Raises StatusError."""
        secret = attributes.resource.resource == "secrets"
        try:
            with attributes.trace.stage(f"policy/{policy.name}") as stage:
                stage.by = "--gate"
                try:
                    returned = await self._caller.call(policy, subject, review, secret=secret)
                except Deny as denied:
                    raise _refused(policy, denied) from None
                except PolicyFailed as failure:
                    raise _refused(policy, Deny(str(failure), code=500)) from None
                stage.decision = "allow"
                return returned
        finally:
            for text in review.warnings:
                attributes.trace.warn(text)
            for key, value in review.annotations.items():
                attributes.trace.annotate(f"{policy.name}/{key}", value)


def _refused(policy: Policy, denied: Deny) -> StatusError:
    """What an API server makes of a webhook's refusal."""
    text = f'admission webhook "{policy.name}" denied the request: {denied.message}'
    return StatusError(denied.code, denied.reason, text)


class MutatingGate:
    """`mutate` policies, each shown the object as the one before left it."""

    name = "MutatingGate"
    handles = frozenset(Operation)
    resources: frozenset[str] | None = None
    changes = True

    def __init__(self, gate: CurrentGate, caller: Caller, dependencies: Dependencies) -> None:
        self._asked = _Asked(gate, caller, dependencies)

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        for policy in self._asked.policies("mutate", attributes):
            before = orjson.dumps(attributes.object)
            review = _review(attributes)
            subject = orjson.loads(before)
            returned = await self._asked.call(policy, subject, review, attributes)
            changed = subject if returned is None else returned
            try:
                if not isinstance(changed, dict):
                    raise TypeError(f"it returned {type(changed).__name__}; wanted is the object, or None")
                after = orjson.dumps(changed)
                if after == before:
                    continue
                new = self._asked.objects.decode(attributes.kind, orjson.loads(after))
            except (TypeError, ValueError) as error:
                failure = failed(policy, error, secret=attributes.resource.resource == "secrets")
                raise _refused(policy, Deny(str(failure), code=500)) from None
            self._asked.objects.default(attributes.kind, new)
            attributes.object = new


class ValidatingGate:
    """`validate` policies, and `images` policies for pods. They are shown copies: what they change is lost."""

    name = "ValidatingGate"
    handles = frozenset(Operation)
    resources: frozenset[str] | None = None
    changes = False

    def __init__(self, gate: CurrentGate, caller: Caller, dependencies: Dependencies) -> None:
        self._gate, self._caller = gate, caller
        self._asked = _Asked(gate, caller, dependencies)

    async def validate(self, attributes: Attributes) -> None:
        for policy in self._asked.policies("validate", attributes):
            shown = attributes.object if attributes.object is not None else attributes.old_object
            await self._asked.call(policy, _copy(shown), _review(attributes), attributes)
        policies = self._gate().of("images")
        if policies and _brings_images(attributes):
            await self._check_images(policies, attributes)

    async def _check_images(self, policies: Sequence[Policy], attributes: Attributes) -> None:
        spec = (attributes.object or {}).get("spec") or {}
        sorts = ("initContainers", "containers", "ephemeralContainers")
        names = [str(container.get("image") or "") for sort in sorts for container in spec.get(sort) or ()]
        review = Review({"namespace": attributes.namespace})
        try:
            await images.check(self._caller, policies, names, review)
        except (Deny, PolicyFailed) as error:
            raise forbidden(attributes, str(error)) from None


def _brings_images(attributes: Attributes) -> bool:
    """Whether containers may be new in it: also an update may give a pod another image."""
    if attributes.group_resource != "pods" or attributes.operation not in (Operation.CREATE, Operation.UPDATE):
        return False
    return attributes.subresource in ("", "ephemeralcontainers")


def _copy(obj: Object | None) -> Object | None:
    return None if obj is None else orjson.loads(orjson.dumps(obj))


def _review(attributes: Attributes) -> Review:
    """The request as an AdmissionReview tells it, but for a uid, which nobody would compare."""
    kind, resource, user = attributes.kind, attributes.resource, attributes.user
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    gvr = {"group": resource.group, "version": resource.version, "resource": resource.resource}
    return Review(
        {
            "uid": "",
            "kind": gvk,
            "resource": gvr,
            "requestKind": gvk,
            "requestResource": gvr,
            "subResource": attributes.subresource,
            "name": attributes.name,
            "namespace": attributes.namespace,
            "operation": attributes.operation.value,
            "userInfo": {
                "username": user.name,
                "uid": user.uid,
                "groups": list(user.groups),
                "extra": {name: list(values) for name, values in user.extra.items()},
            },
            "object": _copy(attributes.object),
            "oldObject": _copy(attributes.old_object),
            "dryRun": attributes.dry_run,
            "options": dict(attributes.options),
        }
    )

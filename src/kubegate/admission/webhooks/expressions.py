"""CEL in admission: the variables that expressions of webhooks and policies see, and their values for one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from kubegate import authorization, cel
from kubegate.admission import Attributes, GroupVersionKind, GroupVersionResource, Operation
from kubegate.admission.dependencies import Authorize
from kubegate.api import Object, selectors
from kubegate.api.field import aggregate
from kubegate.authentication import UserInfo, user_info
from kubegate.cel import CelType, types
from kubegate.cel.costs import MATCH_CONDITIONS_BUDGET
from kubegate.cel.decisions import Answer, Answers, DecisionNeeded, Question, evaluate_with

_STRING, _STRINGS = types.STRING, types.list_of(types.STRING)
_TEXTS = types.map_of(types.STRING, types.STRING)
_KIND = types.object_of("kubernetes.GroupVersionKind")
_RESOURCE = types.object_of("kubernetes.GroupVersionResource")
_REQUEST = types.object_of("kubernetes.AdmissionRequest")
_NAMESPACE = types.object_of("kubernetes.Namespace")

OBJECTS: Mapping[str, Mapping[str, CelType]] = {
    "kubernetes.GroupVersionKind": {"group": _STRING, "version": _STRING, "kind": _STRING},
    "kubernetes.GroupVersionResource": {"group": _STRING, "version": _STRING, "resource": _STRING},
    "kubernetes.UserInfo": {
        "username": _STRING,
        "uid": _STRING,
        "groups": _STRINGS,
        "extra": types.map_of(types.STRING, _STRINGS),
    },
    "kubernetes.AdmissionRequest": {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": _STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": _STRING,
        "name": _STRING,
        "namespace": _STRING,
        "operation": _STRING,
        "userInfo": types.object_of("kubernetes.UserInfo"),
        "dryRun": types.BOOL,
        "options": types.DYN,
    },
    "kubernetes.Namespace": {
        "metadata": types.object_of("kubernetes.NamespaceMetadata"),
        "spec": types.object_of("kubernetes.NamespaceSpec"),
        "status": types.object_of("kubernetes.NamespaceStatus"),
    },
    "kubernetes.NamespaceMetadata": {
        "name": _STRING,
        "generateName": _STRING,
        "namespace": _STRING,
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "UID": _STRING,
        "creationTimestamp": types.TIMESTAMP,
        "deletionGracePeriodSeconds": types.INT,
        "deletionTimestamp": types.TIMESTAMP,
        "generation": types.INT,
        "resourceVersion": _STRING,
        "finalizers": _STRINGS,
    },
    "kubernetes.NamespaceSpec": {"finalizers": _STRINGS},
    "kubernetes.NamespaceStatus": {
        "conditions": types.list_of(types.object_of("kubernetes.NamespaceCondition")),
        "phase": _STRING,
    },
    "kubernetes.NamespaceCondition": {
        "status": _STRING,
        "type": _STRING,
        "lastTransitionTime": types.TIMESTAMP,
        "message": _STRING,
        "reason": _STRING,
    },
}
"""The fields of the typed variables; those that a policy declares itself are added by `policies`."""

_AUTHORIZER = {
    "authorizer": types.parse("authorizer"),
    "authorizer.requestResource": types.parse("resource_check"),
}

WEBHOOK_VARIABLES: Mapping[str, CelType] = {
    "object": types.DYN,
    "oldObject": types.DYN,
    "request": _REQUEST,
    "namespaceObject": _NAMESPACE,
    **_AUTHORIZER,
}
"""What the match conditions of a webhook see. `namespaceObject` is known to them, but has no value."""

POLICY_VARIABLES: Mapping[str, CelType] = WEBHOOK_VARIABLES
"""What the expressions of a policy see, beside `params` and `variables`."""


class Invocation(Struct, frozen=True):
    """As what a request is shown to a webhook or policy: as it was made, or as the equivalent that a rule names."""

    kind: GroupVersionKind
    resource: GroupVersionResource
    subresource: str


def admission_request(attributes: Attributes, invocation: Invocation, uid: str = "") -> Object:
    """`request` of an AdmissionReview, in the order in which Kubernetes writes it, without the objects."""
    request: Object = {"uid": uid, "kind": _kind(invocation.kind), "resource": _resource(invocation.resource)}
    if invocation.subresource:
        request["subResource"] = invocation.subresource
    request["requestKind"] = _kind(attributes.kind)
    request["requestResource"] = _resource(attributes.resource)
    if attributes.subresource:
        request["requestSubResource"] = attributes.subresource
    if attributes.name:
        request["name"] = attributes.name
    if attributes.namespace:
        request["namespace"] = attributes.namespace
    request["operation"] = attributes.operation.value
    request["userInfo"] = _user(attributes.user)
    request["dryRun"] = attributes.dry_run
    if attributes.options:
        request["options"] = _options(attributes)
    return request


def _options(attributes: Attributes) -> Object:
    """A patch is an update (or a create) to admission, and its options are told as such."""
    options = dict(attributes.options)
    if options.get("kind") == "PatchOptions":
        options["kind"] = "CreateOptions" if attributes.operation is Operation.CREATE else "UpdateOptions"
        options.pop("force", None)
    return options


def _kind(kind: GroupVersionKind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _resource(resource: GroupVersionResource) -> Object:
    return {"group": resource.group, "version": resource.version, "resource": resource.resource}


def _user(user: UserInfo) -> Object:
    shown = user_info(user)
    if not user.name:
        del shown["username"]
    return shown


def values(
    attributes: Attributes, invocation: Invocation, object: Object | None, old_object: Object | None, answers: Answers
) -> dict[str, Any]:
    """The values of WEBHOOK_VARIABLES. The objects are in the invocation's version."""
    from kubegate.cel.libraries.authorizer import Authorizer, resource_check

    authorizer = Authorizer(attributes.user, answers)
    return {
        "object": object,
        "oldObject": old_object,
        "request": admission_request(attributes, invocation),
        "namespaceObject": None,
        "authorizer": authorizer,
        "authorizer.requestResource": resource_check(
            authorizer,
            attributes.resource.group,
            attributes.resource.resource,
            attributes.subresource,
            attributes.namespace,
            attributes.name,
        ),
    }


def condition_values(values: Mapping[str, Any], attributes: Attributes) -> dict[str, Any]:
    """The same for match conditions, which are told the resource that was asked for, and nothing of the namespace."""
    request = {**values["request"], "resource": _resource(attributes.resource)}
    return {**values, "request": request, "namespaceObject": None}


def answers(authorize: Authorize, user: UserInfo) -> Answers:
    """Who answers what expressions ask the authorizer, for one request of this user."""

    async def ask(question: Question) -> Answer:
        decision = await authorize(_attributes(question, user))
        return Answer(decision.allowed, decision.reason, decision.error)

    return Answers(ask)


def _attributes(question: Question, user: UserInfo) -> authorization.Attributes:
    if question.service_account is not None:
        namespace, name = question.service_account
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        user = UserInfo(f"system:serviceaccount:{namespace}:{name}", groups=groups)
    if not question.resource_request:
        return authorization.Attributes(user, question.verb, resource_request=False, path=question.path)
    asked = authorization.Attributes(
        user,
        question.verb,
        api_group=question.group,
        api_version="*",
        resource=question.resource,
        subresource=question.subresource,
        namespace=question.namespace,
        name=question.name,
    )
    if question.field_selector:
        asked = replace(asked, field_requirements=_requirements(selectors.parse_fields, question.field_selector))
    if question.label_selector:
        asked = replace(asked, label_requirements=_requirements(selectors.parse_labels, question.label_selector))
    return asked


def _requirements(parse: Callable[[str], Any], text: str) -> list[Object] | None:
    """None for a selector that cannot be read: then the question is about all objects, and so the harder one."""
    try:
        return list(parse(text).attributes())
    except selectors.SelectorError:
        return None


T = TypeVar("T")

DEAR = 20_000
"""Evaluations that cost more than this (a few milliseconds) do not hold up everybody else's requests."""


class Pace:
    """Evaluates on the event loop what is cheap, and elsewhere what was dear the last time.

    Kubernetes' cost limits bound every evaluation. Who evaluates says in `cost` what it came to.
    """

    __slots__ = ("cost",)

    def __init__(self) -> None:
        self.cost = 0

    async def evaluate(self, answers: Answers, evaluate: Callable[[], T]) -> T:
        """What `evaluate` gives, once the authorizer has answered all that it asks."""
        if self.cost <= DEAR:
            try:
                return evaluate()
            except DecisionNeeded:
                pass
        return await evaluate_with(answers, lambda: self._anywhere(evaluate))

    async def _anywhere(self, evaluate: Callable[[], T]) -> T:
        return await asyncio.to_thread(evaluate) if self.cost > DEAR else evaluate()


class Conditions:
    """The matchConditions of a webhook or policy: all must be true."""

    def __init__(self, conditions: Sequence[Object], variables: Mapping[str, CelType]) -> None:
        """Compiled when first needed; what cannot be compiled counts as an expression that fails."""
        self._conditions, self._variables = conditions, variables
        self._programs: list[cel.Program | cel.CompileError] | None = None
        self._pace = Pace()

    def __bool__(self) -> bool:
        return bool(self._conditions)

    async def hold(self, variables: Mapping[str, Any], fail: bool, answers: Answers) -> bool:
        """As `match`, once the authorizer has answered all that the conditions ask it."""

        def evaluate() -> bool:
            budget = cel.Budget(MATCH_CONDITIONS_BUDGET)
            try:
                return self.match(variables, fail, budget)
            finally:
                self._pace.cost = budget.spent

        return await self._pace.evaluate(answers, evaluate)

    def match(self, variables: Mapping[str, Any], fail: bool, budget: cel.Budget) -> bool:
        """Whether all are true. Raises ConditionError where that cannot be told and `fail`; False otherwise.

        One that is false decides, whatever fails beside it. Raises authorizer.DecisionNeeded, too.
        """
        if self._programs is None:
            self._programs = [_compiled(c.get("expression", ""), self._variables) for c in self._conditions]
        errors: list[str] = []
        for program, condition in zip(self._programs, self._conditions, strict=True):
            expression = condition.get("expression", "")
            if isinstance(program, cel.CompileError):
                errors.append(f"compilation error: {program.message}")
                continue
            try:
                result = program.evaluate(variables, budget)
            except cel.EvaluationError as error:
                errors.append(f"expression '{expression}' resulted in error: {error}")
                continue
            finally:
                if budget.exceeded:
                    errors = [OUT_OF_BUDGET]
            if budget.exceeded:
                break
            if result is False:
                return False
        if errors and fail:
            raise ConditionError(aggregate(errors))
        return not errors


OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class ConditionError(Exception):
    """Whether the conditions hold cannot be told. The text is what clients see after `is forbidden: `."""


def _compiled(expression: str, variables: Mapping[str, CelType]) -> cel.Program | cel.CompileError:
    try:
        return cel.compile(expression, variables, result=(types.BOOL,), objects=OBJECTS)
    except cel.CompileError as error:
        return error

"""ValidatingAdmissionPolicy: expressions that must be true of what is stored.

Follows k8s.io/apiserver/pkg/admission/plugin/policy/validating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from msgspec import Struct, field

from kubegate import cel
from kubegate.admission import Attributes, Operation, refusal
from kubegate.admission.dependencies import Authorize, Objects
from kubegate.admission.policies import params, programs
from kubegate.admission.policies.params import ConfigurationError
from kubegate.admission.policies.programs import Compiled, Environment, Evaluation, Failed, OutOfBudget
from kubegate.admission.policies.source import Binding, Hook, Source, concerns
from kubegate.admission.webhooks import expressions
from kubegate.admission.webhooks.calls import Versions
from kubegate.admission.webhooks.expressions import ConditionError, Conditions, Invocation, Pace
from kubegate.admission.webhooks.matching import Equivalents
from kubegate.api import Object
from kubegate.api.resources import Resources
from kubegate.api.status import StatusError
from kubegate.cel import costs, types
from kubegate.cel.costs import MATCH_CONDITIONS_BUDGET, POLICY_BUDGET
from kubegate.cel.decisions import Answers
from kubegate.storage import Reader

NAME = "ValidatingAdmissionPolicy"

LONGEST_MESSAGE = 5 * 1024
LONGEST_ANNOTATION = 10 * 1024
CODES = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413, "Invalid": 422}
"""The HTTP status for each reason that a validation may give."""


class Validation(Struct, frozen=True):
    expression: str
    program: Compiled
    message: str
    message_expression: str
    message_program: Compiled | None
    reason: str


class Annotation(Struct, frozen=True):
    key: str
    expression: str
    program: Compiled


class Policy(Struct, frozen=True):
    """A policy's spec, compiled."""

    environment: Environment
    conditions: Conditions
    validations: tuple[Validation, ...]
    annotations: tuple[Annotation, ...]
    pace: Pace = field(default_factory=Pace)


def compile_spec(spec: Object) -> Policy:
    environment = programs.environment(spec)
    validations = []
    for entry in spec.get("validations") or ():
        message = entry.get("messageExpression") or ""
        validations.append(
            Validation(
                expression=entry.get("expression", ""),
                program=environment.compile(entry.get("expression", ""), (types.BOOL,)),
                message=(entry.get("message") or "").strip(),
                message_expression=message,
                message_program=environment.compile(message, (types.STRING,), authorizer=False) if message else None,
                reason=entry.get("reason") or "Invalid",
            )
        )
    annotations = [
        Annotation(
            entry.get("key", ""),
            entry.get("valueExpression", ""),
            environment.compile(entry.get("valueExpression", ""), (types.STRING, types.NULL)),
        )
        for entry in spec.get("auditAnnotations") or ()
    ]
    conditions = Conditions(spec.get("matchConditions") or (), programs.declared(environment.has_params))
    return Policy(environment, conditions, tuple(validations), tuple(annotations))


class Denial(Struct, frozen=True):
    """Why one policy says no. `position` is that of the validation, None for what went wrong around them."""

    message: str
    reason: str = "Invalid"
    position: int | None = None


class _Request(Struct):
    """What is worked out once for a request, and used by all policies."""

    attributes: Attributes
    versions: Versions
    answers: Answers
    namespace: Object | None
    values: dict[Invocation, dict[str, Any]] = field(default_factory=dict)

    async def values_for(self, invocation: Invocation) -> dict[str, Any]:
        found = self.values.get(invocation)
        if found is None:
            new, old = await self.versions.of(invocation.kind)
            found = expressions.values(self.attributes, invocation, new, old, self.answers)
            found["namespaceObject"] = self.namespace
            self.values[invocation] = found
        return found


class ValidatingPolicies:
    name = NAME
    handles = frozenset(Operation)
    resources: frozenset[str] | None = None
    changes = False

    def __init__(
        self, reader: Reader, authorize: Authorize, served: Resources, objects: Objects, equivalents: Equivalents
    ) -> None:
        self._reader, self._authorize, self._served, self._objects = reader, authorize, served, objects
        self._equivalents = equivalents
        self._source = Source(reader, "validatingadmissionpolic", compile_spec, equivalents)

    def idle(self, attributes: Attributes) -> bool:
        return not self._source.bound()

    async def validate(self, attributes: Attributes) -> None:
        hooks = self._source.hooks(attributes)
        if not hooks or not concerns(attributes):
            return
        request = request_of(attributes, self._objects, self._authorize, self._reader)
        denials: list[tuple[Hook[Policy], Binding | None, Denial]] = []
        for _, hook, invocation in hooks:
            denials += await self._ask(hook, request, invocation)
        if denials:
            raise _refused(attributes, *denials[0])

    async def _ask(
        self, hook: Hook[Policy], request: _Request, invocation: Invocation
    ) -> list[tuple[Hook[Policy], Binding | None, Denial]]:
        """The denials of one policy, after warnings and audit annotations have been told."""
        attributes = request.attributes
        try:
            if not hook.match.selects(attributes, self._reader):
                return []
            if hook.parameters is not None:
                params.resource_of(hook.parameters, self._served)
        except (StatusError, ConfigurationError) as error:
            return _misconfigured(hook, None, f"failed to configure policy: {error}")
        denials: list[tuple[Hook[Policy], Binding | None, Denial]] = []
        annotations: dict[str, dict[str, None]] = {}
        for binding in hook.bindings:
            try:
                if not binding.match.matches(attributes, self._equivalents, self._reader):
                    continue
                chosen = params.collect(
                    hook.parameters, binding.parameters, attributes.namespace, self._served, self._reader
                )
            except (StatusError, ConfigurationError) as error:
                denials += _misconfigured(hook, binding, f"failed to configure binding: {error}")
                continue
            for parameter in chosen:
                with attributes.trace.stage(f"policy/{hook.name}") as stage:
                    stage.decision, stage.by = "allow", f"binding {binding.name}"
                    found, values = await self._evaluate(hook, request, invocation, parameter)
                    if found:
                        stage.decision = next((a for a in ("Deny", "Warn") if a in binding.actions), "Audit").lower()
                        stage.reason = "; ".join(denial.message for denial in found)
                if found:
                    denials += _act(hook, binding, found, attributes)
                for key, value in values:
                    if value is None:
                        continue
                    if isinstance(value, Denial):
                        denials.append((hook, binding, value))
                    else:
                        annotations.setdefault(key, {})[value[:LONGEST_ANNOTATION]] = None
        for key, told in annotations.items():
            attributes.trace.annotate(f"{hook.name}/{key}", ", ".join(told))
        return denials

    async def _evaluate(
        self, hook: Hook[Policy], request: _Request, invocation: Invocation, parameter: Object | None
    ) -> tuple[list[Denial], Sequence[tuple[str, str | Denial | None]]]:
        values = await request.values_for(invocation)
        if hook.policy.environment.has_params:
            values = {**values, "params": parameter}
        return await hook.policy.pace.evaluate(request.answers, lambda: _evaluated(hook, values, request.attributes))


def request_of(attributes: Attributes, objects: Objects, authorize: Authorize, reader: Reader) -> _Request:
    """What the expressions of all policies share for one request."""
    namespace = None
    if attributes.namespace and attributes.kind.kind != "Namespace":
        namespace = reader.get("namespaces", "", attributes.namespace)
    return _Request(
        attributes, Versions(attributes, objects), expressions.answers(authorize, attributes.user), namespace
    )


def _evaluated(
    hook: Hook[Policy], values: Mapping[str, Any], attributes: Attributes
) -> tuple[list[Denial], Sequence[tuple[str, str | Denial | None]]]:
    """The denials, and the values of audit annotations by key (None: leave it out)."""
    policy, forgiving = hook.policy, hook.ignores_failure
    conditions, rules, annotations = cel.Budget(MATCH_CONDITIONS_BUDGET), cel.Budget(POLICY_BUDGET), None
    try:
        if policy.conditions:
            seen = expressions.condition_values(values, attributes)
            if not policy.conditions.match(seen, not forgiving, conditions):
                return [], ()
        denials = _validated(policy, values, rules, forgiving)
        if not policy.annotations:
            return denials, ()
        annotations = cel.Budget(POLICY_BUDGET)
        return denials, _annotated(policy, values, annotations, forgiving)
    except ConditionError as error:
        return [Denial(str(error))], ()
    except OutOfBudget as error:
        return ([] if forgiving else [Denial(str(error))]), ()
    finally:
        policy.pace.cost = conditions.spent + rules.spent + (annotations.spent if annotations else 0)


def _validated(policy: Policy, values: Mapping[str, Any], budget: cel.Budget, forgiving: bool) -> list[Denial]:
    evaluation = Evaluation(policy.environment, values, budget)
    denials: list[Denial] = []
    failing: list[tuple[int, Validation]] = []
    for position, validation in enumerate(policy.validations):
        try:
            if evaluation.result(validation.program, validation.expression) is not True:
                failing.append((position, validation))
        except Failed as error:
            if not forgiving:
                denials.append(Denial(str(error), position=position))
    every = _may_cost_too_much(policy, budget)
    if not failing and not every:
        return denials
    messages = Evaluation(policy.environment, _unauthorized(values), budget)
    told = {position for position, _ in failing}
    try:
        said = {
            position: _message(validation, messages)
            for position, validation in enumerate(policy.validations)
            if every or position in told
        }
    except OutOfBudget as error:
        if forgiving:
            return denials
        broken = {denial.position for denial in denials}
        unbroken = [position for position in range(len(policy.validations)) if position not in broken]
        denials += [Denial(f"failed messageExpression: {error}", position=position) for position in unbroken]
    else:
        denials += [Denial(said[position], validation.reason, position) for position, validation in failing]
    return sorted(denials, key=lambda d: d.position or 0)


def _may_cost_too_much(policy: Policy, budget: cel.Budget) -> bool:
    """Whether the messages could use up what is left: all count then, also those of what is not refused."""
    messages = sum(validation.message_program is not None for validation in policy.validations)
    most = (messages + len(policy.environment.variables)) * (costs.PER_CALL * 2)
    return bool(messages) and most > budget.limit - budget.spent


def _unauthorized(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Messages and annotations cannot ask the authorizer, nor can the variables in them."""
    return {name: value for name, value in values.items() if not name.startswith("authorizer")}


def _message(validation: Validation, messages: Evaluation) -> str:
    """What the expression says, where it says one line of bearable length; else the fixed message; else the rule."""
    if validation.message_program is not None:
        try:
            said = messages.result(validation.message_program, validation.message_expression)
        except Failed:
            said = None
        if isinstance(said, str):
            said = said.strip()
            if said and len(said.encode()) <= LONGEST_MESSAGE and "\n" not in said:
                return said
    return validation.message or f"failed expression: {validation.expression.strip()}"


def _annotated(
    policy: Policy, values: Mapping[str, Any], budget: cel.Budget, forgiving: bool
) -> list[tuple[str, str | Denial | None]]:
    evaluation = Evaluation(policy.environment, _unauthorized(values), budget)
    found: list[tuple[str, str | Denial | None]] = []
    for annotation in policy.annotations:
        try:
            value = evaluation.result(annotation.program, annotation.expression)
        except Failed as error:
            found.append((annotation.key, None if forgiving else Denial(str(error))))
            continue
        found.append((annotation.key, value.strip() or None if isinstance(value, str) else None))
    return found


def _misconfigured(
    hook: Hook[Policy], binding: Binding | None, message: str
) -> list[tuple[Hook[Policy], Binding | None, Denial]]:
    return [] if hook.ignores_failure else [(hook, binding, Denial(message))]


def _act(
    hook: Hook[Policy], binding: Binding, found: Sequence[Denial], attributes: Attributes
) -> list[tuple[Hook[Policy], Binding | None, Denial]]:
    """Do as the binding's validationActions say; gives what is to be refused."""
    refused: list[tuple[Hook[Policy], Binding | None, Denial]] = []
    for denial in found:
        for action in binding.actions:
            if action == "Deny":
                refused.append((hook, binding, denial))
            elif action == "Warn":
                attributes.trace.warn(
                    f"Validation failed for ValidatingAdmissionPolicy '{hook.name}' with binding"
                    f" '{binding.name}': {denial.message}"
                )
            elif action == "Audit":
                _audit(hook, binding, denial, attributes)
    return refused


def _audit(hook: Hook[Policy], binding: Binding, denial: Denial, attributes: Attributes) -> None:
    failure = {
        "message": denial.message,
        "policy": hook.name,
        "binding": binding.name,
        "expressionIndex": denial.position or 0,
        "validationActions": list(binding.actions),
    }
    attributes.trace.annotate("validation.policy.admission.k8s.io/validation_failure", orjson.dumps([failure]).decode())


def _refused(attributes: Attributes, hook: Hook[Policy], binding: Binding | None, denial: Denial) -> StatusError:
    bound = f" with binding '{binding.name}'" if binding is not None else ""
    message = f"ValidatingAdmissionPolicy '{hook.name}'{bound} denied request: {denial.message}"
    error = refusal.forbidden(attributes, message)
    details = {**(error.details or {}), "causes": [{"message": message}]}
    return StatusError(CODES.get(denial.reason, 422), denial.reason, error.message, details)

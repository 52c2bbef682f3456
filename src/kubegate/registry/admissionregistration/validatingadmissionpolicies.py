"""ValidatingAdmissionPolicies: validations, messages, audit annotations, variables and conditions in CEL."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError, child, index
from kubegate.cel import types
from kubegate.registry import Rules, Scope
from kubegate.registry.admissionregistration import policies
from kubegate.registry.admissionregistration.expressions import Compiler
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import listed, mapped
from kubegate.registry.conditions import conditions
from kubegate.registry.objectmeta import SAID_OF_IT, keeping

REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
MOST_ANNOTATIONS = 20
LONGEST_VALUE_EXPRESSION = 5 * 1024


def prepare(new: Object, old: Object | None, scope: Scope) -> None:
    """A new policy has an empty status, which kube-apiserver writes."""
    if old is None:
        new["status"] = {}


def validate(new: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = new["spec"]
    compiler = Compiler(spec)
    errors = policies.update_metadata(new, old)
    errors += policies.failure_policy(spec)
    errors += policies.param_kind(spec)
    errors += policies.match_constraints(spec)
    errors += policies.match_conditions(new, old)
    errors += policies.variables(spec, compiler)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        text = "validations or auditAnnotations must contain at least one item"
        return [*errors, *(field.required(f"spec.{name}", text) for name in ("validations", "auditAnnotations"))]
    for position, validation in enumerate(spec.get("validations") or ()):
        errors += _validation(validation, compiler, index("spec.validations", position))
    return errors + _annotations(new, compiler)


def _validation(validation: Object, compiler: Compiler, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    expression = validation.get("expression") or ""
    if not expression.strip():
        errors.append(field.required(child(path, "expression"), "expression is not specified"))
    else:
        errors += compiler.errors(expression, child(path, "expression"), (types.BOOL,))
    message_expression, where = validation.get("messageExpression") or "", child(path, "messageExpression")
    if message_expression and not message_expression.strip():
        errors.append(field.invalid(where, message_expression, "must be non-empty if specified"))
    elif message_expression:
        errors += compiler.errors(message_expression, where, (types.STRING,), authorizer=False)
    message, where = validation.get("message") or "", child(path, "message")
    if message and not message.strip():
        errors.append(field.invalid(where, message, "must be non-empty if specified"))
    elif any(letter in message.strip() for letter in "\n\r"):
        errors.append(field.invalid(where, message, "must not contain line breaks"))
    reason = validation.get("reason")
    if reason is not None and reason not in REASONS:
        errors.append(field.not_supported(child(path, "reason"), reason, REASONS))
    return errors


def _annotations(policy: Object, compiler: Compiler) -> list[FieldError]:
    annotations, path = policy["spec"].get("auditAnnotations") or [], "spec.auditAnnotations"
    errors: list[FieldError] = []
    if len(annotations) > MOST_ANNOTATIONS:
        text = f"must not have more than {MOST_ANNOTATIONS} auditAnnotations"
        errors.append(field.invalid(path, annotations, text))
    name, seen = policy["metadata"].get("name") or "", set[str]()
    for position, annotation in enumerate(annotations):
        where, key = index(path, position), annotation.get("key") or ""
        if name:
            full = f"{name}/{key}"
            errors += [field.invalid(child(where, "key"), full, text) for text in names.is_qualified_name(full)]
        else:
            errors.append(field.invalid(child(where, "key"), key, "requires metadata.name be non-empty"))
        errors += _value(annotation, compiler, child(where, "valueExpression"))
        if key in seen:
            errors.append(field.duplicate(child(where, "key"), key))
        seen.add(key)
    return errors


def _value(annotation: Object, compiler: Compiler, path: str) -> list[FieldError]:
    expression = annotation.get("valueExpression") or ""
    trimmed = expression.strip()
    if not trimmed:
        return [field.required(path, "valueExpression is not specified")]
    if len(trimmed.encode()) > LONGEST_VALUE_EXPRESSION:
        return [field.required(path, f"must not exceed {LONGEST_VALUE_EXPRESSION} bytes in length")]
    return compiler.errors(trimmed, path, (types.STRING, types.NULL), shown=expression)


def _validate_status(new: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    status = mapped(new, "status")
    errors: list[FieldError] = []
    for position, warning in enumerate(listed(mapped(status, "typeChecking"), "expressionWarnings")):
        where = index("status.typeChecking.expressionWarnings", position)
        if not warning.get("warning"):
            errors.append(field.required(child(where, "warning")))
        if not (warning.get("fieldRef") or "").strip():
            errors.append(field.required(child(where, "fieldRef")))
    return errors + conditions(status, "status.conditions")


RULES = Rules(
    default=Defaulted("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy", policies.default_policy),
    guard=policies.guard_policy(validate),
    prepare=prepare,
    validate=validate,
    status=True,
    generation=True,
    unconditional_update=False,
    subresources={"status": Rules(prepare=keeping(*SAID_OF_IT), validate=_validate_status)},
)

"""MutatingAdmissionPolicies: mutations in CEL, as apply configurations or as JSON patches."""

from __future__ import annotations

from kubegate.admission.policies.mutating import JSON_PATCHES, OBJECT
from kubegate.api import Object, field
from kubegate.api.field import FieldError, child, index
from kubegate.cel import CelType
from kubegate.registry import Rules, Scope
from kubegate.registry.admissionregistration import policies
from kubegate.registry.admissionregistration.expressions import Compiler
from kubegate.registry.admissionregistration.webhooks import REINVOCATION_POLICIES
from kubegate.registry.canonical import Defaulted

OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")
_FORMS: dict[str, tuple[str, str, CelType]] = {
    "ApplyConfiguration": ("applyConfiguration", "jsonPatch", OBJECT),
    "JSONPatch": ("jsonPatch", "applyConfiguration", JSON_PATCHES),
}
"""By patchType: the field that it needs, the one that it excludes, and the type of the expression's result."""


def validate(new: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = new["spec"]
    compiler = Compiler(spec)
    errors = policies.update_metadata(new, old)
    errors += policies.failure_policy(spec)
    reinvocation = spec.get("reinvocationPolicy") or ""
    if not reinvocation:
        errors.append(field.required("spec.reinvocationPolicy"))
    elif reinvocation not in REINVOCATION_POLICIES:
        errors.append(field.not_supported("spec.reinvocationPolicy", reinvocation, REINVOCATION_POLICIES))
    errors += policies.param_kind(spec)
    errors += policies.match_constraints(spec)
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            if operation not in OPERATIONS:
                path = "spec.matchConstraints.resourceRules.operations"
                errors.append(field.not_supported(path, operation, OPERATIONS))
    errors += policies.match_conditions(new, old)
    errors += policies.variables(spec, compiler)
    mutations = spec.get("mutations") or []
    if not mutations:
        errors.append(field.required("spec.mutations", "mutations must contain at least one item"))
    for position, mutation in enumerate(mutations):
        errors += _mutation(mutation, compiler, index("spec.mutations", position))
    return errors


def _mutation(mutation: Object, compiler: Compiler, path: str) -> list[FieldError]:
    kind = mutation.get("patchType") or ""
    if kind not in _FORMS:
        where = child(path, "patchType")
        return [field.not_supported(where, kind, PATCH_TYPES) if kind else field.required(where)]
    wanted, other, result = _FORMS[kind]
    errors: list[FieldError] = []
    if mutation.get(wanted) is None:
        errors.append(field.required(child(path, wanted), f"must be specified when patchType is {kind}"))
    else:
        expression, where = mutation[wanted].get("expression") or "", child(child(path, wanted), "expression")
        if not expression.strip():
            errors.append(field.required(where, "expression is not specified"))
        else:
            errors += compiler.errors(expression, where, (result,), mutation=True)
    if mutation.get(other) is not None:
        text = f"must not be specified when patchType is {kind}"
        errors.append(field.invalid(child(path, other), f"{{{other}}}", text))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy", policies.default_policy),
    guard=policies.guard_policy(validate),
    validate=validate,
    generation=True,
    unconditional_update=False,
)

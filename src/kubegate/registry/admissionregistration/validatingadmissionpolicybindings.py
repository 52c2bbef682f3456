"""ValidatingAdmissionPolicyBindings: where a policy holds, with which parameters, and what comes of a violation."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError, index
from kubegate.registry import Rules, Scope
from kubegate.registry.admissionregistration import policies
from kubegate.registry.admissionregistration.matching import validate_match_resources
from kubegate.registry.canonical import Defaulted

ACTIONS = ("Audit", "Deny", "Warn")


def validate(new: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = new["spec"]
    errors = policies.update_metadata(new, old)
    errors += policies.policy_name(spec)
    errors += policies.param_ref(spec)
    # the misspelt path is kube-apiserver's own
    errors += validate_match_resources(spec.get("matchResources"), "spec.matchResouces")
    return errors + _actions(spec)


def _actions(spec: Object) -> list[FieldError]:
    actions, path = spec.get("validationActions") or [], "spec.validationActions"
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, action in enumerate(actions):
        if action not in ACTIONS:
            errors.append(field.not_supported(index(path, position), action, ACTIONS))
        if action in seen:
            errors.append(field.duplicate(index(path, position), action))
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API"
            " response and headers serves no purpose)"
        )
        errors.append(field.invalid(path, actions, text))
    if not actions:
        errors.append(field.required(path, "at least one validation action is required"))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding", policies.default_binding),
    guard=policies.guard_binding(validate, "validatingadmissionpolicies.admissionregistration.k8s.io"),
    validate=validate,
    generation=True,
    unconditional_update=False,
)

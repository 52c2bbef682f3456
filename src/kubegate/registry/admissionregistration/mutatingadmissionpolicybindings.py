"""MutatingAdmissionPolicyBindings: where a policy holds, and with which parameters."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.admissionregistration import policies
from kubegate.registry.admissionregistration.matching import validate_match_resources
from kubegate.registry.canonical import Defaulted


def validate(new: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = new["spec"]
    errors = policies.update_metadata(new, old)
    errors += policies.policy_name(spec)
    errors += policies.param_ref(spec)
    # the misspelt path is kube-apiserver's own
    return errors + validate_match_resources(spec.get("matchResources"), "spec.matchResouces")


RULES = Rules(
    default=Defaulted("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding", policies.default_binding),
    guard=policies.guard_binding(validate, "mutatingadmissionpolicies.admissionregistration.k8s.io"),
    validate=validate,
    generation=True,
    unconditional_update=False,
)

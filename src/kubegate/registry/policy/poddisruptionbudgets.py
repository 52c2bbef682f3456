"""PodDisruptionBudgets: how many pods of a kind an eviction must leave. Evictions are in `core.evictions`."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_selector
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import at_most_100_percent, int_or_percent, mapped, nonnegative
from kubegate.registry.conditions import conditions

_TYPE = "io.k8s.api.policy.v1.PodDisruptionBudget"
_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
_EVICTION_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec, errors = obj["spec"], []
    if "minAvailable" in spec and "maxUnavailable" in spec:
        shown = {
            "MinAvailable": spec["minAvailable"],
            "Selector": spec.get("selector"),
            "MaxUnavailable": spec["maxUnavailable"],
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }
        errors.append(field.invalid("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
    for name in ("minAvailable", "maxUnavailable"):
        if name in spec:
            path = f"spec.{name}"
            errors += int_or_percent(spec[name], path) + at_most_100_percent(spec[name], path)
    errors += validate_selector(spec.get("selector"), "spec.selector", allow_invalid_values=old is not None)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _EVICTION_POLICIES:
        errors.append(field.not_supported("spec.unhealthyPodEvictionPolicy", policy, _EVICTION_POLICIES))
    return errors


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    status = mapped(obj, "status")
    errors = conditions(status, "status.conditions")
    for name in _COUNTS:
        errors += nonnegative(status.get(name) or 0, f"status.{name}")
    return errors


RULES = Rules(
    default=Defaulted(_TYPE),
    prepare=with_blank_status(_TYPE),
    validate=_validate,
    status=True,
    generation=True,
    subresources={"status": Rules(validate=_validate_status)},
)

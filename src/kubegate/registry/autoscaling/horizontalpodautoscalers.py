"""HorizontalPodAutoscalers, checked in the form of autoscaling/v2 whatever version they come in."""

from __future__ import annotations

from typing import Any

from kubegate.api import Object, clone, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, conversion
from kubegate.registry.canonical import canonical
from kubegate.registry.checks import amount, dns_label, listed, mapped, nonnegative, wrong
from kubegate.registry.core.podspec import resources
from kubegate.registry.objectmeta import checked

_V1, _V2 = "autoscaling/v1", "autoscaling/v2"
_DEFAULT_UTILIZATION = 80
_MAX_WINDOW, _MAX_PERIOD = 3600, 1800
# In the order in which they are looked at.
_SOURCES = {
    "object": "Object",
    "external": "External",
    "pods": "Pods",
    "resource": "Resource",
    "containerResource": "ContainerResource",
}
_TYPES = tuple(sorted(_SOURCES.values()))
_ONE_OF_TARGETS = "must set either a target raw value or a target utilization"
_NOT_BOTH_TARGETS = "may not set both a target raw value and a target utilization"


def _default(obj: Object) -> None:
    first = obj.get("apiVersion") == _V1
    canonical(obj, f"io.k8s.api.autoscaling.{'v1' if first else 'v2'}.HorizontalPodAutoscaler")
    spec = obj["spec"]
    spec.setdefault("minReplicas", 1)
    if first:
        return
    if not listed(spec, "metrics"):
        target = {"type": "Utilization", "averageUtilization": _DEFAULT_UTILIZATION}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        _default_rules(behavior, "scaleUp")
        _default_rules(behavior, "scaleDown")


def _default_rules(behavior: Object, side: str) -> None:
    rules = behavior.setdefault(side, {})
    policies = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
    if side == "scaleUp":
        policies.insert(0, {"type": "Pods", "value": 4, "periodSeconds": 15})
        rules.setdefault("stabilizationWindowSeconds", 0)
    rules.setdefault("selectPolicy", "Max")
    rules.setdefault("policies", policies)


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    first = obj.get("apiVersion") == _V1
    if old is None:
        blank: Object = {"apiVersion": obj.get("apiVersion")}
        canonical(blank, f"io.k8s.api.autoscaling.{'v1' if first else 'v2'}.HorizontalPodAutoscaler")
        obj["status"] = blank["status"]
    if first and not listed(_as_v2(obj)["spec"], "metrics"):
        # What is kept is v2, where metrics have a default.
        obj["spec"]["targetCPUUtilizationPercentage"] = _DEFAULT_UTILIZATION


def _as_v2(obj: Object) -> Object:
    return conversion.convert(clone(obj), _V1, _V2) if obj.get("apiVersion") == _V1 else obj


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = _as_v2(obj)["spec"]
    # A stored zero was allowed once.
    lowest = 0 if old is not None and old["spec"].get("minReplicas") == 0 else 1
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    errors = []
    if least is not None and least < lowest:
        errors.append(field.invalid("spec.minReplicas", least, f"must be greater than or equal to {lowest}"))
    if most == 0:
        errors.append(field.required("spec.maxReplicas", "must be set and greater than 0"))
    elif most < 0:
        errors.append(field.invalid("spec.maxReplicas", most, "must be greater than or equal to 1"))
    if least is not None and most < least:
        errors.append(field.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    before = None if old is None else _as_v2(old)["spec"]
    target, metrics = mapped(spec, "scaleTargetRef"), listed(spec, "metrics")
    errors += _reference(target, "spec.scaleTargetRef") + _scaled_version(target, before)
    # What described objects of no version were let in once, may stay and be joined by others.
    lenient = any(_version_error(_described(metric)) for metric in listed(before, "metrics"))
    for position, metric in enumerate(metrics):
        errors += _metric(metric, field.index("spec.metrics", position), lenient=lenient)
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        text = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(field.forbidden("spec.metrics", text))
    for side in ("scaleUp", "scaleDown"):
        rules = mapped(spec, "behavior").get(side)
        if rules is not None:
            errors += _scaling_rules(rules, f"spec.behavior.{side}")
    return errors


def _segment(holder: Object, name: str, path: str, missing: str = "") -> list[FieldError]:
    value, where = holder.get(name, ""), field.child(path, name)
    return wrong(where, value, names.path_segment_name(value)) if value else [field.required(where, missing)]


def _reference(reference: Object, path: str) -> list[FieldError]:
    return _segment(reference, "kind", path) + _segment(reference, "name", path)


def _scaled_version(target: Object, before: Object | None) -> list[FieldError]:
    """Whether the apiVersion tells a group, as that of all that scales does but for ReplicationControllers."""
    given, kind = target.get("apiVersion", ""), target.get("kind", "")
    old = mapped(before, "scaleTargetRef")
    if before is not None and (old.get("apiVersion", ""), old.get("kind", "")) == (given, kind):
        return []
    text = _version_error(target)
    if not text and not given.rpartition("/")[0] and kind != "ReplicationController":
        text = "apiVersion must specify API group"
    return [field.invalid("spec.scaleTargetRef.apiVersion", given, text)] if text else []


def _version_error(reference: Object) -> str:
    given = reference.get("apiVersion", "")
    return f"unexpected GroupVersion string: {given}" if given.count("/") > 1 else ""


def _described(metric: Object) -> Object:
    """What a metric of type Object is measured of."""
    return mapped(mapped(metric, "object"), "describedObject") if metric.get("type") == "Object" else {}


# ---------------------------------------------------------------------- metrics
def _metric(metric: Object, path: str, *, lenient: bool) -> list[FieldError]:
    kind, where = metric.get("type", ""), field.child(path, "type")
    errors = []
    if not kind:
        errors.append(field.required(where, "must specify a metric source type"))
    if kind not in _TYPES:
        errors.append(field.not_supported(where, kind, _TYPES))
    present = [name for name in _SOURCES if metric.get(name) is not None]
    if present:
        errors += _source(present[0], metric[present[0]], field.child(path, present[0]), lenient=lenient)
    expected = next((name for name, shown in _SOURCES.items() if shown == kind), "")
    if not expected:
        errors.append(field.not_supported(where, kind, _TYPES))
    elif metric.get(expected) is None:
        text = "must populate information for the given metric source"
        errors.append(field.required(field.child(path, expected), text))
    if len(present) != 1:
        text = "must populate the given metric source only"
        errors += [field.forbidden(field.child(path, name), text) for name in present if name != expected]
    return errors


def _source(name: str, source: Object, path: str, *, lenient: bool) -> list[FieldError]:
    target, where = mapped(source, "target"), field.child(path, "target")
    errors: list[FieldError] = []
    if name == "object":
        described, here = mapped(source, "describedObject"), field.child(path, "describedObject")
        errors += _reference(described, here)
        text = "" if lenient else _version_error(described)
        errors += [field.invalid(field.child(here, "apiVersion"), described["apiVersion"], text)] if text else []
    if name in ("object", "external", "pods"):
        errors += _segment(mapped(source, "metric"), "name", field.child(path, "metric"), "must specify a metric name")
    elif not source.get("name"):
        errors.append(field.required(field.child(path, "name"), "must specify a resource name"))
    elif name == "containerResource":
        errors += resources.container_resource_name(source["name"], field.child(path, "name"))
    if name == "containerResource":
        container, here = source.get("container", ""), field.child(path, "container")
        errors += dns_label(container, here) if container else [field.required(here, "must specify a container")]
    return errors + _target(target, where) + _wanted(name, target, where)


def _wanted(name: str, target: Object, path: str) -> list[FieldError]:
    """Which of a target's values there must be, and which may not come together."""
    average, value, share = (target.get(one) for one in ("averageValue", "value", "averageUtilization"))
    where = field.child(path, "averageValue")
    errors = []
    if name == "pods":
        return [] if average is not None else [field.required(where, "must specify a positive target averageValue")]
    if name in ("object", "external"):
        text = "must set either a target value or averageValue"
        if name == "external":
            text = "must set either a target value for metric or a per-pod target"
        if value is None and average is None:
            errors.append(field.required(where, text))
        if name == "external" and value is not None and average is not None:
            text = "may not set both a target value for metric and a per-pod target"
            errors.append(field.forbidden(field.child(path, "value"), text))
        return errors
    if share is None and average is None:
        errors.append(field.required(field.child(path, "averageUtilization"), _ONE_OF_TARGETS))
    if share is not None and average is not None:
        errors.append(field.forbidden(where, _NOT_BOTH_TARGETS))
    return errors


def _target(target: Object, path: str) -> list[FieldError]:
    errors = []
    kind, where = target.get("type", ""), field.child(path, "type")
    if not kind:
        errors.append(field.required(where, "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        errors.append(field.invalid(where, kind, "must be either Utilization, Value, or AverageValue"))
    for name in ("value", "averageValue"):
        found: Any = target.get(name)
        if found is not None and amount(found).sign() != 1:
            errors.append(field.invalid(field.child(path, name), str(amount(found)), "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        errors.append(field.invalid(field.child(path, "averageUtilization"), share, "must be greater than 0"))
    return errors


# ---------------------------------------------------------------------- behavior
def _scaling_rules(rules: Object, path: str) -> list[FieldError]:
    errors = []
    window, where = rules.get("stabilizationWindowSeconds"), field.child(path, "stabilizationWindowSeconds")
    if window is not None and window < 0:
        errors.append(field.invalid(where, window, "must be greater than or equal to zero"))
    if window is not None and window > _MAX_WINDOW:
        errors.append(field.invalid(where, window, f"must be less than or equal to {_MAX_WINDOW}"))
    chosen = rules.get("selectPolicy")
    if chosen is not None and chosen not in ("Disabled", "Max", "Min"):
        errors.append(field.not_supported(field.child(path, "selectPolicy"), chosen, ("Disabled", "Max", "Min")))
    policies, where = listed(rules, "policies"), field.child(path, "policies")
    if not policies:
        errors.append(field.required(where, "must specify at least one Policy"))
    for position, policy in enumerate(policies):
        errors += _scaling_policy(policy, field.index(where, position))
    tolerance = rules.get("tolerance")
    if tolerance is not None and amount(tolerance).sign() < 0:
        text = "must be greater than or equal to 0"
        errors.append(field.invalid(field.child(path, "tolerance"), str(amount(tolerance)), text))
    return errors


def _scaling_policy(policy: Object, path: str) -> list[FieldError]:
    errors = []
    kind, value, period = policy.get("type", ""), policy.get("value", 0), policy.get("periodSeconds", 0)
    if kind not in ("Pods", "Percent"):
        errors.append(field.not_supported(field.child(path, "type"), kind, ("Percent", "Pods")))
    if value <= 0:
        errors.append(field.invalid(field.child(path, "value"), value, "must be greater than zero"))
    where = field.child(path, "periodSeconds")
    if period <= 0:
        errors.append(field.invalid(where, period, "must be greater than zero"))
    if period > _MAX_PERIOD:
        errors.append(field.invalid(where, period, f"must be less than or equal to {_MAX_PERIOD}"))
    return errors


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    status = mapped(obj, "status")
    errors = nonnegative(status.get("currentReplicas") or 0, "status.currentReplicas")
    return errors + nonnegative(status.get("desiredReplicas") or 0, "status.desiredReplicas")


RULES = Rules(
    default=_default,
    prepare=_prepare,
    validate=checked(_validate),
    status=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)

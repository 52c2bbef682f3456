"""The same object in another version: autoscaling v1 and v2, and events of the core group and of events.k8s.io.

Custom resources are the same in all versions but for what a version's schema does not know, unless their definition
converts through a webhook (`by_webhook`): who asks that is `apiextensions.conversion`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from kubegate.api import Object, clone
from kubegate.api.field import HTML
from kubegate.api.normalize import TypeMismatch, complete, normalize
from kubegate.api.resources import Resource
from kubegate.api.schema import schema_for
from kubegate.registry import goshape

_EVENT_FIELDS: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_NEWER_EVENT_FIELDS: Final = {newer: older for older, newer in _EVENT_FIELDS.items()}


def convert(obj: Object, from_api_version: str, to_api_version: str, resource: Resource | None = None) -> Object:
    """`obj` (which is not changed) in another apiVersion of its kind. Raises KeyError where none is known."""
    if from_api_version == to_api_version:
        return obj
    if resource is not None and resource.custom is not None:
        from kubegate.registry.apiextensions.customresources import in_version

        return in_version(obj, to_api_version, resource)
    kind = obj.get("kind") or (resource.kind if resource is not None else "")
    converted = _CONVERSIONS[(kind, from_api_version, to_api_version)](clone(obj))
    converted["kind"], converted["apiVersion"] = kind, to_api_version
    group, _, version = to_api_version.rpartition("/")
    schema = schema_for(group, version, kind)
    assert schema is not None
    return complete(converted, schema)


def by_webhook(resource: Resource | None) -> bool:
    """Whether the versions of a resource are made of each other by a webhook."""
    custom = resource.custom if resource is not None else None
    return custom is not None and custom.conversion.get("strategy") == "Webhook"


def _renamed(names: dict[str, str]) -> Callable[[Object], Object]:
    def of(obj: Object) -> Object:
        return {names.get(name, name): value for name, value in obj.items()}

    return of


# ---------------------------------------------------------------------- horizontal pod autoscalers
# What v1 has no field for is kept in annotations, in the form of v2beta1.
_ANNOTATIONS: Final = "autoscaling.alpha.kubernetes.io/"
_METRICS: Final = f"{_ANNOTATIONS}metrics"
_CURRENT_METRICS: Final = f"{_ANNOTATIONS}current-metrics"
_CONDITIONS: Final = f"{_ANNOTATIONS}conditions"
_BEHAVIOR: Final = f"{_ANNOTATIONS}behavior"
_CPU: Final = "cpu"


def _v2_to_v1(obj: Object) -> Object:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    annotations = obj.setdefault("metadata", {}).setdefault("annotations", {})
    metrics = spec.pop("metrics", None) or []
    first: Object = next((metric for metric in metrics if _is_cpu(metric)), {})
    utilization = _cpu_utilization(first, "target")
    if utilization is not None:
        spec["targetCPUUtilizationPercentage"] = utilization
    others = [metric for metric in metrics if _cpu_utilization(metric, "target") is None]
    _keep(annotations, _METRICS, [_old_metric(metric, "target") for metric in others])
    # Of what is, the annotation tells all: v1's own field says nothing of raw values.
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        utilization = _cpu_utilization(metric, "current")
        if utilization is not None:
            status["currentCPUUtilizationPercentage"] = utilization
    _keep(annotations, _CURRENT_METRICS, [_old_metric(metric, "current") for metric in current])
    conditions = [
        _in_order({"lastTransitionTime": None, **one}, _CONDITION) for one in status.pop("conditions", None) or []
    ]
    _keep(annotations, _CONDITIONS, conditions)
    behavior = spec.pop("behavior", None)
    # kube-apiserver writes its internal type here, by Go's names.
    shown = goshape.shape(behavior, "HorizontalPodAutoscalerBehavior") if behavior is not None else None
    _keep(annotations, _BEHAVIOR, shown)
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    return obj


def _v1_to_v2(obj: Object) -> Object:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    annotations = obj.setdefault("metadata", {}).get("annotations") or {}
    metrics = _noted(annotations, _METRICS, "spec", "metrics", lambda found: _new_metrics(found, "target")) or []
    utilization = spec.pop("targetCPUUtilizationPercentage", None)
    if utilization is not None:
        metrics.append(_cpu_metric("target", {"type": "Utilization", "averageUtilization": utilization}))
    if metrics:
        spec["metrics"] = metrics
    current = _noted(
        annotations, _CURRENT_METRICS, "status", "currentMetrics", lambda found: _new_metrics(found, "current")
    )
    utilization = status.pop("currentCPUUtilizationPercentage", None)
    if utilization is not None and not current:
        current = [_cpu_metric("current", {"averageUtilization": utilization})]
    if current:
        status["currentMetrics"] = current
    conditions = _noted(annotations, _CONDITIONS, "status", "conditions", lambda found: found)
    if conditions:
        status["conditions"] = conditions
    behavior = _noted(annotations, _BEHAVIOR, "spec", "behavior", _by_json_names)
    if behavior:
        spec["behavior"] = behavior
    if not annotations:
        obj["metadata"].pop("annotations", None)
    return obj


def _cpu_metric(side: str, value: Object) -> Object:
    return {"type": "Resource", "resource": {"name": _CPU, side: value}}


def _is_cpu(metric: Object) -> bool:
    return metric.get("type") == "Resource" and (metric.get("resource") or {}).get("name") == _CPU


def _cpu_utilization(metric: Object, side: str) -> Any:
    """The one kind of metric that v1 has a field for."""
    return (metric["resource"].get(side) or {}).get("averageUtilization") if _is_cpu(metric) else None


def _keep(annotations: dict[str, str], name: str, value: Any) -> None:
    if value:
        annotations[name] = orjson.dumps(value).decode().translate(HTML)
    else:
        annotations.pop(name, None)


def _by_json_names(value: Any) -> Any:
    if isinstance(value, list):
        return [_by_json_names(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name[:1].lower() + name[1:]: _by_json_names(one) for name, one in value.items() if one is not None}


def _noted(annotations: dict[str, str], name: str, part: str, field: str, read: Callable[[Any], Any]) -> Any:
    """What an annotation holds, read for a field of v2; it is gone then. What does not fit counts for nothing."""
    text = annotations.pop(name, None)
    schema = schema_for("autoscaling", "v2", "HorizontalPodAutoscaler")
    if text is None or schema is None:
        return None
    try:
        return normalize({part: {field: read(orjson.loads(text))}}, schema).value[part].get(field)
    except (orjson.JSONDecodeError, TypeMismatch):
        return None


def _new_metrics(found: Any, side: str) -> Any:
    """Metrics in v2's form, as far as they can be read: what is none of them is left for who looks at types."""
    if not isinstance(found, list) or not all(map(_is_flat, found)):
        return found
    return [_new_metric(metric, side) for metric in found]


def _is_flat(metric: Any) -> bool:
    if not isinstance(metric, dict) or not isinstance(metric.get("type", ""), str):
        return False
    return isinstance(metric.get(_SOURCES.get(metric.get("type", ""), ""), {}), dict)


# type of metric -> its field in both versions
_SOURCES: Final = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


_CONDITION: Final = ("type", "status", "lastTransitionTime", "reason", "message")
_REFERENCE: Final = ("kind", "name", "apiVersion")
_SELECTOR: Final = ("matchLabels", "matchExpressions")
_REQUIREMENT: Final = ("key", "operator", "values")
_NO_AMOUNT: Final = "0"
_IDENTIFIED: Final = ("metricName", ("metric", "name"), "")


def _flat(side: str) -> dict[str, tuple[tuple[str, tuple[str, ...], Any], ...]]:
    """By source, v1's fields in its order: where v2 has each, and what stands for one that has to be there."""
    selector = ("selector", ("metric", "selector"), None)
    of_object: tuple[str, tuple[str, ...], Any] = ("target", ("describedObject",), {})
    name, container = ("name", ("name",), ""), ("container", ("container",), "")
    utilization = (f"{side}AverageUtilization", (side, "averageUtilization"), None)
    optional = None if side == "target" else _NO_AMOUNT
    average = (f"{side}AverageValue", (side, "averageValue"), optional)
    return {
        "object": (
            of_object,
            _IDENTIFIED,
            (f"{side}Value", (side, "value"), _NO_AMOUNT),
            selector,
            ("averageValue", (side, "averageValue"), None),
        ),
        "pods": (_IDENTIFIED, (f"{side}AverageValue", (side, "averageValue"), _NO_AMOUNT), selector),
        "resource": (name, utilization, average),
        "containerResource": (name, utilization, average, container),
        "external": (
            _IDENTIFIED,
            ("metricSelector", ("metric", "selector"), None),
            (f"{side}Value", (side, "value"), optional),
            (f"{side}AverageValue", (side, "averageValue"), None),
        ),
    }


_FLAT: Final = {side: _flat(side) for side in ("target", "current")}


def _old_metric(metric: Object, side: str) -> Object:
    """A v2 metric in the flat form: `targetAverageUtilization`, `currentAverageValue`, `metricName` …"""
    name = _SOURCES.get(metric.get("type", ""), "")
    if not name:  # a metric that could not be had
        return {"type": metric.get("type", "")}
    flat: Object = {}
    for field, path, otherwise in _FLAT[side].get(name, ()):
        found: Any = metric.get(name) or {}
        for part in path:
            found = (found or {}).get(part)
        if found is None:
            found = otherwise
        if found is not None:
            flat[field] = _written(found, path[-1])
    return {"type": metric.get("type", ""), name: flat}


def _written(value: Any, field: str) -> Any:
    """A value as Go writes it."""
    if field == "describedObject":
        return _in_order({"kind": "", "name": "", **value}, _REFERENCE)
    if field == "selector":
        expressions = [_in_order(one, _REQUIREMENT) for one in value.get("matchExpressions") or ()]
        labels = dict(sorted((value.get("matchLabels") or {}).items()))
        found = {"matchLabels": labels, "matchExpressions": expressions}
        return {name: found[name] for name in _SELECTOR if found[name]}
    return value


def _in_order(value: Object, names: tuple[str, ...]) -> Object:
    return {name: value[name] for name in names if name in value}


def _new_metric(metric: Object, side: str) -> Object:
    name = _SOURCES.get(metric.get("type", ""), "")
    if not name:
        return {"type": metric.get("type", "")}
    flat = metric.get(name) or {}
    found: Object = {side: {}}
    for field, path, otherwise in _FLAT[side].get(name, ()):
        value = flat.get(field)
        if value is None:
            value = otherwise
        if value is None:
            continue
        place = found
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = dict(value) if isinstance(value, dict) else value
    if side == "target":
        found[side]["type"] = _target_type(name, found[side])
    return {"type": metric.get("type", ""), name: found}


def _target_type(name: str, target: Object) -> str:
    if "averageUtilization" in target:
        return "Utilization"
    by_value = "averageValue" not in target if name == "object" else name == "external" and "value" in target
    return "Value" if by_value else "AverageValue"


_CONVERSIONS: Final[dict[tuple[str, str, str], Callable[[Object], Object]]] = {
    ("Event", "v1", "events.k8s.io/v1"): _renamed(_EVENT_FIELDS),
    ("Event", "events.k8s.io/v1", "v1"): _renamed(_NEWER_EVENT_FIELDS),
    ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2"): _v1_to_v2,
    ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1"): _v2_to_v1,
}

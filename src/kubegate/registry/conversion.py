"""The same object in another version: autoscaling v1 and v2, and events of the core group and of events.k8s.io.

Custom resources are the same in all versions but for what a version's schema does not know, unless their definition
converts through a webhook (`by_webhook`): who asks that is `apiextensions.conversion`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from kubegate.api import Object, clone
from kubegate.api.normalize import complete
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
    others = []
    for metric in spec.pop("metrics", None) or []:
        utilization = _cpu_utilization(metric, "target")
        if utilization is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = utilization
        else:
            others.append(_old_metric(metric, "target"))
    _keep(annotations, _METRICS, others)
    current = []
    for metric in status.pop("currentMetrics", None) or []:
        utilization = _cpu_utilization(metric, "current")
        if utilization is not None:
            status["currentCPUUtilizationPercentage"] = utilization
        else:
            current.append(_old_metric(metric, "current"))
    _keep(annotations, _CURRENT_METRICS, current)
    _keep(annotations, _CONDITIONS, status.pop("conditions", None))
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
    metrics = [_new_metric(metric, "target") for metric in _taken(annotations, _METRICS, [])]
    utilization = spec.pop("targetCPUUtilizationPercentage", None)
    if utilization is not None:
        metrics.append(_cpu_metric("target", {"type": "Utilization", "averageUtilization": utilization}))
    if metrics:
        spec["metrics"] = metrics
    current = [_new_metric(metric, "current") for metric in _taken(annotations, _CURRENT_METRICS, [])]
    utilization = status.pop("currentCPUUtilizationPercentage", None)
    if utilization is not None:
        current.append(_cpu_metric("current", {"averageUtilization": utilization}))
    if current:
        status["currentMetrics"] = current
    conditions = _taken(annotations, _CONDITIONS, [])
    if conditions:
        status["conditions"] = conditions
    behavior = _by_json_names(_taken(annotations, _BEHAVIOR, {}))
    if behavior:
        spec["behavior"] = behavior
    if not annotations:
        obj["metadata"].pop("annotations", None)
    return obj


def _cpu_metric(side: str, value: Object) -> Object:
    return {"type": "Resource", "resource": {"name": _CPU, side: value}}


def _cpu_utilization(metric: Object, side: str) -> Any:
    """The one kind of metric that v1 has a field for."""
    found = metric.get("resource") or {}
    if metric.get("type") != "Resource" or found.get("name") != _CPU:
        return None
    return (found.get(side) or {}).get("averageUtilization")


def _keep(annotations: dict[str, str], name: str, value: Any) -> None:
    if value:
        annotations[name] = orjson.dumps(value).decode()
    else:
        annotations.pop(name, None)


def _by_json_names(value: Any) -> Any:
    if isinstance(value, list):
        return [_by_json_names(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name[:1].lower() + name[1:]: _by_json_names(one) for name, one in value.items() if one is not None}


def _taken(annotations: dict[str, str], name: str, otherwise: Any) -> Any:
    """What an annotation holds; it is gone then. Text that is none of ours counts for nothing."""
    text = annotations.pop(name, None)
    if text is None:
        return otherwise
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise


# type of metric -> its field in both versions
_SOURCES: Final = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


def _old_metric(metric: Object, side: str) -> Object:
    """A v2 metric in the flat form: `targetAverageUtilization`, `currentAverageValue`, `metricName` …"""
    name = _SOURCES.get(metric.get("type", ""), "")
    found = dict(metric.get(name) or {})
    value = found.pop(side, None) or {}
    identifier = found.pop("metric", None) or {}
    if "name" in identifier:
        found["metricName"] = identifier["name"]
    if identifier.get("selector") is not None:
        found["metricSelector" if name == "external" else "selector"] = identifier["selector"]
    described = found.pop("describedObject", None)
    if described is not None:
        found["target"] = described
    if "averageUtilization" in value:
        found[f"{side}AverageUtilization"] = value["averageUtilization"]
    if "averageValue" in value:
        key = "averageValue" if name == "object" else f"{side}AverageValue"
        found[key] = value["averageValue"]
    if "value" in value:
        found[f"{side}Value"] = value["value"]
    return {"type": metric.get("type", ""), name: found}


def _new_metric(metric: Object, side: str) -> Object:
    name = _SOURCES.get(metric.get("type", ""), "")
    found = dict(metric.get(name) or {})
    value: Object = {}
    kind = ""
    for key, target, which in (
        (f"{side}AverageUtilization", "averageUtilization", "Utilization"),
        ("averageValue", "averageValue", "AverageValue"),
        (f"{side}AverageValue", "averageValue", "AverageValue"),
        (f"{side}Value", "value", "Value"),
    ):
        if found.get(key) is not None:
            value[target] = found[key]
            kind = kind or which
        found.pop(key, None)
    described = found.pop("target", None) if name == "object" else None
    identifier: Object = {}
    if "metricName" in found:
        identifier["name"] = found.pop("metricName")
    for key in ("metricSelector", "selector"):
        if found.get(key) is not None:
            identifier["selector"] = found[key]
        found.pop(key, None)
    if identifier:
        found["metric"] = identifier
    if described is not None:
        found["describedObject"] = described
    if side == "target":
        value["type"] = kind
    found[side] = value
    return {"type": metric.get("type", ""), name: found}


_CONVERSIONS: Final[dict[tuple[str, str, str], Callable[[Object], Object]]] = {
    ("Event", "v1", "events.k8s.io/v1"): _renamed(_EVENT_FIELDS),
    ("Event", "events.k8s.io/v1", "v1"): _renamed(_NEWER_EVENT_FIELDS),
    ("HorizontalPodAutoscaler", "autoscaling/v1", "autoscaling/v2"): _v1_to_v2,
    ("HorizontalPodAutoscaler", "autoscaling/v2", "autoscaling/v1"): _v2_to_v1,
}

"""LimitRanger: what containers get that ask for nothing, and how much or little a pod or a claim may ask for.

Follows k8s.io/kubernetes/plugin/pkg/admission/limitranger.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pod_resources import Resources, amounts, of_pod
from kubegate.admission.pods import spec_of
from kubegate.admission.refusal import forbidden
from kubegate.api import Object
from kubegate.api.field import aggregate
from kubegate.api.quantity import Quantity

ANNOTATION = "kubernetes.io/limit-ranger"

_CONTAINERS = (("containers", "container"), ("initContainers", "init container"))


class LimitRanger:
    name = "LimitRanger"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods", "pods/resize", "persistentvolumeclaims"})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader

    async def admit(self, attributes: Attributes) -> None:
        for limit_range in self._limit_ranges(attributes):
            if attributes.group_resource == "pods":
                _set_defaults(attributes.object or {}, limit_range)

    async def validate(self, attributes: Attributes) -> None:
        check = _pod_reasons if attributes.group_resource == "pods" else _claim_reasons
        for limit_range in self._limit_ranges(attributes):
            reasons = [
                reason
                for limit in (limit_range.get("spec") or {}).get("limits") or ()
                for reason in check(limit, (attributes.object or {}).get("spec") or {})
            ]
            if reasons:
                raise forbidden(attributes, aggregate(reasons))

    def _limit_ranges(self, attributes: Attributes) -> list[Object]:
        """Those of the namespace, by name; none where the object is going away, or its limits cannot change."""
        if attributes.group_resource == "pods":
            resized = attributes.subresource == "resize"
            if resized is not (attributes.operation is Operation.UPDATE):
                return []
        if ((attributes.old_object or {}).get("metadata") or {}).get("deletionTimestamp"):
            return []
        found = self._reader.list("limitranges", attributes.namespace)
        return sorted(found, key=_name) if found else []


def _name(object: Object) -> str:
    return str(object["metadata"]["name"])


def _set_defaults(pod: Object, limit_range: Object) -> None:
    defaults: dict[str, dict[str, Any]] = {"requests": {}, "limits": {}}
    for limit in (limit_range.get("spec") or {}).get("limits") or ():
        if limit.get("type") == "Container":
            defaults["requests"] |= limit.get("defaultRequest") or {}
            defaults["limits"] |= limit.get("default") or {}
    done = []
    for field, called in _CONTAINERS:
        for container in spec_of(pod).get(field) or ():
            for sort, missing in _missing(container, defaults):
                resources = container.setdefault("resources", {})
                resources[sort] = {**(resources.get(sort) or {}), **missing}
                names = ", ".join(sorted(missing))
                done.append(f"{names} {sort.removesuffix('s')} for {called} {container.get('name', '')}")
    if done:
        metadata = pod.setdefault("metadata", {})
        text = "LimitRanger plugin set: " + "; ".join(done)
        metadata["annotations"] = {**(metadata.get("annotations") or {}), ANNOTATION: text}


def _missing(container: Object, defaults: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for sort, values in defaults.items():
        given = (container.get("resources") or {}).get(sort) or {}
        missing = {name: value for name, value in values.items() if name not in given}
        if missing:
            yield sort, missing


def _pod_reasons(limit: Object, spec: Object) -> Iterator[str]:
    sort = limit.get("type", "")
    if sort == "Container":
        for field, _ in _CONTAINERS:
            for container in spec.get(field) or ():
                resources = container.get("resources") or {}
                yield from _reasons(limit, amounts(resources.get("requests")), amounts(resources.get("limits")))
    elif sort == "Pod":
        yield from _reasons(limit, of_pod(spec, "requests"), of_pod(spec, "limits"))


def _claim_reasons(limit: Object, spec: Object) -> Iterator[str]:
    """A claim has requests alone: its limits are nobody's business."""
    sort = limit.get("type", "")
    if sort != "PersistentVolumeClaim":
        return
    requests = amounts((spec.get("resources") or {}).get("requests"))
    for name, least in sorted(amounts(limit.get("min")).items()):
        yield from _too_little(sort, name, least, requests, {})
    for name, most in sorted(amounts(limit.get("max")).items()):
        said = f"maximum {name} usage per {sort} is {most}"
        if name not in requests:
            yield f"{said}.  No request is specified"
        elif _more(requests[name], most):
            yield f"{said}, but request is {requests[name]}"


def _reasons(limit: Object, requests: Resources, limits: Resources) -> Iterator[str]:
    sort = limit.get("type", "")
    for name, least in sorted(amounts(limit.get("min")).items()):
        yield from _too_little(sort, name, least, requests, limits)
    for name, most in sorted(amounts(limit.get("max")).items()):
        said = f"maximum {name} usage per {sort} is {most}"
        if name not in limits:
            yield f"{said}.  No limit is specified"
        elif _more(limits[name], most):
            yield f"{said}, but limit is {limits[name]}"
        elif name in requests and _more(requests[name], most):
            yield f"{said}, but request is {requests[name]}"
    for name, ratio in sorted(amounts(limit.get("maxLimitRequestRatio")).items()):
        said = f"{name} max limit to request ratio per {sort} is {ratio}"
        request, most_used = requests.get(name), limits.get(name)
        if request is None or not request.milli_value():
            yield f"{said}, but no request is specified or request is 0"
        elif most_used is None or not most_used.milli_value():
            yield f"{said}, but no limit is specified or limit is 0"
        elif most_used.milli_value() * 1000 > ratio.milli_value() * request.milli_value():
            yield f"{said}, but provided ratio is {most_used.milli_value() / request.milli_value():f}"


def _too_little(sort: str, name: str, least: Quantity, requests: Resources, limits: Resources) -> Iterator[str]:
    said = f"minimum {name} usage per {sort} is {least}"
    if name not in requests:
        yield f"{said}.  No request is specified"
    elif _more(least, requests[name]):
        yield f"{said}, but request is {requests[name]}"
    elif name in limits and _more(least, limits[name]):
        yield f"{said}, but limit is {limits[name]}"


def _more(left: Quantity, right: Quantity) -> bool:
    """Compared in thousandths, as kube-apiserver does: finer differences do not count."""
    return left.milli_value() > right.milli_value()


def build(dependencies: Dependencies) -> LimitRanger:
    return LimitRanger(dependencies)

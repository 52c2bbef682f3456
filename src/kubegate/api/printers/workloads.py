"""Cells of what runs pods: deployments, jobs and their like, autoscalers, disruption budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubegate.api.clock import parse_rfc3339
from kubegate.api.printers import Printer
from kubegate.api.printers.cells import (
    NONE,
    UNKNOWN,
    UNSET,
    age,
    human_duration,
    is_true,
    labels_text,
    meta,
    selector_text,
    since,
    spec,
    status,
    template_containers,
    with_more,
)

_Object = Mapping[str, Any]


def deployment(obj: _Object, now: float) -> list[Any]:
    found = status(obj)
    return [
        f"{found.get('readyReplicas') or 0}/{spec(obj).get('replicas') or 0}",
        found.get("updatedReplicas") or 0,
        found.get("availableReplicas") or 0,
        age(obj, now),
        *template_containers(obj),
        selector_text(spec(obj).get("selector"), nothing="", broken="<invalid>"),
    ]


def scale(obj: _Object, now: float) -> list[Any]:
    return [spec(obj).get("replicas") or 0, status(obj).get("replicas") or 0, age(obj, now)]


def replica_set(obj: _Object, now: float) -> list[Any]:
    found = status(obj)
    return [
        spec(obj).get("replicas") or 0,
        found.get("replicas") or 0,
        found.get("readyReplicas") or 0,
        age(obj, now),
        *template_containers(obj),
        selector_text(spec(obj).get("selector")),
    ]


def stateful_set(obj: _Object, now: float) -> list[Any]:
    ready = f"{status(obj).get('readyReplicas') or 0}/{spec(obj).get('replicas') or 0}"
    return [ready, age(obj, now), *template_containers(obj)]


def daemon_set(obj: _Object, now: float) -> list[Any]:
    found = status(obj)
    names = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    pod_spec = (spec(obj).get("template") or {}).get("spec") or {}
    return [
        *(found.get(name) or 0 for name in names),
        labels_text(pod_spec.get("nodeSelector")),
        age(obj, now),
        *template_containers(obj),
        selector_text(spec(obj).get("selector")),
    ]


def controller_revision(obj: _Object, now: float) -> list[Any]:
    owner = NONE
    for reference in meta(obj).get("ownerReferences") or ():
        if reference.get("controller"):
            group = str(reference.get("apiVersion") or "").rpartition("/")[0]
            kind = str(reference.get("kind") or "").lower()
            owner = f"{kind}.{group}/{reference.get('name')}" if group else f"{kind}/{reference.get('name')}"
    return [owner, obj.get("revision") or 0, age(obj, now)]


_JOB_STATES = ("Complete", "Failed")
_LATER_JOB_STATES = ("Suspended", "FailureTarget", "SuccessCriteriaMet")


def job(obj: _Object, now: float) -> list[Any]:
    found, job_status = spec(obj), status(obj)
    succeeded = job_status.get("succeeded") or 0
    parallelism = found.get("parallelism") or 0
    if found.get("completions") is not None:
        completions = f"{succeeded}/{found['completions']}"
    else:
        completions = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    duration = ""
    start, end = job_status.get("startTime"), job_status.get("completionTime")
    if start:
        duration = human_duration((parse_rfc3339(end) if end else now) - parse_rfc3339(start))
    return [
        _job_state(obj),
        completions,
        duration,
        age(obj, now),
        *template_containers(obj),
        selector_text(found.get("selector")),
    ]


def _job_state(obj: _Object) -> str:
    conditions = status(obj).get("conditions")
    for name in _JOB_STATES:
        if is_true(conditions, name):
            return name
    if meta(obj).get("deletionTimestamp"):
        return "Terminating"
    return next((name for name in _LATER_JOB_STATES if is_true(conditions, name)), "Running")


def cron_job(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    template = found.get("jobTemplate") or {}
    suspend, last = found.get("suspend"), status(obj).get("lastScheduleTime")
    return [
        found.get("schedule") or "",
        found.get("timeZone") or NONE,
        UNSET if suspend is None else str(bool(suspend)),
        len(status(obj).get("active") or ()),
        since(last, now) if last else NONE,
        age(obj, now),
        *template_containers(template),
        selector_text(spec(template).get("selector")),
    ]


def pod_disruption_budget(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    return [
        _or_not_available(found.get("minAvailable")),
        _or_not_available(found.get("maxUnavailable")),
        status(obj).get("disruptionsAllowed") or 0,
        age(obj, now),
    ]


def _or_not_available(value: Any) -> str:
    return "N/A" if value is None else str(value)


# --- autoscalers -----------------------------------------------------------------------------------------------------


def autoscaler(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    target = found.get("scaleTargetRef") or {}
    least = found.get("minReplicas")
    return [
        f"{target.get('kind', '')}/{target.get('name', '')}",
        _targets(obj),
        UNSET if least is None else str(least),
        found.get("maxReplicas") or 0,
        status(obj).get("currentReplicas") or 0,
        age(obj, now),
    ]


def _targets(obj: _Object) -> str:
    found = spec(obj)
    percentage = found.get("targetCPUUtilizationPercentage")
    if percentage is not None:
        current = status(obj).get("currentCPUUtilizationPercentage")
        return f"cpu: {UNKNOWN if current is None else f'{current}%'}/{percentage}%"
    current_metrics = status(obj).get("currentMetrics") or []
    texts = []
    for position, metric in enumerate(found.get("metrics") or ()):
        current = current_metrics[position] if position < len(current_metrics) else {}
        texts.append(_metric(metric, current))
    return with_more(texts, 2, separator=", ", empty=NONE)


_METRICS = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _metric(metric: _Object, current: _Object) -> str:
    name = _METRICS.get(metric.get("type", ""))
    if name is None:
        return "<unknown type>"
    wanted = (metric.get(name) or {}).get("target") or {}
    measured = (current.get(name) or {}).get("current") or {}
    if name.lower().endswith("resource"):
        resource = (metric.get(name) or {}).get("name", "")
        if wanted.get("averageValue") is not None:
            return f"{resource}: {measured.get('averageValue') or UNKNOWN}/{wanted['averageValue']}"
        used, limit = measured.get("averageUtilization"), wanted.get("averageUtilization")
        shown = "<auto>" if limit is None else f"{limit}%"
        return f"{resource}: {UNKNOWN if used is None else f'{used}%'}/{shown}"
    if wanted.get("averageValue") is not None:
        suffix = "" if name == "pods" else " (avg)"
        return f"{measured.get('averageValue') or UNKNOWN}/{wanted['averageValue']}{suffix}"
    return f"{measured.get('value') or UNKNOWN}/{wanted.get('value', '0')}"


PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    ("apps", "controllerrevisions"): controller_revision,
    ("apps", "daemonsets"): daemon_set,
    ("apps", "deployments"): deployment,
    ("apps", "replicasets"): replica_set,
    ("apps", "statefulsets"): stateful_set,
    ("autoscaling", "horizontalpodautoscalers"): autoscaler,
    ("autoscaling", "scales"): scale,
    ("batch", "cronjobs"): cron_job,
    ("batch", "jobs"): job,
    ("policy", "poddisruptionbudgets"): pod_disruption_budget,
}

"""What a Deployment's status should be, worked out of its ReplicaSets. Pure functions; times are RFC 3339 texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339
from kubegate.controllers.objects import condition, without_empty

_NO_DEADLINE = 2**31 - 1
_MOST_DIGITS = 18
_AVAILABLE, _TIMED_OUT = "NewReplicaSetAvailable", "ProgressDeadlineExceeded"


def scaled(value: Any, total: int, *, up: bool) -> int:
    """An IntOrString of `total`: `25%`, or a number. Nothing for a text that Go reads as no number."""
    if isinstance(value, str):
        percent = value.removesuffix("%")
        if not percent.isdecimal() or len(percent) > _MOST_DIGITS:
            return 0
        part = total * int(percent) / 100
        return math.ceil(part) if up else math.floor(part)
    return int(value or 0)


def surge(deployment: Object) -> int:
    """How many pods more than wanted there may be during a rolling update."""
    return _fenceposts(deployment)[0]


def unavailable(deployment: Object) -> int:
    """How many pods less than wanted there may be."""
    replicas = deployment["spec"].get("replicas", 1)
    return min(_fenceposts(deployment)[1], replicas) if replicas else 0


def _fenceposts(deployment: Object) -> tuple[int, int]:
    spec = deployment["spec"]
    strategy = spec.get("strategy") or {}
    if strategy.get("type") != "RollingUpdate":
        return 0, 0
    update, total = strategy.get("rollingUpdate") or {}, spec.get("replicas", 1)
    more = scaled(update.get("maxSurge"), total, up=True)
    less = scaled(update.get("maxUnavailable"), total, up=False)
    # nothing could move at all
    return more, less or (1 if not more else 0)


def has_deadline(deployment: Object) -> bool:
    return bool(deployment["spec"].get("progressDeadlineSeconds", _NO_DEADLINE) != _NO_DEADLINE)


def with_condition(status: Object, sort: str, value: str, reason: str, message: str, now: str) -> list[Object]:
    """A status's conditions with this one, put last; as they are where it says the same for the same reason."""
    before = condition({"status": status}, sort)
    conditions = list(status.get("conditions") or ())
    if before is not None and before["status"] == value and before.get("reason") == reason:
        return conditions
    since = before["lastTransitionTime"] if before is not None and before["status"] == value else now
    new = {
        "type": sort,
        "status": value,
        "lastUpdateTime": now,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
    return [*(one for one in conditions if one["type"] != sort), new]


def status_of(deployment: Object, replica_sets: Sequence[Object], new: Object | None, now: str) -> Object:
    """The counts, and whether enough is available."""
    before, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    total, available = _sum(replica_sets, "replicas"), _sum(replica_sets, "availableReplicas")
    status = without_empty(
        {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": total,
            "updatedReplicas": _sum([new] if new is not None else [], "replicas"),
            "readyReplicas": _sum(replica_sets, "readyReplicas"),
            "availableReplicas": available,
            "unavailableReplicas": max(total - available, 0),
            "conditions": before.get("conditions"),
        }
    )
    if "collisionCount" in before:
        status["collisionCount"] = before["collisionCount"]
    terminating = [(one.get("status") or {}).get("terminatingReplicas") for one in replica_sets]
    if None not in terminating:
        status["terminatingReplicas"] = sum(terminating)
    enough = available >= wanted - unavailable(deployment)
    said = (
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if enough
        else ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    )
    status["conditions"] = with_condition(status, "Available", *said, now)
    return status


def complete(deployment: Object, status: Object) -> bool:
    """All that is wanted is there, new and available, and nothing else."""
    wanted = deployment["spec"].get("replicas", 1)
    counts = (status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas"))
    return all(count == wanted for count in counts)


def progressed(deployment: Object, replica_sets: Sequence[Object], new: Object | None, now: str) -> Object:
    """`status_of`, with how the rollout goes."""
    status = status_of(deployment, replica_sets, new, now)
    before = condition(deployment, "Progressing")
    if not has_deadline(deployment):
        status["conditions"] = [one for one in status["conditions"] if one["type"] != "Progressing"]
    done = (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and before is not None
        and before.get("reason") == _AVAILABLE
    )
    if has_deadline(deployment) and not done:
        what = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
        said = _progress(deployment, status, what, now)
        if said is not None:
            status["conditions"] = _said(status, before, *said, now)
    failures = [found for one in replica_sets if (found := condition(one, "ReplicaFailure")) is not None]
    if failures:
        first = failures[0]
        said = (first["status"], first.get("reason", ""), first.get("message", ""))
        status["conditions"] = with_condition(status, "ReplicaFailure", *said, now)
    else:
        status["conditions"] = [one for one in status["conditions"] if one["type"] != "ReplicaFailure"]
    return status


def _progress(deployment: Object, status: Object, what: str, now: str) -> tuple[str, str, str] | None:
    if complete(deployment, status):
        return "True", _AVAILABLE, f"{what} has successfully progressed."
    if _moved(deployment.get("status") or {}, status):
        return "True", "ReplicaSetUpdated", f"{what} is progressing."
    if _timed_out(deployment, status, parse_rfc3339(now)):
        return "False", _TIMED_OUT, f"{what} has timed out progressing."
    return None


def _said(status: Object, before: Object | None, value: str, reason: str, message: str, now: str) -> list[Object]:
    """Progress is told anew each time, so that its time of update is that of the last progress."""
    if reason != "ReplicaSetUpdated" or before is None:
        return with_condition(status, "Progressing", value, reason, message, now)
    others = [one for one in status["conditions"] if one["type"] != "Progressing"]
    conditions = with_condition({"conditions": others}, "Progressing", value, reason, message, now)
    if before["status"] == "True":
        conditions[-1]["lastTransitionTime"] = before["lastTransitionTime"]
    return conditions


def _moved(before: Object, after: Object) -> bool:
    def count(status: Object, name: str) -> int:
        return int(status.get(name, 0))

    def old(status: Object) -> int:
        return count(status, "replicas") - count(status, "updatedReplicas")

    more = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return any(count(after, name) > count(before, name) for name in more) or old(after) < old(before)


def _timed_out(deployment: Object, status: Object, now: float) -> bool:
    found = condition({"status": status}, "Progressing")
    if not has_deadline(deployment) or found is None or found.get("reason") == _AVAILABLE:
        return False
    if found.get("reason") == _TIMED_OUT:
        return True
    return bool(parse_rfc3339(found["lastUpdateTime"]) + deployment["spec"]["progressDeadlineSeconds"] < now)


def stuck_after(deployment: Object, status: Object, now: float) -> float | None:
    """Seconds until the rollout will have taken too long; None where it can not."""
    found = condition({"status": status}, "Progressing")
    if not has_deadline(deployment) or found is None or complete(deployment, status):
        return None
    if found.get("reason") in (_AVAILABLE, _TIMED_OUT):
        return None
    end = parse_rfc3339(found["lastUpdateTime"]) + deployment["spec"]["progressDeadlineSeconds"]
    return float(max(end - now, 0) + 1)


def _sum(replica_sets: Iterable[Object], name: str) -> int:
    return sum((one.get("status") or {}).get(name, 0) for one in replica_sets)

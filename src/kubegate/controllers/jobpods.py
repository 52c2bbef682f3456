"""What a Job's pods tell: their index, whether they failed and when, and what the Job's policies make of it.

Follows pod_failure_policy.go, success_policy.go, backoff_utils.go and indexed_job_utils.go of Kubernetes v1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from kubegate.api import Object
from kubegate.api.clock import parse_rfc3339
from kubegate.controllers.objects import condition, created_at, ending, pod_phase

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"


class Verdict(Struct, frozen=True):
    """What a Job's podFailurePolicy says of a failed pod. `message`: why the whole Job fails by it."""

    counts: bool = True
    action: str = ""
    message: str | None = None


def tracked(pod: Object) -> bool:
    """Whether the pod waits to be counted."""
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def terminating(pod: Object) -> bool:
    return ending(pod) and pod_phase(pod) not in ("Succeeded", "Failed")


def failed(job: Object, pod: Object) -> bool:
    """A deleted pod may never come to say that it failed: it did, unless only those that say so are replaced."""
    if pod_phase(pod) == "Failed":
        return True
    if job["spec"].get("podReplacementPolicy") == "Failed":
        return False
    return ending(pod) and pod_phase(pod) != "Succeeded"


def index_of(pod: Object) -> int:
    """The completion index of an Indexed Job's pod; -1 where it has none."""
    return _number(pod, INDEX, -1)


def indexes_of(pods: Iterable[Object]) -> set[int]:
    return {index for index in map(index_of, pods) if index >= 0}


def failures(pod: Object) -> int:
    """How often this pod's index had failed when the pod was made, as far as it counts."""
    return _number(pod, FAILURES, 0)


def all_failures(pod: Object) -> int:
    """The same with those failures that the policy passes over."""
    return failures(pod) + _number(pod, IGNORED, 0)


def failure_annotations(job: Object, replaced: Object | None) -> dict[str, str]:
    """What the next pod of an index is told of those before it; `replaced` is the last of them."""
    if replaced is None:
        return {FAILURES: "0"}
    counted, ignored = failures(replaced), all_failures(replaced) - failures(replaced)
    if judged(job, replaced).counts:
        counted += 1
    else:
        ignored += 1
    return {FAILURES: str(counted)} | ({IGNORED: str(ignored)} if ignored else {})


def index_failed(job: Object, pod: Object) -> bool:
    """Whether the pod's index is given up with it."""
    if not failed(job, pod):
        return False
    verdict = judged(job, pod)
    if verdict.action == "FailIndex":
        return True
    return verdict.counts and failures(pod) >= job["spec"]["backoffLimitPerIndex"]


def judged(job: Object, pod: Object) -> Verdict:
    """The first rule of the Job's podFailurePolicy that is about this failed pod."""
    for position, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
        action = rule["action"]
        if rule.get("onExitCodes") is not None:
            container = _exited(pod, rule["onExitCodes"])
            if container is None:
                continue
            code = container["state"]["terminated"]["exitCode"]
            why = f"Container {container['name']} for pod {_path(pod)} failed with exit code {code}"
        else:
            sort = _told(pod, rule.get("onPodConditions") or ())
            if sort is None:
                continue
            why = f"Pod {_path(pod)} has condition {sort}"
        message = f"{why} matching {action} rule at index {position}" if action == "FailJob" else None
        return Verdict(action != "Ignore", action, message)
    return Verdict()


def success_rule(job: Object, succeeded: set[int]) -> int | None:
    """The position of the first rule of the Job's successPolicy that is met by these indexes."""
    policy, completions = job["spec"].get("successPolicy") or {}, job["spec"].get("completions") or 0
    for position, rule in enumerate(policy.get("rules") or () if succeeded else ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = {index for index in parse_indexes(rule["succeededIndexes"]) if index < completions}
            found = len(wanted & succeeded)
            if wanted and (found == len(wanted) or (count is not None and found >= count)):
                return position
        elif count is not None and len(succeeded) >= count:
            return position
    return None


def ended_at(pod: Object) -> float:
    """When the pod ended: what its containers say, or its Ready condition, or its deletion; else when it was made."""
    containers = _container_end(pod)
    if containers is not None:
        return containers
    ready = condition(pod, "Ready")
    if ready is not None and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return parse_rfc3339(ready["lastTransitionTime"])
    metadata = pod["metadata"]
    if metadata.get("deletionTimestamp"):
        return parse_rfc3339(metadata["deletionTimestamp"]) - float(metadata.get("deletionGracePeriodSeconds") or 0)
    return created_at(pod)


def restarts(pod: Object) -> int:
    """How often containers of a pod that has not ended were started again."""
    status = pod.get("status") or {}
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return sum(one.get("restartCount", 0) for one in found) if pod_phase(pod) in ("Running", "Pending") else 0


def parse_indexes(text: str) -> set[int]:
    """`0-2,5` as numbers."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: set[int]) -> str:
    """Numbers as `0-2,5`; two in a row are told apart: `3,4`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(
        str(first) if first == last else f"{first}{',' if last == first + 1 else '-'}{last}" for first, last in runs
    )


def _number(pod: Object, annotation: str, otherwise: int) -> int:
    value = str((pod["metadata"].get("annotations") or {}).get(annotation, ""))
    small = value.isascii() and value.isdigit() and len(value) <= 10 and int(value) < 2**31
    return int(value) if small else otherwise


def _path(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _exited(pod: Object, requirement: Object) -> Object | None:
    """The status of the first container whose exit code is one that the rule asks for."""
    status = pod.get("status") or {}
    for container in (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())):
        ended = (container.get("state") or {}).get("terminated")
        if ended is None or requirement.get("containerName") not in (None, container["name"]):
            continue
        code, listed = ended.get("exitCode", 0), ended.get("exitCode", 0) in (requirement.get("values") or ())
        if code != 0 and listed == (requirement["operator"] == "In"):
            found: Object = container
            return found
    return None


def _told(pod: Object, patterns: Iterable[Object]) -> str | None:
    """The type of the pod's first condition that one of the patterns describes."""
    wanted = {(pattern["type"], pattern.get("status", "True")) for pattern in patterns}
    for one in (pod.get("status") or {}).get("conditions") or ():
        if (one.get("type"), one.get("status")) in wanted:
            return str(one["type"])
    return None


def _container_end(pod: Object) -> float | None:
    """When the last container ended, sidecars too; None where one has not, or none is told of."""
    status = pod.get("status") or {}
    sidecars = {one["name"] for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"}
    found = [*(status.get("containerStatuses") or ())]
    found += [one for one in status.get("initContainerStatuses") or () if one.get("name") in sidecars]
    ends = [((one.get("state") or {}).get("terminated") or {}).get("finishedAt") for one in found]
    times = [parse_rfc3339(end) for end in ends if end]
    return max(times) if times and len(times) == len(ends) else None

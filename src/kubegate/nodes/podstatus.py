"""The status that a kubelet would write of a pod. Pure functions; times are RFC 3339 texts.

Follows pkg/kubelet/status and pkg/kubelet/kubelet_pods.go of Kubernetes v1.36.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from kubegate.api import Object
from kubegate.nodes import RUNTIME

EXIT_CODE = "simulated.kubegate/exit-code"
RUN_SECONDS = "simulated.kubegate/run-seconds"
_READY = "Ready"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is: its own address (the node's where it uses that) and the node's."""

    address: str
    node_address: str


def running(pod: Object, place: Place, now: str) -> Object:
    """All containers run and are ready; init containers have ended well, but for those that are always restarted."""
    status = _begun(pod, place, now)
    spec, before = pod["spec"], _by_name(pod)
    inits = []
    for container in spec.get("initContainers") or ():
        name = container["name"]
        if container.get("restartPolicy") == "Always":
            inits.append(_running(pod, container, before.get(name), now))
        else:
            inits.append(_ended(pod, container, before.get(name), 0, now))
    status["containerStatuses"] = [
        _running(pod, container, before.get(container["name"]), now) for container in spec["containers"]
    ]
    debugging = [_running(pod, one, before.get(one["name"]), now) for one in spec.get("ephemeralContainers") or ()]
    status |= {"phase": "Running"}
    if inits:
        status["initContainerStatuses"] = inits
    if debugging:
        status["ephemeralContainerStatuses"] = [{**one, "ready": False} for one in debugging]
    gates = _closed_gates(pod)
    ready = ("True",) if not gates else ("False", "ReadinessGatesNotReady", gates)
    return _with_conditions(pod, status, now, initialized=("True",), ready=ready, containers=("True",), network="True")


def waiting(pod: Object, place: Place, reason: str, message: str, now: str) -> Object:
    """Containers wait for what they need: `reason` is ContainerCreating or CreateContainerConfigError."""
    status, spec = _begun(pod, place, now), pod["spec"]
    status.pop("podIP", None)
    status.pop("podIPs", None)
    state: Object = {"reason": reason}
    if message:
        state["message"] = message
    status["phase"] = "Pending"
    status["containerStatuses"] = [_waiting(one, state) for one in spec["containers"]]
    initialized: tuple[str, ...] = ("True",)
    if spec.get("initContainers") and reason != "ContainerCreating":
        before = _by_name(pod)
        status["initContainerStatuses"] = [
            _ended(pod, one, before.get(one["name"]), 0, now) for one in spec["initContainers"]
        ]
    elif spec.get("initContainers"):
        status["initContainerStatuses"] = [
            _waiting(one, {"reason": "PodInitializing"}) for one in spec["initContainers"]
        ]
        names = " ".join(one["name"] for one in spec["initContainers"])
        initialized = ("False", "ContainersNotInitialized", f"containers with incomplete status: [{names}]")
    names = " ".join(one["name"] for one in spec["containers"])
    unready = ("False", "ContainersNotReady", f"containers with unready status: [{names}]")
    return _with_conditions(
        pod, status, now, initialized=initialized, ready=unready, containers=unready, network="False"
    )


def ended(pod: Object, place: Place, code: int, now: str, *, reason: str = "", message: str = "") -> Object:
    """All containers have ended with this exit code, for good."""
    status, before = _begun(pod, place, now), _by_name(pod)
    spec = pod["spec"]
    status["containerStatuses"] = [_ended(pod, one, before.get(one["name"]), code, now) for one in spec["containers"]]
    if spec.get("initContainers"):
        status["initContainerStatuses"] = [
            _ended(pod, one, before.get(one["name"]), 0, now) for one in spec["initContainers"]
        ]
    well = code == 0 and not reason
    status["phase"] = "Succeeded" if well else "Failed"
    for name, text in (("reason", reason), ("message", message)):
        if text:
            status[name] = text
    word = "PodCompleted" if well else "PodFailed"
    over = ("False", word)
    return _with_conditions(
        pod,
        status,
        now,
        initialized=("True", word) if well else ("True",),
        ready=over,
        containers=over,
        network="False",
    )


def crashed(pod: Object, place: Place, code: int, delay: int, now: str) -> Object:
    """The containers have ended and will be started again after `delay` seconds."""
    status, before, spec = _begun(pod, place, now), _by_name(pod), pod["spec"]
    metadata = pod["metadata"]
    found = []
    for container in spec["containers"]:
        last = _ended(pod, container, before.get(container["name"]), code, now)
        where = f"{container['name']} pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        state = {
            "reason": "CrashLoopBackOff",
            "message": f"back-off {delay}s restarting failed container={where}",
        }
        last |= {"lastState": last["state"], "state": {"waiting": state}}
        found.append(last)
    status |= {"containerStatuses": found, "phase": "Running"}
    if (pod.get("status") or {}).get("initContainerStatuses"):
        status["initContainerStatuses"] = pod["status"]["initContainerStatuses"]
    names = " ".join(one["name"] for one in spec["containers"])
    unready = ("False", "ContainersNotReady", f"containers with unready status: [{names}]")
    return _with_conditions(pod, status, now, initialized=("True",), ready=unready, containers=unready, network="True")


# ---------------------------------------------------------------------- what is asked of a status
def is_running(pod: Object) -> bool:
    return any("running" in (one.get("state") or {}) for one in _statuses(pod))


def started_at(pod: Object) -> str:
    """When the containers that run now were started; "" where none does."""
    times = [one["state"]["running"].get("startedAt", "") for one in _statuses(pod) if "running" in one["state"]]
    return min(times, default="")


def crashed_at(pod: Object) -> str:
    """When the containers that are to be started again had ended; "" where there is none."""
    for one in _statuses(pod):
        if ((one.get("state") or {}).get("waiting") or {}).get("reason") == "CrashLoopBackOff":
            return str(((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt", ""))
    return ""


def restarts(pod: Object) -> int:
    return max((one.get("restartCount", 0) for one in _statuses(pod)), default=0)


def _statuses(pod: Object) -> list[Object]:
    found: list[Object] = (pod.get("status") or {}).get("containerStatuses") or []
    return found


# ---------------------------------------------------------------------- containers
def _running(pod: Object, container: Object, before: Object | None, now: str) -> Object:
    before = before or {}
    state = before.get("state") or {}
    count, last = before.get("restartCount", 0), before.get("lastState") or {}
    if "running" not in state:
        if "terminated" in last:
            count += 1
        state = {"running": {"startedAt": now}}
    return {**_common(pod, container, count), "lastState": last, "ready": True, "started": True, "state": state}


def _ended(pod: Object, container: Object, before: Object | None, code: int, now: str) -> Object:
    before = before or {}
    state = before.get("state") or {}
    common = _common(pod, container, before.get("restartCount", 0))
    if "terminated" not in state:
        started = (state.get("running") or {}).get("startedAt", now)
        told = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "startedAt": started}
        state = {"terminated": {**told, "finishedAt": now, "containerID": common["containerID"]}}
    ready = container in (pod["spec"].get("initContainers") or ()) and code == 0
    return {**common, "lastState": before.get("lastState") or {}, "ready": ready, "started": False, "state": state}


def _waiting(container: Object, state: Object) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "started": False,
        "state": {"waiting": state},
    }


def _common(pod: Object, container: Object, count: int) -> Object:
    name, image = container["name"], container["image"]
    digest = hashlib.sha256(f"{pod['metadata']['uid']}/{name}/{count}".encode()).hexdigest()
    found: Object = {
        "name": name,
        "image": image,
        "imageID": f"{image.partition('@')[0]}@sha256:{hashlib.sha256(image.encode()).hexdigest()}",
        "containerID": f"{RUNTIME}://{digest}",
        "restartCount": count,
    }
    resources = container.get("resources") or {}
    if resources.get("requests"):
        found["allocatedResources"] = resources["requests"]
    if resources:
        found["resources"] = {key: value for key, value in resources.items() if key in ("requests", "limits")}
    mounts = [_mount(one) for one in container.get("volumeMounts") or ()]
    if mounts:
        found["volumeMounts"] = mounts
    return found


def _mount(mount: Object) -> Object:
    found = {"name": mount["name"], "mountPath": mount["mountPath"]}
    return {**found, "readOnly": True, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else found


# ---------------------------------------------------------------------- the pod
def _by_name(pod: Object) -> dict[str, Object]:
    status = pod.get("status") or {}
    names = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    return {one["name"]: one for name in names for one in status.get(name) or ()}


def _begun(pod: Object, place: Place, now: str) -> Object:
    before = pod.get("status") or {}
    kept = ("qosClass", "startTime", "nominatedNodeName", "resourceClaimStatuses", "resize", "conditions")
    status: Object = {name: before[name] for name in kept if name in before}
    status.setdefault("startTime", now)
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    status |= {"hostIP": place.node_address, "hostIPs": [{"ip": place.node_address}]}
    if place.address:
        status |= {"podIP": place.address, "podIPs": [{"ip": place.address}]}
    return status


def _closed_gates(pod: Object) -> str:
    """Why readiness gates keep the pod from being ready; "" where they do not."""
    found = {one["type"]: one.get("status") for one in (pod.get("status") or {}).get("conditions") or ()}
    texts = []
    for gate in pod["spec"].get("readinessGates") or ():
        sort = gate["conditionType"]
        if sort not in found:
            texts.append(f'corresponding condition of pod readiness gate "{sort}" does not exist.')
        elif found[sort] != "True":
            texts.append(f'the status of pod readiness gate "{sort}" is not "True", but {found[sort]}')
    return ", ".join(texts)


def _with_conditions(
    pod: Object,
    status: Object,
    now: str,
    *,
    initialized: tuple[str, ...],
    ready: tuple[str, ...],
    containers: tuple[str, ...],
    network: str,
) -> Object:
    """Each condition is (status, reason, message), as far as there is one of them."""
    wanted = {
        "PodReadyToStartContainers": (network,),
        "Initialized": initialized,
        _READY: ready,
        "ContainersReady": containers,
    }
    before = {one["type"]: one for one in status.get("conditions") or ()}
    conditions = [_condition(pod, sort, told, before.get(sort, {}), now) for sort, told in wanted.items()]
    placed = before.get("PodScheduled")
    if placed is None or placed.get("status") != "True":
        placed = _condition(pod, "PodScheduled", ("True",), {}, now)
    elif pod["metadata"].get("generation"):
        placed = {**placed, "observedGeneration": pod["metadata"]["generation"]}
    others = [one for sort, one in before.items() if sort not in wanted and sort != "PodScheduled"]
    return {**status, "conditions": [*conditions, placed, *others]}


def _condition(pod: Object, sort: str, told: Iterable[str], before: Object, now: str) -> Object:
    value, reason, message = (*told, "", "")[:3]
    since = before["lastTransitionTime"] if before.get("status") == value else now
    found: Object = {"type": sort, "status": value, "lastProbeTime": None, "lastTransitionTime": since}
    if reason:
        found["reason"] = reason
    if message:
        found["message"] = message
    if pod["metadata"].get("generation"):
        found["observedGeneration"] = pod["metadata"]["generation"]
    return found

"""Cells of the core group and its like: pods, services, nodes, events, quotas, leases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kubegate.api.printers import Printer
from kubegate.api.printers.cells import (
    NONE,
    UNKNOWN,
    UNSET,
    access_modes,
    age,
    condition,
    containers,
    is_true,
    labels_text,
    load_balancer,
    meta,
    since,
    spec,
    status,
    with_more,
)

_Object = Mapping[str, Any]


def config_map(obj: _Object, now: float) -> list[Any]:
    return [len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age(obj, now)]


def secret(obj: _Object, now: float) -> list[Any]:
    return [obj.get("type") or "", len(obj.get("data") or ()), age(obj, now)]


def only_age(obj: _Object, now: float) -> list[Any]:
    return [age(obj, now)]


def namespace(obj: _Object, now: float) -> list[Any]:
    return [status(obj).get("phase") or "", age(obj, now)]


def component_status(obj: _Object, now: float) -> list[Any]:
    healthy = condition(obj.get("conditions"), "Healthy") or {}
    text = {"True": "Healthy", "False": "Unhealthy"}.get(healthy.get("status", ""), "Unknown")
    return [text, healthy.get("message") or "", healthy.get("error") or ""]


# --- pods ----------------------------------------------------------------------------------------------------------


def pod(obj: _Object, now: float) -> list[Any]:
    pod_spec, pod_status = spec(obj), status(obj)
    reason, ready, total, restarts, last = _pod_containers(obj)
    shown = str(restarts)
    if restarts and last:
        shown = f"{restarts} ({since(last, now)} ago)"
    addresses = pod_status.get("podIPs") or [{}]
    return [
        f"{ready}/{total}",
        reason,
        shown,
        age(obj, now),
        addresses[0].get("ip") or NONE,
        pod_spec.get("nodeName") or NONE,
        pod_status.get("nominatedNodeName") or NONE,
        _readiness_gates(pod_spec, pod_status),
    ]


def _readiness_gates(pod_spec: _Object, pod_status: _Object) -> str:
    gates = pod_spec.get("readinessGates") or ()
    if not gates:
        return NONE
    passed = sum(is_true(pod_status.get("conditions"), gate.get("conditionType", "")) for gate in gates)
    return f"{passed}/{len(gates)}"


def _pod_containers(obj: _Object) -> tuple[str, int, int, int, str]:
    """The reason shown as status; containers that are ready, and all of them; restarts, and when the last one was."""
    pod_spec, pod_status = spec(obj), status(obj)
    phase = pod_status.get("phase") or ""
    reason = pod_status.get("reason") or phase
    scheduled = condition(pod_status.get("conditions"), "PodScheduled")
    if scheduled is not None and scheduled.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    sidecars = {c.get("name") for c in pod_spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    total = len(pod_spec.get("containers") or ()) + len(sidecars)
    ready = restarts = sidecar_restarts = 0
    last = sidecar_last = ""
    initializing = False
    for position, container in enumerate(pod_status.get("initContainerStatuses") or ()):
        restarts += container.get("restartCount") or 0
        ended = _last_end(container)
        last = max(last, ended)
        sidecar = container.get("name") in sidecars
        if sidecar:
            sidecar_restarts += container.get("restartCount") or 0
            sidecar_last = max(sidecar_last, ended)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        initializing = True
        if terminated is not None:
            reason = f"Init:{_end_reason(terminated)}"
        elif waiting.get("reason") not in (None, "", "PodInitializing"):
            reason = f"Init:{waiting['reason']}"
        else:
            reason = f"Init:{position}/{len(pod_spec.get('initContainers') or ())}"
        break
    if not initializing or is_true(pod_status.get("conditions"), "Initialized"):
        restarts, last = sidecar_restarts, sidecar_last
        running = False
        for container in reversed(pod_status.get("containerStatuses") or ()):
            restarts += container.get("restartCount") or 0
            last = max(last, _last_end(container))
            state = container.get("state") or {}
            terminated = state.get("terminated")
            if (state.get("waiting") or {}).get("reason"):
                reason = state["waiting"]["reason"]
            elif terminated is not None:
                reason = _end_reason(terminated)
            elif container.get("ready") and state.get("running") is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            reason = "Running" if is_true(pod_status.get("conditions"), "Ready") else "NotReady"
    if meta(obj).get("deletionTimestamp"):
        if pod_status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return reason, ready, total, restarts, last


def _last_end(container: _Object) -> str:
    terminated = (container.get("lastState") or {}).get("terminated") or {}
    return str(terminated.get("finishedAt") or "")


def _end_reason(terminated: _Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    signal = terminated.get("signal") or 0
    return f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode') or 0}"


def pod_template(obj: _Object, now: float) -> list[Any]:
    template = obj.get("template") or {}
    return [*containers(spec(template)), labels_text(meta(template).get("labels"))]


# --- services and nodes --------------------------------------------------------------------------------------------


def service(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    ports = []
    for port in found.get("ports") or ():
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        ports.append(f"{port.get('port', 0)}{node_port}/{port.get('protocol', '')}")
    addresses = found.get("clusterIPs") or [NONE]
    return [
        found.get("type") or "",
        addresses[0],
        _external_ip(obj),
        ",".join(ports) or NONE,
        age(obj, now),
        labels_text(found.get("selector")),
    ]


def _external_ip(obj: _Object) -> str:
    found = spec(obj)
    external = found.get("externalIPs") or []
    match found.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or NONE
        case "LoadBalancer":
            balancer = load_balancer(status(obj).get("loadBalancer"))
            return ",".join([*filter(None, [balancer]), *external]) or "<pending>"
        case "ExternalName":
            return str(found.get("externalName") or "")
    return UNKNOWN


def endpoints(obj: _Object, now: float) -> list[Any]:
    subsets = obj.get("subsets") or ()
    found = []
    for subset in subsets:
        addresses = [address.get("ip") or "" for address in subset.get("addresses") or ()]
        if not subset.get("ports"):
            found += addresses
        for port in subset.get("ports") or ():
            found += [f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}" for ip in addresses]
    return [with_more(found, 3) if subsets else NONE, age(obj, now)]


def node(obj: _Object, now: float) -> list[Any]:
    found = status(obj)
    ready = condition(found.get("conditions"), "Ready")
    state = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    if spec(obj).get("unschedulable"):
        state += ",SchedulingDisabled"
    info = found.get("nodeInfo") or {}
    return [
        state,
        ",".join(_node_roles(meta(obj).get("labels") or {})) or NONE,
        age(obj, now),
        info.get("kubeletVersion") or "",
        _node_address(found, "InternalIP"),
        _node_address(found, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_roles(labels: Mapping[str, str]) -> list[str]:
    prefix = "node-role.kubernetes.io/"
    roles = {key.removeprefix(prefix) for key in labels if key.startswith(prefix)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return sorted(roles - {""})


def _node_address(found: _Object, kind: str) -> str:
    for address in found.get("addresses") or ():
        if address.get("type") == kind:
            return str(address.get("address") or "")
    return NONE


# --- events --------------------------------------------------------------------------------------------------------


def event(obj: _Object, now: float) -> list[Any]:
    """Of both groups: events.k8s.io has other names for the same fields."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    micro = obj.get("eventTime")
    first_time = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp")
    last_time = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp")
    first = since(first_time or micro, now)
    last = since(last_time, now) if last_time else first
    count = obj.get("count") or obj.get("deprecatedCount") or 0
    series = obj.get("series")
    if series is not None:
        last, count = since(series.get("lastObservedTime"), now), series.get("count") or 0
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    kind = str(about.get("kind") or "").lower()
    return [
        last,
        obj.get("type") or "",
        obj.get("reason") or "",
        f"{kind}/{about['name']}" if about.get("name") else kind,
        about.get("fieldPath") or "",
        f"{component}, {instance}" if instance else component,
        str(obj.get("message") or obj.get("note") or "").strip(),
        first,
        count or 1,
        meta(obj).get("name") or "",
    ]


# --- quotas, claims, leases ----------------------------------------------------------------------------------------


def resource_quota(obj: _Object, now: float) -> list[Any]:
    hard, used = status(obj).get("hard") or {}, status(obj).get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        text = f"{name}: {used.get(name, '0')}/{hard[name]}"
        (limits if name.startswith("limits.") else requests).append(text)
    return [", ".join(requests), ", ".join(limits), age(obj, now)]


def persistent_volume(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    claim = found.get("claimRef")
    phase = "Terminating" if meta(obj).get("deletionTimestamp") else status(obj).get("phase") or ""
    return [
        (found.get("capacity") or {}).get("storage", "0"),
        access_modes(found.get("accessModes")),
        found.get("persistentVolumeReclaimPolicy") or "",
        phase,
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _storage_class(obj),
        found.get("volumeAttributesClassName") or UNSET,
        status(obj).get("reason") or "",
        age(obj, now),
        found.get("volumeMode") or UNSET,
    ]


def persistent_volume_claim(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    capacity = modes = ""
    if found.get("volumeName"):
        modes = access_modes(status(obj).get("accessModes"))
        capacity = (status(obj).get("capacity") or {}).get("storage", "0")
    return [
        "Terminating" if meta(obj).get("deletionTimestamp") else status(obj).get("phase") or "",
        found.get("volumeName") or "",
        capacity,
        modes,
        _storage_class(obj),
        found.get("volumeAttributesClassName") or UNSET,
        age(obj, now),
        found.get("volumeMode") or UNSET,
    ]


def _storage_class(obj: _Object) -> str:
    annotations = meta(obj).get("annotations") or {}
    named = annotations.get("volume.beta.kubernetes.io/storage-class")
    return str(named if named is not None else spec(obj).get("storageClassName") or "")


def replication_controller(obj: _Object, now: float) -> list[Any]:
    found = spec(obj)
    return [
        found.get("replicas") or 0,
        status(obj).get("replicas") or 0,
        status(obj).get("readyReplicas") or 0,
        age(obj, now),
        *containers(spec(found.get("template") or {})),
        labels_text(found.get("selector")),
    ]


def lease(obj: _Object, now: float) -> list[Any]:
    return [spec(obj).get("holderIdentity") or "", age(obj, now)]


def endpoint_slice(obj: _Object, now: float) -> list[Any]:
    ports = [str(port.get("port") or port.get("name") or "*") for port in obj.get("ports") or ()]
    addresses = [address for one in obj.get("endpoints") or () for address in one.get("addresses") or ()]
    return [
        obj.get("addressType") or "",
        with_more(ports, 3, empty=UNSET),
        with_more(addresses, 3, empty=UNSET),
        age(obj, now),
    ]


PRINTERS: Final[dict[tuple[str, str], Printer]] = {
    ("", "componentstatuses"): component_status,
    ("", "configmaps"): config_map,
    ("", "endpoints"): endpoints,
    ("", "events"): event,
    ("", "namespaces"): namespace,
    ("", "nodes"): node,
    ("", "persistentvolumeclaims"): persistent_volume_claim,
    ("", "persistentvolumes"): persistent_volume,
    ("", "pods"): pod,
    ("", "podtemplates"): pod_template,
    ("", "replicationcontrollers"): replication_controller,
    ("", "resourcequotas"): resource_quota,
    ("", "secrets"): secret,
    ("", "serviceaccounts"): only_age,
    ("", "services"): service,
    ("coordination.k8s.io", "leases"): lease,
    ("discovery.k8s.io", "endpointslices"): endpoint_slice,
    ("events.k8s.io", "events"): event,
}

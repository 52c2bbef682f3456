"""Which pods stand behind a service, and at which ports. Shared by the controllers of Endpoints and EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from kubegate.api import Object, selectors
from kubegate.api.names import parse_ip
from kubegate.controllers.objects import condition, ending, pod_phase, pod_ready
from kubegate.controllers.queue import Queue
from kubegate.storage import ObjectEvent, Reader

HEADLESS_LABEL = "service.kubernetes.io/headless"
LAST_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


class Backend(Struct, frozen=True):
    """A pod's address behind a service. `ports` are (name, number, protocol, application protocol)."""

    address: str
    ready: bool
    serving: bool
    terminating: bool
    pod: Object
    ports: tuple[tuple[str, int, str, str], ...]

    @property
    def target(self) -> Object:
        metadata = self.pod["metadata"]
        return {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }

    @property
    def hostname(self) -> str:
        return str(self.pod["spec"].get("hostname", ""))

    def has_name_of(self, service: Object) -> bool:
        """Whether the pod has a name of its own below the service's."""
        return bool(self.hostname) and self.pod["spec"].get("subdomain") == service["metadata"]["name"]


class TriggerTimes:
    """When that happened which changes a service's endpoints: what is written says so, for those who measure delays."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[dict[str, str], str]] = {}

    def since_last(self, key: str, service: Object, reader: Reader) -> str:
        """The earliest of what changed since this was last asked; empty where nothing tells a time."""
        selector = selectors.from_set(service["spec"]["selector"])
        pods, created = {}, str(service["metadata"].get("creationTimestamp", ""))
        for pod in reader.list("pods", service["metadata"]["namespace"]):
            since = (condition(pod, "Ready") or {}).get("lastTransitionTime")
            if since and selector.matches(pod["metadata"].get("labels") or {}):
                pods[pod["metadata"]["name"]] = since
        before, self._seen[key] = self._seen.get(key), (pods, created)
        if before is None:
            return created
        changed = [since for name, since in pods.items() if since > before[0].get(name, "")]
        return min([*changed, created] if created > before[1] else changed, default="")

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)


def triggered(metadata: Object, trigger: str) -> Object:
    """The metadata with this time, or with none."""
    annotations = {name: text for name, text in (metadata.get("annotations") or {}).items() if name != LAST_TRIGGER}
    if trigger:
        annotations[LAST_TRIGGER] = trigger
    others = {name: value for name, value in metadata.items() if name != "annotations"}
    return {**others, "annotations": annotations} if annotations else others


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def selects(service: Object) -> bool:
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def backends(reader: Reader, service: Object, family: str) -> Iterator[Backend]:
    """Addresses of one family (IPv4, IPv6) of the pods that the service selects."""
    spec = service["spec"]
    selector = selectors.from_set(spec["selector"])
    for pod in reader.list("pods", service["metadata"]["namespace"]):
        if pod_phase(pod) in ("Succeeded", "Failed") or not selector.matches(pod["metadata"].get("labels") or {}):
            continue
        status = pod.get("status") or {}
        addresses = [one["ip"] for one in status.get("podIPs") or ()] or [status.get("podIP", "")]
        serving, publish = pod_ready(pod), bool(spec.get("publishNotReadyAddresses"))
        for address in addresses:
            if address and _family(address) == family:
                ready = publish or (serving and not ending(pod))
                yield Backend(address, ready, serving, ending(pod), pod, _ports(spec, pod))
                break


def _family(address: str) -> str:
    parsed = parse_ip(address)
    return "" if parsed is None else f"IPv{parsed.version}"


def _ports(spec: Object, pod: Object) -> tuple[tuple[str, int, str, str], ...]:
    found = []
    for port in spec.get("ports") or ():
        number = target_port(port, pod)
        if number is not None:
            found.append((port.get("name", ""), number, port.get("protocol", "TCP"), port.get("appProtocol", "")))
    return tuple(found)


def target_port(port: Object, pod: Object) -> int | None:
    """The number behind a service's port in this pod; None where the pod has no port of that name."""
    wanted = port.get("targetPort", port["port"])
    if isinstance(wanted, int):
        return wanted or int(port["port"])
    for container in pod["spec"]["containers"]:
        for offered in container.get("ports") or ():
            if offered.get("name") == wanted and offered.get("protocol", "TCP") == port.get("protocol", "TCP"):
                return int(offered["containerPort"])
    return None


def follow(reader: Reader, queue: Queue) -> None:
    """Put the keys of services into the queue when they, or pods that they select, change."""

    def service_changed(event: ObjectEvent, service: Object, _: Object | None) -> None:
        queue.add(f"{service['metadata']['namespace']}/{service['metadata']['name']}")

    def pod_changed(event: ObjectEvent, pod: Object, previous: Object | None) -> None:
        if previous is not None and event is ObjectEvent.MODIFIED and _view(pod) == _view(previous):
            return
        namespace = pod["metadata"]["namespace"]
        for service in reader.list("services", namespace):
            if not selects(service):
                continue
            selector = selectors.from_set(service["spec"]["selector"])
            if any(one and selector.matches(one["metadata"].get("labels") or {}) for one in (pod, previous)):
                queue.add(f"{namespace}/{service['metadata']['name']}")

    reader.subscribe("services", service_changed)
    reader.subscribe("pods", pod_changed)


def _view(pod: Object) -> tuple[object, ...]:
    """What of a pod a service's endpoints are made of."""
    status = pod.get("status") or {}
    addresses = status.get("podIPs") or status.get("podIP")
    return (
        addresses,
        pod_ready(pod),
        pod_phase(pod),
        ending(pod),
        pod["metadata"].get("labels"),
        pod["spec"].get("nodeName"),
    )

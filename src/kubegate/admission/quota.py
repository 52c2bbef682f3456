"""What counts against a resource quota: which objects a quota is about, and how much each one uses.

The ResourceQuota plugin charges requests with it; a controller works out with `used` what a quota should say.
Follows k8s.io/kubernetes/pkg/quota/v1 (evaluator/core) and k8s.io/apiserver/pkg/quota/v1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from kubegate.admission import Operation
from kubegate.admission import pod_resources as amounts
from kubegate.admission.classes import class_of_claim
from kubegate.admission.pod_resources import Resources
from kubegate.api import Object
from kubegate.api.clock import Clock, parse_rfc3339
from kubegate.api.quantity import DECIMAL_SI, Quantity, parse
from kubegate.api.selectors import SelectorError, from_object
from kubegate.storage import ObjectEvent, Reader

QUOTAS = "resourcequotas"

NEVER_COUNTED = frozenset(
    {
        "bindings",
        "componentstatuses",
        "events",
        "events.events.k8s.io",
        "tokenreviews.authentication.k8s.io",
        "subjectaccessreviews.authorization.k8s.io",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "localsubjectaccessreviews.authorization.k8s.io",
        "selfsubjectrulesreviews.authorization.k8s.io",
    }
)
"""What is not stored, and events."""

_STORAGE_CLASS = ".storageclass.storage.k8s.io/"
_DEVICE_CLAIMS = "count/resourceclaims.resource.k8s.io"
_DEVICE_CLASS = ".deviceclass.resource.k8s.io/devices"
# As many devices as one request can be given at most.
_ALL_DEVICES = 32
# The names that counts had before there was `count/RESOURCE`.
_OLD_NAMES = {"configmaps", "resourcequotas", "replicationcontrollers", "secrets"}
_STANDARD = ("cpu", "memory", "ephemeral-storage")
# A quota on these obliges every container to say what it wants; for all later ones that was found to be a mistake.
_OBLIGING = frozenset({"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"})


def number(value: int) -> Quantity:
    return Quantity(value, 0, DECIMAL_SI)


def counted_as(group_resource: str) -> str:
    """`count/deployments.apps`: the quota's name for the number of stored objects."""
    return f"count/{group_resource}"


class Evaluator(Protocol):
    """How one resource is counted."""

    def operations(self, subresource: str) -> frozenset[Operation]:
        """Which requests may change what is used."""
        ...

    def matching(self, names: Iterable[str]) -> list[str]:
        """Those of a quota's names that this resource uses."""
        ...

    def matches_scope(self, requirement: Mapping[str, Any], object: Object) -> bool:
        """Whether the object is within one scope (`{scopeName, operator, values}`)."""
        ...

    def missing(self, names: Iterable[str], object: Object) -> str:
        """What the object has to say where a quota has these names, and does not; "" where it says all."""
        ...

    def usage(self, object: Object) -> Resources:
        """How much the object uses. Raises QuantityError."""
        ...


_CREATE = frozenset({Operation.CREATE})
_WRITE = frozenset({Operation.CREATE, Operation.UPDATE})
_NONE: frozenset[Operation] = frozenset()


class Counted(Struct, frozen=True):
    """Resources of which only the number matters."""

    group_resource: str

    def _names(self) -> tuple[str, ...]:
        old = (self.group_resource,) if self.group_resource in _OLD_NAMES else ()
        return (counted_as(self.group_resource), *old)

    def operations(self, subresource: str) -> frozenset[Operation]:
        return _NONE if subresource else _CREATE

    def matching(self, names: Iterable[str]) -> list[str]:
        own = self._names()
        return [name for name in names if name in own]

    def matches_scope(self, requirement: Mapping[str, Any], object: Object) -> bool:
        return False

    def missing(self, names: Iterable[str], object: Object) -> str:
        return ""

    def usage(self, object: Object) -> Resources:
        return dict.fromkeys(self._names(), number(1))


class Services(Struct, frozen=True):
    """Services, and the node ports and load balancers that they take."""

    def operations(self, subresource: str) -> frozenset[Operation]:
        return _NONE if subresource else _WRITE

    def matching(self, names: Iterable[str]) -> list[str]:
        own = ("count/services", "services", "services.nodeports", "services.loadbalancers")
        return [name for name in names if name in own]

    def matches_scope(self, requirement: Mapping[str, Any], object: Object) -> bool:
        return False

    def missing(self, names: Iterable[str], object: Object) -> str:
        return ""

    def usage(self, object: Object) -> Resources:
        spec = object.get("spec") or {}
        ports = spec.get("ports") or []
        sort = spec.get("type", "")
        node_ports = len(ports) if sort in ("NodePort", "LoadBalancer") else 0
        if sort == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
            node_ports = sum(1 for port in ports if port.get("nodePort"))
        return {
            "count/services": number(1),
            "services": number(1),
            "services.nodeports": number(node_ports),
            "services.loadbalancers": number(int(sort == "LoadBalancer")),
        }


class Claims(Struct, frozen=True):
    """Persistent volume claims: their number and their size, altogether and for each storage class."""

    def operations(self, subresource: str) -> frozenset[Operation]:
        return _NONE if subresource else _WRITE

    def matching(self, names: Iterable[str]) -> list[str]:
        own = ("count/persistentvolumeclaims", "persistentvolumeclaims", "requests.storage")
        of_class = (f"{_STORAGE_CLASS}requests.storage", f"{_STORAGE_CLASS}persistentvolumeclaims")
        return [name for name in names if name in own or name.endswith(of_class)]

    def matches_scope(self, requirement: Mapping[str, Any], object: Object) -> bool:
        if requirement.get("scopeName") != "VolumeAttributesClass":
            return False
        spec, status = object.get("spec") or {}, object.get("status") or {}
        wanted = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
        names = {spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), wanted}
        return any(_selects(requirement, name) for name in names if name) or (
            requirement.get("operator") in ("NotIn", "DoesNotExist") and not any(names)
        )

    def missing(self, names: Iterable[str], object: Object) -> str:
        return ""

    def usage(self, object: Object) -> Resources:
        spec = object.get("spec") or {}
        found = {"count/persistentvolumeclaims": number(1), "persistentvolumeclaims": number(1)}
        storage_class = class_of_claim(object)
        if storage_class:
            found[f"{storage_class}{_STORAGE_CLASS}persistentvolumeclaims"] = number(1)
        asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
        given = ((object.get("status") or {}).get("allocatedResources") or {}).get("storage")
        sizes = [parse(str(size)) for size in (asked, given) if size is not None]
        if asked is not None:
            size = max(sizes, key=Quantity.nanos)
            found["requests.storage"] = size
            if storage_class:
                found[f"{storage_class}{_STORAGE_CLASS}requests.storage"] = size
        return found


class ResourceClaims(Struct, frozen=True):
    """Claims of devices: their number, and the devices of each class at the most."""

    def operations(self, subresource: str) -> frozenset[Operation]:
        return _NONE if subresource else _WRITE

    def matching(self, names: Iterable[str]) -> list[str]:
        return [
            name for name in names if name == "count/resourceclaims.resource.k8s.io" or name.endswith(_DEVICE_CLASS)
        ]

    def matches_scope(self, requirement: Mapping[str, Any], object: Object) -> bool:
        return False

    def missing(self, names: Iterable[str], object: Object) -> str:
        return ""

    def usage(self, object: Object) -> Resources:
        found = {_DEVICE_CLAIMS: number(1)}
        for request in ((object.get("spec") or {}).get("devices") or {}).get("requests") or ():
            most: dict[str, int] = {}
            for one in request.get("firstAvailable") or [request.get("exactly") or request]:
                device_class = one.get("deviceClassName", "")
                count = _ALL_DEVICES if one.get("allocationMode") == "All" else one.get("count", 1)
                most[device_class] = max(count, most.get(device_class, 0))
            for device_class, count in most.items():
                found = amounts.add(found, {f"{device_class}{_DEVICE_CLASS}": number(count)})
        return found


class Pods(Struct, frozen=True):
    """Pods: their number and what they ask for, while they have not ended. `clock` tells whether one is overdue."""

    clock: Clock

    def operations(self, subresource: str) -> frozenset[Operation]:
        return {"": _CREATE, "resize": frozenset({Operation.UPDATE})}.get(subresource, _NONE)

    def matching(self, names: Iterable[str]) -> list[str]:
        own = {"count/pods", "pods", *_STANDARD}
        own |= {f"{sort}.{name}" for sort in ("requests", "limits") for name in _STANDARD}
        return [name for name in names if name in own or name.startswith("hugepages-") or _is_request_of_other(name)]

    def matches_scope(self, requirement: Mapping[str, Any], object: Object) -> bool:
        spec = object.get("spec") or {}
        match requirement.get("scopeName"):
            case "Terminating":
                return spec.get("activeDeadlineSeconds") is not None
            case "NotTerminating":
                return spec.get("activeDeadlineSeconds") is None
            case "BestEffort":
                return is_best_effort(object)
            case "NotBestEffort":
                return not is_best_effort(object)
            case "PriorityClass":
                return _selects(requirement, spec.get("priorityClassName"))
            case "CrossNamespacePodAffinity":
                return _crosses_namespaces(spec)
        return False

    def missing(self, names: Iterable[str], object: Object) -> str:
        spec = object.get("spec") or {}
        if amounts.has_own(spec):
            return ""
        silent: dict[str, set[str]] = {}
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            resources = container.get("resources") or {}
            said = _as_used(amounts.amounts(resources.get("requests")), amounts.amounts(resources.get("limits")))
            for name in _OBLIGING.intersection(names) - said.keys():
                silent.setdefault(name, set()).add(container.get("name", ""))
        if not silent:
            return ""
        return "must specify " + "; ".join(
            f"{name} for: {','.join(sorted(who))}" for name, who in sorted(silent.items())
        )

    def usage(self, object: Object) -> Resources:
        found = {"count/pods": number(1)}
        if self._ended(object):
            return found
        spec, status = object.get("spec") or {}, object.get("status") or {}
        statuses = {
            container.get("name", ""): container
            for sort in ("containerStatuses", "initContainerStatuses")
            for container in status.get(sort) or ()
        }
        requests = amounts.of_pod(spec, "requests", overhead=True, statuses=statuses)
        limits = amounts.of_pod(spec, "limits", overhead=True, statuses=statuses)
        return {**found, "pods": number(1), **_as_used(requests, limits)}

    def _ended(self, pod: Object) -> bool:
        """Finished, or still there long after it should have gone, as when its node is lost."""
        if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            return True
        metadata = pod.get("metadata") or {}
        since, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
        if not since or grace is None:
            return False
        return self.clock.now() > parse_rfc3339(since) + float(grace)


def _as_used(requests: Resources, limits: Resources) -> Resources:
    """Requests and limits under the names that quotas have for them."""
    found: Resources = {}
    for name in _STANDARD:
        if name in requests:
            found[name] = found[f"requests.{name}"] = requests[name]
        if name in limits:
            found[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith("hugepages-"):
            found[name] = found[f"requests.{name}"] = amount
        elif is_extended(name):
            found[f"requests.{name}"] = amount
    return found


def is_extended(name: str) -> bool:
    """Whether a resource is one that a cluster's operator invented (`example.org/gpu`)."""
    domain, slash, _ = name.partition("/")
    if not slash or domain == "kubernetes.io" or domain.endswith(".kubernetes.io"):
        return False
    return not name.startswith("requests.")


def _is_request_of_other(name: str) -> bool:
    other = name.removeprefix("requests.")
    return other != name and (other.startswith("hugepages-") or is_extended(other))


def is_best_effort(pod: Object) -> bool:
    decided = (pod.get("status") or {}).get("qosClass")
    if decided:
        return bool(decided == "BestEffort")
    spec = pod.get("spec") or {}
    return not any(
        name in ("cpu", "memory") and not amount.is_zero
        for holder in (spec, *(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        for sort in ("requests", "limits")
        for name, amount in amounts.amounts((holder.get("resources") or {}).get(sort)).items()
    )


def _selects(requirement: Mapping[str, Any], value: str | None) -> bool:
    name = requirement.get("scopeName", "")
    if requirement.get("operator") == "Exists":
        return bool(value)
    condition = {"key": name, "operator": requirement.get("operator"), "values": requirement.get("values") or []}
    try:
        return from_object({"matchExpressions": [condition]}).matches({name: value} if value else {})
    except SelectorError:
        return False


def _crosses_namespaces(spec: Object) -> bool:
    for sort in ("podAffinity", "podAntiAffinity"):
        affinity = (spec.get("affinity") or {}).get(sort) or {}
        terms = list(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        for preferred in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            terms.append(preferred.get("podAffinityTerm") or {})
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False


class Evaluators:
    """The evaluator of every resource; those that nobody knows are counted."""

    def __init__(self, clock: Clock) -> None:
        self._special: dict[str, Evaluator] = {
            "pods": Pods(clock),
            "services": Services(),
            "persistentvolumeclaims": Claims(),
            "resourceclaims.resource.k8s.io": ResourceClaims(),
        }

    def of(self, group_resource: str) -> Evaluator | None:
        """None for what is never counted."""
        if group_resource in NEVER_COUNTED:
            return None
        return self._special.get(group_resource) or Counted(group_resource)

    def counting(self, names: Iterable[str]) -> list[str]:
        """The resources whose objects one has to look at to know what is used of a quota's names."""
        names = list(names)
        found = {resource: None for resource, evaluator in self._special.items() if evaluator.matching(names)}
        for name in names:
            resource = name.removeprefix("count/")
            counted = resource != name or name in _OLD_NAMES
            if counted and resource not in self._special:
                found[resource] = None
        return list(found)


def scopes_of(quota: Object) -> list[Mapping[str, Any]]:
    """All scopes of a quota as requirements."""
    spec = quota.get("spec") or {}
    plain = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    return [*plain, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def matches(quota: Object, names: Iterable[str], evaluator: Evaluator, object: Object) -> bool:
    """Whether the object counts against the quota, of which `names` are limited."""
    return bool(evaluator.matching(names)) and all(
        evaluator.matches_scope(requirement, object) for requirement in scopes_of(quota)
    )


class KnownResources(Protocol):
    """The resources that are served now."""

    def by_group_resource(self, group_resource: str) -> object | None: ...


class _Reservation(Struct, frozen=True):
    resource: str
    object: Object
    usage: Resources
    until: float


class Reservations:
    """What was charged for objects that are on their way to the store.

    Who works out a quota's use from stored objects must add these, or it would give away twice what a request has
    just been promised. An entry ends when its object is stored, or after a minute (its request failed). Bounded.

    Where several processes charge, `tell` is given what this one adds, for the others to `take`.
    """

    SECONDS = 60.0
    MOST = 10_000

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader, self._clock = reader, clock
        self._by_uid: dict[str, _Reservation] = {}
        self._watched: set[str] = set()
        self.tell: Callable[[str, Object, Resources], None] | None = None

    def add(self, resource: str, object: Object, usage: Resources) -> None:
        if self.tell is not None:
            self.tell(resource, object, usage)
        self.take(resource, object, usage)

    def take(self, resource: str, object: Object, usage: Resources) -> None:
        uid = (object.get("metadata") or {}).get("uid", "")
        if not uid:
            return
        if resource not in self._watched:
            self._watched.add(resource)
            self._reader.subscribe(resource, self._on_event)
        now = self._clock.monotonic()
        if len(self._by_uid) >= self.MOST:
            self._by_uid = {key: entry for key, entry in self._by_uid.items() if entry.until > now}
            while len(self._by_uid) >= self.MOST:
                self._by_uid.pop(next(iter(self._by_uid)))
        before = self._by_uid.get(uid)
        self._by_uid[uid] = _Reservation(
            resource, object, amounts.add(before.usage, usage) if before else usage, now + self.SECONDS
        )

    def pending(self, namespace: str) -> Sequence[tuple[str, Object, Resources]]:
        """(resource, object, usage) of those in a namespace."""
        now = self._clock.monotonic()
        return [
            (entry.resource, entry.object, entry.usage)
            for entry in self._by_uid.values()
            if entry.until > now and entry.object["metadata"].get("namespace") == namespace
        ]

    def _on_event(self, event: ObjectEvent, object: Object, previous: Object | None) -> None:
        if self._by_uid:
            self._by_uid.pop((object.get("metadata") or {}).get("uid", ""), None)


def used(
    quota: Object, reader: Reader, clock: Clock, resources: KnownResources, reservations: Reservations | None = None
) -> dict[str, str]:
    """What `status.used` of a quota should be: counted anew from all stored objects of its namespace.

    Nothing is said of what there is not (`count/RESOURCE` of a resource that is not served), or is never counted.
    """
    names = list((quota.get("spec") or {}).get("hard") or {})
    evaluators = Evaluators(clock)
    namespace = quota["metadata"]["namespace"]
    total: Resources = {}
    on_their_way = reservations.pending(namespace) if reservations else ()
    for resource in evaluators.counting(names):
        evaluator = evaluators.of(resource)
        if evaluator is None or resources.by_group_resource(resource) is None:
            continue
        total |= {name: number(0) for name in evaluator.matching(names) if name not in total}
        found = [(object, evaluator.usage(object)) for object in reader.list(resource, namespace)]
        found += [(object, usage) for other, object, usage in on_their_way if other == resource]
        for object, usage in found:
            if matches(quota, names, evaluator, object):
                total = amounts.add(total, {name: amount for name, amount in usage.items() if name in total})
    return amounts.texts(total)

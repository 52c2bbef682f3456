"""Compute resources: names that are known, requests and limits, sums over a pod, and the quality of service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.api.quantity import Quantity, parse
from kubegate.registry.checks import (
    NOT_INTEGER,
    amount,
    dns_label,
    listed,
    mapped,
    nonnegative_quantity,
    qualified_name,
)

_HUGEPAGES: Final = "hugepages-"
_CONTAINER_NAMES = frozenset({"cpu", "memory", "ephemeral-storage"})
_STANDARD_NAMES = _CONTAINER_NAMES | {
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
}
_INTEGER_NAMES = frozenset(
    {
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_QUOTA_NAMES = _STANDARD_NAMES - {"storage"}
_POD_LEVEL_NAMES = frozenset({"cpu", "memory"})
_QOS_NAMES = ("cpu", "memory")


def is_huge_page(name: str) -> bool:
    return name.startswith(_HUGEPAGES)


def is_standard(name: str) -> bool:
    return name in _STANDARD_NAMES or is_huge_page(name) or name.startswith("requests.hugepages-")


def is_container_standard(name: str) -> bool:
    return name in _CONTAINER_NAMES or is_huge_page(name)


def is_quota_standard(name: str) -> bool:
    return name in _QUOTA_NAMES or is_huge_page(name) or name.startswith("requests.hugepages-")


def is_native(name: str) -> bool:
    """Unprefixed, or of kubernetes.io."""
    return "/" not in name or _prefixed_native(name)


def _prefixed_native(name: str) -> bool:
    return "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.is_qualified_name(f"requests.{name}")


def is_integer(name: str) -> bool:
    return name in _INTEGER_NAMES or is_extended(name)


def may_overcommit(name: str) -> bool:
    return is_native(name) and not is_huge_page(name)


def is_pod_level(name: str) -> bool:
    return name in _POD_LEVEL_NAMES or is_huge_page(name)


def resource_name(name: str, path: str) -> list[FieldError]:
    errors = qualified_name(name, path)
    if not errors and "/" not in name and not is_standard(name):
        errors.append(field.invalid(path, name, "must be a standard resource type or fully qualified"))
    return errors


def container_resource_name(name: str, path: str) -> list[FieldError]:
    errors = resource_name(name, path)
    if "/" not in name:
        if not is_container_standard(name):
            errors.append(field.invalid(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(field.invalid(path, name, "doesn't follow extended resource name standard"))
    return errors


def pod_resource_name(name: str, path: str) -> list[FieldError]:
    errors = resource_name(name, path)
    if not errors and not is_pod_level(name):
        errors.append(field.not_supported(path, name, ("cpu", "hugepages-", "memory")))
    return errors


def resource_value(name: str, text: Any, path: str) -> list[FieldError]:
    errors = nonnegative_quantity(text, path)
    found = amount(text)
    if found.milli_value() % 1000 and is_integer(name):
        errors.append(field.invalid(path, str(found), NOT_INTEGER))
    return errors


def requirements(
    found: Mapping[str, Any] | None,
    path: str,
    claim_names: Collection[str],
    check_name: Callable[[str, str], list[FieldError]] = container_resource_name,
) -> list[FieldError]:
    """A ResourceRequirements: names, amounts, and no request above its limit."""
    limits, requests = mapped(found, "limits"), mapped(found, "requests")
    limit_path, request_path = field.child(path, "limits"), field.child(path, "requests")
    errors = []
    for name, text in sorted(limits.items()):
        here = field.key(limit_path, name)
        errors += check_name(name, here) + resource_value(name, text, here) + _huge_page_value(name, text, here)
    for name, text in sorted(requests.items()):
        here = field.key(request_path, name)
        errors += check_name(name, here) + resource_value(name, text, here)
        wanted = amount(text)
        if name in limits:
            limit = amount(limits[name])
            if wanted.compare(limit) != 0 and not may_overcommit(name):
                errors.append(field.invalid(request_path, str(wanted), f"must be equal to {name} limit of {limit}"))
            elif wanted.compare(limit) > 0:
                text_ = f"must be less than or equal to {name} limit of {limit}"
                errors.append(field.invalid(request_path, str(wanted), text_))
        elif not may_overcommit(name):
            errors.append(field.required(limit_path, "Limit must be set for non overcommitable resources"))
        errors += _huge_page_value(name, text, here)
    both = limits.keys() | requests.keys()
    if any(is_huge_page(name) for name in both) and not both & {"cpu", "memory"}:
        errors.append(field.forbidden(path, "HugePages require cpu or memory"))
    return errors + _claims(listed(found, "claims"), claim_names, field.child(path, "claims"))


def _huge_page_value(name: str, text: Any, path: str) -> list[FieldError]:
    if not is_huge_page(name):
        return []
    found = amount(text)
    try:
        size = parse(name.removeprefix(_HUGEPAGES)).value()
    except ValueError:
        size = 0
    if size > 0 and found.value() % size == 0:
        return []
    return [field.invalid(path, str(found), f"{found} is not positive integer multiple of {name}")]


_ONE_OF = "must be one of the names in pod.spec.resourceClaims"
_MOST_TOLD = 1024 * 1024


def _claims(claims: Iterable[Object], known: Collection[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    in_part: set[str] = set()
    detail = _ONE_OF + (f": {', '.join(sorted(known))}" if known else " which is empty")
    told = 0
    for position, claim in enumerate(claims):
        here = field.index(path, position)
        name, request = claim.get("name", ""), claim.get("request", "")
        if not name:
            errors.append(field.required(here))
            continue
        if name in seen:
            errors.append(field.duplicate(here, name))
        else:
            reference = name
            if request:
                errors += dns_label(request, field.child(here, "request"))
                reference = f"{name}/{request}"
            if reference in seen:
                errors.append(field.duplicate(here, reference))
            elif not request and name in in_part:
                errors.append(field.duplicate(here, name))
            seen.add(reference)
            if "/" in reference:
                in_part.add(reference.partition("/")[0])
        if name not in known:
            missing = field.not_found(here, name)
            errors.append(FieldError(missing.reason, missing.field, f"{missing.text}: {detail}"))
            told += len(detail)
            if told > _MOST_TOLD:  # each names all that there are: the square of what was sent
                detail = _ONE_OF
    return errors


# ---------------------------------------------------------------------- sums over a pod
def total_requests(spec: Object) -> dict[str, Quantity]:
    """What all containers together ask for: regular ones and sidecars at once, or one init container beside the
    sidecars started before it, whichever is more.
    """
    return _aggregate(spec, "requests")


def hugepages_limits(spec: Object) -> dict[str, Quantity]:
    return {name: found for name, found in _aggregate(spec, "limits").items() if is_huge_page(name)}


def _aggregate(spec: Object, which: str) -> dict[str, Quantity]:
    total: dict[str, Quantity] = {}
    for container in listed(spec, "containers"):
        _add(total, mapped(container.get("resources"), which))
    sidecars: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in listed(spec, "initContainers"):
        own = mapped(container.get("resources"), which)
        if container.get("restartPolicy") == "Always":
            _add(total, own)
            _add(sidecars, own)
            needed = dict(sidecars)
        else:
            needed = dict(sidecars)
            _add(needed, own)
        _raise(peak, needed)
    _raise(total, peak)
    return total


def _add(total: dict[str, Quantity], amounts: Mapping[str, Any]) -> None:
    for name, text in amounts.items():
        more = amount(text)
        total[name] = total[name].add(more) if name in total else more


def _raise(total: dict[str, Quantity], other: Mapping[str, Quantity]) -> None:
    for name, found in other.items():
        if name not in total or found.compare(total[name]) > 0:
            total[name] = found


def pod_level(spec: Object, path: str, claim_names: Collection[str]) -> list[FieldError]:
    """`spec.resources`: what the pod as a whole may use."""
    found = spec.get("resources")
    if not isinstance(found, dict):
        return []
    if mapped(spec, "os").get("name") == "windows":
        return [field.forbidden(path, "may not be set for a windows pod")]
    errors = []
    if listed(found, "claims"):
        text = "claims may not be set for Resources at pod-level"
        errors.append(field.forbidden(field.child(path, "claims"), text))
    errors += requirements(found, path, claim_names, pod_resource_name)
    requests, limits = mapped(found, "requests"), mapped(found, "limits")
    for name, needed in sorted(total_requests(spec).items()):
        if name in requests and needed.compare(amount(requests[name])) > 0:
            detail = f"must be greater than or equal to aggregate container requests of {needed}"
            here = field.key(field.child(path, "requests"), name)
            errors.append(field.invalid(here, str(amount(requests[name])), detail))
    for name, needed in sorted(hugepages_limits(spec).items()):
        if name in limits and needed.compare(amount(limits[name])) > 0:
            detail = f"must be greater than or equal to aggregate container limits of {needed}"
            here = field.key(field.child(path, "limits"), name)
            errors.append(field.invalid(here, str(amount(limits[name])), detail))
    for position, container in enumerate(listed(spec, "containers")):
        for name, text in sorted(mapped(container.get("resources"), "limits").items()):
            if name in limits and amount(text).compare(amount(limits[name])) > 0:
                here = field.key(field.index(field.child(path, "containers"), position), name)
                detail = f"must be less than or equal to pod limits of {amount(limits[name])}"
                errors.append(field.invalid(field.child(here, "limits"), str(amount(text)), detail))
    return errors


def quality_of_service(spec: Object) -> str:
    """BestEffort, Burstable or Guaranteed, by cpu and memory alone."""
    own = spec.get("resources")
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}
    guaranteed = True
    if isinstance(own, dict):
        # what the pod says as a whole stands for what its containers say, also where it says nothing
        _add(requests, _positive(mapped(own, "requests")))
        _add(limits, _positive(mapped(own, "limits")))
        guaranteed = len(limits) == len(_QOS_NAMES)
    else:
        for container in listed(spec, "containers") + listed(spec, "initContainers"):
            asked = _positive(mapped(container.get("resources"), "requests"))
            bounded = _positive(mapped(container.get("resources"), "limits"))
            _add(requests, asked)
            _add(limits, bounded)
            guaranteed = guaranteed and len(bounded) == len(_QOS_NAMES)
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and len(requests) == len(limits):
        same = all(name in limits and limits[name].compare(found) == 0 for name, found in requests.items())
        if same:
            return "Guaranteed"
    return "Burstable"


def _positive(amounts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: amounts[name] for name in _QOS_NAMES if name in amounts and amount(amounts[name]).sign() > 0}

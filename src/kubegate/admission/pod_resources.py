"""What a pod as a whole asks for: containers together, or the greediest moment while its init containers run.

Follows k8s.io/component-helpers/resource. Amounts are `Resources`: resource name -> Quantity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubegate.api import Object
from kubegate.api.quantity import Quantity, parse

Resources = dict[str, Quantity]

_POD_LEVEL = ("cpu", "memory")


def amounts(found: Mapping[str, Any] | None) -> Resources:
    """Quantities of a `requests`, `limits`, `hard` or `used`. Raises QuantityError (validation comes later)."""
    return {name: parse(str(text)) for name, text in (found or {}).items()}


def texts(found: Resources) -> dict[str, str]:
    """As objects show them."""
    return {name: str(amount) for name, amount in sorted(found.items())}


def add(left: Resources, right: Resources) -> Resources:
    total = dict(left)
    for name, amount in right.items():
        total[name] = total[name].add(amount) if name in total else amount
    return total


def greatest(left: Resources, right: Resources) -> Resources:
    most = dict(left)
    for name, amount in right.items():
        if name not in most or most[name].compare(amount) < 0:
            most[name] = amount
    return most


def has_own(spec: Object) -> bool:
    """Whether the pod itself asks for anything, or limits it, beside its containers."""
    own = spec.get("resources") or {}
    return any(_is_of_pod(name) for sort in ("requests", "limits") for name in own.get(sort) or ())


def _is_of_pod(name: str) -> bool:
    return name in _POD_LEVEL or name.startswith("hugepages-")


def of_pod(
    spec: Object, sort: str, *, overhead: bool = False, statuses: Mapping[str, Object] | None = None
) -> Resources:
    """The pod's `requests` or `limits` (that is `sort`).

    Sidecars (init containers that are always restarted) run beside everything that starts after them. What the pod
    itself asks for counts before the sum of its containers. `overhead` adds what its runtime class costs. `statuses`
    (name -> container status) makes a container count with the most of what it asked for, was given, and has.
    """
    total: Resources = {}
    for container in spec.get("containers") or ():
        total = add(total, _of_container(container, sort, statuses))
    sidecars: Resources = {}
    starting: Resources = {}
    for container in spec.get("initContainers") or ():
        needs = _of_container(container, sort, statuses)
        if container.get("restartPolicy") == "Always":
            total = add(total, needs)
            sidecars = needs = add(sidecars, needs)
        else:
            needs = add(needs, sidecars)
        starting = greatest(starting, needs)
    total = greatest(total, starting)
    for name, amount in amounts((spec.get("resources") or {}).get(sort)).items():
        if _is_of_pod(name):
            total[name] = amount
    if overhead:
        for name, amount in amounts(spec.get("overhead")).items():
            if sort == "requests" or (name in total and not total[name].is_zero):
                total = add(total, {name: amount})
    return total


def _of_container(container: Object, sort: str, statuses: Mapping[str, Object] | None) -> Resources:
    asked = amounts((container.get("resources") or {}).get(sort))
    status = (statuses or {}).get(container.get("name", ""))
    if status is None:
        return asked
    has = amounts((status.get("resources") or {}).get(sort))
    given = amounts(status.get("allocatedResources")) if sort == "requests" else {}
    return greatest(asked, greatest(has, given)) if has or given else asked

"""What a pod may be told of itself: `fieldRef` and `resourceFieldRef`, in volumes and variables."""

from __future__ import annotations

import re
from typing import Final

from kubegate.api import Object
from kubegate.api.field import quoted
from kubegate.api.quantity import parse

_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]\Z")


class Unavailable(Exception):
    """What a volume or variable refers to is not there (yet); the text is the kubelet's."""


def field(pod: Object, path: str) -> str:
    """The text of a `fieldPath`. Raises Unavailable for one that is not known."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.removeprefix("metadata.")])
        case "metadata.labels" | "metadata.annotations":
            found = metadata.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f"{name}={quoted(value)}" for name, value in sorted(found.items()))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(spec.get(path.removeprefix("spec."), ""))
        case "status.hostIP" | "status.podIP":
            return str(status.get(path.removeprefix("status."), ""))
        case "status.hostIPs" | "status.podIPs":
            return ",".join(one["ip"] for one in status.get(path.removeprefix("status.")) or ())
    raise Unavailable(f"unsupported fieldPath: {path}")


def resource(pod: Object, container: str, reference: Object, allocatable: Object) -> str:
    """The number that a `resourceFieldRef` stands for; what has no limit has the node's. Raises Unavailable."""
    name = reference.get("containerName") or container
    containers = [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]
    found = next((one for one in containers if one["name"] == name), None)
    if found is None:
        raise Unavailable(f"container {name} not found")
    sort, _, what = reference["resource"].partition(".")
    amount = ((found.get("resources") or {}).get(sort) or {}).get(what)
    if amount is None:
        amount = allocatable.get(what, "0") if sort == "limits" else "0"
    divisor = parse(str(reference.get("divisor") or "0"))
    step = divisor.nanos() if not divisor.is_zero else 10**9
    return str(-(-parse(str(amount)).nanos() // step))

"""Which nodes a pod may run on by its nodeSelector and its required node affinity."""

from __future__ import annotations

from kubegate.api import Object


def matches_node(spec: Object, node: Object) -> bool:
    """nodeSelector and required node affinity."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        bool(term.get("matchExpressions") or term.get("matchFields"))
        and all(_meets(one, labels) for one in term.get("matchExpressions") or ())
        and all(_meets(one, fields) for one in term.get("matchFields") or ())
        for term in required.get("nodeSelectorTerms") or ()
    )


def _meets(requirement: Object, labels: dict[str, str]) -> bool:
    value, wanted = labels.get(requirement["key"]), requirement.get("values") or []
    match requirement.get("operator"):
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                have, bound = int(value or ""), int(wanted[0])
            except (ValueError, IndexError):
                return False
            return have > bound if operator == "Gt" else have < bound
    return False

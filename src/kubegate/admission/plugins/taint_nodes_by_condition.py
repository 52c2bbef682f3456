"""TaintNodesByCondition: a new node takes no pods before it says that it is ready.

Follows k8s.io/kubernetes/plugin/pkg/admission/nodetaint.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class TaintNodesByCondition:
    name = "TaintNodesByCondition"
    handles = frozenset({Operation.CREATE})
    resources = frozenset({"nodes"})
    changes = True

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        spec = attributes.object.setdefault("spec", {})
        taints = spec.get("taints") or []
        if all((taint.get("key"), taint.get("effect")) != tuple(NOT_READY.values()) for taint in taints):
            spec["taints"] = [*taints, dict(NOT_READY)]


def build(dependencies: Dependencies) -> TaintNodesByCondition:
    return TaintNodesByCondition()

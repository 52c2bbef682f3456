"""PodTopologyLabels: a pod learns in which zone and region its node is.

Follows k8s.io/kubernetes/plugin/pkg/admission/podtopologylabels.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels:
    name = "PodTopologyLabels"
    handles = frozenset({Operation.CREATE})
    # The labels of a binding are copied to the pod that is bound.
    resources = frozenset({"pods", "pods/binding"})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader

    async def admit(self, attributes: Attributes) -> None:
        object = attributes.object
        if object is None:
            return
        if attributes.subresource == "binding":
            target = object.get("target") or {}
            node = target.get("name", "") if target.get("kind") == "Node" else ""
        else:
            node = (object.get("spec") or {}).get("nodeName", "")
        found = self._reader.get("nodes", "", node) if node else None
        of_node = ((found or {}).get("metadata") or {}).get("labels") or {}
        labels = {label: of_node[label] for label in LABELS if label in of_node}
        if labels:
            metadata = object.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **labels}


def build(dependencies: Dependencies) -> PodTopologyLabels:
    return PodTopologyLabels(dependencies)

"""LimitPodHardAntiAffinityTopology: a pod keeps others off its node at most, not off a whole zone.

Follows k8s.io/kubernetes/plugin/pkg/admission/antiaffinity.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden

HOSTNAME = "kubernetes.io/hostname"


class LimitPodHardAntiAffinityTopology:
    name = "LimitPodHardAntiAffinityTopology"
    handles = frozenset({Operation.CREATE, Operation.UPDATE})
    resources = frozenset({"pods"})
    changes = False

    async def validate(self, attributes: Attributes) -> None:
        affinity = ((attributes.object or {}).get("spec") or {}).get("affinity") or {}
        required = (affinity.get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
        for term in required or ():
            key = term.get("topologyKey", "")
            if key != HOSTNAME:
                raise forbidden(
                    attributes,
                    f"affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} "
                    "is allowed",
                )


def build(dependencies: Dependencies) -> LimitPodHardAntiAffinityTopology:
    return LimitPodHardAntiAffinityTopology()

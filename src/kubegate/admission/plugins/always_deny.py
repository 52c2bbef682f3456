"""AlwaysDeny: nothing is changed any more. Follows k8s.io/kubernetes/plugin/pkg/admission/deny."""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden


class AlwaysDeny:
    name = "AlwaysDeny"
    handles = frozenset(Operation)
    resources = None
    changes = False

    async def admit(self, attributes: Attributes) -> None:
        raise forbidden(attributes, "admission control is denying all modifications")

    async def validate(self, attributes: Attributes) -> None:
        raise forbidden(attributes, "admission control is denying all modifications")


def build(dependencies: Dependencies) -> AlwaysDeny:
    return AlwaysDeny()

"""NodeDeclaredFeatureValidator: a running pod is not changed into one that its node cannot run.

Of what a node declares, v1.36 asks for one thing when a pod is updated: that resources given for the whole pod can
be changed in place. Follows k8s.io/kubernetes/plugin/pkg/admission/nodedeclaredfeatures.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden

POD_LEVEL_RESIZE = "InPlacePodLevelResourcesVerticalScaling"


class NodeDeclaredFeatureValidator:
    name = "NodeDeclaredFeatureValidator"
    handles = frozenset({Operation.UPDATE})
    resources = frozenset({"pods", "pods/resize"})
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader

    async def validate(self, attributes: Attributes) -> None:
        new = (attributes.object or {}).get("spec") or {}
        old = (attributes.old_object or {}).get("spec") or {}
        name = new.get("nodeName", "")
        if not name or (new.get("resources") or {}) == (old.get("resources") or {}):
            return
        node = self._reader.get("nodes", "", name)
        if node is None:
            raise forbidden(attributes, f'node "{name}" not found')
        if POD_LEVEL_RESIZE not in ((node.get("status") or {}).get("declaredFeatures") or ()):
            why = f'pod update requires features {POD_LEVEL_RESIZE} which are not available on node "{name}"'
            raise forbidden(attributes, why)


def build(dependencies: Dependencies) -> NodeDeclaredFeatureValidator:
    return NodeDeclaredFeatureValidator(dependencies)

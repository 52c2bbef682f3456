"""DefaultIngressClass: an ingress that names no class gets the default one.

Follows k8s.io/kubernetes/plugin/pkg/admission/network/defaultingressclass.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.classes import default_class
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.pods import annotations_of

CLASSES = "ingressclasses.networking.k8s.io"
ANNOTATION = "ingressclass.kubernetes.io/is-default-class"
OLD_CLASS_ANNOTATION = "kubernetes.io/ingress.class"


class DefaultIngressClass:
    name = "DefaultIngressClass"
    handles = frozenset({Operation.CREATE})
    resources = frozenset({"ingresses.networking.k8s.io"})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader

    async def admit(self, attributes: Attributes) -> None:
        ingress = attributes.object
        if ingress is None or OLD_CLASS_ANNOTATION in annotations_of(ingress):
            return
        if (ingress.get("spec") or {}).get("ingressClassName") is not None:
            return
        found = default_class(self._reader, CLASSES, (ANNOTATION,))
        if found is not None:
            ingress.setdefault("spec", {})["ingressClassName"] = found["metadata"]["name"]


def build(dependencies: Dependencies) -> DefaultIngressClass:
    return DefaultIngressClass(dependencies)

"""DefaultStorageClass: a claim that names no class gets the default one.

Follows k8s.io/kubernetes/plugin/pkg/admission/storage/storageclass/setdefault.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.classes import class_of_claim, default_class
from kubegate.admission.dependencies import Dependencies

CLASSES = "storageclasses.storage.k8s.io"
ANNOTATIONS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


class DefaultStorageClass:
    name = "DefaultStorageClass"
    handles = frozenset({Operation.CREATE})
    resources = frozenset({"persistentvolumeclaims"})
    changes = True

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None or class_of_claim(attributes.object) is not None:
            return
        found = default_class(self._reader, CLASSES, ANNOTATIONS)
        if found is not None:
            attributes.object.setdefault("spec", {})["storageClassName"] = found["metadata"]["name"]


def build(dependencies: Dependencies) -> DefaultStorageClass:
    return DefaultStorageClass(dependencies)

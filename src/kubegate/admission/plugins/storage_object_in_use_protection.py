"""StorageObjectInUseProtection: what is in use stays until it is not, however often it is deleted.

Follows k8s.io/kubernetes/plugin/pkg/admission/storage/storageobjectinuseprotection.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubegate.admission import Attributes, Operation
from kubegate.admission.dependencies import Dependencies

FINALIZERS: Mapping[str, str] = {
    "persistentvolumes": "kubernetes.io/pv-protection",
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}


class StorageObjectInUseProtection:
    name = "StorageObjectInUseProtection"
    handles = frozenset({Operation.CREATE})
    resources = frozenset(FINALIZERS)
    changes = True

    async def admit(self, attributes: Attributes) -> None:
        if attributes.object is None:
            return
        metadata = attributes.object.setdefault("metadata", {})
        finalizer = FINALIZERS[attributes.group_resource]
        given = metadata.get("finalizers") or []
        if finalizer not in given:
            metadata["finalizers"] = [*given, finalizer]


def build(dependencies: Dependencies) -> StorageObjectInUseProtection:
    return StorageObjectInUseProtection()

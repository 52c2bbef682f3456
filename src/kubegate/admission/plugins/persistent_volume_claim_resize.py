"""PersistentVolumeClaimResize: a claim grows only where its storage class lets it.

Follows k8s.io/kubernetes/plugin/pkg/admission/storage/persistentvolume/resize.
"""

from __future__ import annotations

from kubegate.admission import Attributes, Operation
from kubegate.admission.classes import class_of_claim
from kubegate.admission.dependencies import Dependencies
from kubegate.admission.refusal import forbidden
from kubegate.api import Object
from kubegate.api.quantity import Quantity, parse


class PersistentVolumeClaimResize:
    name = "PersistentVolumeClaimResize"
    handles = frozenset({Operation.UPDATE})
    resources = frozenset({"persistentvolumeclaims"})
    changes = False

    def __init__(self, dependencies: Dependencies) -> None:
        self._reader = dependencies.reader

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.object or {}, attributes.old_object or {}
        if _size(new).compare(_size(old)) <= 0:
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise forbidden(attributes, "Only bound persistent volume claims can be expanded")
        if not self._may_grow(new, old):
            raise forbidden(
                attributes,
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize",
            )

    def _may_grow(self, new: Object, old: Object) -> bool:
        name = class_of_claim(new)
        if not name or name != class_of_claim(old):
            return False
        found = self._reader.get("storageclasses.storage.k8s.io", "", name)
        return bool((found or {}).get("allowVolumeExpansion"))


def _size(claim: Object) -> Quantity:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return parse(str(requests.get("storage", "0")))


def build(dependencies: Dependencies) -> PersistentVolumeClaimResize:
    return PersistentVolumeClaimResize(dependencies)

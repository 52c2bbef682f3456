"""Which fields a write does not keep, by resource: status on a plain write, all but status on a write to status.

They are taken out of what a manager owns. The table is kube-apiserver's (GetResetFields of its strategies).
"""

from __future__ import annotations

from functools import cache
from typing import Final

from msgspec import Struct

from kubegate.api.managedfields import sets
from kubegate.api.managedfields.sets import FieldSet
from kubegate.api.resources import Resource


class ResetFields(Struct, frozen=True):
    """`dropped` and what is below it does not count; where `kept` is given, only that counts.

    `owned` is False for writes whose changes nobody owns afterwards. `everywhere` is False where all counts for those
    who own fields in another version than that of the write.
    """

    dropped: FieldSet
    kept: FieldSet | None = None
    owned: bool = True
    everywhere: bool = True

    def counted(self, fields: FieldSet) -> FieldSet:
        if self.kept is not None:
            fields = sets.only(fields, self.kept)
        return sets.without(fields, self.dropped)


NOTHING = ResetFields({})

# (resource, subresource) -> paths, where they are not those of the rule in `reset_fields`.
_SPECIAL: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("pods", "status"): ("spec", "metadata.deletionTimestamp", "metadata.ownerReferences"),
    ("pods", "ephemeralcontainers"): ("status",),
    ("pods", "resize"): ("status",),
    ("namespaces", "finalize"): ("status",),
    ("deployments.apps", "status"): ("spec", "metadata.labels"),
    ("certificatesigningrequests.certificates.k8s.io", ""): ("spec", "status"),
    ("certificatesigningrequests.certificates.k8s.io", "status"): ("spec", "status"),
    ("certificatesigningrequests.certificates.k8s.io", "approval"): ("spec", "status"),
    ("customresourcedefinitions.apiextensions.k8s.io", "status"): ("spec", "metadata"),
    ("volumeattachments.storage.k8s.io", "status"): ("spec", "metadata"),
    ("flowschemas.flowcontrol.apiserver.k8s.io", "status"): ("spec", "metadata"),
    ("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "status"): ("spec", "metadata"),
    ("apiservices.apiregistration.k8s.io", "status"): ("spec", "metadata"),
    ("resourceclaims.resource.k8s.io", "status"): ("spec", "metadata"),
}


@cache
def _dropping(*paths: str) -> ResetFields:
    return ResetFields(sets.of(*(tuple(f"f:{part}" for part in path.split(".")) for path in paths)))


# kube-apiserver cannot read the fields of a custom resource's Scale: replicas have no owner after such a write.
_DISOWNED = ResetFields({}, owned=False)
# What is not the status is reset for all versions of a custom resource, the status for that of the write alone.
_STATUS_ALONE = ResetFields({}, kept=sets.of(("f:status",)))
_ALL_BUT_STATUS = ResetFields(sets.of(("f:status",)), everywhere=False)


def reset_fields(resource: Resource, subresource: str) -> ResetFields:
    """What a write to `resource`, or to one of its subresources, does not keep."""
    special = _SPECIAL.get((resource.group_resource, subresource))
    if special is not None:
        return _dropping(*special)
    if subresource == "scale" and resource.custom is not None:
        return _DISOWNED
    if subresource == "status":
        return _STATUS_ALONE if resource.custom is not None else _dropping("spec")
    if not subresource and "status" in resource.subresources:
        return _dropping("status") if resource.custom is None else _ALL_BUT_STATUS
    return NOTHING

"""CSIStorageCapacities: how much of a storage class there is where."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_selector
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import dns_subdomain, nonnegative_quantity
from kubegate.registry.objectmeta import checked


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    topology, name = obj.get("nodeTopology"), obj.get("storageClassName", "")
    before = None if old is None else old.get("nodeTopology")
    lenient = bool(validate_selector(before, "nodeTopology"))
    errors = validate_selector(topology, "nodeTopology", allow_invalid_values=lenient)
    errors += dns_subdomain(name, "storageClassName")
    if "capacity" in obj:
        errors += nonnegative_quantity(obj["capacity"], "capacity")
    if old is not None:
        errors += field.immutable("nodeTopology", topology, before)
        errors += field.immutable("storageClassName", name, old.get("storageClassName", ""))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.storage.v1.CSIStorageCapacity"),
    validate=checked(_validate, again="subdomain"),
    returns_deleted=True,
)

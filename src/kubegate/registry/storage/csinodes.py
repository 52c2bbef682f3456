"""CSINodes: which storage drivers a node has."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import listed, mapped, nonnegative, qualified_name, repeated
from kubegate.registry.core.podspec.volumes import csi_driver_name
from kubegate.registry.objectmeta import checked

_MAX_NODE_ID = 256


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    drivers = listed(obj["spec"], "drivers")
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, driver in enumerate(drivers):
        errors += _driver(driver, field.index("spec.drivers", position), seen)
    if old is not None:
        # An update is looked at as a new object and as an update, so that everything is told twice.
        errors *= 2
    for before in listed(old["spec"], "drivers") if old is not None else ():
        for driver in drivers:
            # What can be allocated may change; all else of a driver that stays may not.
            new, stored = ({k: v for k, v in one.items() if k != "allocatable"} for one in (driver, before))
            if driver.get("name") == before.get("name") and new != stored:
                errors += field.immutable(
                    "spec.drivers", *(goshape.shape(one, "CSINodeDriver") for one in (new, stored))
                )
    return errors


def _driver(driver: Object, path: str, seen: set[str]) -> list[FieldError]:
    name, node = driver.get("name", ""), driver.get("nodeID", "")
    errors = csi_driver_name(name, field.child(path, "name"))
    where = field.child(path, "nodeID")
    if not node:
        errors.append(field.required(where))
    if len(node) > _MAX_NODE_ID:
        errors.append(field.invalid(where, node, f"must be {_MAX_NODE_ID} characters or less"))
    count = mapped(driver, "allocatable").get("count")
    if count is not None:
        errors += nonnegative(count, field.child(path, "allocatable.count"))
    if name in seen:
        errors.append(field.duplicate(field.child(path, "name"), name))
    seen.add(name)
    keys = listed(driver, "topologyKeys")
    twice = repeated(keys)
    for position, key in enumerate(keys):
        if not key:
            errors.append(field.required(path))
        if position in twice:
            errors.append(field.duplicate(path, key))
        errors += qualified_name(key, path)
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.storage.v1.CSINode"),
    validate=checked(_validate, again="subdomain"),
    returns_deleted=True,
)

"""VolumeAttributesClasses: attributes of volumes that can change while they are in use."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import mapped
from kubegate.registry.objectmeta import checked
from kubegate.registry.storage.parameters import driver, parameters


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    again = driver(obj.get("driverName", ""), "driverName") + parameters(obj, may_be_empty=False)
    # An update is looked at as a new object and as an update.
    errors = [] if old is None else list(again)
    if old is not None and obj.get("driverName") != old.get("driverName"):
        errors.append(field.forbidden("driverName", "updates to driverName are forbidden."))
    if old is not None and mapped(obj, "parameters") != mapped(old, "parameters"):
        errors.append(field.forbidden("parameters", "updates to parameters are forbidden."))
    return errors + again


RULES = Rules(
    default=Defaulted("io.k8s.api.storage.v1.VolumeAttributesClass"),
    validate=checked(_validate, again="subdomain"),
    returns_deleted=True,
)

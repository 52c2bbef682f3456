"""DeviceClasses: kinds of devices that claims may ask for."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.objectmeta import checked
from kubegate.registry.resource import devices


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return devices.device_class(obj["spec"], "spec")


RULES = Rules(
    default=Defaulted("io.k8s.api.resource.v1.DeviceClass"),
    validate=checked(_validate, again="subdomain"),
    generation=True,
)

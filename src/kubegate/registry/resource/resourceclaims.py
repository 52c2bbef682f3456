"""ResourceClaims: devices that pods are to have."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.objectmeta import checked
from kubegate.registry.resource import claimrights, claimstatus, devices

_TYPE = "io.k8s.api.resource.v1.ResourceClaim"


def _default(obj: Object) -> None:
    devices.default_claim(obj["spec"])


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    if old is None:
        errors = devices.administration(spec, obj["metadata"].get("namespace", ""), scope)
        return errors + devices.claim(spec, "spec")
    if spec == old["spec"]:
        return []
    return [field.invalid("spec", goshape.shape(spec, "ResourceClaimSpec"), field.IMMUTABLE)]


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate, again="subdomain"),
    status=True,
    subresources={
        "status": Rules(
            guard=claimrights.guard_status, prepare=claimstatus.prepare, validate=checked(claimstatus.validate)
        )
    },
)

"""ResourceClaimTemplates: claims that are made for each pod."""

from __future__ import annotations

from kubegate.api import Object, field, metadata
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_labels
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import mapped
from kubegate.registry.objectmeta import checked
from kubegate.registry.resource import devices


def _default(obj: Object) -> None:
    devices.default_claim(obj["spec"]["spec"])


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    if old is None:
        errors = devices.administration(spec["spec"], obj["metadata"].get("namespace", ""), scope)
        meta = mapped(spec, "metadata")
        errors += metadata.validate_annotations(mapped(meta, "annotations"), "spec.metadata.annotations")
        errors += validate_labels(mapped(meta, "labels"), "spec.metadata.labels")
        return errors + devices.claim(spec["spec"], "spec.spec")
    if spec == old["spec"]:
        return []
    shown = {**mapped(spec, "metadata"), "Spec": goshape.shape(spec["spec"], "ResourceClaimSpec")}
    return [field.invalid("spec", shown, field.IMMUTABLE)]


RULES = Rules(default=Defaulted("io.k8s.api.resource.v1.ResourceClaimTemplate", _default), validate=checked(_validate))

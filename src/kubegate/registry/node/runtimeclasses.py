"""RuntimeClasses: names for ways to run containers."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.api.selectors import validate_labels
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import dns_label, listed, mapped, repeated
from kubegate.registry.core.podspec import resources, scheduling
from kubegate.registry.objectmeta import checked


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    handler = obj.get("handler", "")
    errors = dns_label(handler, "handler") if handler else [field.required("handler")]
    if obj.get("overhead") is not None:
        fixed = mapped(mapped(obj, "overhead"), "podFixed")
        errors += resources.requirements({"limits": fixed}, "overhead", ())
    found = obj.get("scheduling")
    if found is not None:
        errors += validate_labels(mapped(found, "nodeSelector"), "scheduling.nodeSelector")
        errors += _tolerations(listed(found, "tolerations"), "scheduling.tolerations")
    return errors if old is None else errors + field.immutable("handler", obj.get("handler"), old.get("handler"))


def _tolerations(tolerations: list[Object], path: str) -> list[FieldError]:
    errors = scheduling.tolerations(tolerations, path)
    for position in sorted(repeated([_identity(toleration) for toleration in tolerations])):
        shown = goshape.shape(tolerations[position], "Toleration")
        errors.append(field.duplicate(field.index(path, position), shown))
    return errors


def _identity(toleration: Object) -> tuple[str, ...]:
    return tuple(toleration.get(name, "") for name in ("key", "operator", "value", "effect"))


RULES = Rules(
    default=Defaulted("io.k8s.api.node.v1.RuntimeClass"),
    validate=checked(_validate, again="subdomain"),
    create_on_update=True,
)

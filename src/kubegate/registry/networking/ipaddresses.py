"""IPAddresses: addresses of services that are taken, and by whom."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import dns_subdomain, mapped
from kubegate.registry.networking.references import segment
from kubegate.registry.objectmeta import checked


def _name(name: str, prefix: bool = False) -> list[str]:
    """The canonical form of an address."""
    found = names.parse_ip(name)
    texts = names.is_valid_ip(name)
    return texts if texts or str(found) == name else [f'must be in canonical form ("{found}")']


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    reference, path = obj["spec"].get("parentRef"), "spec.parentRef"
    if old is not None:
        if reference == old["spec"].get("parentRef"):
            return []
        shown = None if reference is None else goshape.shape(reference, "ParentReference")
        return [field.invalid(path, shown, field.IMMUTABLE)]
    if reference is None:
        return [field.required(path)]
    found = mapped(obj["spec"], "parentRef")
    errors = dns_subdomain(found["group"], field.child(path, "group")) if found.get("group") else []
    errors += segment(found, "resource", path) + segment(found, "name", path)
    return errors + segment(found, "namespace", path) if found.get("namespace") else errors


RULES = Rules(
    default=Defaulted("io.k8s.api.networking.v1.IPAddress"), validate=checked(_validate), name=_name, generation=True
)

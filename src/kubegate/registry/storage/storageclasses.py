"""StorageClasses: kinds of storage that a claim can ask for."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import listed, mapped
from kubegate.registry.core.podspec.scheduling import topology_selector_term
from kubegate.registry.objectmeta import checked
from kubegate.registry.storage.parameters import driver, parameters

_RECLAIM_POLICIES = ("Delete", "Retain")
_BINDING_MODES = ("Immediate", "WaitForFirstConsumer")


def _default(obj: Object) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = driver(obj.get("provisioner", ""), "provisioner") + parameters(obj, may_be_empty=True)
    policy, mode = obj["reclaimPolicy"], obj["volumeBindingMode"]
    if policy and policy not in _RECLAIM_POLICIES:
        errors.append(field.not_supported("reclaimPolicy", policy, _RECLAIM_POLICIES))
    if mode not in _BINDING_MODES:
        errors.append(field.not_supported("volumeBindingMode", mode, _BINDING_MODES))
    errors += _topologies(listed(obj, "allowedTopologies"))
    return errors if old is None else errors + _update(obj, old)


def _topologies(terms: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: list[object] = []
    for position, term in enumerate(terms):
        path = field.index("allowedTopologies", position)
        found, wrong = topology_selector_term(term, path)
        errors += wrong
        if found in seen:
            errors.append(field.duplicate(field.child(path, "matchLabelExpressions"), ""))
        seen.append(found)
    return errors


def _update(obj: Object, old: Object) -> list[FieldError]:
    errors = []
    if mapped(obj, "parameters") != mapped(old, "parameters"):
        errors.append(field.forbidden("parameters", "updates to parameters are forbidden."))
    for name in ("provisioner", "reclaimPolicy"):
        if obj.get(name) != old.get(name):
            errors.append(field.forbidden(name, f"updates to {name} are forbidden."))
    return errors + field.immutable("volumeBindingMode", obj["volumeBindingMode"], old.get("volumeBindingMode"))


RULES = Rules(
    default=Defaulted("io.k8s.api.storage.v1.StorageClass", _default),
    validate=checked(_validate, again="subdomain"),
    returns_deleted=True,
)

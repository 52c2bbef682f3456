"""IngressClasses: which controller looks after an Ingress."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import dns_label
from kubegate.registry.networking.references import local_reference
from kubegate.registry.objectmeta import checked

_MAX_CONTROLLER = 250


def _default(obj: Object) -> None:
    parameters = obj["spec"].get("parameters")
    if parameters is not None:
        parameters["scope"] = parameters.get("scope") or "Cluster"  # Go writes the field always


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec, path = obj["spec"], "spec.controller"
    controller = spec.get("controller", "")
    errors = [] if old is None else field.immutable(path, controller, old["spec"].get("controller", ""))
    if len(controller) > _MAX_CONTROLLER:
        errors.append(field.too_long(path, _MAX_CONTROLLER))
    if not controller:
        errors.append(field.required(path))
    else:
        errors += [field.invalid(path, shown, text) for shown, text in names.is_domain_prefixed_path(controller)]
    parameters = spec.get("parameters")
    return errors if parameters is None else errors + _parameters(parameters, "spec.parameters")


def _parameters(parameters: Object, path: str) -> list[FieldError]:
    errors = local_reference(parameters, path)
    scope, namespace = parameters["scope"], parameters.get("namespace")
    where = field.child(path, "namespace")
    if scope not in ("Cluster", "Namespace"):
        errors.append(field.not_supported(field.child(path, "scope"), scope, ("Cluster", "Namespace")))
    elif scope == "Namespace":
        text = "`parameters.scope` is set to 'Namespace'"
        errors += [field.required(where, text)] if namespace is None else dns_label(namespace, where)
    elif namespace is not None:
        errors.append(field.forbidden(where, "`parameters.scope` is set to 'Cluster'"))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.networking.v1.IngressClass", _default),
    validate=checked(_validate, again="subdomain"),
    generation=True,
)

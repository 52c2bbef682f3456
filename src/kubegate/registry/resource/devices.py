"""What ResourceClaims, their templates, DeviceClasses and ResourceSlices say of devices.

Follows pkg/apis/resource of Kubernetes v1.36.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from kubegate import cel
from kubegate.admission.policies import programs
from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.cel import types
from kubegate.registry import Scope
from kubegate.registry.checks import dns_label, dns_subdomain, listed, mapped, one_of, qualified_name, repeated, wrong
from kubegate.registry.core.podspec import resources
from kubegate.registry.core.podspec.volumes import csi_driver_name

MOST: Final = 32
_MOST_CHOICES: Final = 8
_MOST_CONDITIONS: Final = 4
_LONGEST_POOL: Final = 253
_LONGEST_EXPRESSION = _LONGEST_PARAMETERS = 10 * 1024
_LONGEST_IDENTIFIER: Final = 32
_ADMIN_LABEL: Final = "resource.kubernetes.io/admin-access"
_EFFECTS: Final = ("NoExecute", "NoSchedule", "None")
_MODES: Final = ("All", "ExactCount")
_NOT_A_REQUEST: Final = (
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
)
_DEVICE: Final = types.object_of("kubernetes.DRADevice")
_FIELDS: Final = {
    "driver": types.STRING,
    "attributes": types.map_of(types.STRING, types.map_of(types.STRING, types.DYN)),
    "capacity": types.map_of(types.STRING, types.map_of(types.STRING, types.opaque("kubernetes.Quantity"))),
    "allowMultipleAllocations": types.BOOL,
}


def default_claim(spec: Object) -> None:
    """`spec` of a claim, or of the claims that a template makes."""
    for request in listed(mapped(spec, "devices"), "requests"):
        for wanted in (request.get("exactly"), *listed(request, "firstAvailable")):
            if not isinstance(wanted, dict):
                continue
            wanted["allocationMode"] = wanted.get("allocationMode") or "ExactCount"
            if wanted["allocationMode"] == "ExactCount" and not wanted.get("count"):
                wanted["count"] = 1
            for toleration in listed(wanted, "tolerations"):
                toleration.setdefault("operator", "Equal")


def claim(spec: Object, path: str) -> list[FieldError]:
    devices, here = mapped(spec, "devices"), field.child(path, "devices")
    known = known_requests(spec)
    errors = unique(listed(devices, "requests"), field.child(here, "requests"), MOST, _request)
    errors += each(
        listed(devices, "constraints"), field.child(here, "constraints"), lambda one, at: _constraint(one, at, known)
    )
    return errors + each(
        listed(devices, "config"),
        field.child(here, "config"),
        lambda one, at: references(one, at, known) + configuration(one, at),
    )


def known_requests(spec: Object) -> set[str]:
    """What a claim's requests are called, and the choices of each: `REQUEST/CHOICE`."""
    requests = listed(mapped(spec, "devices"), "requests")
    known = {one.get("name", "") for one in requests}
    for one in requests:
        known |= {f"{one.get('name', '')}/{choice.get('name', '')}" for choice in listed(one, "firstAvailable")}
    return known


def device_class(spec: Object, path: str) -> list[FieldError]:
    errors = each(listed(spec, "selectors"), field.child(path, "selectors"), _selector)
    errors += each(listed(spec, "config"), field.child(path, "config"), configuration)
    name = spec.get("extendedResourceName")
    if name is not None and not resources.is_extended(name):
        text = "must be a valid extended resource name"
        errors.append(field.invalid(field.child(path, "extendedResourceName"), name, text))
    return errors


def administration(spec: Object, namespace: str, scope: Scope) -> list[FieldError]:
    """Whether devices that others use may be asked for here."""
    for place, request in enumerate(listed(mapped(spec, "devices"), "requests")):
        if mapped(request, "exactly").get("adminAccess"):
            return _in_administration(namespace, f"spec.devices.requests[{place}].adminAccess", scope)
    return []


def granted_administration(after: Object, before: Object, namespace: str, scope: Scope) -> list[FieldError]:
    """Whether a claim's status may say that devices are given which others use, where it did not say so before."""
    if _administered(before) is not None:
        return []
    place = _administered(after)
    if place is None:
        return []
    return _in_administration(namespace, f"status.allocation.devices.results[{place}].adminAccess", scope)


def _administered(status: Object) -> int | None:
    """The place of the first result with access to devices that others use."""
    results = listed(mapped(mapped(status, "allocation"), "devices"), "results")
    return next((place for place, result in enumerate(results) if result.get("adminAccess")), None)


def _in_administration(namespace: str, path: str, scope: Scope) -> list[FieldError]:
    found = scope.reader.get("namespaces", "", namespace) or {}
    if mapped(found.get("metadata"), "labels").get(_ADMIN_LABEL) == "true":
        return []
    text = f"admin access to devices requires the `{_ADMIN_LABEL}: true` label on the containing namespace"
    return [field.forbidden(path, text)]


def each(
    values: list[Any], path: str, check: Callable[[Any, str], list[FieldError]], most: int = MOST
) -> list[FieldError]:
    """Too many of them are not looked at."""
    if len(values) > most:
        return [field.too_many(path, len(values), most)]
    return [error for position, one in enumerate(values) for error in check(one, field.index(path, position))]


def unique(
    values: list[Object],
    path: str,
    most: int,
    check: Callable[[Object, str], list[FieldError]],
    key: str = "name",
) -> list[FieldError]:
    if len(values) > most:
        return [field.too_many(path, len(values), most)]
    return each(values, path, check, most) + twice([one.get(key, "") for one in values], path)


def twice(values: list[str], path: str) -> list[FieldError]:
    return [field.duplicate(field.index(path, position), values[position]) for position in sorted(repeated(values))]


def _request(request: Object, path: str) -> list[FieldError]:
    errors = dns_label(request.get("name", ""), field.child(path, "name"))
    choices, exactly = listed(request, "firstAvailable"), request.get("exactly")
    text = "exactly one of `exactly` or `firstAvailable` is required"
    if choices and exactly is not None:
        errors.append(field.invalid(path, None, f"{text}, but multiple fields are set"))
    elif choices:
        errors += unique(choices, field.child(path, "firstAvailable"), _MOST_CHOICES, _choice)
    elif exactly is not None:
        errors += _wanted(exactly, field.child(path, "exactly"))
    else:
        errors.append(field.required(path, text))
    return errors


def _choice(choice: Object, path: str) -> list[FieldError]:
    return dns_label(choice.get("name", ""), field.child(path, "name")) + _wanted(choice, path)


def _wanted(wanted: Object, path: str) -> list[FieldError]:
    name, where = wanted.get("deviceClassName", ""), field.child(path, "deviceClassName")
    errors = dns_subdomain(name, where) if name else [field.required(where)]
    errors += each(listed(wanted, "selectors"), field.child(path, "selectors"), _selector)
    mode, count, where = wanted.get("allocationMode", ""), wanted.get("count", 0), field.child(path, "count")
    if mode == "All":
        if count:
            errors.append(field.invalid(where, count, "must not be specified when allocationMode is 'All'"))
    elif mode == "ExactCount":
        if count <= 0:
            errors.append(field.invalid(where, count, "must be greater than zero"))
    else:
        errors.append(field.not_supported(field.child(path, "allocationMode"), mode, _MODES))
    for position, toleration in enumerate(listed(wanted, "tolerations")):
        errors += _toleration(toleration, field.index(field.child(path, "tolerations"), position))
    return errors


def _toleration(toleration: Object, path: str) -> list[FieldError]:
    key, value, operator = (toleration.get(name, "") for name in ("key", "value", "operator"))
    errors = qualified_name(key, field.child(path, "key")) if key else []
    where = field.child(path, "value")
    if operator == "Exists":
        if value:
            errors.append(field.invalid(where, value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        errors += wrong(where, value, names.is_valid_label_value(value))
    else:
        errors += one_of(operator, field.child(path, "operator"), ("Equal", "Exists"))
    return errors + one_of(toleration.get("effect", ""), field.child(path, "effect"), _EFFECTS, required=False)


def _selector(selector: Object, path: str) -> list[FieldError]:
    where = field.child(path, "cel")
    if "cel" not in selector:
        return [field.required(where)]
    expression, where = mapped(selector, "cel").get("expression", ""), field.child(where, "expression")
    if len(expression.encode()) > _LONGEST_EXPRESSION:
        return [field.too_long(where, _LONGEST_EXPRESSION)]
    try:
        objects = {_DEVICE.name: _FIELDS}
        result = cel.compile(expression, {"device": _DEVICE}, objects=objects).result
    except cel.CompileError as error:
        return [field.invalid(where, expression, programs.describe(error))]
    if result in (types.BOOL, types.DYN):
        return []
    text = f"must evaluate to bool or the unknown type, not {types.describe(result)}"
    return [field.invalid(where, expression, text)]


def references(holder: Object, path: str, known: set[str]) -> list[FieldError]:
    """Which of the claim's requests it is about."""
    where, errors = field.child(path, "requests"), []
    requests = listed(holder, "requests")
    if len(requests) > MOST:
        return [field.too_many(where, len(requests), MOST)]
    for position, name in enumerate(requests):
        errors += reference(name, field.index(where, position), known)
    return errors + twice(requests, where)


def reference(name: str, path: str, known: set[str]) -> list[FieldError]:
    """The name of one of the claim's requests, or of one of its choices."""
    parts = name.split("/")
    errors = [error for part in parts for error in dns_label(part, path)] if len(parts) <= 2 else []
    return errors if name in known else [*errors, field.invalid(path, name, _NOT_A_REQUEST)]


def _constraint(constraint: Object, path: str, known: set[str]) -> list[FieldError]:
    errors = references(constraint, path, known)
    for name in ("matchAttribute", "distinctAttribute"):
        if name in constraint:
            return errors + _attribute(constraint[name], field.child(path, name))
    text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, field.required(path, text)]


def _attribute(name: str, path: str) -> list[FieldError]:
    errors = attribute_name(name, path)
    if "/" not in name:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        errors.append(field.invalid(path, name, text))
    return errors


def attribute_name(name: str, path: str) -> list[FieldError]:
    """A C identifier, after a domain and a slash where it is not of the driver's own."""
    parts, errors = name.split("/"), []
    if len(parts) > 2:  # upstream takes these for good
        return []
    if len(parts) == 2:
        domain = parts[0]
        errors += csi_driver_name(domain, path) if domain else [field.invalid(path, "", "the domain must not be empty")]
        if not parts[1]:
            return [*errors, field.invalid(path, "", "the name must not be empty")]
    if len(parts[-1]) > _LONGEST_IDENTIFIER:
        errors.append(field.too_long(path, _LONGEST_IDENTIFIER))
    return errors + wrong(path, parts[-1], names.is_c_identifier(parts[-1]))


def configuration(config: Object, path: str) -> list[FieldError]:
    where = field.child(path, "opaque")
    if "opaque" not in config:
        return [field.required(where)]
    opaque = mapped(config, "opaque")
    errors = csi_driver_name(opaque.get("driver", ""), field.child(where, "driver"))
    return errors + raw_object(opaque.get("parameters"), field.child(where, "parameters"))


def raw_object(value: Any, path: str) -> list[FieldError]:
    """A JSON object that only the driver understands."""
    if value is None:
        return [field.required(path)]
    if len(orjson.dumps(value)) > _LONGEST_PARAMETERS:
        return [field.too_long(path, _LONGEST_PARAMETERS)]
    if not isinstance(value, dict):
        return [field.invalid(path, "<value omitted>", "must be a valid JSON object")]
    return []


def pool_name(name: str, path: str) -> list[FieldError]:
    """DNS subdomains with slashes between them."""
    if not name:
        return [field.required(path)]
    errors = [field.too_long(path, _LONGEST_POOL)] if len(name) > _LONGEST_POOL else []
    return errors + [error for part in name.split("/") for error in dns_subdomain(part, path)]


def binding_conditions(found: Object, path: str) -> list[FieldError]:
    """What must be true of a device before its pod is bound, and what says that it never will be."""
    waited, failed = listed(found, "bindingConditions"), listed(found, "bindingFailureConditions")
    here, there = field.child(path, "bindingConditions"), field.child(path, "bindingFailureConditions")
    errors = each(waited, here, qualified_name, _MOST_CONDITIONS)
    errors += each(failed, there, qualified_name, _MOST_CONDITIONS) + twice(waited, here)
    again, known = repeated(failed), set(waited)
    for position, one in enumerate(failed):
        where = field.index(there, position)
        if position in again:
            errors.append(field.duplicate(where, one))
        if one in known:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            errors.append(field.invalid(where, one, text))
    if failed and not waited:
        text = "bindingConditions are required to use bindingFailureConditions"
        errors.append(field.invalid(here, None, text))
    if waited and not failed:
        text = "bindingFailureConditions are required to use bindingConditions"
        errors.append(field.invalid(there, None, text))
    return errors


Identity = tuple[str, ...]
"""Driver, pool, name and share of a device."""


def identity(found: Object) -> Identity:
    return tuple(found.get(name) or "" for name in ("driver", "pool", "device", "shareID"))


def taint(found: Object, path: str) -> list[FieldError]:
    value = found.get("value", "")
    errors = qualified_name(found.get("key", ""), field.child(path, "key"))
    errors += wrong(field.child(path, "value"), value, names.is_valid_label_value(value)) if value else []
    return errors + one_of(found.get("effect", ""), field.child(path, "effect"), _EFFECTS)

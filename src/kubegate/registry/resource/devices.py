"""What ResourceClaims, their templates and DeviceClasses say of devices.

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
from kubegate.registry.checks import dns_label, dns_subdomain, listed, mapped, one_of, qualified_name, wrong
from kubegate.registry.core.podspec.volumes import csi_driver_name

_MOST: Final = 32
_MOST_CHOICES: Final = 8
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
    requests = listed(devices, "requests")
    known = {one.get("name", "") for one in requests}
    for one in requests:
        known |= {f"{one.get('name', '')}/{choice.get('name', '')}" for choice in listed(one, "firstAvailable")}
    errors = _named(requests, field.child(here, "requests"), _MOST, _request)
    errors += _each(
        listed(devices, "constraints"), field.child(here, "constraints"), lambda one, at: _constraint(one, at, known)
    )
    return errors + _each(
        listed(devices, "config"),
        field.child(here, "config"),
        lambda one, at: _references(one, at, known) + _configuration(one, at),
    )


def device_class(spec: Object, path: str) -> list[FieldError]:
    errors = _each(listed(spec, "selectors"), field.child(path, "selectors"), _selector)
    return errors + _each(listed(spec, "config"), field.child(path, "config"), _configuration)


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


def _each(values: list[Any], path: str, check: Callable[[Any, str], list[FieldError]]) -> list[FieldError]:
    if len(values) > _MOST:
        return [field.too_many(path, len(values), _MOST)]
    return [error for position, one in enumerate(values) for error in check(one, field.index(path, position))]


def _named(
    values: list[Object], path: str, most: int, check: Callable[[Object, str], list[FieldError]]
) -> list[FieldError]:
    if len(values) > most:
        return [field.too_many(path, len(values), most)]
    return _each(values, path, check) + _twice([one.get("name", "") for one in values], path)


def _twice(values: list[str], path: str) -> list[FieldError]:
    return [
        field.duplicate(field.index(path, position), one)
        for position, one in enumerate(values)
        if one in values[:position]
    ]


def _request(request: Object, path: str) -> list[FieldError]:
    errors = dns_label(request.get("name", ""), field.child(path, "name"))
    choices, exactly = listed(request, "firstAvailable"), request.get("exactly")
    text = "exactly one of `exactly` or `firstAvailable` is required"
    if choices and exactly is not None:
        errors.append(field.invalid(path, None, f"{text}, but multiple fields are set"))
    elif choices:
        errors += _named(choices, field.child(path, "firstAvailable"), _MOST_CHOICES, _choice)
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
    errors += _each(listed(wanted, "selectors"), field.child(path, "selectors"), _selector)
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


def _references(holder: Object, path: str, known: set[str]) -> list[FieldError]:
    """Which of the claim's requests it is about."""
    where, errors = field.child(path, "requests"), []
    requests = listed(holder, "requests")
    if len(requests) > _MOST:
        return [field.too_many(where, len(requests), _MOST)]
    for position, name in enumerate(requests):
        here, parts = field.index(where, position), name.split("/")
        if len(parts) <= 2:
            errors += [error for part in parts for error in dns_label(part, here)]
        if name not in known:
            errors.append(field.invalid(here, name, _NOT_A_REQUEST))
    return errors + _twice(requests, where)


def _constraint(constraint: Object, path: str, known: set[str]) -> list[FieldError]:
    errors = _references(constraint, path, known)
    for name in ("matchAttribute", "distinctAttribute"):
        if name in constraint:
            return errors + _attribute(constraint[name], field.child(path, name))
    text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
    return [*errors, field.required(path, text)]


def _attribute(name: str, path: str) -> list[FieldError]:
    if not name:
        return [field.required(path, "name required"), field.invalid(path, name, "must include a domain")]
    parts, errors = name.split("/"), []
    if len(parts) == 2:
        errors += (
            csi_driver_name(parts[0], path) if parts[0] else [field.required(path, "the domain must not be empty")]
        )
    if len(parts) <= 2:
        if not parts[-1]:
            errors.append(field.required(path, "the name must not be empty"))
        elif len(parts[-1]) > _LONGEST_IDENTIFIER:
            errors.append(field.too_long(path, _LONGEST_IDENTIFIER))
        errors += wrong(path, parts[-1], names.is_c_identifier(parts[-1])) if parts[-1] else []
    return errors if "/" in name else [*errors, field.invalid(path, name, "must include a domain")]


def _configuration(config: Object, path: str) -> list[FieldError]:
    where = field.child(path, "opaque")
    if "opaque" not in config:
        return [field.required(where)]
    opaque = mapped(config, "opaque")
    errors = csi_driver_name(opaque.get("driver", ""), field.child(where, "driver"))
    parameters, where = opaque.get("parameters"), field.child(where, "parameters")
    if parameters is None:
        errors.append(field.required(where))
    elif len(orjson.dumps(parameters)) > _LONGEST_PARAMETERS:
        errors.append(field.too_long(where, _LONGEST_PARAMETERS))
    elif not isinstance(parameters, dict):
        errors.append(field.invalid(where, "<value omitted>", "must be a valid JSON object"))
    return errors

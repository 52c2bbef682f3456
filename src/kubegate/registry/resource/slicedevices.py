"""The devices of a ResourceSlice: what they are like, how much of what they have, and who may use them.

Follows pkg/apis/resource of Kubernetes v1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.api.quantity import Quantity
from kubegate.registry import goshape
from kubegate.registry.checks import amount, dns_label, dns_subdomain, listed, mapped
from kubegate.registry.core.podspec.scheduling import node_selector
from kubegate.registry.resource import devices

_MOST, _MOST_SPECIAL = 128, 64
_MOST_PROPERTIES: Final = 32
_MOST_TAINTS: Final = 16
_MOST_COUNTER_SETS, _MOST_CONSUMED_SETS = 8, 2
_MOST_COUNTERS: Final = 32
_MOST_VALUES: Final = 10
_LONGEST_VALUE: Final = 64
_LONGEST_PROPERTY_NAME: Final = 63 + 1 + 32
_LONGEST_COUNTER_NAME: Final = 63
_KINDS: Final = ("bool", "int", "string", "version")
_NUMBER = r"(0|[1-9]\d*)"
_PRERELEASE = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_BUILD = "[0-9a-zA-Z-]+"
_SEMVER: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRERELEASE}(\.{_PRERELEASE})*)?(\+{_BUILD}(\.{_BUILD})*)?", re.ASCII
)
_PER_DEVICE: Final = "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
_ONE_PLACE: Final = f"exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when {_PER_DEVICE}"

_Check = Callable[[Any, str], list[FieldError]]


def all_devices(spec: Object, before: Object, path: str) -> list[FieldError]:
    """The slice's devices, then the counters that they share."""
    found, counters = listed(spec, "devices"), listed(spec, "sharedCounters")
    errors: list[FieldError] = []
    if found and counters:
        errors.append(field.invalid(path, "", "only one of `sharedCounters` or `devices` is allowed"))
    known = {one.get("name", ""): one for one in reversed(listed(before, "devices"))}
    placed = spec.get("perDeviceNodeSelection") is True

    def check(device: Object, at: str) -> list[FieldError]:
        return _device(device, known.get(device.get("name", ""), {}), at, placed)

    special = any(one.get("taints") or one.get("consumesCounters") for one in found)
    errors += devices.unique(found, field.child(path, "devices"), _MOST_SPECIAL if special else _MOST, check)
    return errors + devices.unique(counters, field.child(path, "sharedCounters"), _MOST_COUNTER_SETS, _counter_set)


def _counter_set(found: Object, path: str) -> list[FieldError]:
    return _counted(found, path, "name")


def _consumed(found: Object, path: str) -> list[FieldError]:
    return _counted(found, path, "counterSet")


def _counted(found: Object, path: str, named: str) -> list[FieldError]:
    name, where = found.get(named, ""), field.child(path, named)
    errors = dns_label(name, where) if name else [field.required(where)]
    counters, where = mapped(found, "counters"), field.child(path, "counters")
    if not counters:
        return [*errors, field.required(where)]
    if len(counters) > _MOST_COUNTERS:
        return [*errors, field.too_many(where, len(counters), _MOST_COUNTERS)]
    return errors + _each_of(counters, where, _LONGEST_COUNTER_NAME, dns_label, lambda counter, at: [])


def _each_of(values: Object, path: str, longest: int, name: _Check, value: _Check) -> list[FieldError]:
    errors = []
    for key in sorted(values):
        here = field.key(path, _shortened(key, longest))
        errors += name(key, here) + value(values[key], here)
    return errors


def _shortened(text: str, longest: int) -> str:
    """Without its middle, where it is too long to be shown."""
    if len(text) <= longest:
        return text
    left = longest - len("...")
    return f"{text[: (left + 1) // 2]}...{text[len(text) - left // 2 :]}"


def _device(found: Object, before: Object, path: str, placed: bool) -> list[FieldError]:
    errors = dns_label(found.get("name", ""), field.child(path, "name"))
    attributes, capacity = mapped(found, "attributes"), mapped(found, "capacity")
    total = len(attributes) + len(capacity)
    if total > _MOST_PROPERTIES:
        text = f"the total number of attributes and capacities must not exceed {_MOST_PROPERTIES}"
        errors.append(field.invalid(path, total, text))
    check = _shared_capacity if found.get("allowMultipleAllocations") else _own_capacity
    for name, values, one in (("attributes", attributes, _attribute), ("capacity", capacity, check)):
        where = field.child(path, name)
        errors += _each_of(values, where, _LONGEST_PROPERTY_NAME, devices.attribute_name, one)
    taints = listed(found, "taints")
    if not before or taints != listed(before, "taints"):
        errors += devices.each(taints, field.child(path, "taints"), devices.taint, _MOST_TAINTS)
    consumed = listed(found, "consumesCounters")
    where = field.child(path, "consumesCounters")
    errors += devices.unique(consumed, where, _MOST_CONSUMED_SETS, _consumed, key="counterSet")
    return errors + _place(found, path, placed) + devices.binding_conditions(found, path)


def _place(found: Object, path: str, placed: bool) -> list[FieldError]:
    """Which nodes it can be used from, where the slice leaves that to its devices."""
    given = [name for name in ("nodeName", "nodeSelector", "allNodes") if found.get(name) is not None]
    if not placed:
        text = f"`nodeName`, `nodeSelector` and `allNodes` can only be set if {_PER_DEVICE}"
        return [field.invalid(path, None, text)] if given else []
    errors, chosen = [], []
    for name in given:
        value, where = found[name], field.child(path, name)
        if value == "":
            errors.append(field.invalid(where, value, "must not be empty"))
        elif value is False:
            errors.append(field.invalid(where, value, "must be either unset or set to true"))
        else:
            chosen.append(f"`{name}`")
            if name != "allNodes":
                errors += dns_subdomain(value, where) if name == "nodeName" else node_selector(value, where)
    if not chosen:
        errors.append(field.required(path, _ONE_PLACE))
    elif len(chosen) > 1:
        errors.append(field.invalid(path, f"{{{', '.join(chosen)}}}", _ONE_PLACE))
    return errors


def _attribute(found: Object, path: str) -> list[FieldError]:
    errors = []
    string, version = found.get("string"), found.get("version")
    if string is not None and len(string.encode()) > _LONGEST_VALUE:
        errors.append(field.too_long(field.child(path, "string"), _LONGEST_VALUE))
    if version is not None:
        where = field.child(path, "version")
        if not _SEMVER.fullmatch(version):
            errors.append(field.invalid(where, version, "must be a string compatible with semver.org spec 2.0.0"))
        if len(version.encode()) > _LONGEST_VALUE:
            errors.append(field.too_long(where, _LONGEST_VALUE))
    given = sum(found.get(kind) is not None for kind in _KINDS)
    if given != 1:
        shown = goshape.shape(found, "DeviceAttribute") if given else ""
        errors.append(field.invalid(path, shown, "exactly one value must be specified"))
    return errors


def _own_capacity(found: Object, path: str) -> list[FieldError]:
    if found.get("requestPolicy") is None:
        return []
    return [field.forbidden(field.child(path, "requestPolicy"), "allowMultipleAllocations must be true")]


def _shared_capacity(found: Object, path: str) -> list[FieldError]:
    """How much of it each may ask for."""
    policy, path = mapped(found, "requestPolicy"), field.child(path, "requestPolicy")
    values, span, normal = listed(policy, "validValues"), policy.get("validRange"), policy.get("default")
    whole = amount(found.get("value"))
    if values and span is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [field.forbidden(path, text)]
    for name, given in (("validValues", values), ("validRange", span)):
        if (given or given == {}) and normal is None:
            return [field.required(field.child(path, "default"), f"required when {name} is defined")]
    if values:
        return _options([amount(one) for one in values], amount(normal), whole, field.child(path, "validValues"))
    return _range(span, amount(normal), whole, field.child(path, "validRange")) if span is not None else []


def _options(values: list[Quantity], normal: Quantity, whole: Quantity, path: str) -> list[FieldError]:
    errors = [
        field.invalid(field.index(path, position + 1), str(after), "values must be sorted in ascending order")
        for position, (one, after) in enumerate(pairwise(values))
        if one.compare(after) > 0
    ]

    def check(value: Quantity, at: str) -> list[FieldError]:
        text = f"option is larger than capacity value: {whole}"
        return [field.invalid(at, str(value), text)] if value.compare(whole) > 0 else []

    errors += devices.each(values, path, check, _MOST_VALUES)
    found = False
    if len(values) <= _MOST_VALUES:
        errors += devices.twice([str(value.value()) for value in values], path)
        found = any(value.compare(normal) == 0 for value in values)
    if not found:
        errors.append(field.invalid(path, str(normal), "default value is not valid according to the requestPolicy"))
    return errors


def _range(found: Object, normal: Quantity, whole: Quantity, path: str) -> list[FieldError]:
    if found.get("min") is None:
        return [field.required(field.child(path, "min"), "required when validRange is defined")]
    least, where = amount(found["min"]), field.child(path, "min")
    errors = []
    if least.compare(whole) > 0:
        errors.append(field.invalid(where, str(least), f"min is larger than capacity value: {whole}"))
    if normal.compare(least) < 0:
        errors.append(field.invalid(where, str(normal), f"default is less than min: {least}"))
    most = None if found.get("max") is None else amount(found["max"])
    if most is not None:
        where = field.child(path, "max")
        if least.compare(most) > 0:
            errors.append(field.invalid(where, str(least), f"min is larger than max: {most}"))
        if most.compare(whole) > 0:
            errors.append(field.invalid(where, str(most), f"max is larger than capacity value: {whole}"))
        if normal.compare(most) > 0:
            errors.append(field.invalid(where, str(normal), f"default is more than max: {most}"))
    if found.get("step") is None:
        return errors
    step, where = amount(found["step"]), field.child(path, "step")
    first = least.add(step)
    if first.compare(whole) > 0:
        errors.append(field.invalid(where, str(step), f"one step {first} is larger than capacity value: {whole}"))
    for value in (normal, most):
        if value is not None and step.value() and (value.value() - least.value()) % step.value():
            text = f"value is not a multiple of a given step ({step}) from ({least})"
            errors.append(field.invalid(where, str(value), text))
    return errors

"""LimitRanges: bounds and defaults of what containers, pods and claims in a namespace may ask for."""

from __future__ import annotations

from kubegate.api import Object, field, metadata
from kubegate.api.field import FieldError
from kubegate.api.quantity import Quantity
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import amount, listed, mapped, qualified_name
from kubegate.registry.core.podspec import resources
from kubegate.registry.objectmeta import checked

_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_MAX_MILLI = ((1 << 63) - 1) // 1000


def _default(obj: Object) -> None:
    for limit in listed(obj["spec"], "limits"):
        if limit.get("type") == "Container":
            _default_container(limit)


def _default_container(limit: Object) -> None:
    """Limits default to the maximum; requests to the default limits, else to the minimum."""
    defaults, requests = dict(mapped(limit, "default")), dict(mapped(limit, "defaultRequest"))
    defaults = {**mapped(limit, "max"), **defaults}
    requests = {**mapped(limit, "min"), **defaults, **requests}
    for name, found in (("default", defaults), ("defaultRequest", requests)):
        if found:
            limit[name] = found


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is None and not obj["metadata"].get("name"):
        obj["metadata"]["name"] = metadata.new_uid()


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, limit in enumerate(listed(obj["spec"], "limits")):
        path, kind = field.index("spec.limits", position), limit.get("type", "")
        errors += _type(kind, field.child(path, "type"))
        if kind in seen:
            errors.append(field.duplicate(field.child(path, "type"), kind))
        seen.add(kind)
        errors += _names(limit, kind, path)
        for name in sorted({name for part in _PARTS for name in _amounts(limit, part)}):
            errors += _amounts_agree(limit, name, path)
    return errors


_PARTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def _amounts(limit: Object, part: str) -> Object:
    """A Pod's limits have no defaults, whatever is written."""
    return {} if limit.get("type") == "Pod" and part.startswith("default") else mapped(limit, part)


def _type(kind: str, path: str) -> list[FieldError]:
    errors = qualified_name(kind, path)
    if not errors and "/" not in kind and kind not in _TYPES:
        errors.append(field.invalid(path, kind, "must be a standard limit type or fully qualified"))
    return errors


def _names(limit: Object, kind: str, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in _PARTS:
        here = field.child(path, part)
        if kind == "Pod" and part.startswith("default"):
            if mapped(limit, part):
                errors.append(field.forbidden(here, "may not be specified when `type` is 'Pod'"))
            continue
        if part == "maxLimitRequestRatio" and kind == "PersistentVolumeClaim":
            bounded = "storage" in mapped(limit, "min") or "storage" in mapped(limit, "max")
            if not bounded:
                text = "either minimum or maximum storage value is required, but neither was provided"
                errors.append(field.required(field.child(path, "limits"), text))
        check = resources.container_resource_name if kind in ("Pod", "Container") else resources.resource_name
        for name in sorted(mapped(limit, part)):
            errors += check(name, field.key(here, name))
    return errors


def _amounts_agree(limit: Object, name: str, path: str) -> list[FieldError]:
    found = {part: amount(_amounts(limit, part)[name]) for part in _PARTS if name in _amounts(limit, part)}
    low, high = found.get("min"), found.get("max")
    default, request = found.get("default"), found.get("defaultRequest")
    errors: list[FieldError] = []

    def over(more: Quantity | None, less: Quantity | None, part: str, shown: Quantity | None, text: str) -> None:
        if more is not None and less is not None and more.compare(less) > 0:
            where = field.key(field.child(path, part), name)
            errors.append(field.invalid(where, str(shown), text.format(more, less)))

    over(low, high, "min", low, "min value {} is greater than max value {}")
    over(low, request, "defaultRequest", request, "min value {} is greater than default request value {}")
    over(request, high, "defaultRequest", request, "default request value {} is greater than max value {}")
    over(request, default, "defaultRequest", request, "default request value {} is greater than default limit value {}")
    # What is shown in these two is the bound, not the default.
    over(low, default, "default", low, "min value {} is greater than default value {}")
    over(default, high, "default", high, "default value {} is greater than max value {}")
    ratio = found.get("maxLimitRequestRatio")
    if ratio is not None:
        errors += _ratio(ratio, low, high, field.key(field.child(path, "maxLimitRequestRatio"), name))
    if default is not None and request is not None and not resources.may_overcommit(name) and default.compare(request):
        text = f"default value {default} must equal to defaultRequest value {request} in {name}"
        errors.append(field.invalid(field.key(field.child(path, "defaultRequest"), name), str(request), text))
    return errors


def _ratio(ratio: Quantity, low: Quantity | None, high: Quantity | None, path: str) -> list[FieldError]:
    errors = []
    if ratio.compare(amount("1")) < 0:
        errors.append(field.invalid(path, str(ratio), f"ratio {ratio} is less than 1"))
    if low is None or high is None:
        return errors
    asked, least, most = float(ratio.value()), low.value(), high.value()
    if all(value < _MAX_MILLI for value in (ratio.value(), least, most)):
        asked, least, most = ratio.milli_value() / 1000, low.milli_value(), high.milli_value()
    if least == 0:
        return errors
    if asked > most / least:
        text = f"ratio {ratio} is greater than max/min = {most / least:f}"
        errors.append(field.invalid(path, str(ratio), text))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.LimitRange", _default),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    create_on_update=True,
)

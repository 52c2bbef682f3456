"""ResourceQuotas: how much of what there may be in a namespace."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted, with_blank_status
from kubegate.registry.checks import listed, mapped
from kubegate.registry.core.podspec import resources
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.core.v1.ResourceQuota"
_POD_SCOPES = frozenset(
    {"Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"}
)
_SCOPES = _POD_SCOPES | {"BestEffort", "VolumeAttributesClass"}
_COMPUTE = frozenset({"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})
_CLAIMS = frozenset({"persistentvolumeclaims", "requests.storage"})
_EXISTS_ONLY = frozenset({"BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"})
_EXCLUSIVE = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_EXISTS_TEXT = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)
_UNFIT = "unsupported scope applied to resource"
_MOST_ERRORS = 10_000


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors = _amounts(spec, "hard", "spec.hard") + _scopes(spec)
    selector = spec.get("scopeSelector")
    if selector is not None:
        errors += _scope_selector(spec, selector, "spec.scopeSelector.matchExpressions")
    if old is not None:
        scopes = listed(spec, "scopes")
        if set(scopes) != set(listed(old["spec"], "scopes")):
            errors.append(field.invalid("spec.scopes", scopes or None, field.IMMUTABLE))
    return errors


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    status = mapped(obj, "status")
    return _amounts(status, "hard", "status.hard") + _amounts(status, "used", "status.used")


def _amounts(holder: Object, name: str, path: str) -> list[FieldError]:
    errors = []
    for resource, value in sorted(mapped(holder, name).items()):
        here = field.key(path, resource)
        errors += resources.resource_name(resource, here)
        if "/" not in resource and not resources.is_quota_standard(resource):
            errors.append(field.invalid(here, resource, "must be a standard resource for quota"))
        errors += resources.resource_value(resource, value, here)
    return errors


def _fits(scope: str, resource: str) -> bool:
    """Whether a scope can be asked of a resource."""
    if scope in _POD_SCOPES:
        return resource == "pods" or resource in _COMPUTE
    if scope == "BestEffort":
        return resource == "pods"
    if scope == "VolumeAttributesClass":
        return resource in _CLAIMS
    return True


class _Unfit:
    """How many of the quota's resources a scope cannot be asked of: an error for each, all alike.

    The error shows all scopes; it is made once, and beyond what anybody would read there are no more of it.
    """

    def __init__(self, spec: Object, error: Callable[[], FieldError]) -> None:
        self._hard = [name for name in mapped(spec, "hard") if resources.is_quota_standard(name)]
        self._error = cache(error)
        self._counts: dict[str, int] = {}
        self._left = _MOST_ERRORS

    def errors(self, scope: str) -> list[FieldError]:
        if scope not in self._counts:
            self._counts[scope] = sum(not _fits(scope, name) for name in self._hard) if scope in _SCOPES else 0
        count = min(self._counts[scope], self._left)
        self._left -= count
        return [self._error()] * count if count else []


def _scopes(spec: Object) -> list[FieldError]:
    path, scopes, errors = "spec.scopes", listed(spec, "scopes"), []
    unsupported = cache(lambda: field.invalid(path, scopes, "unsupported scope"))
    unfit = _Unfit(spec, lambda: field.invalid(path, scopes, _UNFIT))
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(unsupported())
        errors += unfit.errors(scope)
    for pair in _EXCLUSIVE:
        if set(pair) <= set(scopes):
            errors.append(field.invalid(path, scopes, "conflicting scopes"))
    return errors


def _scope_selector(spec: Object, selector: Object, path: str) -> list[FieldError]:
    errors, scopes = [], set()
    unfit = _Unfit(spec, lambda: field.invalid(path, goshape.shape(selector, "ScopeSelector"), _UNFIT))
    for expression in listed(selector, "matchExpressions"):
        scope, operator = expression.get("scopeName", ""), expression.get("operator", "")
        values = listed(expression, "values")
        if scope not in _SCOPES:
            errors.append(field.invalid(field.child(path, "scopeName"), scope, "unsupported scope"))
        errors += unfit.errors(scope)
        where = field.child(path, "operator")
        if scope in _EXISTS_ONLY and operator != "Exists":
            errors.append(field.invalid(where, operator, _EXISTS_TEXT))
        errors += _operator(operator, values, path)
        scopes.add(scope)
    for pair in _EXCLUSIVE:
        if set(pair) <= scopes:
            errors.append(field.invalid(path, listed(spec, "scopes") or None, "conflicting scopes"))
    return errors


def _operator(operator: str, values: list[str], path: str) -> list[FieldError]:
    where = field.child(path, "values")
    if operator in ("In", "NotIn"):
        text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
        return [] if values else [field.required(where, text)]
    if operator in ("Exists", "DoesNotExist"):
        text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
        return [field.invalid(where, values, text)] if values else []
    return [field.invalid(field.child(path, "operator"), operator, "not a valid selector operator")]


RULES = Rules(
    default=Defaulted(_TYPE),
    prepare=with_blank_status(_TYPE),
    validate=checked(_validate),
    status=True,
    returns_deleted=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)

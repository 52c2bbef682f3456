"""Cluster roles: rules about all resources and URLs, which may be gathered from other cluster roles by label."""

from __future__ import annotations

from typing import Any

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.api.names import is_valid_label_value
from kubegate.api.selectors import EQUALS, SelectorError, from_object, requirement, validate_selector
from kubegate.registry import Rules, Scope
from kubegate.registry.objectmeta import checked
from kubegate.registry.rbac import escalation, validation


def validate(role: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = validation.validate_rules(role, namespaced=False)
    aggregation = role.get("aggregationRule")
    if aggregation is None:
        return errors
    path = "aggregationRule.clusterRoleSelectors"
    selectors = aggregation.get("clusterRoleSelectors") or ()
    if not selectors:
        text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        errors.append(field.required(path, text))
    tolerant = old is not None and _has_invalid_values(old)
    for place, selector in enumerate(selectors):
        where = field.index(path, place)
        errors += validate_selector(selector, where, allow_invalid_values=tolerant)
        if not _readable(selector):
            errors.append(field.invalid(where, None, "invalid label selector."))
    return errors


def _readable(selector: dict[str, Any]) -> bool:
    """Whether the controller could select by it: told beside what is wrong with single fields."""
    try:
        for key, value in (selector.get("matchLabels") or {}).items():
            requirement(key, EQUALS, [value])
        from_object(selector)
    except SelectorError:
        return False
    return True


def _has_invalid_values(role: Object) -> bool:
    """A stored selector with values that are no labels may stay as it is."""
    selectors: list[dict[str, Any]] = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    return any(
        is_valid_label_value(value)
        for selector in selectors
        for expression in selector.get("matchExpressions") or ()
        for value in expression.get("values") or ()
    )


RULES = Rules(
    guard=escalation.guard_cluster_role,
    default=validation.absent_rules_are_null,
    validate=checked(validate, again="path"),
    name="path",
    create_on_update=True,
)

"""Roles: rules about resources of one namespace."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.objectmeta import checked
from kubegate.registry.rbac import escalation, validation


def validate(role: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return validation.validate_rules(role, namespaced=True)


RULES = Rules(
    guard=escalation.guard_role,
    default=validation.absent_rules_are_null,
    validate=checked(validate, again="path"),
    name="path",
    create_on_update=True,
)

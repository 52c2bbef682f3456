"""Role bindings: who holds a role, or a cluster role, in one namespace."""

from __future__ import annotations

from kubegate.api import Object
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.objectmeta import checked
from kubegate.registry.rbac import escalation, validation


def validate(binding: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    return validation.validate_binding(binding, old, kinds=("Role", "ClusterRole"))


RULES = Rules(
    guard=escalation.guard_binding,
    default=validation.default_binding,
    validate=checked(validate, again="path"),
    name="path",
    create_on_update=True,
)

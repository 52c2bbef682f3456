"""PriorityClasses: names for how much a pod matters. Their value never changes."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.objectmeta import checked

_TYPE = "io.k8s.api.scheduling.v1.PriorityClass"
HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PREFIX = "system-"
SYSTEM_CLASSES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_POLICIES = ("Never", "PreemptLowerPriority")


def _default(obj: Object) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    policy = obj["preemptionPolicy"]
    if old is not None:
        errors = []
        if obj.get("value", 0) != old.get("value", 0):
            errors.append(field.forbidden("value", "may not be changed in an update."))
        return errors + field.immutable("preemptionPolicy", policy, old.get("preemptionPolicy"))
    errors = _value(obj["metadata"].get("name", ""), obj)
    if policy not in _POLICIES:
        errors.append(field.not_supported("preemptionPolicy", policy, ("PreemptLowerPriority", "Never")))
    return errors


def _value(name: str, obj: Object) -> list[FieldError]:
    value = obj.get("value", 0)
    if name.startswith(SYSTEM_PREFIX):
        problem = _system(name, obj)
        if problem:
            text = (
                f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {problem}"
            )
            return [field.forbidden("metadata.name", text)]
        return []
    if value > HIGHEST_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        return [field.forbidden("value", text)]
    return []


def _system(name: str, obj: Object) -> str:
    wanted = SYSTEM_CLASSES.get(name)
    if wanted is None:
        return f"{name} is not a known system priority class"
    if obj.get("value", 0) != wanted:
        return f"value of {name} PriorityClass must be {wanted}"
    if obj.get("globalDefault"):
        return f"globalDefault of {name} PriorityClass must be false"
    return ""


RULES = Rules(
    default=Defaulted(_TYPE, _default),
    validate=checked(_validate),
    generation=True,
    undeletable=dict.fromkeys(SYSTEM_CLASSES, "this is a system priority class and cannot be deleted"),
)

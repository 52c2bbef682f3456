"""metav1.Condition, as it stands in the status of newer kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kubegate.api import field, names
from kubegate.api.field import FieldError
from kubegate.registry.checks import listed, nonnegative, qualified_name

_REASON_FORM = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON_EXAMPLES = ("my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB")
_REASON = re.compile(rf"{_REASON_FORM}\Z")
_MAX_REASON, _MAX_MESSAGE = 1024, 32 * 1024
_STATUSES = ("False", "True", "Unknown")


def conditions(status: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is wrong with `status.conditions`."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, condition in enumerate(listed(status, "conditions")):
        here, kind = field.index(path, position), condition.get("type", "")
        if kind in seen:
            errors.append(field.duplicate(field.child(here, "type"), kind))
        seen.add(kind)
        errors += _condition(condition, here)
    return errors


def _condition(condition: Mapping[str, Any], path: str) -> list[FieldError]:
    errors = qualified_name(condition.get("type", ""), field.child(path, "type"))
    status = condition.get("status", "")
    if status not in _STATUSES:
        errors.append(field.not_supported(field.child(path, "status"), status, _STATUSES))
    errors += nonnegative(condition.get("observedGeneration") or 0, field.child(path, "observedGeneration"))
    if not condition.get("lastTransitionTime"):
        errors.append(field.required(field.child(path, "lastTransitionTime"), "must be set"))
    reason, where = condition.get("reason", ""), field.child(path, "reason")
    if not reason:
        errors.append(field.required(where))
    else:
        if not _REASON.match(reason):
            text = (
                "a condition reason must start with alphabetic character, optionally followed by a string of "
                "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'"
            )
            shown = names.regex_error(text, _REASON_FORM, *_REASON_EXAMPLES)
            errors.append(field.invalid(where, reason, shown))
        if len(reason) > _MAX_REASON:
            errors.append(field.too_long(where, _MAX_REASON))
    if len(condition.get("message", "")) > _MAX_MESSAGE:
        errors.append(field.too_long(field.child(path, "message"), _MAX_MESSAGE))
    return errors

"""The conditions of this group's kinds, and specs that nobody may change."""

from __future__ import annotations

from functools import cache

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Scope
from kubegate.registry.checks import listed, mapped
from kubegate.registry.flowcontrol.bootstrap import objects

_MANDATORY = ("exempt", "catch-all")


def validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for position, condition in enumerate(listed(mapped(obj, "status"), "conditions")):
        path, kind = field.index("status.conditions", position), condition.get("type", "")
        if kind in seen:
            errors.append(field.duplicate(field.child(path, "type"), kind))
        seen.add(kind)
        if not kind:
            errors.append(field.required(field.child(path, "type"), "must not be empty"))
    return errors


@cache
def _fixed() -> dict[tuple[str, str], Object]:
    found = {}
    for _, obj in objects():
        name = obj["metadata"]["name"]
        if name in _MANDATORY:
            found[obj["kind"], name] = obj["spec"]
    return found


def fixed_spec(obj: Object, kind: str, *free: str) -> list[FieldError]:
    """`free`: parts of the spec that may be changed all the same."""
    name = obj["metadata"].get("name", "")
    wanted = _fixed().get((kind, name))
    if wanted is None:
        return []
    same = {key: value for key, value in obj["spec"].items() if key not in free} == {
        key: value for key, value in wanted.items() if key not in free
    }
    return [] if same else [field.invalid("spec", obj["spec"], f"spec of '{name}' must equal the fixed value")]

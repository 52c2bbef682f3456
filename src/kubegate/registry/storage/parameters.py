"""What a driver is told, in the kinds of this group."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry.checks import mapped, qualified_name

_MAX_COUNT = 512
_MAX_SIZE = 256 * 1024


def driver(name: str, path: str) -> list[FieldError]:
    """The name of a provisioner or driver."""
    return qualified_name(name.lower(), path) if name else [field.required(path)]


def parameters(obj: Object, *, may_be_empty: bool) -> list[FieldError]:
    found = mapped(obj, "parameters")
    if len(found) > _MAX_COUNT:
        return [field.too_long("parameters", _MAX_COUNT)]
    errors = [field.invalid("parameters", name, "field can not be empty.") for name in found if not name]
    if sum(len(name.encode()) + len(value.encode()) for name, value in found.items()) > _MAX_SIZE:
        errors.append(field.too_long("parameters", _MAX_SIZE))
    if not may_be_empty and not found:
        errors.append(field.required("parameters", "must contain at least one key/value pair"))
    return errors

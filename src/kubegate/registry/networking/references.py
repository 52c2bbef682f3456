"""References to objects that this group's kinds make."""

from __future__ import annotations

from kubegate.api import Object, field, names
from kubegate.api.field import FieldError
from kubegate.registry.checks import dns_subdomain, wrong


def segment(holder: Object, name: str, path: str) -> list[FieldError]:
    """A part of a reference that must be there and fit into a URL's path."""
    value, where = holder.get(name, ""), field.child(path, name)
    return wrong(where, value, names.path_segment_name(value)) if value else [field.required(where)]


def local_reference(reference: Object, path: str) -> list[FieldError]:
    """A TypedLocalObjectReference."""
    errors = []
    if reference.get("apiGroup") is not None:
        errors += dns_subdomain(reference["apiGroup"], field.child(path, "apiGroup"))
    for name in ("kind", "name"):
        errors += segment(reference, name, path)
    return errors

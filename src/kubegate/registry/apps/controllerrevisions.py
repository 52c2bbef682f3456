"""ControllerRevisions: a controller's memory of how things were, never changed."""

from __future__ import annotations

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import nonnegative
from kubegate.registry.objectmeta import checked


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = []
    if obj.get("data") is None:
        errors.append(field.required("data", "data is mandatory"))
    errors += nonnegative(obj.get("revision", 0), "revision")
    if old is not None:
        errors += field.immutable("data", obj.get("data"), old.get("data"))
    return errors


RULES = Rules(
    default=Defaulted("io.k8s.api.apps.v1.ControllerRevision"), validate=checked(_validate, again="subdomain")
)

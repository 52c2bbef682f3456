"""Defaulting of built-in kinds starts from the form in which kube-apiserver's Go types hold an object.

There, structs that are not pointers are always present and empty values are gone, so that a rule need only ask
whether a field is there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from kubegate.api import Object, clone
from kubegate.api.normalize import complete
from kubegate.api.resources import Resource
from kubegate.api.schema import named, schema_for
from kubegate.registry import Change, Scope


def canonical(obj: Object, type_name: str) -> None:
    """Bring `obj`, of the named type (`io.k8s.api.core.v1.Pod`), into that form, in place. Raises TypeMismatch."""
    completed = complete(obj, named(type_name))
    obj.clear()
    obj.update(completed)


class Defaulted:
    """`default` for `Rules`: the canonical form of the type, then what its own defaulting fills in."""

    __slots__ = ("own", "type_name")

    def __init__(self, type_name: str, own: Callable[[Object], None] | None = None) -> None:
        self.type_name, self.own = type_name, own

    def __call__(self, obj: Object) -> None:
        canonical(obj, self.type_name)
        if self.own is not None:
            self.own(obj)

    def is_of(self, resource: Resource) -> bool:
        """Whether the type is the one that the resource is read as, not that of its storage version alone."""
        schema = schema_for(resource.group, resource.version, resource.kind)
        return schema is not None and schema.name == self.type_name


@cache
def _blank(type_name: str) -> Object:
    obj: Object = {}
    canonical(obj, type_name)
    return obj


def with_blank_status(type_name: str, prepare: Change | None = None) -> Change:
    """`prepare` for `Rules` of a kind whose new objects begin with a status that says nothing."""

    def begin(obj: Object, old: Object | None, scope: Scope) -> None:
        if old is None:
            obj["status"] = clone(_blank(type_name)["status"])
        if prepare is not None:
            prepare(obj, old, scope)

    return begin

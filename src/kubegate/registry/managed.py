"""Keeps managedFields: who set which field. One call for each kind of write."""

from __future__ import annotations

from collections.abc import Callable

from kubegate.api import Object, managedfields
from kubegate.api.clock import Clock, rfc3339
from kubegate.api.resources import Resource
from kubegate.api.schema import Schema, schema_for
from kubegate.registry import Context


class Manager:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def created(self, resource: Resource, obj: Object, context: Context, subresource: str = "") -> Object:
        return managedfields.create(obj, self._write(resource, context, subresource))

    def updated(self, resource: Resource, current: Object, obj: Object, context: Context, subresource: str) -> Object:
        return managedfields.update(current, obj, self._write(resource, context, subresource))

    def applied(
        self,
        resource: Resource,
        live: Object | None,
        applied: Object,
        context: Context,
        subresource: str,
        force: bool,
        default: Callable[[Object], None],
    ) -> Object:
        write = self._write(resource, context, subresource)
        return managedfields.apply(live, applied, write, force=force, kind=resource.kind, default=default)

    def _write(self, resource: Resource, context: Context, subresource: str) -> managedfields.Write:
        return managedfields.Write(
            context.field_manager,
            resource.api_version,
            subresource,
            rfc3339(self._clock.now()),
            schema_of(resource),
            managedfields.reset_fields(resource, subresource),
        )


def schema_of(resource: Resource) -> Schema | None:
    if resource.custom is not None:
        found: Schema | None = resource.custom.schema
        return found
    return schema_for(resource.group, resource.version, resource.kind)

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
        return self._update(resource, None, obj, context, subresource)

    def updated(self, resource: Resource, current: Object, obj: Object, context: Context, subresource: str) -> Object:
        return self._update(resource, current, obj, context, subresource)

    def _update(
        self, resource: Resource, live: Object | None, obj: Object, context: Context, subresource: str
    ) -> Object:
        return managedfields.update(
            live,
            obj,
            manager=context.field_manager,
            api_version=resource.api_version,
            subresource=subresource,
            time=rfc3339(self._clock.now()),
            schema=schema_of(resource),
            reset_fields=managedfields.reset_fields(resource, subresource),
        )

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
        return managedfields.apply(
            live,
            applied,
            manager=context.field_manager,
            force=force,
            api_version=resource.api_version,
            subresource=subresource,
            time=rfc3339(self._clock.now()),
            schema=schema_of(resource),
            reset_fields=managedfields.reset_fields(resource, subresource),
            kind=resource.kind,
            default=default,
        )


def schema_of(resource: Resource) -> Schema | None:
    if resource.custom is not None:
        found: Schema | None = resource.custom.schema
        return found
    return schema_for(resource.group, resource.version, resource.kind)

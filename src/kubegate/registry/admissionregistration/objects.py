"""The object model as webhooks and mutating policies need it: `admission.dependencies.Objects` over the registry."""

from __future__ import annotations

from kubegate.admission import GroupVersionKind
from kubegate.api import Object
from kubegate.api.normalize import complete, normalize
from kubegate.api.resources import Resource
from kubegate.api.schema import Schema, schema_for
from kubegate.registry import conversion
from kubegate.registry.generic import Registry
from kubegate.registry.managed import schema_of


class RegistryObjects:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def decode(self, kind: GroupVersionKind, object: Object) -> Object:
        """Unknown fields of built-in kinds go; a custom resource is pruned later, with the request's own object."""
        schema = schema_for(kind.group, kind.version, kind.kind)
        return object if schema is None else normalize(object, schema).value

    def default(self, kind: GroupVersionKind, object: Object) -> None:
        resource = self._resource(kind)
        if resource is not None:
            self._registry.default(resource, object)

    def complete(self, kind: GroupVersionKind, object: Object) -> Object:
        schema = schema_for(kind.group, kind.version, kind.kind)
        return object if schema is None else complete(object, schema)

    async def convert(self, object: Object, kind: GroupVersionKind) -> Object:
        resource = self._resource(kind)
        try:
            if resource is not None and conversion.by_webhook(resource):
                [converted] = await self._registry.converted(resource, [object], kind.api_version)
                return converted
            return conversion.convert(object, object["apiVersion"], kind.api_version, resource)
        except KeyError:
            raise ValueError(f"unable to convert {object.get('apiVersion')} to {kind.api_version}") from None

    def schema(self, kind: GroupVersionKind) -> Schema | None:
        resource = self._resource(kind)
        return schema_of(resource) if resource is not None else schema_for(kind.group, kind.version, kind.kind)

    def _resource(self, kind: GroupVersionKind) -> Resource | None:
        return self._registry.resources.by_kind(kind.group, kind.version, kind.kind)

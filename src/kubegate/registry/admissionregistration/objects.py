"""The object model as webhooks and mutating policies need it: `admission.dependencies.Objects` over the registry."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson

from kubegate.admission import GroupVersionKind
from kubegate.api import Object, structural
from kubegate.api.codec import check_type_meta, go_type, not_registered, split_api_version
from kubegate.api.normalize import TypeMismatch, complete, defaulted, normalize, normalize_metadata
from kubegate.api.resources import Resource
from kubegate.api.schema import Schema, schema_for
from kubegate.registry import conversion
from kubegate.registry.generic import Registry
from kubegate.registry.managed import schema_of


class RegistryObjects:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def decode(self, kind: GroupVersionKind, object: Object, *, strict: bool = False) -> Object:
        """Unknown fields of built-in kinds go; a custom resource is pruned later, with the request's own object."""
        check_type_meta(object)
        resource = self._resource(kind)
        if resource is not None and resource.custom is not None:
            return _decoded_custom(object)
        group, version = split_api_version(object.get("apiVersion") or kind.api_version)
        said = GroupVersionKind(group, version, object.get("kind") or kind.kind)
        object = {**object, "kind": said.kind, "apiVersion": said.api_version}
        schema = schema_for(said.group, said.version, said.kind)
        if schema is None:
            if schema_for(kind.group, kind.version, kind.kind) is not None:
                raise ValueError(not_registered(said.kind, said.api_version))
            return object
        found = normalize(object, schema)
        if strict and found.unknown:
            unknown = ", ".join(f'unknown field "{path}"' for path in found.unknown)
            raise ValueError(f"strict decoding error: {unknown}")
        return found.value

    def default(self, kind: GroupVersionKind, object: Object) -> None:
        resource = self._resource(kind)
        if resource is None:
            return
        if resource.custom is not None:
            structural.default(object, resource.custom.structural, keep_nulls=True)
        else:
            self._registry.default(resource, object)

    def defaulted(self, kind: GroupVersionKind, object: Object) -> Object:
        schema = schema_for(kind.group, kind.version, kind.kind)
        if schema is None:
            self.default(kind, object)
            return object
        try:
            return defaulted(object, schema, partial(self.default, kind))
        except TypeMismatch as error:
            what = f"{kind.group}/{kind.version}, Kind={kind.kind}"
            raise ValueError(f"unable to convert unstructured object to {what}: {error.conversion}") from None

    def complete(self, kind: GroupVersionKind, object: Object) -> Object:
        schema = schema_for(kind.group, kind.version, kind.kind)
        return object if schema is None else complete(object, schema)

    async def convert(self, object: Object, kind: GroupVersionKind) -> Object:
        resource = self._resource(kind)
        group, version = split_api_version(object["apiVersion"])
        if resource is not None and resource.custom is not None:
            # that it has become of another kind is said when the object is checked
            if group != kind.group:
                said = f"{group}/{version}, Kind={object['kind']}"
                raise ValueError(f'{said} is unstructured and is not suitable for converting to "{kind.api_version}"')
            if version not in resource.custom.versions:
                raise ValueError(f"request to convert CR from an invalid group/version: {group}/{version}")
        elif object["kind"] != kind.kind:
            wanted = go_type(kind.group, kind.kind)
            raise ValueError(f"converting ({version}.{object['kind']}) to ({wanted}): unknown conversion")
        if object["apiVersion"] == kind.api_version:
            return object
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


def _decoded_custom(object: Object) -> Object:
    """Its kind is not known here, so it must say it. Of metadata, what does not fit is lost in the store."""
    if not object.get("kind"):
        raise ValueError(f"Object 'Kind' is missing in '{orjson.dumps(object, option=orjson.OPT_SORT_KEYS).decode()}'")
    return {"apiVersion": "", **object, "metadata": _metadata(object.get("metadata"))}


def _metadata(sent: Any) -> Object:
    if not isinstance(sent, dict):
        return {}
    try:
        return normalize_metadata(sent).value
    except TypeMismatch:
        kept: Object = {}
        for name, value in sent.items():
            try:
                kept |= normalize_metadata({name: value}).value
            except TypeMismatch:
                continue
        return kept

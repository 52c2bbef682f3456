"""The rules of custom resources, made from what their definitions say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from msgspec.structs import replace

from kubegate.api import Object, clone, field, gojson, names, structural, valuecheck
from kubegate.api.field import FieldError
from kubegate.api.normalize import Normalized, TypeMismatch, normalize_metadata
from kubegate.api.resources import Resource, Subresource, version_priority
from kubegate.api.status import StatusError, details, invalid
from kubegate.api.structural import MISSING, Column, CustomResource, ScalePaths, Structural
from kubegate.registry import Rules, Scope

VERBS = frozenset({"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"})
_WHILE_TERMINATING = frozenset({"delete", "deletecollection", "get", "list", "watch"})
_SUBRESOURCE_VERBS = frozenset({"get", "patch", "update"})
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_MAX_REPLICAS = 2**31 - 1


# ------------------------------------------------------------------ from a definition
def resources_of(definition: Object) -> list[Resource]:
    """The resources that a definition serves now: one for each served version, none before its names are accepted."""
    if not (condition(definition, "Established") or condition(definition, "NamesAccepted")):
        return []
    spec = definition["spec"]
    versions = spec["versions"]
    storage = next((version["name"] for version in versions if version.get("storage")), "")
    schemas = {version["name"]: Structural(_openapi(definition, version)) for version in versions}
    return [_resource(definition, version, storage, schemas) for version in versions if version.get("served")]


def condition(definition: Object, kind: str) -> bool:
    """Whether the condition of that type is there and True."""
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(found["type"] == kind and found["status"] == "True" for found in conditions)


def _openapi(definition: Object, version: Object) -> Object:
    """openAPIV3Schema; what keeps everything where the definition has none, or says so itself (as old ones may)."""
    openapi = (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object", _PRESERVE: True}
    return {**openapi, _PRESERVE: True} if definition["spec"].get("preserveUnknownFields") else openapi


def _resource(definition: Object, version: Object, storage: str, schemas: Mapping[str, Structural]) -> Resource:
    spec = definition["spec"]
    group, name = spec["group"], version["name"]
    names = (definition.get("status") or {}).get("acceptedNames") or {}
    kind = names.get("kind") or spec["names"]["kind"]
    plural = names.get("plural") or spec["names"]["plural"]
    subresources: dict[str, Subresource] = {}
    wanted = version.get("subresources") or {}
    if wanted.get("status") is not None:
        subresources["status"] = Subresource("status", group, name, kind, _SUBRESOURCE_VERBS)
    if wanted.get("scale") is not None:
        subresources["scale"] = Subresource("scale", "autoscaling", "v1", "Scale", _SUBRESOURCE_VERBS)
    return Resource(
        group=group,
        version=name,
        resource=plural,
        kind=kind,
        singular=names.get("singular") or "",
        namespaced=spec["scope"] == "Namespaced",
        verbs=_WHILE_TERMINATING if condition(definition, "Terminating") else VERBS,
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=subresources,
        storage_group=group,
        storage_version=storage,
        storage_resource=plural,
        custom=custom_of(definition, version, schemas),
    )


def custom_of(definition: Object, version: Object, schemas: Mapping[str, Structural]) -> CustomResource:
    """What one version of a definition says; `schemas` are those of all its versions."""
    spec = definition["spec"]
    names = (definition.get("status") or {}).get("acceptedNames") or {}
    openapi = _openapi(definition, version)
    wanted = version.get("subresources") or {}
    scale = wanted.get("scale")
    return CustomResource(
        list_kind=names.get("listKind") or spec["names"]["listKind"],
        schema=structural.merge_schema(openapi),
        structural=schemas[version["name"]],
        openapi=openapi,
        columns=tuple(_column(column) for column in version.get("additionalPrinterColumns") or ()),
        status=wanted.get("status") is not None,
        scale=None if scale is None else _scale_paths(scale),
        selectable_fields=tuple(found["jsonPath"] for found in version.get("selectableFields") or ()),
        conversion=spec.get("conversion") or {"strategy": "None"},
        versions=schemas,
        definition=definition["metadata"]["name"],
        deprecation_warning=_deprecation(definition, version),
        since=int(definition["metadata"].get("resourceVersion") or 0),
    )


def _column(column: Object) -> Column:
    return Column(
        name=column["name"],
        type=column["type"],
        json_path=column["jsonPath"],
        format=column.get("format", ""),
        description=column.get("description", ""),
        priority=column.get("priority", 0),
    )


def _scale_paths(scale: Object) -> ScalePaths:
    return ScalePaths(scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath", ""))


def _deprecation(definition: Object, version: Object) -> str:
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning") is not None:
        text: str = version["deprecationWarning"]
        return text
    spec = definition["spec"]
    group, kind = spec["group"], spec["names"]["kind"]
    better = [other["name"] for other in spec["versions"] if other.get("served") and not other.get("deprecated")]
    use = f"; use {group}/{max(better, key=version_priority)} {kind}" if better else ""
    return f"{group}/{version['name']} {kind} is deprecated{use}"


# ------------------------------------------------------------------ decoding
def normalize(value: Object, resource: Resource) -> Normalized:
    """A decoded custom resource without what its schema does not know, and the paths of that. Changes `value`.

    Of an object that says that it is something else only the metadata is looked at. Raises TypeMismatch where that is
    not what metadata must be.
    """
    custom: CustomResource = resource.custom
    meta = _metadata(value.get("metadata"))
    value["metadata"] = meta.value
    if (value.get("apiVersion"), value.get("kind")) != (resource.api_version, resource.kind):
        return Normalized(value, meta.unknown)
    unknown = structural.prune(value, custom.structural)
    within = list(_coerce_embedded(value, custom.structural, ""))
    return Normalized(value, (*meta.unknown, *unknown, *within))


def _metadata(sent: Any) -> Normalized:
    """Go reads it from JSON whose fields are in the order of their names, and tells what it does not know in that."""
    try:
        meta = normalize_metadata({} if sent is None else sent)
    except TypeMismatch:
        if not isinstance(sent, dict):
            raise
        meta = normalize_metadata(dict(sorted(sent.items())))
    return Normalized(meta.value, tuple(sorted(meta.unknown))) if meta.unknown else meta


def _coerce_embedded(value: Any, schema: Structural | None, path: str) -> Iterator[str]:
    """Bring resources inside resources into form, in place; gives the paths of what their metadata does not know.

    Raises TypeMismatch.
    """
    if schema is None:
        return
    if isinstance(value, dict):
        if schema.embedded:
            for name in ("apiVersion", "kind"):
                if name in value and not isinstance(value[name], str):
                    raise TypeMismatch(str(field.invalid(field.child(path, name), value[name], "must be a string")))
            if "metadata" in value:
                sent = value["metadata"]
                try:
                    meta = _metadata(sent)
                except TypeMismatch as error:
                    told = str(error)
                    raise TypeMismatch(str(field.invalid(field.child(path, "metadata"), sent, told))) from None
                value["metadata"] = meta.value
                yield from (f"{path}.{unknown}" for unknown in meta.unknown)
        for name, child in value.items():
            yield from _coerce_embedded(child, schema.child(name), field.child(path, name))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _coerce_embedded(item, schema.items, field.index(path, position))


def in_version(obj: Object, api_version: str, resource: Resource) -> Object:
    """A custom resource in another version of its definition, by the strategy None. `obj` is not changed.

    It gets the defaults of the version that it is in, then loses what the other version does not know.
    """
    custom: CustomResource = resource.custom
    converted = clone(obj)
    old = custom.versions.get(obj["apiVersion"].rpartition("/")[2])
    new = custom.versions.get(api_version.rpartition("/")[2])
    if old is not None:
        structural.default(converted, old)
    converted["apiVersion"] = api_version
    if new is not None:
        structural.prune(converted, new)
    return converted


# ------------------------------------------------------------------ rules
@lru_cache(512)
def _rules(key: _Identity) -> Rules:
    resource = key.resource
    custom: CustomResource = resource.custom
    status = Rules(validate=_Validation(resource, "status"), prepare=_prepare_status)
    return Rules(
        default=_Defaults(custom.structural),
        prepare=_prepare_plain,
        validate=_Validation(resource, ""),
        guard=_guard,
        warnings=_finalizer_warnings,
        fields=_Fields(custom.selectable_fields) if custom.selectable_fields else None,
        field_labels=tuple(path.removeprefix(".") for path in custom.selectable_fields),
        status=custom.status,
        generation=True,
        create_on_update=False,
        unconditional_update=False,
        subresources={"status": status, "scale": Rules(validate=_Validation(resource, "scale"))},
    )


class _Identity:
    """A resource as a cache key: the object itself, because its contents cannot be hashed."""

    __slots__ = ("resource",)

    def __init__(self, resource: Resource) -> None:
        self.resource = resource

    def __hash__(self) -> int:
        return id(self.resource.custom)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.resource is self.resource


def rules_of(resource: Resource) -> Rules:
    """The rules of a custom resource (`resource.custom` is set)."""
    return _rules(_Identity(resource))


class _Defaults:
    """What the schema declares as default."""

    def __init__(self, schema: Structural) -> None:
        self._schema = schema

    def __call__(self, obj: Object) -> None:
        structural.default(obj, self._schema)


class _Fields:
    """Values that field selectors may ask for: `spec.color`."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths

    def __call__(self, obj: Object) -> dict[str, str]:
        return {path.removeprefix("."): _text(at_path(obj, path)) for path in self._paths}


def _text(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def at_path(obj: Object, path: str) -> Any:
    """What a simple path (`.spec.replicas`) leads to, None where nothing is there."""
    value: Any = obj
    for part in path.removeprefix(".").split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


async def _guard(obj: Object, old: Object | None, scope: Scope) -> None:
    """Nothing new is made while the definition goes away."""
    if old is None and "create" not in scope.resource.verbs:
        resource = scope.resource
        text = "create not allowed while custom resource definition is terminating"
        raise StatusError(405, "MethodNotAllowed", text, details(resource.group, resource.resource))


_STANDARD_FINALIZERS = frozenset({"foregroundDeletion", "orphan", "kubernetes"})


def _finalizer_warnings(obj: Object, old: Object | None) -> list[str]:
    """Names of new finalizers that somebody else may choose as well, or that are none."""
    before = (old or {}).get("metadata", {}).get("finalizers") or ()
    warnings = []
    for name in sorted({*(obj["metadata"].get("finalizers") or ())} - {*before}):
        texts = names.is_qualified_name(name)
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            path = " including a path (/)" if "." in name else ""
            texts = [
                *texts,
                f"prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer"
                " writers",
            ]
        warnings += [f"metadata.finalizers: {field.quoted(name)}: {text}" for text in texts]
    return warnings


def _prepare_plain(obj: Object, old: Object | None, scope: Scope) -> None:
    """Without a status subresource, status is a field like others and counts for the generation."""
    custom: CustomResource = scope.resource.custom
    if old is None or custom.status:
        return
    if obj.get("status") != old.get("status"):
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _prepare_status(obj: Object, old: Object | None, scope: Scope) -> None:
    """A write to status leaves metadata as it is, but for managedFields."""
    if old is None:
        return
    managed = obj["metadata"].get("managedFields")
    version = obj["metadata"].get("resourceVersion")
    meta = {name: value for name, value in old["metadata"].items() if name != "managedFields"}
    if managed:
        meta["managedFields"] = managed
    if version:
        meta["resourceVersion"] = version
    obj["metadata"] = meta


class _Validation:
    """Values, embedded metadata, list types and rules, in kube-apiserver's order."""

    def __init__(self, resource: Resource, subresource: str) -> None:
        self._resource, self._subresource = resource, subresource

    def __call__(self, obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
        resource = self._resource
        custom: CustomResource = resource.custom
        self._check_type(obj)
        before: Any = old if old is not None else MISSING
        if self._subresource == "status":
            errors = _check_status(obj, custom.structural, before)
        else:
            errors = valuecheck.check(obj, custom.structural, before)
        errors += self._scale(obj, custom)
        errors += _embedded(obj, custom.structural, "")
        if old is None or not valuecheck.check_lists(old, custom.structural):
            errors += valuecheck.check_lists(obj, custom.structural)
        if custom.structural.has_rules:
            # CEL is imported with the first rule.
            from kubegate.registry.apiextensions import rules

            errors += rules.check(obj, before, custom.structural, errors, scope.context.trace.warn)
        return errors

    def _check_type(self, obj: Object) -> None:
        """Raises 422 for an object of another kind, named after what it says it is."""
        resource = self._resource
        wanted = {"kind": resource.kind, "apiVersion": resource.api_version}
        errors = [
            field.invalid(name, obj.get(name, ""), f"must be {value}")
            for name, value in wanted.items()
            if obj.get(name, "") != value
        ]
        if errors:
            group = str(obj.get("apiVersion", "")).rpartition("/")[0]
            raise invalid(group, obj.get("kind", ""), obj["metadata"].get("name", ""), errors)

    def _scale(self, obj: Object, custom: CustomResource) -> list[FieldError]:
        if custom.scale is None:
            return []
        errors = []
        paths = (custom.scale.spec_replicas, custom.scale.status_replicas)
        for path in paths[1:] if self._subresource == "status" else paths:
            try:
                value = _nested(obj, path, int)
            except _WrongType as error:
                errors.append(field.invalid(path, 0, str(error)))
                continue
            if value is not None and value < 0:
                errors.append(field.invalid(path, value, "should be a non-negative integer"))
            elif value is not None and value > _MAX_REPLICAS:
                errors.append(field.invalid(path, value, f"should be less than or equal to {_MAX_REPLICAS}"))
        if custom.scale.label_selector:
            try:
                _nested(obj, custom.scale.label_selector, str)
            except _WrongType as error:
                errors.append(field.invalid(custom.scale.label_selector, "", str(error)))
        return errors


class _WrongType(Exception):
    """What is at a path is of another type than what is read there."""


def _nested(obj: Object, path: str, wanted: type) -> Any:
    """An integer or a text at a simple path, None where nothing is. Raises _WrongType in Go's words."""
    steps = path.removeprefix(".").split(".")
    value: Any = obj
    for position, step in enumerate(steps):
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _wrong_type(value, steps[: position + 1], "map[string]interface{}")
        if step not in value:
            return None
        value = value[step]
    if type(value) is not wanted:
        raise _wrong_type(value, steps, "int64" if wanted is int else "string")
    return value


def _wrong_type(value: Any, steps: list[str], wanted: str) -> _WrongType:
    text = f".{'.'.join(steps)} accessor error: {gojson.value_text(value)} is of the type {gojson.type_text(value)}"
    return _WrongType(f"{text}, expected {wanted}")


def _check_status(obj: Object, schema: Structural, old: Any) -> list[FieldError]:
    """The status alone is checked, and its fields are told as seen from there."""
    if "status" not in obj:
        return []
    before = old.get("status", MISSING) if isinstance(old, dict) else MISSING
    found = valuecheck.check(obj["status"], schema.child("status") or Structural({}), before)
    return [
        replace(error, field="status" if error.field == valuecheck.NO_PATH else f"status.{error.field}")
        for error in found
    ]


def _embedded(value: Any, schema: Structural | None, path: str) -> list[FieldError]:
    """apiVersion and kind of resources inside resources."""
    errors: list[FieldError] = []
    if schema is None:
        return errors
    if isinstance(value, dict):
        if schema.embedded:
            errors += [
                field.required(field.child(path, name)) for name in ("apiVersion", "kind") if not value.get(name)
            ]
        for name, child in value.items():
            known = schema.child(name)
            if known is not None:
                errors += _embedded(child, known, field.child(path, name))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            errors += _embedded(item, schema.items, field.index(path, position))
    return errors

"""The scale subresource: how many replicas, asked and changed without knowing the kind that is scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kubegate.api import Object, clone, field, managedfields, status
from kubegate.api.field import FieldError
from kubegate.api.managedfields import scale as managed_scale
from kubegate.api.resources import Resource
from kubegate.api.schema import schema_for
from kubegate.registry import Context
from kubegate.registry.generic import Registry
from kubegate.registry.scaleview import find, of, paths_of, put_replicas

# What is applied to the Scale of a custom resource kube-apiserver cannot convert: it goes well where nothing changes.
_KIND: Final = "autoscaling/v1, Kind=Scale"
_NOT_CONVERTED: Final = "request to convert CR to an invalid group/version: autoscaling/v1"
_UNSET: Final = -(2**31)
"""The replicas of a custom resource that says nothing of them: whoever writes its Scale must say how many."""


@dataclass(frozen=True, slots=True)
class ScaleChange:
    """What a request makes of a Scale.

    `applies`: it is an apply, which says itself who owns what afterwards. `nameless`: a body that does not say its
    kind, for a custom resource: kube-apiserver cannot tell who owns what after it.
    """

    make: Callable[[Object], Object]
    applies: bool = False
    nameless: bool = False


def applier(
    resource: Resource, applied: Object, context: Context, force: bool, merged_well: Callable[[], None]
) -> ScaleChange:
    """Server-side apply of a Scale. `merged_well` is called when there was no conflict."""

    def apply(current: Object) -> Object:
        if resource.custom is not None and "managedFields" not in current["metadata"]:
            untracked = "failed to create manager for existing fields: failed to convert live object"
            raise status.StatusError(500, "", f"{untracked} (/; {_KIND}) to proper version: {_NOT_CONVERTED}")
        merged = managedfields.apply(current, applied, _write(context), force=force, kind="Scale")
        if resource.custom is not None and _untracked(merged) != _untracked(current):
            meta = applied.get("metadata") or {}
            which = f"{meta.get('namespace', '')}/{meta.get('name', '')}; {_KIND}"
            text = f"failed to convert new object ({which}) to proper version: {_NOT_CONVERTED}"
            raise status.StatusError(500, "", text)
        merged_well()
        return merged

    return ScaleChange(apply, applies=True)


def _untracked(scale: Object) -> Object:
    """Without its managedFields."""
    return {**scale, "metadata": {k: v for k, v in scale["metadata"].items() if k != "managedFields"}}


def _wanted(scale: Object) -> int:
    found: int = (scale.get("spec") or {}).get("replicas", 0)
    return found


def _check(scale: Object) -> list[FieldError]:
    replicas = _wanted(scale)
    if replicas < 0:
        return [field.invalid("spec.replicas", replicas, "must be greater than or equal to 0")]
    return []


async def write(
    registry: Registry,
    resource: Resource,
    namespace: str,
    name: str,
    change: ScaleChange,
    context: Context,
) -> Object:
    """Change the replicas of the scaled object; answers with its new Scale. Raises 404, 409, 422."""
    spec_path = paths_of(resource)[0]
    versions = registry.resources.versions_of(resource.group, resource.resource)
    paths = {
        version.api_version: managed_scale.path_of(paths_of(version)[0]) for version in versions if _scales(version)
    }

    async def transform(current: Object | None) -> Object:
        if current is None:
            raise status.not_found(resource.group, resource.resource, name)
        owners = current["metadata"].get("managedFields")
        old = of(resource, current)
        if resource.custom is not None and find(current, spec_path) is None:
            old["spec"]["replicas"] = _UNSET
        if kept := managed_scale.to_scale(owners, paths):
            old["metadata"]["managedFields"] = kept
        scale = change.make(clone(old))
        registry.check_place(resource, namespace, name, scale)
        if _wanted(scale) == _UNSET:
            raise status.bad_request(f'the spec replicas field "{spec_path}" cannot be empty')
        # Of a custom resource the object itself is checked.
        errors = _check(scale) if resource.custom is None else []
        if errors:
            raise status.invalid("autoscaling", "Scale", name, errors)
        meta = scale.get("metadata") or {}
        changed = clone(current)
        if meta.get("resourceVersion") or resource.custom is None:
            changed["metadata"]["resourceVersion"] = meta.get("resourceVersion", "")
        if meta.get("uid"):
            changed["metadata"]["uid"] = meta["uid"]
        put_replicas(changed, spec_path, _wanted(scale))
        found = managed_scale.to_object(owners, _owners(old, scale, change, context), resource.api_version, paths)
        changed["metadata"].pop("managedFields", None)
        if found:
            changed["metadata"]["managedFields"] = found
        return changed

    written = await registry.write(resource, namespace, name, transform, context, "scale")
    return of(resource, written.object)


def _scales(resource: Resource) -> bool:
    return resource.custom is None or resource.custom.scale is not None


def _owners(old: Object, scale: Object, change: ScaleChange, context: Context) -> Any:
    """The Scale's managedFields after the write."""
    if change.nameless:
        return []
    if not change.applies:
        scale = managedfields.update(old, {**scale, "metadata": scale.get("metadata") or {}}, _write(context))
    return scale["metadata"].get("managedFields")


def _write(context: Context) -> managedfields.Write:
    schema = schema_for("autoscaling", "v1", "Scale")
    return managedfields.Write(context.field_manager, managed_scale.SCALE_VERSION, "scale", "", schema)

"""The scale subresource: how many replicas, asked and changed without knowing the kind that is scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubegate.api import Object, clone, field, patch, selectors, status, strategic
from kubegate.api.field import FieldError
from kubegate.api.resources import Resource
from kubegate.api.schema import schema_for
from kubegate.registry import Context
from kubegate.registry.generic import Registry

_MAX = 2**31 - 1


def paths_of(resource: Resource) -> tuple[str, str, str]:
    """Where replicas, status replicas and the selector are in the object that is scaled (`.spec.replicas`, …)."""
    if resource.custom is not None:
        custom = resource.custom.scale
        return custom.spec_replicas, custom.status_replicas, custom.label_selector or ""
    return ".spec.replicas", ".status.replicas", ".spec.selector"


def find(obj: Object, path: str) -> Any:
    value: Any = obj
    for part in path.strip(".").split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def of(resource: Resource, obj: Object) -> Object:
    """The autoscaling/v1 Scale of an object."""
    spec_path, status_path, selector_path = paths_of(resource)
    meta = obj["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    spec: Object = {}
    wanted = find(obj, spec_path)
    if wanted is None and resource.custom is not None:
        text = f'the spec replicas field "{spec_path}" does not exist'
        raise status.internal(text)
    if wanted:
        spec["replicas"] = wanted
    current: Object = {"replicas": find(obj, status_path) or 0}
    selector = find(obj, selector_path) if selector_path else None
    text = selector if isinstance(selector, str) else ""
    if isinstance(selector, dict):
        plain = resource.resource == "replicationcontrollers"
        text = str(selectors.from_set(selector) if plain else selectors.from_object(selector))
    if text:
        current["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": spec,
        "status": current,
    }


def patcher(media_type: str, body: bytes, context: Context, force: bool) -> Callable[[Object], Object]:
    """PATCH of a Scale, by content type."""

    def change(current: Object) -> Object:
        if media_type.startswith("application/json-patch"):
            return patch.json_patch(current, body)
        if media_type.startswith("application/strategic"):
            schema = schema_for("autoscaling", "v1", "Scale")
            assert schema is not None
            return strategic.strategic_merge_patch(current, body, schema)
        return patch.merge_patch(current, body)

    return change


def _check(scale: Object, old: Object) -> list[FieldError]:
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        return [field.type_invalid("spec.replicas", replicas, "must be an integer")]
    if replicas < 0:
        return [field.invalid("spec.replicas", replicas, "must be greater than or equal to 0")]
    return []


async def write(
    registry: Registry,
    resource: Resource,
    namespace: str,
    name: str,
    change: Callable[[Object], Object],
    context: Context,
) -> Object:
    """Change the replicas of the scaled object; answers with its new Scale. Raises 404, 409, 422."""
    spec_path = paths_of(resource)[0]

    async def transform(current: Object | None) -> Object:
        if current is None:
            raise status.not_found(resource.group, resource.resource, name)
        old = of(resource, current)
        scale = change(clone(old))
        errors = _check(scale, old)
        if errors:
            raise status.invalid("autoscaling", "Scale", name, errors)
        meta = scale.get("metadata") or {}
        changed = clone(current)
        changed["metadata"]["resourceVersion"] = meta.get("resourceVersion", "")
        if meta.get("uid"):
            changed["metadata"]["uid"] = meta["uid"]
        _put(changed, spec_path, (scale.get("spec") or {}).get("replicas", 0))
        return registry.managed.updated(resource, current, changed, context, "scale")

    written = await registry.write(resource, namespace, name, transform, context, "scale")
    return of(resource, written.object)


def _put(obj: Object, path: str, value: int) -> None:
    *parents, last = path.strip(".").split(".")
    for part in parents:
        obj = obj.setdefault(part, {})
    obj[last] = value

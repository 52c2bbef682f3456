"""An object as the Scale of autoscaling/v1: where its replicas are, and how admission sees a write to them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from kubegate.admission import Attributes, GroupVersionKind
from kubegate.api import Object, clone, selectors, status
from kubegate.api.resources import Resource

SCALES = Resource("autoscaling", "v1", "scales", "Scale", "scale", True, frozenset())
"""Scales as if they were a resource of their own: what they are shown as in a Table."""


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
    if wanted := find(obj, spec_path):
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


def read(resource: Resource, obj: Object) -> Object:
    """As `of`, for who asks for it: a custom resource may say nothing of replicas. Raises 500."""
    path = paths_of(resource)[0]
    if resource.custom is not None and find(obj, path) is None:
        raise status.internal(f'the spec replicas field "{path}" does not exist')
    return of(resource, obj)


def put_replicas(obj: Object, path: str, value: int) -> None:
    *parents, last = path.strip(".").split(".")
    for part in parents:
        obj = obj.setdefault(part, {})
    obj[last] = value


class ScaleView(Struct, frozen=True):
    """A write to a scale subresource as admission sees it: as Scales, whatever kind is scaled."""

    resource: Resource

    def of(self, obj: Object) -> Object:
        return of(self.resource, obj)

    def attributes(self, attributes: Attributes) -> Attributes:
        assert attributes.object is not None and attributes.old_object is not None
        kind = GroupVersionKind("autoscaling", "v1", "Scale")
        return replace(
            attributes, kind=kind, object=self.of(attributes.object), old_object=self.of(attributes.old_object)
        )

    def taken_over(self, obj: Object, scale: Object) -> Object:
        """The scaled object with the replicas that admission left in its Scale."""
        wanted = (scale.get("spec") or {}).get("replicas", 0)
        if wanted == (self.of(obj)["spec"].get("replicas") or 0):
            return obj
        changed = clone(obj)
        put_replicas(changed, paths_of(self.resource)[0], wanted)
        return changed

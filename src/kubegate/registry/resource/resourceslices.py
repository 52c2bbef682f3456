"""ResourceSlices: what a driver has to give.

A kubelet finds its own by the node's name, and is let list them in no other way.
"""

from __future__ import annotations

from typing import Final

from kubegate.api import Object, field
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import dns_subdomain, mapped
from kubegate.registry.core.podspec.scheduling import node_selector
from kubegate.registry.core.podspec.volumes import csi_driver_name
from kubegate.registry.objectmeta import checked
from kubegate.registry.resource import devices, slicedevices

_PLACES: Final = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors = csi_driver_name(spec.get("driver", ""), "spec.driver") + _pool(mapped(spec, "pool"))
    if old is not None:
        before = old["spec"]
        errors += field.immutable("spec.pool.name", _pool_name(spec), _pool_name(before))
        errors += field.immutable("spec.driver", spec.get("driver", ""), before.get("driver", ""))
        errors += field.immutable("spec.nodeName", spec.get("nodeName"), before.get("nodeName"))
    return errors + _place(spec) + slicedevices.all_devices(spec, mapped(old, "spec"), "spec")


def _pool_name(spec: Object) -> str:
    return str(mapped(spec, "pool").get("name", ""))


def _pool(pool: Object) -> list[FieldError]:
    errors = devices.pool_name(pool.get("name", ""), "spec.pool.name")
    count, generation = pool.get("resourceSliceCount", 0), pool.get("generation", 0)
    if count <= 0:
        errors.append(field.invalid("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        text = "must be greater than or equal to zero"
        errors.append(field.invalid("spec.pool.generation", generation, text))
    return errors


def _place(spec: Object) -> list[FieldError]:
    """Which nodes the devices can be used from."""
    errors, given = [], []
    for name in _PLACES:
        value, path = spec.get(name), field.child("spec", name)
        if value is None:
            continue
        if value == "":
            errors.append(field.invalid(path, value, "must be either unset or set to a non-empty string"))
        elif value is False:
            errors.append(field.invalid(path, value, "must be either unset or set to true"))
        else:
            given.append(f"`{name}`")
            if name == "nodeName":
                errors += dns_subdomain(value, path)
            elif name == "nodeSelector":
                errors += _selected(value, path)
    text = f"exactly one of {', '.join(f'`{name}`' for name in _PLACES)} is required"
    if not given:
        errors.append(field.required("spec", text))
    elif len(given) > 1:
        errors.append(field.invalid("spec", f"{{{', '.join(given)}}}", f"{text}, but multiple fields are set"))
    return errors


def _selected(selector: Object, path: str) -> list[FieldError]:
    """With one term, so that the nodes of devices from several slices can be told together."""
    errors, terms = node_selector(selector, path), selector.get("nodeSelectorTerms")
    if terms is not None and len(terms) == 1:
        return errors
    shown = [goshape.shape(term, "NodeSelectorTerm") for term in terms] if terms is not None else None
    text = "must have exactly one node selector term"
    return [*errors, field.invalid(field.child(path, "nodeSelectorTerms"), shown, text)]


def _fields(obj: Object) -> dict[str, str]:
    spec = obj.get("spec") or {}
    return {"spec.nodeName": spec.get("nodeName") or "", "spec.driver": spec.get("driver") or ""}


RULES = Rules(
    default=Defaulted("io.k8s.api.resource.v1.ResourceSlice"),
    validate=checked(_validate),
    fields=_fields,
    field_labels=("spec.driver", "spec.nodeName"),
    generation=True,
)

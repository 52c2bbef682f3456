"""PersistentVolumeClaims: a spec that hardly changes, and the templates of claims in pods and stateful sets."""

from __future__ import annotations

from typing import Final

from kubegate.api import Object, clone, field
from kubegate.api.field import FieldError
from kubegate.api.metadata import validate_annotations
from kubegate.api.selectors import validate_labels, validate_selector
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import (
    amount,
    basic_quantity,
    dns_label,
    dns_subdomain,
    listed,
    mapped,
    positive_quantity,
    qualified_name,
)
from kubegate.registry.core.podspec import resources
from kubegate.registry.core.podspec.warnings import fractional_bytes
from kubegate.registry.objectmeta import checked

ACCESS_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES: Final = ("Block", "Filesystem")
BETA_STORAGE_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
_RESIZE_STATUSES: Final = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)


def default_spec(spec: Object) -> None:
    """A PersistentVolumeClaimSpec, in a claim or a template of claims."""
    spec.setdefault("volumeMode", "Filesystem")


def default_claim(obj: Object) -> None:
    """A PersistentVolumeClaim, or a template of one in a StatefulSet."""
    default_spec(obj["spec"])
    obj["status"].setdefault("phase", "Pending")


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is None:
        obj["status"] = {"phase": "Pending"}
    _normalize_source(obj["spec"])


def _normalize_source(spec: Object) -> None:
    """`dataSource` and `dataSourceRef` say the same, where both can."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {name: value for name, value in reference.items() if name != "namespace"}


def access_modes(modes: list[str], path: str) -> list[FieldError]:
    errors = [field.not_supported(path, mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]
    known = {mode for mode in modes if mode in ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        errors.append(field.forbidden(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def validate_spec(spec: Object, path: str) -> list[FieldError]:
    """A PersistentVolumeClaimSpec."""
    errors = []
    modes, here = listed(spec, "accessModes"), field.child(path, "accessModes")
    if not modes:
        errors.append(field.required(here, "at least 1 access mode is required"))
    errors += validate_selector(spec.get("selector"), field.child(path, "selector"))
    errors += access_modes(modes, here)
    requests = mapped(spec.get("resources"), "requests")
    here = field.key(field.child(path, "resources"), "storage")
    if "storage" not in requests:
        errors.append(field.required(here))
    else:
        errors += positive_quantity(requests["storage"], here) or resources.resource_value(
            "storage", requests["storage"], here
        )
    if spec.get("storageClassName"):
        errors += dns_subdomain(spec["storageClassName"], field.child(path, "storageClassName"))
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        errors.append(field.not_supported(field.child(path, "volumeMode"), mode, VOLUME_MODES))
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None:
        errors += _data_source(source, field.child(path, "dataSource"))
    if reference is not None:
        errors += _data_source(reference, field.child(path, "dataSourceRef"))
        if reference.get("namespace"):
            errors += dns_label(reference["namespace"], field.child(path, "dataSourceRef.namespace"))
    if source is not None and reference is not None:
        if reference.get("namespace"):
            text = "may not be specified when dataSourceRef.namespace is specified"
            errors.append(field.invalid(path, field.child(path, "dataSource"), text))
        elif any(source.get(name) != reference.get(name) for name in ("apiGroup", "kind", "name")):
            errors.append(field.invalid(path, field.child(path, "dataSource"), "must match dataSourceRef"))
    if spec.get("volumeAttributesClassName"):
        errors += dns_subdomain(spec["volumeAttributesClassName"], field.child(path, "volumeAttributesClassName"))
    return errors


def _data_source(source: Object, path: str) -> list[FieldError]:
    errors = [field.required(field.child(path, name)) for name in ("name", "kind") if not source.get(name)]
    group, kind = source.get("apiGroup") or "", source.get("kind", "")
    if not group and kind != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(field.invalid(path, kind, text))
    if group:
        errors += dns_subdomain(group, field.child(path, "apiGroup"))
    return errors


def claim_template(template: Object, path: str) -> list[FieldError]:
    """A PersistentVolumeClaimTemplate of a pod's ephemeral volume: labels and annotations, and a claim's spec."""
    metadata, here = mapped(template, "metadata"), field.child(path, "metadata")
    errors = validate_annotations(metadata.get("annotations"), field.child(here, "annotations"))
    errors += validate_labels(metadata.get("labels"), field.child(here, "labels"))
    errors += [
        field.forbidden(field.child(here, name), "cannot be set")
        for name in metadata
        if name not in ("annotations", "labels") and metadata[name]
    ]
    return errors + validate_spec(mapped(template, "spec"), field.child(path, "spec"))


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = validate_spec(obj["spec"], "spec")
    # An update is looked at as a new object and as an update, so that everything is told twice.
    return errors if old is None else errors * 2 + _validate_update(obj, old)


_IMMUTABLE: Final = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
)


def _validate_update(obj: Object, old: Object) -> list[FieldError]:
    errors = []
    spec, before = clone(obj["spec"]), clone(old["spec"])
    if not before.get("volumeName") and spec.get("volumeName"):
        # The binder may set it, once.
        before["volumeName"] = spec["volumeName"]
    new_class, old_class = spec.get("storageClassName"), before.get("storageClassName")
    annotation = mapped(old["metadata"], "annotations").get(BETA_STORAGE_CLASS)
    now = mapped(obj["metadata"], "annotations").get(BETA_STORAGE_CLASS)
    upgraded = annotation is not None and old_class is None and new_class == annotation and now in (None, annotation)
    if upgraded:
        spec.pop("storageClassName", None)
    else:
        if (now or "") != (annotation or ""):
            path = f"metadata.annotations.{BETA_STORAGE_CLASS}"
            errors.append(field.invalid(path, now or "", field.IMMUTABLE))
        if new_class is not None and old_class is None and annotation in (None, new_class):
            spec.pop("storageClassName", None)
    old_size = amount(mapped(before.get("resources"), "requests").get("storage"))
    new_size = amount(mapped(spec.get("resources"), "requests").get("storage"))
    if obj.get("status", {}).get("phase") == "Bound":
        requests = mapped(spec.get("resources"), "requests")
        if requests and "storage" in mapped(before.get("resources"), "requests"):
            requests["storage"] = before["resources"]["requests"]["storage"]
        spec.pop("volumeAttributesClassName", None)
        if "volumeAttributesClassName" in before:
            spec["volumeAttributesClassName"] = before["volumeAttributesClassName"]
    if spec != before:
        difference = goshape.diff(before, spec, "PersistentVolumeClaimSpec")
        errors.append(field.forbidden("spec", _IMMUTABLE + difference))
    if new_size.compare(old_size) < 0:
        status_size = amount(mapped(old.get("status"), "capacity").get("storage"))
        if new_size.compare(status_size) <= 0:
            here = "spec.resources.requests.storage"
            errors.append(field.forbidden(here, "field can not be less than status.capacity"))
    errors += field.immutable("volumeMode", obj["spec"].get("volumeMode"), old["spec"].get("volumeMode"))
    attributes = obj["spec"].get("volumeAttributesClassName")
    current = old.get("status", {}).get("currentVolumeAttributesClassName")
    if attributes != old["spec"].get("volumeAttributesClassName") and current is not None and not attributes:
        what = "nil" if attributes is None else "empty string"
        text = f"update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
        errors.append(field.forbidden("spec.volumeAttributesClassName", text))
    return errors


def _validate_status(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = []
    status = mapped(obj, "status")
    for name, text in sorted(mapped(status, "capacity").items()):
        errors += basic_quantity(text, field.key("status.capacity", name))
    for name, found in sorted(mapped(status, "allocatedResourceStatuses").items()):
        path = "status.allocatedResourceStatuses"
        errors += _status_key(name, path)
        if found not in _RESIZE_STATUSES:
            errors.append(field.not_supported(path, name, sorted(_RESIZE_STATUSES)))
    for name, text in sorted(mapped(status, "allocatedResources").items()):
        bad_key = _status_key(name, "status.allocatedResources")
        here = field.key("status.allocatedResources", name)
        errors += bad_key or basic_quantity(text, here) or resources.resource_value("storage", text, here)
    return errors


def _status_key(name: str, path: str) -> list[FieldError]:
    errors = qualified_name(name, path)
    if not errors and resources.is_native(name) and name != "storage":
        errors.append(field.not_supported(path, name, ("storage",)))
    return errors


def _warnings(obj: Object, old: Object | None) -> list[str]:
    found = []
    if BETA_STORAGE_CLASS in mapped(obj["metadata"], "annotations"):
        text = 'deprecated since v1.8; use "storageClassName" attribute instead'
        found.append(f"metadata.annotations[{BETA_STORAGE_CLASS}]: {text}")
    storage = mapped(obj["spec"].get("resources"), "requests").get("storage")
    if storage is not None:
        found += fractional_bytes("spec.resources.requests[storage]", storage)
    limit = mapped(obj["spec"].get("resources"), "limits").get("storage")
    if limit is not None:
        found += fractional_bytes("spec.resources.limits[storage]", limit)
    return found


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.PersistentVolumeClaim", default_claim),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    status=True,
    returns_deleted=True,
    subresources={"status": Rules(validate=checked(_validate_status))},
)

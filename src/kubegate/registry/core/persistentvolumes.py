"""PersistentVolumes: storage that a claim can be bound to; where it is never changes."""

from __future__ import annotations

import posixpath

from kubegate.api import Object, field
from kubegate.api.clock import rfc3339
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import defaulted
from kubegate.registry.checks import dns_subdomain, listed, mapped, nonnegative_quantity
from kubegate.registry.core.persistentvolumeclaims import BETA_STORAGE_CLASS, VOLUME_MODES, access_modes
from kubegate.registry.core.podspec import scheduling
from kubegate.registry.core.podspec.defaults import default_source
from kubegate.registry.core.podspec.volumes import MORE_THAN_ONE, PERSISTENT_SOURCES
from kubegate.registry.core.podspec.warnings import deprecated_sources, fractional_bytes
from kubegate.registry.objectmeta import checked

_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_RECYCLE = (
    "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
    "Instead, the recommended approach is to use dynamic provisioning."
)


def _default(obj: Object) -> None:
    spec = obj["spec"]
    default_source(spec)
    obj["status"].setdefault("phase", "Pending")
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is None:
        obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": rfc3339(scope.clock.now())}


def _prepare_status(obj: Object, old: Object | None, scope: Scope) -> None:
    assert old is not None
    status, before = mapped(obj, "status"), mapped(old, "status")
    same_time = status.get("lastPhaseTransitionTime") == before.get("lastPhaseTransitionTime")
    if status.get("phase") != before.get("phase") and same_time:
        status["lastPhaseTransitionTime"] = rfc3339(scope.clock.now())


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    spec = obj["spec"]
    errors = _capacity(spec) + _modes(spec)
    policy = spec["persistentVolumeReclaimPolicy"]
    if policy not in _RECLAIM_POLICIES:
        errors.append(field.not_supported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM_POLICIES))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        errors += _node_affinity(affinity, "spec.nodeAffinity")
    errors += _source(spec, has_affinity=affinity is not None)
    if policy == "Recycle" and posixpath.normpath(mapped(spec, "hostPath").get("path", "x")) == "/":
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(field.forbidden("spec.persistentVolumeReclaimPolicy", text))
    if spec.get("storageClassName"):
        errors += dns_subdomain(spec["storageClassName"], "spec.storageClassName")
    if spec["volumeMode"] not in VOLUME_MODES:
        errors.append(field.not_supported("spec.volumeMode", spec["volumeMode"], VOLUME_MODES))
    attributes = spec.get("volumeAttributesClassName")
    if attributes:
        errors += dns_subdomain(attributes, "spec.volumeAttributesClassName")
    return errors if old is None else errors + _update(spec, old["spec"])


def _capacity(spec: Object) -> list[FieldError]:
    capacity = mapped(spec, "capacity")
    errors = [] if capacity else [field.required("spec.capacity")]
    if capacity.keys() != {"storage"}:
        errors.append(field.not_supported("spec.capacity", goshape.plain(capacity) or None, ("storage",)))
    for name, value in sorted(capacity.items()):
        errors += nonnegative_quantity(value, field.key("spec.capacity", name))
    return errors


def _modes(spec: Object) -> list[FieldError]:
    modes = listed(spec, "accessModes")
    return access_modes(modes, "spec.accessModes") if modes else [field.required("spec.accessModes")]


def _node_affinity(affinity: Object, path: str) -> list[FieldError]:
    where, wanted = field.child(path, "required"), affinity.get("required")
    if wanted is None:
        return [field.required(where, "must specify required node constraints")]
    return scheduling.node_selector(wanted, where)


def _source(spec: Object, *, has_affinity: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    chosen = 0
    for name, (shown, inner, check) in PERSISTENT_SOURCES.items():
        if name not in spec:
            continue
        if chosen:
            errors.append(field.forbidden(field.child("spec", shown), MORE_THAN_ONE))
            continue
        chosen += 1
        errors += check(spec[name], field.child("spec", inner))
        if name == "local" and not has_affinity:
            errors.append(field.required("metadata.annotations", "Local volume requires node affinity"))
    if not chosen:
        errors.append(field.required("spec", "must specify a volume type"))
    return errors


def _update(spec: Object, before: Object) -> list[FieldError]:
    errors = []
    new, old = ({name: one[name] for name in PERSISTENT_SOURCES if name in one} for one in (spec, before))
    if new != old:
        text = "spec.persistentvolumesource is immutable after creation\n"
        text += goshape.diff(old, new, "PersistentVolumeSource")
        errors.append(field.forbidden("spec.persistentvolumesource", text))
    errors += field.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    affinity = before.get("nodeAffinity")
    if affinity is not None and spec.get("nodeAffinity") != affinity:
        found = spec.get("nodeAffinity")
        shown = None if found is None else goshape.shape(found, "VolumeNodeAffinity")
        errors.append(field.invalid("nodeAffinity", shown, field.IMMUTABLE))
    attributes = spec.get("volumeAttributesClassName")
    if before.get("volumeAttributesClassName") != attributes and not attributes:
        what = "update from non-nil value to nil" if attributes is None else "update from non-nil value to empty string"
        errors.append(field.forbidden("spec.volumeAttributesClassName", f"{what} is forbidden"))
    return errors


def _warnings(obj: Object, old: Object | None) -> list[str]:
    annotations, spec = mapped(obj["metadata"], "annotations"), obj["spec"]
    found = []
    if BETA_STORAGE_CLASS in annotations:
        text = 'deprecated since v1.8; use "storageClassName" attribute instead'
        found.append(f"metadata.annotations[{BETA_STORAGE_CLASS}]: {text}")
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(_RECYCLE)
    found += deprecated_sources(spec, "spec")
    storage = mapped(spec, "capacity").get("storage")
    return found if storage is None else found + fractional_bytes("spec.capacity[storage]", storage)


RULES = Rules(
    default=defaulted("io.k8s.api.core.v1.PersistentVolume", _default),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    status=True,
    returns_deleted=True,
    subresources={"status": Rules(prepare=_prepare_status, validate=checked())},
)

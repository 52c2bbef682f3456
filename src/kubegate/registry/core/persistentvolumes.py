"""PersistentVolumes: storage that a claim can be bound to; where it is never changes."""

from __future__ import annotations

import posixpath

from kubegate.api import Object, clone, field
from kubegate.api.clock import rfc3339
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import basic_quantity, dns_subdomain, listed, mapped, positive_quantity
from kubegate.registry.core.persistentvolumeclaims import BETA_STORAGE_CLASS, VOLUME_MODES, access_modes
from kubegate.registry.core.podspec import scheduling
from kubegate.registry.core.podspec.defaults import default_source
from kubegate.registry.core.podspec.volumes import MORE_THAN_ONE, PERSISTENT_SOURCES, iscsi_portal_length
from kubegate.registry.core.podspec.warnings import deprecated_sources, fractional_bytes
from kubegate.registry.objectmeta import checked

_RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
_AFFINITY_IMMUTABLE = f"{field.IMMUTABLE}, except for updating from beta label to GA"
_LATER_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}
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
    errors = _modes(spec) + _capacity(spec)
    policy = spec["persistentVolumeReclaimPolicy"]
    if policy not in _RECLAIM_POLICIES:
        errors.append(field.not_supported("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM_POLICIES))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        errors += _node_affinity(affinity, "spec.nodeAffinity")
    errors += _source(obj, has_affinity=affinity is not None)
    if policy == "Recycle" and posixpath.normpath(mapped(spec, "hostPath").get("path", "x")) == "/":
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(field.forbidden("spec.persistentVolumeReclaimPolicy", text))
    if spec.get("storageClassName"):
        errors += dns_subdomain(spec["storageClassName"], "spec.storageClassName")
    if spec["volumeMode"] not in VOLUME_MODES:
        errors.append(field.not_supported("spec.volumeMode", spec["volumeMode"], VOLUME_MODES))
    attributes, path = spec.get("volumeAttributesClassName"), "spec.volumeAttributesClassName"
    if attributes is not None:
        missing = [field.required(path, "an empty string is disallowed")]
        errors += dns_subdomain(attributes, path) if attributes else missing
        if "csi" not in spec:
            errors.append(field.required("spec.csi", "has to be specified when using volumeAttributesClassName"))
    # An update is looked at as a new object and as an update, so that everything is told twice.
    return errors if old is None else errors * 2 + _update(spec, old["spec"])


def _capacity(spec: Object) -> list[FieldError]:
    capacity = mapped(spec, "capacity")
    errors = [] if capacity else [field.required("spec.capacity")]
    if capacity.keys() != {"storage"}:
        errors.append(field.not_supported("spec.capacity", goshape.plain(capacity) or None, ("storage",)))
    for name, value in sorted(capacity.items()):
        here = field.key("spec.capacity", name)
        errors += basic_quantity(value, here) + positive_quantity(value, here)
    return errors


def _modes(spec: Object) -> list[FieldError]:
    modes = listed(spec, "accessModes")
    return access_modes(modes, "spec.accessModes") if modes else [field.required("spec.accessModes")]


def _node_affinity(affinity: Object, path: str) -> list[FieldError]:
    where, wanted = field.child(path, "required"), affinity.get("required")
    if wanted is None:
        return [field.required(where, "must specify required node constraints")]
    return scheduling.node_selector(wanted, where)


def _source(obj: Object, *, has_affinity: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    spec = obj["spec"]
    chosen = 0
    for name, (shown, inner, check) in PERSISTENT_SOURCES.items():
        if name not in spec:
            continue
        # A second source is told of, save a flexVolume, which is let through.
        if chosen and name != "flexVolume":
            errors.append(field.forbidden(field.child("spec", shown), MORE_THAN_ONE))
            continue
        chosen += 1
        errors += check(spec[name], field.child("spec", inner))
        if name == "iscsi":
            errors += iscsi_portal_length(spec["iscsi"], obj["metadata"].get("name", ""), "spec.iscsi.targetportal")
        if name == "local" and not has_affinity:
            errors.append(field.required("spec.nodeAffinity", "Local volume requires node affinity"))
    if not chosen:
        errors.append(field.required("spec", "must specify a volume type"))
    return errors


def _update(spec: Object, before: Object) -> list[FieldError]:
    errors = []
    new, old = ({name: one[name] for name in PERSISTENT_SOURCES if name in one} for one in (spec, before))
    if "csi" in new and "csi" in old and "controllerExpandSecretRef" not in old["csi"]:
        # It may be given to a volume that has none.
        new["csi"] = {name: value for name, value in new["csi"].items() if name != "controllerExpandSecretRef"}
    if new != old:
        text = "spec.persistentvolumesource is immutable after creation\n"
        text += goshape.diff(old, new, "PersistentVolumeSource")
        errors.append(field.forbidden("spec.persistentvolumesource", text))
    errors += field.immutable("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    affinity = before.get("nodeAffinity")
    if affinity is not None and not _same_affinity(spec.get("nodeAffinity"), affinity):
        found = spec.get("nodeAffinity")
        shown = None if found is None else goshape.shape(found, "VolumeNodeAffinity")
        errors.append(field.invalid("nodeAffinity", shown, _AFFINITY_IMMUTABLE))
    if "volumeAttributesClassName" in before and "volumeAttributesClassName" not in spec:
        text = "update from non-nil value to nil is forbidden"
        errors.append(field.forbidden("spec.volumeAttributesClassName", text))
    return errors


def _same_affinity(new: Object | None, old: Object) -> bool:
    """Whether they differ in nothing, or in labels of nodes that are now called by their later names."""
    if new is None:
        return False
    new, old = clone(new), clone(old)
    for one, other in zip(_requirements(new), _requirements(old), strict=False):
        if _LATER_LABELS.get(other.get("key", "")) == one.get("key", ""):
            other["key"] = one["key"]
    return new == old


def _requirements(affinity: Object) -> list[Object]:
    terms = listed(mapped(affinity, "required"), "nodeSelectorTerms")
    return [one for term in terms for name in ("matchExpressions", "matchFields") for one in listed(term, name)]


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
    default=Defaulted("io.k8s.api.core.v1.PersistentVolume", _default),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    status=True,
    returns_deleted=True,
    subresources={"status": Rules(prepare=_prepare_status, validate=checked())},
)

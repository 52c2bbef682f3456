"""Nodes: taints, addresses and what a kubelet says of itself. A new node may bring its status along."""

from __future__ import annotations

import re

from kubegate.api import Object, clone, field, names
from kubegate.api.field import FieldError
from kubegate.registry import Rules, Scope, goshape
from kubegate.registry.canonical import Defaulted
from kubegate.registry.checks import cidr, listed, mapped, repeated
from kubegate.registry.core.podspec import resources, scheduling
from kubegate.registry.objectmeta import checked

_FEATURE = re.compile(r"[A-Z][A-Za-z0-9]*(/[A-Za-z0-9]+)*\Z")
_FEATURE_FORM = (
    "must start with an UpperCamelCase segment, with subsequent segments separated by '/' "
    "(e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
)
_CIDR_SET = 'node updates may not change podCIDR except from "" to valid'
_PROVIDER_SET = 'node updates may not change providerID except from "" to valid'


def _default(obj: Object) -> None:
    spec, status = obj["spec"], obj["status"]
    # One of the two is the list, the other its first member.
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    if spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    if "allocatable" not in status and mapped(status, "capacity"):
        status["allocatable"] = dict(status["capacity"])


def _prepare(obj: Object, old: Object | None, scope: Scope) -> None:
    if old is not None:
        obj["status"] = clone(old.get("status", {}))


def _validate(obj: Object, old: Object | None, scope: Scope) -> list[FieldError]:
    errors = _as_new(obj)
    return errors if old is None else errors + _update(obj, old)


def _as_new(obj: Object) -> list[FieldError]:
    spec = obj["spec"]
    errors = _taints(listed(spec, "taints"), "metadata.taints") + _resources(mapped(obj, "status"))
    errors += _features(listed(obj.get("status"), "declaredFeatures"), "status.declaredFeatures")
    cidrs, path = listed(spec, "podCIDRs"), "spec.podCIDRs"
    for position, value in enumerate(cidrs):
        errors += cidr(value, field.index(path, position))
    if len(cidrs) > 1:
        families = {network[1].version for network in map(names.parse_cidr, cidrs) if network is not None}
        if len(families) < 2 or len(cidrs) > 2:
            errors.append(field.invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
    return errors


def _update(obj: Object, old: Object) -> list[FieldError]:
    spec, before, status = obj["spec"], old["spec"], mapped(obj, "status")
    errors = _resources(status) + _features(listed(status, "declaredFeatures"), "status.declaredFeatures")
    addresses = listed(status, "addresses")
    for position in sorted(repeated(addresses)):
        path = field.index("status.addresses", position)
        errors.append(field.duplicate(path, goshape.shape(addresses[position], "NodeAddress")))
    had, has = listed(before, "podCIDRs"), listed(spec, "podCIDRs")
    if had and len(had) != len(has):
        errors.append(field.forbidden("spec.podCIDRs", _CIDR_SET))
    elif had:
        errors += [field.forbidden("spec.podCIDRs", _CIDR_SET) for a, b in zip(had, has, strict=True) if a != b]
    if before.get("providerID") and before["providerID"] != spec.get("providerID", ""):
        errors.append(field.forbidden("spec.providerID", _PROVIDER_SET))
    errors += _taints(listed(spec, "taints"), "metadata.taints")
    if spec.get("externalID", "") != before.get("externalID", ""):
        errors.append(field.forbidden("spec.externalID", "may not be updated"))
    return errors


def _taints(taints: list[Object], path: str) -> list[FieldError]:
    errors = []
    seen = set()
    for position, taint in enumerate(taints):
        here = field.index(path, position)
        key, value, effect = (taint.get(name, "") for name in ("key", "value", "effect"))
        errors += scheduling.label_name(key, field.child(here, "key"))
        texts = names.is_valid_label_value(value)
        if texts:
            errors.append(field.invalid(field.child(here, "value"), value, ";".join(texts)))
        errors += scheduling.taint_effect(effect, field.child(here, "effect"))
        if (key, effect) in seen:
            twice = field.duplicate(here, goshape.shape(taint, "Taint"))
            text = f"{twice.text}: taints must be unique by key and effect pair"
            errors.append(FieldError(twice.reason, twice.field, text))
        seen.add((key, effect))
    return errors


def _resources(status: Object) -> list[FieldError]:
    errors = []
    for part in ("capacity", "allocatable"):
        for name, value in sorted(mapped(status, part).items()):
            errors += resources.resource_value(name, value, f"status.{part}.{name}")
    return errors


def _features(features: list[str], path: str) -> list[FieldError]:
    errors = []
    for position, feature in enumerate(features):
        here = field.index(path, position)
        if position and feature == features[position - 1]:
            errors.append(field.duplicate(here, feature))
        elif position and feature < features[position - 1]:
            errors.append(field.invalid(here, feature, "list must be sorted alphabetically"))
        if not _FEATURE.match(feature):
            text = f'invalid feature name "{feature}": {_FEATURE_FORM}'
            errors.append(field.invalid(here, feature, text))
    return errors


def _warnings(obj: Object, old: Object | None) -> list[str]:
    spec, found = obj["spec"], []
    if spec.get("configSource") is not None:
        found.append("spec.configSource: the feature is removed")
    if spec.get("externalID"):
        found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    return found


def _fields(obj: Object) -> dict[str, str]:
    return {"spec.unschedulable": "true" if mapped(obj, "spec").get("unschedulable") else "false"}


RULES = Rules(
    default=Defaulted("io.k8s.api.core.v1.Node", _default),
    prepare=_prepare,
    validate=checked(_validate, again="subdomain"),
    warnings=_warnings,
    fields=_fields,
    field_labels=("spec.unschedulable",),
    subresources={"status": Rules(validate=checked(_validate, again="subdomain"))},
)
